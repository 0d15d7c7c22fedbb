//! The stage: the world of replicas, with acts instead of draws.

use core::time::Duration;
use std::collections::BTreeMap;

use rivven_cluster::id::{NodeEpoch, NodeId, PartitionId};
use rivven_cluster::partition::metadata::{Command, Election, FenceReason, Partition};
use rivven_cluster::partition::replica::io::{Acks, ProduceError};
use rivven_cluster::partition::replica::{Replica, Stats};

pub(super) use super::super::world::Packet;
use super::super::world::{SETTINGS, World};

/// A lag is put out of sync after so long.
pub(super) const LAG: Duration = SETTINGS.lag_max;
/// How long a producer waits at most.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Whatever can move has moved after so many rounds.
const ROUNDS: usize = 12;

/// What became of a write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// It waits.
    Open,
    /// It was acknowledged.
    Written,
    /// It was not written.
    Refused,
    /// Nobody knows.
    Ambiguous,
}

/// The world of replicas, with acts instead of draws. Nodes count from 1.
pub struct Stage {
    world: World,
    /// Who does not hear the metadata.
    deaf: Vec<u64>,
    /// Pairs that do not hear each other.
    cut: Vec<(u64, u64)>,
    fates: BTreeMap<u64, Fate>,
}

fn seat(node: u64) -> usize {
    usize::try_from(node - 1).expect("a node")
}

pub(super) fn id(node: u64) -> NodeId {
    NodeId::new(node).expect("a node")
}

impl Stage {
    pub(super) fn new(narrates: bool) -> Stage {
        let world = World::scripted(narrates);
        let mut stage = Stage { world, deaf: Vec::new(), cut: Vec::new(), fates: BTreeMap::new() };
        stage.flow();
        stage
    }

    /// Peace comes, and everything must be whole.
    pub(super) fn end(mut self) {
        self.world.heal();
    }

    pub(super) fn partition(&self) -> PartitionId {
        self.world.partition
    }

    pub(super) fn record(&self) -> &Partition {
        self.world.record()
    }

    pub(super) fn in_sync(&self) -> Vec<u64> {
        let mut nodes: Vec<u64> = self.record().in_sync.iter().map(|node| node.value()).collect();
        nodes.sort_unstable();
        nodes
    }

    pub(super) fn leader(&self) -> Option<u64> {
        self.record().leader.map(NodeId::value)
    }

    pub(super) fn replica(&self, node: u64) -> &Replica {
        self.world.hosts[seat(node)].replica.as_ref().expect("it has a replica")
    }

    pub(super) fn has_replica(&self, node: u64) -> bool {
        self.world.hosts[seat(node)].replica.is_some()
    }

    pub(super) fn stats(&self, node: u64) -> Stats {
        *self.replica(node).stats()
    }

    pub(super) fn committed(&self, node: u64) -> u64 {
        self.replica(node).high_watermark().value()
    }

    pub(super) fn end_of(&self, node: u64) -> u64 {
        self.world.hosts[seat(node)].log.end()
    }

    /// What the records of a node say, from its log's first on.
    pub(super) fn values(&self, node: u64) -> Vec<u64> {
        self.world.hosts[seat(node)].log.records.iter().map(|record| record.1).collect()
    }

    pub(super) fn order(&mut self, command: Command) -> bool {
        self.world.order(command).is_ok()
    }

    /// A command about the partition, as it is.
    pub(super) fn elect(&mut self, node: u64) {
        let (partition, epoch) = (self.world.partition, self.record().epoch);
        let election = Election::Designated(id(node));
        assert!(self.order(Command::ElectLeader { partition, epoch, election }), "{node} can be elected");
    }

    pub(super) fn move_to(&mut self, nodes: &[u64]) {
        let (partition, epoch) = (self.world.partition, self.record().epoch);
        let target = nodes.iter().map(|node| id(*node)).collect();
        assert!(self.order(Command::StartReassignment { partition, epoch, target }), "it moves");
    }

