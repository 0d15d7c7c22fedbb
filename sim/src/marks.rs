//! Places that a good sweep reaches: rare branches, counted over all seeds.
//!
//! A branch that no seed takes is a branch that no seed tests. Each mark is noted where the simulator
//! sees it happen, from outside the machines; a sweep in which a mark stays at zero fails.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use rivven_cluster::formation;
use rivven_cluster::id::LogIndex;
use rivven_cluster::node::{Event, Halt, Message, Output, Rejection, Reply, Transfer, WriteBatch};
use rivven_cluster::partition::log::What;
use rivven_cluster::partition::metadata::{FenceReason, Metadata, NodeState, Why};
use rivven_cluster::partition::replicas::io::Answer;
use rivven_cluster::raft::{BIRTH, Body, Membership, Role};
use rivven_cluster::swim;
use serde::{Deserialize, Serialize};

use crate::scenario::WorldKind;

macro_rules! marks {
    ($($mark:ident $words:literal,)*) => {
        /// The places.
        #[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
        #[expect(missing_docs, reason = "each is described by its words")]
        pub enum Mark { $($mark,)* }

        impl Mark {
            /// All of them.
            pub const ALL: &[Mark] = &[$(Mark::$mark,)*];
        }

        impl fmt::Display for Mark {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Mark::$mark => $words,)* })
            }
        }
    };
}

marks! {
    ElectionWon "an election was won",
    LeaderDeposed "a leader stepped down",
    VoteRefused "a vote was refused",
    AppendRejected "an append did not fit the follower's log",
    TailReplaced "a follower's log was cut and written anew",
    EntriesGrouped "several commands became durable together",
    FateUnknown "a client was told that a command's fate is unknown",
    NotLeaderHint "a client was told who leads",
    Busy "a command was refused because too many were under way",
    NotFormed "a client came before the cluster had formed",
    WriteFailed "a node halted because a write failed",
    Outdated "a node of an earlier version halted, or did not start",
    ForwardedTogether "what is new was used, once all nodes were of the later version",
    WipedRefused "a node with an empty disk was refused",
    StoreSetAside "a damaged disk was set aside",
    TakenIn "a newcomer, or a node with a damaged disk, was taken in",
    Suspended "a member with a damaged disk was suspended",
    Promoted "a learner began to decide",
    Joint "several voters changed through a joint membership",
    PutOut "a node noticed that it was put out",
    ToldToGo "a node that was put out was told so",
    BatchKept "a batch that was never confirmed was there after a crash",
    BatchLost "a batch that was never confirmed was gone after a crash",
    Retried "a client found the leader at its second try",
    ForgeryRefused "a lie was dropped at the door",
    ServedByQuorum "a quorum served while the rest was broken",
    RolledBack "a disk was read as it was some time ago",
    ReadAnswered "a linearizable read was answered",
    ReadElsewhere "a follower asked for the index of a read",
    ReadUnconfirmed "a read was rejected since nobody confirmed it",
    Forwarded "a follower passed a command on",
    SnapshotBuilt "a log was compacted behind a snapshot",
    SnapshotSent "a part of a snapshot was sent",
    SnapshotInstalled "a follower took its leader's snapshot",
    Introduced "a node told another one where it gossips",
    HeldDead "a node was held dead by gossip",
    BackByGossip "a node that was held dead was seen alive again",
    SentAgain "a command was sent again in its session",
    NodeFenced "a node that seemed gone was fenced",
    NodeRestarted "a node was fenced since it was started again",
    NodeBack "a node that was fenced was unfenced",
    LedByAnother "another replica led since the leader was fenced",
    LeaderReturned "a replica led again that is preferred to",
    Leaderless "a partition had no leader",
    EligibleKept "a replica was eligible, and not in sync",
    Moving "a partition was being reassigned",
    PlanBegun "a plan was executed",
    PlanTakenBack "a plan was cancelled",
    RecordsWritten "a producer was told that its records are written",
    RecordsRead "a consumer was given records",
    LogTrimmed "records were dropped that their topic does not want to be kept",
    ManySeemedGone "so many nodes seemed gone that they were fenced one at a time",
}

