//! The logs of partitions, as a disk has them: what is to become of them, what was there, and what is read.
//!
//! ```text
//!   replicas ── Change, Change, … ──► a write batch, beside the entries of Raft ──► disk
//!            ── Read ───────────────────────────────────────────────────────────► disk ── batches ──►
//!   start of a process: disk ── Stored, for each log ──► replicas
//! ```
//!
//! A log is a row of batches without a gap. It is cut off at its end, and trimmed at its start, where a batch begins; a disk
//! that is asked for anything else keeps what is left of the batch, with fewer records.
//!
//! [`Logs`] are all logs of a disk, with the records themselves or with the places where they are. A disk that keeps its
//! batches somewhere else keeps them by these rules; with the records, it is what every disk must agree with.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::replica::Extent;
use super::replica::epochs::Epochs;
use super::replica::io::{Batch, Stamp};
use super::replica::producers::Producers;
use super::retention::Chunks;
use crate::id::{LeaderEpoch, Offset, PartitionId};
use crate::time::WallSeconds;

/// What is to become of a log.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Change {
    /// Whose log.
    pub partition: PartitionId,
    /// What.
    pub what: What,
}

/// What is to become of a log. Changes of one log are made in their order.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum What {
    /// These records come at its end; if there is no log yet, it begins with them.
    Append(Batch),
    /// What is from there on is dropped.
    Truncate(Offset),
    /// What is before that is dropped.
    Trim(Offset),
    /// Everything is dropped, and it begins anew there.
    Restart(Offset),
    /// What is before that is committed.
    Committed(Offset),
    /// There is no such log any more.
    Remove,
}

/// A log that is on the disk when a process starts.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Stored {
    /// Whose log it is.
    pub partition: PartitionId,
    /// Where it begins.
    pub start: Offset,
    /// Where it ends.
    pub end: Offset,
    /// The leader epochs in it.
    pub epochs: Epochs,
    /// Whose batches are in it.
    pub producers: Producers,
    /// How much was written when.
    pub chunks: Chunks,
    /// What was committed, or less.
    pub high_watermark: Offset,
}

impl Stored {
    /// An empty log that begins at `start`.
    #[must_use]
    pub fn new(partition: PartitionId, start: Offset, high_watermark: Offset) -> Stored {
        let (epochs, producers, chunks) = (Epochs::default(), Producers::default(), Chunks::default());
        Stored { partition, start, end: start, epochs, producers, chunks, high_watermark }
    }

    /// The next batch in it is this one, whose records are somewhere else. The first one may begin before the log does.
    pub fn push<T>(&mut self, entry: &Entry<T>) {
        let first = entry.first;
        self.epochs.begin(entry.epoch, first.max(self.start));
        self.end = entry.end();
        self.chunks.push(first, self.end, entry.length, entry.time);
        if let Some(stamp) = entry.stamp {
            self.producers.add(stamp, first, entry.count, self.high_watermark);
        }
    }

    /// What a replica starts with.
    #[must_use]
    pub fn replica(&self) -> super::replica::Stored {
        let log = Extent::stored(self.start, self.end);
        super::replica::Stored { log, epochs: self.epochs.clone(), high_watermark: self.high_watermark }
    }
}

/// What is read from a log.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Read {
    /// Whose log.
    pub partition: PartitionId,
    /// From here on: the batch that has this record comes first.
    pub from: Offset,
    /// No batch that ends after that, unless it is the first.
    pub until: Offset,
    /// So many bytes of records are enough; one batch comes in any case.
    pub bytes: usize,
}

/// All logs of a disk, with what `T` says of the records of each batch.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Logs<T>(BTreeMap<PartitionId, Log<T>>);

/// One log.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Log<T> {
    start: Offset,
    end: Offset,
    high_watermark: Offset,
    batches: VecDeque<Entry<T>>,
}

