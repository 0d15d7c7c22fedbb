//! Our SWIM beside foca 2, in one program: `cargo bench -p rivven-sim --bench swim_peers [-- MEMBERS ...]`.
//!
//! Both run on the same kind of loop, with the same latencies, a period of 1 s, a timeout of 500 ms, 3 helpers,
//! gossip every 200 ms to 3, datagrams of 1400 bytes, and an id of a number and an IPv4 address. foca gets a codec
//! written by hand, a runtime that keeps its buffers, `new_lan(n)` with all its periodic tasks, and
//! `notify_down_members`. A row is printed for each size; lower is better but for the last column.
#![expect(
    clippy::disallowed_types,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "a benchmark reads the clock and prints averages"
)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroU32;
use std::time::{Duration, Instant as Wall};

use bytes::{Buf, BufMut};
use foca::{
    Codec, Foca, Header, Identity, Member, Message, NoCustomBroadcast, Notification, Runtime, State, Timer,
};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rivven_cluster::machine::Machine as _;
use rivven_cluster::rng::{Seed, Stream};
use rivven_cluster::swim::{Config as OurConfig, Input, Output, Start, Swim, WallSeconds};
use rivven_cluster::time::Instant;
use rivven_sim::swim::world::{Setting, World, address_of, id_of};

/// A number and an IPv4 address, as ours has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Id {
    number: u64,
    ip: u32,
    port: u16,
    bump: u16,
}

impl Identity for Id {
    type Addr = (u32, u16);

    fn renew(&self) -> Option<Id> {
        Some(Id { bump: self.bump.wrapping_add(1), ..*self })
    }

    fn addr(&self) -> (u32, u16) {
        (self.ip, self.port)
    }

    fn win_addr_conflict(&self, adversary: &Id) -> bool {
        self.bump > adversary.bump
    }
}

fn foca_id(seat: usize) -> Id {
    Id { number: seat as u64 + 1, ip: seat as u32, port: 7946, bump: 0 }
}

/// Fixed-width fields, as quick as they get.
struct Plain;

#[derive(Debug)]
struct Short;

impl std::fmt::Display for Short {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut short")
    }
}

impl std::error::Error for Short {}

fn put_id(id: Id, buf: &mut impl BufMut) {
    buf.put_u64_le(id.number);
    buf.put_u32_le(id.ip);
    buf.put_u16_le(id.port);
    buf.put_u16_le(id.bump);
}

fn take_id(buf: &mut impl Buf) -> Result<Id, Short> {
    if buf.remaining() < 16 {
        return Err(Short);
    }
    Ok(Id { number: buf.get_u64_le(), ip: buf.get_u32_le(), port: buf.get_u16_le(), bump: buf.get_u16_le() })
}

impl Codec<Id> for Plain {
    type Error = Short;

