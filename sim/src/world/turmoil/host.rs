//! One simulated host: the production driver over the simulated socket, disk and clock.
//!
//! A supervisor starts the process again when it halts, as an operator's would.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rivven_cluster::driver::{
    Clock, Driver, DriverError, Observer, Owner, RedbStorage, Storage, StorageError, inbox,
};
use rivven_cluster::formation::Standing;
use rivven_cluster::id::{ClusterName, LogIndex, NodeId, PeerName};
use rivven_cluster::node::{Caller, Config, Durable, Event, Halt, Input, Node, Output, StartError};
use rivven_cluster::quic::{
    Authority, Client, ClientConfig, ConnectionLimits, Credentials, Identity, QuicTransport, Seams,
};
use rivven_cluster::raft::Role;
use rivven_cluster::rng::Seed;
use rivven_cluster::state_machine::StateMachine;
use rivven_cluster::time::Instant;
use tokio::task::JoinSet;

use super::clock::{SimWall, SkewedClock, sim_nanos};
use super::disk::SimDisk;
use super::entropy;
use super::net::{SimResolver, SimSocket, Wires};
use super::operator::operate;
use super::pause::{PausableRuntime, Turnstile};
use super::plan::Strikes;
use super::records::User;
use super::steward::look_after_partitions;
use super::worker::Worker;
use crate::app::{Application, Recorded};
use crate::checkers::{Checkers, Rule};
use crate::device::{Cut, Device};
use crate::faults::{FaultKind, Host, Window};
use crate::history::History;
use crate::lock::lock;
use crate::marks::Marks;
use crate::reachable;
use crate::recording::{Recording, Recordings, Step};
use crate::report::{Moment, Picture};
use crate::shape::{GOSSIP_PORT, Shape};
use crate::trace::{Record, Trace};

/// The port on which nodes listen.
const PORT: u16 = 9093;
/// How many producers there are, and how many consumers.
const PRODUCERS: u64 = 2;
const CONSUMERS: u64 = 1;

/// How long an operator waits for one answer.
const OPERATOR_TIMEOUT: Duration = Duration::from_millis(1500);

/// What the hosts of a run share.
#[derive(Clone)]
pub(super) struct Shared<A> {
    pub(super) seed: Seed,
    pub(super) shape: Shape,
    pub(super) app: A,
    pub(super) wires: Wires,
    pub(super) strikes: Arc<Mutex<Strikes>>,
    pub(super) checkers: Arc<Mutex<Checkers>>,
    pub(super) history: Arc<Mutex<History>>,
    pub(super) marks: Arc<Mutex<Marks>>,
    pub(super) trace: Arc<Mutex<Trace>>,
    pub(super) recordings: Option<Recordings>,
    /// Elections won and processes started after the first of each node.
    pub(super) counts: Arc<Mutex<(u64, u64)>>,
    /// Where each node's state machine stands, once the work is done.
    pub(super) states: Arc<Mutex<States>>,
    /// What operators do.
    pub(super) operations: Vec<Window>,
    /// Nodes whose processes will not start again.
    pub(super) out: Arc<Mutex<BTreeSet<u64>>>,
}

/// Up to which index each node's state machine has executed, and its state there.
pub(super) type States = BTreeMap<u64, (LogIndex, Bytes)>;

/// What outlives the processes of one node.
#[derive(Clone)]
pub(super) struct Hardware {
    pub(super) device: Device,
    pub(super) clock: SkewedClock,
    pub(super) turnstile: Turnstile,
    /// How many processes have started.
    pub(super) started: Arc<Mutex<u64>>,
    /// Whether what was on the disk was damaged, and is gone.
    pub(super) is_set_aside: Arc<Mutex<bool>>,
}

type Outcome = Result<(), Box<dyn Error>>;

/// The name of a node's host.
pub(super) fn host_name(node: u64) -> String {
    format!("node{node}")
}

