//! A QUIC endpoint, and the seams below it that a simulation replaces.
//!
//! TLS 1.3 only, with certificates on both sides, and no 0-RTT, so that nothing is ever replayed. Nodes and
//! clients keep their connections, so they get no session tickets; members that gossip meet a different one
//! each period, and resume. Everything that quinn would draw from the operating system and that shows in time or
//! size is drawn from one 32-byte value instead.

use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{AsyncUdpSocket, ConnectionId, ConnectionIdGenerator, Runtime, VarInt};
use ring::{hkdf, hmac};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::server::{ServerSessionMemoryCache, StoresServerSessions, WebPkiClientVerifier};
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};

use super::authority::{Credentials, CredentialsError};
use super::identity::Identity;
use crate::id::PeerName;
use crate::rng::{Seed, Stream};

/// What an endpoint is for.
#[derive(Clone)]
pub(super) enum Use {
    /// It dials nodes.
    Client,
    /// It dials nodes, and accepts nodes and clients.
    Node,
    /// It dials and accepts members, for a moment each. Counts the sessions that others took up again.
    Gossip(Arc<AtomicU64>),
}

impl Use {
    /// What both sides must speak, version included.
    fn protocol(&self) -> &'static [u8] {
        match self {
            Use::Client | Use::Node => b"rivven-cluster/1",
            Use::Gossip(_) => b"rivven-swim/1",
        }
    }
}

/// After this long without a packet a connection between members is given up.
const GOSSIP_IDLE: Duration = Duration::from_secs(30);
/// The most bytes of datagrams that wait to be read.
const DATAGRAM_BYTES: usize = 256 * 1024;
/// The most bytes of datagrams that wait to be sent: a probe that waits behind many is of no use.
const DATAGRAM_SEND_BYTES: usize = 8 * 1024;
/// The most streams that a member may have open, and bytes under way on them.
const GOSSIP_STREAMS: u32 = 8;
const GOSSIP_WINDOW_BYTES: u32 = 1024 * 1024;
/// So many sessions with other members are remembered.
const SESSIONS_MAX: usize = 1024;
/// So many tickets a handshake gives: one for each time that two members may meet before the next.
const TICKETS: usize = 2;

/// After this long without a packet a connection is given up.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);
/// A quiet connection is kept alive this often.
const KEEP_ALIVE: Duration = Duration::from_millis(500);
/// What the round-trip time is taken for before it is measured; it sets how soon a first packet that
/// nobody answers is repeated. Clusters are closer than the internet, for which quinn assumes 333 ms.
const INITIAL_RTT: Duration = Duration::from_millis(100);
/// The most bytes that a peer may have under way on one stream.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// The most bytes that a peer may have under way on one connection.
pub(super) const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// The most bytes that somebody who is not known to be a node may have under way on one connection, in each direction.
pub(super) const CALLER_WINDOW_BYTES: u32 = 1024 * 1024;
/// The most streams of each kind that a peer may have open: one a lane. What is read of a frame that is not whole waits
/// in memory, so few streams bound that as well.
const STREAMS_MAX: u32 = 4;
/// The length of a connection id.
const CONNECTION_ID_BYTES: usize = 8;

/// A future that is made by a trait object.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Turns a peer's name into addresses, each time it is dialled.
pub trait Resolver: Send + Sync {
    /// Looks the name up.
    fn resolve(&self, name: &PeerName) -> BoxFuture<io::Result<Vec<SocketAddr>>>;
}

/// The system's resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve(&self, name: &PeerName) -> BoxFuture<io::Result<Vec<SocketAddr>>> {
        let name = name.clone();
        Box::pin(async move { Ok(tokio::net::lookup_host(name.as_str()).await?.collect()) })
    }
}

