//! What goes into a node and what comes out: the whole of its contact with the world.
//!
//! The output enums are exhaustive on purpose: a new variant must break every driver, because a driver
//! that ignores one is wrong. Events only inform, and may be ignored.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::StartError;
use super::features::Outdated;
use super::message::Message;
use super::status::{Members, Status};
use crate::formation;
use crate::id::{BootId, LeaderEpoch, LogIndex, NodeId, PartitionId, PeerName, ReadId, RequestId, WriteId};
use crate::partition::controller::Explanation;
use crate::partition::log::{self, Logs, Read};
use crate::partition::metadata::{self, Command, Delta, Outcome};
use crate::partition::replica::io::Batch;
use crate::partition::replicas::io::{Answer, Ask, AskError};
use crate::payload;
use crate::raft::{self, ChangeError, Entry, HardState, Position, Recovered, Refusal, Snapshot, Step};
use crate::session::Proposal;
use crate::swim;
use crate::time::WallSeconds;

/// What the node is told.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum Input {
    /// The connection to a listed address came up or went down.
    Link {
        /// The address.
        name: PeerName,
        /// What became of it.
        state: LinkState,
    },
    /// A node spoke; `from` is the holder of its certificate.
    Message {
        /// The authenticated sender.
        from: NodeId,
        /// What it said.
        message: Message,
    },
    /// A message to this node was dropped on the way out.
    Unreachable(NodeId),
    /// What the wall clock says: at the start, and every few seconds. It may step.
    WallClock(WallSeconds),
    /// Something reached the node's part in gossip.
    Gossip(swim::Input),
    /// The node is about to be stopped: say goodbye to the members, as far as
    /// [`Node::has_left`](super::Node::has_left) asks for it.
    Leave,
    /// The batch of this number is durable.
    Written(WriteId),
    /// The batch of this number may or may not be durable, and never will be known to be.
    WriteFailed {
        /// Its number.
        id: WriteId,
        /// What the disk said.
        reason: String,
    },
    /// The batches of records that [`Output::Read`] asked for.
    Read {
        /// Its number.
        id: ReadId,
        /// What is there.
        batches: Vec<Batch>,
    },
    /// They cannot be read.
    ReadFailed {
        /// The number of the read.
        id: ReadId,
        /// What the disk said.
        reason: String,
    },
    /// The state that [`Output::BuildSnapshot`] asked for, written down.
    SnapshotBuilt(#[serde(serialize_with = "payload::snapshot")] Bytes),
    /// The snapshot of the last [`Output::SaveSnapshot`] is durable.
    SnapshotSaved,
    /// It may or may not be durable.
    SnapshotFailed {
        /// What the disk said.
        reason: String,
    },
    /// Somebody wants something.
    Request {
        /// Chosen by the driver; the reply carries it.
        id: RequestId,
        /// Who asks, by certificate.
        from: Caller,
        /// What is asked.
        request: Request,
    },
}

/// What the node asks for.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum Output {
    /// Make this durable as one, then say [`Input::Written`]. The next batch comes only after that.
    Write(WriteBatch),
    /// Read this from a partition's log, then say [`Input::Read`]. All batches that were written before are there.
    Read {
        /// The number of the read.
        id: ReadId,
        /// What.
        read: Read,
    },
    /// Take [`Node::take_job`](super::Node::take_job), do it somewhere else, then say
    /// [`Input::SnapshotBuilt`].
    BuildSnapshot,
    /// Make this durable beside the batches, then say [`Input::SnapshotSaved`]. It counts only once a batch
    /// names it; the one that the last durable batch named must be kept until then.
    SaveSnapshot(Snapshot),
    /// Send this. It may be lost, repeated or overtaken; if it is known to be lost, say
    /// [`Input::Unreachable`].
    Send {
        /// To whom.
        to: Peer,
        /// What.
        message: Message,
    },
    /// Keep a connection to this address, and say [`Input::Link`] whenever it comes up or goes down. The listed
    /// [`peers`](super::Config::peers) are dialled from the start, without being asked for.
    Dial(PeerName),
    /// Give up the connection to this address.
    HangUp(PeerName),
    /// Answer a request.
    Reply {
        /// Which one.
        id: RequestId,
        /// The answer.
        reply: Reply,
    },
    /// Do this for the node's part in gossip. It is never an event of it; those come as [`Event::Gossip`].
    Gossip(swim::Output),
    /// Something happened that an operator or an embedder may want to know.
    Event(Event),
}

/// Whom a message is for.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Peer {
    /// A node.
    Node(NodeId),
    /// Whoever answers at this listed address.
    Address(PeerName),
}