/// Runs the processes of a node, one after the other, for as long as the host is on.
pub(super) async fn run_node<A>(shared: Shared<A>, node: u64, hardware: Hardware) -> Outcome
where
    A: Application + Send + 'static,
    A::Machine: Send,
{
    let arrives = shared.shape.arrives(node).saturating_sub(sim_nanos() / 1_000_000);
    tokio::time::sleep(Duration::from_millis(arrives)).await;
    let mut pauses = shared.seed.stream("supervisor", node);
    loop {
        let trouble = hardware.device.trouble();
        let process = run_process(shared.clone(), node, hardware.clone());
        let guarded =
            hardware.turnstile.guard(async move { process.await.map_err(|error| error.to_string()) });
        let failure = guarded.await.err().unwrap_or_default();
        let trouble = trouble.or(hardware.device.trouble());
        let is_troubled = trouble.is_full || trouble.is_unreadable || trouble.fails_next_sync;
        if failure.ends_with(&Halt::Removed.to_string())
            || failure.ends_with(&StartError::Removed.to_string())
        {
            lock(&shared.out).insert(node);
            return core::future::pending().await;
        }
        if let Some(refusal) = failure.strip_prefix(REFUSED).filter(|_| !is_troubled) {
            lock(&shared.out).insert(node);
            if !lock(&shared.checkers).suspects(node) {
                let what = format!("node {node} refuses to start on a sound disk: {refusal}");
                lock(&shared.checkers).broken(Rule::Invariant, what);
            }
            return core::future::pending().await;
        }
        if trouble.is_unreadable {
            lock(&shared.strikes).strike(node, FaultKind::ReadErrors);
        }
        tracing::debug!(node, failure, "the process ended");
        let mut fate = shared.seed.stream("halt", node * 10_000 + *lock(&hardware.started));
        hardware.device.cut(Cut::Killed, &mut fate);
        tokio::time::sleep(Duration::from_millis(pauses.between(100, 1000))).await;
    }
}

/// How the reason of a process begins that refused to start.
const REFUSED: &str = "refused: ";

/// Runs one process until it ends.
async fn run_process<A>(shared: Shared<A>, node: u64, hardware: Hardware) -> Outcome
where
    A: Application + Send + 'static,
    A::Machine: Send,
{
    let started = {
        let mut started = lock(&hardware.started);
        *started += 1;
        *started
    };
    let identity = Identity { caller: Caller::Node(node_id(node)?), cluster: cluster()? };
    let owner = Owner { cluster: cluster()?, node: node_id(node)? };
    let device = hardware.device.attach();
    let (storage, durable) =
        open_store(&shared, node, &hardware, &device, &owner).map_err(|error| format!("{REFUSED}{error}"))?;
    lock(&shared.counts).1 += u64::from(started > 1);

    let seed = shared.seed.child("node", node * 10_000 + started);
    let seams = seams(shared.wires.clone(), Host(node), PORT, seed, hardware.turnstile.clone())?;
    let peers = shared.shape.peers(node).into_iter().map(address).collect::<Result<BTreeSet<_>, _>>()?;
    let features = shared.shape.features(node, sim_nanos() / 1_000_000);
    lock(&shared.checkers).understands(node, features);
    let config = Config {
        id: node_id(node)?,
        address: address(node)?,
        peers: peers.clone(),
        timing: shared.shape.timing(),
        limits: shared.shape.limits(),
        flow: shared.shape.flow(),
        votes: shared.shape.votes(node),
        gossip: shared.shape.gossip(node, SocketAddr::new(turmoil::lookup(host_name(node)), GOSSIP_PORT)),
        partitioning: shared.shape.partitioning(node, features),
    };
    let gossips = config.gossip.is_some();
    let now = hardware.clock.now();
    let recording =
        Recording { config: config.clone(), seed, durable: durable.clone(), started: now, steps: Vec::new() };
    let (handle, receiver) = inbox();
    let machine = Recorded::new(shared.app.machine(), true);
    let machine = Node::start(config, seed, durable, machine, now);
    if let Err(StartError::Outdated(outdated)) = &machine {
        // It is started again, by and by as the later version.
        lock(&shared.checkers).outdated(node);
        return Err(outdated.to_string().into());
    }
    let machine = machine.map_err(|error| format!("{REFUSED}{error}"))?;
    let credentials = credentials(identity)?;
    let mut transport =
        QuicTransport::start(&seams, &credentials, peers, &handle, ConnectionLimits::default(), None)?;
    if gossips {
        let (seed, turnstile) = (seed.child("gossip endpoint", 0), hardware.turnstile.clone());
        let seams = self::seams(shared.wires.clone(), Host(node), GOSSIP_PORT, seed, turnstile)?;
        transport = transport.with_gossip(&seams, &credentials)?;
    }
    // It would keep the port.
    drop(seams);
    let latency = seed.stream("disk latency", 0);
    let (strikes, checkers) = (Arc::clone(&shared.strikes), Arc::clone(&shared.checkers));
    let shape = shared.shape.clone();
    let disk = SimDisk { node, storage, device, latency, shape, strikes, checkers, under_way: Vec::new() };
    let recording = shared.recordings.is_some().then_some(recording);
    lock(&shared.trace).draw(|picture| picture.started(sim_nanos(), node));
    let probe = Probe { node, shared, outputs: 0, recording };
    let driver = Driver::new(machine, hardware.clock.clone(), transport, disk, probe, receiver);
    match driver.run().await {
        Ok(()) => Err("the driver ended without being told to".into()),
        Err(error @ DriverError::Halted(_)) => Err(error.into()),
        // A bug: the machine panicked. Let the run end with it.
        Err(error) => panic!("node {node}: {error}"),
    }
}

