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
//! *A last word.* Whoever is said to be dead, and each of many suspects of which one speaks, has a period more: their
//! objections are on the way.
//!
//! *Too many at once.* When more suspects appear within a period than crash in a period, the network is the
//! likelier cause ([`storm`](super::storm)): they are all held, whoever confirms them and whoever says that they are
//! dead.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

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
#[derive(Clone, Copy, Debug)]
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
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
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

/// One suspicion. A partition makes as many as half the cluster has members, so it is kept small.
#[derive(Clone, Debug)]
struct Suspicion {
    began: Instant,
    terms: Terms,
    /// Hashes of who has accused, to count each once; 0: nobody.
    accusers: [u32; ACCUSERS_MAX],
    /// Who accused last; that is passed on.
    latest: NodeId,
    cause: Cause,
    /// Somebody says that it is dead: until then it may still object.
    last_word_by: Option<Instant>,
    /// It is one of too many: until then, nothing shortens it.
    held_until: Option<Instant>,
}

impl Suspicion {
    fn confirmations(&self) -> usize {
        self.accusers.iter().filter(|accuser| **accuser != 0).count().saturating_sub(1)
    }

    fn deadline(&self) -> Instant {
        let by_terms = self.began + self.terms.time(self.confirmations());
        let others = [self.last_word_by, self.held_until];
        others.into_iter().flatten().fold(by_terms, Instant::max)
    }
}

fn hash_of(accuser: NodeId) -> u32 {
    let mixed = accuser.value().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    u32::try_from(mixed).expect("the upper half fits").max(1)
}

/// All suspicions of one member.
#[derive(Debug, Default)]
pub(super) struct Suspicions {
    all: BTreeMap<Place, Suspicion>,
    order: BTreeSet<(Instant, Place)>,
}

impl Suspicions {
    /// Begins a suspicion, or begins it anew.
    pub(super) fn begin(
        &mut self,
        place: Place,
        by: NodeId,
        (cause, terms): (Cause, Terms),
        held_until: Option<Instant>,
        now: Instant,
    ) {
        self.end(place);
        let mut accusers = [0; ACCUSERS_MAX];
        accusers[0] = hash_of(by);
        let suspicion =
            Suspicion { began: now, terms, accusers, latest: by, cause, last_word_by: None, held_until };
        self.order.insert((suspicion.deadline(), place));
        self.all.insert(place, suspicion);
    }

    /// One more accuses. Tells whether that is news: a new accuser, and fewer than k so far.
    pub(super) fn confirm(&mut self, place: Place, by: NodeId) -> bool {
        let Some(suspicion) = self.all.get_mut(&place) else { return false };
        let is_enough = suspicion.confirmations() >= usize::from(suspicion.terms.confirmations);
        if is_enough || suspicion.accusers.contains(&hash_of(by)) {
            return false;
        }
        let before = suspicion.deadline();
        let Some(free) = suspicion.accusers.iter_mut().find(|accuser| **accuser == 0) else { return false };
        *free = hash_of(by);
        suspicion.latest = by;
        let after = suspicion.deadline();
        self.order.remove(&(before, place));
        self.order.insert((after, place));
        true
    }

    /// Somebody says that it is dead: it has the shortest time, but until `last_word_by` at least when that is said
    /// first. Tells whether it is so.
    pub(super) fn hasten(&mut self, place: Place, last_word_by: Instant) -> bool {
        let Some(suspicion) = self.all.get_mut(&place) else { return false };
        self.order.remove(&(suspicion.deadline(), place));
        let is_first = suspicion.last_word_by.is_none();
        suspicion.last_word_by.get_or_insert(last_word_by);
        suspicion.terms.longest_ms = suspicion.terms.shortest_ms;
        self.order.insert((suspicion.deadline(), place));
        is_first
    }

    /// The suspect objected, or is dead.
    pub(super) fn end(&mut self, place: Place) {
        if let Some(suspicion) = self.all.remove(&place) {
            self.order.remove(&(suspicion.deadline(), place));
        }
    }

