//! Small worlds of production machines, in which every order of events is tried.
//!
//! What it prints, `cargo test -p rivven-sim --test simulator exhaustive -- --nocapture` shows.

use core::fmt::Debug;

use rivven_sim::explore::{SmallWorld, explore};
use rivven_sim::{replicas, swim};

/// No world of these has so many states.
const STATES_MAX: u64 = 3_000_000;
/// All of a kind together have so many.
const STATES_MIN: u64 = 1_000_000;

/// Tries everything, and tells how many states there are.
fn try_all<B: Copy + Debug, W: SmallWorld>(budgets: &[B], world: impl Fn(B) -> W) -> u64 {
    let mut states = 0;
    for budget in budgets {
        let explored = explore(&world(*budget), STATES_MAX);
        println!("{} states, {} events tried: {budget:?}", explored.states, explored.steps);
        assert!(explored.violation.is_none(), "{:#?}", explored.violation);
        assert!(explored.is_all, "there are more than {STATES_MAX} states");
        states += explored.states;
    }
    states
}

#[test]
fn three_replicas_keep_what_is_committed_in_every_order_of_events() {
    assert!(try_all(&replicas::small::BUDGETS, replicas::small::Small::new) >= STATES_MIN);
}

#[test]
fn three_members_hold_of_each_other_what_the_table_says_in_every_order_of_events() {
    assert!(try_all(&swim::small::BUDGETS, swim::small::Small::new) >= STATES_MIN);
}
