//! Nodes of two versions: what is sent while one is old, and what becomes of one that is too old.

use bytes::Bytes;

use super::super::tests::{config, elected, formed, hear, id, messages, replies, settle};
use super::super::{
    Caller, Config, Durable, Halt, Input, Message, Node, Partitioning, Rejection, Reply, Request, StartError,
};
use super::*;
use crate::id::{BootId, LogIndex, RequestId, Term, Token};
use crate::kv::KeyValue;
use crate::ledger::Ledger;
use crate::machine::Machine as _;
use crate::partition::metadata::FEATURE_LEVEL_FIRST;
use crate::partition::metadata::command::Registration;
use crate::raft::{Body, Position};
use crate::rng::Seed;
use crate::session::{Applied, ClusterTime, Ticket};
use crate::time::Instant;

const RAISE: Command = Command::SetFeatureLevel { from: FEATURE_LEVEL_FIRST, to: FEATURE_LEVEL };

fn order(ledger: &mut Ledger, index: u64, command: Command) {
    let at = Position { index: LogIndex::new(index), term: Term::new(1) };
    let entry = Proposal::Metadata(Box::new(command)).seal(ClusterTime::default());
    let applied = ledger.apply(at, &entry, |_| unreachable!("it is for the metadata"));
    assert!(matches!(applied, Applied::Metadata(ordered) if ordered.answer.is_ok()));
}

fn registration(node: u64) -> Command {
    Command::RegisterNode(Registration {
        node: id(node),
        token: Token::new(node),
        boot: BootId::new(1),
        address: format!("node{node}:9093").parse().unwrap(),
        known: None,
        ended: None,
        is_durable: true,
        weight: 1,
        rack: None,
        features: FEATURE_LEVEL,
    })
}

/// What is replicated once all nodes have said what they understand.
fn registered() -> Ledger {
    let mut ledger = Ledger::default();
    order(&mut ledger, 1, registration(1));
    order(&mut ledger, 2, registration(2));
    ledger
}

fn raised() -> Ledger {
    let mut ledger = registered();
    order(&mut ledger, 3, RAISE);
    ledger
}

/// The disk of node 1 of two, with a snapshot of that.
fn disk(ledger: &Ledger) -> Durable {
    let mut durable = formed();
    let snapshot = durable.snapshot.as_mut().unwrap();
    snapshot.state = ledger.snapshot(&KeyValue::default().snapshot());
    durable
}

fn start(features: u16, ledger: &Ledger) -> Result<Node<KeyValue>, StartError> {
    let partitioning = Partitioning { features, ..Partitioning::default() };
    let config = Config { partitioning: Some(partitioning), ..config() };
    Node::start(config, Seed::new(1), disk(ledger), KeyValue::default(), Instant::ORIGIN)
}

/// Node 1, which follows node 2, and was asked to pass on so many commands before it was drained. Returns what it tells
/// the leader.
fn passed_on(ledger: &Ledger, commands: u64, length: usize) -> Vec<Message> {
    let mut node = start(FEATURE_LEVEL, ledger).unwrap();
    settle(&mut node);
    hear(&mut node, 2, Body::Heartbeat { commit: LogIndex::new(1), context: Bytes::new() });
    settle(&mut node);
    for number in 1..=commands {
        let ticket = Ticket { session: LogIndex::new(1), number, oldest: 0 };
        let proposal = Proposal::Once { ticket, command: Bytes::from(vec![1; length]) };
        let (id, request) = (RequestId::new(number), Request::Propose(proposal));
        node.handle(node.now, Input::Request { id, from: Caller::Client, request });
    }
    let outputs = settle(&mut node);
    let is_passed_on =
        |message: &&Message| matches!(message, Message::Forward { .. } | Message::Forwards { .. });
    messages(&outputs).into_iter().filter(is_passed_on).cloned().collect()
}

fn together(messages: &[Message]) -> Vec<usize> {
    let count = |message: &Message| {
        if let Message::Forwards { wanted, .. } = message { wanted.len() } else { 0 }
    };
    messages.iter().map(count).collect()
}

