//! Compares tables, and repairs what gossip has lost.
//!
//! Push-pull in other implementations sends whole tables, now and then, whether they differ or not. Here a
//! hash of the members is in every datagram, so two members that agree know it and keep quiet. When they
//! still differ although neither has any news left, or when there is more news than gossip can carry, or when
//! somebody unknown was mentioned, one asks the other:
//!
//! ```text
//!   us                                          them
//!   Digest: 256 parts of our hash        ─────►
//!                                        ◄───── Differences: (id, epoch, state) of the parts that differ
//!   Exchange: whose word we want,
//!             words that they lack,
//!             whom of theirs we hold dead ────►
//!                                        ◄───── Exchanged: the words, and whom of ours they hold dead
//! ```
//!
//! The cost is in proportion to what differs.
//!
//! *Whom the other side holds dead.* After a partition two halves hold each other dead. If death were taken
//! over here, a merge would kill everybody; if life were, the dead would never die. So neither is: the
//! *victim* is told, directly, a few at a time, and says with a higher epoch that it lives. Only whoever does
//! not object within two periods becomes a suspect here, with our own timer. So the other side's verdicts kill
//! nobody in a merge. What this does not help is a suspicion of our own that began in the partition and runs out
//! before its suspect has been heard again.
//!
//! What is learned from a table is news only if it is little: a joiner that has just learned of ten thousand
//! members must not tell everybody about them.

use core::time::Duration;
use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::call::Purpose;
use super::member::State;
use super::message::{Body, Header, Kind};
use super::send::Lead;
use super::table::{BUCKETS, Place};
use super::{Answer, Card, Epoch, Event, Known, Lifecycle, Question, Swim, Target};
use crate::id::NodeId;
use crate::time::Instant;

/// The most members in one answer; the rest is compared next time.
const KNOWN_MAX: usize = 20_000;
/// More words than this from a table are no news.
const NEWS_MAX: usize = 64;
/// The most victims that wait to be told.
const ACCUSED_MAX: usize = 65_536;
/// How many victims are told at a time, with the news.
const TOLD_AT_ONCE: usize = 64;
/// How many comparisons may be under way: one place is kept for those that nobody else asked for.
const UNDER_WAY_MAX: usize = 3;
/// Whom a comparison failed with is not asked again for so many periods, just because its hash differs.
const BACK_OFF_PERIODS: u32 = 30;
/// So many of those are remembered.
const FAILED_MAX: usize = 64;
/// So many in a row must agree with us before it counts as convergence.
const AGREED: u32 = 3;

/// Whether tables have to be compared, and what came out of it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Syncing {
    /// When it is due although nothing seems to be wrong.
    next: Instant,
    /// Not again before this.
    not_before: Instant,
    under_way: Vec<Target>,
    /// With whom a comparison came to nothing, and until when that counts.
    failed: VecDeque<(Instant, Target)>,
    /// Somebody was mentioned whom we do not know.
    is_incomplete: bool,
    has_disagreed: bool,
    agreed: u32,
    /// Members of ours that somebody holds dead, to be told.
    accused: VecDeque<(NodeId, Epoch)>,
    /// Those that were told, and until when they may object.
    told: VecDeque<(Instant, NodeId, Epoch)>,
}

impl Syncing {
    pub(super) fn start(now: Instant, interval: Duration) -> Syncing {
        Syncing {
            next: now + interval,
            not_before: now,
            under_way: Vec::new(),
            failed: VecDeque::new(),
            is_incomplete: false,
            has_disagreed: false,
            agreed: 0,
            accused: VecDeque::new(),
            told: VecDeque::new(),
        }
    }

    /// Somebody was mentioned whom we do not know.
    pub(super) fn miss(&mut self) {
        self.is_incomplete = true;
    }

    pub(super) fn has_accusations(&self) -> bool {
        !self.accused.is_empty()
    }

    /// How many wait to be told.
    pub(super) fn accused(&self) -> usize {
        self.accused.len()
    }

