//! When Raft's clock ticks, and after how many ticks a follower loses patience.
//!
//! # The problem
//!
//! raft-rs counts ticks and draws its election timeouts from the operating system. The second makes
//! a run unrepeatable; the first makes an idle node wake a hundred times a second.
//!
//! # The idea
//!
//! *Draws.* raft-rs draws only inside its `reset`, and reads the drawn value only in a later tick. So
//! after **every** call into it the value is overwritten by a draw of ours, taken anew when the term,
//! the role or the leader has changed or a campaign began. Whether a reset happened is never guessed
//! from the value itself: by chance a draw may equal the one before, and chance is what we keep out.
//!
//! *Ticks.* Between two events a tick only counts. So the ticks that do nothing are owed, and paid
//! together: just before a message is handled (leases compare the count), or when the tick is due
//! that does something. The deadline is that tick, and an idle follower sleeps a whole timeout.
//!
//! After a pause of the process no more than one longest timeout is paid: a node that slept for an
//! hour must not live that hour in one instant.

use core::ops::Range;
use core::time::Duration;

use raft::{RawNode, StateRole};
use serde::{Deserialize, Serialize};

use super::log::Log;
use crate::rng::{Seed, Stream};
use crate::time::Instant;

/// The length of a tick.
pub const TICK: Duration = Duration::from_millis(10);

/// An [`ElectionClock`] without its raft-rs.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct ClockImage {
    stream: Stream,
    range: Range<u64>,
    timeout: usize,
    paid_until: Instant,
}

impl ClockImage {
    /// The same clock, for a raft-rs that stands as the other one did.
    pub(super) fn restore(self, raw: &mut RawNode<Log>) -> ElectionClock {
        let ClockImage { stream, range, timeout, paid_until } = self;
        let mut clock = ElectionClock { stream, range, timeout, drawn_for: standing(raw), paid_until };
        clock.settle(raw);
        clock
    }
}

/// Keeps raft-rs's clock and its election timeout.
#[derive(Debug)]
pub(super) struct ElectionClock {
    stream: Stream,
    /// The range of timeouts, in ticks.
    range: Range<u64>,
    /// The timeout in force, in ticks.
    timeout: usize,
    /// What the timeout was drawn for.
    drawn_for: (u64, StateRole, u64),
    /// Up to when ticks were paid.
    paid_until: Instant,
}

impl ElectionClock {
    /// Starts the clock; `range` is in ticks.
    pub(super) fn start(
        seed: Seed,
        range: Range<u64>,
        now: Instant,
        raw: &mut RawNode<Log>,
    ) -> ElectionClock {
        let stream = seed.stream("raft election timeout", 0);
        let drawn_for = standing(raw);
        let mut clock = ElectionClock { stream, range, timeout: 0, drawn_for, paid_until: now };
        clock.draw(raw);
        clock
    }

    pub(super) fn image(&self) -> ClockImage {
        let (stream, range) = (self.stream.clone(), self.range.clone());
        ClockImage { stream, range, timeout: self.timeout, paid_until: self.paid_until }
    }

    /// Overwrites whatever timeout raft-rs may have drawn. Call it after every call into raft-rs.
    pub(super) fn settle(&mut self, raw: &mut RawNode<Log>) {
        if standing(raw) == self.drawn_for {
            raw.raft.set_randomized_election_timeout(self.timeout);
        } else {
            self.drawn_for = standing(raw);
            self.draw(raw);
        }
    }

    /// Pays the owed ticks that do nothing, so that raft-rs knows how late it is.
    pub(super) fn pay_quiet(&mut self, now: Instant, raw: &mut RawNode<Log>) {
        let quiet = ticks_until_event(raw).map_or(u64::MAX, |ticks| ticks - 1);
        let payable = self.owed(now).min(quiet);
        for _ in 0..self.skip_pause(payable) {
            self.tick(raw);
        }
    }

    /// Pays all owed ticks, or after a long pause those of the longest timeout.
    pub(super) fn pay(&mut self, now: Instant, raw: &mut RawNode<Log>) {
        for _ in 0..self.skip_pause(self.owed(now)) {
            let campaigns = raw.raft.state != StateRole::Leader && ticks_until_event(raw) == Some(1);
            self.tick(raw);
            if campaigns {
                self.draw(raw);
            }
        }
    }

    /// Tells when the next tick that does something is due.
    pub(super) fn deadline(&self, raw: &RawNode<Log>) -> Option<Instant> {
        ticks_until_event(raw).map(|count| self.paid_until + ticks(count))
    }

    /// One tick. A lone voter whose log is not yet durable sits it out: raft-rs would elect it on the
    /// spot and panic, because it wants the log durable before a campaign.
    fn tick(&mut self, raw: &mut RawNode<Log>) {
        self.paid_until = self.paid_until + TICK;
        let log = &raw.raft.raft_log;
        let is_alone = raw.raft.prs().is_singleton() && raw.raft.state != StateRole::Leader;
        if is_alone && log.persisted != log.last_index() {
            return;
        }
        raw.tick();
        self.settle(raw);
    }

    /// Forgets all of `owed` ticks but those of the longest timeout, and tells how many are left.
    fn skip_pause(&mut self, owed: u64) -> u64 {
        let forgotten = owed.saturating_sub(self.range.end);
        self.paid_until = self.paid_until + ticks(forgotten);
        owed - forgotten
    }

    fn owed(&self, now: Instant) -> u64 {
        let owed = now.saturating_since(self.paid_until).as_nanos() / TICK.as_nanos();
        u64::try_from(owed).unwrap_or(u64::MAX)
    }

    fn draw(&mut self, raw: &mut RawNode<Log>) {
        let timeout = self.stream.between(self.range.start, self.range.end);
        self.timeout = usize::try_from(timeout).expect("timeouts are bounded by the configuration");
        raw.raft.set_randomized_election_timeout(self.timeout);
    }
}

/// Converts a configured time into whole ticks, rounding up.
pub(super) fn in_ticks(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(TICK.as_nanos())).unwrap_or(u64::MAX)
}

fn ticks(count: u64) -> Duration {
    TICK.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
}

fn standing(raw: &RawNode<Log>) -> (u64, StateRole, u64) {
    (raw.raft.term, raw.raft.state, raw.raft.leader_id)
}

/// Counts the ticks to the one that does something; `None` if no tick ever will.
fn ticks_until_event(raw: &RawNode<Log>) -> Option<u64> {
    let raft = &raw.raft;
    let left = if raft.state == StateRole::Leader {
        let to_heartbeat = raft.heartbeat_timeout().saturating_sub(raft.heartbeat_elapsed());
        let to_quorum_check = raft.election_timeout().saturating_sub(raft.election_elapsed);
        to_heartbeat.min(to_quorum_check)
    } else if raft.promotable() {
        raft.randomized_election_timeout().saturating_sub(raft.election_elapsed)
    } else {
        return None;
    };
    Some(u64::try_from(left).unwrap_or(u64::MAX).max(1))
}
