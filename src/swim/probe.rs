//! One probe a period: the failure detector (SWIM §3, Lifeguard §4.1).
//!
//! ```text
//!   0            timeout                                 deadline = the next probe at the earliest
//!   ├─ ping ────────┼─ ping-req to k helpers, a stream ─────┼─ Suspect
//!   │    ◄── ack    │         ◄── forwarded ack, pong       │
//!   │               │         ◄── nack: the helper is fine  │
//! ```
//!
//! *Whom:* the next in a random order that everybody comes up in once a round (SWIM §4.3). Who was just
//! heard need not be asked whether it is there; the next one is asked instead, so the load stays the same.
//!
//! *How long to wait:* as long as answers have taken of late, at most the configured timeout.
//!
//! *Who is slow?* A probe that fails says as much about the prober as about the target. So each member keeps
//! a score of its own health: helpers that send neither an answer nor a nack, suspicions against itself and
//! late timers raise it, probes that succeed lower it; and everything about a probe is stretched by one
//! more than the score. Ours is at most 7, as memberlist's, where Lifeguard's paper has 8: the period
//! then stretches to eight times its length.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::call::Purpose;
use super::member::State;
use super::message::{Body, Kind};
use super::send::Lead;
use super::suspicion::Cause;
use super::{Epoch, Event, Question, Swim, Target};
use crate::id::NodeId;
use crate::time::Instant;

/// The score of a member that finds itself as slow as can be.
const AWARENESS_MAX: u32 = 7;
/// The shortest wait for an answer, however quick answers were.
const TIMEOUT_MIN: Duration = Duration::from_millis(20);
/// So many of those that were heard last are remembered.
const HEARD_MAX: usize = 16;
/// So many targets are passed over at most, since they were just heard.
const SPARED_MAX: usize = 4;

/// The failure detector's state.
#[derive(Clone, Deserialize, Serialize)]
pub(super) struct Probing {
    /// When the next probe begins.
    next: Instant,
    current: Option<Probe>,
    sequence: u32,
    awareness: u32,
    round_trip: Option<RoundTrip>,
    heard: [Option<(NodeId, Instant)>; HEARD_MAX],
    heard_next: usize,
}

#[derive(Clone, Deserialize, Serialize)]
struct Probe {
    to: Target,
    id: NodeId,
    /// As of when it began: a later word of life voids it.
    epoch: Epoch,
    sequence: u32,
    began: Instant,
    /// When others are asked; `None` once they have been.
    ask_others_at: Option<Instant>,
    deadline: Instant,
    helpers: Vec<NodeId>,
    nacks: u32,
}

/// Jacobson's estimate, as in TCP (RFC 6298), in nanoseconds.
#[derive(Clone, Copy, Deserialize, Serialize)]
struct RoundTrip {
    smoothed: u64,
    variation: u64,
}

