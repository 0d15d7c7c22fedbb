//! SWIM: who is a member, and who is alive, without anybody in charge.
//!
//! # The idea
//!
//! Each member *probes* one other member a period. Whoever does not answer is probed through others, and if
//! that does not help either, it is *suspected*: everybody is told, and it has some time to object. If it
//! does not, it is *dead*. News travels on the back of the probes, and beside them while there is any
//! (SWIM: Das, Gupta, Motivala 2002). So a member sends two messages a period however many members there are,
//! a crash is noticed within a period or two, and everybody knows within O(log n) rounds.
//!
//! ```text
//!             no answer            k helpers, a stream              no objection in time
//!   ping ───────────────► ping-req ──────────────────► Suspect ─────────────────────────► Dead
//!    ▲ answer                │ answer                     │ a word with a higher epoch      │ the same
//!    └───────────────────────┴───────────── Alive ◄───────┴─────────────────────────────────┘
//! ```
//!
//! # What the paper leaves open, and what is done about it
//!
//! * *A slow member accuses healthy ones.* It probes slower the less healthy it finds itself, it is told of
//!   suspicions against it first, and suspicions that nobody confirms last longer (Lifeguard: Dadgar,
//!   Phillips, Currey 2017; `probe`, `suspicion`). One that was stopped voids what it was about to say.
//! * *A partition leaves two halves that hold each other dead, for ever.* The dead are tried again
//!   (`heal`), and then the tables are compared (`sync`); each victim objects once.
//! * *Gossip loses.* What it loses shows in a hash of the members that every datagram carries (`table`),
//!   and is repaired by comparing tables.
//! * *A restart without a disk begins below its own obituary, and a liar can claim numbers that cannot be
//!   outbid.* See `epoch` and `own`.
//!
//! # Reading
//!
//! One datagram: `receive` → `update` (who wins: `member`) → `table`, and what became news goes
//! out by `send` in the order of `gossip`. One period: `probe`.
//!
//! # What it does not do
//!
//! It gives no verdicts: that somebody is dead is an opinion, which all live members come to share. What must
//! be agreed on is Raft's.

mod call;
mod config;
mod epoch;
mod gossip;
mod heal;
mod io;
mod join;
mod leave;
mod logarithm;
mod member;
mod message;
mod metadata;
mod own;
mod probe;
mod receive;
mod relay;
mod send;
mod stats;
mod storm;
mod suspicion;
mod sync;
mod table;
#[cfg(test)]
mod tests;
mod update;

use core::fmt;
use core::time::Duration;
use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use self::call::Calls;
use self::gossip::News;
use self::heal::Healing;
use self::join::Joining;
use self::leave::Farewell;
use self::metadata::Descriptions;
use self::own::Own;
use self::probe::Probing;
use self::receive::Pace;
use self::relay::Relays;
use self::send::Pump;
use self::storm::Storm;
use self::suspicion::Suspicions;
use self::sync::Syncing;
use self::table::{Place, Table};
use self::update::Graves;
use crate::id::NodeId;
use crate::machine::Machine;
use crate::rng::{Seed, Stream};
use crate::time::Instant;

pub use self::config::{Caution, Config, ConfigError, IdConflictPolicy, Timing};
pub use self::epoch::Epoch;
pub use self::io::{Answer, CallId, Card, Event, Input, Known, Lifecycle, Member, Output, Question, Target};
pub use self::member::{Record, State};
#[cfg(test)]
pub(crate) use self::message::hash_of;
pub use self::message::{Kind, METADATA_INLINE_MAX, METADATA_MAX, Malformed, VERSION};
pub use self::stats::Stats;
pub use crate::time::WallSeconds;

/// One member of a cluster, and all that it knows of the others.
#[derive(Clone, Deserialize, Serialize)]
pub struct Swim {
    config: Config,
    /// What tells our cluster's datagrams from another's.
    tag: [u8; 4],
    now: Instant,
    wall: WallSeconds,
    lifecycle: Lifecycle,
    table: Table,
    news: News,
    pump: Pump,
    suspicions: Suspicions,
    storm: Storm,
    probing: Probing,
    relays: Relays,
    healing: Healing,
    joining: Joining,
    calls: Calls,
    syncing: Syncing,
    own: Own,
    graves: Graves,
    descriptions: Descriptions,
    farewell: Option<Farewell>,
    pace: Pace,
    draws: Draws,
    /// When a timer is due next, as of the last step.
    due: Option<Instant>,
    outputs: VecDeque<Output>,
    stats: Stats,
}

/// A stream of random draws for each purpose.
#[derive(Clone, Deserialize, Serialize)]
struct Draws {
    probe: Stream,
    gossip: Stream,
    heal: Stream,
    order: Stream,
}

