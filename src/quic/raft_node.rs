//! `RaftNode`: a whole node in one line, around the built-in key-value map.
//!
//! It brings together what this crate has: the node, its driver, a store on disk, QUIC and a client.
//! Whoever needs another state machine, store or loop takes the parts instead; this file shows how
//! they fit.

use core::ops::Range;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::OnceLock;

use super::launch::{resolve, system};
use super::{
    Authority, Client, ClientConfig, Credentials, CredentialsError, EndpointError, Identity, Launch,
    LaunchError, Renewal, Running, Seams,
};
use crate::driver::recorder;
use crate::driver::{DriverError, Handle, Watched};
use crate::id::{ClusterName, NameError, NodeId, PeerName};
use crate::kv::KeyValue;
use crate::node::{Caller, Config, Limits, Partitioning, Reply, Request, Status};
use crate::raft::{Flow, Timing, TimingError};
use crate::state_machine::StateMachine;

/// The port of node 0, if nothing else is said; node `n` listens `n` above it.
const BASE_PORT: u16 = 9093;
/// How long the client of a node tries before it gives up.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a [`RaftNode`] is started with.
///
/// The defaults are for trying things out on one machine: node `n` listens on 127.0.0.1, port
/// `base_port + n`, with certificates of an authority that lives in this process, on a temporary
/// folder that is removed with the node.
#[derive(Clone, Debug)]
pub struct RaftConfig {
    /// This node's id; not 0.
    pub node_id: u64,
    /// The ids of all other founding members; of a node that joins a cluster, those of some members.
    pub peers: Vec<u64>,
    /// From which to which time without a leader this node campaigns, in milliseconds.
    pub election_timeout_ms: Range<u64>,
    /// How often a leader shows that it is alive, in milliseconds.
    pub heartbeat_interval_ms: u64,
    /// The name of the cluster, for certificates that are issued here.
    pub cluster: String,
    /// Node `n` listens on 127.0.0.1 at this port plus `n`, unless `addresses` says otherwise.
    pub base_port: u16,
    /// Where nodes listen, by id, as `host:port`.
    pub addresses: BTreeMap<u64, String>,
    /// Where to keep data. `None` is a temporary folder that is removed when the node is dropped.
    pub data_dir: Option<PathBuf>,
    /// What the node proves itself with. `None` is the authority of this process.
    pub credentials: Option<Credentials>,
    /// Whether the node, if it joins a cluster, is to decide as soon as it has caught up.
    pub votes: bool,
    /// What the node takes upon itself of partitions: for a [`PartitionManager`](super::PartitionManager), on all nodes.
    pub partitioning: Option<Partitioning>,
    /// How the node is recorded, if it is: see [`crate::flight`].
    pub recorder: Option<recorder::Settings>,
}

impl Default for RaftConfig {
    fn default() -> RaftConfig {
        RaftConfig {
            node_id: 1,
            peers: Vec::new(),
            election_timeout_ms: 150..300,
            heartbeat_interval_ms: 50,
            cluster: "development".to_owned(),
            base_port: BASE_PORT,
            addresses: BTreeMap::new(),
            data_dir: None,
            credentials: None,
            votes: true,
            partitioning: None,
            recorder: None,
        }
    }
}

/// Why a node does not start, or has stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RaftNodeError {
    /// Node ids count from 1.
    #[error("0 is no node id: ids count from 1")]
    NodeIdZero,
    /// A node is not its own peer.
    #[error("node {0} lists itself, or another node twice, among its peers")]
    PeerTwice(u64),
    /// The port of a node would be above 65535.
    #[error(
        "base_port {base_port} plus node id {node} is no port: lower the port, or name the node in `addresses`"
    )]
    Port {
        /// The base.
        base_port: u16,
        /// The node.
        node: u64,
    },
    /// Correct the name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Correct the timing.
    #[error(transparent)]
    Timing(#[from] TimingError),
    /// The certificates cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The node cannot be launched.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The client's endpoint cannot be opened.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The node has stopped.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The node has stopped without a reason: its task was cancelled.
    #[error("the node's task was cancelled")]
    Cancelled,
}