#[test]
fn what_is_passed_on_travels_apart_until_the_level_is_raised_and_then_together() {
    assert_eq!(together(&passed_on(&registered(), 3, 10)), [0, 0, 0], "each in a message that all can read");
    assert_eq!(together(&passed_on(&raised(), 3, 10)), [3]);
    assert_eq!(together(&passed_on(&raised(), 1, 10)), [1], "one alone as well");
}

#[test]
fn what_travels_together_is_bounded_in_bytes() {
    assert_eq!(together(&passed_on(&raised(), 5, 400_000)), [2, 2, 1]);
}

#[test]
fn a_leader_takes_what_travels_together_one_by_one() {
    let mut node = elected(start(FEATURE_LEVEL, &raised()).unwrap());
    let message = passed_on(&raised(), 3, 10).pop().unwrap();
    let Message::Forwards { term, mut wanted } = message else { panic!("{message:?}") };
    for (call, _) in &mut wanted {
        call.node = id(2);
    }
    assert_eq!(term, Term::new(2));
    let before = node.status().stats.appended;
    // A copy changes nothing.
    for _ in 0..2 {
        let message = Message::Forwards { term, wanted: wanted.clone() };
        node.handle(node.now, Input::Message { from: id(2), message });
        settle(&mut node);
    }
    assert_eq!(node.status().stats.appended - before, 3);
}

#[test]
fn an_earlier_version_does_not_start_on_the_folder_of_a_later_one_and_says_why() {
    assert!(start(FEATURE_LEVEL_FIRST, &registered()).is_ok());
    let refused = start(FEATURE_LEVEL_FIRST, &raised()).unwrap_err();
    let outdated = Outdated { level: FEATURE_LEVEL, understood: FEATURE_LEVEL_FIRST };
    assert_eq!(refused, StartError::Outdated(outdated));
    assert!(refused.to_string().contains("use the version of the other nodes"), "{refused}");
    assert!(start(FEATURE_LEVEL, &raised()).is_ok(), "nothing was lost");
}

#[test]
fn an_earlier_version_halts_when_the_level_is_raised_and_executes_nothing_after_that() {
    let mut node = start(FEATURE_LEVEL_FIRST, &registered()).unwrap();
    settle(&mut node);
    let time = ClusterTime::default();
    let raise = Proposal::Metadata(Box::new(RAISE)).seal(time);
    let put = crate::kv::Command::Put { key: "k".into(), value: "v".into() }.encode();
    let entries = [raise, Proposal::Command(put).seal(time)];
    let entries = entries.into_iter().zip(2..).map(|(command, index)| crate::raft::Entry {
        at: Position { index: LogIndex::new(index), term: Term::new(2) },
        content: crate::raft::Content::Command(command),
    });
    let (previous, commit) = (crate::raft::BIRTH, LogIndex::new(3));
    hear(&mut node, 2, Body::Append { previous, entries: entries.collect(), commit });
    settle(&mut node);
    let outdated = Halt::Outdated(Outdated { level: FEATURE_LEVEL, understood: FEATURE_LEVEL_FIRST });
    assert_eq!(node.halted(), Some(&outdated));
    assert_eq!(node.state_machine(), &KeyValue::default(), "what comes after may mean something else");
}

#[test]
fn the_level_is_not_raised_over_the_head_of_a_member_that_has_not_registered() {
    let raise = |node: &mut Node<KeyValue>| {
        let request = Request::Propose(Proposal::Metadata(Box::new(RAISE)));
        let id = RequestId::new(7);
        node.handle(node.now, Input::Request { id, from: Caller::Operator, request });
        replies(settle(node))
    };
    let mut ledger = Ledger::default();
    order(&mut ledger, 1, registration(1));
    let mut node = elected(start(FEATURE_LEVEL, &ledger).unwrap());
    assert_eq!(raise(&mut node), [(7, Reply::Rejected(Rejection::Unregistered(id(2))))]);
    let mut node = elected(start(FEATURE_LEVEL, &registered()).unwrap());
    assert_eq!(raise(&mut node), [], "it is in the log");
}
