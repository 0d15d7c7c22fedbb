//! Nodes on loopback, and what is asked of them.
#![expect(clippy::disallowed_types, reason = "a test over real sockets")]

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rivven_cluster::driver::Meter;
use rivven_cluster::id::PeerName;
use rivven_cluster::kv::KeyValue;
use rivven_cluster::node::{Caller, Gossip, Reply, Request, Status};
use rivven_cluster::quic::{
    Authority, Client, ClientConfig, ConnectionLimits, Credentials, DATAGRAM_MAX, Identity, Launch,
    LaunchError, Running, Seams,
};
use rivven_cluster::swim::Timing;
use tokio::time::{sleep, timeout};

use crate::support;

/// So far above the port of a node is the one it gossips on.
const GOSSIP_PORTS: u16 = 9_000;

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn authority() -> Authority {
    Authority::generate("test").expect("entropy")
}

pub fn issue(authority: &Authority, cluster: &str, caller: Caller) -> Credentials {
    let cluster = cluster.parse().expect("a sound name");
    authority.issue(Identity { caller, cluster }).expect("entropy")
}

/// Free ports on loopback, one a node. They lie below the range from which the system gives ports to
/// clients, so that nobody takes one while its node is restarted; no two tests get the same.
pub fn free_addresses(nodes: u64) -> BTreeMap<u64, PeerName> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + u16::try_from(std::process::id() % 8_000).expect("small");
    let mut ports = std::iter::from_fn(|| Some(first + NEXT.fetch_add(1, Ordering::Relaxed)))
        .filter(|port| UdpSocket::bind(("127.0.0.1", *port)).is_ok());
    (1..=nodes)
        .map(|id| {
            let port = ports.next().expect("there are always more");
            (id, format!("127.0.0.1:{port}").parse().expect("a sound name"))
        })
        .collect()
}

/// Nodes on loopback, each with its folder.
pub struct Nodes {
    pub addresses: BTreeMap<u64, PeerName>,
    pub folder: tempfile::TempDir,
    pub limits: ConnectionLimits,
    /// Whether they gossip, on the port above the one they listen on.
    pub gossip: bool,
}

impl Nodes {
    pub fn new(count: u64) -> Nodes {
        let (addresses, folder) = (free_addresses(count), tempfile::tempdir().expect("a folder"));
        Nodes { addresses, folder, limits: ConnectionLimits::default(), gossip: false }
    }

    pub fn launch(&self, id: u64, credentials: Credentials) -> Result<Running, LaunchError> {
        let mut config = support::config(id, 1);
        config.address = self.addresses[&id].clone();
        config.peers =
            self.addresses.iter().filter(|(other, _)| **other != id).map(|(_, name)| name.clone()).collect();
        if self.gossip {
            config.gossip = Some(self.gossip(id));
        }
        let bind: SocketAddr = config.address.as_str().parse().expect("an address");
        let data_dir = self.folder.path().join(format!("node-{id}"));
        Launch { limits: self.limits, ..Launch::new(config, bind, data_dir, credentials) }
            .start(KeyValue::default(), Meter::default())
    }

    /// Where a node listens.
    pub fn address(&self, id: u64) -> SocketAddr {
        self.addresses[&id].as_str().parse().expect("an address")
    }

    /// Where it gossips.
    pub fn gossip_address(&self, id: u64) -> SocketAddr {
        let mut address = self.address(id);
        address.set_port(address.port() + GOSSIP_PORTS);
        address
    }

    fn gossip(&self, id: u64) -> Gossip {
        let seed = |id: &u64| self.gossip_address(*id).to_string().parse().expect("a sound name");
        Gossip {
            cluster: "test".parse().expect("a sound name"),
            address: self.gossip_address(id),
            seeds: self.addresses.keys().filter(|other| **other != id).map(seed).collect(),
            zone: 0,
            timing: Timing::LAN,
            datagram_max: DATAGRAM_MAX,
        }
    }

    pub fn client(&self, credentials: &Credentials) -> Client {
        let addresses = self.addresses.values().cloned().collect();
        let config = ClientConfig { addresses, timeout: Duration::from_secs(10) };
        let seams = Seams::system("127.0.0.1:0".parse().expect("an address")).expect("a socket");
        Client::open(&seams, credentials, config).expect("sound credentials")
    }
}

pub async fn status(node: &Running) -> Status {
    match node.handle.request(Caller::Operator, Request::Status).await {
        Some(Reply::Status(status)) => *status,
        other => panic!("no status but {other:?}"),
    }
}

/// Waits until the node's status is as wanted.
pub async fn until(node: &Running, what: &str, mut wanted: impl FnMut(&Status) -> bool) -> Status {
    let wait = async {
        loop {
            let status = status(node).await;
            if wanted(&status) {
                return status;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}
