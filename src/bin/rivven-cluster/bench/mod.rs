//! `bench`: three node processes, one client process, and what they do in a second.
//!
//! The rules are those that other systems are measured by: a closed loop (each caller sends its next
//! operation when the last one is answered), at most 16 connections, 100,000 keys drawn uniformly, values of
//! 256 random bytes, each operation answered on its own. A write is acknowledged when a majority has synced
//! it; a read is linearizable, confirmed by a majority. A record of 256 bytes is acknowledged when all three replicas of
//! its partition have synced it; callers of one connection share a producer, which sends what waits together. Mutual TLS
//! is on, as always.

mod attack;
mod load;
mod machine;
mod report;

use std::path::PathBuf;
use std::time::Duration;

use rivven_cluster::node::Caller;
use rivven_cluster::quic::Client;

use self::attack::{Attack, Attackers};
use self::load::{Load, Work};
use self::report::{Against, Disk, Report, Row};
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
    /// A record is written to a topic, on all its replicas.
    Produce,
}

/// How many partitions the topics have that records are written to.
const PARTITIONS: [u32; 3] = [1, 6, 100];
/// Takes part in partitioning.
const PARTITIONING: &str = "  partitioning: {}\n";

/// Is not recorded.
const NO_RECORDER: &str = "  recorder: {enabled: false}\n";

/// Leaves nothing behind. Without --op and --clients all rows are measured.
#[derive(clap::Args)]
pub struct Options {
    /// Only this operation.
    #[arg(long)]
    op: Option<Operation>,
    /// Only to a topic with so many partitions.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    partitions: Option<u32>,
    /// Only with so many callers at the same time.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    clients: Option<u64>,
    /// How long each row is measured, after a second of warming up.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// The folder for the nodes' data; it decides which disk is measured.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Measure each row again while this is done to all nodes, and show what is left of the rate.
    #[arg(long, value_name = "KIND")]
    under_attack: Option<Attack>,
    /// Measure each row between two of a cluster that is not recorded, and show what is left of that one's rate.
    #[arg(long, conflicts_with = "under_attack")]
    recorder_cost: bool,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

pub async fn bench(options: &Options) -> Result<(), Failure> {
    let place = options.dir.clone().unwrap_or_else(std::env::temp_dir);
    let mut cluster = Cluster::start(&place, PARTITIONING).await?;
    let mut unrecorded = None;
    if options.recorder_cost {
        unrecorded = Some(Cluster::start(&place, &format!("{PARTITIONING}{NO_RECORDER}")).await?);
    }
    // Whatever happens, no process is left behind.
    let result = measure(&cluster, unrecorded.as_ref(), options).await;
    cluster.stop().await;
    if let Some(unrecorded) = &mut unrecorded {
        unrecorded.stop().await;
    }
    let report = result?;
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{report}");
    }
    Ok(())
}

/// A cluster with callers.
struct Bench<'a> {
    cluster: &'a Cluster,
    operator: Client,
    load: Load,
}

