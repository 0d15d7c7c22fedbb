//! Three members, to whom a few things happen a few times, so that all orders of them can be
//! [tried](crate::explore).
//!
//! Each has a clock of its own, which stands still until its next timer fires; so a timer may fire before or after
//! anything else. What has been sent may arrive in any order or never, and more than once where the budget has repeats; of
//! more than four things on their way the rest is lost. Whom a member probes and tells is drawn by the member itself, from
//! its seed: of these draws one row is tried, and all orders of what follows. States are told apart by what members hold, by
//! how much they are about, by their clocks and by what is on its way, not by everything inside them, which has no hash.

use core::hash::{Hash, Hasher};
use core::net::SocketAddr;
use core::time::Duration;
use std::rc::Rc;

use rivven_cluster::id::NodeId;
use rivven_cluster::machine::Machine;
use rivven_cluster::rng::Seed;
use rivven_cluster::swim::{
    Answer, CallId, Config, Epoch, Input, Lifecycle, Output, Question, Start, State, Swim, Timing,
    WallSeconds,
};
use rivven_cluster::time::Instant;

use super::world::{address_of, id_of, seat_of};
use crate::explore::{Fingerprint, SmallWorld};

/// So many members.
const MEMBERS: usize = 3;
/// So much is on its way at most; the rest is lost.
const WIRE_MAX: usize = 4;
/// What the wall clock shows at the beginning, and by how much more at each restart.
const WALL: u32 = 1_800_000_000;
/// Suspicions end after a few timers.
const TIMING: Timing = Timing {
    suspicion_min: Some(Duration::from_secs(1)),
    suspicion_beta: 1,
    gossip_interval: Duration::from_secs(1),
    sync_interval: Duration::from_secs(3600),
    heal_interval: Duration::from_secs(2),
    ..Timing::LAN
};

/// How often what may happen.
#[derive(Clone, Copy, Debug, Default, Hash)]
pub struct Budget {
    /// Before all that, so many timers of the first member fire, and nothing that is sent arrives: after three of them it
    /// suspects another.
    pub lost: u8,
    /// A timer fires, so often in all.
    pub timers: u8,
    /// A member ends without a word; it may start again, without any memory.
    pub crashes: u8,
    /// A member says goodbye.
    pub leaves: u8,
    /// A member describes itself anew, and so has a later epoch.
    pub words: u8,
    /// What has arrived arrives once more.
    pub repeats: u8,
}

const NOTHING: Budget = Budget { lost: 0, timers: 0, crashes: 0, leaves: 0, words: 0, repeats: 0 };

/// What is tried: small enough that all states can be seen.
pub const BUDGETS: [Budget; 4] = [
    Budget { lost: 4, timers: 3, words: 1, ..NOTHING },
    Budget { lost: 7, timers: 3, leaves: 1, ..NOTHING },
    Budget { timers: 2, crashes: 1, ..NOTHING },
    Budget { timers: 1, crashes: 1, leaves: 1, ..NOTHING },
];

/// Something that happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The next timer of this one fires.
    Timer(usize),
    /// What has this hash arrives.
    Deliver(u64),
    /// The same, and it will once more.
    Repeat(u64),
    /// It crashes.
    Crash(usize),
    /// It starts again.
    Restart(usize),
    /// It leaves.
    Leave(usize),
    /// It has something new to say of itself.
    Describe(usize),
}

/// Something on its way.
#[derive(Clone, Debug)]
struct Packet {
    from: usize,
    to: usize,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Datagram(Vec<u8>),
    Question(CallId, Question),
    Answer(CallId, Answer),
}

/// A member.
#[derive(Clone)]
struct Seat {
    /// None if it has crashed.
    swim: Option<Swim>,
    now: Instant,
    boot: u32,
    /// The highest epoch that it ever had.
    minted: Epoch,
    /// The epoch in which it said goodbye last, if it ever did.
    left_at: Option<Epoch>,
}

/// The world, and what may still happen in it.
#[derive(Clone)]
pub struct Small {
    seats: Vec<Rc<Seat>>,
    wire: Vec<Rc<Packet>>,
    left: Budget,
}

