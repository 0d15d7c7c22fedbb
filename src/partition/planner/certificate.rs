//! How good a plan is, with a bound that no plan can beat.

use serde::{Deserialize, Serialize};

use super::super::size;
use super::board::{Board, NOBODY};
use super::leaders;
use super::quota::Levels;
use crate::id::{NodeId, PartitionId};

/// How good a plan is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Certificate {
    /// Replicas that are to be copied to a node which does not have them.
    pub moves: u64,
    /// No plan as valid, as complete and as balanced has fewer: those that have to be put somewhere, and those above a quota,
    /// as far as there is a place for them.
    pub moves_bound: u64,
    /// What is known about the number of moves.
    pub proof: Proof,
    /// The fullest node before, in millionths of its share by weight; 1,000,000 is its share.
    pub replicas_before: u64,
    /// The fullest node after.
    pub replicas_after: u64,
    /// The node that is most often preferred to lead before, in millionths of its share.
    pub leaders_before: u64,
    /// The same after.
    pub leaders_after: u64,
    /// What could not be fulfilled.
    pub unsatisfied: Vec<Unsatisfied>,
}

/// What is known about the number of moves.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Proof {
    /// No plan has fewer.
    Minimal,
    /// There may be plans with fewer, but none with fewer than the bound.
    Bounded,
}

/// What a plan could not fulfil, and why.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
#[non_exhaustive]
pub enum Unsatisfied {
    /// Add nodes, or let ones that are away come back.
    #[error(
        "partition {partition} lacks {missing} of its replicas: there are not enough nodes that take one"
    )]
    Replicas {
        /// Which one.
        partition: PartitionId,
        /// How many replicas it lacks.
        missing: u32,
    },
    /// Add nodes in other racks.
    #[error(
        "partition {partition} has {replicas} replicas in the rack of node {node}, where {allowed} may be"
    )]
    Rack {
        /// Which one.
        partition: PartitionId,
        /// In the rack of this node.
        node: NodeId,
        /// How many.
        replicas: u32,
        /// How many there should be at most.
        allowed: u32,
    },
    /// The racks, or the factors of the partitions, leave no other place.
    #[error("node {node} has {replicas} replicas, and its share is {share}")]
    Balance {
        /// Which one.
        node: NodeId,
        /// How many it has.
        replicas: u64,
        /// How many it should have at most.
        share: u64,
    },
}

/// How balanced it was.
pub(super) struct Before {
    replicas: u64,
    leaders: u64,
}

impl Before {
    /// Of a board on which nothing was done yet. What cannot stay does not count.
    pub(super) fn of(board: &Board<'_>) -> Before {
        Before { replicas: fullest(board, &board.load), leaders: fullest(board, &leaders::counts(board)) }
    }
}

/// What is to be moved: each empty slot is to be filled, and each replica above a quota is to go elsewhere. Unless, that is,
/// another replica had been dropped where there was a choice, and its node not been above.
pub(super) fn due(board: &Board<'_>, levels: &Levels) -> u64 {
    let over = levels.amount.iter().zip(&levels.quota).map(|(has, quota)| has.saturating_sub(*quota));
    let empty = board.slots.iter().filter(|node| **node == NOBODY).count();
    let over: u64 = if board.dropped.is_empty() { over.sum() } else { 0 };
    u64::try_from(empty).expect("less than 2^32 slots") + over
}

/// No plan has fewer moves that gets as much done: each thing that was due and is not any more has cost one, unless it was
/// to put a replica back where it was.
pub(super) fn lower_bound(board: &Board<'_>, levels: &Levels, due_before: u64) -> u64 {
    let restored = u64::try_from(board.restored()).expect("less than 2^32 slots");
    due_before.saturating_sub(due(board, levels) + restored)
}

impl Certificate {
    pub(super) fn of(
        board: &Board<'_>,
        levels: &Levels,
        before: &Before,
        moves_bound: u64,
        is_minimal: bool,
    ) -> Certificate {
        Certificate {
            moves: board.moves(),
            moves_bound,
            proof: if is_minimal { Proof::Minimal } else { Proof::Bounded },
            replicas_before: before.replicas,
            replicas_after: fullest(board, &board.load),
            leaders_before: before.leaders,
            leaders_after: fullest(board, &leaders::counts(board)),
            unsatisfied: unsatisfied(board, levels),
        }
    }
}

/// The largest amount of those that take replicas, in millionths of its share.
fn fullest(board: &Board<'_>, amounts: &[u64]) -> u64 {
    let takers = || board.racks.iter().flat_map(|rack| rack.takers.iter().map(|node| size(*node)));
    let total: u128 = takers().map(|node| u128::from(amounts[node])).sum();
    let weights: u128 = takers().map(|node| u128::from(board.seats[node].weight)).sum();
    let part = |node: usize| {
        let share = total * u128::from(board.seats[node].weight);
        u128::from(amounts[node]) * weights * 1_000_000 / share.max(1)
    };
    u64::try_from(takers().map(part).max().unwrap_or(0)).unwrap_or(u64::MAX)
}

fn unsatisfied(board: &Board<'_>, levels: &Levels) -> Vec<Unsatisfied> {
    let mut found = Vec::new();
    for row in &board.rows {
        let partition = board.partition(row);
        let slots = board.slots_of(row);
        let empty = slots.iter().filter(|node| **node == NOBODY).count();
        let missing = row.short + u32::try_from(empty).expect("at most the factor");
        if missing > 0 {
            found.push(Unsatisfied::Replicas { partition, missing });
        }
        // It cannot be otherwise, and looking costs as much as all else.
        if u64::from(row.rack_cap) >= u64::from(row.end - row.first) {
            continue;
        }
        for (place, node) in slots.iter().enumerate().filter(|(_, node)| **node != NOBODY) {
            let rack = board.rack_of(*node);
            let (replicas, allowed) = (board.uses(slots, rack), board.cap_in(row, rack));
            // Once for each rack: at its first node.
            if replicas > allowed && board.uses(&slots[..place], rack) == 0 {
                let node = board.seats[size(*node)].id;
                found.push(Unsatisfied::Rack { partition, node, replicas, allowed });
            }
        }
    }
    for (node, seat) in board.seats.iter().enumerate() {
        let (replicas, share) = (board.load[node], levels.ceil[node]);
        if replicas > share {
            found.push(Unsatisfied::Balance { node: seat.id, replicas, share });
        }
    }
    found
}
