//! Changes of the membership (Raft §6; Raft thesis §4): when one may begin, when it counts, who steps down.

#![expect(clippy::wildcard_enum_match_arm, reason = "few outputs matter here")]

use std::collections::BTreeSet;

use crate::support::{Group, Member, newborn, node};
use rivven_cluster::id::{NodeId, RequestId};
use rivven_cluster::machine::Machine as _;
use rivven_cluster::raft::{
    Body, Change, ChangeError, Content, Decline, Flow, Input, Membership, Output, Role, Step,
};

fn change(member: &mut Member, change: Change) {
    member.handle(Input::Change { id: Some(RequestId::new(7)), change });
}

fn voters(members: &[u64]) -> BTreeSet<NodeId> {
    members.iter().copied().map(node).collect()
}

/// Why the last change was not taken on.
fn declined(member: &mut Member) -> Option<Decline> {
    let outputs = core::mem::take(&mut member.others);
    outputs.into_iter().rev().find_map(|output| match output {
        Output::Declined { reason, .. } => Some(reason),
        _ => None,
    })
}

fn memberships(member: &mut Member) -> Vec<Membership> {
    let outputs = core::mem::take(&mut member.others);
    let membership = |output| match output {
        Output::Membership(membership) => Some(membership),
        _ => None,
    };
    outputs.into_iter().filter_map(membership).collect()
}

#[test]
fn a_change_counts_on_all_members_when_it_is_applied() {
    let mut group = Group::new(3);
    group.elect(1);
    change(group.member(1), Change::one(Step::Remove(node(3))));
    assert_eq!(group.member(1).raft.membership().voters(), &voters(&[1, 2, 3]), "it is only appended");
    group.settle();
    // Followers hear what is committed with the next thing that they hear.
    group.member(1).time_out();
    group.settle();
    for member in [1, 2] {
        assert_eq!(group.member(member).raft.membership().voters(), &voters(&[1, 2]));
    }
}

#[test]
fn a_leader_begins_no_change_before_it_has_committed_in_its_own_term() {
    let mut leader = Member::new(1, newborn(3));
    leader.time_out();
    leader.persist();
    let granted =
        rivven_cluster::raft::Verdict { granted: true, commit: rivven_cluster::raft::Position::default() };
    leader.receive(2, 2, Body::PreVoteResponse(granted));
    leader.persist();
    leader.receive(2, 2, Body::VoteResponse(granted));
    leader.persist();
    assert_eq!(leader.role(), Role::Leader);
    change(&mut leader, Change::one(Step::Remove(node(3))));
    assert_eq!(declined(&mut leader), Some(Decline::Change(ChangeError::UnderWay)));
}

#[test]
fn one_change_at_a_time() {
    let mut group = Group::new(3);
    group.elect(1);
    change(group.member(1), Change::one(Step::Remove(node(3))));
    change(group.member(1), Change::one(Step::Remove(node(2))));
    assert_eq!(declined(group.member(1)), Some(Decline::Change(ChangeError::UnderWay)));
}

#[test]
fn a_follower_changes_nothing() {
    let mut group = Group::new(3);
    group.elect(1);
    change(group.member(2), Change::one(Step::Remove(node(3))));
    assert_eq!(declined(group.member(2)), Some(Decline::NotLeader));
}

#[test]
fn a_leader_leaves_a_joint_membership_by_itself() {
    let mut group = Group::new(5);
    group.elect(1);
    change(group.member(1), Change::Steps(vec![Step::Demote(node(4)), Step::Remove(node(5))]));
    group.settle();
    group.member(1).time_out();
    group.settle();
    let seen = memberships(group.member(1));
    assert_eq!(seen.iter().map(Membership::is_joint).collect::<Vec<_>>(), [true, false]);
    assert_eq!(seen[1].voters(), &voters(&[1, 2, 3]));
    assert_eq!(seen[1].learners(), &voters(&[4]));
}

#[test]
fn whoever_leads_next_leaves_a_joint_membership() {
    // The leader that entered it is gone, and a snapshot stands for what it did.
    let steps = vec![Step::Demote(node(4)), Step::Demote(node(5))];
    let joint = newborn(5).snapshot.membership.after(&Change::Steps(steps), crate::support::at(2, 2).term);
    let joint = joint.expect("it makes sense");
    let mut recovered = newborn(5);
    recovered.snapshot.membership = joint;
    let member = |id| (id, Member::new(id, recovered.clone()));
    let mut group = Group { members: (1..=5).map(member).collect() };
    group.elect(2);
    group.settle();
    let now = group.member(2).raft.membership();
    assert!(!now.is_joint());
    assert_eq!((now.voters(), now.learners()), (&voters(&[1, 2, 3]), &voters(&[4, 5])));
}

