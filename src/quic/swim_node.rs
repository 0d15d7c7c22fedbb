//! `SwimNode`: a member in one line, without a cluster that agrees on anything.

use core::time::Duration;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use quinn::AsyncUdpSocket;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::timeout;

use super::endpoint::{self, Use};
use super::gossip::Gossip;
use super::raft_node::development_authority;
use super::swim_driver::{self, Command, Controls};
use super::{Credentials, CredentialsError, EndpointError, Identity, Renewal, Seams, closing};
use crate::driver::{Clock as _, TokioClock};
use crate::id::{ClusterName, NameError, NodeId, PeerName};
use crate::node::Caller;
use crate::swim::{Config, ConfigError, Event, Lifecycle, METADATA_MAX, Member, Start, Stats, Swim, Timing};

/// The most inputs that wait for the member; beyond it datagrams are dropped, and questions wait.
const INPUTS_MAX: usize = 4096;
/// How long saying goodbye may take.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Datagrams of at most so many bytes fit into any QUIC packet.
pub const DATAGRAM_MAX: usize = 1100;

/// What a [`SwimNode`] is started with.
///
/// The defaults are for trying things out on one machine: a random id, a free port on 127.0.0.1, and
/// certificates of an authority that lives in this process.
#[derive(Clone, Debug)]
pub struct SwimConfig {
    /// This member's id, the same as in its certificate; 0 draws one.
    pub node_id: u64,
    /// Where to listen.
    pub bind_addr: SocketAddr,
    /// What others are to dial, if that is something else: `bind_addr` may be a wildcard.
    pub advertise_addr: Option<SocketAddr>,
    /// Members to begin with, as `host:port`. Names are resolved again whenever they are needed.
    pub known_peers: Vec<PeerName>,
    /// How often one member is probed, in milliseconds, from 10.
    pub protocol_period_ms: u64,
    /// The shortest time that a suspect has to object, in milliseconds; 0 lets it follow from the number of
    /// members (four periods among ten, eight among a hundred, …).
    pub suspect_timeout_ms: u64,
    /// The name of the cluster.
    pub cluster: String,
    /// The failure domain; 0 if there are none.
    pub zone: u16,
    /// What others are to know of this member.
    pub metadata: Vec<u8>,
    /// What it proves itself with. `None` is the authority of this process.
    pub credentials: Option<Credentials>,
    /// Everything about timing that has no field of its own.
    pub timing: Timing,
}

impl Default for SwimConfig {
    fn default() -> SwimConfig {
        SwimConfig {
            node_id: 0,
            bind_addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            advertise_addr: None,
            known_peers: Vec::new(),
            protocol_period_ms: 1000,
            suspect_timeout_ms: 0,
            cluster: "development".to_owned(),
            zone: 0,
            metadata: Vec::new(),
            credentials: None,
            timing: Timing::LAN,
        }
    }
}

/// Why a member does not start, or does not do what it is asked. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SwimNodeError {
    /// Correct the name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Correct the configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The certificates cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The certificate names somebody else, or no node.
    #[error("the certificate is for {0}, which is not this member: use its own")]
    NotOurs(Identity),
    /// The endpoint cannot be opened.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The socket cannot be opened.
    #[error("cannot listen on {address}: {reason}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why not.
        reason: std::io::Error,
    },
    /// Say what others are to dial.
    #[error("{0} is no address that others can dial: set advertise_addr")]
    Wildcard(SocketAddr),
    /// The member has left, or was fenced.
    #[error("the member has stopped")]
    Stopped,
}

/// A member of a cluster that knows who else is there.
///
/// ```
/// use rivven_cluster::quic::{SwimConfig, SwimNode};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let first = SwimNode::new(SwimConfig::default()).await?;
/// let second = SwimNode::new(SwimConfig {
///     known_peers: vec![first.address().to_string().parse()?],
///     protocol_period_ms: 1000,
///     suspect_timeout_ms: 5000,
///     ..Default::default()
/// })
/// .await?;
///
/// let mut events = first.events();
/// while first.members().await?.len() < 2 {
///     println!("{:?}", events.recv().await?);
/// }
/// second.leave().await?;
/// # Ok(())
/// # })
/// # }
/// ```
pub struct SwimNode {
    id: NodeId,
    address: SocketAddr,
    controls: Controls,
    resumed: Arc<AtomicU64>,
    gossip: Gossip,
    socket: Weak<dyn AsyncUdpSocket>,
    renewal: Renewal,
}

