//! What a node must know before it starts.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::id::{ClusterName, NodeId, PeerName};
use crate::partition::controller::{self, SettingsError};
use crate::partition::metadata::FEATURE_LEVEL;
use crate::partition::replicas;
use crate::raft::{Flow, Timing};
use crate::swim;

/// The configuration of one node.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Config {
    /// Its id; the same as in its certificate.
    pub id: NodeId,
    /// Where others reach it.
    pub address: PeerName,
    /// The addresses of all other founding members; of a node that joins, those of some members.
    pub peers: BTreeSet<PeerName>,
    /// Elections and heartbeats.
    pub timing: Timing,
    /// What it accepts.
    pub limits: Limits,
    /// What it sends at a time while it leads.
    pub flow: Flow,
    /// Whether a node that joins is to decide as soon as it has caught up. One that is not stands by: an operator
    /// can promote it, and so does the leader when a voter was silent for [`Limits::replace_after`].
    pub votes: bool,
    /// How it gossips, if it does.
    pub gossip: Option<Gossip>,
    /// What it takes upon itself of partitions, if it does: all nodes of a cluster, or none.
    pub partitioning: Option<Partitioning>,
}

/// A node's part in partitioning.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Partitioning {
    /// Its share of the replicas, relative to the others', when it comes first; from 1.
    pub weight: u32,
    /// Its failure domain.
    pub rack: Option<String>,
    /// How patient it is while it leads.
    pub settings: controller::Settings,
    /// What its replicas take upon themselves.
    pub replicas: replicas::Settings,
    /// The feature level that it says it understands, at most [`FEATURE_LEVEL`]. With less it behaves as an earlier
    /// version would, to see what an upgrade does.
    pub features: u16,
}

impl Partitioning {
    /// Whether it makes sense.
    pub(super) fn validate(&self) -> Result<(), SettingsError> {
        if self.weight == 0 {
            return Err(SettingsError::Weightless);
        }
        self.settings.validate()
    }
}

impl Default for Partitioning {
    fn default() -> Partitioning {
        let (settings, replicas) = Default::default();
        Partitioning { weight: 1, rack: None, settings, replicas, features: FEATURE_LEVEL }
    }
}

/// How a node gossips: see [`swim`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Gossip {
    /// The name of the cluster; what another one's members say is dropped.
    pub cluster: ClusterName,
    /// Where other members reach it.
    pub address: SocketAddr,
    /// Members to begin with, and to heal with.
    pub seeds: BTreeSet<PeerName>,
    /// Its failure domain; 0 if there are none.
    pub zone: u16,
    /// How patient it is.
    pub timing: swim::Timing,
    /// The most bytes of one datagram, from 512.
    pub datagram_max: usize,
}

/// Bounds on what one node takes upon itself.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Limits {
    /// The most bytes of one command. Beyond it, a proposal is rejected as too large.
    pub command_bytes_max: usize,
    /// The most commands under way. Beyond it, a proposal is rejected as busy.
    pub proposals_max: usize,
    /// The most reads that wait. Beyond it, a read is rejected as busy.
    pub reads_max: usize,
    /// The most bytes of what they ask. Beyond it, a read is rejected as busy.
    pub reads_bytes_max: usize,
    /// After so many bytes of answers to reads, and at least one answer, a node sees to everything else before it goes
    /// on; from 1.
    pub answer_bytes_per_turn: usize,
    /// After so many applied entries the log is compacted.
    pub snapshot_entries: u64,
    /// After so many bytes of applied commands the log is compacted, or after twice the bytes of the last
    /// snapshot if those are more: writing the state down again and again must not cost more than the log.
    pub snapshot_bytes: u64,
    /// So many compacted entries stay in memory, for followers that are only a little behind.
    pub retained_entries: u64,
    /// The bytes of one part of a snapshot that is sent, from 1.
    pub snapshot_part_bytes: u64,
    /// The most bytes of a state that a leader may send. Beyond it, the node stays behind.
    pub snapshot_state_bytes_max: u64,
    /// The most bytes of committed entries in one reply. Beyond it, the reply holds fewer.
    pub entries_bytes_max: usize,
    /// A voter that was silent for so long is replaced by a standby, if there is one. Zero: never.
    pub replace_after: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            command_bytes_max: 1024 * 1024,
            proposals_max: 8192,
            reads_max: 8192,
            reads_bytes_max: 64 * 1024 * 1024,
            answer_bytes_per_turn: 1024 * 1024,
            snapshot_entries: 1_000_000,
            snapshot_bytes: 64 * 1024 * 1024,
            retained_entries: 10_000,
            snapshot_part_bytes: 256 * 1024,
            snapshot_state_bytes_max: 4 * 1024 * 1024 * 1024,
            entries_bytes_max: 4 * 1024 * 1024,
            replace_after: Duration::from_secs(15 * 60),
        }
    }
}