#[test]
fn a_leader_that_is_no_voter_any_more_steps_down_since_raft_rs_would_panic() {
    let mut group = Group::new(3);
    group.elect(1);
    change(group.member(1), Change::one(Step::Remove(node(1))));
    group.settle();
    assert_eq!(group.member(1).role(), Role::Follower);
    group.member(1).propose(1);
    let mut group = Group::new(3);
    group.elect(1);
    change(group.member(1), Change::one(Step::Demote(node(1))));
    group.settle();
    assert_eq!(group.member(1).role(), Role::Follower);
}

#[test]
fn those_who_are_left_elect_a_leader_that_is_none_of_those_who_went() {
    let mut group = Group::new(3);
    group.elect(1);
    change(group.member(1), Change::one(Step::Remove(node(1))));
    group.settle();
    // Node 3 has waited long enough, too.
    group.member(3).time_out();
    group.member(3).take_sent();
    group.elect(2);
    group.settle();
    assert_eq!(group.member(2).raft.membership().voters(), &voters(&[2, 3]));
    let stranger = Body::Heartbeat { commit: Default::default(), context: Default::default() };
    let term = group.member(2).term();
    group.member(2).receive(1, term + 1, stranger);
    assert_eq!(group.member(2).role(), Role::Leader, "who was removed is not heard");
}

#[test]
fn leadership_is_handed_over_to_who_has_the_whole_log() {
    let mut group = Group::new(3);
    group.elect(1);
    group.member(1).handle(Input::HandOver(node(3)));
    group.settle();
    assert_eq!((group.member(1).role(), group.member(3).role()), (Role::Follower, Role::Leader));
}

#[test]
fn leadership_is_not_handed_to_a_learner_or_a_stranger() {
    let mut group = Group::new(3);
    group.elect(1);
    change(group.member(1), Change::one(Step::Demote(node(3))));
    group.settle();
    for to in [3, 9, 1] {
        group.member(1).handle(Input::HandOver(node(to)));
        assert!(!group.member(1).raft.is_handing_over(), "to {to}");
    }
}

#[test]
fn a_change_of_nonsense_that_a_liar_has_committed_changes_nothing() {
    let mut member = Member::new(1, newborn(3));
    let steps = [Step::Remove(node(9)), Step::Promote(node(2)), Step::AddLearner(node(3))];
    let contents = steps.map(Change::one).into_iter().chain([Change::Leave, Change::Steps(Vec::new())]);
    let entry = |(index, change)| rivven_cluster::raft::Entry {
        at: crate::support::at(index, 2),
        content: Content::Change(change),
    };
    let entries: Vec<_> = (2..).zip(contents).map(entry).collect();
    let last = entries.last().expect("some").at.index;
    member.receive(2, 2, Body::Append { previous: crate::support::at(1, 1), commit: last, entries });
    member.persist();
    assert_eq!(member.raft.indexes().applied, last);
    assert_eq!(member.raft.membership(), &Membership::of_voters([1, 2, 3].map(node)));
}

/// raft-rs takes a change for pending before it looks whether there is room for it.
#[test]
fn a_change_for_which_there_is_no_room_does_not_stand_in_the_way_of_the_next() {
    let flow = Flow { append_bytes_max: 8, uncommitted_bytes_max: 8, ..Flow::default() };
    let member = |id| (id, Member::with_flow(id, newborn(3), flow));
    let mut group = Group { members: (1..=3).map(member).collect() };
    group.elect(1);
    group.settle();
    group.member(1).propose(1);
    let add = || Change::one(Step::AddLearner(node(7)));
    change(group.member(1), add());
    assert_eq!(declined(group.member(1)), Some(Decline::Busy));
    group.settle();
    assert!(group.member(1).raft.check_change(&add()).is_ok());
}

#[test]
fn a_removed_node_that_lingers_starts_again_on_a_snapshot_in_which_it_has_no_part() {
    let mut recovered = newborn(3);
    let remove = Change::one(Step::Remove(node(1)));
    recovered.snapshot.membership =
        recovered.snapshot.membership.after(&remove, crate::support::at(2, 2).term).expect("it makes sense");
    assert_eq!(recovered.clone().check(node(1)), Ok(()));
    let mut member = Member::new(1, recovered);
    assert!(member.raft.deadline().is_none(), "it never campaigns");
    let ballot = rivven_cluster::raft::Ballot {
        last: crate::support::at(9, 2),
        commit: rivven_cluster::raft::Position::default(),
        transfer: false,
    };
    member.receive(2, 2, Body::Vote(ballot));
    member.persist();
    let votes = member.take_sent();
    assert!(
        matches!(&votes[..], [vote] if matches!(&vote.body, Body::VoteResponse(verdict) if verdict.granted)),
        "others may need its vote: {votes:?}"
    );
}
