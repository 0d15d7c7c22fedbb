//! QUIC: how nodes and clients reach each other, and know who they are talking to.
//!
//! ```text
//!   driver ─► QuicTransport ─► Link (one an address) ─► control and log lanes ─► peer
//!   driver ◄─ inbox ◄──────── Server ◄─ message streams of nodes, request streams of anybody ◄─ peer
//!   driver ◄► NodeGossip ◄───────────── datagrams and short questions, on a port of their own ◄► member
//! ```
//!
//! Every connection is TLS 1.3 with certificates on both sides, from the cluster's own authority; the
//! certificate says which cluster its holder belongs to, and whether it is a node (and which), a client
//! or an operator. See [`Identity`].
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "this is where the sockets and the certificate files are"
)]

mod asking;
mod authority;
mod client;
mod closing;
mod connection;
mod consumer;
mod door;
mod endpoint;
mod exchange;
mod failures;
mod gossip;
mod identity;
mod launch;
mod limits;
mod link;
mod members;
mod metadata;
mod node_gossip;
mod partitions;
mod producer;
mod raft_node;
mod renewal;
mod room;
mod server;
mod session;
mod swim_driver;
mod swim_node;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use quinn::{AsyncUdpSocket, Endpoint, VarInt};
use tokio::task::{AbortHandle, JoinSet};
use tracing::Instrument as _;

use self::endpoint::Use;
use self::link::{Dialer, Link};
use self::node_gossip::NodeGossip;
use self::server::Server;
use crate::driver::recorder::Trigger;
use crate::driver::{Dropped, Handle, Transport};
use crate::id::{ClusterName, NodeId, PeerName};
use crate::node::{Caller, Message, Peer};
use crate::rng::Seed;
use crate::swim;
use crate::wire::Frame;

pub use self::authority::{Authority, Credentials, CredentialsError};
pub use self::client::{Answered, Client, ClientConfig, ClientError, Committed, Recorded};
pub use self::connection::HangUp;
pub use self::consumer::{ConsumeFailure, Consumed, Consumer, Offsets, StartAt};
pub use self::endpoint::{BoxFuture, EndpointError, Resolver, Seams, SystemResolver, system_entropy};
pub use self::identity::{Identity, IdentityError};
pub use self::launch::{Launch, LaunchError, Parts, Running, resolve};
pub use self::limits::ConnectionLimits;
pub use self::metadata::{Followed, Ordered};
pub use self::partitions::{
    NewTopic, News, PartitionError, PartitionManager, PartitionSettings, Route, RouteBy, TopicChanges,
};
pub use self::producer::{ProduceFailure, Producer, ProducerSettings, Written};
pub use self::raft_node::{RaftConfig, RaftNode, RaftNodeError, development_authority};
pub use self::renewal::{CredentialFiles, Renewal, RenewalError};
pub use self::session::ClientSession;
pub use self::swim_node::{DATAGRAM_MAX, SwimConfig, SwimNode, SwimNodeError};

/// A node's [`Transport`] over QUIC. Its tasks end when it is dropped.
pub struct QuicTransport {
    /// `None` once closed.
    endpoint: Option<Endpoint>,
    links: BTreeMap<PeerName, (Link, AbortHandle)>,
    /// Which link leads to a node, as far as certificates have told.
    routes: Routes,
    gossip: Option<NodeGossip>,
    seams: Way,
    tasks: JoinSet<()>,
    socket: Weak<dyn AsyncUdpSocket>,
    renewal: Renewal,
}

/// What it takes to dial.
struct Way {
    resolver: Arc<dyn Resolver>,
    cluster: ClusterName,
    own_id: NodeId,
    node: Handle,
    entropy: Seed,
    /// How many links were begun.
    begun: u64,
}

type Routes = Arc<Mutex<BTreeMap<NodeId, PeerName>>>;

/// Why a transport cannot start. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The credentials are not a node's.
    #[error("{0} cannot run a node: use a node's certificate")]
    NotANode(Identity),
    /// The endpoint cannot be opened.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
}