/// A running node with a key-value map, and a client to its whole cluster.
///
/// ```
/// use rivven_cluster::quic::{RaftConfig, RaftNode};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let node1 = RaftNode::new(RaftConfig {
///     node_id: 1,
///     peers: vec![2, 3],
///     election_timeout_ms: 150..300,
///     heartbeat_interval_ms: 50,
///     ..Default::default()
/// })
/// .await?;
/// let node2 = RaftNode::new(RaftConfig { node_id: 2, peers: vec![1, 3], ..Default::default() }).await?;
/// let node3 = RaftNode::new(RaftConfig { node_id: 3, peers: vec![1, 2], ..Default::default() }).await?;
///
/// node1.client().put("colour", "blue").await?;
/// assert_eq!(node3.client().get("colour").await?.as_deref(), Some(&b"blue"[..]));
/// # node1.shutdown().await?;
/// # node2.shutdown().await?;
/// # node3.shutdown().await?;
/// # Ok(())
/// # })
/// # }
/// ```
pub struct RaftNode {
    running: Running,
    client: Client,
    _temporary: Option<tempfile::TempDir>,
}

impl RaftNode {
    /// Starts a node. It is up when this returns; its cluster forms when all peers are up.
    ///
    /// # Errors
    ///
    /// [`RaftNodeError`]; nothing runs, and what is on disk is as it was.
    pub async fn new(config: RaftConfig) -> Result<RaftNode, RaftNodeError> {
        RaftNode::with_state_machine(config, KeyValue::default()).await
    }

    /// Starts a node around a state machine of your own; all nodes of a cluster run the same. Commands go
    /// to it through [`Client::propose`] or a [session](Client::open_session), queries through
    /// [`Client::query`].
    ///
    /// # Errors
    ///
    /// As [`RaftNode::new`].
    pub async fn with_state_machine<S>(
        config: RaftConfig,
        state_machine: S,
    ) -> Result<RaftNode, RaftNodeError>
    where
        S: StateMachine + Send + 'static,
    {
        let (node, credentials) = plan(&config)?;
        let (data_dir, temporary) = data_folder(&config)?;
        let bind = resolve(&node.address)?;
        let seams = Seams::system(SocketAddr::new(bind.ip(), 0));
        let seams = seams.map_err(|error| system("cannot open a client's socket", error))?;
        let addresses = node.peers.iter().chain([&node.address]).cloned().collect();
        let client_config = ClientConfig { addresses, timeout: CLIENT_TIMEOUT };
        let client = Client::open(&seams, &credentials, client_config)?;
        let recorder = config.recorder.clone();
        let launch = Launch { recorder, ..Launch::new(node, bind, data_dir, credentials) };
        let running = launch.start(state_machine, ())?;
        Ok(RaftNode { running, client, _temporary: temporary })
    }

