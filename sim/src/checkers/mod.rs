//! What must never be seen: one rule a file, each with its source on the first line.
//!
//! A checker is told what the nodes do, at the moment they do it, and answers with a [`Violation`] or
//! with nothing. It keeps its own books and never asks a node for its opinion.
//!
//! # Outside the budget
//!
//! Raft survives crashes and a disk that forgets what it never promised to keep. It cannot survive a
//! disk that goes back in time after it promised: such a node votes twice and drops what it
//! acknowledged, and no other node can tell. When that happens in a run ([`Checkers::forgive`]), all that
//! is asked from then on is that nobody panics, and that no store makes anything up.

mod acknowledged;
mod committed;
mod durable_promise;
mod election_safety;
mod features;
mod formation;
mod gossip;
mod leader_append_only;
mod leader_completeness;
mod linearizability;
mod liveness;
mod log_matching;
mod metadata;
mod monotone;
mod oracle;
mod records;
mod resources;
mod retained;
mod rule;
mod state_machine_safety;
mod stored;

use std::collections::BTreeSet;

use rivven_cluster::id::NodeId;
use rivven_cluster::node::{Durable, Event, Halt, Input, Message, Output, Peer};
use rivven_cluster::partition::metadata::Metadata;
use rivven_cluster::partition::replicas::Replicas;
use rivven_cluster::raft::{Indexes, Role, Standing};
use rivven_cluster::swim::Swim;

use crate::app::{Application, Executed};
use crate::history::History;
use crate::shape::Shape;

pub use self::acknowledged::Acknowledged;
pub use self::committed::Committed;
pub use self::durable_promise::{DurablePromise, apply};
pub use self::election_safety::ElectionSafety;
pub use self::features::{Features, level_of};
pub use self::formation::Formation;
pub use self::gossip::Gossip;
pub use self::leader_append_only::LeaderAppendOnly;
pub use self::leader_completeness::LeaderCompleteness;
pub use self::linearizability::{Undecided, linearizable};
pub use self::liveness::Liveness;
pub use self::log_matching::LogMatching;
pub use self::metadata::MetadataRules;
pub use self::monotone::Monotone;
pub use self::oracle::Oracle;
pub use self::records::{Records, Told};
pub use self::resources::Resources;
pub use self::rule::{Rule, Verdict, Violation};
pub use self::state_machine_safety::StateMachineSafety;
pub use self::stored::Stored;

use self::rule::broken;

/// All checkers of a run.
#[derive(Clone, Default)]
pub struct Checkers {
    /// Rules that are not judged, to see whether others catch what they would.
    ignored: BTreeSet<Rule>,
    elections: ElectionSafety,
    append_only: LeaderAppendOnly,
    logs: LogMatching,
    committed: Committed,
    monotone: Monotone,
    commands: StateMachineSafety,
    promises: DurablePromise,
    formation: Formation,
    features: Features,
    stored: Stored,
    resources: Resources,
    gossip: Gossip,
    metadata: MetadataRules,
    records: Records,
    /// Nodes whose disks are not to be trusted.
    suspects: BTreeSet<u64>,
    /// Nodes whose disks were emptied at some time.
    forgetful: BTreeSet<u64>,
    /// Nodes that lie by plan.
    liars: BTreeSet<u64>,
    has_forgiven: bool,
    /// The first violation; what comes after it may be its echo.
    violation: Option<Violation>,
}

impl Checkers {
    /// Makes checkers for a cluster of so many founders that judge all rules but `ignored`.
    pub fn new(founders: u64, ignored: BTreeSet<Rule>) -> Checkers {
        Checkers { ignored, committed: Committed::new(founders), ..Checkers::default() }
    }

    /// The first violation, if there is one.
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// Notes a verdict.
    pub fn note(&mut self, verdict: Verdict) {
        let Err(violation) = verdict else { return };
        if self.violation.is_none() && !self.ignored.contains(&violation.rule) {
            self.violation = Some(violation);
        }
    }

