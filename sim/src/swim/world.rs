//! Members on a heap of events: a network with latency, loss and cuts, crashes, pauses and newcomers.
//!
//! The machines are the production ones; here is only what is between them. Every draw follows from the
//! seed. Datagrams take a random time within the latency's range and may be lost; questions and answers on
//! streams take twice as long and are lost only where no path is. A member that is paused handles nothing,
//! and whatever comes meanwhile waits at its socket, up to a bound.

mod check;
mod setting;

use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use rivven_cluster::id::{NodeId, PeerName};
use rivven_cluster::machine::Machine;
use rivven_cluster::rng::{Seed, Stream};
use rivven_cluster::swim::{
    CallId, Config, Event, Input, Kind, Output, Start, State, Swim, Target, WallSeconds,
};
use rivven_cluster::time::Instant;

pub use self::setting::Setting;

/// How many datagrams wait at the socket of a member that is paused; the newest beyond it are lost.
const SOCKET_MAX: usize = 4096;
/// When the world begins, by the wall clock.
const WALL: u32 = 200_000_000;

/// Something that happens at a member.
enum Happening {
    Timer { member: usize },
    Input { member: usize, input: Box<Input> },
    Datagram { member: usize, from: NodeId, via: SocketAddr, bytes: Vec<u8> },
    Asked { member: usize, asker: usize, call: CallId, input: Box<Input> },
    Resume { member: usize },
}

/// One member, or the place of one that has crashed.
struct Seat {
    swim: Option<Box<Swim>>,
    /// Where it is reached.
    address: SocketAddr,
    boot: u32,
    /// The highest epoch of the lives before this one.
    minted_before: u64,
    timer: Option<Instant>,
    paused_until: Option<Instant>,
    socket: VecDeque<Happening>,
    /// How many datagrams it handles at once after it was stopped.
    appetite: usize,
    /// Which questions of others wait for its answer: who asked, and under which number.
    asked: BTreeMap<CallId, (usize, CallId)>,
    next_call: u64,
}

/// What a member told its application.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// When.
    pub at: Instant,
    /// Which member.
    pub member: usize,
    /// What.
    pub event: Event,
}

/// A world of members.
pub struct World {
    setting: Setting,
    now: Instant,
    seats: Vec<Seat>,
    /// Who is reached at the address of each seat: that seat, unless two have swapped.
    tenants: Vec<usize>,
    queue: BinaryHeap<Reverse<(Instant, u64, usize)>>,
    happenings: Vec<Option<Happening>>,
    free: Vec<usize>,
    order: u64,
    network: Stream,
    seed: Seed,
    /// The side that each member is on; only members of one side hear each other.
    sides: Vec<u8>,
    /// Paths that lose everything, from one member to another.
    cut: BTreeSet<(usize, usize)>,
    /// How many datagrams in a million each member loses on the way in, beside the network's loss.
    pub ingress_loss_ppm: BTreeMap<usize, u64>,
    /// How many datagrams in a million have a byte changed, by a member that lies.
    pub forges_ppm: u64,
    has_forged: bool,
    /// What is kept of what members told.
    pub told: Vec<Told>,
    /// Which of it to keep: nothing at first. After a partition ten thousand members say fifty million things.
    pub keeps: fn(&Event) -> bool,
    /// The first ping to a crashed member by each other: when, and whom.
    pub pings_to_crashed: BTreeMap<(usize, usize), Instant>,
    /// Whether to check every invariant and every transition after every step.
    pub is_checked: bool,
    before: BTreeMap<(usize, NodeId), (u64, State)>,
    /// How many events there were.
    pub events: u64,
    /// All that was sent, in datagrams.
    pub datagrams: u64,
    trace: u64,
}

/// Whether a member holds another one dead.
#[must_use]
pub fn is_death(event: &Event) -> bool {
    matches!(event, Event::Dead(_))
}

/// The id of the member in a seat.
#[must_use]
pub fn id_of(member: usize) -> NodeId {
    NodeId::new(wide(member) + 1).expect("one more than an index")
}

