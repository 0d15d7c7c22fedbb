//! What a member is, and how patient it is.

use core::net::SocketAddr;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::logarithm::{self, ONE};
use super::message::METADATA_MAX;
use super::suspicion::CONFIRMATIONS_MAX;
use crate::id::{ClusterName, NodeId, PeerName};

/// The shortest protocol period.
const PERIOD_MIN: Duration = Duration::from_millis(10);
/// The most of what is counted in a handful.
const COUNT_MAX: u32 = 64;

/// The configuration of one member.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Config {
    /// Its id; the same as in its certificate.
    pub id: NodeId,
    /// Which cluster it belongs to. A datagram of another is dropped.
    pub cluster: ClusterName,
    /// Where others reach it.
    pub address: SocketAddr,
    /// A number that differs between its starts: it tells two processes under one id apart.
    pub boot: u32,
    /// Its failure domain; 0 if there are none.
    pub zone: u16,
    /// What others are to know of it, at most 64 KiB. They hear of changes.
    pub metadata: Vec<u8>,
    /// Addresses of members to begin with, and to heal with. They never get lost.
    pub seeds: Vec<PeerName>,
    /// How patient it is.
    pub timing: Timing,
    /// What it does about its own slowness and about others' mistakes.
    pub caution: Caution,
    /// What to do when another process has the same id.
    pub id_conflict: IdConflictPolicy,
    /// The most bytes of one datagram, from 512. What is longer than a path allows is lost on it.
    pub datagram_max: usize,
    /// The most members that are remembered, dead ones included. Beyond it, newcomers are ignored.
    pub members_max: usize,
}

impl Config {
    /// A member with the timing of a local network and no seeds.
    #[must_use]
    pub fn new(id: NodeId, cluster: ClusterName, address: SocketAddr, boot: u32) -> Config {
        Config {
            id,
            cluster,
            address,
            boot,
            zone: 0,
            metadata: Vec::new(),
            seeds: Vec::new(),
            timing: Timing::LAN,
            caution: Caution::ALL,
            id_conflict: IdConflictPolicy::KeepNewest,
            datagram_max: 1160,
            members_max: 1_000_000,
        }
    }

    /// Checks what the protocol takes for granted.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], which names the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.timing.validate()?;
        if self.metadata.len() > METADATA_MAX {
            return Err(ConfigError::Metadata(self.metadata.len()));
        }
        if !(512..=65_000).contains(&self.datagram_max) {
            return Err(ConfigError::Datagram(self.datagram_max));
        }
        Ok(())
    }
}

/// A configuration that cannot work. Nothing was started.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Lengthen the period, or shorten the timeout: an answer must be able to come within the period.
    #[error("the probe timeout is {timeout:?}; it must be shorter than the protocol period of {period:?}")]
    ProbeTimeout {
        /// The timeout.
        timeout: Duration,
        /// The period.
        period: Duration,
    },
    /// A duration of zero would make the member spin.
    #[error("{0} is zero; it must be longer")]
    Zero(&'static str),
    /// Lengthen the period: schedulers are not more exact than that.
    #[error("a protocol period of {0:?}; choose at least {PERIOD_MIN:?}")]
    TooShort(Duration),
    /// Lower the number.
    #[error("{name} is {count}; at most {COUNT_MAX} makes sense")]
    TooMany {
        /// Of what.
        name: &'static str,
        /// How much.
        count: u32,
    },
    /// Shorten the metadata.
    #[error("{0} bytes of metadata; at most {METADATA_MAX} are allowed")]
    Metadata(usize),
    /// Choose a datagram size that control messages fit in.
    #[error("datagrams of at most {0} bytes; choose from 512 to 65000")]
    Datagram(usize),
}

