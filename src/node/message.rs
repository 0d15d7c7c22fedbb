//! What nodes say to each other.

use core::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::io::Reply;
use super::transfer::Transfer;
use crate::directory::Listing;
use crate::formation;
use crate::id::{BootId, LogIndex, NodeId, PeerName, Term, Token};
use crate::partition::controller::Beat;
use crate::partition::metadata::Alteration;
use crate::partition::replicas;
use crate::raft;
use crate::session::Proposal;

/// What nodes say to each other.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Message {
    /// Before there is a cluster.
    Formation(formation::Message),
    /// Consensus.
    Raft(raft::Message),
    /// A follower passes on what its caller wants. May arrive more than once.
    Forward {
        /// Repeated in the answer.
        call: CallId,
        /// The term of the leader that it is for.
        term: Term,
        /// What the caller wants.
        proposal: Proposal,
    },
    /// The answer to a `Forward`.
    Forwarded {
        /// Which one.
        call: CallId,
        /// What the caller is to be told.
        reply: Box<Reply>,
    },
    /// A snapshot on its way from a leader.
    Transfer(Transfer),
    /// From which index on may a follower serve the reads that were asked until now?
    ReadIndex(CallId),
    /// The answer to a `ReadIndex`.
    ReadIndexAt {
        /// Which one.
        call: CallId,
        /// The index; `None` if the node that was asked cannot say.
        index: Option<LogIndex>,
    },
    /// Somebody says where and what it is, and wants to be where it belongs.
    Announce {
        /// Where it is, and which disk it has.
        listing: Listing,
        /// What it has of the cluster.
        life: Life,
        /// The question that it answers.
        proves: Option<CallId>,
    },
    /// The answer to an `Announce`.
    Notice {
        /// Whose announcement; to anybody else it says nothing.
        to: NodeId,
        /// And of which disk.
        token: Token,
        /// What becomes of it.
        notice: Notice,
    },
    /// "I gossip there": said over a link to who is not held live.
    Meet {
        /// Where.
        address: SocketAddr,
    },
    /// "You were put out of the cluster."
    Dismissed {
        /// Who was.
        node: NodeId,
    },
    /// A node speaks for itself, to the leader.
    Beat(Box<Beat>),
    /// Who leads partitions says who is in sync there, to the leader.
    Alterations(Vec<Alteration>),
    /// Records of partitions, and who asks for them.
    Records(replicas::io::Message),
    /// A follower passes on what its callers want: each as in a `Forward`, and answered on its own. From feature level 2.
    Forwards {
        /// The term of the leader that it is for.
        term: Term,
        /// What is repeated in the answer, and what the caller wants.
        wanted: Vec<(CallId, Proposal)>,
    },
}

/// What a node that announces itself has of its cluster.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Life {
    /// Its part of the log.
    Member,
    /// Nothing yet.
    New,
    /// Nothing any more: its disk was damaged.
    Damaged,
}

/// What becomes of an announcement.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Notice {
    /// Ask the leader.
    Ask {
        /// Who leads.
        leader: NodeId,
        /// Where to reach it.
        address: PeerName,
    },
    /// The leader sees to it.
    Noted {
        /// From which index on a snapshot may be begun with; none before the node is a member.
        begins: Option<LogIndex>,
    },
    /// The leader would put a member out on your word: say it again, with this, so that it knows that you say it
    /// now.
    Prove(CallId),
    /// The leader does not, and this is why.
    Refused(formation::Refusal),
}

/// Names a question of one node to another, for ever.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct CallId {
    /// Who asks: an answer that reaches somebody else is none.
    pub node: NodeId,
    /// Which start of the node asks.
    pub boot: BootId,
    /// Which of its questions.
    pub number: u64,
}

/// Which stream a message travels in. Messages in one lane keep their order; a large one in one lane
/// never delays another lane.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Lane {
    /// Small and urgent: votes, heartbeats, greetings.
    Control,
    /// Entries and their acknowledgements.
    Log,
    /// Records of partitions, and who asks for them.
    Records,
    /// Snapshots, of which a part may take long.
    Snapshot,
}

impl Message {
    /// Tells which lane the message travels in.
    #[must_use]
    pub fn lane(&self) -> Lane {
        let message = match self {
            Message::Raft(message) => message,
            Message::Forward { .. }
            | Message::Forwards { .. }
            | Message::Forwarded { .. }
            | Message::Alterations(_) => {
                return Lane::Log;
            }
            Message::Records(_) => return Lane::Records,
            Message::Transfer(_) => return Lane::Snapshot,
            Message::Formation(_)
            | Message::ReadIndex(_)
            | Message::ReadIndexAt { .. }
            | Message::Announce { .. }
            | Message::Notice { .. }
            | Message::Beat(_)
            | Message::Meet { .. }
            | Message::Dismissed { .. } => return Lane::Control,
        };
        match &message.body {
            raft::Body::Append { .. }
            | raft::Body::AppendAccepted { .. }
            | raft::Body::AppendRejected { .. } => Lane::Log,
            raft::Body::Vote(_)
            | raft::Body::VoteResponse(_)
            | raft::Body::PreVote(_)
            | raft::Body::PreVoteResponse(_)
            | raft::Body::Heartbeat { .. }
            | raft::Body::HeartbeatResponse { .. }
            | raft::Body::TimeoutNow => Lane::Control,
        }
    }
}
