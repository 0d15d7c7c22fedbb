//! The simulator's worlds, with the fuzzer in the place of the seed.
//!
//! All their checks are made after each step; what they say is a finding.

use rivven_sim::replicas;
use rivven_sim::scenario::Scenario;
use rivven_sim::swim::chaos;
use rivven_sim::world::{self, Options};

/// The replicas of one partition on five nodes: the tape decides on every step.
pub fn replica(tape: &[u8]) -> usize {
    let outcome = replicas::play_tape(tape);
    assert_eq!(outcome.violation, None);
    1
}

/// A few members: the tape decides what happens to them.
pub fn swim(tape: &[u8]) -> usize {
    let outcome = chaos::play_tape(tape);
    assert_eq!(outcome.violation, None);
    1
}

/// A whole cluster in the pure world: the tape decides on its shape and on each fault.
pub fn cluster(tape: &[u8]) -> usize {
    let scenario = Scenario::of_tape(tape);
    let report = world::run(&scenario, Options::default());
    assert!(report.violation.is_none(), "{:?} in {}", report.violation, scenario.to_line());
    1
}
