//! Raft §5.4.3, state machine safety: no two nodes apply different commands at one index.
//!
//! Nor do they get different answers. Each node also applies in order and leaves nothing out, and after
//! a restart again from where its snapshot ends.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use rivven_cluster::id::LogIndex;
use rivven_cluster::node::WriteBatch;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::{Rule, Verdict, broken};

/// Remembers what was executed where.
#[derive(Clone, Default)]
pub struct StateMachineSafety {
    /// What any node has executed, by index, and the hash of the answer.
    executed: BTreeMap<LogIndex, (Bytes, u64)>,
    /// From where on, and up to where, each running node has executed.
    reached: BTreeMap<u64, (LogIndex, LogIndex)>,
    /// Where each command stands, by its hash: no two are equal.
    places: BTreeMap<u128, LogIndex>,
}

impl StateMachineSafety {
    /// `node` started; its state machine begins after its snapshot.
    pub fn started(&mut self, node: u64, snapshot: Option<LogIndex>) {
        let start = snapshot.unwrap_or_default();
        self.reached.insert(node, (start, start));
    }

    /// `node` writes a batch; a snapshot in it replaces the state machine.
    pub fn write(&mut self, node: u64, batch: &WriteBatch) {
        if let Some(snapshot) = &batch.snapshot {
            self.started(node, Some(snapshot.at.index));
        }
    }

    /// `node` executed `command`, and got `answer`.
    pub fn applied(&mut self, node: u64, index: LogIndex, command: &Bytes, answer: &[u8]) -> Verdict {
        let violation = |what: String| broken(Rule::StateMachineSafety, what);
        let (_, reached) = self.reached.entry(node).or_default();
        if *reached >= index {
            return violation(format!("node {node} went back to index {index}"));
        }
        let between = (Bound::Excluded(*reached), Bound::Excluded(index));
        if let Some((skipped, _)) = self.executed.range(between).next() {
            return violation(format!("node {node} left out the command at index {skipped}"));
        }
        *reached = index;
        let is_new = !self.executed.contains_key(&index);
        let left_out = |(start, reached): &(LogIndex, LogIndex)| *start < index && index < *reached;
        if let Some((other, _)) = self.reached.iter().find(|(_, range)| is_new && left_out(range)) {
            return violation(format!("node {other} left out the command at index {index}"));
        }
        let answer = xxh3_64(answer);
        let (first, first_answer) = self.executed.entry(index).or_insert_with(|| (command.clone(), answer));
        if first != command {
            return violation(format!(
                "node {node} executed another command at index {index} than a node before it"
            ));
        }
        if *first_answer != answer {
            return violation(format!(
                "node {node} got another answer at index {index} than a node before it"
            ));
        }
        let place = *self.places.entry(xxh3_128(command)).or_insert(index);
        if place != index {
            return violation(format!("node {node} executed at index {index} what was executed at {place}"));
        }
        Ok(())
    }

    /// The executed commands, in the order of the log.
    pub fn in_order(&self) -> impl Iterator<Item = (LogIndex, &Bytes)> {
        self.executed.iter().map(|(index, (command, _))| (*index, command))
    }

    /// Where a command was executed, if it was.
    pub fn place_of(&self, command: &[u8]) -> Option<LogIndex> {
        self.places.get(&xxh3_128(command)).copied()
    }

    /// Whether `node` has neither executed a command nor begun with what others have executed.
    pub fn has_executed_nothing(&self, node: u64) -> bool {
        self.reached.get(&node).is_none_or(|(_, reached)| *reached == LogIndex::default())
    }

    /// The first index at which `node` lacks what another has executed.
    pub fn first_gap(&self, node: u64) -> Option<LogIndex> {
        let (_, reached) = self.reached.get(&node).copied().unwrap_or_default();
        let beyond = (Bound::Excluded(reached), Bound::Unbounded);
        self.executed.range(beyond).next().map(|(index, _)| *index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(checker: &mut StateMachineSafety, node: u64, index: u64, command: &'static str) -> Verdict {
        checker.applied(node, LogIndex::new(index), &Bytes::from(command), b"done")
    }

    #[test]
    fn different_commands_or_answers_at_one_index_are_a_violation() {
        let mut checker = StateMachineSafety::default();
        assert_eq!(apply(&mut checker, 1, 2, "a"), Ok(()));
        assert_eq!(apply(&mut checker, 2, 2, "a"), Ok(()));
        assert!(apply(&mut checker, 3, 2, "b").is_err());
        let other_answer = checker.applied(4, LogIndex::new(2), &Bytes::from("a"), b"not done");
        assert!(other_answer.is_err());
    }

    #[test]
    fn a_command_that_is_executed_twice_is_a_violation() {
        let mut checker = StateMachineSafety::default();
        assert_eq!(apply(&mut checker, 1, 2, "a"), Ok(()));
        assert!(apply(&mut checker, 1, 3, "a").is_err());
    }

    #[test]
    fn going_back_without_a_restart_is_a_violation() {
        let mut checker = StateMachineSafety::default();
        assert_eq!(apply(&mut checker, 1, 2, "a"), Ok(()));
        checker.started(1, None);
        assert_eq!(apply(&mut checker, 1, 2, "a"), Ok(()));
        assert!(apply(&mut checker, 1, 2, "a").is_err());
    }

    #[test]
    fn a_command_that_is_left_out_is_a_violation() {
        let mut checker = StateMachineSafety::default();
        assert_eq!(apply(&mut checker, 1, 2, "a"), Ok(()));
        assert_eq!(apply(&mut checker, 1, 3, "b"), Ok(()));
        assert_eq!(checker.first_gap(2), Some(LogIndex::new(2)));
        assert!(apply(&mut checker, 2, 3, "b").is_err());
        assert_eq!(checker.first_gap(1), None);
    }

    #[test]
    fn a_command_that_the_first_leaves_out_is_a_violation_too() {
        let mut checker = StateMachineSafety::default();
        assert_eq!(apply(&mut checker, 1, 3, "b"), Ok(()));
        assert!(apply(&mut checker, 2, 2, "a").is_err(), "node 1 went past it");
    }
}