    /// Notes that a rule was broken.
    pub fn broken(&mut self, rule: Rule, what: String) {
        self.note(broken(rule, what));
    }

    /// This node lies: alarms about it are expected.
    pub fn expect_lies_of(&mut self, node: u64) {
        self.liars.insert(node);
    }

    /// A disk went back on what it promised: only panics are judged from now on.
    pub fn forgive(&mut self) {
        self.has_forgiven = true;
        let asked = [Rule::Invariant, Rule::Stored];
        self.ignored.extend(Rule::ALL.iter().copied().filter(|rule| !asked.contains(rule)));
    }

    /// Whether a disk went back on what it promised.
    pub fn has_forgiven(&self) -> bool {
        self.has_forgiven
    }

    /// The disk of `node` was emptied: nothing is promised any more.
    pub fn disk_emptied(&mut self, node: u64) {
        self.forgetful.insert(node);
        self.committed.emptied(node);
        self.promises.emptied(node);
        self.stored.emptied(node);
        self.records.emptied(node);
    }

    /// The disk of `node` may have lost or changed something without a word.
    pub fn suspect(&mut self, node: u64) {
        self.suspects.insert(node);
        self.stored.struck(node);
    }

    /// Whether the disk of `node` is not to be trusted.
    pub fn suspects(&self, node: u64) -> bool {
        self.suspects.contains(&node)
    }

    /// A node's process started, on this durable state.
    pub fn started(&mut self, node: u64, durable: &Durable) {
        // What a store has lost it may not have noticed; that all of it is gone it must.
        let is_forgotten = *durable == Durable::default() && self.promises.is_member(node);
        let kept = self.promises.started(node, durable);
        let verdict = self.stored.started(node, durable, kept.is_ok());
        match kept {
            // The store could not know: the newest of its blocks went elsewhere.
            Err(_) if self.suspects.contains(&node) && !is_forgotten => {
                self.note(verdict);
                self.forgive();
            }
            kept => self.note(kept),
        }
        self.formation.stands(node, &durable.standing);
        let verdict = self.logs.started(node, durable);
        self.note(verdict);
        self.monotone.started(node);
        self.append_only.started(node);
        self.gossip.started(node);
        self.metadata.started(node);
        self.records.started(node, durable);
        self.commands.started(node, durable.snapshot.as_ref().map(|snapshot| snapshot.at.index));
    }

    /// The process that starts understands features up to this level.
    pub fn understands(&mut self, node: u64, level: u16) {
        self.features.started(node, level);
    }

    /// A node does not start, or go on, since the cluster has gone further than it understands.
    pub fn outdated(&mut self, node: u64) {
        let verdict = self.features.outdated(node);
        self.note(verdict);
    }

    /// A node is about to be given an input.
    pub fn input(&mut self, node: u64, input: &Input) {
        if let Input::Message { message, .. } = input {
            let verdict = self.features.hears(node, message);
            self.note(verdict);
        }
        if matches!(input, Input::SnapshotSaved) {
            self.promises.saved(node);
        }
        let Input::Written(id) = input else { return };
        self.gossip.written(node);
        if let Some(batch) = self.promises.written(node, *id) {
            batch.standing.iter().for_each(|standing| self.formation.stands(node, standing));
            let verdict = self.logs.written(node, &batch);
            self.note(verdict);
            if let Some(snapshot) = &batch.snapshot {
                let verdict = self.committed.rewritten(node, snapshot.at.index.next(), &self.logs);
                self.note(verdict);
            }
            if let Some(first) = batch.entries.first() {
                let verdict = self.committed.rewritten(node, first.at.index, &self.logs);
                self.note(verdict);
            }
        }
    }

