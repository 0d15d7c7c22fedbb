//! Who produces to partitions and consumes from them in the turmoil world: the production producer and consumer.
//!
//! Every record has a value of its own, so whatever somebody is told of one can be held against what is committed in its
//! place.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use rivven_cluster::partition::metadata::Metadata;
use rivven_cluster::partition::records::Record;
use rivven_cluster::quic::{
    Client, Consumer, PartitionManager, PartitionSettings, Producer, ProducerSettings, StartAt,
};
use rivven_cluster::rng::Stream;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::clock::sim_nanos;
use crate::checkers::{Checkers, Rule, Told};
use crate::lock::lock;
use crate::records::RETRIES;

/// A cluster that does not answer is asked again after so long.
const PAUSE: Duration = Duration::from_millis(200);

/// Somebody who uses partitions until so many milliseconds have passed, and tells the checkers what it is told.
pub(super) struct User {
    pub(super) number: u64,
    pub(super) client: Client,
    pub(super) checkers: Arc<Mutex<Checkers>>,
    pub(super) choices: Stream,
    pub(super) until: u64,
}

impl User {
    fn is_over(&self) -> bool {
        sim_nanos() / 1_000_000 >= self.until
    }

    async fn open(&self) -> Option<Arc<PartitionManager>> {
        while !self.is_over() {
            match PartitionManager::open(self.client.clone(), PartitionSettings::default()).await {
                Ok(manager) => return Some(Arc::new(manager)),
                Err(_) => sleep(PAUSE).await,
            }
        }
        None
    }

    /// Some partition of some topic that is there.
    fn choose(&mut self, metadata: &Metadata) -> Option<(String, u32)> {
        let place = self.choices.below(u64::try_from(metadata.partitions()).ok()?.max(1));
        let (id, _) = metadata.all_partitions().nth(usize::try_from(place).ok()?)?;
        Some((metadata.topic(id.topic)?.spec.name.clone(), id.number))
    }

    /// Writes a few records at a time, each to the partition that it draws.
    pub(super) async fn produce(mut self) {
        let Some(manager) = self.open().await else { return };
        let settings = ProducerSettings { timeout: RETRIES, batch_records: 3, ..ProducerSettings::default() };
        let mut producers = BTreeMap::new();
        let mut sent = 0;
        while !self.is_over() {
            if let Some((topic, partition)) = manager.look(|metadata| self.choose(metadata)) {
                let begin = || Arc::new(Producer::new(manager.clone(), topic.clone(), settings));
                let producer = producers.entry(topic.clone()).or_insert_with(begin).clone();
                let mut written = JoinSet::new();
                for _ in 0..self.choices.between(1, 5) {
                    sent += 1;
                    let value = bytes::Bytes::from(format!("{}/{sent}", self.number));
                    let (producer, checkers) = (producer.clone(), self.checkers.clone());
                    written.spawn(async move {
                        let record = Record { key: None, value: value.clone() };
                        let Ok(written) = producer.send_to(partition, record).await else { return };
                        let Some(offset) = written.offset else { return };
                        lock(&checkers).heard(Told::Record { partition: written.partition, offset, value });
                    });
                }
                while written.join_next().await.is_some() {}
            }
            sleep(Duration::from_millis(self.choices.between(1, 300))).await;
        }
    }

    /// Reads on in the partition that it draws.
    pub(super) async fn consume(mut self) {
        let Some(manager) = self.open().await else { return };
        let mut consumers = BTreeMap::new();
        while !self.is_over() {
            if let Some((topic, partition)) = manager.look(|metadata| self.choose(metadata)) {
                let begin =
                    || (Consumer::new(manager.clone(), topic.clone(), partition, StartAt::Earliest), None);
                let (consumer, next) = consumers.entry((topic.clone(), partition)).or_insert_with(begin);
                match consumer.next().await {
                    Ok(records) => {
                        let Some(id) = consumer.partition() else { continue };
                        for consumed in records {
                            if let Some(due) = next.filter(|due| *due != consumed.offset) {
                                let what = format!("a consumer of {id} got {} for {due}", consumed.offset);
                                lock(&self.checkers).broken(Rule::Records, what);
                            }
                            *next = Some(consumed.offset.next());
                            let (offset, value) = (consumed.offset, consumed.record.value);
                            lock(&self.checkers).heard(Told::Record { partition: id, offset, value });
                        }
                    }
                    // Some of it was dropped, or the topic is another one now.
                    Err(_) => {
                        consumer.seek(StartAt::Earliest);
                        *next = None;
                    }
                }
            }
            sleep(Duration::from_millis(self.choices.between(1, 300))).await;
        }
    }
}
