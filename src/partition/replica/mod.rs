//! A replica of a partition: its part in keeping a log on several nodes so that nothing acknowledged is lost.
//!
//! # The problem
//!
//! A partition's log is written by one leader and copied by followers. A record is *committed* when enough have it, and
//! from then on it must never be lost nor changed, whoever leads next; what was not committed may vanish. Everybody learns
//! who leads from the [metadata](super::metadata), late, at different times, and with changes left out; and messages are
//! lost, repeated and reordered.
//!
//! # The idea (Kafka's replication; KIP-101, 279, 497, 903, 966)
//!
//! Raft would need a quorum of votes for each log. Here one Raft log, the metadata, says for each partition which
//! replicas are *in sync*, and only one of those is elected. So any single one of them is enough to go on with, and the
//! leader counts a record as committed when *all* of them have it.
//!
//! ```text
//!   producer ─► leader ─► its log            followers ─ Fetch: "I have everything before 7, the last of epoch 3" ─► leader
//!                 │                              ▲                                                                │
//!                 │ in sync = {1, 2, 3}          └──── Matches: records from 7 on; committed: 6 ◄──────────────────┤
//!                 │                              └──── Diverges: of epoch 3 I have the records before 5 ◄──────────┘
//!                 └─► Alteration: "3 lags: {1, 2}" ─► controller ─► metadata ─► everybody
//! ```
//!
//! Four rules carry it:
//!
//! * *Who may be in sync holds the high watermark back.* The leader counts whoever is in sync, and whoever it has asked
//!   to be, from the moment it asks: a proposal may be accepted at any time later. It stops counting somebody only when
//!   the metadata says so. Since a copy of a proposal may be accepted long after another was refused, what was once
//!   proposed counts until the record changes, and after a refusal the leader asks for a change that changes nothing
//!   else (`voids_earlier`).
//! * *A new leader knows nothing of its followers.* What they said to the leader before, or to this one when it led
//!   before, may have been cut off since. It counts them when they have fetched in its epoch.
//! * *Logs are compared by epochs*, never by the high watermark, which comes late ([`Epochs`]).
//! * *What a follower says to have is on its disk.* So a crash that keeps the disk loses nothing that was acknowledged,
//!   and one that loses the disk shows as another session, whose fetches are told apart from those before.
//!
//! While fewer than `min_in_sync` are in sync nothing is committed, so that whoever falls out then stays eligible
//! (KIP-966).
//!
//! | file | what it is |
//! |---|---|
//! | [`io`] | what replicas say to each other, and what a replica wants done |
//! | [`epochs`] | where the leader epochs begin in a log |
//! | [`producers`] | whose batches are in a log |
//! | `leader` | what a leader does: counts, admits, puts out, answers |
//! | `follower` | what a follower does: fetches, cuts off, appends |
//!
//! # What it does not do
//!
//! It holds no records, only where they are; whoever drives it keeps them, and says how far they are on the disk. It
//! sends nothing: who is asked when, and how long a fetch waits for news, is the node's.

pub mod epochs;
mod follower;
pub mod io;
mod leader;
pub mod producers;

use core::hash::{Hash, Hasher};
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use self::epochs::Epochs;
use self::io::{Effect, OffsetError, ProduceError};
use self::leader::Leader;
pub use self::leader::Produce;
use super::metadata::{Metadata, NodeState, Partition};
use super::retention::Retention;
use crate::id::{LeaderEpoch, NodeEpoch, NodeId, Offset, PartitionId};
use crate::time::Instant;

/// How patient a leader is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Settings {
    /// A follower that has not had everything for so long is put out of sync. More than zero.
    pub lag_max: Duration,
    /// What came of a proposal is not known for so long: it is made again. More than zero.
    pub proposal_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { lag_max: Duration::from_secs(10), proposal_timeout: Duration::from_secs(1) }
    }
}

/// What a replica goes by: its partition's record, and the sessions of who has a replica and of its own node, as that has
/// applied them. It is another one when the record is, and also when one of those nodes is.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct View {
    /// The record.
    pub partition: Partition,
    /// How many must be in sync for anything to be committed.
    pub min_in_sync: usize,
    /// How much of the log is kept.
    pub retention: Retention,
    sessions: BTreeMap<NodeId, (NodeEpoch, bool)>,
}

impl View {
    /// The view that some nodes have of a partition, if it is there: one node, or several.
    #[must_use]
    pub fn of(metadata: &Metadata, id: PartitionId, nodes: &[NodeId]) -> Option<View> {
        let partition = metadata.partition(id)?.clone();
        let spec = &metadata.topic(id.topic)?.spec;
        let (min_in_sync, retention) = (partition.min_in_sync(spec.min_in_sync), spec.retention);
        let session = |node: &NodeId| {
            let record = metadata.node(*node)?;
            Some((*node, (record.epoch, record.state == NodeState::Active)))
        };
        let sessions = partition.replicas.iter().chain(nodes).filter_map(session).collect();
        Some(View { partition, min_in_sync, retention, sessions })
    }

