//! The one number by which a member outbids what is said of it.
//!
//! The paper's incarnation number has two gaps: a member that restarts without its disk begins at zero
//! again, below its own obituary; and a counter that is full cannot refute. So here it is 64 bits, the
//! upper half being the second of the start (the *generation*), the lower half the paper's incarnation.
//! Both are compared at once, a bump is `+ 1`, and an overflow of the lower half carries into the upper.
//!
//! Only its owner mints an epoch (SWIM §4.2). What others say is taken on trust, and a liar could say
//! `u64::MAX`: so far above everything that its owner could never outbid it. The [gate](Epoch::is_plausible)
//! drops such words. Its ceiling moves with the wall clock, so an honest refutation always fits below it,
//! and whoever is at the ceiling can still be suspected.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::time::WallSeconds;

/// How far ahead of our clock an accusation's generation may be, in seconds.
const AHEAD_MAX: u32 = 24 * 60 * 60;
/// How much further a word of its owner may be: room to refute what just passed.
const REFUTATION_ROOM: u32 = 60 * 60;
/// How far an accusation may be above the incarnation that is known.
const INCARNATION_LEAP_MAX: u32 = 1 << 20;

/// A member's version of itself: generation and incarnation in one number.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Epoch(u64);

impl Epoch {
    /// Wraps the number.
    #[must_use]
    pub const fn new(value: u64) -> Epoch {
        Epoch(value)
    }

    /// The first epoch of a member that starts now, above the last one that it remembers, if it does.
    #[must_use]
    pub fn at_start(wall: WallSeconds, remembered: Option<Epoch>) -> Epoch {
        let by_clock = Epoch(u64::from(wall.0) << 32);
        remembered.map_or(by_clock, |last| last.next().max(by_clock))
    }

    /// The number itself.
    #[must_use]
    pub const fn value(self) -> u64 {
        self.0
    }

    /// The second of the start that it stems from.
    #[must_use]
    pub fn generation(self) -> u32 {
        u32::try_from(self.0 >> 32).expect("the upper half fits")
    }

    /// How often it was bumped since, unless that overflowed.
    #[must_use]
    pub fn incarnation(self) -> u32 {
        u32::try_from(self.0 & u64::from(u32::MAX)).expect("the lower half fits")
    }

    /// The epoch above this one. The very last stays: the gate lets nobody near it.
    #[must_use]
    pub const fn next(self) -> Epoch {
        Epoch(self.0.saturating_add(1))
    }

    /// Tells whether somebody may claim this epoch, given what is `known` of the member and the clock.
    ///
    /// `is_accusation` is a word about somebody else: it may only name an epoch that its owner can have
    /// minted, near the one that is known. The known epoch itself always passes.
    #[must_use]
    pub fn is_plausible(self, is_accusation: bool, known: Option<Epoch>, wall: WallSeconds) -> bool {
        if known == Some(self) {
            return true;
        }
        let room = if is_accusation { AHEAD_MAX } else { AHEAD_MAX + REFUTATION_ROOM };
        if self.generation() > wall.0.saturating_add(room) {
            return false;
        }
        let base = known.filter(|known| known.generation() == self.generation());
        let incarnation_max = base.map_or(0, Epoch::incarnation).saturating_add(INCARNATION_LEAP_MAX);
        !is_accusation || self.incarnation() <= incarnation_max
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.generation(), self.incarnation())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallSeconds = WallSeconds(1_000_000);

    fn epoch(generation: u32, incarnation: u32) -> Epoch {
        Epoch(u64::from(generation) << 32 | u64::from(incarnation))
    }

    #[test]
    fn an_incarnation_that_is_full_carries_into_the_generation() {
        assert_eq!(epoch(7, u32::MAX).next(), epoch(8, 0));
        assert_eq!(Epoch(u64::MAX).next(), Epoch(u64::MAX));
    }

    #[test]
    fn a_start_is_above_the_clock_and_above_what_is_remembered() {
        assert_eq!(Epoch::at_start(NOW, None), epoch(NOW.0, 0));
        assert_eq!(Epoch::at_start(NOW, Some(epoch(NOW.0 + 9, 3))), epoch(NOW.0 + 9, 4));
    }

    #[test]
    fn nobody_may_claim_an_epoch_that_cannot_be_outbid() {
        for hostile in
            [Epoch(u64::MAX), epoch(u32::MAX, 0), epoch(NOW.0 + AHEAD_MAX + REFUTATION_ROOM + 1, 0)]
        {
            assert!(!hostile.is_plausible(true, None, NOW), "{hostile}");
            assert!(!hostile.is_plausible(false, None, NOW), "{hostile}");
        }
        let leap = epoch(NOW.0, INCARNATION_LEAP_MAX + 6);
        assert!(!leap.is_plausible(true, Some(epoch(NOW.0, 5)), NOW));
        assert!(epoch(NOW.0, INCARNATION_LEAP_MAX + 5).is_plausible(true, Some(epoch(NOW.0, 5)), NOW));
    }

    #[test]
    fn whatever_accusation_passes_can_be_refuted() {
        let highest = epoch(NOW.0 + AHEAD_MAX, INCARNATION_LEAP_MAX);
        assert!(highest.is_plausible(true, None, NOW));
        assert!(highest.next().is_plausible(false, None, NOW));
    }

    #[test]
    fn who_is_at_the_ceiling_can_still_be_suspected() {
        let ceiling = epoch(NOW.0 + AHEAD_MAX + REFUTATION_ROOM, 0);
        assert!(ceiling.is_plausible(true, Some(ceiling), NOW));
    }
}
