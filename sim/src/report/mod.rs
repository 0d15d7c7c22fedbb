//! A picture of a run: who did what, who told whom, and what it led to.
//!
//! A failing seed is a proof, not yet an explanation. The explanation is in the order of a few events among
//! tens of thousands, so the run is drawn: a lane for each node and each client, an arrow for each message,
//! a band for each fault, and at the cursor the state of every node. What cannot have led to the violation
//! can be hidden: an event's *causal past* is what came before it in its lane, and, when it is an arrival,
//! the past of the sending (Lamport 1978).
//!
//! ```text
//!   Trace ──Record──► Picture ─ events, arrows, faults ─┐
//!   worlds ─Moment──►         ─ states ─────────────────┴─► Page: one HTML file, nothing outside of it
//! ```
//!
//! The picture is drawn from the trace, so that both worlds have it. *Arrows* follow from what is said: an arrival belongs to the earliest sending of the
//! same bytes between the same two that has not arrived yet; one more arrival of it is a copy. What is not
//! in the trace, the worlds tell beside it: how a node looks, and, in the pure one, which client asks.

mod moment;
mod page;
mod picture;
mod words;

pub use self::moment::{Moment, Role};
pub use self::page::{Caption, Verdict, html};
pub use self::picture::{Lane, Picture, SharedPicture};
pub use self::words::brief;
