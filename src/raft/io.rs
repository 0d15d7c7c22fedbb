//! What goes into the Raft machine and what comes out of it.

use core::fmt;

use bytes::Bytes;
use raft::StateRole;
use serde::{Deserialize, Serialize};

use super::guard::Refusal;
use super::membership::{Change, ChangeError, Membership};
use super::message::{Entry, HardState, Message, Position, Snapshot};
use crate::id::{LogIndex, NodeId, RequestId, Term};

/// Numbers the `Ready` of raft-rs that an output belongs to; they become durable in this order.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct ReadyNumber(pub(super) u64);

#[cfg(test)]
impl ReadyNumber {
    /// Makes a number that raft-rs never gave, to test the gate by hand.
    pub(crate) fn for_tests(number: u64) -> ReadyNumber {
        ReadyNumber(number)
    }
}

/// The part that a node plays.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Role {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks whether it would win an election (Raft thesis §9.6).
    PreCandidate,
    /// Stands for election.
    Candidate,
    /// Leads its term.
    Leader,
}

impl Role {
    pub(super) fn of(state: StateRole) -> Role {
        match state {
            StateRole::Follower => Role::Follower,
            StateRole::PreCandidate => Role::PreCandidate,
            StateRole::Candidate => Role::Candidate,
            StateRole::Leader => Role::Leader,
        }
    }

    pub(super) fn to_raft(self) -> StateRole {
        match self {
            Role::Follower => StateRole::Follower,
            Role::PreCandidate => StateRole::PreCandidate,
            Role::Candidate => StateRole::Candidate,
            Role::Leader => StateRole::Leader,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Follower => "follower",
            Role::PreCandidate => "pre-candidate",
            Role::Candidate => "candidate",
            Role::Leader => "leader",
        })
    }
}

/// A command that a client wants in the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Proposal {
    /// Whose it is.
    pub id: RequestId,
    /// The command.
    pub command: Bytes,
}

/// What the machine is told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Input {
    /// A peer spoke; `from` is the holder of its certificate.
    Message {
        /// The authenticated sender.
        from: NodeId,
        /// What it said.
        message: Message,
    },
    /// Clients want these in the log, in this order.
    Propose(Vec<Proposal>),
    /// A leader's own entry, for which nobody waits. Dropped unless this node leads.
    Note(Bytes),
    /// Somebody wants the membership changed.
    Change {
        /// Who waits for it, if anybody does.
        id: Option<RequestId>,
        /// The change.
        change: Change,
    },
    /// Let this voter lead instead. Ignored unless this node leads.
    HandOver(NodeId),
    /// Lead no longer in this term. Ignored unless this node leads.
    StepDown,
    /// From which index on may reads be served that were asked until now? One round is under way at a
    /// time; its number is the caller's, and never used twice in one start.
    ReadIndex(u64),
    /// Everything up to and including this number is durable.
    Persisted(ReadyNumber),
    /// The state machine has applied everything up to and including this index.
    Applied(LogIndex),
    /// A snapshot was received, saved, and restored, and [`Raft::admit_snapshot`] has just admitted it.
    ///
    /// [`Raft::admit_snapshot`]: super::Raft::admit_snapshot
    Install {
        /// Who sent it.
        from: NodeId,
        /// In which term.
        term: Term,
        /// The snapshot.
        snapshot: Snapshot,
    },
    /// The sending of a snapshot has ended.
    SnapshotSent {
        /// To whom.
        to: NodeId,
        /// Whether it has arrived.
        arrived: bool,
    },
    /// A snapshot of this node's state is saved.
    Compact {
        /// The last entry that it contains.
        at: Position,
        /// The members at that point.
        membership: Membership,
        /// How many entries before it stay in memory.
        retained: u64,
    },
    /// A message to this node was dropped on the way out.
    Unreachable(NodeId),
}

/// What the machine asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Output {
    /// Make this durable, after all that came before it.
    Persist(Persist),
    /// Send this, once `after` (if any) is durable.
    Send {
        /// What to send; it names its addressee.
        message: Message,
        /// What must be durable first.
        after: Option<ReadyNumber>,
    },
    /// Send the latest snapshot to this follower: the entries that it lacks are gone. Say
    /// [`Input::SnapshotSent`] in any case.
    SendSnapshot {
        /// To whom.
        to: NodeId,
    },
    /// Apply these: they are committed, and durable here.
    Commit(Vec<Entry>),
    /// These proposals stand in the log, unless a later leader overwrites them.
    Appended {
        /// Where the first of them stands.
        first: Position,
        /// Whose they are, one index each; none of a change that nobody waits for.
        ids: Vec<RequestId>,
    },
    /// These proposals were never appended.
    Declined {
        /// Whose they are.
        ids: Vec<RequestId>,
        /// Why.
        reason: Decline,
    },
    /// Reads that were asked before this round began may be served by whoever has applied `index`.
    ReadAt {
        /// The number of the round.
        round: u64,
        /// The leader's commit index when it began.
        index: LogIndex,
    },
    /// This round will not be answered: the node does not lead, or no longer.
    ReadLost {
        /// The number of the round.
        round: u64,
    },
    /// The role, the term or the known leader changed.
    Standing(Standing),
    /// A change was applied; these are the members now.
    Membership(Membership),
    /// A message was dropped at the door.
    Refused {
        /// Who sent it.
        from: NodeId,
        /// Why it was dropped.
        refusal: Refusal,
    },
}

/// What one `Ready` wants on disk.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Persist {
    /// Which `Ready` it is.
    pub number: ReadyNumber,
    /// Replaces the whole log.
    pub snapshot: Option<Snapshot>,
    /// Replaces the log from the first one's index on.
    pub entries: Vec<Entry>,
    /// Term, vote and commit index, if they changed.
    pub hard_state: Option<HardState>,
    /// Whether anything may depend on it: not so if only the commit index moved.
    pub must_sync: bool,
}

/// Why a proposal was not appended. It will never take effect.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decline {
    /// This node does not lead.
    NotLeader,
    /// Too much is uncommitted, or leadership is being handed over.
    Busy,
    /// The membership cannot be changed like this.
    Change(ChangeError),
}

/// Where a node stands in the protocol.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Standing {
    /// Its role.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// The leader that it follows or is, if known.
    pub leader: Option<NodeId>,
}

/// How far a node has got. All indexes are inclusive.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Indexes {
    /// The end of the log in memory.
    pub last: LogIndex,
    /// The end of the log on disk.
    pub persisted: LogIndex,
    /// What is known to be committed.
    pub commit: LogIndex,
    /// What the state machine has executed.
    pub applied: LogIndex,
}
