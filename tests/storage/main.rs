//! The store: a batch is there whole or not at all, and what is wrong with a disk is said.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on fails; it damages files"
)]
#![cfg(feature = "driver")]

mod backup;
mod previous;
#[path = "../support/mod.rs"]
mod support;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use redb::{ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};
use rivven_cluster::driver::{Completion, Disk, Owner, RedbStorage, Storage, StorageError, ThreadDisk};
use rivven_cluster::id::{BootId, LogIndex, Term, WriteId};
use rivven_cluster::node::{Durable, Node, StartError, WriteBatch};
use rivven_cluster::partition::log::Read;
use rivven_cluster::partition::replica::io::Batch;
use rivven_cluster::raft::{HardState, RecoveryError, Snapshot};
use rivven_cluster::session::{ClusterTime, Proposal};
use rivven_cluster::time::Instant;
use support::{config, entry, formed, node};

fn owner(id: u64) -> Owner {
    Owner { cluster: "test".parse().expect("a sound name"), node: node(id) }
}

fn open(folder: &Path) -> Result<RedbStorage, StorageError> {
    RedbStorage::open(&folder.join("node.redb"), &owner(1))
}

fn reopened(folder: &Path) -> Durable {
    open(folder).and_then(|mut store| store.recover()).expect("a sound store")
}

fn hard_state(term: u64, commit: u64) -> HardState {
    HardState { term: Term::new(term), vote: Some(node(2)), commit: LogIndex::new(commit) }
}

/// What forming a cluster, and then a few entries, leave on the disk.
fn batches() -> [WriteBatch; 2] {
    let born = formed(3);
    let birth = WriteBatch {
        id: WriteId::new(1),
        boot: Some(BootId::new(1)),
        standing: Some(born.standing),
        snapshot: born.snapshot,
        hard_state: Some(born.hard_state),
        ..WriteBatch::default()
    };
    let entries = vec![entry(2, 2), entry(3, 2), entry(4, 2)];
    let log = WriteBatch {
        id: WriteId::new(2),
        entries,
        hard_state: Some(hard_state(2, 3)),
        ..WriteBatch::default()
    };
    [birth, log]
}

fn filled(folder: &Path) {
    let mut store = open(folder).expect("a new store");
    for batch in batches() {
        store.write(&batch).expect("a working disk");
    }
}

#[test]
fn a_new_store_is_empty_and_a_written_one_gives_back_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(reopened(folder.path()), Durable::default());
    filled(folder.path());
    let durable = reopened(folder.path());
    assert_eq!(durable.boot, BootId::new(1));
    assert_eq!(durable.standing, formed(3).standing);
    assert_eq!(durable.snapshot, formed(3).snapshot);
    assert_eq!(durable.entries, [entry(2, 2), entry(3, 2), entry(4, 2)]);
    assert_eq!(durable.hard_state, hard_state(2, 3));
}

#[test]
fn entries_replace_the_log_from_the_first_ones_index_on() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path());
    let entries = vec![entry(3, 3)];
    let batch = WriteBatch { id: WriteId::new(3), entries, ..WriteBatch::default() };
    open(folder.path()).unwrap().write(&batch).unwrap();
    assert_eq!(reopened(folder.path()).entries, [entry(2, 2), entry(3, 3)]);
}

#[test]
fn a_snapshot_replaces_the_whole_log() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path());
    let mut snapshot = formed(3).snapshot.unwrap();
    snapshot.at = support::at(50, 3);
    let batch =
        WriteBatch { snapshot: Some(snapshot.clone()), entries: vec![entry(51, 3)], ..WriteBatch::default() };
    open(folder.path()).unwrap().write(&batch).unwrap();
    let durable = reopened(folder.path());
    assert_eq!((durable.snapshot, durable.entries), (Some(snapshot), vec![entry(51, 3)]));
}

#[test]
fn a_store_that_is_open_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _first = open(folder.path()).unwrap();
    assert!(matches!(open(folder.path()), Err(StorageError::InUse { .. })));
}

#[test]
fn another_nodes_store_is_refused_with_both_names() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path());
    let Err(error) = RedbStorage::open(&folder.path().join("node.redb"), &owner(2)) else {
        panic!("it opened")
    };
    let text = error.to_string();
    assert!(text.contains("belongs to node 1") && text.contains("not to node 2"), "{text}");
}

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");

/// Changes one byte of a log entry's record, behind the store's back.
fn damage_entry(folder: &Path, index: u64) {
    let database = redb::Database::open(folder.join("node.redb")).unwrap();
    let mut record = {
        let transaction = database.begin_read().unwrap();
        transaction.open_table(LOG).unwrap().get(index).unwrap().unwrap().value().to_vec()
    };
    *record.last_mut().unwrap() ^= 1;
    let transaction = database.begin_write().unwrap();
    transaction.open_table(LOG).unwrap().insert(index, record.as_slice()).unwrap();
    transaction.commit().unwrap();
}