impl Probing {
    pub(super) fn start(first: Instant) -> Probing {
        Probing {
            next: first,
            current: None,
            sequence: 0,
            awareness: 0,
            round_trip: None,
            heard: [None; HEARD_MAX],
            heard_next: 0,
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        let others = self.current.as_ref().and_then(|probe| probe.ask_others_at);
        others.map_or(self.next, |at| at.min(self.next))
    }

    pub(super) fn awareness(&self) -> u32 {
        self.awareness
    }

    /// A number for a ping of ours.
    pub(super) fn number(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// A member was heard, and is what we hold it to be.
    pub(super) fn heard(&mut self, id: NodeId, now: Instant) {
        self.heard[self.heard_next] = Some((id, now));
        self.heard_next = (self.heard_next + 1) % HEARD_MAX;
    }

    fn was_heard(&self, id: NodeId, since: Instant) -> bool {
        self.heard.iter().flatten().any(|(heard, at)| *heard == id && *at >= since)
    }

    fn timeout(&self, ceiling: Duration) -> Duration {
        let estimate = self.round_trip.map_or(ceiling, |trip| {
            Duration::from_nanos(trip.smoothed.saturating_add(trip.variation.saturating_mul(4)))
        });
        estimate.clamp(TIMEOUT_MIN.min(ceiling), ceiling) * (self.awareness + 1)
    }

    fn note_round_trip(&mut self, sample: Duration) {
        let sample = u64::try_from(sample.as_nanos()).unwrap_or(u64::MAX);
        let trip = self.round_trip.get_or_insert(RoundTrip { smoothed: sample, variation: sample / 2 });
        let difference = trip.smoothed.abs_diff(sample);
        trip.variation = trip.variation - trip.variation / 4 + difference / 4;
        trip.smoothed = trip.smoothed - trip.smoothed / 8 + sample / 8;
    }
}

impl Swim {
    pub(super) fn probe_if_due(&mut self) {
        let now = self.now;
        let asks = self.probing.current.as_ref().and_then(|probe| probe.ask_others_at);
        if asks.is_some_and(|at| at <= now) {
            self.ask_others();
        }
        if self.probing.next > now {
            return;
        }
        self.conclude_probe();
        let whole = self.period() * (self.probing.awareness + 1);
        self.probing.next = self.probing.next + whole;
        if self.probing.next <= now {
            self.probing.next = now + whole;
        }
        self.pace.begin_period();
        self.doubt_accused();
        self.sync_if_due();
        self.fetch_description();
        self.forget_calls();
        self.begin_probe();
    }

    fn begin_probe(&mut self) {
        let Some((id, epoch, to)) = self.choose_target() else { return };
        let sequence = self.probing.number();
        let deadline = self.probing.next;
        let timeout = self.probing.timeout(self.config.timing.probe_timeout);
        self.probing.current = Some(Probe {
            to,
            id,
            epoch,
            sequence,
            began: self.now,
            ask_others_at: Some(self.now + timeout),
            deadline,
            helpers: Vec::new(),
            nacks: 0,
        });
        self.stats.probes += 1;
        self.send(to, Kind::Ping, Body::Empty, sequence, Lead::Nothing);
    }

    fn choose_target(&mut self) -> Option<(NodeId, Epoch, Target)> {
        let recently = self.now - self.period() / 2;
        let mut chosen = None;
        for _ in 0..=SPARED_MAX {
            let place = self.table.next_to_probe(&mut self.draws.probe)?;
            let entry = self.table.entry(place);
            let (id, epoch, state) = (entry.id(), entry.epoch, entry.state);
            chosen = Some((id, epoch, self.target_at(place)));
            if state != State::Alive || !self.probing.was_heard(id, recently) {
                break;
            }
            self.stats.probes_spared += 1;
        }
        chosen
    }

    /// No answer so far: others are asked to try, and a stream, since some paths lose just datagrams.
    fn ask_others(&mut self) {
        let Some(probe) = &mut self.probing.current else { return };
        probe.ask_others_at = None;
        let (id, to, sequence, deadline) = (probe.id, probe.to, probe.sequence, probe.deadline);
        let left = deadline.saturating_since(self.now);
        let trip = self.probing.round_trip.map_or(0, |trip| trip.smoothed / 2);
        let nack_after = (left * 4 / 5).saturating_sub(Duration::from_nanos(trip));
        let nack_after_ms = u16::try_from(nack_after.as_millis()).unwrap_or(u16::MAX);
        let body = Body::PingReq { target: id, nack_after_ms };
        let helpers = self.random_helpers(self.config.timing.helpers, id);
        let targets: Vec<Target> = helpers.into_iter().map(|place| self.target_at(place)).collect();
        if let Some(probe) = &mut self.probing.current {
            probe.helpers = targets.iter().filter_map(|target| target.id).collect();
        }
        for helper in targets {
            self.send(helper, Kind::PingReq, body, sequence, Lead::Nothing);
        }
        if self.config.caution.stream_ping {
            self.ask(to, Purpose::Ping { sequence }, Question::Ping);
        }
    }

    /// An ack came: to our probe, or to one that we made for somebody else, or to our goodbye.
    pub(super) fn acknowledged(&mut self, source: NodeId, sequence: u32) {
        let is_ours = |probe: &Probe| probe.sequence == sequence && probe.id == source;
        if let Some(probe) = self.probing.current.take_if(|probe| is_ours(probe)) {
            self.probing.note_round_trip(self.now.saturating_since(probe.began));
            self.adjust_awareness_down();
            return;
        }
        if !self.relay_acknowledged(source, sequence) {
            self.goodbye_acknowledged(sequence);
        }
    }

    /// A helper had an answer from our target.
    pub(super) fn answered_through(&mut self, helper: NodeId, target: NodeId, sequence: u32) {
        let is_ours = |probe: &Probe| {
            probe.sequence == sequence && probe.id == target && probe.helpers.contains(&helper)
        };
        if self.probing.current.take_if(|probe| is_ours(probe)).is_some() {
            self.stats.probes_saved += 1;
            self.tell(Event::LinkDegraded(target));
            self.adjust_awareness_down();
        }
    }

    /// Our target answered on a stream.
    pub(super) fn ponged(&mut self, from: NodeId, sequence: u32) {
        let is_ours = |probe: &Probe| probe.sequence == sequence && probe.id == from;
        if self.probing.current.take_if(|probe| is_ours(probe)).is_some() {
            self.stats.probes_saved += 1;
            self.adjust_awareness_down();
        }
    }

    /// A helper has no answer from our target, but is there itself.
    pub(super) fn missed_through(&mut self, helper: NodeId, target: NodeId, sequence: u32) {
        if let Some(probe) = &mut self.probing.current
            && probe.sequence == sequence
            && probe.id == target
            && let Some(position) = probe.helpers.iter().position(|asked| *asked == helper)
        {
            // Those that have said so stand in front: each counts once, and its answer still counts.
            let said = usize::try_from(probe.nacks).unwrap_or(position);
            if position >= said {
                probe.helpers.swap(position, said);
                probe.nacks += 1;
            }
        }
    }

    /// Somebody else answers at the address of our target: it has moved, or is gone.
    pub(super) fn met_somebody_else(&mut self, who: Target, sequence: u32) {
        let is_there = |probe: &Probe| {
            probe.sequence == sequence && who.address == probe.to.address && who.id != Some(probe.id)
        };
        let Some(probe) = self.probing.current.take_if(|probe| is_there(probe)) else { return };
        if let Some(place) = self.table.find(probe.id)
            && self.held(place) == (State::Alive, probe.epoch)
        {
            self.suspect(place, probe.epoch, self.config.id, Cause::Elsewhere);
        }
    }

    /// The deadline has come. Without an answer, the target is suspected.
    fn conclude_probe(&mut self) {
        let Some(probe) = self.probing.current.take() else { return };
        self.stats.probes_failed += 1;
        let asked = u32::try_from(probe.helpers.len()).unwrap_or(0);
        let blame = if asked == 0 { 1 } else { asked.saturating_sub(probe.nacks) };
        self.adjust_awareness(blame);
        self.hear_suspect(probe.id, probe.epoch, self.config.id, None);
    }

    /// We were stopped: whether an answer came is not known.
    pub(super) fn void_probe(&mut self) {
        if self.probing.current.take().is_some() {
            self.stats.probes_voided += 1;
        }
        self.probing.next = self.now + self.period();
    }

    /// We seem slower than we thought.
    pub(super) fn adjust_awareness(&mut self, by: u32) {
        if self.config.caution.awareness {
            self.set_awareness((self.probing.awareness + by).min(AWARENESS_MAX));
        }
    }

    fn adjust_awareness_down(&mut self) {
        self.set_awareness(self.probing.awareness.saturating_sub(1));
    }

    fn set_awareness(&mut self, awareness: u32) {
        if awareness != self.probing.awareness {
            self.probing.awareness = awareness;
            self.tell(Event::HealthChanged(awareness));
        }
    }
}
