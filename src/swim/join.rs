//! How a member gets in, and where it is in its life.
//!
//! It asks its seeds, by name; each answers with itself and a few others, and with what it knows of the joiner,
//! so that one that has lost its disk begins above its own obituary. All the others it learns by comparing its
//! empty [table](super::sync) with that of a seed, so a join costs a seed one answer of bounded size and
//! everybody else one piece of news. Until somebody answers, it asks again, ever more slowly, and resolves the
//! names anew each time.
//!
//! Whoever has other ways to meet members tells of them ([`Input::Met`](super::Input::Met)); they are asked like
//! seeds.

use core::net::SocketAddr;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::call::Purpose;
use super::message::METADATA_INLINE_MAX;
use super::table::{Place, Table};
use super::{Answer, Card, Epoch, Event, Lifecycle, Output, Question, Swim, Target, random_part};
use crate::id::{NodeId, PeerName};
use crate::time::Instant;

/// The most members in a welcome.
const WELCOME_MAX: usize = 64;
/// The most addresses of one seed.
const ADDRESSES_MAX: usize = 8;
/// How long to wait before the seeds are asked again, at first and at last.
const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_DOUBLINGS: u32 = 5;

/// The seeds, and when they are asked again.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Joining {
    seeds: Vec<Seed>,
    retry: Option<Instant>,
    attempts: u32,
}

/// An address to begin and to heal with.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Seed {
    pub(super) name: PeerName,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) resolved_at: Option<Instant>,
    /// Who answered there last.
    member: Option<NodeId>,
}

impl Joining {
    pub(super) fn start(seeds: &[PeerName]) -> Joining {
        let seed = |name: &PeerName| Seed {
            name: name.clone(),
            addresses: Vec::new(),
            resolved_at: None,
            member: None,
        };
        Joining { seeds: seeds.iter().map(seed).collect(), retry: None, attempts: 0 }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.retry
    }

    pub(super) fn has_lost_seed(&self, table: &Table) -> bool {
        self.seeds.iter().any(|seed| seed.is_lost(table))
    }

    pub(super) fn lost_seeds(&self, table: &Table) -> Vec<usize> {
        (0..self.seeds.len()).filter(|index| self.seeds[*index].is_lost(table)).collect()
    }

    pub(super) fn seed_mut(&mut self, index: usize) -> &mut Seed {
        &mut self.seeds[index]
    }

    /// `member` answered at `address`.
    pub(super) fn note_member(&mut self, address: SocketAddr, member: NodeId) {
        for seed in &mut self.seeds {
            if seed.addresses.contains(&address) {
                seed.member = Some(member);
            }
        }
    }
}

impl Seed {
    /// Nobody live is known to be there.
    fn is_lost(&self, table: &Table) -> bool {
        let place = self.member.and_then(|member| table.find(member));
        place.is_none_or(|place| !table.entry(place).state.is_live())
    }
}

impl Swim {
    /// Asks for the addresses of all seeds; whoever is there is asked to let us in.
    pub(super) fn ask_for_seeds(&mut self) {
        if self.lifecycle != Lifecycle::Joining {
            return;
        }
        for seed in &mut self.joining.seeds {
            seed.resolved_at = Some(self.now);
            self.outputs.push_back(Output::Resolve(seed.name.clone()));
        }
        let longest = RETRY_MIN * (1 << self.joining.attempts.min(RETRY_DOUBLINGS));
        self.joining.attempts += 1;
        let wait = longest / 2 + random_part(&mut self.draws.heal, longest);
        self.joining.retry = Some(self.now + wait);
    }

    pub(super) fn join_if_due(&mut self) {
        if self.joining.retry.is_some_and(|at| at <= self.now) {
            self.joining.retry = None;
            self.ask_for_seeds();
        }
    }

    /// The addresses of a seed are known.
    pub(super) fn resolved(&mut self, name: &PeerName, mut addresses: Vec<SocketAddr>) {
        addresses.truncate(ADDRESSES_MAX);
        let own = self.config.address;
        let Some(seed) = self.joining.seeds.iter_mut().find(|seed| seed.name == *name) else { return };
        if addresses.contains(&own) {
            seed.member = Some(self.config.id);
        }
        if !addresses.is_empty() {
            seed.addresses.clone_from(&addresses);
        }
        if self.lifecycle != Lifecycle::Joining {
            return;
        }
        for address in addresses.into_iter().filter(|address| *address != own) {
            let card = self.own_card();
            self.ask(Target { id: None, address }, Purpose::Join, Question::Join(card));
        }
    }

