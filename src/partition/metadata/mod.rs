//! The cluster's metadata: nodes, topics, partitions, who leads them. A state that commands in the Raft log change.
//!
//! # The problem
//!
//! Every node must agree on who leads a partition and which of its replicas are in sync, since whoever is in sync may be
//! elected, and whoever is elected must have everything that was acknowledged. Leaders, operators and a controller all
//! change it, over a network that repeats, delays and reorders what they say.
//!
//! # The idea (Kafka's KRaft controller, KIP-500, KIP-966)
//!
//! The state changes only by commands that stand in the log, so that equal logs give equal states. A command is *total*:
//! one that makes no sense is answered with a [`Refusal`] and changes nothing. And it is *compare-and-set*: it names the
//! epoch that it saw, so a copy that comes late or twice changes nothing either. Two exceptions: what begins a node or a
//! topic names nothing that was there before, so a copy that comes after both were forgotten begins them once more.
//!
//! ```text
//!   epoch            of what                      grows with
//!   node epoch       one session of a node        each registration: the index of its entry in the log
//!   changed          a node's whole record        each change: the index of its entry
//!   leader epoch     who may write                each change of the leader, and each replica that is removed
//!   partition epoch  the partition's whole record each change
//! ```
//!
//! No command holds a choice that depends on anything but the state: assignments, times and ids are in it.
//!
//! # In sync, and eligible
//!
//! A node that is *fenced* is in no set of in-sync replicas. When fewer than `min_in_sync` are left, nothing is
//! acknowledged any more, so who just fell out still has everything: it stays *eligible* (KIP-966), and may be elected
//! when nobody is in sync. Only a node that comes back from an unclean stop without having synced before it acknowledged
//! loses that, and is remembered apart.
//!
//! | file | what it is |
//! |---|---|
//! | [`command`] | what may be asked, and how it is answered |
//! | `nodes` | sessions: registered, fenced, unfenced, shutting down |
//! | `topics` | created, deleted, extended, configured |
//! | `partition` | the record; what every change of it ends with: reassignment, eligibility, election, epochs |
//! | `partitions` | in-sync sets, elections, reassignments |
//! | `plans` | the plan that is being executed |
//!
//! # What it does not do
//!
//! It decides nothing: the controller does, and puts it in commands. It copies no data, and does not know whether a
//! replica is really in sync: the partition's leader says so.

pub mod command;
mod nodes;
mod partition;
mod partitions;
mod plans;
mod topics;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::command::{Alteration, Command, Election, FenceReason, Outcome, PlanPart, Refusal};
pub use self::nodes::{NodeRecord, NodeState};
pub use self::partition::{Partition, Reassignment, Why};
pub use self::plans::{ActivePlan, PLAN_PART, PlanId};
pub use self::topics::{Recovery, Topic, TopicSpec};
use crate::id::{LogIndex, NodeId, PartitionId, TopicId};

/// The most partitions of a cluster.
pub const PARTITIONS_MAX: usize = 1_000_000;
/// The level of what nodes must understand that a new cluster begins with.
pub const FEATURE_LEVEL_FIRST: u16 = 1;
/// The level that this version of the library understands.
pub const FEATURE_LEVEL: u16 = 2;

/// What a command changed, for those who follow.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub enum Delta {
    /// A node's record is new or different.
    Node(NodeId),
    /// A node is not known any more.
    NodeGone(NodeId),
    /// A topic is there, or configured differently, or has more partitions.
    Topic(TopicId),
    /// A topic is gone.
    TopicGone(TopicId),
    /// A partition's record is different.
    Partition(PartitionId),
    /// A partition was given a leader that may lack what was acknowledged.
    MayHaveLost(PartitionId),
    /// The plan is another one, or gone.
    Plan,
    /// More may be used: the feature level is higher.
    FeatureLevel,
}

/// The metadata.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "State", into = "State")]
pub struct Metadata {
    state: State,
    /// The partitions of which each node has a replica; derived.
    of_node: BTreeMap<NodeId, BTreeSet<PartitionId>>,
    /// The partitions without a leader; derived.
    leaderless: BTreeSet<PartitionId>,
    /// How many partitions there are; derived.
    partitions: usize,
    /// What the command that is being applied changed.
    deltas: Vec<Delta>,
}

/// What a snapshot holds.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct State {
    feature_level: u16,
    nodes: BTreeMap<NodeId, NodeRecord>,
    /// Shared with copies that wait to be written down, so that such a copy costs little.
    topics: BTreeMap<TopicId, Arc<Topic>>,
    names: BTreeMap<String, TopicId>,
    plan: Option<ActivePlan>,
    /// The last one that there was, so that a copy of its first part does not begin it again.
    last_plan: Option<PlanId>,
}