    pub(super) fn take_back_move(&mut self) {
        let (partition, epoch) = (self.world.partition, self.record().epoch);
        assert!(self.order(Command::CancelReassignment { partition, epoch }), "it is taken back");
    }

    pub(super) fn needs_in_sync(&mut self, min_in_sync: u16) {
        let topic = self.world.partition.topic;
        let version = self.world.metadata.topic(topic).expect("the topic stays").version;
        let (min_in_sync, recovery, retention) = (Some(min_in_sync), None, None);
        let command = Command::ConfigureTopic { topic, version, min_in_sync, recovery, retention };
        assert!(self.order(command), "it is configured");
    }

    pub(super) fn shut_down(&mut self, node: u64) {
        let record = self.world.metadata.node(id(node)).expect("it is registered");
        let (epoch, seen) = (record.epoch, record.changed);
        assert!(self.order(Command::BeginShutdown { node: id(node), epoch, seen }), "it may stop");
    }

    pub(super) fn fence(&mut self, node: u64) {
        self.world.fence(seat(node), FenceReason::Dead);
    }

    pub(super) fn unfence(&mut self, node: u64) {
        self.world.unfence(seat(node));
    }

    pub(super) fn session(&self, node: u64) -> NodeEpoch {
        self.world.metadata.node(id(node)).expect("it is registered").epoch
    }

    /// The process ends; what its disk has stays.
    pub(super) fn crash(&mut self, node: u64) {
        self.world.hosts[seat(node)].syncing = None;
        self.world.crash(seat(node));
        self.world.check();
    }

    /// Another disk is there, with so many of the records.
    pub(super) fn lose_disk(&mut self, node: u64, left: u64) {
        self.world.lose_disk_but(seat(node), left);
    }

    /// The process is started again, and registers.
    pub(super) fn restart(&mut self, node: u64) {
        self.world.come_back(seat(node));
        self.world.come_back(seat(node));
        self.world.unfence(seat(node));
        self.world.check();
    }

    /// Somebody does not hear what the metadata says any more.
    pub(super) fn deafen(&mut self, node: u64) {
        self.deaf.push(node);
    }

    pub(super) fn can_hear(&mut self, node: u64) {
        self.deaf.retain(|deaf| *deaf != node);
    }

    /// Two nodes do not reach each other any more.
    pub(super) fn cut(&mut self, one: u64, other: u64) {
        self.cut.extend([(one, other), (other, one)]);
    }

    pub(super) fn join(&mut self) {
        self.cut.clear();
    }

    /// A producer writes a record. Returns its number.
    pub(super) fn write_with(&mut self, node: u64, acks: Acks) -> u64 {
        self.world.produce(seat(node), acks, 1, PATIENCE);
        let value = self.world.values;
        self.note_fates();
        self.world.check();
        value
    }

    /// The same, to be acknowledged by all.
    pub(super) fn write(&mut self, node: u64) -> u64 {
        self.write_with(node, Acks::All)
    }

    /// What became of it.
    pub(super) fn fate(&mut self, value: u64) -> Fate {
        self.note_fates();
        self.fates.get(&value).copied().unwrap_or(Fate::Open)
    }

    fn note_fates(&mut self) {
        for (request, result) in core::mem::take(&mut self.world.answers) {
            let fate = match result {
                Ok(_) => Fate::Written,
                Err(ProduceError::NotLeader { .. } | ProduceError::NotEnoughReplicas { .. }) => Fate::Refused,
                Err(_) => Fate::Ambiguous,
            };
            self.fates.insert(request.value(), fate);
        }
    }

    /// A node's disk has everything that its log has.
    pub(super) fn sync(&mut self, node: u64) {
        self.world.sync(seat(node));
        self.world.sync(seat(node));
        self.world.check();
    }

    /// A node asks its leader.
    pub(super) fn fetch(&mut self, node: u64) {
        self.world.fetch(seat(node));
    }

    /// A node hears all of the metadata.
    pub(super) fn hear(&mut self, node: u64) {
        let last = self.world.history.len() - 1;
        self.world.observe(seat(node), last);
        self.world.check();
    }