    /// A node asked for something.
    pub fn output(&mut self, node: u64, output: &Output) {
        match output {
            Output::Write(batch) => {
                let verdict = self.append_only.write(node, batch, &self.logs);
                self.note(verdict);
                let verdict = self.resources.write(node, batch);
                self.note(verdict);
                self.stored.write(node, batch);
                let verdict = self.formation.write(node, batch);
                self.note(verdict);
                let verdict = self.promises.write(node, batch);
                self.note(verdict);
                self.commands.write(node, batch);
                let verdict = self.records.write(node, batch);
                self.note(verdict);
            }
            Output::Send { to: Peer::Node(to), message: Message::Raft(message) } => {
                let verdict = self.promises.send(node, to.value(), message);
                self.note(verdict);
            }
            Output::Gossip(_) => {
                let verdict = self.gossip.says(node);
                self.note(verdict);
            }
            Output::Event(Event::Gossip(_)) => self.gossip.stirs(node),
            Output::Event(Event::Metadata { at, deltas }) => {
                self.metadata.changed(node, *at);
                self.records.changed(node, deltas);
            }
            Output::Event(Event::Standing(standing)) => self.stands(node, *standing),
            Output::Event(Event::Halted { reason: Halt::Removed }) => {
                if !self.removed().any(|removed| removed == node) {
                    let what = format!("node {node} stops as if it had been removed");
                    self.broken(Rule::Invariant, what);
                }
            }
            Output::Event(Event::Halted { reason: Halt::Outdated(_) }) => self.outdated(node),
            Output::Event(Event::Alarm { from, refusal }) if !self.liars.contains(&from.value()) => {
                let what = format!("node {node} refuses what node {from} says: {refusal:?}");
                self.broken(Rule::Alarm, what);
            }
            Output::SaveSnapshot(snapshot) => self.promises.save(node, snapshot.at),
            Output::BuildSnapshot
            | Output::Read { .. }
            | Output::Send { .. }
            | Output::Dial(_)
            | Output::HangUp(_)
            | Output::Reply { .. }
            | Output::Event(_) => {}
        }
    }

    /// A node has settled, after so many outputs, in this standing and with a log that got so far.
    pub fn settled(&mut self, node: u64, outputs: u64, standing: Option<Standing>, indexes: Option<Indexes>) {
        let verdict = self.resources.settled(node, outputs);
        self.note(verdict);
        let (Some(standing), Some(indexes)) = (standing, indexes) else { return };
        let verdict = self.monotone.settled(node, standing.term, indexes);
        self.note(verdict);
        // What a leader has committed but not yet on its own disk is judged when it is there.
        let settled = indexes.commit.min(indexes.persisted);
        let verdict = self.committed.advance(node, settled, standing.term, &self.logs, &self.promises);
        self.note(verdict);
    }

    /// A node has settled; this is its part in gossip, if that has begun.
    pub fn gossips(&mut self, node: u64, swim: Option<&Swim>) {
        if let Some(swim) = swim {
            let verdict = self.gossip.settled(node, swim);
            self.note(verdict);
        }
    }

    /// A node has settled; this is its metadata. Tells whether there was anything new.
    pub fn knows(&mut self, node: u64, metadata: &Metadata) -> bool {
        let (verdict, is_new) = self.metadata.settled(node, metadata);
        self.note(verdict);
        is_new
    }

    /// Somebody was told of records by a node that has not settled yet.
    pub fn told(&mut self, node: u64, told: Told) {
        self.records.told(node, told);
    }

    /// Somebody far away was told of records.
    pub fn heard(&mut self, told: Told) {
        self.records.heard(told);
    }

    /// A node has settled; these are its replicas, if it has any.
    pub fn replicates(&mut self, node: u64, replicas: Option<&Replicas>, metadata: &Metadata) {
        if let Some(replicas) = replicas {
            let verdict = self.records.settled(node, replicas, metadata);
            self.note(verdict);
        }
    }

