//! Backups: what comes back is what was there, and what is not whole is refused.

use std::path::Path;

use crate::support::{entry, formed, node};
use bytes::Bytes;
use rivven_cluster::driver::backup::{BACKUP_FORMAT, Backup, BackupError, Contents, back_up};
use rivven_cluster::driver::{Owner, ReadOnly, SegmentStorage, Storage, SystemFolder};
use rivven_cluster::id::{LeaderEpoch, LogIndex, Offset, PartitionId, Term, TopicId, WriteId};
use rivven_cluster::node::{StartError, WriteBatch};
use rivven_cluster::partition::log::{Change, Read, What};
use rivven_cluster::partition::records::{self, Record};
use rivven_cluster::partition::replica::io::Batch;
use rivven_cluster::raft::HardState;
use rivven_cluster::time::WallSeconds;

fn owner(id: u64) -> Owner {
    Owner { cluster: "test".parse().expect("a sound name"), node: node(id) }
}

fn open(folder: &Path) -> SegmentStorage<SystemFolder> {
    let folder = SystemFolder::claim(folder).expect("nobody else has it");
    SegmentStorage::open_sized(folder, &owner(1), 7, 64 * 1024).expect("a sound store")
}

fn partition() -> PartitionId {
    PartitionId { topic: TopicId::new(9), number: 3 }
}

fn batch(first: u64, count: u32) -> Batch {
    Batch {
        first: Offset::new(first),
        epoch: LeaderEpoch::new(4),
        count,
        stamp: None,
        time: WallSeconds(77),
        records: records::encode(&[Record { key: None, value: Bytes::from(vec![b'x'; 20_000]) }]),
    }
}

/// A member's folder, with a log of 400 kB whose first batch is half trimmed.
fn fill(folder: &Path) {
    let mut storage = open(folder);
    let born = formed(3);
    storage.recover().unwrap();
    let birth = WriteBatch {
        id: WriteId::new(1),
        standing: Some(born.standing),
        snapshot: born.snapshot,
        hard_state: Some(born.hard_state),
        ..WriteBatch::default()
    };
    storage.save(birth.snapshot.as_ref().unwrap()).unwrap();
    storage.write(&birth).unwrap();
    let commit = LogIndex::new(3);
    let hard_state = HardState { term: Term::new(2), vote: Some(node(2)), commit };
    let entries = vec![entry(2, 2), entry(3, 2), entry(4, 2)];
    let id = WriteId::new(2);
    storage
        .write(&WriteBatch { id, entries, hard_state: Some(hard_state), ..WriteBatch::default() })
        .unwrap();
    for number in 0..20 {
        let logs = vec![Change { partition: partition(), what: What::Append(batch(number * 10, 10)) }];
        storage.write(&WriteBatch { id: WriteId::new(3 + number), logs, ..WriteBatch::default() }).unwrap();
    }
    let trim = Change { partition: partition(), what: What::Trim(Offset::new(5)) };
    let committed = Change { partition: partition(), what: What::Committed(Offset::new(180)) };
    let logs = vec![trim, committed];
    storage.write(&WriteBatch { id: WriteId::new(30), logs, ..WriteBatch::default() }).unwrap();
}

fn backed_up(folder: &Path) -> (Vec<u8>, Contents) {
    let read_only = ReadOnly(SystemFolder::claim(folder).unwrap());
    let mut storage = SegmentStorage::open_sized(read_only, &owner(1), 0, 64 * 1024).unwrap();
    let mut file = Vec::new();
    let contents = back_up(&mut storage, &owner(1), &mut file).unwrap();
    (file, contents)
}

fn restore(file: &[u8], folder: &Path) -> Result<Contents, BackupError> {
    Backup::open(file, &owner(1))?.restore(&mut open(folder))
}

