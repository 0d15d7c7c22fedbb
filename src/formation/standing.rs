//! How far a node has come in becoming part of a cluster, and who founds one.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::id::{NodeId, Token};

/// The founding members of a cluster: not empty, ascending, without duplicates.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "Vec<NodeId>", into = "Vec<NodeId>")]
pub struct VoterSet(Vec<NodeId>);

impl VoterSet {
    /// Makes a voter set; `None` if there are no voters.
    #[must_use]
    pub fn new(voters: BTreeSet<NodeId>) -> Option<VoterSet> {
        if voters.is_empty() { None } else { Some(VoterSet(voters.into_iter().collect())) }
    }

    /// Tells whether `node` is one of the voters.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.0.binary_search(&node).is_ok()
    }

    /// Lists the voters, ascending.
    #[must_use]
    pub fn voters(&self) -> &[NodeId] {
        &self.0
    }
}

impl TryFrom<Vec<NodeId>> for VoterSet {
    type Error = &'static str;

    fn try_from(voters: Vec<NodeId>) -> Result<VoterSet, &'static str> {
        let ascending = voters.windows(2).all(|pair| pair[0] < pair[1]);
        if voters.is_empty() || !ascending {
            return Err("a voter set is ascending and not empty");
        }
        Ok(VoterSet(voters))
    }
}

impl From<VoterSet> for Vec<NodeId> {
    fn from(set: VoterSet) -> Vec<NodeId> {
        set.0
    }
}

impl core::fmt::Display for VoterSet {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let voters: Vec<String> = self.0.iter().map(NodeId::to_string).collect();
        write!(f, "{{{}}}", voters.join(", "))
    }
}

/// How far a node has come. Durable before it is told to anybody.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Standing {
    /// It belongs to no cluster, and never promised to.
    #[default]
    Fresh,
    /// It will belong to this cluster or to none.
    Pledged(VoterSet),
    /// It belongs to this cluster, and founded it.
    Formed(VoterSet),
    /// It asks the cluster of these founders to take it in.
    Joining {
        /// The founders.
        cluster: VoterSet,
        /// Which disk asks.
        token: Token,
        /// Whether it was a member before its disk was damaged.
        repairs: bool,
    },
    /// It belongs to the cluster of these founders, which took it in.
    Joined {
        /// The founders.
        cluster: VoterSet,
        /// Which disk was taken in.
        token: Token,
    },
    /// Its disk was damaged, and it has forgotten what it promised. It may only be taken in again.
    Damaged,
    /// Its cluster has put it out, for good.
    Removed,
}

impl Standing {
    /// The founders of the cluster that it belongs to, if it does.
    #[must_use]
    pub fn cluster(&self) -> Option<&VoterSet> {
        match self {
            Standing::Formed(cluster) | Standing::Joined { cluster, .. } => Some(cluster),
            Standing::Fresh
            | Standing::Pledged(_)
            | Standing::Joining { .. }
            | Standing::Damaged
            | Standing::Removed => None,
        }
    }
}
