//! Processes, disks and nodes that come and go.

use rivven_cluster::partition::metadata::{Command, Election};

use super::stage::{Fate, LAG, Stage, id};

fn sorted(mut nodes: Vec<u64>) -> Vec<u64> {
    nodes.sort_unstable();
    nodes
}

fn replicas(stage: &Stage) -> Vec<u64> {
    sorted(stage.record().replicas.iter().map(|node| node.value()).collect())
}

/// A process says what it has, and is gone, and so is its disk: what it said arrives late, and counts for nothing (KIP-903).
pub(super) fn late_fetch_of_a_lost_disk(stage: &mut Stage) {
    stage.write(1);
    stage.flow();
    stage.fetch(3);
    let late = stage.intercept(|packet| Stage::is_fetch_of(packet, 3));
    assert_eq!(late.len(), 1);
    stage.crash(3);
    stage.lose_disk(3, 0);
    stage.restart(3);
    stage.hear(1);
    assert_eq!(stage.in_sync(), [1, 2]);
    late.into_iter().for_each(|packet| stage.arrive(packet));
    assert!(stage.intercept(Stage::is_proposal).is_empty(), "another process said that");
    stage.pass(LAG);
    assert_eq!((stage.in_sync(), stage.end_of(3)), (vec![1, 2, 3], 1));
}

/// A process ends, with its disk, between the leader that names it in sync and the controller that hears of it.
pub(super) fn session_ends_in_flight(stage: &mut Stage) {
    stage.write(1);
    stage.pass_without(LAG * 2, &[3]);
    stage.hear(3);
    let mut held = Vec::new();
    while held.is_empty() {
        stage.sync(3);
        stage.fetch(3);
        held = stage.arrive_all_but(Stage::is_proposal);
    }
    let before = stage.session(3);
    stage.crash(3);
    stage.lose_disk(3, 0);
    stage.restart(3);
    assert!(stage.session(3) > before);
    held.into_iter().for_each(|packet| stage.arrive(packet));
    assert_eq!(stage.in_sync(), [1, 2], "that was said of another process");
    stage.pass(LAG * 2);
    assert_eq!((stage.in_sync(), stage.end_of(3)), (vec![1, 2, 3], 1));
}

/// Only the leader is left in sync, and loses its disk: whoever was in sync last still has all that was acknowledged.
pub(super) fn last_in_sync_loses_disk(stage: &mut Stage) {
    let kept = stage.write(1);
    stage.flow();
    let open = stage.write(1);
    stage.pass_without(LAG * 2, &[2, 3]);
    assert_eq!((stage.in_sync(), stage.fate(open)), (vec![1], Fate::Ambiguous));
    stage.crash(1);
    stage.lose_disk(1, 0);
    stage.fence(1);
    assert!(matches!(stage.leader(), Some(2 | 3)), "who was eligible leads");
    stage.restart(1);
    stage.pass(LAG);
    assert_eq!((stage.values(1), stage.in_sync()), (vec![kept], vec![1, 2, 3]));
}

/// All lose power, and the one that was in sync last its disk: nobody leads until one comes back that has everything.
pub(super) fn all_lose_power(stage: &mut Stage) {
    let kept = stage.write(1);
    stage.flow();
    for node in [2, 3, 1] {
        stage.crash(node);
        stage.fence(node);
    }
    stage.lose_disk(1, 0);
    stage.restart(1);
    assert_eq!(stage.leader(), None, "it lacks what was acknowledged");
    stage.restart(3);
    assert_eq!(stage.leader(), Some(3));
    stage.restart(2);
    stage.pass(LAG);
    assert_eq!(stage.values(1), [kept]);
}

/// Nobody is left who has everything: nobody leads until an operator says who shall, whatever it lacks.
pub(super) fn nobody_is_left(stage: &mut Stage) {
    for node in [1, 2, 3] {
        stage.crash(node);
        stage.fence(node);
        stage.lose_disk(node, 0);
    }
    for node in [1, 2, 3] {
        stage.restart(node);
    }
    let record = stage.record();
    assert_eq!((record.leader, record.in_sync.len(), record.eligible.len()), (None, 0, 0));
    let (partition, epoch) = (stage.partition(), record.epoch);
    let election = Election::Unclean(id(2));
    assert!(stage.order(Command::ElectLeader { partition, epoch, election }));
    assert!(stage.leader() == Some(2) && stage.record().is_recovering);
    stage.pass(LAG);
    assert!(!stage.record().is_recovering);
    assert_eq!(stage.in_sync(), [1, 2, 3]);
}

/// Fewer must be in sync from now on, so that one alone commits: nobody else has what it does, whoever was eligible.
pub(super) fn fewer_in_sync_needed(stage: &mut Stage) {
    stage.write(1);
    stage.flow();
    stage.fence(2);
    stage.fence(3);
    assert_eq!(stage.record().eligible, [id(3)]);
    stage.needs_in_sync(1);
    assert_eq!(stage.record().eligible.len(), 0);
    stage.hear(1);
    let written = stage.write(1);
    stage.flow_without(&[2, 3]);
    assert_eq!(stage.fate(written), Fate::Written);
    stage.crash(1);
    stage.fence(1);
    stage.unfence(2);
    stage.unfence(3);
    assert_eq!(stage.leader(), None, "they lack it");
    stage.restart(1);
    assert_eq!(stage.leader(), Some(1));
    stage.needs_in_sync(2);
    stage.pass(LAG);
}