    fn encode_header(&mut self, header: &Header<Id>, mut buf: impl BufMut) -> Result<(), Short> {
        put_id(header.src, &mut buf);
        buf.put_u16_le(header.src_incarnation);
        put_id(header.dst, &mut buf);
        let (kind, id, number) = match header.message {
            Message::Ping(number) => (0, None, number),
            Message::Ack(number) => (1, None, number),
            Message::PingReq { target, probe_number } => (2, Some(target), probe_number),
            Message::IndirectPing { origin, probe_number } => (3, Some(origin), probe_number),
            Message::IndirectAck { target, probe_number } => (4, Some(target), probe_number),
            Message::ForwardedAck { origin, probe_number } => (5, Some(origin), probe_number),
            Message::Announce => (6, None, 0),
            Message::Feed => (7, None, 0),
            Message::Gossip => (8, None, 0),
            Message::Broadcast => (9, None, 0),
            Message::TurnUndead => (10, None, 0),
        };
        buf.put_u8(kind);
        buf.put_u8(number);
        if let Some(id) = id {
            put_id(id, &mut buf);
        }
        Ok(())
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<Id>, Short> {
        let src = take_id(&mut buf)?;
        if buf.remaining() < 20 {
            return Err(Short);
        }
        let src_incarnation = buf.get_u16_le();
        let dst = take_id(&mut buf)?;
        let (kind, probe_number) = (buf.get_u8(), buf.get_u8());
        let message = match kind {
            0 => Message::Ping(probe_number),
            1 => Message::Ack(probe_number),
            2 => Message::PingReq { target: take_id(&mut buf)?, probe_number },
            3 => Message::IndirectPing { origin: take_id(&mut buf)?, probe_number },
            4 => Message::IndirectAck { target: take_id(&mut buf)?, probe_number },
            5 => Message::ForwardedAck { origin: take_id(&mut buf)?, probe_number },
            6 => Message::Announce,
            7 => Message::Feed,
            8 => Message::Gossip,
            9 => Message::Broadcast,
            10 => Message::TurnUndead,
            _ => return Err(Short),
        };
        Ok(Header { src, src_incarnation, dst, message })
    }

    fn encode_member(&mut self, member: &Member<Id>, mut buf: impl BufMut) -> Result<(), Short> {
        put_id(*member.id(), &mut buf);
        buf.put_u16_le(member.incarnation());
        buf.put_u8(match member.state() {
            State::Alive => 0,
            State::Suspect => 1,
            State::Down => 2,
        });
        Ok(())
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<Member<Id>, Short> {
        let id = take_id(&mut buf)?;
        if buf.remaining() < 3 {
            return Err(Short);
        }
        let incarnation = buf.get_u16_le();
        let state = match buf.get_u8() {
            0 => State::Alive,
            1 => State::Suspect,
            2 => State::Down,
            _ => return Err(Short),
        };
        Ok(Member::new(id, incarnation, state))
    }
}

type Peer = Foca<Id, Plain, ChaCha8Rng, NoCustomBroadcast>;

enum Happening {
    Timer(Timer<Id>),
    Data(Vec<u8>),
}

/// Members of foca on a heap of events.
struct FocaWorld {
    peers: Vec<Option<Box<Peer>>>,
    sides: Vec<u8>,
    queue: BinaryHeap<Reverse<(u64, u64, usize)>>,
    happenings: Vec<Option<(usize, Happening)>>,
    free: Vec<usize>,
    now: u64,
    order: u64,
    network: Stream,
    spare: Vec<Vec<u8>>,
    acts: Acts,
    downs: u64,
}

/// What a member asked for in one step.
#[derive(Default)]
struct Acts {
    sent: Vec<(Id, Vec<u8>)>,
    timers: Vec<(Timer<Id>, Duration)>,
    spare: Vec<Vec<u8>>,
    downs: u64,
}

impl Runtime<Id> for &mut Acts {
    fn notify(&mut self, notification: Notification<'_, Id>) {
        self.downs += u64::from(matches!(notification, Notification::MemberDown(_)));
    }

    fn send_to(&mut self, to: Id, data: &[u8]) {
        let mut bytes = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(1400));
        bytes.clear();
        bytes.extend_from_slice(data);
        self.sent.push((to, bytes));
    }

    fn submit_after(&mut self, event: Timer<Id>, after: Duration) {
        self.timers.push((event, after));
    }
}

const SECOND: u64 = 1_000_000_000;

impl FocaWorld {
    fn new(members: usize, seed: u64) -> FocaWorld {
        let mut world = FocaWorld {
            peers: Vec::new(),
            sides: vec![0; members],
            queue: BinaryHeap::new(),
            happenings: Vec::new(),
            free: Vec::new(),
            now: 0,
            order: 0,
            network: Seed::new(seed).stream("network", 0),
            spare: Vec::new(),
            acts: Acts::default(),
            downs: 0,
        };
        let config = foca::Config::new_lan(NonZeroU32::new(members as u32).expect("some members"));
        for seat in 0..members {
            world.now = world.network.below(SECOND);
            let peer = Foca::new(
                foca_id(seat),
                config.clone(),
                ChaCha8Rng::seed_from_u64(seed ^ seat as u64),
                Plain,
            );
            world.peers.push(Some(Box::new(peer)));
            let others =
                (0..members).filter(|other| *other != seat).map(|other| Member::alive(foca_id(other)));
            world.step(seat, |peer, acts| peer.apply_many(others, true, acts).expect("sound members"));
            // It was always known: what it has to say about it is no news.
            world.step(seat, |peer, acts| {
                while peer.updates_backlog() > 0 && peer.gossip(&mut *acts).is_ok() {
                    acts.sent.clear();
                }
            });
        }
        world.now = SECOND;
        world
    }

