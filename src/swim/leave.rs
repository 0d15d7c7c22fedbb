//! A goodbye: final for this generation, and told first hand.
//!
//! A goodbye that somebody else passes on gives the member time to object, since nobody may be made to leave.
//! So whoever leaves tells a few members itself, and waits until they have acknowledged it; they hold it as
//! left at once, the others a suspicion later. Then it keeps silent, for ever.

use serde::{Deserialize, Serialize};

use super::message::{Body, Kind};
use super::send::Lead;
use super::{Event, Lifecycle, Swim};
use crate::time::Instant;

/// So many acknowledgements are enough.
const ACKS: usize = 3;
/// So many rounds are played at most, one a gossip interval.
const ROUNDS_MAX: u32 = 15;
/// So many rounds more, to pass on what news is left.
const ROUNDS_MORE: u32 = 3;

/// A goodbye under way.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Farewell {
    next: Instant,
    rounds: u32,
    /// The numbers of the pings that carried it.
    sequences: Vec<u32>,
    acks: usize,
    /// How many rounds are left, once enough have acknowledged it.
    ends_in: Option<u32>,
}

impl Farewell {
    pub(super) fn deadline(&self) -> Instant {
        self.next
    }
}

impl Swim {
    /// Begins to say goodbye.
    pub(super) fn leave(&mut self) {
        if matches!(self.lifecycle, Lifecycle::Leaving) {
            return;
        }
        self.outbid(self.own.record().epoch);
        self.lifecycle = Lifecycle::Leaving;
        let (sequences, ends_in) = (Vec::new(), None);
        self.farewell = Some(Farewell { next: self.now, rounds: 0, sequences, acks: 0, ends_in });
        self.say_goodbye();
    }

    pub(super) fn leave_if_due(&mut self) {
        if self.farewell.as_ref().is_some_and(|farewell| farewell.next <= self.now) {
            self.say_goodbye();
        }
    }

    /// One round: some random members are told, unless enough have acknowledged it.
    fn say_goodbye(&mut self) {
        let count = usize::try_from(self.table.size().ilog2()).unwrap_or(ACKS).max(ACKS);
        let needed = ACKS.min(self.table.live().len());
        let interval = self.config.timing.gossip_interval;
        let Some(farewell) = &mut self.farewell else { return };
        farewell.rounds += 1;
        farewell.next = self.now + interval;
        if farewell.acks >= needed || farewell.rounds > ROUNDS_MAX {
            let left = farewell.ends_in.get_or_insert(ROUNDS_MORE);
            if *left == 0 || needed == 0 {
                self.farewell = None;
                self.lifecycle = Lifecycle::Gone;
                self.tell(Event::Left(self.config.id));
                return;
            }
            *left -= 1;
            return;
        }
        for place in self.random_helpers(count, self.config.id) {
            let sequence = self.probing.number();
            if let Some(farewell) = &mut self.farewell {
                farewell.sequences.push(sequence);
            }
            let to = self.target_at(place);
            self.send(to, Kind::Ping, Body::Empty, sequence, Lead::OwnWord);
        }
    }

    pub(super) fn goodbye_acknowledged(&mut self, sequence: u32) {
        if let Some(farewell) = &mut self.farewell
            && let Some(position) = farewell.sequences.iter().position(|sent| *sent == sequence)
        {
            farewell.sequences.swap_remove(position);
            farewell.acks += 1;
        }
    }
}
