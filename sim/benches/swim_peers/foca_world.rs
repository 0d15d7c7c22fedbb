//! Members of foca on a heap of events, with a codec written by hand.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroU32;
use std::time::Duration;

use bytes::{Buf, BufMut};
use foca::{
    Codec, Foca, Header, Identity, Member, Message, NoCustomBroadcast, Notification, Runtime, State, Timer,
};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rivven_cluster::rng::{Seed, Stream};

/// A number and an IPv4 address, as ours has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Id {
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

pub fn foca_id(seat: usize) -> Id {
    Id { number: seat as u64 + 1, ip: seat as u32, port: 7946, bump: 0 }
}

/// Fixed-width fields, as quick as they get.
pub struct Plain;

#[derive(Debug)]
pub struct Short;

impl std::fmt::Display for Short {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut short")
    }
}

impl std::error::Error for Short {}

pub fn put_id(id: Id, buf: &mut impl BufMut) {
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

pub type Peer = Foca<Id, Plain, ChaCha8Rng, NoCustomBroadcast>;

enum Happening {
    Timer(Timer<Id>),
    Data(Vec<u8>),
}

/// Members of foca on a heap of events.
pub struct FocaWorld {
    pub peers: Vec<Option<Box<Peer>>>,
    pub sides: Vec<u8>,
    queue: BinaryHeap<Reverse<(u64, u64, usize)>>,
    happenings: Vec<Option<(usize, Happening)>>,
    free: Vec<usize>,
    now: u64,
    order: u64,
    network: Stream,
    pub loss_ppm: u64,
    spare: Vec<Vec<u8>>,
    acts: Acts,
    pub downs: u64,
}

/// What a member asked for in one step.
#[derive(Default)]
pub struct Acts {
    pub sent: Vec<(Id, Vec<u8>)>,
    pub timers: Vec<(Timer<Id>, Duration)>,
    pub spare: Vec<Vec<u8>>,
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

pub const SECOND: u64 = 1_000_000_000;

impl FocaWorld {
    pub fn new(members: usize, seed: u64) -> FocaWorld {
        let mut world = FocaWorld {
            peers: Vec::new(),
            sides: vec![0; members],
            queue: BinaryHeap::new(),
            happenings: Vec::new(),
            free: Vec::new(),
            now: 0,
            order: 0,
            network: Seed::new(seed).stream("network", 0),
            loss_ppm: 0,
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

    pub fn step(&mut self, seat: usize, act: impl FnOnce(&mut Peer, &mut Acts)) {
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
            let is_lost = self.loss_ppm > 0 && self.network.chance(self.loss_ppm, 1_000_000);
            if !is_lost && self.sides[seat] == self.sides[other] && self.peers[other].is_some() {
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

    pub fn run_for(&mut self, time: Duration) {
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

    pub fn all_know(&self, members: usize) -> bool {
        self.peers.iter().flatten().all(|peer| peer.num_members() + 1 == members)
    }

    /// How long until `done`, in seconds; `None` if it takes longer than `most`.
    pub fn until(&mut self, most: u64, mut done: impl FnMut(&FocaWorld) -> bool) -> Option<f64> {
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
