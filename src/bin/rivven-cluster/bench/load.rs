//! The callers: closed loops over a few connections.

use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use rivven_cluster::kv::Command;
use rivven_cluster::quic::{Client, system_entropy};
use rivven_cluster::rng::{Seed, Stream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Operation, machine};
use crate::Failure;

/// How many keys there are.
const KEYS: u64 = 100_000;
/// The bytes of a value.
const VALUE_BYTES: usize = 256;
/// How many callers write each key once, before anything is measured.
const FILLERS: u64 = 256;

/// The connections, over which any number of callers are spread.
pub struct Load {
    connections: Vec<Client>,
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
        Ok(Load { connections, entropy: system_entropy()?, runs: 0 })
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
    pub async fn run(
        &mut self,
        operation: Operation,
        clients: u64,
        duration: Duration,
    ) -> Result<Measured, Failure> {
        self.runs += 1;
        let began = Instant::now();
        let ends = began + duration;
        let mut callers = JoinSet::new();
        for number in 0..clients {
            let client = self.connection(number);
            let choices = self.entropy.child("run", self.runs).stream("caller", number);
            callers.spawn(call(client, operation, choices, ends));
        }
        let mut latencies = machine::new_histogram()?;
        while let Some(caller) = callers.join_next().await {
            latencies.add(caller??)?;
        }
        Ok(Measured { latencies, elapsed: began.elapsed() })
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
    operation: Operation,
    mut choices: Stream,
    ends: Instant,
) -> Result<Histogram<u64>, Failure> {
    let mut latencies = machine::new_histogram()?;
    let mut began = Instant::now();
    while began < ends {
        let key = choices.below(KEYS);
        match operation {
            Operation::Write => write(&client, key, &mut choices).await?,
            Operation::Read => read(&client, key).await?,
        }
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
