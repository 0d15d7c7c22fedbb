//! How long a suspect has to object (SWIM §4.2, Lifeguard §4.2).
//!
//! A fixed time is too short when the accuser is the slow one, and too long when the suspect is dead. So a
//! suspicion begins long and is shortened by each *independent* accuser, down to the shortest when k have
//! confirmed it:
//!
//! ```text
//!   time = max(shortest, longest - (longest - shortest) · ln(c + 1) / ln(k + 1))
//! ```
//!
//! One slow member accuses many, but nobody confirms what it says, so its suspects have the longest time.
//!
//! *A last word.* A period before its time is up, each suspect is told so itself: the accusation may have reached nobody
//! who reaches it. Whoever is said to be dead, and each of many suspects of which one speaks, has a period more: their
//! objections are on the way.
//!
//! *Too many at once.* When more suspects appear within a period than crash in a period, the network is the
//! likelier cause ([`storm`](super::storm)): they are all held, whoever confirms them and whoever says that they are
//! dead.

use core::num::NonZeroU32;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Swim;
use super::config::scale;
use super::logarithm::{ONE, ln};
use super::member::State;
use super::table::Place;
use crate::id::NodeId;
use crate::time::Instant;

/// So many accusers are remembered: the first, and as many as can shorten a suspicion.
const ACCUSERS_MAX: usize = 1 + CONFIRMATIONS_MAX;
/// The most confirmations that are asked for.
pub(super) const CONFIRMATIONS_MAX: usize = 4;

/// How long suspicions last.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Terms {
    shortest_ms: u32,
    longest_ms: u32,
    /// k: how many confirmations bring it down to the shortest; 0: it begins there.
    confirmations: u8,
}

impl Terms {
    /// Terms between `shortest` and `longest`, which `confirmations` accusers beside the first decide about.
    pub(super) fn new(shortest: Duration, longest: Duration, confirmations: usize) -> Terms {
        let millis = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        let confirmations = u8::try_from(confirmations.min(CONFIRMATIONS_MAX)).expect("it is small");
        Terms { shortest_ms: millis(shortest), longest_ms: millis(longest), confirmations }
    }

    fn time(&self, confirmations: usize) -> Duration {
        let shortest = Duration::from_millis(self.shortest_ms.into());
        let longest = Duration::from_millis(self.longest_ms.into());
        if self.confirmations == 0 {
            return shortest;
        }
        let share = (ln(confirmations + 1) * ONE / ln(usize::from(self.confirmations) + 1)).min(ONE);
        longest - scale(longest - shortest, share)
    }
}

/// Why a member is suspected.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum Cause {
    /// It did not answer. The longest time to object, shortened by whoever confirms it.
    Silence,
    /// Somebody else answers at its address.
    Elsewhere,
    /// Somebody else says that it said goodbye: if it does not object, it has left.
    Goodbye,
}

/// So many suspects at a time are many.
const MANY: usize = 3;

/// One suspicion. A partition makes as many as half the cluster has members, so it is kept small: what ends when is told
/// in milliseconds from its begin, rounded up.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Suspicion {
    began: Instant,
    terms: Terms,
    /// Hashes of who has accused, to count each once; 0: nobody. Of two with one hash the second counts for nothing,
    /// and the suspect has more time.
    accusers: [u16; ACCUSERS_MAX],
    /// Who accused last; that is passed on.
    latest: NodeId,
    cause: Cause,
    /// Its failure domain.
    zone: u16,
    /// It was told itself.
    is_told: bool,
    /// Somebody says that it is dead: until then it may still object.
    last_word_by: Option<NonZeroU32>,
    /// It is one of too many: until then, nothing shortens it.
    held_until: Option<NonZeroU32>,
}

/// Milliseconds from `began` to `until`, rounded up.
fn millis_until(began: Instant, until: Instant) -> NonZeroU32 {
    let millis = until.saturating_since(began).as_nanos().div_ceil(1_000_000);
    NonZeroU32::new(u32::try_from(millis).unwrap_or(u32::MAX)).unwrap_or(NonZeroU32::MIN)
}

impl Suspicion {
    /// Whether one more accuser shortens it.
    fn counts(&self, accuser: u16) -> bool {
        let is_enough = self.confirmations() >= usize::from(self.terms.confirmations);
        !is_enough && !self.accusers.contains(&accuser) && self.accusers.contains(&0)
    }

    fn confirmations(&self) -> usize {
        self.accusers.iter().filter(|accuser| **accuser != 0).count().saturating_sub(1)
    }

