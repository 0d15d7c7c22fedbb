//! Packs datagrams, and decides when news goes out beside the probes.
//!
//! What comes first in a datagram: a word against the receiver, so that it can object (the buddy of Lifeguard
//! §4.3); then our own word of life, if that is news; then bad news, then good news.
//!
//! While there is news, it goes to a few random members several times a period; while there is none, nothing
//! is sent but probes. With more news than a few datagrams hold, it goes to more members at a time; with more
//! than even that can carry, the header says so, and tables are compared instead.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::gossip::News;
use super::member::State;
use super::message::{Body, Header, Kind, METADATA_INLINE_MAX, Update, Writer};
use super::table::{Place, Table};
use super::{Epoch, Event, Lifecycle, Output, Swim, Target, random_part};
use crate::id::NodeId;
use crate::time::Instant;

/// So many buffers are kept for reuse: as many as one step can ask for, and some.
const SPARE_MAX: usize = 16;
/// So many pieces of news fit into one datagram, about.
const PIECES_PER_DATAGRAM: usize = 40;
/// With more datagrams' worth of news than this, it goes to more members at a time.
const BACKLOG_DATAGRAMS: usize = 4;
/// The most members that news goes to at a time.
const FANOUT_MAX: usize = 8;

/// What comes before the news.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum Lead {
    /// Only what is held against the receiver, if anything is.
    Nothing,
    /// Our own word, although it may be no news.
    OwnWord,
    /// Something that was said against the receiver.
    Accusation(Epoch),
}

/// When news goes out, and the buffers that it goes out in.
#[derive(Clone, Deserialize, Serialize)]
pub(super) struct Pump {
    next: Option<Instant>,
    last: Instant,
    /// Since when there is no news.
    settled_since: Option<Instant>,
    /// Since when there is more than a few datagrams hold.
    crowded_since: Option<Instant>,
    spare: Vec<Vec<u8>>,
    chosen: Vec<Place>,
}

