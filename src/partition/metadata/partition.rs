//! The record of a partition, and what every change of it ends with.
//!
//! Whoever changes a record only says what is different. [`Partition::finish`] then does the rest, in this order
//! (KIP-966, KIP-455):
//!
//! 1. A reassignment whose target is in sync is done.
//! 2. Who is eligible: while too few are in sync nothing is acknowledged, so that who fell out keeps everything.
//! 3. Who leads: the leader if it still can, else the first replica in sync, else who is eligible, else nobody.
//! 4. The epochs: one for the record, and one for the leader if it is another one or a replica was removed.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Recovery;
use crate::id::{LeaderEpoch, NodeId, PartitionEpoch};

/// No log is long enough to lead to a higher epoch, so a record that has one comes from elsewhere.
const EPOCH_MAX: u64 = u64::MAX / 2;

/// The record of a partition.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Partition {
    /// Who has a replica, or is being given one; who is preferred to lead first.
    pub replicas: Vec<NodeId>,
    /// Where it moves, if it does.
    pub reassignment: Option<Box<Reassignment>>,
    /// Who has all that was acknowledged, and is counted for what will be; ascending.
    pub in_sync: Vec<NodeId>,
    /// Who also has all that was acknowledged; ascending, and empty unless too few are in sync.
    pub eligible: Vec<NodeId>,
    /// Who was eligible, and may have lost something since; ascending.
    pub doubted: Vec<NodeId>,
    /// Who leads.
    pub leader: Option<NodeId>,
    /// Since when.
    pub leader_epoch: LeaderEpoch,
    /// Which record this is.
    pub epoch: PartitionEpoch,
    /// Whether the leader was not eligible when it was elected, and has not recovered yet.
    pub is_recovering: bool,
    /// Why it has the leader that it has.
    pub why: Why,
}

/// A partition that moves. Meanwhile the replicas are those of both.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Reassignment {
    /// Its replicas before.
    pub original: Vec<NodeId>,
    /// Its replicas after.
    pub target: Vec<NodeId>,
}

/// Why a partition has the leader that it has, or none.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize, thiserror::Error)]
#[non_exhaustive]
pub enum Why {
    /// It is the first.
    #[error("since it was created")]
    Created,
    /// This node was fenced.
    #[error("since node {0} was fenced")]
    Fenced(NodeId),
    /// This node came back.
    #[error("since node {0} came back")]
    Unfenced(NodeId),
    /// This node is about to stop.
    #[error("since node {0} is shutting down")]
    ShuttingDown(NodeId),
    /// The partition moved.
    #[error("since it was reassigned")]
    Reassigned,
    /// The leader put others out of sync, or in.
    #[error("since its leader said who is in sync")]
    Altered,
    /// The topic was configured differently.
    #[error("since its topic was configured")]
    Configured,
    /// It was asked for.
    #[error("since it was elected on demand")]
    Elected,
    /// It was asked for, though it was not eligible.
    #[error("since it was elected though others may have more")]
    Unclean,
}

/// What a record's changes depend on beside itself.
pub(super) struct Rules<'a> {
    pub(super) min_in_sync: u16,
    pub(super) recovery: Recovery,
    pub(super) is_active: &'a dyn Fn(NodeId) -> bool,
}

impl Partition {
    pub(super) fn new(replicas: &[NodeId]) -> Partition {
        let mut in_sync = replicas.to_vec();
        in_sync.sort_unstable();
        Partition {
            replicas: replicas.to_vec(),
            reassignment: None,
            in_sync,
            eligible: Vec::new(),
            doubted: Vec::new(),
            leader: replicas.first().copied(),
            leader_epoch: LeaderEpoch::new(1),
            epoch: PartitionEpoch::new(1),
            is_recovering: false,
            why: Why::Created,
        }
    }

    /// Who is being given a replica.
    pub fn adding(&self) -> impl Iterator<Item = NodeId> {
        let moves = self.reassignment.iter();
        moves.flat_map(|moves| moves.target.iter().copied().filter(|node| !moves.original.contains(node)))
    }

    /// How many must be in sync for writes to be acknowledged.
    #[must_use]
    pub fn min_in_sync(&self, of_topic: u16) -> usize {
        usize::from(of_topic).min(self.replicas.len())
    }

    /// Whether somebody among `replicas` has all that was acknowledged, or nobody has it anyway.
    #[must_use]
    pub fn keeps_everything(&self, replicas: &[NodeId]) -> bool {
        let complete = if self.in_sync.is_empty() { &self.eligible } else { &self.in_sync };
        complete.is_empty() || complete.iter().any(|node| replicas.contains(node))
    }

    /// `node` may have lost what it had.
    pub(super) fn doubt(&mut self, node: NodeId) {
        self.in_sync.retain(|other| *other != node);
        self.eligible.retain(|other| *other != node);
        insert(&mut self.doubted, node);
    }

    /// Ends a change; `before` is the record before it. Tells whether the new leader may lack something.
    pub(super) fn finish(&mut self, before: &Partition, rules: &Rules<'_>, why: Why) -> bool {
        self.complete_reassignment();
        self.update_eligible(before, rules);
        let may_have_lost = self.elect(rules);
        self.forget_eligible_if_enough(rules);
        let lost_a_replica = before.replicas.iter().any(|node| !self.replicas.contains(node));
        if self.leader != before.leader {
            self.why = why;
        }
        if self.leader != before.leader || lost_a_replica {
            self.leader_epoch = self.leader_epoch.next();
        }
        self.epoch = self.epoch.next();
        may_have_lost
    }

