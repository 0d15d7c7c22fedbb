//! How the members and the network of a world are.

use core::time::Duration;

use rivven_cluster::swim::{Caution, Timing};

/// How the members and the network are.
#[derive(Clone, Debug)]
pub struct Setting {
    /// How many members there are at first.
    pub members: usize,
    /// Where all randomness comes from.
    pub seed: u64,
    /// How patient they are.
    pub timing: Timing,
    /// How cautious.
    pub caution: Caution,
    /// How long a datagram takes, at least and at most.
    pub latency: (Duration, Duration),
    /// How many datagrams in a million are lost.
    pub loss_ppm: u64,
    /// Whether they all know each other from the start, or begin with the first three as seeds.
    pub is_warm: bool,
    /// In how many failure domains they are, in turn.
    pub zones: usize,
    /// Datagrams of more bytes are lost, on every path, as where a tunnel has made it narrower.
    pub longest: usize,
}

impl Setting {
    /// Members that know each other, on a network that loses nothing.
    #[must_use]
    pub fn new(members: usize, seed: u64) -> Setting {
        Setting {
            members,
            seed,
            timing: Timing::LAN,
            caution: Caution::ALL,
            latency: (Duration::from_micros(200), Duration::from_millis(2)),
            loss_ppm: 0,
            is_warm: true,
            zones: 1,
            longest: usize::MAX,
        }
    }
}
