//! Too many suspects at once: the network is the likelier cause than so many crashes.
//!
//! When more than a twentieth of the members, or more than half of one failure domain, are suspects, none that does not
//! answer is declared dead for as long as the longest suspicion takes, whoever confirms it and whoever says that it is
//! dead; and the application is told. That gives a switch the time to restart before a cluster rebuilds itself.
//!
//! It lasts while there are as many suspects as when it began, and then it ends for all of them at once. Were those who
//! are suspected late not held, they would die first, and what is said of them would be said of all; had each its own
//! end, they would die one by one for a long time, and some of them while the network is whole again. If one of them
//! speaks shortly before the end, the storm is passing, and the others have the shortest suspicion's time more.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Event, Swim};
use crate::time::Instant;

/// So few suspects are never a storm.
const CALM: usize = 3;

/// Whether there are too many suspects.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Storm {
    /// There are: nobody is declared dead before then.
    until: Option<Instant>,
    /// How many there were when it began.
    size: usize,
    /// One of them spoke shortly before the end, and the end was put off.
    is_passing: bool,
}

impl Storm {
    /// We were stopped for so long, and could not hear that it is over.
    pub(super) fn extend(&mut self, by: Duration) {
        self.until = self.until.map(|until| until + by);
    }
}

impl Swim {
    /// One more suspect is about to be held that does not answer. If there are too many, tells until when nobody is
    /// declared dead; the application hears of it once.
    pub(super) fn weather(&mut self, zone: u16) -> Option<Instant> {
        let size = self.suspicions.len() + 1;
        if let Some(until) = self.storm.until {
            if self.now < until && size > self.storm.size {
                self.stats.damped += 1;
                return Some(until);
            }
            self.storm = Storm::default();
        }
        let in_zone = self.suspicions.in_zone(zone) + 1;
        let too_many = size > CALM.max(self.table.size() / 20);
        let zone_is_gone = in_zone > CALM && in_zone * 2 > self.table.zone_size(zone);
        if too_many || zone_is_gone {
            let until = self.now + self.config.timing.suspicion_longest(self.table.size());
            self.storm = Storm { until: Some(until), size, is_passing: false };
            self.suspicions.hold(until);
            self.tell(Event::ZoneUnreachable(zone));
        }
        self.storm.until
    }

    /// One of the suspects is there after all. Tells whether there is a storm.
    pub(super) fn clears_up(&mut self) -> bool {
        let Some(until) = self.storm.until.filter(|until| self.now < *until) else { return false };
        let shortest = self.config.timing.suspicion_shortest(self.table.size());
        if until < self.now + shortest && !self.storm.is_passing {
            self.storm.is_passing = true;
            self.storm.until = Some(until + shortest);
            self.suspicions.hold(until + shortest);
        }
        true
    }
}
