//! The shape of a run: how large, how fast, how loaded. Drawn from the seed, saved with the plan.
//!
//! Sizes are drawn small and odd on purpose ("swarm"): one node or seven, a limit of two commands at a
//! time, a disk slower than an election. What is rare in production is common here.

use core::net::SocketAddr;
use core::time::Duration;

use rivven_cluster::node::{Gossip, Limits, Partitioning};
use rivven_cluster::partition::controller::Settings;
use rivven_cluster::partition::metadata::{FEATURE_LEVEL, FEATURE_LEVEL_FIRST};
use rivven_cluster::partition::planner::steps;
use rivven_cluster::partition::replicas;
use rivven_cluster::raft::{Flow, Timing};
use rivven_cluster::rng::Stream;
use rivven_cluster::swim;
use serde::{Deserialize, Serialize};

/// So long after it was written no simulated producer sends a batch again, by any clock.
const RETRIES_WITHIN: Duration = Duration::from_secs(4);

/// What the disks of the pure world are.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Store {
    /// Batches, kept whole: the contract of a store, without its files.
    Batches,
    /// redb, on a simulated block device.
    Redb,
    /// The segment log, in a simulated folder.
    Segments,
}

/// The shape of a run. Times are in milliseconds unless their name says otherwise.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Shape {
    /// How many nodes, from 1.
    pub nodes: u64,
    /// So many of them, the last ones, are no founders: they join later, and know one address.
    #[serde(default)]
    pub newcomers: u64,
    /// After how long a silent voter is replaced by a newcomer that stands by; 0 is never.
    #[serde(default)]
    pub replace_after: u64,
    /// How often a node probes another one; 0 if the nodes do not gossip.
    #[serde(default)]
    pub gossip_period: u64,
    /// How often a node speaks to the leader for its part in partitions; 0 if they have none.
    #[serde(default)]
    pub beat_interval: u64,
    /// After how long away the replicas of a node go elsewhere; 0 is never.
    #[serde(default)]
    pub relieve_after: u64,
    /// When the nodes begin to be replaced, one after the other, by such of a later version; 0 if they are of that from
    /// the start.
    #[serde(default)]
    pub upgrade_at: u64,
    /// When one node goes back to the earlier version for a while; 0 is never.
    #[serde(default)]
    pub downgrade_at: u64,
    /// How many clients.
    pub clients: u64,
    /// The shortest election timeout.
    pub election_min: u64,
    /// The longest election timeout.
    pub election_max: u64,
    /// The heartbeat interval.
    pub heartbeat: u64,
    /// The most commands under way in one node.
    pub proposals_max: u64,
    /// The most bytes of entries in one append.
    pub append_bytes_max: u64,
    /// The most appends under way to one follower.
    pub appends_in_flight_max: u64,
    /// After how many applied entries a log is compacted.
    #[serde(default = "limits::snapshot_entries")]
    pub snapshot_entries: u64,
    /// How many compacted entries stay in memory.
    #[serde(default = "limits::retained_entries")]
    pub retained_entries: u64,
    /// The bytes of one part of a snapshot.
    #[serde(default = "limits::snapshot_part_bytes")]
    pub snapshot_part_bytes: u64,
    /// The shortest and the longest time that a client thinks before its next command.
    pub think: (u64, u64),
    /// How long a client waits for one command.
    pub patience: u64,
    /// How many keys all clients share.
    pub shared_keys: u64,
    /// The longest value, in bytes.
    pub value_bytes_max: u64,
    /// What a message takes, in microseconds, at least and less than.
    pub message_micros: (u64, u64),
    /// What a write takes, in microseconds, at least and less than.
    pub write_micros: (u64, u64),
    /// One write in so many is slow.
    pub slow_write_in: u64,
    /// How long a slow write takes at most.
    pub slow_write: u64,
    /// The disks.
    pub store: Store,
    /// All faults have ended by then, but for those of a minority.
    pub faults_until: u64,
    /// Then those have ended, too.
    pub quorum_until: u64,
    /// Clients start no command after that.
    pub work_until: u64,
    /// By then all nodes must have caught up.
    pub ends: u64,
}

/// Where nodes gossip, in both worlds.
pub const GOSSIP_PORT: u16 = 7946;

/// So many milliseconds after one node the next one is replaced by one of a later version.
const UPGRADE_INTERVAL: u64 = 1300;
/// So many milliseconds a node is of the earlier version again.
const DOWNGRADED: u64 = 3000;
/// The node that goes back.
const WHO_GOES_BACK: u64 = 1;

/// Neither world has room for more nodes.
pub const NODES_MAX: u64 = 8;

