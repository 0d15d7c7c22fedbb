//! What a leader does for members and newcomers, on one node of two that is fed by hand.
#![expect(clippy::wildcard_enum_match_arm, reason = "few outputs matter here")]

use super::super::io::Input;
use super::super::message::{CallId, Life};
use super::super::tests::{hear, id, leader, messages, settle, told_by_2};
use super::*;
use crate::formation::Refusal;
use crate::id::{BootId, Token};
use crate::kv::KeyValue;
use crate::machine::Machine as _;
use crate::raft::Body;

/// Node 2 has everything that the leader has.
fn catch_up(node: &mut Node<KeyValue>) {
    let last = node.indexes().unwrap().last;
    hear(node, 2, Body::AppendAccepted { index: last, commit: LogIndex::new(1) });
    settle(node);
}

fn listing(number: u64, token: u64) -> Listing {
    Listing { address: format!("node{number}:9093").parse().unwrap(), token: Token::new(token), votes: true }
}

fn announce(node: &mut Node<KeyValue>, from: u64, message: Message) -> Vec<Output> {
    node.handle(node.now, Input::Message { from: id(from), message });
    let outputs = settle(node);
    catch_up(node);
    outputs
}

fn says(number: u64, token: u64, life: Life, proves: Option<CallId>) -> Message {
    Message::Announce { listing: listing(number, token), life, proves }
}

fn notices(outputs: &[Output]) -> Vec<Notice> {
    let notice = |message: &Message| match message {
        Message::Notice { notice, .. } => Some(notice.clone()),
        _ => None,
    };
    messages(outputs).into_iter().filter_map(notice).collect()
}

#[test]
fn a_newcomer_is_listed_then_added_then_sent_a_snapshot_that_is_later_than_that() {
    let mut node = leader();
    catch_up(&mut node);
    let hello = || says(7, 5, Life::New, None);
    assert_eq!(notices(&announce(&mut node, 7, hello())), [Notice::Noted { begins: None }]);
    assert_eq!(node.ledger.directory().find(id(7)), Some(&listing(7, 5)));
    assert!(!node.membership().unwrap().contains(id(7)));
    announce(&mut node, 7, hello());
    assert!(node.membership().unwrap().learners().contains(&id(7)));
    let added = node.indexes().unwrap().applied;
    let outputs = announce(&mut node, 7, hello());
    assert_eq!(notices(&outputs), [Notice::Noted { begins: Some(added) }]);
    let outputs = announce(&mut node, 7, hello());
    let at = messages(&outputs).into_iter().find_map(|message| match message {
        Message::Transfer(super::super::transfer::Transfer::Part { parcel, .. }) => Some(parcel.at.index),
        _ => None,
    });
    assert!(at.is_some_and(|at| at >= added), "{outputs:?}");
}

#[test]
fn a_member_with_another_disk_is_refused_unless_it_says_that_its_own_was_damaged() {
    let mut node = leader();
    catch_up(&mut node);
    let refused = Notice::Refused(Refusal::OtherDisk { peer: id(1) });
    assert_eq!(notices(&told_by_2(&mut node, says(2, 5, Life::New, None))), [refused]);
    assert!(node.membership().unwrap().contains(id(2)));
}

#[test]
fn nobody_is_put_out_without_whom_there_is_no_majority() {
    let mut node = leader();
    catch_up(&mut node);
    let outputs = told_by_2(&mut node, says(2, 5, Life::Damaged, None));
    assert!(matches!(&notices(&outputs)[..], [Notice::Refused(Refusal::NotTakenIn { .. })]), "{outputs:?}");
}

/// A third voter, so that there is a majority without it.
fn with_third_voter(node: &mut Node<KeyValue>) {
    for step in [Step::AddLearner(id(3)), Step::Promote(id(3))] {
        node.handle_raft(raft::Input::Change { id: None, change: Change::one(step) });
        settle(node);
        catch_up(node);
    }
    assert!(node.membership().unwrap().voters().contains(&id(3)));
}

