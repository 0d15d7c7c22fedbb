//! Raft §5.3, log matching: logs that hold an entry of the same index and term are identical up to it.
//!
//! Each entry that a node writes is given a hash that covers it and, through its predecessor's, the
//! whole log before it. The property then says: one index and term, one hash.

use std::collections::BTreeMap;

use rivven_cluster::id::LogIndex;
use rivven_cluster::node::WriteBatch;
use rivven_cluster::raft::{Entry, Position};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{Rule, Verdict, broken};

/// Remembers the hash of each log up to each entry.
#[derive(Default)]
pub struct LogMatching {
    logs: BTreeMap<u64, BTreeMap<LogIndex, u64>>,
    prefixes: BTreeMap<Position, (u64, u64)>,
}

impl LogMatching {
    /// `node` writes a batch.
    pub fn write(&mut self, node: u64, batch: &WriteBatch) -> Verdict {
        let log = self.logs.entry(node).or_default();
        if let Some(snapshot) = &batch.snapshot {
            log.clear();
            log.insert(snapshot.at.index, xxh3_64_with_seed(&snapshot.state, snapshot.at.term.value()));
        }
        for entry in &batch.entries {
            let before = entry.at.index.value().checked_sub(1).map(LogIndex::new);
            let Some(before) = before.and_then(|before| log.get(&before)) else {
                return broken(Rule::LogMatching, format!("node {node} writes {:?} after a gap", entry.at));
            };
            let hash = prefix_hash(*before, entry);
            log.split_off(&entry.at.index);
            log.insert(entry.at.index, hash);
            let (first, expected) = *self.prefixes.entry(entry.at).or_insert((node, hash));
            if hash != expected {
                let what = format!("the logs of nodes {first} and {node} differ up to {:?}", entry.at);
                return broken(Rule::LogMatching, what);
            }
        }
        Ok(())
    }
}

fn prefix_hash(before: u64, entry: &Entry) -> u64 {
    xxh3_64_with_seed(&entry.command, before ^ entry.at.term.value().rotate_left(32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use rivven_cluster::id::Term;
    use rivven_cluster::raft::{BIRTH, Snapshot};

    fn entry(index: u64, term: u64, command: &'static str) -> Entry {
        let at = Position { index: LogIndex::new(index), term: Term::new(term) };
        Entry { at, command: Bytes::from(command) }
    }

    fn batch(entries: Vec<Entry>) -> WriteBatch {
        WriteBatch { entries, ..WriteBatch::default() }
    }

    fn born(nodes: &[u64]) -> LogMatching {
        let mut checker = LogMatching::default();
        for node in nodes {
            let snapshot = Snapshot { at: BIRTH, voters: Vec::new(), state: Bytes::new() };
            let birth = WriteBatch { snapshot: Some(snapshot), ..WriteBatch::default() };
            checker.write(*node, &birth).unwrap();
        }
        checker
    }

    #[test]
    fn different_commands_at_one_place_are_a_violation() {
        let mut checker = born(&[1, 2]);
        checker.write(1, &batch(vec![entry(2, 2, "a")])).unwrap();
        assert!(checker.write(2, &batch(vec![entry(2, 2, "b")])).is_err());
    }

    #[test]
    fn a_different_past_of_the_same_entry_is_a_violation() {
        let mut checker = born(&[1, 2]);
        checker.write(1, &batch(vec![entry(2, 2, "a"), entry(3, 4, "c")])).unwrap();
        assert!(checker.write(2, &batch(vec![entry(2, 3, "b"), entry(3, 4, "c")])).is_err());
    }

    #[test]
    fn a_replaced_tail_is_none() {
        let mut checker = born(&[1, 2]);
        checker.write(1, &batch(vec![entry(2, 2, "a"), entry(3, 2, "b")])).unwrap();
        checker.write(2, &batch(vec![entry(2, 3, "c"), entry(3, 3, "d")])).unwrap();
        checker.write(1, &batch(vec![entry(2, 3, "c"), entry(3, 3, "d")])).unwrap();
        assert!(checker.write(1, &batch(vec![entry(9, 3, "e")])).is_err(), "a gap");
    }
}
