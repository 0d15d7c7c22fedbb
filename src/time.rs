//! Time as the machines see it: nanoseconds from an arbitrary origin.
//!
//! `std::time::Instant` can neither be built nor stored nor replayed, so it cannot be an input. This
//! one can. Each driver chooses the origin (usually the start of the process); instants of different
//! nodes are not comparable.

use core::fmt;
use core::ops::{Add, Sub};
use core::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in a driver's time, in nanoseconds from that driver's origin.
///
/// It reaches to 584 years, and saturates there.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Instant(u64);

impl Instant {
    /// The origin.
    pub const ORIGIN: Instant = Instant(0);

    /// Makes the instant that lies `nanos` nanoseconds after the origin.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Instant {
        Instant(nanos)
    }

    /// Tells how many nanoseconds lie between the origin and this instant.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Tells how much time has passed since `earlier`, or zero if it lies in the future.
    #[must_use]
    pub const fn saturating_since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, duration: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;

    fn sub(self, duration: Duration) -> Instant {
        Instant(self.0.saturating_sub(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0 / 1_000;
        write!(f, "{}.{:06}s", micros / 1_000_000, micros % 1_000_000)
    }
}

/// Seconds since 2020-01-01 00:00 UTC, by a coarse wall clock. It may step; good until 2156.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct WallSeconds(pub u32);

/// The Unix time of [`WallSeconds`] zero.
pub const WALL_ORIGIN_UNIX: u64 = 1_577_836_800;

impl WallSeconds {
    /// So much later, to the second.
    #[must_use]
    pub fn plus(self, time: Duration) -> WallSeconds {
        WallSeconds(self.0.saturating_add(u32::try_from(time.as_secs()).unwrap_or(u32::MAX)))
    }

    /// Seconds since 1970-01-01 00:00 UTC.
    #[must_use]
    pub fn unix(self) -> u64 {
        WALL_ORIGIN_UNIX + u64::from(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        let end = Instant::from_nanos(u64::MAX);
        assert_eq!(end + Duration::from_secs(1), end);
        assert_eq!(Instant::ORIGIN - Duration::from_secs(1), Instant::ORIGIN);
        assert_eq!(Instant::ORIGIN.saturating_since(end), Duration::ZERO);
    }

    #[test]
    fn display_is_in_seconds_with_microseconds() {
        assert_eq!(Instant::from_nanos(1_234_567_890).to_string(), "1.234567s");
    }
}
