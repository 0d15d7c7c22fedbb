//! The segment log: batches one after the other in preallocated files, one write and one sync a batch.
//!
//! # The problem
//!
//! Every acknowledged command waits for a sync, and a general store makes two or more of them and moves
//! pages about. A log needs none of that: it only grows at its end.
//!
//! # The idea
//!
//! A *segment* is a file of zeros that were written and synced before it is used, so that a batch changes
//! no length and no block map, and one `fdatasync` is one write to the disk. A batch is one
//! [`record`]. When a segment is full the next one begins, with everything that is
//! not an entry as its first record; so a segment is needed only for its entries, and when a snapshot
//! stands for all of them it is used again under a new number.
//!
//! ```text
//!   log-…1   │ state │ batch │ batch │ batch │ batch ░░│      ░ zeros, or what was there before
//!   log-…2   │ state │ batch │ batch ░░░░░░░░░░░░░░░░░░│
//!   spare-…  │ waits to be used again                  │
//!   snapshot-<index>-<term>
//! ```
//!
//! # Recovery
//!
//! At most one batch is under way, and the next one is written only when that is durable. So behind a record
//! that is not valid there can be no valid one, unless the disk has lost what it promised. The end of the
//! log is the first place without a valid record *if nothing valid stands behind it*; if something does, the
//! store is damaged, and says so instead of forgetting acknowledged batches.

mod logs;
mod record;
mod recovery;
mod snapshots;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use self::logs::{Index, LogRecord, LogState, Mover, Place, Writing};
use self::record::{HEADER_BYTES, RECORD_HEADER_BYTES, Segment, record_bytes};
use self::snapshots::SnapshotFiles;
use super::folder::{Bytes as _, Folder};
use super::storage::{Owner, SnapshotSaver, Storage, StorageError};
use crate::formation;
use crate::id::{BootId, LogIndex};
use crate::node::{Durable, WriteBatch};
use crate::partition::log::Read;
use crate::partition::records;
use crate::partition::replica::io::Batch;
use crate::raft::{Entry, HardState, Membership, Position};
use crate::wire::codec;

/// The length of a segment, unless one batch alone needs more.
const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
/// How many used segments wait to be used again: what a snapshot frees at once, or each of them would be
/// made anew, of zeros.
const SPARES_MAX: usize = 8;

/// A [`Storage`] of plain files.
pub struct SegmentStorage<F: Folder> {
    folder: F,
    owner: u64,
    salt: u64,
    segment_bytes: u64,
    /// The segments before the current one, and the highest index of an entry in each.
    full: VecDeque<(u64, u64)>,
    spares: Vec<String>,
    current: Current<F>,
    state: State,
    recovered: Option<Durable>,
    snapshots: SnapshotFiles<F>,
    named: Named,
    /// Where the batches of partitions are.
    index: Index,
    mover: Mover,
    /// The full segment that was read from last.
    reader: Option<(u64, F::File)>,
    /// The record under construction; kept for its memory.
    buffer: Vec<u8>,
}

/// The place of the snapshot that counts, which whoever saves snapshots must keep.
type Named = Arc<Mutex<Option<Position>>>;

/// The segment that is written to.
struct Current<F: Folder> {
    file: F::File,
    segment: Segment,
    length: u64,
    /// Where the next record begins.
    end: u64,
    /// The serial number and the checksum of the last record.
    serial: u64,
    checksum: u32,
    highest: u64,
}

/// Everything durable that is not an entry. The first record of each segment holds it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
struct State {
    boot: BootId,
    standing: formation::Standing,
    hard_state: HardState,
    snapshot: Option<Mark>,
    /// The last entry of the log. Until a snapshot covers it, the segments before are needed.
    last: LogIndex,
    /// The logs of partitions. It is filled in when a segment begins.
    logs: Vec<LogState>,
}

/// The record that names a snapshot.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Mark {
    at: Position,
    membership: Membership,
}

