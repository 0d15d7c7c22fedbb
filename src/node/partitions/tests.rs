//! What a node says for itself, what it believes of others, and who may ask for what.

use core::time::Duration;

use super::super::tests::{config, elected, formed, hear, id, replies, settle};
use super::super::{Caller, Config, Input, Partitioning, Rejection, Reply, Request};
use super::*;
use crate::id::{LogIndex, NodeId, Offset, PartitionId, RequestId, Term};
use crate::kv::KeyValue;
use crate::ledger::Ledger;
use crate::machine::Machine;
use crate::node::Durable;
use crate::partition::metadata::{Alteration, Command, FenceReason, Outcome, Recovery, TopicSpec};
use crate::partition::replica::io::Fetch;
use crate::partition::replicas;
use crate::partition::retention::Retention;
use crate::raft::{Body, Position};
use crate::rng::Seed;
use crate::session::{Applied, ClusterTime, Proposal};
use crate::state_machine::StateMachine;

/// Node 1 of two, which leads, and has a part in partitions.
fn leader() -> Node<KeyValue> {
    let config = Config { partitioning: Some(Partitioning::default()), ..config() };
    let node = Node::start(config, Seed::new(1), formed(), KeyValue::default(), Instant::ORIGIN).unwrap();
    let mut node = elected(node);
    commit(&mut node);
    node
}

/// Node 2 has stored all that node 1 has.
fn commit(node: &mut Node<KeyValue>) -> Vec<Output> {
    let indexes = node.indexes().unwrap();
    hear(node, 2, Body::AppendAccepted { index: indexes.last, commit: indexes.commit });
    settle(node)
}

/// Lets time pass, with all that is due, and node 2 storing all at once.
fn pass(node: &mut Node<KeyValue>, time: Duration) -> Vec<Output> {
    let until = node.now + time;
    let mut outputs = Vec::new();
    while let Some(due) = node.deadline().filter(|due| *due <= until) {
        node.handle_timeout(due);
        outputs.extend(settle(node));
        outputs.extend(commit(node));
    }
    outputs
}

fn ask(node: &mut Node<KeyValue>, from: Caller, request: Request) -> Vec<(u64, Reply)> {
    node.handle(node.now, Input::Request { id: RequestId::new(7), from, request });
    let mut outputs = settle(node);
    outputs.extend(commit(node));
    replies(outputs)
}

fn order(command: Command) -> Request {
    Request::Propose(Proposal::Metadata(Box::new(command)))
}

fn topic(assignment: &[NodeId]) -> Command {
    let replicas = u16::try_from(assignment.len()).unwrap();
    let spec = TopicSpec {
        name: "t".to_owned(),
        replicas,
        min_in_sync: 1,
        recovery: Recovery::Manual,
        retention: Retention::default(),
    };
    Command::CreateTopic { spec, assignments: vec![assignment.to_vec()] }
}

/// What node 2 says of a node.
fn beat_of(node: &Node<KeyValue>, of: u64) -> Message {
    let mut registration = node.registration().unwrap();
    registration.node = id(of);
    registration.known = None;
    Message::Beat(Box::new(Beat { registration, applied: node.applied, is_leaving: false }))
}

#[test]
fn a_leader_takes_itself_and_who_speaks_into_the_metadata() {
    let mut node = leader();
    let outputs = pass(&mut node, Duration::from_secs(2));
    assert_eq!(node.metadata().node(id(1)).map(|record| record.state), Some(NodeState::Active));
    let told =
        outputs.iter().filter(|output| matches!(output, Output::Event(Event::Metadata { .. }))).count();
    assert!(told >= 2, "registered, unfenced");
    assert_eq!(node.metadata().node(id(2)), None);
    // A node speaks for itself, and for nobody else.
    for of in [3, 2] {
        let message = beat_of(&node, of);
        node.handle(node.now, Input::Message { from: id(2), message });
    }
    pass(&mut node, Duration::from_secs(1));
    assert!(node.metadata().node(id(2)).is_some());
    assert_eq!(node.metadata().node(id(3)), None);
}

/// Node 2 says that its log of a partition is empty.
fn fetch(node: &Node<KeyValue>, place: PartitionId) -> Input {
    let session = node.metadata().node(id(2)).unwrap().epoch;
    let leader_epoch = node.metadata().partition(place).unwrap().leader_epoch;
    let fetch =
        Fetch { session, leader_epoch, at: Offset::new(0), last_epoch: None, knows: Default::default() };
    let message = Message::Records(replicas::io::Message::Fetch(vec![(place, fetch)]));
    Input::Message { from: id(2), message }
}

