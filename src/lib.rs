//! Cluster coordination that is simulation first.
//!
//! A protocol here is a [`Machine`](machine::Machine): a state that is told what happened and what time
//! it is, and that answers with what ought to be done. It never touches a socket, a clock, a disk or a
//! random source. The same machines run in production behind tokio, quinn and a segment log, in a simulation
//! that replays seeded network and disk faults over the production driver, and under a fuzzer.
//!
//! # The pieces
//!
//! ```text
//!            ┌──────── pure: no sockets, clocks, disks, threads ────────┐
//!            │  formation ─┐                                            │
//!   bytes ◄──┤  raft ──────┼─ node (route, gate) ── state_machine / kv  │
//!   wire     │             └────────────▲───────────────────────────────┤
//!            └──────────────────────────┼───────────────────────────────┘
//!                                       │ Input / Output
//!                    driver: one tokio task, a storage thread
//!                                       │
//!                    quic: quinn, mutual TLS, client, RaftNode ── config, the binary
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`machine`] | the one concept, and its laws |
//! | [`raft`] | consensus, on TiKV's `raft`: deterministic, asynchronous towards the disk, guarded |
//! | [`swim`] | membership: who is there, and who is alive, without anybody in charge |
//! | [`partition`] | where data lives: ring and rendezvous hashing, the planner of replicas, the metadata they are stored in, the controller |
//! | [`formation`] | how strangers become a cluster, once |
//! | [`node`] | the machines composed; the gate that keeps messages back until writes are durable |
//! | [`session`] | commands that are executed once, however often they are sent |
//! | [`description`] | what a node tells the others of itself by gossip |
//! | [`directory`], [`ledger`] | where members are reached; all that the log changes beside the state machine |
//! | [`state_machine`], [`kv`] | what the log is for; the built-in key-value map |
//! | [`wire`] | frames |
//! | [`payload`] | what users say, told apart from what the cluster says |
//! | [`flight`] | the flight recorder: what a node was told last, and a bare node that is told the same again |
//! | `driver` (feature) | the task that runs a node; storage |
//! | `quic` (feature) | transport, certificates, client, `RaftNode` |
//! | `config` (feature `cli`) | the YAML file |
//!
//! With `default-features = false` only the pure part is built, for a loop of your own.
//!
//! The [guide] is for reading in order. What follows is the README.
#![doc = include_str!("../README.md")]

pub mod description;
pub mod directory;
pub mod flight;
pub mod formation;
pub mod guide;
pub mod id;
pub mod kv;
pub mod ledger;
pub mod machine;
pub mod node;
pub mod partition;
pub mod payload;
pub mod raft;
pub mod rng;
pub mod session;
pub mod state_machine;
pub mod swim;
pub mod time;
pub mod wire;

#[cfg(feature = "cli")]
pub mod config;
#[cfg(feature = "driver")]
pub mod driver;
#[cfg(feature = "quic")]
pub mod quic;
