//! The gate by hand: what waits for what, and in which order it leaves.

use super::*;
use crate::id::{LogIndex, NodeId, Term};
use crate::machine::Machine;
use crate::node::{Config, Durable, Input, Limits, Node, Output};
use crate::raft::{Entry, HardState, Position};

mod orders;

fn number(value: u64) -> ReadyNumber {
    ReadyNumber::for_tests(value)
}

fn persist(ready: u64, index: u64) -> Persist {
    let at = Position { index: LogIndex::new(index), term: Term::new(2) };
    let entries = vec![Entry::of_command(at, "x")];
    Persist { number: number(ready), entries, must_sync: true, ..Persist::default() }
}

/// A `Ready` that only moves the commit index.
fn lazy(ready: u64, commit: u64) -> Persist {
    let hard_state = HardState { commit: LogIndex::new(commit), ..HardState::default() };
    Persist { number: number(ready), hard_state: Some(hard_state), ..Persist::default() }
}

/// A message that can be told from others.
fn departure(to: u64) -> Departure {
    let answer = formation::Message::Answer { standing: formation::Standing::Fresh, names: None };
    let message = Message::Formation(answer);
    Departure { to: Peer::Node(NodeId::new(to).unwrap()), message }
}

fn open_gate() -> Gate {
    let mut gate = Gate::start(BootId::new(1));
    assert_eq!(gate.flush().unwrap().boot, Some(BootId::new(1)));
    gate.written(WriteId::new(1));
    gate
}

#[test]
fn nothing_leaves_before_the_boot_number_is_durable() {
    let mut gate = Gate::start(BootId::new(1));
    assert_eq!(gate.depart(departure(2), None), None);
    let batch = gate.flush().unwrap();
    assert_eq!(gate.depart(departure(3), None), None);
    assert_eq!(gate.written(batch.id).departures, [departure(2), departure(3)]);
    assert_eq!(gate.depart(departure(2), None), Some(departure(2)));
}

#[test]
fn a_message_waits_for_its_own_batch_and_not_for_the_one_before() {
    let mut gate = open_gate();
    assert_eq!(gate.persist(persist(1, 2)), None);
    let first = gate.flush().unwrap();
    assert_eq!(gate.persist(persist(2, 3)), None);
    assert_eq!(gate.flush(), None, "one batch is in flight at a time");
    assert_eq!(gate.depart(departure(2), Some(number(2))), None);
    assert_eq!(gate.written(first.id).departures, []);
    let second = gate.flush().unwrap();
    assert_eq!(gate.written(second.id).departures, [departure(2)]);
}

#[test]
fn a_ready_that_writes_nothing_waits_for_those_before_it() {
    let mut gate = open_gate();
    gate.persist(persist(1, 2));
    let batch = gate.flush().unwrap();
    let empty = Persist { number: number(2), ..Persist::default() };
    assert_eq!(gate.persist(empty), None);
    assert_eq!(gate.depart(departure(2), Some(number(2))), None, "the ack of a repeated append");
    let released = gate.written(batch.id);
    assert_eq!((released.ready, released.departures), (Some(number(2)), vec![departure(2)]));
}

#[test]
fn a_commit_index_alone_is_not_worth_a_write_but_rides_with_the_next() {
    let mut gate = open_gate();
    assert_eq!(gate.persist(lazy(1, 5)), Some(number(1)));
    assert_eq!(gate.flush(), None);
    gate.persist(persist(2, 6));
    let batch = gate.flush().unwrap();
    assert_eq!(batch.hard_state.unwrap().commit, LogIndex::new(5));
}