/// Room for so many outputs is kept. One comparison after a partition has thousands, and hardly any step after it.
const OUTPUTS_KEPT: usize = 64;

/// What a member begins with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Start {
    /// The wall clock.
    pub wall: WallSeconds,
    /// The last epoch that it remembers, if it kept one.
    pub remembered: Option<Epoch>,
    /// Where its random draws come from. It must differ between members.
    pub seed: Seed,
}

impl Swim {
    /// Starts a member at time `now`. It asks for the addresses of its seeds at once.
    ///
    /// # Errors
    ///
    /// [`ConfigError`]; nothing was started.
    pub fn start(config: Config, start: Start, now: Instant) -> Result<Swim, ConfigError> {
        config.validate()?;
        let Start { wall, remembered, seed } = start;
        let mut draws = Draws {
            probe: seed.stream("swim probe", 0),
            gossip: seed.stream("swim gossip", 0),
            heal: seed.stream("swim heal", 0),
            order: seed.stream("swim order", 0),
        };
        let own = Own::start(&config, Epoch::at_start(wall, remembered));
        let first_probe = now + random_part(&mut draws.probe, config.timing.period);
        let lifecycle = if config.seeds.is_empty() { Lifecycle::Idle } else { Lifecycle::Joining };
        let mut swim = Swim {
            tag: message::tag_of(&config.cluster),
            now,
            wall,
            lifecycle,
            table: Table::new(own.record()),
            news: News::new(),
            pump: Pump::start(now),
            suspicions: Suspicions::new(config.timing.period),
            storm: Storm::default(),
            probing: Probing::start(first_probe),
            relays: Relays::default(),
            healing: Healing::default(),
            joining: Joining::start(&config.seeds),
            calls: Calls::default(),
            syncing: Syncing::start(now, config.timing.sync_interval),
            own,
            graves: Graves::default(),
            descriptions: Descriptions::default(),
            farewell: None,
            pace: Pace::default(),
            draws,
            due: None,
            outputs: VecDeque::new(),
            stats: Stats::default(),
            config,
        };
        swim.ask_for_seeds();
        swim.settle();
        Ok(swim)
    }

    /// Enters a member as if it had always been known: for a start on a known membership, and for experiments.
    /// It is no news.
    pub fn introduce(&mut self, record: &Record) {
        self.hear_alive(record, None, true, false);
        self.settle();
        self.outputs.clear();
    }

