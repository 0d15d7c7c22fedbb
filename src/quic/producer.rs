//! `Producer`: records to the partitions of a topic, each written once.
//!
//! ```text
//!   send ─► partition of the key ─► queue of the partition ─► batch ─► its leader ─► acknowledged
//!                                          ▲                    │
//!                                          └── what comes meanwhile makes the next batch
//! ```
//!
//! One batch of a partition is under way at a time, so records of one partition are written in the order in which they
//! were given; and what waits meanwhile goes together. With [`Acks::All`] a batch carries a stamp, and is sent again, to
//! whoever leads by then, until it is known to be written: however often it was sent, it is written once. When the time is
//! over before that is known, the producer says so, and goes on under another name, since what was sent may still arrive.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::asking::{Question, Unanswered, ask};
use super::partitions::{PartitionError, PartitionManager, RouteBy};
use crate::id::{Offset, PartitionId, ProducerId};
use crate::partition::records::{self, Record};
use crate::partition::replica::io::{Acks, Stamp};
use crate::partition::replicas::io::{Answer, Ask, AskError, Produce};
use crate::rng::Stream;

/// The most records that wait for one partition. Beyond it, whoever sends waits.
const QUEUED_MAX: usize = 16 * 1024;

/// The longest that a record may take. Leaders keep what was written for longer, whatever their topic says.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// How a [`Producer`] writes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProducerSettings {
    /// When a record counts as written.
    pub acks: Acks,
    /// How long a record may take, tries and all; a minute at most, since what is dropped after that cannot be told from
    /// what never came.
    pub timeout: Duration,
    /// The most bytes of a batch, unless one record has more.
    pub batch_bytes: usize,
    /// The most records of a batch, from 1.
    pub batch_records: usize,
}

impl Default for ProducerSettings {
    fn default() -> ProducerSettings {
        let timeout = Duration::from_secs(30);
        ProducerSettings { acks: Acks::All, timeout, batch_bytes: 256 * 1024, batch_records: 10_000 }
    }
}

/// Where a record was written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Written {
    /// The partition.
    pub partition: PartitionId,
    /// Its place there; not known without acknowledgements.
    pub offset: Option<Offset>,
}

/// Why a record is not known to be written.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ProduceFailure {
    /// There is no such topic or partition, or the cluster does not allow it. It was not written.
    #[error(transparent)]
    Partition(#[from] PartitionError),
    /// Nobody takes it like this. It was not written.
    #[error(transparent)]
    Refused(#[from] AskError),
    /// Nobody could take it in time. It was not written, and never will be.
    #[error("nobody could write the record in time; the last reason was: {0}")]
    TooLate(String),
    /// It may be written, or not. Read before you decide to send it again.
    #[error("nobody can tell whether the record was written: {0}")]
    Unknown(String),
    /// The producer was dropped before it was written. It may be written, or not.
    #[error("the producer has ended")]
    Ended,
}

/// Writes records to a topic.
///
/// ```
/// use std::sync::Arc;
/// use rivven_cluster::node::Partitioning;
/// use rivven_cluster::partition::records::Record;
/// use rivven_cluster::quic::{
///     Consumer, NewTopic, PartitionManager, PartitionSettings, Producer, ProducerSettings, RaftConfig, RaftNode, StartAt,
/// };
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let partitioning = Some(Partitioning::default());
/// let node = RaftNode::new(RaftConfig { node_id: 8, partitioning, ..Default::default() }).await?;
/// let settings = PartitionSettings { replication_factor: 1, ..Default::default() };
/// let partitions = Arc::new(PartitionManager::open(node.client().clone(), settings).await?);
/// partitions.has_nodes(1).await;
/// partitions.create_topic(NewTopic::new("orders", 1)).await?;
///
/// let producer = Producer::new(partitions.clone(), "orders", ProducerSettings::default());
/// let written = producer.send(Record { key: None, value: "a bicycle".into() }).await?;
///
/// let mut consumer = Consumer::new(partitions, "orders", written.partition.number, StartAt::Earliest);
/// let records = consumer.next().await?;
/// assert_eq!(records[0].record.value, "a bicycle");
/// # node.shutdown().await?;
/// # Ok(())
/// # })
/// # }
/// ```
pub struct Producer {
    partitions: Arc<PartitionManager>,
    topic: String,
    settings: ProducerSettings,
    queues: Mutex<Queues>,
}

struct Queues {
    of: BTreeMap<u32, mpsc::Sender<Waiting>>,
    /// Names of producers are drawn here.
    names: Stream,
    /// Where the next record without a key goes.
    turn: u32,
}

/// A record that is to be written.
struct Waiting {
    record: Record,
    deadline: Instant,
    answer: oneshot::Sender<Result<Written, ProduceFailure>>,
}

impl Producer {
    /// Makes a producer. Nothing is sent before there is a record.
    #[must_use]
    pub fn new(
        partitions: Arc<PartitionManager>,
        topic: impl Into<String>,
        settings: ProducerSettings,
    ) -> Producer {
        let names = partitions.client().stream("producer");
        let queues = Mutex::new(Queues { of: BTreeMap::new(), names, turn: 0 });
        let settings = ProducerSettings { timeout: settings.timeout.min(TIMEOUT_MAX), ..settings };
        Producer { partitions, topic: topic.into(), settings, queues }
    }

    /// Writes a record to the partition of its key; without a key, to one partition after the other.
    ///
    /// # Errors
    ///
    /// [`ProduceFailure`]; only [`ProduceFailure::Unknown`] and [`ProduceFailure::Ended`] leave it open whether it is written.
    pub async fn send(&self, record: Record) -> Result<Written, ProduceFailure> {
        let by = match &record.key {
            Some(key) => RouteBy::Key(key),
            None => RouteBy::Partition(self.next_turn()?),
        };
        let partition = self.partitions.number(&self.topic, by)?;
        self.send_to(partition, record).await
    }

    /// Writes a record to one partition.
    ///
    /// # Errors
    ///
    /// As [`Producer::send`].
    pub async fn send_to(&self, partition: u32, record: Record) -> Result<Written, ProduceFailure> {
        let (answer, written) = oneshot::channel();
        let waiting = Waiting { record, deadline: Instant::now() + self.settings.timeout, answer };
        let queue = self.queue(partition);
        queue.send(waiting).await.map_err(|_| ProduceFailure::Ended)?;
        written.await.map_err(|_| ProduceFailure::Ended)?
    }

    fn next_turn(&self) -> Result<u32, PartitionError> {
        let partitions = self.partitions.partitions(&self.topic)?;
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.turn = (queues.turn + 1) % partitions.max(1);
        Ok(queues.turn)
    }

    /// The way to the task that writes to a partition.
    fn queue(&self, partition: u32) -> mpsc::Sender<Waiting> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let Queues { of, names, .. } = &mut *queues;
        let begin = || {
            let (sender, receiver) = mpsc::channel(QUEUED_MAX);
            let name = ProducerId::new(names.draw());
            let names = stream_of_a_writer(names);
            let writer = Writer {
                partitions: self.partitions.clone(),
                topic: self.topic.clone(),
                partition,
                settings: self.settings,
                stamp: Stamp { producer: name, sequence: 0 },
                names,
            };
            let span = tracing::error_span!("produce", topic = self.topic, partition);
            tokio::spawn(writer.run(receiver).instrument(span));
            sender
        };
        of.entry(partition).or_insert_with(begin).clone()
    }
}

