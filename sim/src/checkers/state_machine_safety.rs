//! Raft §5.4.3, state machine safety: no two nodes apply different commands at one index.
//!
//! Each node also applies in order, and after a restart again from where its snapshot ends.

use std::collections::BTreeMap;

use rivven_cluster::id::LogIndex;
use rivven_cluster::node::WriteBatch;
use xxhash_rust::xxh3::xxh3_128;

use super::{Rule, Verdict, broken};

/// Remembers what was executed where.
#[derive(Default)]
pub struct StateMachineSafety {
    /// What any node has executed, by index.
    executed: BTreeMap<LogIndex, u128>,
    /// What each running node has executed since its process started.
    nodes: BTreeMap<u64, BTreeMap<LogIndex, u128>>,
    /// The same, the other way round: each command of a client is unique.
    places: BTreeMap<u128, LogIndex>,
}

impl StateMachineSafety {
    /// `node` started; its state machine begins after its snapshot.
    pub fn started(&mut self, node: u64, snapshot: Option<LogIndex>) {
        let executed = self.nodes.entry(node).or_default();
        executed.clear();
        // What the snapshot holds was executed, though by whom does not matter.
        executed.extend(
            self.executed.range(..=snapshot.unwrap_or_default()).map(|(index, hash)| (*index, *hash)),
        );
    }

    /// `node` writes a batch; a snapshot in it replaces the state machine.
    pub fn write(&mut self, node: u64, batch: &WriteBatch) {
        if let Some(snapshot) = &batch.snapshot {
            self.started(node, Some(snapshot.at.index));
        }
    }

    /// `node` executed `command`.
    pub fn applied(&mut self, node: u64, index: LogIndex, command: &[u8]) -> Verdict {
        let hash = xxh3_128(command);
        let own = self.nodes.entry(node).or_default();
        if own.last_key_value().is_some_and(|(last, _)| *last >= index) {
            return broken(Rule::StateMachineSafety, format!("node {node} went back to index {index}"));
        }
        own.insert(index, hash);
        if *self.executed.entry(index).or_insert(hash) != hash {
            let what = format!("node {node} executed another command at index {index} than a node before it");
            return broken(Rule::StateMachineSafety, what);
        }
        let first = *self.places.entry(hash).or_insert(index);
        if first != index {
            let what =
                format!("node {node} executed at index {index} a command that was executed at {first}");
            return broken(Rule::StateMachineSafety, what);
        }
        Ok(())
    }

    /// What was executed at an index, as its hash.
    pub fn at(&self, index: LogIndex) -> Option<u128> {
        self.executed.get(&index).copied()
    }

    /// Whether a command of this hash was executed, and where.
    pub fn place_of(&self, command: u128) -> Option<LogIndex> {
        self.places.get(&command).copied()
    }

    /// The first index at which `node` lacks what another has executed.
    pub fn first_gap(&self, node: u64) -> Option<LogIndex> {
        let own = self.nodes.get(&node);
        self.executed.keys().find(|index| own.is_none_or(|own| !own.contains_key(index))).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(value: u64) -> LogIndex {
        LogIndex::new(value)
    }

    #[test]
    fn different_commands_at_one_index_are_a_violation() {
        let mut checker = StateMachineSafety::default();
        assert_eq!(checker.applied(1, index(2), b"a"), Ok(()));
        assert_eq!(checker.applied(2, index(2), b"a"), Ok(()));
        assert!(checker.applied(3, index(2), b"b").is_err());
    }

    #[test]
    fn a_command_that_is_executed_twice_is_a_violation() {
        let mut checker = StateMachineSafety::default();
        assert_eq!(checker.applied(1, index(2), b"a"), Ok(()));
        assert!(checker.applied(1, index(3), b"a").is_err());
    }

    #[test]
    fn going_back_without_a_restart_is_a_violation() {
        let mut checker = StateMachineSafety::default();
        assert_eq!(checker.applied(1, index(2), b"a"), Ok(()));
        checker.started(1, None);
        assert_eq!(checker.applied(1, index(2), b"a"), Ok(()));
        assert!(checker.applied(1, index(2), b"a").is_err());
    }

    #[test]
    fn a_gap_is_what_others_have_executed() {
        let mut checker = StateMachineSafety::default();
        checker.applied(1, index(2), b"a").unwrap();
        checker.applied(1, index(3), b"b").unwrap();
        checker.applied(2, index(2), b"a").unwrap();
        assert_eq!((checker.first_gap(1), checker.first_gap(2)), (None, Some(index(3))));
    }
}