impl Small {
    /// Three members that know each other.
    #[must_use]
    pub fn new(budget: Budget) -> Small {
        let seat = |member| {
            let swim = start(member, 1, Instant::ORIGIN);
            let minted = swim.record().epoch;
            Seat { swim: Some(swim), now: Instant::ORIGIN, boot: 1, minted, left_at: None }
        };
        let mut seats: Vec<Seat> = (0..MEMBERS).map(seat).collect();
        let records: Vec<_> =
            seats.iter().filter_map(|seat| seat.swim.as_ref()).map(|swim| *swim.record()).collect();
        for (member, seat) in seats.iter_mut().enumerate() {
            let Some(swim) = &mut seat.swim else { continue };
            records.iter().filter(|record| record.id != id_of(member)).for_each(|it| swim.introduce(it));
        }
        let timers = budget.timers;
        let mut small =
            Small { seats: seats.into_iter().map(Rc::new).collect(), wire: Vec::new(), left: budget };
        small.left.timers = budget.lost;
        for _ in 0..budget.lost {
            small.happen(&Event::Timer(0));
            small.wire.clear();
        }
        small.left.timers = timers;
        small
    }

    /// Lets a member take an input or fire its timers, takes what it wants done, and judges what became of its table.
    fn step(&mut self, member: usize, act: impl FnOnce(&mut Swim, Instant)) {
        let seat = Rc::make_mut(&mut self.seats[member]);
        let Some(swim) = &mut seat.swim else { return };
        let before = table(swim);
        act(swim, seat.now);
        swim.assert_invariants();
        while let Some(output) = swim.poll() {
            let (to, what) = match output {
                Output::Datagram { to, bytes } => (seat_at(to.address), What::Datagram(bytes)),
                Output::Ask { call, to, question } => (seat_at(to.address), What::Question(call, question)),
                Output::Answer { call, answer } => {
                    let (asker, call) = asker_of(call);
                    (asker, What::Answer(call, answer))
                }
                Output::Resolve(_) | Output::Event(_) => continue,
            };
            self.wire.push(Rc::new(Packet { from: member, to, what }));
        }
        // Which one is lost does not depend on the order in which they were sent.
        self.wire.sort_by_cached_key(|packet| hash(packet));
        self.wire.truncate(WIRE_MAX);
        seat.minted = seat.minted.max(swim.record().epoch);
        let after = table(swim);
        self.judge(member, &before, &after);
    }

    fn arrive(&mut self, packet: &Packet) {
        let Packet { from, to, what } = packet.clone();
        let (from_id, via) = (id_of(from), address_of(from));
        let input = match what {
            What::Datagram(bytes) => Input::Datagram { from: from_id, via, bytes },
            What::Question(call, question) => {
                Input::Asked { call: numbered(from, call), from: from_id, question }
            }
            What::Answer(call, answer) => Input::Answered { call, from: from_id, answer },
        };
        self.step(to, |swim, now| swim.handle(now, input));
    }

    /// What a member holds of another only becomes newer: a later epoch, or of the same one a stronger state (SWIM §4.2).
    /// Nobody is held at an epoch that it never had, nor gone without having said so, nor dead without having been
    /// suspected.
    fn judge(&self, member: usize, before: &Table, after: &Table) {
        for (other, (was, is)) in before.iter().zip(after).enumerate() {
            let (Some(was), Some(is)) = (was, is) else { continue };
            assert!(is >= was, "member {member} held {other} as {was:?}, and holds it as {is:?}");
            let is_burial = is.1 == State::Dead && was.1 == State::Alive;
            assert!(!is_burial, "member {member} holds {other} dead, and never suspected it");
            let ends = was.1 == State::Left && is.1 != State::Left;
            assert!(
                !ends || is.0.generation() > was.0.generation(),
                "member {member}: {other} has come back in the start that it had left in"
            );
        }
        for (other, held) in after.iter().enumerate() {
            let Some((epoch, state)) = *held else { continue };
            let seat = &self.seats[other];
            assert!(epoch <= seat.minted, "member {member} holds {other} at an epoch that it never had");
            let has_left = seat.left_at.is_some_and(|at| epoch.generation() <= at.generation());
            assert!(state != State::Left || has_left, "member {member} holds {other} gone");
        }
    }
}