    /// We were stopped, and could not hear an objection.
    pub(super) fn extend(&mut self, by: Duration) {
        for (until, _, _) in &mut self.told {
            *until = *until + by;
        }
    }
}

impl Swim {
    /// What the membership hash in a header says.
    pub(super) fn compare_hash(&mut self, header: &Header, from: Target) {
        if header.membership_hash == self.table.hash() {
            self.syncing.agreed = self.syncing.agreed.saturating_add(1);
            self.syncing.is_incomplete = false;
            if self.syncing.has_disagreed && self.syncing.agreed >= AGREED {
                self.syncing.has_disagreed = false;
                self.tell(Event::Converged(header.membership_hash));
            }
            return;
        }
        self.syncing.has_disagreed = true;
        self.syncing.agreed = 0;
        let gossip_is_over = self.is_settled() && header.is_settled;
        let gossip_is_not_enough = self.is_overwhelmed() || header.is_overwhelmed;
        let is_due = gossip_is_over || gossip_is_not_enough || self.syncing.is_incomplete;
        if is_due && self.may_ask_for_its_hash(from) {
            self.compare_tables(from);
        }
    }

    /// Whoever sends a strange hash decides that we ask it. It must not keep us from asking others by not
    /// answering.
    fn may_ask_for_its_hash(&self, from: Target) -> bool {
        let is_it = |other: &Target| other.id == from.id;
        let has_failed = self.syncing.failed.iter().any(|(until, with)| self.now < *until && is_it(with));
        let is_under_way = self.syncing.under_way.iter().any(is_it);
        !has_failed && !is_under_way && self.syncing.under_way.len() + 1 < UNDER_WAY_MAX
    }

    /// Now and then tables are compared although nobody whom we hear seems to differ.
    pub(super) fn sync_if_due(&mut self) {
        if self.syncing.next > self.now {
            return;
        }
        self.syncing.next = self.now + self.config.timing.sync_every(self.table.size());
        if self.syncing.has_disagreed
            && let Some(place) = self.table.random_live(&mut self.draws.heal)
        {
            self.compare_tables(self.target_at(place));
        }
    }

    /// Begins to compare our table with somebody's, unless we did just now.
    pub(super) fn compare_tables(&mut self, with: Target) {
        // Who has no seeds depends on being spoken to: it asks like everybody else.
        let is_here = matches!(
            self.lifecycle,
            Lifecycle::Idle | Lifecycle::Active | Lifecycle::Isolated | Lifecycle::Joining
        );
        if !is_here || self.now < self.syncing.not_before || self.syncing.under_way.len() >= UNDER_WAY_MAX {
            return;
        }
        let buckets = self.table.buckets().to_vec();
        if self.ask(with, Purpose::Digest, Question::Digest(buckets)) {
            self.stats.syncs += 1;
            self.syncing.under_way.push(with);
            self.syncing.is_incomplete = false;
            self.syncing.not_before = self.now + self.period() / 2;
        }
    }

    /// A comparison has come to its end, or to nothing.
    pub(super) fn sync_has_ended(&mut self, with: Target) {
        let is_it = |other: &Target| other.address == with.address;
        if let Some(position) = self.syncing.under_way.iter().position(is_it) {
            self.syncing.under_way.swap_remove(position);
        }
    }

    /// A comparison came to nothing.
    pub(super) fn sync_has_failed(&mut self, with: Target) {
        self.sync_has_ended(with);
        if self.syncing.failed.len() == FAILED_MAX {
            self.syncing.failed.pop_front();
        }
        self.syncing.failed.push_back((self.now + self.period() * BACK_OFF_PERIODS, with));
    }

    /// Where our table differs from one with these buckets.
    pub(super) fn differences(&mut self, theirs: &[u64]) -> Answer {
        let (mut buckets, mut known) = (Vec::new(), Vec::new());
        if theirs.len() == BUCKETS {
            // Not always the same ones first: what does not fit is looked at next time.
            let first = usize::try_from(self.draws.heal.below(256)).expect("a bucket fits");
            for bucket in (0..BUCKETS).map(|step| (first + step) % BUCKETS) {
                if theirs[bucket] == self.table.buckets()[bucket] {
                    continue;
                }
                if known.len() >= KNOWN_MAX {
                    break;
                }
                buckets.push(u8::try_from(bucket).expect("there are 256 buckets"));
                known.extend(self.table.bucket(bucket).map(|place| self.known(place)));
            }
        }
        Answer::Differences { buckets, known }
    }

