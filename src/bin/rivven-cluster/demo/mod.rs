//! `demo`: three node processes, a killed leader, and a check that nothing acknowledged was lost.
//!
//! Everything in it is what a real cluster uses: processes of their own, QUIC on loopback, certificates
//! made for the occasion, stores that sync. What each command's client was told is written down, and
//! held against the logs of all three nodes at the end; and so it is with records of a topic.

mod audit;
mod records;
mod workload;

use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use rivven_cluster::id::{PeerName, Term};
use rivven_cluster::kv;
use rivven_cluster::node::{Caller, Reply, Request};
use rivven_cluster::quic::{Client, system_entropy};
use rivven_cluster::raft::Role;
use rivven_cluster::session::Proposal;
use tokio::time::{Instant, timeout};

use self::workload::{Ledger, Workload};
use crate::Failure;
use crate::cluster::{Cluster, Observed};

/// How long any single step may take before the demo gives up.
const STEP_TIMEOUT: Duration = Duration::from_secs(15);
/// The audit reads the whole log, so nothing is compacted.
const KEEP_ALL: &str = "    snapshot_entries: 1000000000\n    snapshot_bytes: 1000000000000\n";
/// Whoever is silent for two and a half seconds leads no partition any more.
const PARTITIONING: &str =
    "  partitioning:\n    fence_delay_ms: 2000\n    silence_max_ms: 2500\n    unfence_hold_ms: 500\n";
/// How long a client waits for one command.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Takes some ten seconds, leaves nothing behind.
#[derive(clap::Args)]
pub struct Options {
    /// How many commands are sent in each round.
    #[arg(long, default_value_t = 10_000)]
    commands: u64,
    /// How many nodes are killed, one a round: first the leader, then any.
    #[arg(long, default_value_t = 1)]
    rounds: u64,
    /// How many clients send them at the same time.
    #[arg(long, default_value_t = 64)]
    clients: u64,
    /// How many records are produced to a topic in each round.
    #[arg(long, default_value_t = 50_000)]
    records: u64,
    /// How often a node is struck meanwhile: first who leads some of the topic's partitions is killed, then any is killed or
    /// made to stand still.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    record_rounds: u64,
    /// Keep a recording of each node in this folder, as `record` has it written, however the demo ends.
    #[arg(long, value_name = "FOLDER")]
    flights: Option<PathBuf>,
}

pub async fn demo(options: &Options) -> Result<(), Failure> {
    if options.commands < 2 || options.clients == 0 || options.rounds == 0 {
        return Err(Failure("the demo needs at least 2 commands, 1 client and 1 round".to_owned()));
    }
    let more = KEEP_ALL.to_owned() + PARTITIONING;
    let mut cluster = Cluster::start(&std::env::temp_dir(), &more).await?;
    // Whatever happens, no process is left behind.
    let mut result = play(&mut cluster, options).await;
    if let Some(folder) = &options.flights {
        result = result.and(keep_flights(&cluster, folder).await);
    }
    cluster.stop().await;
    result?;
    println!("demo: ok, no acknowledged write lost, and no record lost or written twice");
    Ok(())
}

/// Has each node write down what it was told last, and copies that.
async fn keep_flights(cluster: &Cluster, folder: &Path) -> Result<(), Failure> {
    let operator = cluster.client(Caller::Operator, CLIENT_TIMEOUT)?;
    std::fs::create_dir_all(folder)?;
    for (node, address) in cluster.peer_names() {
        let written = operator.record(&address).await?;
        let kept = folder.join(format!("node-{node}.flight"));
        std::fs::copy(&written.path, &kept)?;
        println!("  {} steps of node {node} are recorded in {}", written.steps, kept.display());
    }
    Ok(())
}

/// How long the cluster took to notice, to elect and to serve again.
struct Failover {
    detection: Duration,
    election: Duration,
    first_commit: Duration,
}

async fn play(cluster: &mut Cluster, options: &Options) -> Result<(), Failure> {
    let started = Instant::now();
    println!("three nodes on {}; data in {}", cluster.addresses().join(", "), cluster.folder().display());
    let first = leader_elected(cluster, Term::new(0)).await?;
    println!("node {} leads term {} after {}", first.node, first.term, millis(started.elapsed()));

    let total = options.commands * options.rounds;
    let bar = progress(total);
    let client = cluster.client(Caller::Client, CLIENT_TIMEOUT)?;
    let operator = cluster.client(Caller::Operator, CLIENT_TIMEOUT)?;
    let workload = Workload::start(total, options.clients, client, bar.clone());
    within("half of the commands", workload.reaches(options.commands / 2)).await?;
    let failover = kill_leader(cluster, &first, &bar).await?;
    let catch_up = restart(cluster, &operator, first.node).await?;
    let mut choices = system_entropy()?.stream("demo victims", 0);
    for round in 1..options.rounds {
        let half = round * options.commands + options.commands / 2;
        within("half of the commands of a round", workload.reaches(half)).await?;
        let victim = choices.between(1, 4);
        cluster.kill(victim).await?;
        say(&bar, &format!("killed node {victim} with SIGKILL"));
        restart(cluster, &operator, victim).await?;
    }
    let ledger = within("the rest of the commands", workload.finish()).await??;
    bar.finish_and_clear();
    let acknowledged = ledger.acknowledged.iter().map(|(_, index)| *index).max().unwrap_or(0);
    let until = within("all nodes to agree", audit::caught_up(&operator, cluster, acknowledged)).await??;
    let audited = audit::audit(&operator, cluster, &ledger, until).await?;
    report(&failover, catch_up, &ledger, &audited);
    if options.records > 0 {
        let bar = progress(options.records * options.record_rounds);
        let plan = records::Plan { records: options.records, rounds: options.record_rounds };
        let audited = records::play(cluster, &plan, &mut choices, &bar).await?;
        bar.finish_and_clear();
        report_records(&audited);
    }
    Ok(())
}

