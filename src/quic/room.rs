//! Room that is shared: places for clients, and memory for what they ask and what they are answered.
//!
//! Nobody gets more than he leaves: whoever holds some is given more only if what he holds then is not more than what is
//! free then (Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet switches", 1998, with α = 1).
//! One holder alone so gets half of the room, the next one half of the rest, and somebody who holds nothing is given
//! whatever is there; no shares have to be set, and none lie idle.

use core::net::{IpAddr, Ipv6Addr};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::Gauge;
use tokio::sync::oneshot;

use crate::node::Caller;

/// Whom room is given to: all who have the same rights and come from the same address.
pub(super) type Holder = (Caller, IpAddr);

/// Who comes from this address. Of the sixth version, whoever has one has 2⁶⁴ of them.
pub(super) fn holder(caller: Caller, address: IpAddr) -> Holder {
    let address = match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address @ IpAddr::V4(_) => address,
    };
    (caller, address)
}

/// Some amount of something, of which many want a part.
pub(super) struct Room {
    size: usize,
    taken: Mutex<Taken>,
    /// Shows how much is taken.
    shown: Gauge,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by: BTreeMap<Holder, usize>,
    /// Who waits for how much, in the order in which they came.
    waiting: BTreeMap<u64, Waiter>,
    last_waiter: u64,
}

struct Waiter {
    holder: Holder,
    amount: usize,
    wake: oneshot::Sender<()>,
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
        Arc::new(Room { size, taken: Mutex::default(), shown })
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

impl Taken {
    /// Whether there is so much more for this holder, in a room of this size.
    fn has_room(&self, size: usize, holder: Holder, amount: usize) -> bool {
        let Some(left) = (size - self.all).checked_sub(amount) else { return false };
        let held = self.by.get(&holder).copied().unwrap_or_default();
        held == 0 || held.saturating_add(amount) <= left
    }

    fn take(&mut self, holder: Holder, amount: usize) {
        self.all += amount;
        *self.by.entry(holder).or_default() += amount;
    }

    fn give_back(&mut self, holder: Holder, amount: usize) {
        self.all -= amount;
        if let Some(held) = self.by.get_mut(&holder) {
            *held -= amount;
            if *held == 0 {
                self.by.remove(&holder);
            }
        }
    }

    /// Takes what there is now for those who wait, and wakes them. Whoever does not wait any more is left out.
    fn serve(&mut self, size: usize) {
        let waiting: Vec<u64> = self.waiting.keys().copied().collect();
        for number in waiting {
            let Some(Waiter { holder, amount, .. }) = self.waiting.get(&number) else { continue };
            let (holder, amount) = (*holder, *amount);
            if !self.has_room(size, holder, amount) {
                continue;
            }
            if let Some(waiter) = self.waiting.remove(&number)
                && waiter.wake.send(()).is_ok()
            {
                self.take(holder, amount);
            }
        }
    }
}

/// Somebody who waits; when it is dropped, nobody does any more.
struct Waiting<'a> {
    room: &'a Room,
    number: u64,
    holder: Holder,
    amount: usize,
    woken: oneshot::Receiver<()>,
    is_over: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut taken = self.room.taken();
        if taken.waiting.remove(&self.number).is_none() {
            // It was given, and nobody is there to take it.
            taken.give_back(self.holder, self.amount);
            taken.serve(self.room.size);
            self.room.show(taken.all);
        }
    }
}

impl Place {
    /// Takes so much more; tells whether it was there for this holder.
    pub(super) fn try_grow(&mut self, amount: usize) -> bool {
        let mut taken = self.room.taken();
        if !taken.has_room(self.room.size, self.holder, amount) {
            return false;
        }
        taken.take(self.holder, amount);
        self.room.show(taken.all);
        self.amount += amount;
        true
    }

    /// Waits until it is as large as `amount`. Cancelling the wait takes nothing.
    pub(super) async fn grow_to(&mut self, amount: usize) {
        let more = amount.saturating_sub(self.amount);
        if more == 0 || self.try_grow(more) {
            return;
        }
        let mut waiting = {
            let (wake, woken) = oneshot::channel();
            let (holder, amount) = (self.holder, more);
            let mut taken = self.room.taken();
            taken.last_waiter += 1;
            let number = taken.last_waiter;
            taken.waiting.insert(number, Waiter { holder, amount, wake });
            // What was given back meanwhile woke nobody.
            taken.serve(self.room.size);
            Waiting { room: &self.room, number, holder, amount, woken, is_over: false }
        };
        let _ = (&mut waiting.woken).await;
        waiting.is_over = true;
        drop(waiting);
        self.amount += more;
    }