/// What lies below QUIC: the socket, the runtime's clock, name resolution, cryptography, entropy.
#[derive(Clone)]
pub struct Seams {
    /// Sends and receives datagrams.
    pub socket: Arc<dyn AsyncUdpSocket>,
    /// Spawns quinn's tasks and tells it the time.
    pub runtime: Arc<dyn Runtime>,
    /// Looks up peers.
    pub resolver: Arc<dyn Resolver>,
    /// The primitives of TLS. It is a seam because they draw random numbers.
    pub crypto: Arc<CryptoProvider>,
    /// The wall clock of TLS: certificates and sessions are judged by it.
    pub wall: Arc<dyn TimeProvider>,
    /// The root of all other random draws of this endpoint.
    pub entropy: Seed,
}

/// So many packets are acknowledged at once, or what came until the acknowledgement is overdue: answers
/// carry most of them along.
const ACK_THRESHOLD: VarInt = VarInt::from_u32(10);

impl Seams {
    /// The real ones: a UDP socket bound to `bind`, tokio, the system's resolver, ring, and entropy.
    ///
    /// # Errors
    ///
    /// If the address cannot be bound or the system has no entropy.
    pub fn system(bind: SocketAddr) -> io::Result<Seams> {
        let runtime = Arc::new(quinn::TokioRuntime);
        let socket = runtime.wrap_udp_socket(std::net::UdpSocket::bind(bind)?)?;
        let crypto = Arc::new(rustls::crypto::ring::default_provider());
        let (resolver, wall) = (Arc::new(SystemResolver), Arc::new(DefaultTimeProvider));
        Ok(Seams { socket, runtime, resolver, crypto, wall, entropy: system_entropy()? })
    }
}

/// Draws a seed from the operating system.
///
/// # Errors
///
/// If the system has no entropy.
pub fn system_entropy() -> io::Result<Seed> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)?;
    Ok(Seed::new(u64::from_le_bytes(bytes)))
}

/// What TLS is configured from, beside the credentials.
#[derive(Clone)]
struct Grounds {
    crypto: Arc<CryptoProvider>,
    wall: Arc<dyn TimeProvider>,
    entropy: Seed,
    purpose: Use,
    /// How often the credentials were renewed.
    renewals: u64,
}

/// An endpoint whose credentials can be renewed. It does not hold the socket, but it does hold the endpoint.
pub(super) struct Renewable {
    endpoint: quinn::Endpoint,
    identity: Identity,
    grounds: Grounds,
}

impl Renewable {
    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Judges and is judged by these credentials from now on.
    pub(super) fn renew(&mut self, credentials: &Credentials) -> Result<(), EndpointError> {
        let mut grounds = self.grounds.clone();
        grounds.renewals += 1;
        check_chain(&grounds, credentials)?;
        let (server, client) = (server_config(&grounds, credentials)?, client_config(&grounds, credentials)?);
        self.endpoint.set_server_config(Some(server));
        self.endpoint.set_default_client_config(client);
        self.grounds = grounds;
        Ok(())
    }
}

/// The seed of the endpoint's own draws, and the key of address tokens.
fn secrets(entropy: Seed) -> ([u8; 32], hkdf::Prk) {
    let mut secrets = entropy.stream("quic endpoint", 0);
    let mut key = || {
        let mut bytes = [0; 32];
        secrets.fill(&mut bytes);
        bytes
    };
    (key(), hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&key()))
}

