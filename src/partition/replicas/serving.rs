//! What followers and consumers are sent: from memory, or from the disk.

use core::time::Duration;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Replicas;
use super::hosted::Hosted;
use super::io::{Answer as Told, AskError, Consume, Delivery, Message, Output, offset_error};
use crate::id::{NodeId, Offset, PartitionId, ReadId, RequestId};
use crate::partition::log::Read;
use crate::partition::replica::Replica;
use crate::partition::replica::io::{Answer, Batch, Fetch, FetchRefusal, Fetched};
use crate::time::Instant;

/// How long a consumer waits at least, and at most.
const WAIT_MIN: Duration = Duration::from_millis(1);
const WAIT_MAX: Duration = Duration::from_secs(30);

/// A follower that waits for news.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Parked {
    fetch: Fetch,
    /// Whether it said that again since it was told something.
    is_fresh: bool,
    /// What is being read for it.
    reading: Option<ReadId>,
}

/// A consumer that waits for news.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Consumer {
    request: RequestId,
    consume: Consume,
    until: Instant,
    reading: Option<ReadId>,
    /// What was committed when it was last read for.
    read_to: Option<Offset>,
}

impl Consumer {
    pub(super) fn new(request: RequestId, consume: Consume, now: Instant) -> Consumer {
        let until = now + consume.wait.clamp(WAIT_MIN, WAIT_MAX);
        Consumer { request, consume, until, reading: None, read_to: None }
    }
}

/// For whom the disk reads, and of which log.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Reading {
    partition: PartitionId,
    life: u64,
    cuts: u64,
    reader: Reader,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
enum Reader {
    Follower(NodeId),
    Consumer(RequestId),
}

/// What a follower is sent at a time.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Answers {
    pub(super) deliveries: Vec<Delivery>,
    bytes: usize,
}

impl Answers {
    fn push(&mut self, delivery: Delivery) {
        self.bytes += delivery.length();
        self.deliveries.push(delivery);
    }
}

impl Delivery {
    fn length(&self) -> usize {
        self.records.iter().map(|batch| batch.records.len()).sum()
    }
}

/// Where records come from.
enum Found {
    Here(Vec<Batch>),
    OnDisk(Read),
}

impl Hosted {
    /// The records from `from` on, up to `until`.
    fn find(&self, partition: PartitionId, from: Offset, until: Offset, bytes: usize) -> Found {
        match self.tail.read(from, until, bytes) {
            Some(batches) => Found::Here(batches),
            None => {
                // What is in memory need not be read.
                let until = until.min(self.tail.first().unwrap_or(until));
                Found::OnDisk(Read { partition, from, until, bytes })
            }
        }
    }
}

impl Replicas {
    /// A follower says what it has.
    pub(super) fn serve(&mut self, now: Instant, from: NodeId, id: PartitionId, fetch: Fetch) {
        let Some(hosted) = self.hosted.get_mut(&id) else {
            let fetched = Fetched { fetch, answer: Answer::Refused(FetchRefusal::NotLeader) };
            return self
                .send_deliveries(from, vec![Delivery { partition: id, fetched, records: Vec::new() }]);
        };
        let fetched = hosted.replica.serve(now, from, fetch);
        if matches!(fetched.answer, Answer::Matches { .. }) {
            let before = hosted.parked.get(&from).filter(|before| before.fetch == fetch);
            let (is_fresh, reading) = (before.is_some(), before.and_then(|before| before.reading));
            hosted.parked.insert(from, Parked { fetch, is_fresh, reading });
        } else {
            hosted.parked.remove(&from);
            self.send_deliveries(from, vec![Delivery { partition: id, fetched, records: Vec::new() }]);
        }
        self.carry_out(id);
    }

    /// Followers that wait are sent what there is.
    pub(super) fn answer_followers(&mut self, id: PartitionId, deliveries: &mut BTreeMap<NodeId, Answers>) {
        let Some(hosted) = self.hosted.get_mut(&id) else { return };
        let mut reads = Vec::new();
        for (node, parked) in core::mem::take(&mut hosted.parked) {
            let fetched = hosted.replica.serve_again(node, parked.fetch);
            let answers = deliveries.entry(node).or_default();
            let left = self.settings.message_bytes.saturating_sub(answers.bytes);
            let bytes = self.settings.answer_bytes.min(left);
            let mut deliver =
                |records| answers.push(Delivery { partition: id, fetched: fetched.clone(), records });
            let Answer::Matches { high_watermark, start } = fetched.answer else {
                deliver(Vec::new());
                continue;
            };
            let (from, end) = (parked.fetch.at, hosted.replica.log().end);
            if from == end {
                // That is told when it asks again, or with the next records.
                // Less than it knows is no news: it would not take that over, and ask again at once.
                let (committed, begins) = parked.fetch.knows;
                if parked.is_fresh && (high_watermark > committed || start > begins) {
                    deliver(Vec::new());
                }
                hosted.parked.insert(node, Parked { is_fresh: false, ..parked });
            } else if parked.reading.is_some() {
                hosted.parked.insert(node, parked);
            } else {
                match hosted.find(id, from, end, bytes) {
                    Found::Here(records) => deliver(records),
                    Found::OnDisk(read) => {
                        hosted.parked.insert(node, parked);
                        reads.push((Reader::Follower(node), read));
                    }
                }
            }
        }
        reads.into_iter().for_each(|(reader, read)| self.begin_read(reader, read));
    }

