//! Three nodes with real metadata and disks in memory, whose messages are delivered by hand.

use bytes::Bytes;

use super::io::{Answer, Ask, Consume, Produce};
use super::*;
use crate::id::{BootId, LogIndex, Offset, ProducerId, Token, TopicId};
use crate::partition::log::Logs;
use crate::partition::metadata::command::Registration;
use crate::partition::metadata::{Command, Delta, Election, FenceReason, Outcome, Recovery, TopicSpec};
use crate::partition::records::{self, Record};
use crate::partition::replica::io::{Acks, Stamp};
use crate::partition::retention::Retention;

mod attacks;
mod keeping;

const NODES: [u64; 3] = [1, 2, 3];

fn id(node: u64) -> NodeId {
    NodeId::new(node).unwrap()
}

/// A node, with a disk that has what was written, and one batch that is being written.
struct Host {
    replicas: Replicas,
    disk: Logs<Bytes>,
    open: Vec<Change>,
    writing: Option<(Vec<Change>, Marks)>,
    is_up: bool,
    boot: u64,
}

/// The world, in which nothing is lost unless a test says so.
struct World {
    now: Instant,
    metadata: Metadata,
    index: LogIndex,
    hosts: BTreeMap<NodeId, Host>,
    topic: TopicId,
    settings: Settings,
    messages: VecDeque<(NodeId, NodeId, Message)>,
    proposals: Vec<Vec<Alteration>>,
    replies: BTreeMap<RequestId, Result<Answer, AskError>>,
    requests: u64,
    sent: u64,
}

impl World {
    /// A topic of so many partitions, each on all nodes, of which two must be in sync; node 1 leads the first.
    fn new(partitions: usize, settings: Settings) -> World {
        let host = |node: u64| Host {
            replicas: Replicas::start(id(node), settings, Vec::new()),
            disk: Logs::default(),
            open: Vec::new(),
            writing: None,
            is_up: true,
            boot: 1,
        };
        let mut world = World {
            now: Instant::from_nanos(0),
            metadata: Metadata::default(),
            index: LogIndex::new(1),
            hosts: NODES.into_iter().map(|node| (id(node), host(node))).collect(),
            topic: TopicId::new(0),
            settings,
            messages: VecDeque::new(),
            proposals: Vec::new(),
            replies: BTreeMap::new(),
            requests: 0,
            sent: 0,
        };
        NODES.into_iter().for_each(|node| world.register(node));
        let spec = TopicSpec {
            name: "t".to_owned(),
            replicas: 3,
            min_in_sync: 2,
            recovery: Recovery::Manual,
            retention: Retention::default(),
        };
        let assignment = |place: usize| (0..3).map(|next| id(NODES[(place + next) % 3])).collect();
        let assignments = (0..partitions).map(assignment).collect();
        let outcome = world.order(Command::CreateTopic { spec, assignments });
        let Outcome::Created(topic) = outcome else { panic!("{outcome:?}") };
        world.topic = topic;
        world
    }

    fn partition(&self, number: u32) -> PartitionId {
        PartitionId { topic: self.topic, number }
    }

    fn order(&mut self, command: Command) -> Outcome {
        self.index = self.index.next();
        let (answer, deltas) = self.metadata.apply(self.index, &command);
        let mut changed = BTreeSet::new();
        for delta in deltas {
            match delta {
                Delta::Partition(partition) => drop(changed.insert(partition)),
                Delta::Topic(topic) | Delta::TopicGone(topic) => {
                    changed.extend((0..8).map(|number| PartitionId { topic, number }));
                }
                Delta::Node(node) | Delta::NodeGone(node) => {
                    changed.extend(self.metadata.partitions_of(node))
                }
                Delta::MayHaveLost(_) | Delta::Plan | Delta::FeatureLevel => {}
            }
        }
        for host in self.hosts.values_mut() {
            host.replicas.observe(self.now, &self.metadata, &changed);
        }
        answer.unwrap()
    }