impl QuicTransport {
    /// Opens the endpoint, accepts connections, and dials every listed peer.
    ///
    /// # Errors
    ///
    /// [`TransportError`] if the credentials are not a node's or the endpoint cannot be opened.
    pub fn start(
        seams: &Seams,
        credentials: &Credentials,
        peers: impl IntoIterator<Item = PeerName>,
        node: &Handle,
        limits: ConnectionLimits,
        recorder: Option<Trigger>,
    ) -> Result<QuicTransport, TransportError> {
        let identity = credentials.identity();
        let Caller::Node(own_id) = identity.caller else {
            return Err(TransportError::NotANode(identity.clone()));
        };
        let cluster = identity.cluster.clone();
        let (endpoint, renewable) = endpoint::open(seams, credentials, &Use::Node)?;
        let (socket, renewal) = (Arc::downgrade(&seams.socket), Renewal::default());
        renewal.add(renewable);
        let mut tasks = JoinSet::new();
        let server = Server::new(cluster.clone(), own_id, node.clone(), limits, recorder);
        tasks.spawn(server.run(endpoint.clone()).in_current_span());
        let (resolver, entropy) = (seams.resolver.clone(), seams.entropy);
        let seams = Way { resolver, cluster, own_id, node: node.clone(), entropy, begun: 0 };
        let (links, routes) = (BTreeMap::new(), Routes::default());
        let (endpoint, gossip) = (Some(endpoint), None);
        let mut transport = QuicTransport { endpoint, links, routes, gossip, seams, tasks, socket, renewal };
        for name in peers {
            transport.dial(name);
        }
        Ok(transport)
    }

    /// Opens another endpoint, on the socket of these seams, over which the node gossips.
    ///
    /// # Errors
    ///
    /// [`TransportError`] if the endpoint cannot be opened.
    pub fn with_gossip(
        mut self,
        seams: &Seams,
        credentials: &Credentials,
    ) -> Result<QuicTransport, TransportError> {
        let Way { cluster, own_id, node, .. } = &self.seams;
        let (gossip, renewable) =
            NodeGossip::start(seams, credentials, cluster.clone(), *own_id, node.clone())?;
        self.renewal.add(renewable);
        self.gossip = Some(gossip);
        Ok(self)
    }

    /// What gives it new credentials while it runs.
    #[must_use]
    pub fn renewal(&self) -> Renewal {
        self.renewal.clone()
    }

    fn say_goodbye(&self) {
        self.renewal.end();
        if let Some(gossip) = &self.gossip {
            gossip.say_goodbye();
        }
        if let Some(endpoint) = &self.endpoint {
            endpoint.close(VarInt::from_u32(0), HangUp::Shutdown.to_string().as_bytes());
        }
    }

    fn link(&self, to: &Peer) -> Option<&Link> {
        match to {
            Peer::Address(name) => self.links.get(name).map(|(link, _)| link),
            Peer::Node(node) => {
                let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
                self.links.get(routes.get(node)?).map(|(link, _)| link)
            }
        }
    }
}

impl Transport for QuicTransport {
    fn send(&mut self, to: &Peer, message: Message) -> Result<(), Dropped> {
        let link = self.link(to).ok_or(Dropped)?;
        if !link.is_up() {
            return Err(Dropped);
        }
        let lane = message.lane();
        let frame = Frame::Message(message).encode().map_err(|error| {
            tracing::error!(?to, ?lane, "cannot send a message: {error}");
            Dropped
        })?;
        link.send(lane, frame)
    }

    fn dial(&mut self, name: PeerName) {
        let Some(endpoint) = self.endpoint.clone() else { return };
        let Way { resolver, cluster, own_id, node, entropy, begun } = &mut self.seams;
        let dialer = Dialer {
            name: name.clone(),
            endpoint,
            resolver: Arc::clone(resolver),
            cluster: cluster.clone(),
            own_id: *own_id,
            node: node.clone(),
            routes: Arc::clone(&self.routes),
            jitter: entropy.stream("link backoff", *begun),
        };
        *begun += 1;
        let (link, task) = dialer.start();
        while self.tasks.try_join_next().is_some() {}
        let task = self.tasks.spawn(task.in_current_span());
        if let Some((_, before)) = self.links.insert(name, (link, task)) {
            before.abort();
        }
    }

    fn hang_up(&mut self, name: &PeerName) {
        if let Some((_, task)) = self.links.remove(name) {
            task.abort();
            let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
            routes.retain(|_, link| link != name);
        }
    }

    fn gossip(&mut self, output: swim::Output) {
        if let Some(gossip) = &self.gossip {
            gossip.act(output);
        }
    }

    /// Waits until peers have been told, and the ports are free again.
    async fn close(&mut self) {
        self.say_goodbye();
        let gossip = self.gossip.take();
        let gossip_closes = async {
            if let Some(gossip) = gossip {
                gossip.close().await;
            }
        };
        self.tasks.shutdown().await;
        let (endpoint, socket) = (self.endpoint.take(), self.socket.clone());
        let links_close = async {
            if let Some(endpoint) = endpoint {
                closing::release(endpoint, socket).await;
            }
        };
        tokio::join!(links_close, gossip_closes);
    }
}

impl Drop for QuicTransport {
    fn drop(&mut self) {
        self.say_goodbye();
    }
}
