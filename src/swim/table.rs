//! The members that one member knows, in under a hundred bytes each.
//!
//! Ten thousand members that know ten thousand members are a hundred million entries, so what a probe or a
//! piece of news touches has to lie together: each entry is one cache line, and beside the entries there are
//! only an index (open addressing, 4 bytes a cell) and the order in which members are probed.
//!
//! ```text
//!   entries   [ us | … one cache line each … ]      a place is a position here
//!   index     hash of the id ──► place              linear probing, cells of a bucket lie side by side
//!   live      [ not yet probed │ probed ]           places; also what random choices are made from
//!   dead      [ … ]                                 places
//!   buckets   XOR of the fingerprints of live members, by the top byte of the id's hash
//! ```
//!
//! *Probe order* (SWIM §4.3): each step swaps a random one of those that are not yet probed to the boundary.
//! That is a shuffle, spread over the round: no step costs more than another, a newcomer enters at a uniform
//! position, and nobody waits longer than `2n - 1` steps.
//!
//! *The membership hash* is the XOR over live members of a fingerprint of id, epoch and what was said with it. Two
//! members whose tables agree know it from a single number in every datagram; two whose tables differ find
//! out where by the 256 buckets of it. Dead ones stay out, since they are forgotten at different times.

use core::cell::Cell;
use core::num::NonZeroU32;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::epoch::Epoch;
use super::member::{Compact, Record, State};
use crate::id::NodeId;
use crate::rng::Stream;

/// How many parts the membership hash has.
pub(super) const BUCKETS: usize = 256;
const BUCKETS_LOG2: u32 = 8;

/// Where a member's entry is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub(super) struct Place(NonZeroU32);

impl Place {
    /// Our own entry. It is neither live nor dead: nobody probes themselves.
    pub(super) const OWN: Place = Place(NonZeroU32::MIN);

    fn new(index: usize) -> Place {
        let number = u32::try_from(index + 1).expect("there are fewer than 2^32 members");
        Place(NonZeroU32::new(number).expect("one more than an index"))
    }

    /// Where it is, counted from 0.
    pub(super) fn at(self) -> usize {
        usize::try_from(self.0.get() - 1).expect("a place fits")
    }

    #[cfg(test)]
    pub(super) fn plus(self, places: u32) -> Place {
        Place(self.0.saturating_add(places))
    }
}

/// One member, in one cache line.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[repr(align(64))]
pub(super) struct Entry {
    /// `None` in an entry that is free.
    id: Option<NodeId>,
    pub(super) epoch: Epoch,
    address: Compact,
    pub(super) zone: u16,
    pub(super) boot: u32,
    pub(super) metadata_version: u32,
    pub(super) metadata_hash: u32,
    /// Position among the live or among the dead.
    position: u32,
    /// Neighbours in the queue of news; see [`super::gossip`].
    pub(super) previous: Option<Place>,
    pub(super) next: Option<Place>,
    pub(super) state: State,
    /// How often the news of it was passed on; [`QUEUED_NOT`] if there is none.
    pub(super) sent: u8,
    /// Only an accusation has named the epoch: what the member said with it has not come, and the rest of the
    /// entry is of an earlier one.
    pub(super) is_borrowed: bool,
}

/// No news of a member is queued.
pub(super) const QUEUED_NOT: u8 = u8::MAX;

impl Entry {
    fn of(record: &Record, state: State) -> Entry {
        Entry {
            id: Some(record.id),
            epoch: record.epoch,
            address: Compact::of(record.address),
            zone: record.zone,
            boot: record.boot,
            metadata_version: record.metadata_version,
            metadata_hash: record.metadata_hash,
            position: 0,
            previous: None,
            next: None,
            state,
            sent: QUEUED_NOT,
            is_borrowed: record.address.port() == 0,
        }
    }

    /// Whose entry it is.
    pub(super) fn id(&self) -> NodeId {
        self.id.expect("a free entry is not looked at")
    }

    /// Only its obituary has come: where it was is not known.
    pub(super) fn is_stranger(&self) -> bool {
        self.address.port == 0
    }

    /// Whether the same process said both, at the same place.
    pub(super) fn is_word_of(&self, record: &Record) -> bool {
        self.boot == record.boot && self.address == Compact::of(record.address)
    }

    /// What it last said of itself.
    pub(super) fn record(&self) -> Record {
        Record {
            id: self.id(),
            epoch: self.epoch,
            address: self.address.socket(),
            boot: self.boot,
            zone: self.zone,
            metadata_version: self.metadata_version,
            metadata_hash: self.metadata_hash,
        }
    }

