//! The logs of partitions in redb: a table of extents, and one of batches.

use redb::{ReadTransaction, ReadableDatabase as _, ReadableTable, TableDefinition, WriteTransaction};

use super::{RedbStorage, damaged, seal_record};
use crate::driver::storage::StorageError;
use crate::id::{Offset, PartitionId, TopicId};
use crate::partition::log::{Change, Entry, Logs, Read, What};
use crate::partition::replica::io::Batch;

/// Topic and partition.
type LogKey = (u64, u32);
/// And the first offset.
type BatchKey = (u64, u32, u64);
/// Start, end, high watermark.
type Extent = (Offset, Offset, Offset);

pub(super) const LOGS: TableDefinition<'_, LogKey, &[u8]> = TableDefinition::new("partition logs");
pub(super) const BATCHES: TableDefinition<'_, BatchKey, &[u8]> = TableDefinition::new("partition batches");

type LogTable<'a> = redb::Table<'a, LogKey, &'static [u8]>;
type BatchTable<'a> = redb::Table<'a, BatchKey, &'static [u8]>;

impl RedbStorage {
    pub(super) fn read_logs(&self, transaction: &ReadTransaction) -> Result<Logs<()>, StorageError> {
        let extents = transaction.open_table(LOGS).map_err(|error| self.failed(error))?;
        let batches = transaction.open_table(BATCHES).map_err(|error| self.failed(error))?;
        let mut logs = Logs::default();
        for record in extents.iter().map_err(|error| self.failed(error))? {
            let (key, value) = record.map_err(|error| self.failed(error))?;
            let (start, end, high_watermark) = self.open_extent(key.value(), value.value())?;
            logs.begin(partition(key.value()), start, end, high_watermark);
        }
        for record in batches.iter().map_err(|error| self.failed(error))? {
            let (key, value) = record.map_err(|error| self.failed(error))?;
            let batch = self.open_batch(key.value(), value.value())?;
            let (topic, number, _) = key.value();
            if let Some(log) = logs.get_mut(partition((topic, number))) {
                log.place(Entry::of(&batch, ()));
            }
        }
        let partial = logs.iter().find(|(_, log)| !log.is_whole()).map(|(id, _)| id);
        match partial {
            None => Ok(logs),
            Some(id) => Err(damaged(&self.place, &name(key(id)), "some of its batches are missing")),
        }
    }

