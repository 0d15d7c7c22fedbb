//! Attackers, for `bench --under-attack`: what strangers, and clients without manners, do to a cluster that works.
//!
//! They run in the process of the load, and on the cores of the nodes, so what they cost includes their own work. Each
//! node has [`ATTACKERS`] of them, which do what they do every [`PACE`] at most.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint};
use rivven_cluster::node::Request;
use rivven_cluster::wire::Frame;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

use crate::Failure;
use crate::cluster::{CLUSTER, Cluster};

/// How many there are for each node.
const ATTACKERS: usize = 4;
/// How often each does something, at most.
const PACE: Duration = Duration::from_millis(20);
/// How many datagrams make one act: 6,000 a second on all nodes together.
const DATAGRAMS: usize = 10;
/// How many requests that nobody reads the answer of make one act.
const REQUESTS: u64 = 100;

/// What is done to the nodes while they are measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Attack {
    /// Somebody without a certificate dials again and again.
    Strangers,
    /// A client sends what makes no sense, is hung up on, and dials again.
    Nonsense,
    /// A client opens streams, and gives them up.
    Streams,
    /// A client writes a request byte by byte.
    Trickle,
    /// A client asks, and does not read the answers.
    Unread,
    /// Datagrams of noise.
    Datagrams,
}

/// The attackers at work.
pub struct Attackers {
    tasks: JoinSet<Option<()>>,
    acts: Arc<AtomicU64>,
}

impl Attackers {
    /// Sets them on all nodes.
    pub fn start(cluster: &Cluster, attack: Attack) -> Result<Attackers, Failure> {
        let (certificate, key) = cluster.client_files("attacker")?;
        let known = (attack != Attack::Strangers).then_some((certificate.as_path(), key.as_path()));
        let config = config(&cluster.folder().join("ca.pem"), known)?;
        let (mut tasks, acts) = (JoinSet::new(), Arc::new(AtomicU64::new(0)));
        for address in cluster.addresses() {
            for _ in 0..ATTACKERS {
                let attacker =
                    Attacker { address: address.parse()?, config: config.clone(), acts: Arc::clone(&acts) };
                tasks.spawn(attacker.run(attack));
            }
        }
        Ok(Attackers { tasks, acts })
    }

    /// Calls them off. Tells how often they have done something.
    pub async fn stop(mut self) -> u64 {
        self.tasks.shutdown().await;
        self.acts.load(Ordering::Relaxed)
    }
}

/// What it takes to dial as somebody, or as nobody.
fn config(authority: &Path, known: Option<(&Path, &Path)>) -> Result<ClientConfig, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots);
    let mut tls = match known {
        None => tls.with_no_client_auth(),
        Some((certificate, key)) => tls.with_client_auth_cert(
            vec![CertificateDer::from_pem_file(certificate)?],
            PrivateKeyDer::from_pem_file(key)?,
        )?,
    };
    tls.alpn_protocols = vec![b"rivven-cluster/1".to_vec()];
    Ok(ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?)))
}

struct Attacker {
    address: SocketAddr,
    config: ClientConfig,
    acts: Arc<AtomicU64>,
}

impl Attacker {
    /// Until it is called off, or the system gives it nothing more.
    async fn run(self, attack: Attack) -> Option<()> {
        let mut endpoint = Endpoint::client("127.0.0.1:0".parse().ok()?).ok()?;
        endpoint.set_default_client_config(self.config.clone());
        let socket = UdpSocket::bind("127.0.0.1:0").ok()?;
        let mut pace = interval(PACE);
        loop {
            pace.tick().await;
            self.acts.fetch_add(1, Ordering::Relaxed);
            if attack == Attack::Datagrams {
                // A full buffer drops them.
                (0..DATAGRAMS).for_each(|_| _ = socket.send_to(&[0xc3; 1200], self.address));
                continue;
            }
            let Some(connection) = self.dial(&endpoint).await else { continue };
            // Whoever is hung up on dials again.
            let _ = match attack {
                Attack::Strangers | Attack::Datagrams => Some(_ = connection.closed().await),
                Attack::Nonsense => nonsense(&connection).await,
                Attack::Streams => self.streams(&connection).await,
                Attack::Trickle => self.trickle(&connection).await,
                Attack::Unread => self.unread(&connection).await,
            };
        }
    }

    async fn dial(&self, endpoint: &Endpoint) -> Option<Connection> {
        let dialled = endpoint.connect(self.address, &format!("{CLUSTER}.rivven")).ok()?;
        timeout(Duration::from_secs(5), dialled).await.ok()?.ok()
    }

    async fn streams(&self, connection: &Connection) -> Option<()> {
        let mut pace = interval(PACE);
        loop {
            pace.tick().await;
            for _ in 0..REQUESTS {
                let (mut send, _) = connection.open_bi().await.ok()?;
                send.write_all(&[1]).await.ok()?;
                self.acts.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    async fn trickle(&self, connection: &Connection) -> Option<()> {
        let (mut send, _receive) = connection.open_bi().await.ok()?;
        let frame = Frame::Request { id: 1, request: Request::Status }.encode().ok()?;
        for byte in frame.iter().cycle() {
            send.write_all(&[*byte]).await.ok()?;
            self.acts.fetch_add(1, Ordering::Relaxed);
            sleep(PACE).await;
        }
        None
    }

    async fn unread(&self, connection: &Connection) -> Option<()> {
        let (mut send, _receive) = connection.open_bi().await.ok()?;
        let mut pace = interval(PACE);
        for id in 0.. {
            if id % REQUESTS == 0 {
                pace.tick().await;
            }
            let frame = Frame::Request { id, request: Request::Status }.encode().ok()?;
            send.write_all(&frame).await.ok()?;
            self.acts.fetch_add(1, Ordering::Relaxed);
        }
        None
    }
}

async fn nonsense(connection: &Connection) -> Option<()> {
    let (mut send, _receive) = connection.open_bi().await.ok()?;
    send.write_all(&[0xa5; 1000]).await.ok()?;
    let _ = timeout(Duration::from_secs(5), connection.closed()).await;
    connection.close(0_u32.into(), b"");
    Some(())
}
