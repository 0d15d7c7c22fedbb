//! Every order of events of a small world: nothing is drawn, and nothing is left out.
//!
//! A seed finds what is likely. What takes an order that hardly ever comes up is found by trying all of them, which is
//! possible where the world is small: a few nodes, a few records, a crash or two. The machines in it are the production
//! ones. From each state every event that can happen is tried, depth first; a state that was seen before, by its
//! fingerprint, is not gone on from. (Holzmann 1998 on how little is missed by hashes: with 64 bits and a few million
//! states, one in a million such searches would miss one state.)

use core::fmt::Debug;
use core::hash::Hasher;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A world in which few things can happen.
pub trait SmallWorld: Clone {
    /// Something that happens.
    type Event: Clone + Debug + PartialEq;

    /// All that can happen now.
    fn events(&self) -> Vec<Self::Event>;

    /// Lets it happen.
    ///
    /// # Panics
    ///
    /// If it breaks a rule.
    fn happen(&mut self, event: &Self::Event);

    /// Worlds with the same fingerprint go on alike.
    fn fingerprint(&self) -> u64;
}

/// Takes the fingerprint of a state. States have many small parts, so each is mixed in with one multiplication, whose
/// halves are folded together (as wyhash does); XXH3, which is made for long inputs, took a fourth of a search.
#[derive(Default)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// Digits of the square root of 2.
    const BEGINNING: u64 = 0x6a09_e667_f3bc_c908;
    /// Digits of the golden ratio.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

    fn mix(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ Self::BEGINNING) * u128::from(Self::FACTOR);
        let (low, high) = (product & u128::from(u64::MAX), product >> 64);
        self.0 = self.0.rotate_left(29) ^ u64::try_from(low ^ high).expect("the halves have 64 bits");
    }
}

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        words.iter().for_each(|word| self.mix(u64::from_le_bytes(*word)));
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.mix(number.into());
    }

    fn write_u16(&mut self, number: u16) {
        self.mix(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.mix(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.mix(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.mix(u64::try_from(number).unwrap_or(u64::MAX));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// What was found.
#[derive(Debug)]
pub struct Explored<E> {
    /// How many different states were seen.
    pub states: u64,
    /// How many events were tried.
    pub steps: u64,
    /// Whether these are all states that there are.
    pub is_all: bool,
    /// The events after which a rule is broken, as few as were found, and what it says.
    pub violation: Option<(Vec<E>, String)>,
}

/// One state on the way to where the search is.
struct Stop<W: SmallWorld> {
    world: W,
    /// What has not been tried from it.
    untried: Vec<W::Event>,
}

impl<W: SmallWorld> Stop<W> {
    fn new(world: W) -> Stop<W> {
        let untried = world.events();
        Stop { world, untried }
    }
}

/// Tries everything that can happen to a world, until something breaks, or so many states were seen.
#[must_use]
pub fn explore<W: SmallWorld>(world: &W, states_max: u64) -> Explored<W::Event> {
    let mut seen = BTreeSet::from([world.fingerprint()]);
    let mut explored = Explored { states: 1, steps: 0, is_all: false, violation: None };
    let mut path: Vec<W::Event> = Vec::new();
    let mut stops = vec![Stop::new(world.clone())];
    while let Some(stop) = stops.last_mut() {
        let Some(event) = stop.untried.pop() else {
            stops.pop();
            path.pop();
            continue;
        };
        let mut next = stop.world.clone();
        explored.steps += 1;
        if let Some(text) = try_to(&mut next, &event) {
            path.push(event);
            explored.violation = Some(shorten(world, path, text));
            return explored;
        }
        if seen.insert(next.fingerprint()) {
            explored.states += 1;
            if explored.states >= states_max {
                return explored;
            }
            path.push(event);
            stops.push(Stop::new(next));
        }
    }
    explored.is_all = true;
    explored
}

/// Lets something happen; tells which rule that breaks.
fn try_to<W: SmallWorld>(world: &mut W, event: &W::Event) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(|| world.happen(event))).err()?;
    let text = panic.downcast_ref::<String>().map(String::as_str);
    Some(
        text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a text").to_owned(),
    )
}

/// Leaves out one event after the other, as long as something still breaks.
fn shorten<W: SmallWorld>(world: &W, mut path: Vec<W::Event>, mut text: String) -> (Vec<W::Event>, String) {
    let mut place = 0;
    while place < path.len() {
        let mut shorter = path.clone();
        shorter.remove(place);
        match replay(world, &shorter) {
            Some((length, other)) => {
                shorter.truncate(length);
                (path, text) = (shorter, other);
                // What was needed before may not be any more.
                place = 0;
            }
            None => place += 1,
        }
    }
    (path, text)
}

/// After how many of these events, if all of them can happen, which rule is broken.
fn replay<W: SmallWorld>(world: &W, path: &[W::Event]) -> Option<(usize, String)> {
    let mut world = world.clone();
    for (number, event) in path.iter().enumerate() {
        if !world.events().contains(event) {
            return None;
        }
        if let Some(text) = try_to(&mut world, event) {
            return Some((number + 1, text));
        }
    }
    None
}
