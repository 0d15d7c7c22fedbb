//! What a word about a member changes: the table, the news, the suspicions, and what the application hears.
//!
//! [`judge`](super::member::judge) says which word wins; here it is carried out. Words about ourselves are
//! not judged but [answered](super::own).

use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::epoch::Epoch;
use super::member::{Claim, Record, State, Verdict, judge};
use super::suspicion::{Accusation, Cause, Due, Terms};
use super::table::Place;
use super::{Event, Swim, Target};
use crate::id::NodeId;
use crate::time::Instant;

/// At least so many of the dead are remembered, however few the living are.
const DEAD_MIN: usize = 4096;
/// So many may wait to be told that they are accused before suspects are no longer told that their time is almost up.
const NOTICES_MAX: usize = 64;
/// How many of those that died last may still be told news.
const RECENT_MAX: usize = 64;

/// Who died, and when: to forget them in time, and to tell them news for a while.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Graves {
    all: VecDeque<(Instant, NodeId, Epoch)>,
    recent: VecDeque<(Instant, NodeId)>,
}

impl Graves {
    fn dig(&mut self, id: NodeId, epoch: Epoch, now: Instant, until: Instant, is_reachable: bool) {
        self.all.push_back((until, id, epoch));
        if !is_reachable {
            return;
        }
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((now, id));
    }

    /// How many died within `patience`.
    pub(super) fn recently_dead(&self, now: Instant, patience: Duration) -> usize {
        self.recent.iter().rev().take_while(|(died, _)| now < *died + patience).count()
    }

    /// One of them, the last one first.
    pub(super) fn recent(&self, position: usize) -> Option<NodeId> {
        self.recent.iter().rev().nth(position).map(|(_, id)| *id)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.all.front().map(|(until, _, _)| *until)
    }
}

impl Swim {
    /// Hears a word of life. `is_news` says whether to pass it on.
    pub(super) fn hear_alive(
        &mut self,
        record: &Record,
        metadata: Option<&[u8]>,
        is_first_hand: bool,
        is_news: bool,
    ) {
        if record.id == self.config.id {
            self.hear_twin(record.epoch, record.boot, Some(record.address));
            return;
        }
        let found = self.table.find(record.id);
        // Who passes a word on may have made it up, so that its owner cannot outbid it.
        let known = found.map(|place| self.table.entry(place).epoch);
        if !record.epoch.is_plausible(!is_first_hand, known, self.wall) || record.address.port() == 0 {
            self.stats.implausible += 1;
            return;
        }
        if let Some(place) = found.filter(|_| known == Some(record.epoch)) {
            self.hear_again(place, record, metadata);
            return;
        }
        let held = found.map(|place| self.held(place));
        if judge(Claim::Alive, record.epoch, held) != Verdict::Accept {
            return;
        }
        if found.is_none() && self.table.len() >= self.config.members_max {
            self.stats.table_full += 1;
            return;
        }
        let place = self.take_word(found, record);
        self.keep_description(record, metadata);
        if is_news {
            self.news.put(&mut self.table, place);
        }
    }

    fn take_word(&mut self, found: Option<Place>, record: &Record) -> Place {
        let second = self.second();
        let Some(place) = found else {
            self.tell(Event::Joined(record.id));
            return self.table.insert(record, State::Alive, second, &mut self.draws.order);
        };
        let before = self.table.entry(place).record();
        let state = self.table.entry(place).state;
        self.suspicions.end(place);
        self.table.renew(place, record, State::Alive, second, &mut self.draws.order);
        match state {
            State::Alive => {}
            State::Suspect => {
                self.tell(Event::Cleared(record.id));
                self.reprieve();
            }
            State::Dead | State::Left => self.tell(Event::Rejoined(record.id)),
        }
        if before.address != record.address && before.address.port() != 0 {
            self.tell(Event::AddressChanged(record.id));
        }
        let description = |record: &Record| (record.metadata_version, record.metadata_hash, record.zone);
        if description(&before) != description(record) {
            self.tell(Event::Updated(record.id));
        }
        place
    }

    /// A word with the epoch that is held: it is known, or it is what an accusation has named so far, or two
    /// processes speak under one id.
    fn hear_again(&mut self, place: Place, record: &Record, metadata: Option<&[u8]>) {
        let entry = self.table.entry(place);
        let (state, is_same_process) = (entry.state, entry.is_word_of(record));
        if entry.is_borrowed {
            let second = self.second();
            self.table.renew(place, record, state, second, &mut self.draws.order);
            self.keep_description(record, metadata);
        } else if !is_same_process {
            self.note_conflict(record.id);
        }
    }

