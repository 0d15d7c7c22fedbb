//! From the metadata to the planner: what there is to be planned, and with which nodes.
//!
//! The planner knows neither topics nor sessions. Here a node's record becomes what a plan may do with it, and each
//! partition a placement. Whoever asks says which nodes are given up.
//!
//! | a node that is | takes part as |
//! |---|---|
//! | active | one that gets its share |
//! | fenced, or shutting down | one that keeps what it has: it is expected back |
//! | draining, or given up | one that everything leaves |

use super::hash;
use super::metadata::{Metadata, NodeState, PARTITIONS_MAX};
use super::planner::{Placement, Plan, PlanError, PlanNode, Standing, plan};
use crate::id::{NodeId, PartitionId, TopicId};

/// Why replicas cannot be placed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AssignError {
    /// Ask for fewer replicas, or wait for nodes.
    #[error("{replicas} replicas need as many nodes that are active and not draining, and there are {nodes}")]
    TooFewNodes {
        /// How many replicas each partition is to have.
        replicas: u16,
        /// How many nodes there are for them.
        nodes: usize,
    },
    /// Ask for fewer.
    #[error("there would be {0} partitions, and {PARTITIONS_MAX} are the most")]
    TooMany(u64),
    /// Ask for at least one replica.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

/// The nodes as a plan sees them, by id; those that `is_given_up` says are left by everything.
#[must_use]
pub fn nodes(metadata: &Metadata, is_given_up: impl Fn(NodeId) -> bool) -> Vec<PlanNode> {
    let seen = metadata.nodes().map(|(id, record)| PlanNode {
        weight: record.weight,
        rack: record.rack.clone(),
        standing: match record.state {
            _ if record.is_draining || is_given_up(id) => Standing::Leaves,
            NodeState::Active => Standing::Takes,
            NodeState::Fenced | NodeState::ShuttingDown => Standing::Keeps,
        },
        ..PlanNode::new(id)
    });
    seen.collect()
}

/// All partitions, where their replicas are; those that move, where they will be.
#[must_use]
pub fn placements(metadata: &Metadata) -> Vec<Placement> {
    let mut placements = Vec::with_capacity(metadata.partitions());
    for (topic, record) in metadata.topics() {
        for (number, partition) in (0..).zip(&record.partitions) {
            let target = partition.reassignment.as_deref().map(|moves| &moves.target);
            placements.push(Placement {
                partition: PartitionId { topic, number },
                key: hash::key(&record.spec.name, number),
                factor: record.spec.replicas,
                replicas: target.unwrap_or(&partition.replicas).clone(),
            });
        }
    }
    placements
}

/// Plans where all replicas should be. No partition gets fewer than it has: what would be is left out.
///
/// # Errors
///
/// [`PlanError`] if there are more replicas than can be counted.
pub fn rebalance(metadata: &Metadata, nodes: &[PlanNode]) -> Result<Plan, PlanError> {
    let mut plan = plan(nodes, &placements(metadata))?;
    let factor = |change: &super::planner::Change| {
        metadata.topic(change.partition.topic).map_or(0, |topic| usize::from(topic.spec.replicas))
    };
    plan.changes.retain(|change| change.to.len() >= change.from.len().min(factor(change)));
    Ok(plan)
}

/// Places the partitions from number `first` on of a topic that is new or grows, over all nodes that take replicas, and
/// yet where there is least.
///
/// # Errors
///
/// [`AssignError`]; nothing is placed by halves.
pub fn assign(
    metadata: &Metadata,
    topic: &str,
    (first, count): (u32, u32),
    replicas: u16,
) -> Result<Vec<Vec<NodeId>>, AssignError> {
    let total = u64::try_from(metadata.partitions()).unwrap_or(u64::MAX).saturating_add(u64::from(count));
    if usize::try_from(total).is_ok_and(|total| total > PARTITIONS_MAX) {
        return Err(AssignError::TooMany(total));
    }
    let mut nodes = nodes(metadata, |_| false);
    nodes.retain(|node| node.standing == Standing::Takes);
    if nodes.len() < usize::from(replicas) {
        return Err(AssignError::TooFewNodes { replicas, nodes: nodes.len() });
    }
    for node in &mut nodes {
        node.burden = u64::try_from(metadata.partitions_of(node.id).count()).unwrap_or(u64::MAX);
    }
    let placement = |number| Placement {
        partition: PartitionId { topic: TopicId::new(0), number },
        key: hash::key(topic, number),
        factor: replicas,
        replicas: Vec::new(),
    };
    let wanted: Vec<Placement> = (first..first.saturating_add(count)).map(placement).collect();
    let planned = plan(&nodes, &wanted)?;
    Ok(planned.changes.into_iter().map(|change| change.to).collect())
}