/// Opens an endpoint that dials and, if it is a node's, accepts; and what it takes to renew its credentials.
///
/// # Errors
///
/// [`EndpointError`] if TLS does not accept the credentials or the socket fails.
pub(super) fn open(
    seams: &Seams,
    credentials: &Credentials,
    purpose: &Use,
) -> Result<(quinn::Endpoint, Renewable), EndpointError> {
    let grounds = Grounds {
        crypto: Arc::clone(&seams.crypto),
        wall: Arc::clone(&seams.wall),
        entropy: seams.entropy,
        purpose: purpose.clone(),
        renewals: 0,
    };
    let mut config = quinn::EndpointConfig::new(Arc::new(reset_key(credentials)));
    config.rng_seed(Some(secrets(seams.entropy).0)).grease_quic_bit(false);
    let ids = seams.entropy.stream("quic connection ids", 0);
    config.cid_generator(move || Box::new(SeededConnectionIds(ids.clone())));
    let server = match purpose {
        Use::Client => None,
        Use::Node | Use::Gossip(_) => Some(server_config(&grounds, credentials)?),
    };
    let (socket, runtime) = (Arc::clone(&seams.socket), Arc::clone(&seams.runtime));
    let mut endpoint = quinn::Endpoint::new_with_abstract_socket(config, server, socket, runtime)?;
    endpoint.set_default_client_config(client_config(&grounds, credentials)?);
    let identity = credentials.identity().clone();
    Ok((endpoint.clone(), Renewable { endpoint, identity, grounds }))
}

/// The key of stateless resets, the same in every process of a node: a node that was killed and comes
/// back can then tell its peers at once that their connections are gone.
fn reset_key(credentials: &Credentials) -> hmac::Key {
    let salt = hmac::Key::new(hmac::HMAC_SHA256, b"rivven-cluster stateless reset");
    let derived = hmac::sign(&salt, credentials.key.secret_der());
    hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
}

/// Why an endpoint cannot be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// TLS does not accept the credentials.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// Give a client at least one address.
    #[error("a client needs the address of at least one node")]
    NoAddress,
    /// The socket fails.
    #[error("the socket fails: {0}")]
    Socket(#[from] io::Error),
}

/// Whether others who have the same credentials would believe these: an authority's file alone may have been replaced.
fn check_chain(grounds: &Grounds, credentials: &Credentials) -> Result<(), CredentialsError> {
    let crypto = Arc::clone(&grounds.crypto);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(credentials)?, crypto)
        .build()
        .map_err(|error| CredentialsError::Tls(error.to_string()))?;
    let now = grounds
        .wall
        .current_time()
        .ok_or_else(|| CredentialsError::Tls("nobody knows the time".to_owned()))?;
    verifier.verify_client_cert(&credentials.certificate, &[], now).map_err(in_tls)?;
    Ok(())
}

fn server_config(
    grounds: &Grounds,
    credentials: &Credentials,
) -> Result<quinn::ServerConfig, CredentialsError> {
    let Grounds { crypto, wall, entropy, purpose, .. } = grounds;
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(credentials)?, Arc::clone(crypto))
        .build()
        .map_err(|error| CredentialsError::Tls(error.to_string()))?;
    let mut tls = rustls::ServerConfig::builder_with_details(Arc::clone(crypto), Arc::clone(wall))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(in_tls)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![credentials.certificate.clone()], credentials.key.clone_key())
        .map_err(in_tls)?;
    tls.alpn_protocols = vec![purpose.protocol().to_vec()];
    tls.send_tls13_tickets = 0;
    if let Use::Gossip(resumed) = purpose {
        let (kept, resumed) = (ServerSessionMemoryCache::new(SESSIONS_MAX), Arc::clone(resumed));
        tls.session_storage = Arc::new(Sessions { kept, resumed });
        tls.send_tls13_tickets = TICKETS;
    }
    let crypto = QuicServerConfig::try_from(tls).map_err(|error| CredentialsError::Tls(error.to_string()))?;
    let mut config = quinn::ServerConfig::new(Arc::new(crypto), Arc::new(secrets(*entropy).1));
    let mut transport = transport_config(purpose);
    if matches!(purpose, Use::Node) {
        transport.receive_window(VarInt::from_u32(CALLER_WINDOW_BYTES));
    }
    config.transport_config(Arc::new(transport)).migration(false);
    let mut tokens = quinn::ValidationTokenConfig::default();
    tokens.sent(0);
    config.validation_token_config(tokens);
    Ok(config)
}