#[test]
fn a_member_with_a_damaged_disk_is_put_out_when_it_says_so_now() {
    let mut node = leader();
    catch_up(&mut node);
    with_third_voter(&mut node);
    let outputs = announce(&mut node, 3, says(3, 5, Life::Damaged, None));
    let [Notice::Prove(question)] = notices(&outputs)[..] else { panic!("{outputs:?}") };
    assert!(node.membership().unwrap().contains(id(3)), "it may have said so long ago");
    let other = CallId { number: question.number + 1, ..question };
    for wrong in [other, CallId { boot: BootId::new(9), ..question }] {
        announce(&mut node, 3, says(3, 5, Life::Damaged, Some(wrong)));
        assert!(node.membership().unwrap().contains(id(3)));
    }
    let outputs = announce(&mut node, 3, says(3, 5, Life::Damaged, None));
    let [Notice::Prove(question)] = notices(&outputs)[..] else { panic!("{outputs:?}") };
    announce(&mut node, 3, says(3, 5, Life::Damaged, Some(question)));
    assert!(node.membership().unwrap().suspended().contains_key(&id(3)));
    // Back only in a later term: this leader hands over instead.
    announce(&mut node, 3, says(3, 5, Life::Damaged, None));
    assert!(node.raft.as_ref().unwrap().is_handing_over());
}

#[test]
fn a_snapshot_holds_the_members_as_of_its_place() {
    let mut node = leader();
    catch_up(&mut node);
    node.is_snapshot_wanted = true;
    node.consider_snapshot();
    while node.poll().is_some() {}
    let state = node.take_job().unwrap().write();
    with_third_voter(&mut node);
    node.handle(node.now, Input::SnapshotBuilt(state));
    let saved = core::iter::from_fn(|| node.poll()).find_map(|output| match output {
        Output::SaveSnapshot(snapshot) => Some(snapshot),
        _ => None,
    });
    assert!(!saved.unwrap().membership.contains(id(3)), "it came later");
}

#[test]
fn a_learner_that_lags_is_not_promoted_and_one_that_has_caught_up_is() {
    let mut node = leader();
    catch_up(&mut node);
    for _ in 0..2 {
        announce(&mut node, 7, says(7, 5, Life::New, None));
    }
    let review = |node: &mut Node<KeyValue>| {
        let at = node.now + node.config.timing.election_timeout.start;
        node.handle_timeout(at);
        settle(node);
    };
    review(&mut node);
    catch_up(&mut node);
    let promote = vec![Step::Promote(id(7))];
    assert_eq!(node.judge(&Change::Steps(promote)), Err(Rejection::NotCaughtUp(id(7))));
    let last = node.indexes().unwrap().last;
    let body = Body::AppendAccepted { index: last, commit: LogIndex::new(1) };
    let message = Message::Raft(raft::Message { to: id(1), term: node.standing().unwrap().term, body });
    node.handle(node.now, Input::Message { from: id(7), message });
    settle(&mut node);
    review(&mut node);
    catch_up(&mut node);
    assert!(node.membership().unwrap().voters().contains(&id(7)), "{:?}", node.care);
}

#[test]
fn only_operators_change_members_but_a_node_may_leave() {
    let mut node = leader();
    catch_up(&mut node);
    with_third_voter(&mut node);
    let mut ask = |from, steps: Vec<Step>| {
        let request = super::super::io::Request::ChangeMembers(steps);
        node.handle(node.now, Input::Request { id: RequestId::new(1), from, request });
        let outputs = settle(&mut node);
        outputs.into_iter().find_map(|output| match output {
            Output::Reply { reply, .. } => Some(reply),
            _ => None,
        })
    };
    let forbidden = Some(Reply::Rejected(Rejection::Forbidden));
    assert_eq!(ask(Caller::Client, vec![Step::Remove(id(3))]), forbidden);
    assert_eq!(ask(Caller::Node(id(2)), vec![Step::Remove(id(3))]), forbidden);
    assert_eq!(ask(Caller::Operator, vec![Step::Suspend(id(3))]), forbidden);
    assert_eq!(ask(Caller::Node(id(3)), vec![Step::Remove(id(3))]), None, "it is appended");
}