impl SwimNode {
    /// Starts a member. It listens when this returns, and asks its peers to let it in until one does.
    ///
    /// # Errors
    ///
    /// [`SwimNodeError`]; nothing runs.
    pub async fn new(config: SwimConfig) -> Result<SwimNode, SwimNodeError> {
        let bind = |reason| SwimNodeError::Bind { address: config.bind_addr, reason };
        let seams = Seams::system(config.bind_addr).map_err(bind)?;
        let listening = seams.socket.local_addr().map_err(bind)?;
        let address = config.advertise_addr.unwrap_or(listening);
        if address.ip().is_unspecified() {
            return Err(SwimNodeError::Wildcard(address));
        }
        let (id, cluster, credentials) = identify(&config, &seams)?;
        let resumed = Arc::default();
        let (endpoint, renewable) = endpoint::open(&seams, &credentials, &Use::Gossip(Arc::clone(&resumed)))?;
        let renewal = Renewal::default();
        renewal.add(renewable);
        let clock = TokioClock::start();
        let boot = u32::try_from(seams.entropy.stream("swim boot", 0).draw() >> 32).expect("half of 64 bits");
        let (incoming, received) = mpsc::channel(INPUTS_MAX);
        let swim = plan(&config, id, cluster.clone(), address, boot)?;
        let start = Start { wall: clock.wall(), remembered: None, seed: seams.entropy.child("swim", 0) };
        let swim = Swim::start(swim, start, clock.now())?;
        let gossip = Gossip::start(endpoint, Arc::clone(&seams.resolver), cluster, id, incoming);
        let controls = swim_driver::start(swim, clock, gossip.clone(), received);
        let socket = Arc::downgrade(&seams.socket);
        Ok(SwimNode { id, address, controls, resumed, gossip, socket, renewal })
    }

    /// This member's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Where others reach it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it is in its life.
    #[must_use]
    pub fn lifecycle(&self) -> Lifecycle {
        *self.controls.lifecycle.borrow()
    }