fn client_config(
    grounds: &Grounds,
    credentials: &Credentials,
) -> Result<quinn::ClientConfig, CredentialsError> {
    let Grounds { crypto, wall, entropy, purpose, renewals } = grounds;
    let mut tls = rustls::ClientConfig::builder_with_details(Arc::clone(crypto), Arc::clone(wall))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(in_tls)?
        .with_root_certificates(roots(credentials)?)
        .with_client_auth_cert(vec![credentials.certificate.clone()], credentials.key.clone_key())
        .map_err(in_tls)?;
    tls.alpn_protocols = vec![purpose.protocol().to_vec()];
    tls.resumption = match purpose {
        Use::Client | Use::Node => rustls::client::Resumption::disabled(),
        Use::Gossip(_) => rustls::client::Resumption::in_memory_sessions(SESSIONS_MAX),
    };
    let crypto = QuicClientConfig::try_from(tls).map_err(|error| CredentialsError::Tls(error.to_string()))?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport_config(purpose)));
    let ids = Mutex::new(SeededConnectionIds(entropy.stream("quic initial ids", *renewals)));
    config.initial_dst_cid_provider(Arc::new(move || {
        ids.lock().unwrap_or_else(PoisonError::into_inner).generate_cid()
    }));
    Ok(config)
}

fn transport_config(purpose: &Use) -> quinn::TransportConfig {
    let mut config = quinn::TransportConfig::default();
    let mut acknowledgements = quinn::AckFrequencyConfig::default();
    acknowledgements.ack_eliciting_threshold(ACK_THRESHOLD);
    let idle = quinn::IdleTimeout::try_from(IDLE_TIMEOUT).expect("two seconds fit");
    config
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .ack_frequency_config(Some(acknowledgements))
        .initial_rtt(INITIAL_RTT)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(u64::from(CONNECTION_WINDOW_BYTES))
        .max_concurrent_uni_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .datagram_receive_buffer_size(None);
    if matches!(purpose, Use::Gossip(_)) {
        config
            .max_idle_timeout(Some(quinn::IdleTimeout::try_from(GOSSIP_IDLE).expect("half a minute fits")))
            .keep_alive_interval(None)
            .datagram_receive_buffer_size(Some(DATAGRAM_BYTES))
            .datagram_send_buffer_size(DATAGRAM_SEND_BYTES)
            .max_concurrent_bidi_streams(VarInt::from_u32(GOSSIP_STREAMS))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .stream_receive_window(VarInt::from_u32(GOSSIP_WINDOW_BYTES))
            .receive_window(VarInt::from_u32(GOSSIP_WINDOW_BYTES * 2));
    }
    config
}

/// Sessions that other members may take up again, and how many they did.
#[derive(Debug)]
struct Sessions {
    kept: Arc<ServerSessionMemoryCache>,
    resumed: Arc<AtomicU64>,
}

impl StoresServerSessions for Sessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.kept.put(key, value)
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.kept.get(key)
    }

    /// TLS 1.3 takes a session out when it is taken up again: no ticket works twice.
    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        let session = self.kept.take(key);
        self.resumed.fetch_add(u64::from(session.is_some()), Ordering::Relaxed);
        session
    }

    fn can_cache(&self) -> bool {
        self.kept.can_cache()
    }
}

fn roots(credentials: &Credentials) -> Result<Arc<RootCertStore>, CredentialsError> {
    let mut roots = RootCertStore::empty();
    roots.add(credentials.authority.clone()).map_err(in_tls)?;
    Ok(Arc::new(roots))
}

fn in_tls(error: rustls::Error) -> CredentialsError {
    CredentialsError::Tls(error.to_string())
}

/// Connection ids from a seeded stream, all of one length.
struct SeededConnectionIds(Stream);

impl ConnectionIdGenerator for SeededConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&self.0.draw().to_le_bytes())
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
