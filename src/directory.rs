//! Where each member is reached, and which of its lives it is: a part of the replicated state.
//!
//! A new node knows one address, and every member must be able to reach it and to be reached by it. So the
//! addresses are in the log, like the members themselves: whoever knows the one knows the other.
//!
//! Beside its address each member that joined later has a [`Token`] here. A node draws one before it joins and
//! keeps it on its disk. A node of the same id with another token, or with none, has lost that disk, and
//! with it what it promised; it is not taken for the one that joined.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{NodeId, PeerName, Token};

/// What is known of a member.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Listing {
    /// Where others reach it.
    pub address: PeerName,
    /// Which disk it has.
    pub token: Token,
    /// Whether it is to decide as soon as it has caught up.
    pub votes: bool,
}

/// All listings, by member. A listing may come shortly before its member does.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Directory(BTreeMap<NodeId, Listing>);

impl Directory {
    /// What is known of `node`.
    #[must_use]
    pub fn find(&self, node: NodeId) -> Option<&Listing> {
        self.0.get(&node)
    }

    /// All listings, by ascending id.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Listing)> {
        self.0.iter().map(|(node, listing)| (*node, listing))
    }

    /// Notes what is known of `node` from now on.
    pub fn list(&mut self, node: NodeId, listing: Listing) {
        self.0.insert(node, listing);
    }

    /// `node` is no member any more.
    pub fn forget(&mut self, node: NodeId) {
        self.0.remove(&node);
    }
}
