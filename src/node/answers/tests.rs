//! What a node makes of more questions than it can answer at once.

use super::super::tests::{config, hear, id, leader, replies, settle};
use super::super::{Caller, Durable, Input, Limits, Message, Node, Output, Rejection, Reply, Request};
use super::APPLIED_BYTES_MAX;
use crate::id::{LogIndex, RequestId, WriteId};
use crate::kv::{Answer, Command, KeyValue};
use crate::machine::Machine as _;
use crate::raft::Body;
use crate::rng::Seed;
use crate::session::Proposal;
use crate::time::Instant;
use bytes::Bytes;

const VALUE_BYTES: usize = 100_000;

fn ask(node: &mut Node<KeyValue>, number: u64, request: Request) {
    let (id, from) = (RequestId::new(number), Caller::Client);
    node.handle(node.now, Input::Request { id, from, request });
}

fn get() -> Bytes {
    Bytes::from("k")
}

/// A leader that has applied one long value, and answers so many bytes a turn.
fn with_long_value(answer_bytes_per_turn: usize) -> Node<KeyValue> {
    let mut node = leader();
    node.config.limits = Limits { answer_bytes_per_turn, ..Limits::default() };
    let value = Bytes::from(vec![7; VALUE_BYTES]);
    let command = Command::Put { key: "k".into(), value }.encode();
    ask(&mut node, 1, Request::Propose(Proposal::Command(command)));
    settle(&mut node);
    hear(&mut node, 2, Body::AppendAccepted { index: LogIndex::new(3), commit: LogIndex::new(1) });
    assert!(matches!(replies(settle(&mut node))[..], [(1, Reply::Done { .. })]));
    node
}

fn assert_answered(replies: &[(u64, Reply)], numbers: core::ops::Range<u64>) {
    assert_eq!(replies.iter().map(|(number, _)| *number).collect::<Vec<_>>(), numbers.collect::<Vec<_>>());
    for (_, reply) in replies {
        let Reply::Answer { answer, .. } = reply else { panic!("{reply:?}") };
        assert!(
            matches!(Answer::decode(answer), Ok(Answer::Value(Some(value))) if value.len() == VALUE_BYTES)
        );
    }
}

#[test]
fn long_answers_are_made_so_many_bytes_a_turn_and_in_order() {
    let mut node = with_long_value(3 * VALUE_BYTES);
    (10..20).for_each(|number| ask(&mut node, number, Request::QueryStale { query: get() }));
    assert_answered(&replies(settle(&mut node)), 10..13);
    assert!(settle(&mut node).is_empty(), "the turn is over");
    for first in [13, 16] {
        assert_eq!(node.deadline(), Some(node.now), "the rest is due at once");
        node.handle_timeout(node.now);
        assert_answered(&replies(settle(&mut node)), first..first + 3);
    }
    node.handle_timeout(node.now);
    assert_answered(&replies(settle(&mut node)), 19..20);
    assert_ne!(node.deadline(), Some(node.now));
}

#[test]
fn an_answer_is_made_in_each_turn_however_long_it_is() {
    let mut node = with_long_value(0);
    (10..12).for_each(|number| ask(&mut node, number, Request::QueryStale { query: get() }));
    assert_answered(&replies(settle(&mut node)), 10..11);
    node.handle_timeout(node.now);
    assert_answered(&replies(settle(&mut node)), 11..12);
}

#[test]
fn no_answer_is_made_before_what_came_earlier_was_taken() {
    let mut node = with_long_value(usize::MAX);
    (10..13).for_each(|number| ask(&mut node, number, Request::QueryStale { query: get() }));
    for number in 10..13 {
        assert!(node.outputs.is_empty(), "nothing is in memory that nobody asked for");
        assert_answered(&replies(node.poll().into_iter().collect()), number..number + 1);
    }
}

fn context_of(body: &Body) -> Option<Bytes> {
    let Body::Heartbeat { context, .. } = body else { return None };
    (!context.is_empty()).then(|| context.clone())
}

#[test]
fn confirmed_reads_take_turns_as_well() {
    let mut node = with_long_value(VALUE_BYTES);
    (10..13).for_each(|number| ask(&mut node, number, Request::Query { query: get() }));
    let asked = settle(&mut node);
    let context = asked.iter().find_map(|output| {
        let Output::Send { message: Message::Raft(message), .. } = output else { return None };
        context_of(&message.body)
    });
    let context = context.expect("a round");
    hear(&mut node, 2, Body::HeartbeatResponse { commit: LogIndex::new(3), context });
    assert_answered(&replies(settle(&mut node)), 10..11);
    assert_eq!((node.reads.waiting(), node.answers.waiting()), (0, 2));
    node.handle_timeout(node.now);
    assert_answered(&replies(settle(&mut node)), 11..12);
}