/// What stands in a record.
#[derive(Debug, Deserialize, Serialize)]
enum Record<'a> {
    /// What holds from here on, whatever stood before.
    State(Cow<'a, State>),
    /// What a batch changes.
    Batch(Change<'a>),
}

#[derive(Debug, Deserialize, Serialize)]
struct Change<'a> {
    boot: Option<BootId>,
    standing: Option<formation::Standing>,
    hard_state: Option<HardState>,
    /// Replaces the whole log.
    snapshot: Option<Mark>,
    /// Replaces the log up to its place.
    compact: Option<Mark>,
    entries: Cow<'a, [Entry]>,
    /// Their payloads follow on the record.
    logs: Cow<'a, [LogRecord]>,
}

impl<F: Folder> SegmentStorage<F> {
    /// Opens the log in `folder`, or makes it if there is none. `salt` differs from start to start.
    ///
    /// # Errors
    ///
    /// [`StorageError`] if it is damaged, another node's, of another format, or cannot be read.
    pub fn open(folder: F, owner: &Owner, salt: u64) -> Result<SegmentStorage<F>, StorageError> {
        Self::open_sized(folder, owner, salt, SEGMENT_BYTES)
    }

    /// As [`SegmentStorage::open`], with segments of another length, in bytes: a test wants many of them.
    ///
    /// # Errors
    ///
    /// As [`SegmentStorage::open`].
    pub fn open_sized(
        folder: F,
        owner: &Owner,
        salt: u64,
        segment_bytes: u64,
    ) -> Result<SegmentStorage<F>, StorageError> {
        let found = recovery::read(&folder, owner, salt, segment_bytes)?;
        let named = Arc::new(Mutex::new(found.state.snapshot.as_ref().map(|mark| mark.at)));
        let snapshots = SnapshotFiles::new(folder.share(), Arc::clone(&named));
        let snapshot = match &found.state.snapshot {
            Some(mark) => Some(snapshots.load(mark.at, &mark.membership)?),
            None => None,
        };
        let State { boot, standing, hard_state, .. } = found.state.clone();
        let entries = found.entries;
        let logs = found.index.map(|_| ());
        let recovered = Some(Durable { boot, standing, snapshot, entries, hard_state, logs });
        Ok(SegmentStorage {
            folder,
            owner: record::owner_hash(owner),
            salt,
            segment_bytes,
            full: found.full,
            spares: found.spares,
            current: found.current,
            state: found.state,
            recovered,
            snapshots,
            named,
            index: found.index,
            mover: Mover::default(),
            reader: None,
            buffer: Vec::new(),
        })
    }

    fn append(&mut self, batch: &WriteBatch) -> io::Result<()> {
        let mark = |snapshot: &crate::raft::Snapshot| Mark {
            at: snapshot.at,
            membership: snapshot.membership.clone(),
        };
        let mut writing = Writing::of(&batch.logs);
        let is_emptied = self.move_some(&mut writing)?;
        let change = Change {
            boot: batch.boot,
            standing: batch.standing.clone(),
            hard_state: batch.hard_state,
            snapshot: batch.snapshot.as_ref().map(mark),
            compact: batch.compact.as_ref().map(mark),
            entries: Cow::Borrowed(&batch.entries),
            logs: Cow::Borrowed(&writing.records),
        };
        let record = Record::Batch(change);
        self.encode(&record);
        let payloads = writing.put(&mut self.buffer);
        let before_payloads = u64::try_from(self.buffer.len() - payloads).unwrap_or(u64::MAX);
        let is_begun = self.make_room()?;
        let last = batch.entries.last().map_or(0, |entry| entry.at.index.value());
        self.current.highest = self.current.highest.max(last);
        let at = self.current.end + before_payloads;
        self.current.put(&mut self.buffer)?;
        self.current.file.sync()?;
        logs::replay(&mut self.index, &writing.records, self.current.segment.number, at);
        if let Record::Batch(change) = &record {
            self.state.note(change);
        }
        if batch.snapshot.is_some() || batch.compact.is_some() {
            let place = self.state.snapshot.as_ref().map(|mark| mark.at);
            *self.named.lock().unwrap_or_else(PoisonError::into_inner) = place;
        }
        if is_begun || is_emptied || batch.snapshot.is_some() || batch.compact.is_some() {
            self.free_segments()?;
        }
        Ok(())
    }

