//! wip
#[cfg(feature = "cli")]
pub mod config;
#[cfg(feature = "driver")]
pub mod driver;
pub mod formation;
pub mod id;
pub mod kv;
pub mod machine;
pub mod node;
#[cfg(feature = "quic")]
pub mod quic;
pub mod raft;
pub mod rng;
pub mod state_machine;
pub mod time;
pub mod wire;
