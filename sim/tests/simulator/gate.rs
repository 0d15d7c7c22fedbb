//! The gate under attack: any order of finished writes, crashes and messages, on three whole nodes.
//!
//! The driver here is a hostile one. It delivers messages in any order, twice or never; finishes
//! writes whenever it likes; and crashes nodes at any moment, with the batch in flight kept or lost.
//! After each step the checkers judge what left the nodes: nobody votes, acknowledges or speaks in a
//! term that is not on its disk, and what a client was told stays so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use rivven_cluster::id::{NodeId, PeerName, RequestId};
use rivven_cluster::kv::KeyValue;
use rivven_cluster::machine::Machine;
use rivven_cluster::node::{
    Caller, Config, Durable, Input, Limits, LinkState, Message, Node, Output, Peer, Reply, Request,
    WriteBatch,
};
use rivven_cluster::raft::{Flow, Timing};
use rivven_cluster::rng::Seed;
use rivven_cluster::session::Proposal;
use rivven_cluster::time::Instant;
use rivven_sim::app::{Call, Recorded, Ticket};
use rivven_sim::checkers::{Acknowledged, Checkers, Violation, apply};
use rivven_sim::history::{History, Outcome};

const NODES: u64 = 3;
/// The most messages on their way; beyond it the oldest is lost.
const MESSAGES_MAX: usize = 100;

/// One thing that the hostile driver does.
#[derive(Clone, Debug)]
enum Act {
    /// Delivers the message at this place (modulo how many there are); keeps a copy if told to.
    Deliver { place: usize, again: bool },
    /// Loses the message at this place.
    Lose { place: usize },
    /// Finishes the write in flight of a node.
    Finish { node: u64 },
    /// Lets a node's time pass until something is due.
    Wait { node: u64 },
    /// Crashes a node and starts it again; the write in flight is kept or lost.
    Crash { node: u64, keeps: bool },
    /// A client sends a command to a node.
    Propose { node: u64 },
}

fn any_act() -> impl Strategy<Value = Act> {
    let node = 1..=NODES;
    prop_oneof![
        40 => (any::<usize>(), prop::bool::weighted(0.2)).prop_map(|(place, again)| Act::Deliver { place, again }),
        3 => any::<usize>().prop_map(|place| Act::Lose { place }),
        20 => node.clone().prop_map(|node| Act::Finish { node }),
        8 => node.clone().prop_map(|node| Act::Wait { node }),
        3 => (node.clone(), any::<bool>()).prop_map(|(node, keeps)| Act::Crash { node, keeps }),
        6 => node.prop_map(|node| Act::Propose { node }),
    ]
}

struct Slot {
    node: Node<Recorded<KeyValue>>,
    durable: Durable,
    in_flight: Option<WriteBatch>,
    now: Instant,
}

struct World {
    seed: u64,
    slots: BTreeMap<u64, Slot>,
    messages: Vec<(u64, u64, Message)>,
    history: History,
    last_request: u64,
    checkers: Checkers,
}

fn id(node: u64) -> NodeId {
    NodeId::new(node).expect("nodes count from 1")
}

fn ticket(request: RequestId) -> Ticket {
    Ticket { client: 1, operation: request.value() }
}

fn name(node: u64) -> PeerName {
    format!("node{node}:9093").parse().expect("a sound name")
}

impl World {
    fn new(seed: u64) -> World {
        let (slots, messages, history) = (BTreeMap::new(), Vec::new(), History::default());
        let checkers = Checkers::new(NODES, BTreeSet::new());
        let mut world = World { seed, slots, messages, history, last_request: 0, checkers };
        for node in 1..=NODES {
            world.start(node, Durable::default());
        }
        world
    }

    fn start(&mut self, node: u64, durable: Durable) {
        self.checkers.started(node, &durable);
        let peers = (1..=NODES).filter(|other| *other != node).map(name).collect();
        let limits = Limits { snapshot_entries: 4, retained_entries: 1, ..Limits::default() };
        let config = Config {
            id: id(node),
            address: name(node),
            peers,
            timing: Timing::default(),
            limits,
            flow: Flow::default(),
            votes: true,
            gossip: None,
            partitioning: None,
        };
        let seed = Seed::new(self.seed).child("boot", node * 1000 + durable.boot.value());
        let state_machine = Recorded::new(KeyValue::default(), true);
        let now = Instant::ORIGIN;
        let machine = Node::start(config, seed, durable.clone(), state_machine, now).expect("a sound disk");
        self.slots.insert(node, Slot { node: machine, durable, in_flight: None, now });
        for other in (1..=NODES).filter(|other| *other != node) {
            self.handle(node, Input::Link { name: name(other), state: LinkState::Up { node: id(other) } });
        }
    }

    fn handle(&mut self, node: u64, input: Input) {
        let slot = self.slots.get_mut(&node).expect("a node");
        self.checkers.input(node, &input);
        slot.node.handle(slot.now, input);
        self.drain(node);
    }