    /// Moves a little of what is in a segment that is to be emptied. Returns whether that was the last.
    fn move_some(&mut self, writing: &mut Writing) -> io::Result<bool> {
        let SegmentStorage { folder, current, reader, index, mover, .. } = self;
        mover.go_on(index, writing, |place| {
            let payload = read_payload(folder, current, reader, place)?;
            // Damage must not get a new checksum: the next start finds it where it is.
            let is_sound = records::is_sound(&payload);
            let damaged = || io::Error::new(io::ErrorKind::InvalidData, "a batch is not what was written");
            is_sound.then_some(payload).ok_or_else(damaged)
        })
    }

    /// Sees to it that the record in the buffer fits, and that a segment begins with the state: one that was
    /// made just before a crash has no record at all. The state is durable before what comes behind it. Returns whether a
    /// segment was begun.
    fn make_room(&mut self) -> io::Result<bool> {
        let is_bare = self.current.end == HEADER_BYTES && self.current.serial > 0;
        let needed = record_bytes(self.buffer.len() - RECORD_HEADER_BYTES);
        if !is_bare && self.current.end + needed <= self.current.length {
            return Ok(false);
        }
        let batch = core::mem::take(&mut self.buffer);
        self.state.logs = logs::states(&self.index);
        self.encode(&Record::State(Cow::Owned(self.state.clone())));
        let both = needed + record_bytes(self.buffer.len() - RECORD_HEADER_BYTES);
        if is_bare && self.current.end + both <= self.current.length {
            self.current.put_durably(&mut self.buffer)?;
        } else {
            self.rotate(both)?;
        }
        self.buffer = batch;
        Ok(true)
    }

    fn encode(&mut self, record: &Record<'_>) {
        self.buffer.clear();
        self.buffer.resize(RECORD_HEADER_BYTES, 0);
        codec::encode_into(record, &mut self.buffer);
    }

    /// Begins the next segment with the state in the buffer, and with room for `needed` bytes.
    fn rotate(&mut self, needed: u64) -> io::Result<()> {
        let segment = Segment { number: self.current.segment.number + 1, salt: self.salt, owner: self.owner };
        let length = self.segment_bytes.max(HEADER_BYTES + needed);
        let spare = if length == self.segment_bytes { self.spares.pop() } else { None };
        let next = begin(&self.folder, segment, length, spare, self.current.serial, self.current.checksum)?;
        let before = core::mem::replace(&mut self.current, next);
        self.full.push_back((before.segment.number, before.highest));
        self.current.put_durably(&mut self.buffer)
    }

    /// Puts aside the segments for whose entries a snapshot stands, and in which nothing of a partition is. If the first one
    /// stays for a partition alone, it may have to be emptied.
    fn free_segments(&mut self) -> io::Result<()> {
        let Some(start) = self.state.snapshot.as_ref().map(|mark| mark.at.index.value()) else {
            return Ok(());
        };
        let mut is_changed = false;
        while let Some((number, _)) = self.full.front().copied().filter(|(_, highest)| *highest <= start) {
            if logs::is_in_use(&self.index, number) {
                self.mover.begin(&self.index, number, self.full.len(), self.segment_bytes);
                break;
            }
            self.full.pop_front();
            self.reader = self.reader.take().filter(|(open, _)| *open != number);
            is_changed = true;
            if self.spares.len() < SPARES_MAX {
                let spare = format!("spare-{number:016x}");
                self.folder.rename(&segment_name(number), &spare)?;
                self.spares.push(spare);
            } else {
                self.folder.remove(&segment_name(number))?;
            }
        }
        if is_changed { self.folder.sync() } else { Ok(()) }
    }

    fn read_batches(&mut self, read: &Read) -> io::Result<Vec<Batch>> {
        let SegmentStorage { folder, current, reader, index, .. } = self;
        let Some(log) = index.get(read.partition) else { return Ok(Vec::new()) };
        let whole = |entry: &crate::partition::log::Entry<Place>| {
            Ok(entry.batch(read_payload(folder, current, reader, entry.records)?))
        };
        log.select(read).map(whole).collect()
    }

    fn failed(&self, error: &io::Error) -> StorageError {
        StorageError::Failed { place: self.folder.place(), reason: error.to_string() }
    }
}