    fn known(&self, place: Place) -> Known {
        let entry = self.table.entry(place);
        Known { id: entry.id(), epoch: entry.epoch, state: entry.state, word: entry.word() }
    }

    /// The other side has said what it knows: what do we want of it, and what does it lack?
    pub(super) fn differ(&mut self, from: Target, mut buckets: Vec<u8>, mut known: Vec<Known>) {
        buckets.sort_unstable();
        buckets.dedup();
        known.truncate(KNOWN_MAX * 2);
        known.sort_unstable_by_key(|known| known.id);
        known.dedup_by_key(|known| known.id);
        let (mut wanted, mut cards, mut accused) = (Vec::new(), Vec::new(), Vec::new());
        for theirs in &known {
            match self.weigh(*theirs, from) {
                Weight::Same => {}
                Weight::Wanted => wanted.push(theirs.id),
                Weight::Lacking(place) => cards.extend(self.card_if_said(place)),
                Weight::Accused(epoch) => accused.push((theirs.id, epoch)),
            }
        }
        for bucket in buckets {
            // What does not fit is looked at next time: the other side begins at another bucket then.
            if cards.len() >= KNOWN_MAX {
                break;
            }
            for place in self.table.bucket(usize::from(bucket)) {
                let entry = self.table.entry(place);
                let is_mentioned = known.binary_search_by_key(&entry.id(), |known| known.id).is_ok();
                if !is_mentioned && entry.state.is_live() {
                    cards.extend(self.card_if_said(place));
                }
            }
        }
        let is_nothing = wanted.is_empty() && cards.is_empty() && accused.is_empty();
        let question = Question::Exchange { wanted, cards, accused };
        if is_nothing || !self.ask(from, Purpose::Exchange, question) {
            self.sync_has_ended(from);
        }
    }

    /// Weighs what the other side knows of a member against what we do.
    fn weigh(&mut self, theirs: Known, from: Target) -> Weight {
        let Some(place) = self.table.find(theirs.id) else {
            return if theirs.state.is_live() { Weight::Wanted } else { Weight::Same };
        };
        let (state, epoch) = self.held(place);
        let word = self.table.entry(place).word();
        let is_disputed = theirs.epoch == epoch && theirs.word != word && theirs.word != 0 && word != 0;
        if is_disputed && state.is_live() && theirs.state.is_live() {
            // Only its owner knows which word is true; a new epoch ends the dispute.
            self.accuse(theirs.id, epoch);
            return Weight::Same;
        }
        if theirs.state == State::Left && from.id == Some(theirs.id) {
            self.hear_left(theirs.id, theirs.epoch, theirs.id, None);
            return Weight::Same;
        }
        let is_unsaid = theirs.epoch == epoch && word == 0 && theirs.word != 0;
        match (state.is_live(), theirs.state.is_live()) {
            (true, true) if is_unsaid => Weight::Wanted,
            (true, true) if theirs.epoch > epoch => Weight::Wanted,
            (true, true) if theirs.epoch < epoch => Weight::Lacking(place),
            (true, false) if theirs.epoch >= epoch => {
                self.accuse(theirs.id, theirs.epoch);
                Weight::Same
            }
            (true, false) => Weight::Lacking(place),
            (false, true) if theirs.epoch > epoch => Weight::Wanted,
            (false, true) => Weight::Accused(epoch),
            (true, true) | (false, false) => Weight::Same,
        }
    }

