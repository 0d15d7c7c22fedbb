//! Which batches of which producers are in a log: so that a batch that is sent again is written once.
//!
//! A producer that is not answered does not know what became of its batch, and sends it again, perhaps to another leader.
//! The batch carries a [`Stamp`]: who its producer is, and how many records that had produced before. So whoever has the log
//! knows what of a producer is in it, and every replica knows it, since it follows from the log alone: a new leader knows
//! it as well as the one before.
//!
//! ```text
//!   log of a partition:   │ 7: 0..3 │ other's │ 7: 3..5 │            producer 7 has sent five records, next is 5
//!                                                          5 ─► new          3 ─► there already, at this place
//!                                                          4 ─► never whole  9 ─► something is missing before it
//! ```
//!
//! A producer has one batch under way, and sends the next one when it knows what became of that. So the last batch of each
//! is enough, as long as nothing is cut off; what is not committed may be, so of that all batches are kept.
//!
//! What is trimmed is remembered as long as the process lives. The most producers that are remembered is bounded: of the
//! others, whoever wrote last the longest ago is forgotten, and may begin anew with any number.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::io::{Batch, Stamp};
use crate::id::{Offset, ProducerId};

/// The most producers of one partition that are remembered.
const PRODUCERS_MAX: usize = 4096;

/// What a log has of each producer.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Producers {
    of: BTreeMap<ProducerId, VecDeque<Written>>,
    /// Where the last batch of each begins.
    last: BTreeMap<Offset, ProducerId>,
}

/// A batch in the log.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Written {
    /// How many records its producer had produced before.
    pub sequence: u64,
    /// The place of its first record.
    pub first: Offset,
    /// How many records it has.
    pub count: u32,
}

impl Written {
    /// The place after its last record.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.first.plus(self.count.into())
    }

    fn next_sequence(&self) -> u64 {
        self.sequence.saturating_add(self.count.into())
    }
}

/// What a batch is that a producer sends.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Sequel {
    /// It comes next.
    Next,
    /// It is in the log already.
    Repeats(Written),
    /// It does not follow on what is in the log.
    Gap {
        /// What would.
        expected: u64,
    },
}

impl Producers {
    /// What a batch of `count` records is. Of a producer that is not known, any batch comes next.
    #[must_use]
    pub fn judge(&self, stamp: Stamp, count: u32) -> Sequel {
        let Some(written) = self.of.get(&stamp.producer) else { return Sequel::Next };
        let is_it = |written: &&Written| written.sequence == stamp.sequence && written.count == count;
        if let Some(before) = written.iter().rev().find(is_it) {
            return Sequel::Repeats(*before);
        }
        let expected = written.back().map_or(stamp.sequence, Written::next_sequence);
        if expected == stamp.sequence { Sequel::Next } else { Sequel::Gap { expected } }
    }

    /// A batch comes at the end of the log, in which everything before `committed` stays.
    pub fn note(&mut self, batch: &Batch, committed: Offset) {
        if let Some(stamp) = batch.stamp {
            self.add(stamp, batch.first, batch.count, committed);
        }
    }

    /// As [`note`](Producers::note), of a batch without its records.
    pub fn add(&mut self, stamp: Stamp, first: Offset, count: u32, committed: Offset) {
        let written = self.of.entry(stamp.producer).or_default();
        if let Some(before) = written.back() {
            self.last.remove(&before.first);
        }
        written.push_back(Written { sequence: stamp.sequence, first, count });
        while written.get(1).is_some_and(|second| second.end() <= committed) {
            written.pop_front();
        }
        self.last.insert(first, stamp.producer);
        if self.of.len() > PRODUCERS_MAX
            && let Some((_, producer)) = self.last.pop_first()
        {
            self.of.remove(&producer);
        }
    }

