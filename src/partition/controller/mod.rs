//! The controller: it compares what is with what the metadata says, and asks for what is missing.
//!
//! # The problem
//!
//! Somebody has to notice that a node is gone and let others lead; that it is back; that it stays away so long that its
//! replicas are needed elsewhere. Whoever does so sees the cluster through a network that lies: a node may seem dead that
//! is only cut off from *here*, a rumour may be about a process that was replaced long ago, and the one who watches may
//! crash between seeing and acting.
//!
//! # The idea: reconcile, level by level
//!
//! The controller runs on the Raft leader alone. Every so often it looks at everything anew ([`Controller::review`]) and
//! proposes what would bring the metadata closer to what it sees. It acts on *states*, never on events, so a lost event
//! costs nothing, and a new leader finishes what the old one began without having been told.
//!
//! ```text
//!   beats of nodes ──► voices ─┐
//!   gossip (a hint) ──► sight ─┼─► verdict for each node ─► commands ─► log ─► metadata ─┐
//!   metadata ──────────────────┘                                                         │
//!        ▲───────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Each command names what it has seen, so that it does no harm when it comes twice or late. What was asked for is not
//! asked for again until it is answered or some time has passed.
//!
//! # Whom it believes
//!
//! * A node speaks for itself by a *beat*, which names its disk, its process and how far it has applied the log. Gossip
//!   gives hints about processes, matched by their boot number: a late rumour about an older one says nothing.
//! * A node is fenced when the members hold it dead *and* it was silent here for [`fence_delay`](Settings::fence_delay);
//!   or when it was silent for [`silence_max`](Settings::silence_max), whatever the members say, since it learns of
//!   nothing any more.
//! * It is unfenced when it speaks steadily for a while that doubles with each time it was fenced lately, so that a node
//!   that flaps moves leaders a few times, not every few seconds.
//! * Whoever begins to lead grants everybody the full time anew: the silence before may have been its own.
//! * When many are to be fenced at once, it is probably the controller that is cut off: then at most one is fenced at a
//!   time ([circuit breaker](Review::is_braking)). Without a majority it cannot fence anybody, for it cannot commit.
//!
//! | file | what it is |
//! |---|---|
//! | `beat` | what nodes say of themselves |
//! | `watch` | what is remembered of a node: when it was heard, how often it flapped |
//! | `verdict` | what is to be done about a node, and why |
//! | `moves` | plans: submitted, executed, cancelled; replicas of nodes that are given up |
//! | `explain` | all of that in words |
//!
//! # What it does not do
//!
//! It elects nobody: that follows from the commands, on every node alike. It does not say who is in sync: leaders do.

mod beat;
mod explain;
mod moves;
mod verdict;
mod watch;

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

pub use self::beat::{Beat, Hint, Life, Sight};
pub use self::explain::Explanation;
pub use self::moves::schedule;
pub use self::verdict::Verdict;

use self::moves::Moves;
use self::watch::Watch;
use super::metadata::{Command, Delta, Election, FenceReason, Metadata, NodeState, Outcome, Refusal};
use super::planner::steps;
use crate::id::{NodeId, PartitionId};
use crate::time::Instant;

/// How patient the controller is. All nodes of a cluster should have the same.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Settings {
    /// How often a node speaks.
    pub beat_interval: Duration,
    /// So long a node is silent that the members hold dead before it is fenced.
    pub fence_delay: Duration,
    /// So long a node is silent before it is fenced, whatever the members hold of it.
    pub silence_max: Duration,
    /// So long a node that was fenced speaks steadily before it is unfenced; doubled each time.
    pub unfence_hold: Duration,
    /// The longest of these.
    pub unfence_hold_max: Duration,
    /// After so long without being fenced, half of the times are forgotten.
    pub calm: Duration,
    /// So long a node is fenced before its replicas go elsewhere; zero: never.
    pub replace_after: Duration,
    /// So long a plan waits for a node that is away, or for its next part, before it is cancelled.
    pub plan_patience: Duration,
    /// How much of a plan is under way at a time.
    pub limits: steps::Limits,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            beat_interval: Duration::from_secs(1),
            fence_delay: Duration::from_secs(3),
            silence_max: Duration::from_secs(10),
            unfence_hold: Duration::from_secs(2),
            unfence_hold_max: Duration::from_secs(5 * 60),
            calm: Duration::from_secs(10 * 60),
            replace_after: Duration::from_secs(15 * 60),
            plan_patience: Duration::from_secs(60),
            limits: steps::Limits::default(),
        }
    }
}

