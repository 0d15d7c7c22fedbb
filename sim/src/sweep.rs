//! Many seeds, on several threads: which fail, and whether every kind of fault did something.

use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::checkers::{Rule, Violation};
use crate::faults::{Effects, FaultKind};
use crate::net::lock;
use crate::world::{Options, Report, run};

/// The sum of many runs.
#[derive(Debug, Default)]
pub struct Summary {
    /// How many seeds were run.
    pub seeds: u64,
    /// What all faults did.
    pub effects: Effects,
    /// How many commands were acknowledged.
    pub acknowledged: u64,
    /// How many commands failed for certain.
    pub failed: u64,
    /// How many commands have an unknown fate.
    pub unknown: u64,
    /// How much time passed in all simulations.
    pub simulated: Duration,
    /// Seeds that broke a rule, ascending.
    pub violations: Vec<(u64, Violation)>,
}

impl Summary {
    fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.effects.add(&report.effects);
        self.acknowledged += u64::try_from(report.acknowledged).unwrap_or(u64::MAX);
        self.failed += u64::try_from(report.failed).unwrap_or(u64::MAX);
        self.unknown += report.unknown;
        self.simulated += report.simulated;
        if let Some(violation) = &report.violation {
            self.violations.push((report.seed, violation.clone()));
            self.violations.sort_by_key(|(seed, _)| *seed);
        }
    }

    /// The kinds of faults that never had an effect: the sweep says nothing about them.
    pub fn idle_faults(&self) -> Vec<FaultKind> {
        FaultKind::ALL.into_iter().filter(|kind| self.effects.of(*kind) == 0).collect()
    }
}

/// Runs `seeds` seeds from `from` on, `jobs` at a time; `each` hears of every one as it ends.
pub fn sweep(
    from: u64,
    seeds: u64,
    jobs: usize,
    ignored: &BTreeSet<Rule>,
    each: impl Fn(&Report) + Sync,
) -> Summary {
    let next = AtomicU64::new(from);
    let summary = Mutex::new(Summary::default());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from.saturating_add(seeds) {
                        return;
                    }
                    let report = run(seed, Options { ignored: ignored.clone(), trace: None });
                    lock(&summary).add(&report);
                    each(&report);
                }
            });
        }
    });
    summary.into_inner().unwrap_or_default()
}