/// A node is removed and added again while it hears nothing: it is in sync when it has fetched from this leader.
pub(super) fn removed_and_added(stage: &mut Stage) {
    stage.write(1);
    stage.flow();
    stage.deafen(3);
    stage.move_to(&[1, 2, 4]);
    stage.pass(LAG);
    assert_eq!(replicas(stage), [1, 2, 4]);
    stage.write(1);
    stage.flow();
    stage.move_to(&[1, 2, 3]);
    stage.flow_without(&[3]);
    assert!(!stage.in_sync().contains(&3));
    stage.can_hear(3);
    stage.pass(LAG);
    assert_eq!((replicas(stage), stage.in_sync()), (vec![1, 2, 3], vec![1, 2, 3]));
    assert_eq!(stage.values(3), stage.values(1));
}

/// The leader dies while its partition moves: the move goes on, and old logs are deleted when it is done.
pub(super) fn leader_dies_while_moving(stage: &mut Stage) {
    let kept = stage.write(1);
    stage.flow();
    stage.move_to(&[3, 4, 5]);
    stage.flow_without(&[4, 5]);
    assert!(stage.has_replica(2));
    stage.crash(1);
    stage.fence(1);
    stage.pass(LAG * 2);
    assert_eq!((replicas(stage), stage.in_sync()), (vec![3, 4, 5], vec![3, 4, 5]));
    assert!(!stage.has_replica(2), "its log is deleted");
    stage.restart(1);
    stage.flow();
    assert!(!stage.has_replica(1));
    assert_eq!(stage.values(5), [kept]);
}

/// The target of a move dies, and the move is taken back: nothing has changed.
pub(super) fn target_dies(stage: &mut Stage) {
    stage.write(1);
    stage.flow();
    stage.move_to(&[1, 2, 4]);
    stage.flow_without(&[4]);
    stage.crash(4);
    stage.fence(4);
    let written = stage.write(1);
    stage.flow();
    assert_eq!(stage.fate(written), Fate::Written);
    stage.take_back_move();
    stage.flow();
    assert_eq!((replicas(stage), stage.in_sync()), (vec![1, 2, 3], vec![1, 2, 3]));
}

/// A move drops the leader: another one leads in a later epoch, and what the old one still writes is not committed.
pub(super) fn move_drops_leader(stage: &mut Stage) {
    let kept = stage.write(1);
    stage.flow();
    let before = stage.record().leader_epoch;
    stage.move_to(&[2, 3, 4]);
    stage.hear(1);
    stage.flow_without(&[1]);
    stage.sync(1);
    stage.arrive_all();
    stage.deafen(1);
    stage.pass(LAG);
    assert_eq!(replicas(stage), [2, 3, 4]);
    assert!(stage.record().leader_epoch > before && stage.leader() != Some(1));
    let vain = stage.write(1);
    stage.pass(LAG);
    assert_eq!(stage.fate(vain), Fate::Open);
    stage.can_hear(1);
    stage.flow();
    assert_eq!(stage.fate(vain), Fate::Ambiguous);
    assert!(!stage.has_replica(1));
    assert_eq!(stage.values(4), [kept]);
}

/// Every node stops and comes back in turn, with a write each time: all of them are acknowledged.
pub(super) fn shut_down_in_turn(stage: &mut Stage) {
    let mut written = Vec::new();
    for node in [1, 2, 3] {
        stage.shut_down(node);
        stage.flow();
        let leader = stage.leader().expect("somebody leads");
        assert!(leader != node && stage.in_sync().len() == 2);
        let value = stage.write(leader);
        stage.flow();
        assert_eq!(stage.fate(value), Fate::Written);
        written.push(value);
        stage.crash(node);
        stage.fence(node);
        stage.restart(node);
        stage.pass(LAG);
        assert_eq!(stage.in_sync(), [1, 2, 3]);
    }
    assert_eq!(stage.values(2), written);
}

/// A leader hears late that another one led in between: what followers said to it before counts no more.
pub(super) fn skipped_views(stage: &mut Stage) {
    let first = stage.write(1);
    stage.sync(1);
    stage.fetch(2);
    let late = stage.intercept(|packet| Stage::is_fetch_of(packet, 2));
    stage.elect(2);
    stage.elect(1);
    [1, 2, 3].into_iter().for_each(|node| stage.hear(node));
    late.into_iter().for_each(|packet| stage.arrive(packet));
    assert_eq!((stage.committed(1), stage.fate(first)), (0, Fate::Open));
    stage.flow();
    assert_eq!((stage.committed(1), stage.fate(first)), (1, Fate::Written), "its producers wait on");
}
