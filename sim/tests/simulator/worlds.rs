//! What the simulator promises about itself: forks, plans, shrinking, and one set of faults for both worlds.

#![expect(clippy::disallowed_methods, reason = "a golden file is read and written")]

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;

use bytes::Bytes;
use rivven_cluster::id::LogIndex;
use rivven_cluster::rng::Stream;
use rivven_cluster::state_machine::{RestoreError, StateMachine};
use rivven_sim::app::{Application, Call, KeyValueApp, Ticket};
use rivven_sim::checkers::{Rule, Violation};
use rivven_sim::inevitable::{Question, ask};
use rivven_sim::scenario::{Scenario, WorldKind};
use rivven_sim::shape::Store;
use rivven_sim::shrink::{as_test, blame, shrink};
use rivven_sim::world::pure::World;
use rivven_sim::world::{Options, Report, contain};

/// A counter with a bug: whoever has started a second time counts by two once it gets to ten.
#[derive(Clone)]
struct Miscounting {
    nodes: u64,
    made: Rc<Cell<u64>>,
}

struct Counter {
    count: u64,
    is_broken: bool,
}

impl StateMachine for Counter {
    fn apply(&mut self, _index: LogIndex, _command: &[u8]) -> Bytes {
        self.count += if self.is_broken && self.count >= 10 { 2 } else { 1 };
        Bytes::from(self.count.to_string())
    }

    fn query(&self, _query: &[u8]) -> Bytes {
        Bytes::from(self.count.to_string())
    }

    fn snapshot(&self) -> Bytes {
        Bytes::from(self.count.to_string())
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        let text = core::str::from_utf8(snapshot).map_err(|error| RestoreError(error.to_string()))?;
        self.count = text.parse().map_err(|_| RestoreError(text.to_owned()))?;
        Ok(())
    }
}

impl Application for Miscounting {
    type Machine = Counter;
    type Memory = ();

    fn machine(&self) -> Counter {
        self.made.set(self.made.get() + 1);
        Counter { count: 0, is_broken: self.made.get() > self.nodes }
    }

    fn call(&self, _memory: &mut (), _ticket: Ticket, _choices: &mut Stream) -> Call {
        Call::Command(Bytes::from_static(b"count"))
    }
}

fn miscount(scenario: &Scenario) -> Report {
    let app = Miscounting { nodes: scenario.shape.nodes, made: Rc::default() };
    contain(|report| *report = World::new(scenario.clone(), app, Options::default()).run())
}

/// The first seed whose plan brings the bug to light.
fn failing() -> Scenario {
    let scenarios = (1..).map(|seed| Scenario::draw(seed, WorldKind::Pure));
    let mut failing = scenarios.filter(|scenario| {
        let violation = miscount(scenario).violation;
        violation.is_some_and(|violation| violation.rule == Rule::StateMachineSafety)
    });
    failing.next().expect("one of so many")
}

#[test]
fn a_seed_fails_in_the_same_way_twice_and_its_shrunk_plan_still_fails() {
    let scenario = failing();
    let (first, second) = (miscount(&scenario), miscount(&scenario));
    assert_eq!((first.hash, first.violation.clone()), (second.hash, second.violation));
    let shrunk = shrink(&scenario, 500, &miscount).expect("it fails");
    assert!(shrunk.scenario.faults.len() <= 2, "{:?}", shrunk.scenario.faults);
    assert!(shrunk.scenario.shape.clients == 1, "one client is enough");
    let again = miscount(&Scenario::parse(&shrunk.scenario.to_text()).expect("its own text"));
    assert_eq!(again.violation, Some(shrunk.violation));
}

