//! The worlds in which a scenario is played, and what a run reports.

pub mod pure;
pub mod turmoil;

use core::time::Duration;
use std::collections::BTreeSet;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::app::KeyValueApp;
use crate::checkers::{Rule, Violation};
use crate::faults::Effects;
use crate::history::History;
use crate::marks::Marks;
use crate::recording::Recordings;
use crate::report::SharedPicture;
use crate::scenario::{Scenario, WorldKind};

/// How a scenario is run.
#[derive(Default)]
pub struct Options {
    /// Rules that are not judged.
    pub ignored: BTreeSet<Rule>,
    /// Gets a line for every record of the trace.
    pub trace: Option<Box<dyn Write + Send>>,
    /// Is drawn from the trace.
    pub picture: Option<SharedPicture>,
    /// Gets what each process of the turmoil world was told and asked for.
    pub recordings: Option<Recordings>,
}

/// What happened in a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What the faults did.
    pub effects: Effects,
    /// Which rare places were reached.
    pub marks: Marks,
    /// What clients did and were told.
    pub history: History,
    /// How much time passed in the simulation.
    pub simulated: Duration,
    /// How many events the world went through; 0 in the turmoil world, which does not count them.
    pub events: u64,
    /// How many elections were won.
    pub elections: u64,
    /// How many processes were started after the first of each node.
    pub restarts: u64,
    /// How many records the trace has.
    pub records: u64,
    /// The hash of the trace.
    pub hash: u64,
    /// Whether the search for a linearization was given up.
    pub undecided: bool,
    /// Whether a disk went back on its word, so that only panics were judged from then on.
    pub forgiven: bool,
    /// The first broken rule.
    pub violation: Option<Violation>,
}

/// Plays a scenario with the built-in application.
pub fn run(scenario: &Scenario, options: Options) -> Report {
    match scenario.world {
        WorldKind::Pure => {
            let app = KeyValueApp::new(&scenario.shape);
            contain(|report| *report = pure::World::new(scenario.clone(), app, options).run())
        }
        WorldKind::Turmoil => contain(|report| turmoil::run(scenario, options, report)),
    }
}

/// Turns a panic in a world into a violation.
pub fn contain(play: impl FnOnce(&mut Report)) -> Report {
    let mut report = Report::default();
    if let Err(text) = caught(|| play(&mut report)) {
        report.violation = Some(Violation { rule: Rule::Invariant, what: format!("a panic: {text}") });
    }
    report
}

/// Does something that may panic, and tells what it then said.
///
/// # Errors
///
/// The text of the panic.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned()
    })
}
