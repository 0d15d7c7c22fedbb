//! Who has what, and what the leader makes of it.

use core::time::Duration;

use rivven_cluster::partition::replica::io::Acks;

use super::stage::{Fate, LAG, Stage};

/// Node 3 lags, and is put out of sync.
fn put_out_3(stage: &mut Stage) {
    stage.write(1);
    stage.pass_without(LAG * 2, &[3]);
    assert_eq!(stage.in_sync(), [1, 2]);
}

/// Node 3 catches up, and the leader says so: what it says is held back.
fn admit_3(stage: &mut Stage) -> Vec<super::stage::Packet> {
    for _ in 0..6 {
        stage.hear(3);
        stage.sync(3);
        stage.fetch(3);
        let held = stage.arrive_all_but(Stage::is_proposal);
        if !held.is_empty() {
            return held;
        }
    }
    panic!("it is not admitted");
}

/// The leader asks for node 3 to be in sync, which then says nothing more: nothing is committed without it, whenever what
/// was asked for arrives.
pub(super) fn expansion_in_flight(stage: &mut Stage) {
    put_out_3(stage);
    let proposal = admit_3(stage);
    let (before, written) = (stage.committed(1), stage.write(1));
    stage.flow_without(&[3]);
    assert_eq!((stage.fate(written), stage.committed(1)), (Fate::Open, before), "it waits for node 3");
    proposal.into_iter().for_each(|packet| stage.arrive(packet));
    assert_eq!(stage.in_sync(), [1, 2, 3]);
    stage.crash(1);
    stage.fence(1);
    stage.elect(3);
    stage.flow_without(&[1]);
    assert_eq!(stage.values(3).len(), 1, "whoever leads has what was committed, and need not have more");
    assert_eq!(stage.stats(2).cut, 1);
}

/// The leader asks for node 3 to be put out, in vain: nothing is acknowledged until it has asked again, and was heard.
pub(super) fn shrink_lost(stage: &mut Stage) {
    let written = stage.write(1);
    stage.flow_without(&[3]);
    stage.jump(LAG * 2);
    assert!(!stage.intercept(Stage::is_proposal).is_empty(), "it asks");
    stage.flow_without(&[3]);
    assert_eq!((stage.fate(written), stage.in_sync()), (Fate::Open, vec![1, 2, 3]));
    stage.jump(LAG * 2);
    stage.flow_without(&[3]);
    assert_eq!((stage.fate(written), stage.in_sync()), (Fate::Written, vec![1, 2]));
}

/// Node 3 is fenced while it is to be admitted, so that is refused; but it comes a second time, when node 3 is there again.
/// As long as that may be, node 3 counts; and what makes it void comes first or second.
pub(super) fn refused_expansion_twice(stage: &mut Stage) {
    for is_void_first in [false, true] {
        put_out_3(stage);
        let proposal = admit_3(stage);
        stage.fence(3);
        proposal.iter().cloned().for_each(|packet| stage.arrive(packet));
        let void = stage.arrive_all_but(Stage::is_proposal);
        assert!(!void.is_empty(), "what was refused is made void");
        stage.unfence(3);
        let written = stage.write(1);
        for node in [2, 1, 2] {
            stage.sync(node);
            stage.fetch(node);
            stage.arrive_all();
        }
        assert_eq!(stage.fate(written), Fate::Open, "node 3 may still be admitted");
        let (first, second) = if is_void_first { (void, proposal) } else { (proposal, void) };
        first.into_iter().chain(second).for_each(|packet| stage.arrive(packet));
        assert_eq!(stage.in_sync().contains(&3), !is_void_first);
        stage.pass(LAG);
        assert_eq!((stage.fate(written), stage.in_sync()), (Fate::Written, vec![1, 2, 3]));
    }
}

/// A leader that does not hear of its fall commits nothing, and what it wrote meanwhile is cut off.
pub(super) fn leader_cut_off(stage: &mut Stage) {
    let kept = stage.write(1);
    stage.flow();
    stage.deafen(1);
    stage.fence(1);
    stage.flow();
    let (vain, written) = (stage.write(1), stage.write(2));
    stage.pass(LAG * 3);
    assert_eq!((stage.fate(vain), stage.fate(written)), (Fate::Open, Fate::Written));
    assert_eq!((stage.leader(), stage.in_sync()), (Some(2), vec![2, 3]));
    stage.can_hear(1);
    stage.unfence(1);
    stage.flow();
    assert_eq!(stage.fate(vain), Fate::Ambiguous);
    assert_eq!((stage.values(1), stage.stats(1).cut), (vec![kept, written], 1));
}

/// A leader that one follower does not reach goes on without it, after a while.
pub(super) fn follower_cut_off(stage: &mut Stage) {
    stage.cut(1, 3);
    let written = stage.write(1);
    stage.flow();
    assert_eq!(stage.fate(written), Fate::Open);
    stage.pass(LAG * 2);
    assert_eq!((stage.fate(written), stage.in_sync()), (Fate::Written, vec![1, 2]));
    stage.join();
    stage.pass(LAG);
    assert_eq!(stage.in_sync(), [1, 2, 3]);
}

/// Epochs without a record: logs are compared all the same, and cut off once.
pub(super) fn elections_without_writes(stage: &mut Stage) {
    let kept = stage.write(1);
    stage.flow();
    let vain = stage.write_with(1, Acks::Leader);
    stage.sync(1);
    assert_eq!(stage.fate(vain), Fate::Written, "the leader alone was enough");
    for node in [2, 3, 2] {
        stage.elect(node);
        stage.hear(2);
        stage.hear(3);
    }
    let written = stage.write(2);
    stage.flow();
    assert_eq!(stage.fate(written), Fate::Written);
    for node in [1, 2, 3] {
        assert_eq!(stage.values(node), [kept, written]);
        assert_eq!((stage.stats(node).cut, stage.stats(node).answers_malformed), (u64::from(node == 1), 0));
    }
}

