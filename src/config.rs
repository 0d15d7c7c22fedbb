//! The YAML file of a node.
//!
//! ```yaml
//! cluster:
//!   node_id: 1                      # 1 or more; the same as in the certificate
//!   name: "demo"                    # default: what the certificate says
//!   bind_address: "0.0.0.0:9093"    # where this node listens, for nodes and clients
//!   advertise_address: "node1:9093" # what others dial; default: bind_address, unless that is a wildcard
//!   data_dir: "/var/lib/rivven"     # no default
//!   rack: "r1"                      # optional; members that gossip prefer helpers of other racks
//!   tls:                            # no default; `rivven-cluster certs` makes the files
//!     ca: "ca.pem"
//!     cert: "node-1.pem"
//!     key: "node-1.key"
//!   metrics_address: "127.0.0.1:9100" # default: none; where Prometheus reads what is counted, in plain HTTP
//!   raft:
//!     peers: ["node2:9093", "node3:9093"] # all other founders; of a node that joins, some members
//!     election_timeout_min_ms: 150  # default
//!     election_timeout_max_ms: 300  # default
//!     heartbeat_interval_ms: 50     # default
//!     snapshot_entries: 1000000     # default; the log is compacted after so many entries,
//!     snapshot_bytes: 67108864      # default; or after so many bytes of commands (twice the state if that is more)
//!     learner: false                # default; a node that joins with `true` decides nothing until it is promoted
//!     replace_after_s: 900          # default; a voter silent for so long is replaced by a learner; 0: never
//!   gossip:                         # without this section the node does not gossip
//!     bind_port: 7946               # default; on the IP address of bind_address, at the host of advertise_address
//!     known_peers: ["node2:7946"]   # default: the hosts of raft.peers, at bind_port
//!     protocol_period_ms: 1000      # default; from 10
//!     suspect_timeout_ms: 5000      # default: 0, which lets it follow from the number of members
//!   partitioning:                   # without this section the node holds no partitions; all nodes have it, or none
//!     virtual_nodes: 128            # default; points of a node on the ring
//!     replication_factor: 3         # default; replicas of each partition of a new topic
//!     min_in_sync: 2                # default: a majority of them
//!     weight: 1                     # default; the node's share of the replicas, when it comes first
//!     fence_delay_ms: 3000          # default; so long a node is silent that the members hold dead until others lead
//!     silence_max_ms: 10000         # default; so long a node is silent, whatever the members hold of it, until then
//!     unfence_hold_ms: 2000         # default; so long a node that is back speaks first; doubled each time
//!     replace_after_s: 900          # default; after so long away a node's replicas go elsewhere; 0: never
//!     replica_lag_max_ms: 10000     # default; who has not had everything for so long is put out of sync
//!     fetch_wait_max_ms: 500        # default; a follower that was not answered asks again after so long
//!     moves_per_node: 2             # default; replicas that are copied to, or from, one node at a time
//!     moves_total: 64               # default; in the whole cluster
//!   limits:                         # what the node takes upon itself for others; beyond it they wait or are refused
//!     connections_max: 1024         # default; at one time
//!     client_connections_max: 768   # default, or three quarters of connections_max if less; of one address, never more than are left free; for nodes and operators is the rest
//!     handshakes_max: 64            # default; at one time
//!     requests_per_stream_max: 1024 # default; under way on one stream
//!     requests_max: 8192            # default; under way; of one address, never more than are left free
//!     callers_bytes_max: 268435456  # default; of requests and answers under way, of all callers; of one address, never more than are left free; from 34603008
//!     frame_timeout_ms: 30000       # default; for a frame, from its first byte to its last, and to take an answer
//!     command_bytes_max: 1048576    # default; of one command; up to 4194304, and the same on all nodes
//!     proposals_max: 8192           # default; commands under way
//!     reads_max: 8192               # default; reads that wait
//!     reads_bytes_max: 67108864     # default; of what they ask
//!   recorder:                       # what the node was told last, written to data_dir/flights when it fails
//!     enabled: true                 # default
//!     memory_bytes: 33554432        # default; of what the node was told and said; from 1048576
//!     payloads: "hashed"            # default; or "whole", which writes what users wrote
//! ```
//!
//! Relative paths are relative to the folder of the file. Whatever is wrong is said with the path of
//! the key, its line and what would be right; nothing is started on half a configuration.