    fn session(&self, node: NodeId) -> Option<NodeEpoch> {
        self.sessions.get(&node).map(|(session, _)| *session)
    }

    fn is_active(&self, node: NodeId) -> bool {
        self.sessions.get(&node).is_some_and(|(_, is_active)| *is_active)
    }
}

/// Where a log begins and ends.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Extent {
    /// The place of the first record.
    pub start: Offset,
    /// The place after the last one.
    pub end: Offset,
    /// Everything before it is on the disk.
    pub durable: Offset,
    /// How often something was dropped at the end: what is said of the log before that does not hold after it.
    cuts: u64,
    /// It began anew, and the disk may still have what was before.
    is_anew: bool,
}

impl Extent {
    /// Whether the disk has exactly this.
    fn is_durable(&self) -> bool {
        self.durable == self.end && !self.is_anew
    }

    /// A log that is on the disk from `start` to `end`.
    ///
    /// # Panics
    ///
    /// If it ends before it begins.
    #[must_use]
    pub fn stored(start: Offset, end: Offset) -> Extent {
        assert!(start <= end, "a log from {start} to {end}");
        Extent { start, end, durable: end, cuts: 0, is_anew: false }
    }
}

/// How far a log went when it was handed to the disk. It belongs to one [`Replica`], and is forgotten with it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Mark {
    end: Offset,
    cuts: u64,
}

/// What happened how often.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Stats {
    /// This replica became the leader.
    pub led: u64,
    /// Something was cut off, since the leader did not have it.
    pub cut: u64,
    /// The log began anew, since the leader has nothing that it could be compared with.
    pub restarted: u64,
    /// Somebody was proposed to be in sync.
    pub admitted: u64,
    /// Somebody was proposed to be out of sync.
    pub put_out: u64,
    /// A proposal was refused, and all before it were made void.
    pub voided: u64,
    /// An answer came that was none to what was asked last.
    pub answers_stale: u64,
    /// An answer came whose records do not follow on the log.
    pub answers_malformed: u64,
}

/// One node's replica of one partition, in one session of the node.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Replica {
    own: NodeId,
    session: NodeEpoch,
    id: PartitionId,
    settings: Settings,
    view: View,
    role: Role,
    log: Extent,
    epochs: Epochs,
    high_watermark: Offset,
    effects: VecDeque<Effect>,
    /// It has said that its node has no replica any more, and does nothing from then on.
    is_removed: bool,
    stats: Stats,
}

/// Two that are told the same go on alike if they have the same hash: how it was set, and what it has counted, is left out.
impl Hash for Replica {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.own, self.session, self.id, &self.view, &self.role).hash(state);
        (self.log, &self.epochs, self.high_watermark, &self.effects, self.is_removed).hash(state);
    }
}

#[derive(Clone, Debug, Deserialize, Hash, Serialize)]
enum Role {
    Leader(Leader),
    Follower {
        leader: NodeId,
        epoch: LeaderEpoch,
    },
    /// Nobody leads, or this process does not take part any more.
    Idle,
}

/// What a replica starts with.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Stored {
    /// Where its log begins and ends.
    pub log: Extent,
    /// The epochs in it.
    pub epochs: Epochs,
    /// What was committed, or less. It must not reach the disk before the log as it was then: in an older log, what was
    /// committed since may be something else.
    pub high_watermark: Offset,
}

impl Replica {
    /// Takes up a replica of `own` in its `session`, with what is on the disk. Once a session: what a leader has proposed,
    /// and what it has given to followers before that was on its disk, it must not forget. Whoever opens a log again
    /// registers as another process first.
    #[must_use]
    pub fn start(
        (own, session): (NodeId, NodeEpoch),
        id: PartitionId,
        settings: Settings,
        stored: Stored,
        view: View,
        now: Instant,
    ) -> Replica {
        let Stored { log, mut epochs, high_watermark } = stored;
        epochs.truncate(log.end);
        epochs.trim(log.start);
        let high_watermark = high_watermark.clamp(log.start, log.end);
        let mut replica = Replica {
            own,
            session,
            id,
            settings,
            view,
            role: Role::Idle,
            log,
            epochs,
            high_watermark,
            effects: VecDeque::new(),
            is_removed: false,
            stats: Stats::default(),
        };
        replica.take_role(now, true);
        replica
    }

    /// The metadata is another one. A view that is older than the one before changes nothing; views may be left out. A
    /// replica that was [removed](Effect::Removed) stays so: one that is added again is another one.
    pub fn observe(&mut self, now: Instant, view: View) {
        if self.is_removed || view.partition.epoch < self.view.partition.epoch {
            return;
        }
        let is_news = view.partition.epoch > self.view.partition.epoch;
        self.view = view;
        self.take_role(now, is_news);
    }

