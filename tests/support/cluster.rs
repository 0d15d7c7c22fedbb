//! Three nodes in one loop, without a network and a disk: for the benchmarks, and for endless loads.

use bytes::Bytes;
use rivven_cluster::id::{NodeId, PeerName, RequestId};
use rivven_cluster::kv::KeyValue;
use rivven_cluster::machine::Machine as _;
use rivven_cluster::node::{
    Caller, Config, Durable, Input, Limits, LinkState, Node, Output, Peer, Reply, Request,
};
use rivven_cluster::raft::{Flow, Timing};
use rivven_cluster::rng::Seed;
use rivven_cluster::session::Proposal;
use rivven_cluster::time::Instant;

fn id(node: u64) -> NodeId {
    NodeId::new(node).expect("not 0")
}

fn name(node: u64) -> PeerName {
    format!("node{node}:9093").parse().expect("a sound name")
}

/// Three nodes, a network that loses nothing, disks that are done at once.
pub struct Cluster {
    pub nodes: Vec<Node<KeyValue>>,
    now: Instant,
    leader: usize,
    pub answered: u64,
    asked: u64,
}

impl Cluster {
    pub fn formed(limits: Limits) -> Cluster {
        let start = |me: u64| {
            let peers = (1..=3).filter(|peer| *peer != me).map(name).collect();
            let (timing, flow) = (Timing::default(), Flow::default());
            let (votes, gossip, partitioning) = (true, None, None);
            let config = Config {
                id: id(me),
                address: name(me),
                peers,
                timing,
                limits,
                flow,
                votes,
                gossip,
                partitioning,
            };
            Node::start(config, Seed::new(me), Durable::default(), KeyValue::default(), Instant::ORIGIN)
        };
        let nodes = (1..=3).map(|me| start(me).expect("an empty disk")).collect();
        let mut cluster = Cluster { nodes, now: Instant::ORIGIN, leader: 0, answered: 0, asked: 0 };
        for (me, peer) in [(1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2)] {
            let state = LinkState::Up { node: id(peer) };
            cluster.settle(vec![(me, Input::Link { name: name(peer), state })]);
        }
        while cluster.answered == 0 {
            cluster.now = cluster.now + core::time::Duration::from_millis(1);
            for node in &mut cluster.nodes {
                if node.deadline().is_some_and(|deadline| deadline <= cluster.now) {
                    node.handle_timeout(cluster.now);
                }
            }
            cluster.settle(Vec::new());
            cluster.leader = (cluster.leader + 1) % 3;
            cluster.propose(Bytes::from_static(b"hello"), 1);
        }
        let standing = |node: &Node<KeyValue>| node.standing().and_then(|standing| standing.leader);
        let leader = standing(&cluster.nodes[0]).expect("somebody has answered");
        cluster.leader = usize::try_from(leader.value() - 1).expect("one of three");
        cluster
    }

    /// Has so many commands committed and applied.
    pub fn propose(&mut self, command: Bytes, count: u64) {
        let me = u64::try_from(self.leader + 1).expect("one of three");
        let requests = (0..count).map(|_| {
            self.asked += 1;
            let request = Request::Propose(Proposal::Command(command.clone()));
            (me, Input::Request { id: RequestId::new(self.asked), from: Caller::Client, request })
        });
        let requests = requests.collect();
        self.settle(requests);
    }

    /// Moves inputs and messages until nobody has anything to say.
    fn settle(&mut self, mut inputs: Vec<(u64, Input)>) {
        loop {
            for (to, input) in inputs.drain(..) {
                let place = usize::try_from(to - 1).expect("one of three");
                self.nodes[place].handle(self.now, input);
            }
            for (me, node) in (1..).zip(&mut self.nodes) {
                while let Some(output) = node.poll() {
                    match output {
                        Output::Write(batch) => inputs.push((me, Input::Written(batch.id))),
                        Output::Send { to: Peer::Node(to), message } => {
                            inputs.push((to.value(), Input::Message { from: id(me), message }));
                        }
                        Output::Send { to: Peer::Address(to), message } => {
                            let to = (1..=3).find(|node| name(*node) == to).expect("a listed peer");
                            inputs.push((to, Input::Message { from: id(me), message }));
                        }
                        Output::Reply { reply: Reply::Done { .. }, .. } => self.answered += 1,
                        Output::BuildSnapshot => {
                            let state = node.take_job().expect("it is asked for once").write();
                            inputs.push((me, Input::SnapshotBuilt(state)));
                        }
                        Output::Read { .. } => unreachable!("there are no partitions"),
                        Output::SaveSnapshot(_) => inputs.push((me, Input::SnapshotSaved)),
                        Output::Dial(_)
                        | Output::HangUp(_)
                        | Output::Gossip(_)
                        | Output::Reply { .. }
                        | Output::Event(_) => {}
                    }
                }
            }
            if inputs.is_empty() {
                return;
            }
        }
    }
}