#[test]
fn a_restored_node_is_alone_and_has_everything() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(from.path());
    let (file, contents) = backed_up(from.path());
    let bytes: usize = (0..20).map(|number| batch(number * 10, 10).records.len()).sum();
    let written = (contents.last, contents.partitions, contents.record_bytes);
    assert_eq!(written, (LogIndex::new(4), 1, u64::try_from(bytes).unwrap()));
    assert_eq!(restore(&file, to.path()).unwrap(), contents);

    let mut storage = open(to.path());
    let durable = storage.recover().unwrap();
    durable.check(node(1)).unwrap();
    let voters = durable.snapshot.unwrap().membership.voters().clone();
    assert_eq!(voters.into_iter().collect::<Vec<_>>(), [node(1)]);
    assert_eq!(durable.hard_state.term, Term::new(3), "a term in which it has promised nothing");
    assert_eq!(durable.entries.len(), 3);
    let log = durable.logs.get(partition()).unwrap();
    let ends = (log.start(), log.end(), log.high_watermark());
    assert_eq!(ends, (Offset::new(5), Offset::new(200), Offset::new(180)));
    let read =
        Read { partition: partition(), from: Offset::new(5), until: Offset::new(200), bytes: usize::MAX };
    let batches = storage.read(&read).unwrap();
    assert_eq!(batches, (0..20).map(|number| batch(number * 10, 10)).collect::<Vec<_>>());
}

#[test]
fn what_is_cut_short_or_changed_anywhere_is_refused() {
    let from = tempfile::tempdir().unwrap();
    fill(from.path());
    let (file, _) = backed_up(from.path());
    for step in 0..60 {
        let place = step * (file.len() - 1) / 60;
        let to = tempfile::tempdir().unwrap();
        let short = restore(&file[..place], to.path());
        assert!(matches!(short, Err(BackupError::NoBackup | BackupError::Damaged(_))), "{place}: {short:?}");
        let mut changed = file.clone();
        changed[place] ^= 4;
        let to = tempfile::tempdir().unwrap();
        let found = restore(&changed, to.path());
        let is_refused = matches!(
            found,
            Err(BackupError::NoBackup | BackupError::Damaged(_) | BackupError::Format { .. })
        );
        assert!(is_refused, "{place}: {found:?}");
    }
}

#[test]
fn a_later_format_another_owner_and_who_is_no_member_are_refused() {
    let from = tempfile::tempdir().unwrap();
    fill(from.path());
    let (mut file, _) = backed_up(from.path());
    let other = Backup::open(&file[..], &owner(2)).map(|_| ()).unwrap_err();
    assert!(matches!(other, BackupError::OtherOwner { .. }), "{other}");
    file[8..12].copy_from_slice(&(BACKUP_FORMAT + 1).to_le_bytes());
    let later = Backup::open(&file[..], &owner(1)).map(|_| ()).unwrap_err();
    assert_eq!(later.to_string(), "the backup has format 2, this build reads up to 1: use a later build");
    let empty = tempfile::tempdir().unwrap();
    let nobody = back_up(&mut open(empty.path()), &owner(1), &mut Vec::new()).unwrap_err();
    assert!(matches!(nobody, BackupError::Start(StartError::NoMember)), "{nobody}");
}

/// What judges a folder must not change it, nor make a log where there is none.
#[test]
fn a_folder_that_is_only_read_is_not_changed() {
    let folder = tempfile::tempdir().unwrap();
    let empty = ReadOnly(SystemFolder::claim(folder.path()).unwrap());
    let refused = SegmentStorage::open(empty, &owner(1), 0).map(|_| ()).unwrap_err();
    assert!(refused.to_string().contains("only read"), "{refused}");
    fill(folder.path());
    let read_only = ReadOnly(SystemFolder::claim(folder.path()).unwrap());
    let mut storage = SegmentStorage::open(read_only, &owner(1), 0).unwrap();
    storage.recover().unwrap();
    let refused = storage.write(&WriteBatch { id: WriteId::new(31), ..WriteBatch::default() }).unwrap_err();
    assert!(refused.to_string().contains("only read"), "{refused}");
}
