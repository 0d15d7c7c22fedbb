//! The world: the metadata, the nodes, and what is on its way between them.

use std::collections::BTreeMap;
use std::rc::Rc;

use core::time::Duration;

use rivven_cluster::id::{
    BootId, LeaderEpoch, LogIndex, NodeId, Offset, PartitionEpoch, PartitionId, RequestId, Token, TopicId,
};
use rivven_cluster::partition::metadata::command::Registration;
use rivven_cluster::partition::metadata::{
    Alteration, Command, FenceReason, Metadata, NodeState, Outcome, Partition, Recovery, Refusal, TopicSpec,
};
use rivven_cluster::partition::replica::io::{Acks, Batch, Effect, Fetch, Fetched, ProduceError};
use rivven_cluster::partition::replica::{Replica, Settings, View};
use rivven_cluster::partition::retention::Retention;
use rivven_cluster::rng::{Seed, Stream};
use rivven_cluster::time::Instant;

use super::host::{Host, Record};
use super::marks::{Mark, Marks};

/// So many nodes.
pub(super) const NODES: u64 = 5;
/// So many of them have a replica.
pub(super) const FACTOR: u16 = 3;
/// Impatient, so that it happens often that somebody is put out of sync.
pub(super) const SETTINGS: Settings =
    Settings { lag_max: Duration::from_millis(600), proposal_timeout: Duration::from_millis(400) };

/// Something on its way.
#[derive(Clone, Debug, Hash)]
pub(super) enum Packet {
    Fetch { from: usize, to: usize, fetch: Fetch },
    Fetched { to: usize, fetched: Fetched, records: Vec<Batch> },
    Alter(Alteration),
    Refused { to: usize, leader_epoch: LeaderEpoch, epoch: PartitionEpoch, refusal: Refusal },
}

/// A producer's request that has not been answered.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) host: usize,
    pub(super) acks: Acks,
    pub(super) values: Vec<u64>,
}

#[derive(Clone)]
pub(super) struct World {
    pub(super) draws: Stream,
    pub(super) now: Instant,
    /// Shared with the worlds that go on from this one, until it changes.
    pub(super) metadata: Rc<Metadata>,
    index: LogIndex,
    pub(super) partition: PartitionId,
    /// What the partition looked like after each command that changed anything.
    pub(super) history: Vec<Rc<View>>,
    pub(super) hosts: Vec<Host>,
    pub(super) wire: Vec<Packet>,
    /// What has gone astray.
    pub(super) astray: Vec<Packet>,
    /// What is committed, by offset.
    pub(super) committed: BTreeMap<u64, Record>,
    /// Who led in each epoch.
    pub(super) leaders: BTreeMap<LeaderEpoch, NodeId>,
    pub(super) asked: BTreeMap<RequestId, Asked>,
    /// Whether a reassignment was taken back while too few were in sync: copies that were complete were given up by that,
    /// and fewer disks may be lost than the topic promises.
    pub(super) gave_up_copies: bool,
    /// Where the shortest log begins.
    pub(super) trimmed: u64,
    /// What was acknowledged by all, by offset.
    pub(super) acknowledged: BTreeMap<u64, u64>,
    /// So many disks may still be lost.
    pub(super) losses_left: u64,
    /// The fewest that may have to be in sync: one more than disks may be lost.
    pub(super) min_in_sync_least: u16,
    pub(super) values: u64,
    /// What producers were told.
    pub(super) answers: Vec<(RequestId, Result<Offset, ProduceError>)>,
    /// Whether leaders mostly stay what they are.
    pub(super) is_steady: bool,
    /// Who does not come back in the end.
    pub(super) absent: Option<usize>,
    /// All faults have ended.
    pub(super) is_calm: bool,
    pub(super) marks: Marks,
    pub(super) trace: u64,
    /// Whether to say what happens.
    pub(super) narrates: bool,
}

impl World {
    pub(super) fn new(mut draws: Stream, seed: u64) -> World {
        let min_in_sync = u16::try_from(draws.between(1, 4)).expect("a few");
        let losses_left = draws.below(u64::from(min_in_sync));
        let is_steady = draws.chance(1, 2);
        World { is_steady, trace: seed, ..World::of(NODES, draws, min_in_sync, losses_left) }
    }

    /// One in which nothing happens by itself: two must be in sync, and messages carry a few records each.
    pub(super) fn scripted(narrates: bool) -> World {
        let draws = Seed::new(0).stream("replicas", 0);
        World { narrates, is_calm: true, ..World::of(NODES, draws, 2, 1) }
    }

    /// The same with no node beside the replicas.
    pub(super) fn small() -> World {
        let draws = Seed::new(0).stream("replicas", 0);
        World { is_calm: true, ..World::of(FACTOR.into(), draws, 2, 1) }
    }

