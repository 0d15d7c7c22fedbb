//! Words about ourselves, and who else has our id.
//!
//! Only we mint our epochs. So when somebody says that we are suspect, dead or gone, with our epoch or a
//! higher one, we say that we are alive with one that is higher still (SWIM §4.2: the refutation), to
//! everybody, and at once to the accuser and to whoever passed the accusation on. An older word needs no new
//! epoch: whoever still believes it is sent our present one.
//!
//! *Somebody speaks for us.* A word of life under our id that we did not say comes from our own past (we lost
//! the disk, or the clock went back), from a liar, or from another process with our id. The past answers
//! nothing, so we outbid it once, and that is that. If it outbids us in turn, it may be there, or somebody lies:
//! we go and look, at the address that it names. Only when somebody answers there with *our* certificate does
//! the policy say which one stays, and the other is fenced. Until then we fight on, ever more slowly.

use core::net::SocketAddr;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::call::Purpose;
use super::config::{Config, IdConflictPolicy};
use super::epoch::Epoch;
use super::member::{Record, State};
use super::message::{Body, Kind, METADATA_MAX, hash_of};
use super::send::Lead;
use super::table::Place;
use super::{Event, Lifecycle, Question, Swim, Target};
use crate::id::NodeId;
use crate::time::Instant;
use crate::time::WallSeconds;

/// The longest wait between two refutations of a twin's words.
const FIGHT_PAUSE_MAX: Duration = Duration::from_secs(60);

/// What we say of ourselves, and what we have heard of ourselves.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Own {
    record: Record,
    /// The epoch that we started with.
    born: Epoch,
    stale_answered: Option<Instant>,
    conflict_told: Option<Instant>,
    twin: Option<Twin>,
}

/// Another process that has spoken for us, or our own past.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Twin {
    boot: u32,
    first_heard: Epoch,
    /// Our epoch after we had outbid it.
    outbid_at: Epoch,
    fights: u32,
    silent_until: Instant,
}

impl Own {
    pub(super) fn start(config: &Config, epoch: Epoch) -> Own {
        let has_metadata = !config.metadata.is_empty();
        let record = Record {
            id: config.id,
            epoch,
            address: config.address,
            boot: config.boot,
            zone: config.zone,
            metadata_version: u32::from(has_metadata),
            metadata_hash: if has_metadata { hash_of(&config.metadata) } else { 0 },
        };
        Own { record, born: epoch, stale_answered: None, conflict_told: None, twin: None }
    }

    pub(super) fn record(&self) -> &Record {
        &self.record
    }
}

impl Swim {
    /// Somebody says that we are suspect, dead or gone.
    pub(super) fn accused(&mut self, epoch: Epoch, by: Option<NodeId>, back: Option<Target>) {
        if self.lifecycle == Lifecycle::Leaving {
            return;
        }
        let own = self.own.record.epoch;
        if !epoch.is_plausible(true, Some(own), self.wall) {
            self.stats.implausible += 1;
            return;
        }
        if epoch < own {
            self.answer_stale(back);
            return;
        }
        self.stats.refutations += 1;
        self.outbid(epoch);
        self.adjust_awareness(1);
        let accuser = by.filter(|by| Some(*by) != back.and_then(|back| back.id));
        for to in [back, accuser.and_then(|by| self.target_of(by))].into_iter().flatten() {
            self.send_own_word(to);
        }
    }

    fn answer_stale(&mut self, back: Option<Target>) {
        self.stats.stale_accusations += 1;
        let is_due = self.own.stale_answered.is_none_or(|last| self.now >= last + self.period());
        if let Some(to) = back.filter(|_| is_due) {
            self.own.stale_answered = Some(self.now);
            self.send_own_word(to);
        }
    }

    pub(super) fn send_own_word(&mut self, to: Target) {
        self.send(to, Kind::Gossip, Body::Empty, 0, Lead::OwnWord);
    }

    /// Mints an epoch above ours and above `epoch`, and makes it news.
    pub(super) fn outbid(&mut self, epoch: Epoch) {
        let epoch = self.own.record.epoch.max(epoch).next();
        self.own.record.epoch = epoch;
        let second = self.second();
        self.table.set(Place::OWN, State::Alive, epoch, second, &mut self.draws.order);
        self.news.put(&mut self.table, Place::OWN);
    }