#[test]
fn a_checksum_that_does_not_fit_says_what_and_where() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path());
    damage_entry(folder.path(), 3);
    let error = open(folder.path()).unwrap().recover().unwrap_err();
    let StorageError::Damaged { place, record, reason } = &error else { panic!("{error}") };
    assert!(place.ends_with("node.redb"), "{place}");
    assert_eq!(record, "log entry 3");
    assert!(reason.contains("checksum"), "{reason}");
    assert!(error.to_string().contains("restore"), "it says what to do: {error}");
}

#[test]
fn a_record_in_the_wrong_place_is_found() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path());
    {
        let database = redb::Database::open(folder.path().join("node.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        {
            let mut log = transaction.open_table(LOG).unwrap();
            let record = log.get(2).unwrap().unwrap().value().to_vec();
            log.insert(3, record.as_slice()).unwrap();
        }
        transaction.commit().unwrap();
    }
    let error = open(folder.path()).unwrap().recover().unwrap_err();
    assert!(matches!(&error, StorageError::Damaged { record, .. } if record == "log entry 3"), "{error}");
}

#[test]
fn another_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path());
    {
        let database = redb::Database::open(folder.path().join("node.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        let body = [9_u8];
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        hasher.update(&6_u64.to_le_bytes());
        hasher.update(b"format");
        hasher.update(&body);
        let mut record = hasher.digest().to_le_bytes().to_vec();
        record.extend_from_slice(&body);
        transaction.open_table(META).unwrap().insert("format", record.as_slice()).unwrap();
        transaction.commit().unwrap();
    }
    let Err(error) = open(folder.path()) else { panic!("it opened") };
    assert!(matches!(error, StorageError::Format { found: 9, supported: 5, .. }), "{error}");
}

#[test]
fn a_file_that_is_no_store_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("node.redb"), vec![7; 100_000]).unwrap();
    assert!(matches!(open(folder.path()), Err(StorageError::Open { .. } | StorageError::Damaged { .. })));
}

/// A block device in memory whose syncs fail when told to.
#[derive(Clone, Debug, Default)]
struct Device {
    bytes: Arc<Mutex<Vec<u8>>>,
    broken: Arc<AtomicBool>,
}