    /// Whether it could become as large as `amount`.
    pub(super) fn could_fit(&self, amount: usize) -> bool {
        let more = amount.saturating_sub(self.amount);
        more == 0 || self.room.taken().has_room(self.room.size, self.holder, more)
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
    fn split(&mut self, amount: usize) -> Place {
        let amount = amount.min(self.amount);
        self.amount -= amount;
        Place { room: Arc::clone(&self.room), holder: self.holder, amount }
    }

    /// Makes all of this into another place.
    pub(super) fn split_all(&mut self) -> Place {
        self.split(self.amount)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.amount == 0 {
            return;
        }
        let mut taken = self.room.taken();
        taken.give_back(self.holder, self.amount);
        taken.serve(self.room.size);
        self.room.show(taken.all);
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

    #[test]
    fn a_large_part_leaves_as_much_unless_it_is_the_first() {
        let room = Room::new(100, Gauge::noop());
        let mut first = room.enter(holder(1));
        assert!(first.try_grow(20) && first.try_grow(30), "fifty are left");
        assert!(!first.try_grow(1));
        let mut second = room.enter(holder(2));
        assert!(!second.try_grow(51), "there is no more than there is");
        assert!(second.try_grow(50), "who holds nothing gets what is there");
        assert!(!room.enter(holder(3)).try_grow(1));
        drop(second);
        assert!(!first.try_grow(26), "that would leave twenty-four");
    }

    #[test]
    fn a_network_of_the_sixth_version_is_one_holder_and_each_address_of_the_fourth_is() {
        let from = |address: &str| super::holder(Caller::Client, address.parse().unwrap());
        assert_eq!(from("2001:db8::1"), from("2001:db8::2:3"));
        assert_ne!(from("2001:db8:0:1::1"), from("2001:db8:0:2::1"));
        assert_eq!(from("::ffff:10.0.0.1"), from("10.0.0.1"));
        assert_ne!(from("::ffff:10.0.0.1"), from("::ffff:10.0.0.2"));
    }

    /// Polls once; tells whether it is done.
    async fn is_done(future: &mut (impl Future<Output = ()> + Unpin)) -> bool {
        tokio::select! {
            biased;
            () = future => true,
            () = core::future::ready(()) => false,
        }
    }

    #[tokio::test]
    async fn who_waits_is_given_what_others_give_back_and_others_are_not_woken() {
        let room = Room::new(10, Gauge::noop());
        let mut held = room.enter(holder(1));
        assert!(held.try_grow(5));
        let (mut much, mut little) = (room.enter(holder(1)), room.enter(holder(1)));
        let mut waits_for_much = Box::pin(much.grow_to(5));
        let mut waits_for_little = Box::pin(little.grow_to(2));
        assert!(!is_done(&mut waits_for_much).await && !is_done(&mut waits_for_little).await);
        drop(held.split(2));
        assert!(!is_done(&mut waits_for_much).await, "three are held, and five do not fit beside them");
        assert!(is_done(&mut waits_for_little).await);
        assert_eq!(room.taken().all, 5);
        drop(held);
        assert!(!is_done(&mut waits_for_much).await);
        drop(waits_for_little);
        drop(little);
        assert!(is_done(&mut waits_for_much).await);
        assert_eq!(room.taken().all, 5);
        assert!(room.taken().waiting.is_empty());
    }

    #[tokio::test]
    async fn who_does_not_wait_any_more_takes_nothing() {
        let room = Room::new(10, Gauge::noop());
        let mut held = room.enter(holder(1));
        assert!(held.try_grow(5));
        let mut first = room.enter(holder(1));
        let mut waits = Box::pin(first.grow_to(2));
        assert!(!is_done(&mut waits).await);
        drop(waits);
        assert_eq!(room.taken().waiting.len(), 0);
        let mut waits = Box::pin(first.grow_to(2));
        assert!(!is_done(&mut waits).await);
        drop(held);
        assert_eq!(room.taken().all, 2, "it is given before it is noticed");
        drop(waits);
        assert_eq!(room.taken().all, 0, "and given back when nobody is there");
        assert_eq!(first.amount, 0);
    }
}
