//! The door: who was turned away, why, and how often.
//!
//! Whoever is turned away is counted in the metric `rivven_turned_away_total`, by reason. It is logged once for
//! each address, reason and minute, with how often it came since it was logged last: a stranger that knocks a thousand
//! times a second fills neither the log nor the memory, for only so many addresses are remembered. When many shake
//! hands at once, whoever comes has to show first that its address is its own (RFC 9000 §8.1.2), which costs a sender of
//! made-up addresses everything and an honest one a round trip.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use quinn::{Connection, ConnectionError, Incoming};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::failures::Failures;

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A handshake that was begun and not ended holds a place for as long as that, so it counts as so many failures.
const STALLED_COUNTS_AS: u32 = 10;
/// How often the same is said of the same address.
const SILENCE: Duration = Duration::from_secs(60);
/// The most addresses, by reason, that are remembered. Beyond it, those that were logged more than a minute ago are
/// forgotten, and if there are none, all further ones have one line a minute together.
const REMEMBERED_MAX: usize = 1024;
/// In the place of the addresses for which there is no room.
const ANYBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
/// TLS alerts go over QUIC as error codes from here on (RFC 9001 §4.8).
const TLS_ALERTS: u64 = 0x100;

/// Why somebody is turned away.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Reason {
    /// It shows no certificate.
    NoCertificate,
    /// Its certificate is no longer valid, or not yet.
    Expired,
    /// Its certificate was issued by somebody else.
    OtherAuthority,
    /// Its certificate is for another cluster, another node, or nobody.
    OtherName,
    /// It speaks another protocol, or another version of ours.
    OtherProtocol,
    /// The handshake failed in another way, or took too long.
    Handshake,
    /// Its certificate is that of this very node.
    OwnIdentity,
    /// What it sends makes no sense, or not here.
    Nonsense,
    /// It began a frame and did not end it in time.
    Stalled,
    /// It does not read what it asked for.
    Unread,
    /// There are as many as there may be.
    Full,
    /// Many shake hands at once: it has to show that its address is its own.
    Crowd,
    /// Somebody at its address had to be turned away too often lately.
    Again,
}

impl Reason {
    /// The value of the label `reason`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Reason::NoCertificate => "no_certificate",
            Reason::Expired => "expired",
            Reason::OtherAuthority => "other_authority",
            Reason::OtherName => "other_name",
            Reason::OtherProtocol => "other_protocol",
            Reason::Handshake => "handshake",
            Reason::OwnIdentity => "own_identity",
            Reason::Nonsense => "nonsense",
            Reason::Stalled => "stalled",
            Reason::Unread => "unread",
            Reason::Full => "full",
            Reason::Crowd => "crowd",
            Reason::Again => "again",
        }
    }

    fn is_of_certificates(self) -> bool {
        matches!(self, Reason::NoCertificate | Reason::Expired | Reason::OtherAuthority | Reason::OtherName)
    }

    /// What a handshake failed of, here or on the other side: the alerts of TLS (RFC 8446 §6.2).
    pub(super) fn of(error: &ConnectionError) -> Reason {
        let code = match error {
            ConnectionError::TransportError(error) => u64::from(error.code),
            ConnectionError::ConnectionClosed(close) => u64::from(close.error_code),
            ConnectionError::VersionMismatch => return Reason::OtherProtocol,
            ConnectionError::ApplicationClosed(_)
            | ConnectionError::Reset
            | ConnectionError::TimedOut
            | ConnectionError::LocallyClosed
            | ConnectionError::CidsExhausted => return Reason::Handshake,
        };
        match code.checked_sub(TLS_ALERTS) {
            Some(116) => Reason::NoCertificate,
            Some(45) => Reason::Expired,
            // A signature of an authority of the same name that is another one cannot be decrypted.
            Some(48 | 51) => Reason::OtherAuthority,
            Some(42 | 46) => Reason::OtherName,
            Some(70 | 120) => Reason::OtherProtocol,
            _ => Reason::Handshake,
        }
    }
}

/// Where everybody comes in.
pub(super) struct Door {
    /// One permit for each handshake that may be under way.
    handshakes: Semaphore,
    failures: Mutex<Failures>,
    /// Whom the log has mentioned.
    mentioned: Mutex<BTreeMap<(IpAddr, Reason), Mention>>,
}

struct Mention {
    at: Instant,
    /// How often it came since.
    since: u64,
}

impl Door {
    pub(super) fn new(handshakes_max: usize) -> Door {
        Door {
            handshakes: Semaphore::new(handshakes_max),
            failures: Mutex::default(),
            mentioned: Mutex::default(),
        }
    }