mod limits;
mod partitioning;
mod recorder;

use core::fmt;
use core::time::Duration;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

use crate::id::{ClusterName, NodeId, PeerName};
use crate::node::Limits;
use crate::quic::ConnectionLimits;
use crate::raft::Timing;
use crate::swim;

pub use self::partitioning::PartitioningSettings;
pub use self::recorder::RecorderSettings;

/// A file that was read and found to make sense as far as it goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// This node's id.
    pub node_id: NodeId,
    /// The name of the cluster, if the file gives one.
    pub name: Option<ClusterName>,
    /// Where this node listens.
    pub bind_address: SocketAddr,
    /// What others dial, if it is known.
    pub advertise_address: Option<PeerName>,
    /// Where data is kept.
    pub data_dir: Option<PathBuf>,
    /// Where the node stands.
    pub rack: Option<String>,
    /// What the node proves itself with.
    pub tls: Option<TlsPaths>,
    /// The other founding members.
    pub peers: BTreeSet<PeerName>,
    /// Elections and heartbeats.
    pub timing: Timing,
    /// What the node takes upon itself.
    pub limits: Limits,
    /// What it takes upon itself for those who connect to it.
    pub connections: ConnectionLimits,
    /// Where what it counts can be read, if anywhere.
    pub metrics_address: Option<SocketAddr>,
    /// Whether the node is to decide, if it joins a cluster.
    pub votes: bool,
    /// How it gossips, if it does.
    pub gossip: Option<GossipSettings>,
    /// What it takes upon itself of partitions, if it does.
    pub partitioning: Option<PartitioningSettings>,
    /// How it is recorded, if it is.
    pub recorder: Option<RecorderSettings>,
}

/// What a file says of gossip.
#[derive(Clone, Debug, PartialEq)]
pub struct GossipSettings {
    /// Where it listens, and what others dial.
    pub bind_port: u16,
    /// Members to begin with.
    pub known_peers: BTreeSet<PeerName>,
    /// How patient it is.
    pub timing: swim::Timing,
    /// The number of the rack, as far as gossip tells racks apart; 0 if none is given.
    pub zone: u16,
}

/// Settings from which a node can be started.
#[derive(Clone, Debug, PartialEq)]
pub struct Runnable {
    /// What others dial.
    pub advertise_address: PeerName,
    /// Where data is kept.
    pub data_dir: PathBuf,
    /// What the node proves itself with.
    pub tls: TlsPaths,
}

/// PEM files.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct TlsPaths {
    /// The authority of the cluster.
    pub ca: PathBuf,
    /// The node's certificate.
    pub cert: PathBuf,
    /// The node's private key.
    pub key: PathBuf,
}