/// How patient a member is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Timing {
    /// How often one member is probed (SWIM §3: the protocol period T).
    pub period: Duration,
    /// How long at most to wait for an answer before others are asked. Must be shorter than the period.
    pub probe_timeout: Duration,
    /// How many others are asked to probe (SWIM §3.1: k).
    pub helpers: usize,
    /// α: the shortest suspicion is α · max(1, log10 n) periods (Lifeguard §4).
    pub suspicion_alpha: u32,
    /// β: the longest suspicion is β times the shortest.
    pub suspicion_beta: u32,
    /// Takes the place of the shortest suspicion, if given.
    pub suspicion_min: Option<Duration>,
    /// λ: news is passed on λ · ceil(log10(n + 1)) times (SWIM §4.1).
    pub retransmit: u32,
    /// How often news is passed on beside the probes, while there is any.
    pub gossip_interval: Duration,
    /// To how many at a time.
    pub gossip_fanout: usize,
    /// For how long the dead are still told news, since they may not be dead.
    pub recently_dead: Duration,
    /// How often tables are compared with a random member although nothing seems to be wrong.
    pub sync_interval: Duration,
    /// How often a dead member or a lost seed is tried.
    pub heal_interval: Duration,
    /// For how long the dead are remembered.
    pub retention: Duration,
}

impl Timing {
    /// For members in one place.
    pub const LAN: Timing = Timing {
        period: Duration::from_secs(1),
        probe_timeout: Duration::from_millis(500),
        helpers: 3,
        suspicion_alpha: 4,
        suspicion_beta: 6,
        suspicion_min: None,
        retransmit: 4,
        gossip_interval: Duration::from_millis(200),
        gossip_fanout: 3,
        recently_dead: Duration::from_secs(30),
        sync_interval: Duration::from_secs(30),
        heal_interval: Duration::from_secs(5),
        retention: Duration::from_secs(24 * 60 * 60),
    };

    /// For members in different places.
    pub const WAN: Timing = Timing {
        period: Duration::from_secs(5),
        probe_timeout: Duration::from_secs(3),
        suspicion_alpha: 6,
        gossip_interval: Duration::from_millis(500),
        gossip_fanout: 4,
        recently_dead: Duration::from_secs(60),
        sync_interval: Duration::from_secs(60),
        ..Timing::LAN
    };

    /// For members on one machine.
    pub const LOCAL: Timing = Timing {
        probe_timeout: Duration::from_millis(200),
        suspicion_alpha: 3,
        retransmit: 2,
        gossip_interval: Duration::from_millis(100),
        recently_dead: Duration::from_secs(15),
        sync_interval: Duration::from_secs(15),
        ..Timing::LAN
    };

    /// Checks what the protocol takes for granted.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], which names the field.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let durations = [
            ("the protocol period", self.period),
            ("the probe timeout", self.probe_timeout),
            ("the gossip interval", self.gossip_interval),
            ("the sync interval", self.sync_interval),
            ("the heal interval", self.heal_interval),
        ];
        if let Some((name, _)) = durations.into_iter().find(|(_, duration)| duration.is_zero()) {
            return Err(ConfigError::Zero(name));
        }
        if self.period < PERIOD_MIN {
            return Err(ConfigError::TooShort(self.period));
        }
        let counts = [
            ("suspicion_alpha", self.suspicion_alpha),
            ("suspicion_beta", self.suspicion_beta),
            ("retransmit", self.retransmit),
            ("helpers", u32::try_from(self.helpers).unwrap_or(u32::MAX)),
            ("gossip_fanout", u32::try_from(self.gossip_fanout).unwrap_or(u32::MAX)),
        ];
        if let Some((name, count)) = counts.into_iter().find(|(_, count)| *count > COUNT_MAX) {
            return Err(ConfigError::TooMany { name, count });
        }
        if self.probe_timeout >= self.period {
            return Err(ConfigError::ProbeTimeout { timeout: self.probe_timeout, period: self.period });
        }
        Ok(())
    }

    /// The shortest suspicion among `n` members.
    pub(super) fn suspicion_shortest(&self, n: usize) -> Duration {
        self.suspicion_min.unwrap_or_else(|| {
            let factor = u64::from(self.suspicion_alpha) * logarithm::log10(wide(n)).max(ONE);
            scale(self.period, factor)
        })
    }

    /// The longest suspicion among `n` members: nobody confirms it.
    pub(super) fn suspicion_longest(&self, n: usize) -> Duration {
        self.suspicion_shortest(n) * self.suspicion_beta.max(1)
    }

    /// How many independent confirmations bring a suspicion down to the shortest.
    pub(super) fn confirmations(&self, n: usize) -> usize {
        let wanted = usize::try_from(self.suspicion_alpha.saturating_sub(2)).unwrap_or(0);
        let wanted = wanted.min(CONFIRMATIONS_MAX);
        if n.saturating_sub(2) < wanted { 0 } else { wanted }
    }

    /// How often one piece of news is passed on among `n` members.
    pub(super) fn retransmissions(&self, n: usize) -> u8 {
        let times = self.retransmit * logarithm::digits(wide(n));
        u8::try_from(times.clamp(1, 60)).expect("it is at most 60")
    }

    /// How often tables are compared among `n` members: the more there are, the rarer.
    pub(super) fn sync_every(&self, n: usize) -> Duration {
        let rounds = if n <= 32 { 0 } else { logarithm::log2(wide(n) - 1) / ONE + 1 };
        let factor = rounds.saturating_sub(4).max(1);
        self.sync_interval * u32::try_from(factor).unwrap_or(1)
    }
}

