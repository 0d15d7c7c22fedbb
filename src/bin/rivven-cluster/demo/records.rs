//! Records: a topic on all three nodes, a killed leader, and a check of every replica.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::ProgressBar;
use rivven_cluster::id::{Offset, PartitionId, PeerName};
use rivven_cluster::node::{Caller, Reply, Request};
use rivven_cluster::partition::metadata::{Metadata, NodeState, Partition};
use rivven_cluster::partition::records::{self, Record};
use rivven_cluster::partition::replicas::io::{Answer, Ask, AskError, Consume};
use rivven_cluster::quic::{
    Client, NewTopic, PartitionManager, PartitionSettings, ProduceFailure, Producer, ProducerSettings,
    RouteBy,
};
use rivven_cluster::rng::Stream;
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
/// How long a caller rests between two records when there are many rounds, so that all of them are under load.
const PACE: Duration = Duration::from_millis(20);
/// How long a node stands still: until others lead.
const STILL: Duration = Duration::from_secs(5);
/// How long a node that was killed is down.
const DOWN: Duration = Duration::from_millis(500);
/// By then it is noticed that a node was killed, and started again.
const NOTICED: Duration = Duration::from_millis(2500);
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

/// What the topic has to bear.
#[derive(Clone, Copy)]
pub struct Plan {
    /// How many records are produced in each round.
    pub records: u64,
    /// How often a node is killed, or stands still for a while: first who leads partition 0, then any.
    pub rounds: u64,
}

/// Produces records while nodes are killed and stand still, and checks what is on each replica.
pub async fn play(
    cluster: &mut Cluster,
    plan: &Plan,
    choices: &mut Stream,
    bar: &ProgressBar,
) -> Result<Audited, Failure> {
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
        callers.spawn(produce(producer.clone(), caller, *plan, next, told, bar));
    }
    for round in 0..plan.rounds {
        let half = plan.records * round + plan.records / 2;
        while next.load(Ordering::Relaxed) < half {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let leader = partitions.route(TOPIC, RouteBy::Partition(0)).map(|route| route.leader.value());
        let victim = leader.ok().filter(|_| round == 0).unwrap_or_else(|| choices.between(1, 4));
        strike(cluster, victim, round > 0 && choices.chance(1, 2), bar).await?;
        let back = are_in_sync(&partitions);
        within_time(PATIENCE, "a node to be in sync again", back).await?;
    }
    let rest = async {
        while let Some(ended) = callers.join_next().await {
            ended??;
        }
        Ok::<(), Failure>(())
    };
    within_time(PATIENCE, "the rest of the records", rest).await??;
    let told = std::mem::take(&mut *told.lock().unwrap_or_else(PoisonError::into_inner));
    let audited = audit(cluster, &client, &partitions, told);
    within_time(PATIENCE, "all replicas to have all records", audited).await?
}

/// A node is killed and started again, or stands still until others lead what it led.
async fn strike(
    cluster: &mut Cluster,
    victim: u64,
    stands_still: bool,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    if stands_still {
        say(bar, &format!("node {victim} stands still (SIGSTOP) for {} s", STILL.as_secs()));
        cluster.pause(victim, true).await?;
        tokio::time::sleep(STILL).await;
        cluster.pause(victim, false).await
    } else {
        say(bar, &format!("killed node {victim} with SIGKILL"));
        cluster.kill(victim).await?;
        tokio::time::sleep(DOWN).await;
        cluster.restart(victim).await
    }
}

/// Waits until all nodes are active, and every replica is in sync.
async fn are_in_sync(partitions: &PartitionManager) {
    let is_so = |metadata: &Metadata| {
        let is_whole = |(_, record): (_, &Partition)| record.in_sync.len() == record.replicas.len();
        metadata.nodes().all(|(_, record)| record.state == NodeState::Active)
            && metadata.all_partitions().all(is_whole)
    };
    // A node that was struck just now is not noticed yet.
    tokio::time::sleep(NOTICED).await;
    while !partitions.look(is_so) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One caller: the next record when the last one is acknowledged.
async fn produce(
    producer: Arc<Producer>,
    caller: u64,
    plan: Plan,
    next: Arc<AtomicU64>,
    told: Arc<Mutex<Told>>,
    bar: ProgressBar,
) -> Result<(), Failure> {
    let partition = u32::try_from(caller % u64::from(PARTITIONS))?;
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= plan.records * plan.rounds {
            return Ok(());
        }
        if plan.rounds > 1 {
            tokio::time::sleep(PACE).await;
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
        match client.request(name, Request::Ask { partition, epoch: None, ask }).await {
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