/// What became of the connection to a listed address.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum LinkState {
    /// Connected; the certificate names this node.
    Up {
        /// Who answers there.
        node: NodeId,
    },
    /// Not connected.
    Down {
        /// Why, in words.
        reason: String,
    },
}

/// Who asks, by certificate.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Caller {
    /// A node of the cluster.
    Node(NodeId),
    /// An application.
    Client,
    /// A human with more rights.
    Operator,
}

/// What can be asked of a node.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Request {
    /// Put this into the log, and answer when it has been applied. A follower passes it on if it may be sent again (it
    /// comes in a session, opens one, or is for the metadata), and else names the leader. What of the metadata a client
    /// may change is topics; an operator may also change nodes and plans.
    Propose(Proposal),
    /// Ask the state machine, after everything that was acknowledged before (Herlihy and Wing 1990).
    /// Any node answers.
    Query {
        /// The query.
        #[serde(serialize_with = "payload::plain")]
        query: Bytes,
    },
    /// Ask this node's state machine, however far behind it is.
    QueryStale {
        /// The query.
        #[serde(serialize_with = "payload::plain")]
        query: Bytes,
    },
    /// How is this node?
    Status,
    /// Which committed entries does this node have? Not for clients.
    Entries {
        /// The first index wanted.
        from: LogIndex,
        /// The most entries wanted.
        limit: u32,
    },
    /// Who belongs to the cluster?
    Members,
    /// Add a node as a learner. Its disk must be empty, or still become so. For operators.
    AddMember {
        /// Its id; never used before.
        node: NodeId,
        /// Where others reach it.
        address: PeerName,
        /// Whether it is to decide as soon as it has caught up.
        votes: bool,
    },
    /// Promote, demote or remove members, all at once; answered when it is committed. For operators; a node
    /// may remove itself.
    ChangeMembers(Vec<Step>),
    /// Let another voter lead: this one, or the one that has most of the log. For operators.
    HandOver {
        /// Who is to lead.
        to: Option<NodeId>,
    },
    /// All of the metadata, with everything that was acknowledged before. Any node answers.
    Metadata,
    /// The commands to the metadata after this index: at once if there are any, else as soon as there are, or in vain
    /// after five seconds. Any node answers.
    FollowMetadata {
        /// What the caller has.
        after: LogIndex,
    },
    /// What a producer or a consumer wants of a partition. Its leader answers.
    Ask {
        /// Which partition.
        partition: PartitionId,
        /// In which epoch the node that is asked leads, as far as the caller knows; `None` if it does not care.
        epoch: Option<LeaderEpoch>,
        /// What.
        ask: Ask,
    },
    /// What does the controller make of a node, and why? The leader answers.
    Explain {
        /// Which one.
        node: NodeId,
    },
    /// Write down what this node was told last (see [`crate::flight`]). Not for clients. Whoever drives the node
    /// answers, if it records it.
    Record,
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Reply {
    /// The command was committed and applied, once.
    Done {
        /// Where it stands.
        at: Position,
        /// What the state machine answered.
        #[serde(serialize_with = "payload::plain")]
        answer: Bytes,
    },
    /// The command was never appended and never will be; it may be tried again.
    Rejected(Rejection),
    /// The command may or may not take effect. Trying it again may execute it twice, unless it is in a
    /// session.
    Unknown,
    /// A session was opened.
    Opened {
        /// Its id.
        session: LogIndex,
    },
    /// The command's session has ended, or its client has said that it has the answer. This attempt was
    /// not executed; an earlier one may have been.
    Expired,
    /// What the state machine answered to a query.
    Answer {
        /// How far this node had applied the log.
        applied: LogIndex,
        /// The answer.
        #[serde(serialize_with = "payload::plain")]
        answer: Bytes,
    },
    /// How this node is.
    Status(Box<Status>),
    /// Committed entries, without a gap; fewer than asked for if there are no more yet.
    Entries(Vec<Entry>),
    /// The members.
    Members(Box<Members>),
    /// This node does not lead any more.
    HandedOver {
        /// Who does, if known already.
        leader: Option<NodeId>,
    },
    /// The command to the metadata was committed and executed, or refused.
    Ordered {
        /// Where it stands.
        at: Position,
        /// What it led to.
        answer: Box<Result<Outcome, metadata::Refusal>>,
    },
    /// The metadata.
    Metadata {
        /// Up to where.
        applied: LogIndex,
        /// Its state; [`Metadata`](crate::partition::metadata::Metadata) is read from it.
        state: Bytes,
    },
    /// Commands to the metadata, in order; those that were refused are left out.
    Followed {
        /// There are no others up to this index.
        applied: LogIndex,
        /// Each, and where it stands.
        commands: Vec<(LogIndex, Command)>,
    },
    /// What the controller makes of a node.
    Explained(Box<Explanation>),
    /// What a producer or a consumer wanted, or why it does not get it.
    Told(Result<Answer, AskError>),
    /// What the node was told last is written down.
    Recorded {
        /// Where, at the node.
        path: String,
        /// How many steps.
        steps: u64,
        /// The length of the file in bytes.
        bytes: u64,
    },
}