    fn of(nodes: u64, draws: Stream, min_in_sync: u16, losses_left: u64) -> World {
        let mut world = World {
            draws,
            now: Instant::ORIGIN,
            metadata: Rc::default(),
            index: LogIndex::new(1),
            partition: PartitionId { topic: TopicId::new(0), number: 0 },
            history: Vec::new(),
            hosts: (1..=nodes).filter_map(NodeId::new).map(Host::new).collect(),
            wire: Vec::new(),
            astray: Vec::new(),
            committed: BTreeMap::new(),
            leaders: BTreeMap::new(),
            asked: BTreeMap::new(),
            gave_up_copies: false,
            trimmed: 0,
            acknowledged: BTreeMap::new(),
            losses_left,
            min_in_sync_least: u16::try_from(losses_left).expect("a few") + 1,
            values: 0,
            answers: Vec::new(),
            is_steady: false,
            absent: None,
            is_calm: false,
            marks: Marks::default(),
            trace: 0,
            narrates: false,
        };
        for host in 0..world.hosts.len() {
            world.register(host);
            world.unfence(host);
        }
        let spec = TopicSpec {
            name: "replicas".to_owned(),
            replicas: FACTOR,
            min_in_sync,
            recovery: Recovery::Manual,
            retention: Retention::default(),
        };
        let assignments = vec![(1..=u64::from(FACTOR)).filter_map(NodeId::new).collect()];
        let created = world.order(Command::CreateTopic { spec, assignments });
        let Ok(Outcome::Created(topic)) = created else { panic!("no topic: {created:?}") };
        world.partition.topic = topic;
        world.note_view();
        (0..world.hosts.len()).for_each(|host| world.observe(host, 0));
        world
    }

    /// A command stands in the log, and is executed.
    pub(super) fn order(&mut self, command: Command) -> Result<Outcome, Refusal> {
        self.index = self.index.next();
        let (result, deltas) = Rc::make_mut(&mut self.metadata).apply(self.index, &command);
        self.tell(|| format!("  ordered: {command:?}: {result:?}"));
        if !deltas.is_empty() {
            self.note_view();
        }
        result
    }

    fn note_view(&mut self) {
        let nodes: Vec<NodeId> = self.hosts.iter().map(|host| host.node).collect();
        let Some(view) = View::of(&self.metadata, self.partition, &nodes) else { return };
        if let (Some(before), Some(leader)) = (self.history.last(), view.partition.leader) {
            let old = &before.partition;
            let is_new = view.partition.leader_epoch > old.leader_epoch;
            self.marks.add(Mark::LeaderChanged, u64::from(is_new));
            let is_eligible = old.in_sync.is_empty() && old.eligible.contains(&leader);
            self.marks.add(Mark::ElectedEligible, u64::from(is_new && is_eligible));
        }
        self.marks.add(Mark::Leaderless, u64::from(view.partition.leader.is_none()));
        self.tell(|| format!("  view {}: {:?}", self.history.len(), view.partition));
        self.history.push(Rc::new(view));
    }

    /// The partition's record as it is.
    pub(super) fn record(&self) -> &Partition {
        self.metadata.partition(self.partition).expect("the topic stays")
    }

    /// A node has applied another view of the metadata.
    pub(super) fn observe(&mut self, host: usize, seen: usize) {
        let view = View::clone(&self.history[seen]);
        let now = self.now;
        self.tell(|| format!("  node {} sees view {seen}", self.hosts[host].node));
        let node = &mut self.hosts[host];
        node.seen = seen;
        let Some(session) = node.session else { return };
        if let Some(replica) = &mut node.replica {
            replica.observe(now, view);
        } else if view.partition.replicas.contains(&node.node) {
            let own = (node.node, session);
            let replica = Replica::start(own, self.partition, SETTINGS, node.stored(), view, now);
            node.replica = Some(replica);
        }
        self.settle(host);
    }

    /// Does what a node's replica wants.
    pub(super) fn settle(&mut self, host: usize) {
        while let Some(effect) = self.hosts[host].replica.as_mut().and_then(Replica::poll) {
            self.mix(u64::try_from(host).expect("a few"));
            self.tell(|| format!("  node {} wants {effect:?}", self.hosts[host].node));
            let node = &mut self.hosts[host];
            match effect {
                Effect::Append(batch) => {
                    self.trace ^= batch.end().value() << 8;
                    node.log.append(&batch);
                    node.is_dirty = true;
                }
                Effect::Truncate(end) => {
                    node.log.truncate(end.value());
                    node.is_dirty = true;
                }
                Effect::Trim(start) => {
                    self.marks.add(Mark::Trimmed, 1);
                    self.trimmed = self.trimmed.max(start.value());
                    node.log.trim(start.value());
                    node.is_dirty = true;
                }
                Effect::Restart(start) => {
                    node.log.records.clear();
                    node.log.start = start.value();
                    node.is_dirty = true;
                }
                Effect::Propose(alteration) => self.wire.push(Packet::Alter(alteration)),
                Effect::Reply { request, result } => self.note_reply(request, result),
                Effect::Committed(end) => self.note_committed(host, end.value()),
                Effect::Removed(_) => {
                    node.replica = None;
                    node.forget();
                }
            }
        }
    }