impl Default for Metadata {
    fn default() -> Metadata {
        let state = State {
            feature_level: FEATURE_LEVEL_FIRST,
            nodes: BTreeMap::new(),
            topics: BTreeMap::new(),
            names: BTreeMap::new(),
            plan: None,
            last_plan: None,
        };
        Metadata {
            state,
            of_node: BTreeMap::new(),
            leaderless: BTreeSet::new(),
            partitions: 0,
            deltas: Vec::new(),
        }
    }
}

impl Metadata {
    /// Executes the command that stands at `index`, and returns its answer and what it changed. Indexes increase.
    ///
    /// # Errors
    ///
    /// [`Refusal`]; nothing was changed.
    pub fn apply(&mut self, index: LogIndex, command: &Command) -> (Result<Outcome, Refusal>, Vec<Delta>) {
        let answer = self.execute(index, command);
        debug_assert!(answer.is_ok() || self.deltas.is_empty(), "what is refused changes nothing");
        (answer, core::mem::take(&mut self.deltas))
    }

    fn execute(&mut self, index: LogIndex, command: &Command) -> Result<Outcome, Refusal> {
        match command {
            Command::RegisterNode(registration) => self.register(index, registration),
            Command::FenceNode { node, epoch, seen, reason } => {
                self.fence(index, *node, (*epoch, *seen), *reason)
            }
            Command::UnfenceNode { node, epoch, seen, applied } => {
                self.unfence(index, *node, (*epoch, *seen), *applied)
            }
            Command::BeginShutdown { node, epoch, seen } => {
                self.begin_shutdown(index, *node, (*epoch, *seen))
            }
            Command::SetDraining { node, seen, is_draining } => {
                self.set_draining(index, *node, *seen, *is_draining)
            }
            Command::SetShare { node, seen, weight, rack } => {
                self.set_share(index, *node, *seen, (*weight, rack.as_deref()))
            }
            Command::DeregisterNode { node, epoch } => self.deregister(*node, *epoch),
            Command::CreateTopic { spec, assignments } => self.create_topic(index, spec, assignments),
            Command::DeleteTopic { topic } => self.delete_topic(*topic),
            Command::AddPartitions { topic, from, assignments } => {
                self.add_partitions(*topic, *from, assignments)
            }
            Command::ConfigureTopic { topic, version, min_in_sync, recovery, retention } => {
                self.configure_topic(*topic, *version, *min_in_sync, *recovery, *retention)
            }
            Command::AlterPartition(alteration) => self.alter(alteration),
            Command::AlterPartitions(alterations) => Ok(self.alter_all(alterations)),
            Command::ElectLeader { partition, epoch, election } => self.elect(*partition, *epoch, *election),
            Command::StartReassignment { partition, epoch, target } => {
                self.start_reassignment(*partition, *epoch, target)
            }
            Command::CancelReassignment { partition, epoch } => self.cancel_reassignment(*partition, *epoch),
            Command::SubmitPlan { part, changes, is_last } => {
                self.submit_plan(index, *part, changes, *is_last)
            }
            Command::CancelPlan { plan } => self.cancel_plan(*plan),
            Command::FinishPlan { plan } => self.finish_plan(*plan),
            Command::SetFeatureLevel { from, to } => self.set_feature_level(*from, *to),
        }
    }

    /// The level of what all nodes must understand.
    #[must_use]
    pub fn feature_level(&self) -> u16 {
        self.state.feature_level
    }