impl SmallWorld for Small {
    type Event = Event;

    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for (member, seat) in self.seats.iter().enumerate() {
            match &seat.swim {
                None => events.push(Event::Restart(member)),
                Some(swim) => {
                    if self.left.crashes > 0 {
                        events.push(Event::Crash(member));
                    }
                    if self.left.leaves > 0 && swim.lifecycle() != Lifecycle::Gone {
                        events.push(Event::Leave(member));
                    }
                    if self.left.words > 0 {
                        events.push(Event::Describe(member));
                    }
                    if self.left.timers > 0 && swim.deadline().is_some() {
                        events.push(Event::Timer(member));
                    }
                }
            }
        }
        for packet in self.wire.iter().map(|packet| hash(packet)) {
            events.push(Event::Deliver(packet));
            if self.left.repeats > 0 {
                events.push(Event::Repeat(packet));
            }
        }
        events
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Timer(member) => {
                self.left.timers -= 1;
                let seat = Rc::make_mut(&mut self.seats[member]);
                let due = seat.swim.as_ref().and_then(Machine::deadline);
                seat.now = seat.now.max(due.expect("a timer is set"));
                self.step(member, |swim, now| swim.handle_timeout(now));
            }
            Event::Deliver(packet) | Event::Repeat(packet) => {
                let place = self.wire.iter().position(|other| hash(other) == packet);
                let packet = self.wire.remove(place.expect("it is on its way"));
                if matches!(event, Event::Repeat(_)) {
                    self.left.repeats -= 1;
                    self.wire.push(packet.clone());
                }
                self.arrive(&packet);
            }
            Event::Crash(member) => {
                self.left.crashes -= 1;
                Rc::make_mut(&mut self.seats[member]).swim = None;
            }
            Event::Restart(member) => {
                let seat = Rc::make_mut(&mut self.seats[member]);
                seat.boot += 1;
                let mut swim = start(member, seat.boot, seat.now);
                // It has a file of seeds, and knows no more than where they are.
                for other in (0..MEMBERS).filter(|other| *other != member) {
                    swim.handle(seat.now, Input::Met { id: id_of(other), address: address_of(other) });
                }
                seat.minted = seat.minted.max(swim.record().epoch);
                seat.swim = Some(swim);
                self.step(member, |_, _| ());
            }
            Event::Describe(member) => {
                self.left.words -= 1;
                let words = vec![self.left.words];
                self.step(member, |swim, now| swim.handle(now, Input::Describe(words)));
            }
            Event::Leave(member) => {
                self.left.leaves -= 1;
                let seat = Rc::make_mut(&mut self.seats[member]);
                seat.left_at = seat.swim.as_ref().map(|swim| swim.record().epoch);
                self.step(member, |swim, now| swim.handle(now, Input::Leave));
            }
        }
    }

    fn fingerprint(&self) -> u64 {
        let mut state = Fingerprint::default();
        self.left.hash(&mut state);
        for seat in &self.seats {
            (seat.boot, seat.now, seat.minted, seat.left_at).hash(&mut state);
            let Some(swim) = &seat.swim else { continue };
            let held = table(swim).map(|held| held.map(|(epoch, state)| (epoch, rank(state))));
            (held, swim.suspicions(), swim.health(), swim.backlog(), swim.deadline()).hash(&mut state);
        }
        // What is on its way comes in any order.
        let mut wire: Vec<u64> = self.wire.iter().map(|packet| hash(packet)).collect();
        wire.sort_unstable();
        wire.hash(&mut state);
        state.finish()
    }
}

/// What a member holds of all.
type Table = [Option<(Epoch, State)>; MEMBERS];

fn table(swim: &Swim) -> Table {
    core::array::from_fn(|other| swim.member(id_of(other)).map(|member| (member.record.epoch, member.state)))
}

fn rank(state: State) -> u8 {
    match state {
        State::Alive => 0,
        State::Suspect => 1,
        State::Dead => 2,
        State::Left => 3,
    }
}

fn start(member: usize, boot: u32, now: Instant) -> Swim {
    let cluster = "small".parse().expect("a name");
    let mut config = Config::new(id_of(member), cluster, address_of(member), boot);
    config.timing = TIMING;
    let seed = Seed::new(0).child("member", id_of(member).value() << 16 | u64::from(boot));
    let start = Start { wall: WallSeconds(WALL + 10 * boot), remembered: None, seed };
    Swim::start(config, start, now).expect("a sound configuration")
}

fn seat_at(address: SocketAddr) -> usize {
    (0..MEMBERS).find(|member| address_of(*member) == address).expect("nobody is anywhere else")
}

/// A question's number at whom it is asked: it says who asks.
fn numbered(asker: usize, call: CallId) -> CallId {
    CallId(call.0 << 8 | id_of(asker).value())
}

fn asker_of(call: CallId) -> (usize, CallId) {
    let asker = NodeId::new(call.0 & 0xff).expect("it was put there");
    (seat_of(asker), CallId(call.0 >> 8))
}

fn hash(packet: &Packet) -> u64 {
    let mut state = Fingerprint::default();
    (packet.from, packet.to).hash(&mut state);
    match &packet.what {
        What::Datagram(bytes) => (0, bytes).hash(&mut state),
        What::Question(call, question) => (1, call, format!("{question:?}")).hash(&mut state),
        What::Answer(call, answer) => (2, call, format!("{answer:?}")).hash(&mut state),
    }
    state.finish()
}
