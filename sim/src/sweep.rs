//! Many seeds, on several threads: which fail, and whether everything was tried that ought to be.

use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::checkers::{Rule, Violation};
use crate::faults::{Effects, FaultKind};
use crate::history::Counts;
use crate::lock::lock;
use crate::marks::{Mark, Marks};
use crate::scenario::{Scenario, WorldKind};
use crate::world::{Options, Report, run};

/// From so many seeds on, every kind of fault and every mark must have come up.
pub const COVERING_SEEDS: u64 = 50;

/// Which seeds are run, and how.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Order {
    /// The world.
    pub world: WorldKind,
    /// The first seed.
    pub from: u64,
    /// How many seeds lie in the range; each shard runs its part of them.
    pub seeds: u64,
    /// Which part of the range, from 1, of how many.
    pub shard: (u64, u64),
    /// How many at a time.
    pub jobs: usize,
    /// Kinds of faults that are left out.
    pub without: BTreeSet<FaultKind>,
    /// Rules that are not judged.
    pub ignored: BTreeSet<Rule>,
    /// Stop after the first violation.
    pub stops_at_violation: bool,
}

/// The sum of many runs.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Summary {
    /// How many seeds were run.
    pub seeds: u64,
    /// How much time passed in all simulations.
    pub simulated: Duration,
    /// How the commands ended.
    pub counts: Counts,
    /// How many faults of all plans had an effect.
    pub effective_faults: u64,
    /// How many elections were won.
    pub elections: u64,
    /// How many processes were started after the first of each node.
    pub restarts: u64,
    /// How many events the pure world went through.
    pub events: u64,
    /// In how many runs a disk went back on its word.
    pub forgiven: u64,
    /// In how many runs the search for a linearization was given up.
    pub undecided: u64,
    /// What all faults did.
    pub effects: Effects,
    /// Which rare places were reached.
    pub marks: Marks,
    /// The kinds of faults that stood in any plan.
    pub planned: BTreeSet<FaultKind>,
    /// Seeds that broke a rule, ascending.
    pub violations: Vec<(u64, Violation)>,
}

impl Summary {
    fn add(&mut self, scenario: &Scenario, report: &Report) {
        let counts = report.history.counts();
        self.seeds += 1;
        self.simulated += report.simulated;
        self.counts.done += counts.done;
        self.counts.failed += counts.failed;
        self.counts.unknown += counts.unknown;
        self.effective_faults += report.effects.effective();
        self.elections += report.elections;
        self.restarts += report.restarts;
        self.events += report.events;
        self.forgiven += u64::from(report.forgiven);
        self.undecided += u64::from(report.undecided);
        self.effects.add(&report.effects);
        self.marks.add(&report.marks);
        self.planned.extend(scenario.faults.iter().map(|window| window.fault.kind()));
        if let Some(violation) = &report.violation {
            self.violations.push((scenario.seed, violation.clone()));
            self.violations.sort_by_key(|(seed, _)| *seed);
        }
    }

    /// Adds the sum of other runs. Effects of single faults of a plan are not told apart any more.
    pub fn merge(&mut self, other: Summary) {
        self.seeds += other.seeds;
        self.simulated += other.simulated;
        self.counts.done += other.counts.done;
        self.counts.failed += other.counts.failed;
        self.counts.unknown += other.counts.unknown;
        self.effective_faults += other.effective_faults;
        self.elections += other.elections;
        self.restarts += other.restarts;
        self.events += other.events;
        self.forgiven += other.forgiven;
        self.undecided += other.undecided;
        self.effects.add(&other.effects);
        self.marks.add(&other.marks);
        self.planned.extend(other.planned);
        self.violations.extend(other.violations);
        self.violations.sort_by_key(|(seed, _)| *seed);
    }

    /// The planned kinds of faults that never had an effect: the sweep says nothing about them.
    pub fn idle_faults(&self) -> Vec<FaultKind> {
        self.planned.iter().copied().filter(|kind| self.effects.of(*kind) == 0).collect()
    }

    /// The places of this world that were never reached.
    pub fn idle_marks(&self, world: WorldKind) -> Vec<Mark> {
        let marks = Mark::ALL.iter().copied().filter(|mark| mark.is_of(world));
        marks.filter(|mark| self.marks.of(*mark) == 0).collect()
    }

    /// Whether no rule was broken and, if the sweep was long enough to ask for it, nothing left out.
    pub fn is_clean(&self, world: WorldKind) -> bool {
        let covers = self.idle_faults().is_empty() && self.idle_marks(world).is_empty();
        self.violations.is_empty() && (covers || self.seeds < COVERING_SEEDS)
    }
}

/// Runs the seeds of an order; `each` hears of every one as it ends, and tells whether to go on.
pub fn sweep(order: &Order, each: impl Fn(&Scenario, &Report) -> bool + Sync) -> Summary {
    let next = AtomicU64::new(order.from);
    let is_done = AtomicBool::new(false);
    let summary = Mutex::new(Summary::default());
    let work = || {
        while !is_done.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= order.from.saturating_add(order.seeds) {
                return;
            }
            if seed % order.shard.1 != order.shard.0 % order.shard.1 {
                continue;
            }
            let scenario = Scenario::draw_without(seed, order.world, &order.without);
            let options = Options { ignored: order.ignored.clone(), ..Options::default() };
            let report = run(&scenario, options);
            lock(&summary).add(&scenario, &report);
            let is_last = order.stops_at_violation && report.violation.is_some();
            if !each(&scenario, &report) || is_last {
                is_done.store(true, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..order.jobs.max(1) {
            scope.spawn(work);
        }
    });
    summary.into_inner().unwrap_or_default()
}