    /// A hash of all that it said of itself with its epoch; 0 if that has not come.
    pub(super) fn word(&self) -> u32 {
        if self.is_borrowed {
            return 0;
        }
        let [front, back] = [0, 8].map(|at| {
            let mut half = [0; 8];
            half.copy_from_slice(&self.address.ip[at..at + 8]);
            u64::from_le_bytes(half)
        });
        let process = u64::from(self.boot) << 32 | u64::from(self.address.port) << 16 | u64::from(self.zone);
        let metadata = u64::from(self.metadata_version) << 32 | u64::from(self.metadata_hash);
        let mixed = [front, back, process, metadata].into_iter().fold(0, |hash, part| mix(hash ^ part));
        u32::try_from(mixed >> 32).expect("the upper half fits").max(1)
    }

    fn fingerprint(&self) -> u64 {
        mix(mix(self.id().value() ^ self.epoch.value().rotate_left(17)) ^ u64::from(self.word()))
    }
}

/// All that one member knows of the members.
#[derive(Clone, Deserialize, Serialize)]
pub(super) struct Table {
    entries: Vec<Entry>,
    /// Since when each is in its state, in seconds of the driver's time.
    since: Vec<u32>,
    free: Vec<Place>,
    index: Vec<Option<Place>>,
    live: Vec<Place>,
    /// The first so many of `live` are not yet probed in this round.
    unprobed: usize,
    dead: Vec<Place>,
    /// How many live members each failure domain has.
    zones: BTreeMap<u16, usize>,
    buckets: Box<[u64]>,
    hash: u64,
    /// How many cells and entries were looked at, to show that this does not grow with the table.
    work: Cell<u64>,
}

impl Table {
    /// A table that knows nobody but ourselves.
    pub(super) fn new(own: &Record) -> Table {
        let mut table = Table {
            entries: Vec::new(),
            since: Vec::new(),
            free: Vec::new(),
            index: vec![None; BUCKETS],
            live: Vec::new(),
            unprobed: 0,
            dead: Vec::new(),
            zones: BTreeMap::new(),
            buckets: [0; BUCKETS].into(),
            hash: 0,
            work: Cell::new(0),
        };
        table.entries.push(Entry::of(own, State::Alive));
        table.since.push(0);
        table.enter(Place::OWN);
        table.toggle(Place::OWN);
        table
    }

    /// How many are live, ourselves included.
    pub(super) fn size(&self) -> usize {
        self.live.len() + 1
    }

    /// How many are remembered, the dead and ourselves included.
    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    pub(super) fn live(&self) -> &[Place] {
        &self.live
    }

    pub(super) fn dead(&self) -> &[Place] {
        &self.dead
    }

    /// How many live members a failure domain has, without ourselves.
    pub(super) fn zone_size(&self, zone: u16) -> usize {
        self.zones.get(&zone).copied().unwrap_or_default()
    }

    /// The membership hash.
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn buckets(&self) -> &[u64] {
        &self.buckets
    }

    /// How much was looked at so far.
    pub(super) fn work(&self) -> u64 {
        self.work.get()
    }

