//! When a seed fails: which faults it takes, and the smallest scenario that still breaks the rule.
//!
//! Shrinking is delta debugging (Zeller and Hildebrandt 2002) on the plan of faults, then on nodes,
//! clients and times. It works because a fault's draws do not depend on the other faults. A smaller
//! scenario counts only if it breaks the *same* rule.

use crate::checkers::{Rule, Violation};
use crate::faults::{Window, budget, damaged_nodes, voters_taken};
use crate::scenario::Scenario;
use crate::world::Report;

/// The shortest window of a fault that is tried, in milliseconds.
const WINDOW_MIN: u64 = 20;

/// A scenario that breaks a rule, and how often it was run to find it.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The scenario.
    pub scenario: Scenario,
    /// What it breaks.
    pub violation: Violation,
    /// How many runs it took.
    pub runs: u64,
}

/// Makes the smallest scenario that it can find, in at most `runs_max` runs. `run` plays a scenario;
/// [`world::run`](crate::world::run) does so with the built-in application.
///
/// `None` if `scenario` breaks no rule.
pub fn shrink(scenario: &Scenario, runs_max: u64, run: &dyn Fn(&Scenario) -> Report) -> Option<Shrunk> {
    let violation = run(scenario).violation?;
    let mut search = Search {
        run,
        rule: violation.rule,
        best: Shrunk { scenario: scenario.clone(), violation, runs: 1 },
        runs_max,
    };
    search.end_at_the_violation();
    search.drop_faults();
    search.drop_nodes_and_clients();
    search.shorten_windows();
    search.drop_faults();
    Some(search.best)
}

/// For each fault of a failing scenario: does it fail without it?
pub fn blame(scenario: &Scenario, run: &dyn Fn(&Scenario) -> Report) -> Vec<(Window, Option<Violation>)> {
    let each = scenario.faults.iter().map(|window| {
        let mut without = scenario.clone();
        without.faults.retain(|other| other.id != window.id);
        (window.clone(), run(&without).violation)
    });
    each.collect()
}

struct Search<'a> {
    run: &'a dyn Fn(&Scenario) -> Report,
    rule: Rule,
    best: Shrunk,
    runs_max: u64,
}

impl Search<'_> {
    /// Takes a scenario as the best if it breaks the same rule.
    fn try_scenario(&mut self, scenario: Scenario) -> bool {
        if self.best.runs >= self.runs_max || scenario == self.best.scenario || !is_within_budget(&scenario) {
            return false;
        }
        self.best.runs += 1;
        let found = (self.run)(&scenario).violation.filter(|found| found.rule == self.rule);
        let Some(violation) = found else { return false };
        (self.best.scenario, self.best.violation) = (scenario, violation);
        true
    }

    /// Faults that begin after the violation cannot have caused it.
    fn end_at_the_violation(&mut self) {
        self.best.runs += 1;
        let simulated = (self.run)(&self.best.scenario).simulated;
        let now = u64::try_from(simulated.as_millis()).unwrap_or(u64::MAX);
        let mut shorter = self.best.scenario.clone();
        shorter.faults.retain(|window| window.begins <= now);
        self.try_scenario(shorter);
    }

    /// Delta debugging: leaves out ever smaller parts, until no single fault can be left out.
    fn drop_faults(&mut self) {
        let mut none = self.best.scenario.clone();
        none.faults.clear();
        if self.try_scenario(none) {
            return;
        }
        let mut parts = 2;
        while self.best.runs < self.runs_max {
            let count = self.best.scenario.faults.len();
            if count == 0 {
                return;
            }
            let size = count.div_ceil(parts);
            let dropped = (0..count).step_by(size).any(|start| {
                let mut smaller = self.best.scenario.clone();
                smaller.faults.drain(start..(start + size).min(count));
                self.try_scenario(smaller)
            });
            if dropped {
                parts = parts.saturating_sub(1).max(2);
            } else if size == 1 {
                return;
            } else {
                parts = (parts * 2).min(count);
            }
        }
    }

    fn drop_nodes_and_clients(&mut self) {
        while self.best.scenario.shape.clients > 1 {
            let mut smaller = self.best.scenario.clone();
            smaller.shape.clients -= 1;
            if !self.try_scenario(smaller) {
                break;
            }
        }
        while self.best.scenario.shape.nodes > 1 {
            let mut smaller = self.best.scenario.clone();
            let last = smaller.shape.nodes;
            smaller.shape.nodes -= 1;
            smaller.shape.newcomers = smaller.shape.newcomers.saturating_sub(1);
            smaller.faults.retain(|window| !window.fault.nodes().contains(&last));
            if !self.try_scenario(smaller) {
                break;
            }
        }
    }

    /// Halves the time of each fault for as long as it still matters.
    fn shorten_windows(&mut self) {
        for place in 0..self.best.scenario.faults.len() {
            loop {
                let mut shorter = self.best.scenario.clone();
                let Some(window) = shorter.faults.get_mut(place) else { break };
                let half = (window.ends - window.begins) / 2;
                window.ends = window.begins + half;
                if half < WINDOW_MIN || !self.try_scenario(shorter) {
                    break;
                }
            }
        }
    }
}

/// A smaller cluster must not be asked to survive more than it can.
fn is_within_budget(scenario: &Scenario) -> bool {
    let lasting = scenario.faults.iter().filter(|window| window.ends > scenario.shape.faults_until);
    let mut broken = damaged_nodes(&scenario.faults);
    broken.extend(lasting.flat_map(|window| window.fault.nodes()));
    broken.len() <= budget(&scenario.shape, voters_taken(&scenario.faults))
}

/// A failing scenario as a test for `sim/tests/simulator/seeds.rs`.
pub fn as_test(shrunk: &Shrunk) -> String {
    let Scenario { seed, world, .. } = shrunk.scenario;
    let rule = shrunk.violation.rule.to_string().replace('-', "_");
    format!(
        "/// {}\n#[test]\nfn {world}_seed_{seed}_keeps_{rule}() {{\n    passes(r#\"{}\"#);\n}}\n",
        shrunk.violation.what.replace('\n', " "),
        shrunk.scenario.to_line(),
    )
}
