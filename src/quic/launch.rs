//! Launching: a configuration becomes a running node over QUIC and a segment log.
//!
//! This is all the wiring that there is. Whoever needs another store, transport or loop takes the
//! parts and writes these few lines anew.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::task::JoinHandle;
use tracing::Instrument as _;

use super::{ConnectionLimits, Credentials, Identity, QuicTransport, Renewal, Seams, TransportError};
use crate::driver::recorder::{self, Recorder};
use crate::driver::{
    Clock, Driver, DriverError, Handle, Observer, Owner, SegmentStorage, Storage, StorageError, SystemFolder,
    ThreadDisk, TokioClock, Watched, inbox, open_or_set_aside, set_aside, watched,
};
use crate::flight::Key;
use crate::id::{NodeId, PeerName};
use crate::node::{Caller, Config, Durable, Node, StartError};
use crate::state_machine::StateMachine;

/// What a node is launched with.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The node itself. If it gossips, it does so on the IP address of `bind`, at the port that others know.
    pub config: Config,
    /// Where it listens.
    pub bind: SocketAddr,
    /// Where it keeps its data; made if it does not exist.
    pub data_dir: PathBuf,
    /// What it proves itself with.
    pub credentials: Credentials,
    /// What it takes upon itself for those who connect to it.
    pub limits: ConnectionLimits,
    /// How the node is recorded, if it is.
    pub recorder: Option<recorder::Settings>,
}

/// What lies below a node, when it is not to be the system's: see [`Launch::start_on`].
pub struct Parts<St, C> {
    /// The socket that the node listens on, and what else QUIC stands on.
    pub seams: Seams,
    /// The same for gossip, on a port of its own; needed if the node gossips.
    pub gossip: Option<Seams>,
    /// Where the node keeps its data.
    pub storage: St,
    /// What was found there.
    pub durable: Durable,
    /// What time it is.
    pub clock: C,
}

/// A node that runs in a task of its own.
pub struct Running {
    /// Reaches the node.
    pub handle: Handle,
    /// Who leads and who belongs to the cluster, to look at and to wait for.
    pub watched: Watched,
    /// Ends when the node stops, with the reason.
    pub task: JoinHandle<Result<(), DriverError>>,
    /// Gives it new credentials.
    pub renewal: Renewal,
    /// Asks its recorder for a flight, if it has one.
    pub recorder: Option<recorder::Trigger>,
}

/// Why a node cannot be launched. Nothing runs, and what is on disk is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// The certificate is another node's, or not a node's at all.
    #[error("the certificate is for {found}, but this is node {expected}: use the certificate of this node")]
    OtherIdentity {
        /// Whom the certificate names.
        found: Identity,
        /// Who is being launched.
        expected: NodeId,
    },
    /// A call to the system failed.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        error: io::Error,
    },
    /// Give it a socket, or let the node not gossip.
    #[error("the node gossips, but was given no socket for that")]
    NoGossipSocket,
    /// The transport cannot start.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The store cannot be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The node refuses what is in the store.
    #[error(transparent)]
    Start(#[from] StartError),
}

impl Launch {
    /// With the default limits, and not recorded.
    #[must_use]
    pub fn new(config: Config, bind: SocketAddr, data_dir: PathBuf, credentials: Credentials) -> Launch {
        let (limits, recorder) = (ConnectionLimits::default(), None);
        Launch { config, bind, data_dir, credentials, limits, recorder }
    }

    /// Starts the node around `state_machine`, with `observer` inside its driver.
    ///
    /// Call it inside a tokio runtime. The node is up when this returns; its cluster forms, or is
    /// found again, when its peers are up.
    ///
    /// # Errors
    ///
    /// [`LaunchError`]; nothing runs, and what is on disk is as it was.
    pub fn start<S, O>(self, state_machine: S, observer: O) -> Result<Running, LaunchError>
    where
        S: StateMachine + Send + 'static,
        O: Observer<S> + Send + 'static,
    {
        let Launch { config, bind, data_dir, credentials, .. } = &self;
        self.check_identity()?;
        let owner = Owner { cluster: credentials.identity().cluster.clone(), node: config.id };
        let span = self.span();
        let inside = span.enter();
        let folder = SystemFolder::claim(data_dir)?;
        let seams = listen(*bind)?;
        let salt = seams.entropy.stream("segment salt", 0).draw();
        let (storage, durable) = open_sound(&folder, &owner, salt, config.id)?;
        let gossip_bind =
            config.gossip.as_ref().map(|gossip| SocketAddr::new(bind.ip(), gossip.address.port()));
        let gossip = gossip_bind.map(listen).transpose()?;
        drop(inside);
        let clock = TokioClock::start();
        self.start_on(Parts { seams, gossip, storage, durable, clock }, state_machine, observer)
    }