/// Opens the store on a device and reads it. One that is damaged, or contradicts itself, is set aside.
fn open_store<A>(
    shared: &Shared<A>,
    node: u64,
    hardware: &Hardware,
    device: &Device,
    owner: &Owner,
) -> Result<(RedbStorage, Durable), StorageError> {
    let open = || {
        device.make(&host_name(node), owner)?;
        let mut storage = RedbStorage::open_backend(device.clone(), &host_name(node), owner)?;
        let durable = storage.recover()?;
        Ok((storage, durable))
    };
    let trouble = device.trouble();
    let is_troubled = trouble.is_full || trouble.is_unreadable || trouble.fails_next_sync;
    let mut opened = open();
    let is_damage = match &opened {
        Err(StorageError::Damaged { .. } | StorageError::Open { .. }) => true,
        Err(_) => false,
        Ok((_, durable)) => {
            matches!(durable.check(owner.node), Err(StartError::Recovery(_) | StartError::SnapshotMissing))
        }
    };
    if is_damage && !is_troubled {
        drop(opened);
        device.replace(Vec::new());
        *lock(&hardware.is_set_aside) = true;
        opened = open();
    }
    if trouble.misdirects_by.is_some() && device.trouble().misdirects_by.is_none() {
        lock(&shared.strikes).strike(node, FaultKind::Misdirection);
        lock(&shared.checkers).suspect(node);
    }
    let (storage, mut durable) = opened?;
    device.settle();
    let has_forgotten = *lock(&hardware.is_set_aside) && durable.standing == Standing::Fresh;
    if has_forgotten {
        note_set_aside(shared, node);
    }
    lock(&shared.checkers).started(node, &durable);
    if has_forgotten {
        durable = Durable { standing: Standing::Damaged, ..Durable::default() };
    }
    Ok((storage, durable))
}

/// The store was damaged, and nothing of it is left. On a disk that is to be trusted that must not happen.
fn note_set_aside<A>(shared: &Shared<A>, node: u64) {
    let mut checkers = lock(&shared.checkers);
    checkers.disk_emptied(node);
    if checkers.suspects(node) {
        reachable!(lock(&shared.marks), StoreSetAside);
    } else {
        checkers.broken(Rule::Invariant, format!("node {node} takes a sound disk for a damaged one"));
    }
}

