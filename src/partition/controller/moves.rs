//! Plans: submitted in parts, executed step by step, cancelled; and one of its own for nodes that are given up.
//!
//! What is under way is read from the metadata each time. Only a plan that is not submitted whole yet is kept here: if
//! this leadership ends before it is, the next controller cancels it once it has not grown for a while, and plans anew
//! what it has to.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Controller, Sight, Subject};
use crate::id::{NodeId, PartitionEpoch, PartitionId};
use crate::partition::metadata::{
    ActivePlan, Command, Metadata, NodeState, PLAN_PART, PlanId, PlanPart, Refusal,
};
use crate::partition::planner::{Change, steps};
use crate::partition::planning;
use crate::time::Instant;

/// The most changes that are started, or taken back, in one review.
const AT_ONCE: usize = 64;
/// After so many beats it is looked again whether nodes that are given up can be relieved of anything.
const PLANS_EVERY: u32 = 10;

/// What a controller keeps of plans.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Moves {
    /// A plan of its own that is not submitted whole yet, and whether a part of it is.
    draft: Option<(bool, Vec<Change>)>,
    /// When to look at the plan again, and at nodes that are given up.
    looks_at: Instant,
    plans_at: Instant,
    /// Who was given up when it was planned last.
    given_up: BTreeSet<NodeId>,
    /// Changes that were refused, by the record that they were refused for.
    refused: BTreeMap<PartitionId, PartitionEpoch>,
    /// Since when the plan waits for a node that is away.
    waits_since: Option<Instant>,
    /// A plan of somebody else's that is not whole: how much of it was there, since when.
    grows: Option<(PlanId, usize, Instant)>,
}

impl Moves {
    pub(super) fn start(now: Instant) -> Moves {
        Moves {
            draft: None,
            looks_at: now,
            plans_at: now,
            given_up: BTreeSet::new(),
            refused: BTreeMap::new(),
            waits_since: None,
            grows: None,
        }
    }

    /// What was refused for good, as long as the partition is what it is, is not tried again.
    pub(super) fn note_refusal(&mut self, command: &Command, refusal: &Refusal) {
        let passes = matches!(refusal, Refusal::PartitionEpochStale { .. } | Refusal::NodeIsNotActive(_));
        if let Command::StartReassignment { partition, epoch, .. } = command
            && !passes
        {
            self.refused.insert(*partition, *epoch);
        }
    }
}

impl Controller {
    /// Whether a node is given up: it drains, is no member any more, or was away for too long.
    pub(super) fn is_given_up(
        &self,
        now: Instant,
        node: NodeId,
        metadata: &Metadata,
        sight: &dyn Fn(NodeId) -> Sight,
    ) -> bool {
        let patience = self.settings.replace_after;
        let away = self.watches.get(&node).and_then(|watch| watch.fenced_for(now));
        let is_replaced = !patience.is_zero() && away.is_some_and(|away| away >= patience);
        let is_draining = metadata.node(node).is_some_and(|record| record.is_draining);
        is_draining || is_replaced || !sight(node).is_member
    }

    pub(super) fn care_for_plans(
        &mut self,
        now: Instant,
        metadata: &Metadata,
        sight: &dyn Fn(NodeId) -> Sight,
    ) -> Vec<Command> {
        if now < self.moves.looks_at {
            return Vec::new();
        }
        let Some(plan) = metadata.plan() else {
            self.moves.waits_since = None;
            return self.begin_plan(now, metadata, sight).into_iter().collect();
        };
        if !plan.is_complete && !plan.is_cancelled {
            return self.go_on_submitting(now, plan).into_iter().collect();
        }
        self.moves.draft = None;
        // Looking at a whole plan costs what it is long: once a beat is enough.
        self.moves.looks_at = now + self.settings.beat_interval;
        if !plan.is_cancelled {
            return self.execute(now, plan, metadata);
        }
        // What was asked for before may still be carried out.
        let is_asked = |subject: &Subject| matches!(subject, Subject::Partition(_));
        let commands = take_back(plan, metadata);
        let is_last = matches!(commands[..], [Command::FinishPlan { .. }]);
        if is_last && self.asked.keys().any(is_asked) { Vec::new() } else { commands }
    }

