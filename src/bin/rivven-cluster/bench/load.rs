//! The callers: closed loops over a few connections.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use rivven_cluster::kv::Command;
use rivven_cluster::partition::records::Record;
use rivven_cluster::quic::{
    Client, NewTopic, PartitionManager, PartitionSettings, Producer, ProducerSettings, system_entropy,
};
use rivven_cluster::rng::{Seed, Stream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::machine;
use crate::Failure;

/// How many keys there are.
const KEYS: u64 = 100_000;
/// The bytes of a value.
const VALUE_BYTES: usize = 256;
/// How many callers write each key once, before anything is measured.
const FILLERS: u64 = 256;

/// What callers do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Work {
    /// They set keys.
    Write,
    /// They read keys.
    Read,
    /// They write records to the topic with so many partitions.
    Produce { partitions: u32 },
}

/// The connections, over which any number of callers are spread.
pub struct Load {
    connections: Vec<Client>,
    /// Of each connection, those of the topics by their partitions.
    producers: Vec<BTreeMap<u32, Arc<Producer>>>,
    entropy: Seed,
    runs: u64,
}

/// What was measured.
pub struct Measured {
    /// In microseconds.
    pub latencies: Histogram<u64>,
    pub elapsed: Duration,
}

impl Load {
    pub fn new(connections: Vec<Client>) -> Result<Load, Failure> {
        Ok(Load { connections, producers: Vec::new(), entropy: system_entropy()?, runs: 0 })
    }

    /// Creates topics with so many partitions each, and a producer for each of them on each connection.
    pub async fn open_topics(&mut self, topics: &[u32]) -> Result<(), Failure> {
        for client in &self.connections {
            let manager = PartitionManager::open(client.clone(), PartitionSettings::default()).await?;
            manager.has_nodes(3).await;
            let manager = Arc::new(manager);
            let mut producers = BTreeMap::new();
            for partitions in topics {
                let name = format!("bench-{partitions}");
                manager.create_topic(NewTopic::new(&name, *partitions)).await?;
                let producer = Producer::new(manager.clone(), name, ProducerSettings::default());
                producers.insert(*partitions, Arc::new(producer));
            }
            self.producers.push(producers);
        }
        Ok(())
    }

    /// Writes every key once.
    pub async fn fill(&self) -> Result<(), Failure> {
        let mut callers = JoinSet::new();
        for number in 0..FILLERS {
            let (client, mut choices) = (self.connection(number), self.entropy.stream("fill", number));
            callers.spawn(async move {
                for key in (number..KEYS).step_by(usize::try_from(FILLERS)?) {
                    write(&client, key, &mut choices).await?;
                }
                Ok::<(), Failure>(())
            });
        }
        while let Some(caller) = callers.join_next().await {
            caller??;
        }
        Ok(())
    }

    /// Lets `clients` callers work for so long.
    pub async fn run(&mut self, work: Work, clients: u64, duration: Duration) -> Result<Measured, Failure> {
        self.runs += 1;
        let began = Instant::now();
        let ends = began + duration;
        let mut callers = JoinSet::new();
        for number in 0..clients {
            let client = self.connection(number);
            let choices = self.entropy.child("run", self.runs).stream("caller", number);
            match work {
                Work::Write | Work::Read => _ = callers.spawn(call(client, work, choices, ends)),
                Work::Produce { partitions } => {
                    let producer = self.producer(number, partitions)?;
                    callers.spawn(produce(producer, partitions, choices, ends));
                }
            }
        }
        let mut latencies = machine::new_histogram()?;
        while let Some(caller) = callers.join_next().await {
            latencies.add(caller??)?;
        }
        Ok(Measured { latencies, elapsed: began.elapsed() })
    }

    fn producer(&self, caller: u64, partitions: u32) -> Result<Arc<Producer>, Failure> {
        let count = u64::try_from(self.producers.len())?;
        let place = usize::try_from(caller % count.max(1))?;
        let found = self.producers.get(place).and_then(|producers| producers.get(&partitions));
        found.cloned().ok_or_else(|| Failure("the topics are not opened".to_owned()))
    }

    fn connection(&self, caller: u64) -> Client {
        let count = u64::try_from(self.connections.len()).unwrap_or(1);
        let place = usize::try_from(caller % count).unwrap_or_default();
        self.connections[place].clone()
    }
}

/// One caller: the next operation when the last one is answered.
async fn call(
    client: Client,
    work: Work,
    mut choices: Stream,
    ends: Instant,
) -> Result<Histogram<u64>, Failure> {
    let mut latencies = machine::new_histogram()?;
    let mut began = Instant::now();
    while began < ends {
        let key = choices.below(KEYS);
        if work == Work::Write {
            write(&client, key, &mut choices).await?;
        } else {
            read(&client, key).await?;
        }
        let answered = Instant::now();
        latencies.record(u64::try_from((answered - began).as_micros())?)?;
        began = answered;
    }
    Ok(latencies)
}

/// One caller: the next record, to any partition, when the last one is acknowledged.
async fn produce(
    producer: Arc<Producer>,
    partitions: u32,
    mut choices: Stream,
    ends: Instant,
) -> Result<Histogram<u64>, Failure> {
    let mut latencies = machine::new_histogram()?;
    let mut began = Instant::now();
    while began < ends {
        let mut value = vec![0; VALUE_BYTES];
        choices.fill(&mut value);
        let partition = u32::try_from(choices.below(partitions.into()))?;
        producer.send_to(partition, Record { key: None, value: value.into() }).await?;
        let answered = Instant::now();
        latencies.record(u64::try_from((answered - began).as_micros())?)?;
        began = answered;
    }
    Ok(latencies)
}

async fn write(client: &Client, key: u64, choices: &mut Stream) -> Result<(), Failure> {
    let mut value = vec![0; VALUE_BYTES];
    choices.fill(&mut value);
    let command = Command::Put { key: name(key), value: Bytes::from(value) };
    client.propose(command.encode()).await?;
    Ok(())
}

async fn read(client: &Client, key: u64) -> Result<(), Failure> {
    match client.get(name(key)).await? {
        Some(_) => Ok(()),
        None => Err(Failure(format!("key {key} was written and is not there"))),
    }
}

fn name(key: u64) -> Bytes {
    Bytes::from(format!("key-{key:05}"))
}