    fn complete_reassignment(&mut self) {
        let is_done = |moves: &Reassignment| moves.target.iter().all(|node| self.in_sync.contains(node));
        if self.reassignment.as_deref().is_some_and(is_done)
            && let Some(moves) = self.reassignment.take()
        {
            self.replicas = moves.target;
        }
        self.in_sync.retain(|node| self.replicas.contains(node));
    }

    /// While too few are in sync nothing is acknowledged: who was in sync when it came to that stays eligible.
    fn update_eligible(&mut self, before: &Partition, rules: &Rules<'_>) {
        if self.forget_eligible_if_enough(rules) {
            return;
        }
        before.in_sync.iter().for_each(|node| insert(&mut self.eligible, *node));
        let replicas = &self.replicas;
        let (in_sync, doubted) = (&self.in_sync, &self.doubted);
        self.eligible
            .retain(|node| replicas.contains(node) && !in_sync.contains(node) && !doubted.contains(node));
        self.doubted.retain(|node| replicas.contains(node) && !self.in_sync.contains(node));
    }

    /// When enough are in sync, they go on without the others. Tells whether they do.
    fn forget_eligible_if_enough(&mut self, rules: &Rules<'_>) -> bool {
        let is_enough = self.in_sync.len() >= self.min_in_sync(rules.min_in_sync);
        if is_enough {
            self.eligible.clear();
            self.doubted.clear();
        }
        is_enough
    }

    /// Chooses who leads: never somebody who is not eligible, unless the topic says so. Tells whether it had to.
    fn elect(&mut self, rules: &Rules<'_>) -> bool {
        let can_lead = |node: &NodeId| (rules.is_active)(*node);
        let in_sync = |node: &&NodeId| self.in_sync.contains(*node) && can_lead(node);
        if self.leader.as_ref().is_some_and(|leader| in_sync(&leader)) {
            return false;
        }
        self.leader = self.replicas.iter().find(in_sync).copied();
        if self.leader.is_some() || !self.in_sync.is_empty() {
            return false;
        }
        let eligible = |node: &&NodeId| self.eligible.contains(*node) && can_lead(node);
        if let Some(node) = self.replicas.iter().find(eligible).copied() {
            self.lead_alone(node);
            return false;
        }
        if rules.recovery != Recovery::Unclean || !self.eligible.is_empty() {
            return false;
        }
        // Who was eligible once probably has most, and who is only being given a replica least.
        let adding: Vec<NodeId> = self.adding().collect();
        let last = |node: &&NodeId| (!self.doubted.contains(*node), adding.contains(*node));
        let Some(node) = self.replicas.iter().filter(|node| can_lead(node)).min_by_key(last).copied() else {
            return false;
        };
        self.lead_alone(node);
        self.is_recovering = true;
        true
    }

    /// `node` leads, and nobody else is in sync.
    pub(super) fn lead_alone(&mut self, node: NodeId) {
        self.leader = Some(node);
        self.in_sync = vec![node];
        self.eligible.retain(|other| *other != node);
        self.doubted.retain(|other| *other != node);
    }

    /// Says which rule the record breaks, if it breaks one.
    pub(super) fn check(
        &self,
        min_in_sync: u16,
        is_active: impl Fn(NodeId) -> bool,
    ) -> Result<(), &'static str> {
        let ascends = |nodes: &[NodeId]| nodes.windows(2).all(|pair| pair[0] < pair[1]);
        let within = |nodes: &[NodeId]| nodes.iter().all(|node| self.replicas.contains(node));
        let mut sorted = self.replicas.clone();
        sorted.sort_unstable();
        if sorted.is_empty() || !ascends(&sorted) {
            return Err("it has no replica, or one twice");
        }
        for nodes in [&self.in_sync, &self.eligible, &self.doubted] {
            if !ascends(nodes) || !within(nodes) {
                return Err("who is in sync or eligible has a replica, once");
            }
        }
        if self.in_sync.iter().any(|node| self.eligible.contains(node) || self.doubted.contains(node)) {
            return Err("who is in sync is not eligible beside that");
        }
        if self.eligible.iter().any(|node| self.doubted.contains(node)) {
            return Err("who is eligible is not in doubt");
        }
        if self.leader.is_some_and(|leader| !self.in_sync.contains(&leader)) {
            return Err("the leader is in sync");
        }
        if self.leader.is_none() && !self.in_sync.is_empty() {
            return Err("who is in sync leads");
        }
        if self.leader.is_none() && self.eligible.iter().any(|node| is_active(*node)) {
            return Err("who is eligible and active leads");
        }
        if self.in_sync.iter().any(|node| !is_active(*node)) {
            return Err("who is in sync is active");
        }
        if self.in_sync.len() >= self.min_in_sync(min_in_sync) && !self.eligible.is_empty() {
            return Err("nobody is eligible while enough are in sync");
        }
        if self.epoch.value().max(self.leader_epoch.value()) > EPOCH_MAX {
            return Err("its epochs have not run out");
        }
        if let Some(moves) = self.reassignment.as_deref() {
            let both: BTreeSet<&NodeId> = moves.target.iter().chain(&moves.original).collect();
            if both != self.replicas.iter().collect() {
                return Err("the replicas are those before and after the reassignment");
            }
            let different = |nodes: &[NodeId]| nodes.iter().collect::<BTreeSet<_>>().len() == nodes.len();
            let is_some = !moves.target.is_empty() && !moves.original.is_empty();
            if !is_some || !different(&moves.target) || !different(&moves.original) {
                return Err("a reassignment goes from different replicas to different ones");
            }
        }
        Ok(())
    }
}

/// Inserts a node where it belongs, unless it is there.
pub(super) fn insert(nodes: &mut Vec<NodeId>, node: NodeId) {
    if let Err(place) = nodes.binary_search(&node) {
        nodes.insert(place, node);
    }
}
