//! What a node makes of requests, and small nodes for the tests of its parts.

use std::collections::BTreeSet;

use super::*;
use crate::formation::VoterSet;
use crate::id::{BootId, Term};
use crate::kv::KeyValue;
use crate::raft::{BIRTH, Body, Flow, HardState, Message as RaftMessage, Role, Snapshot, Timing, Verdict};
use crate::session;
use bytes::Bytes;

pub(super) fn id(node: u64) -> NodeId {
    NodeId::new(node).unwrap()
}

/// The disk of node 1 of two that have just formed a cluster.
pub(super) fn formed() -> Durable {
    let voters = BTreeSet::from([id(1), id(2)]);
    let snapshot = Snapshot {
        at: BIRTH,
        membership: raft::Membership::of_voters(voters.iter().copied()),
        state: Ledger::default().snapshot(&KeyValue::default().snapshot()),
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
    Node::start(config(), Seed::new(1), durable, KeyValue::default(), now).unwrap()
}

/// The configuration of node 1 of two.
pub(super) fn config() -> Config {
    let peers = BTreeSet::from(["node2:9093".parse().unwrap()]);
    let address = "node1:9093".parse().unwrap();
    let limits = Limits { proposals_max: 5, ..Limits::default() };
    Config {
        id: id(1),
        address,
        peers,
        timing: Timing::default(),
        limits,
        flow: Flow::default(),
        votes: true,
        gossip: None,
        partitioning: None,
    }
}

/// Drains, and finishes each write at once. Returns what is not about writes.
pub(super) fn settle(node: &mut Node<KeyValue>) -> Vec<Output> {
    let mut outputs = Vec::new();
    while let Some(output) = node.poll() {
        match output {
            Output::Write(batch) => node.handle(node.now, Input::Written(batch.id)),
            Output::BuildSnapshot => {
                let state = node.take_job().unwrap().write();
                node.handle(node.now, Input::SnapshotBuilt(state));
            }
            Output::SaveSnapshot(_) => node.handle(node.now, Input::SnapshotSaved),
            other @ (Output::Send { .. }
            | Output::Read { .. }
            | Output::Dial(_)
            | Output::HangUp(_)
            | Output::Gossip(_)
            | Output::Reply { .. }
            | Output::Event(_)) => outputs.push(other),
        }
    }
    outputs
}

pub(super) fn hear(node: &mut Node<KeyValue>, term: u64, body: Body) {
    let message = Message::Raft(RaftMessage { to: id(1), term: Term::new(term), body });
    node.handle(node.now, Input::Message { from: id(2), message });
}

/// Node 1, which leads term 2.
pub(super) fn leader() -> Node<KeyValue> {
    elected(start(formed(), Instant::ORIGIN))
}

/// Has node 2 vote for a node that has just started.
pub(super) fn elected(mut node: Node<KeyValue>) -> Node<KeyValue> {
    settle(&mut node);
    while node.standing().unwrap().role == Role::Follower {
        node.handle_timeout(node.deadline().unwrap());
        settle(&mut node);
    }
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

pub(super) fn replies(outputs: Vec<Output>) -> Vec<(u64, Reply)> {
    let replies = outputs.into_iter().filter_map(|output| match output {
        Output::Reply { id, reply } => Some((id.value(), reply)),
        Output::Write(_)
        | Output::BuildSnapshot
        | Output::SaveSnapshot(_)
        | Output::Send { .. }
        | Output::Read { .. }
        | Output::Dial(_)
        | Output::HangUp(_)
        | Output::Gossip(_)
        | Output::Event(_) => None,
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

pub(super) fn told_by_2(node: &mut Node<KeyValue>, message: Message) -> Vec<Output> {
    node.handle(node.now, Input::Message { from: id(2), message });
    settle(node)
}

/// What is said beside consensus.
pub(super) fn messages(outputs: &[Output]) -> Vec<&Message> {
    let mut messages = Vec::new();
    for output in outputs {
        if let Output::Send { message, .. } = output
            && !matches!(message, Message::Raft(_))
        {
            messages.push(message);
        }
    }
    messages
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
    let astray = CallId { node: id(3), ..*call };
    let astray = Message::Forwarded { call: astray, reply: Box::new(Reply::Unknown) };
    let answer = Message::Forwarded { call: *call, reply: Box::new(done.clone()) };
    assert_eq!(replies(told_by_2(&mut node, stale)), []);
    assert_eq!(replies(told_by_2(&mut node, astray)), [], "another node's answer");
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
    let call = CallId { node: id(2), boot: BootId::new(1), number: 1 };
    let question = |term| Message::Forward { call, term: Term::new(term), proposal: once(2, 1) };
    let outputs = told_by_2(&mut node, question(1));
    assert!(
        matches!(messages(&outputs)[..], [Message::Forwarded { reply, .. }] if **reply == Reply::Unknown),
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
    let entries = vec![raft::Entry::of_command(at, Bytes::new())];
    hear(&mut node, 3, Body::Append { previous: BIRTH, commit: LogIndex::new(2), entries });
    let answered: Vec<u64> = replies(settle(&mut node)).into_iter().map(|(id, _)| id).collect();
    assert_eq!(answered, [1, 2]);
}

#[test]
fn a_node_that_halts_answers_the_reads_that_it_will_not_serve_any_more() {
    let mut node = follower();
    ask(&mut node, 1, Request::Query { query: Bytes::from_static(b"k") });
    let outputs = settle(&mut node);
    let [Message::ReadIndex(call)] = messages(&outputs)[..] else { panic!("{outputs:?}") };
    told_by_2(&mut node, Message::ReadIndexAt { call: *call, index: Some(LogIndex::new(9)) });
    node.handle(node.now, Input::SnapshotFailed { reason: "broken".to_owned() });
    assert_eq!(replies(settle(&mut node)), [(1, Reply::Rejected(Rejection::Unconfirmed))]);
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

/// The follower with a snapshot at index 20 of another map, in parts of ten bytes, from node 2 in term 3.
fn parts() -> (Vec<Message>, Snapshot) {
    parts_at(20)
}

fn parts_at(index: u64) -> (Vec<Message>, Snapshot) {
    let mut map = KeyValue::default();
    let put = crate::kv::Command::Put { key: Bytes::from_static(b"k"), value: Bytes::from_static(b"v") };
    map.apply(LogIndex::new(index), &put.encode());
    let state = Ledger::default().snapshot(&map.snapshot());
    let at = raft::Position { index: LogIndex::new(index), term: Term::new(2) };
    let snapshot = Snapshot { at, membership: raft::Membership::of_voters([id(1), id(2)]), state };
    let parcel = Parcel {
        term: Term::new(3),
        at,
        membership: snapshot.membership.clone(),
        length: u64::try_from(snapshot.state.len()).unwrap(),
        checksum: xxhash_rust::xxh3::xxh3_64(&snapshot.state),
    };
    let parts = snapshot.state.chunks(10).enumerate().map(|(number, bytes)| {
        let offset = u64::try_from(number * 10).unwrap();
        let bytes = Bytes::copy_from_slice(bytes);
        Message::Transfer(Transfer::Part { parcel: parcel.clone(), offset, bytes })
    });
    (parts.collect(), snapshot)
}

fn value_of_k(node: &Node<KeyValue>) -> Bytes {
    node.state_machine().query(b"k")
}

#[test]
fn a_snapshot_replaces_state_and_log_when_it_is_there_whole_and_its_acknowledgement_waits_for_the_record() {
    let mut node = follower();
    let (parts, snapshot) = parts();
    let before = value_of_k(&node);
    let (last, beginning) = parts.split_last().unwrap();
    for part in beginning {
        told_by_2(&mut node, part.clone());
        told_by_2(&mut node, part.clone());
    }
    assert_eq!(value_of_k(&node), before, "it is not whole yet");
    node.handle(node.now, Input::Message { from: id(2), message: last.clone() });
    let mut written = None;
    let mut acknowledged = 0;
    while let Some(output) = node.poll() {
        match output {
            Output::SaveSnapshot(saved) => {
                assert_eq!(saved, snapshot);
                node.handle(node.now, Input::SnapshotSaved);
            }
            Output::Write(batch) => written = Some(batch),
            Output::Send {
                message: Message::Raft(RaftMessage { body: Body::AppendAccepted { .. }, .. }),
                ..
            } => {
                acknowledged += 1;
            }
            Output::Send { .. }
            | Output::Read { .. }
            | Output::Dial(_)
            | Output::HangUp(_)
            | Output::Gossip(_)
            | Output::Reply { .. }
            | Output::Event(_)
            | Output::BuildSnapshot => {}
        }
    }
    let batch = written.expect("the record is written");
    assert_eq!(batch.snapshot, Some(snapshot));
    assert_eq!(acknowledged, 0, "it leaves when the record is durable");
    assert_ne!(value_of_k(&node), before);
    assert_eq!(node.indexes().unwrap().commit, LogIndex::new(20));
    node.handle(node.now, Input::Written(batch.id));
    let accepted = settle(&mut node).into_iter().any(|output| {
        matches!(output, Output::Send { message: Message::Raft(message), .. }
            if matches!(message.body, Body::AppendAccepted { index, .. } if index == LogIndex::new(20)))
    });
    assert!(accepted);
    node.assert_invariants();
}

#[test]
fn an_order_to_campaign_right_after_a_snapshot_does_no_harm() {
    let mut node = follower();
    let (parts, _) = parts();
    for part in parts {
        node.handle(node.now, Input::Message { from: id(2), message: part });
    }
    let mut write = None;
    while let Some(output) = node.poll() {
        match output {
            Output::SaveSnapshot(_) => node.handle(node.now, Input::SnapshotSaved),
            Output::Write(batch) => write = Some(batch.id),
            Output::Send { .. }
            | Output::Read { .. }
            | Output::Dial(_)
            | Output::HangUp(_)
            | Output::Gossip(_)
            | Output::Reply { .. }
            | Output::Event(_)
            | Output::BuildSnapshot => {}
        }
    }
    hear(&mut node, 3, Body::TimeoutNow);
    while node.poll().is_some() {}
    node.handle(node.now, Input::Written(write.expect("the record is written")));
    settle(&mut node);
    node.assert_invariants();
    assert_eq!(node.indexes().unwrap().applied, LogIndex::new(20));
}

#[test]
fn an_append_in_flight_below_a_snapshot_is_not_applied_after_it() {
    let mut node = follower();
    let entry = |index| {
        let at = raft::Position { index: LogIndex::new(index), term: Term::new(2) };
        raft::Entry::of_command(at, Bytes::new())
    };
    let append = |entries: Vec<raft::Entry>, commit| Body::Append {
        previous: BIRTH,
        commit: LogIndex::new(commit),
        entries,
    };
    hear(&mut node, 3, append((2..=6).map(entry).collect(), 1));
    let mut writes = Vec::new();
    while let Some(output) = node.poll() {
        if let Output::Write(batch) = output {
            writes.push(batch.id);
        }
    }
    let (parts, _) = parts();
    for part in parts {
        node.handle(node.now, Input::Message { from: id(2), message: part });
    }
    while let Some(output) = node.poll() {
        if let Output::SaveSnapshot(_) = output {
            node.handle(node.now, Input::SnapshotSaved);
        }
    }
    hear(&mut node, 3, append((2..=6).map(entry).collect(), 6));
    node.handle(node.now, Input::Written(writes[0]));
    settle(&mut node);
    node.assert_invariants();
    assert_eq!(node.indexes().unwrap().applied, LogIndex::new(20));
}

#[test]
fn a_snapshot_that_cannot_be_read_changes_nothing() {
    let mut node = follower();
    let (mut parts, _) = parts();
    let Message::Transfer(Transfer::Part { parcel, offset, bytes }) = &mut parts[0] else { panic!() };
    (*offset, *bytes) = (0, Bytes::from_static(b"\xff\xff\xff"));
    (parcel.length, parcel.checksum) = (3, xxhash_rust::xxh3::xxh3_64(b"\xff\xff\xff"));
    let outputs = told_by_2(&mut node, parts[0].clone());
    let is_told = |output: &Output| matches!(output, Output::Event(Event::SnapshotUnreadable { .. }));
    assert!(outputs.iter().any(is_told), "{outputs:?}");
    assert_eq!(node.indexes().unwrap().commit, LogIndex::new(1));
    node.assert_invariants();
}

#[test]
fn a_snapshot_in_which_the_node_has_no_part_or_from_somebody_else_is_dropped_and_counted() {
    let mut node = follower();
    let (parts, _) = parts();
    let refuses = |node: &mut Node<KeyValue>, change: &dyn Fn(&mut Parcel), refusal| {
        let Message::Transfer(Transfer::Part { mut parcel, offset, bytes }) = parts[0].clone() else {
            panic!()
        };
        change(&mut parcel);
        told_by_2(node, Message::Transfer(Transfer::Part { parcel, offset, bytes }));
        assert_eq!(node.status().stats.refused.get(&refusal), Some(&1), "{refusal:?}");
    };
    let without_us = || raft::Membership::of_voters([id(2)]);
    refuses(&mut node, &|parcel| parcel.membership = without_us(), raft::Refusal::MalformedSnapshot);
    refuses(&mut node, &|parcel| parcel.term = Term::new(2), raft::Refusal::NotFromLeader);
    let mut node = follower();
    refuses(&mut node, &|parcel| parcel.at.index = LogIndex::new(1 << 61), raft::Refusal::MalformedSnapshot);
    let mut node = follower();
    refuses(&mut node, &|parcel| parcel.length = u64::MAX, raft::Refusal::MalformedSnapshot);
}

#[test]
fn an_answer_right_after_a_snapshot_says_how_far_the_state_is() {
    let mut node = follower();
    for part in parts().0 {
        node.handle(node.now, Input::Message { from: id(2), message: part });
    }
    while let Some(output) = node.poll() {
        if let Output::SaveSnapshot(_) = output {
            break;
        }
    }
    node.handle(node.now, Input::SnapshotSaved);
    ask(&mut node, 1, Request::QueryStale { query: Bytes::from_static(b"k") });
    let replies = replies(settle(&mut node));
    assert!(
        matches!(&replies[..], [(1, Reply::Answer { applied, .. })] if applied.value() == 20),
        "{replies:?}"
    );
}

#[test]
fn a_vote_that_nobody_was_asked_for_yet_is_dropped_though_the_entries_were_not_collected() {
    let mut node = follower();
    let at = raft::Position { index: LogIndex::new(2), term: Term::new(3) };
    let entries = vec![raft::Entry::of_command(at, Bytes::new())];
    hear(&mut node, 3, Body::Append { previous: BIRTH, commit: LogIndex::new(1), entries });
    hear(&mut node, 3, Body::TimeoutNow);
    hear(&mut node, 4, Body::VoteResponse(Verdict { granted: true, commit: raft::Position::default() }));
    settle(&mut node);
    node.assert_invariants();
    assert_eq!(node.status().stats.refused.get(&raft::Refusal::PrematureVote), Some(&1));
}

#[test]
fn no_snapshot_is_saved_while_the_record_of_the_one_before_is_not_durable() {
    let mut node = follower();
    let (mut saved, mut write) = (0, None);
    for part in parts_at(20).0.into_iter().chain(parts_at(40).0) {
        node.handle(node.now, Input::Message { from: id(2), message: part });
        while let Some(output) = node.poll() {
            match output {
                Output::SaveSnapshot(_) => {
                    saved += 1;
                    node.handle(node.now, Input::SnapshotSaved);
                }
                Output::Write(batch) => write = Some(batch.id),
                Output::Send { .. }
                | Output::Read { .. }
                | Output::Dial(_)
                | Output::HangUp(_)
                | Output::Gossip(_)
                | Output::Reply { .. }
                | Output::Event(_)
                | Output::BuildSnapshot => {}
            }
        }
    }
    assert_eq!(saved, 1, "the batch that names it is under way");
    node.handle(node.now, Input::Written(write.expect("it is named")));
    let outputs: Vec<Output> = core::iter::from_fn(|| node.poll()).collect();
    assert!(outputs.iter().any(|output| matches!(output, Output::SaveSnapshot(_))), "{outputs:?}");
}
