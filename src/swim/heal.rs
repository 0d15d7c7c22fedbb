//! Tries the dead again, so that two halves of a cluster find each other.
//!
//! A partition leaves two halves, each of which holds the other dead, and neither of which ever speaks to the
//! dead. So every few seconds a member may try one: a dead member, or a seed that is not live. Among n members
//! each does so with a chance of `10 / n`, so the cluster makes about two tries a second, whatever its size.
//! Who knows nobody alive any more tries three every second, for ever. Seeds are never forgotten, and their
//! names are resolved again.
//!
//! What it is held to be goes with the try; whoever is wrongly dead objects with a higher epoch, and then the
//! two compare their [tables](super::sync).

use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::member::State;
use super::message::{Body, Kind};
use super::send::Lead;
use super::{Lifecycle, Output, Swim, Target, random_part};
use crate::id::NodeId;
use crate::time::Instant;

/// In a cluster of n, each tries with a chance of so many in n.
const TRIES: u64 = 10;
/// How often one without company tries, and how many.
const ALONE_INTERVAL: Duration = Duration::from_secs(1);
const ALONE_TRIES: usize = 3;
/// So many times as long as news is sent to the dead, they are preferred here.
const RECENTLY: u32 = 4;
/// A seed's name is resolved again after so long at the earliest.
const RESOLVE_AGAIN: Duration = Duration::from_secs(30);

/// When the dead are tried next.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Healing {
    next: Option<Instant>,
}

impl Healing {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.next
    }
}

impl Swim {
    /// Tries are due while somebody is dead, or a seed is lost.
    pub(super) fn arm_healing(&mut self) {
        let is_idle = matches!(self.lifecycle, Lifecycle::Idle | Lifecycle::Joining | Lifecycle::Leaving);
        let has_reason = !self.table.dead().is_empty() || self.joining.has_lost_seed(&self.table);
        if is_idle || !has_reason {
            self.healing.next = None;
        } else if self.healing.next.is_none() {
            let interval = self.heal_interval();
            let wait = random_part(&mut self.draws.heal, interval);
            self.healing.next = Some(self.now + wait.max(Duration::from_nanos(1)));
        }
    }

    /// We have lost all company: the next try is soon.
    pub(super) fn healing_begins_anew(&mut self) {
        self.healing.next = None;
    }

    fn heal_interval(&self) -> Duration {
        if self.lifecycle == Lifecycle::Isolated { ALONE_INTERVAL } else { self.config.timing.heal_interval }
    }

    pub(super) fn heal_if_due(&mut self) {
        if self.healing.next.is_none_or(|next| next > self.now) {
            return;
        }
        self.healing.next = Some(self.now + self.heal_interval());
        if self.lifecycle == Lifecycle::Isolated {
            (0..ALONE_TRIES).for_each(|_| self.try_one());
            return;
        }
        let n = u64::try_from(self.table.size()).expect("a size fits");
        if self.draws.heal.chance(TRIES.min(n), n) {
            self.try_one();
        }
    }

    /// Tries one of the dead, or of the lost seeds.
    fn try_one(&mut self) {
        // Seeds are few and the dead may be many: a lost seed is tried every second time.
        let lost = self.joining.lost_seeds(&self.table);
        if !lost.is_empty() && (self.table.dead().is_empty() || self.draws.heal.chance(1, 2)) {
            let bound = u64::try_from(lost.len()).expect("a length fits");
            let chosen = usize::try_from(self.draws.heal.below(bound)).expect("below a length");
            self.try_seed(lost[chosen]);
            return;
        }
        // So are those who died last, who are likelier to be back.
        let recently = self.graves.recently_dead(self.now, self.config.timing.recently_dead * RECENTLY);
        if recently > 0 && self.draws.heal.chance(1, 2) {
            let bound = u64::try_from(recently).expect("a length fits");
            let chosen = usize::try_from(self.draws.heal.below(bound)).expect("below a length");
            let id = self.graves.recent(chosen).filter(|id| self.is_dead(*id));
            if let Some(to) = id.and_then(|id| self.target_of(id)) {
                self.call_back(to);
                return;
            }
        }
        // Who has left is not called back: a few draws to find one who is dead.
        for _ in 0..4 {
            let Some(place) = self.table.random_dead(&mut self.draws.heal) else { return };
            let to = self.target_at(place);
            if self.table.entry(place).state == State::Dead && to.address.port() != 0 {
                self.call_back(to);
                return;
            }
        }
    }

    fn call_back(&mut self, to: Target) {
        self.stats.heal_pings += 1;
        self.send(to, Kind::HealPing, Body::Empty, 0, Lead::OwnWord);
    }

    fn is_dead(&self, id: NodeId) -> bool {
        self.table.find(id).is_some_and(|place| self.table.entry(place).state == State::Dead)
    }

    fn try_seed(&mut self, seed: usize) {
        let seed = self.joining.seed_mut(seed);
        if seed.resolved_at.is_none_or(|at| self.now >= at + RESOLVE_AGAIN) {
            seed.resolved_at = Some(self.now);
            self.outputs.push_back(Output::Resolve(seed.name.clone()));
        }
        for address in seed.addresses.clone() {
            if address != self.config.address {
                self.call_back(Target { id: None, address });
            }
        }
    }

    /// Somebody that we tried is there.
    pub(super) fn healed(&mut self, from: NodeId, to: Target) {
        self.joining.note_member(to.address, from);
        self.compare_tables(to);
    }
}