    fn register(&mut self, node: u64) {
        let known = self.metadata.node(id(node)).map(|record| record.epoch);
        let registration = Registration {
            node: id(node),
            token: Token::new(1),
            boot: BootId::new(self.hosts[&id(node)].boot),
            address: "node:1".parse().unwrap(),
            known,
            ended: None,
            is_durable: true,
            weight: 1,
            rack: None,
            features: 1,
        };
        self.order(Command::RegisterNode(registration));
        let record = self.metadata.node(id(node)).unwrap();
        let (epoch, seen) = (record.epoch, record.changed);
        self.order(Command::UnfenceNode { node: id(node), epoch, seen, applied: seen });
        let host = self.hosts.get_mut(&id(node)).unwrap();
        let all = host.replicas.begin(epoch, &self.metadata);
        host.replicas.observe(self.now, &self.metadata, &all);
    }

    fn fence(&mut self, node: u64) {
        let record = self.metadata.node(id(node)).unwrap();
        let (epoch, seen) = (record.epoch, record.changed);
        self.order(Command::FenceNode { node: id(node), epoch, seen, reason: FenceReason::Dead });
    }

    fn elect(&mut self, number: u32, node: u64) {
        let partition = self.partition(number);
        let epoch = self.metadata.partition(partition).unwrap().epoch;
        self.order(Command::ElectLeader { partition, epoch, election: Election::Designated(id(node)) });
    }

    /// The process dies: what is not on the disk is gone.
    fn crash(&mut self, node: u64) {
        let host = self.hosts.get_mut(&id(node)).unwrap();
        (host.is_up, host.writing) = (false, None);
        host.open.clear();
        self.fence(node);
    }

    fn restart(&mut self, node: u64) {
        let host = self.hosts.get_mut(&id(node)).unwrap();
        host.replicas = Replicas::start(id(node), self.settings, host.disk.stored());
        (host.is_up, host.boot) = (true, host.boot + 1);
        self.register(node);
    }

    fn ask(&mut self, node: u64, number: u32, ask: Ask) -> RequestId {
        self.requests += 1;
        let (request, partition) = (RequestId::new(self.requests), self.partition(number));
        let host = self.hosts.get_mut(&id(node)).unwrap();
        host.replicas.handle_ask(self.now, request, (partition, None), ask);
        request
    }

