//! What producers see while a node comes, one drains and one is killed: real processes, real signals, nothing lost.
#![cfg(all(feature = "cli", unix))]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test of the command line starts processes, binds ports and writes files"
)]

use std::collections::{BTreeMap, BTreeSet};
#[cfg(target_os = "linux")]
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rivven_cluster::id::{NodeId, PartitionId};
use rivven_cluster::partition::metadata::{Metadata, NodeState, Partition};
use rivven_cluster::partition::records::Record;
use rivven_cluster::quic::{
    Client, ClientConfig, Consumer, Credentials, PartitionManager, PartitionSettings, ProduceFailure,
    Producer, ProducerSettings, Seams, StartAt,
};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;

#[path = "support/processes.rs"]
mod processes;

use self::processes::{Nodes, PATIENCE, rivven, text};

const FENCE_DELAY: Duration = Duration::from_millis(2000);
/// Whoever says nothing for so long is fenced, whatever gossip says.
const SILENCE_MAX: Duration = Duration::from_millis(5000);
/// A Raft election, with a machine that is busy.
const ELECTION: Duration = Duration::from_millis(1500);
const PARTITIONING: &str = "  partitioning: {fence_delay_ms: 2000, silence_max_ms: 5000, unfence_hold_ms: 1000, \
                            moves_per_node: 8}\n";
const TOPIC: &str = "orders";
const PARTITIONS: u32 = 64;
const PRODUCERS: u64 = 4;

/// What became of each record, by its value.
#[derive(Default)]
struct Fates {
    /// Where it was said to be.
    written: BTreeMap<Bytes, (PartitionId, u64)>,
    failed: BTreeSet<Bytes>,
    unknown: BTreeSet<Bytes>,
}

/// The longest that a partition had no leader although somebody could have led it.
#[derive(Default)]
struct Gaps {
    since: BTreeMap<PartitionId, Instant>,
    longest: Duration,
}

impl Gaps {
    fn look(&mut self, metadata: &Metadata) {
        for (id, partition) in metadata.all_partitions() {
            if partition.leader.is_some() || !has_somebody(metadata, partition) {
                self.since.remove(&id);
                continue;
            }
            let since = *self.since.entry(id).or_insert_with(Instant::now);
            self.longest = self.longest.max(since.elapsed());
        }
    }
}

fn has_somebody(metadata: &Metadata, partition: &Partition) -> bool {
    let is_active =
        |node: &NodeId| metadata.node(*node).is_some_and(|record| record.state == NodeState::Active);
    partition.in_sync.iter().chain(&partition.eligible).any(is_active)
}

