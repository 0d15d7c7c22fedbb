//! Small worlds for the rule tests: Raft machines, or whole nodes, that are fed by hand.
#![allow(dead_code, clippy::wildcard_enum_match_arm, reason = "each test file uses a part of this")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use rivven_cluster::id::{BootId, LogIndex, NodeId, PeerName, RequestId, Term};
use rivven_cluster::kv::KeyValue;
use rivven_cluster::ledger::Ledger;
use rivven_cluster::machine::Machine;
use rivven_cluster::node::{Config, Durable, Gossip, Limits, Node, Partitioning};
use rivven_cluster::raft::{
    BIRTH, Body, Entry, Flow, HardState, Input, Membership, Message, Output, Position, Proposal, Raft,
    ReadyNumber, Recovered, Role, Snapshot, Timing,
};
use rivven_cluster::rng::Seed;
use rivven_cluster::state_machine::StateMachine as _;
use rivven_cluster::swim;
use rivven_cluster::time::Instant;

pub fn node(id: u64) -> NodeId {
    NodeId::new(id).expect("nodes count from 1")
}

pub fn at(index: u64, term: u64) -> Position {
    Position { index: LogIndex::new(index), term: Term::new(term) }
}

pub fn entry(index: u64, term: u64) -> Entry {
    Entry::of_command(at(index, term), format!("command {index}"))
}

pub fn birth(voters: u64) -> Snapshot {
    Snapshot {
        at: BIRTH,
        membership: Membership::of_voters((1..=voters).map(node)),
        state: Ledger::default().snapshot(&KeyValue::default().snapshot()),
    }
}

/// What a new cluster has on disk.
pub fn newborn(voters: u64) -> Recovered {
    let hard_state = HardState { term: BIRTH.term, vote: None, commit: BIRTH.index };
    Recovered { snapshot: birth(voters), hard_state, entries: Vec::new() }
}

/// A disk with these entries, all of them committed up to `commit`, in `term`.
pub fn with_log(voters: u64, term: u64, commit: u64, entries: Vec<Entry>) -> Recovered {
    let hard_state = HardState { term: Term::new(term), vote: None, commit: LogIndex::new(commit) };
    Recovered { hard_state, entries, ..newborn(voters) }
}

pub fn raft(id: u64, recovered: Recovered, flow: Flow) -> Raft {
    Raft::start(node(id), BootId::new(1), &Timing::default(), flow, Seed::new(id), recovered, Instant::ORIGIN)
        .expect("a sound disk")
}

pub fn drain<M: Machine>(machine: &mut M) -> Vec<M::Output> {
    core::iter::from_fn(|| machine.poll()).collect()
}

/// The configuration of a node whose peers are `node1:9093` and so on.
pub fn config(id: u64, nodes: u64) -> Config {
    let name = |id: u64| -> PeerName { format!("node{id}:9093").parse().expect("a sound name") };
    let peers: BTreeSet<PeerName> = (1..=nodes).filter(|other| *other != id).map(name).collect();
    Config {
        id: node(id),
        address: name(id),
        peers,
        timing: Timing::default(),
        limits: Limits::default(),
        flow: Flow::default(),
        votes: true,
        gossip: None,
        partitioning: None,
    }
}

fn gossip(id: u64, nodes: u64) -> Gossip {
    let seed = |peer: u64| format!("node{peer}:7946").parse().expect("a sound name");
    Gossip {
        cluster: "demo".parse().expect("a sound name"),
        address: format!("10.0.0.{id}:7946").parse().expect("an address"),
        seeds: (1..=nodes).filter(|peer| *peer != id).map(seed).collect(),
        zone: 0,
        timing: swim::Timing::LAN,
        datagram_max: 1100,
    }
}

pub fn start_node(id: u64, nodes: u64, seed: u64, durable: Durable, now: Instant) -> Node<KeyValue> {
    let partitioning = Some(Partitioning::default());
    let config = Config { gossip: Some(gossip(id, nodes)), partitioning, ..config(id, nodes) };
    Node::start(config, Seed::new(seed), durable, KeyValue::default(), now).expect("a sound disk")
}

/// One Raft machine with a disk that is as fast as the test wants.
pub struct Member {
    id: u64,
    pub raft: Raft,
    /// Numbers that wait to be confirmed.
    pub unconfirmed: Option<ReadyNumber>,
    /// Messages that wait for a number, in order.
    pub held: VecDeque<(ReadyNumber, Message)>,
    /// Messages that are on their way.
    pub sent: Vec<Message>,
    /// What was committed, in order.
    pub committed: Vec<Entry>,
    /// All other outputs.
    pub others: Vec<Output>,
    now: Instant,
}

