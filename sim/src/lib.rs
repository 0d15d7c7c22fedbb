//! Whole clusters from one seed, with faults, and checks that they kept their promises.
//!
//! A run is a number. From it follow the size of the cluster, what its clients do, what goes wrong and
//! when, and every random draw of every part. It is played in one of two worlds: the pure one, in which
//! the machines alone run on a heap of events, thousands of times faster than real time; or turmoil's,
//! in which the production driver, quinn, rustls and redb run over a simulated socket, disk and clock.
//!
//! ```text
//!   seed ─► Scenario: shape, plan of faults ──► JSON file, edited, shrunk, pinned
//!              │
//!              ▼             ┌ pure:    queue ─ Node ─ disk (batches, or redb on faulty blocks)
//!           world::run ──────┤
//!              │             └ turmoil: hosts ─ driver ─ quinn, rustls, redb ─ socket, device, clock
//!              │
//!              ├─► faults::Weather: what becomes of each message    (one for both worlds)
//!              ├─► history: what clients did and were told
//!              ├─► trace: every input and output ─► one hash
//!              └─► checkers: one rule a file ─► the first violation ─► shrink
//! ```
//!
//! The [guide] shows how to use it, and how to simulate a state machine of your own.
//!
//! # What it cost to be exact
//!
//! All `select!`s are biased, all maps are ordered, nothing asks the system for the time or for random
//! numbers (TLS draws its keys from the seed, too), what a dying process writes does not reach its disk,
//! and what it has sent arrives although it is dead.

pub mod app;
pub mod checkers;
pub mod choice;
pub mod device;
pub mod explore;
pub mod faults;
pub mod flight;
pub mod folder;
pub mod guide;
pub mod history;
pub mod inevitable;
pub mod lock;
pub mod marks;
pub mod recording;
pub mod records;
pub mod replicas;
pub mod report;
pub mod scenario;
pub mod shape;
pub mod shards;
pub mod shrink;
mod skew;
pub mod steward;
pub mod storage_suite;
pub mod sweep;
pub mod swim;
pub mod trace;
pub mod world;