    pub(super) fn hear_suspect(&mut self, id: NodeId, epoch: Epoch, by: NodeId, back: Option<Target>) {
        if !self.is_to_be_judged(id, epoch, Some(by), back) {
            return;
        }
        let found = self.table.find(id).filter(|place| !self.table.entry(*place).is_stranger());
        match (judge(Claim::Suspect, epoch, found.map(|place| self.held(place))), found) {
            (Verdict::Accept, Some(place)) => self.suspect(place, epoch, by, Cause::Silence),
            (Verdict::Confirm, Some(place)) => {
                if self.suspicions.confirm(place, by) {
                    self.stats.confirmations += 1;
                    self.news.put(&mut self.table, place);
                }
            }
            (Verdict::Incomplete, _) => self.syncing.miss(),
            (Verdict::Ignore | Verdict::Accept | Verdict::Confirm | Verdict::Doubt, _) => {}
        }
    }

    /// Begins a suspicion, or begins it anew with a higher epoch.
    pub(super) fn suspect(&mut self, place: Place, epoch: Epoch, by: NodeId, cause: Cause) {
        let (id, state, zone) = {
            let entry = self.table.entry(place);
            (entry.id(), entry.state, entry.zone)
        };
        let held_until = if cause == Cause::Silence { self.weather(zone) } else { None };
        let accusation = Accusation { by, cause, zone, terms: self.terms(cause), held_until };
        let second = self.second();
        self.table.set(place, State::Suspect, epoch, second, &mut self.draws.order);
        self.suspicions.begin(place, accusation, self.now);
        self.stats.suspicions += 1;
        match state {
            State::Alive => self.tell(Event::Suspected(id)),
            State::Suspect => {}
            State::Dead | State::Left => {
                self.tell(Event::Rejoined(id));
                self.tell(Event::Suspected(id));
            }
        }
        self.news.put(&mut self.table, place);
    }

    /// How long a suspicion lasts that begins now.
    fn terms(&self, cause: Cause) -> Terms {
        let (timing, n) = (&self.config.timing, self.table.size());
        let (shortest, longest) = (timing.suspicion_shortest(n), timing.suspicion_longest(n));
        let is_fixed = cause != Cause::Silence || !self.config.caution.confirmation;
        let confirmations = if is_fixed { 0 } else { timing.confirmations(n) };
        Terms::new(shortest, longest, confirmations)
    }

    pub(super) fn hear_dead(&mut self, id: NodeId, epoch: Epoch, back: Option<Target>) {
        if !self.is_to_be_judged(id, epoch, None, back) {
            return;
        }
        let found = self.table.find(id);
        match (judge(Claim::Dead, epoch, found.map(|place| self.held(place))), found) {
            (Verdict::Accept, Some(place)) if self.is_hasty(place, epoch) => {}
            (Verdict::Accept, Some(place)) => self.declare(place, State::Dead, epoch),
            (Verdict::Accept, None) => self.bury_stranger(id, epoch, State::Dead),
            (Verdict::Doubt, Some(place)) if !self.config.caution.doubt => {
                self.declare(place, State::Dead, epoch);
            }
            (Verdict::Doubt, _) => self.accuse(id, epoch),
            (Verdict::Ignore | Verdict::Confirm | Verdict::Incomplete, _) => {}
        }
    }

    /// A word of death about a suspect that had no time yet to object: it gets the shortest, but a period at least,
    /// and is told. Otherwise one liar could say both in one breath; and after a cut the words of death that were
    /// said during it would overtake the objections.
    fn is_hasty(&mut self, place: Place, epoch: Epoch) -> bool {
        if self.table.entry(place).state != State::Suspect || !self.config.caution.doubt {
            return false;
        }
        if epoch > self.table.entry(place).epoch {
            self.suspect(place, epoch, self.config.id, Cause::Elsewhere);
            return true;
        }
        let is_first = self.suspicions.hasten(place, self.now + self.period());
        if is_first {
            self.accuse(self.table.entry(place).id(), epoch);
        }
        true
    }

    pub(super) fn hear_left(&mut self, id: NodeId, epoch: Epoch, from: NodeId, back: Option<Target>) {
        if !self.is_to_be_judged(id, epoch, None, back) {
            return;
        }
        let found = self.table.find(id);
        if from != id {
            self.hear_of_goodbye(found, epoch, from);
            return;
        }
        if judge(Claim::Left, epoch, found.map(|place| self.held(place))) != Verdict::Accept {
            return;
        }
        match found {
            Some(place) => self.declare(place, State::Left, epoch),
            None => self.bury_stranger(id, epoch, State::Left),
        }
    }