    fn deadline(&self) -> Instant {
        let by_terms = self.began + self.terms.time(self.confirmations());
        let others = [self.last_word_by, self.held_until];
        let others = others.into_iter().flatten();
        others
            .map(|millis| self.began + Duration::from_millis(millis.get().into()))
            .fold(by_terms, Instant::max)
    }

    /// When there is something to do about it: it is told `notice` before its time is up.
    fn due(&self, notice: Duration) -> Instant {
        let time = self.deadline().saturating_since(self.began);
        self.began + if self.is_told { time } else { time.saturating_sub(notice) }
    }
}

/// What is to be done about a suspect.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum Due {
    /// It is told that its time is almost up.
    Tell(Place),
    /// Its time is up.
    Over {
        /// Whose.
        place: Place,
        /// Whether it is said to have said goodbye.
        said_goodbye: bool,
    },
}

fn hash_of(accuser: NodeId) -> u16 {
    let mixed = accuser.value().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
    u16::try_from(mixed).expect("the upper quarter fits").max(1)
}

/// Suspicions by whom they are of. In a storm each piece of news looks one up, so that takes two cells of memory and no
/// search. When nobody is suspected only the slots are left, so that the next suspicion has nothing to lay out.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Slab {
    /// For each place where its suspicion is in `held`, or something beyond its end.
    slots: Vec<u32>,
    held: Vec<(Place, Suspicion)>,
}

impl Slab {
    const NOWHERE: u32 = u32::MAX;

    fn slot(&self, place: Place) -> Option<usize> {
        let slot = usize::try_from(*self.slots.get(place.at())?).ok()?;
        (slot < self.held.len()).then_some(slot)
    }

    fn get(&self, place: Place) -> Option<&Suspicion> {
        self.slot(place).map(|slot| &self.held[slot].1)
    }

    fn get_mut(&mut self, place: Place) -> Option<&mut Suspicion> {
        self.slot(place).map(|slot| &mut self.held[slot].1)
    }

    /// Holds one of a place that has none.
    fn insert(&mut self, place: Place, suspicion: Suspicion) {
        let slot = u32::try_from(self.held.len()).expect("there are fewer than 2^32 members");
        if self.slots.len() <= place.at() {
            // Hardly ever: the highest place so far.
            self.slots.reserve_exact(place.at() + 1 - self.slots.len());
            self.slots.resize(place.at() + 1, Self::NOWHERE);
        }
        self.slots[place.at()] = slot;
        if self.held.len() == self.held.capacity() {
            // Thousands of members have thousands each after a partition: twice as much would be much too much.
            self.held.reserve_exact(self.held.len() / 4 + 4);
        }
        self.held.push((place, suspicion));
    }

    fn remove(&mut self, place: Place) -> Option<Suspicion> {
        let slot = self.slot(place)?;
        let freed = core::mem::replace(&mut self.slots[place.at()], Self::NOWHERE);
        let (_, suspicion) = self.held.swap_remove(slot);
        if let Some((moved, _)) = self.held.get(slot) {
            self.slots[moved.at()] = freed;
        } else if self.held.is_empty() {
            self.held = Vec::new();
        }
        Some(suspicion)
    }
}

/// All suspicions of one member.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Suspicions {
    all: Slab,
    order: BTreeSet<(Instant, Place)>,
    /// How many there are in each failure domain.
    zones: BTreeMap<u16, usize>,
    /// How long before its end a suspect is told.
    notice: Duration,
}

/// How a suspicion begins.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Accusation {
    pub(super) by: NodeId,
    pub(super) cause: Cause,
    pub(super) zone: u16,
    pub(super) terms: Terms,
    /// Nothing shortens it until then.
    pub(super) held_until: Option<Instant>,
}

impl Suspicions {
    pub(super) fn new(notice: Duration) -> Suspicions {
        Suspicions { all: Slab::default(), order: BTreeSet::new(), zones: BTreeMap::new(), notice }
    }

    /// Begins a suspicion, or begins it anew.
    pub(super) fn begin(&mut self, place: Place, accusation: Accusation, now: Instant) {
        self.end(place);
        let Accusation { by, cause, zone, terms, held_until } = accusation;
        let mut accusers = [0; ACCUSERS_MAX];
        accusers[0] = hash_of(by);
        let suspicion = Suspicion {
            began: now,
            terms,
            accusers,
            latest: by,
            cause,
            zone,
            is_told: false,
            last_word_by: None,
            held_until: held_until.map(|until| millis_until(now, until)),
        };
        self.order.insert((suspicion.due(self.notice), place));
        self.all.insert(place, suspicion);
        *self.zones.entry(zone).or_default() += 1;
    }

