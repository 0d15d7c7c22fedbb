//! Raft §5.3, log matching: logs that hold an entry of the same index and term are identical up to it.
//!
//! Each entry that is durable on a node is given a hash that covers it and, through its predecessor's,
//! the whole log before it. The property then says: one index and term, one hash. What was on its way to
//! a disk and never got there is no log: a lone voter may use its term again for something else.

use std::collections::BTreeMap;

use rivven_cluster::id::{LogIndex, Term};
use rivven_cluster::node::{Durable, WriteBatch};
use rivven_cluster::raft::{Change, Content, Entry, Position, Snapshot};
use rivven_cluster::wire::codec;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{Rule, Verdict, broken};

/// Remembers the hash of each log up to each entry.
#[derive(Clone, Default)]
pub struct LogMatching {
    logs: BTreeMap<u64, HashedLog>,
    prefixes: BTreeMap<Position, (u64, u64)>,
    /// The changes of the membership that anybody has written.
    changes: BTreeMap<Position, Change>,
}

/// A log as its terms and prefix hashes, from its snapshot on.
#[derive(Clone, Default)]
struct HashedLog {
    /// The index of the snapshot.
    start: u64,
    /// The snapshot's, then one for each entry.
    prefixes: Vec<Prefix>,
}

/// A log up to one entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Prefix {
    /// The term of that entry.
    pub term: Term,
    /// The hash of everything up to it.
    pub hash: u64,
}

impl LogMatching {
    /// `node` started on this log.
    pub fn started(&mut self, node: u64, durable: &Durable) -> Verdict {
        self.logs.insert(node, HashedLog::default());
        self.put(node, durable.snapshot.as_ref(), &durable.entries)
    }

    /// `node` has written a batch.
    pub fn written(&mut self, node: u64, batch: &WriteBatch) -> Verdict {
        self.put(node, batch.snapshot.as_ref(), &batch.entries)
    }

    fn put(&mut self, node: u64, snapshot: Option<&Snapshot>, entries: &[Entry]) -> Verdict {
        let log = self.logs.entry(node).or_default();
        if let Some(snapshot) = snapshot {
            // A snapshot stands for the log that somebody has written up to its place.
            let known = self.prefixes.get(&snapshot.at).map(|(_, hash)| *hash);
            log.begin(snapshot, known);
        }
        for entry in entries {
            if let Content::Change(change) = &entry.content {
                self.changes.insert(entry.at, change.clone());
            }
            let Some(hash) = log.put(entry) else {
                return broken(Rule::LogMatching, format!("node {node} writes {:?} after a gap", entry.at));
            };
            let (first, expected) = *self.prefixes.entry(entry.at).or_insert((node, hash));
            if hash != expected {
                let what = format!("the logs of nodes {first} and {node} differ up to {:?}", entry.at);
                return broken(Rule::LogMatching, what);
            }
        }
        Ok(())
    }

    /// The change of the membership that stands there, if one does.
    pub fn change(&self, at: Position) -> Option<&Change> {
        self.changes.get(&at)
    }

    /// Where the log of `node` begins: at its birth or a snapshot.
    pub fn start(&self, node: u64) -> LogIndex {
        LogIndex::new(self.logs.get(&node).map_or(0, |log| log.start))
    }

    /// What `node` has written up to an index.
    pub fn prefix(&self, node: u64, index: LogIndex) -> Option<Prefix> {
        let log = self.logs.get(&node)?;
        log.prefixes.get(log.place(index)?).copied()
    }
}

impl HashedLog {
    fn begin(&mut self, snapshot: &Snapshot, known: Option<u64>) {
        self.start = snapshot.at.index.value();
        let term = snapshot.at.term;
        let hash = known.unwrap_or_else(|| xxh3_64_with_seed(&snapshot.state, term.value()));
        self.prefixes = vec![Prefix { term, hash }];
    }

    /// Puts an entry in place of whatever stood there and after; `None` if it does not follow the log.
    fn put(&mut self, entry: &Entry) -> Option<u64> {
        let place = self.place(entry.at.index)?;
        let before = self.prefixes.get(place.checked_sub(1)?)?;
        let hash = xxh3_64_with_seed(
            &codec::encode(&entry.content),
            before.hash ^ entry.at.term.value().rotate_left(32),
        );
        self.prefixes.truncate(place);
        self.prefixes.push(Prefix { term: entry.at.term, hash });
        Some(hash)
    }

    fn place(&self, index: LogIndex) -> Option<usize> {
        usize::try_from(index.value().checked_sub(self.start)?).ok()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use bytes::Bytes;
    use rivven_cluster::raft::{BIRTH, Membership};

    pub fn entry(index: u64, term: u64, command: &'static str) -> Entry {
        let at = Position { index: LogIndex::new(index), term: Term::new(term) };
        Entry::of_command(at, command)
    }

    pub fn batch(entries: Vec<Entry>) -> WriteBatch {
        WriteBatch { entries, ..WriteBatch::default() }
    }

    pub fn birth() -> WriteBatch {
        let snapshot = Snapshot { at: BIRTH, membership: Membership::default(), state: Bytes::new() };
        WriteBatch { snapshot: Some(snapshot), ..WriteBatch::default() }
    }

    pub fn born(nodes: &[u64]) -> LogMatching {
        let mut checker = LogMatching::default();
        for node in nodes {
            checker.written(*node, &birth()).unwrap();
        }
        checker
    }

    #[test]
    fn different_commands_at_one_place_are_a_violation() {
        let mut checker = born(&[1, 2]);
        checker.written(1, &batch(vec![entry(2, 2, "a")])).unwrap();
        assert!(checker.written(2, &batch(vec![entry(2, 2, "b")])).is_err());
    }

    #[test]
    fn a_different_past_of_the_same_entry_is_a_violation() {
        let mut checker = born(&[1, 2]);
        checker.written(1, &batch(vec![entry(2, 2, "a"), entry(3, 4, "c")])).unwrap();
        assert!(checker.written(2, &batch(vec![entry(2, 3, "b"), entry(3, 4, "c")])).is_err());
    }

    #[test]
    fn a_replaced_tail_is_none() {
        let mut checker = born(&[1, 2]);
        checker.written(1, &batch(vec![entry(2, 2, "a"), entry(3, 2, "b")])).unwrap();
        checker.written(2, &batch(vec![entry(2, 3, "c"), entry(3, 3, "d")])).unwrap();
        checker.written(1, &batch(vec![entry(2, 3, "c"), entry(3, 3, "d")])).unwrap();
        assert!(checker.written(1, &batch(vec![entry(9, 3, "e")])).is_err(), "a gap");
    }
}
