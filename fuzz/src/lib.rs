//! The bodies of the fuzz targets.
//!
//! They live here so that the targets are a few lines each, and so that the test suite can run them on stable Rust over
//! the corpus that lies in git. What a target is given is either what a stranger could send (`wire`, `config`), or a
//! *tape*: bytes that decide what happens ([`rivven_cluster::rng::Stream::behind`]), so that a changed byte is one other
//! decision.

mod config;
mod metadata;
mod node;
mod planner;
mod raft;
mod storage;
mod wire;
mod worlds;

/// A target: what it is called, and what it does with an input. It panics for a finding, and tells how far it got.
pub type Target = (&'static str, fn(&[u8]) -> usize);

/// All targets.
pub const TARGETS: [Target; 10] = [
    ("cluster", worlds::cluster),
    ("config", config::config),
    ("metadata", metadata::metadata),
    ("node", node::node),
    ("planner", planner::planner),
    ("raft", raft::raft),
    ("replica", worlds::replica),
    ("storage", storage::storage),
    ("swim", worlds::swim),
    ("wire", wire::wire),
];

pub use self::config::config;
pub use self::metadata::metadata;
pub use self::node::node;
pub use self::planner::planner;
pub use self::raft::raft;
pub use self::storage::storage;
pub use self::wire::wire;
pub use self::worlds::{cluster, replica, swim};