    /// As [`start`](Launch::start), on sockets, a store and a clock of one's own: `bind` and `data_dir` say
    /// nothing then. The store runs on a thread of its own.
    ///
    /// # Errors
    ///
    /// [`LaunchError`]; nothing runs, and what is on disk is as it was.
    pub fn start_on<S, O, St, C>(
        self,
        parts: Parts<St, C>,
        state_machine: S,
        observer: O,
    ) -> Result<Running, LaunchError>
    where
        S: StateMachine + Send + 'static,
        O: Observer<S> + Send + 'static,
        St: Storage + Send + 'static,
        C: Clock + Send + 'static,
    {
        self.check_identity()?;
        // Every task of the node is begun in here, so that each line of the log says whose it is.
        let span = self.span();
        let _inside = span.enter();
        let Launch { config, credentials, limits, recorder, .. } = self;
        let Parts { seams, gossip, storage, durable, clock } = parts;
        let (handle, receiver) = inbox();
        let (peers, gossips) = (config.peers.clone(), config.gossip.is_some());
        // A seed of its own: the node's is in recordings, and nothing else may follow from it.
        let seed = seams.entropy.child("node", 0);
        let node = Node::start(config, seed, durable, state_machine, clock.now())?;
        let (recorder, trigger) = recorder
            .map(|settings| {
                let key = Key::draw(&mut seams.entropy.stream("flight key", 0));
                Recorder::new(settings, handle.clone(), key)
            })
            .unzip();
        let mut transport =
            QuicTransport::start(&seams, &credentials, peers, &handle, limits, trigger.clone())?;
        if gossips {
            let seams = gossip.ok_or(LaunchError::NoGossipSocket)?;
            transport = transport.with_gossip(&seams, &credentials)?;
        }
        let disk =
            ThreadDisk::start(storage).map_err(|error| system("cannot start the storage thread", error))?;
        let renewal = transport.renewal();
        let (watcher, watched) = watched();
        let driver = Driver::new(node, clock, transport, disk, (recorder, (watcher, observer)), receiver);
        let task = tokio::spawn(driver.run().in_current_span());
        Ok(Running { handle, watched, task, renewal, recorder: trigger })
    }

    fn check_identity(&self) -> Result<(), LaunchError> {
        let identity = self.credentials.identity();
        if identity.caller == Caller::Node(self.config.id) {
            return Ok(());
        }
        Err(LaunchError::OtherIdentity { found: identity.clone(), expected: self.config.id })
    }

    fn span(&self) -> tracing::Span {
        tracing::error_span!("node", id = self.config.id.value())
    }
}

/// Opens the store. One that is damaged, or whose records contradict each other, is set aside.
fn open_sound(
    folder: &SystemFolder,
    owner: &Owner,
    salt: u64,
    node: NodeId,
) -> Result<(SegmentStorage<SystemFolder>, Durable), StorageError> {
    let open = |folder| SegmentStorage::open(folder, owner, salt);
    let (storage, durable) = open_or_set_aside(folder, open)?;
    let Err(error) = durable.check(node) else { return Ok((storage, durable)) };
    tracing::error!("{error}; its files are set aside, and the node asks its cluster to take it in again");
    drop(storage);
    set_aside(folder)?;
    open_or_set_aside(folder, open)
}

fn listen(bind: SocketAddr) -> Result<Seams, LaunchError> {
    Seams::system(bind).map_err(|error| system(&format!("cannot listen on {bind}"), error))
}

/// The first address of a name: where a node listens, or what others dial.
///
/// # Errors
///
/// [`LaunchError::System`] if the name cannot be resolved now.
pub fn resolve(name: &PeerName) -> Result<SocketAddr, LaunchError> {
    use std::net::ToSocketAddrs as _;
    let what = format!("cannot resolve this node's own address {name}");
    let mut found = name.as_str().to_socket_addrs().map_err(|error| system(&what, error))?;
    found.next().ok_or_else(|| system(&what, io::ErrorKind::NotFound.into()))
}

pub(super) fn system(what: &str, error: io::Error) -> LaunchError {
    LaunchError::System { what: what.to_owned(), error }
}
