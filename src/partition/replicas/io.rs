//! What reaches the replicas of a node, and what they want done.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{LeaderEpoch, NodeId, Offset, PartitionId, PeerName, ReadId, RequestId};
use crate::partition::log::{Change, Read};
use crate::partition::metadata::Alteration;
use crate::partition::records::RecordsError;
use crate::partition::replica::io::{Acks, Batch, Fetch, Fetched, OffsetError, ProduceError, Stamp};
use crate::payload;

/// What replicas say to each other.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Message {
    /// A follower asks a leader, of all partitions of which it has something new to say.
    Fetch(Vec<(PartitionId, Fetch)>),
    /// The leader answers, of those of which it has something new to say.
    Fetched(Vec<Delivery>),
}

/// The answer to one fetch.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Delivery {
    /// Of which partition.
    pub partition: PartitionId,
    /// The answer.
    pub fetched: Fetched,
    /// What comes next in the log.
    pub records: Vec<Batch>,
}

/// What a producer or a consumer wants. Leaders answer.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Ask {
    /// Write this.
    Produce(Produce),
    /// Give me what is committed.
    Consume(Consume),
    /// Where does the log begin, and where does what is committed end?
    Offsets,
}

/// Records to write.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Produce {
    /// When it is answered.
    pub acks: Acks,
    /// How long it may take, from now.
    pub timeout: Duration,
    /// How many records there are, from 1.
    pub count: u32,
    /// Whose they are. Only with [`Acks::All`]: what may be lost cannot be counted.
    pub stamp: Option<Stamp>,
    /// The [records](crate::partition::records).
    #[serde(serialize_with = "payload::records")]
    pub records: bytes::Bytes,
}

/// What a consumer wants.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Consume {
    /// From here on. The first batch may begin before that.
    pub from: Offset,
    /// So many bytes are enough.
    pub bytes: u32,
    /// How long to wait for news if there is none.
    pub wait: Duration,
    /// Whether a follower may answer, too: it may be behind, and never says what is not committed.
    pub from_anybody: bool,
}

/// What a producer or a consumer is told.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Answer {
    /// The records are written; the first of them here. Without a place, nobody has waited for that.
    Produced {
        /// The place of the first one.
        first: Option<Offset>,
    },
    /// What is committed.
    Consumed {
        /// Without a gap; none if there was no news.
        batches: Vec<Batch>,
        /// What is before that is committed.
        high_watermark: Offset,
    },
    /// Where the log begins, and where what is committed ends.
    Offsets {
        /// The place of the first record.
        start: Offset,
        /// The place after the last one that is committed.
        high_watermark: Offset,
        /// The place after the last one that the leader has.
        end: Offset,
        /// Up to where each follower has it, as far as the leader has heard.
        followers: Vec<(NodeId, Offset)>,
    },
}

