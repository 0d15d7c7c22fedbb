//! One partition, tormented from seeds: nothing breaks, each seed is the same twice, and everything happens.

use std::panic::catch_unwind;

use rivven_sim::replicas::scenarios::{SCENARIOS, Scenario};
use rivven_sim::replicas::{Marks, play};

#[test]
fn everything_at_once_breaks_nothing_and_happens_again_the_same_way() {
    let mut marks = Marks::default();
    for seed in 1..=2000 {
        let outcome = play(seed, 600, false);
        assert_eq!(outcome.violation, None, "seed {seed}");
        marks.absorb(&outcome.marks);
        if seed % 10 == 0 {
            assert_eq!(play(seed, 600, false).trace, outcome.trace, "seed {seed} is not the same twice");
        }
    }
    for (name, count) in marks.iter() {
        assert!(count > 0, "never: {name}");
    }
}

#[test]
fn each_history_ends_as_it_must() {
    let fails = |scenario: &&Scenario| catch_unwind(|| scenario.play(false)).is_err();
    let failed: Vec<&str> = SCENARIOS.iter().filter(fails).map(|scenario| scenario.name).collect();
    assert!(failed.is_empty(), "see `rivven-sim replicas --narrate --scenario`: {failed:?}");
}
