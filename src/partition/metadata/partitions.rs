//! What happens to single partitions: who is in sync, who leads, where they move.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::partition::Rules;
use super::{Alteration, Delta, Election, Metadata, Outcome, Partition, Reassignment, Refusal, Why};
use crate::id::{NodeId, PartitionEpoch, PartitionId};

impl Metadata {
    /// Changes a partition's record, and does what follows from it. Callers have checked everything.
    pub(super) fn change(&mut self, id: PartitionId, why: Why, change: impl FnOnce(&mut Partition)) {
        let Metadata { state, deltas, leaderless, of_node, .. } = self;
        let nodes = &state.nodes;
        let is_active =
            |node: NodeId| nodes.get(&node).is_some_and(|record| record.state == super::NodeState::Active);
        let Some(topic) = state.topics.get_mut(&id.topic) else { return };
        let topic = Arc::make_mut(topic);
        let rules = Rules {
            min_in_sync: topic.spec.min_in_sync,
            recovery: topic.spec.recovery,
            is_active: &is_active,
        };
        let number = usize::try_from(id.number).unwrap_or(usize::MAX);
        let Some(partition) = topic.partitions.get_mut(number) else { return };
        let before = partition.clone();
        change(partition);
        let may_have_lost = partition.finish(&before, &rules, why);
        for node in before.replicas.iter().filter(|node| !partition.replicas.contains(node)) {
            if let Some(partitions) = of_node.get_mut(node) {
                partitions.remove(&id);
                if partitions.is_empty() {
                    of_node.remove(node);
                }
            }
        }
        for node in partition.replicas.iter().filter(|node| !before.replicas.contains(node)) {
            of_node.entry(*node).or_default().insert(id);
        }
        match partition.leader {
            Some(_) => leaderless.remove(&id),
            None => leaderless.insert(id),
        };
        deltas.push(Delta::Partition(id));
        if may_have_lost {
            deltas.push(Delta::MayHaveLost(id));
        }
    }

    /// A partition, if that is its record.
    fn record(&self, id: PartitionId, epoch: PartitionEpoch) -> Result<&Partition, Refusal> {
        let partition = self.partition(id).ok_or(Refusal::PartitionUnknown(id))?;
        if partition.epoch != epoch {
            return Err(Refusal::PartitionEpochStale { current: partition.epoch });
        }
        Ok(partition)
    }

    pub(super) fn alter_all(&mut self, alterations: &[Alteration]) -> Outcome {
        Outcome::Each(alterations.iter().map(|alteration| self.alter(alteration)).collect())
    }

    pub(super) fn alter(&mut self, alteration: &Alteration) -> Result<Outcome, Refusal> {
        let Alteration { partition: id, leader, node_epoch, leader_epoch, epoch, .. } = *alteration;
        let record = self.node(leader).ok_or(Refusal::NodeUnknown(leader))?;
        if record.epoch != node_epoch {
            return Err(Refusal::NodeEpochStale { node: leader, current: Some(record.epoch) });
        }
        let partition = self.partition(id).ok_or(Refusal::PartitionUnknown(id))?;
        if partition.leader != Some(leader) || partition.leader_epoch != leader_epoch {
            return Err(Refusal::LeaderStale { leader: partition.leader, epoch: partition.leader_epoch });
        }
        if partition.epoch != epoch {
            return Err(Refusal::PartitionEpochStale { current: partition.epoch });
        }
        let in_sync: BTreeSet<NodeId> = alteration.in_sync.iter().map(|(node, _)| *node).collect();
        if !in_sync.contains(&leader) {
            return Err(Refusal::NotInSync(leader));
        }
        let is_still_recovering = partition.is_recovering && !alteration.is_recovered;
        for (node, known) in &alteration.in_sync {
            let session = self.node(*node).map(|record| record.epoch);
            let may = partition.replicas.contains(node) && self.is_active(*node) && session == Some(*known);
            if !may || (is_still_recovering && *node != leader) {
                return Err(Refusal::NotInSync(*node));
            }
        }
        let in_sync: Vec<NodeId> = in_sync.into_iter().collect();
        let recovers = partition.is_recovering && alteration.is_recovered;
        if partition.in_sync == in_sync && !recovers && !alteration.voids_earlier {
            return Ok(Outcome::Same);
        }
        self.change(id, Why::Altered, |partition| {
            partition.in_sync = in_sync;
            partition.is_recovering &= !recovers;
        });
        Ok(Outcome::Changed)
    }

