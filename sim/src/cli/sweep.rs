//! `sweep`: many seeds, with a progress bar, rates, and what was covered.

use core::time::Duration;
use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use rivven_sim::checkers::Rule;
use rivven_sim::faults::FaultKind;
use rivven_sim::marks::Mark;
use rivven_sim::scenario::WorldKind;
use rivven_sim::shards::Shard;
use rivven_sim::sweep::{COVERING_SEEDS, Order, Summary, sweep};
use rivven_sim::trace::TRACE_FORMAT;

/// The arguments of `sweep`.
#[derive(clap::Args)]
pub struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Where they are played.
    #[arg(long, default_value_t = WorldKind::Pure)]
    world: WorldKind,
    /// How many at a time; as many as there are processors if not given.
    #[arg(long)]
    jobs: Option<usize>,
    /// Run only the i-th of n parts, as i/n: a part for each machine when one is not enough.
    #[arg(long, value_name = "I/N", value_parser = parse_shard, default_value = "1/1")]
    shard: (u64, u64),
    /// Stop after so many minutes, whatever is left.
    #[arg(long)]
    minutes: Option<u64>,
    /// Leave out this kind of fault; may be repeated.
    #[arg(long, value_name = "KIND")]
    without: Vec<FaultKind>,
    /// Print the hash of each seed's trace.
    #[arg(long)]
    hashes: bool,
    /// Do not judge this rule; may be repeated.
    #[arg(long, value_name = "RULE")]
    ignore: Vec<Rule>,
    /// Write what came of it to this file, for `merge`.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
}

impl Arguments {
    /// A short sweep, which shows what it is.
    pub fn short() -> Arguments {
        Arguments {
            seeds: 100,
            from: 1,
            world: WorldKind::Pure,
            jobs: None,
            shard: (1, 1),
            minutes: None,
            without: Vec::new(),
            hashes: false,
            ignore: Vec::new(),
            save: None,
        }
    }
}

fn parse_shard(text: &str) -> Result<(u64, u64), String> {
    let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
    match parts {
        Some((i, n)) if 1 <= i && i <= n => Ok((i, n)),
        Some(_) | None => Err(format!("{text:?} is no part: say 1/4 for the first of four")),
    }
}

/// Runs the sweep.
pub fn run(arguments: &Arguments) -> Result<bool, String> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let without: BTreeSet<FaultKind> = arguments.without.iter().copied().collect();
    let order = Order {
        world: arguments.world,
        from: arguments.from,
        seeds: arguments.seeds,
        shard: arguments.shard,
        jobs: arguments.jobs.unwrap_or(processors),
        without,
        ignored: arguments.ignore.iter().copied().collect(),
        stops_at_violation: false,
    };
    let flags = super::flags(&arguments.without, &arguments.ignore);
    let bar = progress(order.seeds / order.shard.1)?;
    let started = Instant::now();
    let limit = arguments.minutes.map(|minutes| Duration::from_secs(minutes * 60));
    let is_cut_short = AtomicBool::new(false);
    let summary = sweep(&order, |scenario, report| {
        if arguments.hashes {
            bar.suspend(|| println!("seed {}: trace-hash: {:016x}", scenario.seed, report.hash));
        }
        if let Some(violation) = &report.violation {
            let (seed, replay) = (scenario.seed, super::replay(scenario));
            let commit = super::commit();
            bar.suspend(|| {
                println!(
                    "seed {seed}: VIOLATION {violation}\n  commit {commit}, trace format {TRACE_FORMAT}"
                );
                println!("  replay: {replay}{flags}");
            });
        }
        bar.inc(1);
        if bar.is_hidden() {
            print_progress(bar.position(), order.seeds / order.shard.1, started.elapsed());
        }
        let goes_on = limit.is_none_or(|limit| started.elapsed() < limit);
        is_cut_short.fetch_or(!goes_on, Ordering::Relaxed);
        goes_on
    });
    bar.finish_and_clear();
    print(&summary, arguments.world, started.elapsed());
    let is_clean = summary.is_clean(arguments.world);
    if let Some(path) = &arguments.save {
        let is_whole = !is_cut_short.into_inner();
        let shard = Shard { commit: super::commit(), order, is_whole, took: started.elapsed(), summary };
        super::save(path, &shard.to_text())?;
    }
    Ok(is_clean)
}

/// In a pipe: a plain line for each tenth of the way, beside the results.
fn print_progress(done: u64, seeds: u64, took: Duration) {
    let tenth = (seeds / 10).max(1);
    if done.is_multiple_of(tenth) && seeds >= 100 {
        let rate = in_float(done) / took.as_secs_f64();
        eprintln!("{done} of {seeds} seeds, {rate:.1} seeds/s");
    }
}

/// A bar on a terminal, nothing in a pipe.
fn progress(seeds: u64) -> Result<ProgressBar, String> {
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new(seeds) } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {per_sec}, {eta} left {msg}");
    bar.set_style(style.map_err(|error| error.to_string())?);
    Ok(bar)
}

/// Prints what came of a sweep.
pub fn print(summary: &Summary, world: WorldKind, took: Duration) {
    let (wall, simulated) = (took.as_secs_f64(), summary.simulated.as_secs_f64());
    let seeds = in_float(summary.seeds.max(1));
    println!(
        "{} seeds in {wall:.1} s, {world} world: {:.1} seeds/s, {:.0} simulated seconds per second",
        summary.seeds,
        seeds / wall,
        simulated / wall
    );
    if summary.events > 0 {
        println!("{:.0} events per second", in_float(summary.events) / wall);
    }
    let each = |count: u64| in_float(count) / seeds;
    println!(
        "a seed, on average: {:.1} simulated seconds, {:.0} acknowledged commands, {:.1} faults that had an effect",
        simulated / seeds,
        each(summary.counts.done),
        each(summary.effective_faults)
    );
    println!("  and {:.1} elections, {:.1} restarts", each(summary.elections), each(summary.restarts));
    println!(
        "commands: {} acknowledged, {} failed, {} unknown",
        summary.counts.done, summary.counts.failed, summary.counts.unknown
    );
    println!("effects of the faults:");
    for kind in &summary.planned {
        println!("  {:<18} {:>12}", kind.name(), summary.effects.of(*kind));
    }
    println!("rare places:");
    for mark in Mark::ALL.iter().filter(|mark| mark.is_of(world)) {
        println!("  {:<60} {:>12}", mark.to_string(), summary.marks.of(*mark));
    }
    if summary.forgiven > 0 {
        println!("in {} runs a disk went back on its word, which nothing survives", summary.forgiven);
    }
    if summary.undecided > 0 {
        println!("in {} runs the search for a linearization was given up", summary.undecided);
    }
    print_verdict(summary, world);
}

/// For rates and averages, which are rounded anyway.
#[expect(clippy::as_conversions, reason = "there is no other way from u64 to f64")]
fn in_float(count: u64) -> f64 {
    count as f64
}

fn print_verdict(summary: &Summary, world: WorldKind) {
    if summary.seeds >= COVERING_SEEDS {
        for kind in summary.idle_faults() {
            println!("NOT COVERED: {kind} had no effect in this sweep");
        }
        for mark in summary.idle_marks(world) {
            println!("NOT COVERED: {mark}");
        }
    }
    let failing: Vec<String> = summary.violations.iter().map(|(seed, _)| seed.to_string()).collect();
    if failing.is_empty() {
        println!("no violation");
    } else {
        println!("{} seeds violate a rule: {}", failing.len(), failing.join(", "));
    }
}
