//! One partition, tormented from seeds: nothing breaks, each seed is the same twice, and everything happens.

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