#[test]
fn questions_beyond_the_limits_are_rejected_as_busy() {
    let mut node = with_long_value(1);
    node.config.limits.reads_max = 3;
    // One is answered before the next is asked for.
    (10..14).for_each(|number| ask(&mut node, number, Request::QueryStale { query: get() }));
    assert_eq!(replies(settle(&mut node))[0], (13, Reply::Rejected(Rejection::Busy)));
    let mut node = with_long_value(1);
    node.config.limits.reads_bytes_max = 2 * get().len();
    ask(&mut node, 10, Request::QueryStale { query: get() });
    ask(&mut node, 11, Request::Query { query: get() });
    ask(&mut node, 12, Request::QueryStale { query: get() });
    ask(&mut node, 13, Request::Query { query: Bytes::new() });
    assert_eq!(replies(settle(&mut node))[0], (12, Reply::Rejected(Rejection::Busy)), "of a few bytes each");
    assert_eq!(node.reads.waiting(), 2, "one that asks nothing has room");
}

#[test]
fn answers_to_commands_are_bounded_and_who_is_not_told_may_ask_again() {
    let mut node = with_long_value(usize::MAX);
    let get = Command::Get { key: "k".into() }.encode();
    (10..210).for_each(|number| ask(&mut node, number, Request::Propose(Proposal::Command(get.clone()))));
    settle(&mut node);
    hear(&mut node, 2, Body::AppendAccepted { index: LogIndex::new(203), commit: LogIndex::new(3) });
    let told = replies(settle(&mut node));
    let done = told.iter().filter(|(_, reply)| matches!(reply, Reply::Done { .. })).count();
    let unknown = told.iter().filter(|(_, reply)| *reply == Reply::Unknown).count();
    assert_eq!(done + unknown, 200);
    let most = APPLIED_BYTES_MAX.div_ceil(VALUE_BYTES);
    assert!(done <= most && done + 1 >= most, "{done} of {most}");
}

#[test]
fn how_a_node_is_comes_before_everything_else_that_waits() {
    let mut node = with_long_value(1);
    node.config.limits.reads_max = 3;
    (10..13).for_each(|number| ask(&mut node, number, Request::QueryStale { query: get() }));
    ask(&mut node, 13, Request::Status);
    let told = replies(settle(&mut node));
    assert!(matches!(told[..], [(13, Reply::Status(_))]), "{told:?}");
}

#[test]
fn the_metadata_is_written_down_once_until_it_changes() {
    let mut node = with_long_value(usize::MAX);
    let (first, again) = (node.written_metadata(), node.written_metadata());
    assert_eq!(first.as_ptr(), again.as_ptr());
    node.begin_following();
    let other = node.written_metadata();
    assert_eq!(first, other);
    assert_ne!(first.as_ptr(), other.as_ptr(), "the state was replaced: it is not taken for the same");
}

#[test]
fn a_node_that_halts_rejects_what_waits_for_its_turn() {
    let mut node = with_long_value(1);
    (10..13).for_each(|number| ask(&mut node, number, Request::QueryStale { query: get() }));
    settle(&mut node);
    let reason = "the disk is gone".to_owned();
    node.handle(node.now, Input::WriteFailed { id: WriteId::default(), reason });
    let halted = |number| (number, Reply::Rejected(Rejection::Halted));
    assert_eq!(replies(settle(&mut node)), [halted(11), halted(12)]);
}

#[test]
fn how_a_node_is_may_be_asked_before_there_is_a_cluster() {
    let durable = Durable::default();
    let mut node =
        Node::start(config(), Seed::new(1), durable, KeyValue::default(), Instant::ORIGIN).unwrap();
    ask(&mut node, 10, Request::Status);
    ask(&mut node, 11, Request::QueryStale { query: get() });
    let told = replies(settle(&mut node));
    let status = told.iter().find(|(number, _)| *number == 10);
    assert!(matches!(status, Some((_, Reply::Status(status))) if status.node == id(1)), "{told:?}");
    assert!(told.contains(&(11, Reply::Rejected(Rejection::NotFormed))));
}
