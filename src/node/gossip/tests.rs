//! What gossip does for a node, and what it waits for.

use super::super::tests::{self, formed, hear, id, replies, settle};
use super::super::{Caller, Config, Durable, Input, LinkState, Rejection, Reply, Request};
use super::*;
use crate::id::{RequestId, Token};
use crate::kv::KeyValue;
use crate::rng::Seed;
use crate::swim::{CallId, Card, Epoch, Question, Record};

const WALL: WallSeconds = WallSeconds(200_000_000);

/// Node 1 of two, which gossips.
fn start(durable: Durable) -> Node<KeyValue> {
    let gossip = Gossip {
        cluster: "demo".parse().unwrap(),
        address: "10.0.0.1:7946".parse().unwrap(),
        seeds: ["seed:7946".parse().unwrap()].into(),
        zone: 0,
        timing: swim::Timing::LAN,
        datagram_max: 1100,
    };
    let base = tests::start(Durable::default(), Instant::ORIGIN);
    let config = Config { gossip: Some(gossip), ..base.config };
    Node::start(config, Seed::new(1), durable, KeyValue::default(), Instant::ORIGIN).unwrap()
}

/// The same, once it gossips.
fn gossiping(durable: Durable) -> Node<KeyValue> {
    let mut node = start(durable);
    node.handle(Instant::ORIGIN, Input::WallClock(WALL));
    settle(&mut node);
    assert!(node.gossip().is_some());
    node
}

/// Node `number` comes and says where nodes reach it.
fn joins(node: &mut Node<KeyValue>, number: u64, address: &str) -> Vec<Output> {
    let metadata = Description { address: address.parse().unwrap() }.encode();
    let record = Record {
        id: id(number),
        epoch: Epoch::at_start(WALL, None),
        address: format!("10.0.0.{number}:7946").parse().unwrap(),
        boot: 7,
        zone: 0,
        metadata_version: 1,
        metadata_hash: swim::hash_of(&metadata),
    };
    let question = Question::Join(Card { record, metadata });
    node.handle(node.now, Input::Gossip(swim::Input::Asked { call: CallId(1), from: id(number), question }));
    settle(node)
}

fn is_gossip(output: &Output) -> bool {
    matches!(output, Output::Gossip(_))
}

#[test]
fn nothing_is_gossiped_before_the_boot_number_is_durable_and_the_wall_clock_known() {
    let mut node = start(formed());
    node.handle(Instant::ORIGIN, Input::WallClock(WALL));
    let mut writes = Vec::new();
    while let Some(output) = node.poll() {
        assert!(!is_gossip(&output), "{output:?}");
        if let Output::Write(batch) = output {
            writes.push(batch.id);
        }
    }
    node.handle(Instant::ORIGIN, Input::Written(writes[0]));
    assert!(settle(&mut node).iter().any(is_gossip), "it asks for its seed");

    let mut node = start(formed());
    assert!(!settle(&mut node).iter().any(is_gossip), "it does not know what time it is");
    node.handle(Instant::ORIGIN, Input::WallClock(WALL));
    assert!(settle(&mut node).iter().any(is_gossip));
}

#[test]
fn who_gossip_holds_dead_is_not_waited_for() {
    let mut node = gossiping(formed());
    hear(&mut node, 2, raft_heartbeat());
    settle(&mut node);
    let request = Request::Query { query: bytes::Bytes::from_static(b"k") };
    node.handle(node.now, Input::Request { id: RequestId::new(1), from: Caller::Client, request });
    settle(&mut node);
    node.note_gossip(swim::Event::Suspected(id(2)));
    assert_eq!(replies(settle(&mut node)), [], "a suspicion is nothing yet");
    node.note_gossip(swim::Event::Dead(id(2)));
    let told = replies(settle(&mut node));
    assert_eq!(told, [(1, Reply::Rejected(Rejection::Unconfirmed))]);
}

fn raft_heartbeat() -> crate::raft::Body {
    crate::raft::Body::Heartbeat { commit: crate::raft::BIRTH.index, context: bytes::Bytes::new() }
}

