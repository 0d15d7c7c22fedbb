//! A world of three replicas in which a few things happen a few times, so that all orders of them can be
//! [tried](crate::explore).
//!
//! A follower has one question on its way at a time, and asks again when the answer is there; a node that hears news hears
//! the next piece, or all. What is on its way may be late for ever.

use core::hash::{Hash, Hasher};
use core::time::Duration;

use rivven_cluster::id::NodeId;
use rivven_cluster::partition::metadata::{Command, Election, FenceReason, NodeState};
use rivven_cluster::partition::replica::io::Acks;

use super::world::{Packet, SETTINGS, World};
use crate::explore::{Fingerprint, SmallWorld};

/// How often what may happen.
#[derive(Clone, Copy, Debug, Default, Hash)]
pub struct Budget {
    /// A producer sends a record to whoever leads, or thinks so.
    pub records: u8,
    /// A process ends without a word.
    pub crashes: u8,
    /// A node that has crashed comes back with an empty disk. As many as the topic bears: one.
    pub disks: u8,
    /// A node is held dead, be it or not.
    pub fences: u8,
    /// Another one in sync is made to lead.
    pub elections: u8,
    /// So much time passes that whoever has not fetched lags.
    pub lags: u8,
    /// What has arrived arrives once more.
    pub repeats: u8,
}

const NOTHING: Budget =
    Budget { records: 0, crashes: 0, disks: 0, fences: 0, elections: 0, lags: 0, repeats: 0 };

/// What is tried: small enough that all states can be seen.
pub const BUDGETS: [Budget; 3] = [
    Budget { records: 1, elections: 1, repeats: 1, ..NOTHING },
    Budget { records: 1, lags: 1, ..NOTHING },
    Budget { records: 1, crashes: 1, ..NOTHING },
];

/// Something that happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A record comes to this one.
    Produce(usize),
    /// It asks its leader.
    Fetch(usize),
    /// What has this hash arrives.
    Deliver(u64),
    /// The same, and it will once more.
    Repeat(u64),
    /// Its disk begins to sync, or has synced.
    Sync(usize),
    /// It applies the metadata up to this view.
    Hear(usize, usize),
    /// It crashes; what was being synced is on the disk, or not.
    Crash(usize, bool),
    /// It has an empty disk.
    LoseDisk(usize),
    /// It starts and registers.
    Return(usize),
    /// It is held dead.
    Fence(usize),
    /// It is held alive.
    Unfence(usize),
    /// It is made to lead.
    Elect(NodeId),
    /// Time passes.
    Lag,
}

/// The world, and what may still happen in it.
#[derive(Clone)]
pub struct Small {
    world: World,
    left: Budget,
}

impl Small {
    /// Three replicas of an empty partition, all in sync; two have to be.
    #[must_use]
    pub fn new(budget: Budget) -> Small {
        Small { world: World::small(), left: budget }
    }

    fn of_host(&self, host: usize, into: &mut Vec<Event>) {
        let (world, left) = (&self.world, &self.left);
        let node = &world.hosts[host];
        let last = world.history.len() - 1;
        if node.is_up && node.session.is_some() && node.seen < last {
            into.push(Event::Hear(host, last));
            if node.seen + 1 < last {
                into.push(Event::Hear(host, node.seen + 1));
            }
        }
        if let Some(replica) = &node.replica {
            let asks = world.wire.iter().any(|packet| match packet {
                Packet::Fetch { from: who, .. } | Packet::Fetched { to: who, .. } => *who == host,
                Packet::Alter(_) | Packet::Refused { .. } => false,
            });
            if !asks && replica.fetch().is_some() {
                into.push(Event::Fetch(host));
            }
            if node.is_dirty || node.syncing.is_some() {
                into.push(Event::Sync(host));
            }
            if left.records > 0 && replica.leads().is_some() {
                into.push(Event::Produce(host));
            }
        }
        if node.is_up && left.crashes > 0 {
            into.push(Event::Crash(host, false));
            if node.syncing.is_some() {
                into.push(Event::Crash(host, true));
            }
        }
        if !node.is_up && left.disks > 0 {
            into.push(Event::LoseDisk(host));
        }
        if node.session.is_none() {
            into.push(Event::Return(host));
        }
        let Some(record) = world.metadata.node(node.node) else { return };
        let is_fenced = record.state == NodeState::Fenced;
        if !is_fenced && left.fences > 0 {
            into.push(Event::Fence(host));
        }
        if is_fenced && node.session == Some(record.epoch) {
            into.push(Event::Unfence(host));
        }
    }
}