#[test]
fn who_leads_a_partition_says_who_is_in_sync_and_nobody_says_it_for_another() {
    let mut node = leader();
    pass(&mut node, Duration::from_secs(2));
    let message = beat_of(&node, 2);
    node.handle(node.now, Input::Message { from: id(2), message });
    pass(&mut node, Duration::from_secs(1));
    let message = beat_of(&node, 2);
    node.handle(node.now, Input::Message { from: id(2), message });
    pass(&mut node, Duration::from_secs(1));
    let created = ask(&mut node, Caller::Client, order(topic(&[id(1), id(2)])));
    let [(7, Reply::Ordered { answer, .. })] = &created[..] else { panic!("{created:?}") };
    let Ok(Outcome::Created(topic)) = **answer else { panic!("{answer:?}") };
    let place = PartitionId { topic, number: 0 };
    let in_sync = |node: &Node<KeyValue>| node.metadata().partition(place).unwrap().in_sync.clone();
    // Node 2 falls silent, and is fenced; when it speaks again it comes back.
    pass(&mut node, Duration::from_secs(12));
    assert_eq!(in_sync(&node), [id(1)]);
    let forged = Alteration {
        partition: place,
        leader: id(1),
        node_epoch: node.metadata().node(id(1)).unwrap().epoch,
        leader_epoch: node.metadata().partition(place).unwrap().leader_epoch,
        epoch: node.metadata().partition(place).unwrap().epoch,
        in_sync: vec![(id(1), node.metadata().node(id(1)).unwrap().epoch)],
        is_recovered: false,
        voids_earlier: true,
    };
    let before = node.metadata().clone();
    let message = Message::Alterations(vec![forged]);
    node.handle(node.now, Input::Message { from: id(2), message });
    settle(&mut node);
    commit(&mut node);
    assert_eq!(*node.metadata(), before, "node 2 does not speak for node 1");
    for _ in 0..5 {
        let message = beat_of(&node, 2);
        node.handle(node.now, Input::Message { from: id(2), message });
        pass(&mut node, Duration::from_secs(1));
    }
    assert_eq!(in_sync(&node), [id(1)], "that it is there is not enough");
    let fetches = fetch(&node, place);
    node.handle(node.now, fetches);
    settle(&mut node);
    commit(&mut node);
    commit(&mut node);
    assert_eq!(in_sync(&node), [id(1), id(2)]);
}

/// The disk of node 1, whose snapshot says that it leads a partition, and that node 2 is there and not in sync.
fn formed_with_a_topic() -> Durable {
    let mut ledger = Ledger::default();
    let mut index = LogIndex::new(1);
    let mut run = |ledger: &mut Ledger, command: Command| {
        index = index.next();
        let at = Position { index, term: Term::new(1) };
        let entry = Proposal::Metadata(Box::new(command)).seal(ClusterTime::default());
        let Applied::Metadata(ordered) = ledger.apply(at, &entry, |_| unreachable!()) else { unreachable!() };
        ordered.answer.unwrap()
    };
    let blank = leader();
    for node in [1, 2] {
        let registration = Registration { node: id(node), known: None, ..blank.registration().unwrap() };
        let Outcome::Registered(epoch) = run(&mut ledger, Command::RegisterNode(registration)) else {
            panic!()
        };
        let seen = LogIndex::new(epoch.value());
        run(&mut ledger, Command::UnfenceNode { node: id(node), epoch, seen, applied: seen });
    }
    run(&mut ledger, topic(&[id(1), id(2)]));
    let record = ledger.metadata().node(id(2)).unwrap().clone();
    let (epoch, seen, reason) = (record.epoch, record.changed, FenceReason::Dead);
    run(&mut ledger, Command::FenceNode { node: id(2), epoch, seen, reason });
    let seen = ledger.metadata().node(id(2)).unwrap().changed;
    let unfence = Command::UnfenceNode { node: id(2), epoch, seen, applied: seen };
    run(&mut ledger, unfence);
    let mut durable = formed();
    if let Some(snapshot) = &mut durable.snapshot {
        snapshot.state = ledger.snapshot(&KeyValue::default().snapshot());
    }
    durable
}

