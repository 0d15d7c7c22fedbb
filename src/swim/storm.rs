//! Too many suspects at once: the network is the likelier cause than so many crashes.
//!
//! When more than a twentieth of the members, or more than half of one failure domain, become suspects within a
//! period, the suspicions that begin until the period ends are held at their longest, whoever confirms them, and
//! the application is told. That gives a switch the time to restart before a cluster rebuilds itself.

use std::collections::BTreeMap;

use core::time::Duration;

use super::{Event, Swim};
use crate::time::Instant;

/// So few suspects are never a storm.
const CALM: usize = 3;

/// How many became suspects in this period.
#[derive(Debug)]
pub(super) struct Storm {
    began: Instant,
    count: usize,
    zones: BTreeMap<u16, usize>,
    told: Option<u16>,
}

impl Storm {
    pub(super) fn start(now: Instant) -> Storm {
        Storm { began: now, count: 0, zones: BTreeMap::new(), told: None }
    }

    /// Counts one more suspect. The answer is for [`Swim::note_storm`] to complete: whether it came in a
    /// period that is a storm already.
    pub(super) fn count(&mut self, zone: u16, now: Instant, period: Duration) -> bool {
        if now >= self.began + period {
            *self = Storm { began: now, count: 0, zones: BTreeMap::new(), told: None };
        }
        self.count += 1;
        *self.zones.entry(zone).or_default() += 1;
        self.told.is_some()
    }
}

impl Swim {
    /// Tells the application once a period, and counts what is held.
    pub(super) fn note_storm(&mut self, zone: u16, is_held: bool) {
        if is_held {
            self.stats.damped += 1;
            return;
        }
        let in_zone = self.storm.zones.get(&zone).copied().unwrap_or_default();
        let too_many = self.storm.count > CALM.max(self.table.size() / 20);
        let zone_is_gone = in_zone > CALM && in_zone * 2 > self.table.zone_size(zone);
        if too_many || zone_is_gone {
            self.storm.told = Some(zone);
            self.tell(Event::ZoneUnreachable(zone));
        }
    }
}
