//! The one concept of this crate: a protocol is a [`Machine`].
//!
//! A machine never touches a socket, a clock, a disk or a random source. It is told what happened
//! and what time it is, and it answers with what ought to be done. Whoever calls it is its driver: a
//! tokio task over QUIC in production, a discrete-event loop in a simulation, a fuzzer with a byte
//! string. Because all of them call the same four functions, a bug that one of them finds is a bug
//! in all of them, and a recorded sequence of `(time, input)` replays anywhere.
//!
//! ```text
//!   input, now ──► handle ──┐
//!                           ├──► state ──► poll ──► outputs (until None)
//!   now ──► handle_timeout ─┘      └─────► deadline ──► when to call handle_timeout
//! ```
//!
//! # The laws
//!
//! `tests/machine_laws.rs` puts every machine through these, over random inputs:
//!
//! 1. The same seed and the same inputs give the same outputs, in any process and on any platform.
//! 2. `now` never decreases. A machine asserts it.
//! 3. Draining ends: the number of outputs after one input has a stated bound.
//! 4. After `handle_timeout(now)` and a drain, `deadline()` is `None` or later than `now`; only a node whose answers wait
//!    for their turn is due at once, until there are none.
//! 5. A timeout that comes early emits nothing.
//! 6. No input from a peer, a client or a disk panics.
//! 7. Several inputs may come before one drain. That is what makes batches, and changes no guarantee.

use crate::time::Instant;

/// Turns inputs and the passing of time into outputs, deterministically and without side effects.
///
/// See the [module](self) for the laws that every implementation upholds.
pub trait Machine {
    /// What the machine is told.
    type Input;
    /// What the machine asks for.
    type Output;

    /// Takes one input that happened at `now`.
    ///
    /// It never fails: bad input from a peer is counted and dropped.
    ///
    /// # Panics
    ///
    /// If `now` is earlier than in an earlier call: the driver's clock is broken.
    fn handle(&mut self, now: Instant, input: Self::Input);

    /// Fires whatever is due at `now`; does nothing if nothing is.
    ///
    /// # Panics
    ///
    /// If `now` is earlier than in an earlier call: the driver's clock is broken.
    fn handle_timeout(&mut self, now: Instant);

    /// Takes the next output, in order. Call it until `None` before sleeping.
    #[must_use]
    fn poll(&mut self) -> Option<Self::Output>;

    /// Tells when [`handle_timeout`](Machine::handle_timeout) must be called at the latest.
    ///
    /// Read it again after every drain. `None` means that only an input can move the machine.
    #[must_use]
    fn deadline(&self) -> Option<Instant>;
}