/// Why a producer or a consumer does not get what it wants.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// Nothing was written: ask the leader.
    #[error("this node does not lead the partition{}", hint(.leader, .address))]
    NotLeader {
        /// Who leads, if anybody.
        leader: Option<NodeId>,
        /// Where to reach it, if known.
        address: Option<PeerName>,
        /// Since when.
        epoch: LeaderEpoch,
    },
    /// Nothing was written: there is no such partition, or this node has not heard of it yet.
    #[error("there is no partition {} of topic {}", .0.number, .0.topic)]
    PartitionUnknown(PartitionId),
    /// Nothing was written: try again when more replicas are in sync.
    #[error("{in_sync} replicas are in sync, and {min_in_sync} are needed")]
    NotEnoughReplicas {
        /// How many are.
        in_sync: usize,
        /// How many have to be.
        min_in_sync: usize,
    },
    /// It was written, and too few replicas are in sync now. It may be committed later, or not: send it again with the same
    /// stamp.
    #[error("too few replicas are in sync now; the records may be committed, or not")]
    NotEnoughReplicasAfterAppend,
    /// It was written, and another one leads now. It may be committed, or not: send it again with the same stamp.
    #[error("the leader has changed; the records may be committed, or not")]
    Deposed,
    /// It was written, and may be committed later, or not: send it again with the same stamp.
    #[error("not within the time; the records may be committed, or not")]
    TimedOut,
    /// Nothing was written: what the producer has sent before is missing.
    #[error("a batch is missing before this one: number {expected} comes next")]
    OutOfSequence {
        /// How many of its records the log has.
        expected: u64,
    },
    /// Nothing was written: a producer counts only what every replica has.
    #[error("a batch with a stamp is written to every replica, or not at all: ask for all acknowledgements")]
    StampWithoutAll,
    /// Nothing was written: send smaller batches.
    #[error("a batch of {length} bytes is larger than the limit of {limit}")]
    TooLarge {
        /// Its length in bytes.
        length: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Nothing was written: the bytes are no records.
    #[error("{0}")]
    Malformed(#[from] RecordsError),
    /// Nothing was written: try again in a moment.
    #[error("the node has as many records under way as it may")]
    Busy,
    /// Begin somewhere else: what was there is gone, or nothing is there yet.
    #[error("the log has the records from {start} to {end}")]
    OutOfRange {
        /// The first one.
        start: Offset,
        /// The place after the last one that is committed.
        end: Offset,
    },
    /// The leader is new, and does not know yet what is committed. Ask again soon.
    #[error("the leader does not know yet where the committed records end")]
    NotAvailable,
    /// Nothing was done: whoever asks has not heard who leads since then. Look at the metadata again.
    #[error("the partition is led in epoch {current} by now")]
    EpochFenced {
        /// The leader's epoch.
        current: LeaderEpoch,
    },
    /// Nothing was done: this node has not heard yet what whoever asks has. Ask again soon.
    #[error("the partition is led in epoch {current}, as far as this node knows")]
    EpochUnknown {
        /// The leader's epoch.
        current: LeaderEpoch,
    },
}

impl AskError {
    /// Whether the records may be in the log in spite of it.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        matches!(self, AskError::NotEnoughReplicasAfterAppend | AskError::Deposed | AskError::TimedOut)
    }
}

impl From<ProduceError> for AskError {
    fn from(error: ProduceError) -> AskError {
        match error {
            ProduceError::NotLeader { leader, epoch } => AskError::NotLeader { leader, address: None, epoch },
            ProduceError::NotEnoughReplicas { in_sync, min_in_sync } => {
                AskError::NotEnoughReplicas { in_sync, min_in_sync }
            }
            ProduceError::Deposed { .. } => AskError::Deposed,
            ProduceError::NotEnoughReplicasAfterAppend => AskError::NotEnoughReplicasAfterAppend,
            ProduceError::TimedOut => AskError::TimedOut,
        }
    }
}

/// What a consumer is told where a replica does not say what is committed.
pub(super) fn offset_error(error: OffsetError, leader: Option<NodeId>, epoch: LeaderEpoch) -> AskError {
    match error {
        OffsetError::NotLeader => AskError::NotLeader { leader, address: None, epoch },
        OffsetError::NotAvailable => AskError::NotAvailable,
    }
}

fn hint(leader: &Option<NodeId>, address: &Option<PeerName>) -> String {
    match (leader, address) {
        (Some(leader), Some(address)) => format!("; node {leader} at {address} does"),
        (Some(leader), None) => format!("; node {leader} does"),
        (None, _) => ", and nobody does".to_owned(),
    }
}

/// What the replicas want done.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Output {
    /// Make this durable, with all others before the batch is closed.
    Change(Change),
    /// Say this to a node. It may be lost.
    Send {
        /// Which one.
        to: NodeId,
        /// What.
        message: Message,
    },
    /// Tell the controller who is in sync.
    Propose(Vec<Alteration>),
    /// Answer a producer or a consumer.
    Reply {
        /// Whose request it was.
        request: RequestId,
        /// The answer.
        answer: Result<Answer, AskError>,
    },
    /// Read this from the disk.
    Read {
        /// Which read it is.
        id: ReadId,
        /// What is read.
        read: Read,
    },
}
