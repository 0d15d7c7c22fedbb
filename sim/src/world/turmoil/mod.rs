//! The turmoil world: hosts that run what production runs, over a simulated socket, disk and clock.
//!
//! The driver, quinn, rustls and redb are the real ones; turmoil runs each host on a clock of its own. Time moves a millisecond at a time, so this
//! world is about a hundred times faster than real time, and thirty times slower than the pure one. It
//! finds what lies between the machines and the wire.

mod clock;
mod disk;
mod entropy;
mod host;
mod net;
mod operator;
mod pause;
mod plan;
mod records;
mod run;
mod steward;
mod worker;

pub use self::run::{run, run_with_tick};