/// Runs all clients until their time is up.
pub(super) async fn run_clients<A>(shared: Shared<A>) -> Outcome
where
    A: Application + Send + 'static,
    A::Memory: Send,
{
    let mut workers = JoinSet::new();
    for number in 1..=shared.shape.clients {
        let seed = shared.seed.child("client", number);
        let seams = seams(shared.wires.clone(), Host::CLIENTS, 0, seed, Turnstile::default())?;
        let credentials = credentials(Identity { caller: Caller::Client, cluster: cluster()? })?;
        let addresses = (1..=shared.shape.nodes).map(address).collect::<Result<_, _>>()?;
        let timeout = Duration::from_millis(shared.shape.patience);
        let client = Client::open(&seams, &credentials, ClientConfig { addresses, timeout })?;
        let (history, trace) = (Arc::clone(&shared.history), Arc::clone(&shared.trace));
        let (app, shape) = (shared.app.clone(), shared.shape.clone());
        workers.spawn(Worker { number, app, client, history, trace, shape }.run(seed));
    }
    for (number, window) in (0..).zip(shared.operations.clone()) {
        let client = operator(&shared, shared.seed.child("operator", number))?;
        workers.spawn(operate(client, window, Arc::clone(&shared.strikes)));
    }
    if shared.shape.beat_interval > 0 {
        let client = operator(&shared, shared.seed.child("steward", 0))?;
        let choices = shared.seed.stream("steward", 1);
        workers.spawn(look_after_partitions(client, choices, shared.shape.quorum_until));
        for number in 0..PRODUCERS + CONSUMERS {
            let user = User {
                number,
                client: operator(&shared, shared.seed.child("user of partitions", number))?,
                checkers: Arc::clone(&shared.checkers),
                choices: shared.seed.stream("user of partitions", number),
                until: shared.shape.work_until,
            };
            match number {
                0..PRODUCERS => workers.spawn(user.produce()),
                _ => workers.spawn(user.consume()),
            };
        }
    }
    while let Some(ended) = workers.join_next().await {
        ended?;
    }
    Ok(())
}

/// A client with an operator's certificate.
fn operator<A>(shared: &Shared<A>, seed: Seed) -> Result<Client, Box<dyn Error>> {
    let seams = seams(shared.wires.clone(), Host::CLIENTS, 0, seed, Turnstile::default())?;
    let credentials = credentials(Identity { caller: Caller::Operator, cluster: cluster()? })?;
    let addresses = (1..=shared.shape.nodes).map(address).collect::<Result<_, _>>()?;
    Ok(Client::open(&seams, &credentials, ClientConfig { addresses, timeout: OPERATOR_TIMEOUT })?)
}

fn seams(
    wires: Wires,
    host: Host,
    port: u16,
    entropy: Seed,
    turnstile: Turnstile,
) -> Result<Seams, Box<dyn Error>> {
    let socket = SimSocket::bind(host, port, wires)?;
    Ok(Seams {
        socket: Arc::new(socket),
        runtime: Arc::new(PausableRuntime(turnstile)),
        resolver: Arc::new(SimResolver),
        crypto: entropy::provider(),
        wall: Arc::new(SimWall),
        entropy,
    })
}

fn node_id(node: u64) -> Result<NodeId, Box<dyn Error>> {
    NodeId::new(node).ok_or_else(|| "nodes are numbered from 1".into())
}

fn cluster() -> Result<ClusterName, Box<dyn Error>> {
    Ok("simulated".parse()?)
}

fn address(node: u64) -> Result<PeerName, Box<dyn Error>> {
    Ok(format!("{}:{PORT}", host_name(node)).parse()?)
}