impl Mark {
    /// Whether a world can reach it: nobody lies in the turmoil world, where TLS is real, and what its
    /// store keeps of a batch is not looked into.
    pub fn is_of(self, world: WorldKind) -> bool {
        world == WorldKind::Pure
            || !matches!(
                self,
                Mark::ForgeryRefused
                    | Mark::RolledBack
                    | Mark::BatchKept
                    | Mark::BatchLost
                    | Mark::Retried
                    | Mark::SentAgain
                    | Mark::ReadElsewhere
                    | Mark::Forwarded
                    | Mark::LogTrimmed
            )
    }
}

/// How often each was reached.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Marks {
    counts: BTreeMap<Mark, u64>,
    /// Who leads, and where the last batch of each node ended.
    #[serde(skip)]
    leaders: BTreeSet<u64>,
    #[serde(skip)]
    ends: BTreeMap<u64, LogIndex>,
    /// The members, as each node knows them.
    #[serde(skip)]
    members: BTreeMap<u64, Membership>,
}

/// Notes that a place was reached.
#[macro_export]
macro_rules! reachable {
    ($marks:expr, $mark:ident) => {
        $marks.note($crate::marks::Mark::$mark)
    };
}

impl Marks {
    /// A place was reached; usually written as `reachable!(marks, Place)`.
    pub fn note(&mut self, mark: Mark) {
        *self.counts.entry(mark).or_default() += 1;
    }

    /// A new process of a node started: what its last one was is no longer so.
    pub fn started(&mut self, node: u64) {
        self.leaders.remove(&node);
        self.ends.remove(&node);
        self.members.remove(&node);
    }

    /// How often it was reached.
    pub fn of(&self, mark: Mark) -> u64 {
        self.counts.get(&mark).copied().unwrap_or_default()
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: &Marks) {
        for (mark, count) in &other.counts {
            *self.counts.entry(*mark).or_default() += count;
        }
    }

    /// Reads what an output of a node shows.
    #[expect(clippy::wildcard_enum_match_arm, reason = "few messages mark a place")]
    pub fn observe(&mut self, node: u64, output: &Output) {
        match output {
            Output::Write(batch) => self.observe_batch(node, batch),
            Output::Send { message: Message::Raft(message), .. } => match &message.body {
                Body::VoteResponse(verdict) if !verdict.granted => reachable!(self, VoteRefused),
                Body::AppendRejected { .. } => reachable!(self, AppendRejected),
                _ => {}
            },
            Output::BuildSnapshot
            | Output::Read { .. }
            | Output::SaveSnapshot(_)
            | Output::Dial(_)
            | Output::HangUp(_)
            | Output::Gossip(_) => {}
            Output::Send { message: Message::Meet { .. }, .. } => reachable!(self, Introduced),
            Output::Event(Event::Gossip(swim::Event::Dead(_))) => reachable!(self, HeldDead),
            Output::Event(Event::Gossip(swim::Event::Rejoined(_))) => reachable!(self, BackByGossip),
            Output::Send { message: Message::Transfer(Transfer::Part { .. }), .. } => {
                reachable!(self, SnapshotSent);
            }
            Output::Send { message: Message::Dismissed { .. }, .. } => reachable!(self, ToldToGo),
            Output::Send { message: Message::Forward { .. }, .. } => reachable!(self, Forwarded),
            Output::Send { message: Message::Forwards { .. }, .. } => reachable!(self, ForwardedTogether),
            Output::Send { message: Message::ReadIndex(_), .. } => reachable!(self, ReadElsewhere),
            Output::Send {
                message:
                    Message::Formation(_)
                    | Message::Records(_)
                    | Message::Forwarded { .. }
                    | Message::ReadIndexAt { .. }
                    | Message::Announce { .. }
                    | Message::Notice { .. }
                    | Message::Beat(_)
                    | Message::Alterations(_)
                    | Message::Transfer(Transfer::Received { .. }),
                ..
            } => {}
            Output::Reply { reply, .. } => self.observe_reply(reply),
            Output::Event(event) => self.observe_event(node, event),
        }
    }

    fn observe_batch(&mut self, node: u64, batch: &WriteBatch) {
        if batch.compact.is_some() {
            reachable!(self, SnapshotBuilt);
        }
        if batch.snapshot.as_ref().is_some_and(|snapshot| snapshot.at != BIRTH) {
            reachable!(self, SnapshotInstalled);
        }
        if batch.entries.len() > 1 {
            reachable!(self, EntriesGrouped);
        }
        if batch.logs.iter().any(|change| matches!(change.what, What::Trim(_))) {
            reachable!(self, LogTrimmed);
        }
        let (Some(first), Some(last)) = (batch.entries.first(), batch.entries.last()) else { return };
        let end = self.ends.insert(node, last.at.index);
        if end.is_some_and(|end| first.at.index <= end) {
            reachable!(self, TailReplaced);
        }
    }

