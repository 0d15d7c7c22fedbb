//! The embedded store, on redb.
//!
//! ```text
//!   table "meta":  format │ owner │ boot │ standing │ snapshot │ hard state
//!   table "log":   index ──► entry
//!   table "snapshots":  index, term, part ──► bytes
//!   table "partition logs":     topic, partition ──► extent
//!   table "partition batches":  topic, partition, first offset ──► batch
//! ```
//!
//! Each value is a record: the XXH3-64 of its table, key and body, then the body. The key is part of
//! the checksum, so that an intact record in the wrong place is found out, too. A batch is one redb
//! transaction, which is atomic, and durable when the commit returns.

mod logs;

use core::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use bytes::BytesMut;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use self::logs::{BATCHES, LOGS};
use super::storage::{Owner, Storage, StorageError};
use crate::id::LogIndex;
use crate::node::{Durable, WriteBatch};
use crate::partition::log::Read;
use crate::partition::replica::io::Batch;
use crate::raft::{Entry, Membership, Position, Snapshot};
use crate::wire::codec;

/// The format that this build writes and reads.
const FORMAT: u32 = 5;
/// The memory that redb may use as a cache. The log is in memory anyway, so little is needed.
const CACHE_BYTES: usize = 8 * 1024 * 1024;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
const SNAPSHOTS: TableDefinition<'_, (u64, u64, u64), &[u8]> = TableDefinition::new("snapshots");
/// The bytes of one part of a state.
const PART_BYTES: usize = 256 * 1024;

/// The record that names the snapshot that counts; its state is in another table.
#[derive(serde::Deserialize, serde::Serialize)]
struct Named {
    at: Position,
    membership: Membership,
    length: u64,
    checksum: u64,
}

impl Named {
    fn of(snapshot: &Snapshot) -> Named {
        let length = u64::try_from(snapshot.state.len()).unwrap_or(u64::MAX);
        let checksum = xxh3_64(&snapshot.state);
        Named { at: snapshot.at, membership: snapshot.membership.clone(), length, checksum }
    }
}

type SnapshotTable<'a> = redb::Table<'a, (u64, u64, u64), &'static [u8]>;

/// The keys of all parts of a snapshot.
fn parts_of(at: Position) -> core::ops::RangeInclusive<(u64, u64, u64)> {
    let (index, term) = (at.index.value(), at.term.value());
    (index, term, 0)..=(index, term, u64::MAX)
}

/// A [`Storage`] in one file.
pub struct RedbStorage {
    database: Contained,
    place: String,
}

/// A database that closes without a panic, however rotten its file is.
struct Contained(Option<Database>);

impl Deref for Contained {
    type Target = Database;

    fn deref(&self) -> &Database {
        self.0.as_ref().expect("it is closed only when it is dropped")
    }
}

impl DerefMut for Contained {
    fn deref_mut(&mut self) -> &mut Database {
        self.0.as_mut().expect("it is closed only when it is dropped")
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        let database = self.0.take();
        if catch_unwind(AssertUnwindSafe(|| drop(database))).is_err() {
            tracing::error!("the store was damaged, and could not be closed in order");
        }
    }
}

impl RedbStorage {
    /// Opens the store at `path`, or makes it if there is none.
    ///
    /// # Errors
    ///
    /// [`StorageError`] if it is in use, damaged, another node's, or of another format.
    pub fn open(path: &Path, owner: &Owner) -> Result<RedbStorage, StorageError> {
        let place = path.display().to_string();
        if !path.exists() {
            Self::make(path, owner)?;
        }
        Self::open_with(place, owner, |builder| builder.create(path))
    }

    /// Makes a store beside `path` and moves it there: a crash while redb makes its file would leave one
    /// that it never opens again.
    #[expect(clippy::disallowed_types, reason = "a rename is durable when its folder is synced")]
    fn make(path: &Path, owner: &Owner) -> Result<(), StorageError> {
        let beside = path.with_extension("new");
        let place = beside.display().to_string();
        let create = || Self::open_with(place.clone(), owner, |builder| builder.create(&beside));
        let failed =
            |error: std::io::Error| StorageError::Failed { place: place.clone(), reason: error.to_string() };
        match create() {
            Ok(made) => drop(made),
            Err(in_use @ StorageError::InUse { .. }) => return Err(in_use),
            Err(_) if beside.exists() => {
                // The leftover of a crash; nothing in it was ever promised.
                std::fs::remove_file(&beside).map_err(failed)?;
                drop(create()?);
            }
            Err(error) => return Err(error),
        }
        std::fs::rename(&beside, path).map_err(failed)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
    }

