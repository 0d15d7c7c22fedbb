//! Records: a topic on all three nodes, a killed leader, and a check of every replica.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::ProgressBar;
use rivven_cluster::id::{Offset, PartitionId, PeerName};
use rivven_cluster::node::{Caller, Reply, Request};
use rivven_cluster::partition::records::{self, Record};
use rivven_cluster::partition::replicas::io::{Answer, Ask, AskError, Consume};
use rivven_cluster::quic::{
    Client, NewTopic, PartitionManager, PartitionSettings, ProduceFailure, Producer, ProducerSettings,
    RouteBy,
};
use tokio::task::JoinSet;

use super::{CLIENT_TIMEOUT, say, within, within_time};
use crate::Failure;
use crate::cluster::Cluster;

/// The topic's name.
const TOPIC: &str = "demo";
/// How many partitions it has.
const PARTITIONS: u32 = 6;
/// How many callers produce at the same time; each waits for its record before it sends the next.
const CALLERS: u64 = 96;
/// How long producing, and checking, may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was found, when nothing was lost.
pub struct Audited {
    pub acknowledged: usize,
    pub unknown: usize,
    /// Of these, how many are there.
    pub unknown_found: usize,
    /// The longest that any record took.
    pub slowest: Duration,
}

/// What callers were told.
#[derive(Default)]
struct Told {
    /// Partition, caller, number, place; in the order of each caller.
    acknowledged: Vec<(u32, u64, u64, Offset)>,
    unknown: Vec<u64>,
    slowest: Duration,
}

/// Produces so many records while the leader of some partitions is killed, and checks what is on each replica.
pub async fn play(cluster: &mut Cluster, count: u64, bar: &ProgressBar) -> Result<Audited, Failure> {
    let client = cluster.client(Caller::Client, CLIENT_TIMEOUT)?;
    let partitions = PartitionManager::open(client.clone(), PartitionSettings::default()).await?;
    within("all nodes to hold partitions", partitions.has_nodes(3)).await?;
    partitions.create_topic(NewTopic::new(TOPIC, PARTITIONS)).await?;
    let partitions = Arc::new(partitions);
    let producer = Arc::new(Producer::new(partitions.clone(), TOPIC, ProducerSettings::default()));
    let (next, told) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Told::default())));
    let mut callers: JoinSet<Result<(), Failure>> = JoinSet::new();
    for caller in 0..CALLERS {
        let (next, told, bar) = (next.clone(), told.clone(), bar.clone());
        callers.spawn(produce(producer.clone(), caller, count, next, told, bar));
    }
    while next.load(Ordering::Relaxed) < count / 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let victim = partitions.route(TOPIC, RouteBy::Partition(0))?.leader.value();
    cluster.kill(victim).await?;
    say(bar, &format!("killed node {victim}, which leads partition 0, with SIGKILL"));
    let rest = async {
        while let Some(ended) = callers.join_next().await {
            ended??;
        }
        Ok::<(), Failure>(())
    };
    within_time(PATIENCE, "the rest of the records", rest).await??;
    cluster.restart(victim).await?;
    let told = std::mem::take(&mut *told.lock().unwrap_or_else(PoisonError::into_inner));
    let audited = audit(cluster, &client, &partitions, told);
    within_time(PATIENCE, "all replicas to have all records", audited).await?
}

/// One caller: the next record when the last one is acknowledged.
async fn produce(
    producer: Arc<Producer>,
    caller: u64,
    count: u64,
    next: Arc<AtomicU64>,
    told: Arc<Mutex<Told>>,
    bar: ProgressBar,
) -> Result<(), Failure> {
    let partition = u32::try_from(caller % u64::from(PARTITIONS))?;
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= count {
            return Ok(());
        }
        let began = tokio::time::Instant::now();
        let record = Record { key: None, value: number.to_string().into() };
        let written = producer.send_to(partition, record).await;
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        told.slowest = told.slowest.max(began.elapsed());
        match written {
            Ok(written) => {
                let place =
                    written.offset.ok_or_else(|| lost("a record was acknowledged without a place"))?;
                told.acknowledged.push((partition, caller, number, place));
            }
            Err(ProduceFailure::Unknown(_)) => told.unknown.push(number),
            Err(error) => return Err(error.into()),
        }
        bar.inc(1);
    }
}

/// Every acknowledged record is at its place on every replica, and nothing is there twice.
async fn audit(
    cluster: &Cluster,
    client: &Client,
    partitions: &PartitionManager,
    told: Told,
) -> Result<Audited, Failure> {
    let mut found = BTreeMap::new();
    for number in 0..PARTITIONS {
        let places = told.acknowledged.iter().filter(|(partition, ..)| *partition == number);
        let end = places.map(|(.., place)| place.plus(1)).max().unwrap_or_default();
        let mut logs = Vec::new();
        for name in cluster.peer_names().values() {
            let id = partitions.route(TOPIC, RouteBy::Partition(number))?.partition;
            logs.push(read(client, name, id, end).await?);
        }
        if logs.iter().any(|log| *log != logs[0]) {
            return Err(lost(&format!("the replicas of partition {number} differ")));
        }
        for (place, value) in logs.swap_remove(0) {
            if let Some(before) = found.insert(value, (number, place)) {
                return Err(lost(&format!("a record is at {before:?}, and again at {place} of {number}")));
            }
        }
    }
    let mut last = BTreeMap::new();
    for (partition, caller, number, place) in &told.acknowledged {
        if found.get(number.to_string().as_bytes()) != Some(&(*partition, *place)) {
            return Err(lost(&format!("record {number} belongs at {place} of partition {partition}")));
        }
        if last.insert(*caller, *place).is_some_and(|before| before >= *place) {
            return Err(lost(&format!("record {number} comes before what its caller has sent before")));
        }
    }
    let is_found = |number: &&u64| found.contains_key(number.to_string().as_bytes());
    Ok(Audited {
        acknowledged: told.acknowledged.len(),
        unknown: told.unknown.len(),
        unknown_found: told.unknown.iter().filter(is_found).count(),
        slowest: told.slowest,
    })
}

/// What one replica has of a partition, up to `end`, as soon as it knows that it is committed.
async fn read(
    client: &Client,
    name: &PeerName,
    partition: PartitionId,
    end: Offset,
) -> Result<Vec<(Offset, Vec<u8>)>, Failure> {
    let mut log: Vec<(Offset, Vec<u8>)> = Vec::new();
    loop {
        let from = log.last().map_or(Offset::default(), |(place, _)| place.plus(1));
        if from >= end {
            log.retain(|(place, _)| *place < end);
            return Ok(log);
        }
        let consume = Consume { from, bytes: 1 << 20, wait: Duration::from_millis(100), from_anybody: true };
        let ask = Ask::Consume(consume);
        match client.request(name, Request::Ask { partition, ask }).await {
            Ok(Reply::Told(Ok(Answer::Consumed { batches, .. }))) => {
                for batch in batches {
                    let all = records::decode(&batch.records, batch.count)?.into_iter().zip(0..);
                    log.extend(all.map(|(record, place)| (batch.first.plus(place), record.value.to_vec())));
                }
            }
            Ok(Reply::Told(Err(AskError::OutOfRange { .. }))) => {
                return Err(lost("a replica has lost the beginning of a partition"));
            }
            // It was started just now.
            Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

fn lost(what: &str) -> Failure {
    Failure(format!("demo: FAILED: {what}"))
}