#[test]
fn writes_that_come_while_the_disk_works_become_one_batch() {
    let mut gate = open_gate();
    gate.persist(persist(1, 2));
    let first = gate.flush().unwrap();
    gate.persist(persist(2, 3));
    gate.persist(persist(3, 4));
    gate.written(first.id);
    let second = gate.flush().unwrap();
    assert_eq!(second.entries.iter().map(|entry| entry.at.index.value()).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(gate.written(second.id).ready, Some(number(3)));
}

#[test]
fn an_open_batch_is_rewritten_like_the_log_itself() {
    let mut gate = open_gate();
    gate.persist(persist(1, 2));
    gate.persist(persist(2, 3));
    gate.persist(persist(3, 2));
    let batch = gate.flush().unwrap();
    assert_eq!(batch.entries.iter().map(|entry| entry.at.index.value()).collect::<Vec<_>>(), [2]);
}

#[test]
fn held_messages_leave_strictly_in_order() {
    let mut gate = open_gate();
    gate.persist(persist(1, 2));
    let first = gate.flush().unwrap();
    gate.persist(persist(2, 3));
    gate.depart(departure(2), Some(number(2)));
    // It could leave with the first batch, but not ahead of what was said before it.
    gate.depart(departure(3), Some(number(1)));
    assert_eq!(gate.written(first.id).departures, []);
    let second = gate.flush().unwrap();
    assert_eq!(gate.written(second.id).departures, [departure(2), departure(3)]);
}

#[test]
#[should_panic(expected = "batches become durable in order")]
fn a_driver_that_confirms_the_wrong_batch_is_stopped() {
    let mut gate = Gate::start(BootId::new(1));
    gate.flush();
    gate.written(WriteId::new(7));
}

#[test]
fn a_failed_write_halts_the_node_and_nothing_leaves_it() {
    let config = Config {
        id: NodeId::new(1).unwrap(),
        address: "node1:9093".parse().unwrap(),
        peers: ["node2:9093".parse().unwrap()].into(),
        timing: crate::raft::Timing::default(),
        limits: Limits::default(),
        flow: crate::raft::Flow::default(),
        votes: true,
        gossip: None,
        partitioning: None,
    };
    let now = crate::time::Instant::ORIGIN;
    let map = crate::kv::KeyValue::default();
    let mut node = Node::start(config, crate::rng::Seed::new(1), Durable::default(), map, now).unwrap();
    node.handle_timeout(now);
    let Some(Output::Write(batch)) = node.poll() else { panic!("the boot number is written first") };
    node.handle(now, Input::WriteFailed { id: batch.id, reason: "no space".to_owned() });
    let left: Vec<Output> = core::iter::from_fn(|| node.poll()).collect();
    assert!(matches!(&left[..], [Output::Event(crate::node::Event::Halted { .. })]), "{left:?}");
    assert!(node.halted().unwrap().to_string().contains("no space"));
    assert_eq!(node.deadline(), None);
}

/// A leader whose disk hangs must not go on leading a cluster that it cannot serve, and a follower's
/// promises must not pile up.
#[test]
fn a_node_whose_disk_does_not_answer_falls_silent_and_deaf() {
    use crate::raft::{Body, Message as RaftMessage, Timing};
    let now = crate::time::Instant::ORIGIN;
    let durable = crate::node::tests::formed();
    let mut node = crate::node::tests::start(durable, now);
    let Some(Output::Write(batch)) = node.poll() else { panic!("the boot number is written first") };
    let heartbeat = || {
        let body = Body::Heartbeat { commit: LogIndex::new(1), context: bytes::Bytes::new() };
        let message = RaftMessage { to: NodeId::new(1).unwrap(), term: Term::new(1), body };
        Input::Message { from: NodeId::new(2).unwrap(), message: Message::Raft(message) }
    };
    let later = now + Timing::default().election_timeout.end * 5;
    for _ in 0..1000 {
        node.handle(later, heartbeat());
        assert_eq!(node.poll(), None);
    }
    assert_eq!(node.status().stats.stalled, 1000);
    assert_eq!(node.status().stats.held, 0);
    node.handle(later, Input::Written(batch.id));
    node.handle(later, heartbeat());
    assert!(matches!(node.poll(), Some(Output::Event(_) | Output::Send { .. })), "and it hears again");
}
