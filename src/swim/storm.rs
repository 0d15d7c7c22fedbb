//! Too many suspects at once: the network is the likelier cause than so many crashes.
//!
//! When more than a twentieth of the members, or more than half of one failure domain, become suspects within a
//! period, the suspicions that begin until the period ends are held at their longest, whoever confirms them, and
//! the application is told. That gives a switch the time to restart before a cluster rebuilds itself.

use std::collections::BTreeMap;

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
    is_told: bool,
}

impl Storm {
    pub(super) fn start(now: Instant) -> Storm {
        Storm { began: now, count: 0, zones: BTreeMap::new(), is_told: false }
    }
}

impl Swim {
    /// Counts one more suspect. Tells whether this period is a storm already; the application hears of it once.
    pub(super) fn is_storm(&mut self, zone: u16) -> bool {
        if self.now >= self.storm.began + self.period() {
            self.storm = Storm::start(self.now);
        }
        if self.storm.is_told {
            self.stats.damped += 1;
            return true;
        }
        self.storm.count += 1;
        let in_zone = self.storm.zones.entry(zone).or_default();
        *in_zone += 1;
        let too_many = self.storm.count > CALM.max(self.table.size() / 20);
        let zone_is_gone = *in_zone > CALM && *in_zone * 2 > self.table.zone_size(zone);
        if too_many || zone_is_gone {
            self.storm.is_told = true;
            self.tell(Event::ZoneUnreachable(zone));
        }
        false
    }
}
