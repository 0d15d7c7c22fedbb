//! Who produces to partitions and consumes from them in a simulated cluster.
//!
//! A producer sends one batch after the other to one partition, each with its stamp, and sends a batch again, to whoever it
//! believes to lead then, until it knows that it is written. A consumer reads on from where it is.

use core::time::Duration;
use std::collections::BTreeMap;

use bytes::Bytes;
use rivven_cluster::id::{LeaderEpoch, NodeId, Offset, PartitionId, ProducerId};
use rivven_cluster::partition::metadata::Metadata;
use rivven_cluster::partition::records::{self, Record};
use rivven_cluster::partition::replica::io::{Acks, Stamp};
use rivven_cluster::partition::replicas::io::{Answer, Ask, AskError, Consume, Produce};
use rivven_cluster::rng::Stream;
use rivven_cluster::time::Instant;

use crate::checkers::Told;

/// How many producers there are.
const PRODUCERS: usize = 4;
/// So long a producer sends a batch again.
pub const RETRIES: Duration = Duration::from_millis(1500);
/// How many consumers there are.
const CONSUMERS: usize = 2;

/// All producers and consumers.
#[derive(Clone, Debug)]
pub struct Workload {
    producers: Vec<Producer>,
    consumers: Vec<Consumer>,
}

#[derive(Clone, Debug)]
struct Producer {
    id: ProducerId,
    partition: Option<PartitionId>,
    sequence: u64,
    /// The batch that is under way, until its fate is known, and since when.
    batch: Option<Produce>,
    since: Instant,
    is_waiting: bool,
}

#[derive(Clone, Debug, Default)]
struct Consumer {
    positions: BTreeMap<PartitionId, Offset>,
    is_waiting: bool,
}

/// Somebody's question, and whose it is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Asker(usize);

/// What is asked of whom.
#[derive(Clone, Debug)]
pub struct Question {
    /// Who asks.
    pub asker: Asker,
    /// Which node.
    pub node: NodeId,
    /// Of which partition.
    pub partition: PartitionId,
    /// In which epoch that node leads, if whoever asks cares.
    pub epoch: Option<LeaderEpoch>,
    /// What.
    pub ask: Ask,
}

impl Default for Workload {
    fn default() -> Workload {
        let producer = |number: usize| Producer {
            id: ProducerId::new(u64::try_from(number).unwrap_or_default() + 1),
            partition: None,
            sequence: 0,
            batch: None,
            since: Instant::ORIGIN,
            is_waiting: false,
        };
        let producers = (0..PRODUCERS).map(producer).collect();
        Workload { producers, consumers: vec![Consumer::default(); CONSUMERS] }
    }
}

impl Workload {
    /// What somebody wants next of a cluster that looks like this; `None` if whoever it is waits for an answer.
    pub fn next(&mut self, now: Instant, metadata: &Metadata, choices: &mut Stream) -> Option<Question> {
        let everybody = u64::try_from(PRODUCERS + CONSUMERS).unwrap_or_default();
        let place = usize::try_from(choices.below(everybody)).unwrap_or_default();
        let (partition, ask) = match self.producers.get_mut(place) {
            Some(producer) => producer.next(now, metadata, choices)?,
            None => self.consumers.get_mut(place - PRODUCERS)?.next(metadata, choices)?,
        };
        let record = metadata.partition(partition)?;
        let anybody = usize::try_from(choices.below(4)).unwrap_or_default();
        let is_lost = choices.chance(1, 12);
        let node = record.leader.filter(|_| !is_lost).or_else(|| record.replicas.get(anybody).copied())?;
        let epoch = (record.leader == Some(node)).then_some(record.leader_epoch);
        self.set_waiting(Asker(place), true);
        Some(Question { asker: Asker(place), node, partition, epoch, ask })
    }

    fn set_waiting(&mut self, Asker(place): Asker, is_waiting: bool) {
        match self.producers.get_mut(place) {
            Some(producer) => producer.is_waiting = is_waiting,
            None => {
                if let Some(consumer) = self.consumers.get_mut(place - PRODUCERS) {
                    consumer.is_waiting = is_waiting;
                }
            }
        }
    }

    /// There will be no answer.
    pub fn is_lost(&mut self, asker: Asker) {
        self.set_waiting(asker, false);
    }