    /// Has somebody prove who it is; `None` if it cannot.
    pub(super) async fn shake_hands(&self, incoming: Incoming) -> Option<Connection> {
        let from = incoming.remote_address();
        // Otherwise whatever comes may be sent by somebody else under its address.
        let is_proven = incoming.remote_address_validated();
        if self.failures().are_too_many(from.ip(), Instant::now()) {
            self.turn_away(
                from,
                Reason::Again,
                &"somebody at its address had to be turned away too often lately",
            );
            incoming.refuse();
            return None;
        }
        if self.handshakes.available_permits() == 0 && incoming.may_retry() {
            self.turn_away(from, Reason::Crowd, &"many handshakes are under way, so it has to ask again");
            let _ = incoming.retry();
            return None;
        }
        let Ok(_turn) = timeout(HANDSHAKE_TIMEOUT, self.handshakes.acquire()).await else {
            // Others held it up: that is not its fault.
            self.turn_away(from, Reason::Crowd, &"so many handshakes were under way that it had no turn");
            incoming.ignore();
            return None;
        };
        match timeout(HANDSHAKE_TIMEOUT, incoming).await {
            Ok(Ok(connection)) => return Some(connection),
            Ok(Err(ConnectionError::TimedOut)) | Err(_) => {
                if is_proven {
                    self.blame(from.ip(), STALLED_COUNTS_AS);
                }
                self.turn_away(from, Reason::Handshake, &"it did not end its handshake");
            }
            Ok(Err(error)) => {
                let reason = Reason::of(&error);
                // A certificate comes in the second flight, so whoever showed it, or none, got our answer to the first.
                let is_judged =
                    matches!(error, ConnectionError::TransportError(_)) && reason.is_of_certificates();
                if is_judged || is_proven {
                    self.blame(from.ip(), 1);
                }
                self.turn_away(from, reason, &error);
            }
        }
        None
    }

    /// Holds something against an address that has proved to be its sender's; it counts as so many failures.
    pub(super) fn blame(&self, from: IpAddr, count: u32) {
        let now = Instant::now();
        (0..count).for_each(|_| self.failures().add(from, now));
    }

    fn failures(&self) -> MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts somebody who is turned away, and logs it unless the same was logged a short while ago.
    pub(super) fn turn_away(&self, from: SocketAddr, reason: Reason, why: &dyn fmt::Display) {
        metrics::counter!("rivven_turned_away_total", "reason" => reason.name()).increment(1);
        if let Some(since) = self.mention(from.ip(), reason) {
            let (reason, why) = (reason.name(), one_line(&why.to_string()));
            tracing::warn!(%from, reason, since, "turned a peer away: {why}");
        }
    }

    /// Whether it is to be logged, and if so how often it came since it was.
    fn mention(&self, from: IpAddr, reason: Reason) -> Option<u64> {
        let now = Instant::now();
        let mut mentioned = self.mentioned.lock().unwrap_or_else(PoisonError::into_inner);
        let mut from = from;
        if mentioned.len() >= REMEMBERED_MAX && !mentioned.contains_key(&(from, reason)) {
            let oldest = mentioned
                .iter()
                .min_by_key(|(_, mention)| mention.at)
                .map(|(key, mention)| (*key, mention.at));
            match oldest {
                Some((key, at)) if now.duration_since(at) >= SILENCE => _ = mentioned.remove(&key),
                Some(_) | None => from = ANYBODY,
            }
        }
        if let Some(mention) = mentioned.get_mut(&(from, reason)) {
            if now.duration_since(mention.at) < SILENCE {
                mention.since += 1;
                return None;
            }
            mention.at = now;
            return Some(core::mem::take(&mut mention.since));
        }
        mentioned.insert((from, reason), Mention { at: now, since: 0 });
        Some(0)
    }
}

/// What may be in a stranger's words must stay one line of the log, and steer no terminal.
fn one_line(words: &str) -> String {
    words.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_says_stays_one_line_and_steers_no_terminal() {
        let words = one_line("no\r\nERROR node 1 has halted\u{1b}[2J\u{85}");
        assert_eq!(words, "no  ERROR node 1 has halted [2J ");
    }

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_is_said_of_the_same_address_once_a_minute_with_how_often_it_came() {
        let door = Door::new(1);
        assert_eq!(door.mention(address(1), Reason::Expired), Some(0));
        for _ in 0..1000 {
            assert_eq!(door.mention(address(1), Reason::Expired), None);
        }
        assert_eq!(door.mention(address(1), Reason::Full), Some(0), "this is another matter");
        assert_eq!(door.mention(address(2), Reason::Expired), Some(0), "this is somebody else");
        tokio::time::advance(SILENCE).await;
        assert_eq!(door.mention(address(1), Reason::Expired), Some(1000));
        assert_eq!(door.mention(address(1), Reason::Expired), None);
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_are_remembered_and_all_others_have_one_line_a_minute() {
        let door = Door::new(1);
        let lines = (1..=10_000).filter(|number| door.mention(address(*number), Reason::Nonsense).is_some());
        assert_eq!(lines.count(), REMEMBERED_MAX + 1);
        assert_eq!(door.mentioned.lock().unwrap().len(), REMEMBERED_MAX + 1);
        tokio::time::advance(SILENCE).await;
        assert_eq!(
            door.mention(address(20_000), Reason::Nonsense),
            Some(0),
            "the first are forgotten by now"
        );
        assert_eq!(door.mention(address(9_999), Reason::Nonsense), Some(0));
    }
}