impl Shape {
    /// Draws a shape.
    pub fn draw(stream: &mut Stream) -> Shape {
        let election_min = stream.between(100, 300);
        let founders = *pick(stream, &[1, 2, 3, 3, 3, 3, 4, 5, 5, 5, 5, 6, 7, 7]);
        let newcomers = *pick(stream, &[0, 0, 0, 1, 1, 2]);
        let nodes = (founders + newcomers).min(NODES_MAX);
        let think_min = *pick(stream, &[0, 2, 10, 50]);
        let write_min = *pick(stream, &[50, 500, 1000]);
        let faults_until = stream.between(38_000, 44_000);
        let mut shape = Shape {
            nodes,
            newcomers: nodes - founders,
            replace_after: *pick(stream, &[0, 0, 4000]),
            gossip_period: 0,
            beat_interval: 0,
            relieve_after: 0,
            upgrade_at: 0,
            downgrade_at: 0,
            clients: stream.between(2, 6),
            election_min,
            election_max: election_min + stream.between(50, 300),
            heartbeat: stream.between(20, 51),
            proposals_max: *pick(stream, &[2, 8, 1000]),
            append_bytes_max: *pick(stream, &[1, 200, 512 * 1024]),
            appends_in_flight_max: *pick(stream, &[1, 4, 128]),
            snapshot_entries: *pick(stream, &[3, 30, 300, 100_000]),
            retained_entries: *pick(stream, &[0, 2, 100]),
            snapshot_part_bytes: *pick(stream, &[100, 1000, 256 * 1024]),
            think: (think_min, think_min + *pick(stream, &[20, 120, 400])),
            patience: stream.between(1200, 3000),
            shared_keys: stream.between(1, 6),
            value_bytes_max: *pick(stream, &[16, 64, 1000]),
            message_micros: (*pick(stream, &[50, 300, 1000]), *pick(stream, &[1500, 4000, 8000])),
            write_micros: (write_min, write_min + *pick(stream, &[100, 4000, 20_000])),
            slow_write_in: stream.between(2, 60),
            slow_write: *pick(stream, &[10, 100, 400]),
            store: *pick(
                stream,
                &[Store::Batches, Store::Batches, Store::Redb, Store::Segments, Store::Segments],
            ),
            faults_until,
            quorum_until: 0,
            work_until: 0,
            ends: 0,
        };
        if (shape.append_bytes_max, shape.appends_in_flight_max) == (1, 1) {
            // One entry a round trip: clients that do not think would outrun a follower for ever.
            shape.think = (400, 800);
        }
        // Each phase is long enough to be judged.
        let judged = stream.between(2000, 5000);
        shape.quorum_until = faults_until + shape.service_bound() + shape.patience + judged;
        shape.work_until = shape.quorum_until + shape.service_bound() + judged;
        shape.ends = shape.work_until + 15_000;
        shape.gossip_period = *pick(stream, &[0, 200, 1000]);
        shape.beat_interval = *pick(stream, &[0, 100, 300]);
        shape.relieve_after = *pick(stream, &[0, 3000]);
        shape.upgrade_at = *pick(stream, &[0, 0, 5000]);
        if shape.beat_interval > 0 && shape.upgrade_at > 0 {
            shape.downgrade_at = *pick(stream, &[0, 25_000]);
        }
        shape
    }

    /// Five calm nodes with heartbeats every 50 ms and two writes a second: what benchmarks measure.
    pub fn light(seconds: u64) -> Shape {
        let until = seconds * 1000;
        Shape {
            nodes: 5,
            newcomers: 0,
            replace_after: 0,
            gossip_period: 0,
            beat_interval: 0,
            relieve_after: 0,
            upgrade_at: 0,
            downgrade_at: 0,
            clients: 1,
            election_min: 150,
            election_max: 300,
            heartbeat: 50,
            proposals_max: 1000,
            append_bytes_max: 512 * 1024,
            appends_in_flight_max: 128,
            snapshot_entries: limits::snapshot_entries(),
            retained_entries: limits::retained_entries(),
            snapshot_part_bytes: limits::snapshot_part_bytes(),
            think: (490, 500),
            patience: 2000,
            shared_keys: 3,
            value_bytes_max: 64,
            message_micros: (1000, 4000),
            write_micros: (1000, 4000),
            slow_write_in: u64::MAX,
            slow_write: 10,
            store: Store::Batches,
            faults_until: until,
            quorum_until: until,
            work_until: until,
            ends: until + 20_000,
        }
    }

    /// The timing of its nodes.
    pub fn timing(&self) -> Timing {
        let millis = Duration::from_millis;
        Timing {
            election_timeout: millis(self.election_min)..millis(self.election_max),
            heartbeat_interval: millis(self.heartbeat),
        }
    }

    /// The limits of its nodes.
    pub fn limits(&self) -> Limits {
        Limits {
            proposals_max: size(self.proposals_max),
            snapshot_entries: self.snapshot_entries,
            retained_entries: self.retained_entries,
            snapshot_part_bytes: self.snapshot_part_bytes,
            replace_after: Duration::from_millis(self.replace_after),
            // Answers are short here: some have to wait for another turn.
            answer_bytes_per_turn: 200,
            ..Limits::default()
        }
    }

