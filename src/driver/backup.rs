//! A backup: everything durable of one node, in one file that says of itself whether it is whole.
//!
//! # What it is, and what it is not
//!
//! A node's snapshot and log hold the state of the whole cluster, as far as that node has got: the state machine,
//! sessions, topics, the members. Its partition logs hold its replicas, and no others. What a backup lacks is what
//! was acknowledged after it was made.
//!
//! So a restored node must not go back to its cluster: it has promised things that it no longer knows, and would
//! promise the opposite (Raft §5.2: one vote a term). It begins anew as the [survivor](crate::node::Survivor) of a
//! cluster whose other members are gone for good, with everything in the backup, in a later term.
//!
//! ```text
//!   magic:8  format:4  │ length:8 checksum:8 Head │ length:8 checksum:8 Part │ … │ length:8 checksum:8 End
//! ```
//!
//! The checksum of each piece covers the one before it, so that pieces cannot be left out, repeated or
//! exchanged, and the last one says that it is the last.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::storage::{Owner, Storage, StorageError};
use crate::id::{LogIndex, Offset, PartitionId, WriteId};
use crate::node::{Durable, StartError, Survivor, WriteBatch};
use crate::partition::log::{self, Change, What};
use crate::partition::replica::io::Batch;
use crate::raft::{Entry, HardState, Snapshot};
use crate::wire::codec;

const MAGIC: [u8; 8] = *b"rivvenbk";
/// The format of backups. An older one is read as long as this build can; a newer one is refused.
pub const BACKUP_FORMAT: u32 = 1;
/// About so many bytes of records are read and written at a time.
const PART_BYTES: usize = 1024 * 1024;
/// No piece is longer: whatever says so is no backup.
const PIECE_BYTES_MAX: u64 = 1 << 36;

/// What a backup is of.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Head {
    owner: Owner,
    snapshot: Snapshot,
    entries: Vec<Entry>,
    hard_state: HardState,
    standing: crate::formation::Standing,
}

#[derive(Debug, Deserialize, Serialize)]
enum Piece {
    Head(Box<Head>),
    /// Changes that make the logs of partitions what they were.
    Part(Vec<Change>),
    /// There is nothing more; so many parts were before.
    End(u64),
}

/// What is in a backup.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Contents {
    /// Whose it is.
    pub owner: Owner,
    /// The last index that the node had in its log.
    pub last: LogIndex,
    /// How many partitions it had a replica of.
    pub partitions: usize,
    /// How many bytes of records.
    pub record_bytes: u64,
}

/// Why there is no backup, or why it is not restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The store cannot be read or written. What was written of the other side is of no use.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The folder is not that of a member, or contradicts itself.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The file cannot be read or written.
    #[error("the backup cannot be read or written: {0}")]
    Io(#[from] io::Error),
    /// Take a file that `backup` has written. Nothing was changed.
    #[error("this is no backup")]
    NoBackup,
    /// Use the build that wrote it, or a later one. Nothing was changed.
    #[error("the backup has format {found}, this build reads up to {BACKUP_FORMAT}: use a later build")]
    Format {
        /// The format that it has.
        found: u32,
    },
    /// Take another copy of it. What was restored so far is of no use.
    #[error("the backup is damaged: {0}")]
    Damaged(String),
    /// Restore it as the node that it is of. Nothing was changed.
    #[error("the backup is of node {} of cluster {}, not of node {} of cluster {}", found.node, found.cluster, expected.node, expected.cluster)]
    OtherOwner {
        /// Whose it is.
        found: Owner,
        /// As whom it was to be restored.
        expected: Owner,
    },
}

/// Writes everything that `storage` holds to `out`. The storage must not have been read before; it is only read.
///
/// # Errors
///
/// [`BackupError`]; what was written so far is no backup.
pub fn back_up(
    storage: &mut impl Storage,
    owner: &Owner,
    out: &mut impl Write,
) -> Result<Contents, BackupError> {
    let durable = storage.recover()?;
    if durable.standing.cluster().is_none() {
        return Err(StartError::NoMember.into());
    }
    durable.check(owner.node)?;
    let Durable { standing, snapshot, entries, hard_state, logs, .. } = durable;
    let snapshot = snapshot.ok_or(StartError::SnapshotMissing)?;
    let last = entries.last().map_or(snapshot.at.index, |entry| entry.at.index);
    out.write_all(&MAGIC)?;
    out.write_all(&BACKUP_FORMAT.to_le_bytes())?;
    let mut pieces = Pieces { out, checksum: 0 };
    pieces.put(&Piece::Head(Box::new(Head {
        owner: owner.clone(),
        snapshot,
        entries,
        hard_state,
        standing,
    })))?;
    let (mut parts, mut record_bytes, mut partitions) = (0, 0, 0);
    for (partition, log) in logs.iter() {
        partitions += 1;
        let mut from = log.start();
        let begins = log.batches().next().map_or(log.start(), |batch| batch.first);
        let mut part = vec![Change { partition, what: What::Restart(begins) }];
        loop {
            let batches = read_some(storage, partition, from, log)?;
            let Some(last) = batches.last() else { break };
            from = last.first.plus(last.count.into());
            for batch in batches {
                record_bytes += u64::try_from(batch.records.len()).unwrap_or(u64::MAX);
                part.push(Change { partition, what: What::Append(batch) });
            }
            pieces.put(&Piece::Part(core::mem::take(&mut part)))?;
            parts += 1;
        }
        part.push(Change { partition, what: What::Trim(log.start()) });
        part.push(Change { partition, what: What::Committed(log.high_watermark()) });
        pieces.put(&Piece::Part(part))?;
        parts += 1;
    }
    pieces.put(&Piece::End(parts))?;
    pieces.out.flush()?;
    Ok(Contents { owner: owner.clone(), last, partitions, record_bytes })
}

