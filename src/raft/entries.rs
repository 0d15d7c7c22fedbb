//! A row of entries that is copied without copying them.
//!
//! An image of the machine holds the log, of which a million entries may be in memory, and is taken often. So the row is
//! kept in chunks that copies share; only the last one is ever written to, and copied first if it is shared.

use std::collections::VecDeque;
use std::sync::Arc;

use raft::eraftpb;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::message::Entry;

/// How many entries share a chunk.
const CHUNK: usize = 256;

/// Entries, in order.
///
/// Invariant: every chunk but the last is full, and of the first one fewer than all are forgotten.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Entries {
    chunks: VecDeque<Arc<Vec<eraftpb::Entry>>>,
    /// So many of the first chunk are forgotten.
    forgotten: usize,
}

impl Entries {
    pub(super) fn len(&self) -> usize {
        let last = self.chunks.back().map_or(0, |last| last.len());
        (self.chunks.len().saturating_sub(1) * CHUNK + last).saturating_sub(self.forgotten)
    }

    pub(super) fn get(&self, at: usize) -> Option<&eraftpb::Entry> {
        let at = at + self.forgotten;
        self.chunks.get(at / CHUNK)?.get(at % CHUNK)
    }

    pub(super) fn back(&self) -> Option<&eraftpb::Entry> {
        self.chunks.back()?.last()
    }

    /// Those from `start` on.
    pub(super) fn from(&self, start: usize) -> impl Iterator<Item = &eraftpb::Entry> {
        (start..).map_while(|at| self.get(at))
    }

    pub(super) fn push(&mut self, entry: eraftpb::Entry) {
        match self.chunks.back_mut() {
            Some(last) if last.len() < CHUNK => Arc::make_mut(last).push(entry),
            Some(_) | None => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(entry);
                self.chunks.push_back(Arc::new(chunk));
            }
        }
    }

    pub(super) fn pop_front(&mut self) {
        self.forgotten += 1;
        if self.chunks.front().is_some_and(|first| self.forgotten >= first.len()) {
            self.chunks.pop_front();
            self.forgotten = 0;
        }
    }

    /// Keeps the first so many.
    pub(super) fn truncate(&mut self, length: usize) {
        if length == 0 {
            return *self = Entries::default();
        }
        if length >= self.len() {
            return;
        }
        let end = length + self.forgotten;
        self.chunks.truncate(end.div_ceil(CHUNK));
        if let Some(last) = self.chunks.back_mut() {
            Arc::make_mut(last).truncate((end - 1) % CHUNK + 1);
        }
    }
}

impl FromIterator<eraftpb::Entry> for Entries {
    fn from_iter<I: IntoIterator<Item = eraftpb::Entry>>(all: I) -> Entries {
        let mut entries = Entries::default();
        all.into_iter().for_each(|entry| entries.push(entry));
        entries
    }
}

/// Written down as ours.
impl Serialize for Entries {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entries: Vec<Entry> = self.from(0).cloned().map(Entry::from_raft).collect();
        entries.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entries, D::Error> {
        Ok(Vec::<Entry>::deserialize(deserializer)?.into_iter().map(Entry::into_raft).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Act {
        Push(usize),
        Pop(usize),
        Truncate(usize),
        Copy,
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let act = prop_oneof![
            (0..3 * CHUNK).prop_map(Act::Push),
            (0..2 * CHUNK).prop_map(Act::Pop),
            (0..4 * CHUNK).prop_map(Act::Truncate),
            Just(Act::Copy),
        ];
        proptest::collection::vec(act, 0..12)
    }

    fn indexes(entries: &Entries) -> Vec<u64> {
        entries.from(0).map(|entry| entry.index).collect()
    }

    proptest! {
        #[test]
        fn a_row_in_chunks_is_a_row_and_copies_stay_what_they_were(acts in acts()) {
            let (mut entries, mut model, mut next) = (Entries::default(), Vec::new(), 0);
            let mut copies = Vec::new();
            for act in acts {
                match act {
                    Act::Push(count) => for _ in 0..count {
                        next += 1;
                        entries.push(eraftpb::Entry { index: next, ..eraftpb::Entry::default() });
                        model.push(next);
                    },
                    Act::Pop(count) => for _ in 0..count.min(model.len()) {
                        entries.pop_front();
                        model.remove(0);
                    },
                    Act::Truncate(length) => {
                        entries.truncate(length);
                        model.truncate(length);
                    }
                    Act::Copy => copies.push((entries.clone(), model.clone())),
                }
                prop_assert_eq!(entries.len(), model.len());
                prop_assert_eq!(indexes(&entries), model.clone());
                prop_assert_eq!(entries.back().map(|last| last.index), model.last().copied());
            }
            for (copy, model) in copies {
                prop_assert_eq!(indexes(&copy), model);
            }
        }
    }
}
