//! Both stores under the suite that any store must pass, and held against each other.

use rivven_cluster::driver::{
    FileBytes as _, Folder as _, RedbStorage, SegmentStorage, Storage as _, StorageError,
};
use rivven_cluster::node::WriteBatch;
use rivven_cluster::raft::BIRTH;
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