#[test]
fn a_lone_voter_steps_down_for_a_learner_that_may_come_back_only_in_a_later_term() {
    let mut node = leader();
    catch_up(&mut node);
    node.handle_raft(raft::Input::Change { id: None, change: Change::one(Step::Demote(id(2))) });
    settle(&mut node);
    catch_up(&mut node);
    let damaged = |proves| says(2, 5, Life::Damaged, proves);
    let outputs = told_by_2(&mut node, damaged(None));
    let [Notice::Prove(question)] = notices(&outputs)[..] else { panic!("{outputs:?}") };
    told_by_2(&mut node, damaged(Some(question)));
    assert!(node.membership().unwrap().suspended().contains_key(&id(2)));
    told_by_2(&mut node, damaged(None));
    assert!(!node.leads(), "nobody else could take over");
    node.handle_timeout(node.deadline().unwrap());
    settle(&mut node);
    let until = node.now + node.config.timing.election_timeout.end * 2;
    node.handle_timeout(until);
    settle(&mut node);
    assert!(node.leads());
    for _ in 0..2 {
        told_by_2(&mut node, damaged(None));
    }
    assert!(node.membership().unwrap().learners().contains(&id(2)));
}

#[test]
fn who_holds_the_log_of_another_membership_is_not_taken_in() {
    let mut node = leader();
    catch_up(&mut node);
    let outputs = announce(&mut node, 7, says(7, 5, Life::Member, None));
    assert!(matches!(&notices(&outputs)[..], [Notice::Refused(Refusal::NotTakenIn { .. })]), "{outputs:?}");
    assert_eq!(node.ledger.directory().find(id(7)), None);
}

fn is_put_out(outputs: &[Output]) -> bool {
    use super::super::io::{Event, Halt};
    outputs.iter().any(|output| *output == Output::Event(Event::Halted { reason: Halt::Removed }))
}

#[test]
fn no_single_peer_puts_a_node_out() {
    use super::super::tests::{formed, start};
    let dismissed = || Message::Dismissed { node: id(1) };
    let mut node = start(formed(), Instant::ORIGIN);
    settle(&mut node);
    assert!(!is_put_out(&told_by_2(&mut node, dismissed())), "a lie, as far as it knows");
    // Its removal in its own log is its own word, and makes a majority of two.
    let at = raft::Position { index: LogIndex::new(2), term: crate::id::Term::new(2) };
    let content = raft::Content::Change(Change::one(Step::Remove(id(1))));
    let entries = vec![raft::Entry { at, content }];
    hear(&mut node, 2, Body::Append { previous: raft::BIRTH, commit: LogIndex::new(1), entries });
    settle(&mut node);
    assert!(is_put_out(&told_by_2(&mut node, dismissed())));
}

#[test]
fn a_removed_node_lingers_until_it_is_told() {
    use super::super::tests::{formed, start};
    let mut node = start(formed(), Instant::ORIGIN);
    settle(&mut node);
    let at = raft::Position { index: LogIndex::new(2), term: crate::id::Term::new(2) };
    let content = raft::Content::Change(Change::one(Step::Remove(id(1))));
    let entries = vec![raft::Entry { at, content }];
    hear(&mut node, 2, Body::Append { previous: raft::BIRTH, commit: LogIndex::new(2), entries });
    assert!(!is_put_out(&settle(&mut node)), "others may need its vote");
    assert!(!node.membership().unwrap().contains(id(1)));
    assert!(node.deadline().is_some(), "it will ask");
    assert!(is_put_out(&told_by_2(&mut node, Message::Dismissed { node: id(1) })));
}