    fn begin_read(&mut self, reader: Reader, read: Read) {
        let Some(hosted) = self.hosted.get_mut(&read.partition) else { return };
        self.last_read = self.last_read.next();
        let id = self.last_read;
        if let Some(reading) = hosted.reading(reader) {
            *reading = Some(id);
        }
        let (life, cuts) = (hosted.life, hosted.replica.cuts());
        self.reads.insert(id, Reading { partition: read.partition, life, cuts, reader });
        self.outputs.push_back(Output::Read { id, read });
    }

    /// The disk has read what was asked for.
    pub fn handle_read(&mut self, id: ReadId, batches: Vec<Batch>) {
        let Some(Reading { partition, life, cuts, reader }) = self.reads.remove(&id) else { return };
        let Some(hosted) = self.hosted.get_mut(&partition).filter(|hosted| hosted.life == life) else {
            return;
        };
        // Another read may have been begun since, for another question of the same reader.
        if !hosted.end_reading(reader, id) {
            return;
        }
        self.touched.insert(partition);
        if hosted.replica.cuts() != cuts || batches.is_empty() {
            return;
        }
        match reader {
            Reader::Follower(node) => {
                let Some(parked) = hosted.parked.get(&node) else { return };
                let fetched = hosted.replica.serve_again(node, parked.fetch);
                let is_answer = matches!(fetched.answer, Answer::Matches { .. });
                let fits = batches.first().is_some_and(|batch| batch.first == parked.fetch.at);
                // Who asks from the middle of a batch gets nothing, and is not read for again until it asks again.
                hosted.parked.remove(&node);
                if is_answer && fits {
                    self.send_deliveries(node, vec![Delivery { partition, fetched, records: batches }]);
                }
            }
            Reader::Consumer(request) => {
                let end = hosted.replica.high_watermark();
                if let Some(consumer) = hosted.consumer(request) {
                    consumer.read_to = Some(end);
                }
                self.answer_consumer(partition, request, batches);
            }
        }
    }

    /// Sends answers, in as few messages as may be.
    pub(super) fn send_deliveries(&mut self, to: NodeId, deliveries: Vec<Delivery>) {
        let mut open = Vec::new();
        let mut bytes = 0;
        for delivery in deliveries {
            let length = delivery.length();
            if bytes + length > self.settings.message_bytes && !open.is_empty() {
                let message = Message::Fetched(core::mem::take(&mut open));
                self.outputs.push_back(Output::Send { to, message });
                bytes = 0;
            }
            bytes += length;
            open.push(delivery);
        }
        if !open.is_empty() {
            self.outputs.push_back(Output::Send { to, message: Message::Fetched(open) });
        }
    }

    /// Whether a consumer can be served from there, now or when there is news.
    pub(super) fn consume_from(&self, id: PartitionId, consume: &Consume) -> Result<(), AskError> {
        let hosted = self.hosted.get(&id).ok_or(AskError::PartitionUnknown(id))?;
        let replica = &hosted.replica;
        let record = &replica.view().partition;
        let not_leader = |error| offset_error(error, record.leader, record.leader_epoch);
        let latest = replica.latest();
        if replica.leads().is_none() && !consume.from_anybody {
            return Err(latest.map_or_else(not_leader, |_| AskError::NotAvailable));
        }
        let (start, end) = (replica.log().start, replica.high_watermark());
        let is_too_early = consume.from < start;
        // A new leader does not know yet whether there is more, and neither does a follower.
        let is_too_late = consume.from > end && latest.is_ok();
        if is_too_early || is_too_late { Err(AskError::OutOfRange { start, end }) } else { Ok(()) }
    }

    pub(super) fn park_consumer(&mut self, id: PartitionId, consumer: Consumer) {
        let Some(hosted) = self.hosted.get_mut(&id) else { return };
        hosted.consumers.push(consumer);
        self.patience.insert((consumer.until, consumer.request, id));
        self.touched.insert(id);
    }