    fn step(&mut self, seat: usize, act: impl FnOnce(&mut Peer, &mut Acts)) {
        let Some(peer) = &mut self.peers[seat] else { return };
        self.acts.spare.append(&mut self.spare);
        act(peer, &mut self.acts);
        self.spare.append(&mut self.acts.spare);
        self.downs += std::mem::take(&mut self.acts.downs);
        let mut timers = std::mem::take(&mut self.acts.timers);
        for (timer, after) in timers.drain(..) {
            self.push(self.now + after.as_nanos() as u64, seat, Happening::Timer(timer));
        }
        self.acts.timers = timers;
        let mut sent = std::mem::take(&mut self.acts.sent);
        for (to, bytes) in sent.drain(..) {
            let other = to.ip as usize;
            if self.sides[seat] == self.sides[other] && self.peers[other].is_some() {
                let latency = self.network.between(200_000, 2_000_000);
                self.push(self.now + latency, other, Happening::Data(bytes));
            } else {
                self.spare.push(bytes);
            }
        }
        self.acts.sent = sent;
    }

    fn push(&mut self, at: u64, seat: usize, happening: Happening) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.happenings.push(None);
            self.happenings.len() - 1
        });
        self.happenings[slot] = Some((seat, happening));
        self.order += 1;
        self.queue.push(Reverse((at, self.order, slot)));
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time.as_nanos() as u64;
        while self.queue.peek().is_some_and(|Reverse((at, _, _))| *at <= end) {
            let Some(Reverse((at, _, slot))) = self.queue.pop() else { break };
            self.now = self.now.max(at);
            self.free.push(slot);
            match self.happenings[slot].take() {
                Some((seat, Happening::Timer(timer))) => {
                    self.step(seat, |peer, acts| _ = peer.handle_timer(timer, acts));
                }
                Some((seat, Happening::Data(bytes))) => {
                    self.step(seat, |peer, acts| _ = peer.handle_data(&bytes, acts));
                    self.spare.push(bytes);
                }
                None => {}
            }
        }
        self.now = end;
    }

    fn all_know(&self, members: usize) -> bool {
        self.peers.iter().flatten().all(|peer| peer.num_members() + 1 == members)
    }

    /// How long until `done`, in seconds; `None` if it takes longer than `most`.
    fn until(&mut self, most: u64, mut done: impl FnMut(&FocaWorld) -> bool) -> Option<f64> {
        let began = self.now;
        while !done(self) {
            if self.now - began > most * SECOND {
                return None;
            }
            self.run_for(Duration::from_millis(50));
        }
        Some((self.now - began) as f64 / SECOND as f64)
    }
}

fn show(took: Option<f64>) -> String {
    took.map_or_else(|| "never".to_owned(), |took| format!("{took:.2} s"))
}