/// Why a request was not carried out. Nothing was changed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// Ask the leader.
    #[error("this node does not lead{}", leader_hint(.leader, .address))]
    NotLeader {
        /// Who leads, if known.
        leader: Option<NodeId>,
        /// Where to reach it, if known.
        address: Option<PeerName>,
    },
    /// Try again in a moment.
    #[error("the node has as many commands under way as it may")]
    Busy,
    /// Send a smaller command.
    #[error("a command of {length} bytes is larger than the limit of {limit}")]
    TooLarge {
        /// Its length in bytes.
        length: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Send a command.
    #[error("an empty command means nothing")]
    Empty,
    /// Wait until the cluster has formed.
    #[error("the cluster has not formed yet")]
    NotFormed,
    /// Ask another node; this one needs an operator.
    #[error("this node has halted")]
    Halted,
    /// No majority has confirmed in time what is committed, so nothing was read. Try again.
    #[error("no majority has confirmed the read in time")]
    Unconfirmed,
    /// Ask with an operator's certificate.
    #[error("this certificate does not allow that; use an operator's")]
    Forbidden,
    /// The membership cannot be changed like this.
    #[error("{0}")]
    Change(#[from] ChangeError),
    /// Repair or start members first: with those that are up the cluster could not go on.
    #[error("the members that are up are no majority before or after the change")]
    NoMajority,
    /// Wait until the learner has most of the log; a voter without it costs availability.
    #[error("node {0} has not caught up with the log yet")]
    NotCaughtUp(NodeId),
    /// The leader hands over to another voter first; try again in a moment.
    #[error("the node that is to go leads, and hands over first")]
    HandingOver,
    /// No other voter is up.
    #[error("no other voter is up that could lead")]
    NoSuccessor,
    /// The other voter did not take over in time; this node leads on.
    #[error("the other voter did not take over in time")]
    StillLeads,
    /// Fetch the metadata anew.
    #[error("so old commands are not kept: fetch the metadata anew")]
    Forgotten,
    /// Configure partitioning.
    #[error("this node takes no part in partitioning: its file has no section for it")]
    NoPartitions,
    /// Wait until that node has registered, or remove it: nobody can say whether it understands the new level.
    #[error("node {0} is a member and has not said which features it understands")]
    Unregistered(NodeId),
    /// Let the node be recorded, or make room where it is written.
    #[error("nothing was written down: {0}")]
    NotRecorded(String),
}

fn leader_hint(leader: &Option<NodeId>, address: &Option<PeerName>) -> String {
    match (leader, address) {
        (Some(leader), Some(address)) => format!("; node {leader} at {address} does"),
        (Some(leader), None) => format!("; node {leader} does"),
        (None, _) => ", and knows no leader".to_owned(),
    }
}

impl Reply {
    /// About how many bytes of somebody's content it carries; the rest is short, or is not counted.
    #[must_use]
    pub fn bulk(&self) -> usize {
        match self {
            Reply::Done { answer, .. } | Reply::Answer { answer, .. } => answer.len(),
            Reply::Metadata { state, .. } => state.len(),
            Reply::Entries(entries) => entries.iter().map(Entry::length).sum(),
            Reply::Told(Ok(Answer::Consumed { batches, .. })) => {
                batches.iter().map(|batch| batch.records.len()).sum()
            }
            Reply::Status(status) => {
                let members = status.gossip.as_ref().map_or(0, |gossip| gossip.members.len());
                members.saturating_mul(MEMBER_BYTES)
            }
            Reply::Told(_)
            | Reply::Rejected(_)
            | Reply::Unknown
            | Reply::Opened { .. }
            | Reply::Expired
            | Reply::Ordered { .. }
            | Reply::Followed { .. }
            | Reply::Explained(_)
            | Reply::Members(_)
            | Reply::HandedOver { .. }
            | Reply::Recorded { .. } => 0,
        }
    }
}

/// About so many bytes say how a member is.
const MEMBER_BYTES: usize = 64;

/// Everything that must become durable together, in one atomic step.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct WriteBatch {
    /// Its number: one more than the batch before.
    pub id: WriteId,
    /// The number of this start of the node.
    pub boot: Option<BootId>,
    /// How far the node has come in forming its cluster.
    pub standing: Option<formation::Standing>,
    /// Replaces the whole log, and comes before `entries`.
    pub snapshot: Option<Snapshot>,
    /// Replaces the log up to its place; comes after `snapshot` and before `entries`. Both were saved
    /// before, except for a cluster's birth.
    pub compact: Option<Snapshot>,
    /// Replaces the log from the first one's index on.
    pub entries: Vec<Entry>,
    /// Term, vote and commit index.
    pub hard_state: Option<HardState>,
    /// What becomes of the logs of partitions, in this order.
    pub logs: Vec<log::Change>,
}

