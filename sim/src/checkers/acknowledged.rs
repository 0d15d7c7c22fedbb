//! Raft §8: what a client was told is committed is executed once, at that place, on every node.
//!
//! Acknowledged, failed and unknown are kept apart. A command of unknown fate may be there or not; one
//! that failed was never appended and must not be there; one that was acknowledged must.

use std::collections::BTreeMap;

use rivven_cluster::id::LogIndex;
use xxhash_rust::xxh3::xxh3_128;

use super::{Rule, StateMachineSafety, Verdict, broken};

/// Remembers what clients were told.
#[derive(Default)]
pub struct Acknowledged {
    done: BTreeMap<u128, LogIndex>,
    failed: BTreeMap<u128, String>,
    unknown: u64,
    /// A read that did not see what it had to.
    stale: Option<String>,
}

impl Acknowledged {
    /// A client was told that its command stands at an index.
    pub fn done(&mut self, command: &[u8], index: LogIndex) {
        self.done.insert(xxh3_128(command), index);
    }

    /// A client was told that its command was never appended.
    pub fn failed(&mut self, command: &[u8], reason: String) {
        self.failed.insert(xxh3_128(command), reason);
    }

    /// A client was told that nobody knows.
    pub fn unknown(&mut self) {
        self.unknown += 1;
    }

    /// A client read a key that it alone writes, and did not find what it was told is there.
    pub fn stale(&mut self, what: String) {
        self.stale.get_or_insert(what);
    }

    /// How many were acknowledged, failed, and are unknown.
    pub fn counts(&self) -> (usize, usize, u64) {
        (self.done.len(), self.failed.len(), self.unknown)
    }

    /// Holds what clients were told against what nodes did.
    pub fn judge(&self, commands: &StateMachineSafety, nodes: u64) -> Verdict {
        if let Some(stale) = &self.stale {
            return broken(Rule::Acknowledged, stale.clone());
        }
        for (command, index) in &self.done {
            if commands.at(*index) != Some(*command) {
                let what = format!("a command was acknowledged at index {index}, but is not there");
                return broken(Rule::Acknowledged, what);
            }
        }
        for (command, reason) in &self.failed {
            if let Some(index) = commands.place_of(*command) {
                let what = format!("a command failed ({reason}), but was executed at index {index}");
                return broken(Rule::Acknowledged, what);
            }
        }
        for node in 1..=nodes {
            if let Some(index) = commands.first_gap(node) {
                let what = format!("node {node} never executed the command at index {index}");
                return broken(Rule::Acknowledged, what);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn executed() -> StateMachineSafety {
        let mut commands = StateMachineSafety::default();
        commands.applied(1, LogIndex::new(2), b"a").unwrap();
        commands
    }

    #[test]
    fn a_lost_acknowledged_command_is_a_violation() {
        let mut checker = Acknowledged::default();
        checker.done(b"a", LogIndex::new(2));
        assert_eq!(checker.judge(&executed(), 1), Ok(()));
        checker.done(b"b", LogIndex::new(3));
        assert!(checker.judge(&executed(), 1).is_err());
    }

    #[test]
    fn a_failed_command_that_was_executed_is_a_violation() {
        let mut checker = Acknowledged::default();
        checker.failed(b"b", "busy".to_owned());
        assert_eq!(checker.judge(&executed(), 1), Ok(()));
        checker.failed(b"a", "busy".to_owned());
        assert!(checker.judge(&executed(), 1).is_err());
    }

    #[test]
    fn a_node_that_lacks_a_command_and_a_stale_read_are_violations() {
        let mut checker = Acknowledged::default();
        assert!(checker.judge(&executed(), 2).is_err());
        checker.stale("k".to_owned());
        assert!(checker.judge(&executed(), 1).is_err());
    }
}
