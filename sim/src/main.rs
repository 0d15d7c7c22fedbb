//! `rivven-sim`: run a seed, or sweep many.
#![expect(
    clippy::disallowed_types,
    reason = "the command line writes trace files and tells how long a sweep took"
)]

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use rivven_sim::checkers::Rule;
use rivven_sim::faults::FaultKind;
use rivven_sim::sweep::{Summary, sweep};
use rivven_sim::world::{Options, Report, run};

/// Runs whole clusters from one seed, with faults, and checks that they kept their promises.
///
/// Exit codes: 0 nothing violated, 1 a violation, 2 wrong usage.
#[derive(Parser)]
#[command(name = "rivven-sim", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run one seed, and print what happened and the hash of its trace.
    Run {
        /// The seed.
        #[arg(long)]
        seed: u64,
        /// Write every record of the trace to this file, a line each.
        #[arg(long, value_name = "FILE")]
        trace: Option<PathBuf>,
        /// Do not judge this rule; may be repeated.
        #[arg(long, value_name = "RULE", value_parser = parse_rule)]
        ignore: Vec<Rule>,
    },
    /// Run many seeds, and print those that fail with the command that replays each.
    Sweep {
        /// How many seeds.
        #[arg(long, default_value_t = 50)]
        seeds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// How many at a time; as many as there are processors if not given.
        #[arg(long)]
        jobs: Option<usize>,
        /// Print the hash of each seed's trace.
        #[arg(long)]
        hashes: bool,
        /// Do not judge this rule; may be repeated.
        #[arg(long, value_name = "RULE", value_parser = parse_rule)]
        ignore: Vec<Rule>,
    },
}

fn parse_rule(name: &str) -> Result<Rule, String> {
    let known = Rule::ALL.into_iter().find(|rule| rule.to_string() == name);
    known.ok_or_else(|| {
        let names: Vec<String> = Rule::ALL.iter().map(Rule::to_string).collect();
        format!("no rule of that name; there are {}", names.join(", "))
    })
}

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter).init();
    let short = Command::Sweep { seeds: 10, from: 1, jobs: None, hashes: false, ignore: Vec::new() };
    let passed = match Arguments::parse().command.unwrap_or(short) {
        Command::Run { seed, trace, ignore } => run_one(seed, trace, ignore.into_iter().collect()),
        Command::Sweep { seeds, from, jobs, hashes, ignore } => {
            let processors = std::thread::available_parallelism().map_or(1, usize::from);
            run_many(from, seeds, jobs.unwrap_or(processors), hashes, &ignore.into_iter().collect())
        }
    };
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn run_one(seed: u64, trace: Option<PathBuf>, ignored: BTreeSet<Rule>) -> Result<bool, String> {
    let trace = trace.map(|path| {
        let file =
            File::create(&path).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok::<Box<dyn Write + Send>, String>(Box::new(BufWriter::new(file)))
    });
    let report = run(seed, Options { ignored, trace: trace.transpose()? });
    print_report(&report);
    Ok(report.violation.is_none())
}

fn print_report(report: &Report) {
    println!("seed {}: {} nodes, {} clients", report.seed, report.nodes, report.clients);
    for window in &report.plan {
        let (begins, ends) = (window.begins.as_secs_f64(), window.ends.as_secs_f64());
        println!("  {begins:6.2}s to {ends:6.2}s  {}", window.fault);
    }
    println!(
        "{:.1} simulated seconds; commands: {} acknowledged, {} failed, {} unknown",
        report.simulated.as_secs_f64(),
        report.acknowledged,
        report.failed,
        report.unknown
    );
    let effects: Vec<String> =
        FaultKind::ALL.into_iter().map(|kind| format!("{kind} {}", report.effects.of(kind))).collect();
    println!("effects of faults: {}", effects.join(", "));
    match &report.violation {
        None => println!("no violation"),
        Some(violation) => println!("VIOLATION {violation}\n  replay: {}", replay(report.seed)),
    }
    println!("trace: {} records", report.records);
    println!("trace-hash: {:016x}", report.hash);
}

fn replay(seed: u64) -> String {
    format!("cargo run --release -p rivven-sim -- run --seed {seed}")
}

fn run_many(
    from: u64,
    seeds: u64,
    jobs: usize,
    hashes: bool,
    ignored: &BTreeSet<Rule>,
) -> Result<bool, String> {
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new(seeds) } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {per_sec}, {eta} left {msg}");
    bar.set_style(style.map_err(|error| error.to_string())?);
    let started = std::time::Instant::now();
    let summary = sweep(from, seeds, jobs, ignored, |report| {
        if hashes {
            bar.suspend(|| println!("seed {}: trace-hash: {:016x}", report.seed, report.hash));
        }
        if let Some(violation) = &report.violation {
            bar.suspend(|| {
                println!("seed {}: VIOLATION {violation}\n  replay: {}", report.seed, replay(report.seed))
            });
        }
        bar.inc(1);
    });
    bar.finish_and_clear();
    Ok(print_summary(&summary, started.elapsed().as_secs_f64()))
}

fn print_summary(summary: &Summary, wall_seconds: f64) -> bool {
    let simulated = summary.simulated.as_secs_f64();
    println!(
        "{} seeds in {wall_seconds:.1} s: {simulated:.0} simulated seconds, {:.1} times real time",
        summary.seeds,
        simulated / wall_seconds
    );
    println!(
        "commands: {} acknowledged, {} failed, {} unknown",
        summary.acknowledged, summary.failed, summary.unknown
    );
    for kind in FaultKind::ALL {
        println!("  {:<18} had an effect {} times", kind.to_string(), summary.effects.of(kind));
    }
    let idle = summary.idle_faults();
    for kind in &idle {
        println!("NO EFFECT: {kind} tested nothing in this sweep; run more seeds");
    }
    let failing: Vec<String> = summary.violations.iter().map(|(seed, _)| seed.to_string()).collect();
    if failing.is_empty() {
        println!("no violation");
    } else {
        println!("{} seeds violate a rule: {}", failing.len(), failing.join(", "));
    }
    failing.is_empty() && idle.is_empty()
}
