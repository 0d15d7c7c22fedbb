//! Randomness as an input: one `u64` seed, split into named streams.
//!
//! A machine never asks the operating system for entropy. Its driver hands it a [`Seed`] (random in
//! production, chosen in a simulation), and each use inside the machine opens a stream of its own by
//! name. So a new draw in one place never shifts the draws of another, and a recorded run stays
//! replayable when code elsewhere changes. The generator is ChaCha8: portable, seekable and fast.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use xxhash_rust::xxh3::xxh3_64;

/// The root of all randomness of one node, or of one simulated run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Seed(u64);

impl Seed {
    /// Makes a seed. Equal seeds give equal streams on every platform.
    #[must_use]
    pub const fn new(seed: u64) -> Seed {
        Seed(seed)
    }

    /// Opens the stream called `name`, numbered `index` among its kind (a node id, a link, a counter).
    #[must_use]
    pub fn stream(self, name: &str, index: u64) -> Stream {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.0.to_le_bytes());
        key[8..16].copy_from_slice(&xxh3_64(name.as_bytes()).to_le_bytes());
        key[16..24].copy_from_slice(&index.to_le_bytes());
        Stream(ChaCha8Rng::from_seed(key))
    }

    /// Derives the seed of a part, so that the part can split it into streams of its own.
    #[must_use]
    pub fn child(self, name: &str, index: u64) -> Seed {
        Seed(self.stream(name, index).draw())
    }
}

/// A sequence of draws that depends on nothing but its seed, its name and its index.
#[derive(Clone, Debug)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// Draws 64 random bits.
    pub fn draw(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Draws uniformly from `0..bound` by Lemire's method, without bias.
    ///
    /// # Panics
    ///
    /// If `bound` is zero: there is nothing to choose from.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "a choice among no values");
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let (low, high) = wide_product(self.draw(), bound);
            if low >= threshold {
                return high;
            }
        }
    }

    /// Draws uniformly from `low..high`.
    ///
    /// # Panics
    ///
    /// If the range is empty.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low < high, "an empty range of choices: {low}..{high}");
        low + self.below(high - low)
    }

    /// Tells yes in `numerator` of `denominator` cases.
    ///
    /// # Panics
    ///
    /// If `denominator` is zero.
    pub fn chance(&mut self, numerator: u64, denominator: u64) -> bool {
        self.below(denominator) < numerator
    }

    /// Fills `bytes` with random bytes.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }
}

/// Multiplies into 128 bits, as (low, high).
fn wide_product(a: u64, b: u64) -> (u64, u64) {
    let bytes = (u128::from(a) * u128::from(b)).to_le_bytes();
    let half = |start: usize| {
        let mut eight = [0; 8];
        eight.copy_from_slice(&bytes[start..start + 8]);
        u64::from_le_bytes(eight)
    };
    (half(0), half(8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_fixed_for_ever() {
        let mut stream = Seed::new(42).stream("election", 1);
        let drawn: Vec<u64> = (0..3).map(|_| stream.below(1000)).collect();
        assert_eq!(drawn, GOLDEN, "a change here breaks the replay of every recorded run");
    }

    const GOLDEN: [u64; 3] = [711, 311, 131];

    #[test]
    fn a_draw_in_one_stream_leaves_the_others_alone() {
        let seed = Seed::new(7);
        let mut quiet = seed.stream("b", 0);
        let mut busy = seed.stream("a", 0);
        busy.draw();
        assert_eq!(quiet.draw(), seed.stream("b", 0).draw());
        assert_ne!(seed.stream("a", 0).draw(), seed.stream("a", 1).draw());
        assert_ne!(seed.child("a", 0), seed.child("b", 0));
    }

    #[test]
    fn draws_stay_in_their_range_and_reach_its_ends() {
        let mut stream = Seed::new(1).stream("range", 0);
        let drawn: Vec<u64> = (0..200).map(|_| stream.between(5, 8)).collect();
        assert!(drawn.iter().all(|value| (5..8).contains(value)));
        assert!(drawn.contains(&5));
        assert!(drawn.contains(&7));
        assert!(!stream.chance(0, 10));
        assert!(stream.chance(10, 10));
    }
}