    /// The other side wants some words, has some for us, and holds some of ours dead.
    pub(super) fn exchange(
        &mut self,
        wanted: &[NodeId],
        cards: Vec<Card>,
        accused: Vec<(NodeId, Epoch)>,
        from: NodeId,
    ) -> Answer {
        let theirs = self.hear_cards(cards, Some(from));
        self.accuse_all(accused);
        let places = wanted.iter().take(KNOWN_MAX * 2).filter_map(|id| self.table.find(*id));
        let live = places.filter(|place| self.held(*place).0.is_live());
        let cards = live.filter_map(|place| self.card_if_said(place)).collect();
        Answer::Exchanged { cards, accused: theirs }
    }

    pub(super) fn exchanged(&mut self, from: Target, cards: Vec<Card>, accused: Vec<(NodeId, Epoch)>) {
        self.sync_has_ended(from);
        self.hear_cards(cards, from.id);
        self.accuse_all(accused);
    }

    /// Hears words out of another table; returns those whose owners we hold dead in spite of them.
    fn hear_cards(&mut self, cards: Vec<Card>, from: Option<NodeId>) -> Vec<(NodeId, Epoch)> {
        let is_news = cards.len() <= NEWS_MAX;
        let mut dead = Vec::new();
        for card in cards.iter().take(KNOWN_MAX * 2) {
            self.hear_card(card, from == Some(card.record.id), is_news);
            if let Some(place) = self.table.find(card.record.id)
                && let (State::Dead | State::Left, epoch) = self.held(place)
            {
                dead.push((card.record.id, epoch));
            }
        }
        dead
    }

    fn accuse_all(&mut self, accused: Vec<(NodeId, Epoch)>) {
        for (id, epoch) in accused.into_iter().take(KNOWN_MAX * 2) {
            self.accuse(id, epoch);
        }
    }

    /// Somebody holds `id` dead, as of `epoch`. It will be told, unless it has outbid that already.
    pub(super) fn accuse(&mut self, id: NodeId, epoch: Epoch) {
        if id == self.config.id {
            self.accused(epoch, None, None);
            return;
        }
        let Some(place) = self.table.find(id) else { return };
        let (state, held) = self.held(place);
        let is_plausible = epoch.is_plausible(true, Some(held), self.wall);
        if !is_plausible {
            self.stats.implausible += 1;
        } else if state.is_live() && epoch >= held && self.syncing.accused.len() < ACCUSED_MAX {
            self.syncing.accused.push_back((id, epoch));
        }
    }

    /// Tells some of the victims. Goes with the news.
    pub(super) fn tell_accused(&mut self) {
        let mut told = 0;
        while told < TOLD_AT_ONCE {
            let Some((id, epoch)) = self.syncing.accused.pop_front() else { return };
            let Some(place) = self.table.find(id) else { continue };
            let (state, held) = self.held(place);
            if !state.is_live() || held > epoch {
                continue;
            }
            let to = self.target_at(place);
            self.stats.accusations_passed_on += 1;
            self.send(to, Kind::Gossip, Body::Empty, 0, Lead::Accusation(epoch));
            self.syncing.told.push_back((self.now + self.period() * 2, id, epoch));
            told += 1;
        }
    }

    /// Whoever was told and has not objected becomes a suspect, a few a period.
    pub(super) fn doubt_accused(&mut self) {
        let most = 3.max(self.table.size() / 20);
        let mut doubted = 0;
        while doubted < most && self.syncing.told.front().is_some_and(|(until, _, _)| *until <= self.now) {
            let Some((_, id, epoch)) = self.syncing.told.pop_front() else { return };
            let Some(place) = self.table.find(id) else { continue };
            let (state, held) = self.held(place);
            if state == State::Alive && held <= epoch {
                self.hear_suspect(id, epoch, self.config.id, None);
                doubted += 1;
            }
        }
    }
}

/// What a comparison says about one member.
#[derive(Clone, Deserialize, Serialize)]
enum Weight {
    /// Nothing to be done.
    Same,
    /// Theirs is newer.
    Wanted,
    /// Ours is newer.
    Lacking(Place),
    /// They hold it alive, we hold it dead as of this epoch.
    Accused(Epoch),
}
