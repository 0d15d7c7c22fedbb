//! Reading a segment log: where it ends, and whether that is where it should end.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;

use super::logs::{self, Index};
use super::record::{
    HEADER_BYTES, Header, HeaderError, RECORD_HEADER_BYTES, Segment, owner_hash, record_bytes,
};
use super::{Change, Current, Record, State, begin, segment_name};
use crate::driver::folder::{Bytes as _, Folder};
use crate::driver::storage::{Owner, StorageError};
use crate::raft::Entry;
use crate::wire::codec;

/// What a folder holds.
pub(super) struct Found<F: Folder> {
    pub(super) full: VecDeque<(u64, u64)>,
    pub(super) spares: Vec<String>,
    pub(super) current: Current<F>,
    pub(super) state: State,
    pub(super) entries: Vec<Entry>,
    pub(super) index: Index,
}

/// A segment in memory.
struct Content {
    segment: Segment,
    bytes: Vec<u8>,
}

/// What the records so far amount to.
#[derive(Default)]
struct Replay {
    state: State,
    entries: Vec<Entry>,
    index: Index,
    serial: u64,
    checksum: u32,
    /// The highest index of an entry in the present segment.
    highest: u64,
    is_begun: bool,
    /// What the state says that the first segment begins with: the end of the log before it.
    before: u64,
}

/// Reads the log in `folder`, or begins one.
pub(super) fn read<F: Folder>(
    folder: &F,
    owner: &Owner,
    salt: u64,
    segment_bytes: u64,
) -> Result<Found<F>, StorageError> {
    let place = folder.place();
    let failed = |error: io::Error| StorageError::Failed { place: place.clone(), reason: error.to_string() };
    let mut names = folder.list().map_err(failed)?;
    names.sort();
    let spares: Vec<String> = names.iter().filter(|name| name.starts_with("spare-")).cloned().collect();
    let numbers: Vec<u64> = names.iter().filter_map(|name| number_of(name)).collect();
    let (mut replay, mut full) = (Replay::default(), VecDeque::new());
    let mut last: Option<(Content, u64)> = None;
    for number in &numbers {
        let content = load(folder, *number, owner).map_err(|error| error.at(&place, *number))?;
        if let Some((before, end)) = last.take() {
            full.push_back((before.segment.number, replay.highest));
            let follows = before.segment.number + 1 == *number && replay.continues_in(&content);
            if !follows {
                // The segment was made, and the crash came before its first record.
                let is_unused =
                    Some(number) == numbers.last() && !has_record_behind(&content, HEADER_BYTES, 0);
                if !is_unused || has_record_behind(&before, end, replay.serial) {
                    return Err(damaged(&place, &before.segment, end));
                }
            }
        }
        replay.highest = 0;
        let end = replay.run(&content).map_err(|error| error.at(&place, *number))?;
        if has_record_behind(&content, end, replay.serial) {
            return Err(damaged(&place, &content.segment, end));
        }
        last = Some((content, end));
    }
    let start = replay.state.snapshot.as_ref().map_or(0, |mark| mark.at.index.value());
    let is_emptied = numbers.is_empty() && names.iter().any(|name| is_of_log(name));
    let is_partial = replay.index.iter().any(|(_, log)| !log.is_whole());
    if start < replay.before || is_emptied || is_partial {
        let reason = "a file of the log is missing that is still needed".to_owned();
        return Err(StorageError::Damaged { place, record: "the first segment".to_owned(), reason });
    }
    let (serial, checksum) = (replay.serial, replay.checksum);
    let current = match last {
        Some((Content { segment, bytes }, end)) => {
            let file = folder.open(&segment_name(segment.number)).map_err(failed)?;
            let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            Current { file, segment, length, end, serial, checksum, highest: replay.highest }
        }
        None => {
            let segment = Segment { number: 1, salt, owner: owner_hash(owner) };
            begin(folder, segment, segment_bytes, None, serial, checksum).map_err(failed)?
        }
    };
    Ok(Found { full, spares, current, state: replay.state, entries: replay.entries, index: replay.index })
}

/// What is wrong with one segment.
enum Fault {
    System(io::Error),
    Owner,
    Header(HeaderError),
    Body(String),
}

impl Fault {
    fn at(self, place: &str, number: u64) -> StorageError {
        let (place, record) = (place.to_owned(), segment_name(number));
        match self {
            Fault::System(error) => StorageError::Failed { place, reason: error.to_string() },
            Fault::Owner => StorageError::Foreign { place },
            Fault::Header(HeaderError::Format(found)) => {
                StorageError::Format { place, found, supported: super::record::FORMAT }
            }
            Fault::Header(HeaderError::Torn) => {
                let reason = "its header is not what was written".to_owned();
                StorageError::Damaged { place, record, reason }
            }
            Fault::Body(reason) => StorageError::Damaged { place, record, reason },
        }
    }
}

fn load<F: Folder>(folder: &F, number: u64, owner: &Owner) -> Result<Content, Fault> {
    let file = folder.open(&segment_name(number)).map_err(Fault::System)?;
    let length = usize::try_from(file.length().map_err(Fault::System)?).unwrap_or(usize::MAX);
    let mut bytes = vec![0; length];
    file.read(0, &mut bytes).map_err(Fault::System)?;
    let segment = Segment::decode(&bytes).map_err(Fault::Header)?;
    if segment.owner != owner_hash(owner) {
        return Err(Fault::Owner);
    }
    if segment.number != number {
        return Err(Fault::Body(format!("it says that it is segment {}", segment.number)));
    }
    Ok(Content { segment, bytes })
}