    pub(super) fn change_logs(
        &self,
        transaction: &WriteTransaction,
        changes: &[Change],
    ) -> Result<(), StorageError> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut extents = transaction.open_table(LOGS).map_err(|error| self.failed(error))?;
        let mut batches = transaction.open_table(BATCHES).map_err(|error| self.failed(error))?;
        for change in changes {
            self.change_log(&mut extents, &mut batches, change)?;
        }
        Ok(())
    }

    fn change_log(
        &self,
        extents: &mut LogTable<'_>,
        batches: &mut BatchTable<'_>,
        change: &Change,
    ) -> Result<(), StorageError> {
        let (topic, number) = key(change.partition);
        let found = extents.get((topic, number)).map_err(|error| self.failed(error))?;
        let found = found.map(|value| self.open_extent((topic, number), value.value())).transpose()?;
        let (mut start, mut end, mut high_watermark) = found.unwrap_or_default();
        match &change.what {
            What::Append(batch) => {
                self.put_batch(batches, (topic, number), batch)?;
                end = batch.end();
            }
            What::Truncate(to) => {
                self.drop_batches(batches, (topic, number), to.value(), u64::MAX)?;
                self.shorten_last(batches, (topic, number), *to)?;
                self.drop_trimmed(batches, (topic, number), start)?;
                end = end.min(*to).max(start);
                high_watermark = high_watermark.min(end);
            }
            What::Trim(from) => {
                start = start.max(*from);
                end = end.max(start);
                self.drop_trimmed(batches, (topic, number), start)?;
            }
            What::Restart(from) => {
                self.drop_batches(batches, (topic, number), 0, u64::MAX)?;
                (start, end, high_watermark) = (*from, *from, *from);
            }
            What::Committed(to) => high_watermark = *to,
            What::Remove => {
                self.drop_batches(batches, (topic, number), 0, u64::MAX)?;
                extents.remove((topic, number)).map_err(|error| self.failed(error))?;
                return Ok(());
            }
        }
        if found.is_none() && !matches!(change.what, What::Append(_) | What::Restart(_)) {
            return Ok(());
        }
        let record = seal_record(&sealed(topic, number, 0), &(start, end, high_watermark));
        extents.insert((topic, number), record.as_slice()).map_err(|error| self.failed(error))?;
        Ok(())
    }

    fn put_batch(
        &self,
        batches: &mut BatchTable<'_>,
        (topic, number): LogKey,
        batch: &Batch,
    ) -> Result<(), StorageError> {
        let first = batch.first.value();
        let record = seal_record(&sealed(topic, number, first), batch);
        batches.insert((topic, number, first), record.as_slice()).map_err(|error| self.failed(error))?;
        Ok(())
    }

    fn drop_batches(
        &self,
        batches: &mut BatchTable<'_>,
        (topic, number): LogKey,
        first: u64,
        last: u64,
    ) -> Result<(), StorageError> {
        let range = (topic, number, first)..=(topic, number, last);
        batches.retain_in(range, |_, _| false).map_err(|error| self.failed(error))
    }

    /// The last batch before `end`, if there is one.
    fn last_batch(
        &self,
        batches: &impl ReadableTable<BatchKey, &'static [u8]>,
        (topic, number): LogKey,
        end: u64,
    ) -> Result<Option<Batch>, StorageError> {
        let range = (topic, number, 0)..(topic, number, end);
        let last = batches.range(range).map_err(|error| self.failed(error))?.next_back();
        let Some(last) = last.transpose().map_err(|error| self.failed(error))? else { return Ok(None) };
        let (key, value) = last;
        self.open_batch(key.value(), value.value()).map(Some)
    }

    fn shorten_last(
        &self,
        batches: &mut BatchTable<'_>,
        key: LogKey,
        end: Offset,
    ) -> Result<(), StorageError> {
        let Some(mut last) = self.last_batch(batches, key, end.value())? else { return Ok(()) };
        if last.end() > end {
            last.count = u32::try_from(end.value() - last.first.value()).unwrap_or(last.count);
            self.put_batch(batches, key, &last)?;
        }
        Ok(())
    }

    fn drop_trimmed(
        &self,
        batches: &mut BatchTable<'_>,
        key: LogKey,
        start: Offset,
    ) -> Result<(), StorageError> {
        let straddles = self.last_batch(batches, key, start.value())?.filter(|batch| batch.end() > start);
        let below = straddles.map_or(start, |batch| batch.first).value();
        match below.checked_sub(1) {
            Some(last) => self.drop_batches(batches, key, 0, last),
            None => Ok(()),
        }
    }

    pub(super) fn read_batches(&self, read: &Read) -> Result<Vec<Batch>, StorageError> {
        let transaction = self.database.begin_read().map_err(|error| self.failed(error))?;
        let batches = transaction.open_table(BATCHES).map_err(|error| self.failed(error))?;
        let log = key(read.partition);
        let before = self.last_batch(&batches, log, read.from.value())?;
        let first = before.filter(|batch| batch.end() > read.from).map_or(read.from, |batch| batch.first);
        let range = (log.0, log.1, first.value())..=(log.0, log.1, u64::MAX);
        let mut found: Vec<Batch> = Vec::new();
        let mut left = read.bytes;
        for record in batches.range(range).map_err(|error| self.failed(error))? {
            let (key, value) = record.map_err(|error| self.failed(error))?;
            let batch = self.open_batch(key.value(), value.value())?;
            let length = batch.records.len();
            if !found.is_empty() && (length > left || batch.end() > read.until) {
                break;
            }
            left = left.saturating_sub(length);
            found.push(batch);
        }
        Ok(found)
    }

    fn open_extent(&self, (topic, number): LogKey, value: &[u8]) -> Result<Extent, StorageError> {
        self.open_record(&name((topic, number)), &sealed(topic, number, 0), value)
    }

    fn open_batch(&self, (topic, number, first): BatchKey, value: &[u8]) -> Result<Batch, StorageError> {
        let name = format!("the batch at {first} of {}", name((topic, number)));
        let batch: Batch = self.open_record(&name, &sealed(topic, number, first), value)?;
        if batch.first != Offset::new(first) {
            return Err(damaged(&self.place, &name, &format!("it holds the batch at {}", batch.first)));
        }
        Ok(batch)
    }
}

fn key(partition: PartitionId) -> LogKey {
    (partition.topic.value(), partition.number)
}

fn partition((topic, number): LogKey) -> PartitionId {
    PartitionId { topic: TopicId::new(topic), number }
}

fn name((topic, number): LogKey) -> String {
    format!("the log of partition {number} of topic {topic}")
}

/// The key of a record, as its checksum covers it.
fn sealed(topic: u64, number: u32, first: u64) -> Vec<u8> {
    [&topic.to_le_bytes()[..], &number.to_le_bytes(), &first.to_le_bytes()].concat()
}