    /// Who accused last, and whether it is said to have said goodbye.
    pub(super) fn accuser(&self, place: Place) -> Option<(NodeId, bool)> {
        self.all.get(&place).map(|suspicion| (suspicion.latest, suspicion.cause == Cause::Goodbye))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.order.first().map(|(deadline, _)| *deadline)
    }

    /// Ends a suspicion whose time is up; tells whose, and whether it is said to have said goodbye.
    pub(super) fn expire(&mut self, now: Instant) -> Option<(Place, bool)> {
        let (deadline, place) = *self.order.first()?;
        if deadline > now {
            return None;
        }
        let said_goodbye = self.all.get(&place).is_some_and(|suspicion| suspicion.cause == Cause::Goodbye);
        self.end(place);
        Some((place, said_goodbye))
    }

    /// We were stopped for so long, and could not hear an objection.
    pub(super) fn extend(&mut self, by: Duration) {
        self.order.clear();
        for (place, suspicion) in &mut self.all {
            suspicion.began = suspicion.began + by;
            suspicion.held_until = suspicion.held_until.map(|until| until + by);
            self.order.insert((suspicion.deadline(), *place));
        }
    }

    /// There are too many for them all to have crashed: those that did not answer have until then at least.
    pub(super) fn hold(&mut self, until: Instant) {
        for (place, suspicion) in self.all.iter_mut().filter(|(_, one)| one.cause == Cause::Silence) {
            self.order.remove(&(suspicion.deadline(), *place));
            suspicion.held_until = Some(until);
            self.order.insert((suspicion.deadline(), *place));
        }
    }

    /// All suspects have until then at least; each once.
    fn reprieve(&mut self, until: Instant) {
        for (place, suspicion) in
            self.all.iter_mut().filter(|(_, suspicion)| suspicion.last_word_by.is_none())
        {
            self.order.remove(&(suspicion.deadline(), *place));
            suspicion.last_word_by = Some(until);
            self.order.insert((suspicion.deadline(), *place));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
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

    #[test]
    fn the_same_accuser_counts_once_and_no_more_than_k_count() {
        let place = Place::OWN;
        let node = |id| NodeId::new(id).unwrap();
        let mut suspicions = Suspicions::default();
        suspicions.begin(place, node(1), (Cause::Silence, terms(100)), None, Instant::ORIGIN);
        assert!(!suspicions.confirm(place, node(1)));
        assert!(suspicions.confirm(place, node(2)));
        assert!(!suspicions.confirm(place, node(2)));
        assert!(suspicions.confirm(place, node(3)));
        assert!(!suspicions.confirm(place, node(4)), "k are enough");
        assert_eq!(suspicions.deadline(), Some(Instant::ORIGIN + Duration::from_secs(8)));
        assert_eq!(suspicions.expire(Instant::ORIGIN + Duration::from_secs(7)), None);
        suspicions.extend(Duration::from_secs(30));
        assert_eq!(suspicions.expire(Instant::ORIGIN + Duration::from_secs(30)), None);
        assert_eq!(suspicions.expire(Instant::ORIGIN + Duration::from_secs(38)), Some((place, false)));
    }

    #[test]
    fn a_suspicion_that_is_held_is_not_shortened() {
        let (place, node) = (Place::OWN, |id| NodeId::new(id).unwrap());
        let at = |seconds| Instant::ORIGIN + Duration::from_secs(seconds);
        let mut suspicions = Suspicions::default();
        suspicions.begin(place, node(1), (Cause::Silence, terms(100)), None, at(0));
        suspicions.hold(at(50));
        assert!(suspicions.confirm(place, node(2)) && suspicions.confirm(place, node(3)));
        assert!(suspicions.hasten(place, at(9)));
        assert_eq!(suspicions.deadline(), Some(at(50)));
    }

    #[test]
    fn who_said_goodbye_is_not_held() {
        let mut suspicions = Suspicions::default();
        let node = NodeId::new(1).unwrap();
        suspicions.begin(Place::OWN, node, (Cause::Goodbye, terms(100)), None, Instant::ORIGIN);
        suspicions.hold(Instant::ORIGIN + Duration::from_secs(50));
        assert_eq!(suspicions.deadline(), Some(Instant::ORIGIN + Duration::from_secs(48)));
    }
}
