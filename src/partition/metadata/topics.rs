//! Topics: created, deleted, given more partitions, configured.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Delta, Metadata, Outcome, PARTITIONS_MAX, Partition, Refusal, Why};
use crate::id::{LogIndex, NodeId, PartitionId, TopicId};
use crate::partition::retention::Retention;

/// The most bytes of a topic's name.
const NAME_BYTES_MAX: usize = 249;

/// A topic.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Topic {
    /// What it is to be.
    pub spec: TopicSpec,
    /// How often it was configured.
    pub version: u32,
    /// Its partitions, from 0.
    pub partitions: Vec<Partition>,
}

/// What a topic is to be.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct TopicSpec {
    /// Its name: 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-'.
    pub name: String,
    /// How many replicas each partition has; from 1.
    pub replicas: u16,
    /// How many of them must be in sync for a write to be acknowledged; from 1.
    pub min_in_sync: u16,
    /// What is done when nobody is eligible to lead.
    pub recovery: Recovery,
    /// How much of each log is kept.
    pub retention: Retention,
}

/// What is done when nobody is left who is eligible (KIP-966). As long as somebody is that is merely away, the
/// partition waits for it.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Recovery {
    /// Nothing: an operator decides.
    #[default]
    Manual,
    /// The controller asks all who were eligible, and elects who has most. This version does not ask, and waits as with
    /// [`Recovery::Manual`].
    Balanced,
    /// Whoever is there leads, and what it does not have is lost.
    Unclean,
}

impl TopicSpec {
    pub(super) fn check(&self) -> Result<(), Refusal> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_dots = self.name == "." || self.name == "..";
        let fits = (1..=NAME_BYTES_MAX).contains(&self.name.len());
        if !fits || is_dots || !self.name.bytes().all(allowed) {
            return Err(Refusal::TopicName(self.name.clone()));
        }
        if self.min_in_sync == 0 || self.min_in_sync > self.replicas {
            return Err(Refusal::MinInSync { min_in_sync: self.min_in_sync, replicas: self.replicas });
        }
        Ok(())
    }
}

impl Metadata {
    pub(super) fn create_topic(
        &mut self,
        index: LogIndex,
        spec: &TopicSpec,
        assignments: &[Vec<NodeId>],
    ) -> Result<Outcome, Refusal> {
        spec.check()?;
        if let Some((id, topic)) = self.topic_named(&spec.name) {
            let is_same = topic.spec == *spec && topic.partitions.len() == assignments.len();
            return if is_same { Ok(Outcome::Created(id)) } else { Err(Refusal::TopicExists(id)) };
        }
        self.check_assignments(spec.replicas, assignments)?;
        let id = TopicId::new(index.value());
        let topic = Topic { spec: spec.clone(), version: 1, partitions: Vec::new() };
        self.state.topics.insert(id, Arc::new(topic));
        self.state.names.insert(spec.name.clone(), id);
        self.append(id, assignments);
        Ok(Outcome::Created(id))
    }

    pub(super) fn add_partitions(
        &mut self,
        id: TopicId,
        from: u32,
        assignments: &[Vec<NodeId>],
    ) -> Result<Outcome, Refusal> {
        let topic = self.topic(id).ok_or(Refusal::TopicUnknown(id))?;
        let current = u32::try_from(topic.partitions.len()).expect("partitions are bounded");
        if current != from {
            return Err(Refusal::PartitionCountStale { current });
        }
        self.check_assignments(topic.spec.replicas, assignments)?;
        self.append(id, assignments);
        Ok(Outcome::Changed)
    }

    pub(super) fn delete_topic(&mut self, id: TopicId) -> Result<Outcome, Refusal> {
        let topic = self.state.topics.remove(&id).ok_or(Refusal::TopicUnknown(id))?;
        self.state.names.remove(&topic.spec.name);
        self.partitions -= topic.partitions.len();
        for (number, partition) in (0..).zip(&topic.partitions) {
            let place = PartitionId { topic: id, number };
            self.leaderless.remove(&place);
            for node in &partition.replicas {
                let partitions = self.of_node.entry(*node).or_default();
                partitions.remove(&place);
                if partitions.is_empty() {
                    self.of_node.remove(node);
                }
            }
        }
        self.deltas.push(Delta::TopicGone(id));
        Ok(Outcome::Changed)
    }

    /// A topic is configured differently, and all that follows from that for its partitions is done.
    pub(super) fn configure_topic(
        &mut self,
        id: TopicId,
        version: u32,
        min_in_sync: Option<u16>,
        recovery: Option<Recovery>,
        retention: Option<Retention>,
    ) -> Result<Outcome, Refusal> {
        let topic = self.topic(id).ok_or(Refusal::TopicUnknown(id))?;
        if topic.version != version {
            return Err(Refusal::TopicVersionStale { current: topic.version });
        }
        let mut spec = topic.spec.clone();
        spec.min_in_sync = min_in_sync.unwrap_or(spec.min_in_sync);
        spec.recovery = recovery.unwrap_or(spec.recovery);
        spec.retention = retention.unwrap_or(spec.retention);
        spec.check()?;
        if spec == topic.spec {
            return Ok(Outcome::Same);
        }
        let is_min_new = spec.min_in_sync != topic.spec.min_in_sync;
        let count = u32::try_from(topic.partitions.len()).expect("partitions are bounded");
        if let Some(topic) = self.state.topics.get_mut(&id) {
            let topic = Arc::make_mut(topic);
            topic.spec = spec;
            topic.version = topic.version.wrapping_add(1);
        }
        self.deltas.push(Delta::Topic(id));
        for number in 0..count {
            let place = PartitionId { topic: id, number };
            if is_min_new || self.leaderless.contains(&place) {
                // Who is eligible stays it while there are too few in sync, by the new number, too: nothing was committed
                // without them. (KIP-966 forgets them, since there the number is not in the log.)
                self.change(place, Why::Configured, |_| {});
            }
        }
        Ok(Outcome::Changed)
    }

    /// Whether each assignment has so many different nodes, all of them active.
    fn check_assignments(&self, replicas: u16, assignments: &[Vec<NodeId>]) -> Result<(), Refusal> {
        if assignments.is_empty() {
            return Err(Refusal::NoPartitions);
        }
        let total = self.partitions.saturating_add(assignments.len());
        if total > PARTITIONS_MAX {
            return Err(Refusal::TooManyPartitions(u64::try_from(total).unwrap_or(u64::MAX)));
        }
        for (number, assignment) in (0..).zip(assignments) {
            let different: BTreeSet<&NodeId> = assignment.iter().collect();
            if different.len() != assignment.len() || assignment.len() != usize::from(replicas) {
                return Err(Refusal::Assignment { number, replicas });
            }
            for node in assignment {
                self.node(*node).ok_or(Refusal::NodeUnknown(*node))?;
                if !self.is_active(*node) {
                    return Err(Refusal::NodeIsNotActive(*node));
                }
            }
        }
        Ok(())
    }

    fn append(&mut self, id: TopicId, assignments: &[Vec<NodeId>]) {
        let Some(topic) = self.state.topics.get_mut(&id) else { return };
        let topic = Arc::make_mut(topic);
        let first = u32::try_from(topic.partitions.len()).expect("partitions are bounded");
        for (number, assignment) in (first..).zip(assignments) {
            topic.partitions.push(Partition::new(assignment));
            for node in assignment {
                self.of_node.entry(*node).or_default().insert(PartitionId { topic: id, number });
            }
        }
        self.partitions += assignments.len();
        self.deltas.push(Delta::Topic(id));
    }
}
