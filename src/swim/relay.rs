//! Probes for somebody else (SWIM §3.1: ping-req), and the nacks that say that the helper is fine.
//!
//! A helper pings the target under a number of its own and forwards the answer. If none has come when most of
//! the asker's time is over, it says so: an asker that hears neither answers nor nacks is likely to be the
//! slow one itself (Lifeguard §4.1).

use core::time::Duration;
use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::message::{Body, Kind};
use super::send::Lead;
use super::{Swim, Target};
use crate::id::NodeId;
use crate::time::Instant;

/// The most probes for others at a time; beyond it, requests are turned away.
const RELAYS_MAX: usize = 256;
/// After the nack, an answer is still forwarded for so long.
const LINGER: Duration = Duration::from_secs(1);
/// The most for one asker.
const OF_ONE_MAX: usize = 8;
/// The longest that an asker may want us to wait: as long as the slowest member's probe.
const NACK_AFTER_PERIODS_MAX: u32 = 8;

/// The probes for others.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Relays {
    all: VecDeque<Relay>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Relay {
    sequence: u32,
    asker: Target,
    asker_sequence: u32,
    target: NodeId,
    /// `None` once it was said.
    nack_at: Option<Instant>,
    ends: Instant,
}

impl Relays {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.all.iter().map(|relay| relay.nack_at.unwrap_or(relay.ends)).min()
    }

    pub(super) fn clear(&mut self) {
        self.all.clear();
    }

    pub(super) fn assert_invariants(&self) {
        assert!(self.all.len() <= RELAYS_MAX, "{} probes for others", self.all.len());
    }
}

impl Swim {
    /// Somebody asks us to probe for it.
    pub(super) fn relay(&mut self, asker: Target, asker_sequence: u32, target: NodeId, nack_after_ms: u16) {
        // Where the target is we know ourselves: nobody may make us dial addresses.
        let at = self.target_of(target).filter(|_| target != self.config.id);
        let of_asker = self.relays.all.iter().filter(|relay| relay.asker.id == asker.id).count();
        let (Some(at), true) = (at, of_asker < OF_ONE_MAX && self.relays.all.len() < RELAYS_MAX) else {
            self.stats.relays_refused += 1;
            self.send(asker, Kind::Nack, Body::About { target }, asker_sequence, Lead::Nothing);
            return;
        };
        let sequence = self.probing.number();
        let wait = Duration::from_millis(u64::from(nack_after_ms.max(1)));
        let nack_at = self.now + wait.min(self.period() * NACK_AFTER_PERIODS_MAX);
        let ends = nack_at + LINGER;
        let relay = Relay { sequence, asker, asker_sequence, target, nack_at: Some(nack_at), ends };
        self.relays.all.push_back(relay);
        self.send(at, Kind::Ping, Body::Empty, sequence, Lead::Nothing);
    }

    /// Forwards an answer. Tells whether it was one to a probe for somebody else.
    pub(super) fn relay_acknowledged(&mut self, source: NodeId, sequence: u32) -> bool {
        let is_it = |relay: &Relay| relay.sequence == sequence && relay.target == source;
        let Some(position) = self.relays.all.iter().position(is_it) else { return false };
        if let Some(relay) = self.relays.all.remove(position) {
            let body = Body::About { target: relay.target };
            self.send(relay.asker, Kind::ForwardedAck, body, relay.asker_sequence, Lead::Nothing);
        }
        true
    }

    pub(super) fn relay_if_due(&mut self) {
        for position in 0..self.relays.all.len() {
            let relay = &mut self.relays.all[position];
            if relay.nack_at.take_if(|at| *at <= self.now).is_some() {
                let (to, sequence) = (relay.asker, relay.asker_sequence);
                let body = Body::About { target: relay.target };
                self.send(to, Kind::Nack, body, sequence, Lead::Nothing);
            }
        }
        self.relays.all.retain(|relay| relay.ends > self.now);
    }
}
