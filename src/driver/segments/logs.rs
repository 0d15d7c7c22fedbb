//! The logs of partitions in the segments: where their batches are, and how a segment gets rid of them.
//!
//! Batches of all partitions stand in the records of the write batches, beside the entries of Raft, and an [`Index`] in
//! memory says where. The records themselves, the *payloads*, follow on what else is in a record of the log, so that one of them can be
//! read alone:
//!
//! ```text
//!   record:  header │ state of Raft, entries, heads of batches │ payload │ payload │ …
//! ```
//!
//! A log that is written to seldom would keep old segments for ever, and all that are younger with them. So when there are
//! more than twice as many as what is alive needs, and [`SLACK`] more, what is alive in the first one is *moved*: a little of it goes
//! into each of the next write batches, until the segment can be used again.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::{LeaderEpoch, Offset, PartitionId};
use crate::partition::log::{self, Entry, Logs, What};
use crate::partition::replica::io::Stamp;
use crate::time::WallSeconds;

/// So many segments more than twice the needed ones may be there.
const SLACK: usize = 4;
/// So many bytes are moved with a write batch, or one batch of records.
const MOVED_AT_A_TIME: usize = 256 * 1024;

/// Where the batches of all logs are.
pub(super) type Index = Logs<Place>;

/// Where a payload is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) at: u64,
    pub(super) length: u32,
}

/// A log's extent: what a segment begins with.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct LogState {
    partition: PartitionId,
    start: Offset,
    end: Offset,
    high_watermark: Offset,
}

/// What becomes of a log, without the payloads.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct LogRecord {
    partition: PartitionId,
    what: LogWhat,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
enum LogWhat {
    /// A batch comes at the end.
    Append(Head),
    /// A batch that was somewhere else is here now.
    Moved(Head),
    /// Anything else.
    Change(What),
}

/// A batch without its payload.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Head {
    first: Offset,
    epoch: LeaderEpoch,
    count: u32,
    stamp: Option<Stamp>,
    time: WallSeconds,
    length: u32,
}

impl Head {
    fn of<T>(entry: &Entry<T>) -> Head {
        let Entry { first, epoch, count, stamp, time, length, .. } = *entry;
        Head { first, epoch, count, stamp, time, length }
    }

    fn entry(&self, place: Place) -> Entry<Place> {
        let Head { first, epoch, count, stamp, time, length } = *self;
        Entry { first, epoch, count, stamp, time, length, records: place }
    }
}

/// What a write batch says of logs, and the payloads that go with it.
#[derive(Debug, Default)]
pub(super) struct Writing {
    pub(super) records: Vec<LogRecord>,
    payloads: Vec<Bytes>,
}

impl Writing {
    pub(super) fn of(changes: &[log::Change]) -> Writing {
        let mut writing = Writing::default();
        for change in changes {
            let what = match &change.what {
                What::Append(batch) => {
                    writing.payloads.push(batch.records.clone());
                    LogWhat::Append(Head::of(&Entry::of(batch, ())))
                }
                other @ (What::Truncate(_)
                | What::Trim(_)
                | What::Restart(_)
                | What::Committed(_)
                | What::Remove) => LogWhat::Change(other.clone()),
            };
            writing.records.push(LogRecord { partition: change.partition, what });
        }
        writing
    }

    /// A batch is copied here from where it was. It must come before what the write batch changes: that may cut it off.
    fn moved(&mut self, partition: PartitionId, entry: &Entry<Place>, payload: Bytes) {
        let what = LogWhat::Moved(Head::of(entry));
        self.records.push(LogRecord { partition, what });
        self.payloads.push(payload);
    }

    /// Puts the payloads behind what is in `buffer`. Returns how many bytes they are.
    pub(super) fn put(&self, buffer: &mut Vec<u8>) -> usize {
        let before = buffer.len();
        self.payloads.iter().for_each(|payload| buffer.extend_from_slice(payload));
        buffer.len() - before
    }