/// Starts a killed node again. Returns how long it took to catch up with where the others were.
async fn restart(cluster: &mut Cluster, operator: &Client, node: u64) -> Result<Duration, Failure> {
    let restarted = Instant::now();
    cluster.restart(node).await?;
    within("a killed node to catch up", audit::caught_up(operator, cluster, 0)).await??;
    Ok(restarted.elapsed())
}

async fn kill_leader(
    cluster: &mut Cluster,
    leader: &Elected,
    bar: &ProgressBar,
) -> Result<Failover, Failure> {
    let prober = cluster.client(Caller::Client, CLIENT_TIMEOUT)?;
    let survivors = cluster.peer_names().into_iter().filter(|(node, _)| *node != leader.node);
    let survivors = survivors.map(|(_, name)| name).collect();
    cluster.forget_events();
    cluster.kill(leader.node).await?;
    let killed = Instant::now();
    say(bar, &format!("killed node {}, the leader, with SIGKILL", leader.node));
    let probe = tokio::spawn(first_commit(prober, survivors, leader.term));
    let detected = campaign_begun(cluster).await?;
    let elected = leader_elected(cluster, leader.term).await?;
    let committed = within("a commit after the election", probe).await??;
    say(bar, &format!("node {} leads term {}", elected.node, elected.term));
    Ok(Failover {
        detection: detected - killed,
        election: elected.at - detected,
        first_commit: committed - elected.at,
    })
}

/// Who leads, in which term, and when that was seen.
struct Elected {
    node: u64,
    term: Term,
    at: Instant,
}

async fn leader_elected(cluster: &mut Cluster, after: Term) -> Result<Elected, Failure> {
    within("a leader", async {
        loop {
            let Observed { node, standing, at } = cluster.next_standing().await?;
            if standing.role == Role::Leader && standing.term > after {
                return Ok(Elected { node, term: standing.term, at });
            }
        }
    })
    .await?
}

async fn campaign_begun(cluster: &mut Cluster) -> Result<Instant, Failure> {
    within("a survivor to notice", async {
        loop {
            let Observed { standing, at, .. } = cluster.next_standing().await?;
            if matches!(standing.role, Role::PreCandidate | Role::Candidate) {
                return Ok(at);
            }
        }
    })
    .await?
}

/// Asks the survivors in turn until one commits a command in a term after `old`.
///
/// It follows no hints: until they have elected somebody, the survivors name the dead.
async fn first_commit(client: Client, survivors: Vec<PeerName>, old: Term) -> Instant {
    let command = kv::Command::Put { key: "demo/probe".into(), value: "".into() }.encode();
    loop {
        for survivor in &survivors {
            let reply = client.request(survivor, Request::Propose(Proposal::Command(command.clone()))).await;
            if matches!(reply, Ok(Reply::Done { at, .. }) if at.term > old) {
                return Instant::now();
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Prints a line, above the bar if there is one.
fn say(bar: &ProgressBar, line: &str) {
    if bar.is_hidden() {
        println!("{line}");
    } else {
        bar.println(line);
    }
}

async fn within<T>(what: &str, work: impl Future<Output = T>) -> Result<T, Failure> {
    within_time(STEP_TIMEOUT, what, work).await
}

async fn within_time<T>(time: Duration, what: &str, work: impl Future<Output = T>) -> Result<T, Failure> {
    timeout(time, work).await.map_err(|_| Failure(format!("waited {time:?} for {what}, in vain")))
}

fn progress(commands: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len}, {per_sec}");
    let bar = ProgressBar::new(commands);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn millis(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}

fn report(failover: &Failover, catch_up: Duration, ledger: &Ledger, audited: &audit::Audited) {
    let total = failover.detection + failover.election + failover.first_commit;
    println!();
    println!("  leader lost -> noticed             {:>8}", millis(failover.detection));
    println!("  noticed -> new leader              {:>8}", millis(failover.election));
    println!("  new leader -> first commit         {:>8}", millis(failover.first_commit));
    println!("  leader lost -> first commit        {:>8}", millis(total));
    println!("  killed node restarted -> caught up {:>8}", millis(catch_up));
    println!();
    println!("  commands acknowledged              {:>8}", ledger.acknowledged.len());
    println!("  commands failed (never appended)   {:>8}", ledger.failed.len());
    println!("  commands of unknown fate           {:>8}", ledger.unknown.len());
    println!("    of these found in the log        {:>8}", audited.unknown_found);
    println!("  log entries, equal on all nodes    {:>8}", audited.entries);
    println!();
}

fn report_records(audited: &records::Audited) {
    println!();
    println!("  records acknowledged               {:>8}", audited.acknowledged);
    println!("    on each replica once, in order   {:>8}", audited.acknowledged);
    println!("  records of unknown fate            {:>8}", audited.unknown);
    println!("    of these found                   {:>8}", audited.unknown_found);
    println!("  the slowest record took            {:>8}", millis(audited.slowest));
    println!();
}