    /// Opens the store on a block device of one's own; `place` names it in errors.
    ///
    /// # Errors
    ///
    /// As [`RedbStorage::open`].
    pub fn open_backend(
        backend: impl StorageBackend,
        place: &str,
        owner: &Owner,
    ) -> Result<RedbStorage, StorageError> {
        Self::open_with(place.to_owned(), owner, |builder| builder.create_with_backend(backend))
    }

    fn open_with(
        place: String,
        owner: &Owner,
        create: impl FnOnce(&redb::Builder) -> Result<Database, DatabaseError>,
    ) -> Result<RedbStorage, StorageError> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        let opened = catch_unwind(AssertUnwindSafe(|| create(&builder)));
        let database = match opened {
            Ok(Ok(database)) => database,
            Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => return Err(StorageError::InUse { place }),
            Ok(Err(error)) => return Err(StorageError::Open { place, reason: error.to_string() }),
            Err(_) => return Err(damaged(&place, "the file", "its structure cannot be read")),
        };
        let mut store = RedbStorage { database: Contained(Some(database)), place };
        store.check_pages()?;
        store.contained(|| store.check_owner(owner))?;
        Ok(store)
    }

    /// Reads every page against its checksum. redb itself does so only after a crash, and a rotten page
    /// can read as a table with fewer records, which no checksum of a record would show.
    fn check_pages(&mut self) -> Result<(), StorageError> {
        let RedbStorage { database, place } = self;
        let checked = catch_unwind(AssertUnwindSafe(|| database.check_integrity()));
        match checked {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(damaged(place, "the file", "a page is not what was written")),
            Ok(Err(DatabaseError::Storage(redb::StorageError::Io(error)))) => {
                Err(StorageError::Failed { place: place.clone(), reason: error.to_string() })
            }
            Ok(Err(error)) => Err(damaged(place, "the file", &error.to_string())),
            Err(_) => Err(damaged(place, "the file", "its structure cannot be read")),
        }
    }

    /// Claims a new store, or checks that an old one is ours.
    fn check_owner(&self, owner: &Owner) -> Result<(), StorageError> {
        let transaction = self.database.begin_write().map_err(|error| self.failed(error))?;
        {
            let mut meta = transaction.open_table(META).map_err(|error| self.failed(error))?;
            transaction.open_table(LOG).map_err(|error| self.failed(error))?;
            transaction.open_table(SNAPSHOTS).map_err(|error| self.failed(error))?;
            transaction.open_table(LOGS).map_err(|error| self.failed(error))?;
            transaction.open_table(BATCHES).map_err(|error| self.failed(error))?;
            match self.read_meta::<u32>(&meta, "format")? {
                None => {
                    self.put_meta(&mut meta, "format", &FORMAT)?;
                    self.put_meta(&mut meta, "owner", owner)?;
                }
                Some(FORMAT) => {}
                Some(found) => {
                    return Err(StorageError::Format { place: self.place.clone(), found, supported: FORMAT });
                }
            }
            let found: Option<Owner> = self.read_meta(&meta, "owner")?;
            let found = found.ok_or_else(|| damaged(&self.place, "owner", "it is missing"))?;
            if found != *owner {
                let (place, expected) = (self.place.clone(), owner.clone());
                return Err(StorageError::OtherOwner { place, found, expected });
            }
        }
        transaction.commit().map_err(|error| self.failed(error))
    }

    fn read_durable(&self) -> Result<Durable, StorageError> {
        let transaction = self.database.begin_read().map_err(|error| self.failed(error))?;
        let meta = transaction.open_table(META).map_err(|error| self.failed(error))?;
        let log = transaction.open_table(LOG).map_err(|error| self.failed(error))?;
        let mut entries = Vec::new();
        for record in log.iter().map_err(|error| self.failed(error))? {
            let (key, value) = record.map_err(|error| self.failed(error))?;
            let name = format!("log entry {}", key.value());
            let entry: Entry = self.open_record(&name, &key.value().to_le_bytes(), value.value())?;
            if entry.at.index != LogIndex::new(key.value()) {
                return Err(damaged(&self.place, &name, &format!("it holds entry {}", entry.at.index)));
            }
            entries.push(entry);
        }
        let snapshot = match self.read_meta::<Named>(&meta, "snapshot")? {
            Some(named) => Some(self.read_snapshot(&transaction, named)?),
            None => None,
        };
        Ok(Durable {
            boot: self.read_meta(&meta, "boot")?.unwrap_or_default(),
            standing: self.read_meta(&meta, "standing")?.unwrap_or_default(),
            snapshot,
            entries,
            hard_state: self.read_meta(&meta, "hard state")?.unwrap_or_default(),
            logs: self.read_logs(&transaction)?,
        })
    }

    fn write_batch(&self, batch: &WriteBatch) -> Result<(), StorageError> {
        let transaction = self.database.begin_write().map_err(|error| self.failed(error))?;
        {
            let mut meta = transaction.open_table(META).map_err(|error| self.failed(error))?;
            let mut log = transaction.open_table(LOG).map_err(|error| self.failed(error))?;
            if let Some(boot) = &batch.boot {
                self.put_meta(&mut meta, "boot", boot)?;
            }
            if let Some(standing) = &batch.standing {
                self.put_meta(&mut meta, "standing", standing)?;
            }
            let mut snapshots = transaction.open_table(SNAPSHOTS).map_err(|error| self.failed(error))?;
            if let Some(snapshot) = &batch.snapshot {
                self.name(&mut meta, &mut snapshots, snapshot)?;
                log.retain_in::<u64, _>(.., |_, _| false).map_err(|error| self.failed(error))?;
            }
            if let Some(snapshot) = &batch.compact {
                self.name(&mut meta, &mut snapshots, snapshot)?;
                let covered = ..=snapshot.at.index.value();
                log.retain_in(covered, |_, _| false).map_err(|error| self.failed(error))?;
            }
            if let Some(first) = batch.entries.first() {
                let replaced = first.at.index.value()..;
                log.retain_in(replaced, |_, _| false).map_err(|error| self.failed(error))?;
            }
            for entry in &batch.entries {
                let index = entry.at.index.value();
                let record = seal_record(&index.to_le_bytes(), entry);
                log.insert(index, record.as_slice()).map_err(|error| self.failed(error))?;
            }
            if let Some(hard_state) = &batch.hard_state {
                self.put_meta(&mut meta, "hard state", hard_state)?;
            }
        }
        self.change_logs(&transaction, &batch.logs)?;
        transaction.commit().map_err(|error| self.failed(error))
    }

    /// Names a snapshot as the one that counts. A newborn cluster's was not saved before.
    fn name(
        &self,
        meta: &mut redb::Table<'_, &'static str, &'static [u8]>,
        snapshots: &mut SnapshotTable<'_>,
        snapshot: &Snapshot,
    ) -> Result<(), StorageError> {
        let mut parts = snapshots.range(parts_of(snapshot.at)).map_err(|error| self.failed(error))?;
        let is_saved = parts.next().is_some();
        drop(parts);
        if !is_saved {
            self.put_parts(snapshots, snapshot)?;
        }
        self.put_meta(meta, "snapshot", &Named::of(snapshot))
    }

    /// An empty state is one empty part.
    fn put_parts(&self, snapshots: &mut SnapshotTable<'_>, snapshot: &Snapshot) -> Result<(), StorageError> {
        let at = snapshot.at;
        let parts = snapshot.state.chunks(PART_BYTES).chain(snapshot.state.is_empty().then_some(&[][..]));
        for (number, part) in (0..).zip(parts) {
            let key = (at.index.value(), at.term.value(), number);
            snapshots.insert(key, part).map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    fn save_snapshot(&self, snapshot: &Snapshot) -> Result<(), StorageError> {
        let transaction = self.database.begin_write().map_err(|error| self.failed(error))?;
        {
            let meta = transaction.open_table(META).map_err(|error| self.failed(error))?;
            let named = self.read_meta::<Named>(&meta, "snapshot")?.map(|named| named.at);
            let mut snapshots = transaction.open_table(SNAPSHOTS).map_err(|error| self.failed(error))?;
            let is_named = |key: (u64, u64, u64)| {
                named.is_some_and(|at| (at.index.value(), at.term.value()) == (key.0, key.1))
            };
            snapshots
                .retain_in::<(u64, u64, u64), _>(.., |key, _| is_named(key))
                .map_err(|error| self.failed(error))?;
            if named != Some(snapshot.at) {
                self.put_parts(&mut snapshots, snapshot)?;
            }
        }
        transaction.commit().map_err(|error| self.failed(error))
    }

    fn read_snapshot(
        &self,
        transaction: &redb::ReadTransaction,
        named: Named,
    ) -> Result<Snapshot, StorageError> {
        let snapshots = transaction.open_table(SNAPSHOTS).map_err(|error| self.failed(error))?;
        let mut state = BytesMut::new();
        for part in snapshots.range(parts_of(named.at)).map_err(|error| self.failed(error))? {
            let (_, part) = part.map_err(|error| self.failed(error))?;
            state.extend_from_slice(part.value());
        }
        let snapshot = Snapshot { at: named.at, membership: named.membership.clone(), state: state.freeze() };
        let found = Named::of(&snapshot);
        if (found.length, found.checksum) != (named.length, named.checksum) {
            let reason = format!(
                "it has {} bytes with checksum {:016x}, not {} with {:016x}",
                found.length, found.checksum, named.length, named.checksum
            );
            return Err(damaged(&self.place, &format!("the snapshot at {}", named.at.index), &reason));
        }
        Ok(snapshot)
    }

    fn read_meta<T: DeserializeOwned>(
        &self,
        meta: &impl ReadableTable<&'static str, &'static [u8]>,
        key: &str,
    ) -> Result<Option<T>, StorageError> {
        let record = meta.get(key).map_err(|error| self.failed(error))?;
        record.map(|record| self.open_record(key, key.as_bytes(), record.value())).transpose()
    }

    fn put_meta<T: Serialize>(
        &self,
        meta: &mut redb::Table<'_, &'static str, &'static [u8]>,
        key: &str,
        value: &T,
    ) -> Result<(), StorageError> {
        let record = seal_record(key.as_bytes(), value);
        meta.insert(key, record.as_slice()).map_err(|error| self.failed(error))?;
        Ok(())
    }

    fn open_record<T: DeserializeOwned>(
        &self,
        name: &str,
        key: &[u8],
        record: &[u8],
    ) -> Result<T, StorageError> {
        let Some((expected, body)) = record.split_first_chunk::<8>() else {
            return Err(damaged(&self.place, name, "it is shorter than its checksum"));
        };
        let (expected, found) = (u64::from_le_bytes(*expected), checksum(key, body));
        if found != expected {
            let reason = format!("its checksum is {found:016x}, not {expected:016x}");
            return Err(damaged(&self.place, name, &reason));
        }
        codec::decode(body).map_err(|error| damaged(&self.place, name, &error.to_string()))
    }

    fn failed(&self, error: impl Into<redb::Error>) -> StorageError {
        StorageError::Failed { place: self.place.clone(), reason: error.into().to_string() }
    }

    /// Runs `work`, in which redb may panic on a file whose structure is damaged.
    fn contained<T>(&self, work: impl FnOnce() -> Result<T, StorageError>) -> Result<T, StorageError> {
        catch_unwind(AssertUnwindSafe(work))
            .unwrap_or_else(|_| Err(damaged(&self.place, "the file", "its structure cannot be read")))
    }
}

impl Storage for RedbStorage {
    fn recover(&mut self) -> Result<Durable, StorageError> {
        self.contained(|| self.read_durable())
    }

    fn write(&mut self, batch: &WriteBatch) -> Result<(), StorageError> {
        self.contained(|| self.write_batch(batch))
    }

    fn read(&mut self, read: &Read) -> Result<Vec<Batch>, StorageError> {
        self.contained(|| self.read_batches(read))
    }

    fn save(&mut self, snapshot: &Snapshot) -> Result<(), StorageError> {
        self.contained(|| self.save_snapshot(snapshot))
    }
}

fn seal_record<T: Serialize>(key: &[u8], value: &T) -> Vec<u8> {
    let body = codec::encode(value);
    let mut record = checksum(key, &body).to_le_bytes().to_vec();
    record.extend_from_slice(&body);
    record
}

fn checksum(key: &[u8], body: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(&u64::try_from(key.len()).unwrap_or(u64::MAX).to_le_bytes());
    hasher.update(key);
    hasher.update(body);
    hasher.digest()
}

fn damaged(place: &str, record: &str, reason: &str) -> StorageError {
    StorageError::Damaged { place: place.to_owned(), record: record.to_owned(), reason: reason.to_owned() }
}
