//! One step: something happens, in the order of how often.

use core::time::Duration;

use bytes::Bytes;
use rivven_cluster::id::{NodeId, Offset, RequestId};
use rivven_cluster::partition::metadata::{Command, Election, FenceReason, NodeState};
use rivven_cluster::partition::replica::Produce;
use rivven_cluster::partition::replica::io::{Acks, Answer};
use rivven_cluster::time::WallSeconds;

use super::marks::Mark;
use super::world::{Asked, FACTOR, Packet, World};

/// A log gets no longer than that; what is in a short one meets more.
const LOG_MAX: u64 = 14;
/// So much is on its way at most.
const WIRE_MAX: usize = 40;
/// So much has gone astray at most.
const ASTRAY_MAX: usize = 12;

impl World {
    /// Something happens.
    pub(super) fn step(&mut self) {
        let hosts = u64::try_from(self.hosts.len()).expect("a few");
        let host = usize::try_from(self.draws.below(hosts)).expect("a few");
        match self.draws.below(100) {
            0..=10 => self.produce_somewhere(host),
            11..=34 => self.fetch(host),
            35..=64 => self.deliver_one(),
            65..=76 => self.sync(host),
            77..=86 => self.hear(host),
            87..=89 => {
                let millis = self.draws.below(400);
                self.pass_time(Duration::from_millis(millis));
            }
            90 if !self.spares(host) => self.fence(host, FenceReason::Dead),
            91 | 92 => self.unfence(host),
            93 if !self.spares(host) => self.fail(host),
            94 | 95 => self.come_back(host),
            96 if !self.is_steady || self.draws.chance(1, 10) => self.elect(),
            97 => self.move_partition(),
            98 if !self.spares(host) => self.configure(host),
            99 => self.trim(host),
            _ => {}
        }
    }

    /// In every second world leaders mostly stay what they are, so that more comes to pass in one epoch.
    fn spares(&mut self, host: usize) -> bool {
        let is_leader = self.record().leader == Some(self.hosts[host].node);
        self.is_steady && (is_leader || self.record().leader.is_none()) && self.draws.chance(9, 10)
    }

    /// Mostly a producer knows who leads.
    fn produce_somewhere(&mut self, host: usize) {
        let is_known = self.draws.chance(4, 5);
        let leader = self.record().leader.filter(|_| is_known);
        let host = leader.map_or(host, seat_of);
        if self.hosts[host].log.records.len() < usize::try_from(LOG_MAX).expect("a few") {
            let acks = match self.draws.below(10) {
                0 => Acks::None,
                1 | 2 => Acks::Leader,
                _ => Acks::All,
            };
            let count = self.draws.between(1, 3);
            let patience = Duration::from_millis(self.draws.between(100, 3000));
            self.produce(host, acks, count, patience);
        }
    }

    /// A producer sends some records to a node.
    pub(super) fn produce(&mut self, host: usize, acks: Acks, count: u64, patience: Duration) {
        let Some(replica) = &mut self.hosts[host].replica else { return };
        let values: Vec<u64> = (self.values + 1..=self.values + count).collect();
        self.values += count;
        let request = RequestId::new(self.values);
        let records: Bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let until = self.now + patience;
        let count = u32::try_from(count).expect("a few");
        let (stamp, time) = (None, WallSeconds::default());
        replica.produce(Produce { request, acks, until, count, stamp, time, records });
        if acks != Acks::None {
            self.asked.insert(request, Asked { host, acks, values });
        }
        self.settle(host);
    }

    /// A follower asks its leader.
    pub(super) fn fetch(&mut self, host: usize) {
        let Some((leader, fetch)) = self.hosts[host].replica.as_ref().and_then(|it| it.fetch()) else {
            return;
        };
        let to = seat_of(leader);
        self.wire.push(Packet::Fetch { from: host, to, fetch });
    }