    /// Changes one, and puts it where it belongs now.
    fn change<T>(&mut self, place: Place, change: impl FnOnce(&mut Suspicion) -> T) -> Option<T> {
        let suspicion = self.all.get_mut(place)?;
        self.order.remove(&(suspicion.due(self.notice), place));
        let changed = change(suspicion);
        self.order.insert((suspicion.due(self.notice), place));
        Some(changed)
    }

    /// Changes all, and puts them where they belong now.
    fn change_all(&mut self, change: impl Fn(&mut Suspicion)) {
        let notice = self.notice;
        self.all.held.iter_mut().for_each(|(_, suspicion)| change(suspicion));
        self.order = self.all.held.iter().map(|(place, one)| (one.due(notice), *place)).collect();
    }

    /// One more accuses. Tells whether that is news: a new accuser, and fewer than k so far.
    pub(super) fn confirm(&mut self, place: Place, by: NodeId) -> bool {
        let accuser = hash_of(by);
        // In a storm most words are old ones: what changes nothing costs one look.
        let is_news = self.all.get(place).is_some_and(|suspicion| suspicion.counts(accuser));
        if is_news {
            self.change(place, |suspicion| {
                suspicion.latest = by;
                if let Some(free) = suspicion.accusers.iter_mut().find(|accuser| **accuser == 0) {
                    *free = accuser;
                }
            });
        }
        is_news
    }

    /// Somebody says that it is dead: it has the shortest time, but until `last_word_by` at least when that is said
    /// first. Tells whether it is so.
    pub(super) fn hasten(&mut self, place: Place, last_word_by: Instant) -> bool {
        let is_first = self.change(place, |suspicion| {
            let is_first = suspicion.last_word_by.is_none();
            let by = millis_until(suspicion.began, last_word_by);
            suspicion.last_word_by.get_or_insert(by);
            suspicion.terms.longest_ms = suspicion.terms.shortest_ms;
            is_first
        });
        is_first == Some(true)
    }

    /// The suspect objected, or is dead.
    pub(super) fn end(&mut self, place: Place) {
        let Some(suspicion) = self.all.remove(place) else { return };
        self.order.remove(&(suspicion.due(self.notice), place));
        let others = self.zones.get_mut(&suspicion.zone).expect("it was counted");
        *others -= 1;
        if *others == 0 {
            self.zones.remove(&suspicion.zone);
        }
    }

    /// How many suspects there are in a failure domain.
    pub(super) fn in_zone(&self, zone: u16) -> usize {
        self.zones.get(&zone).copied().unwrap_or(0)
    }

    /// Who accused last, and whether it is said to have said goodbye.
    pub(super) fn accuser(&self, place: Place) -> Option<(NodeId, bool)> {
        self.all.get(place).map(|suspicion| (suspicion.latest, suspicion.cause == Cause::Goodbye))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.order.first().map(|(due, _)| *due)
    }

    /// What is due now; a suspicion whose time is up has ended with that.
    pub(super) fn next_due(&mut self, now: Instant) -> Option<Due> {
        let place = self.order.first().filter(|(due, _)| *due <= now)?.1;
        let suspicion = self.all.get(place)?;
        if !suspicion.is_told {
            self.change(place, |suspicion| suspicion.is_told = true);
            return Some(Due::Tell(place));
        }
        let said_goodbye = suspicion.cause == Cause::Goodbye;
        self.end(place);
        Some(Due::Over { place, said_goodbye })
    }

    /// We were stopped for so long, and could not hear an objection.
    pub(super) fn extend(&mut self, by: Duration) {
        self.change_all(|suspicion| suspicion.began = suspicion.began + by);
    }

    /// There are too many for them all to have crashed: those that did not answer have until then at least, and are told
    /// before that.
    pub(super) fn hold(&mut self, until: Instant) {
        self.change_all(|suspicion| {
            if suspicion.cause == Cause::Silence {
                suspicion.held_until = Some(millis_until(suspicion.began, until));
                suspicion.is_told = false;
            }
        });
    }

    /// All suspects have until then at least; each once.
    fn reprieve(&mut self, until: Instant) {
        self.change_all(|suspicion| {
            let by = millis_until(suspicion.began, until);
            suspicion.last_word_by.get_or_insert(by);
        });
    }

    pub(super) fn len(&self) -> usize {
        self.all.held.len()
    }
}

impl Swim {
    /// A suspect is there after all. If there are many, the network was the cause, and it is whole again: the others
    /// are about to object, too, and must not be overtaken by their time.
    pub(super) fn reprieve(&mut self) {
        if self.suspicions.len() >= MANY && self.config.caution.doubt && !self.clears_up() {
            self.suspicions.reprieve(self.now + self.period());
        }
    }