#[test]
fn what_is_not_heard_is_said_again() {
    let config = Config { partitioning: Some(Partitioning::default()), ..config() };
    let disk = formed_with_a_topic();
    let mut node = Node::start(config, Seed::new(1), disk, KeyValue::default(), Instant::ORIGIN).unwrap();
    settle(&mut node);
    let topic = node.metadata().topics().next().map(|(topic, _)| topic).unwrap();
    let fetches = fetch(&node, PartitionId { topic, number: 0 });
    node.handle(node.now, fetches);
    let told = |outputs: Vec<Output>| {
        let is_told = |output: &&Output| matches!(output, Output::Send { message: Message::Alterations(all), .. } if all.len() == 1);
        outputs.iter().filter(is_told).count()
    };
    let mut heartbeats = 0;
    let mut count = 0;
    while heartbeats < 70 {
        // Node 2 leads, and never hears what it is told.
        hear(&mut node, 2, Body::Heartbeat { commit: LogIndex::new(1), context: bytes::Bytes::new() });
        count += told(settle(&mut node));
        node.handle_timeout(node.now + Duration::from_millis(50));
        count += told(settle(&mut node));
        heartbeats += 1;
    }
    assert!((3..=4).contains(&count), "{count} times in three and a half seconds");
}

#[test]
fn applications_change_topics_operators_nodes_and_nobody_says_what_nodes_say() {
    let mut node = leader();
    pass(&mut node, Duration::from_secs(2));
    let record = node.metadata().node(id(1)).unwrap().clone();
    let drain = Command::SetDraining { node: id(1), seen: record.changed, is_draining: true };
    let forbidden = |replies: Vec<(u64, Reply)>| replies == [(7, Reply::Rejected(Rejection::Forbidden))];
    assert!(forbidden(ask(&mut node, Caller::Client, order(drain.clone()))));
    assert!(forbidden(ask(&mut node, Caller::Node(id(2)), order(drain.clone()))));
    let register = Command::RegisterNode(node.registration().unwrap());
    assert!(forbidden(ask(&mut node, Caller::Operator, order(register))));
    let (epoch, seen) = (record.epoch, record.changed);
    let fence = |reason| Command::FenceNode { node: id(1), epoch, seen, reason };
    assert!(forbidden(ask(&mut node, Caller::Operator, order(fence(FenceReason::Dead)))));
    let drained = ask(&mut node, Caller::Operator, order(drain));
    assert!(matches!(&drained[..], [(7, Reply::Ordered { answer, .. })] if **answer == Ok(Outcome::Changed)));
    let created = ask(&mut node, Caller::Client, order(topic(&[id(1)])));
    assert!(matches!(&created[..], [(7, Reply::Ordered { answer, .. })] if answer.is_ok()), "{created:?}");
    let unknown = Command::DeleteTopic { topic: crate::id::TopicId::new(99) };
    let refused = ask(&mut node, Caller::Client, order(unknown));
    assert!(matches!(&refused[..], [(7, Reply::Ordered { answer, .. })] if answer.is_err()), "{refused:?}");
}

#[test]
fn who_follows_is_told_each_command_once_it_is_executed() {
    let mut node = leader();
    pass(&mut node, Duration::from_secs(2));
    let follow = |after| Request::FollowMetadata { after: LogIndex::new(after) };
    assert_eq!(
        ask(&mut node, Caller::Client, follow(0)),
        [(7, Reply::Rejected(Rejection::Forgotten))],
        "what was before the snapshot is not known"
    );
    let told = ask(&mut node, Caller::Client, follow(1));
    let [(7, Reply::Followed { applied, commands })] = &told[..] else { panic!("{told:?}") };
    assert_eq!((*applied, commands.len()), (node.applied, 2), "registered, unfenced");
    // Whoever has all waits for the next one, refused or not, and at last is told that there was none.
    let last = node.applied.value();
    assert_eq!(ask(&mut node, Caller::Client, follow(last)), []);
    node.handle(
        node.now,
        Input::Request { id: RequestId::new(8), from: Caller::Client, request: order(topic(&[id(9)])) },
    );
    settle(&mut node);
    let told = replies(commit(&mut node));
    let nothing = Reply::Followed { applied: node.applied, commands: Vec::new() };
    assert!(told.contains(&(7, nothing)), "{told:?}");
    let last = node.applied.value();
    assert_eq!(ask(&mut node, Caller::Client, follow(last)), []);
    let told = replies(pass(&mut node, Duration::from_secs(6)));
    assert_eq!(told, [(7, Reply::Followed { applied: node.applied, commands: Vec::new() })]);
}

#[test]
fn the_leader_explains_and_others_say_who_leads() {
    let mut node = leader();
    pass(&mut node, Duration::from_secs(2));
    let told = ask(&mut node, Caller::Client, Request::Explain { node: id(1) });
    assert!(matches!(&told[..], [(7, Reply::Explained(_))]), "{told:?}");
    let mut node = super::super::tests::leader();
    let told = ask(&mut node, Caller::Client, Request::Explain { node: id(1) });
    assert_eq!(told, [(7, Reply::Rejected(Rejection::NoPartitions))]);
}
