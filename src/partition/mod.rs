//! Where data lives.
//!
//! # The idea
//!
//! A key belongs to a topic and a partition, and a partition to nodes. Which nodes, a *hash* can say without anybody
//! being asked, and everybody says the same: that is the [ring](HashRing) and the [rendezvous](Rendezvous). What they
//! say changes as little as can be when nodes come and go.
//!
//! ```text
//!   topic, partition ──► key  ─┐
//!                              ├─► HashRing: the next point ──► node, and the next ones for replicas
//!   node, 0 .. points ─► points┘
//!                              └─► Rendezvous: the highest score of all nodes
//! ```
//!
//! Both rest on one [hash], which is a wire format: nodes of different versions, on different machines, in
//! different years must agree on it to the bit.
//!
//! # Which one
//!
//! The ring finds an owner in a time that does not grow with the nodes, and shares the keys out unevenly: with 128
//! points a node, shares deviate by a tenth or so (one over the root of 128). Rendezvous asks every node, and each has
//! its share as exactly as chance allows. [`HashRing::assign_bounded`] keeps every node below a bound of your choice.
//!
//! # Planned, and stored
//!
//! No hash shares out evenly, so what matters is planned once and kept: [`planner::plan`] says where replicas should be,
//! with the fewest moves from where they are, and [`metadata`] is the replicated state in which that is stored, with who
//! leads and who is in sync.
//!
//! ```text
//!   nodes, placements ──► planner ──► plan, certificate ──► steps ──► metadata: a state that commands in the log change
//! ```
//!
//! The [`controller`] on the Raft leader sees to it that the metadata says what is so, and that plans are executed.
//!
//! # Copied
//!
//! A [`replica`] is one node's part in keeping a partition's log on several nodes: who leads appends and counts who has
//! what, who follows fetches, and nothing that was acknowledged is lost. [`replicas`] are all of a node, which share its
//! messages and its disk: what is in a partition are [`records`], in a [`log`]. How much of it is kept is its topic's
//! [`retention`].

pub mod controller;
pub mod hash;
pub mod log;
mod logarithm;
pub mod metadata;
pub mod planner;
pub mod planning;
pub mod records;
mod rendezvous;
pub mod replica;
pub mod replicas;
pub mod retention;
mod ring;

pub use self::hash::PlacementVersion;
pub use self::rendezvous::Rendezvous;
pub use self::ring::{HashRing, Moved, RackPolicy, RingError, RingNode};

fn size(number: u32) -> usize {
    usize::try_from(number).expect("a number of 32 bits fits")
}
