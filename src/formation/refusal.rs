//! What stands in the way of becoming part of a cluster, and what to do about it.

use serde::{Deserialize, Serialize};

use super::standing::VoterSet;
use crate::id::{NodeId, PeerName};

/// Why a node cannot become part of a cluster as things are. It keeps trying: an operator can repair
/// the other side while this one runs, but this side needs a restart with what is right.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Two of the listed addresses lead to the same node; list each peer once.
    #[error("the peers {first} and {second} are the same node, {node}: list each peer once")]
    SamePeerTwice {
        /// One address.
        first: PeerName,
        /// The other.
        second: PeerName,
        /// The node that answers at both.
        node: NodeId,
    },
    /// One of the listed addresses is our own; list the other nodes only.
    #[error("the peer {name} is this node itself, {node}: list the other nodes only")]
    PeerIsSelf {
        /// The address.
        name: PeerName,
        /// This node.
        node: NodeId,
    },
    /// A peer's file lists other nodes than ours.
    #[error(
        "node {peer} would form a cluster of the voters {theirs}, this node one of {ours}: make the lists of peers the same on all nodes"
    )]
    OtherVoters {
        /// Who disagrees.
        peer: NodeId,
        /// What it pledged or formed.
        theirs: VoterSet,
        /// What this node's file says.
        ours: VoterSet,
    },
    /// The list of peers changed after the pledge; put it back, or empty the data folder.
    #[error(
        "this node pledged itself to the voters {pledged}, but its peers are now {found}: restore the list of peers, or start with an empty data folder"
    )]
    PledgedToOthers {
        /// The durable pledge.
        pledged: VoterSet,
        /// What the list of peers gives now.
        found: VoterSet,
    },
    /// This node's disk was emptied. Under its old id it could break promises that it has forgotten.
    #[error(
        "node {peer} belongs to a cluster that was formed by {theirs}, this node among them, but this node's data folder is empty: if it is a member still, restore the folder; if it was removed, or the folder is lost, give it a new id, with a certificate for that"
    )]
    DiskWiped {
        /// Who says so.
        peer: NodeId,
        /// The cluster.
        theirs: VoterSet,
    },
    /// The cluster took in a node of this id with another disk. Under its old id it could break promises that
    /// it has forgotten.
    #[error(
        "node {peer} says that its cluster took in a node of this id with another data folder: restore that folder, or give the node a new id"
    )]
    OtherDisk {
        /// Who says so.
        peer: NodeId,
    },
    /// An id is never used again.
    #[error(
        "node {peer} says that this node was removed from its cluster: give it a new id and an empty data folder"
    )]
    WasRemoved {
        /// Who says so.
        peer: NodeId,
    },
    /// The cluster has as many members as it may.
    #[error("node {peer} says that its cluster takes in nobody: {reason}")]
    NotTakenIn {
        /// Who says so.
        peer: NodeId,
        /// Why.
        reason: String,
    },
    /// Nobody is there who could repair it.
    #[error(
        "this node's disk was damaged; what was on it is set aside, and the node waits for a member of its cluster to take it in again: if none is left, restore the data folder"
    )]
    Damaged,
}
