//! Who has to be turned away again and again: an address has so many failures a second, and is refused without a
//! handshake beyond.
//!
//! A handshake costs a node a signature and the check of two, a refusal a hash. Only what takes a round trip counts, so
//! nobody is shut out by somebody who sends under its address. Whoever shares an address with a stranger (or is
//! on the same machine) may have to dial more than once while that goes on; connections that are there do not notice.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::BTreeMap;

use tokio::time::Instant;

/// One more failure is forgiven after so long.
const FORGIVEN_AFTER: Duration = Duration::from_millis(100);
/// The most failures that are not forgiven yet.
const FAILURES_MAX: u32 = 20;
/// The most addresses that are remembered. Beyond it, the one that is forgiven soonest is forgotten.
const ADDRESSES_MAX: usize = 1024;

/// When everything is forgiven, by address.
#[derive(Default)]
pub(super) struct Failures {
    forgiven_at: BTreeMap<IpAddr, Instant>,
}

impl Failures {
    /// Somebody at `from` was turned away.
    pub(super) fn add(&mut self, from: IpAddr, now: Instant) {
        if self.forgiven_at.len() >= ADDRESSES_MAX && !self.forgiven_at.contains_key(&from) {
            let soonest = self.forgiven_at.iter().min_by_key(|(_, at)| **at).map(|(address, _)| *address);
            soonest.and_then(|address| self.forgiven_at.remove(&address));
        }
        let at = self.forgiven_at.entry(from).or_insert(now);
        *at = (*at).max(now) + FORGIVEN_AFTER;
    }

    /// Whether so many have failed lately that `from` is not heard now.
    pub(super) fn are_too_many(&mut self, from: IpAddr, now: Instant) -> bool {
        let Some(at) = self.forgiven_at.get(&from) else { return false };
        if *at <= now {
            self.forgiven_at.remove(&from);
            return false;
        }
        at.duration_since(now) > FORGIVEN_AFTER * (FAILURES_MAX - 1)
    }
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    #[test]
    fn so_many_may_fail_and_one_more_each_time_that_one_is_forgiven() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        for _ in 0..FAILURES_MAX {
            assert!(!failures.are_too_many(address(1), now));
            failures.add(address(1), now);
        }
        assert!(failures.are_too_many(address(1), now));
        assert!(!failures.are_too_many(address(2), now), "this is somebody else");
        let later = now + FORGIVEN_AFTER;
        assert!(!failures.are_too_many(address(1), later));
        failures.add(address(1), later);
        assert!(failures.are_too_many(address(1), later));
        assert!(!failures.are_too_many(address(1), later + FORGIVEN_AFTER * FAILURES_MAX));
        assert!(failures.forgiven_at.is_empty(), "who is forgiven is forgotten");
    }

    #[test]
    fn only_so_many_addresses_are_remembered() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        (0..FAILURES_MAX).for_each(|_| failures.add(address(0), now));
        for number in 1..10_000 {
            failures.add(address(number), now);
        }
        assert_eq!(failures.forgiven_at.len(), ADDRESSES_MAX);
        assert!(failures.are_too_many(address(0), now), "who has failed most is remembered longest");
    }
}
