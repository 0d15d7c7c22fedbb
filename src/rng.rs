//! Randomness as an input: one `u64` seed, split into named streams.
//!
//! A machine never asks the operating system for entropy. Its driver hands it a [`Seed`] (random in
//! production, chosen in a simulation), and each use inside the machine opens a stream of its own by
//! name. So a new draw in one place never shifts the draws of another, and a recorded run stays
//! replayable when code elsewhere changes. The generator is ChaCha8: portable, seekable and fast.
//!
//! A stream may begin with a *tape*: bytes that say how it decides, mostly one or two for each decision. That is how a fuzzer
//! steers a simulation, a part at a time: it changes a byte, and one decision is another one.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// The root of all randomness of one node, or of one simulated run.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
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
        Stream { seeded: ChaCha8Rng::from_seed(key), tape: None }
    }

    /// Derives the seed of a part, so that the part can split it into streams of its own.
    #[must_use]
    pub fn child(self, name: &str, index: u64) -> Seed {
        Seed(self.stream(name, index).draw())
    }
}

/// A sequence of draws that depends on nothing but its seed, its name and its index.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Stream {
    seeded: ChaCha8Rng,
    /// What decides first, if anything does.
    tape: Option<Tape>,
}

impl Stream {
    /// The same stream behind a tape: until that is read to its end, its bytes decide, little end first. A decision among
    /// up to 2^8 takes one of them, among up to 2^16 two, and any other eight, modulo the number of choices.
    #[must_use]
    pub fn behind(self, tape: &[u8]) -> Stream {
        Stream { tape: Some(Tape { bytes: tape.into(), read: 0 }), ..self }
    }

    /// How much of the tape is left to be read, in bytes.
    #[must_use]
    pub fn tape_left(&self) -> usize {
        self.tape.as_ref().map_or(0, |tape| tape.bytes.len() - tape.read)
    }

    /// Draws 64 random bits.
    pub fn draw(&mut self) -> u64 {
        self.tape_word(u64::MAX).unwrap_or_else(|| self.seeded.next_u64())
    }

    /// Draws uniformly from `0..bound` by Lemire's method, without bias.
    ///
    /// # Panics
    ///
    /// If `bound` is zero: there is nothing to choose from.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "a choice among no values");
        if let Some(word) = self.tape_word(bound) {
            return word % bound;
        }
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
        match &mut self.tape {
            None => self.seeded.fill_bytes(bytes),
            Some(_) => bytes.chunks_mut(8).for_each(|chunk| {
                let drawn = self.draw().to_le_bytes();
                chunk.copy_from_slice(&drawn[..chunk.len()]);
            }),
        }
    }

    /// What the tape says to a decision among so many, unless it is at its end.
    fn tape_word(&mut self, bound: u64) -> Option<u64> {
        let tape = self.tape.as_mut()?;
        let left = &tape.bytes[tape.read..];
        let width = if bound <= 1 << 8 {
            1
        } else if bound <= 1 << 16 {
            2
        } else {
            8
        };
        let taken = left.len().min(width);
        let mut word = [0; 8];
        word[..taken].copy_from_slice(&left[..taken]);
        tape.read += taken;
        (taken > 0).then(|| u64::from_le_bytes(word))
    }
}

/// Decisions, written down.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Tape {
    bytes: Box<[u8]>,
    read: usize,
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
    fn a_tape_decides_first_and_then_the_seed_goes_on_as_if_there_had_been_none() {
        let seeded = || Seed::new(1).stream("test", 0);
        let mut stream = seeded().behind(&[7, 1, 2, 3]);
        assert_eq!((stream.below(5), stream.below(300), stream.below(1 << 20)), (2, 0x0201 % 300, 3));
        assert_eq!(stream.tape_left(), 0);
        let mut plain = seeded();
        assert_eq!([stream.draw(), stream.below(9)], [plain.draw(), plain.below(9)]);
    }

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