    /// Something of what is on its way arrives, twice in one case of five, and is lost in one of twenty. Some of it goes
    /// astray, and comes once more when nobody thinks of it any more.
    fn deliver_one(&mut self) {
        if self.draws.chance(1, 20)
            && let Some(packet) = self.pick_astray()
        {
            self.deliver(packet);
            return;
        }
        if self.wire.is_empty() {
            return;
        }
        let on_way = u64::try_from(self.wire.len()).expect("a few");
        let place = usize::try_from(self.draws.below(on_way)).expect("a few");
        let comes_again = self.draws.chance(1, 5);
        let packet = if comes_again { self.wire[place].clone() } else { self.wire.swap_remove(place) };
        if self.draws.chance(1, 10) {
            if self.astray.len() == ASTRAY_MAX {
                self.pick_astray();
            }
            self.astray.push(packet.clone());
        }
        if !self.draws.chance(1, 20) {
            self.deliver(packet);
        }
        while self.wire.len() > WIRE_MAX {
            let on_way = u64::try_from(self.wire.len()).expect("a few");
            let place = usize::try_from(self.draws.below(on_way)).expect("a few");
            self.wire.swap_remove(place);
        }
    }

    fn pick_astray(&mut self) -> Option<Packet> {
        let bound = u64::try_from(self.astray.len()).ok().filter(|count| *count > 0)?;
        let place = usize::try_from(self.draws.below(bound)).expect("a few");
        Some(self.astray.swap_remove(place))
    }

    pub(super) fn deliver(&mut self, packet: Packet) {
        let now = self.now;
        self.tell(|| format!("  arrives: {packet:?}"));
        match packet {
            Packet::Fetch { from, to, fetch } => {
                let asker = self.hosts[from].node;
                let most =
                    if self.is_calm { 3 } else { usize::try_from(self.draws.below(4)).expect("a few") };
                let host = &mut self.hosts[to];
                let Some(replica) = &mut host.replica else { return };
                let fetched = replica.serve(now, asker, fetch);
                let has_records = matches!(fetched.answer, Answer::Matches { .. });
                let records = if has_records { host.log.read(fetch.at.value(), most) } else { Vec::new() };
                self.wire.push(Packet::Fetched { to: from, fetched, records });
                self.settle(to);
            }
            Packet::Fetched { to, fetched, records } => {
                let Some(replica) = &mut self.hosts[to].replica else { return };
                replica.fetched(&fetched, records);
                self.settle(to);
            }
            Packet::Alter(alteration) => {
                let (leader_epoch, epoch) = (alteration.leader_epoch, alteration.epoch);
                let to = seat_of(alteration.leader);
                if let Err(refusal) = self.order(Command::AlterPartition(alteration)) {
                    self.wire.push(Packet::Refused { to, leader_epoch, epoch, refusal });
                }
            }
            Packet::Refused { to, leader_epoch, epoch, refusal } => {
                let Some(replica) = &mut self.hosts[to].replica else { return };
                replica.refused(now, leader_epoch, epoch, &refusal);
                self.settle(to);
            }
        }
    }

    /// A disk begins to sync, or has synced.
    pub(super) fn sync(&mut self, host: usize) {
        let node = &mut self.hosts[host];
        let Some(replica) = &mut node.replica else { return };
        match node.syncing.take() {
            Some((mark, log, committed)) => {
                (node.synced, node.checkpoint) = (log, committed);
                replica.written(mark);
                let (node, end) = (node.node, node.synced.end());
                self.tell(|| format!("  node {node} has synced up to {end}"));
            }
            None if node.is_dirty => {
                let committed = replica.high_watermark().value();
                node.syncing = Some((replica.mark(), node.log.clone(), committed));
                node.is_dirty = false;
            }
            None => {}
        }
        self.settle(host);
    }

    /// A node hears more of the metadata, perhaps with some of it left out.
    fn hear(&mut self, host: usize) {
        let news = self.history.len() - 1 - self.hosts[host].seen;
        if news == 0 || self.hosts[host].session.is_none() {
            return;
        }
        let more =
            usize::try_from(self.draws.between(1, u64::try_from(news).expect("a few") + 1)).expect("a few");
        self.marks.add(Mark::ViewsSkipped, u64::from(more > 1));
        let seen = self.hosts[host].seen + more;
        self.observe(host, seen);
    }

