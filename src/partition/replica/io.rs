//! What replicas say to each other, and what a replica wants done.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::{LeaderEpoch, NodeEpoch, NodeId, Offset, PartitionEpoch, ProducerId, RequestId};
use crate::partition::metadata::Alteration;
use crate::payload;
use crate::time::WallSeconds;

/// Records of one leader epoch, next to each other in the log.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Batch {
    /// The place of the first one.
    pub first: Offset,
    /// Of the leader that wrote them.
    pub epoch: LeaderEpoch,
    /// How many there are, from 1.
    pub count: u32,
    /// Whose they are, if their producer wants to be known again.
    pub stamp: Option<Stamp>,
    /// When that leader wrote them, by its clock.
    pub time: WallSeconds,
    /// The records themselves, which nothing here looks at.
    #[serde(serialize_with = "payload::records")]
    pub records: Bytes,
}

/// Names a batch for ever: whoever sends it again, to whomever, sends the same stamp with it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Stamp {
    /// Who produced it.
    pub producer: ProducerId,
    /// How many records it had produced for the partition before.
    pub sequence: u64,
}

impl Batch {
    /// The place after the last one.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.first.plus(self.count.into())
    }
}

/// A follower asks for what comes next.
///
/// It says by that what it has: everything before `at` is on its disk.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Fetch {
    /// The session in which it asks: what an earlier process of it had may be gone.
    pub session: NodeEpoch,
    /// Whom it follows, as of when.
    pub leader_epoch: LeaderEpoch,
    /// Where its log ends.
    pub at: Offset,
    /// The epoch of its last record, if it has one.
    pub last_epoch: Option<LeaderEpoch>,
    /// What it knows to be committed, and where its log begins: it is answered if more is by now (KIP-1166).
    pub knows: (Offset, Offset),
}

/// What a leader answers.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Fetched {
    /// What was asked: an answer counts only where the log still ends as it did then.
    pub fetch: Fetch,
    /// The answer.
    pub answer: Answer,
}

/// What a follower is told.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub enum Answer {
    /// Its log is a part of the leader's. What comes next goes with this, if there is anything.
    Matches {
        /// What is committed at the leader.
        high_watermark: Offset,
        /// Where the leader's log begins.
        start: Offset,
    },
    /// Its log is none: of the last epoch that both may have, the leader's records end here (KIP-101, KIP-595).
    Diverges {
        /// Which epoch.
        epoch: LeaderEpoch,
        /// Where it ends.
        end: Offset,
    },
    /// The leader has nothing there that the follower's log could be compared with: it begins later, or ends before that,
    /// or has no epoch so early left. The log begins anew.
    OutOfRange {
        /// Where the leader's log begins.
        start: Offset,
    },
    /// There is no answer.
    Refused(FetchRefusal),
}

/// Why a fetch has no answer. Nothing was changed; the follower asks again when it knows more.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize, thiserror::Error)]
#[non_exhaustive]
pub enum FetchRefusal {
    /// Look at the metadata again.
    #[error("this node does not lead the partition")]
    NotLeader,
    /// The follower has not heard yet of what the leader knows.
    #[error("the leader's epoch is {current}")]
    EpochFenced {
        /// It leads since then.
        current: LeaderEpoch,
    },
    /// The leader has not heard yet of what the follower knows. Ask again soon.
    #[error("the leader's epoch is {current} so far")]
    EpochUnknown {
        /// It leads since then.
        current: LeaderEpoch,
    },
    /// The leader has not heard yet that the follower has a replica. Ask again soon.
    #[error("the leader knows of no replica there")]
    ReplicaUnknown,
    /// It is the fetch of an earlier process.
    #[error("that session has ended")]
    SessionEnded,
}

/// When a producer is answered.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub enum Acks {
    /// Never.
    None,
    /// When the leader has it on its disk. It is lost if the leader is.
    Leader,
    /// When every replica in sync has it on its disk.
    All,
}

/// Why a producer's records were not acknowledged.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize, thiserror::Error)]
#[non_exhaustive]
pub enum ProduceError {
    /// Nothing was written: send it to the leader.
    #[error("node {leader:?} leads the partition, with epoch {epoch}")]
    NotLeader {
        /// Who leads, if anybody.
        leader: Option<NodeId>,
        /// Since when.
        epoch: LeaderEpoch,
    },
    /// Nothing was written: try again when more replicas are in sync.
    #[error("{in_sync} replicas are in sync, and {min_in_sync} are needed")]
    NotEnoughReplicas {
        /// How many are.
        in_sync: usize,
        /// How many have to be.
        min_in_sync: usize,
    },
    /// It was written here, and may be committed or not: another one leads now.
    #[error("node {leader:?} leads the partition now; the records may be committed, or not")]
    Deposed {
        /// Who leads, if anybody.
        leader: Option<NodeId>,
        /// Since when.
        epoch: LeaderEpoch,
    },
    /// It was written here, and too few replicas are in sync now; it may be committed later, or not.
    #[error("too few replicas are in sync now; the records may be committed, or not")]
    NotEnoughReplicasAfterAppend,
    /// It was written here, and may be committed later, or not.
    #[error("not within the time; the records may be committed, or not")]
    TimedOut,
}

/// What a consumer cannot be told yet.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
#[non_exhaustive]
pub enum OffsetError {
    /// Ask the leader.
    #[error("this node does not lead the partition")]
    NotLeader,
    /// The leader is new, and does not know yet what is committed. Ask again soon.
    #[error("the leader does not know yet where the committed records end")]
    NotAvailable,
}

/// What a replica wants done, in this order.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub enum Effect {
    /// These records come at the end of the log.
    Append(Batch),
    /// What is in the log from there on is dropped.
    Truncate(Offset),
    /// What is in the log before that is not needed.
    Trim(Offset),
    /// All of the log is dropped; it begins anew there.
    Restart(Offset),
    /// The controller is told who is in sync. It is answered by the log, or by [`Replica::refused`].
    ///
    /// [`Replica::refused`]: super::Replica::refused
    Propose(Alteration),
    /// A producer is answered: with the place of its first record.
    Reply {
        /// Whose request it was.
        request: RequestId,
        /// What came of it.
        result: Result<Offset, ProduceError>,
    },
    /// More is committed, so that consumers may read it.
    Committed(Offset),
    /// The node has no replica of this partition any more, as of that record: the log can be deleted.
    Removed(PartitionEpoch),
}