    /// What happens from now on. A listener that falls behind is told how many events it has missed
    /// (`RecvError::Lagged`); it then reads [`SwimNode::members`] anew.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.controls.events.subscribe()
    }

    /// All members that are remembered, itself first.
    ///
    /// # Errors
    ///
    /// [`SwimNodeError::Stopped`] if it has left or was fenced.
    pub async fn members(&self) -> Result<Vec<Member>, SwimNodeError> {
        self.ask(Command::Members).await
    }

    /// What it has counted.
    ///
    /// # Errors
    ///
    /// [`SwimNodeError::Stopped`] if it has left or was fenced.
    pub async fn stats(&self) -> Result<Stats, SwimNodeError> {
        self.ask(Command::Stats).await
    }

    /// What a member says of itself; empty if nothing, or if it is not known yet.
    ///
    /// # Errors
    ///
    /// [`SwimNodeError::Stopped`] if this member has left or was fenced.
    pub async fn metadata(&self, of: NodeId) -> Result<Vec<u8>, SwimNodeError> {
        self.ask(|reply| Command::Metadata(of, reply)).await
    }

    /// Tells the others something about this member from now on, in at most 64 KiB.
    ///
    /// # Errors
    ///
    /// [`SwimNodeError::Config`] if it is too long, [`SwimNodeError::Stopped`].
    pub async fn describe(&self, metadata: Vec<u8>) -> Result<(), SwimNodeError> {
        if metadata.len() > METADATA_MAX {
            return Err(ConfigError::Metadata(metadata.len()).into());
        }
        self.controls.commands.send(Command::Describe(metadata)).await.map_err(|_| SwimNodeError::Stopped)
    }

    /// How many datagrams were dropped rather than sent late.
    #[must_use]
    pub fn datagrams_dropped(&self) -> u64 {
        self.gossip.dropped()
    }

    /// How many TLS sessions with this member others have taken up again, in place of a full handshake.
    #[must_use]
    pub fn sessions_resumed(&self) -> u64 {
        self.resumed.load(Ordering::Relaxed)
    }

    /// What gives the member new credentials while it runs.
    #[must_use]
    pub fn renewal(&self) -> &Renewal {
        &self.renewal
    }

    /// Says goodbye, and stops. Dropping a member stops it without a word: others take it for crashed.
    ///
    /// # Errors
    ///
    /// [`SwimNodeError::Stopped`] if it had stopped before.
    pub async fn leave(mut self) -> Result<(), SwimNodeError> {
        self.controls.commands.send(Command::Leave).await.map_err(|_| SwimNodeError::Stopped)?;
        let gone = self.controls.lifecycle.wait_for(|lifecycle| *lifecycle == Lifecycle::Gone);
        if timeout(LEAVE_TIMEOUT, gone).await.is_err() {
            tracing::warn!("nobody acknowledged the goodbye within {LEAVE_TIMEOUT:?}");
        }
        self.gossip.close();
        let (endpoint, socket) = (self.gossip.endpoint(), self.socket.clone());
        drop(self);
        closing::release(endpoint, socket).await;
        Ok(())
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, SwimNodeError> {
        let (reply, answer) = oneshot::channel();
        self.controls.commands.send(command(reply)).await.map_err(|_| SwimNodeError::Stopped)?;
        answer.await.map_err(|_| SwimNodeError::Stopped)
    }
}

impl Drop for SwimNode {
    fn drop(&mut self) {
        self.controls.task.abort();
        self.renewal.end();
        self.gossip.close();
    }
}

impl core::fmt::Debug for SwimNode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SwimNode")
            .field("id", &self.id)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Who this member is: by its certificate, or by one that is issued here.
fn identify(config: &SwimConfig, seams: &Seams) -> Result<(NodeId, ClusterName, Credentials), SwimNodeError> {
    let cluster: ClusterName = config.cluster.parse()?;
    if let Some(credentials) = &config.credentials {
        let identity = credentials.identity();
        return match identity.caller {
            Caller::Node(id) if identity.cluster == cluster && [0, id.value()].contains(&config.node_id) => {
                Ok((id, cluster, credentials.clone()))
            }
            Caller::Node(_) | Caller::Client | Caller::Operator => {
                Err(SwimNodeError::NotOurs(identity.clone()))
            }
        };
    }
    let drawn = seams.entropy.stream("swim id", 0).draw() | 1;
    let id = NodeId::new(config.node_id).or(NodeId::new(drawn)).expect("an odd number is not zero");
    let credentials =
        development_authority().issue(Identity { caller: Caller::Node(id), cluster: cluster.clone() })?;
    Ok((id, cluster, credentials))
}

fn plan(
    config: &SwimConfig,
    id: NodeId,
    cluster: ClusterName,
    address: SocketAddr,
    boot: u32,
) -> Result<Config, SwimNodeError> {
    let period = Duration::from_millis(config.protocol_period_ms);
    let suspicion_min = Duration::from_millis(config.suspect_timeout_ms);
    let timing = Timing {
        period,
        probe_timeout: config.timing.probe_timeout.min(period / 2),
        suspicion_min: Some(suspicion_min).filter(|min| !min.is_zero()).or(config.timing.suspicion_min),
        ..config.timing
    };
    let own = |peer: &PeerName| peer.as_str() == address.to_string();
    let plan = Config {
        zone: config.zone,
        metadata: config.metadata.clone(),
        seeds: config.known_peers.iter().filter(|peer| !own(peer)).cloned().collect(),
        timing,
        datagram_max: DATAGRAM_MAX,
        ..Config::new(id, cluster, address, boot)
    };
    plan.validate()?;
    Ok(plan)
}