#[test]
fn a_member_is_dialled_where_gossip_says_that_it_is() {
    let mut node = gossiping(formed());
    let outputs = joins(&mut node, 2, "elsewhere:9093");
    assert!(outputs.contains(&Output::Dial("elsewhere:9093".parse().unwrap())), "{outputs:?}");
    let outputs = joins(&mut node, 3, "stranger:9093");
    let dials = |output: &&Output| matches!(output, Output::Dial(_));
    assert_eq!(outputs.iter().find(dials), None, "it is no member of the cluster");
}

#[test]
fn two_that_are_connected_and_do_not_see_each_other_meet() {
    let mut node = gossiping(formed());
    let name = "node2:9093".parse().unwrap();
    node.handle(node.now, Input::Link { name, state: LinkState::Up { node: id(2) } });
    let introduced = |outputs: &[Output]| {
        let is_introduction =
            |output: &&Output| matches!(output, Output::Send { message: Message::Meet { .. }, .. });
        outputs.iter().filter(is_introduction).count()
    };
    assert_eq!(introduced(&settle(&mut node)), 1);
    node.handle_timeout(node.deadline().unwrap());
    settle(&mut node);

    // Told by the other one, it asks to be let in there.
    let address = "10.0.0.2:7946".parse().unwrap();
    node.handle(node.now, Input::Message { from: id(2), message: Message::Meet { address } });
    let outputs = settle(&mut node);
    let asks = outputs.iter().any(|output| {
        matches!(output, Output::Gossip(swim::Output::Ask { to, question: Question::Join(_), .. })
            if to.id == Some(id(2)) && to.address == address)
    });
    assert!(asks, "{outputs:?}");

    // It is said again, until they do.
    let until = node.now + swim::Timing::LAN.heal_interval;
    let mut again = 0;
    while node.now < until {
        node.handle_timeout(node.deadline().unwrap());
        again += introduced(&settle(&mut node));
    }
    assert_eq!(again, 1);
    joins(&mut node, 2, "node2:9093");
    let until = node.now + swim::Timing::LAN.heal_interval;
    while node.now < until {
        node.handle_timeout(node.deadline().unwrap());
        assert_eq!(introduced(&settle(&mut node)), 0);
    }
}

#[test]
fn a_newcomer_that_lost_sight_of_its_cluster_asks_members_that_it_knows_by_gossip() {
    let cluster = crate::formation::VoterSet::new([id(2), id(3)].into()).unwrap();
    let standing = crate::formation::Standing::Joining { cluster, token: Token::new(5), repairs: false };
    let mut node = gossiping(Durable { standing, ..Durable::default() });
    joins(&mut node, 3, "node3:9093");
    let until = node.now + core::time::Duration::from_secs(2);
    let mut dialled = Vec::new();
    while node.now < until {
        node.handle_timeout(node.deadline().unwrap());
        for output in settle(&mut node) {
            if let Output::Dial(name) = output {
                dialled.push(name.to_string());
            }
        }
    }
    assert_eq!(dialled, ["node3:9093"]);
}

#[test]
fn a_node_that_stops_says_goodbye_to_those_who_are_there() {
    let mut alone = gossiping(formed());
    assert!(!alone.has_left());
    alone.handle(alone.now, Input::Leave);
    assert!(alone.has_left(), "nobody is there");

    let mut silent = start(formed());
    silent.handle(Instant::ORIGIN, Input::Leave);
    assert!(silent.has_left(), "it has not begun");
    silent.handle(Instant::ORIGIN, Input::WallClock(WALL));
    assert!(!settle(&mut silent).iter().any(is_gossip), "and does not begin any more");

    let mut node = gossiping(formed());
    joins(&mut node, 2, "node2:9093");
    node.handle(node.now, Input::Leave);
    assert!(settle(&mut node).iter().any(is_gossip));
    assert!(!node.has_left(), "nobody has heard it");
}
