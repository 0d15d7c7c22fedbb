//! The clock of a simulated host: turmoil's time, skewed.

use core::time::Duration;
use std::sync::{Arc, Mutex};

use rivven_cluster::driver::Clock;
use rivven_cluster::time::Instant;
use rivven_cluster::time::{WALL_ORIGIN_UNIX, WallSeconds};
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

use crate::lock::lock;
use crate::skew::Skew;

/// The simulated time since the start of the run, in nanoseconds.
pub(super) fn sim_nanos() -> u64 {
    let elapsed = turmoil::sim_elapsed().unwrap_or_default();
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}

/// What the wall clock says when a run begins, in seconds after [`WALL_ORIGIN_UNIX`].
const WALL: u64 = 200_000_000;

/// The wall clock of TLS.
#[derive(Debug)]
pub(super) struct SimWall;

impl TimeProvider for SimWall {
    fn current_time(&self) -> Option<UnixTime> {
        let since = Duration::from_secs(WALL_ORIGIN_UNIX + WALL) + Duration::from_nanos(sim_nanos());
        Some(UnixTime::since_unix_epoch(since))
    }
}

/// A clock that a fault can set ahead or let drift. All processes of a host share its skew.
#[derive(Clone)]
pub(super) struct SkewedClock(Arc<Mutex<Skew>>);

impl SkewedClock {
    pub(super) fn start() -> SkewedClock {
        SkewedClock(Arc::new(Mutex::new(Skew::start(0))))
    }

    pub(super) fn jump(&self, now: u64, ahead: u64) {
        lock(&self.0).jump(now, ahead);
    }

    pub(super) fn drift(&self, now: u64, ppm: i64) {
        lock(&self.0).drift(now, ppm);
    }
}

impl Clock for SkewedClock {
    fn now(&self) -> Instant {
        lock(&self.0).local(sim_nanos())
    }

    fn wake_at(&self, instant: Instant) -> tokio::time::Instant {
        let at = lock(&self.0).world(instant);
        tokio::time::Instant::now() + Duration::from_nanos(at.saturating_sub(sim_nanos()))
    }

    fn wall(&self) -> WallSeconds {
        let seconds = WALL + self.now().as_nanos() / 1_000_000_000;
        WallSeconds(u32::try_from(seconds).unwrap_or(u32::MAX))
    }
}
