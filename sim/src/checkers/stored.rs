//! A damaged disk may lose what it held, it must not make anything up. (Ours.)
//!
//! When a disk lied, a store may find what was there some time ago: the newest blocks went elsewhere, and
//! nothing on the disk can tell. But what it finds must once have been there, as a whole. Anything else
//! it has to refuse.

use std::collections::{BTreeMap, VecDeque};

use rivven_cluster::formation::Standing;
use rivven_cluster::id::BootId;
use rivven_cluster::node::{Durable, WriteBatch};
use rivven_cluster::raft::{Entry, HardState, Snapshot};
use rivven_cluster::wire::codec;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::{Rule, Verdict, broken};

/// Remembers every state that each disk was in, or was about to be in.
#[derive(Clone, Default)]
pub struct Stored {
    disks: BTreeMap<u64, Disk>,
}

#[derive(Clone, Default)]
struct Disk {
    /// The newest, with the write under way.
    newest: Outline,
    /// Each state's hash, and when it was first reached.
    all: BTreeMap<u128, u64>,
    /// The last state that was read back whole since the last damage: nothing before it comes back.
    floor: u64,
}

/// What tells one state of a disk from another.
#[derive(Clone, Default)]
struct Outline {
    boot: BootId,
    standing: Standing,
    hard_state: HardState,
    /// Where the log begins, and the hash of what it begins with.
    start: (u64, u64),
    /// The sum of the hashes of all entries up to each, and up to where the log begins.
    sums: VecDeque<u64>,
    base: u64,
}

impl Stored {
    /// `node` writes a batch.
    pub fn write(&mut self, node: u64, batch: &WriteBatch) {
        let disk = self.disks.entry(node).or_default();
        disk.newest.apply(batch);
        disk.note_newest();
    }

    /// The disk of `node` was emptied on purpose. An old copy of it may still come back.
    pub fn emptied(&mut self, node: u64) {
        let disk = self.disks.entry(node).or_default();
        (disk.newest, disk.floor) = (Outline::default(), 0);
    }

    /// The disk of `node` was damaged: anything that was ever there may come back.
    pub fn struck(&mut self, node: u64) {
        self.disks.entry(node).or_default().floor = 0;
    }

    /// `node` started on `found`; `is_whole` says whether that is what its disk had promised to keep.
    pub fn started(&mut self, node: u64, found: &Durable, is_whole: bool) -> Verdict {
        let disk = self.disks.entry(node).or_default();
        disk.newest = Outline::of(found);
        let reached = disk.all.get(&disk.newest.hash()).copied();
        if is_whole {
            disk.floor = disk.note_newest();
            return Ok(());
        }
        let is_empty = disk.newest.hash() == Outline::default().hash() && disk.floor == 0;
        if is_empty || reached.is_some_and(|reached| reached >= disk.floor) {
            return Ok(());
        }
        let what = format!(
            "the damaged disk of node {node} was read as {} entries, boot {} and {:?}, which {}",
            found.entries.len(),
            found.boot,
            found.hard_state,
            if reached.is_some() { "is older than what was read from it since" } else { "was never there" }
        );
        broken(Rule::Stored, what)
    }
}

impl Disk {
    fn note_newest(&mut self) -> u64 {
        let next = u64::try_from(self.all.len()).unwrap_or(u64::MAX);
        *self.all.entry(self.newest.hash()).or_insert(next)
    }
}

/// Where a log begins with a snapshot, and the hash of that.
fn beginning(snapshot: &Snapshot) -> (u64, u64) {
    (snapshot.at.index.value(), xxh3_64(&codec::encode(snapshot)))
}

impl Outline {
    fn of(durable: &Durable) -> Outline {
        let mut outline = Outline {
            boot: durable.boot,
            standing: durable.standing.clone(),
            hard_state: durable.hard_state,
            ..Outline::default()
        };
        outline.begin(durable.snapshot.as_ref());
        outline.put(&durable.entries);
        outline
    }

    fn apply(&mut self, batch: &WriteBatch) {
        self.boot = batch.boot.unwrap_or(self.boot);
        self.hard_state = batch.hard_state.unwrap_or(self.hard_state);
        if let Some(standing) = &batch.standing {
            self.standing = standing.clone();
        }
        self.begin(batch.snapshot.as_ref());
        if let Some(snapshot) = &batch.compact {
            while self.start.0 < snapshot.at.index.value() {
                self.start.0 += 1;
                self.base = self.sums.pop_front().unwrap_or(self.base);
            }
            self.start = beginning(snapshot);
        }
        self.put(&batch.entries);
    }

    fn begin(&mut self, snapshot: Option<&Snapshot>) {
        let Some(snapshot) = snapshot else { return };
        self.start = beginning(snapshot);
        (self.sums, self.base) = (VecDeque::new(), 0);
    }

    fn put(&mut self, entries: &[Entry]) {
        for entry in entries {
            let place = entry.at.index.value().saturating_sub(self.start.0 + 1);
            self.sums.truncate(usize::try_from(place).unwrap_or(usize::MAX));
            let before = self.sums.back().copied().unwrap_or(self.base);
            self.sums.push_back(before.wrapping_add(xxh3_64(&codec::encode(entry))));
        }
    }

    fn hash(&self) -> u128 {
        let sum = self.sums.back().map(|sum| sum.wrapping_sub(self.base));
        let log = (self.start, self.sums.len(), sum);
        xxh3_128(&codec::encode(&(self.boot, &self.standing, self.hard_state, log)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::log_matching::tests::{batch, birth, entry};
    use super::*;

    fn durable(entries: Vec<Entry>) -> Durable {
        Durable { snapshot: birth().snapshot, entries, ..Durable::default() }
    }

    fn written() -> Stored {
        let mut checker = Stored::default();
        for batch in [birth(), batch(vec![entry(2, 2, "a")]), batch(vec![entry(3, 2, "b")])] {
            checker.write(1, &batch);
        }
        checker
    }

    #[test]
    fn a_rolled_back_disk_is_believed_and_an_invented_one_is_a_violation() {
        let older = durable(vec![entry(2, 2, "a")]);
        assert_eq!(written().started(1, &older, false), Ok(()));
        let changed_inside = durable(vec![entry(2, 2, "x"), entry(3, 2, "b")]);
        assert!(written().started(1, &changed_inside, false).is_err());
    }

    #[test]
    fn what_was_read_back_whole_does_not_get_older() {
        let (older, newer) =
            (durable(vec![entry(2, 2, "a")]), durable(vec![entry(2, 2, "a"), entry(3, 2, "b")]));
        let mut checker = written();
        assert_eq!(checker.started(1, &newer, true), Ok(()));
        assert!(checker.clone().started(1, &older, false).is_err());
        checker.struck(1);
        assert_eq!(checker.started(1, &older, false), Ok(()));
    }
}