/// Writes to one partition after the other, some at a time, until it is told to stop.
async fn produce(
    number: u64,
    producer: Arc<Producer>,
    fates: Arc<Mutex<Fates>>,
    stop: watch::Receiver<bool>,
) {
    let mut sent = 0_u64;
    while !*stop.borrow() {
        let mut batch = JoinSet::new();
        for _ in 0..16 {
            let partition = u32::try_from(sent % u64::from(PARTITIONS)).expect("a partition");
            let value = Bytes::from(format!("{number}/{sent:08}"));
            sent += 1;
            let (producer, fates) = (producer.clone(), fates.clone());
            batch.spawn(async move {
                let record = Record { key: None, value: value.clone() };
                let written = producer.send_to(partition, record).await;
                let mut fates = fates.lock().unwrap_or_else(PoisonError::into_inner);
                match written {
                    Ok(written) => {
                        let offset = written.offset.expect("all acknowledgements were asked for");
                        fates.written.insert(value, (written.partition, offset.value()));
                    }
                    Err(ProduceFailure::Unknown(_)) => drop(fates.unknown.insert(value)),
                    Err(_) => drop(fates.failed.insert(value)),
                }
            });
        }
        while let Some(ended) = batch.join_next().await {
            ended.expect("no producer panics");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Everything that is committed, by partition.
async fn read(manager: Arc<PartitionManager>) -> BTreeMap<PartitionId, Vec<(u64, Bytes)>> {
    let mut all = BTreeMap::new();
    for number in 0..PARTITIONS {
        let mut consumer = Consumer::new(manager.clone(), TOPIC, number, StartAt::Earliest);
        let end = consumer.offsets().await.expect("a leader answers").high_watermark.value();
        let mut records = Vec::new();
        while records.last().map_or(0, |(offset, _)| offset + 1) < end {
            let next = consumer.next().await.expect("a leader answers");
            records.extend(next.into_iter().map(|read| (read.offset.value(), read.record.value)));
        }
        all.insert(consumer.partition().expect("it was asked"), records);
    }
    all
}

/// Holds what is in the partitions against what producers were told.
fn judge(fates: &Fates, all: &BTreeMap<PartitionId, Vec<(u64, Bytes)>>) {
    let mut seen = BTreeSet::new();
    for (id, records) in all {
        let mut last: BTreeMap<&[u8], &Bytes> = BTreeMap::new();
        for (offset, value) in records {
            assert!(seen.insert(value), "{value:?} is there twice");
            assert!(!fates.failed.contains(value), "{value:?} is there, and was said not to be written");
            if let Some(told) = fates.written.get(value) {
                assert_eq!(*told, (*id, *offset), "{value:?} is where it was said to be");
            }
            let producer = value.split(|byte| *byte == b'/').next().expect("a number");
            let before = last.insert(producer, value);
            assert!(before.is_none_or(|before| before < value), "{value:?} came before {before:?}");
        }
    }
    let lost: Vec<&Bytes> = fates.written.keys().filter(|value| !seen.contains(value)).collect();
    assert!(lost.is_empty(), "{} acknowledged records are lost: {:?}", lost.len(), lost.first());
}

/// Waits until `describe` shows what is wanted: how many partitions each of nodes 1 to 4 leads, how many replicas are in
/// sync in all, and the whole.
fn until_described(nodes: &Nodes, by: u64, what: &str, wanted: impl Fn([usize; 4], usize, &Value) -> bool) {
    let began = Instant::now();
    loop {
        let shown = rivven(&["topic", "describe", TOPIC, "--json", "--config", &nodes.config(by)]);
        let topic: Value = serde_json::from_slice(&shown.stdout).unwrap_or_default();
        let partitions = topic["partitions"].as_array().cloned().unwrap_or_default();
        let leads = |node: u64| partitions.iter().filter(|partition| partition["leader"] == node).count();
        let in_sync = partitions.iter().filter_map(|partition| partition["in_sync"].as_array());
        let (leads, in_sync) = ([1, 2, 3, 4].map(leads), in_sync.map(Vec::len).sum());
        if wanted(leads, in_sync, &topic) {
            return;
        }
        let waited = began.elapsed();
        assert!(waited < PATIENCE * 2, "{what}: {leads:?} lead, {in_sync} in sync\n{}", text(&shown.stderr));
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn operate(nodes: &Nodes, arguments: &[&str], by: u64) {
    let done = nodes.operate(arguments, by);
    assert!(done.status.success(), "{arguments:?}: {}", text(&done.stderr));
}

/// Opens the cluster's partitions for this process.
async fn open(nodes: &Nodes) -> Arc<PartitionManager> {
    let file = |name: &str| nodes.folder.path().join(name);
    let credentials =
        Credentials::read(&file("ca.pem"), &file("client.pem"), &file("client.key")).expect("certificates");
    let seams = Seams::system("0.0.0.0:0".parse().expect("an address")).expect("a socket");
    let address = |port: &u16| format!("127.0.0.1:{port}").parse().expect("an address");
    let addresses = nodes.ports.values().map(address).collect();
    let config = ClientConfig { addresses, timeout: Duration::from_secs(30) };
    let client = Client::open(&seams, &credentials, config).expect("an endpoint");
    let opened = PartitionManager::open(client, PartitionSettings::default()).await;
    Arc::new(opened.expect("the cluster answers"))
}

/// A topic, and producers that write to it.
struct Load {
    runtime: Runtime,
    manager: Arc<PartitionManager>,
    fates: Arc<Mutex<Fates>>,
    gaps: Arc<Mutex<Gaps>>,
    stop: watch::Sender<bool>,
    producers: JoinSet<()>,
}

impl Load {
    /// Creates the topic, and begins to write to it.
    fn begin(nodes: &Nodes) -> Load {
        let runtime = Runtime::new().expect("threads");
        let manager = runtime.block_on(open(nodes));
        runtime.block_on(manager.has_nodes(3));
        operate(nodes, &["topic", "create", TOPIC, "--partitions", "64"], 1);
        until_described(nodes, 1, "created", |_, in_sync, _| in_sync == 192);
        let fates = Arc::new(Mutex::new(Fates::default()));
        let (stop, stopped) = watch::channel(false);
        let producer = Arc::new(Producer::new(manager.clone(), TOPIC, ProducerSettings::default()));
        let mut producers = JoinSet::new();
        for number in 0..PRODUCERS {
            let work = produce(number, producer.clone(), fates.clone(), stopped.clone());
            producers.spawn_on(work, runtime.handle());
        }
        let gaps = Arc::new(Mutex::new(Gaps::default()));
        let (seen, watched) = (gaps.clone(), manager.clone());
        let mut news = manager.news();
        runtime.spawn(async move {
            loop {
                watched.look(|metadata| seen.lock().unwrap_or_else(PoisonError::into_inner).look(metadata));
                let _ = news.recv().await;
            }
        });
        Load { runtime, manager, fates, gaps, stop, producers }
    }

    /// Stops, and holds what is in the partitions against what producers were told.
    fn end(mut self) {
        self.stop.send(true).expect("producers run");
        self.runtime.block_on(async {
            while let Some(ended) = self.producers.join_next().await {
                ended.expect("no producer panics");
            }
        });
        let all = self.runtime.block_on(read(self.manager.clone()));
        let fates = self.fates.lock().unwrap_or_else(PoisonError::into_inner);
        let Fates { written, unknown, failed } = &*fates;
        assert!(written.len() > 1000, "{} records were written", written.len());
        judge(&fates, &all);
        let longest = self.gaps.lock().unwrap_or_else(PoisonError::into_inner).longest;
        println!(
            "{} records written, {} of unknown fate, {} failed; longest without a leader {longest:?}",
            written.len(),
            unknown.len(),
            failed.len()
        );
        assert!(
            longest <= FENCE_DELAY + ELECTION,
            "a partition that could be led had no leader for {longest:?}"
        );
    }
}

#[test]
fn producers_lose_nothing_while_a_node_comes_one_drains_and_one_is_killed() {
    let mut nodes = Nodes::start(PARTITIONING);
    let load = Load::begin(&nodes);

    // A fourth node comes, and takes its share.
    nodes.configure(4, &[2]);
    nodes.run(4);
    load.runtime.block_on(load.manager.has_nodes(4));
    operate(&nodes, &["plan", "start"], 1);
    until_described(&nodes, 4, "moved", |leads, in_sync, _| leads == [16; 4] && in_sync == 192);

    // One drains: it leads nothing, and holds nothing.
    operate(&nodes, &["node", "drain", "2"], 3);
    until_described(&nodes, 1, "drained", |leads, in_sync, topic| {
        let held = topic["partitions"].as_array().into_iter().flatten();
        let replicas = held.filter_map(|partition| partition["replicas"].as_array());
        leads[1] == 0 && in_sync == 192 && replicas.flatten().all(|node| node != 2)
    });

    // One is killed: others lead what it led.
    nodes.kill(3);
    let killed = Instant::now();
    let is_led_by_it = |metadata: &Metadata| {
        let is_it = |node: NodeId| node.value() == 3;
        metadata.all_partitions().any(|(_, partition)| partition.leader.is_none_or(is_it))
    };
    load.runtime.block_on(async {
        let mut news = load.manager.news();
        while load.manager.look(is_led_by_it) {
            let left = (SILENCE_MAX + ELECTION).saturating_sub(killed.elapsed());
            let _ = tokio::time::timeout(left, news.recv()).await.expect("a killed node does not lead on");
        }
    });
    until_described(&nodes, 4, "fenced", |leads, in_sync, topic| {
        leads[0] + leads[3] == 64 && in_sync == 128 && topic["fenced"] == serde_json::json!([3])
    });

    // It comes back, and has everything.
    nodes.run(3);
    until_described(&nodes, 1, "back", |leads, in_sync, _| leads[2] > 0 && in_sync == 192);

    load.end();
}

/// The process of a node that lives on when it may write no more, as it would if its disk were full.
#[cfg(target_os = "linux")]
fn run_on_a_small_disk(nodes: &mut Nodes, node: u64) {
    let program = env!("CARGO_BIN_EXE_rivven-cluster");
    let line = format!("trap '' XFSZ; exec {program} run --config {}", nodes.config(node));
    let process = Command::new("sh").args(["-c", &line]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    nodes.processes.insert(node, process.expect("a shell runs"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_node_whose_disk_is_full_says_so_and_stops_and_nothing_is_lost() {
    let mut nodes = Nodes::start(PARTITIONING);
    nodes.kill(3);
    run_on_a_small_disk(&mut nodes, 3);
    let load = Load::begin(&nodes);
    let mut full = nodes.processes.remove(&3).expect("it runs");
    let limit = ["--pid", &full.id().to_string(), "--fsize=65536"];
    let limited = Command::new("prlimit").args(limit).status().expect("util-linux is there");
    assert!(limited.success());
    let said = std::io::read_to_string(full.stderr.take().expect("it was asked for")).expect("text");
    let ended = full.wait().expect("it ends by itself");
    assert_eq!(ended.code(), Some(1), "{said}");
    assert!(said.contains("File too large"), "{said}");
    until_described(&nodes, 1, "fenced", |_, in_sync, topic| {
        in_sync == 128 && topic["fenced"] == serde_json::json!([3])
    });
    // There is room again.
    nodes.run(3);
    until_described(&nodes, 1, "back", |leads, in_sync, _| leads[2] > 0 && in_sync == 192);
    load.end();
}
