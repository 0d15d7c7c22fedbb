//! What is held of one member, and which word about it wins.
//!
//! The order of words is that of `(epoch, rank)`, Alive before Suspect before Dead before Left, and only
//! what is strictly greater is accepted. Four things differ from the paper (SWIM §4.2), on purpose:
//!
//! * There, "confirm" overrides everything, whatever its number. Here a word of death that is older than
//!   the member's own word never kills: an obituary that a partition kept warm would do just that.
//! * A word of death about a member that is held alive does not kill either. Within one network the suspicion
//!   comes seconds before the death, so whoever holds a member alive when it hears of its death is likely to be
//!   on the other side of what was a partition; it asks the member (see [`sync`](super::sync)).
//! * A word about a stranger is not dropped. A suspicion of one says that our table lacks a member; an
//!   obituary is kept, so that the member's earlier words cannot revive it.
//! * Left is final for the generation that said it: no old word of life brings the member back.

use core::fmt;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::epoch::Epoch;
use crate::id::NodeId;

/// What a member is held to be.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum State {
    /// It answers, as far as is known.
    Alive,
    /// It did not answer somebody. It is a member until its time is up.
    Suspect,
    /// Its time was up. It may still come back, with a word of its own.
    Dead,
    /// It said goodbye. Only a later start brings it back.
    Left,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Alive => "alive",
            State::Suspect => "suspect",
            State::Dead => "dead",
            State::Left => "left",
        })
    }
}

impl State {
    /// Whether it counts as a member.
    #[must_use]
    pub const fn is_live(self) -> bool {
        matches!(self, State::Alive | State::Suspect)
    }
}

/// A member's own description of itself, as of one epoch.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Record {
    /// Its id.
    pub id: NodeId,
    /// Its version.
    pub epoch: Epoch,
    /// Where it is reached.
    pub address: SocketAddr,
    /// Which of its processes speaks.
    pub boot: u32,
    /// Its failure domain.
    pub zone: u16,
    /// The version of its metadata; 0 if it has none.
    pub metadata_version: u32,
    /// The hash of its metadata.
    pub metadata_hash: u32,
}

/// What somebody says of a member.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub(super) enum Claim {
    /// A word of life, which only its owner can have coined.
    Alive,
    /// Somebody got no answer.
    Suspect,
    /// Somebody's suspicion ran out.
    Dead,
    /// The member itself says goodbye.
    Left,
}

/// What to do with a claim.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum Verdict {
    /// It is old, or says nothing new.
    Ignore,
    /// It wins: take over state and epoch.
    Accept,
    /// The suspicion that is held has one more accuser, perhaps.
    Confirm,
    /// Somebody buries a member that nobody has suspected here: ask the member itself first.
    Doubt,
    /// It speaks of a member whose address is unknown: the table lacks something.
    Incomplete,
}

/// Judges a claim of epoch `claimed` about a member of whom `held` is known.
pub(super) fn judge(claim: Claim, claimed: Epoch, held: Option<(State, Epoch)>) -> Verdict {
    let Some((state, epoch)) = held else {
        return if claim == Claim::Suspect { Verdict::Incomplete } else { Verdict::Accept };
    };
    let is_newer = claimed > epoch;
    let is_accepted = match (claim, state) {
        (Claim::Alive, State::Alive | State::Suspect | State::Dead) => is_newer,
        (Claim::Alive, State::Left) => is_newer && claimed.generation() > epoch.generation(),
        (Claim::Dead, State::Alive) if claimed >= epoch => return Verdict::Doubt,
        (Claim::Dead, State::Alive) => false,
        (Claim::Suspect, State::Alive)
        | (Claim::Dead, State::Suspect)
        | (Claim::Left, State::Alive | State::Suspect) => claimed >= epoch,
        (Claim::Suspect, State::Suspect) if claimed == epoch => return Verdict::Confirm,
        (Claim::Suspect, State::Suspect | State::Dead) | (Claim::Dead, State::Dead) => is_newer,
        (Claim::Suspect | Claim::Dead, State::Left) => false,
        (Claim::Left, State::Dead) => claimed >= epoch,
        (Claim::Left, State::Left) => is_newer,
    };
    if is_accepted { Verdict::Accept } else { Verdict::Ignore }
}

/// An address in 18 bytes, where a `SocketAddr` takes 32.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Compact {
    pub(super) ip: [u8; 16],
    pub(super) port: u16,
}

impl Compact {
    pub(super) fn of(address: SocketAddr) -> Compact {
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        Compact { ip: ip.octets(), port: address.port() }
    }

    /// A mapped IPv4 address comes out as IPv4.
    pub(super) fn socket(self) -> SocketAddr {
        SocketAddr::new(Ipv6Addr::from(self.ip).to_canonical(), self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(generation: u64, incarnation: u64) -> Epoch {
        Epoch::new(generation << 32 | incarnation)
    }

    /// Every cell of the override table: the claim, what is held, and what becomes of a claim that is
    /// older, equal, newer in the same generation, and newer by a generation.
    #[test]
    fn every_cell_of_the_override_table() {
        use Claim as C;
        use State as S;
        use Verdict::{Accept, Confirm, Doubt, Ignore};
        let table = [
            (C::Alive, S::Alive, [Ignore, Ignore, Accept, Accept]),
            (C::Alive, S::Suspect, [Ignore, Ignore, Accept, Accept]),
            (C::Alive, S::Dead, [Ignore, Ignore, Accept, Accept]),
            (C::Alive, S::Left, [Ignore, Ignore, Ignore, Accept]),
            (C::Suspect, S::Alive, [Ignore, Accept, Accept, Accept]),
            (C::Suspect, S::Suspect, [Ignore, Confirm, Accept, Accept]),
            (C::Suspect, S::Dead, [Ignore, Ignore, Accept, Accept]),
            (C::Suspect, S::Left, [Ignore, Ignore, Ignore, Ignore]),
            (C::Dead, S::Alive, [Ignore, Doubt, Doubt, Doubt]),
            (C::Dead, S::Suspect, [Ignore, Accept, Accept, Accept]),
            (C::Dead, S::Dead, [Ignore, Ignore, Accept, Accept]),
            (C::Dead, S::Left, [Ignore, Ignore, Ignore, Ignore]),
            (C::Left, S::Alive, [Ignore, Accept, Accept, Accept]),
            (C::Left, S::Suspect, [Ignore, Accept, Accept, Accept]),
            (C::Left, S::Dead, [Ignore, Accept, Accept, Accept]),
            (C::Left, S::Left, [Ignore, Ignore, Accept, Accept]),
        ];
        let held = epoch(5, 5);
        for (claim, state, expected) in table {
            let claimed = [epoch(5, 4), held, epoch(5, 6), epoch(6, 0)];
            let verdicts = claimed.map(|claimed| judge(claim, claimed, Some((state, held))));
            assert_eq!(verdicts, expected, "{claim:?} about a member that is held {state:?}");
        }
        let strangers = [C::Alive, C::Suspect, C::Dead, C::Left].map(|claim| judge(claim, held, None));
        assert_eq!(strangers, [Accept, Verdict::Incomplete, Accept, Accept]);
    }

    #[test]
    fn addresses_of_both_families_survive() {
        for text in ["10.1.2.3:7946", "[2001:db8::1]:1"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(Compact::of(address).socket(), address);
        }
    }
}
