//! `bench`: three node processes, one client process, and what they do in a second.
//!
//! The rules are those that other systems are measured by: a closed loop (each caller sends its next
//! operation when the last one is answered), at most 16 connections, 100,000 keys drawn uniformly, values of
//! 256 random bytes, each operation answered on its own. A write is acknowledged when a majority has synced
//! it; a read is linearizable, confirmed by a majority. Mutual TLS is on, as always.

mod load;
mod machine;
mod report;

use std::path::PathBuf;
use std::time::Duration;

use rivven_cluster::node::Caller;
use rivven_cluster::quic::Client;

use self::load::Load;
use self::report::{Disk, Report, Row};
use crate::Failure;
use crate::cluster::Cluster;

/// The most connections to the cluster.
const CONNECTIONS_MAX: usize = 16;
/// How long a client waits for one operation.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the disk alone is measured.
const DISK_SECONDS: Duration = Duration::from_secs(2);

/// What is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Operation {
    /// A key is set.
    Write,
    /// A key is read, linearizably.
    Read,
}

/// Leaves nothing behind. Without --op and --clients all rows are measured.
#[derive(clap::Args)]
pub struct Options {
    /// Only this operation.
    #[arg(long)]
    op: Option<Operation>,
    /// Only with so many callers at the same time.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    clients: Option<u64>,
    /// How long each row is measured, after a second of warming up.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// The folder for the nodes' data; it decides which disk is measured.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

pub async fn bench(options: &Options) -> Result<(), Failure> {
    let place = options.dir.clone().unwrap_or_else(std::env::temp_dir);
    let mut cluster = Cluster::start(&place, "").await?;
    // Whatever happens, no process is left behind.
    let result = measure(&cluster, options).await;
    cluster.stop().await;
    let report = result?;
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{report}");
    }
    Ok(())
}

async fn measure(cluster: &Cluster, options: &Options) -> Result<Report, Failure> {
    let operations = options.op.map_or(vec![Operation::Write, Operation::Read], |op| vec![op]);
    let counts = options.clients.map_or(vec![1, 16, 64, 256, 1000], |clients| vec![clients]);
    let connections = (0..CONNECTIONS_MAX)
        .map(|_| cluster.client(Caller::Client, CLIENT_TIMEOUT))
        .collect::<Result<Vec<Client>, Failure>>()?;
    let operator = cluster.client(Caller::Operator, CLIENT_TIMEOUT)?;
    let mut load = Load::new(connections)?;
    load.fill().await?;
    let folder = cluster.folder().to_owned();
    let disk: Disk =
        tokio::task::spawn_blocking(move || machine::measure_disk(&folder, DISK_SECONDS)).await??;
    let mut rows = Vec::new();
    for operation in operations {
        for clients in &counts {
            let seconds = Duration::from_secs(options.seconds);
            rows.push(measure_row(cluster, &operator, &mut load, operation, *clients, seconds).await?);
        }
    }
    Ok(Report { rows, disk })
}

async fn measure_row(
    cluster: &Cluster,
    operator: &Client,
    load: &mut Load,
    operation: Operation,
    clients: u64,
    seconds: Duration,
) -> Result<Row, Failure> {
    load.run(operation, clients, Duration::from_secs(1)).await?;
    let processes = cluster.processes();
    let before = (machine::cpu_of(&processes)?, machine::own_cpu()?, syncs(cluster, operator).await?);
    let measured = load.run(operation, clients, seconds).await?;
    let after = (machine::cpu_of(&processes)?, machine::own_cpu()?, syncs(cluster, operator).await?);
    let count = report::in_float(measured.latencies.len());
    Ok(Row {
        system: "rivven-cluster",
        op: if operation == Operation::Write { "write" } else { "read" },
        clients,
        ops_s: count / measured.elapsed.as_secs_f64(),
        p50_us: measured.latencies.value_at_quantile(0.5),
        p99_us: measured.latencies.value_at_quantile(0.99),
        p999_us: measured.latencies.value_at_quantile(0.999),
        cpu_s_per_op: (after.0 - before.0) / count,
        client_cpu_s_per_op: (after.1 - before.1) / count,
        fdatasync_per_op: report::in_float(after.2 - before.2) / count,
    })
}

/// How often all nodes have synced their logs: once for each batch.
async fn syncs(cluster: &Cluster, operator: &Client) -> Result<u64, Failure> {
    let mut syncs = 0;
    for name in cluster.peer_names().values() {
        syncs += operator.status(name).await?.stats.writes;
    }
    Ok(syncs)
}
