//! The bare node in a loop of one's own: no tokio, no QUIC, no files.
//!
//! ```text
//! cargo run --release --example own_loop
//! ```
//!
//! Three nodes form a cluster and carry out commands. What a driver owes a node is all here: it tells what happened
//! and what time it is, takes every output before it sleeps, makes a batch durable before it says so, and calls
//! `handle_timeout` when the deadline has come. The network is a queue, the disk a vector, and time only a number,
//! so that the loop never waits; put a socket, a file and a clock in their places, and it is a broker.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use rivven_cluster::id::{NodeId, PeerName, RequestId};
use rivven_cluster::kv::{self, KeyValue};
use rivven_cluster::machine::Machine;
use rivven_cluster::node::{
    Caller, Config, Durable, Input, Limits, LinkState, Node, Output, Peer, Rejection, Reply, Request,
    WriteBatch,
};
use rivven_cluster::raft::{Flow, Timing};
use rivven_cluster::rng::Seed;
use rivven_cluster::session::Proposal;
use rivven_cluster::time::Instant;

const NODES: u64 = 3;

fn id(node: u64) -> NodeId {
    NodeId::new(node).expect("ids count from 1")
}

fn name(node: u64) -> PeerName {
    format!("node{node}.example:9093").parse().expect("a host and a port")
}

fn start(node: u64, now: Instant) -> Node<KeyValue> {
    let config = Config {
        id: id(node),
        address: name(node),
        peers: (1..=NODES).filter(|peer| *peer != node).map(name).collect(),
        timing: Timing::default(),
        limits: Limits::default(),
        flow: Flow::default(),
        votes: true,
        gossip: None,
        partitioning: None,
    };
    Node::start(config, Seed::new(node), Durable::default(), KeyValue::default(), now).expect("an empty disk")
}

/// All of the world beside the nodes.
#[derive(Default)]
struct World {
    now: Instant,
    /// What is on its way: to whom, and what it is then told.
    under_way: VecDeque<(u64, Input)>,
    /// What each node has made durable.
    disks: BTreeMap<u64, Vec<WriteBatch>>,
    replies: Vec<(RequestId, Reply)>,
}

impl World {
    /// Does everything that a node asks for.
    fn drain(&mut self, number: u64, node: &mut Node<KeyValue>) {
        while let Some(output) = node.poll() {
            match output {
                Output::Write(batch) => {
                    let written = Input::Written(batch.id);
                    self.disks.entry(number).or_default().push(batch);
                    self.under_way.push_back((number, written));
                }
                Output::Send { to, message } => {
                    let to = (1..=NODES)
                        .find(|peer| to == Peer::Node(id(*peer)) || to == Peer::Address(name(*peer)));
                    self.under_way.extend(to.map(|to| (to, Input::Message { from: id(number), message })));
                }
                // Those that it begins with are up already.
                Output::Dial(_) | Output::HangUp(_) | Output::Gossip(_) | Output::Read { .. } => {}
                Output::Reply { id, reply } => self.replies.push((id, reply)),
                Output::Event(event) => println!("{:>10}  node {number}: {event:?}", self.now),
                Output::BuildSnapshot => {
                    let state = node.take_job().map(|job| job.write()).unwrap_or_default();
                    self.under_way.push_back((number, Input::SnapshotBuilt(state)));
                }
                Output::SaveSnapshot(_) => self.under_way.push_back((number, Input::SnapshotSaved)),
            }
        }
    }

    /// The next thing happens: something arrives, or the first deadline comes.
    fn step(&mut self, nodes: &mut BTreeMap<u64, Node<KeyValue>>) {
        let number = match self.under_way.pop_front() {
            Some((number, input)) => {
                nodes.get_mut(&number).expect("a node").handle(self.now, input);
                number
            }
            None => {
                let due = |(number, node): (&u64, &Node<KeyValue>)| Some((node.deadline()?, *number));
                let (at, number) = nodes.iter().filter_map(due).min().expect("somebody has a deadline");
                self.now = self.now.max(at);
                nodes.get_mut(&number).expect("a node").handle_timeout(self.now);
                number
            }
        };
        self.drain(number, nodes.get_mut(&number).expect("a node"));
    }
}

fn main() {
    let mut world = World::default();
    let mut nodes: BTreeMap<u64, _> = (1..=NODES).map(|node| (node, start(node, world.now))).collect();
    for number in 1..=NODES {
        for peer in (1..=NODES).filter(|peer| *peer != number) {
            let up = Input::Link { name: name(peer), state: LinkState::Up { node: id(peer) } };
            world.under_way.push_back((number, up));
        }
    }
    let (mut done, mut request, mut asked) = (0, 0, 1);
    while done < 5 {
        request += 1;
        let command = kv::Command::Put { key: "tea".into(), value: Bytes::from(format!("cup {done}")) };
        let propose = Request::Propose(Proposal::Command(command.encode()));
        let input = Input::Request { id: RequestId::new(request), from: Caller::Client, request: propose };
        world.under_way.push_back((asked, input));
        let reply = loop {
            world.step(&mut nodes);
            if let Some((_, reply)) = world.replies.pop() {
                break reply;
            }
        };
        if let Reply::Done { at, .. } = reply {
            println!("{:>10}  command {done} is committed at index {}", world.now, at.index);
            done += 1;
            continue;
        }
        // There is no leader yet, or another one: ask again when time has gone on.
        asked = if let Reply::Rejected(Rejection::NotLeader { leader: Some(leader), .. }) = reply {
            leader.value()
        } else {
            asked % NODES + 1
        };
        let before = world.now;
        while world.now == before {
            world.step(&mut nodes);
        }
    }
    assert!(world.disks.values().filter(|disk| !disk.is_empty()).count() == 3);
}
