//! One process of one node: the machine, and whom it owes answers.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rivven_cluster::flight::{Reason, Ring, Tape};
use rivven_cluster::id::{NodeId, PeerName, RequestId};
use rivven_cluster::machine::Machine;
use rivven_cluster::node::{Config, Durable, Image, Input, Node, Output, StartError};
use rivven_cluster::rng::Seed;
use rivven_cluster::state_machine::{Frozen, StateMachine};
use rivven_cluster::swim::CallId;
use rivven_cluster::time::Instant;
use rivven_cluster::wire::codec;

use super::gossip::address;
use super::queue::Attempt;
use crate::app::{Application, Recorded};
use crate::shape::Shape;

/// A running process.
pub(super) struct Process<M> {
    /// Which process of its node, from 1.
    pub(super) number: u64,
    node: Node<Recorded<M>>,
    /// What it was told last, if somebody wants to know.
    ring: Option<Ring>,
    /// Who waits for which answer.
    pub(super) requests: BTreeMap<RequestId, Attempt>,
    last_request: RequestId,
    /// Whom it owes an answer to which question: a node, its process, and the number there.
    pub(super) asked: BTreeMap<CallId, (u64, u64, CallId)>,
    last_call: u64,
    /// Which peers it wants to be connected to.
    pub(super) dials: BTreeSet<u64>,
    /// Which peers it is connected to.
    pub(super) links: BTreeSet<u64>,
    /// For when a timer is set, in the world's time.
    pub(super) timer_at: Option<u64>,
}

/// What a process starts on.
pub(super) struct Start {
    pub(super) config: Config,
    pub(super) seed: Seed,
    pub(super) durable: Durable,
    pub(super) now: Instant,
}

impl<M: StateMachine> Process<M> {
    /// Starts a process.
    pub(super) fn start<A: Application<Machine = M>>(
        number: u64,
        start: Start,
        app: &A,
        is_watched: bool,
    ) -> Result<Process<M>, StartError> {
        let machine = Recorded::new(app.machine(), is_watched);
        let node = Node::start(start.config, start.seed, start.durable, machine, start.now)?;
        Ok(Process {
            number,
            node,
            ring: None,
            requests: BTreeMap::new(),
            last_request: RequestId::default(),
            asked: BTreeMap::new(),
            last_call: 0,
            dials: BTreeSet::new(),
            links: BTreeSet::new(),
            timer_at: None,
        })
    }

    /// Makes an equal process; `None` if its node has halted.
    pub(super) fn fork<A: Application<Machine = M>>(&self, app: &A, is_watched: bool) -> Option<Process<M>> {
        let node = self.node.image()?.restore(self.same_machine(app, is_watched));
        Some(Process {
            number: self.number,
            node,
            ring: None,
            requests: self.requests.clone(),
            last_request: self.last_request,
            asked: self.asked.clone(),
            last_call: self.last_call,
            dials: self.dials.clone(),
            links: self.links.clone(),
            timer_at: self.timer_at,
        })
    }

    /// Replaces the node by what is read from its image, written down, unless it has halted. Returns the length of
    /// that in bytes.
    pub(super) fn write_down<A: Application<Machine = M>>(&mut self, app: &A, is_watched: bool) -> usize {
        let Some(image) = self.node.image() else { return 0 };
        let written = codec::encode(&image);
        let image: Image = codec::decode_state(&written).expect("what was written can be read");
        self.node = image.restore(self.same_machine(app, is_watched));
        let again = self.node.image().expect("a restored node has nothing to say");
        assert_eq!(codec::encode(&again), written, "a restored node has the same image");
        written.len()
    }

    fn same_machine<A: Application<Machine = M>>(&self, app: &A, is_watched: bool) -> Recorded<M> {
        let mut machine = Recorded::new(app.machine(), is_watched);
        let state = self.node.state_machine().snapshot();
        machine.restore(&state).expect("a state machine reads what it has written");
        machine
    }

    pub(super) fn node(&self) -> &Node<Recorded<M>> {
        &self.node
    }

    pub(super) fn handle(&mut self, now: Instant, input: Input) {
        if let Some(ring) = &mut self.ring {
            ring.input(now, &input);
        }
        self.node.handle(now, input);
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Some(ring) = &mut self.ring {
            ring.timeout(now);
        }
        self.node.handle_timeout(now);
    }

    pub(super) fn poll(&mut self) -> Option<Output> {
        let output = self.node.poll();
        if let (Some(ring), Some(output)) = (&mut self.ring, &output) {
            ring.output(output);
        }
        output
    }

    /// The node has nothing more to say.
    pub(super) fn settled(&mut self) {
        if let Some(ring) = &mut self.ring {
            ring.settled(&self.node);
        }
    }

    /// What it was told last, and what it said. Begins to keep that, if it was not kept.
    pub(super) fn take_tape(&mut self, new: impl FnOnce() -> Ring) -> Option<Tape> {
        let ring = self.ring.get_or_insert_with(new);
        let tape = ring.take(Reason::Asked);
        ring.settled(&self.node);
        tape
    }

    /// Does the work that a node asks for: its state, written down.
    pub(super) fn build(&mut self) -> Option<Bytes> {
        self.node.take_job().map(Frozen::write)
    }

    /// Numbers a request, and remembers who waits.
    pub(super) fn admit(&mut self, attempt: Attempt) -> RequestId {
        self.last_request = self.last_request.next();
        self.requests.insert(self.last_request, attempt);
        self.last_request
    }

    /// Numbers a question of gossip, and remembers who asked.
    pub(super) fn owe(&mut self, asker: (u64, u64, CallId)) -> CallId {
        self.last_call += 1;
        self.asked.insert(CallId(self.last_call), asker);
        CallId(self.last_call)
    }
}

/// What a node is started with.
pub(super) fn configure(shape: &Shape, node: u64, features: u16) -> Config {
    Config {
        id: node_id(node),
        address: name(node),
        peers: shape.peers(node).into_iter().map(name).collect(),
        timing: shape.timing(),
        limits: shape.limits(),
        flow: shape.flow(),
        votes: shape.votes(node),
        gossip: shape.gossip(node, address(node)),
        partitioning: shape.partitioning(node, features),
    }
}

pub(super) fn node_id(node: u64) -> NodeId {
    NodeId::new(node).expect("nodes are numbered from 1")
}

/// Where a node is reached.
pub(super) fn name(node: u64) -> PeerName {
    format!("node{node}:9093").parse().expect("a sound name")
}

/// Who is reached at an address.
pub(super) fn node_at(name: &PeerName) -> u64 {
    name.host().trim_start_matches("node").parse().expect("an address that was made here")
}