    fn produce(&mut self, node: u64, number: u32, values: &[&'static str]) -> RequestId {
        self.ask(node, number, Ask::Produce(produce(values, None)))
    }

    /// Everything moves on until nothing does.
    fn run(&mut self) {
        let ends = (0..10_000).any(|_| !self.step());
        assert!(ends, "nodes speak for ever");
    }

    /// Drains all nodes, delivers their messages, writes what they want written.
    fn step(&mut self) -> bool {
        let mut is_busy = false;
        for node in NODES.map(id) {
            is_busy |= self.drain(node);
        }
        for alterations in core::mem::take(&mut self.proposals) {
            self.order(Command::AlterPartitions(alterations));
            is_busy = true;
        }
        while let Some((from, to, message)) = self.messages.pop_front() {
            let host = self.hosts.get_mut(&to).unwrap();
            if host.is_up {
                host.replicas.handle_message(self.now, from, message);
                is_busy = true;
            }
        }
        for host in self.hosts.values_mut().filter(|host| host.is_up) {
            if let Some((changes, marks)) = host.writing.take() {
                changes.iter().for_each(|change| host.disk.apply(change));
                host.replicas.written(marks);
                is_busy = true;
            }
        }
        is_busy
    }

    fn drain(&mut self, node: NodeId) -> bool {
        let host = self.hosts.get_mut(&node).unwrap();
        if !host.is_up {
            return false;
        }
        let mut is_busy = false;
        host.replicas.settle(self.now);
        while let Some(output) = host.replicas.poll() {
            is_busy = true;
            match output {
                Output::Change(change) => host.open.push(change),
                Output::Send { to, message } => {
                    self.sent += 1;
                    self.messages.push_back((node, to, message));
                }
                Output::Propose(alterations) => self.proposals.push(alterations),
                Output::Reply { request, answer } => {
                    assert!(self.replies.insert(request, answer).is_none(), "{request} is answered twice");
                }
                Output::Read { id, read } => {
                    let batches = host.disk.read(&read);
                    host.replicas.handle_read(id, batches);
                }
            }
        }
        if host.writing.is_none() && !host.open.is_empty() {
            let (committed, marks) = host.replicas.close_batch();
            let mut changes = core::mem::take(&mut host.open);
            changes.extend(committed);
            host.writing = Some((changes, marks));
        }
        host.replicas.assert_invariants();
        is_busy
    }

    fn sleep(&mut self, millis: u64) {
        let until = self.now + Duration::from_millis(millis);
        loop {
            self.run();
            let deadlines =
                self.hosts.values().filter(|host| host.is_up).filter_map(|host| host.replicas.deadline());
            let Some(next) = deadlines.min().filter(|at| *at <= until) else { break };
            assert!(next > self.now, "nobody spins");
            self.now = next;
            for host in self.hosts.values_mut().filter(|host| host.is_up) {
                host.replicas.handle_timeout(self.now);
            }
        }
        self.now = until;
    }

    fn values(&mut self, node: u64, number: u32, from: u64) -> Vec<String> {
        let consume =
            Consume { from: Offset::new(from), bytes: 1 << 20, wait: Duration::ZERO, from_anybody: false };
        let request = self.ask(node, number, Ask::Consume(consume));
        self.run();
        let Ok(Answer::Consumed { batches, .. }) = &self.replies[&request] else {
            panic!("{:?}", self.replies[&request])
        };
        let unpack = |batch: &replica::io::Batch| {
            let all = records::decode(&batch.records, batch.count).unwrap();
            all.into_iter()
                .map(|record| String::from_utf8(record.value.to_vec()).unwrap())
                .collect::<Vec<_>>()
        };
        batches.iter().flat_map(unpack).collect()
    }

    fn in_sync(&self, number: u32) -> usize {
        self.metadata.partition(self.partition(number)).unwrap().in_sync.len()
    }
}

fn produce(values: &[&'static str], stamp: Option<(u64, u64)>) -> Produce {
    let record = |value: &&'static str| Record { key: None, value: Bytes::from_static(value.as_bytes()) };
    let all: Vec<Record> = values.iter().map(record).collect();
    Produce {
        acks: Acks::All,
        timeout: Duration::from_secs(5),
        count: u32::try_from(values.len()).unwrap(),
        stamp: stamp.map(|(producer, sequence)| Stamp { producer: ProducerId::new(producer), sequence }),
        records: records::encode(&all),
    }
}

fn first(first: u64) -> Result<Answer, AskError> {
    Ok(Answer::Produced { first: Some(Offset::new(first)) })
}

#[test]
fn what_is_produced_is_on_every_disk_when_it_is_acknowledged() {
    let mut world = World::new(1, Settings::default());
    world.run();
    let request = world.produce(1, 0, &["a", "b"]);
    while !world.replies.contains_key(&request) {
        assert!(world.step(), "it is answered");
    }
    assert_eq!(world.replies[&request], first(0));
    for host in world.hosts.values() {
        assert_eq!(host.disk.get(world.partition(0)).unwrap().end(), Offset::new(2));
    }
    assert_eq!(world.values(1, 0, 0), ["a", "b"]);
}

#[test]
fn an_idle_node_says_what_it_has_once_in_a_while_and_is_not_answered() {
    let mut world = World::new(6, Settings::default());
    (0..6).for_each(|number| {
        let leader = NODES[usize::try_from(number).unwrap() % 3];
        world.produce(leader, number, &["a"]);
    });
    world.sleep(5_000);
    let before = world.sent;
    world.sleep(10_000);
    // Each of three nodes follows two others: one message to each of them in half a second.
    assert_eq!(world.sent - before, 3 * 2 * 20);
}

#[test]
fn many_partitions_share_messages() {
    let mut one = World::new(3, Settings::default());
    let mut many = World::new(6, Settings::default());
    one.run();
    many.run();
    let (before_one, before_many) = (one.sent, many.sent);
    one.produce(1, 0, &["a"]);
    [0, 3].into_iter().for_each(|number| _ = many.produce(1, number, &["a"]));
    one.run();
    many.run();
    assert_eq!(one.sent - before_one, many.sent - before_many);
}

#[test]
fn a_batch_that_is_sent_again_is_written_once_whoever_leads() {
    let mut world = World::new(1, Settings::default());
    world.run();
    let stamped = |sequence| Ask::Produce(produce(&["a", "b"], Some((7, sequence))));
    let before = [world.ask(1, 0, stamped(0)), world.ask(1, 0, stamped(0))];
    world.run();
    let again = world.ask(1, 0, stamped(0));
    world.elect(0, 2);
    world.run();
    let elsewhere = world.ask(2, 0, stamped(0));
    let next = world.ask(2, 0, stamped(2));
    let gap = world.ask(2, 0, stamped(9));
    world.run();
    for request in before.into_iter().chain([again, elsewhere]) {
        assert_eq!(world.replies[&request], first(0));
    }
    assert_eq!(world.replies[&next], first(2));
    assert_eq!(world.replies[&gap], Err(AskError::OutOfSequence { expected: 4 }));
    assert_eq!(world.values(2, 0, 0), ["a", "b", "a", "b"]);
}

#[test]
fn a_process_that_comes_back_knows_its_producers_and_catches_up_from_the_disk() {
    // Nothing stays in memory that is on the disk.
    let settings = Settings { tail_bytes: 0, answer_bytes: 20, ..Settings::default() };
    let mut world = World::new(1, settings);
    world.run();
    world.ask(1, 0, Ask::Produce(produce(&["a"], Some((7, 0)))));
    world.run();
    world.crash(3);
    world.run();
    for sequence in 1..20 {
        world.ask(1, 0, Ask::Produce(produce(&["b"], Some((7, sequence)))));
        world.run();
    }
    assert_eq!(world.in_sync(0), 2);
    world.restart(3);
    world.sleep(2_000);
    assert_eq!(world.in_sync(0), 3, "it has caught up");
    world.elect(0, 3);
    world.run();
    let again = world.ask(3, 0, Ask::Produce(produce(&["b"], Some((7, 19)))));
    world.run();
    assert_eq!(world.replies[&again], first(19));
    assert_eq!(world.values(3, 0, 18), ["b"], "as many as fit");
}

#[test]
fn a_consumer_that_waits_is_sent_what_is_committed_at_once_or_nothing_in_the_end() {
    let mut world = World::new(1, Settings::default());
    world.run();
    let consume =
        Consume { from: Offset::new(0), bytes: 1000, wait: Duration::from_secs(1), from_anybody: false };
    let first = world.ask(1, 0, Ask::Consume(consume));
    world.run();
    assert!(!world.replies.contains_key(&first));
    world.produce(1, 0, &["a"]);
    world.run();
    assert!(matches!(&world.replies[&first], Ok(Answer::Consumed { batches, .. }) if batches.len() == 1));
    let second = world.ask(1, 0, Ask::Consume(Consume { from: Offset::new(1), ..consume }));
    world.sleep(999);
    assert!(!world.replies.contains_key(&second));
    world.sleep(2);
    assert!(matches!(&world.replies[&second], Ok(Answer::Consumed { batches, .. }) if batches.is_empty()));
    let beyond = world.ask(1, 0, Ask::Consume(Consume { from: Offset::new(2), ..consume }));
    world.run();
    let (start, end) = (Offset::new(0), Offset::new(1));
    assert_eq!(world.replies[&beyond], Err(AskError::OutOfRange { start, end }));
}

#[test]
fn whoever_asks_a_follower_is_sent_to_the_leader() {
    let mut world = World::new(1, Settings::default());
    world.run();
    let consume = Consume { from: Offset::new(0), bytes: 1000, wait: Duration::ZERO, from_anybody: false };
    let asks = [Ask::Produce(produce(&["a"], Some((7, 0)))), Ask::Consume(consume), Ask::Offsets];
    for ask in asks {
        let request = world.ask(2, 0, ask);
        world.run();
        assert!(
            matches!(world.replies[&request], Err(AskError::NotLeader { leader: Some(leader), .. }) if leader == id(1))
        );
    }
}

#[test]
fn a_follower_says_what_it_knows_to_be_committed_to_whoever_does_not_mind() {
    let mut world = World::new(1, Settings::default());
    world.run();
    world.produce(1, 0, &["a"]);
    world.run();
    let (from, wait) = (Offset::new(0), Duration::from_secs(1));
    let consumer = world.ask(2, 0, Ask::Consume(Consume { from, bytes: 1000, wait, from_anybody: true }));
    world.run();
    assert!(!world.replies.contains_key(&consumer), "it does not know yet");
    world.sleep(600);
    let told = &world.replies[&consumer];
    assert!(matches!(told, Ok(Answer::Consumed { batches, .. }) if batches.len() == 1), "{told:?}");
}

#[test]
fn bad_batches_are_refused_and_nothing_is_written() {
    let mut world = World::new(1, Settings { batch_bytes_max: 100, ..Settings::default() });
    world.run();
    let sound = produce(&["a"], None);
    let large = produce(&["a"; 12], None);
    let length = u64::try_from(large.records.len()).unwrap();
    let damaged = Produce { records: Bytes::from_static(b"no records at all"), ..sound.clone() };
    let wrong = Produce { count: 2, ..sound.clone() };
    let empty = Produce { count: 0, ..sound.clone() };
    let unsafe_stamp = Produce { acks: Acks::Leader, ..produce(&["a"], Some((7, 0))) };
    let cases = [
        (large, AskError::TooLarge { length, limit: 100 }),
        (damaged, AskError::Malformed(records::RecordsError::Checksum)),
        (wrong, AskError::Malformed(records::RecordsError::Count)),
        (empty, AskError::Malformed(records::RecordsError::Count)),
        (unsafe_stamp, AskError::StampWithoutAll),
    ];
    for (produce, error) in cases {
        let request = world.ask(1, 0, Ask::Produce(produce));
        world.run();
        assert_eq!(world.replies[&request], Err(error));
    }
    assert_eq!(world.replies.len(), 5);
    let request = world.ask(1, 0, Ask::Offsets);
    world.run();
    let zero = Offset::new(0);
    let followers = vec![(id(2), zero), (id(3), zero)];
    let nothing = Answer::Offsets { start: zero, high_watermark: zero, end: zero, followers };
    assert_eq!(world.replies[&request], Ok(nothing));
}

#[test]
fn a_disk_that_does_not_keep_up_makes_producers_wait() {
    let mut world = World::new(1, Settings { unwritten_bytes_max: 40, ..Settings::default() });
    world.run();
    let requests: Vec<RequestId> = (0..4).map(|_| world.produce(1, 0, &["a"])).collect();
    world.run();
    assert_eq!(world.replies[&requests[1]], first(1));
    assert_eq!(world.replies[&requests[3]], Err(AskError::Busy));
    let later = world.produce(1, 0, &["b"]);
    world.run();
    assert_eq!(world.replies[&later], first(2));
}

#[test]
fn a_topic_that_is_deleted_leaves_nothing_and_answers_whoever_waits() {
    let mut world = World::new(1, Settings::default());
    world.run();
    let written = world.produce(1, 0, &["a"]);
    world.run();
    let consume =
        Consume { from: Offset::new(1), bytes: 1000, wait: Duration::from_secs(1), from_anybody: false };
    let consumer = world.ask(1, 0, Ask::Consume(consume));
    let producer = world.produce(1, 0, &["b"]);
    let topic = world.topic;
    world.order(Command::DeleteTopic { topic });
    world.run();
    assert_eq!(world.replies[&written], first(0));
    assert!(matches!(world.replies[&consumer], Err(AskError::NotLeader { .. })));
    assert_eq!(world.replies[&producer], Err(AskError::Deposed));
    for host in world.hosts.values() {
        assert_eq!(host.disk.iter().count(), 0);
        assert_eq!(host.replicas.iter().count(), 0);
    }
}

#[test]
fn a_follower_that_is_silent_is_put_out_and_what_it_had_to_have_is_committed() {
    let mut world = World::new(1, Settings::default());
    world.run();
    world.hosts.get_mut(&id(3)).unwrap().is_up = false;
    let request = world.produce(1, 0, &["a"]);
    world.sleep(4_000);
    assert!(!world.replies.contains_key(&request));
    world.sleep(7_000);
    assert_eq!(world.replies[&request], Err(AskError::TimedOut));
    assert_eq!(world.in_sync(0), 2);
    assert_eq!(world.values(1, 0, 0), ["a"], "it is committed after all");
}

#[test]
fn a_message_that_is_lost_is_made_up_for() {
    let mut world = World::new(1, Settings::default());
    world.run();
    world.sleep(100);
    let request = world.produce(1, 0, &["a"]);
    world.drain(id(1));
    world.messages.clear();
    world.sleep(1_100);
    assert_eq!(world.replies[&request], first(0));
}

#[test]
fn what_is_damaged_on_the_way_is_asked_for_again() {
    let mut world = World::new(1, Settings::default());
    world.run();
    let request = world.produce(1, 0, &["a"]);
    world.drain(id(1));
    for (_, _, message) in &mut world.messages {
        let Message::Fetched(deliveries) = message else { continue };
        deliveries[0].records[0].records = Bytes::from_static(b"something else");
    }
    world.sleep(1_100);
    assert_eq!(world.replies[&request], first(0));
    assert_eq!(world.values(1, 0, 0), ["a"]);
}
