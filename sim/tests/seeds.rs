//! Scenarios that once failed, each with a line on what it found. They are played as they were shrunk.
//!
//! `rivven-sim shrink` prints such a test.

use rivven_sim::scenario::Scenario;
use rivven_sim::world::{Options, run};

fn passes(text: &str) {
    let scenario = Scenario::parse(text).expect("a scenario");
    assert_eq!(run(&scenario, Options::default()).violation, None);
}