    fn observe_reply(&mut self, reply: &Reply) {
        match reply {
            Reply::Unknown => reachable!(self, FateUnknown),
            Reply::Rejected(Rejection::NotLeader { leader: Some(_), .. }) => reachable!(self, NotLeaderHint),
            Reply::Rejected(Rejection::Busy) => reachable!(self, Busy),
            Reply::Told(Ok(Answer::Produced { .. })) => reachable!(self, RecordsWritten),
            Reply::Told(Ok(Answer::Consumed { batches, .. })) if !batches.is_empty() => {
                reachable!(self, RecordsRead);
            }
            Reply::Rejected(Rejection::NotFormed) => reachable!(self, NotFormed),
            Reply::Rejected(Rejection::Unconfirmed) => reachable!(self, ReadUnconfirmed),
            Reply::Answer { .. } => reachable!(self, ReadAnswered),
            Reply::Rejected(_)
            | Reply::Done { .. }
            | Reply::Opened { .. }
            | Reply::Expired
            | Reply::Status(_)
            | Reply::Members(_)
            | Reply::HandedOver { .. }
            | Reply::Ordered { .. }
            | Reply::Metadata { .. }
            | Reply::Followed { .. }
            | Reply::Explained(_)
            | Reply::Told(_)
            | Reply::Recorded { .. }
            | Reply::Entries(_) => {}
        }
    }

    fn observe_members(&mut self, node: u64, members: &Membership) {
        let before = self.members.insert(node, members.clone()).unwrap_or_default();
        if members.is_joint() {
            reachable!(self, Joint);
        }
        if members.suspended().keys().any(|node| !before.suspended().contains_key(node)) {
            reachable!(self, Suspended);
        }
        if before.learners().iter().any(|node| members.voters().contains(node)) {
            reachable!(self, Promoted);
        }
    }

    /// Reads what the metadata of a node shows, after it has changed.
    #[expect(clippy::wildcard_enum_match_arm, reason = "few reasons mark a place")]
    pub fn observe_metadata(&mut self, metadata: &Metadata) {
        for (_, record) in metadata.nodes() {
            match (record.state, record.reason) {
                (NodeState::Fenced, FenceReason::Dead | FenceReason::Silent) => reachable!(self, NodeFenced),
                (NodeState::Fenced, FenceReason::Restarted) => reachable!(self, NodeRestarted),
                (NodeState::Active, FenceReason::Dead | FenceReason::Silent) => reachable!(self, NodeBack),
                _ => {}
            }
        }
        for partition in metadata.topics().flat_map(|(_, topic)| &topic.partitions) {
            match partition.why {
                _ if partition.leader.is_none() => reachable!(self, Leaderless),
                Why::Fenced(_) => reachable!(self, LedByAnother),
                Why::Elected => reachable!(self, LeaderReturned),
                _ => {}
            }
            if !partition.eligible.is_empty() {
                reachable!(self, EligibleKept);
            }
            if partition.reassignment.is_some() {
                reachable!(self, Moving);
            }
        }
        match metadata.plan() {
            Some(plan) if plan.is_cancelled => reachable!(self, PlanTakenBack),
            Some(_) => reachable!(self, PlanBegun),
            None => {}
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "few events mark a place")]
    fn observe_event(&mut self, node: u64, event: &Event) {
        match event {
            Event::Halted { reason: Halt::WriteFailed { .. } } => reachable!(self, WriteFailed),
            Event::FormationRefused(formation::Refusal::DiskWiped { .. }) => reachable!(self, WipedRefused),
            Event::TakenIn => reachable!(self, TakenIn),
            Event::ManySeemGone => reachable!(self, ManySeemedGone),
            Event::Halted { reason: Halt::Removed } => reachable!(self, PutOut),
            Event::Halted { reason: Halt::Outdated(_) } => reachable!(self, Outdated),
            Event::Membership(members) => self.observe_members(node, members),
            Event::Standing(standing) if standing.role == Role::Leader => {
                self.leaders.insert(node);
                reachable!(self, ElectionWon);
            }
            Event::Standing(_) if self.leaders.remove(&node) => reachable!(self, LeaderDeposed),
            _ => {}
        }
    }
}
