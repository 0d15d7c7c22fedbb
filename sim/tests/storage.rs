//! Both stores under the suite that any store must pass, and held against each other.

use rivven_cluster::driver::{RedbStorage, SegmentStorage};
use rivven_sim::device::Device;
use rivven_sim::folder::SimFolder;
use rivven_sim::storage_suite::{RedbRig, SegmentRig, agree, knows_its_owner};

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
