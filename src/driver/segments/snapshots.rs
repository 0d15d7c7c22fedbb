//! Snapshots as files of their own, beside the segments.
//!
//! ```text
//!   snapshot-<index>-<term>:   length of the state 8 │ XXH3-64 of it 8 │ the state
//! ```
//!
//! A file is written under another name, synced, and renamed: one that has its name is whole. Which one
//! counts, the log says.

use std::io;
use std::sync::PoisonError;

use bytes::{Bytes, BytesMut};
use xxhash_rust::xxh3::xxh3_64;

use super::Named;
use crate::driver::folder::{Bytes as _, Folder};
use crate::driver::storage::{SnapshotSaver, StorageError};
use crate::raft::{Membership, Position, Snapshot};

/// The bytes before the state.
const HEADER_BYTES: usize = 16;
/// How much is written at a time.
const CHUNK_BYTES: usize = 1024 * 1024;
/// The name of a file that is not whole yet.
const UNFINISHED: &str = "snapshot.new";

/// The snapshots of one node.
pub(super) struct SnapshotFiles<F> {
    folder: F,
    named: Named,
}

impl<F: Folder> SnapshotFiles<F> {
    pub(super) fn new(folder: F, named: Named) -> SnapshotFiles<F> {
        SnapshotFiles { folder, named }
    }

    /// Reads the state of the snapshot at `at`.
    pub(super) fn load(&self, at: Position, membership: &Membership) -> Result<Snapshot, StorageError> {
        let name = name(at);
        let damaged = |reason: &str| StorageError::Damaged {
            place: self.folder.place(),
            record: name.clone(),
            reason: reason.to_owned(),
        };
        let read = || -> io::Result<Option<Bytes>> {
            let file = self.folder.open(&name)?;
            let mut bytes = BytesMut::zeroed(usize::try_from(file.length()?).unwrap_or(usize::MAX));
            file.read(0, &mut bytes)?;
            let state = bytes.split_off(HEADER_BYTES.min(bytes.len())).freeze();
            Ok((bytes == header(&state)[..]).then_some(state))
        };
        match read() {
            Ok(Some(state)) => Ok(Snapshot { at, membership: membership.clone(), state }),
            Ok(None) => Err(damaged("its checksum or its length is not what was written")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(damaged("it is missing")),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Saves a snapshot that nobody has announced.
    pub(super) fn save_unless_saved(&mut self, snapshot: &Snapshot) -> Result<(), StorageError> {
        let names = self.folder.list().map_err(|error| self.failed(&error))?;
        if names.contains(&name(snapshot.at)) { Ok(()) } else { self.save(snapshot) }
    }

    pub(super) fn save(&mut self, snapshot: &Snapshot) -> Result<(), StorageError> {
        self.write(snapshot).map_err(|error| self.failed(&error))
    }

    fn write(&self, snapshot: &Snapshot) -> io::Result<()> {
        self.forget_others()?;
        let mut file = self.folder.create(UNFINISHED)?;
        file.write(0, &header(&snapshot.state))?;
        let mut offset = u64::try_from(HEADER_BYTES).unwrap_or_default();
        for chunk in snapshot.state.chunks(CHUNK_BYTES) {
            file.write(offset, chunk)?;
            offset += u64::try_from(chunk.len()).unwrap_or_default();
        }
        file.sync()?;
        self.folder.rename(UNFINISHED, &name(snapshot.at))?;
        self.folder.sync()
    }

    /// Removes all but the one that counts.
    fn forget_others(&self) -> io::Result<()> {
        let named = *self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = named.map(name);
        for other in self.folder.list()? {
            if other.starts_with("snapshot") && Some(&other) != kept.as_ref() {
                self.folder.remove(&other)?;
            }
        }
        Ok(())
    }

    fn failed(&self, error: &io::Error) -> StorageError {
        StorageError::Failed { place: self.folder.place(), reason: error.to_string() }
    }
}

impl<F: Folder> SnapshotSaver for SnapshotFiles<F> {
    fn save(&mut self, snapshot: &Snapshot) -> Result<(), StorageError> {
        SnapshotFiles::save(self, snapshot)
    }
}

fn name(at: Position) -> String {
    format!("snapshot-{:016x}-{:016x}", at.index.value(), at.term.value())
}

fn header(state: &[u8]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&u64::try_from(state.len()).unwrap_or(u64::MAX).to_le_bytes());
    header[8..].copy_from_slice(&xxh3_64(state).to_le_bytes());
    header
}