    /// Whether one of many suspects speaks.
    pub(super) fn note_speaker(&mut self, id: NodeId) {
        let is_suspect = |swim: &Swim| {
            swim.table.find(id).is_some_and(|place| swim.table.entry(place).state == State::Suspect)
        };
        if self.suspicions.len() >= MANY && is_suspect(self) {
            self.reprieve();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::Timing;
    use super::*;

    fn terms(n: usize) -> Terms {
        let shortest = Timing::LAN.suspicion_shortest(n);
        Terms::new(shortest, shortest * Timing::LAN.suspicion_beta, Timing::LAN.confirmations(n))
    }

    #[test]
    fn the_times_are_those_of_the_table() {
        let tenths = |n: usize| [0, 1, 2].map(|c| (terms(n).time(c).as_millis() + 50) / 100);
        assert_eq!(tenths(10), [240, 114, 40]);
        assert_eq!(tenths(100), [480, 228, 80]);
        assert_eq!(tenths(1000), [720, 341, 120]);
        assert_eq!(tenths(10_000), [960, 455, 160]);
    }

    const NOTICE: Duration = Duration::from_secs(1);

    fn node(id: u64) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn at(seconds: u64) -> Instant {
        Instant::ORIGIN + Duration::from_secs(seconds)
    }

    fn accused(cause: Cause) -> Suspicions {
        let mut suspicions = Suspicions::new(NOTICE);
        let accusation = Accusation { by: node(1), cause, zone: 0, terms: terms(100), held_until: None };
        suspicions.begin(Place::OWN, accusation, at(0));
        suspicions
    }

    #[test]
    fn the_same_accuser_counts_once_and_no_more_than_k_count() {
        let place = Place::OWN;
        let mut suspicions = accused(Cause::Silence);
        assert!(!suspicions.confirm(place, node(1)));
        assert!(suspicions.confirm(place, node(2)));
        assert!(!suspicions.confirm(place, node(2)));
        assert!(suspicions.confirm(place, node(3)));
        assert!(!suspicions.confirm(place, node(4)), "k are enough");
        assert_eq!(suspicions.deadline(), Some(at(7)));
        assert_eq!(suspicions.next_due(at(6)), None);
        assert_eq!(suspicions.next_due(at(7)), Some(Due::Tell(place)));
        assert_eq!(suspicions.next_due(at(7)), None);
        suspicions.extend(Duration::from_secs(30));
        assert_eq!(suspicions.next_due(at(37)), None);
        assert_eq!(suspicions.next_due(at(38)), Some(Due::Over { place, said_goodbye: false }));
        assert_eq!((suspicions.len(), suspicions.in_zone(0)), (0, 0));
    }

    #[test]
    fn a_suspicion_that_is_held_is_not_shortened() {
        let place = Place::OWN;
        let mut suspicions = accused(Cause::Silence);
        suspicions.hold(at(50));
        assert!(suspicions.confirm(place, node(2)) && suspicions.confirm(place, node(3)));
        assert!(suspicions.hasten(place, at(9)));
        assert_eq!(suspicions.next_due(at(49)), Some(Due::Tell(place)));
        assert_eq!(suspicions.deadline(), Some(at(50)));
        suspicions.hold(at(60));
        assert_eq!(suspicions.next_due(at(59)), Some(Due::Tell(place)), "it is told again");
    }

    #[test]
    fn suspicions_end_in_any_order_and_give_back_their_room() {
        let place = |number: u32| Place::OWN.plus(number);
        let mut suspicions = Suspicions::new(NOTICE);
        for number in 0..100 {
            let accusation = Accusation {
                by: node(u64::from(number) + 1),
                cause: Cause::Silence,
                zone: 0,
                terms: terms(100),
                held_until: None,
            };
            suspicions.begin(place(number), accusation, at(u64::from(number)));
        }
        for number in (0..100).map(|step| step * 37 % 100) {
            assert_eq!(suspicions.accuser(place(number)), Some((node(u64::from(number) + 1), false)));
            suspicions.end(place(number));
            assert_eq!(suspicions.accuser(place(number)), None);
        }
        assert_eq!((suspicions.len(), suspicions.in_zone(0), suspicions.deadline()), (0, 0, None));
        assert_eq!((suspicions.all.slots.capacity(), suspicions.all.held.capacity()), (100, 0));
    }

    #[test]
    fn who_said_goodbye_is_not_held() {
        let mut suspicions = accused(Cause::Goodbye);
        suspicions.hold(at(50));
        assert_eq!(suspicions.next_due(at(47)), Some(Due::Tell(Place::OWN)));
        assert_eq!(suspicions.next_due(at(48)), Some(Due::Over { place: Place::OWN, said_goodbye: true }));
    }
}