    /// There is an answer. Returns what it says of the records.
    pub fn told(
        &mut self,
        asker: Asker,
        partition: PartitionId,
        answer: &Result<Answer, AskError>,
    ) -> Option<Told> {
        self.set_waiting(asker, false);
        let Asker(place) = asker;
        match self.producers.get_mut(place) {
            Some(producer) => producer.told(partition, answer),
            None => self.consumers.get_mut(place - PRODUCERS)?.told(partition, answer),
        }
    }

    /// Whether nobody waits for an answer.
    pub fn is_idle(&self) -> bool {
        let is_waiting = self.producers.iter().any(|producer| producer.is_waiting);
        !is_waiting && !self.consumers.iter().any(|consumer| consumer.is_waiting)
    }
}

impl Producer {
    fn next(
        &mut self,
        now: Instant,
        metadata: &Metadata,
        choices: &mut Stream,
    ) -> Option<(PartitionId, Ask)> {
        if self.is_waiting {
            return None;
        }
        if self.batch.is_some() && now.saturating_since(self.since) > RETRIES {
            // Whoever goes on under its name may write it a second time.
            self.partition = None;
        }
        if self.partition.is_none_or(|id| metadata.partition(id).is_none()) {
            // A producer's numbers are of one partition.
            self.id = ProducerId::new(self.id.value() + 1000);
            (self.sequence, self.batch) = (0, None);
            let place = choices.below(u64::try_from(metadata.partitions()).unwrap_or_default().max(1));
            let found = metadata.all_partitions().nth(usize::try_from(place).unwrap_or_default());
            self.partition = found.map(|(id, _)| id);
        }
        let (partition, id, sequence) = (self.partition?, self.id, self.sequence);
        if self.batch.is_none() {
            self.since = now;
        }
        let batch = self.batch.get_or_insert_with(|| {
            let count = choices.between(1, 4);
            let value = |number: u64| Bytes::from(format!("{id}/{}", sequence + number));
            let all: Vec<Record> =
                (0..count).map(|number| Record { key: None, value: value(number) }).collect();
            Produce {
                acks: Acks::All,
                timeout: Duration::from_millis(choices.between(20, 2000)),
                count: u32::try_from(count).unwrap_or(1),
                stamp: Some(Stamp { producer: id, sequence }),
                records: records::encode(&all),
            }
        });
        Some((partition, Ask::Produce(batch.clone())))
    }

    fn told(&mut self, partition: PartitionId, answer: &Result<Answer, AskError>) -> Option<Told> {
        match answer {
            Ok(Answer::Produced { first }) => {
                let batch = self.batch.take()?;
                self.sequence += u64::from(batch.count);
                Some(Told::Acknowledged { partition, first: (*first)?, stamp: batch.stamp? })
            }
            Err(AskError::OutOfSequence { .. }) => {
                // What it had sent was given up with the partition's leader.
                self.partition = None;
                None
            }
            Ok(Answer::Consumed { .. } | Answer::Offsets { .. }) | Err(_) => None,
        }
    }
}

impl Consumer {
    fn next(&mut self, metadata: &Metadata, choices: &mut Stream) -> Option<(PartitionId, Ask)> {
        if self.is_waiting {
            return None;
        }
        let place = choices.below(u64::try_from(metadata.partitions()).unwrap_or_default().max(1));
        let (partition, _) = metadata.all_partitions().nth(usize::try_from(place).unwrap_or_default())?;
        let from = self.positions.get(&partition).copied().unwrap_or_default();
        let wait = Duration::from_millis(choices.below(200));
        Some((
            partition,
            Ask::Consume(Consume { from, bytes: 200, wait, from_anybody: choices.chance(1, 3) }),
        ))
    }

    fn told(&mut self, partition: PartitionId, answer: &Result<Answer, AskError>) -> Option<Told> {
        match answer {
            Ok(Answer::Consumed { batches, .. }) => {
                let from = self.positions.get(&partition).copied().unwrap_or_default();
                if let Some(last) = batches.last() {
                    self.positions.insert(partition, last.end());
                }
                Some(Told::Read { partition, from, batches: batches.clone() })
            }
            Err(AskError::OutOfRange { start, .. }) => {
                self.positions.insert(partition, *start);
                None
            }
            Ok(_) | Err(_) => None,
        }
    }
}