    /// A client to the whole cluster: it finds the leader, whichever node that is.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What reaches the node itself, rather than its cluster.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.running.handle
    }

    /// Who leads and who belongs to the cluster, as this node sees it, to look at and to wait for.
    ///
    /// ```
    /// # use rivven_cluster::quic::{RaftConfig, RaftNode};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// let node = RaftNode::new(RaftConfig { base_port: 9293, ..Default::default() }).await?;
    /// let mut leadership = node.watched().leadership;
    /// let now = *leadership.wait_for(|now| now.fencing_token().is_some()).await?;
    /// println!("this node leads, and shows {:?} to what is outside of the cluster", now.fencing_token());
    /// # node.shutdown().await?;
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    #[must_use]
    pub fn watched(&self) -> Watched {
        self.running.watched.clone()
    }

    /// What asks the node's recorder for a flight, if it has a recorder.
    #[must_use]
    pub fn recorder(&self) -> Option<&recorder::Trigger> {
        self.running.recorder.as_ref()
    }

    /// Tells how this node is; `None` once it has stopped, or if hundreds ask that at once.
    pub async fn status(&self) -> Option<Status> {
        match self.running.handle.request(Caller::Operator, Request::Status).await? {
            Reply::Status(status) => Some(*status),
            Reply::Done { .. }
            | Reply::Rejected(_)
            | Reply::Unknown
            | Reply::Opened { .. }
            | Reply::Expired
            | Reply::Answer { .. }
            | Reply::Ordered { .. }
            | Reply::Metadata { .. }
            | Reply::Followed { .. }
            | Reply::Explained(_)
            | Reply::Told(_)
            | Reply::Members(_)
            | Reply::HandedOver { .. }
            | Reply::Recorded { .. }
            | Reply::Entries(_) => None,
        }
    }

    /// What gives the node new credentials while it runs. The client keeps its own.
    #[must_use]
    pub fn renewal(&self) -> &Renewal {
        &self.running.renewal
    }

    /// Stops the node and waits until it has stopped.
    ///
    /// # Errors
    ///
    /// [`RaftNodeError::Driver`] if it had stopped by itself, with the reason.
    pub async fn shutdown(self) -> Result<(), RaftNodeError> {
        self.client.close();
        self.running.handle.shutdown().await;
        self.running.task.await.map_err(|_| RaftNodeError::Cancelled)?.map_err(RaftNodeError::Driver)
    }
}

/// The authority of this process, for trying things out. Its key is nowhere but in memory.
///
/// # Panics
///
/// If the system has no entropy.
pub fn development_authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| Authority::generate("development").expect("the system has entropy"))
}

/// Checks a configuration, and fills in what it leaves out.
fn plan(config: &RaftConfig) -> Result<(Config, Credentials), RaftNodeError> {
    let id = NodeId::new(config.node_id).ok_or(RaftNodeError::NodeIdZero)?;
    let distinct: BTreeSet<u64> = config.peers.iter().copied().chain([config.node_id]).collect();
    if distinct.len() != config.peers.len() + 1 {
        return Err(RaftNodeError::PeerTwice(config.node_id));
    }
    let millis = Duration::from_millis;
    let Range { start, end } = config.election_timeout_ms;
    let heartbeat_interval = millis(config.heartbeat_interval_ms);
    let timing = Timing { election_timeout: millis(start)..millis(end), heartbeat_interval };
    timing.validate()?;
    let cluster: ClusterName = config.cluster.parse()?;
    let credentials = match &config.credentials {
        Some(credentials) => credentials.clone(),
        None => development_authority().issue(Identity { caller: Caller::Node(id), cluster })?,
    };
    let peers = config.peers.iter().map(|peer| address(config, *peer)).collect::<Result<_, _>>()?;
    let address = address(config, config.node_id)?;
    let (limits, flow, votes) = (Limits::default(), Flow::default(), config.votes);
    let partitioning = config.partitioning.clone();
    let node = Config { id, address, peers, timing, limits, flow, votes, gossip: None, partitioning };
    Ok((node, credentials))
}

fn address(config: &RaftConfig, node: u64) -> Result<PeerName, RaftNodeError> {
    if let Some(address) = config.addresses.get(&node) {
        return Ok(address.parse()?);
    }
    let wrong = || RaftNodeError::Port { base_port: config.base_port, node };
    let port = u64::from(config.base_port).checked_add(node).and_then(|port| u16::try_from(port).ok());
    Ok(format!("127.0.0.1:{}", port.ok_or_else(wrong)?).parse()?)
}

fn data_folder(config: &RaftConfig) -> Result<(PathBuf, Option<tempfile::TempDir>), RaftNodeError> {
    if let Some(folder) = &config.data_dir {
        return Ok((folder.clone(), None));
    }
    let temporary = tempfile::tempdir().map_err(|error| system("cannot make a temporary folder", error))?;
    Ok((temporary.path().to_owned(), Some(temporary)))
}

impl core::fmt::Debug for RaftNode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RaftNode").finish_non_exhaustive()
    }
}
