//! The `Ready`s of raft-rs that are not known to be durable, and their numbers.
//!
//! raft-rs remembers for each of them where its entries end, but tells nobody. A machine that is restored from an
//! image has another raft-rs inside, which counts its `Ready`s from 1 again. So this keeps what raft-rs keeps, and
//! numbers of its own.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::ReadyNumber;
use super::message::Position;

/// What was handed out and is not known to be durable.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Outstanding {
    /// Our number of the last one, and the number that it has in raft-rs.
    last: u64,
    last_there: u64,
    /// For each, oldest first, where its entries end, if it has any.
    ends: VecDeque<Option<Position>>,
}

impl Outstanding {
    /// raft-rs has handed out the next one under this number, with entries up to there.
    pub(super) fn hand_out(&mut self, number: u64, end: Option<Position>) -> ReadyNumber {
        (self.last, self.last_there) = (self.last + 1, number);
        self.ends.push_back(end);
        ReadyNumber(self.last)
    }

    /// All are durable up to that one. Returns its number in raft-rs; 0 if it is older than all that raft-rs knows.
    pub(super) fn settle(&mut self, number: ReadyNumber) -> u64 {
        let later = self.last.saturating_sub(number.0);
        let left = usize::try_from(later).unwrap_or(usize::MAX);
        self.ends.drain(..self.ends.len().saturating_sub(left));
        self.last_there.saturating_sub(later)
    }

    /// For each, oldest first, where its entries end.
    pub(super) fn ends(&self) -> impl Iterator<Item = Option<Position>> + '_ {
        self.ends.iter().copied()
    }

    /// The same, over a raft-rs that has handed out one `Ready` more than these, and no other.
    pub(super) fn renumbered(&self) -> Outstanding {
        let handed_out = u64::try_from(self.ends.len()).unwrap_or(u64::MAX);
        Outstanding { last_there: handed_out.saturating_add(1), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{LogIndex, Term};

    fn end(index: u64) -> Option<Position> {
        Some(Position { index: LogIndex::new(index), term: Term::new(1) })
    }

    #[test]
    fn numbers_go_on_where_raft_counts_from_one_again() {
        let mut outstanding = Outstanding::default();
        let numbers = [end(5), None, end(7)].map(|end| outstanding.hand_out(outstanding.last_there + 1, end));
        assert_eq!(numbers, [ReadyNumber(1), ReadyNumber(2), ReadyNumber(3)]);
        assert_eq!(outstanding.settle(numbers[0]), 1);
        let mut restored = outstanding.renumbered();
        assert_eq!(restored.ends().collect::<Vec<_>>(), [None, end(7)]);
        // The first one in raft-rs is the one that is thrown away; then come numbers 2 and 3 of ours.
        assert_eq!(restored.hand_out(4, None), ReadyNumber(4));
        assert_eq!(restored.settle(numbers[2]), 3);
        assert_eq!(restored.settle(ReadyNumber(4)), 4);
        assert_eq!(restored.ends().count(), 0);
    }

    #[test]
    fn what_is_older_than_all_that_raft_knows_settles_nothing() {
        let mut outstanding = Outstanding::default();
        for number in 1..=9 {
            outstanding.hand_out(number, end(number));
        }
        outstanding.settle(ReadyNumber(8));
        let mut restored = outstanding.renumbered();
        for late in [1, 7, 8] {
            assert!(restored.settle(ReadyNumber(late)) <= 1, "raft-rs would take another one for durable");
            assert_eq!(restored.ends().count(), 1);
        }
    }
}
