//! Cluster coordination that is simulation first.
//!
//! A protocol here is a [`Machine`](machine::Machine): a state that is told what happened and what time
//! it is, and that answers with what ought to be done. It never touches a socket, a clock, a disk or a
//! random source. The same machines run in production behind tokio, quinn and redb, in a simulation
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
//!                    driver: one tokio task, a storage thread (redb)
//!                                       │
//!                    quic: quinn, mutual TLS, client, RaftNode ── config, the binary
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`machine`] | the one concept, and its laws |
//! | [`raft`] | consensus, on TiKV's `raft`: deterministic, asynchronous towards the disk, guarded |
//! | [`formation`] | how strangers become a cluster, once |
//! | [`node`] | the machines composed; the gate that keeps messages back until writes are durable |
//! | [`state_machine`], [`kv`] | what the log is for; the built-in key-value map |
//! | [`wire`] | frames |
//! | `driver` (feature) | the task that runs a node; storage |
//! | `quic` (feature) | transport, certificates, client, `RaftNode` |
//! | `config` (feature `cli`) | the YAML file |
//!
//! With `default-features = false` only the pure part is built, for a loop of your own.
//!
//! # A loop of your own
//!
//! Three nodes in one thread, with a clock that is a number and a network that is a vector. A real loop
//! does the same with a real disk and real sockets: write the batch and sync it, *then* say `Written`.
//!
//! ```
//! use rivven_cluster::id::{NodeId, PeerName, RequestId};
//! use rivven_cluster::kv::{Command, KeyValue};
//! use rivven_cluster::machine::Machine;
//! use rivven_cluster::node::{Caller, Config, Durable, Input, Limits, LinkState, Node, Output, Peer, Reply, Request};
//! use rivven_cluster::{raft::Timing, rng::Seed, time::Instant};
//!
//! let name = |id: u64| -> PeerName { format!("node{id}:9093").parse().unwrap() };
//! let (mut now, mut inputs, mut answer) = (Instant::ORIGIN, Vec::new(), None);
//! let mut nodes: Vec<Node<KeyValue>> = (1..=3).map(|id| {
//!     let peers = (1..=3).filter(|peer| *peer != id).map(name).collect();
//!     let config = Config { id: NodeId::new(id).unwrap(), address: name(id), peers,
//!                           timing: Timing::default(), limits: Limits::default() };
//!     Node::start(config, Seed::new(id), Durable::default(), KeyValue::default(), now).unwrap()
//! }).collect();
//! for (me, peer) in [(1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2)] {
//!     let state = LinkState::Up { node: NodeId::new(peer).unwrap() };
//!     inputs.push((me, Input::Link { name: name(peer), state }));
//! }
//! while answer.is_none() {
//!     for (to, input) in std::mem::take(&mut inputs) { nodes[to as usize - 1].handle(now, input); }
//!     for (id, node) in (1..).zip(&mut nodes) {
//!         if node.deadline().is_some_and(|deadline| deadline <= now) { node.handle_timeout(now); }
//!         while let Some(output) = node.poll() {
//!             match output {
//!                 Output::Write(batch) => inputs.push((id, Input::Written(batch.id))),
//!                 Output::Send { to, message } => {
//!                     let to = match to { Peer::Node(node) => node.value(),
//!                                         Peer::Address(peer) => (1..=3).find(|id| name(*id) == peer).unwrap() };
//!                     inputs.push((to, Input::Message { from: NodeId::new(id).unwrap(), message }));
//!                 }
//!                 Output::Reply { reply: Reply::Done { at, .. }, .. } => answer = Some(at),
//!                 Output::Reply { .. } | Output::Event(_) => {}
//!             }
//!         }
//!         let command = Command::Put { key: "colour".into(), value: "blue".into() }.encode();
//!         let request = Request::Propose { command };
//!         inputs.push((id, Input::Request { id: RequestId::new(0), from: Caller::Client, request }));
//!     }
//!     now = now + std::time::Duration::from_millis(1);
//! }
//! assert!(answer.unwrap().index.value() > 1, "a majority has it, durably");
//! ```

pub mod formation;
pub mod id;
pub mod kv;
pub mod machine;
pub mod node;
pub mod raft;
pub mod rng;
pub mod state_machine;
pub mod time;
pub mod wire;

#[cfg(feature = "cli")]
pub mod config;
#[cfg(feature = "driver")]
pub mod driver;
#[cfg(feature = "quic")]
pub mod quic;