/// The seat of a member.
#[must_use]
pub fn seat_of(id: NodeId) -> usize {
    usize::try_from(id.value() - 1).expect("a seat")
}

fn wide(n: usize) -> u64 {
    u64::try_from(n).expect("a small number")
}

/// The address of the member in a seat, unless it has swapped it with another.
#[must_use]
pub fn address_of(member: usize) -> SocketAddr {
    let [_, b, c, d] = u32::try_from(member).expect("a seat").to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(10, b, c, d), 7946))
}

fn seat_at(address: SocketAddr) -> Option<usize> {
    match address {
        SocketAddr::V4(v4) => {
            let [_, b, c, d] = v4.ip().octets();
            usize::try_from(u32::from_be_bytes([0, b, c, d])).ok()
        }
        SocketAddr::V6(_) => None,
    }
}

fn name_of(member: usize) -> PeerName {
    address_of(member).to_string().parse().expect("an address is a name")
}

impl World {
    /// Makes the members, and starts them.
    #[must_use]
    pub fn new(setting: Setting) -> World {
        let seed = Seed::new(setting.seed);
        let mut world = World {
            now: Instant::ORIGIN,
            seats: Vec::new(),
            tenants: Vec::new(),
            queue: BinaryHeap::new(),
            happenings: Vec::new(),
            free: Vec::new(),
            order: 0,
            network: seed.stream("swim network", 0),
            seed,
            sides: Vec::new(),
            cut: BTreeSet::new(),
            ingress_loss_ppm: BTreeMap::new(),
            forges_ppm: 0,
            has_forged: false,
            told: Vec::new(),
            keeps: |_| false,
            pings_to_crashed: BTreeMap::new(),
            is_checked: false,
            before: BTreeMap::new(),
            events: 0,
            datagrams: 0,
            trace: 0,
            setting,
        };
        for _ in 0..world.setting.members {
            let seat = world.add_seat();
            world.start(seat, seat < 3 && !world.setting.is_warm && seat == 0);
        }
        if world.setting.is_warm {
            world.introduce_all();
        }
        world
    }

    fn add_seat(&mut self) -> usize {
        let seat = self.seats.len();
        self.seats.push(Seat {
            swim: None,
            address: address_of(seat),
            boot: 0,
            minted_before: 0,
            timer: None,
            paused_until: None,
            socket: VecDeque::new(),
            appetite: usize::MAX,
            asked: BTreeMap::new(),
            next_call: 0,
        });
        self.tenants.push(seat);
        self.sides.push(0);
        seat
    }

    fn introduce_all(&mut self) {
        let records: Vec<_> =
            self.seats.iter().filter_map(|seat| seat.swim.as_ref().map(|swim| *swim.record())).collect();
        for member in 0..self.seats.len() {
            if let Some(swim) = &mut self.seats[member].swim {
                for record in records.iter().filter(|record| record.id != id_of(member)) {
                    swim.introduce(record);
                }
            }
            self.settle(member);
        }
    }

    /// Starts the member of a seat, anew if it ran before. The first of all needs no seed.
    fn start(&mut self, member: usize, is_first: bool) {
        let seat = &mut self.seats[member];
        seat.boot += 1;
        let cluster = "swim".parse().expect("a name");
        let mut config = Config::new(id_of(member), cluster, seat.address, seat.boot);
        config.timing = self.setting.timing;
        config.caution = self.setting.caution;
        config.zone = u16::try_from(member % self.setting.zones).expect("a few zones");
        config.seeds = if is_first || self.setting.is_warm && self.now == Instant::ORIGIN {
            Vec::new()
        } else {
            (0..3.min(self.setting.members)).map(name_of).collect()
        };
        let seconds = u32::try_from(self.now.as_nanos() / 1_000_000_000).expect("a short run");
        let start = Start {
            wall: WallSeconds(WALL + seconds),
            remembered: None,
            seed: self.seed.child("member", wide(member) << 16 | u64::from(seat.boot)),
        };
        let swim = Swim::start(config, start, self.now).expect("a sound configuration");
        seat.swim = Some(Box::new(swim));
        (seat.timer, seat.paused_until) = (None, None);
        self.before.retain(|(observer, _), _| *observer != member);
        self.settle(member);
    }

