//! `run` and `replay`: one scenario, what happened, and the hash of its trace.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use rivven_sim::app::KeyValueApp;
use rivven_sim::checkers::Rule;
use rivven_sim::faults::FaultKind;
use rivven_sim::scenario::{Scenario, WorldKind};
use rivven_sim::trace::{TRACE_FORMAT, Trace};
use rivven_sim::world::{self, Options, Report};

/// The arguments of `run`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The seed.
    #[arg(long)]
    seed: u64,
    /// Where it is played; pure if neither this nor the plan says.
    #[arg(long)]
    world: Option<WorldKind>,
    /// Take shape and faults from this scenario file, instead of drawing them from the seed.
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Leave out this kind of fault; may be repeated.
    #[arg(long, value_name = "KIND")]
    without: Vec<FaultKind>,
    /// Write the scenario to this file, to edit it and `replay` it.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    #[command(flatten)]
    outputs: Outputs,
}

/// The arguments of `replay`.
#[derive(clap::Args)]
pub struct ReplayArguments {
    /// The scenario file.
    #[arg(required_unless_present = "flight", conflicts_with = "flight")]
    file: Option<PathBuf>,
    #[command(flatten)]
    flight: super::flight::FlightArguments,
    #[command(flatten)]
    outputs: Outputs,
}

/// What is written beside the summary.
#[derive(clap::Args)]
struct Outputs {
    /// Write every record of the trace to this file, a line each.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Write what clients did and were told to this file, a JSON object a line.
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Do not judge this rule; may be repeated.
    #[arg(long, value_name = "RULE")]
    ignore: Vec<Rule>,
}

/// Runs one seed.
pub fn run(arguments: Arguments) -> Result<bool, String> {
    let flags = super::flags(&arguments.without, &arguments.outputs.ignore);
    let without: BTreeSet<FaultKind> = arguments.without.into_iter().collect();
    let scenario = match &arguments.plan {
        None => Scenario::draw_without(arguments.seed, arguments.world.unwrap_or(WorldKind::Pure), &without),
        Some(path) => {
            let mut scenario = super::load(path)?;
            scenario.seed = arguments.seed;
            scenario.world = arguments.world.unwrap_or(scenario.world);
            scenario.faults.retain(|window| !without.contains(&window.fault.kind()));
            scenario
        }
    };
    if let Some(path) = &arguments.save {
        super::save(path, &scenario.to_text())?;
    }
    let mut replay = super::replay(&scenario);
    if let Some(path) = &arguments.plan {
        replay = format!("{replay} --plan {}", path.display());
    }
    play(&scenario, arguments.outputs, &format!("{replay}{flags}"))
}

/// Runs a scenario file, or plays a flight again.
pub fn replay(arguments: ReplayArguments) -> Result<bool, String> {
    if let Some(path) = &arguments.flight.flight {
        let trace = Trace::new(trace_file(&arguments.outputs)?, None);
        return Ok(super::flight::play(path, &arguments.flight, trace)?.0);
    }
    let Some(file) = &arguments.file else { return Err("say which file".to_owned()) };
    let flags = super::flags(&[], &arguments.outputs.ignore);
    let replay = format!("cargo run --release -p rivven-sim -- replay {}{flags}", file.display());
    play(&super::load(file)?, arguments.outputs, &replay)
}

fn trace_file(outputs: &Outputs) -> Result<Option<Box<dyn Write + Send>>, String> {
    let Some(path) = &outputs.trace else { return Ok(None) };
    Ok(Some(Box::new(create(path)?)))
}

fn play(scenario: &Scenario, outputs: Outputs, replay: &str) -> Result<bool, String> {
    let trace = trace_file(&outputs)?;
    let ignored = outputs.ignore.into_iter().collect();
    let report = world::run(scenario, Options { ignored, trace, ..Options::default() });
    if let Some(path) = &outputs.history {
        let mut file = create(path)?;
        let app = KeyValueApp::new(&scenario.shape);
        let written = report.history.write(&app, &mut file).and_then(|()| file.flush());
        written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    print(scenario, &report, replay);
    Ok(report.violation.is_none())
}

fn create(path: &Path) -> Result<BufWriter<File>, String> {
    let file = File::create(path).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    Ok(BufWriter::new(file))
}

fn print(scenario: &Scenario, report: &Report, replay: &str) {
    let Scenario { seed, world, shape, faults, .. } = scenario;
    println!("seed {seed}, {world} world: {} nodes, {} clients", shape.nodes, shape.clients);
    for window in faults {
        let seconds = |millis: u64| format!("{:>3}.{:03}s", millis / 1000, millis % 1000);
        let effect = if report.effects.had(window.id) { ' ' } else { '-' };
        println!(
            " {effect}{:>3} {} to {}  {}",
            window.id,
            seconds(window.begins),
            seconds(window.ends),
            window.fault
        );
    }
    let counts = report.history.counts();
    println!(
        "{:.1} simulated seconds, {} events; commands: {} acknowledged, {} failed, {} unknown",
        report.simulated.as_secs_f64(),
        report.events,
        counts.done,
        counts.failed,
        counts.unknown
    );
    println!(
        "{} of {} faults had an effect (- had none); {} elections, {} restarts",
        report.effects.effective(),
        faults.len(),
        report.elections,
        report.restarts
    );
    if report.forgiven {
        println!("a disk went back on its word: from then on only panics were judged");
    }
    match &report.violation {
        None => println!("no violation"),
        Some(violation) => {
            println!("VIOLATION {violation}\n  commit {}, trace format {TRACE_FORMAT}", super::commit());
            println!("  replay: {replay}");
        }
    }
    println!("trace: {} records", report.records);
    println!("trace-hash: {:016x}", report.hash);
}
