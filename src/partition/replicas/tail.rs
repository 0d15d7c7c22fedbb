//! The end of a log, in memory: what followers and consumers that keep up want is there.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::id::Offset;
use crate::partition::replica::io::Batch;

/// The last batches of a log.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Tail {
    batches: VecDeque<Batch>,
    bytes: usize,
}

impl Tail {
    pub(super) fn push(&mut self, batch: Batch) {
        self.bytes += batch.records.len();
        self.batches.push_back(batch);
    }

    /// The log ends at `end` now.
    pub(super) fn truncate(&mut self, end: Offset) {
        while let Some(mut batch) = self.batches.pop_back_if(|batch| batch.end() > end) {
            if batch.first < end {
                batch.count = u32::try_from(end.value() - batch.first.value()).unwrap_or(batch.count);
                return self.batches.push_back(batch);
            }
            self.bytes -= batch.records.len();
        }
    }

    pub(super) fn clear(&mut self) {
        (self.batches, self.bytes) = (VecDeque::new(), 0);
    }

    /// Forgets the first batch if it ends at or before `durable`, where the disk has it. Returns its bytes.
    pub(super) fn forget_first(&mut self, durable: Offset) -> Option<usize> {
        let batch = self.batches.pop_front_if(|batch| batch.end() <= durable)?;
        self.bytes -= batch.records.len();
        Some(batch.records.len())
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where it begins.
    pub(super) fn first(&self) -> Option<Offset> {
        self.batches.front().map(|batch| batch.first)
    }

    /// Where it ends.
    pub(super) fn end(&self) -> Option<Offset> {
        self.batches.back().map(Batch::end)
    }

    /// The batches from the one on that has `from`, up to `until`: one in any case, and no more than `bytes` of others.
    /// `None` if it begins later.
    pub(super) fn read(&self, from: Offset, until: Offset, bytes: usize) -> Option<Vec<Batch>> {
        let place = self.batches.partition_point(|batch| batch.end() <= from);
        let first = self.batches.get(place).filter(|batch| batch.first <= from)?;
        let mut left = bytes.saturating_sub(first.records.len());
        let fits = |batch: &&Batch| {
            let is_first = batch.first == first.first;
            let length = if is_first { 0 } else { batch.records.len() };
            let fits = length <= left && (is_first || batch.end() <= until);
            left = left.saturating_sub(length);
            fits
        };
        Some(self.batches.iter().skip(place).take_while(fits).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::id::LeaderEpoch;
    use crate::time::WallSeconds;

    fn batch(first: u64, count: u32) -> Batch {
        let (first, epoch, records) = (Offset::new(first), LeaderEpoch::new(1), Bytes::from_static(&[0; 10]));
        Batch { first, epoch, count, stamp: None, time: WallSeconds::default(), records }
    }

    /// Batches at 3, 5, 9 and 10, ten bytes each; the log ends at 12.
    fn tail() -> Tail {
        let mut tail = Tail::default();
        [batch(3, 2), batch(5, 4), batch(9, 1), batch(10, 2)].into_iter().for_each(|batch| tail.push(batch));
        tail
    }

    fn read(tail: &Tail, from: u64, until: u64, bytes: usize) -> Option<Vec<u64>> {
        let batches = tail.read(Offset::new(from), Offset::new(until), bytes)?;
        Some(batches.iter().map(|batch| batch.first.value()).collect())
    }

    #[test]
    fn what_was_asked_for_comes_as_far_as_it_fits() {
        assert_eq!(read(&tail(), 3, 12, 100), Some(vec![3, 5, 9, 10]));
        assert_eq!(read(&tail(), 6, 12, 100), Some(vec![5, 9, 10]), "the batch that has it");
        assert_eq!(read(&tail(), 5, 10, 100), Some(vec![5, 9]));
        assert_eq!(read(&tail(), 5, 12, 29), Some(vec![5, 9]));
        assert_eq!(read(&tail(), 5, 12, 0), Some(vec![5]), "one in any case");
        assert_eq!(read(&tail(), 12, 12, 100), None);
        assert_eq!(read(&tail(), 2, 12, 100), None, "that is on the disk only");
    }

    #[test]
    fn what_is_cut_off_is_gone_and_what_is_not_on_the_disk_stays() {
        let mut tail = tail();
        tail.truncate(Offset::new(7));
        assert_eq!((read(&tail, 3, 12, 100), tail.bytes()), (Some(vec![3, 5]), 20));
        assert_eq!(tail.batches.back().map(Batch::end), Some(Offset::new(7)));
        assert_eq!(tail.forget_first(Offset::new(6)), Some(10));
        assert_eq!(tail.forget_first(Offset::new(6)), None);
        assert_eq!((tail.first(), tail.bytes()), (Some(Offset::new(5)), 10));
        tail.clear();
        assert_eq!((tail.first(), tail.bytes()), (None, 0));
    }
}
