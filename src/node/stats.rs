//! What a node counts. Rare branches are here so that a simulation can demand that each was taken.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::raft::Refusal;

/// Counters since the node was started.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Stats {
    /// Commands that stood in the log of this node while it led.
    pub appended: u64,
    /// Commands that the state machine executed.
    pub applied: u64,
    /// Commands that came again in their session and were answered as before.
    pub repeated: u64,
    /// Linearizable reads that were answered.
    pub reads: u64,
    /// Questions to the majority on behalf of reads.
    pub read_rounds: u64,
    /// Snapshots of this node's own state that stand for its log.
    pub snapshots_built: u64,
    /// Snapshots that were begun to be sent.
    pub snapshots_sent: u64,
    /// Snapshots of a leader that replaced this node's state.
    pub snapshots_installed: u64,
    /// Commands that were passed on to the leader.
    pub forwarded: u64,
    /// Requests that were not carried out, or not by this node.
    pub rejected: u64,
    /// Commands whose fate the client was told to be unknown.
    pub unknown: u64,
    /// Batches handed to the disk.
    pub writes: u64,
    /// Messages that had to wait for the disk.
    pub held: u64,
    /// Messages sent.
    pub sent: u64,
    /// Consensus messages that came before the cluster had formed here.
    pub early: u64,
    /// Messages that the transport dropped on the way out.
    pub unreachable: u64,
    /// Elections that this node won.
    pub elections_won: u64,
    /// Consensus messages that were not sent or not heard because the disk did not answer.
    pub stalled: u64,
    /// Messages that were dropped at the door, by reason.
    pub refused: BTreeMap<Refusal, u64>,
}