    /// Whether any datagram was falsified.
    #[must_use]
    pub fn has_forged(&self) -> bool {
        self.has_forged
    }

    /// How many seats there are, empty ones included.
    #[must_use]
    pub fn seats(&self) -> usize {
        self.seats.len()
    }

    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The members that run.
    pub fn running(&self) -> impl Iterator<Item = (usize, &Swim)> {
        self.seats.iter().enumerate().filter_map(|(seat, it)| it.swim.as_deref().map(|swim| (seat, swim)))
    }

    /// One member, if it runs.
    #[must_use]
    pub fn swim(&self, member: usize) -> Option<&Swim> {
        self.seats.get(member)?.swim.as_deref()
    }

    /// A hash of all that happened so far.
    #[must_use]
    pub fn trace(&self) -> u64 {
        self.trace
    }

    /// Adds a member that knows the first three only.
    pub fn join(&mut self) -> usize {
        let seat = self.add_seat();
        self.start(seat, false);
        seat
    }

    /// Ends a member without a word.
    pub fn crash(&mut self, member: usize) {
        let asked = core::mem::take(&mut self.seats[member].asked);
        asked.into_values().for_each(|(asker, call)| self.unanswered(asker, call));
        let last = self.seats[member].swim.take().map_or(0, |swim| swim.record().epoch.value());
        self.seats[member].minted_before = self.seats[member].minted_before.max(last);
        self.seats[member].timer = None;
        self.seats[member].socket.clear();
    }

    /// Starts a member again that has crashed, without any memory.
    pub fn restart(&mut self, member: usize) {
        self.start(member, false);
    }

    /// Two members are started anew, each at the address where the other was.
    pub fn swap(&mut self, one: usize, other: usize) {
        self.crash(one);
        self.crash(other);
        let (first, second) = (self.seats[one].address, self.seats[other].address);
        (self.seats[one].address, self.seats[other].address) = (second, first);
        for seat in [one, other] {
            let place = seat_at(self.seats[seat].address).expect("one of ours");
            self.tenants[place] = seat;
            self.restart(seat);
        }
    }

    /// Tells a member something.
    pub fn tell(&mut self, member: usize, input: Input) {
        self.push(self.now, Happening::Input { member, input: Box::new(input) });
    }

    /// Stops a member for a while.
    pub fn pause(&mut self, member: usize, time: Duration) {
        self.starve(member, time, usize::MAX);
    }

    /// Stops a member for a while; then it handles its timers and so many of the datagrams that have come, and
    /// the rest only if it is not stopped again at once.
    pub fn starve(&mut self, member: usize, time: Duration, datagrams: usize) {
        let until = self.now + time;
        self.seats[member].paused_until = Some(until);
        self.seats[member].appetite = datagrams;
        self.push(until, Happening::Resume { member });
    }

    /// Puts a member on a side of a partition.
    pub fn set_side(&mut self, member: usize, side: u8) {
        self.sides[member] = side;
    }