    /// Somebody is known from elsewhere to gossip at this address.
    pub(super) fn met(&mut self, id: NodeId, address: SocketAddr) {
        let is_live = self.table.find(id).is_some_and(|place| self.table.entry(place).state.is_live());
        let is_leaving = self.lifecycle == Lifecycle::Leaving;
        if id == self.config.id || is_live || is_leaving || self.is_asking_to_join(id) {
            return;
        }
        let card = self.own_card();
        self.ask(Target { id: Some(id), address }, Purpose::Join, Question::Join(card));
    }

    fn own_card(&self) -> Card {
        self.card(Place::OWN)
    }

    /// What a member says of itself, with its metadata if that is short.
    pub(super) fn card(&self, place: Place) -> Card {
        let record = self.table.entry(place).record();
        let metadata = self.metadata(record.id);
        let metadata = if metadata.len() <= METADATA_INLINE_MAX { metadata.to_vec() } else { Vec::new() };
        Card { record, metadata }
    }

    /// The same, unless only an accusation has named its epoch so far: that word has not come yet.
    pub(super) fn card_if_said(&self, place: Place) -> Option<Card> {
        (!self.table.entry(place).is_borrowed).then(|| self.card(place))
    }

    pub(super) fn hear_card(&mut self, card: &Card, is_first_hand: bool, is_news: bool) {
        let metadata = Some(&card.metadata[..]).filter(|bytes| !bytes.is_empty());
        self.hear_alive(&card.record, metadata, is_first_hand, is_news);
    }

    /// Lets somebody in.
    pub(super) fn welcome(&mut self, from: NodeId, card: &Card) -> Answer {
        let known = self.table.find(from).map(|place| self.table.entry(place));
        let known = known.map(|entry| (entry.epoch, entry.boot)).filter(|known| known.1 != card.record.boot);
        if card.record.id == from {
            self.hear_card(card, true, true);
        } else {
            self.stats.forged += 1;
        }
        let mut cards = vec![self.own_card()];
        let mut places: Vec<Place> = Vec::new();
        for _ in 0..(WELCOME_MAX * 2) {
            let Some(place) = self.table.random_live(&mut self.draws.heal) else { break };
            if self.table.entry(place).id() != from && !places.contains(&place) && places.len() < WELCOME_MAX
            {
                places.push(place);
            }
        }
        cards.extend(places.into_iter().filter_map(|place| self.card_if_said(place)));
        Answer::Welcome { cards, known }
    }

    /// A seed has let us in.
    pub(super) fn welcomed(
        &mut self,
        to: Target,
        from: NodeId,
        cards: Vec<Card>,
        known: Option<(Epoch, u32)>,
    ) {
        self.joining.note_member(to.address, from);
        if let Some((epoch, boot)) = known {
            self.hear_twin(epoch, boot, None);
        }
        for card in cards.iter().take(WELCOME_MAX + 1) {
            self.hear_card(card, card.record.id == from, false);
        }
        self.news.put(&mut self.table, Place::OWN);
        self.compare_tables(to);
    }

    /// Whether we have company decides where we are in our life.
    pub(super) fn update_lifecycle(&mut self) {
        let has_company = !self.table.live().is_empty();
        match (self.lifecycle, has_company) {
            (Lifecycle::Idle | Lifecycle::Joining, true) => {
                self.lifecycle = Lifecycle::Active;
                self.joining.retry = None;
            }
            (Lifecycle::Active, false) => {
                self.lifecycle = Lifecycle::Isolated;
                self.healing_begins_anew();
                self.tell(Event::Isolated);
            }
            (Lifecycle::Isolated, true) => {
                self.lifecycle = Lifecycle::Active;
                self.tell(Event::Reconnected);
            }
            (
                Lifecycle::Idle
                | Lifecycle::Joining
                | Lifecycle::Active
                | Lifecycle::Isolated
                | Lifecycle::Leaving
                | Lifecycle::Gone
                | Lifecycle::Fenced,
                _,
            ) => {}
        }
    }
}
