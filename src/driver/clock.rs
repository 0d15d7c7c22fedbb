//! The seam between tokio's time and the node's.
//!
//! The node's instants count from an origin of the driver's choice. A recorder that outlives a process
//! chooses one origin for all its processes; a simulation lets the clock jump and drift.

use crate::time::Instant;
use crate::time::{WALL_ORIGIN_UNIX, WallSeconds};

/// Tells a node the time. It never goes back.
pub trait Clock {
    /// The time now.
    fn now(&self) -> Instant;

    /// When, in tokio's time, this clock will show `instant`. Being early is harmless, the driver looks
    /// again.
    fn wake_at(&self, instant: Instant) -> tokio::time::Instant;

    /// What the wall clock says. It may step.
    fn wall(&self) -> WallSeconds;
}

/// The clock of production: tokio's, counted from when it was started.
#[derive(Clone, Copy, Debug)]
pub struct TokioClock {
    started: tokio::time::Instant,
}

impl TokioClock {
    /// Starts a clock whose origin is now.
    #[must_use]
    pub fn start() -> TokioClock {
        TokioClock { started: tokio::time::Instant::now() }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Instant {
        Instant::ORIGIN + self.started.elapsed()
    }

    fn wake_at(&self, instant: Instant) -> tokio::time::Instant {
        self.started + instant.saturating_since(Instant::ORIGIN)
    }

    #[expect(clippy::disallowed_types, reason = "this is the clock of the system")]
    fn wall(&self) -> WallSeconds {
        use std::time::SystemTime;
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        WallSeconds(u32::try_from(since.saturating_sub(WALL_ORIGIN_UNIX)).unwrap_or(u32::MAX))
    }
}
