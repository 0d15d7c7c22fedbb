//! How much a leader sends at a time.

use serde::{Deserialize, Serialize};

/// Bounds on what is under way from a leader to its followers.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Flow {
    /// The most bytes of entries in one append. A single larger entry still goes, alone.
    pub append_bytes_max: u64,
    /// The most appends under way to one follower; at least one.
    pub appends_in_flight_max: usize,
    /// The most bytes of commands that a leader holds uncommitted; beyond it proposals are refused.
    pub uncommitted_bytes_max: u64,
}

impl Default for Flow {
    fn default() -> Flow {
        Flow {
            append_bytes_max: 512 * 1024,
            appends_in_flight_max: 128,
            uncommitted_bytes_max: 32 * 1024 * 1024,
        }
    }
}