/// The next batches of a log; none at its end.
fn read_some<T>(
    storage: &mut impl Storage,
    partition: PartitionId,
    from: Offset,
    log: &log::Log<T>,
) -> Result<Vec<Batch>, StorageError> {
    if from >= log.end() {
        return Ok(Vec::new());
    }
    storage.read(&log::Read { partition, from, until: log.end(), bytes: PART_BYTES })
}

/// A backup that is being read: its head was sound.
pub struct Backup<R> {
    input: R,
    checksum: u64,
    head: Head,
}

impl<R: Read> Backup<R> {
    /// Reads the head of a backup, and checks that it is of `owner`.
    ///
    /// # Errors
    ///
    /// [`BackupError`]; nothing was changed.
    pub fn open(mut input: R, owner: &Owner) -> Result<Backup<R>, BackupError> {
        let mut begin = [0; MAGIC.len() + 4];
        input.read_exact(&mut begin).map_err(|_| BackupError::NoBackup)?;
        let (magic, format) = begin.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(BackupError::NoBackup);
        }
        let found = format.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte));
        if found != BACKUP_FORMAT {
            return Err(BackupError::Format { found });
        }
        let mut checksum = 0;
        let Piece::Head(head) = take(&mut input, &mut checksum)? else {
            return Err(BackupError::Damaged("it does not begin with what it is of".to_owned()));
        };
        if head.owner != *owner {
            return Err(BackupError::OtherOwner { found: head.owner, expected: owner.clone() });
        }
        Ok(Backup { input, checksum, head: *head })
    }

    /// What becomes of the cluster when this is restored.
    ///
    /// # Errors
    ///
    /// [`StartError`] if the backup is not that of a member; nothing was changed.
    pub fn survivor(&self) -> Result<Survivor, StartError> {
        let Head { owner, snapshot, entries, hard_state, standing } = self.head.clone();
        let durable =
            Durable { standing, snapshot: Some(snapshot), entries, hard_state, ..Durable::default() };
        durable.survive(owner.node)
    }

    /// Writes all of it to an empty storage: the node is then the only voter of its cluster. The storage is of no use
    /// if this fails.
    ///
    /// # Errors
    ///
    /// [`BackupError`] if the backup is damaged or not whole, or the storage fails.
    pub fn restore(mut self, storage: &mut impl Storage) -> Result<Contents, BackupError> {
        let Survivor { batch, last, .. } = self.survivor()?;
        storage.recover()?;
        let mut id = WriteId::default();
        let (mut partitions, mut record_bytes, mut parts) = (0, 0, 0);
        loop {
            match take(&mut self.input, &mut self.checksum)? {
                Piece::Head(_) => return Err(BackupError::Damaged("it begins twice".to_owned())),
                Piece::Part(logs) => {
                    for change in &logs {
                        partitions += usize::from(matches!(change.what, What::Restart(_)));
                        record_bytes += match &change.what {
                            What::Append(batch) => u64::try_from(batch.records.len()).unwrap_or(u64::MAX),
                            What::Truncate(_)
                            | What::Trim(_)
                            | What::Restart(_)
                            | What::Committed(_)
                            | What::Remove => 0,
                        };
                    }
                    id = id.next();
                    storage.write(&WriteBatch { id, logs, ..WriteBatch::default() })?;
                    parts += 1;
                }
                Piece::End(count) if count == parts => break,
                Piece::End(count) => {
                    return Err(BackupError::Damaged(format!("of {count} parts {parts} are there")));
                }
            }
        }
        if let Some(snapshot) = &batch.snapshot {
            storage.save(snapshot)?;
        }
        let standing = Some(self.head.standing.clone());
        storage.write(&WriteBatch { id: id.next(), standing, ..batch })?;
        Ok(Contents { owner: self.head.owner, last, partitions, record_bytes })
    }
}

/// Writes pieces, each bound to the one before.
struct Pieces<W> {
    out: W,
    checksum: u64,
}

impl<W: Write> Pieces<W> {
    fn put(&mut self, piece: &Piece) -> io::Result<()> {
        let bytes = codec::encode(piece);
        self.checksum = xxh3_64_with_seed(&bytes, self.checksum);
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(&self.checksum.to_le_bytes())?;
        self.out.write_all(&bytes)
    }
}

/// Reads the next piece.
fn take(input: &mut impl Read, checksum: &mut u64) -> Result<Piece, BackupError> {
    let torn = |_| BackupError::Damaged("it ends too early".to_owned());
    let (mut length, mut expected) = ([0; 8], [0; 8]);
    input.read_exact(&mut length).map_err(torn)?;
    input.read_exact(&mut expected).map_err(torn)?;
    let length = u64::from_le_bytes(length);
    if length > PIECE_BYTES_MAX {
        return Err(BackupError::Damaged(format!("a piece of {length} bytes is none")));
    }
    let mut bytes = Vec::new();
    let read = input.take(length).read_to_end(&mut bytes)?;
    if u64::try_from(read).ok() != Some(length) {
        return Err(BackupError::Damaged("it ends too early".to_owned()));
    }
    *checksum = xxh3_64_with_seed(&bytes, *checksum);
    if *checksum != u64::from_le_bytes(expected) {
        return Err(BackupError::Damaged("a piece is not what was written".to_owned()));
    }
    codec::decode_state(&bytes).map_err(|error| BackupError::Damaged(error.to_string()))
}
