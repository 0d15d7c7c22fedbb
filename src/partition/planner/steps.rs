//! In which order a plan is executed, and how much of it at a time.
//!
//! # The problem
//!
//! A plan may move thousands of replicas. All at once they would fill the network and take turns at starving each
//! other; and while a partition of the plan has no copy to spare, nothing else should burden its nodes. Meanwhile the cluster changes:
//! nodes go, topics are deleted, operators intervene.
//!
//! # The idea
//!
//! Nothing is remembered but the plan. What to start next is computed each time anew, from the plan and from what each
//! partition looks like *now*: so it does not matter who executes the plan, how often that changes, or which of its
//! commands got lost. Of each partition one replica is changed at a time; when it is in sync, the partition looks
//! different, and the next one follows. Replicas that are out of sync and have to go are replaced all at once: a step
//! that kept one of them would wait for it for ever.
//!
//! ```text
//!   plan: [1,2,3] → [4,5,3]     [1,2,3] ──start [4,2,3]──► [4,2,3] ──start [4,5,3]──► [4,5,3] done
//!   the same, 1 and 2 are gone  [1,2,3] ──start [4,5,3]──► [4,5,3] done
//! ```
//!
//! A partition that looks like neither end of its change nor anything on the way was changed by somebody else. It is
//! left alone, and reported.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Change;
use crate::id::{NodeId, PartitionId};

/// How much of a plan may be under way at a time.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Limits {
    /// Replicas that are copied to one node, and such that are copied from one; from 1.
    pub per_node: u32,
    /// Replicas that are copied in all; from 1.
    pub total: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { per_node: 2, total: 64 }
    }
}

/// What a partition looks like.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Now<'a> {
    /// Its replicas, those that are being added included.
    pub replicas: &'a [NodeId],
    /// Those of them that are being added; not empty while it is being reassigned.
    pub adding: &'a [NodeId],
    /// Whether a reassignment is under way.
    pub is_reassigning: bool,
    /// Those in sync.
    pub in_sync: &'a [NodeId],
    /// How many must be in sync for writes to be accepted.
    pub min_in_sync: usize,
    /// Its leader, from whom a new replica is copied.
    pub leader: Option<NodeId>,
}

impl Now<'_> {
    /// Whether one more loss would stop its writes, and it should have more replicas than it has.
    fn is_strained(&self) -> bool {
        let wanted = self.replicas.len() - self.adding.len();
        self.in_sync.len() < wanted && self.in_sync.len() <= self.min_in_sync
    }
}

/// A change to be started.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Start {
    /// Of which partition.
    pub partition: PartitionId,
    /// What its replicas shall be: one added, one removed, or reordered.
    pub target: Vec<NodeId>,
}

/// What is to be done next for a plan.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Schedule {
    /// To be started now.
    pub start: Vec<Start>,
    /// Changes that are under way.
    pub under_way: usize,
    /// Changes that wait.
    pub waiting: usize,
    /// Changes that are done.
    pub done: usize,
    /// Partitions that are left alone: changed by somebody else, deleted, without a leader to copy from, or with a
    /// replica that stays and is out of sync.
    pub stale: Vec<PartitionId>,
    /// Whether changes wait because a partition has no copy to spare.
    pub is_paused: bool,
}

impl Schedule {
    /// Whether nothing is left to be done.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.start.is_empty() && self.under_way == 0 && self.waiting == 0
    }
}

/// How far a change is.
enum Stand {
    Done,
    UnderWay,
    Stale,
    Next(Vec<NodeId>),
}

