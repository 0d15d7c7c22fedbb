//! Both stores under the suite that any store must pass, and held against each other.

use rivven_cluster::driver::{
    FileBytes as _, Folder as _, RedbStorage, SegmentStorage, Storage as _, StorageError,
};
use rivven_cluster::id::{LeaderEpoch, Offset, PartitionId, TopicId};
use rivven_cluster::node::WriteBatch;
use rivven_cluster::partition::log::{Change, Read, What};
use rivven_cluster::partition::records::{self, Record};
use rivven_cluster::partition::replica::io::Batch;
use rivven_cluster::raft::BIRTH;
use rivven_cluster::time::WallSeconds;
use rivven_sim::device::Device;
use rivven_sim::folder::SimFolder;
use rivven_sim::storage_suite::{Life, RedbRig, SegmentRig, Step, agree, knows_its_owner, owner};

rivven_sim::storage_suite!(segments, SegmentRig);
rivven_sim::storage_suite!(redb, RedbRig);

#[test]
fn the_segment_log_and_redb_hold_the_same() {
    (1..=3).for_each(|seed| agree::<SegmentRig, RedbRig>(seed, 80));
}

#[test]
fn each_knows_its_owner() {
    let folder = SimFolder::default();
    knows_its_owner(|owner| SegmentStorage::open(folder.attach(), owner, 1).map(drop));
    let device = Device::default();
    knows_its_owner(|owner| {
        device.make("the suite", owner)?;
        RedbStorage::open_backend(device.attach(), "the suite", owner).map(drop)
    });
}

/// A torn end is cut off; what is damaged before it was acknowledged, and is not forgotten without a word.
#[test]
fn damage_before_the_end_of_the_segment_log_is_refused() {
    let (folder, mut life) = (SimFolder::default(), Life::new(7));
    let mut store = SegmentStorage::open(folder.attach(), &owner(), 1).expect("an empty folder");
    for _ in 0..20 {
        match life.step() {
            step @ Step::Write(_) => {
                let Step::Write(batch) = &step else { continue };
                store.write(batch).expect("a sound disk");
                life.done(&step);
            }
            Step::Save(snapshot) => store.save(&snapshot).expect("a sound disk"),
        }
    }
    drop(store);
    let attached = folder.attach();
    let mut file = attached.open("log-0000000000000001").expect("the first segment");
    let mut byte = [0];
    file.read(4096 + 30, &mut byte).expect("a record");
    file.write(4096 + 30, &[byte[0] ^ 1]).expect("a sound disk");
    let error = SegmentStorage::open(attached, &owner(), 1).map(drop).expect_err("it is damaged");
    assert!(matches!(error, StorageError::Damaged { .. }), "{error}");
}

fn stands_for_nothing(batch: &WriteBatch) -> bool {
    batch.compact.is_none() && batch.snapshot.as_ref().is_none_or(|snapshot| snapshot.at == BIRTH)
}

/// Without the segments before, what is left is no log, and an emptied folder is not a new one.
#[test]
fn a_missing_segment_is_refused() {
    let (folder, mut life) = (SimFolder::default(), Life::new(3));
    let mut store = SegmentStorage::open_sized(folder.attach(), &owner(), 1, 12 * 1024).expect("empty");
    while folder.attach().open("log-0000000000000003").is_err() {
        let step = life.step();
        match &step {
            Step::Write(batch) if stands_for_nothing(batch) => store.write(batch).expect("a sound disk"),
            Step::Write(_) | Step::Save(_) => continue,
        }
        life.done(&step);
    }
    drop(store);
    let attached = folder.attach();
    attached.remove("log-0000000000000001").expect("it is there");
    let error = SegmentStorage::open(attached, &owner(), 1).map(drop).expect_err("it is incomplete");
    assert!(matches!(error, StorageError::Damaged { .. }), "{error}");
}

/// A log that is written to seldom does not keep all segments that are younger than its batches.
#[test]
fn a_quiet_log_keeps_no_old_segments() {
    let folder = SimFolder::default();
    let mut store = SegmentStorage::open_sized(folder.attach(), &owner(), 1, 12 * 1024).expect("empty");
    let mut life = Life::new(3);
    // A cluster is born, so that segments may be freed at all.
    for _ in 0..2 {
        let step = life.step();
        let Step::Write(batch) = &step else { panic!("{step:?}") };
        store.write(batch).expect("a sound disk");
        life.done(&step);
    }
    let partition = |number: u32| PartitionId { topic: TopicId::new(9), number };
    let batch = |first: u64, length: usize| {
        let value = vec![7; length].into();
        let records = records::encode(&[Record { key: None, value }]);
        Batch {
            first: Offset::new(first),
            epoch: LeaderEpoch::new(1),
            count: 1,
            stamp: None,
            time: WallSeconds::default(),
            records,
        }
    };
    let write = |store: &mut SegmentStorage<SimFolder>, life: &mut Life, logs: Vec<Change>| {
        let step = Step::Write(WriteBatch { logs, ..WriteBatch::default() });
        let Step::Write(batch) = &step else { unreachable!() };
        store.write(batch).expect("a sound disk");
        life.done(&step);
    };
    let append =
        |number: u32, batch: Batch| Change { partition: partition(number), what: What::Append(batch) };
    write(&mut store, &mut life, vec![append(0, batch(0, 500)), append(0, batch(1, 500))]);
    for first in 0..400 {
        let trim = Change { partition: partition(1), what: What::Trim(Offset::new(first.max(3) - 3)) };
        write(&mut store, &mut life, vec![append(1, batch(first, 1000)), trim]);
    }
    let names = folder.attach().list().expect("a sound disk");
    let segments = names.iter().filter(|name| name.starts_with("log-")).count();
    assert!(segments <= 8, "{segments} segments are kept of some forty");
    let read = Read { partition: partition(0), from: Offset::new(0), until: Offset::new(2), bytes: 9999 };
    assert_eq!(store.read(&read), Ok(life.records.read(&read)));
    assert_eq!(life.records.read(&read).len(), 2);
    drop(store);
    folder.settle();
    let mut store =
        SegmentStorage::open_sized(folder.attach(), &owner(), 1, 12 * 1024).expect("a sound disk");
    assert_eq!(store.recover(), Ok(life.durable.clone()));
    assert_eq!(store.read(&read), Ok(life.records.read(&read)));
}