/// B1: CPU of one member in one quiet period, the loop included. The least of three runs.
fn quiet(members: usize) -> [f64; 2] {
    let each = |took: Duration, seconds: u64| took.as_secs_f64() * 1e6 / (members as u64 * seconds) as f64;
    let seconds = if members > 1000 { 5 } else { 20_000 / members as u64 };
    let mut ours = World::new(Setting::new(members, 1));
    ours.run_for(Duration::from_secs(2));
    let mut theirs = FocaWorld::new(members, 1);
    theirs.run_for(Duration::from_secs(40));
    let mut best = [f64::MAX; 2];
    for _ in 0..3 {
        let began = Wall::now();
        ours.run_for(Duration::from_secs(seconds));
        best[0] = best[0].min(each(began.elapsed(), seconds));
        let began = Wall::now();
        theirs.run_for(Duration::from_secs(seconds));
        best[1] = best[1].min(each(began.elapsed(), seconds));
    }
    best
}

/// B2: CPU of one warm member for a datagram with so many updates that it knows already, in microseconds.
fn datagram(members: usize, updates: usize) -> [f64; 2] {
    let rounds = if members > 1000 { 2_000 } else { 20_000 };
    let time = |mut step: Box<dyn FnMut()>| {
        (0..rounds / 10).for_each(|_| step());
        let began = Wall::now();
        (0..rounds).for_each(|_| step());
        began.elapsed().as_secs_f64() * 1e6 / f64::from(rounds)
    };
    [time(our_listener(members, updates)), time(foca_listener(members, updates))]
}

/// A step in which one of our members hears a ping with updates, and answers it.
fn our_listener(members: usize, updates: usize) -> Box<dyn FnMut()> {
    // A member that has just met `updates` others tells of them.
    let start = |seat: usize| {
        let config = OurConfig::new(id_of(seat), "swim".parse().expect("a name"), address_of(seat), 1);
        let wall = WallSeconds(200_000_000);
        let start = Start { wall, remembered: None, seed: Seed::new(1) };
        Swim::start(OurConfig { datagram_max: 1400, ..config }, start, Instant::ORIGIN)
            .expect("a sound configuration")
    };
    let (mut talker, mut listener) = (start(1), start(0));
    for seat in 1..members {
        listener.introduce(start(seat).record());
    }
    talker.introduce(listener.record());
    // It hears of them one datagram each, so that they are news to it, and then pings.
    for seat in 2..2 + updates {
        let mut other = start(seat);
        other.introduce(talker.record());
        other.handle(Instant::ORIGIN, Input::Describe(Vec::new()));
        other.handle_timeout(other.deadline().expect("a probe"));
        while let Some(output) = other.poll() {
            if let Output::Datagram { bytes, .. } = output {
                talker.handle(
                    Instant::ORIGIN,
                    Input::Datagram { from: id_of(seat), via: address_of(seat), bytes },
                );
            }
        }
    }
    let mut said: Vec<u8> = Vec::new();
    while let Some(due) = talker.deadline().filter(|_| said.is_empty()) {
        talker.handle_timeout(due);
        while let Some(output) = talker.poll() {
            if let Output::Datagram { bytes, .. } = output {
                said = if bytes.len() > said.len() { bytes } else { said };
            }
        }
    }
    // Whomever it was for, and whatever it was: a ping to the listener.
    said[8] = 0;
    said[30..38].copy_from_slice(&1_u64.to_le_bytes());
    assert!(said.len() >= 51 + 20 * updates, "{} bytes hold fewer than {updates} updates", said.len());
    let (mut at, mut spare) = (Instant::ORIGIN, Vec::<Vec<u8>>::new());
    Box::new(move || {
        at = at + Duration::from_millis(1);
        let mut bytes = spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(&said);
        listener.handle(at, Input::Datagram { from: id_of(1), via: address_of(1), bytes });
        while let Some(output) = listener.poll() {
            if let Output::Datagram { bytes, .. } = output {
                spare.push(bytes);
            }
        }
        if listener.deadline().is_some_and(|due| due <= at) {
            listener.handle_timeout(at);
            while listener.poll().is_some() {}
        }
    })
}