    /// Cuts the path from one member to another, in that direction.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to));
    }

    /// Changes how many datagrams in a million are lost.
    pub fn set_loss_ppm(&mut self, loss_ppm: u64) {
        self.setting.loss_ppm = loss_ppm;
    }

    /// Plays until `end`.
    pub fn run_until(&mut self, end: Instant) {
        while let Some(Reverse((at, _, _))) = self.queue.peek() {
            if *at > end {
                break;
            }
            let Some(Reverse((at, _, slot))) = self.queue.pop() else { break };
            self.now = at;
            self.events += 1;
            self.free.push(slot);
            if let Some(happening) = self.happenings[slot].take() {
                self.play(happening);
            }
        }
        self.now = end;
    }

    /// Plays for some time more.
    pub fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    /// Plays until `done` says so, or for `most`; tells how long it took.
    pub fn run_until_done(
        &mut self,
        step: Duration,
        most: Duration,
        mut done: impl FnMut(&World) -> bool,
    ) -> Option<Duration> {
        let began = self.now;
        loop {
            if done(self) {
                return Some(self.now.saturating_since(began));
            }
            if self.now.saturating_since(began) >= most {
                return None;
            }
            self.run_for(step);
        }
    }

    fn push(&mut self, at: Instant, happening: Happening) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.happenings.push(None);
            self.happenings.len() - 1
        });
        self.happenings[slot] = Some(happening);
        self.order += 1;
        self.queue.push(Reverse((at, self.order, slot)));
    }

    fn play(&mut self, happening: Happening) {
        let member = match &happening {
            Happening::Timer { member }
            | Happening::Input { member, .. }
            | Happening::Datagram { member, .. }
            | Happening::Asked { member, .. }
            | Happening::Resume { member } => *member,
        };
        let seat = &mut self.seats[member];
        if let Some(until) = seat.paused_until {
            if self.now < until {
                if seat.socket.len() < SOCKET_MAX && !matches!(happening, Happening::Timer { .. }) {
                    seat.socket.push_back(happening);
                }
                return;
            }
            self.resume(member);
        } else if matches!(happening, Happening::Resume { .. }) {
            self.resume(member);
        } else if !seat.socket.is_empty() && !matches!(happening, Happening::Timer { .. }) {
            seat.socket.push_back(happening);
            return;
        }
        self.handle(member, happening);
        self.settle(member);
    }

    fn resume(&mut self, member: usize) {
        self.seats[member].paused_until = None;
        // A process that goes on may see its timers first, or what has come meanwhile.
        if self.network.chance(1, 2)
            && let Some(swim) = &mut self.seats[member].swim
        {
            swim.handle_timeout(self.now);
            self.settle(member);
        }
        for _ in 0..self.seats[member].appetite {
            let Some(happening) = self.seats[member].socket.pop_front() else { break };
            self.handle(member, happening);
        }
        if !self.seats[member].socket.is_empty() {
            self.push(self.now + Duration::from_millis(20), Happening::Resume { member });
        }
        if let Some(swim) = &mut self.seats[member].swim {
            swim.handle_timeout(self.now);
        }
    }

    fn handle(&mut self, member: usize, happening: Happening) {
        let now = self.now;
        let seat = &mut self.seats[member];
        let Some(swim) = &mut seat.swim else {
            if let Happening::Asked { asker, call, .. } = happening {
                self.unanswered(asker, call);
            }
            return;
        };
        match happening {
            Happening::Timer { .. } => {
                if seat.timer == Some(now) {
                    seat.timer = None;
                    swim.handle_timeout(now);
                    assert!(swim.deadline().is_none_or(|at| at > now), "member {member} spins");
                }
            }
            Happening::Input { input, .. } => swim.handle(now, *input),
            Happening::Datagram { from, via, bytes, .. } => {
                swim.handle(now, Input::Datagram { from, via, bytes });
            }
            Happening::Asked { asker, call, mut input, .. } => {
                let own = CallId(seat.next_call);
                seat.next_call += 1;
                seat.asked.insert(own, (asker, call));
                if let Input::Asked { call, .. } = &mut *input {
                    *call = own;
                }
                swim.handle(now, *input);
            }
            Happening::Resume { .. } => {}
        }
    }

    /// Takes a member's outputs, and sets its timer.
    fn settle(&mut self, member: usize) {
        while let Some(output) = self.seats[member].swim.as_mut().and_then(|swim| swim.poll()) {
            self.act(member, output);
        }
        let Some(swim) = &self.seats[member].swim else { return };
        let deadline = swim.deadline().map(|at| at.max(self.now));
        if deadline != self.seats[member].timer {
            self.seats[member].timer = deadline;
            if let Some(at) = deadline {
                self.push(at, Happening::Timer { member });
            }
        }
        if self.is_checked {
            self.check(member);
        }
    }

    fn act(&mut self, member: usize, output: Output) {
        match output {
            Output::Datagram { to, bytes } => self.send(member, to, bytes),
            Output::Ask { call, to, question } => {
                let input = Input::Asked { call, from: id_of(member), question };
                match self.path(member, to) {
                    Some(other) => {
                        let at = self.now + self.latency() * 2;
                        let input = Box::new(input);
                        self.push(at, Happening::Asked { member: other, asker: member, call, input });
                    }
                    None => self.unanswered(member, call),
                }
            }
            Output::Answer { call, answer } => {
                let Some((asker, call)) = self.seats[member].asked.remove(&call) else { return };
                let input = Input::Answered { call, from: id_of(member), answer };
                if self.sides[member] == self.sides[asker] {
                    let at = self.now + self.latency() * 2;
                    self.push(at, Happening::Input { member: asker, input: Box::new(input) });
                } else {
                    self.unanswered(asker, call);
                }
            }
            Output::Resolve(name) => {
                let addresses = name.as_str().parse().into_iter().collect();
                let at = self.now + self.latency();
                let input = Box::new(Input::Resolved { name, addresses });
                self.push(at, Happening::Input { member, input });
            }
            Output::Event(event) => {
                self.mix(wide(member) << 8 ^ 0xee);
                let keeps = self.keeps;
                if keeps(&event) {
                    self.told.push(Told { at: self.now, member, event });
                }
            }
        }
    }

    fn unanswered(&mut self, asker: usize, call: CallId) {
        let at = self.now + self.setting.timing.period;
        self.push(at, Happening::Input { member: asker, input: Box::new(Input::Unanswered { call }) });
    }

    /// Who is reached at an address, if there is a path.
    fn path(&self, from: usize, to: Target) -> Option<usize> {
        let other = *self.tenants.get(seat_at(to.address)?)?;
        (self.sides[from] == self.sides[other] && !self.cut.contains(&(from, other))).then_some(other)
    }

    fn send(&mut self, member: usize, to: Target, bytes: Vec<u8>) {
        self.datagrams += 1;
        self.mix(self.now.as_nanos() ^ wide(member) << 40 ^ wide(bytes.len()));
        let other = self.path(member, to);
        let is_lost = self.setting.loss_ppm > 0 && self.network.chance(self.setting.loss_ppm, 1_000_000);
        let latency = self.latency();
        let fits = bytes.len() <= self.setting.longest;
        let Some(other) = other.filter(|_| !is_lost && fits) else { return };
        if let Some(ppm) = self.ingress_loss_ppm.get(&other)
            && self.network.chance(*ppm, 1_000_000)
        {
            return;
        }
        if self.seats[other].swim.is_none() {
            if Kind::of_datagram(&bytes) == Some(Kind::Ping) {
                self.pings_to_crashed.entry((other, member)).or_insert(self.now);
            }
            return;
        }
        let mut bytes = bytes;
        if self.forges_ppm > 0 && self.network.chance(self.forges_ppm, 1_000_000) {
            // Whoever lies does it under its own name: the certificate sees to that.
            let at = self.network.below(wide(bytes.len()));
            if let Some(byte) = bytes.get_mut(usize::try_from(at).expect("a place")) {
                *byte ^= 1 << self.network.below(8);
                self.has_forged = true;
            }
        }
        let (from, via) = (id_of(member), self.seats[member].address);
        self.push(self.now + latency, Happening::Datagram { member: other, from, via, bytes });
    }

    fn latency(&mut self) -> Duration {
        let (low, high) = self.setting.latency;
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).expect("a short time");
        Duration::from_nanos(self.network.between(nanos(low), nanos(high)))
    }

    fn mix(&mut self, value: u64) {
        self.trace = (self.trace ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
}