    /// Submits what it has planned, or plans for those that are given up.
    fn begin_plan(
        &mut self,
        now: Instant,
        metadata: &Metadata,
        sight: &dyn Fn(NodeId) -> Sight,
    ) -> Option<Command> {
        let is_given_up = |node: &NodeId| self.is_given_up(now, *node, metadata, sight);
        let given_up: BTreeSet<NodeId> = metadata.nodes().map(|(node, _)| node).filter(is_given_up).collect();
        let is_due = now >= self.moves.plans_at || given_up != self.moves.given_up;
        if self.moves.draft.is_none() && is_due {
            self.moves.plans_at = now + self.settings.beat_interval * PLANS_EVERY;
            self.moves.draft = relieve(&given_up, metadata).map(|changes| (false, changes));
            self.moves.given_up = given_up;
        }
        let (has_begun, changes) = self.moves.draft.as_ref()?;
        if *has_begun {
            // It has begun and is gone again: somebody cancelled it.
            self.moves.draft = None;
            return None;
        }
        let part = PlanPart::First { last: metadata.last_plan() };
        let is_last = changes.len() <= PLAN_PART;
        let changes = changes.iter().take(PLAN_PART).cloned().collect();
        Some(Command::SubmitPlan { part, changes, is_last })
    }

    /// Goes on with a plan that is not whole: with the next part if it is its own, that is, if all of it so far was planned
    /// here. Else whoever submits it is given time, as long as it grows.
    fn go_on_submitting(&mut self, now: Instant, plan: &ActivePlan) -> Option<Command> {
        let cancel = Command::CancelPlan { plan: plan.id };
        let so_far = plan.changes.len();
        if let Some((has_begun, changes)) = &mut self.moves.draft
            && changes.len() > so_far
            && changes.iter().take(so_far).eq(&plan.changes)
        {
            *has_begun = true;
            let from = u32::try_from(so_far).unwrap_or(u32::MAX);
            let part = PlanPart::Further { plan: plan.id, from };
            let is_last = changes.len() - so_far <= PLAN_PART;
            let changes = changes.iter().skip(so_far).take(PLAN_PART).cloned().collect();
            return Some(Command::SubmitPlan { part, changes, is_last });
        }
        self.moves.draft = None;
        let (id, length, since) = *self.moves.grows.get_or_insert((plan.id, so_far, now));
        if (id, length) != (plan.id, so_far) {
            self.moves.grows = Some((plan.id, so_far, now));
            return None;
        }
        (now.saturating_since(since) >= self.settings.plan_patience).then_some(cancel)
    }

    /// Starts what may be started, and ends the plan when nothing is left.
    fn execute(&mut self, now: Instant, plan: &ActivePlan, metadata: &Metadata) -> Vec<Command> {
        let is_as_it_was = |id: &PartitionId, epoch: &mut PartitionEpoch| {
            metadata.partition(*id).is_some_and(|partition| partition.epoch == *epoch)
        };
        self.moves.refused.retain(is_as_it_was);
        let is_refused = |id: PartitionId| self.moves.refused.contains_key(&id);
        let schedule = schedule(plan, metadata, self.settings.limits, is_refused);
        let mut commands = Vec::new();
        let mut is_waiting = schedule.is_paused || is_stuck(plan, metadata);
        for start in &schedule.start {
            let Some(partition) = metadata.partition(start.partition) else { continue };
            let is_away =
                |node: &&NodeId| !partition.replicas.contains(*node) && !is_active(metadata, **node);
            if start.target.iter().any(|node| is_away(&node)) {
                is_waiting = true;
                continue;
            }
            if commands.len() < AT_ONCE {
                commands.push(Command::StartReassignment {
                    partition: start.partition,
                    epoch: partition.epoch,
                    target: start.target.clone(),
                });
            }
        }
        let is_over = commands.is_empty() && schedule.under_way == 0 && schedule.waiting == 0 && !is_waiting;
        if is_over {
            return vec![Command::FinishPlan { plan: plan.id }];
        }
        if !is_waiting {
            self.moves.waits_since = None;
            return commands;
        }
        let since = *self.moves.waits_since.get_or_insert(now);
        if now.saturating_since(since) >= self.settings.plan_patience {
            // What has not come about now will not at once.
            self.moves.plans_at = now + self.settings.plan_patience;
            return vec![Command::CancelPlan { plan: plan.id }];
        }
        commands
    }
}

