//! Which nodes hold which replicas: planned once, and stored.
//!
//! # The problem
//!
//! A hash cannot balance: of 100,000 partitions on 1000 nodes the fullest node gets a third more than its share. So
//! placements are planned, and the plan is kept. What is planned must be *balanced* (no node above its share, rounded
//! up), *valid* (no two replicas of a partition on one node, nor in one rack), and it must *move the least*, since each
//! move copies a partition over the network. And it must not depend on the order in which anything was listed.
//!
//! # The idea
//!
//! It is a flow. Each partition sends as many units as it has replicas, through racks that let one through each, to
//! nodes that take as many as their quota:
//!
//! ```text
//!                  ┌─1─► rack a ─1─► node 1 ─┐ quota 1
//!   partition ─3──►├─1─► rack b ─1─► node 2 ─┼──────────► all replicas
//!   ...            └─1─► rack c ─1─► node 3 ─┘ quota 3
//! ```
//!
//! Where a replica is already, its unit costs nothing; anywhere else it costs one move. A balanced, valid plan of the
//! fewest moves is a cheapest flow. What is there today is a part of such a flow, and each step below adds the
//! cheapest way for one more unit:
//!
//! 1. `board`: what cannot stay is dropped: replicas on nodes that leave, second ones in a rack. What is left costs
//!    nothing.
//! 2. `quota`: each node's share by weight, and what a full rack or node cannot take goes to the others.
//! 3. `fill`: missing replicas go straight to nodes below their quota, and replicas of nodes above it move straight to
//!    nodes below. Each costs one move, and less cannot be.
//! 4. `chain`: where no such node may take it, a chain of replicas moves on by one each: the shortest way.
//! 5. `exact`: when the moves are more than the lower bound and the problem is small, ways to take moves back, and to find
//!    a place for what has none, are looked for until there is none, which proves that no plan is better (Klein 1967).
//! 6. `leaders`: who is first among the replicas, and so preferred to lead, by the same kind of ways. That moves
//!    nothing.
//!
//! The [`Certificate`] says how good the plan is: its moves beside a bound that no plan can beat.
//!
//! # What it does not do
//!
//! It copies nothing and decides nothing: [`steps`] puts a plan in an order, and the controller executes it. It does not
//! weigh partitions by their size; each counts as one.

mod board;
mod certificate;
mod chain;
mod exact;
mod fill;
mod leaders;
mod quota;
pub mod steps;

use serde::{Deserialize, Serialize};

pub use self::certificate::{Certificate, Proof, Unsatisfied};
use crate::id::{NodeId, PartitionId};

/// A node that a plan may use.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PlanNode {
    /// Its id.
    pub id: NodeId,
    /// Its share, from 1, relative to the others' weights.
    pub weight: u32,
    /// Its failure domain. A node without one shares none.
    pub rack: Option<String>,
    /// What may be done with it.
    pub standing: Standing,
    /// The most replicas that it may be given. What it holds beyond is moved away.
    pub capacity: Option<u32>,
    /// How many replicas it has beside those that are planned. It decides who is rounded up, and so a new topic that is
    /// planned alone goes where there is least, and yet over all nodes.
    pub burden: u64,
}

impl PlanNode {
    /// A node of weight 1 that takes replicas, in no rack, without a limit.
    #[must_use]
    pub fn new(id: NodeId) -> PlanNode {
        PlanNode { id, weight: 1, rack: None, standing: Standing::Takes, capacity: None, burden: 0 }
    }
}

/// What a plan may do with a node.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Standing {
    /// It gets its share.
    Takes,
    /// It keeps what it has, and gets nothing: it is away, and expected back.
    Keeps,
    /// All that it holds goes elsewhere: it is drained, or gone for good.
    Leaves,
}

/// A partition, and where its replicas are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Placement {
    /// Which one.
    pub partition: PartitionId,
    /// Its [hash](super::hash::key), which breaks ties.
    pub key: u64,
    /// How many replicas it should have.
    pub factor: u16,
    /// Where they are, the preferred leader first; empty for a partition that is to be created.
    pub replicas: Vec<NodeId>,
}

/// What a plan changes, and how good it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plan {
    /// By ascending partition, those whose replicas or preferred leader change.
    pub changes: Vec<Change>,
    /// How good it is.
    pub certificate: Certificate,
}

/// What becomes of one partition.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Change {
    /// Which one.
    pub partition: PartitionId,
    /// Where its replicas are.
    pub from: Vec<NodeId>,
    /// Where they should be, the preferred leader first.
    pub to: Vec<NodeId>,
}

/// Why there is no plan.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// List it once.
    #[error("node {0} is listed twice")]
    NodeTwice(NodeId),
    /// List it once.
    #[error("partition {0} is listed twice")]
    PartitionTwice(PartitionId),
    /// To take everything from a node, let it leave.
    #[error("node {0} has weight 0: a node that is to hold nothing leaves")]
    Weightless(NodeId),
    /// Give it at least one replica.
    #[error("partition {0} should have no replica at all")]
    Factorless(PartitionId),
    /// Plan less at a time.
    #[error("the replicas are more than {}", u32::MAX)]
    TooMany,
}

/// Plans where the replicas should be. The answer does not depend on the order of the nodes and of the placements. Where
/// everything can be fulfilled, a plan for what is planned changes nothing, and elsewhere it hardly ever does.
///
/// # Errors
///
/// [`PlanError`] for arguments that contradict themselves. What cannot be fulfilled (more replicas than nodes, fewer
/// racks) is planned as well as can be, and named in the certificate.
pub fn plan(nodes: &[PlanNode], placements: &[Placement]) -> Result<Plan, PlanError> {
    let mut board = board::Board::new(nodes, placements)?;
    let before = certificate::Before::of(&board);
    let mut levels = quota::replicas(&board);
    let due = certificate::due(&board, &levels);
    let left = fill::fill(&mut board, &mut levels);
    chain::finish(&mut board, &mut levels, left);
    let reaches_bound = board.moves() <= certificate::lower_bound(&board, &levels, due) && levels.are_met();
    let is_minimal = reaches_bound || exact::improve(&mut board, &mut levels);
    let bound = certificate::lower_bound(&board, &levels, due);
    board.restore_order();
    leaders::balance(&mut board);
    let certificate = Certificate::of(&board, &levels, &before, bound, is_minimal);
    Ok(Plan { changes: board.changes(), certificate })
}

#[cfg(test)]
mod tests;