    /// Somebody else says that it said goodbye. A goodbye is final, so it must not be anybody's to make up:
    /// the member gets the shortest time to object, and has left if it does not.
    fn hear_of_goodbye(&mut self, found: Option<Place>, epoch: Epoch, from: NodeId) {
        let Some(place) = found else { return };
        let (state, held) = self.held(place);
        let is_suspected_of_it =
            self.suspicions.accuser(place).is_some_and(|(_, said_goodbye)| said_goodbye && held >= epoch);
        if !state.is_live() || epoch < held || is_suspected_of_it {
            return;
        }
        self.stats.hearsay_goodbyes += 1;
        self.suspect(place, epoch, from, Cause::Goodbye);
    }

    /// Words against ourselves are answered, and those about epochs that nobody can have are dropped.
    fn is_to_be_judged(
        &mut self,
        id: NodeId,
        epoch: Epoch,
        by: Option<NodeId>,
        back: Option<Target>,
    ) -> bool {
        if id == self.config.id {
            self.accused(epoch, by, back);
            return false;
        }
        let known = self.table.find(id).map(|place| self.table.entry(place).epoch);
        let is_plausible = epoch.is_plausible(true, known, self.wall);
        self.stats.implausible += u64::from(!is_plausible);
        is_plausible
    }

    pub(super) fn held(&self, place: Place) -> (State, Epoch) {
        let entry = self.table.entry(place);
        (entry.state, entry.epoch)
    }

    /// A member is dead, or has left.
    fn declare(&mut self, place: Place, state: State, epoch: Epoch) {
        let (before, id) = (self.table.entry(place).state, self.table.entry(place).id());
        self.suspicions.end(place);
        let second = self.second();
        self.table.set(place, state, epoch, second, &mut self.draws.order);
        if before != state {
            match state {
                State::Left => self.tell(Event::Left(id)),
                State::Alive | State::Suspect | State::Dead => self.tell(Event::Dead(id)),
            }
        }
        let until = self.now + self.config.timing.retention;
        let is_reachable = state == State::Dead && !self.table.entry(place).is_stranger();
        self.graves.dig(id, epoch, self.now, until, is_reachable);
        self.news.put(&mut self.table, place);
        self.bound_graves();
    }

    /// The obituary of somebody who was never met is kept, so that old words do not revive it.
    fn bury_stranger(&mut self, id: NodeId, epoch: Epoch, state: State) {
        if self.table.len() >= self.config.members_max {
            self.stats.table_full += 1;
            return;
        }
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let record = Record { id, epoch, address, boot: 0, zone: 0, metadata_version: 0, metadata_hash: 0 };
        let second = self.second();
        let place = self.table.insert(&record, state, second, &mut self.draws.order);
        self.graves.dig(id, epoch, self.now, self.now + self.config.timing.retention, false);
        self.news.put(&mut self.table, place);
        self.bound_graves();
    }

    /// Declares those dead whose time to object is up, and tells others that it almost is.
    pub(super) fn expire_suspicions(&mut self) {
        while let Some(due) = self.suspicions.next_due(self.now) {
            match due {
                Due::Tell(place) => self.give_notice(place),
                Due::Over { place, said_goodbye: true } => {
                    let epoch = self.table.entry(place).epoch;
                    self.declare(place, State::Left, epoch);
                }
                Due::Over { place, said_goodbye: false } => {
                    self.stats.declared_dead += 1;
                    let epoch = self.table.entry(place).epoch;
                    self.declare(place, State::Dead, epoch);
                }
            }
        }
    }

    /// Tells a suspect that its time is almost up. After a cut there may be thousands: then some are told, and if one of
    /// them answers, that helps all.
    fn give_notice(&mut self, place: Place) {
        if self.config.caution.doubt && self.syncing.accused() < NOTICES_MAX {
            let entry = self.table.entry(place);
            self.accuse(entry.id(), entry.epoch);
        }
    }

    /// Forgets those who have been dead for long.
    pub(super) fn bury_if_due(&mut self) {
        while self.graves.deadline().is_some_and(|until| until <= self.now) {
            self.forget_oldest();
        }
    }

    fn bound_graves(&mut self) {
        let most = DEAD_MIN.max(4 * self.table.size());
        while self.graves.all.len() > most {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((_, id, epoch)) = self.graves.all.pop_front() else { return };
        let Some(place) = self.table.find(id) else { return };
        if self.held(place).0.is_live() || self.held(place).1 != epoch {
            return;
        }
        self.news.take(&mut self.table, place);
        self.table.remove(place);
        self.descriptions.forget(id);
        self.stats.forgotten += 1;
    }
}