/// Whether a partition moves that cannot come to an end, since a node that it needs is away.
fn is_stuck(plan: &ActivePlan, metadata: &Metadata) -> bool {
    let mut moving = plan.changes.iter().filter_map(|change| metadata.partition(change.partition));
    moving.any(|partition| {
        let is_away = |node: &NodeId| !is_active(metadata, *node);
        let moves = partition.reassignment.as_deref();
        moves.is_some_and(|moves| partition.leader.is_none() || moves.target.iter().any(is_away))
    })
}

/// What has to move so that nodes that are given up hold nothing; `None` if there is no such node, or nowhere to go.
fn relieve(given_up: &BTreeSet<NodeId>, metadata: &Metadata) -> Option<Vec<Change>> {
    if !given_up.iter().any(|node| metadata.partitions_of(*node).next().is_some()) {
        return None;
    }
    let nodes = planning::nodes(metadata, |node| given_up.contains(&node));
    let mut plan = planning::rebalance(metadata, &nodes).ok()?;
    let relieves =
        |change: &Change| change.from.iter().any(|node| given_up.contains(node) && !change.to.contains(node));
    let can_move = |change: &Change| {
        let found = metadata.partition(change.partition).filter(|found| found.leader.is_some());
        found.is_some_and(|found| stays_in_sync(change, &found.replicas, &found.in_sync))
    };
    plan.changes.retain(can_move);
    plan.changes.iter().any(relieves).then_some(plan.changes)
}

fn is_active(metadata: &Metadata, node: NodeId) -> bool {
    metadata.node(node).is_some_and(|record| record.state == NodeState::Active)
}

/// Takes back what is under way of a plan that was cancelled; when nothing is, the plan ends.
fn take_back(plan: &ActivePlan, metadata: &Metadata) -> Vec<Command> {
    let under_way = plan.changes.iter().filter_map(|change| {
        let partition = metadata.partition(change.partition)?;
        let moves = partition.reassignment.as_deref()?;
        // What cannot be taken back without losing something goes on.
        let may = partition.keeps_everything(&moves.original);
        let (partition, epoch) = (change.partition, partition.epoch);
        may.then_some(Command::CancelReassignment { partition, epoch })
    });
    let commands: Vec<Command> = under_way.take(AT_ONCE).collect();
    if commands.is_empty() { vec![Command::FinishPlan { plan: plan.id }] } else { commands }
}

/// How far a plan is, and what may be started. What `is_refused` is left alone.
#[must_use]
pub fn schedule(
    plan: &ActivePlan,
    metadata: &Metadata,
    limits: steps::Limits,
    is_refused: impl Fn(PartitionId) -> bool,
) -> steps::Schedule {
    let looks = |id: PartitionId| {
        let partition = metadata.partition(id).filter(|_| !is_refused(id))?;
        let min_in_sync = partition.min_in_sync(metadata.topic(id.topic)?.spec.min_in_sync);
        Some((partition, partition.adding().collect::<Vec<NodeId>>(), min_in_sync))
    };
    let seen: BTreeMap<PartitionId, _> =
        plan.changes.iter().filter_map(|change| Some((change.partition, looks(change.partition)?))).collect();
    let now = |id: PartitionId| {
        let (partition, adding, min_in_sync) = seen.get(&id)?;
        Some(steps::Now {
            replicas: &partition.replicas,
            adding,
            is_reassigning: partition.reassignment.is_some(),
            in_sync: &partition.in_sync,
            min_in_sync: *min_in_sync,
            leader: partition.leader,
        })
    };
    steps::next(&plan.changes, now, limits)
}

/// Whether all replicas that stay are in sync: a move that keeps another one would wait for it for ever.
fn stays_in_sync(change: &Change, replicas: &[NodeId], in_sync: &[NodeId]) -> bool {
    replicas.iter().all(|node| !change.to.contains(node) || in_sync.contains(node))
}