impl<'a> Bench<'a> {
    async fn start(cluster: &'a Cluster, topics: Option<&[u32]>) -> Result<Bench<'a>, Failure> {
        let connections = (0..CONNECTIONS_MAX)
            .map(|_| cluster.client(Caller::Client, CLIENT_TIMEOUT))
            .collect::<Result<Vec<Client>, Failure>>()?;
        let operator = cluster.client(Caller::Operator, CLIENT_TIMEOUT)?;
        let mut load = Load::new(connections)?;
        load.fill().await?;
        if let Some(topics) = topics {
            load.open_topics(topics).await?;
        }
        Ok(Bench { cluster, operator, load })
    }

    async fn row(&mut self, work: Work, clients: u64, seconds: Duration) -> Result<Row, Failure> {
        measure_row(self.cluster, &self.operator, &mut self.load, work, clients, seconds).await
    }
}

async fn measure(
    cluster: &Cluster,
    unrecorded: Option<&Cluster>,
    options: &Options,
) -> Result<Report, Failure> {
    let all = vec![Operation::Write, Operation::Read, Operation::Produce];
    let operations = options.op.map_or(all, |op| vec![op]);
    let counts = options.clients.map_or(vec![1, 16, 64, 256, 1000], |clients| vec![clients]);
    let topics = options.partitions.map_or(PARTITIONS.to_vec(), |partitions| vec![partitions]);
    let wanted = operations.contains(&Operation::Produce).then_some(&topics[..]);
    let mut bench = Bench::start(cluster, wanted).await?;
    let mut other = match unrecorded {
        Some(unrecorded) => Some(Bench::start(unrecorded, wanted).await?),
        None => None,
    };
    let folder = cluster.folder().to_owned();
    let disk: Disk =
        tokio::task::spawn_blocking(move || machine::measure_disk(&folder, DISK_SECONDS)).await??;
    let mut rows = Vec::new();
    let works = operations.into_iter().flat_map(|operation| match operation {
        Operation::Write => vec![Work::Write],
        Operation::Read => vec![Work::Read],
        Operation::Produce => {
            topics.iter().map(|partitions| Work::Produce { partitions: *partitions }).collect()
        }
    });
    let seconds = Duration::from_secs(options.seconds);
    for work in works {
        for clients in &counts {
            if let Some(other) = &mut other {
                let before = other.row(work, *clients, seconds).await?;
                let row = bench.row(work, *clients, seconds).await?;
                let after = other.row(work, *clients, seconds).await?;
                rows.extend(compared(before, row, after, |share| Against::Unrecorded { share }));
            } else if let Some(attack) = options.under_attack {
                let before = bench.row(work, *clients, seconds).await?;
                let attackers = Attackers::start(cluster, attack)?;
                let row = bench.row(work, *clients, seconds).await?;
                let acts = attackers.stop().await;
                let after = bench.row(work, *clients, seconds).await?;
                let by = format!("{attack:?}").to_lowercase();
                rows.extend(compared(before, row, after, |share| Against::Attack { by, acts, share }));
            } else {
                rows.push(bench.row(work, *clients, seconds).await?);
            }
        }
    }
    Ok(Report { rows, disk })
}

/// A row between two others. Before and after, so that a machine that gets slower is not taken for what is measured.
fn compared(before: Row, mut row: Row, after: Row, against: impl FnOnce(f64) -> Against) -> [Row; 3] {
    row.against = Some(against(row.ops_s / ((before.ops_s + after.ops_s) / 2.0)));
    [before, row, after]
}

async fn measure_row(
    cluster: &Cluster,
    operator: &Client,
    load: &mut Load,
    work: Work,
    clients: u64,
    seconds: Duration,
) -> Result<Row, Failure> {
    load.run(work, clients, Duration::from_secs(1)).await?;
    let processes = cluster.processes();
    let before = (machine::cpu_of(&processes)?, machine::own_cpu()?, syncs(cluster, operator).await?);
    let measured = load.run(work, clients, seconds).await?;
    let after = (machine::cpu_of(&processes)?, machine::own_cpu()?, syncs(cluster, operator).await?);
    let count = report::in_float(measured.latencies.len());
    Ok(Row {
        system: "rivven-cluster",
        op: match work {
            Work::Write => "write".to_owned(),
            Work::Read => "read".to_owned(),
            Work::Produce { partitions } => format!("produce/{partitions}"),
        },
        clients,
        ops_s: count / measured.elapsed.as_secs_f64(),
        p50_us: measured.latencies.value_at_quantile(0.5),
        p99_us: measured.latencies.value_at_quantile(0.99),
        p999_us: measured.latencies.value_at_quantile(0.999),
        cpu_s_per_op: (after.0 - before.0) / count,
        client_cpu_s_per_op: (after.1 - before.1) / count,
        fdatasync_per_op: report::in_float(after.2 - before.2) / count,
        against: None,
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