    /// How many of the nodes found the cluster.
    pub fn founders(&self) -> u64 {
        self.nodes - self.newcomers
    }

    /// When a node starts first, in milliseconds.
    pub fn arrives(&self, node: u64) -> u64 {
        if node <= self.founders() { 0 } else { 2000 + node * 3701 % 9000 }
    }

    /// The peers in the file of a node.
    pub fn peers(&self, node: u64) -> Vec<u64> {
        let founders = self.founders();
        if node > founders {
            return vec![node % founders + 1];
        }
        (1..=founders).filter(|peer| *peer != node).collect()
    }

    /// Whether a node is to decide, if it joins.
    pub fn votes(&self, node: u64) -> bool {
        node <= self.founders() || self.replace_after == 0 || node.is_multiple_of(2)
    }

    /// How a node gossips, if it does; others reach it at `address`.
    pub fn gossip(&self, node: u64, address: SocketAddr) -> Option<Gossip> {
        if self.gossip_period == 0 {
            return None;
        }
        let seed = |peer: u64| format!("node{peer}:{GOSSIP_PORT}").parse().expect("a sound name");
        let period = Duration::from_millis(self.gossip_period);
        let timing = swim::Timing {
            period,
            probe_timeout: period / 2,
            gossip_interval: period / 5,
            ..swim::Timing::LAN
        };
        Some(Gossip {
            cluster: "simulated".parse().expect("a sound name"),
            address,
            seeds: self.peers(node).into_iter().map(seed).collect(),
            zone: u16::try_from(node % 3).unwrap_or_default(),
            timing,
            datagram_max: 1100,
        })
    }

    /// When a node is replaced by one of the other version, by this plan.
    pub fn changes_version(&self) -> Vec<(u64, u64)> {
        let upgrades = (1..=self.nodes).map(|node| (self.upgraded(node), node));
        let upgrades = upgrades.filter(|_| self.upgrade_at > 0);
        let back = [self.downgrade_at, self.downgrade_at + DOWNGRADED].map(|at| (at, WHO_GOES_BACK));
        upgrades.chain(back.into_iter().filter(|_| self.downgrade_at > 0)).collect()
    }

    fn upgraded(&self, node: u64) -> u64 {
        self.upgrade_at + UPGRADE_INTERVAL * node
    }

    /// The feature level that a node understands which is started at that time, in milliseconds.
    pub fn features(&self, node: u64, at: u64) -> u16 {
        let goes_back = (self.downgrade_at..self.downgrade_at + DOWNGRADED).contains(&at);
        let is_old = self.upgrade_at > 0 && at < self.upgraded(node);
        let is_back = self.downgrade_at > 0 && node == WHO_GOES_BACK && goes_back;
        if is_old || is_back { FEATURE_LEVEL_FIRST } else { FEATURE_LEVEL }
    }

    /// A node's part in partitions, if it has one; it understands features up to this level.
    pub fn partitioning(&self, node: u64, features: u16) -> Option<Partitioning> {
        let beat_interval = Duration::from_millis(self.beat_interval);
        let settings = Settings {
            beat_interval,
            fence_delay: beat_interval * 3,
            silence_max: beat_interval * 8,
            unfence_hold: beat_interval * 2,
            unfence_hold_max: beat_interval * 10,
            calm: beat_interval * 30,
            replace_after: Duration::from_millis(self.relieve_after),
            plan_patience: beat_interval * 15,
            limits: steps::Limits { per_node: 1, total: 3 },
        };
        let rack = Some(format!("rack{}", node % 3));
        (self.beat_interval > 0).then_some(Partitioning {
            weight: 1,
            rack,
            settings,
            replicas: replicas::Settings { retries_within: RETRIES_WITHIN, ..replicas::Settings::default() },
            features,
        })
    }

    /// What its leaders send at a time.
    pub fn flow(&self) -> Flow {
        let appends_in_flight_max = size(self.appends_in_flight_max);
        Flow { append_bytes_max: self.append_bytes_max, appends_in_flight_max, ..Flow::default() }
    }

    /// Within how many milliseconds of a heal the cluster must answer again.
    pub fn service_bound(&self) -> u64 {
        // A process that pauses or restarts takes up to a second, a split vote a few timeouts, a client
        // its patience for an answer that never comes, and then once more to find the leader.
        2000 + 6 * self.election_max + 2 * self.patience
    }
}

/// What a plan of before there were snapshots leaves out.
mod limits {
    pub(super) fn snapshot_entries() -> u64 {
        100_000
    }

    pub(super) fn retained_entries() -> u64 {
        10_000
    }

    pub(super) fn snapshot_part_bytes() -> u64 {
        256 * 1024
    }
}

fn size(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn pick<'a, T>(stream: &mut Stream, values: &'a [T]) -> &'a T {
    let length = u64::try_from(values.len()).unwrap_or(u64::MAX);
    &values[usize::try_from(stream.below(length)).unwrap_or_default()]
}
