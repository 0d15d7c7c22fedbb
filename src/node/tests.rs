//! What a node makes of requests, and small nodes for the tests of its parts.

use std::collections::BTreeSet;

use super::*;
use crate::formation::VoterSet;
use crate::id::{BootId, Term};
use crate::kv::KeyValue;
use crate::raft::{BIRTH, Body, Flow, HardState, Message as RaftMessage, Role, Snapshot, Timing, Verdict};
use crate::session;
use bytes::Bytes;

fn id(node: u64) -> NodeId {
    NodeId::new(node).unwrap()
}

/// The disk of node 1 of two that have just formed a cluster.
pub(super) fn formed() -> Durable {
    let voters = BTreeSet::from([id(1), id(2)]);
    let snapshot = Snapshot {
        at: BIRTH,
        voters: voters.iter().copied().collect(),
        state: Sessions::default().snapshot(&KeyValue::default().snapshot()),
    };
    Durable {
        standing: formation::Standing::Formed(VoterSet::new(voters).unwrap()),
        snapshot: Some(snapshot),
        hard_state: HardState { term: BIRTH.term, vote: None, commit: BIRTH.index },
        ..Durable::default()
    }
}

/// Node 1 of two.
pub(super) fn start(durable: Durable, now: Instant) -> Node<KeyValue> {
    let peers = BTreeSet::from(["node2:9093".parse().unwrap()]);
    let address = "node1:9093".parse().unwrap();
    let limits = Limits { proposals_max: 5, ..Limits::default() };
    let config =
        Config { id: id(1), address, peers, timing: Timing::default(), limits, flow: Flow::default() };
    Node::start(config, Seed::new(1), durable, KeyValue::default(), now).unwrap()
}

/// Drains, and finishes each write at once. Returns what is not about writes.
fn settle(node: &mut Node<KeyValue>) -> Vec<Output> {
    let mut outputs = Vec::new();
    while let Some(output) = node.poll() {
        match output {
            Output::Write(batch) => node.handle(node.now, Input::Written(batch.id)),
            other @ (Output::Send { .. } | Output::Reply { .. } | Output::Event(_)) => outputs.push(other),
        }
    }
    outputs
}

fn hear(node: &mut Node<KeyValue>, term: u64, body: Body) {
    let message = Message::Raft(RaftMessage { to: id(1), term: Term::new(term), body });
    node.handle(node.now, Input::Message { from: id(2), message });
}

/// Node 1, which leads term 2.
fn leader() -> Node<KeyValue> {
    let mut node = start(formed(), Instant::ORIGIN);
    settle(&mut node);
    node.handle_timeout(node.deadline().unwrap());
    settle(&mut node);
    let granted = Verdict { granted: true, commit: raft::Position::default() };
    hear(&mut node, 2, Body::PreVoteResponse(granted));
    settle(&mut node);
    hear(&mut node, 2, Body::VoteResponse(granted));
    settle(&mut node);
    assert_eq!(node.standing().unwrap().role, Role::Leader);
    node
}

fn propose(node: &mut Node<KeyValue>, request: u64, length: usize) {
    let request = Input::Request {
        id: RequestId::new(request),
        from: Caller::Client,
        request: Request::Propose(Proposal::Command(Bytes::from(vec![1; length]))),
    };
    node.handle(node.now, request);
}

fn replies(outputs: Vec<Output>) -> Vec<(u64, Reply)> {
    let replies = outputs.into_iter().filter_map(|output| match output {
        Output::Reply { id, reply } => Some((id.value(), reply)),
        Output::Write(_) | Output::Send { .. } | Output::Event(_) => None,
    });
    replies.collect()
}

fn appends(outputs: &[Output]) -> usize {
    let is_append = |output: &&Output| {
        matches!(output, Output::Send { message: Message::Raft(message), .. }
            if matches!(&message.body, Body::Append { entries, .. } if !entries.is_empty()))
    };
    outputs.iter().filter(is_append).count()
}