/// One batch of a log.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Entry<T> {
    /// The place of its first record.
    pub first: Offset,
    /// Of the leader that wrote it.
    pub epoch: LeaderEpoch,
    /// How many records it has, from 1.
    pub count: u32,
    /// Whose it is.
    pub stamp: Option<Stamp>,
    /// When it was written.
    pub time: WallSeconds,
    /// How many bytes its records have, with those that were cut off.
    pub length: u32,
    /// Where the records are.
    pub records: T,
}

impl<T> Entry<T> {
    /// A batch whose records are there.
    #[must_use]
    pub fn of(batch: &Batch, records: T) -> Entry<T> {
        let Batch { first, epoch, count, stamp, time, .. } = *batch;
        // A batch with more could not be sent.
        let length = u32::try_from(batch.records.len()).unwrap_or(u32::MAX);
        Entry { first, epoch, count, stamp, time, length, records }
    }

    /// The same batch, with its records somewhere else.
    #[must_use]
    pub fn with<U>(&self, records: U) -> Entry<U> {
        let Entry { first, epoch, count, stamp, time, length, .. } = *self;
        Entry { first, epoch, count, stamp, time, length, records }
    }

    /// The place after its last record.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.first.plus(self.count.into())
    }
}

impl<T> Default for Logs<T> {
    fn default() -> Logs<T> {
        Logs(BTreeMap::new())
    }
}

impl<T> Logs<T> {
    /// A batch comes at the end of a log, which begins with it if there is none.
    pub fn append(&mut self, partition: PartitionId, entry: Entry<T>) {
        let log = self.0.entry(partition).or_insert_with(|| Log::new(Offset::default()));
        log.end = entry.end();
        log.batches.push_back(entry);
    }

    fn apply_with(&mut self, change: &Change, keep: impl Fn(&Bytes) -> T) {
        match &change.what {
            What::Append(batch) => {
                self.append(change.partition, Entry::of(batch, keep(&batch.records)));
            }
            what @ (What::Truncate(_)
            | What::Trim(_)
            | What::Restart(_)
            | What::Committed(_)
            | What::Remove) => {
                self.change(change.partition, what);
            }
        }
    }

    /// Makes a change that is not an append.
    pub fn change(&mut self, partition: PartitionId, what: &What) {
        match what {
            What::Append(_) => {}
            What::Truncate(end) => {
                if let Some(log) = self.0.get_mut(&partition) {
                    log.truncate(*end);
                }
            }
            What::Trim(start) => {
                if let Some(log) = self.0.get_mut(&partition) {
                    log.start = log.start.max(*start);
                    log.end = log.end.max(log.start);
                    log.drop_trimmed();
                }
            }
            What::Restart(start) => drop(self.0.insert(partition, Log::new(*start))),
            What::Committed(end) => {
                if let Some(log) = self.0.get_mut(&partition) {
                    log.high_watermark = *end;
                }
            }
            What::Remove => drop(self.0.remove(&partition)),
        }
    }

    /// There is a log of this extent, whose batches are [placed](Log::place) later.
    pub fn begin(&mut self, partition: PartitionId, start: Offset, end: Offset, high_watermark: Offset) {
        let log = Log { start, end, high_watermark, batches: VecDeque::new() };
        self.0.insert(partition, log);
    }

    /// The same logs, with something else about the records.
    #[must_use]
    pub fn map<U>(&self, records: impl Fn(&T) -> U) -> Logs<U> {
        let entry = |entry: &Entry<T>| entry.with(records(&entry.records));
        let log = |(partition, log): (&PartitionId, &Log<T>)| {
            let Log { start, end, high_watermark, .. } = *log;
            let batches = log.batches.iter().map(entry).collect();
            (*partition, Log { start, end, high_watermark, batches })
        };
        Logs(self.0.iter().map(log).collect())
    }

    /// One log, if there is one.
    #[must_use]
    pub fn get(&self, partition: PartitionId) -> Option<&Log<T>> {
        self.0.get(&partition)
    }

    /// One log, if there is one, to place its batches.
    pub fn get_mut(&mut self, partition: PartitionId) -> Option<&mut Log<T>> {
        self.0.get_mut(&partition)
    }

