//! Room that is shared: places for clients, and memory for what they ask and what they are answered.
//!
//! Nobody gets more than he leaves: whoever holds some is given more only as long as that, with what he holds, is not
//! more than what is free (Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches",
//! 1998, with α = 1). One holder alone so gets half of the room, the next one half of the rest, and somebody who holds
//! nothing yet finds some room for as long as there is any; no shares have to be set, and none lie idle.

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::Gauge;
use tokio::sync::Notify;

use crate::node::Caller;

/// Whom room is given to: all who have the same rights and come from the same address.
pub(super) type Holder = (Caller, IpAddr);

/// Some amount of something, of which many want a part.
pub(super) struct Room {
    size: usize,
    taken: Mutex<Taken>,
    freed: Notify,
    /// Shows how much is taken.
    shown: Gauge,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by: BTreeMap<Holder, usize>,
}

/// A part of a [`Room`]; it is given back when this is dropped.
pub(super) struct Place {
    room: Arc<Room>,
    holder: Holder,
    amount: usize,
}

impl Room {
    /// Room of this size; `shown` tells how much of it is taken.
    pub(super) fn new(size: usize, shown: Gauge) -> Arc<Room> {
        shown.set(0);
        Arc::new(Room { size, taken: Mutex::default(), freed: Notify::new(), shown })
    }

    /// A place that has nothing yet.
    pub(super) fn enter(self: &Arc<Room>, holder: Holder) -> Place {
        Place { room: Arc::clone(self), holder, amount: 0 }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, all: usize) {
        self.shown.set(u32::try_from(all).unwrap_or(u32::MAX));
    }
}

impl Place {
    /// Takes so much more; tells whether it was there for this holder.
    pub(super) fn try_grow(&mut self, amount: usize) -> bool {
        let mut taken = self.room.taken();
        let free = self.room.size - taken.all;
        let held = taken.by.get(&self.holder).copied().unwrap_or_default();
        if held.saturating_add(amount) > free {
            return false;
        }
        taken.all += amount;
        *taken.by.entry(self.holder).or_default() += amount;
        self.amount += amount;
        self.room.show(taken.all);
        true
    }

    /// Waits until so much more is there for this holder. Cancelling the wait takes nothing.
    pub(super) async fn grow(&mut self, amount: usize) {
        loop {
            let room = Arc::clone(&self.room);
            let mut freed = core::pin::pin!(room.freed.notified());
            // From here on, whatever is given back is heard of.
            freed.as_mut().enable();
            if self.try_grow(amount) {
                return;
            }
            freed.await;
        }
    }

    /// Becomes as large as `amount`; tells whether there was room for that.
    pub(super) fn fit(&mut self, amount: usize) -> bool {
        match amount.checked_sub(self.amount) {
            Some(more) => self.try_grow(more),
            None => {
                drop(self.split(self.amount - amount));
                true
            }
        }
    }

    /// Makes a part of this into a place of its own.
    pub(super) fn split(&mut self, amount: usize) -> Place {
        let amount = amount.min(self.amount);
        self.amount -= amount;
        Place { room: Arc::clone(&self.room), holder: self.holder, amount }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.amount == 0 {
            return;
        }
        let mut taken = self.room.taken();
        taken.all -= self.amount;
        if let Some(held) = taken.by.get_mut(&self.holder) {
            *held -= self.amount;
            if *held == 0 {
                taken.by.remove(&self.holder);
            }
        }
        self.room.show(taken.all);
        drop(taken);
        self.room.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;

    fn holder(last: u8) -> Holder {
        (Caller::Client, IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)))
    }

    /// Takes one after the other, until there is no more for that holder.
    fn take_all(room: &Arc<Room>, last: u8) -> Vec<Place> {
        let one = || {
            let mut place = room.enter(holder(last));
            place.try_grow(1).then_some(place)
        };
        core::iter::from_fn(one).collect()
    }

    #[test]
    fn nobody_gets_more_than_is_left_for_others() {
        let room = Room::new(16, Gauge::noop());
        let (first, second, third) = (take_all(&room, 1), take_all(&room, 2), take_all(&room, 3));
        assert_eq!([first.len(), second.len(), third.len()], [8, 4, 2]);
        assert_eq!(take_all(&room, 1).len(), 0);
        drop((second, third));
        assert_eq!(take_all(&room, 1).len(), 0, "eight are held, eight are free");
        assert_eq!(take_all(&room, 2).len(), 4);
        drop(first);
        assert_eq!(take_all(&room, 2).len(), 8);
        assert_eq!(room.taken().all, 0);
        assert!(room.taken().by.is_empty(), "nobody is remembered who holds nothing");
    }

    #[test]
    fn the_last_place_is_given_to_who_has_none() {
        let room = Room::new(1, Gauge::noop());
        let only = take_all(&room, 1);
        assert_eq!((only.len(), take_all(&room, 2).len()), (1, 0));
    }

    #[test]
    fn operators_do_not_share_with_the_clients_beside_them() {
        let room = Room::new(4, Gauge::noop());
        let _clients = take_all(&room, 1);
        let mut operator = room.enter((Caller::Operator, holder(1).1));
        assert!(operator.try_grow(2), "clients hold two");
        assert!(!operator.try_grow(1));
    }

    #[test]
    fn a_part_is_given_back_on_its_own() {
        let room = Room::new(100, Gauge::noop());
        let mut place = room.enter(holder(1));
        assert!(place.try_grow(30));
        let part = place.split(20);
        drop(place);
        assert_eq!(room.taken().all, 20);
        drop(part);
        assert_eq!(room.taken().all, 0);
    }

    #[tokio::test]
    async fn who_waits_hears_of_what_is_given_back() {
        let room = Room::new(10, Gauge::noop());
        let mut held = room.enter(holder(1));
        assert!(held.try_grow(5));
        let mut waits = room.enter(holder(1));
        let (grown, ()) = tokio::join!(waits.grow(3), async {
            tokio::task::yield_now().await;
            drop(held.split(5));
        });
        grown
    }
}