/// A node keeps its credentials when it restarts, as a real one does.
fn credentials(identity: Identity) -> Result<Credentials, Box<dyn Error>> {
    static ISSUED: Mutex<BTreeMap<String, Credentials>> = Mutex::new(BTreeMap::new());
    let mut issued = lock(&ISSUED);
    if let Some(credentials) = issued.get(&identity.to_string()) {
        return Ok(credentials.clone());
    }
    let authority = Authority::for_simulation("simulated", Seed::new(0))?;
    let credentials = authority.issue(identity.clone())?;
    issued.insert(identity.to_string(), credentials.clone());
    Ok(credentials)
}

/// Shows the checkers and the trace everything that a node does.
struct Probe<A> {
    node: u64,
    shared: Shared<A>,
    /// How many outputs since it last settled.
    outputs: u64,
    recording: Option<Recording>,
}

impl<A> Probe<A> {
    fn trace(&self, record: &Record<'_>) {
        lock(&self.shared.trace).record(sim_nanos(), record);
    }

    fn record(&mut self, step: impl FnOnce() -> Step) {
        if let Some(recording) = &mut self.recording {
            recording.steps.push(step());
        }
    }
}

impl<A: Application> Observer<Recorded<A::Machine>> for Probe<A> {
    fn input(&mut self, now: Instant, input: &Input) {
        self.trace(&Record::Input { node: self.node, now: now.as_nanos(), input });
        self.record(|| Step::Input(now, input.clone()));
        lock(&self.shared.checkers).input(self.node, input);
        if let Input::WriteFailed { reason, .. } | Input::SnapshotFailed { reason } = input {
            let is_explained = lock(&self.shared.strikes).write_failed(self.node);
            let mut checkers = lock(&self.shared.checkers);
            if !is_explained && !checkers.suspects(self.node) {
                let what = format!("node {} halts: a write failed on a sound disk: {reason}", self.node);
                checkers.broken(Rule::Invariant, what);
            }
        }
    }

    fn timeout(&mut self, now: Instant) {
        self.trace(&Record::Timeout { node: self.node, now: now.as_nanos() });
        self.record(|| Step::Timeout(now));
        let mut strikes = lock(&self.shared.strikes);
        if strikes.is_on(self.node, FaultKind::ClockDrift) {
            strikes.strike(self.node, FaultKind::ClockDrift);
        }
    }

    fn output(&mut self, _now: Instant, output: &Output) {
        self.trace(&Record::Output { node: self.node, output });
        self.record(|| Step::Output(output.clone()));
        self.outputs += 1;
        lock(&self.shared.marks).observe(self.node, output);
        lock(&self.shared.checkers).output(self.node, output);
        if let Output::Event(Event::Standing(standing)) = output {
            lock(&self.shared.counts).0 += u64::from(standing.role == Role::Leader);
        }
    }

    fn settled(&mut self, _now: Instant, node: &Node<Recorded<A::Machine>>) {
        node.assert_invariants();
        self.record(|| Step::Settled);
        let draw = |picture: &mut Picture| picture.settled(sim_nanos(), self.node, Moment::of(node));
        lock(&self.shared.trace).draw(draw);
        let outputs = core::mem::take(&mut self.outputs);
        let mut checkers = lock(&self.shared.checkers);
        checkers.executed(self.node, &node.state_machine().take_executed());
        checkers.settled(self.node, outputs, node.standing(), node.indexes());
        checkers.gossips(self.node, node.gossip());
        checkers.replicates(self.node, node.replicas(), node.metadata());
        if checkers.knows(self.node, node.metadata()) {
            lock(&self.shared.marks).observe_metadata(node.metadata());
        }
        if let Some(indexes) =
            node.indexes().filter(|_| sim_nanos() / 1_000_000 >= self.shared.shape.work_until)
        {
            let state = (indexes.applied, node.state_machine().snapshot());
            lock(&self.shared.states).insert(self.node, state);
        }
    }
}

impl<A> Drop for Probe<A> {
    fn drop(&mut self) {
        lock(&self.shared.trace).draw(|picture| picture.ended(sim_nanos(), self.node));
        if let (Some(recordings), Some(recording)) = (&self.shared.recordings, self.recording.take()) {
            lock(recordings).push(recording);
        }
    }
}