#[test]
fn requests_that_come_before_one_drain_are_one_proposal() {
    let mut node = leader();
    let accepted = Body::AppendAccepted { index: LogIndex::new(2), commit: LogIndex::new(1) };
    hear(&mut node, 2, accepted);
    settle(&mut node);
    (1..=3).for_each(|request| propose(&mut node, request, 10));
    assert_eq!(appends(&settle(&mut node)), 1);
}

#[test]
fn a_command_is_answered_when_it_is_applied_and_not_before() {
    let mut node = leader();
    propose(&mut node, 7, 10);
    assert_eq!(replies(settle(&mut node)), []);
    hear(&mut node, 2, Body::AppendAccepted { index: LogIndex::new(3), commit: LogIndex::new(1) });
    let replies = replies(settle(&mut node));
    assert!(
        matches!(&replies[..], [(7, Reply::Done { at, .. })] if at.index == LogIndex::new(3)),
        "{replies:?}"
    );
}

#[test]
fn who_steps_down_does_not_know_what_becomes_of_its_commands() {
    let mut node = leader();
    propose(&mut node, 7, 10);
    settle(&mut node);
    hear(&mut node, 3, Body::Heartbeat { commit: LogIndex::new(1), context: Bytes::new() });
    assert_eq!(replies(settle(&mut node)), [(7, Reply::Unknown)]);
    propose(&mut node, 8, 10);
    let leader = Some(id(2));
    let rejection = Rejection::NotLeader { leader, address: None };
    assert_eq!(replies(settle(&mut node)), [(8, Reply::Rejected(rejection))]);
}

#[test]
fn commands_beyond_the_limit_are_rejected_as_busy() {
    let mut node = leader();
    (1..=6).for_each(|request| propose(&mut node, request, 10));
    assert_eq!(replies(settle(&mut node)), [(6, Reply::Rejected(Rejection::Busy))]);
}

#[test]
fn large_commands_are_proposed_apart_so_that_one_too_many_does_not_decline_all() {
    let mut node = leader();
    (1..=3).for_each(|request| propose(&mut node, request, 600 * 1024));
    assert_eq!(replies(settle(&mut node)), []);
    assert_eq!(node.status().stats.appended, 3);
    assert_eq!(node.status().stats.rejected, 0);
}

#[test]
fn the_leader_hint_carries_an_address_once_the_link_has_told_who_answers_there() {
    let mut node = start(formed(), Instant::ORIGIN);
    settle(&mut node);
    let name: PeerName = "node2:9093".parse().unwrap();
    node.handle(node.now, Input::Link { name: name.clone(), state: LinkState::Up { node: id(2) } });
    hear(&mut node, 2, Body::Heartbeat { commit: LogIndex::new(1), context: Bytes::new() });
    settle(&mut node);
    propose(&mut node, 1, 10);
    let rejection = Rejection::NotLeader { leader: Some(id(2)), address: Some(name) };
    assert_eq!(replies(settle(&mut node)), [(1, Reply::Rejected(rejection))]);
}

fn ask(node: &mut Node<KeyValue>, request: u64, what: Request) {
    let input = Input::Request { id: RequestId::new(request), from: Caller::Client, request: what };
    node.handle(node.now, input);
}

fn once(session: u64, number: u64) -> Proposal {
    let ticket = session::Ticket { session: LogIndex::new(session), number, oldest: 0 };
    Proposal::Once { ticket, command: Bytes::from_static(b"command") }
}

fn told_by_2(node: &mut Node<KeyValue>, message: Message) -> Vec<Output> {
    node.handle(node.now, Input::Message { from: id(2), message });
    settle(node)
}

fn messages(outputs: &[Output]) -> Vec<&Message> {
    let message = |output: &'_ Output| match output {
        Output::Send { message, .. } if !matches!(message, Message::Raft(_)) => Some(message),
        Output::Send { .. } | Output::Write(_) | Output::Reply { .. } | Output::Event(_) => None,
    };
    outputs.iter().filter_map(message).collect()
}

/// Node 1, which follows node 2 in term 3.
fn follower() -> Node<KeyValue> {
    let mut node = start(formed(), Instant::ORIGIN);
    settle(&mut node);
    hear(&mut node, 3, Body::Heartbeat { commit: LogIndex::new(1), context: Bytes::new() });
    settle(&mut node);
    node
}