/// What is to be started now. `now` tells what a partition looks like, if it is there. As long as one that moves, or can,
/// has no copy to spare, only changes of such partitions go on. One that the plan cannot help keeps nobody waiting.
#[must_use]
pub fn next<'a>(
    changes: &[Change],
    now: impl Fn(PartitionId) -> Option<Now<'a>>,
    limits: Limits,
) -> Schedule {
    let mut schedule = Schedule::default();
    let mut loads = Loads { limits, total: 0, to: BTreeMap::new(), from: BTreeMap::new() };
    let mut ready = Vec::new();
    let mut is_strained = false;
    for change in changes {
        let Some(looks) = now(change.partition) else {
            schedule.stale.push(change.partition);
            continue;
        };
        match stand(change, &looks) {
            Stand::Done => schedule.done += 1,
            Stand::Stale => schedule.stale.push(change.partition),
            Stand::UnderWay => {
                schedule.under_way += 1;
                is_strained |= looks.leader.is_some() && looks.is_strained();
                looks.adding.iter().for_each(|node| loads.add(*node, looks.leader));
            }
            // It would take a place that others could have, and wait for ever.
            Stand::Next(target) if !can_end(&looks, &target) => schedule.stale.push(change.partition),
            Stand::Next(target) => {
                is_strained |= looks.is_strained();
                ready.push((!looks.is_strained(), change.partition, looks, target));
            }
        }
    }
    ready.sort_by_key(|(is_at_ease, partition, _, _)| (*is_at_ease, *partition));
    for (is_at_ease, partition, looks, target) in ready {
        let copied: Vec<NodeId> =
            target.iter().copied().filter(|node| !looks.replicas.contains(node)).collect();
        let is_paused = is_strained && is_at_ease && !copied.is_empty();
        schedule.is_paused |= is_paused;
        if is_paused || copied.iter().any(|node| !loads.has_room(*node, looks.leader)) {
            schedule.waiting += 1;
            continue;
        }
        copied.iter().for_each(|node| loads.add(*node, looks.leader));
        schedule.start.push(Start { partition, target });
    }
    schedule
}

/// Whether a move can come to its end as things are: it has a leader to copy from, and who stays is in sync.
fn can_end(now: &Now<'_>, target: &[NodeId]) -> bool {
    let is_move =
        target.len() != now.replicas.len() || target.iter().any(|node| !now.replicas.contains(node));
    let stays = |node: &&NodeId| now.replicas.contains(node);
    now.leader.is_some() && (!is_move || target.iter().filter(stays).all(|node| now.in_sync.contains(node)))
}

fn stand(change: &Change, now: &Now<'_>) -> Stand {
    let is_known = |node: &NodeId| change.from.contains(node) || change.to.contains(node);
    if !now.replicas.iter().all(is_known) {
        return Stand::Stale;
    }
    if now.is_reassigning {
        return Stand::UnderWay;
    }
    if now.replicas == change.to {
        return Stand::Done;
    }
    let mut target = now.replicas.to_vec();
    let is_gone = |node: &NodeId| !change.to.contains(node) && !now.in_sync.contains(node);
    let at_once = now.replicas.iter().filter(|node| is_gone(node)).count().max(1);
    for _ in 0..at_once {
        let missing = change.to.iter().find(|node| !target.contains(node));
        let surplus = target.iter().position(is_gone);
        let surplus = surplus.or_else(|| target.iter().position(|node| !change.to.contains(node)));
        match (missing, surplus) {
            // One for one, as long as there are both; the number of replicas changes last.
            (Some(add), Some(place)) => target[place] = *add,
            (Some(add), None) => target.push(*add),
            (None, Some(_)) | (None, None) => target.clone_from(&change.to),
        }
    }
    // The last replica to come brings the order with it.
    if target.len() == change.to.len() && target.iter().all(|node| change.to.contains(node)) {
        target.clone_from(&change.to);
    }
    Stand::Next(target)
}

/// What is being copied.
struct Loads {
    limits: Limits,
    total: u32,
    to: BTreeMap<NodeId, u32>,
    from: BTreeMap<NodeId, u32>,
}

