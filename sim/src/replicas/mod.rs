//! One partition on five nodes, and everything that can happen to it, millions of steps a minute.
//!
//! The replicas are the production ones, and so is the metadata; here is only what is between them: a wire that loses,
//! repeats and reorders, disks that forget what was not synced, processes that crash and return, nodes that lose their
//! disk, and an operator and a controller without any sense. Whatever a seed draws is allowed: a leader that has not heard
//! of its fall, views of the metadata with changes left out, proposals that arrive a minute late.
//!
//! After each step the checks are made: what is committed stays as it is, whoever may be elected has all of it on
//! its disk, nobody leads beside another in one epoch. As many disks may be lost as the topic promises to bear: one less
//! than `min_in_sync`. In the end all faults end, and within a bounded number of rounds everybody must have everything.

mod check;
mod heal;
mod host;
mod marks;
pub mod scenarios;
pub mod small;
mod step;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use rivven_cluster::rng::{Seed, Stream};

pub use self::marks::Marks;
use self::world::World;

/// The most steps that a tape decides.
const TAPE_STEPS_MAX: u64 = 2000;

/// What came of one seed.
pub struct Outcome {
    /// A hash of all that happened.
    pub trace: u64,
    /// What happened how often.
    pub marks: Marks,
    /// What was broken, if anything, and at which step.
    pub violation: Option<String>,
}

/// Plays so many steps from one seed, and then peace. A narrated run prints what happens.
#[must_use]
pub fn play(seed: u64, steps: u64, narrates: bool) -> Outcome {
    play_from(Seed::new(seed).stream("replicas", 0), seed, steps, narrates)
}

/// Plays as a tape says, and then peace: the world of a fuzzer.
#[must_use]
pub fn play_tape(tape: &[u8]) -> Outcome {
    // A step takes two bytes and more.
    let steps = u64::try_from(tape.len() / 3).unwrap_or(u64::MAX).min(TAPE_STEPS_MAX);
    play_from(Seed::new(0).stream("replicas", 0).behind(tape), 0, steps, false)
}

fn play_from(draws: Stream, seed: u64, steps: u64, narrates: bool) -> Outcome {
    let mut world = World::new(draws, seed);
    world.narrates = narrates;
    let mut played = 0;
    let run = AssertUnwindSafe(|| {
        for step in 0..steps {
            played = step;
            world.tell(|| format!("step {step}"));
            world.step();
            world.check();
        }
        world.heal();
    });
    let violation = catch_unwind(run).err().map(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        format!("at step {played}: {}", text.unwrap_or("a panic without a text"))
    });
    Outcome { trace: world.trace, marks: world.marks, violation }
}