/// Everything that was durable when the node last stopped. The default is an empty disk.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Durable {
    /// How often the node was started.
    pub boot: BootId,
    /// How far it has come in forming its cluster.
    pub standing: formation::Standing,
    /// The last snapshot, if the cluster has formed.
    pub snapshot: Option<Snapshot>,
    /// The entries after the snapshot.
    pub entries: Vec<Entry>,
    /// Term, vote and commit index.
    pub hard_state: HardState,
    /// The logs of partitions; the records themselves are read later.
    pub logs: Logs<()>,
}

impl Durable {
    /// Tells whether a correct node can have left this behind.
    ///
    /// # Errors
    ///
    /// What contradicts what: the disk has lost or changed what was synced to it.
    pub fn check(&self, node: NodeId) -> Result<(), StartError> {
        if self.standing.cluster().is_none() {
            return Ok(());
        }
        let snapshot = self.snapshot.clone().ok_or(StartError::SnapshotMissing)?;
        let (hard_state, entries) = (self.hard_state, self.entries.clone());
        Ok(Recovered { snapshot, hard_state, entries }.check(node)?)
    }
}

/// Something that happened.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub enum Event {
    /// The cluster exists; it has these voters.
    Formed {
        /// Ascending.
        voters: Vec<NodeId>,
    },
    /// The cluster cannot form as things are; somebody must repair a file.
    FormationRefused(formation::Refusal),
    /// The node's part in consensus changed.
    Standing(raft::Standing),
    /// The members changed.
    Membership(raft::Membership),
    /// The cluster has taken this node in.
    TakenIn,
    /// What gossip says. It is a hint: nothing is decided by it.
    Gossip(swim::Event),
    /// A peer said what no correct peer can say: a promise has been broken somewhere.
    Alarm {
        /// Who said it.
        from: NodeId,
        /// What is wrong.
        refusal: Refusal,
    },
    /// The leader's snapshot is not one of this state machine: do all nodes run the same program?
    SnapshotUnreadable {
        /// What is wrong with it.
        #[serde(serialize_with = "payload::text")]
        reason: String,
    },
    /// The node has stopped for good; start it again once the cause is repaired.
    Halted {
        /// Why.
        reason: Halt,
    },
    /// The metadata changed.
    Metadata {
        /// By the command at this index.
        at: LogIndex,
        /// What of it; empty if all of it was replaced, by a snapshot up to that index.
        deltas: Vec<Delta>,
    },
    /// So many nodes seem gone that it may be this leader which is cut off: they are fenced one at a time.
    ManySeemGone,
}

/// Why a node stopped. What was durable is untouched.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
#[non_exhaustive]
pub enum Halt {
    /// The cluster goes on without this node, for good. Its id is never used again.
    #[error("this node was removed from its cluster; its id must not be used again")]
    Removed,
    /// The cluster uses what this version does not understand.
    #[error(transparent)]
    Outdated(#[from] Outdated),
    /// A snapshot could not be saved. Repair the disk, then start the node again.
    #[error("a snapshot could not be saved: {reason}")]
    SnapshotFailed {
        /// What the disk said.
        reason: String,
    },
    /// Records that were written cannot be read. Repair the disk, or restore the folder, then start the node again.
    #[error("records that were written cannot be read: {reason}")]
    ReadFailed {
        /// What the disk said.
        reason: String,
    },
    /// The disk failed. Repair it, then start the node again: it re-reads what is durable.
    #[error("write {id} failed, and a failed sync is never retried: {reason}")]
    WriteFailed {
        /// The number of the batch.
        id: WriteId,
        /// What the disk said.
        reason: String,
    },
}