impl Member {
    pub fn new(id: u64, recovered: Recovered) -> Member {
        Member::with_flow(id, recovered, Flow::default())
    }

    pub fn with_flow(id: u64, recovered: Recovered, flow: Flow) -> Member {
        let mut member = Member {
            id,
            raft: raft(id, recovered, flow),
            unconfirmed: None,
            held: VecDeque::new(),
            sent: Vec::new(),
            committed: Vec::new(),
            others: Vec::new(),
            now: Instant::ORIGIN,
        };
        member.settle();
        member
    }

    pub fn handle(&mut self, input: Input) {
        self.raft.handle(self.now, input);
        self.settle();
    }

    /// Lets time pass until the machine does something by itself.
    pub fn time_out(&mut self) {
        self.now = self.raft.deadline().expect("a voter has a deadline").max(self.now);
        self.raft.handle_timeout(self.now);
        self.settle();
    }

    pub fn receive(&mut self, from: u64, term: u64, body: Body) {
        let to = node(self.id);
        self.handle(Input::Message {
            from: node(from),
            message: Message { to, term: Term::new(term), body },
        });
    }

    pub fn propose(&mut self, count: u64) {
        let proposals = (0..count).map(|number| Proposal {
            id: RequestId::new(number),
            command: Bytes::from(format!("proposal {number}")),
        });
        self.handle(Input::Propose(proposals.collect()));
    }

    /// The disk catches up, and what waited for it leaves.
    pub fn persist(&mut self) {
        while let Some(number) = self.unconfirmed.take() {
            self.raft.handle(self.now, Input::Persisted(number));
            while self.held.front().is_some_and(|(until, _)| *until <= number) {
                self.sent.extend(self.held.pop_front().map(|(_, message)| message));
            }
            self.settle();
        }
    }

    pub fn take_sent(&mut self) -> Vec<Message> {
        core::mem::take(&mut self.sent)
    }

    pub fn role(&self) -> Role {
        self.raft.standing().role
    }

    pub fn term(&self) -> u64 {
        self.raft.standing().term.value()
    }

    fn settle(&mut self) {
        while let Some(output) = self.raft.poll() {
            match output {
                Output::Persist(persist) => self.unconfirmed = Some(persist.number),
                Output::Send { message, after: Some(number) } => self.held.push_back((number, message)),
                Output::Send { message, after: None } => self.sent.push(message),
                Output::Commit(entries) => {
                    let last = entries.last().expect("a commit has entries").at.index;
                    self.committed.extend(entries);
                    self.raft.handle(self.now, Input::Applied(last));
                }
                other => self.others.push(other),
            }
            self.raft.assert_invariants();
        }
    }
}

/// Several members, and the network between them, which loses nothing.
pub struct Group {
    pub members: BTreeMap<u64, Member>,
}

impl Group {
    pub fn new(nodes: u64) -> Group {
        Group { members: (1..=nodes).map(|id| (id, Member::new(id, newborn(nodes)))).collect() }
    }

    pub fn member(&mut self, id: u64) -> &mut Member {
        self.members.get_mut(&id).expect("a member")
    }

    /// Delivers messages, with instant disks, until nobody says anything.
    pub fn settle(&mut self) {
        loop {
            let mut messages = Vec::new();
            for (id, member) in &mut self.members {
                member.persist();
                messages.extend(member.take_sent().into_iter().map(|message| (*id, message)));
            }
            if messages.is_empty() {
                return;
            }
            for (from, message) in messages {
                if let Some(member) = self.members.get_mut(&message.to.value()) {
                    member.handle(Input::Message { from: node(from), message });
                }
            }
        }
    }

    /// Makes a node the leader.
    pub fn elect(&mut self, id: u64) {
        for _ in 0..20 {
            self.member(id).time_out();
            self.settle();
            if self.member(id).role() == Role::Leader {
                return;
            }
        }
        panic!("node {id} was not elected");
    }
}

/// The disk of a node whose cluster of `nodes` has just formed.
pub fn formed(nodes: u64) -> Durable {
    let voters = rivven_cluster::formation::VoterSet::new((1..=nodes).map(node).collect());
    let Recovered { snapshot, hard_state, entries } = newborn(nodes);
    Durable {
        standing: rivven_cluster::formation::Standing::Formed(voters.expect("voters")),
        snapshot: Some(snapshot),
        hard_state,
        entries,
        ..Durable::default()
    }
}