impl Pump {
    pub(super) fn start(now: Instant) -> Pump {
        Pump {
            next: None,
            last: Instant::ORIGIN,
            settled_since: Some(now),
            crowded_since: None,
            spare: Vec::new(),
            chosen: Vec::new(),
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Keeps a buffer for one of ours.
    pub(super) fn reuse(&mut self, bytes: Vec<u8>) {
        if self.spare.len() < SPARE_MAX {
            self.spare.push(bytes);
        }
    }
}

impl Swim {
    /// Whether there has been no news for two periods.
    pub(super) fn is_settled(&self) -> bool {
        self.pump.settled_since.is_some_and(|since| self.now >= since + self.period() * 2)
    }

    /// Whether there has been too much news for half a period.
    pub(super) fn is_overwhelmed(&self) -> bool {
        self.pump.crowded_since.is_some_and(|since| self.now >= since + self.period() / 2)
    }

    /// Where a member is reached.
    pub(super) fn target_of(&self, id: NodeId) -> Option<Target> {
        let address = self.table.entry(self.table.find(id)?).record().address;
        (address.port() != 0).then_some(Target { id: Some(id), address })
    }

    pub(super) fn target_at(&self, place: Place) -> Target {
        let record = self.table.entry(place).record();
        Target { id: Some(record.id), address: record.address }
    }

    /// Sends one datagram, with as much news as fits.
    pub(super) fn send(&mut self, to: Target, kind: Kind, body: Body, sequence: u32, lead: Lead) {
        let header = self.header(to.id, kind, sequence);
        let bytes = self.pump.spare.pop().unwrap_or_else(|| Vec::with_capacity(self.config.datagram_max));
        let mut writer = Writer::begin(bytes, self.config.datagram_max, &header, body);
        if let Some(accusation) = self.accusation_of(to.id, lead, kind) {
            writer.push(&accusation);
        }
        let mut chosen = core::mem::take(&mut self.pump.chosen);
        let is_own_word_news = News::is_queued(&self.table, Place::OWN);
        if is_own_word_news || lead == Lead::OwnWord {
            writer.push(&self.own_word());
            chosen.push(Place::OWN);
        }
        let (table, news) = (&self.table, &self.news);
        news.offer(table, &mut chosen, |place| place != Place::OWN && writer.push(&self.update_of(place)));
        let limit = self.config.timing.retransmissions(self.table.size());
        let counts = !chosen.is_empty() && self.counts_as_passed_on(to.id, kind);
        for place in chosen.drain(..) {
            if counts {
                self.news.passed(&mut self.table, place, limit);
            }
        }
        self.pump.chosen = chosen;
        let bytes = writer.finish();
        self.stats.sent += 1;
        self.stats.sent_bytes += u64::try_from(bytes.len()).unwrap_or_default();
        self.outputs.push_back(Output::Datagram { to, bytes });
    }

    /// News counts as passed on when it went to somebody whom we chose, and who is alive: whoever asks often must not
    /// use up what is meant for everybody.
    fn counts_as_passed_on(&self, to: Option<NodeId>, kind: Kind) -> bool {
        let is_chosen = matches!(kind, Kind::Ping | Kind::PingReq | Kind::Gossip);
        let place = to.and_then(|id| self.table.find(id));
        is_chosen && place.is_some_and(|place| self.table.entry(place).state.is_live())
    }

    fn header(&self, destination: Option<NodeId>, kind: Kind, sequence: u32) -> Header {
        let own = self.own.record();
        Header {
            cluster: self.tag,
            kind,
            is_settled: self.is_settled(),
            is_overwhelmed: self.is_overwhelmed(),
            source: own.id,
            source_epoch: own.epoch,
            source_boot: own.boot,
            destination,
            sequence,
            membership_hash: self.table.hash(),
        }
    }

    /// The suspect is told first (Lifeguard §4.3), and so is who is held dead.
    fn accusation_of(&self, to: Option<NodeId>, lead: Lead, kind: Kind) -> Option<Update<'static>> {
        let id = to?;
        let by = self.config.id;
        if let Lead::Accusation(epoch) = lead {
            return Some(Update::Suspect { id, epoch, by });
        }
        if !self.config.caution.buddy && kind != Kind::HealPing {
            return None;
        }
        if self.suspicions.len() == 0 && self.table.dead().is_empty() {
            return None;
        }
        let entry = self.table.entry(self.table.find(id)?);
        let is_held = matches!(entry.state, State::Suspect | State::Dead);
        is_held.then_some(Update::Suspect { id, epoch: entry.epoch, by })
    }

    fn own_word(&self) -> Update<'_> {
        let record = *self.own.record();
        if self.lifecycle == Lifecycle::Leaving {
            return Update::Left { id: record.id, epoch: record.epoch };
        }
        let metadata = Some(&self.config.metadata[..]);
        Update::Alive { record, metadata: metadata.filter(|bytes| bytes.len() <= METADATA_INLINE_MAX) }
    }