    fn stands(&mut self, node: u64, standing: Standing) {
        self.append_only.stands(node, standing);
        if standing.role == Role::Leader {
            let verdict = self.elections.leads(node, standing.term);
            self.note(verdict);
            let verdict = LeaderCompleteness::judge(node, standing.term, &self.logs, &self.committed);
            self.note(verdict);
        }
    }

    /// A node executed commands.
    pub fn executed(&mut self, node: u64, executed: &[Executed]) {
        for command in executed {
            let verdict = self.commands.applied(node, command.index, &command.command, &command.answer);
            self.note(verdict);
        }
    }

    /// The run is over and the faults are gone: judges what clients were told. `is_sampled` asks for the
    /// expensive search, too. Tells whether that search came to an end.
    pub fn finish<A: Application>(
        &mut self,
        app: &A,
        shape: &Shape,
        history: &History,
        is_sampled: bool,
    ) -> Result<(), Undecided> {
        self.note(Acknowledged::judge(history, &self.commands));
        self.note(Oracle::judge(app, history, &self.commands));
        self.note(Liveness::judge(shape, history));
        if !is_sampled {
            return Ok(());
        }
        let verdict = linearizable(app, history)?;
        self.note(verdict);
        Ok(())
    }

    /// Tells whether all nodes but those that are lost are members, voters if they want to be, and have executed
    /// what any node has, no change of the members is left half done, and those that gossip see each other.
    ///
    /// # Errors
    ///
    /// What is missing.
    pub fn have_converged(&mut self, shape: &Shape, lost: &BTreeSet<u64>) -> Result<(), String> {
        let members = self.committed.members();
        let has_its_place = |node: u64| {
            let votes = |id| members.voters().contains(&id) || !shape.votes(node);
            NodeId::new(node).is_some_and(|id| members.contains(id) && votes(id))
        };
        if members.is_joint() {
            return Err("a change of the members is half done".to_owned());
        }
        let others: BTreeSet<u64> = (1..=shape.nodes).filter(|node| !lost.contains(node)).collect();
        if let Some(node) = others.iter().find(|node| !has_its_place(**node)) {
            return Err(format!("node {node} has not got its place among the members"));
        }
        if let Some(node) = others.iter().find(|node| self.commands.first_gap(**node).is_some()) {
            return Err(format!("node {node} has not executed what others have"));
        }
        match self.gossip.blind(&others) {
            Some((by, of)) if shape.gossip_period > 0 => {
                return Err(format!("node {by} does not hold node {of} live"));
            }
            Some(_) | None => {}
        }
        if shape.beat_interval == 0 {
            return Ok(());
        }
        let is_missing = self.metadata.unsettled(&others, self.removed());
        let records = &mut self.records;
        let is_missing = is_missing.or_else(|| records.unsettled(self.metadata.newest()?, &others));
        is_missing.map_or(Ok(()), Err)
    }

    /// Adds the newcomers that were never taken in, or have forgotten that they were, since the one address that they
    /// know is that of a lost node.
    pub fn with_stranded(&self, shape: &Shape, mut lost: BTreeSet<u64>) -> BTreeSet<u64> {
        let members = self.committed.members();
        let is_member = |node: u64| NodeId::new(node).is_some_and(|node| members.contains(node));
        let knows_nobody = |node: &u64| shape.peers(*node).iter().all(|peer| lost.contains(peer));
        let has_nothing = |node: &u64| {
            !is_member(*node) || self.forgetful.contains(node) || self.commands.has_executed_nothing(*node)
        };
        let newcomers = (shape.founders() + 1..=shape.nodes).filter(has_nothing);
        let stranded: Vec<u64> = newcomers.filter(knows_nobody).collect();
        lost.extend(stranded);
        lost
    }

    /// The nodes that were put out for good.
    pub fn removed(&self) -> impl Iterator<Item = u64> {
        self.committed.members().removed().iter().map(|node| node.value())
    }

    /// How many commands were executed, by any node.
    pub fn commands(&self) -> &StateMachineSafety {
        &self.commands
    }
}
