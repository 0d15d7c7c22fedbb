//! Whole clusters from one seed, with faults, and checks that they kept their promises.
//!
//! A run is a number. From it follow the size of the cluster, what its clients do, what goes wrong and
//! when, and every random draw of every part, down to the keys of TLS. The hosts run what production
//! runs: the driver, quinn, rustls, redb. Three things are simulated: the UDP socket ([`net`]), the block
//! device ([`disk`]), and tokio's clock, which turmoil moves a millisecond at a time.
//!
//! ```text
//!   seed ─► shape, workload, faults::plan
//!             │
//!             ▼              ┌─ host: driver ─ node ─ redb ── disk (late, torn by power loss)
//!   world::run ─ turmoil ────┤           └─ quinn ─ rustls ── net  (loss, delay, partitions)
//!             │              └─ clients: the production client ── workload
//!             ├─► trace: every datagram, input and output ─► one hash
//!             └─► checkers: one rule a file ─► the first violation
//! ```
//!
//! # Reading a failure
//!
//! `sweep` prints the seed, the rule and the command that replays it. `run --seed N --trace FILE` writes
//! every record of that run, a line each; the last lines are what led to the violation. Two runs of one
//! seed give the same file: the first line in which they differ is a bug in the simulator itself.
//!
//! # What it cost to be exact
//!
//! The same times and sizes of packets are not enough, see [`entropy`]. All `select!`s are biased, all
//! maps are ordered, nothing asks the system for the time or for random numbers, and what a dying
//! process writes does not reach its disk.

pub mod app;
pub mod checkers;
pub mod choice;
pub mod device;
pub mod faults;
pub mod guide;
pub mod history;
pub mod lock;
pub mod marks;
pub mod recording;
pub mod scenario;
pub mod shape;
pub mod shrink;
mod skew;
pub mod sweep;
pub mod trace;
pub mod world;