    /// Our id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.config.id
    }

    /// Where we are in our life.
    #[must_use]
    pub fn lifecycle(&self) -> Lifecycle {
        self.lifecycle
    }

    /// What we say of ourselves.
    #[must_use]
    pub fn record(&self) -> &Record {
        self.own.record()
    }

    /// How many are live, ourselves included.
    #[must_use]
    pub fn size(&self) -> usize {
        self.table.size()
    }

    /// The membership hash: equal on two members if they agree on who is live, and with which epoch.
    #[must_use]
    pub fn membership_hash(&self) -> u64 {
        self.table.hash()
    }

    /// How slow we find ourselves, from 0 (healthy) to 7 (Lifeguard §4.1: LHM).
    #[must_use]
    pub fn health(&self) -> u32 {
        self.probing.awareness()
    }

    /// How many pieces of news are being passed on.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.news.len()
    }

    /// How many suspicions are under way.
    #[must_use]
    pub fn suspicions(&self) -> usize {
        self.suspicions.len()
    }

    /// What is held of a member.
    #[must_use]
    pub fn member(&self, id: NodeId) -> Option<Member> {
        self.table.find(id).map(|place| self.view(place))
    }

    /// What a member says of itself beyond its record; empty if nothing, or if it is not here yet.
    #[must_use]
    pub fn metadata(&self, id: NodeId) -> &[u8] {
        if id == self.config.id { &self.config.metadata } else { self.descriptions.of(id) }
    }

    /// All members that are remembered, ourselves first, in no particular order.
    pub fn members(&self) -> impl Iterator<Item = Member> {
        let all = [Place::OWN].into_iter().chain(self.table.live().iter().copied());
        all.chain(self.table.dead().iter().copied()).map(|place| self.view(place))
    }

    /// What was counted since the start.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// How many entries and cells of the table were looked at since the start.
    #[must_use]
    pub fn work(&self) -> u64 {
        self.table.work()
    }

    /// The bytes that the table and its index take.
    #[must_use]
    pub fn table_bytes(&self) -> usize {
        self.table.bytes()
    }

    /// Checks what must hold after every step.
    ///
    /// # Panics
    ///
    /// If an invariant is broken: that is a bug of this crate.
    pub fn assert_invariants(&self) {
        self.table.assert_invariants();
        let own = self.table.entry(Place::OWN);
        assert_eq!(own.state, State::Alive, "nobody holds itself anything but alive");
        assert_eq!(own.epoch, self.own.record().epoch, "our entry is our word");
        assert!(self.news.len() <= self.table.len(), "each member is one piece of news at most");
        let suspects =
            self.table.live().iter().filter(|place| self.table.entry(**place).state == State::Suspect);
        assert_eq!(suspects.count(), self.suspicions.len(), "each suspect has its time");
        self.relays.assert_invariants();
    }

    fn view(&self, place: Place) -> Member {
        let entry = self.table.entry(place);
        Member { record: entry.record(), state: entry.state, since: self.table.since(place) }
    }

    /// The driver's time in seconds, which is all that the table keeps.
    fn second(&self) -> u32 {
        u32::try_from(self.now.as_nanos() / 1_000_000_000).unwrap_or(u32::MAX)
    }

    fn period(&self) -> Duration {
        self.config.timing.period
    }

    /// Whether we take part at all.
    fn is_silent(&self) -> bool {
        matches!(self.lifecycle, Lifecycle::Gone | Lifecycle::Fenced)
    }

    fn tell(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// Notes what time it is. If we are late by more than half a period, we were stopped: whatever did not
    /// come in the meantime may have come, and was not heard (the stall rule).
    fn note_time(&mut self, now: Instant) {
        assert!(now >= self.now, "time went back from {} to {now}", self.now);
        // What was due before the last call was late then, and was counted then.
        let since = self.due.map(|due| due.max(self.now));
        self.now = now;
        if let Some(since) = since.filter(|since| now > *since + (self.period() / 2).max(STALL_MIN)) {
            self.recover_from_stall(now.saturating_since(since));
        }
    }

    fn recover_from_stall(&mut self, stall: Duration) {
        if !self.config.caution.stall {
            return;
        }
        self.void_probe();
        self.suspicions.extend(stall);
        self.storm.extend(stall);
        self.syncing.extend(stall);
        self.relays.clear();
        self.adjust_awareness(2);
    }

    /// What follows from any step.
    fn settle(&mut self) {
        self.update_lifecycle();
        self.arm_gossip();
        self.arm_healing();
        self.due = self.next_due();
    }

    fn next_due(&self) -> Option<Instant> {
        if self.is_silent() {
            return None;
        }
        let timers = [
            self.suspicions.deadline(),
            Some(self.probing.deadline()),
            self.relays.deadline(),
            self.pump.deadline(),
            self.healing.deadline(),
            self.joining.deadline(),
            self.farewell.as_ref().map(Farewell::deadline),
            self.graves.deadline(),
        ];
        timers.into_iter().flatten().min()
    }
}

impl Machine for Swim {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        self.note_time(now);
        if self.is_silent() {
            return;
        }
        match input {
            Input::Datagram { from, via, bytes } => self.receive(from, via, bytes),
            Input::Asked { call, from, question } => self.asked(call, from, question),
            Input::Answered { call, from, answer } => self.answered(call, from, answer),
            Input::Unanswered { call } => self.unanswered(call),
            Input::Resolved { name, addresses } => self.resolved(&name, addresses),
            Input::Met { id, address } => self.met(id, address),
            Input::WallClock(wall) => self.note_wall(wall),
            Input::Describe(metadata) => self.describe(metadata),
            Input::Leave => self.leave(),
        }
        self.settle();
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.note_time(now);
        if self.is_silent() {
            return;
        }
        self.probe_if_due();
        // After the probe, which may be what confirms a suspicion.
        self.expire_suspicions();
        self.relay_if_due();
        self.gossip_if_due();
        self.heal_if_due();
        self.join_if_due();
        self.leave_if_due();
        self.bury_if_due();
        self.settle();
    }

    fn poll(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        if output.is_none() {
            self.outputs.shrink_to(OUTPUTS_KEPT);
        }
        output
    }

    fn deadline(&self) -> Option<Instant> {
        self.due
    }
}

impl fmt::Debug for Swim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Swim");
        debug.field("id", &self.config.id).field("lifecycle", &self.lifecycle);
        debug.field("epoch", &self.own.record().epoch).field("size", &self.table.size());
        debug.finish_non_exhaustive()
    }
}

/// To be late by less than this is no stall, however short the period is: that is how schedulers are.
const STALL_MIN: Duration = Duration::from_millis(50);

/// A random time in `0..whole`.
fn random_part(draws: &mut Stream, whole: Duration) -> Duration {
    let nanos = u64::try_from(whole.as_nanos()).unwrap_or(u64::MAX).max(1);
    Duration::from_nanos(draws.below(nanos))
}