    /// The bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
            + self.since.capacity() * size_of::<u32>()
            + (self.index.capacity() + self.live.capacity() + self.dead.capacity() + self.free.capacity())
                * size_of::<Place>()
            + size_of::<[u64; BUCKETS]>()
    }

    pub(super) fn entry(&self, place: Place) -> &Entry {
        self.count();
        &self.entries[place.at()]
    }

    /// For the links of the queue, which are not part of what the hash covers.
    pub(super) fn entry_mut(&mut self, place: Place) -> &mut Entry {
        self.count();
        &mut self.entries[place.at()]
    }

    /// Since when it is in its state, in seconds of the driver's time.
    pub(super) fn since(&self, place: Place) -> u32 {
        self.since[place.at()]
    }

    pub(super) fn find(&self, id: NodeId) -> Option<Place> {
        let mut cell = self.home(id);
        while let Some(place) = self.index[cell] {
            if self.entry(place).id == Some(id) {
                return Some(place);
            }
            cell = (cell + 1) & (self.index.len() - 1);
        }
        None
    }

    /// Enters a member that is not in the table.
    pub(super) fn insert(&mut self, record: &Record, state: State, second: u32, draws: &mut Stream) -> Place {
        debug_assert!(self.find(record.id).is_none(), "node {} is in the table twice", record.id);
        let entry = Entry::of(record, state);
        let place = self.free.pop().unwrap_or_else(|| Place::new(self.entries.len()));
        if place.at() == self.entries.len() {
            push(&mut self.entries, entry);
            push(&mut self.since, second);
        } else {
            self.entries[place.at()] = entry;
            self.since[place.at()] = second;
        }
        if self.len() * 4 > self.index.len() * 3 {
            self.grow();
        } else {
            self.enter(place);
        }
        self.join_array(place, draws);
        place
    }

    /// Changes state and epoch.
    pub(super) fn set(&mut self, place: Place, state: State, epoch: Epoch, second: u32, draws: &mut Stream) {
        let before = self.entry(place).state;
        if before.is_live() {
            self.toggle(place);
        }
        let moves = before.is_live() != state.is_live();
        if moves {
            self.leave_array(place);
        }
        let entry = self.entry_mut(place);
        entry.is_borrowed |= epoch > entry.epoch && place != Place::OWN;
        (entry.state, entry.epoch) = (state, epoch);
        if before != state {
            self.since[place.at()] = second;
        }
        if moves {
            self.join_array(place, draws);
        } else if state.is_live() {
            self.toggle(place);
        }
    }

    /// Takes over what a member says of itself, and sets its state.
    pub(super) fn renew(
        &mut self,
        place: Place,
        record: &Record,
        state: State,
        second: u32,
        draws: &mut Stream,
    ) {
        let before = self.entry(place).state;
        let same_array = before.is_live() == state.is_live();
        let stays =
            same_array && (!state.is_live() || place == Place::OWN || self.entry(place).zone == record.zone);
        if before.is_live() {
            self.toggle(place);
        }
        if !stays {
            self.leave_array(place);
        }
        let entry = self.entry_mut(place);
        entry.epoch = record.epoch;
        entry.address = Compact::of(record.address);
        entry.is_borrowed = false;
        (entry.zone, entry.boot, entry.state) = (record.zone, record.boot, state);
        (entry.metadata_version, entry.metadata_hash) = (record.metadata_version, record.metadata_hash);
        if before != state {
            self.since[place.at()] = second;
        }
        if !stays {
            self.join_array(place, draws);
        } else if state.is_live() {
            self.toggle(place);
        }
    }

    /// Forgets a member that is not live. Its news must not be queued.
    pub(super) fn remove(&mut self, place: Place) {
        assert!(!self.entry(place).state.is_live(), "only the dead are forgotten");
        assert!(self.entry(place).sent == QUEUED_NOT, "who is forgotten is no news");
        self.leave_array(place);
        self.leave_index(place);
        self.entries[place.at()].id = None;
        self.free.push(place);
    }

    /// The next member to probe: each once a round, in an order that is drawn step by step (SWIM §4.3).
    pub(super) fn next_to_probe(&mut self, draws: &mut Stream) -> Option<Place> {
        if self.live.is_empty() {
            return None;
        }
        if self.unprobed == 0 {
            self.unprobed = self.live.len();
        }
        let chosen = draw(draws, self.unprobed);
        self.unprobed -= 1;
        self.swap_live(chosen, self.unprobed);
        Some(self.live[self.unprobed])
    }

    /// A random live member.
    pub(super) fn random_live(&self, draws: &mut Stream) -> Option<Place> {
        (!self.live.is_empty()).then(|| self.live[draw(draws, self.live.len())])
    }

    /// A random dead member.
    pub(super) fn random_dead(&self, draws: &mut Stream) -> Option<Place> {
        (!self.dead.is_empty()).then(|| self.dead[draw(draws, self.dead.len())])
    }

    /// All that are remembered in one bucket, ourselves included.
    pub(super) fn bucket(&self, bucket: usize) -> impl Iterator<Item = Place> {
        let width = self.index.len() / BUCKETS;
        let (start, end) = (bucket * width, (bucket + 1) * width);
        // An entry lies at its home or behind it, with no empty cell between.
        let behind = (end..start + self.index.len()).map(|cell| cell & (self.index.len() - 1));
        let overflow = behind.map_while(|cell| self.index[cell]);
        let inside = (start..end).filter_map(|cell| self.index[cell]);
        inside.chain(overflow).filter(move |place| bucket_of(self.entry(*place).id()) == bucket)
    }

    /// Checks what must hold between the parts.
    ///
    /// # Panics
    ///
    /// If something does not: that is a bug of this crate.
    pub(super) fn assert_invariants(&self) {
        assert_eq!(self.live.len() + self.dead.len() + 1, self.len(), "each is live or dead, but for us");
        assert!(self.unprobed <= self.live.len());
        let mut hash = self.entries[0].fingerprint();
        for (array, is_live) in [(&self.live, true), (&self.dead, false)] {
            for (position, place) in array.iter().enumerate() {
                let entry = &self.entries[place.at()];
                assert_eq!(entry.state.is_live(), is_live, "node {} is among the wrong ones", entry.id());
                assert_eq!(usize::try_from(entry.position), Ok(position));
                assert_eq!(self.find(entry.id()), Some(*place));
                hash ^= if is_live { entry.fingerprint() } else { 0 };
            }
        }
        assert_eq!(hash, self.hash, "the membership hash is that of the live members");
    }

    fn count(&self) {
        self.work.set(self.work.get() + 1);
    }

    fn swap_live(&mut self, a: usize, b: usize) {
        self.live.swap(a, b);
        for position in [a, b] {
            let place = self.live[position];
            self.entry_mut(place).position = narrow(position);
        }
    }

    /// Puts a member among the live, at a random position in the probe order, or among the dead.
    fn join_array(&mut self, place: Place, draws: &mut Stream) {
        if !self.entry(place).state.is_live() {
            self.entry_mut(place).position = narrow(self.dead.len());
            push(&mut self.dead, place);
            return;
        }
        push(&mut self.live, place);
        let last = self.live.len() - 1;
        self.entry_mut(place).position = narrow(last);
        if draw(draws, self.live.len()) <= self.unprobed {
            self.swap_live(last, self.unprobed);
            self.unprobed += 1;
        }
        self.toggle(place);
        *self.zones.entry(self.entries[place.at()].zone).or_default() += 1;
    }

    fn leave_array(&mut self, place: Place) {
        let entry = self.entry(place);
        let mut position = usize::try_from(entry.position).expect("a position fits");
        if !entry.state.is_live() {
            self.dead.swap_remove(position);
            if let Some(moved) = self.dead.get(position).copied() {
                self.entry_mut(moved).position = narrow(position);
            }
            return;
        }
        let zone = entry.zone;
        if let Some(size) = self.zones.get_mut(&zone) {
            *size -= 1;
            if *size == 0 {
                self.zones.remove(&zone);
            }
        }
        if position < self.unprobed {
            self.unprobed -= 1;
            self.swap_live(position, self.unprobed);
            position = self.unprobed;
        }
        self.swap_live(position, self.live.len() - 1);
        self.live.pop();
    }

    /// Takes a member into the membership hash, or out of it.
    fn toggle(&mut self, place: Place) {
        let entry = &self.entries[place.at()];
        let fingerprint = entry.fingerprint();
        self.buckets[bucket_of(entry.id())] ^= fingerprint;
        self.hash ^= fingerprint;
    }

    /// The cell where a member is looked for first: the top bits of its hash, so that a bucket's are together.
    fn home(&self, id: NodeId) -> usize {
        home(id, self.index.len())
    }

    fn enter(&mut self, place: Place) {
        let mut cell = self.home(self.entries[place.at()].id());
        while self.index[cell].is_some() {
            cell = (cell + 1) & (self.index.len() - 1);
        }
        self.index[cell] = Some(place);
    }

    /// Closes the gap that a member leaves, so that a search may end at the first empty cell.
    fn leave_index(&mut self, place: Place) {
        let mask = self.index.len() - 1;
        let mut gap = self.home(self.entries[place.at()].id());
        while self.index[gap] != Some(place) {
            gap = (gap + 1) & mask;
        }
        let mut cell = gap;
        loop {
            cell = (cell + 1) & mask;
            let Some(next) = self.index[cell] else { break };
            let home = self.home(self.entries[next.at()].id());
            // It may move into the gap if that is not before its home, going round.
            if (cell.wrapping_sub(home) & mask) >= (cell.wrapping_sub(gap) & mask) {
                self.index[gap] = Some(next);
                gap = cell;
            }
        }
        self.index[gap] = None;
    }

    fn grow(&mut self) {
        self.index = vec![None; self.index.len() * 2];
        for index in 0..self.entries.len() {
            if self.entries[index].id.is_some() {
                self.enter(Place::new(index));
            }
        }
    }
}

/// Scatters the bits of a number. The key is fixed: ids come out of certificates, not from attackers.
fn mix(value: u64) -> u64 {
    let value = (value ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 30)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

fn home(id: NodeId, cells: usize) -> usize {
    usize::try_from(mix(id.value()) >> (64 - cells.ilog2())).expect("a cell fits")
}

fn bucket_of(id: NodeId) -> usize {
    usize::try_from(mix(id.value()) >> (64 - BUCKETS_LOG2)).expect("a bucket fits")
}

fn draw(draws: &mut Stream, bound: usize) -> usize {
    let bound = u64::try_from(bound).expect("a length fits");
    usize::try_from(draws.below(bound)).expect("it is below a length")
}

/// Appends, with room for an eighth more when there is none: doubling would waste half of what a table takes.
fn push<T>(array: &mut Vec<T>, value: T) {
    if array.len() == array.capacity() {
        array.reserve_exact(array.len() / 8 + 4);
    }
    array.push(value);
}

fn narrow(position: usize) -> u32 {
    u32::try_from(position).expect("there are fewer than 2^32 members")
}

#[cfg(test)]
mod tests;