/// The goal: that what is drawn anew is what comes after, and nothing before. The method: at the end nothing is left to
/// be drawn, so every run fails as the first one did; on the way there some do not.
#[test]
fn luck_that_is_drawn_anew_too_late_changes_nothing() {
    let scenario = failing();
    let end = miscount(&scenario).simulated;
    let question = Question { intervals: 4, cuts: 0, draws: 6, jobs: 2, ignored: BTreeSet::new() };
    let app = || Miscounting { nodes: scenario.shape.nodes, made: Rc::default() };
    let shares = ask(&scenario, &app, Rule::StateMachineSafety, end, &question).shares;
    assert!(shares.windows(2).all(|pair| pair[0].at < pair[1].at), "{shares:?}");
    assert_eq!((shares.len(), shares.last().map(|share| share.failed)), (5, Some(6)), "{shares:?}");

    let world = || World::new(scenario.clone(), app(), Options::default());
    let (mut one, mut other) = (world(), world());
    one.play_until(end / 2);
    other.play_until(end / 2);
    other.redraw(scenario.root().child("other luck", 0));
    assert_ne!(one.run().hash, other.run().hash, "the luck is another one");
}

#[test]
fn blame_names_faults_without_which_the_run_passes() {
    let scenario = shrink(&failing(), 500, &miscount).expect("it fails").scenario;
    let same_rule = |violation: &Option<Violation>| {
        violation.as_ref().is_some_and(|violation| violation.rule == Rule::StateMachineSafety)
    };
    let needed = blame(&scenario, &miscount).into_iter().filter(|(_, violation)| !same_rule(violation));
    assert_eq!(needed.count(), scenario.faults.len(), "a shrunk plan needs all that is in it");
}

/// What `shrink` prints, as it prints it. That it compiles is proved by its standing here.
mod printed {
    use super::{Scenario, miscount};

    fn passes(text: &str) {
        let report = miscount(&Scenario::parse(text).expect("a scenario"));
        assert!(report.violation.is_some(), "with the bug in it, it does not pass");
    }

    include!("printed/test.txt");
}

/// After a change of how scenarios are drawn, run it once with `UPDATE=1`.
#[test]
fn what_shrink_prints_is_a_test_that_compiles() {
    let text = as_test(&shrink(&failing(), 500, &miscount).expect("it fails"));
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/simulator/printed/test.txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(golden, &text).expect("the golden file");
    }
    assert_eq!(text, std::fs::read_to_string(golden).expect("the golden file"));
}

/// A world that keeps batches, some way into its run.
fn on_the_way(events: u64) -> World<KeyValueApp> {
    let mut scenarios = (1..).map(|seed| Scenario::draw(seed, WorldKind::Pure));
    let scenario =
        scenarios.find(|scenario| scenario.shape.store == Store::Batches && scenario.shape.nodes == 5);
    let scenario = scenario.expect("one of so many");
    let app = KeyValueApp::new(&scenario.shape);
    let mut world = World::new(scenario, app, Options::default());
    for _ in 0..events {
        assert!(world.step());
    }
    world
}

#[test]
fn a_fork_goes_on_as_the_original_does() {
    for events in [0, 100, 5000, 20_000] {
        let world = on_the_way(events);
        let fork = world.fork().expect("its disks keep batches");
        let (original, fork) = (world.run(), fork.run());
        assert_eq!(original.violation, None);
        assert_eq!((original.hash, original.events), (fork.hash, fork.events));
    }
}

#[test]
fn a_world_with_real_stores_cannot_be_forked() {
    let mut scenarios = (1..).map(|seed| Scenario::draw(seed, WorldKind::Pure));
    let scenario = scenarios.find(|scenario| scenario.shape.store != Store::Batches).expect("one of so many");
    let app = KeyValueApp::new(&scenario.shape);
    let mut world = World::new(scenario, app, Options::default());
    for _ in 0..1000 {
        world.step();
    }
    assert!(world.fork().is_none());
}

#[test]
fn a_world_that_nobody_watches_plays_the_same() {
    let scenario = Scenario::draw(7, WorldKind::Pure);
    let world = || World::new(scenario.clone(), KeyValueApp::new(&scenario.shape), Options::default());
    let (watched, unwatched) = (world().run(), world().unwatched().run());
    assert_eq!(watched.history.operations(), unwatched.history.operations());
}
