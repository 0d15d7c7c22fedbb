//! Nodes of two versions side by side: what a node may use, and when one is too old.
//!
//! ```text
//!  all nodes are replaced ─► an operator raises the level ─► in the log ─► what is new is used
//! ```
//!
//! A cluster has a feature level, in its metadata. A node says when it registers which level it understands
//! ([`FEATURE_LEVEL`](crate::partition::metadata::FEATURE_LEVEL)), and what a level adds is used only once the cluster
//! is there: no node is sent what it cannot read, however the old and the new ones lead and follow each other. The level
//! is raised when every member has registered and understands it, and never falls. So the way back ends there: a node of
//! an earlier version that meets a higher level, in its snapshot, in its log or in a snapshot of its leader, halts and says
//! so. It has lost nothing; the later version goes on with its folder.
//!
//! What the levels add:
//!
//! - 2: what followers pass on to the leader travels together
//!   ([`Message::Forwards`](super::Message::Forwards)).

use serde::{Deserialize, Serialize};

use super::Node;
use super::io::{Halt, Rejection};
use crate::partition::metadata::{Command, FEATURE_LEVEL};
use crate::session::Proposal;
use crate::state_machine::StateMachine;

/// From this level on what is passed on travels together.
const FORWARDS_TRAVEL_TOGETHER: u16 = 2;

/// The cluster uses what this version does not understand. Start the node again with a later version: its folder has lost
/// nothing.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
#[error(
    "the cluster is at feature level {level}, and this version understands {understood}: use the version of the other nodes; there is no way back to this one"
)]
pub struct Outdated {
    /// Where the cluster is.
    pub level: u16,
    /// What this node understands.
    pub understood: u16,
}

impl<S: StateMachine> Node<S> {
    /// The level that this node understands.
    pub(super) fn understood(&self) -> u16 {
        self.config.partitioning.as_ref().map_or(FEATURE_LEVEL, |partitioning| partitioning.features)
    }

    /// Whether what is passed on may travel together.
    pub(super) fn forwards_travel_together(&self) -> bool {
        self.metadata().feature_level() >= FORWARDS_TRAVEL_TOGETHER
    }

    /// Whether the cluster has gone further than this node understands.
    pub(super) fn outdated(&self) -> Option<Outdated> {
        let (level, understood) = (self.metadata().feature_level(), self.understood());
        (level > understood).then_some(Outdated { level, understood })
    }

    /// Halts if the cluster has gone further than this node understands, and tells whether it has.
    pub(super) fn halts_if_outdated(&mut self) -> bool {
        let Some(outdated) = self.outdated() else { return false };
        if self.halted.is_none() {
            self.halt(Halt::Outdated(outdated));
        }
        true
    }

    /// The level must not be raised over the head of a member that has not said what it understands.
    pub(super) fn may_raise(&self, proposal: &Proposal) -> Result<(), Rejection> {
        let Proposal::Metadata(command) = proposal else { return Ok(()) };
        let (Command::SetFeatureLevel { .. }, Some(membership)) = (&**command, self.membership()) else {
            return Ok(());
        };
        let is_silent = |node: &crate::id::NodeId| self.metadata().node(*node).is_none();
        let mut members = membership.members().chain(membership.learners().iter().copied());
        members.find(is_silent).map_or(Ok(()), |node| Err(Rejection::Unregistered(node)))
    }
}

#[cfg(test)]
mod tests;