    fn drain(&mut self, node: u64) {
        let slot = self.slots.get_mut(&node).expect("a node");
        while let Some(output) = slot.node.poll() {
            self.checkers.output(node, &output);
            match output {
                Output::BuildSnapshot => {
                    let state = slot.node.take_job().expect("it is asked for once").write();
                    slot.node.handle(slot.now, Input::SnapshotBuilt(state));
                }
                Output::Read { .. } => unreachable!("there are no partitions"),
                Output::SaveSnapshot(_) => {
                    self.checkers.input(node, &Input::SnapshotSaved);
                    slot.node.handle(slot.now, Input::SnapshotSaved);
                }
                Output::Write(batch) => slot.in_flight = Some(batch),
                Output::Send { to, message } => {
                    let to = match to {
                        Peer::Node(to) => to.value(),
                        Peer::Address(to) => {
                            (1..=NODES).find(|other| name(*other) == to).expect("a listed peer")
                        }
                    };
                    self.messages.push((node, to, message));
                }
                Output::Reply { id, reply: Reply::Done { at, answer } } => {
                    let outcome = Outcome::Done { index: at.index, answer };
                    self.history.end(ticket(id), self.last_request, outcome);
                }
                Output::Reply { id, reply: Reply::Rejected(reason) } => {
                    let outcome = Outcome::Failed { reason: reason.to_string() };
                    self.history.end(ticket(id), self.last_request, outcome);
                }
                Output::Dial(_)
                | Output::HangUp(_)
                | Output::Gossip(_)
                | Output::Reply { .. }
                | Output::Event(_) => {}
            }
        }
        slot.node.assert_invariants();
        self.checkers.executed(node, &slot.node.state_machine().take_executed());
        self.checkers.settled(node, 0, slot.node.standing(), slot.node.indexes());
        let excess = self.messages.len().saturating_sub(MESSAGES_MAX);
        self.messages.drain(..excess);
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Deliver { place, again } if !self.messages.is_empty() => {
                let place = place % self.messages.len();
                let (from, to, message) = self.messages[place].clone();
                if !again {
                    self.messages.remove(place);
                }
                self.handle(to, Input::Message { from: id(from), message });
            }
            Act::Lose { place } if !self.messages.is_empty() => {
                let (from, to, _) = self.messages.remove(place % self.messages.len());
                self.handle(from, Input::Unreachable(id(to)));
            }
            Act::Deliver { .. } | Act::Lose { .. } => {}
            Act::Finish { node } => self.finish(*node),
            Act::Wait { node } => self.wait(*node),
            Act::Crash { node, keeps } => {
                let slot = self.slots.remove(node).expect("a node");
                let mut durable = slot.durable;
                if let Some(batch) = slot.in_flight.filter(|_| *keeps) {
                    apply(&mut durable, &batch);
                }
                self.start(*node, durable);
            }
            Act::Propose { node } => {
                self.last_request += 1;
                let request = RequestId::new(self.last_request);
                let command = Bytes::from_static(b"nonsense");
                self.history.call(ticket(request), Call::Command(command.clone()), self.last_request);
                let command = ticket(request).wrap(&command);
                let request = Input::Request {
                    id: request,
                    from: Caller::Client,
                    request: Request::Propose(Proposal::Command(command)),
                };
                self.handle(*node, request);
            }
        }
    }

    fn finish(&mut self, node: u64) {
        let slot = self.slots.get_mut(&node).expect("a node");
        if let Some(batch) = slot.in_flight.take() {
            apply(&mut slot.durable, &batch);
            self.handle(node, Input::Written(batch.id));
        }
    }

    fn wait(&mut self, node: u64) {
        let slot = self.slots.get_mut(&node).expect("a node");
        if let Some(deadline) = slot.node.deadline() {
            slot.now = slot.now.max(deadline) + Duration::from_nanos(1);
            slot.node.handle_timeout(slot.now);
            self.drain(node);
        }
    }

    /// The driver turns kind: everything arrives, in order, and all writes finish.
    fn heal(&mut self) {
        for round in 0..60 {
            self.settle();
            // Node 1 wakes up more often, so that somebody wins.
            self.wait(1 + u64::from(round % 5 == 4));
        }
        for node in 1..=NODES {
            self.act(&Act::Propose { node });
        }
        self.settle();
    }

    fn settle(&mut self) {
        while !self.messages.is_empty() || self.slots.values().any(|slot| slot.in_flight.is_some()) {
            for node in 1..=NODES {
                self.finish(node);
            }
            self.act(&Act::Deliver { place: 0, again: false });
        }
    }

    fn violation(&self) -> Option<Violation> {
        let mut checkers = self.checkers.clone();
        checkers.note(Acknowledged::judge(&self.history, checkers.commands()));
        checkers.violation().cloned()
    }
}

/// How many commands were acknowledged in a world that was played so.
fn play(seed: u64, acts: &[Act]) -> (World, u64) {
    let mut world = World::new(seed);
    for act in acts {
        world.act(act);
    }
    world.heal();
    let acknowledged = world.history.counts().done;
    (world, acknowledged)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_events_makes_a_node_break_its_promises(
        seed: u64,
        acts in prop::collection::vec(any_act(), 0..600),
    ) {
        let (world, _) = play(seed, &acts);
        prop_assert_eq!(world.violation(), None);
    }
}

/// The test above would prove nothing if nobody ever got anywhere.
#[test]
fn the_hostile_driver_still_lets_clusters_commit() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = prop::collection::vec(any_act(), 600);
    let mut worlds_with_commits = 0;
    for seed in 0..50 {
        let acts = strategy.new_tree(&mut runner).expect("a strategy without filters").current();
        let (world, acknowledged) = play(seed, &acts);
        assert_eq!(world.violation(), None);
        worlds_with_commits += usize::from(acknowledged > 0);
    }
    assert!(worlds_with_commits >= 25, "only {worlds_with_commits} of 50 worlds acknowledged anything");
}