/// Settings that contradict themselves.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// Use a positive time.
    #[error("the interval between beats is zero")]
    NoInterval,
    /// Wait longer, or let nodes speak more often.
    #[error(
        "a fence delay of {fence_delay:?} is less than two beats of {beat_interval:?}: one lost beat would fence a node"
    )]
    TooHasty {
        /// The delay.
        fence_delay: Duration,
        /// The interval.
        beat_interval: Duration,
    },
    /// Let the silent have at least as much time as the dead.
    #[error(
        "who is only silent is fenced after {silence_max:?}, before {fence_delay:?}, when who is held dead is"
    )]
    TooStrict {
        /// The delay for who is held dead.
        fence_delay: Duration,
        /// The delay for who is only silent.
        silence_max: Duration,
    },
    /// Give the node a share of at least 1.
    #[error("a weight of 0 is no share: drain the node instead")]
    Weightless,
    /// Allow at least one move at a time.
    #[error("a plan of which nothing may be under way never ends")]
    NoMoves,
}

impl Settings {
    /// Whether they make sense.
    ///
    /// # Errors
    ///
    /// [`SettingsError`].
    pub fn validate(&self) -> Result<(), SettingsError> {
        let Settings { beat_interval, fence_delay, .. } = *self;
        if beat_interval.is_zero() {
            return Err(SettingsError::NoInterval);
        }
        if fence_delay < beat_interval * 2 {
            return Err(SettingsError::TooHasty { fence_delay, beat_interval });
        }
        if self.silence_max < fence_delay {
            return Err(SettingsError::TooStrict { fence_delay, silence_max: self.silence_max });
        }
        if self.limits.per_node == 0 || self.limits.total == 0 {
            return Err(SettingsError::NoMoves);
        }
        Ok(())
    }
}

/// How often everything is looked at: so many times a beat.
const REVIEWS_PER_BEAT: u32 = 4;
/// What was asked for is asked for again after so many beats.
const ASK_AGAIN: u32 = 2;
/// The most leaders that are moved back in one review.
const ELECTIONS_AT_ONCE: usize = 64;
/// After so many beats since a node came back it leads again what it is preferred for.
const SETTLES_AFTER: u32 = 5;

/// What a command is about: of each, one is under way at a time.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
enum Subject {
    Node(NodeId),
    Partition(PartitionId),
    Plan,
}

/// What a review led to.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Review {
    /// To be proposed, in this order.
    pub commands: Vec<Command>,
    /// Whether nodes that seem gone are fenced one at a time only, since there are so many.
    pub is_braking: bool,
}

/// The controller of one leadership.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Controller {
    settings: Settings,
    /// Since when this node leads, or went on after it had stood still: nobody was heard before.
    since: Instant,
    /// When it looked last.
    reviewed: Instant,
    watches: BTreeMap<NodeId, Watch>,
    /// Until when what was asked for is waited for.
    asked: BTreeMap<Subject, Instant>,
    /// When nodes were fenced lately that seemed gone.
    fences: VecDeque<Instant>,
    is_braking: bool,
    moves: Moves,
}

impl Controller {
    /// Begins with a leadership, in which nobody was heard yet.
    #[must_use]
    pub fn start(settings: Settings, now: Instant) -> Controller {
        Controller {
            settings,
            since: now,
            reviewed: now,
            watches: BTreeMap::new(),
            asked: BTreeMap::new(),
            fences: VecDeque::new(),
            is_braking: false,
            moves: Moves::start(now),
        }
    }

