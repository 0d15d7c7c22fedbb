//! News: who is told what, how often, and in which order (SWIM §4.1).
//!
//! A piece of news is not stored. The queue holds *members*, in lists by how often the news of each was
//! passed on, and what is said of a member is read out of the table when it is said. So stale news is never
//! sent, a member that changes twice is one piece of news, and the queue is never longer than the table.
//!
//! ```text
//!   bad news   sent 0 ─► a ─► b      sent 1 ─► c    …     what fits is taken from the left to the right,
//!   good news  sent 0 ─► d           sent 3 ─► e    …     and moves to the next list
//! ```
//!
//! Bad news goes first: a suspicion that reaches its suspect a period earlier is one false death less. Among
//! equals the one passed on least often goes first, then the newest. After `λ · ceil(log10(n + 1))` times a
//! piece of news has reached everybody with high probability, and leaves the queue. Whom it has not reached
//! learns it by [comparing tables](super::sync).

use serde::{Deserialize, Serialize};

use super::member::State;
use super::table::{Place, QUEUED_NOT, Table};

/// The lists of each class; the most often that news is passed on is below it.
const LISTS: usize = 64;
/// How many pieces of news that do not fit are passed over before a datagram counts as full.
const LOOK_AHEAD: usize = 4;

/// The queue of news, in the entries of a table.
#[derive(Clone, Deserialize, Serialize)]
pub(super) struct News {
    lists: [Box<[List]>; 2],
    /// Which lists are not empty.
    occupied: [u64; 2],
    length: usize,
}

#[derive(Clone, Copy, Default, Deserialize, Serialize)]
struct List {
    head: Option<Place>,
    tail: Option<Place>,
}

