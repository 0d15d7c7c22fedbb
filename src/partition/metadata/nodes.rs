//! Sessions of nodes: registered, fenced, unfenced, shutting down, forgotten.
//!
//! ```text
//!              ┌────────────────── fence ◄──────────────┐
//!              ▼                                        │
//!   register ─► fenced ── unfence ──► active ── begin shutdown ──► shutting down
//!      ▲          │                                                     │
//!      └──────────┴────────────────────── fence ◄───────────────────────┘
//! ```
//!
//! A node registers anew only while it is fenced: two processes with one id cannot both be there. Its session is the
//! index of that entry, so that no two are alike, not even after it was forgotten.

use serde::{Deserialize, Serialize};

use super::command::Registration;
use super::{Delta, FenceReason, Metadata, Outcome, Refusal, Why};
use crate::id::{BootId, LogIndex, NodeEpoch, NodeId, PartitionId};

/// What is known of a node.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct NodeRecord {
    /// Which process it is.
    pub boot: BootId,
    /// Its session.
    pub epoch: NodeEpoch,
    /// What it may do.
    pub state: NodeState,
    /// Why it is fenced, or was last.
    pub reason: FenceReason,
    /// Whether all that it holds is to go elsewhere.
    pub is_draining: bool,
    /// Its share.
    pub weight: u32,
    /// Its failure domain.
    pub rack: Option<String>,
    /// The highest level of features that it understands.
    pub features: u16,
}

/// What a node may do.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum NodeState {
    /// It is in no in-sync set, and leads nothing.
    Fenced,
    /// It may lead and be in sync.
    Active,
    /// It will stop. As if it were fenced, but still heard of.
    ShuttingDown,
}

impl Metadata {
    pub(super) fn register(&mut self, index: LogIndex, new: &Registration) -> Result<Outcome, Refusal> {
        let Registration { node, boot, known, features, weight, .. } = *new;
        let level = self.state.feature_level;
        if features < level {
            return Err(Refusal::NodeLacksFeatures { node, features, level });
        }
        if weight == 0 {
            return Err(Refusal::Weightless);
        }
        let old = self.state.nodes.get(&node);
        if let Some(old) = old.filter(|old| old.boot == boot) {
            return Ok(Outcome::Registered(old.epoch));
        }
        let current = old.map(|old| old.epoch);
        if current != known {
            return Err(Refusal::NodeEpochStale { node, current });
        }
        if let Some(old) = old.filter(|old| old.state != NodeState::Fenced) {
            return Err(Refusal::NodeIsHere { node, boot: old.boot });
        }
        let keeps_everything = new.is_durable || current.is_some() && new.ended == current;
        let epoch = NodeEpoch::new(index.value());
        let record = NodeRecord {
            boot,
            epoch,
            state: NodeState::Fenced,
            reason: FenceReason::New,
            is_draining: old.is_some_and(|old| old.is_draining),
            weight: old.map_or(weight, |old| old.weight),
            rack: new.rack.clone(),
            features,
        };
        self.state.nodes.insert(node, record);
        self.deltas.push(Delta::Node(node));
        if !keeps_everything {
            for id in self.all_of(node) {
                let is_eligible =
                    self.partition(id).is_some_and(|partition| partition.eligible.contains(&node));
                if is_eligible {
                    self.change(id, Why::Fenced(node), |partition| partition.doubt(node));
                }
            }
        }
        Ok(Outcome::Registered(epoch))
    }

    /// It costs what the node's partitions cost, not what all do: it is one command, however many they are.
    pub(super) fn fence(
        &mut self,
        node: NodeId,
        epoch: NodeEpoch,
        reason: FenceReason,
    ) -> Result<Outcome, Refusal> {
        let record = self.session(node, epoch)?;
        if record.state == NodeState::Fenced {
            return Ok(Outcome::Same);
        }
        record.state = NodeState::Fenced;
        record.reason = reason;
        self.deltas.push(Delta::Node(node));
        self.put_out_of_sync(node, Why::Fenced(node));
        Ok(Outcome::Changed)
    }