#[test]
fn a_follower_passes_on_what_comes_in_a_session_and_relays_the_answer() {
    let mut node = follower();
    ask(&mut node, 7, Request::Propose(once(2, 1)));
    let outputs = settle(&mut node);
    let [Message::Forward { call, term, proposal }] = messages(&outputs)[..] else { panic!("{outputs:?}") };
    assert_eq!((term.value(), proposal), (3, &once(2, 1)));
    let at = raft::Position { index: LogIndex::new(9), term: Term::new(3) };
    let done = Reply::Done { at, answer: Bytes::from_static(b"answer") };
    let other_boot = CallId { boot: call.boot.next(), ..*call };
    let stale = Message::Forwarded { call: other_boot, reply: Box::new(Reply::Unknown) };
    let answer = Message::Forwarded { call: *call, reply: Box::new(done.clone()) };
    assert_eq!(replies(told_by_2(&mut node, stale)), []);
    assert_eq!(replies(told_by_2(&mut node, answer.clone())), [(7, done)]);
    assert_eq!(replies(told_by_2(&mut node, answer)), [], "an answer that comes twice answers once");
}

#[test]
fn what_was_passed_on_is_unknown_when_the_leader_changes_or_does_not_answer() {
    let mut node = follower();
    ask(&mut node, 7, Request::Propose(once(2, 1)));
    settle(&mut node);
    hear(&mut node, 4, Body::Heartbeat { commit: LogIndex::new(1), context: Bytes::new() });
    assert_eq!(replies(settle(&mut node)), [(7, Reply::Unknown)]);
    ask(&mut node, 8, Request::Propose(once(2, 2)));
    settle(&mut node);
    node.handle(node.now, Input::Unreachable(id(2)));
    assert_eq!(replies(settle(&mut node)), [(8, Reply::Unknown)]);
}

#[test]
fn a_leader_takes_each_question_once_and_none_of_another_term() {
    let mut node = leader();
    let call = CallId { boot: BootId::new(1), number: 1 };
    let question = |term| Message::Forward { call, term: Term::new(term), proposal: once(2, 1) };
    let outputs = told_by_2(&mut node, question(1));
    assert!(
        matches!(messages(&outputs)[..], [Message::Forwarded { reply, .. }] if matches!(**reply, Reply::Rejected(_))),
        "{outputs:?}"
    );
    told_by_2(&mut node, question(2));
    told_by_2(&mut node, question(2));
    assert_eq!(node.status().stats.appended, 1);
}

#[test]
fn a_follower_asks_for_an_index_once_for_all_queued_reads_and_answers_when_it_has_applied_it() {
    let mut node = follower();
    let query = || Request::Query { query: Bytes::from_static(b"k") };
    ask(&mut node, 1, query());
    ask(&mut node, 2, query());
    let outputs = settle(&mut node);
    let [Message::ReadIndex(call)] = messages(&outputs)[..] else { panic!("{outputs:?}") };
    let answer = Message::ReadIndexAt { call: *call, index: Some(LogIndex::new(2)) };
    assert_eq!(replies(told_by_2(&mut node, answer)), [], "it has applied only the birth");
    let at = raft::Position { index: LogIndex::new(2), term: Term::new(3) };
    let entries = vec![raft::Entry { at, command: Bytes::new() }];
    hear(&mut node, 3, Body::Append { previous: BIRTH, commit: LogIndex::new(2), entries });
    let answered: Vec<u64> = replies(settle(&mut node)).into_iter().map(|(id, _)| id).collect();
    assert_eq!(answered, [1, 2]);
}

#[test]
fn a_read_that_nobody_confirms_is_rejected_in_time() {
    let mut node = follower();
    ask(&mut node, 1, Request::Query { query: Bytes::from_static(b"k") });
    settle(&mut node);
    let until = node.now + Timing::default().election_timeout.end;
    while node.now < until {
        let next = node.deadline().unwrap();
        node.handle_timeout(next);
        let replies = replies(settle(&mut node));
        if !replies.is_empty() {
            assert_eq!(replies, [(1, Reply::Rejected(Rejection::Unconfirmed))]);
            return;
        }
    }
    panic!("it was never answered");
}
