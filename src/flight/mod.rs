//! The flight recorder: what a node in production was told, kept so that it can be told the same again.
//!
//! # The problem
//!
//! A node halts, or says what it should not, in a cluster that cannot be stopped and whose logs say little. A simulated
//! run has a seed; this one has none.
//!
//! # The idea
//!
//! A [`Node`](crate::node::Node) is a function of its state and its inputs (the first law of machines), and what it
//! draws is drawn from streams that are part of its state. So it is enough to keep an [`Image`] of it and everything
//! that it was told since, in a bounded ring of two halves:
//!
//! ```text
//!   driver ── input, timeout, output ──► Recorder     older half              newer half
//!                                                  ┌ image │ steps … ┐   ┌ image │ steps … ┐
//!                                                  └─────────────────┘   └─────────────────┘
//!     panic, halt, alarm, SIGUSR1, `record` ──────────► both halves, written as one file: a Flight
//!
//!   Flight ── restore ──► a bare node around a StandIn ── the same steps ──► the same outputs, or a bug
//! ```
//!
//! When the newer half is full, the older one is dropped and a new image is taken. So a flight goes back at least one
//! half of the ring, and at most both; or to the flight before, or the last snapshot that arrived, if that was later. Of
//! outputs only a digest is kept, since the replay says them again.
//!
//! # The state machine
//!
//! It is the embedder's, and may be large. It is not in the image: what it said is among the steps, and in a replay a
//! [`StandIn`] says it again. So any flight is replayed without the program that it was recorded in.
//!
//! # Payloads
//!
//! A flight may leave the house. Unless whole payloads were asked for, it holds keyed hashes of the same lengths in
//! place of commands, queries, answers, records and the state in snapshots (see `disguise`). The node behaves the same
//! with them: it looks at envelopes, lengths and checksums, and those are made anew. The key is not in it. What stays
//! readable is the cluster's own: ids, addresses, terms, indexes, names of topics, lengths, and which payloads are equal in
//! flights of one process.
//!
//! # The laws
//!
//! 1. A flight replays to the same outputs, whatever was in the node when it began.
//! 2. A node that goes on from an image goes on as if nothing had happened (`sim/tests/simulator/determinism.rs` tries it at
//!    random moments of simulated runs, with every node).
//! 3. Nothing of a payload is in a flight with hashed payloads (`sim/tests/flight.rs` and
//!    `sim/tests/simulator/determinism.rs` look for it).

mod disguise;
mod file;
mod replay;
mod ring;
mod stand_in;

use serde::{Deserialize, Serialize};

use crate::id::NodeId;
use crate::node::{Image, Input, Said};
use crate::time::Instant;

pub use self::disguise::Key;
pub use self::file::{Chunks, FLIGHT_FORMAT, FlightError};
pub use self::replay::{Difference, Player};
pub use self::ring::{Ring, Steps, Tape};
pub use self::stand_in::StandIn;

/// One thing that happened to a node.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub enum Step {
    /// It was told this.
    Input(Instant, Input),
    /// It was told the time.
    Timeout(Instant),
    /// It asked for something that has this digest.
    Output(Digest),
    /// It had nothing more to ask for.
    Settled,
    /// Its state machine said this, since the last `Settled`.
    Said(Said),
}

/// What is kept of an output: the XXH3-64 of it, with the hash of each payload in its place in answers, and its length in
/// what is written and sent. What it was, the replay tells.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Digest(u64);

/// Why a flight was written.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Reason {
    /// Somebody asked for it.
    Asked,
    /// A peer said what no correct peer can say.
    Alarm(String),
    /// The node stopped itself.
    Halted(String),
    /// A bug: it panicked on its last input or timeout, or on what it was about to say then. Of a panic in the state machine
    /// the text is not told.
    Panicked(String),
}

impl core::fmt::Display for Reason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Reason::Asked => f.write_str("somebody asked for it"),
            Reason::Alarm(what) => write!(f, "an alarm: {what}"),
            Reason::Halted(why) => write!(f, "the node halted: {why}"),
            Reason::Panicked(text) => write!(f, "the node panicked: {text}"),
        }
    }
}

/// What of payloads is in a flight.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Payloads {
    /// A keyed hash of each, of the same length.
    #[default]
    Hashed,
    /// All of it.
    Whole,
}

/// A recorded part of a node's life.
#[derive(Clone, Debug)]
pub struct Flight {
    /// Why it was written.
    pub reason: Reason,
    /// What of payloads is in it.
    pub payloads: Payloads,
    /// What payloads are hashed with in digests; not in a flight with hashed payloads that was read from a file.
    key: Option<Key>,
    /// The node before the first step.
    pub image: Box<Image>,
    /// What happened, in order.
    pub steps: Vec<Step>,
}

impl Flight {
    /// Whose it is.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.image.node()
    }

    /// When it began and ended, by the node's clock.
    #[must_use]
    pub fn times(&self) -> (Instant, Instant) {
        let begins = self.image.taken_at();
        let at = |step: &Step| match step {
            Step::Input(now, _) | Step::Timeout(now) => Some(*now),
            Step::Output(_) | Step::Settled | Step::Said(_) => None,
        };
        (begins, self.steps.iter().rev().find_map(at).unwrap_or(begins))
    }

    /// The node as it was before the first step, around a state machine that says what the recorded one said.
    #[must_use]
    pub fn player(&self) -> Player<StandIn> {
        Player::new(self.image.as_ref().clone().restore(StandIn::of(&self.steps)), self.key)
    }
}
