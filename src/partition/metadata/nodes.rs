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
use crate::id::{BootId, LogIndex, NodeEpoch, NodeId, PartitionId, PeerName, Token};

/// What is known of a node.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct NodeRecord {
    /// Which disk it has.
    pub token: Token,
    /// Which process on that disk it is.
    pub boot: BootId,
    /// Where nodes and clients reach it.
    pub address: PeerName,
    /// Its session.
    pub epoch: NodeEpoch,
    /// Where this record was changed last: a command names it, so that a late copy changes nothing.
    pub changed: LogIndex,
    /// Whether all that it says to have in this session is on its disk.
    pub is_durable: bool,
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

impl NodeRecord {
    /// Whether this is the record that was seen.
    fn expect(&self, node: NodeId, seen: LogIndex) -> Result<(), Refusal> {
        let current = self.changed;
        if current == seen { Ok(()) } else { Err(Refusal::NodeRecordStale { node, current }) }
    }
}

/// What a node may do.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
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
        let Registration { node, token, boot, known, features, weight, .. } = *new;
        let level = self.state.feature_level;
        if features < level {
            return Err(Refusal::NodeLacksFeatures { node, features, level });
        }
        if weight == 0 {
            return Err(Refusal::Weightless);
        }
        let old = self.state.nodes.get(&node);
        if let Some(old) = old.filter(|old| (old.token, old.boot) == (token, boot)) {
            return Ok(Outcome::Registered(old.epoch));
        }
        let current = old.map(|old| old.epoch);
        if current != known {
            return Err(Refusal::NodeEpochStale { node, current });
        }
        if let Some(old) = old.filter(|old| old.state != NodeState::Fenced) {
            return Err(Refusal::NodeIsHere { node, boot: old.boot });
        }
        // It is the session before that loses something, or does not.
        let keeps_everything = old.is_some_and(|old| {
            let lost_nothing = old.is_durable || new.ended == current;
            old.token == token && old.reason != FenceReason::Disk && lost_nothing
        });
        let epoch = NodeEpoch::new(index.value());
        let record = NodeRecord {
            token,
            boot,
            address: new.address.clone(),
            epoch,
            changed: index,
            is_durable: new.is_durable,
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
        index: LogIndex,
        node: NodeId,
        (epoch, seen): (NodeEpoch, LogIndex),
        reason: FenceReason,
    ) -> Result<Outcome, Refusal> {
        let record = self.session(node, epoch)?;
        // Of a failed disk it is never too late to hear.
        let is_news = reason == FenceReason::Disk && record.reason != FenceReason::Disk;
        if record.state == NodeState::Fenced && !is_news {
            return Ok(Outcome::Same);
        }
        record.expect(node, seen)?;
        record.state = NodeState::Fenced;
        record.reason = reason;
        record.changed = index;
        self.deltas.push(Delta::Node(node));
        self.put_out_of_sync(node, Why::Fenced(node), reason == FenceReason::Disk);
        Ok(Outcome::Changed)
    }

    pub(super) fn unfence(
        &mut self,
        index: LogIndex,
        node: NodeId,
        (epoch, seen): (NodeEpoch, LogIndex),
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
        record.expect(node, seen)?;
        record.state = NodeState::Active;
        record.changed = index;
        self.deltas.push(Delta::Node(node));
        for id in self.all_of(node) {
            if self.leaderless.contains(&id) {
                self.change(id, Why::Unfenced(node), |_| ());
            }
        }
        Ok(Outcome::Changed)
    }

    pub(super) fn begin_shutdown(
        &mut self,
        index: LogIndex,
        node: NodeId,
        (epoch, seen): (NodeEpoch, LogIndex),
    ) -> Result<Outcome, Refusal> {
        let record = self.session(node, epoch)?;
        match record.state {
            NodeState::ShuttingDown => return Ok(Outcome::Same),
            NodeState::Fenced => return Err(Refusal::NodeIsNotActive(node)),
            NodeState::Active => {}
        }
        record.expect(node, seen)?;
        record.state = NodeState::ShuttingDown;
        record.changed = index;
        self.deltas.push(Delta::Node(node));
        self.put_out_of_sync(node, Why::ShuttingDown(node), false);
        Ok(Outcome::Changed)
    }

    pub(super) fn set_draining(
        &mut self,
        index: LogIndex,
        node: NodeId,
        seen: LogIndex,
        is_draining: bool,
    ) -> Result<Outcome, Refusal> {
        let record = self.state.nodes.get_mut(&node).ok_or(Refusal::NodeUnknown(node))?;
        if record.is_draining == is_draining {
            return Ok(Outcome::Same);
        }
        record.expect(node, seen)?;
        record.is_draining = is_draining;
        record.changed = index;
        self.deltas.push(Delta::Node(node));
        Ok(Outcome::Changed)
    }

    pub(super) fn set_share(
        &mut self,
        index: LogIndex,
        node: NodeId,
        seen: LogIndex,
        (weight, rack): (u32, Option<&str>),
    ) -> Result<Outcome, Refusal> {
        let record = self.state.nodes.get_mut(&node).ok_or(Refusal::NodeUnknown(node))?;
        if weight == 0 {
            return Err(Refusal::Weightless);
        }
        if record.weight == weight && record.rack.as_deref() == rack {
            return Ok(Outcome::Same);
        }
        record.expect(node, seen)?;
        record.weight = weight;
        record.changed = index;
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

    /// Takes a node out of all sets, and out of those of who is eligible, too, if it may have lost what it had.
    fn put_out_of_sync(&mut self, node: NodeId, why: Why, is_doubted: bool) {
        for id in self.all_of(node) {
            let Some(partition) = self.partition(id) else { continue };
            let is_in_sync = partition.in_sync.contains(&node);
            if is_doubted && (is_in_sync || partition.eligible.contains(&node)) {
                self.change(id, why, |partition| partition.doubt(node));
            } else if is_in_sync {
                self.change(id, why, |partition| partition.in_sync.retain(|other| *other != node));
            }
        }
    }
}