/// The same with foca.
fn foca_listener(members: usize, updates: usize) -> Box<dyn FnMut()> {
    let config = foca::Config::new_lan(NonZeroU32::new(members as u32).expect("some members"));
    let mut peer = Foca::new(foca_id(0), config, ChaCha8Rng::seed_from_u64(1), Plain);
    let mut acts = Acts::default();
    let others = (1..members).map(|seat| Member::alive(foca_id(seat)));
    peer.apply_many(others, false, &mut acts).expect("sound members");
    let header = Header { src: foca_id(1), src_incarnation: 0, dst: foca_id(0), message: Message::Ping(1) };
    let mut bytes = Vec::new();
    Plain.encode_header(&header, &mut bytes).expect("it fits");
    bytes.put_u16(updates as u16);
    for seat in 2..2 + updates {
        Plain.encode_member(&Member::alive(foca_id(seat)), &mut bytes).expect("it fits");
    }
    Box::new(move || {
        peer.handle_data(&bytes, &mut acts).expect("a sound datagram");
        let sent: Vec<Vec<u8>> = acts.sent.drain(..).map(|(_, bytes)| bytes).collect();
        acts.spare.extend(sent);
        acts.timers.clear();
    })
}

/// B10: seconds until whole again after a minute in halves, and who was declared dead meanwhile.
fn merge(members: usize) -> [String; 2] {
    let ours = rivven_sim::swim::gates::merge(members, 1);
    let mut world = FocaWorld::new(members, 1);
    world.run_for(Duration::from_secs(3));
    (0..members / 2).for_each(|seat| world.sides[seat] = 1);
    world.run_for(Duration::from_secs(60));
    world.sides.fill(0);
    let downs = world.downs;
    let took = world.until(600, |world| world.all_know(members));
    [
        format!("{}, {} deaths", ours[0].measured, ours[1].measured),
        format!("{}, {} deaths", show(took), world.downs - downs),
    ]
}

/// B6, B7: a newcomer knows all; a crash is known to all.
fn news(members: usize) -> [[String; 2]; 2] {
    let join = rivven_sim::swim::gates::join(members, 1);
    let crash = rivven_sim::swim::gates::detection(members, 1, 1);
    let mut world = FocaWorld::new(members, 1);
    world.run_for(Duration::from_secs(3));
    world.peers[1] = None;
    let crashed =
        world.until(200, |world| world.peers.iter().flatten().all(|peer| peer.num_members() + 2 == members));
    let mut world = FocaWorld::new(members, 2);
    world.run_for(Duration::from_secs(3));
    let config = foca::Config::new_lan(NonZeroU32::new(members as u32).expect("some members"));
    let newcomer = Foca::new(foca_id(members), config, ChaCha8Rng::seed_from_u64(9), Plain);
    world.peers.push(Some(Box::new(newcomer)));
    world.sides.push(0);
    world.step(members, |peer, acts| peer.announce(foca_id(0), acts).expect("a seed"));
    let joined = world
        .until(600, |world| world.peers[members].as_ref().is_some_and(|peer| peer.num_members() >= members));
    [[join[0].measured.clone(), show(joined)], [crash[2].measured.clone(), show(crashed)]]
}

fn main() {
    let sizes: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![10, 100, 1000] } else { sizes };
    println!("{:>6}  {:<48} {:>24} {:>24}", "n", "", "ours", "foca");
    for members in sizes {
        let row = |what: &str, [ours, theirs]: [String; 2]| {
            println!("{members:>6}  {what:<48} {ours:>24} {theirs:>24}");
        };
        row("CPU a member and quiet period, us", quiet(members).map(|us| format!("{us:.2}")));
        for updates in [0, 10, 40] {
            if members > updates + 2 {
                let both = datagram(members, updates).map(|us| format!("{us:.2}"));
                row(&format!("CPU a datagram with {updates} known updates, us"), both);
            }
        }
        let [join, crash] = news(members);
        row("a newcomer knows all", join);
        row("a crash is known to all, periods", crash);
        row("whole after a minute in halves", merge(members));
    }
}
