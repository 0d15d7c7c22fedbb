//! Nodes in this process, over real QUIC on loopback and, but for a few, on real files.
//!
//! One program: what takes long to build is the node that all of these tests start.
#![cfg(feature = "cli")]

mod harness;
mod loopback;
mod membership;
mod partition_manager;
mod records;
mod repair;
mod seed_api;
mod snapshots;
mod stranger;
mod strangers;
#[path = "../support/mod.rs"]
mod support;