    /// The log ends at `end` now.
    pub fn truncate(&mut self, end: Offset) {
        let mut changed: Vec<ProducerId> = self.last.split_off(&end).into_values().collect();
        // The last one before the end may reach beyond it.
        changed.extend(self.last.iter().next_back().map(|(_, producer)| *producer));
        for producer in changed {
            let Some(written) = self.of.get_mut(&producer) else { continue };
            written.retain(|batch| batch.end() <= end);
            self.last.retain(|_, other| *other != producer);
            match written.back() {
                Some(last) => drop(self.last.insert(last.first, producer)),
                None => drop(self.of.remove(&producer)),
            }
        }
    }

    /// The log begins anew.
    pub fn clear(&mut self) {
        *self = Producers::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(producer: u64, sequence: u64) -> Stamp {
        Stamp { producer: ProducerId::new(producer), sequence }
    }

    fn offset(offset: u64) -> Offset {
        Offset::new(offset)
    }

    /// Of producer 7: 0 to 3 at 0, 3 to 5 at 4; of 8: 0 to 1 at 3.
    fn written() -> Producers {
        let mut producers = Producers::default();
        producers.add(stamp(7, 0), offset(0), 3, offset(0));
        producers.add(stamp(8, 0), offset(3), 1, offset(0));
        producers.add(stamp(7, 3), offset(4), 2, offset(0));
        producers
    }

    #[test]
    fn a_batch_comes_next_or_is_there_or_does_not_follow() {
        let producers = written();
        assert_eq!(producers.judge(stamp(7, 5), 1), Sequel::Next);
        let last = Written { sequence: 3, first: offset(4), count: 2 };
        assert_eq!(producers.judge(stamp(7, 3), 2), Sequel::Repeats(last));
        let first = Written { sequence: 0, first: offset(0), count: 3 };
        assert_eq!(producers.judge(stamp(7, 0), 3), Sequel::Repeats(first), "nothing of it is committed");
        for (sequence, count) in [(3, 1), (3, 3), (4, 1), (6, 1)] {
            assert_eq!(producers.judge(stamp(7, sequence), count), Sequel::Gap { expected: 5 });
        }
        assert_eq!(producers.judge(stamp(9, 77), 1), Sequel::Next, "nobody knows that producer");
    }

    #[test]
    fn what_is_cut_off_may_be_written_again() {
        let mut producers = written();
        producers.truncate(offset(4));
        assert_eq!(producers.judge(stamp(7, 3), 2), Sequel::Next);
        assert!(matches!(producers.judge(stamp(7, 0), 3), Sequel::Repeats(_)));
        producers.truncate(offset(2));
        assert_eq!(producers.judge(stamp(7, 0), 3), Sequel::Next);
        assert_eq!(producers, Producers::default());
    }

    #[test]
    fn of_what_is_committed_the_last_batch_is_enough() {
        let mut producers = written();
        producers.add(stamp(7, 5), offset(6), 1, offset(6));
        assert_eq!(producers.judge(stamp(7, 0), 3), Sequel::Gap { expected: 6 });
        assert!(matches!(producers.judge(stamp(7, 3), 2), Sequel::Repeats(_)));
        assert!(matches!(producers.judge(stamp(7, 5), 1), Sequel::Repeats(_)));
    }

    #[test]
    fn whoever_wrote_last_the_longest_ago_is_forgotten() {
        let mut producers = Producers::default();
        for number in 0..5000 {
            producers.add(stamp(number, 0), offset(number), 1, offset(number));
            producers.add(stamp(7, number + 1), offset(10_000 + number), 1, offset(0));
        }
        assert!(producers.of.len() <= PRODUCERS_MAX);
        assert_eq!(producers.of.len(), producers.last.len());
        assert_eq!(producers.judge(stamp(0, 9), 1), Sequel::Next);
        assert!(matches!(producers.judge(stamp(4999, 0), 1), Sequel::Repeats(_)));
        assert!(matches!(producers.judge(stamp(7, 5000), 1), Sequel::Repeats(_)));
    }
}
