//! Three whole nodes in a loop, as an embedder would drive them, between whom messages are late, repeated, lost and, in
//! one tape of two, falsified.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use rivven_cluster::formation::Standing;
use rivven_cluster::id::{LogIndex, NodeId, Offset, PartitionId, PeerName, ReadId, RequestId};
use rivven_cluster::kv::{Command, KeyValue};
use rivven_cluster::machine::Machine as _;
use rivven_cluster::node::{
    Caller, Config, Durable, Event, Input, Limits, LinkState, Message, Node, Output, Partitioning, Peer,
    Reply, Request, WriteBatch,
};
use rivven_cluster::partition::log::{Logs, Read};
use rivven_cluster::partition::records::{self, Record};
use rivven_cluster::partition::replica::io::Acks;
use rivven_cluster::partition::replicas::io::{Ask, Consume, Produce};
use rivven_cluster::raft::{Flow, Timing};
use rivven_cluster::rng::{Seed, Stream};
use rivven_cluster::session::{Proposal, Ticket};
use rivven_cluster::state_machine::Frozen;
use rivven_cluster::time::Instant;
use rivven_cluster::wire::codec;
use rivven_sim::checkers::apply;
use rivven_sim::steward;

/// So many nodes.
const NODES: usize = 3;
/// The most steps that a tape decides.
const STEPS_MAX: usize = 4000;
/// So much is on its way at most; what is older is lost.
const WIRE_MAX: usize = 96;

/// Plays what the tape says. Nobody panics, the invariants of each node hold after each step, and while nobody lies
/// nobody is accused of it. Returns how many requests were answered as wished.
pub fn node(tape: &[u8]) -> usize {
    let mut world = World::new(Seed::new(0).stream("node", 0).behind(tape));
    for _ in 0..(tape.len() / 2).min(STEPS_MAX) {
        world.step();
    }
    world.answered
}

struct World {
    draws: Stream,
    now: Instant,
    seats: Vec<Seat>,
    wire: VecDeque<(usize, usize, Message)>,
    lies: bool,
    requests: u64,
    sessions: Vec<LogIndex>,
    answered: usize,
}

/// A node, its disk, and what waits for that.
struct Seat {
    config: Config,
    node: Node<KeyValue>,
    starts: u64,
    durable: Durable,
    records: Logs<Bytes>,
    writing: Option<WriteBatch>,
    reads: VecDeque<(ReadId, Read)>,
    is_saving: bool,
    job: Option<Frozen>,
}

fn id_of(seat: usize) -> NodeId {
    u64::try_from(seat + 1).ok().and_then(NodeId::new).expect("not 0")
}

fn name_of(seat: usize) -> PeerName {
    format!("node{}:9093", seat + 1).parse().expect("a sound name")
}

fn config(seat: usize) -> Config {
    let others: BTreeSet<usize> = (0..NODES).filter(|other| *other != seat).collect();
    Config {
        id: id_of(seat),
        address: name_of(seat),
        peers: others.into_iter().map(name_of).collect(),
        timing: Timing::default(),
        limits: Limits {
            snapshot_entries: 20,
            retained_entries: 4,
            snapshot_part_bytes: 200,
            ..Limits::default()
        },
        flow: Flow::default(),
        votes: true,
        gossip: None,
        partitioning: Some(Partitioning::default()),
    }
}

impl Seat {
    fn new(seat: usize) -> Seat {
        let (config, durable) = (config(seat), Durable::default());
        let seed = Seed::new(u64::try_from(seat).expect("a few"));
        let node = Node::start(config.clone(), seed, durable.clone(), KeyValue::default(), Instant::ORIGIN);
        Seat {
            config,
            node: node.expect("an empty disk is sound"),
            starts: 1,
            durable,
            records: Logs::default(),
            writing: None,
            reads: VecDeque::new(),
            is_saving: false,
            job: None,
        }
    }

    fn write(&mut self, batch: &WriteBatch) {
        apply(&mut self.durable, batch);
        batch.logs.iter().for_each(|change| self.records.apply(change));
    }
}

impl World {
    fn new(mut draws: Stream) -> World {
        let lies = draws.chance(1, 2);
        let mut world = World {
            draws,
            now: Instant::ORIGIN,
            seats: (0..NODES).map(Seat::new).collect(),
            wire: VecDeque::new(),
            lies,
            requests: 0,
            sessions: Vec::new(),
            answered: 0,
        };
        (0..NODES).for_each(|seat| world.link_all(seat));
        world
    }

    fn draw(&mut self, bound: usize) -> usize {
        usize::try_from(self.draws.below(u64::try_from(bound).expect("a few"))).expect("a few")
    }

