//! What a node tells of itself and of its cluster.

use core::net::SocketAddr;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::io::{Halt, LinkState};
use super::stats::Stats;
use crate::formation;
use crate::id::{BootId, LogIndex, NodeId, PeerName, Term};
use crate::raft::{self, Indexes};
use crate::swim;

/// How a node is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Status {
    /// Its id.
    pub node: NodeId,
    /// Where others reach it.
    pub address: PeerName,
    /// How often it was started on this data folder.
    pub boot: BootId,
    /// How far it has come in forming its cluster.
    pub formation: formation::Standing,
    /// What stands in the way of that, if anything does.
    pub refusal: Option<formation::Refusal>,
    /// Its part in consensus, once the cluster has formed.
    pub raft: Option<RaftStatus>,
    /// Its listed peers.
    pub peers: Vec<PeerStatus>,
    /// Its part in gossip, once that has begun.
    pub gossip: Option<GossipStatus>,
    /// What it has counted since it started.
    pub stats: Stats,
    /// Why it stopped, if it did.
    pub halted: Option<Halt>,
}

/// The members of a cluster.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Members {
    /// Who leads, if known.
    pub leader: Option<NodeId>,
    /// Whether a change of several voters is under way.
    pub is_joint: bool,
    /// The members, ascending.
    pub members: Vec<MemberStatus>,
    /// Members with damaged disks, which are about to be taken in again.
    pub suspended: Vec<NodeId>,
    /// Ids that are never used again.
    pub removed: Vec<NodeId>,
}

/// One member.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct MemberStatus {
    /// Its id.
    pub node: NodeId,
    /// What part it has.
    pub part: Part,
    /// Where it is reached, if known.
    pub address: Option<PeerName>,
    /// What it holds of the log, if the leader is asked.
    pub matched: Option<LogIndex>,
    /// How long it has said nothing, if the leader is asked.
    pub silent: Option<Duration>,
}

/// What part a member has.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Part {
    /// It decides.
    Voter,
    /// It is sent the log.
    Learner,
    /// It decides until the change under way is done.
    Outgoing,
}

/// A node's part in consensus.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RaftStatus {
    /// Its role.
    pub role: raft::Role,
    /// Its term.
    pub term: Term,
    /// The leader that it follows or is, if known.
    pub leader: Option<NodeId>,
    /// How far it has got.
    pub indexes: Indexes,
    /// The voters, ascending.
    pub voters: Vec<NodeId>,
    /// The learners, ascending.
    pub learners: Vec<NodeId>,
}

/// A listed peer, as this node sees it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PeerStatus {
    /// The address in the list.
    pub name: PeerName,
    /// Who answered there last.
    pub node: Option<NodeId>,
    /// Whether it is connected, or why not.
    pub state: LinkState,
}

/// Who is there, as this node has it by gossip.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct GossipStatus {
    /// Where this node is in its life as a member.
    pub lifecycle: swim::Lifecycle,
    /// How slow it finds itself, from 0 (healthy) to 7 (Lifeguard §4.1).
    pub health: u32,
    /// How many members it remembers, the dead and itself included.
    pub total: usize,
    /// These members, by ascending id; at most 1024.
    pub members: Vec<GossipMember>,
}

/// A member, as this node has it by gossip.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct GossipMember {
    /// Its id.
    pub node: NodeId,
    /// Where it gossips.
    pub address: SocketAddr,
    /// What it is held to be.
    pub state: swim::State,
    /// As of which epoch.
    pub epoch: swim::Epoch,
    /// For how long, in whole seconds.
    pub since: Duration,
}