    /// All logs.
    pub fn iter(&self) -> impl Iterator<Item = (PartitionId, &Log<T>)> {
        self.0.iter().map(|(partition, log)| (*partition, log))
    }

    /// What a process finds when it starts.
    #[must_use]
    pub fn stored(&self) -> Vec<Stored> {
        let stored = |(partition, log): (&PartitionId, &Log<T>)| {
            let mut stored = Stored::new(*partition, log.start, log.high_watermark);
            log.batches.iter().for_each(|batch| stored.push(batch));
            stored
        };
        self.0.iter().map(stored).collect()
    }
}

impl<T> Log<T> {
    fn new(start: Offset) -> Log<T> {
        Log { start, end: start, high_watermark: start, batches: VecDeque::new() }
    }

    /// Where it begins.
    #[must_use]
    pub fn start(&self) -> Offset {
        self.start
    }

    /// Where it ends.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.end
    }

    /// What was committed, or less.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// All batches, the first one first.
    pub fn batches(&self) -> impl Iterator<Item = &Entry<T>> {
        self.batches.iter()
    }

    fn truncate(&mut self, end: Offset) {
        while let Some(mut last) = self.batches.pop_back_if(|batch| batch.end() > end) {
            if last.first < end {
                last.count = u32::try_from(end.value() - last.first.value()).unwrap_or(last.count);
                self.batches.push_back(last);
                break;
            }
        }
        self.end = self.end.min(end).max(self.start);
        self.high_watermark = self.high_watermark.min(self.end);
        self.drop_trimmed();
    }

    fn drop_trimmed(&mut self) {
        while self.batches.pop_front_if(|batch| batch.end() <= self.start).is_some() {}
    }

    /// A batch of it is here, wherever it was before.
    pub fn place(&mut self, entry: Entry<T>) {
        let place = self.batches.partition_point(|batch| batch.first < entry.first);
        match self.batches.get_mut(place) {
            Some(batch) if batch.first == entry.first => batch.records = entry.records,
            Some(_) | None => self.batches.insert(place, entry),
        }
    }

    /// The batch that begins there.
    #[must_use]
    pub fn find(&self, first: Offset) -> Option<&Entry<T>> {
        let place = self.batches.partition_point(|batch| batch.first < first);
        self.batches.get(place).filter(|batch| batch.first == first)
    }

    /// Whether there is a batch for each of its records.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let mut at = self.start;
        for batch in &self.batches {
            let follows = batch.first == at || (at == self.start && batch.first <= at && at < batch.end());
            if !follows {
                return false;
            }
            at = batch.end();
        }
        at == self.end
    }

    /// The batches that are to be [read](Read).
    pub fn select(&self, read: &Read) -> impl Iterator<Item = &Entry<T>> {
        let place = self.batches.partition_point(|batch| batch.end() <= read.from);
        let (until, mut left, mut is_first) = (read.until, read.bytes, true);
        self.batches.iter().skip(place).take_while(move |batch| {
            let bytes = usize::try_from(batch.length).unwrap_or(usize::MAX);
            let fits = is_first || (batch.end() <= until && bytes <= left);
            left = left.saturating_sub(bytes);
            is_first = false;
            fits
        })
    }
}

impl Logs<()> {
    /// Makes a change, without the records.
    pub fn note(&mut self, change: &Change) {
        self.apply_with(change, |_| ());
    }
}

impl Logs<Bytes> {
    /// Makes a change.
    pub fn apply(&mut self, change: &Change) {
        self.apply_with(change, Bytes::clone);
    }

    /// Reads batches.
    #[must_use]
    pub fn read(&self, read: &Read) -> Vec<Batch> {
        let Some(log) = self.get(read.partition) else { return Vec::new() };
        log.select(read).map(|entry| entry.batch(entry.records.clone())).collect()
    }
}

impl<T> Entry<T> {
    /// The batch, with its records.
    #[must_use]
    pub fn batch(&self, records: Bytes) -> Batch {
        let Entry { first, epoch, count, stamp, time, .. } = *self;
        Batch { first, epoch, count, stamp, time, records }
    }
}
