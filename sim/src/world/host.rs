//! One simulated host: the production driver over the simulated socket, disk and clock.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::{Arc, Mutex};

use rivven_cluster::driver::{Clock, Driver, Observer, Owner, RedbStorage, Storage, inbox};
use rivven_cluster::id::{ClusterName, NodeId, PeerName};
use rivven_cluster::node::{Caller, Config, Input, Limits, Node, Output};
use rivven_cluster::quic::{Authority, Client, ClientConfig, Credentials, Identity, QuicTransport, Seams};
use rivven_cluster::raft::Timing;
use rivven_cluster::rng::Seed;
use rivven_cluster::time::Instant;
use tokio::task::JoinSet;

use crate::checkers::Checkers;
use crate::disk::{Device, SimDisk};
use crate::entropy;
use crate::net::{CLIENTS, SimResolver, SimSocket, Wires, lock, sim_nanos};
use crate::trace::{Record, Trace};
use crate::workload::{Reporting, Worker};

/// The port on which nodes listen.
const PORT: u16 = 9093;
/// How long a client waits for one command.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(2);

/// What the hosts of a run share.
#[derive(Clone)]
pub struct Shared {
    /// The seed of the run.
    pub seed: Seed,
    /// How many nodes there are.
    pub nodes: u64,
    /// The network.
    pub wires: Wires,
    /// The checkers.
    pub checkers: Arc<Mutex<Checkers>>,
    /// The trace.
    pub trace: Arc<Mutex<Trace>>,
}

type Outcome = Result<(), Box<dyn Error>>;

/// The name of a node's host.
pub fn host_name(node: u64) -> String {
    format!("node{node}")
}

/// Runs a node until it is told to stop, which never happens, or halts, which it must not.
///
/// # Errors
///
/// Whatever stopped it.
pub async fn run_node(shared: Shared, node: u64, device: Device) -> Outcome {
    let identity = Identity { caller: Caller::Node(node_id(node)?), cluster: cluster()? };
    let owner = Owner { cluster: cluster()?, node: node_id(node)? };
    let device = device.attach();
    let mut storage = RedbStorage::open_backend(device.clone(), &host_name(node), &owner)?;
    let durable = storage.recover()?;
    device.settle();
    let boot = durable.boot.next().value();
    lock(&shared.checkers).started(node, &durable);

    let seed = shared.seed.child("node", node * 10_000 + boot);
    let seams = seams(&shared, node, PORT, seed).await?;
    let peers = addresses(shared.nodes, Some(node))?;
    let config = Config {
        id: node_id(node)?,
        address: address(node)?,
        peers: peers.clone(),
        timing: Timing::default(),
        limits: Limits::default(),
    };
    let clock = Clock::start();
    let (handle, receiver) = inbox();
    let state_machine = Reporting::new(node, Arc::clone(&shared.checkers));
    let machine = Node::start(config, seed, durable, state_machine, clock.now())?;
    let transport = QuicTransport::start(&seams, &credentials(identity)?, peers, &handle)?;
    let disk = SimDisk::new(storage, device, seed.stream("disk latency", 0));
    let probe = Probe { node, shared };
    Driver::new(machine, clock, transport, disk, probe, receiver).run().await?;
    Err("the driver ended without being told to".into())
}

/// Runs all clients until their time is up.
///
/// # Errors
///
/// If the clients cannot be set up.
pub async fn run_clients(shared: Shared, clients: u64, until: Duration) -> Outcome {
    let mut workers = JoinSet::new();
    for number in 1..=clients {
        let seed = shared.seed.child("client", number);
        let seams = seams(&shared, CLIENTS, 0, seed).await?;
        let credentials = credentials(Identity { caller: Caller::Client, cluster: cluster()? })?;
        let addresses = addresses(shared.nodes, None)?.into_iter().collect();
        let client = Client::open(&seams, &credentials, ClientConfig { addresses, timeout: CLIENT_TIMEOUT })?;
        let (checkers, trace) = (Arc::clone(&shared.checkers), Arc::clone(&shared.trace));
        workers.spawn(Worker { number, client, checkers, trace, until }.run(seed));
    }
    while let Some(ended) = workers.join_next().await {
        ended?;
    }
    Ok(())
}

async fn seams(shared: &Shared, host: u64, port: u16, entropy: Seed) -> Result<Seams, Box<dyn Error>> {
    let socket = SimSocket::bind(host, port, shared.wires.clone()).await?;
    Ok(Seams {
        socket: Arc::new(socket),
        runtime: Arc::new(quinn::TokioRuntime),
        resolver: Arc::new(SimResolver),
        crypto: entropy::provider(),
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

fn addresses(nodes: u64, but: Option<u64>) -> Result<BTreeSet<PeerName>, Box<dyn Error>> {
    (1..=nodes).filter(|node| Some(*node) != but).map(address).collect()
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
struct Probe {
    node: u64,
    shared: Shared,
}

impl Probe {
    fn trace(&self, record: &Record<'_>) {
        lock(&self.shared.trace).record(sim_nanos(), record);
    }
}

impl Observer<Reporting> for Probe {
    fn input(&mut self, now: Instant, input: &Input) {
        self.trace(&Record::Input { node: self.node, now: now.as_nanos(), input });
        lock(&self.shared.checkers).input(self.node, input);
    }

    fn timeout(&mut self, now: Instant) {
        self.trace(&Record::Timeout { node: self.node, now: now.as_nanos() });
    }

    fn output(&mut self, _now: Instant, output: &Output) {
        self.trace(&Record::Output { node: self.node, output });
        lock(&self.shared.checkers).output(self.node, output);
    }

    fn settled(&mut self, _now: Instant, node: &Node<Reporting>) {
        node.assert_invariants();
        lock(&self.shared.checkers).settled(self.node, node.standing());
    }
}