/// What is wrong with a file. Nothing was started.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub struct ConfigError {
    /// The path of the key, such as `cluster.raft.peers`.
    pub key: String,
    /// The line it stands on, counted from 1, if it stands anywhere.
    pub line: Option<u64>,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}, {}: {}", self.key, self.problem),
            None => write!(f, "{}: {}", self.key, self.problem),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    cluster: Cluster,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cluster {
    node_id: Spanned<u64>,
    name: Option<Spanned<String>>,
    bind_address: Spanned<String>,
    advertise_address: Option<Spanned<String>>,
    data_dir: Option<PathBuf>,
    rack: Option<String>,
    tls: Option<TlsPaths>,
    metrics_address: Option<Spanned<String>>,
    #[serde(default)]
    raft: Raft,
    #[serde(default)]
    limits: limits::Given,
    gossip: Option<Gossip>,
    partitioning: Option<partitioning::Given>,
    #[serde(default)]
    recorder: recorder::Given,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raft {
    #[serde(default)]
    peers: Vec<Spanned<String>>,
    election_timeout_min_ms: Option<Spanned<u64>>,
    election_timeout_max_ms: Option<Spanned<u64>>,
    heartbeat_interval_ms: Option<Spanned<u64>>,
    snapshot_entries: Option<Spanned<u64>>,
    snapshot_bytes: Option<Spanned<u64>>,
    #[serde(default)]
    learner: bool,
    replace_after_s: Option<Spanned<u64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Gossip {
    bind_port: Option<Spanned<u16>>,
    #[serde(default)]
    known_peers: Vec<Spanned<String>>,
    protocol_period_ms: Option<Spanned<u64>>,
    suspect_timeout_ms: Option<Spanned<u64>>,
}

impl Settings {
    /// Reads the text of a file; relative paths in it are relative to `folder`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the first thing that is wrong.
    pub fn parse(text: &str, folder: &Path) -> Result<Settings, ConfigError> {
        let cluster = read(text)?.cluster;
        let timing = timing(&cluster.raft)?;
        let limits = limits::of_requests(&cluster.limits, raft_limits(&cluster.raft)?)?;
        let connections = limits::of_connections(&cluster.limits)?;
        let metrics_address = cluster.metrics_address.as_ref();
        let metrics_address =
            metrics_address.map(|given| listening("cluster.metrics_address", given)).transpose()?;
        let partitioning = cluster.partitioning.as_ref();
        let partitioning =
            partitioning.map(|given| partitioning::read(given, cluster.rack.as_deref())).transpose()?;
        let recorder = recorder::read(&cluster.recorder)?;
        let node_id = NodeId::new(cluster.node_id.value)
            .ok_or_else(|| wrong("cluster.node_id", &cluster.node_id, "0 is no node id: ids count from 1"))?;
        let name = cluster.name.as_ref().map(|name| parsed("cluster.name", name)).transpose()?;
        let bind_address = listening("cluster.bind_address", &cluster.bind_address)?;
        let advertise_address = advertise_address(&cluster, bind_address)?;
        let peers = peers(&cluster.raft, advertise_address.as_ref())?;
        let gossip = gossip(&cluster, bind_address)?;
        let tls = cluster.tls.map(|tls| TlsPaths {
            ca: folder.join(tls.ca),
            cert: folder.join(tls.cert),
            key: folder.join(tls.key),
        });
        let data_dir = cluster.data_dir.map(|data_dir| folder.join(data_dir));
        let rack = cluster.rack;
        Ok(Settings {
            node_id,
            name,
            bind_address,
            advertise_address,
            data_dir,
            rack,
            tls,
            peers,
            timing,
            limits,
            connections,
            metrics_address,
            votes: !cluster.raft.learner,
            gossip,
            partitioning,
            recorder,
        })
    }

    /// Takes out what a node cannot be started without.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the first thing that is missing.
    pub fn runnable(&self) -> Result<Runnable, ConfigError> {
        let missing = |key: &str, problem: &str| ConfigError {
            key: key.to_owned(),
            line: None,
            problem: format!("missing, and there is no safe default: {problem}"),
        };
        let advertise_address = self.advertise_address.clone().ok_or_else(|| {
            let problem = "bind_address is a wildcard, so write the host:port that others dial";
            missing("cluster.advertise_address", problem)
        })?;
        let data_dir = self.data_dir.clone();
        let data_dir =
            data_dir.ok_or_else(|| missing("cluster.data_dir", "write the folder for this node's data"))?;
        let tls = self.tls.clone();
        let problem = "write the PEM files ca, cert and key; `rivven-cluster certs` makes them";
        let tls = tls.ok_or_else(|| missing("cluster.tls", problem))?;
        Ok(Runnable { advertise_address, data_dir, tls })
    }
}

/// Reads the YAML, and turns an error of the parser into one that names key and line.
fn read(text: &str) -> Result<File, ConfigError> {
    let mut path = None;
    let file = serde_saphyr::with_deserializer_from_str(text, |deserializer| {
        serde_path_to_error::deserialize(deserializer).map_err(|error| {
            path = Some(error.path().to_string());
            error.into_inner()
        })
    });
    file.map_err(|error| {
        let error = error.without_snippet();
        let path = path.filter(|path| path != ".");
        let key = path.map_or("the file".to_owned(), |path| path.trim_end_matches(".value").to_owned());
        let line = error.location().map(|location| location.line());
        ConfigError { key, line, problem: explain(&error.to_string(), text, line) }
    })
}

/// Says what the parser said in the words of whoever wrote the file.
fn explain(error: &str, text: &str, line: Option<u64>) -> String {
    let what = error.lines().next().unwrap_or_default();
    let what = what.rsplit_once(" at line ").map_or(what, |(what, _)| what);
    let what = match what {
        "invalid u64" | "invalid u16" => "expected a whole number, 0 or more",
        other => other,
    };
    let number = line.and_then(|line| usize::try_from(line).ok()).unwrap_or(0);
    match number.checked_sub(1).and_then(|number| text.lines().nth(number)) {
        Some(source) => format!("{what}; the line reads {:?}", source.trim()),
        None => what.to_owned(),
    }
}

fn timing(raft: &Raft) -> Result<Timing, ConfigError> {
    let default = Timing::default();
    let millis = |given: &Option<Spanned<u64>>, default: Duration| {
        given.as_ref().map_or(default, |given| Duration::from_millis(given.value))
    };
    let shortest = millis(&raft.election_timeout_min_ms, default.election_timeout.start);
    let longest = millis(&raft.election_timeout_max_ms, default.election_timeout.end);
    let heartbeat_interval = millis(&raft.heartbeat_interval_ms, default.heartbeat_interval);
    let timing = Timing { election_timeout: shortest..longest, heartbeat_interval };
    timing.validate().map_err(|error| {
        let given = [
            ("cluster.raft.election_timeout_min_ms", &raft.election_timeout_min_ms),
            ("cluster.raft.election_timeout_max_ms", &raft.election_timeout_max_ms),
            ("cluster.raft.heartbeat_interval_ms", &raft.heartbeat_interval_ms),
        ];
        let culprit = match error {
            crate::raft::TimingError::HeartbeatTooShort(_) => 2,
            crate::raft::TimingError::TooLong(_) => 1,
            crate::raft::TimingError::EmptyRange(_) | crate::raft::TimingError::TooFewHeartbeats { .. } => 0,
        };
        // The key at fault may stand at its default; then the line is that of one that does not.
        let line = given[culprit].1.as_ref().or(given.iter().find_map(|(_, value)| value.as_ref()));
        let line = line.and_then(|value| line_of(value.referenced));
        ConfigError { key: given[culprit].0.to_owned(), line, problem: error.to_string() }
    })?;
    Ok(timing)
}

fn raft_limits(raft: &Raft) -> Result<Limits, ConfigError> {
    positive("cluster.raft.snapshot_entries", raft.snapshot_entries.as_ref())?;
    positive("cluster.raft.snapshot_bytes", raft.snapshot_bytes.as_ref())?;
    let default = Limits::default();
    let given = |value: &Option<Spanned<u64>>, default| value.as_ref().map_or(default, |value| value.value);
    Ok(Limits {
        snapshot_entries: given(&raft.snapshot_entries, default.snapshot_entries),
        snapshot_bytes: given(&raft.snapshot_bytes, default.snapshot_bytes),
        replace_after: Duration::from_secs(given(&raft.replace_after_s, default.replace_after.as_secs())),
        ..default
    })
}

/// The port that gossip uses if nothing else is said.
const GOSSIP_PORT: u16 = 7946;

fn gossip(cluster: &Cluster, bind: SocketAddr) -> Result<Option<GossipSettings>, ConfigError> {
    let Some(given) = &cluster.gossip else { return Ok(None) };
    let bind_port = given.bind_port.as_ref().map_or(GOSSIP_PORT, |port| port.value);
    if let Some(port) = given.bind_port.as_ref().filter(|port| port.value == 0) {
        return Err(wrong("cluster.gossip.bind_port", port, "0 is no port: use 1 to 65535"));
    }
    if bind_port == bind.port() {
        let key = "cluster.gossip.bind_port";
        let problem = "this is the port of bind_address: gossip needs another one".to_owned();
        let line = given.bind_port.as_ref().and_then(|port| line_of(port.referenced));
        return Err(ConfigError { key: key.to_owned(), line, problem });
    }
    let zone = cluster.rack.as_deref().map_or(0, zone_of);
    let (known_peers, timing) = (known_peers(cluster, given, bind_port)?, gossip_timing(given)?);
    Ok(Some(GossipSettings { bind_port, known_peers, timing, zone }))
}

fn known_peers(cluster: &Cluster, gossip: &Gossip, port: u16) -> Result<BTreeSet<PeerName>, ConfigError> {
    let key = |number: usize| format!("cluster.gossip.known_peers[{number}]");
    let given = gossip.known_peers.iter().enumerate();
    let mut peers: BTreeSet<PeerName> =
        given.map(|(number, peer)| parsed(&key(number), peer)).collect::<Result<_, _>>()?;
    if peers.is_empty() {
        let hosts = cluster.raft.peers.iter().filter_map(|peer| Some(peer.value.rsplit_once(':')?.0));
        peers.extend(hosts.filter_map(|host| format!("{host}:{port}").parse().ok()));
    }
    Ok(peers)
}

fn gossip_timing(gossip: &Gossip) -> Result<swim::Timing, ConfigError> {
    let default = swim::Timing::LAN;
    let given = gossip.protocol_period_ms.as_ref();
    let period = given.map_or(default.period, |given| Duration::from_millis(given.value));
    let suspicion = gossip.suspect_timeout_ms.as_ref().map(|given| Duration::from_millis(given.value));
    let timing = swim::Timing {
        period,
        probe_timeout: default.probe_timeout.min(period / 2),
        suspicion_min: suspicion.filter(|suspicion| !suspicion.is_zero()),
        ..default
    };
    timing.validate().map_err(|error| ConfigError {
        key: "cluster.gossip.protocol_period_ms".to_owned(),
        line: given.and_then(|given| line_of(given.referenced)),
        problem: error.to_string(),
    })?;
    Ok(timing)
}

/// Gossip numbers racks; two of the same number are taken for one, which costs it nothing but variety.
fn zone_of(rack: &str) -> u16 {
    let hash = xxhash_rust::xxh3::xxh3_64(rack.as_bytes());
    u16::try_from(hash % 65_535 + 1).expect("at most 65535")
}

fn positive(key: &str, value: Option<&Spanned<u64>>) -> Result<(), ConfigError> {
    match value {
        Some(value) if value.value == 0 => Err(wrong(key, value, "0 makes no sense: use 1 or more")),
        Some(_) | None => Ok(()),
    }
}

fn listening(key: &str, given: &Spanned<String>) -> Result<SocketAddr, ConfigError> {
    let problem =
        format!("{:?} is no address to listen on: write IP:port, such as 0.0.0.0:9093", given.value);
    let address: SocketAddr = given.value.parse().map_err(|_| wrong(key, given, &problem))?;
    if address.port() == 0 {
        return Err(wrong(key, given, "port 0 cannot be dialled by others: use 1 to 65535"));
    }
    Ok(address)
}

fn advertise_address(cluster: &Cluster, bind: SocketAddr) -> Result<Option<PeerName>, ConfigError> {
    match &cluster.advertise_address {
        Some(given) => parsed("cluster.advertise_address", given).map(Some),
        None if bind.ip().is_unspecified() => Ok(None),
        None => Ok(bind.to_string().parse().ok()),
    }
}

fn peers(raft: &Raft, own: Option<&PeerName>) -> Result<BTreeSet<PeerName>, ConfigError> {
    let mut peers = BTreeSet::new();
    for (number, given) in raft.peers.iter().enumerate() {
        let key = format!("cluster.raft.peers[{number}]");
        let peer: PeerName = parsed(&key, given)?;
        if own == Some(&peer) {
            return Err(wrong(&key, given, "this is the node itself: list the other nodes only"));
        }
        if !peers.insert(peer) {
            return Err(wrong(&key, given, "this peer is listed twice: list each once"));
        }
    }
    Ok(peers)
}

fn parsed<T: core::str::FromStr<Err = crate::id::NameError>>(
    key: &str,
    given: &Spanned<String>,
) -> Result<T, ConfigError> {
    given.value.parse().map_err(|error: crate::id::NameError| wrong(key, given, &error.to_string()))
}

fn wrong<T>(key: &str, given: &Spanned<T>, problem: &str) -> ConfigError {
    ConfigError { key: key.to_owned(), line: line_of(given.referenced), problem: problem.to_owned() }
}

fn line_of(location: Location) -> Option<u64> {
    Some(location.line()).filter(|line| *line > 0)
}

#[cfg(test)]
mod tests;
