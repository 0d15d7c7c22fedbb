//! What a node finds on its disk, and what it must not start on.

use serde::{Deserialize, Serialize};

use super::log::Log;
use super::message::{Entry, HardState, Position, Snapshot};
use crate::id::{LogIndex, NodeId, Term};

/// What was durable when the node last stopped.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Recovered {
    /// The last snapshot; at first the cluster's birth.
    pub snapshot: Snapshot,
    /// Term, vote and commit index.
    pub hard_state: HardState,
    /// The entries after the snapshot, without a gap.
    pub entries: Vec<Entry>,
}

impl Recovered {
    /// Tells whether a correct node of this id can have left this behind.
    ///
    /// # Errors
    ///
    /// The first contradiction.
    pub fn check(self, id: NodeId) -> Result<(), RecoveryError> {
        self.into_log(id).map(drop)
    }

    pub(super) fn into_log(self, id: NodeId) -> Result<Log, RecoveryError> {
        if !self.snapshot.membership.is_sound() {
            return Err(RecoveryError::Members);
        }
        if !self.snapshot.membership.has_known(id) {
            return Err(RecoveryError::NotAMember(id));
        }
        Log::recover(self.snapshot, self.hard_state, self.entries)
    }
}

/// Durable state that no correct node can have written. The node must not start: it would break
/// what it promised before it stopped.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// Entries are missing from the log.
    #[error("the log has a gap: after index {} (term {}) comes index {} (term {})", after.index, after.term, found.index, found.term)]
    Gap {
        /// The last entry before the gap.
        after: Position,
        /// What follows it.
        found: Position,
    },
    /// Committed entries are missing from the end of the log.
    #[error("the log ends at index {last}, but index {commit} was committed")]
    EndsBelowCommit {
        /// The last index of the log.
        last: LogIndex,
        /// The commit index.
        commit: LogIndex,
    },
    /// The recorded term is older than an entry: the vote of a later term may be lost.
    #[error("the recorded term is {term}, but the log holds an entry of term {last}")]
    TermBelowLog {
        /// The recorded term.
        term: Term,
        /// The term of the last entry.
        last: Term,
    },
    /// The snapshot names members that no group can have.
    #[error("the members in the snapshot contradict each other")]
    Members,
    /// This node never had a part in the group of its own snapshot.
    #[error("node {0} is not among those who were ever members, in its own snapshot")]
    NotAMember(NodeId),
}
