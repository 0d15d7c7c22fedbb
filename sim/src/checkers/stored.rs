//! A damaged disk may lose what it held, it must not make anything up. (Ours.)
//!
//! When a disk lied, a store may find what was there some time ago: the newest blocks went elsewhere, and
//! nothing on the disk can tell. But what it finds must once have been there, as a whole. Anything else
//! it has to refuse.

use std::collections::{BTreeMap, BTreeSet};

use rivven_cluster::formation::Standing;
use rivven_cluster::id::BootId;
use rivven_cluster::node::{Durable, WriteBatch};
use rivven_cluster::raft::{HardState, Position};
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
    all: BTreeSet<u128>,
}

/// What tells one state of a disk from another, without the whole log.
#[derive(Clone, Default)]
struct Outline {
    boot: BootId,
    standing: Standing,
    hard_state: HardState,
    last: Option<(Position, u64)>,
}

impl Stored {
    /// `node` writes a batch.
    pub fn write(&mut self, node: u64, batch: &WriteBatch) {
        let disk = self.disks.entry(node).or_default();
        disk.newest.apply(batch);
        disk.all.insert(disk.newest.hash());
    }

    /// `node` started on `found`; `is_sound` says whether its disk did what a disk has to do.
    pub fn started(&mut self, node: u64, found: &Durable, is_sound: bool) -> Verdict {
        let disk = self.disks.entry(node).or_default();
        let (outline, empty) = (Outline::of(found), Outline::default().hash());
        let hash = outline.hash();
        disk.newest = outline;
        if is_sound || hash == empty || disk.all.contains(&hash) {
            disk.all.insert(hash);
            return Ok(());
        }
        let what = format!(
            "the damaged disk of node {node} was read as {} entries, boot {} and {:?}, which was never there",
            found.entries.len(),
            found.boot,
            found.hard_state
        );
        broken(Rule::Stored, what)
    }
}

impl Outline {
    fn of(durable: &Durable) -> Outline {
        let last = durable.entries.last().map(|entry| (entry.at, xxh3_64(&entry.command)));
        Outline {
            boot: durable.boot,
            standing: durable.standing.clone(),
            hard_state: durable.hard_state,
            last,
        }
    }

    fn apply(&mut self, batch: &WriteBatch) {
        self.boot = batch.boot.unwrap_or(self.boot);
        self.standing = batch.standing.clone().unwrap_or_else(|| self.standing.clone());
        self.hard_state = batch.hard_state.unwrap_or(self.hard_state);
        if batch.snapshot.is_some() {
            self.last = None;
        }
        let last = batch.entries.last().map(|entry| (entry.at, xxh3_64(&entry.command)));
        self.last = last.or(self.last);
    }

    fn hash(&self) -> u128 {
        xxh3_128(&codec::encode(&(self.boot, &self.standing, self.hard_state, self.last)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::log_matching::tests::{batch, entry};
    use super::*;

    #[test]
    fn a_rolled_back_disk_is_believed_and_an_invented_one_is_a_violation() {
        let mut checker = Stored::default();
        let (first, second) = (batch(vec![entry(2, 2, "a")]), batch(vec![entry(3, 2, "b")]));
        checker.write(1, &first);
        checker.write(1, &second);
        let older = Durable { entries: first.entries.clone(), ..Durable::default() };
        assert_eq!(checker.started(1, &older, false), Ok(()));
        let mixed = Durable { entries: vec![entry(2, 2, "a"), entry(3, 2, "c")], ..Durable::default() };
        assert!(checker.started(1, &mixed, false).is_err());
        assert_eq!(checker.started(1, &mixed, true), Ok(()), "another rule judges sound disks");
    }
}