    fn append(&mut self, other: Writing) {
        self.records.extend(other.records);
        self.payloads.extend(other.payloads);
    }
}

/// How many bytes of payloads belong to these.
pub(super) fn payload_bytes(records: &[LogRecord]) -> u64 {
    let length = |record: &LogRecord| match record.what {
        LogWhat::Append(head) | LogWhat::Moved(head) => u64::from(head.length),
        LogWhat::Change(_) => 0,
    };
    records.iter().map(length).sum()
}

/// Does to the index what a record says, whose payloads begin at `at` in `segment`.
pub(super) fn replay(index: &mut Index, records: &[LogRecord], segment: u64, mut at: u64) {
    for LogRecord { partition, what } in records {
        match what {
            LogWhat::Append(head) => {
                index.append(*partition, head.entry(Place { segment, at, length: head.length }));
                at += u64::from(head.length);
            }
            LogWhat::Moved(head) => {
                if let Some(log) = index.get_mut(*partition) {
                    log.place(head.entry(Place { segment, at, length: head.length }));
                }
                at += u64::from(head.length);
            }
            LogWhat::Change(what) => index.change(*partition, what),
        }
    }
}

/// The extents of all logs.
pub(super) fn states(index: &Index) -> Vec<LogState> {
    let state = |(partition, log): (PartitionId, &log::Log<Place>)| LogState {
        partition,
        start: log.start(),
        end: log.end(),
        high_watermark: log.high_watermark(),
    };
    index.iter().map(state).collect()
}

/// Logs of these extents, whose batches are found later.
pub(super) fn begin(states: &[LogState]) -> Index {
    let mut index = Index::default();
    for LogState { partition, start, end, high_watermark } in states {
        index.begin(*partition, *start, *end, *high_watermark);
    }
    index
}

/// Tells whether something of a log is in `segment`.
pub(super) fn is_in_use(index: &Index, segment: u64) -> bool {
    index.iter().flat_map(|(_, log)| log.batches()).any(|batch| batch.records.segment == segment)
}

fn live_bytes(index: &Index) -> u64 {
    index.iter().flat_map(|(_, log)| log.batches()).map(|batch| u64::from(batch.records.length)).sum()
}

/// What is moved out of the first segment.
#[derive(Debug, Default)]
pub(super) struct Mover {
    segment: u64,
    left: VecDeque<(PartitionId, Offset)>,
}

impl Mover {
    /// Begins to empty `segment`, if `full` segments of `segment_bytes` are too many.
    pub(super) fn begin(&mut self, index: &Index, segment: u64, full: usize, segment_bytes: u64) {
        let needed = usize::try_from(live_bytes(index).div_ceil(segment_bytes)).unwrap_or(usize::MAX);
        if !self.left.is_empty() || full <= needed.saturating_mul(2).saturating_add(SLACK) {
            return;
        }
        let is_there = |entry: &&Entry<Place>| entry.records.segment == segment;
        for (partition, log) in index.iter() {
            let batches = log.batches().filter(is_there).map(|entry| (partition, entry.first));
            self.left.extend(batches);
        }
        self.segment = segment;
    }

    /// Puts some of it before what a write batch says. Returns whether that was the last.
    pub(super) fn go_on(
        &mut self,
        index: &Index,
        writing: &mut Writing,
        mut read: impl FnMut(Place) -> io::Result<Bytes>,
    ) -> io::Result<bool> {
        if self.left.is_empty() {
            return Ok(false);
        }
        let mut moved = Writing::default();
        let mut bytes = 0;
        while bytes < MOVED_AT_A_TIME
            && let Some((partition, first)) = self.left.pop_front()
        {
            let log = index.get(partition);
            let found = log.and_then(|log| log.find(first));
            let Some(entry) = found.filter(|entry| entry.records.segment == self.segment) else { continue };
            let payload = read(entry.records)?;
            bytes += payload.len();
            moved.moved(partition, entry, payload);
        }
        moved.append(core::mem::take(writing));
        *writing = moved;
        Ok(self.left.is_empty())
    }
}