    /// Time passes, and whatever is due fires.
    pub(super) fn pass_time(&mut self, time: Duration) {
        let now = self.now + time;
        self.now = now;
        for host in 0..self.hosts.len() {
            let Some(replica) = &mut self.hosts[host].replica else { continue };
            if replica.deadline().is_some_and(|due| due <= now) {
                replica.handle_timeout(now);
                assert!(replica.deadline().is_none_or(|due| due > now), "a timeout leaves nothing due");
                self.settle(host);
            }
        }
    }

    fn fail(&mut self, host: usize) {
        if self.hosts[host].is_up && self.draws.chance(2, 5) {
            self.crash(host);
            if self.losses_left > 0 && self.draws.chance(4, 5) {
                self.lose_disk(host);
            }
        }
    }

    /// A node is started, or the process that was started registers.
    pub(super) fn come_back(&mut self, host: usize) {
        if self.hosts[host].is_up {
            self.register(host);
        } else {
            self.hosts[host].is_up = true;
            self.hosts[host].boot += 1;
        }
    }

    fn elect(&mut self) {
        let record = self.record();
        let epoch = record.epoch;
        let others: Vec<NodeId> =
            record.in_sync.iter().copied().filter(|node| record.leader != Some(*node)).collect();
        let election = match others.len() {
            0 => Election::Preferred,
            count => {
                let bound = u64::try_from(count).expect("a few");
                Election::Designated(others[usize::try_from(self.draws.below(bound)).expect("a few")])
            }
        };
        let partition = self.partition;
        let _ = self.order(Command::ElectLeader { partition, epoch, election });
    }

    fn move_partition(&mut self) {
        let (partition, epoch, moves) =
            (self.partition, self.record().epoch, self.record().reassignment.is_some());
        if moves && self.draws.chance(1, 2) {
            let view = self.history.last().expect("the topic is there");
            let are_few = view.partition.in_sync.len() < view.min_in_sync;
            let done = self.order(Command::CancelReassignment { partition, epoch });
            self.gave_up_copies |= are_few && done.is_ok();
            self.marks.add(Mark::Cancelled, u64::from(done.is_ok()));
            return;
        }
        if !self.draws.chance(2, 5) {
            return;
        }
        let mut target: Vec<NodeId> = self.hosts.iter().map(|host| host.node).collect();
        for place in 0..usize::from(FACTOR) {
            let rest = u64::try_from(target.len() - place).expect("a few");
            target.swap(place, place + usize::try_from(self.draws.below(rest)).expect("a few"));
        }
        target.truncate(FACTOR.into());
        let done = self.order(Command::StartReassignment { partition, epoch, target });
        self.marks.add(Mark::Reassigned, u64::from(done.is_ok()));
    }

    /// The topic is configured differently, or a node says that it will stop.
    fn configure(&mut self, host: usize) {
        let topic = self.partition.topic;
        let version = self.metadata.topic(topic).expect("the topic stays").version;
        if self.draws.chance(1, 4) {
            let least = u64::from(self.min_in_sync_least);
            let min_in_sync = u16::try_from(self.draws.between(least, u64::from(FACTOR) + 1)).expect("a few");
            let command = Command::ConfigureTopic {
                topic,
                version,
                min_in_sync: Some(min_in_sync),
                recovery: None,
                retention: None,
            };
            let _ = self.order(command);
            return;
        }
        let node = self.hosts[host].node;
        let Some(record) = self.metadata.node(node).filter(|record| record.state == NodeState::Active) else {
            return;
        };
        let (epoch, seen) = (record.epoch, record.changed);
        if self.draws.chance(1, 3) {
            let _ = self.order(Command::BeginShutdown { node, epoch, seen });
        }
    }

    fn trim(&mut self, host: usize) {
        let node = &mut self.hosts[host];
        let Some(replica) = &mut node.replica else { return };
        if self.draws.chance(1, 4) {
            let end = replica.high_watermark().value();
            let start = self.draws.below(end + 1);
            self.trim_to(host, start);
        }
    }

    pub(super) fn trim_to(&mut self, host: usize, start: u64) {
        let Some(replica) = &mut self.hosts[host].replica else { return };
        replica.trim(Offset::new(start));
        self.settle(host);
    }
}

/// The host of a node.
pub(super) fn seat_of(node: NodeId) -> usize {
    usize::try_from(node.value() - 1).expect("a few")
}