    pub(super) fn elect(
        &mut self,
        id: PartitionId,
        epoch: PartitionEpoch,
        election: Election,
    ) -> Result<Outcome, Refusal> {
        let partition = self.record(id, epoch)?;
        let node = match election {
            Election::Preferred => partition.replicas[0],
            Election::Designated(node) => node,
            Election::Unclean(node) => return self.elect_unclean(id, node),
        };
        if partition.leader == Some(node) {
            return Ok(Outcome::Same);
        }
        if !partition.in_sync.contains(&node) || !self.is_active(node) {
            return Err(Refusal::NotEligible(node));
        }
        self.change(id, Why::Elected, |partition| partition.leader = Some(node));
        Ok(Outcome::Changed)
    }

    fn elect_unclean(&mut self, id: PartitionId, node: NodeId) -> Result<Outcome, Refusal> {
        let partition = self.partition(id).ok_or(Refusal::PartitionUnknown(id))?;
        if let Some(leader) = partition.leader {
            return Err(Refusal::IsEligible(leader));
        }
        if !partition.replicas.contains(&node) || !self.is_active(node) {
            return Err(Refusal::NotEligible(node));
        }
        self.change(id, Why::Unclean, |partition| {
            partition.lead_alone(node);
            // Whoever was eligible has more than the leader, and is not any more.
            partition.eligible.clone().into_iter().for_each(|node| partition.doubt(node));
            partition.is_recovering = true;
        });
        self.deltas.push(Delta::MayHaveLost(id));
        Ok(Outcome::Changed)
    }

    /// The replicas become those of the target, and those of before as long as not all of the target are in sync
    /// (KIP-455). Replaces a reassignment that is under way.
    pub(super) fn start_reassignment(
        &mut self,
        id: PartitionId,
        epoch: PartitionEpoch,
        target: &[NodeId],
    ) -> Result<Outcome, Refusal> {
        let partition = self.record(id, epoch)?;
        let min_in_sync = self.topic(id.topic).map_or(1, |topic| topic.spec.min_in_sync);
        let different: BTreeSet<&NodeId> = target.iter().collect();
        if different.len() != target.len() || target.len() < usize::from(min_in_sync) {
            return Err(Refusal::Target(min_in_sync));
        }
        let original = match partition.reassignment.as_deref() {
            Some(moves) => moves.original.clone(),
            None => partition.replicas.clone(),
        };
        for node in target {
            if self.node(*node).is_none() {
                return Err(Refusal::NodeUnknown(*node));
            }
            if !original.contains(node) && !self.is_active(*node) {
                return Err(Refusal::NodeIsNotActive(*node));
            }
        }
        if partition.reassignment.is_none() && partition.replicas == target {
            return Ok(Outcome::Same);
        }
        let stays = original.iter().filter(|node| !target.contains(node));
        let replicas: Vec<NodeId> = target.iter().chain(stays).copied().collect();
        if !partition.keeps_everything(&replicas) {
            return Err(Refusal::NoneInSync);
        }
        let target = target.to_vec();
        self.change(id, Why::Reassigned, |partition| {
            partition.replicas = replicas;
            let is_same_set =
                target.len() == original.len() && target.iter().all(|node| original.contains(node));
            partition.reassignment = (!is_same_set).then(|| Box::new(Reassignment { original, target }));
        });
        Ok(Outcome::Changed)
    }

    pub(super) fn cancel_reassignment(
        &mut self,
        id: PartitionId,
        epoch: PartitionEpoch,
    ) -> Result<Outcome, Refusal> {
        let partition = self.record(id, epoch)?;
        let moves = partition.reassignment.as_deref().ok_or(Refusal::NotReassigning)?;
        if !partition.keeps_everything(&moves.original) {
            return Err(Refusal::NoneInSync);
        }
        self.change(id, Why::Reassigned, |partition| {
            if let Some(moves) = partition.reassignment.take() {
                partition.replicas = moves.original;
            }
        });
        Ok(Outcome::Changed)
    }
}