impl SmallWorld for Small {
    type Event = Event;

    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        if self.left.lags > 0 {
            events.push(Event::Lag);
        }
        let record = self.world.record();
        if self.left.elections > 0 {
            let others = record.in_sync.iter().filter(|node| record.leader != Some(**node));
            events.extend(others.map(|node| Event::Elect(*node)));
        }
        (0..self.world.hosts.len()).for_each(|host| self.of_host(host, &mut events));
        for packet in self.world.wire.iter().map(hash) {
            events.push(Event::Deliver(packet));
            if self.left.repeats > 0 {
                events.push(Event::Repeat(packet));
            }
        }
        events
    }

    fn happen(&mut self, event: &Event) {
        let (world, left) = (&mut self.world, &mut self.left);
        match *event {
            Event::Produce(host) => {
                left.records -= 1;
                world.produce(host, Acks::All, 1, Duration::from_secs(3600));
            }
            Event::Fetch(host) => world.fetch(host),
            Event::Deliver(packet) | Event::Repeat(packet) => {
                let place = world.wire.iter().position(|other| hash(other) == packet);
                let packet = world.wire.swap_remove(place.expect("it is on its way"));
                if matches!(event, Event::Repeat(_)) {
                    left.repeats -= 1;
                    world.wire.push(packet.clone());
                }
                world.deliver(packet);
            }
            Event::Sync(host) => world.sync(host),
            Event::Hear(host, view) => world.observe(host, view),
            Event::Crash(host, keeps_more) => {
                left.crashes -= 1;
                world.crash_keeping(host, keeps_more);
            }
            Event::LoseDisk(host) => {
                left.disks -= 1;
                world.lose_disk_but(host, 0);
            }
            Event::Return(host) => {
                if !world.hosts[host].is_up {
                    world.come_back(host);
                }
                world.register(host);
            }
            Event::Fence(host) => {
                left.fences -= 1;
                world.fence(host, FenceReason::Dead);
            }
            Event::Unfence(host) => world.unfence(host),
            Event::Elect(node) => {
                left.elections -= 1;
                let (partition, epoch) = (world.partition, world.record().epoch);
                let election = Election::Designated(node);
                let _ = world.order(Command::ElectLeader { partition, epoch, election });
            }
            Event::Lag => {
                left.lags -= 1;
                world.pass_time(SETTINGS.lag_max);
            }
        }
        world.check();
        world.check_logs_match();
    }

    fn fingerprint(&self) -> u64 {
        let world = &self.world;
        let mut state = Fingerprint::default();
        (self.left, world.now, world.record()).hash(&mut state);
        for host in &world.hosts {
            (host.token, host.is_up, host.session, &host.replica).hash(&mut state);
            (&host.log, &host.synced, &host.syncing, host.is_dirty, host.checkpoint).hash(&mut state);
            if host.session.is_some() {
                world.history[host.seen..].hash(&mut state);
            }
            let record = world.metadata.node(host.node);
            record.map(|record| (record.epoch, record.state)).hash(&mut state);
        }
        // What is on its way comes in any order.
        let mut wire: Vec<u64> = world.wire.iter().map(hash).collect();
        wire.sort_unstable();
        (wire, &world.committed, &world.leaders).hash(&mut state);
        let asked = world.asked.iter().map(|(request, asked)| (request, asked.host, &asked.values));
        asked.for_each(|asked| asked.hash(&mut state));
        state.finish()
    }
}

fn hash(packet: &Packet) -> u64 {
    let mut state = Fingerprint::default();
    packet.hash(&mut state);
    state.finish()
}