/// A new leader does not know how much is committed: who has no more than it knows of is not in sync yet.
pub(super) fn old_watermark(stage: &mut Stage) {
    stage.write(1);
    stage.flow();
    stage.fence(3);
    stage.flow();
    let second = stage.write(1);
    stage.flow();
    assert_eq!((stage.fate(second), stage.end_of(3)), (Fate::Written, 2));
    // Node 2 has the third record, and says so; what it is told then does not arrive.
    let third = stage.write(1);
    stage.sync(1);
    stage.fetch(2);
    stage.arrive_all();
    stage.sync(2);
    stage.fetch(2);
    stage.arrive_all_but(Stage::is_answer);
    assert_eq!((stage.fate(third), stage.committed(1), stage.committed(2)), (Fate::Written, 3, 2));
    stage.unfence(3);
    stage.crash(1);
    stage.fence(1);
    stage.hear(2);
    stage.hear(3);
    assert_eq!((stage.leader(), stage.end_of(3)), (Some(2), stage.committed(2)));
    stage.fetch(3);
    let held = stage.arrive_all_but(|packet| Stage::is_answer(packet) || Stage::is_proposal(packet));
    assert!(!held.iter().any(Stage::is_proposal), "node 3 lacks what node 1 has committed");
    held.into_iter().for_each(|packet| stage.arrive(packet));
    stage.flow_without(&[1]);
    assert_eq!((stage.in_sync(), stage.committed(2)), (vec![2, 3], 3));
}

/// Nothing is written while too few are in sync; what was written just before that is committed once, or not at all.
pub(super) fn too_few_in_sync(stage: &mut Stage) {
    stage.fence(2);
    stage.fence(3);
    stage.hear(1);
    let refused = stage.write(1);
    assert_eq!((stage.fate(refused), stage.end_of(1)), (Fate::Refused, 0));
    stage.unfence(2);
    stage.unfence(3);
    stage.pass(LAG);
    let open = stage.write(1);
    stage.fence(2);
    stage.fence(3);
    stage.hear(1);
    assert_eq!((stage.fate(open), stage.end_of(1)), (Fate::Ambiguous, 1));
    stage.unfence(2);
    stage.unfence(3);
    stage.pass(LAG);
    assert_eq!((stage.values(1), stage.committed(1)), (vec![open], 1));
}

/// What was acknowledged by the leader alone goes with it, and nobody has read it.
pub(super) fn leader_only_write(stage: &mut Stage) {
    let lost = stage.write_with(1, Acks::Leader);
    stage.sync(1);
    assert_eq!((stage.fate(lost), stage.committed(1)), (Fate::Written, 0));
    stage.crash(1);
    stage.fence(1);
    stage.flow_without(&[1]);
    let written = stage.write(2);
    stage.flow_without(&[1]);
    stage.restart(1);
    stage.pass(LAG);
    assert_eq!((stage.values(1), stage.fate(written)), (vec![written], Fate::Written));
}

/// While nothing can be committed everybody has all that is: whoever does not keep up is not admitted for that, and put out
/// again, over and over (KAFKA-19996).
pub(super) fn frozen_watermark(stage: &mut Stage) {
    stage.fence(2);
    stage.fence(3);
    stage.hear(1);
    stage.write_with(1, Acks::Leader);
    stage.sync(1);
    stage.unfence(2);
    stage.hear(1);
    stage.hear(2);
    stage.jump(LAG * 2);
    for _ in 0..20 {
        stage.jump(LAG / 2);
        stage.fetch(2);
        let held = stage.arrive_all_but(|packet| Stage::is_answer(packet) || Stage::is_proposal(packet));
        assert!(!held.iter().any(Stage::is_proposal), "it is not admitted");
    }
    stage.flow();
    assert_eq!(stage.in_sync(), [1, 2]);
}

/// What a follower lacks is not kept any more: it begins anew where the leader's log does.
pub(super) fn log_begins_behind_follower(stage: &mut Stage) {
    put_out_3(stage);
    stage.write(1);
    stage.write(1);
    stage.flow_without(&[3]);
    stage.trim(1, 2);
    stage.flow_without(&[3]);
    assert_eq!((stage.start_of(1), stage.start_of(2), stage.end_of(3)), (2, 2, 0));
    stage.pass(LAG);
    assert_eq!((stage.start_of(3), stage.committed(3), stage.stats(3).restarted), (2, 3, 1));
    assert_eq!(stage.in_sync(), [1, 2, 3]);
}

/// An hour passes at once: who has everything does not lag.
pub(super) fn clock_jumps(stage: &mut Stage) {
    stage.write(1);
    stage.flow();
    stage.jump(Duration::from_secs(3600));
    stage.flow();
    assert_eq!((stage.in_sync(), stage.stats(1).put_out), (vec![1, 2, 3], 0));
}

/// A new leader writes before anybody could fetch from it: nobody lags for that.
pub(super) fn first_write(stage: &mut Stage) {
    stage.write(1);
    stage.flow();
    stage.jump(LAG * 10);
    stage.elect(2);
    stage.hear(2);
    let written = stage.write(2);
    stage.jump(LAG - Duration::from_millis(50));
    assert!(stage.intercept(Stage::is_proposal).is_empty(), "nobody is put out");
    stage.flow();
    assert_eq!((stage.fate(written), stage.stats(2).put_out), (Fate::Written, 0));
}