    fn take_role(&mut self, now: Instant, is_news: bool) {
        let record = &self.view.partition;
        let epoch = record.leader_epoch;
        if self.view.session(self.own) != Some(self.session) {
            // Another process speaks for this node, or the view is older than this one: it may have been added since.
            self.step_down();
        } else if !record.replicas.contains(&self.own) {
            let removed = Effect::Removed(record.epoch);
            self.step_down();
            self.effects.push_back(removed);
            self.is_removed = true;
        } else {
            match record.leader {
                Some(leader) if leader == self.own => self.lead(now, is_news),
                Some(leader) => {
                    self.step_down();
                    self.role = Role::Follower { leader, epoch };
                }
                None => self.step_down(),
            }
        }
    }

    /// Ends whatever it did. Producers that wait are told that nobody knows what becomes of their records.
    pub(super) fn step_down(&mut self) {
        let Role::Leader(leader) = core::mem::replace(&mut self.role, Role::Idle) else { return };
        let record = &self.view.partition;
        let error = ProduceError::Deposed { leader: record.leader, epoch: record.leader_epoch };
        for request in leader.into_requests() {
            self.effects.push_back(Effect::Reply { request, result: Err(error) });
        }
    }

    /// The log up to its end is handed to the disk now; when it is there, say so with this. All effects so far have been
    /// carried out.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark { end: self.log.end, cuts: self.log.cuts }
    }

    /// What was handed to the disk is there.
    ///
    /// # Panics
    ///
    /// If it is the mark of another replica, and the log is shorter.
    pub fn written(&mut self, mark: Mark) {
        if mark.cuts != self.log.cuts {
            return;
        }
        self.log.is_anew = false;
        if mark.end <= self.log.durable {
            return;
        }
        assert!(mark.end <= self.log.end, "the disk has what was never written");
        self.log.durable = mark.end;
        self.acknowledge_durable();
        self.advance();
    }

    /// Drops what is before `start`, as far as it is committed and on the disk. Returns where the log begins now.
    pub fn trim(&mut self, start: Offset) -> Offset {
        let start = start.min(self.high_watermark).min(self.log.durable);
        if start > self.log.start {
            self.log.start = start;
            self.epochs.trim(start);
            self.effects.push_back(Effect::Trim(start));
        }
        self.log.start
    }

    /// Takes what is to be done next.
    pub fn poll(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Fires what is due: who lags is put out of sync, a proposal is made again, a producer has waited long enough.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.lead_on(now);
    }

    /// When [`handle_timeout`](Replica::handle_timeout) is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match &self.role {
            Role::Leader(leader) => leader.deadline(self),
            Role::Follower { .. } | Role::Idle => None,
        }
    }

    /// Whom this replica follows.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        match &self.role {
            Role::Leader(_) => Some(self.own),
            Role::Follower { leader, .. } => Some(*leader),
            Role::Idle => None,
        }
    }

    /// The epoch in which it leads, if it does.
    #[must_use]
    pub fn leads(&self) -> Option<LeaderEpoch> {
        match &self.role {
            Role::Leader(leader) => Some(leader.epoch),
            Role::Follower { .. } | Role::Idle => None,
        }
    }

    /// How often something was dropped at the end: what was read before that is not what is there.
    #[must_use]
    pub(super) fn cuts(&self) -> u64 {
        self.log.cuts
    }

    /// Where the log begins and ends.
    #[must_use]
    pub fn log(&self) -> Extent {
        self.log
    }

    /// The leader epochs in the log.
    #[must_use]
    pub fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    /// Everything before it is committed: what consumers may read. At a new leader, and at a follower, it may be behind
    /// what is.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Where the committed records end, as far as anybody can know: a new leader says so only when it has committed
    /// everything that was there before it.
    ///
    /// # Errors
    ///
    /// [`OffsetError`]; ask again, or another node.
    pub fn latest(&self) -> Result<Offset, OffsetError> {
        match &self.role {
            Role::Leader(leader) if self.high_watermark >= leader.start => Ok(self.high_watermark),
            Role::Leader(_) => Err(OffsetError::NotAvailable),
            Role::Follower { .. } | Role::Idle => Err(OffsetError::NotLeader),
        }
    }

    /// What it goes by.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// What happened how often.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Checks what must hold between any two calls.
    ///
    /// # Panics
    ///
    /// If something does not.
    pub fn assert_invariants(&self) {
        let Extent { start, end, durable, .. } = self.log;
        assert!(start <= durable, "the log begins at {start}, and is on the disk up to {durable}");
        assert!(durable <= end, "the disk has records up to {durable}, and the log ends at {end}");
        assert!(
            self.high_watermark <= end,
            "{} is committed, and the log ends at {end}",
            self.high_watermark
        );
        assert!(start <= self.high_watermark, "what is not committed was dropped");
        assert!(self.epochs.iter().all(|(_, begins)| begins <= end), "an epoch begins behind the end");
        let ascends =
            |((a, from), (b, to)): ((LeaderEpoch, Offset), (LeaderEpoch, Offset))| a < b && from < to;
        assert!(self.epochs.iter().zip(self.epochs.iter().skip(1)).all(ascends), "epochs ascend");
        if let Role::Leader(leader) = &self.role {
            leader.assert_invariants(self);
        }
    }
}

#[cfg(test)]
mod tests;