/// What a member does about its own slowness and about others' mistakes. All of it, unless an experiment
/// wants to know what each part is worth.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Caution {
    /// Probe slower the less healthy one is oneself (Lifeguard §4.1).
    pub awareness: bool,
    /// Begin with a long suspicion, and shorten it as others confirm it (Lifeguard §4.2).
    pub confirmation: bool,
    /// Tell the suspect first (Lifeguard §4.3).
    pub buddy: bool,
    /// Void one's own probes and suspicions when one was stopped oneself.
    pub stall: bool,
    /// Try a stream beside the helpers.
    pub stream_ping: bool,
    /// Ask a member that is held alive before its death is believed.
    pub doubt: bool,
}

impl Caution {
    /// Everything.
    pub const ALL: Caution = Caution {
        awareness: true,
        confirmation: true,
        buddy: true,
        stall: true,
        stream_ping: true,
        doubt: true,
    };
    /// Nothing: SWIM with suspicion, as in its paper.
    pub const NONE: Caution = Caution {
        awareness: false,
        confirmation: false,
        buddy: false,
        stall: false,
        stream_ping: false,
        doubt: false,
    };
}

/// What to do when another process has the same id.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum IdConflictPolicy {
    /// The one that was started later stays.
    KeepNewest,
    /// The one that was started earlier stays.
    KeepOldest,
    /// Both stay, and fight; the application decides.
    Report,
}

pub(super) fn wide(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// `duration` times a fixed-point factor.
pub(super) fn scale(duration: Duration, factor: u64) -> Duration {
    let nanos = u128::from(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    Duration::from_nanos(u64::try_from((nanos * u128::from(factor)) >> 16).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_as_long_as_the_period_is_refused() {
        let timing = Timing { probe_timeout: Timing::LAN.period, ..Timing::LAN };
        assert!(matches!(timing.validate(), Err(ConfigError::ProbeTimeout { .. })));
        let timing = Timing { gossip_interval: Duration::ZERO, ..Timing::LAN };
        assert_eq!(timing.validate(), Err(ConfigError::Zero("the gossip interval")));
    }

    #[test]
    fn limits_grow_with_the_logarithm() {
        let seconds = [10, 100, 1000, 10_000].map(|n| Timing::LAN.suspicion_shortest(n).as_secs());
        assert_eq!(seconds, [4, 8, 12, 16]);
        assert_eq!([9, 10, 100, 10_000].map(|n| Timing::LAN.retransmissions(n)), [4, 8, 12, 20]);
        let syncs = [32, 33, 100, 1000, 10_000].map(|n| Timing::LAN.sync_every(n).as_secs() / 30);
        assert_eq!(syncs, [1, 2, 3, 6, 10]);
        assert_eq!([3, 4, 100].map(|n| Timing::LAN.confirmations(n)), [0, 2, 2]);
    }
}
