//! How fast a group notices that its leader is gone, and what makes no sense.

use core::ops::Range;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::election::{TICK, in_ticks};

/// The timing of one Raft group. All voters should use the same.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Timing {
    /// From which to which time without a leader a follower campaigns (Raft §5.2), exclusive above.
    pub election_timeout: Range<Duration>,
    /// How often a leader shows that it is alive.
    pub heartbeat_interval: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        let milliseconds = Duration::from_millis;
        Timing {
            election_timeout: milliseconds(150)..milliseconds(300),
            heartbeat_interval: milliseconds(50),
        }
    }
}

/// Timing under which no cluster could work. Nothing was started.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TimingError {
    /// Set a heartbeat of at least one tick.
    #[error("the heartbeat interval of {0:?} is shorter than 10ms")]
    HeartbeatTooShort(Duration),
    /// Widen the range of election timeouts.
    #[error("the election timeouts {0:?} hold no value: the maximum must be at least 10ms above the minimum")]
    EmptyRange(Range<Duration>),
    /// Shorten the heartbeat, or lengthen the timeout: two heartbeats must fit into it.
    #[error("the shortest election timeout {election:?} does not hold two heartbeats of {heartbeat:?}")]
    TooFewHeartbeats {
        /// The shortest election timeout.
        election: Duration,
        /// The heartbeat interval.
        heartbeat: Duration,
    },
    /// Choose a timeout below one hour.
    #[error("the election timeout {0:?} is longer than an hour")]
    TooLong(Duration),
}

impl Timing {
    /// Checks that a leader could stay one, and that candidates would not always collide.
    ///
    /// # Errors
    ///
    /// The first thing that does not fit.
    pub fn validate(&self) -> Result<(), TimingError> {
        let heartbeat = self.heartbeat_interval;
        let Range { start: shortest, end: longest } = self.election_timeout.clone();
        if heartbeat < TICK {
            return Err(TimingError::HeartbeatTooShort(heartbeat));
        }
        if longest > Duration::from_secs(3600) {
            return Err(TimingError::TooLong(longest));
        }
        if in_ticks(shortest) >= in_ticks(longest) {
            return Err(TimingError::EmptyRange(self.election_timeout.clone()));
        }
        if shortest < heartbeat * 2 {
            return Err(TimingError::TooFewHeartbeats { election: shortest, heartbeat });
        }
        Ok(())
    }
}