impl Content {
    /// What stands before the body of a record at `offset`, if that is valid.
    fn header(&self, offset: u64) -> Option<Header> {
        let header = Header::decode(self.bytes.get(usize::try_from(offset).ok()?..)?)?;
        self.segment.begins(offset, header).then_some(header)
    }

    /// The record at `offset`, if a valid one stands there.
    fn record(&self, offset: u64) -> Option<(Header, &[u8])> {
        let header = self.header(offset)?;
        let bytes = self.bytes.get(usize::try_from(offset).ok()?..)?;
        let body = bytes.get(RECORD_HEADER_BYTES..)?.get(..header.length)?;
        self.segment.holds(offset, header, body).then_some((header, body))
    }
}

/// Whether a valid record of a later serial number than `serial` stands at or behind `offset`.
fn has_record_behind(content: &Content, offset: u64, serial: u64) -> bool {
    let length = u64::try_from(content.bytes.len()).unwrap_or(u64::MAX);
    let aligned = usize::try_from(super::record::ALIGNMENT).unwrap_or(1);
    let is_later = |offset: &u64| content.header(*offset).is_some_and(|header| header.serial > serial);
    (offset..length).step_by(aligned).filter(is_later).any(|offset| content.record(offset).is_some())
}

impl Replay {
    /// Whether the first record of a segment is the one after the last.
    fn continues_in(&self, content: &Content) -> bool {
        let first = content.record(HEADER_BYTES);
        first.is_some_and(|(header, _)| (header.serial, header.before) == (self.serial + 1, self.checksum))
    }

    /// Replays a segment up to the first place without a record that follows. Returns that place.
    fn run(&mut self, content: &Content) -> Result<u64, Fault> {
        let mut offset = HEADER_BYTES;
        while let Some((header, body)) = content.record(offset) {
            // Of the segments before the first one that is left, nothing is known.
            let follows = (header.serial, header.before) == (self.serial + 1, self.checksum);
            if self.is_begun && !follows {
                break;
            }
            let (record, used) =
                codec::decode_prefix(body).map_err(|error| Fault::Body(error.to_string()))?;
            if !self.is_begun && header.serial > 1 && !matches!(record, Record::State(_)) {
                return Err(Fault::Body("what stands before its first record is missing".to_owned()));
            }
            if let (false, Record::State(state)) = (self.is_begun, &record) {
                self.before = state.last.value();
                self.index = logs::begin(&state.logs);
            }
            self.find_batches(&record, content.segment.number, offset, used, body.len())?;
            self.is_begun = true;
            (self.serial, self.checksum) = (header.serial, header.checksum);
            self.apply(record);
            offset += record_bytes(header.length);
        }
        Ok(offset)
    }

    /// Notes where the payloads behind a record are.
    fn find_batches(
        &mut self,
        record: &Record<'_>,
        segment: u64,
        offset: u64,
        used: usize,
        length: usize,
    ) -> Result<(), Fault> {
        let records = match record {
            Record::State(_) => &[][..],
            Record::Batch(change) => &change.logs,
        };
        let in_file = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        if in_file(length - used) != logs::payload_bytes(records) {
            return Err(Fault::Body(format!("{} bytes follow a record", length - used)));
        }
        logs::replay(&mut self.index, records, segment, offset + in_file(RECORD_HEADER_BYTES + used));
        Ok(())
    }

    fn apply(&mut self, record: Record<'_>) {
        let change = match record {
            Record::State(state) => {
                self.state = state.into_owned();
                return self.forget_compacted();
            }
            Record::Batch(change) => change,
        };
        self.state.note(&change);
        if change.snapshot.is_some() {
            self.entries.clear();
        }
        if change.compact.is_some() {
            self.forget_compacted();
        }
        let Change { entries: Cow::Owned(entries), .. } = change else { return };
        let Some(first) = entries.first().map(|entry| entry.at.index) else { return };
        self.highest = self.highest.max(entries.last().map_or(0, |entry| entry.at.index.value()));
        let kept = self.entries.partition_point(|entry| entry.at.index < first);
        self.entries.truncate(kept);
        self.entries.extend(entries);
        self.forget_compacted();
    }

    fn forget_compacted(&mut self) {
        let Some(start) = self.state.snapshot.as_ref().map(|mark| mark.at.index) else { return };
        let compacted = self.entries.partition_point(|entry| entry.at.index <= start);
        self.entries.drain(..compacted);
    }
}

fn damaged(place: &str, segment: &Segment, end: u64) -> StorageError {
    let record = format!("{} at byte {end}", segment_name(segment.number));
    let reason = "what was written there is gone, and what was written later is not".to_owned();
    StorageError::Damaged { place: place.to_owned(), record, reason }
}

/// Whether a file is left of a log.
fn is_of_log(name: &str) -> bool {
    name.starts_with("spare-") || name.starts_with("snapshot-")
}

fn number_of(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_prefix("log-")?, 16).ok()
}