impl News {
    pub(super) fn new() -> News {
        let lists = [(); 2].map(|()| [List::default(); LISTS].into());
        News { lists, occupied: [0; 2], length: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn is_queued(table: &Table, place: Place) -> bool {
        table.entry(place).sent != QUEUED_NOT
    }

    /// What is known of a member is news from now on.
    pub(super) fn put(&mut self, table: &mut Table, place: Place) {
        self.take(table, place);
        let class = class_of(table.entry(place).state);
        self.link(table, place, class, 0, true);
    }

    /// It is no news any more.
    pub(super) fn take(&mut self, table: &mut Table, place: Place) {
        let entry = table.entry(place);
        if entry.sent == QUEUED_NOT {
            return;
        }
        let (class, sent) = unpack(entry.sent);
        let (previous, next) = (entry.previous, entry.next);
        let list = &mut self.lists[class][sent];
        match previous {
            Some(previous) => table.entry_mut(previous).next = next,
            None => list.head = next,
        }
        match next {
            Some(next) => table.entry_mut(next).previous = previous,
            None => list.tail = previous,
        }
        if list.head.is_none() {
            self.occupied[class] &= !(1 << sent);
        }
        let entry = table.entry_mut(place);
        (entry.previous, entry.next, entry.sent) = (None, None, QUEUED_NOT);
        self.length -= 1;
    }

    /// It was passed on once more; after `limit` times it is no news any more.
    pub(super) fn passed(&mut self, table: &mut Table, place: Place, limit: u8) {
        let code = table.entry(place).sent;
        if code == QUEUED_NOT {
            return;
        }
        let (class, sent) = unpack(code);
        self.take(table, place);
        if sent + 1 < usize::from(limit).min(LISTS) {
            self.link(table, place, class, sent + 1, false);
        }
    }

    /// Offers news in order until `accept` has said no too often; returns what it accepted in `chosen`.
    pub(super) fn offer(
        &self,
        table: &Table,
        chosen: &mut Vec<Place>,
        mut accept: impl FnMut(Place) -> bool,
    ) {
        let mut misses = 0;
        for class in [BAD, GOOD] {
            let mut occupied = self.occupied[class];
            while occupied != 0 {
                let sent = usize::try_from(occupied.trailing_zeros()).expect("a bit's number fits");
                occupied &= occupied - 1;
                let mut at = self.lists[class][sent].head;
                while let Some(place) = at {
                    if accept(place) {
                        chosen.push(place);
                    } else {
                        misses += 1;
                        if misses > LOOK_AHEAD {
                            return;
                        }
                    }
                    at = table.entry(place).next;
                }
            }
        }
    }

    fn link(&mut self, table: &mut Table, place: Place, class: usize, sent: usize, is_first: bool) {
        let list = &mut self.lists[class][sent];
        let entry = table.entry_mut(place);
        entry.sent = pack(class, sent);
        if is_first {
            (entry.previous, entry.next) = (None, list.head);
            match list.head.replace(place) {
                Some(second) => table.entry_mut(second).previous = Some(place),
                None => list.tail = Some(place),
            }
        } else {
            (entry.previous, entry.next) = (list.tail, None);
            match list.tail.replace(place) {
                Some(last) => table.entry_mut(last).next = Some(place),
                None => list.head = Some(place),
            }
        }
        self.occupied[class] |= 1 << sent;
        self.length += 1;
    }
}

const BAD: usize = 0;
const GOOD: usize = 1;

fn class_of(state: State) -> usize {
    match state {
        State::Alive => GOOD,
        State::Suspect | State::Dead | State::Left => BAD,
    }
}

fn pack(class: usize, sent: usize) -> u8 {
    u8::try_from(class * LISTS + sent).expect("there are 128 lists")
}

fn unpack(code: u8) -> (usize, usize) {
    (usize::from(code) / LISTS, usize::from(code) % LISTS)
}

#[cfg(test)]
mod tests {
    use super::super::epoch::Epoch;
    use super::super::member::Record;
    use super::*;
    use crate::id::NodeId;
    use crate::rng::Seed;

    fn world(members: u64) -> (Table, News, Vec<Place>) {
        let record = |id| Record {
            id: NodeId::new(id).unwrap(),
            epoch: Epoch::new(1),
            address: "10.0.0.1:7".parse().unwrap(),
            boot: 1,
            zone: 0,
            metadata_version: 0,
            metadata_hash: 0,
        };
        let mut draws = Seed::new(1).stream("order", 0);
        let mut table = Table::new(&record(100));
        let places = (1..=members).map(|id| table.insert(&record(id), State::Alive, 0, &mut draws)).collect();
        (table, News::new(), places)
    }

    fn offered(news: &News, table: &Table, room: usize) -> Vec<Place> {
        let mut chosen = Vec::new();
        let mut left = room;
        news.offer(table, &mut chosen, |_| {
            left = left.saturating_sub(1);
            left + 1 > 1 || room == usize::MAX
        });
        chosen
    }

    #[test]
    fn the_newest_goes_first_and_what_was_passed_on_goes_last() {
        let (mut table, mut news, places) = world(3);
        for place in &places {
            news.put(&mut table, *place);
        }
        assert_eq!(offered(&news, &table, usize::MAX), [places[2], places[1], places[0]]);
        news.passed(&mut table, places[2], 4);
        assert_eq!(offered(&news, &table, usize::MAX), [places[1], places[0], places[2]]);
        news.put(&mut table, places[2]);
        assert_eq!(offered(&news, &table, usize::MAX), [places[2], places[1], places[0]]);
    }

    #[test]
    fn bad_news_goes_before_good() {
        let (mut table, mut news, places) = world(2);
        news.put(&mut table, places[0]);
        let mut draws = Seed::new(1).stream("order", 0);
        table.set(places[0], State::Suspect, Epoch::new(1), 0, &mut draws);
        news.put(&mut table, places[0]);
        news.put(&mut table, places[1]);
        assert_eq!(offered(&news, &table, usize::MAX), places);
        assert_eq!(news.len(), 2);
    }

    #[test]
    fn news_is_passed_on_as_often_as_the_limit_says_and_then_forgotten() {
        let (mut table, mut news, places) = world(1);
        news.put(&mut table, places[0]);
        for left in (0..4).rev() {
            assert_eq!(offered(&news, &table, usize::MAX), places);
            news.passed(&mut table, places[0], 4);
            assert_eq!(news.len(), usize::from(left > 0));
        }
        assert!(!News::is_queued(&table, places[0]));
    }
}