impl StorageBackend for Device {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.bytes.lock().unwrap().len().try_into().unwrap())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let start = usize::try_from(offset).unwrap();
        out.copy_from_slice(&self.bytes.lock().unwrap()[start..start + out.len()]);
        Ok(())
    }

    fn set_len(&self, length: u64) -> Result<(), io::Error> {
        self.bytes.lock().unwrap().resize(usize::try_from(length).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(io::Error::other("the sync failed"));
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let start = usize::try_from(offset).unwrap();
        self.bytes.lock().unwrap()[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }
}

/// A failed sync is reported once, with a reason, and every later write fails as well: nothing is
/// retried as if it had not happened.
#[tokio::test]
async fn a_failed_sync_is_reported_and_never_retried() {
    let device = Device::default();
    let store = RedbStorage::open_backend(device.clone(), "the device", &owner(1)).unwrap();
    let mut disk = ThreadDisk::start(store).unwrap();
    let [birth, log] = batches();
    disk.submit(birth);
    assert_eq!(written(&mut disk).await, (WriteId::new(1), Ok(())));
    device.broken.store(true, Ordering::Relaxed);
    disk.submit(log.clone());
    let (id, result) = written(&mut disk).await;
    assert_eq!(id, WriteId::new(2));
    let error = result.unwrap_err();
    assert!(error.to_string().contains("the device failed"), "{error}");
    device.broken.store(false, Ordering::Relaxed);
    disk.submit(WriteBatch { id: WriteId::new(3), ..log });
    assert!(written(&mut disk).await.1.is_err(), "the store stays failed until it is opened again");
}

/// Whoever closes a disk may open its store again at once.
#[tokio::test]
async fn a_closed_disk_has_given_its_store_back() {
    let folder = tempfile::tempdir().unwrap();
    for round in 1..=20 {
        let mut disk = ThreadDisk::start(open(folder.path()).expect("given back")).unwrap();
        disk.submit(WriteBatch {
            id: WriteId::new(round),
            boot: Some(BootId::new(round)),
            ..WriteBatch::default()
        });
        disk.close().await;
    }
    assert_eq!(reopened(folder.path()).boot, BootId::new(20));
}

/// A store that panics, as an embedder's may.
struct Panicking;

/// Waits for a write.
async fn written(disk: &mut ThreadDisk) -> (WriteId, Result<(), StorageError>) {
    match disk.completed().await {
        Completion::Written(id, result) => (id, result),
        other @ (Completion::Read(..) | Completion::Saved(_) | Completion::Built(_)) => panic!("{other:?}"),
    }
}

impl Storage for Panicking {
    fn save(&mut self, _: &Snapshot) -> Result<(), StorageError> {
        panic!("a bug in a store")
    }

    fn read(&mut self, _: &Read) -> Result<Vec<Batch>, StorageError> {
        panic!("a bug in a store")
    }

    fn recover(&mut self) -> Result<Durable, StorageError> {
        Ok(Durable::default())
    }

    fn write(&mut self, _batch: &WriteBatch) -> Result<(), StorageError> {
        panic!("a bug in somebody's store");
    }
}

#[tokio::test]
async fn a_storage_thread_that_panics_is_a_failed_write() {
    let mut disk = ThreadDisk::start(Panicking).unwrap();
    disk.submit(batches()[0].clone());
    let (id, result) = written(&mut disk).await;
    assert_eq!(id, WriteId::new(1));
    assert!(result.unwrap_err().to_string().contains("panicked"));
}

fn start_on(durable: Durable) -> Result<Node<rivven_cluster::kv::KeyValue>, StartError> {
    let seed = rivven_cluster::rng::Seed::new(1);
    let map = rivven_cluster::kv::KeyValue::default();
    Node::start(config(1, 3), seed, durable, map, Instant::ORIGIN)
}

#[test]
fn a_log_that_ends_below_its_commit_stops_the_start_and_says_what_to_do() {
    let durable = Durable { hard_state: hard_state(2, 9), entries: vec![entry(2, 2)], ..formed(3) };
    let error = start_on(durable).unwrap_err();
    assert!(matches!(error, StartError::Recovery(RecoveryError::EndsBelowCommit { .. })));
    let text = error.to_string();
    assert!(
        text.contains("ends at index 2") && text.contains("index 9") && text.contains("restore"),
        "{text}"
    );
}

#[test]
fn a_formed_cluster_without_a_snapshot_stops_the_start() {
    let durable = Durable { snapshot: None, ..formed(3) };
    assert_eq!(start_on(durable).unwrap_err(), StartError::SnapshotMissing);
}

#[test]
fn a_restarted_node_applies_what_was_committed() {
    let command =
        Proposal::Command(rivven_cluster::kv::Command::Put { key: "k".into(), value: "v".into() }.encode());
    let command = command.seal(ClusterTime::default());
    let entries = vec![rivven_cluster::raft::Entry::of_command(support::at(2, 2), command)];
    let durable = Durable { hard_state: hard_state(2, 2), entries, ..formed(3) };
    let mut node = start_on(durable).unwrap();
    support::drain(&mut node);
    let answer = rivven_cluster::state_machine::StateMachine::query(node.state_machine(), b"k");
    let value = Some("v".into());
    assert_eq!(rivven_cluster::kv::Answer::decode(&answer), Ok(rivven_cluster::kv::Answer::Value(value)));
}

/// A crash while the file is made leaves something half made beside its place, never in it.
#[test]
fn a_store_that_was_half_made_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let beside = folder.path().join("node.new");
    std::fs::write(&beside, [0; 5000]).unwrap();
    filled(folder.path());
    assert!(!beside.exists());
    assert_eq!(reopened(folder.path()).boot, BootId::new(1));
}

/// Whatever rots in the file: it is refused, or read as it once was, and redb's panics stay inside.
#[test]
fn a_rotten_file_is_refused_or_read_as_it_once_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut once = vec![reopened(folder.path())];
    for batch in batches() {
        open(folder.path()).unwrap().write(&batch).unwrap();
        once.push(reopened(folder.path()));
    }
    let path = folder.path().join("node.redb");
    let sound = std::fs::read(&path).unwrap();
    let used: Vec<usize> = (0..sound.len()).filter(|place| sound[*place] != 0).collect();
    let (mut refused, mut read) = (0, 0);
    for seed in 0..400 {
        let mut fate = rivven_cluster::rng::Seed::new(seed).stream("rot", 0);
        let mut rotten = sound.clone();
        for _ in 0..fate.between(1, 9) {
            let place = usize::try_from(fate.below(u64::try_from(used.len()).unwrap())).unwrap();
            rotten[used[place]] ^= 1 << fate.below(8);
        }
        std::fs::write(&path, &rotten).unwrap();
        match open(folder.path()).and_then(|mut store| store.recover()) {
            Ok(found) => {
                assert!(once.contains(&found), "seed {seed} makes up {found:?}");
                read += 1;
            }
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 20, "{refused} refused, {read} read");
}