    fn note_reply(&mut self, request: RequestId, result: Result<Offset, ProduceError>) {
        self.answers.push((request, result));
        let asked = self.asked.remove(&request).expect("a producer is answered once");
        match result {
            Ok(first) => {
                for (offset, value) in (first.value()..).zip(asked.values) {
                    let committed = self.committed.get(&offset).map(|record| record.1);
                    let disk = &self.hosts[asked.host].synced;
                    let stored = disk.at(offset).map(|record| record.1);
                    assert!(
                        offset < disk.start || stored == Some(value),
                        "what is acknowledged is on the disk"
                    );
                    if asked.acks == Acks::All {
                        assert_eq!(committed, Some(value), "what is acknowledged by all is committed");
                        self.acknowledged.insert(offset, value);
                        self.marks.add(Mark::Acknowledged, 1);
                    }
                }
            }
            Err(ProduceError::NotLeader { .. } | ProduceError::NotEnoughReplicas { .. }) => {
                self.marks.add(Mark::Refused, 1);
            }
            Err(_) => self.marks.add(Mark::Ambiguous, 1),
        }
    }

    /// A process registers: the cluster has to be rid of the one before it first.
    pub(super) fn register(&mut self, host: usize) {
        let node = self.hosts[host].node;
        if self.hosts[host].session.is_some() || !self.hosts[host].is_up {
            return;
        }
        self.fence(host, FenceReason::Restarted);
        let registration = Registration {
            node,
            token: Token::new(self.hosts[host].token),
            boot: BootId::new(self.hosts[host].boot),
            address: "node:1".parse().expect("a sound name"),
            known: self.metadata.node(node).map(|record| record.epoch),
            ended: None,
            is_durable: true,
            weight: 1,
            rack: None,
            features: 1,
        };
        let registered = self.order(Command::RegisterNode(registration));
        let Ok(Outcome::Registered(session)) = registered else { panic!("not registered: {registered:?}") };
        self.hosts[host].session = Some(session);
        if let Some(last) = self.history.len().checked_sub(1) {
            self.observe(host, last);
        }
    }

    pub(super) fn fence(&mut self, host: usize, reason: FenceReason) {
        let node = self.hosts[host].node;
        let Some(record) = self.metadata.node(node) else { return };
        let (epoch, seen) = (record.epoch, record.changed);
        let _ = self.order(Command::FenceNode { node, epoch, seen, reason });
    }

    pub(super) fn unfence(&mut self, host: usize) {
        let (node, session) = (self.hosts[host].node, self.hosts[host].session);
        let Some(record) = self.metadata.node(node) else { return };
        let (epoch, seen, state) = (record.epoch, record.changed, record.state);
        if session == Some(epoch) && state == NodeState::Fenced {
            let _ = self.order(Command::UnfenceNode { node, epoch, seen, applied: self.index });
        }
    }

    /// A process ends without a word. The disk keeps what was synced, and perhaps what was being synced.
    pub(super) fn crash(&mut self, host: usize) {
        let keeps_more = self.draws.chance(1, 2);
        self.crash_keeping(host, keeps_more);
    }

    pub(super) fn crash_keeping(&mut self, host: usize, keeps_more: bool) {
        let node = &mut self.hosts[host];
        if let Some((_, log, committed)) = node.syncing.take().filter(|_| keeps_more) {
            (node.synced, node.checkpoint) = (log, committed);
        }
        node.log = node.synced.clone();
        (node.is_up, node.session, node.replica, node.is_dirty) = (false, None, None, false);
        self.asked.retain(|_, asked| asked.host != host);
        self.marks.add(Mark::Crashed, 1);
        self.tell(|| format!("  node {} crashes", self.hosts[host].node));
    }

    /// A disk is lost: another one is there, with nothing, or with what an old copy had.
    pub(super) fn lose_disk(&mut self, host: usize) {
        let left = self.draws.below(self.hosts[host].log.end() + 1);
        self.losses_left -= 1;
        self.lose_disk_but(host, left);
    }

    pub(super) fn lose_disk_but(&mut self, host: usize, left: u64) {
        let node = &mut self.hosts[host];
        node.log.truncate(left);
        if left < node.log.start {
            node.log.start = 0;
            node.log.records.clear();
        }
        node.synced = node.log.clone();
        node.checkpoint = 0;
        node.token += 1;
        self.marks.add(Mark::DiskLost, 1);
        self.tell(|| format!("  node {} has another disk, with {left} records", self.hosts[host].node));
    }

    /// Says what happens, if anybody listens.
    pub(super) fn tell(&self, text: impl FnOnce() -> String) {
        if self.narrates {
            println!("{}", text());
        }
    }

    pub(super) fn mix(&mut self, value: u64) {
        self.trace = (self.trace ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
}