/// A stream of a writer's own.
fn stream_of_a_writer(names: &mut Stream) -> Stream {
    crate::rng::Seed::new(names.draw()).stream("producer of a partition", 0)
}

/// Writes to one partition, one batch after the other.
struct Writer {
    partitions: Arc<PartitionManager>,
    topic: String,
    partition: u32,
    settings: ProducerSettings,
    /// The next batch's.
    stamp: Stamp,
    names: Stream,
}

impl Writer {
    async fn run(mut self, mut queue: mpsc::Receiver<Waiting>) {
        let mut next = None;
        loop {
            let first = match next.take() {
                Some(first) => first,
                None => match queue.recv().await {
                    Some(first) => first,
                    None => return,
                },
            };
            let mut batch = vec![first];
            let mut bytes = records::length(&batch[0].record);
            while batch.len() < self.settings.batch_records {
                let Ok(waiting) = queue.try_recv() else { break };
                bytes += records::length(&waiting.record);
                if bytes > self.settings.batch_bytes {
                    next = Some(waiting);
                    break;
                }
                batch.push(waiting);
            }
            self.write(batch).await;
        }
    }

    async fn write(&mut self, batch: Vec<Waiting>) {
        let deadline = batch.iter().map(|waiting| waiting.deadline).min().unwrap_or_else(Instant::now);
        let (records, answers): (Vec<Record>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.record, waiting.answer)).unzip();
        let count = u32::try_from(records.len()).unwrap_or(u32::MAX);
        let acks = self.settings.acks;
        let produce = Produce {
            acks,
            timeout: deadline.saturating_duration_since(Instant::now()),
            count,
            stamp: (acks == Acks::All).then_some(self.stamp),
            records: records::encode(&records),
        };
        let question = Question {
            topic: &self.topic,
            partition: self.partition,
            id: None,
            ask: Ask::Produce(produce),
            waits: Duration::ZERO,
            is_repeatable: acks == Acks::All,
        };
        let result = ask(&self.partitions, &question, deadline).await;
        let result = self.judge(result, count);
        if let Err(error) = &result {
            tracing::debug!("a batch of {count} records: {error}");
        }
        for (answer, place) in answers.into_iter().zip(0..) {
            let written = result.clone().map(|(partition, first)| Written {
                partition,
                offset: first.map(|first| first.plus(place)),
            });
            // Whoever gave up does not want to know.
            let _ = answer.send(written);
        }
    }

    /// What became of a batch, and what the next one is called.
    fn judge(
        &mut self,
        result: Result<(PartitionId, Answer), Unanswered>,
        count: u32,
    ) -> Result<(PartitionId, Option<Offset>), ProduceFailure> {
        match result {
            Ok((partition, Answer::Produced { first })) => {
                self.stamp.sequence += u64::from(count);
                Ok((partition, first))
            }
            Ok((_, Answer::Consumed { .. } | Answer::Offsets { .. })) => {
                self.rename();
                Err(ProduceFailure::Unknown("the answer makes no sense".to_owned()))
            }
            Err(Unanswered::Failed(error)) => Err(error.into()),
            Err(Unanswered::TooLate(reason)) => Err(ProduceFailure::TooLate(reason)),
            Err(Unanswered::Refused(error)) => {
                if matches!(error, AskError::OutOfSequence { .. }) {
                    self.rename();
                }
                Err(error.into())
            }
            Err(Unanswered::Unknown(reason)) => {
                self.rename();
                Err(ProduceFailure::Unknown(reason))
            }
        }
    }

    /// What was sent under the old name may still arrive, and nobody knows how much of it.
    fn rename(&mut self) {
        self.stamp = Stamp { producer: ProducerId::new(self.names.draw()), sequence: 0 };
    }
}