    /// All nodes, by id.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &NodeRecord)> {
        self.state.nodes.iter().map(|(node, record)| (*node, record))
    }

    /// What is known of a node.
    #[must_use]
    pub fn node(&self, node: NodeId) -> Option<&NodeRecord> {
        self.state.nodes.get(&node)
    }

    /// All topics, by id.
    pub fn topics(&self) -> impl Iterator<Item = (TopicId, &Topic)> {
        self.state.topics.iter().map(|(id, topic)| (*id, &**topic))
    }

    /// A topic.
    #[must_use]
    pub fn topic(&self, topic: TopicId) -> Option<&Topic> {
        self.state.topics.get(&topic).map(|topic| &**topic)
    }

    /// A topic by its name.
    #[must_use]
    pub fn topic_named(&self, name: &str) -> Option<(TopicId, &Topic)> {
        let id = *self.state.names.get(name)?;
        Some((id, self.topic(id)?))
    }

    /// A partition.
    #[must_use]
    pub fn partition(&self, partition: PartitionId) -> Option<&Partition> {
        self.topic(partition.topic)?.partitions.get(usize::try_from(partition.number).ok()?)
    }

    /// All partitions, by id.
    pub fn all_partitions(&self) -> impl Iterator<Item = (PartitionId, &Partition)> {
        self.state.topics.iter().flat_map(|(topic, record)| {
            let numbered = (0..).zip(&record.partitions);
            numbered.map(|(number, partition)| (PartitionId { topic: *topic, number }, partition))
        })
    }

    /// How many partitions there are.
    #[must_use]
    pub fn partitions(&self) -> usize {
        self.partitions
    }

    /// The partitions of which a node has a replica, or is being given one.
    pub fn partitions_of(&self, node: NodeId) -> impl Iterator<Item = PartitionId> {
        self.of_node.get(&node).into_iter().flatten().copied()
    }

    /// The partitions without a leader.
    pub fn leaderless(&self) -> impl Iterator<Item = PartitionId> {
        self.leaderless.iter().copied()
    }

    /// The plan that is being executed.
    #[must_use]
    pub fn plan(&self) -> Option<&ActivePlan> {
        self.state.plan.as_ref()
    }

    /// The last plan that there was, be it done or not.
    #[must_use]
    pub fn last_plan(&self) -> Option<PlanId> {
        self.state.last_plan
    }

    /// Whether a node may be in sync and lead.
    fn is_active(&self, node: NodeId) -> bool {
        self.node(node).is_some_and(|record| record.state == NodeState::Active)
    }

    fn set_feature_level(&mut self, from: u16, to: u16) -> Result<Outcome, Refusal> {
        let current = self.state.feature_level;
        if current == to {
            return Ok(Outcome::Same);
        }
        if current != from || to < current {
            return Err(Refusal::FeatureLevel { current });
        }
        if self.state.nodes.is_empty() {
            return Err(Refusal::NoNodes);
        }
        let lacks = self.nodes().find(|(_, record)| record.features < to);
        if let Some((node, record)) = lacks {
            return Err(Refusal::NodeLacksFeatures { node, features: record.features, level: to });
        }
        self.state.feature_level = to;
        self.deltas.push(Delta::FeatureLevel);
        Ok(Outcome::Changed)
    }

    /// Says which rule the state breaks, if it breaks one (see the module's text).
    ///
    /// # Errors
    ///
    /// The rule and where it is broken.
    pub fn check(&self) -> Result<(), String> {
        for (id, topic) in self.topics() {
            if self.state.names.get(&topic.spec.name) != Some(&id) {
                return Err(format!("topic {id} is not found by its name"));
            }
            topic.spec.check().map_err(|refusal| refusal.to_string())?;
            for (number, partition) in (0..).zip(&topic.partitions) {
                let place = PartitionId { topic: id, number };
                let is_active = |node| self.is_active(node);
                partition
                    .check(topic.spec.min_in_sync, is_active)
                    .map_err(|rule| format!("partition {place}: {rule}"))?;
                if let Some(node) = partition.replicas.iter().find(|node| self.node(**node).is_none()) {
                    return Err(format!("partition {place}: node {node} is not known"));
                }
            }
        }
        if self.state.names.len() != self.state.topics.len() {
            return Err("a name leads to no topic".to_owned());
        }
        let derived = Metadata::index(self.state.clone());
        let is_derived = derived.of_node == self.of_node && derived.leaderless == self.leaderless;
        if is_derived && derived.partitions == self.partitions {
            Ok(())
        } else {
            Err("an index is wrong".to_owned())
        }
    }

    /// Builds what is derived.
    fn index(state: State) -> Metadata {
        let mut metadata = Metadata { state, ..Metadata::default() };
        for (topic, record) in &metadata.state.topics {
            metadata.partitions += record.partitions.len();
            for (number, partition) in (0..).zip(&record.partitions) {
                let id = PartitionId { topic: *topic, number };
                for node in &partition.replicas {
                    metadata.of_node.entry(*node).or_default().insert(id);
                }
                if partition.leader.is_none() {
                    metadata.leaderless.insert(id);
                }
            }
        }
        metadata
    }
}

impl From<Metadata> for State {
    fn from(metadata: Metadata) -> State {
        metadata.state
    }
}

/// A state that no commands lead to. It comes from elsewhere, or is damaged.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the metadata contradict themselves: {0}")]
pub struct Contradiction(String);

impl TryFrom<State> for Metadata {
    type Error = Contradiction;

    fn try_from(state: State) -> Result<Metadata, Contradiction> {
        let metadata = Metadata::index(state);
        metadata.check().map_err(Contradiction)?;
        Ok(metadata)
    }
}

#[cfg(test)]
mod tests;