/// Reads a payload, wherever it is.
fn read_payload<F: Folder>(
    folder: &F,
    current: &Current<F>,
    reader: &mut Option<(u64, F::File)>,
    place: Place,
) -> io::Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(place.length).unwrap_or(usize::MAX)];
    if place.segment == current.segment.number {
        current.file.read(place.at, &mut bytes)?;
        return Ok(bytes.into());
    }
    let file = match reader.take() {
        Some((open, file)) if open == place.segment => file,
        Some(_) | None => folder.open(&segment_name(place.segment))?,
    };
    file.read(place.at, &mut bytes)?;
    *reader = Some((place.segment, file));
    Ok(bytes.into())
}

impl<F: Folder> Current<F> {
    /// As [`put`](Current::put), and waits until it is durable.
    fn put_durably(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        self.put(buffer)?;
        self.file.sync()
    }

    /// Writes the record in `buffer` behind the last one.
    fn put(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        let serial = self.serial + 1;
        let checksum = self.segment.seal(self.end, serial, self.checksum, buffer);
        self.file.write(self.end, buffer)?;
        (self.serial, self.checksum) = (serial, checksum);
        self.end += u64::try_from(buffer.len()).unwrap_or(u64::MAX);
        Ok(())
    }
}

impl State {
    fn note(&mut self, change: &Change<'_>) {
        self.boot = change.boot.unwrap_or(self.boot);
        self.hard_state = change.hard_state.unwrap_or(self.hard_state);
        if let Some(standing) = &change.standing {
            self.standing = standing.clone();
        }
        for mark in change.snapshot.iter().chain(&change.compact) {
            self.snapshot = Some(mark.clone());
        }
        if let Some(snapshot) = &change.snapshot {
            self.last = snapshot.at.index;
        }
        if let Some(last) = change.entries.last() {
            self.last = last.at.index;
        }
    }
}

/// Makes the file of a segment, of zeros or of a spare, durable under its name before anything counts on it.
fn begin<F: Folder>(
    folder: &F,
    segment: Segment,
    length: u64,
    spare: Option<String>,
    serial: u64,
    checksum: u32,
) -> io::Result<Current<F>> {
    static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
    let beside = spare.clone().unwrap_or_else(|| "new".to_owned());
    let mut file = match &spare {
        Some(name) => folder.open(name)?,
        None => folder.create(&beside)?,
    };
    if spare.is_none() {
        let mut written = 0;
        while written < length {
            let bytes = usize::try_from(length - written).unwrap_or(usize::MAX).min(ZEROS.len());
            file.write(written, &ZEROS[..bytes])?;
            written += u64::try_from(bytes).unwrap_or(u64::MAX);
        }
    }
    file.write(0, &segment.encode())?;
    file.sync()?;
    folder.rename(&beside, &segment_name(segment.number))?;
    folder.sync()?;
    Ok(Current { file, segment, length, end: HEADER_BYTES, serial, checksum, highest: 0 })
}

fn segment_name(number: u64) -> String {
    format!("log-{number:016x}")
}

impl<F: Folder> Storage for SegmentStorage<F> {
    fn recover(&mut self) -> Result<Durable, StorageError> {
        Ok(self.recovered.take().unwrap_or_default())
    }

    fn write(&mut self, batch: &WriteBatch) -> Result<(), StorageError> {
        // A newborn cluster's snapshot was not saved before.
        if let Some(snapshot) = &batch.snapshot {
            self.snapshots.save_unless_saved(snapshot)?;
        }
        self.append(batch).map_err(|error| self.failed(&error))
    }

    fn read(&mut self, read: &Read) -> Result<Vec<Batch>, StorageError> {
        let batches = self.read_batches(read).map_err(|error| self.failed(&error))?;
        match batches.iter().find(|batch| !records::is_sound(&batch.records)) {
            None => Ok(batches),
            Some(batch) => Err(StorageError::Damaged {
                place: self.folder.place(),
                record: format!(
                    "the batch at {} of partition {} of topic {}",
                    batch.first, read.partition.number, read.partition.topic
                ),
                reason: "its checksum is another one".to_owned(),
            }),
        }
    }

    fn save(&mut self, snapshot: &crate::raft::Snapshot) -> Result<(), StorageError> {
        self.snapshots.save(snapshot)
    }

    fn detach_saver(&mut self) -> Option<Box<dyn SnapshotSaver>> {
        Some(Box::new(SnapshotFiles::new(self.folder.share(), Arc::clone(&self.named))))
    }
}
