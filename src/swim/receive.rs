//! What a datagram does: it is read whole, its sender is checked, its news is heard, and then it is answered.
//!
//! Whatever is wrong with it is counted, and it is dropped: a datagram that cannot be read, one of another
//! cluster, one whose sender is not whom its certificate names, one too many. What is said to somebody else
//! (an address that has changed hands) is answered with who is here.

use core::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::member::State;
use super::message::{Body, Datagram, Header, Kind, Malformed, Update, VERSION};
use super::send::Lead;
use super::{Event, Swim, Target};
use crate::id::NodeId;
use crate::time::Instant;

/// The most bytes of a datagram that is read.
const RECEIVED_MAX: usize = 65_000;
/// The most datagrams and questions that peers of one class may send in a period.
const PER_PERIOD_MAX: u16 = 4_000;
/// Peers are in so many classes, by their ids: a bound on what is remembered.
const CLASSES: usize = 32;

/// What peers have sent in this period.
#[derive(Clone, Deserialize, Serialize)]
pub(super) struct Pace {
    spent: [u16; CLASSES],
    mismatch_told: Option<Instant>,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { spent: [0; CLASSES], mismatch_told: None }
    }
}

impl Pace {
    pub(super) fn begin_period(&mut self) {
        self.spent.fill(0);
    }

    /// Whether `peer` may send something that counts for so many datagrams.
    pub(super) fn admits(&mut self, peer: NodeId, cost: u16) -> bool {
        let class = usize::try_from(peer.value() & 0xffff).expect("a class fits") % CLASSES;
        self.spent[class] = self.spent[class].saturating_add(cost);
        self.spent[class] <= PER_PERIOD_MAX
    }
}

impl Swim {
    /// Takes a datagram in, and keeps its buffer.
    pub(super) fn receive(&mut self, from: NodeId, via: SocketAddr, bytes: Vec<u8>) {
        if !self.pace.admits(from, 1) {
            self.stats.flooding += 1;
        } else if bytes.len() > RECEIVED_MAX {
            self.refuse(from, via, Malformed::TooLong);
        } else {
            match Datagram::read(&bytes) {
                Ok(datagram) => self.heed(from, via, &datagram),
                Err(malformed) => self.refuse(from, via, malformed),
            }
        }
        self.pump.reuse(bytes);
    }

    fn refuse(&mut self, from: NodeId, via: SocketAddr, malformed: Malformed) {
        *self.stats.malformed.entry(malformed).or_default() += 1;
        if malformed != Malformed::Version || !self.note_version(from) {
            return;
        }
        let versions = Body::Versions { min: VERSION.0, max: VERSION.0 };
        let to = Target { id: Some(from), address: via };
        self.send(to, Kind::VersionMismatch, versions, 0, Lead::Nothing);
    }

    /// Tells the application once a period, and says whether it did.
    fn note_version(&mut self, of: NodeId) -> bool {
        let is_due = self.pace.mismatch_told.is_none_or(|last| self.now >= last + self.period());
        if is_due {
            self.pace.mismatch_told = Some(self.now);
            self.tell(Event::VersionMismatch(of));
        }
        is_due
    }

    fn heed(&mut self, from: NodeId, via: SocketAddr, datagram: &Datagram<'_>) {
        let header = &datagram.header;
        if header.cluster != self.tag {
            self.stats.foreign += 1;
            return;
        }
        if header.source != from {
            self.stats.forged += 1;
            return;
        }
        if from == self.config.id {
            // By the certificate, it is us and not us.
            self.met_twin(header.source_epoch, header.source_boot);
            return;
        }
        let to = Target { id: Some(from), address: via };
        if header.destination.is_some_and(|id| id != self.config.id) {
            self.stats.misdirected += 1;
            if header.kind != Kind::WrongNode {
                self.send(to, Kind::WrongNode, Body::Empty, header.sequence, Lead::OwnWord);
            }
            return;
        }
        self.stats.received[header.kind.number()] += 1;
        self.note_speaker(from);
        for update in datagram.updates() {
            self.hear(&update, from, Some(to));
        }
        self.note_source(header);
        self.answer_datagram(header, datagram.body, to);
        self.compare_hash(header, to);
    }

    /// Hears one piece of news from a member.
    fn hear(&mut self, update: &Update<'_>, from: NodeId, back: Option<Target>) {
        match *update {
            Update::Alive { record, metadata } => self.hear_alive(&record, metadata, from == record.id, true),
            Update::Suspect { id, epoch, by } => self.hear_suspect(id, epoch, by, back),
            Update::Dead { id, epoch } => self.hear_dead(id, epoch, back),
            Update::Left { id, epoch } => self.hear_left(id, epoch, from, back),
        }
    }

    /// What the header alone tells: that its sender is there.
    fn note_source(&mut self, header: &Header) {
        if !header.source_epoch.is_plausible(false, None, self.wall) {
            self.stats.implausible += 1;
            return;
        }
        // Equal hashes are equal tables, the sender's own entry included: in quiet times the table need not be
        // looked at, which among thousands of members is most of what a datagram costs.
        if header.membership_hash == self.table.hash() && self.suspicions.len() == 0 {
            self.probing.heard(header.source, self.now);
            return;
        }
        let found = self.table.find(header.source).map(|place| self.table.entry(place));
        match found {
            Some(entry) if entry.epoch == header.source_epoch && entry.state == State::Alive => {
                self.probing.heard(header.source, self.now);
            }
            Some(entry) if entry.epoch >= header.source_epoch => {}
            // Its word of life has not come yet.
            Some(_) | None => self.syncing.miss(),
        }
    }

    fn answer_datagram(&mut self, header: &Header, body: Body, to: Target) {
        let sequence = header.sequence;
        match (header.kind, body) {
            (Kind::Ping, _) => self.send(to, Kind::Ack, Body::Empty, sequence, Lead::Nothing),
            (Kind::Ack, _) => self.acknowledged(header.source, sequence),
            (Kind::PingReq, Body::PingReq { target, nack_after_ms }) => {
                self.relay(to, sequence, target, nack_after_ms);
            }
            (Kind::ForwardedAck, Body::About { target }) => {
                self.answered_through(header.source, target, sequence);
            }
            (Kind::Nack, Body::About { target }) => self.missed_through(header.source, target, sequence),
            (Kind::HealPing, _) => self.send(to, Kind::HealAck, Body::Empty, sequence, Lead::OwnWord),
            (Kind::HealAck, _) => self.healed(header.source, to),
            (Kind::WrongNode, _) => self.met_somebody_else(to, sequence),
            (Kind::VersionMismatch, _) => _ = self.note_version(header.source),
            (Kind::Gossip | Kind::PingReq | Kind::ForwardedAck | Kind::Nack, _) => {}
        }
    }
}
