//! The rules of membership, cell by cell, and raft-rs as the oracle for all that it knows of them.

use proptest::prelude::*;
use raft::{Config, RawNode, storage::MemStorage};

use super::*;

fn id(node: u64) -> NodeId {
    NodeId::new(node).unwrap()
}

fn ids(nodes: &[u64]) -> BTreeSet<NodeId> {
    nodes.iter().copied().map(id).collect()
}

fn group(voters: &[u64]) -> Membership {
    Membership::of_voters(ids(voters))
}

fn steps(steps: &[Step]) -> Change {
    Change::Steps(steps.to_vec())
}

fn term(term: u64) -> Term {
    Term::new(term)
}

#[test]
fn a_newcomer_learns_before_it_decides() {
    let added = group(&[1, 2, 3]).after(&Change::one(Step::AddLearner(id(4))), term(2)).unwrap();
    assert_eq!((added.voters(), added.learners()), (&ids(&[1, 2, 3]), &ids(&[4])));
    let promoted = added.after(&Change::one(Step::Promote(id(4))), term(2)).unwrap();
    assert_eq!((promoted.voters(), promoted.is_joint()), (&ids(&[1, 2, 3, 4]), false));
    assert_eq!(
        group(&[1]).after(&Change::one(Step::Promote(id(4))), term(2)),
        Err(ChangeError::NotALearner(id(4)))
    );
}

#[test]
fn several_voters_change_through_a_joint_membership() {
    let with_learner = group(&[1, 2, 3]).after(&Change::one(Step::AddLearner(id(4))), term(2)).unwrap();
    let joint = with_learner.after(&steps(&[Step::Promote(id(4)), Step::Remove(id(1))]), term(2)).unwrap();
    assert_eq!((joint.voters(), joint.outgoing()), (&ids(&[2, 3, 4]), &ids(&[1, 2, 3])));
    assert!(!joint.is_quorum(&ids(&[3, 4])), "the old ones have to agree, too");
    assert!(!joint.is_quorum(&ids(&[1, 2])), "and the new ones");
    assert!(joint.is_quorum(&ids(&[2, 3])));
    assert_eq!(joint.after(&Change::one(Step::Promote(id(1))), term(2)), Err(ChangeError::UnderWay));
    let left = joint.after(&Change::Leave, term(2)).unwrap();
    assert_eq!((left.voters(), left.is_joint()), (&ids(&[2, 3, 4]), false));
    assert_eq!(left.after(&Change::Leave, term(2)), Err(ChangeError::NotJoint));
}

#[test]
fn an_outgoing_voter_becomes_a_learner_when_the_joint_membership_is_left() {
    let demote_two = steps(&[Step::Demote(id(1)), Step::Demote(id(2))]);
    let joint = group(&[1, 2, 3]).after(&demote_two, term(2)).unwrap();
    assert_eq!(joint.learners(), &ids(&[]));
    let left = joint.after(&Change::Leave, term(2)).unwrap();
    assert_eq!((left.voters(), left.learners()), (&ids(&[3]), &ids(&[1, 2])));
}

#[test]
fn a_removed_id_stays_dead() {
    let removed = group(&[1, 2, 3]).after(&Change::one(Step::Remove(id(3))), term(2)).unwrap();
    let again = Change::one(Step::AddLearner(id(3)));
    assert_eq!(removed.after(&again, term(9)), Err(ChangeError::Removed(id(3))));
}

#[test]
fn a_suspended_member_comes_back_in_a_later_term_only() {
    let suspended = group(&[1, 2, 3]).after(&Change::one(Step::Suspend(id(3))), term(5)).unwrap();
    let again = Change::one(Step::AddLearner(id(3)));
    assert_eq!(suspended.after(&again, term(5)), Err(ChangeError::TooSoon(id(3))));
    let back = suspended.after(&again, term(6)).unwrap();
    assert_eq!((back.learners(), back.suspended().len()), (&ids(&[3]), 0));
    let gone = suspended.after(&Change::one(Step::Remove(id(3))), term(5)).unwrap();
    assert_eq!(gone.removed(), &ids(&[3]));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let group = group(&[1]);
    let refused = |change: &Change| group.after(change, term(2)).unwrap_err();
    assert_eq!(refused(&steps(&[])), ChangeError::Steps);
    assert_eq!(refused(&steps(&[Step::AddLearner(id(2)), Step::Promote(id(2))])), ChangeError::Steps);
    assert_eq!(refused(&Change::one(Step::Remove(id(1)))), ChangeError::NoVoters);
    assert_eq!(refused(&Change::one(Step::Demote(id(1)))), ChangeError::NoVoters);
    assert_eq!(refused(&Change::one(Step::Remove(id(2)))), ChangeError::NotAMember(id(2)));
    assert_eq!(refused(&Change::one(Step::AddLearner(id(1)))), ChangeError::Member(id(1)));
    let full = Membership::of_voters((1..=64).map(id));
    assert_eq!(full.after(&Change::one(Step::AddLearner(id(65))), term(2)), Err(ChangeError::TooMany));
}

#[test]
fn a_survivor_is_alone_and_knows_the_others_as_dead() {
    let suspended = group(&[1, 2, 3]).after(&Change::one(Step::Suspend(id(3))), term(5)).unwrap();
    let alone = suspended.of_survivor(id(2));
    assert_eq!((alone.voters(), alone.removed()), (&ids(&[2]), &ids(&[1, 3])));
    assert!(alone.is_sound());
}

fn any_step() -> impl Strategy<Value = Step> {
    (0..5, 1..6_u64).prop_map(|(kind, node)| match kind {
        0 => Step::AddLearner(id(node)),
        1 => Step::Promote(id(node)),
        2 => Step::Demote(id(node)),
        3 => Step::Remove(id(node)),
        _ => Step::Suspend(id(node)),
    })
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        1 => Just(Change::Leave),
        3 => prop::collection::vec(any_step(), 0..4).prop_map(Change::Steps),
    ]
}

proptest! {
    /// Whatever is done to a group: each change leaves it sound, and raft-rs agrees about every list.
    #[test]
    fn every_change_is_what_raft_rs_makes_of_it(changes in prop::collection::vec(any_change(), 1..12)) {
        let mut membership = group(&[1, 2, 3]);
        let storage = MemStorage::new_with_conf_state(membership.to_raft());
        let config = Config { id: 1, ..Config::default() };
        let mut raw = RawNode::new(&config, storage, &super::super::logger::bridge()).unwrap();
        for (number, change) in (1..).zip(&changes) {
            let decoded = Change::decode(&change.encode());
            prop_assert_eq!(decoded.as_ref(), Some(change));
            let Ok(next) = membership.after(change, term(number)) else { continue };
            let mut theirs = raw.apply_conf_change(&change.to_raft()).unwrap();
            for list in [
                &mut theirs.voters,
                &mut theirs.voters_outgoing,
                &mut theirs.learners,
                &mut theirs.learners_next,
            ] {
                list.sort_unstable();
            }
            prop_assert_eq!(&theirs, &next.to_raft());
            membership = next;
        }
    }
}
