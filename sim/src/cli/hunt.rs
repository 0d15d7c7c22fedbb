//! `hunt`: the first seed that fails, shrunk, as one line of JSON for other programs.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Instant;

use rivven_sim::checkers::Rule;
use rivven_sim::faults::FaultKind;
use rivven_sim::lock::lock;
use rivven_sim::scenario::{Scenario, WorldKind};
use rivven_sim::shrink::shrink;
use rivven_sim::sweep::{Order, sweep};
use rivven_sim::world::{Options, run as run_scenario};
use serde::{Deserialize, Serialize};

/// The arguments of `hunt`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The most seeds.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Where they are played.
    #[arg(long, default_value_t = WorldKind::Pure)]
    world: WorldKind,
    /// Leave out this kind of fault; may be repeated.
    #[arg(long, value_name = "KIND")]
    without: Vec<FaultKind>,
    /// Do not judge this rule; may be repeated.
    #[arg(long, value_name = "RULE")]
    ignore: Vec<Rule>,
    /// The most runs to shrink what was found; 0 shrinks nothing.
    #[arg(long, default_value_t = 300)]
    runs: u64,
}

/// What was found.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Catch {
    /// How many seeds were run.
    pub seeds: u64,
    /// The first failing seed, if one failed.
    pub seed: Option<u64>,
    /// The rule that it breaks.
    pub rule: Option<String>,
    /// How long the hunt took, without shrinking.
    pub seconds: f64,
    /// How long shrinking took.
    pub shrink_seconds: f64,
    /// How many faults are left in the shrunk plan.
    pub faults: Option<usize>,
    /// The shrunk scenario.
    pub scenario: Option<Scenario>,
}

/// Hunts.
pub fn run(arguments: &Arguments) -> Result<bool, String> {
    let order = Order {
        world: arguments.world,
        from: arguments.from,
        seeds: arguments.seeds,
        shard: (1, 1),
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
        without: arguments.without.iter().copied().collect::<BTreeSet<_>>(),
        ignored: arguments.ignore.iter().copied().collect::<BTreeSet<_>>(),
        stops_at_violation: true,
    };
    // Panics are what is hunted: they are reported as violations, not on the terminal.
    std::panic::set_hook(Box::new(|_| {}));
    let failed: Mutex<Vec<Scenario>> = Mutex::new(Vec::new());
    let started = Instant::now();
    let summary = sweep(&order, |scenario, report| {
        if report.violation.is_some() {
            lock(&failed).push(scenario.clone());
        }
        true
    });
    let seconds = started.elapsed().as_secs_f64();
    let first = summary.violations.first();
    let scenario = lock(&failed).iter().min_by_key(|scenario| scenario.seed).cloned();
    let play = |scenario: &Scenario| {
        let ignored = order.ignored.clone();
        run_scenario(scenario, Options { ignored, ..Options::default() })
    };
    let started = Instant::now();
    let shrunk =
        scenario.filter(|_| arguments.runs > 0).and_then(|scenario| shrink(&scenario, arguments.runs, &play));
    let found = Catch {
        seeds: summary.seeds,
        seed: first.map(|(seed, _)| *seed),
        rule: first.map(|(_, violation)| violation.rule.to_string()),
        seconds,
        shrink_seconds: started.elapsed().as_secs_f64(),
        faults: shrunk.as_ref().map(|shrunk| shrunk.scenario.faults.len()),
        scenario: shrunk.map(|shrunk| shrunk.scenario),
    };
    println!("{}", serde_json::to_string(&found).map_err(|error| error.to_string())?);
    Ok(found.seed.is_none())
}

/// Hunts where a seed has no plan of faults: looks for the first one that `play` says is broken, and how.
pub fn one_by_one(from: u64, seeds: u64, play: impl Fn(u64) -> Option<String>) -> Result<bool, String> {
    std::panic::set_hook(Box::new(|_| {}));
    let began = Instant::now();
    let found = (from..from + seeds).find_map(|seed| play(seed).map(|text| (seed, text)));
    let catch = Catch {
        seeds: found.as_ref().map_or(seeds, |(seed, _)| seed - from + 1),
        seed: found.as_ref().map(|(seed, _)| *seed),
        rule: found.map(|(_, text)| text.lines().next().unwrap_or_default().to_owned()),
        seconds: began.elapsed().as_secs_f64(),
        shrink_seconds: 0.0,
        faults: None,
        scenario: None,
    };
    println!("{}", serde_json::to_string(&catch).map_err(|error| error.to_string())?);
    Ok(catch.seed.is_none())
}
