//! `rivven-sim`: run a seed, sweep many, shrink what fails, and measure the simulator itself.
#![expect(
    clippy::disallowed_types,
    reason = "the command line writes files, starts builds and tells how long things took"
)]
#![expect(clippy::disallowed_methods, reason = "the command line reads and writes files")]

mod cli;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Runs whole clusters from one seed, with faults, and checks that they kept their promises.
///
/// Exit codes: 0 nothing violated, 1 a violation or a hole in the coverage, 2 wrong usage.
#[derive(Parser)]
#[command(name = "rivven-sim", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run one seed, and print what happened and the hash of its trace.
    Run(cli::run::Arguments),
    /// Run a scenario file, as `run` and `shrink` write it.
    Replay(cli::run::ReplayArguments),
    /// Draw a run as one HTML file: who did what, who told whom, and what led to what it broke.
    Report(cli::report::Arguments),
    /// Run many seeds, and print those that fail with the command that replays each.
    Sweep(cli::sweep::Arguments),
    /// Make the smallest scenario that breaks the same rule as a seed or a file does.
    Shrink(cli::shrink::Arguments),
    /// Find out from when on a failing run could not be saved by luck any more.
    Inevitable(cli::inevitable::Arguments),
    /// Add up what the shards of a sweep have saved, and judge the whole.
    Merge(cli::merge::Arguments),
    /// Run seeds until one fails, shrink it, and print what was found as one line of JSON.
    Hunt(cli::hunt::Arguments),
    /// Break the code on purpose, one known bug at a time, and see whether the simulator notices.
    Mutants(cli::mutants::Arguments),
    /// Torment one partition: its replicas, and the metadata that they go by.
    Replicas(cli::replicas::Arguments),
    /// Try every order of events of a small world.
    Explore(cli::explore::Arguments),
    /// Measure membership alone, at a size of one's choice, against what the literature promises.
    Swim(cli::swim::Arguments),
}

fn main() -> ExitCode {
    // What nodes say when they are tormented is expected; RUST_LOG=debug shows it.
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("off"));
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter).init();
    if std::env::var_os("RUST_BACKTRACE").is_none() {
        // A panic in a world is a violation, and is reported as one; redb's on a rotten disk are contained.
        std::panic::set_hook(Box::new(|_| {}));
    }
    let passed = match Arguments::parse().command {
        Some(Command::Run(arguments)) => cli::run::run(arguments),
        Some(Command::Replay(arguments)) => cli::run::replay(arguments),
        Some(Command::Report(arguments)) => cli::report::run(&arguments),
        Some(Command::Sweep(arguments)) => cli::sweep::run(&arguments),
        Some(Command::Shrink(arguments)) => cli::shrink::run(&arguments),
        Some(Command::Inevitable(arguments)) => cli::inevitable::run(&arguments),
        Some(Command::Merge(arguments)) => cli::merge::run(&arguments),
        Some(Command::Hunt(arguments)) => cli::hunt::run(&arguments),
        Some(Command::Mutants(arguments)) => cli::mutants::run(&arguments),
        Some(Command::Replicas(arguments)) => cli::replicas::run(&arguments),
        Some(Command::Explore(arguments)) => cli::explore::run(&arguments),
        Some(Command::Swim(arguments)) => cli::swim::run(&arguments),
        None => cli::sweep::run(&cli::sweep::Arguments::short()),
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