    /// Consumers that wait are sent what is committed.
    pub(super) fn answer_consumers(&mut self, id: PartitionId) {
        let Some(hosted) = self.hosted.get(&id) else { return };
        let end = hosted.replica.high_watermark();
        let mut all = Vec::new();
        for consumer in &hosted.consumers {
            let Consumer { request, consume, reading, read_to, .. } = *consumer;
            if let Err(error) = self.consume_from(id, &consume) {
                all.push((request, Err(error)));
            } else if consume.from < end && reading.is_none() && read_to != Some(end) {
                let bytes = usize::try_from(consume.bytes).unwrap_or(usize::MAX);
                let bytes = bytes.min(self.settings.answer_bytes);
                all.push((request, Ok(hosted.find(id, consume.from, end, bytes))));
            }
        }
        for (request, found) in all {
            match found {
                Ok(Found::Here(batches)) => self.answer_consumer(id, request, batches),
                Ok(Found::OnDisk(read)) => self.begin_read(Reader::Consumer(request), read),
                Err(error) => self.dismiss(id, request, Err(error)),
            }
        }
    }

    fn answer_consumer(&mut self, id: PartitionId, request: RequestId, mut batches: Vec<Batch>) {
        let Some(hosted) = self.hosted.get(&id) else { return };
        let high_watermark = hosted.replica.high_watermark();
        // One batch comes in any case, but nothing that may still be lost.
        batches.retain(|batch| batch.end() <= high_watermark);
        if !batches.is_empty() {
            self.dismiss(id, request, Ok(Told::Consumed { batches, high_watermark }));
        }
    }

    /// A consumer does not wait any more.
    fn dismiss(&mut self, id: PartitionId, request: RequestId, answer: Result<Told, AskError>) {
        let Some(hosted) = self.hosted.get_mut(&id) else { return };
        let place = hosted.consumers.iter().position(|consumer| consumer.request == request);
        let Some(consumer) = place.map(|place| hosted.consumers.remove(place)) else { return };
        self.patience.remove(&(consumer.until, request, id));
        self.reply(request, answer);
    }

    /// There was no news for as long as a consumer wanted to wait. One for which the disk reads has news.
    pub(super) fn dismiss_consumers(&mut self, now: Instant) {
        while self.patience.first().is_some_and(|(at, _, _)| *at <= now) {
            let Some((_, request, id)) = self.patience.pop_first() else { return };
            let consumer = self.hosted.get_mut(&id).and_then(|hosted| hosted.consumer(request));
            if let Some(consumer) = consumer.filter(|consumer| consumer.reading.is_some()) {
                consumer.until = now + WAIT_MAX;
                self.patience.insert((consumer.until, request, id));
                continue;
            }
            let high_watermark = self.replica(id).map(Replica::high_watermark).unwrap_or_default();
            self.dismiss(id, request, Ok(Told::Consumed { batches: Vec::new(), high_watermark }));
        }
    }

    /// A replica is gone, and with it whoever waits for it.
    pub(super) fn dismiss_all(&mut self, hosted: &mut Hosted) {
        let record = &hosted.replica.view().partition;
        let (leader, epoch) = (record.leader.filter(|leader| *leader != self.own), record.leader_epoch);
        for consumer in hosted.consumers.drain(..) {
            self.patience.retain(|(_, request, _)| *request != consumer.request);
            self.outputs.push_back(Output::Reply {
                request: consumer.request,
                answer: Err(AskError::NotLeader { leader, address: None, epoch }),
            });
        }
    }

    pub(super) fn offsets(&self, id: PartitionId) -> Result<Told, AskError> {
        let hosted = self.hosted.get(&id).ok_or(AskError::PartitionUnknown(id))?;
        let (replica, record) = (&hosted.replica, &hosted.replica.view().partition);
        let high_watermark =
            replica.latest().map_err(|error| offset_error(error, record.leader, record.leader_epoch))?;
        let (log, followers) = (replica.log(), replica.followers());
        Ok(Told::Offsets { start: log.start, high_watermark, end: log.end, followers })
    }
}

impl Hosted {
    fn consumer(&mut self, request: RequestId) -> Option<&mut Consumer> {
        self.consumers.iter_mut().find(|consumer| consumer.request == request)
    }

    /// What is read for somebody.
    fn reading(&mut self, reader: Reader) -> Option<&mut Option<ReadId>> {
        match reader {
            Reader::Follower(node) => self.parked.get_mut(&node).map(|parked| &mut parked.reading),
            Reader::Consumer(request) => self.consumer(request).map(|consumer| &mut consumer.reading),
        }
    }

    /// That read has ended. Tells whether somebody waits for it.
    fn end_reading(&mut self, reader: Reader, id: ReadId) -> bool {
        self.reading(reader).is_some_and(|reading| reading.take_if(|read| *read == id).is_some())
    }
}