    /// How long after a review the next one is due.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.settings.beat_interval / REVIEWS_PER_BEAT
    }

    /// A node has spoken.
    pub fn hear(&mut self, now: Instant, beat: Beat, metadata: &Metadata) {
        let record = metadata.node(beat.registration.node);
        let watch = self.watches.entry(beat.registration.node).or_default();
        watch.hear(now, beat, record, self.settings.beat_interval * 3);
    }

    /// A command was executed, whoever had asked for it.
    pub fn note(
        &mut self,
        now: Instant,
        command: &Command,
        answer: &Result<Outcome, Refusal>,
        deltas: &[Delta],
        metadata: &Metadata,
    ) {
        match answer {
            // What was refused is looked at again when its time is up, not at once.
            Err(refusal) => self.moves.note_refusal(command, refusal),
            Ok(_) => {
                if let Some(subject) = subject(command) {
                    self.asked.remove(&subject);
                }
            }
        }
        if let (Command::FenceNode { node, reason, .. }, Ok(Outcome::Changed)) = (command, answer) {
            let watch = self.watches.entry(*node).or_default();
            watch.note_fence(now, self.settings.calm);
            if is_presumption(*reason) {
                self.fences.push_back(now);
            }
        }
        for delta in deltas {
            if let Delta::Partition(id) = delta
                && let Some(partition) = metadata.partition(*id)
                && let Some(first) = partition.replicas.first()
                && partition.leader != Some(*first)
                && let Some(watch) = self.watches.get_mut(first)
            {
                watch.is_settled = false;
            }
        }
    }

    /// Looks at everything, and says what to propose. `sight` is what is known of a node beside its beats.
    pub fn review(&mut self, now: Instant, metadata: &Metadata, sight: &dyn Fn(NodeId) -> Sight) -> Review {
        // Who stood still has heard nobody meanwhile, itself included.
        if now.saturating_since(self.reviewed) > self.settings.beat_interval * 2 {
            self.since = now;
        }
        self.reviewed = now;
        self.asked.retain(|_, until| *until > now);
        self.watch_states(now, metadata);
        let mut commands = self.care_for_nodes(now, metadata, sight);
        commands.extend(self.return_leaders(now, metadata));
        commands.extend(self.care_for_plans(now, metadata, sight));
        commands.retain(|command| self.ask(now, command));
        Review { commands, is_braking: self.is_braking }
    }

    /// Notes since when nodes are what they are.
    fn watch_states(&mut self, now: Instant, metadata: &Metadata) {
        for (node, record) in metadata.nodes() {
            self.watches.entry(node).or_default().note_state(now, record);
        }
        self.watches.retain(|node, watch| metadata.node(*node).is_some() || watch.was_heard_lately(now));
    }

    fn care_for_nodes(
        &mut self,
        now: Instant,
        metadata: &Metadata,
        sight: &dyn Fn(NodeId) -> Sight,
    ) -> Vec<Command> {
        let verdicts: Vec<(NodeId, Verdict)> = self
            .watches
            .keys()
            .map(|node| (*node, self.verdict(now, *node, metadata, sight(*node))))
            .collect();
        let presumed = verdicts.iter().filter(|(_, verdict)| verdict.is_presumption());
        let presumed: Vec<NodeId> = presumed.map(|(node, _)| *node).collect();
        let mut allowed = self.allowance(now, metadata, &presumed);
        let mut commands = Vec::new();
        for (node, verdict) in &verdicts {
            if verdict.is_presumption() {
                if allowed == 0 {
                    continue;
                }
                allowed -= 1;
            }
            commands.extend(self.command_for(*node, verdict, metadata));
        }
        commands
    }

    /// How many of these nodes that seem gone may be fenced now. When there are many it is one a beat, and the next only
    /// when the last is done: what a leader without a majority asks for may be carried out later, all of it.
    fn allowance(&mut self, now: Instant, metadata: &Metadata, presumed: &[NodeId]) -> usize {
        let window = self.settings.silence_max;
        while self.fences.front().is_some_and(|at| now.saturating_since(*at) > window) {
            self.fences.pop_front();
        }
        let active = metadata.nodes().filter(|(_, record)| record.state == NodeState::Active).count();
        let most = ((active + self.fences.len()) * 3 / 10).max(1);
        self.is_braking = presumed.len() + self.fences.len() > most;
        if !self.is_braking {
            return presumed.len();
        }
        let is_under_way = presumed.iter().any(|node| self.asked.contains_key(&Subject::Node(*node)));
        let last = self.fences.back();
        let is_free = last.is_none_or(|at| now.saturating_since(*at) >= self.settings.beat_interval);
        usize::from(is_free && !is_under_way)
    }

    /// Gives nodes that came back what they are preferred to lead.
    fn return_leaders(&mut self, now: Instant, metadata: &Metadata) -> Vec<Command> {
        let settles_after = self.settings.beat_interval * SETTLES_AFTER;
        let mut commands = Vec::new();
        for (node, watch) in &mut self.watches {
            let is_ready = watch.active_for(now).is_some_and(|active| active >= settles_after);
            let is_draining = metadata.node(*node).is_none_or(|record| record.is_draining);
            if watch.is_settled || !is_ready || is_draining {
                continue;
            }
            let mut is_settled = true;
            for id in metadata.partitions_of(*node) {
                let Some(partition) = metadata.partition(id) else { continue };
                if partition.replicas.first() != Some(node) || partition.leader == Some(*node) {
                    continue;
                }
                is_settled = false;
                if partition.leader.is_some() && partition.in_sync.contains(node) {
                    let (epoch, election) = (partition.epoch, Election::Preferred);
                    commands.push(Command::ElectLeader { partition: id, epoch, election });
                }
                if commands.len() >= ELECTIONS_AT_ONCE {
                    return commands;
                }
            }
            watch.is_settled = is_settled;
        }
        commands
    }

    /// Notes that this is asked for, unless it is being waited for.
    fn ask(&mut self, now: Instant, command: &Command) -> bool {
        let Some(subject) = subject(command) else { return true };
        let until = now + self.settings.beat_interval * ASK_AGAIN;
        let is_new = !self.asked.contains_key(&subject);
        if is_new {
            self.asked.insert(subject, until);
        }
        is_new
    }
}