    /// What is known of a member, as news.
    pub(super) fn update_of(&self, place: Place) -> Update<'_> {
        if place == Place::OWN {
            return self.own_word();
        }
        let entry = self.table.entry(place);
        let (id, epoch) = (entry.id(), entry.epoch);
        match entry.state {
            State::Alive => {
                let metadata = (entry.metadata_version > 0).then(|| self.descriptions.of(id));
                let metadata = metadata.filter(|bytes| bytes.len() <= METADATA_INLINE_MAX);
                Update::Alive { record: entry.record(), metadata }
            }
            State::Suspect => match self.suspicions.accuser(place) {
                Some((_, true)) => Update::Left { id, epoch },
                Some((by, false)) => Update::Suspect { id, epoch, by },
                None => Update::Suspect { id, epoch, by: self.config.id },
            },
            State::Dead => Update::Dead { id, epoch },
            State::Left => Update::Left { id, epoch },
        }
    }

    /// Starts the pump while there is something to say, and notes since when there is.
    pub(super) fn arm_gossip(&mut self) {
        let backlog = self.news.len();
        let is_crowded = backlog > PIECES_PER_DATAGRAM * BACKLOG_DATAGRAMS;
        if !is_crowded {
            self.pump.crowded_since = None;
        } else if self.pump.crowded_since.is_none() {
            self.pump.crowded_since = Some(self.now);
            self.tell(Event::BacklogHigh(backlog));
        }
        let has_work = backlog > 0 || self.syncing.has_accusations();
        if backlog > 0 {
            self.pump.settled_since = None;
        } else if self.pump.settled_since.is_none() {
            self.pump.settled_since = Some(self.now);
        }
        if has_work && self.pump.next.is_none() {
            let interval = self.config.timing.gossip_interval;
            let since_last = self.now.saturating_since(self.pump.last);
            let wait = if since_last < interval {
                interval - since_last
            } else {
                random_part(&mut self.draws.gossip, interval)
            };
            self.pump.next = Some(self.now + wait.max(Duration::from_nanos(1)));
        }
    }

    /// Passes news on to a few members, while there is any.
    pub(super) fn gossip_if_due(&mut self) {
        if self.pump.next.is_none_or(|next| next > self.now) {
            return;
        }
        self.pump.next = None;
        self.pump.last = self.now;
        self.tell_accused();
        let crowd = (self.news.len() / PIECES_PER_DATAGRAM).saturating_sub(BACKLOG_DATAGRAMS);
        let fanout = (self.config.timing.gossip_fanout + crowd).min(FANOUT_MAX);
        for turn in 0..fanout {
            if self.news.len() == 0 {
                return;
            }
            // The same member twice at a time is rare, and costs a datagram.
            if let Some(to) = self.random_listener(turn == 0) {
                self.send(to, Kind::Gossip, Body::Empty, 0, Lead::Nothing);
            }
        }
    }

    /// A random live member, or perhaps one that died so recently that it may not be dead.
    fn random_listener(&mut self, may_be_dead: bool) -> Option<Target> {
        let recently = self.graves.recently_dead(self.now, self.config.timing.recently_dead);
        let recently = if may_be_dead { recently } else { 0 };
        let total = self.table.live().len() + recently;
        if total == 0 {
            return None;
        }
        let bound = u64::try_from(total).expect("a length fits");
        let chosen = usize::try_from(self.draws.gossip.below(bound)).expect("below a length");
        match self.table.live().get(chosen) {
            Some(place) => Some(self.target_at(*place)),
            None => self.target_of(self.graves.recent(chosen - self.table.live().len())?),
        }
    }

    /// Some distinct random members that are held alive, without `except`, in different zones if possible.
    pub(super) fn random_helpers(&mut self, count: usize, except: NodeId) -> Vec<Place> {
        let mut found: Vec<Place> = Vec::with_capacity(count * 2);
        for _ in 0..(count * 4 + 8) {
            let Some(place) = self.table.random_live(&mut self.draws.probe) else { break };
            let entry = self.table.entry(place);
            if entry.state == State::Alive && entry.id() != except && !found.contains(&place) {
                found.push(place);
                if found.len() == count * 2 {
                    break;
                }
            }
        }
        let target_zone = self.table.find(except).map(|place| self.table.entry(place).zone);
        spread_over_zones(&self.table, found, count, target_zone)
    }
}

/// Takes `count` of `found`: one of each zone before a second one of any, and that of the target last.
fn spread_over_zones(table: &Table, found: Vec<Place>, count: usize, target_zone: Option<u16>) -> Vec<Place> {
    let mut seen: Vec<u16> = target_zone.into_iter().collect();
    let (mut chosen, mut rest) = (Vec::new(), Vec::new());
    for place in found {
        let zone = table.entry(place).zone;
        if seen.contains(&zone) {
            rest.push(place);
        } else {
            seen.push(zone);
            chosen.push(place);
        }
    }
    chosen.extend(rest);
    chosen.truncate(count);
    chosen
}
