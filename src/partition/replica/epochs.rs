//! Where each leader epoch begins in a log: how two logs find the place from which on they differ (KIP-101).
//!
//! Records of one leader epoch were written by one leader, so two logs that have records of the same epoch at the same
//! place have the same records up to there. A follower therefore names the epoch of its last record, and the leader says
//! where the records of that epoch, or of the last one before it that it has itself, end in its own log.

use serde::{Deserialize, Serialize};

use crate::id::{LeaderEpoch, Offset};

/// The leader epochs of a log, with the offset of the first record of each; both ascend.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Epochs {
    starts: Vec<(LeaderEpoch, Offset)>,
}

impl Epochs {
    /// A leader begins `epoch` at `at`, which is the end of the log, or records of it come there. An epoch that began
    /// there and has no records is forgotten: whoever led it wrote nothing that was kept.
    pub fn begin(&mut self, epoch: LeaderEpoch, at: Offset) {
        self.starts.truncate(self.starts.partition_point(|(old, start)| *old <= epoch && *start < at));
        if self.starts.last().is_none_or(|(last, _)| *last != epoch) {
            self.starts.push((epoch, at));
        }
    }

    /// The log ends at `end` now.
    pub fn truncate(&mut self, end: Offset) {
        self.starts.truncate(self.starts.partition_point(|(_, start)| *start < end));
    }

    /// The log begins at `start` now.
    pub fn trim(&mut self, start: Offset) {
        let before = self.starts.partition_point(|(_, begins)| *begins <= start);
        self.starts.drain(..before.saturating_sub(1));
        if let Some((_, begins)) = self.starts.first_mut() {
            *begins = start.max(*begins);
        }
    }

    /// The log is empty now.
    pub fn clear(&mut self) {
        self.starts.clear();
    }

    /// The last epoch that is not after `epoch`, and where its records end in a log that ends at `end`. Without one, what
    /// is known begins later, there.
    #[must_use]
    pub fn end_of(&self, epoch: LeaderEpoch, end: Offset) -> (Option<LeaderEpoch>, Offset) {
        let after = self.starts.partition_point(|(known, _)| *known <= epoch);
        let ends = self.starts.get(after).map_or(end, |(_, start)| *start);
        let last = after.checked_sub(1).and_then(|place| self.starts.get(place));
        (last.map(|(known, _)| *known), ends)
    }

    /// The epoch of the last record of a log that ends at `end`.
    #[must_use]
    pub fn of_last_record(&self, end: Offset) -> Option<LeaderEpoch> {
        self.starts.iter().rev().find(|(_, start)| *start < end).map(|(epoch, _)| *epoch)
    }

    /// All of them, the first one first.
    pub fn iter(&self) -> impl Iterator<Item = (LeaderEpoch, Offset)> {
        self.starts.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(of: &[(u64, u64)]) -> Epochs {
        let mut epochs = Epochs::default();
        of.iter().for_each(|(epoch, start)| epochs.begin(LeaderEpoch::new(*epoch), Offset::new(*start)));
        epochs
    }

    fn end_of(epochs: &Epochs, epoch: u64) -> (Option<u64>, u64) {
        let (known, end) = epochs.end_of(LeaderEpoch::new(epoch), Offset::new(20));
        (known.map(LeaderEpoch::value), end.value())
    }

    #[test]
    fn an_epoch_ends_where_the_next_one_begins() {
        let epochs = epochs(&[(2, 3), (4, 7), (5, 10)]);
        assert_eq!(end_of(&epochs, 1), (None, 3));
        assert_eq!(end_of(&epochs, 2), (Some(2), 7));
        assert_eq!(end_of(&epochs, 3), (Some(2), 7));
        assert_eq!(end_of(&epochs, 5), (Some(5), 20));
        assert_eq!(end_of(&epochs, 9), (Some(5), 20));
        assert_eq!(end_of(&Epochs::default(), 9), (None, 20));
    }

    #[test]
    fn an_epoch_without_records_is_not_that_of_the_last_record_and_is_forgotten_by_the_next() {
        let mut epochs = epochs(&[(2, 3), (4, 7)]);
        assert_eq!(epochs.of_last_record(Offset::new(7)), Some(LeaderEpoch::new(2)));
        epochs.begin(LeaderEpoch::new(5), Offset::new(7));
        assert_eq!(end_of(&epochs, 4), (Some(2), 7));
        // So it is when a record of an earlier epoch comes.
        epochs.begin(LeaderEpoch::new(2), Offset::new(7));
        assert_eq!(end_of(&epochs, 9), (Some(2), 20));
        epochs.begin(LeaderEpoch::new(3), Offset::new(8));
        assert_eq!((end_of(&epochs, 2), end_of(&epochs, 9)), ((Some(2), 8), (Some(3), 20)));
    }

    #[test]
    fn what_is_cut_off_at_either_end_is_forgotten() {
        let mut epochs = epochs(&[(2, 3), (4, 7), (5, 10)]);
        epochs.truncate(Offset::new(10));
        assert_eq!(end_of(&epochs, 9), (Some(4), 20));
        epochs.trim(Offset::new(8));
        let all: Vec<_> = epochs.iter().map(|(epoch, start)| (epoch.value(), start.value())).collect();
        assert_eq!(all, [(4, 8)]);
        epochs.truncate(Offset::new(0));
        assert_eq!(epochs.of_last_record(Offset::new(20)), None);
    }
}