    fn step(&mut self) {
        let seat = self.draw(NODES);
        match self.draw(64) {
            0..=3 => self.pass_time(),
            4..=37 => self.deliver(),
            38..=55 => self.serve_disk(seat),
            56..=61 => self.ask(seat),
            62 => self.link(seat),
            _ => {
                if self.draw(4) == 0 {
                    self.restart(seat);
                }
            }
        }
        let excess = self.wire.len().saturating_sub(WIRE_MAX);
        self.wire.drain(..excess);
    }

    /// Gives a node something, does what it asks for, and looks at it.
    fn give(&mut self, seat: usize, input: Input) {
        self.seats[seat].node.handle(self.now, input);
        self.settle(seat);
    }

    fn pass_time(&mut self) {
        let millis = self.draws.between(1, 60);
        self.now = self.now + Duration::from_millis(millis);
        for seat in 0..NODES {
            if self.seats[seat].node.deadline().is_some_and(|due| due <= self.now) {
                self.seats[seat].node.handle_timeout(self.now);
                self.settle(seat);
            }
        }
    }

    /// Something arrives: once, or again later, or falsified.
    fn deliver(&mut self) {
        if self.wire.is_empty() {
            return;
        }
        let place = if self.draw(4) == 0 { self.draw(self.wire.len()) } else { 0 };
        let fate = self.draw(24);
        let taken = if fate == 0 { self.wire.get(place).cloned() } else { self.wire.remove(place) };
        let Some((from, to, message)) = taken.filter(|_| fate != 1) else { return };
        let message = if self.lies && fate < 5 { self.falsify(&message) } else { Some(message) };
        if let Some(message) = message {
            self.give(to, Input::Message { from: id_of(from), message });
        }
    }

    /// The message with another bit or two, if that still is one.
    fn falsify(&mut self, message: &Message) -> Option<Message> {
        let mut bytes = codec::encode(message);
        for _ in 0..=self.draw(2) {
            let place = self.draw(bytes.len());
            let bit = self.draw(8);
            bytes[place] ^= 1 << bit;
        }
        codec::decode(&bytes).ok()
    }

    /// The disk has done the next thing that it was given; a write may fail, and a read.
    fn serve_disk(&mut self, seat: usize) {
        let fails = self.draw(200) == 0;
        let reason = || "the disk says no".to_owned();
        let holder = &mut self.seats[seat];
        if let Some(batch) = holder.writing.take() {
            let id = batch.id;
            if !fails {
                holder.write(&batch);
                return self.give(seat, Input::Written(id));
            }
            return self.give(seat, Input::WriteFailed { id, reason: reason() });
        }
        if let Some((id, read)) = holder.reads.pop_front() {
            let batches = holder.records.read(&read);
            let failed = Input::ReadFailed { id, reason: reason() };
            return self.give(seat, if fails { failed } else { Input::Read { id, batches } });
        }
        if let Some(job) = holder.job.take() {
            return self.give(seat, Input::SnapshotBuilt(job.write()));
        }
        if core::mem::take(&mut holder.is_saving) {
            self.give(seat, Input::SnapshotSaved);
        }
    }

    fn link(&mut self, seat: usize) {
        let other = (seat + 1 + self.draw(NODES - 1)) % NODES;
        let state = LinkState::Down { reason: "a cable".to_owned() };
        self.give(seat, Input::Link { name: name_of(other), state });
        self.give(seat, Input::Unreachable(id_of(other)));
        let state = LinkState::Up { node: id_of(other) };
        self.give(seat, Input::Link { name: name_of(other), state });
    }

    fn link_all(&mut self, seat: usize) {
        for other in (0..NODES).filter(|other| *other != seat) {
            self.give(
                seat,
                Input::Link { name: name_of(other), state: LinkState::Up { node: id_of(other) } },
            );
        }
    }

    /// Somebody wants something of a node.
    fn ask(&mut self, seat: usize) {
        let request = self.request(seat);
        let from = if self.draw(2) == 0 { Caller::Client } else { Caller::Operator };
        self.requests += 1;
        self.give(seat, Input::Request { id: RequestId::new(self.requests), from, request });
    }

