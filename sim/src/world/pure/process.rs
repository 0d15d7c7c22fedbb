//! One process of one node: the machine, what it was told since it started, and whom it owes answers.
//!
//! The machine itself cannot be copied, since raft-rs's cannot. But by the first law of machines it is a
//! function of what it started on and what it was told, so a copy is made by telling that again.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rivven_cluster::id::{NodeId, PeerName, RequestId};
use rivven_cluster::machine::Machine;
use rivven_cluster::node::{Config, Durable, Input, Node, Output, StartError};
use rivven_cluster::rng::Seed;
use rivven_cluster::state_machine::{Frozen, StateMachine};
use rivven_cluster::swim::CallId;
use rivven_cluster::time::Instant;

use super::gossip::address;
use super::queue::Attempt;
use crate::app::{Application, Recorded};
use crate::shape::Shape;

/// A running process.
pub(super) struct Process<M> {
    /// Which process of its node, from 1.
    pub(super) number: u64,
    node: Node<Recorded<M>>,
    journal: Option<Journal>,
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

/// Everything that a machine was told.
#[derive(Clone)]
struct Journal {
    start: Start,
    steps: Vec<(Instant, Step)>,
}

/// What a process starts on.
#[derive(Clone)]
pub(super) struct Start {
    pub(super) config: Config,
    pub(super) seed: Seed,
    pub(super) durable: Durable,
    pub(super) now: Instant,
}

#[derive(Clone)]
enum Step {
    Input(Input),
    Timeout,
    Drain,
}

impl<M: StateMachine> Process<M> {
    /// Starts a process; a journal makes it possible to fork it later.
    pub(super) fn start<A: Application<Machine = M>>(
        number: u64,
        start: Start,
        app: &A,
        is_watched: bool,
        keeps_journal: bool,
    ) -> Result<Process<M>, StartError> {
        let journal = keeps_journal.then(|| Journal { start: start.clone(), steps: Vec::new() });
        let machine = Recorded::new(app.machine(), is_watched);
        let node = Node::start(start.config, start.seed, start.durable, machine, start.now)?;
        let (requests, links, dials) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        let last_request = RequestId::default();
        let (asked, last_call, timer_at) = (BTreeMap::new(), 0, None);
        Ok(Process {
            number,
            node,
            journal,
            requests,
            last_request,
            asked,
            last_call,
            dials,
            links,
            timer_at,
        })
    }

    /// Makes an equal process; `None` without a journal.
    pub(super) fn fork<A: Application<Machine = M>>(&self, app: &A, is_watched: bool) -> Option<Process<M>> {
        let journal = self.journal.as_ref()?;
        let started = Process::start(self.number, journal.start.clone(), app, is_watched, true);
        let mut copy = started.expect("it has started on this before");
        for (now, step) in &journal.steps {
            match step {
                Step::Input(input) => copy.handle(*now, input.clone()),
                Step::Timeout => copy.handle_timeout(*now),
                Step::Drain => while copy.poll(*now).is_some() {},
            }
        }
        let _ = copy.node.state_machine().take_executed();
        copy.requests.clone_from(&self.requests);
        copy.asked.clone_from(&self.asked);
        copy.last_call = self.last_call;
        copy.dials.clone_from(&self.dials);
        copy.links.clone_from(&self.links);
        (copy.last_request, copy.timer_at) = (self.last_request, self.timer_at);
        Some(copy)
    }

    pub(super) fn node(&self) -> &Node<Recorded<M>> {
        &self.node
    }

    pub(super) fn handle(&mut self, now: Instant, input: Input) {
        self.note(now, || Step::Input(input.clone()));
        self.node.handle(now, input);
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.note(now, || Step::Timeout);
        self.node.handle_timeout(now);
    }

    pub(super) fn poll(&mut self, now: Instant) -> Option<Output> {
        let output = self.node.poll();
        if output.is_none() {
            self.note(now, || Step::Drain);
        }
        output
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

    fn note(&mut self, now: Instant, step: impl FnOnce() -> Step) {
        if let Some(journal) = &mut self.journal {
            journal.steps.push((now, step()));
        }
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
