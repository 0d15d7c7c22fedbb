//! What the log changes beside the state machine: the time in it, the sessions, the directory, the metadata.
//!
//! Every node keeps one and feeds it the committed entries in log order, like the state machine, in front of
//! whose state it stands in every snapshot.
//!
//! ```text
//!   snapshot:   length 8 │ sessions, directory, metadata │ state of the state machine
//! ```

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::directory::Directory;
use crate::partition::metadata::{Command, Metadata, Refusal};
use crate::raft::{Change, Position};
use crate::session::{Applied, ClusterTime, Sessions};
use crate::state_machine::RestoreError;
use crate::wire::codec;

/// The replicated state of the cluster itself.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Ledger {
    sessions: Sessions,
    directory: Directory,
    metadata: Metadata,
}

impl Ledger {
    /// The time in the log so far.
    #[must_use]
    pub fn time(&self) -> ClusterTime {
        self.sessions.time()
    }

    /// How many sessions are open.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.count()
    }

    /// Where members are reached.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Topics, partitions, and the nodes that hold them.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Writes the metadata down.
    #[must_use]
    pub fn metadata_snapshot(&self) -> Bytes {
        Bytes::from(codec::encode(&self.metadata))
    }

    /// Applies the command at `at`; `execute` is called at most once, with what the client wants.
    pub fn apply(&mut self, at: Position, entry: &[u8], execute: impl FnOnce(&[u8]) -> Bytes) -> Applied {
        let (metadata, directory) = (&mut self.metadata, &self.directory);
        let order = |command: &_| match over_the_head_of(command, metadata, directory) {
            Some(refusal) => (Err(refusal), Vec::new()),
            None => metadata.apply(at.index, command),
        };
        let applied = self.sessions.apply(at, entry, execute, order);
        if let Applied::Listed(node, listing) = &applied {
            self.directory.list(*node, listing.clone());
        }
        applied
    }

    /// Applies a change of the membership.
    pub fn apply_change(&mut self, change: &Change) {
        for node in change.leavers() {
            self.directory.forget(node);
        }
    }

    /// Writes all of it down, in front of the state of the state machine.
    #[must_use]
    pub fn snapshot(&self, state: &[u8]) -> Bytes {
        let ledger = codec::encode(&(self.sessions.table(), &self.directory, &self.metadata));
        let length = u64::try_from(ledger.len()).unwrap_or(u64::MAX);
        Bytes::from([&length.to_le_bytes()[..], &ledger, state].concat())
    }

    /// Reads what [`Ledger::snapshot`] wrote; the rest is the state of the state machine.
    ///
    /// # Errors
    ///
    /// [`RestoreError`] if the bytes are anything else.
    pub fn restore(snapshot: &[u8]) -> Result<(Ledger, &[u8]), RestoreError> {
        let torn = || RestoreError("it ends before its sessions do".to_owned());
        let (length, rest) = snapshot.split_first_chunk::<8>().ok_or_else(torn)?;
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let (ledger, state) = rest.split_at_checked(length).ok_or_else(torn)?;
        let (table, directory, metadata) =
            codec::decode_state(ledger).map_err(|error| RestoreError(error.to_string()))?;
        Ok((Ledger { sessions: Sessions::of_table(table), directory, metadata }, state))
    }
}

/// The level of what all must understand is not raised while somebody is listed, a member or about to be one, that has not
/// registered: nobody could say what it understands. Whoever is listed later meets the level before it is a member.
fn over_the_head_of(command: &Command, metadata: &Metadata, directory: &Directory) -> Option<Refusal> {
    let Command::SetFeatureLevel { to, .. } = command else { return None };
    let (node, _) = directory.iter().find(|(node, _)| metadata.node(*node).is_none())?;
    Some(Refusal::NodeLacksFeatures { node, features: 0, level: *to })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::Listing;
    use crate::id::{LogIndex, NodeId, Term, Token};
    use crate::raft::Step;
    use crate::session::seal_listing;

    #[test]
    fn a_listing_is_in_the_snapshot_and_goes_with_its_member() {
        let node = NodeId::new(4).unwrap();
        let listing = Listing { address: "node4:1".parse().unwrap(), token: Token::new(7), votes: true };
        let mut ledger = Ledger::default();
        let at = Position { index: LogIndex::new(2), term: Term::new(2) };
        let entry = seal_listing(ClusterTime::default(), node, listing.clone());
        let applied = ledger.apply(at, &entry, |_| unreachable!("it is no command"));
        assert_eq!(applied, Applied::Listed(node, listing.clone()));
        let snapshot = ledger.snapshot(b"state");
        let (mut restored, state) = Ledger::restore(&snapshot).unwrap();
        assert_eq!((&restored, state), (&ledger, &b"state"[..]));
        assert_eq!(restored.directory().find(node), Some(&listing));
        restored.apply_change(&Change::one(Step::Remove(node)));
        assert_eq!(restored.directory().find(node), None);
        assert!(Ledger::restore(&snapshot[1..]).is_err());
    }

    #[test]
    fn the_feature_level_is_not_raised_while_somebody_is_listed_that_has_not_registered() {
        let node = NodeId::new(4).unwrap();
        let listing = Listing { address: "node4:1".parse().unwrap(), token: Token::new(7), votes: true };
        let mut ledger = Ledger::default();
        let mut at = Position { index: LogIndex::new(2), term: Term::new(2) };
        let entry = seal_listing(ClusterTime::default(), node, listing);
        ledger.apply(at, &entry, |_| unreachable!("it is no command"));
        at.index = at.index.next();
        let raise = Command::SetFeatureLevel { from: 1, to: 2 };
        let entry = crate::session::Proposal::Metadata(Box::new(raise)).seal(ClusterTime::default());
        let applied = ledger.apply(at, &entry, |_| unreachable!("it is for the metadata"));
        let refusal = Refusal::NodeLacksFeatures { node, features: 0, level: 2 };
        assert!(matches!(applied, Applied::Metadata(ordered) if ordered.answer == Err(refusal)));
        assert_eq!(ledger.metadata().feature_level(), 1);
    }
}