impl Loads {
    fn has_room(&self, to: NodeId, from: Option<NodeId>) -> bool {
        let below = |count: Option<&u32>| count.copied().unwrap_or(0) < self.limits.per_node;
        let source = from.is_none_or(|from| below(self.from.get(&from)));
        self.total < self.limits.total && below(self.to.get(&to)) && source
    }

    fn add(&mut self, to: NodeId, from: Option<NodeId>) {
        self.total += 1;
        *self.to.entry(to).or_insert(0) += 1;
        if let Some(from) = from {
            *self.from.entry(from).or_insert(0) += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TopicId;

    fn ids(numbers: &[u64]) -> Vec<NodeId> {
        numbers.iter().map(|number| NodeId::new(*number).unwrap()).collect()
    }

    fn partition(number: u32) -> PartitionId {
        PartitionId { topic: TopicId::new(9), number }
    }

    fn change(number: u32, from: &[u64], to: &[u64]) -> Change {
        Change { partition: partition(number), from: ids(from), to: ids(to) }
    }

    fn looks(replicas: &[NodeId]) -> Now<'_> {
        Now {
            replicas,
            adding: &[],
            is_reassigning: false,
            in_sync: replicas,
            min_in_sync: 2,
            leader: replicas.first().copied(),
        }
    }

    fn targets(schedule: &Schedule) -> Vec<(u32, Vec<u64>)> {
        let values = |start: &Start| start.target.iter().map(|node| node.value()).collect();
        schedule.start.iter().map(|start| (start.partition.number, values(start))).collect()
    }

    /// Executes a plan: what is started is done at once. Returns each step's targets.
    fn execute(changes: &[Change], state: &mut [Vec<NodeId>], limits: Limits) -> Vec<Vec<(u32, Vec<u64>)>> {
        let mut steps = Vec::new();
        loop {
            let of = |partition: PartitionId| state.get(usize::try_from(partition.number).unwrap());
            let schedule = next(changes, |partition| of(partition).map(|r| looks(r)), limits);
            if schedule.start.is_empty() {
                assert!(schedule.is_finished(), "{schedule:?}");
                return steps;
            }
            steps.push(targets(&schedule));
            for start in schedule.start {
                state[usize::try_from(start.partition.number).unwrap()] = start.target;
            }
        }
    }

    #[test]
    fn one_replica_of_a_partition_at_a_time() {
        let changes = [change(0, &[1, 2, 3], &[4, 5, 3])];
        let mut state = [ids(&[1, 2, 3])];
        let steps = execute(&changes, &mut state, Limits::default());
        assert_eq!(steps, [[(0, vec![4, 2, 3])], [(0, vec![4, 5, 3])]]);
    }

    #[test]
    fn replicas_that_are_gone_are_replaced_all_at_once() {
        let changes = [change(0, &[1, 2, 3], &[4, 5, 3]), change(1, &[1, 2, 3], &[4, 5, 3])];
        let state = ids(&[1, 2, 3]);
        let now = |partition: PartitionId| {
            let in_sync = if partition.number == 0 { &state[2..] } else { &state[1..] };
            Some(Now { in_sync, ..looks(&state) })
        };
        let schedule = next(&changes, now, Limits { per_node: 9, total: 9 });
        assert_eq!(targets(&schedule), [(0, vec![4, 5, 3]), (1, vec![4, 2, 3])]);
    }

    #[test]
    fn replicas_are_added_before_the_number_falls_and_order_costs_nothing() {
        let changes =
            [change(0, &[1, 2], &[1, 2, 3]), change(1, &[1, 2, 3], &[3]), change(2, &[1, 2], &[2, 1])];
        let mut state = [ids(&[1, 2]), ids(&[1, 2, 3]), ids(&[1, 2])];
        let steps = execute(&changes, &mut state, Limits { per_node: 1, total: 1 });
        assert_eq!(steps, [[(0, vec![1, 2, 3]), (1, vec![3]), (2, vec![2, 1])]]);
    }

    #[test]
    fn no_node_copies_more_than_its_limit() {
        // All are led by node 1, and all go to node 9 or 8.
        let changes: Vec<Change> =
            (0..6).map(|number| change(number, &[1, 2], &[1, if number < 3 { 9 } else { 8 }])).collect();
        let state = ids(&[1, 2]);
        let start = |limits| next(&changes, |_| Some(looks(&state)), limits).start.len();
        assert_eq!(start(Limits { per_node: 2, total: 9 }), 2, "node 1 is the source of all");
        assert_eq!(start(Limits { per_node: 9, total: 5 }), 5);
        // What is under way counts.
        let adding = ids(&[1, 2, 9]);
        let now = |partition: PartitionId| {
            Some(if partition.number == 0 {
                Now { adding: &adding[2..], is_reassigning: true, ..looks(&adding) }
            } else {
                looks(&state)
            })
        };
        let schedule = next(&changes, now, Limits { per_node: 2, total: 9 });
        assert_eq!((schedule.start.len(), schedule.under_way, schedule.waiting), (1, 1, 4));
    }

    #[test]
    fn while_a_partition_has_no_copy_to_spare_only_such_go_on() {
        let changes = [change(0, &[1, 2, 3], &[1, 2, 4]), change(1, &[1, 2, 3], &[1, 2, 4])];
        let state = ids(&[1, 2, 3]);
        let now = |partition: PartitionId| {
            let in_sync = if partition.number == 1 { &state[..2] } else { &state[..] };
            Some(Now { in_sync, ..looks(&state) })
        };
        let schedule = next(&changes, now, Limits::default());
        assert_eq!(targets(&schedule), [(1, vec![1, 2, 4])]);
        assert!(schedule.is_paused);
        // While it moves, too: node 3 is gone, and node 4 is being given its replica.
        let moving = ids(&[1, 2, 4, 3]);
        let now = |partition: PartitionId| {
            let (is_reassigning, in_sync) = (true, &moving[..2]);
            Some(if partition.number == 1 {
                Now { adding: &moving[2..3], is_reassigning, in_sync, ..looks(&moving) }
            } else {
                looks(&state)
            })
        };
        let schedule = next(&changes, now, Limits::default());
        assert_eq!((schedule.start.len(), schedule.waiting, schedule.is_paused), (0, 1, true));
        // A replica that is only being added is missed by nobody.
        let added = ids(&[1, 2, 3, 4]);
        assert!(
            !Now { adding: &added[3..], in_sync: &added[..3], min_in_sync: 3, ..looks(&added) }.is_strained()
        );
        // A single replica is never strained: there is none to wait for.
        let single = ids(&[1]);
        assert!(!Now { min_in_sync: 1, ..looks(&single) }.is_strained());
    }

    #[test]
    fn who_has_no_leader_takes_no_place_of_others() {
        let changes = [change(0, &[1, 2], &[1, 3]), change(1, &[1, 2], &[1, 3])];
        let state = ids(&[1, 2]);
        let leader = |partition: PartitionId| (partition.number == 1).then(|| state[0]);
        let now = |partition: PartitionId| Some(Now { leader: leader(partition), ..looks(&state) });
        let schedule = next(&changes, now, Limits { per_node: 1, total: 1 });
        assert_eq!((targets(&schedule), schedule.stale), (vec![(1, vec![1, 3])], vec![partition(0)]));
    }

    #[test]
    fn what_somebody_else_changed_is_left_alone() {
        let changes = [change(0, &[1, 2], &[1, 3]), change(1, &[1, 2], &[1, 3])];
        let other = ids(&[1, 7]);
        let now = |partition: PartitionId| (partition.number == 0).then(|| looks(&other));
        let schedule = next(&changes, now, Limits::default());
        assert_eq!(schedule.stale, [partition(0), partition(1)]);
        assert!(schedule.is_finished());
    }
}