    fn request(&mut self, seat: usize) -> Request {
        let key = Bytes::from(vec![b'a' + u8::try_from(self.draw(4)).expect("a few")]);
        let command = Command::Put { key: key.clone(), value: key.clone() }.encode();
        match self.draw(12) {
            0..=2 => Request::Propose(Proposal::Command(command)),
            3 => Request::Propose(Proposal::Open { lifetime: Duration::from_secs(2) }),
            4 => match self.sessions.last() {
                Some(session) => {
                    let number = self.draws.below(4);
                    let ticket = Ticket { session: *session, number, oldest: number };
                    Request::Propose(Proposal::Once { ticket, command })
                }
                None => Request::Members,
            },
            5 => Request::Query { query: key },
            6 => Request::Entries { from: LogIndex::new(self.draws.below(40)), limit: 10 },
            7 => Request::HandOver { to: Some(id_of(self.draw(NODES))) },
            8 => Request::FollowMetadata { after: LogIndex::new(self.draws.below(60)) },
            9 => match steward::wish(self.seats[seat].node.metadata(), &mut self.draws) {
                Some(wish) => Request::Propose(Proposal::Metadata(Box::new(wish))),
                None => Request::Metadata,
            },
            _ => self.request_of_records(seat),
        }
    }

    fn request_of_records(&mut self, seat: usize) -> Request {
        let metadata = self.seats[seat].node.metadata();
        let Some((topic, _)) = metadata.topics().next() else { return Request::Status };
        let partition = PartitionId { topic, number: 0 };
        let record = Record { key: None, value: Bytes::from_static(b"a record") };
        let ask = if self.draw(2) == 0 {
            let acks = [Acks::None, Acks::Leader, Acks::All][self.draw(3)];
            let timeout = Duration::from_secs(1);
            Ask::Produce(Produce {
                acks,
                timeout,
                count: 1,
                stamp: None,
                records: records::encode(&[record]),
            })
        } else {
            Ask::Consume(Consume {
                from: Offset::new(self.draws.below(9)),
                bytes: 100,
                wait: Duration::ZERO,
                from_anybody: false,
            })
        };
        Request::Ask { partition, epoch: None, ask }
    }

    /// The process ends, and another one starts on its disk; what was being written is there or not.
    fn restart(&mut self, seat: usize) {
        let is_there = self.draw(2) == 0;
        let holder = &mut self.seats[seat];
        if let Some(batch) = holder.writing.take().filter(|_| is_there) {
            holder.write(&batch);
        }
        holder.starts += 1;
        let seed = Seed::new(u64::try_from(seat).expect("a few")).child("start", holder.starts);
        let start = |durable: Durable| {
            Node::start(holder.config.clone(), seed, durable, KeyValue::default(), self.now)
        };
        let node = match start(holder.durable.clone()) {
            Ok(node) => node,
            Err(error) => {
                assert!(self.lies, "what an honest node wrote makes no sense: {error}");
                // Its driver sets the files aside.
                holder.durable = Durable { standing: Standing::Damaged, ..Durable::default() };
                holder.records = Logs::default();
                start(holder.durable.clone()).expect("an empty disk is sound")
            }
        };
        holder.node = node;
        (holder.job, holder.is_saving) = (None, false);
        holder.reads.clear();
        self.settle(seat);
        self.link_all(seat);
    }

    /// Does what a node asks for. One that has halted is started again.
    fn settle(&mut self, seat: usize) {
        while let Some(output) = self.seats[seat].node.poll() {
            self.act(seat, output);
        }
        if self.seats[seat].node.halted().is_some() {
            return self.restart(seat);
        }
        self.seats[seat].node.assert_invariants();
    }

    fn act(&mut self, seat: usize, output: Output) {
        let holder = &mut self.seats[seat];
        match output {
            Output::Write(batch) => assert!(holder.writing.replace(batch).is_none(), "one after the other"),
            Output::Read { id, read } => holder.reads.push_back((id, read)),
            Output::BuildSnapshot => holder.job = holder.node.take_job(),
            Output::SaveSnapshot(_) => holder.is_saving = true,
            Output::Send { to, message } => {
                let to = (0..NODES).find(|other| match &to {
                    Peer::Node(node) => id_of(*other) == *node,
                    Peer::Address(name) => name_of(*other) == *name,
                });
                if let Some(to) = to.filter(|to| *to != seat) {
                    self.wire.push_back((seat, to, message));
                }
            }
            Output::Reply { reply, .. } => self.hear(&reply),
            Output::Event(Event::Alarm { from, refusal }) => {
                assert!(self.lies, "nobody lies, and node {from} is accused of {refusal:?}");
            }
            Output::Dial(_) | Output::HangUp(_) | Output::Gossip(_) | Output::Event(_) => {}
        }
    }

    fn hear(&mut self, reply: &Reply) {
        if let Reply::Opened { session } = reply {
            self.sessions.push(*session);
        }
        let is_wished = matches!(
            reply,
            Reply::Done { .. } | Reply::Answer { .. } | Reply::Opened { .. } | Reply::Told { .. }
        );
        self.answered += usize::from(is_wished);
    }
}
