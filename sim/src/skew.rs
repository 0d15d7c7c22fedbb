//! A node's clock, as it differs from the world's: an offset, a drift, and jumps ahead. It never goes back.

use rivven_cluster::time::Instant;

/// One million, of which a drift is parts.
const MILLION: i128 = 1_000_000;

/// Turns the world's time, in nanoseconds, into a node's, and back.
#[derive(Clone, Copy, Debug)]
pub struct Skew {
    /// When the rate last changed, in the world's time.
    since: u64,
    /// What the node's clock showed then.
    shown: u64,
    /// How much faster than the world's it runs, in parts of a million.
    ppm: i64,
}

impl Skew {
    /// A clock that shows zero at `now` and runs true.
    pub fn start(now: u64) -> Skew {
        Skew { since: now, shown: 0, ppm: 0 }
    }

    /// What the node's clock shows.
    pub fn local(&self, now: u64) -> Instant {
        let passed = i128::from(now.saturating_sub(self.since));
        let shown = i128::from(self.shown) + passed * (MILLION + i128::from(self.ppm)) / MILLION;
        Instant::from_nanos(u64::try_from(shown).unwrap_or(u64::MAX))
    }

    /// When the node's clock will show `instant`, at the earliest.
    pub fn world(&self, instant: Instant) -> u64 {
        let ahead = i128::from(instant.as_nanos().saturating_sub(self.shown));
        let rate = MILLION + i128::from(self.ppm);
        let passed = (ahead * MILLION + rate - 1) / rate;
        self.since.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
    }

    /// Changes the rate from `now` on.
    pub fn drift(&mut self, now: u64, ppm: i64) {
        *self = Skew { since: now, shown: self.local(now).as_nanos(), ppm };
    }

    /// Puts the clock ahead by so many nanoseconds.
    pub fn jump(&mut self, now: u64, ahead: u64) {
        let shown = self.local(now).as_nanos().saturating_add(ahead);
        *self = Skew { since: now, shown, ppm: self.ppm };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_agree_and_the_clock_never_goes_back() {
        let mut skew = Skew::start(1000);
        let mut last = skew.local(1000);
        for step in 1..200_u64 {
            let now = 1000 + step * 1_000_003;
            assert!(skew.local(now) >= last);
            last = skew.local(now);
            match step % 7 {
                0 => skew.drift(now, 300_000),
                3 => skew.drift(now, -250_000),
                5 => skew.jump(now, 12_345),
                _ => {}
            }
            assert!(skew.local(now) >= last);
            last = skew.local(now);
            let later = Instant::from_nanos(last.as_nanos() + 777_777);
            let due = skew.world(later);
            assert!(skew.local(due) >= later, "a timer never fires early");
            assert!(skew.local(due - 10) < later, "nor much too late");
        }
    }
}