    /// Somebody says that we are alive: in our words, or not.
    pub(super) fn hear_twin(&mut self, epoch: Epoch, boot: u32, address: Option<SocketAddr>) {
        let own = self.own.record;
        if epoch < own.epoch || (boot == own.boot && epoch == own.epoch) {
            return;
        }
        if !epoch.is_plausible(true, Some(own.epoch), self.wall) {
            self.stats.implausible += 1;
            return;
        }
        if self.lifecycle == Lifecycle::Leaving {
            return;
        }
        let returns = self.own.twin.as_ref().is_some_and(|twin| twin.boot == boot && epoch >= twin.outbid_at);
        if boot == own.boot || !returns {
            self.stats.refutations += 1;
            self.outbid(epoch);
            let (outbid_at, silent_until) = (self.own.record.epoch, self.now);
            if boot != own.boot {
                self.own.twin = Some(Twin { boot, first_heard: epoch, outbid_at, fights: 0, silent_until });
            }
            return;
        }
        self.fight_twin(epoch, address);
    }

    /// Somebody has shown our own certificate: the policy says which of us stays.
    pub(super) fn met_twin(&mut self, epoch: Epoch, boot: u32) {
        if boot == self.own.record.boot {
            return;
        }
        self.note_conflict(self.config.id);
        let first_heard =
            self.own.twin.as_ref().filter(|twin| twin.boot == boot).map(|twin| twin.first_heard);
        let other = (first_heard.unwrap_or(epoch).generation(), boot);
        let own = (self.own.born.generation(), self.own.record.boot);
        let gives_way = match self.config.id_conflict {
            IdConflictPolicy::KeepNewest => other > own,
            IdConflictPolicy::KeepOldest => other < own,
            IdConflictPolicy::Report => false,
        };
        if gives_way {
            self.lifecycle = Lifecycle::Fenced;
            self.tell(Event::Fenced);
        }
    }

    /// It outbids what we outbid it with: it is there, or somebody lies.
    fn fight_twin(&mut self, epoch: Epoch, address: Option<SocketAddr>) {
        self.note_conflict(self.config.id);
        let now = self.now;
        let Some(twin) = &mut self.own.twin else { return };
        if now < twin.silent_until {
            return;
        }
        twin.fights += 1;
        let pause = Duration::from_secs(1 << twin.fights.saturating_sub(1).min(6)).min(FIGHT_PAUSE_MAX);
        twin.silent_until = now + pause;
        self.stats.refutations += 1;
        let (boot, id) = (twin.boot, Some(self.config.id));
        self.outbid(epoch);
        let outbid_at = self.own.record.epoch;
        if let Some(twin) = &mut self.own.twin {
            twin.outbid_at = outbid_at;
        }
        if let Some(address) = address.filter(|address| *address != self.config.address) {
            self.ask(Target { id, address }, Purpose::Twin { epoch, boot }, Question::Ping);
        }
    }

    /// The clock has moved. If it was so far ahead when we started that nobody believes our epoch, we begin anew:
    /// nobody can have heard it.
    pub(super) fn note_wall(&mut self, wall: WallSeconds) {
        self.wall = wall;
        if !self.own.record.epoch.is_plausible(false, None, wall) {
            self.own.record.epoch = Epoch::at_start(wall, None);
            self.own.born = self.own.record.epoch;
            let (epoch, second) = (self.own.record.epoch, self.second());
            self.table.set(Place::OWN, State::Alive, epoch, second, &mut self.draws.order);
            self.news.put(&mut self.table, Place::OWN);
        }
    }

    /// Two processes have this id. The application hears of it once a period.
    pub(super) fn note_conflict(&mut self, id: NodeId) {
        self.stats.id_conflicts += 1;
        if self.own.conflict_told.is_none_or(|last| self.now >= last + self.period()) {
            self.own.conflict_told = Some(self.now);
            self.tell(Event::IdConflict(id));
        }
    }

    /// Others are to know this of us. What is too long is dropped: the caller has checked it.
    pub(super) fn describe(&mut self, metadata: Vec<u8>) {
        if metadata.len() > METADATA_MAX || self.lifecycle == Lifecycle::Leaving {
            return;
        }
        let record = &mut self.own.record;
        record.epoch = record.epoch.next();
        record.metadata_version = record.metadata_version.saturating_add(1);
        record.metadata_hash = hash_of(&metadata);
        self.config.metadata = metadata;
        let (record, second) = (*record, self.second());
        self.table.renew(Place::OWN, &record, State::Alive, second, &mut self.draws.order);
        self.news.put(&mut self.table, Place::OWN);
    }
}
