//! The command line: make certificates, run a node, ask how it is, show that it works.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the command line reads files, binds ports and starts processes"
)]

mod access;
mod bench;
mod certs;
mod cluster;
mod demo;
mod members;
mod nodes;
mod offline;
mod plan;
mod record;
mod records;
mod recover;
mod run;
mod status;
mod topic;

use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::{fmt, io};

use clap::{Parser, Subcommand};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Cluster coordination that is simulation first: consensus over QUIC.
///
/// Exit codes: 0 done, 1 it failed, 2 wrong usage.
#[derive(Parser)]
#[command(name = "rivven-cluster", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make the authority of a cluster, and certificates for its nodes, clients and operators.
    Certs(certs::Options),
    /// Run one node until it is told to stop (SIGINT or SIGTERM).
    Run(run::Options),
    /// Ask the node of a configuration file how it is.
    Status(status::Options),
    /// List, add, promote, demote and remove members.
    Member(members::Options),
    /// Create, list, describe, extend and delete topics.
    Topic(topic::Options),
    /// Write the lines of the terminal to a topic.
    Produce(records::ProduceOptions),
    /// Print the records of a topic.
    Consume(records::ConsumeOptions),
    /// List the nodes that hold partitions; drain them.
    Node(nodes::Options),
    /// Show what would move between nodes, and have it moved.
    Plan(plan::Options),
    /// Say what the controller makes of something, and why.
    Explain(nodes::ExplainOptions),
    /// Let another voter lead.
    Transfer(members::TransferOptions),
    /// Remove the node of a configuration file from its cluster, for good.
    Leave(members::LeaveOptions),
    /// Let a cluster go on with one node, when a majority is lost for good.
    Recover(recover::Options),
    /// Have a running node write down what it was told last.
    Record(record::Options),
    /// Say what the data folder of a stopped node holds.
    Inspect(offline::InspectOptions),
    /// Check that everything in the data folder of a stopped node is what was written.
    Verify(offline::VerifyOptions),
    /// Write everything that a stopped node holds to one file.
    Backup(offline::BackupOptions),
    /// Begin a cluster anew from a backup.
    Restore(offline::RestoreOptions),
    /// Start three nodes, kill the leader under load, and check that nothing acknowledged is lost.
    Demo(demo::Options),
    /// Measure three nodes on this machine: writes and linearizable reads, by the number of clients.
    Bench(bench::Options),
}

/// What went wrong, in words for the terminal.
#[derive(Debug)]
pub struct Failure(String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure(error.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(tracing::level_filters::LevelFilter::WARN.into())
        .from_env_lossy();
    let is_terminal = io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(is_terminal)
        .with_env_filter(filter)
        .log_internal_errors(false)
        .init();
    match start().and_then(|runtime| runtime.block_on(carry_out(arguments.command))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Where it goes may be full; the exit code says the rest.
            let _ = writeln!(io::stderr(), "error: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// The most files that are open when any command begins; what a node needs for its log and its peers comes on top.
const FILES: usize = 16;

/// The runtime. It panics without the files it needs, so whether they are to be had is tried first.
fn start() -> Result<Runtime, Failure> {
    let spare: Result<Vec<File>, io::Error> = (0..FILES).map(|_| File::open("/dev/null")).collect();
    drop(spare.map_err(|error| {
        Failure(format!("cannot have {FILES} files open: {error}; raise the limit (`ulimit -n`)"))
    })?);
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

async fn carry_out(command: Command) -> Result<(), Failure> {
    match command {
        Command::Certs(options) => certs::make(&options),
        Command::Run(options) => run::run(&options).await,
        Command::Status(options) => status::status(&options).await,
        Command::Member(options) => members::members(&options).await,
        Command::Topic(options) => topic::topic(&options).await,
        Command::Produce(options) => records::produce(&options).await,
        Command::Consume(options) => records::consume(&options).await,
        Command::Node(options) => nodes::nodes(&options).await,
        Command::Plan(options) => plan::plan(&options).await,
        Command::Explain(options) => nodes::explain(&options).await,
        Command::Transfer(options) => members::transfer(&options).await,
        Command::Leave(options) => members::leave(&options).await,
        Command::Recover(options) => recover::recover(&options),
        Command::Record(options) => record::record(&options).await,
        Command::Inspect(options) => offline::inspect(&options),
        Command::Verify(options) => offline::verify(&options),
        Command::Backup(options) => offline::backup(&options),
        Command::Restore(options) => offline::restore(&options),
        Command::Demo(options) => demo::demo(&options).await,
        Command::Bench(options) => bench::bench(&options).await,
    }
}