    /// Takes what is on its way, and is like that, off the wire.
    pub(super) fn intercept(&mut self, is_meant: impl Fn(&Packet) -> bool) -> Vec<Packet> {
        let wire = core::mem::take(&mut self.world.wire);
        let (taken, left) = wire.into_iter().partition(is_meant);
        self.world.wire = left;
        taken
    }

    /// Something arrives.
    pub(super) fn arrive(&mut self, packet: Packet) {
        self.world.deliver(packet);
        self.world.check();
    }

    /// All that is on its way arrives, as far as there is a way, and what that leads to.
    pub(super) fn arrive_all(&mut self) {
        self.arrive_all_but(|_| false);
    }

    /// The same, except for what is like that, which is returned.
    pub(super) fn arrive_all_but(&mut self, is_held: impl Fn(&Packet) -> bool) -> Vec<Packet> {
        let mut held = Vec::new();
        while !self.world.wire.is_empty() {
            let packet = self.world.wire.remove(0);
            if is_held(&packet) {
                held.push(packet);
            } else if self.has_way(&packet) {
                self.arrive(packet);
            }
        }
        held
    }

    fn has_way(&self, packet: &Packet) -> bool {
        let node = |seat: usize| self.world.hosts[seat].node.value();
        match packet {
            Packet::Fetch { from, to, .. } => !self.cut.contains(&(node(*from), node(*to))),
            Packet::Fetched { to, fetched, .. } => {
                // Who has answered is whoever led in that epoch.
                let leader = self.world.leaders.get(&fetched.fetch.leader_epoch);
                leader.is_none_or(|leader| !self.cut.contains(&(leader.value(), node(*to))))
            }
            Packet::Alter(alteration) => !self.deaf.contains(&alteration.leader.value()),
            Packet::Refused { to, .. } => !self.deaf.contains(&node(*to)),
        }
    }

    /// Everybody does what it can, as often as it takes, except whoever is named.
    pub(super) fn flow_without(&mut self, idle: &[u64]) {
        for _ in 0..ROUNDS {
            let seats = 0..self.world.hosts.len();
            let nodes = seats.map(|seat| self.world.hosts[seat].node.value());
            let busy: Vec<u64> = nodes.filter(|node| !idle.contains(node)).collect();
            for node in busy {
                if !self.deaf.contains(&node) {
                    self.hear(node);
                }
                self.sync(node);
                self.fetch(node);
            }
            self.arrive_all();
        }
        self.note_fates();
    }

    pub(super) fn flow(&mut self) {
        self.flow_without(&[]);
    }

    /// Time passes, in which everybody but some do what they can.
    pub(super) fn pass_without(&mut self, time: Duration, idle: &[u64]) {
        const STEP: Duration = Duration::from_millis(50);
        let mut left = time;
        while !left.is_zero() {
            self.world.pass_time(STEP);
            self.flow_without(idle);
            left = left.saturating_sub(STEP);
        }
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.pass_without(time, &[]);
    }

    /// So much time passes at once.
    pub(super) fn jump(&mut self, time: Duration) {
        self.world.pass_time(time);
        self.world.check();
    }

    /// A leader drops what is before that.
    pub(super) fn trim(&mut self, node: u64, start: u64) {
        self.world.trim_to(seat(node), start);
        self.world.check();
    }

    /// Where a node's log begins.
    pub(super) fn start_of(&self, node: u64) -> u64 {
        self.world.hosts[seat(node)].log.start
    }

    pub(super) fn is_proposal(packet: &Packet) -> bool {
        matches!(packet, Packet::Alter(_))
    }

    pub(super) fn is_answer(packet: &Packet) -> bool {
        matches!(packet, Packet::Fetched { .. })
    }

    pub(super) fn is_fetch_of(packet: &Packet, node: u64) -> bool {
        matches!(packet, Packet::Fetch { from, .. } if *from == seat(node))
    }
}