    pub(super) fn unfence(
        &mut self,
        node: NodeId,
        epoch: NodeEpoch,
        applied: LogIndex,
    ) -> Result<Outcome, Refusal> {
        let record = self.session(node, epoch)?;
        match record.state {
            NodeState::Active => return Ok(Outcome::Same),
            NodeState::ShuttingDown => return Err(Refusal::NodeIsNotFenced(node)),
            NodeState::Fenced => {}
        }
        if applied.value() < epoch.value() {
            return Err(Refusal::NodeIsBehind { node, applied, registered: epoch });
        }
        record.state = NodeState::Active;
        self.deltas.push(Delta::Node(node));
        for id in self.all_of(node) {
            if self.leaderless.contains(&id) {
                self.change(id, Why::Unfenced(node), |_| ());
            }
        }
        Ok(Outcome::Changed)
    }

    pub(super) fn begin_shutdown(&mut self, node: NodeId, epoch: NodeEpoch) -> Result<Outcome, Refusal> {
        let record = self.session(node, epoch)?;
        match record.state {
            NodeState::ShuttingDown => return Ok(Outcome::Same),
            NodeState::Fenced => return Err(Refusal::NodeIsNotActive(node)),
            NodeState::Active => record.state = NodeState::ShuttingDown,
        }
        self.deltas.push(Delta::Node(node));
        self.put_out_of_sync(node, Why::ShuttingDown(node));
        Ok(Outcome::Changed)
    }

    pub(super) fn set_draining(&mut self, node: NodeId, is_draining: bool) -> Result<Outcome, Refusal> {
        let record = self.state.nodes.get_mut(&node).ok_or(Refusal::NodeUnknown(node))?;
        if record.is_draining == is_draining {
            return Ok(Outcome::Same);
        }
        record.is_draining = is_draining;
        self.deltas.push(Delta::Node(node));
        Ok(Outcome::Changed)
    }

    pub(super) fn set_share(
        &mut self,
        node: NodeId,
        weight: u32,
        rack: Option<&str>,
    ) -> Result<Outcome, Refusal> {
        let record = self.state.nodes.get_mut(&node).ok_or(Refusal::NodeUnknown(node))?;
        if weight == 0 {
            return Err(Refusal::Weightless);
        }
        if record.weight == weight && record.rack.as_deref() == rack {
            return Ok(Outcome::Same);
        }
        record.weight = weight;
        record.rack = rack.map(str::to_owned);
        self.deltas.push(Delta::Node(node));
        Ok(Outcome::Changed)
    }

    pub(super) fn deregister(&mut self, node: NodeId, epoch: NodeEpoch) -> Result<Outcome, Refusal> {
        if self.session(node, epoch)?.state != NodeState::Fenced {
            return Err(Refusal::NodeIsNotFenced(node));
        }
        let replicas = self.of_node.get(&node).map_or(0, |partitions| partitions.len());
        if replicas > 0 {
            let replicas = u64::try_from(replicas).unwrap_or(u64::MAX);
            return Err(Refusal::NodeHasReplicas { node, replicas });
        }
        self.state.nodes.remove(&node);
        self.deltas.push(Delta::NodeGone(node));
        Ok(Outcome::Changed)
    }

    /// The record of a node, if that is its session.
    fn session(&mut self, node: NodeId, epoch: NodeEpoch) -> Result<&mut NodeRecord, Refusal> {
        let record = self.state.nodes.get_mut(&node).ok_or(Refusal::NodeUnknown(node))?;
        if record.epoch != epoch {
            return Err(Refusal::NodeEpochStale { node, current: Some(record.epoch) });
        }
        Ok(record)
    }

    fn all_of(&self, node: NodeId) -> Vec<PartitionId> {
        self.partitions_of(node).collect()
    }

    fn put_out_of_sync(&mut self, node: NodeId, why: Why) {
        for id in self.all_of(node) {
            let is_in_sync = self.partition(id).is_some_and(|partition| partition.in_sync.contains(&node));
            if is_in_sync {
                self.change(id, why, |partition| partition.in_sync.retain(|other| *other != node));
            }
        }
    }
}