/// Whether a node is fenced because it seems gone, not because it, or somebody, said so.
fn is_presumption(reason: FenceReason) -> bool {
    matches!(reason, FenceReason::Dead | FenceReason::Silent)
}

fn subject(command: &Command) -> Option<Subject> {
    match command {
        Command::RegisterNode(registration) => Some(Subject::Node(registration.node)),
        Command::FenceNode { node, .. }
        | Command::UnfenceNode { node, .. }
        | Command::BeginShutdown { node, .. }
        | Command::DeregisterNode { node, .. } => Some(Subject::Node(*node)),
        Command::ElectLeader { partition, .. }
        | Command::StartReassignment { partition, .. }
        | Command::CancelReassignment { partition, .. } => Some(Subject::Partition(*partition)),
        Command::SubmitPlan { .. } | Command::CancelPlan { .. } | Command::FinishPlan { .. } => {
            Some(Subject::Plan)
        }
        Command::SetDraining { .. }
        | Command::SetShare { .. }
        | Command::CreateTopic { .. }
        | Command::DeleteTopic { .. }
        | Command::AddPartitions { .. }
        | Command::ConfigureTopic { .. }
        | Command::AlterPartition(_)
        | Command::AlterPartitions(_)
        | Command::SetFeatureLevel { .. } => None,
    }
}

#[cfg(test)]
mod tests;
