//! Plans: who begins them, how they are executed, and how they end.

use super::*;
use crate::partition::metadata::PlanPart;
use crate::partition::planner::Change;
use crate::partition::retention::Retention;

fn submit(world: &mut World, changes: Vec<Change>) {
    let part = PlanPart::First { last: world.metadata.last_plan() };
    world.execute(Command::SubmitPlan { part, changes, is_last: true }).unwrap();
}

fn rebalance(world: &World) -> Vec<Change> {
    let nodes = planning::nodes(&world.metadata, |_| false);
    planning::rebalance(&world.metadata, &nodes).unwrap().changes
}

fn drain(world: &mut World, number: u64, is_draining: bool) {
    let (node, seen) = (id(number), world.metadata.node(id(number)).unwrap().changed);
    world.execute(Command::SetDraining { node, seen, is_draining }).unwrap();
}

#[test]
fn a_node_that_drains_is_relieved_of_everything() {
    let mut world = World::new(5, 20);
    assert!(world.holds(5) > 0);
    drain(&mut world, 5, true);
    world.pass(SECOND * 60);
    assert_eq!((world.holds(5), world.metadata.plan().is_none()), (0, true));
    let replicas: usize = (1..=4).map(|node| world.holds(node)).sum();
    assert_eq!(replicas, 60, "no partition has fewer replicas than before");
    assert!((1..=4).all(|node| world.holds(node) == 15));
}

#[test]
fn where_there_is_nowhere_to_go_nothing_moves() {
    let mut world = World::new(3, 4);
    drain(&mut world, 3, true);
    world.pass(SECOND * 60);
    assert_eq!((world.holds(3), world.metadata.last_plan()), (4, None));
}

#[test]
fn the_replicas_of_who_stays_away_go_elsewhere() {
    let mut world = World::new(5, 20);
    world.die(5);
    world.pass(Duration::from_secs(14 * 60));
    assert!(world.holds(5) > 0, "it is expected back");
    world.pass(Duration::from_secs(3 * 60));
    assert_eq!(world.holds(5), 0);
    assert!(world.partitions().iter().all(|(_, partition)| partition.in_sync.len() == 3));
}

/// Scenario 33, smaller: one node more than 40.
#[test]
fn a_node_that_comes_gets_its_share_and_no_partition_moves_twice() {
    let mut world = World::new(40, 400);
    world.arrive(41);
    world.pass(SECOND * 2);
    let changes = rebalance(&world);
    assert!((29..=30).contains(&changes.iter().filter(|change| change.to.contains(&id(41))).count()));
    submit(&mut world, changes);
    world.copies = false;
    let limits = Settings::default().limits;
    for _ in 0..300 {
        world.pass(SECOND);
        let adding = world.partitions().into_iter().filter(|(_, partition)| partition.adding().count() > 0);
        let copied = u32::try_from(adding.count()).unwrap();
        assert!(copied <= limits.per_node, "{copied} are copied to one node at a time");
        world.copy();
    }
    assert_eq!(world.metadata.plan(), None, "the plan is done");
    assert!((29..=30).contains(&world.holds(41)));
    let start = |(_, command): &(Instant, Command)| {
        let Command::StartReassignment { partition, .. } = command else { return None };
        Some(*partition)
    };
    let mut moved: Vec<PartitionId> = world.log.iter().filter_map(start).collect();
    let all = moved.len();
    moved.sort();
    moved.dedup();
    assert_eq!(moved.len(), all, "no partition moves twice");
    assert_eq!(rebalance(&world), [], "and nothing is left to be moved");
}

/// Scenario 34.
#[test]
fn a_plan_that_is_cancelled_is_taken_back() {
    let mut world = World::new(5, 20);
    let before = sets(&world);
    world.copies = false;
    drain(&mut world, 5, true);
    world.pass(SECOND * 3);
    let is_moving =
        |world: &World| world.partitions().iter().any(|(_, partition)| partition.reassignment.is_some());
    assert!(is_moving(&world));
    drain(&mut world, 5, false);
    let plan = world.metadata.plan().unwrap().id;
    world.execute(Command::CancelPlan { plan }).unwrap();
    world.pass(SECOND * 10);
    assert_eq!((is_moving(&world), world.metadata.plan()), (false, None));
    assert_eq!(before, sets(&world));
}

fn sets(world: &World) -> Vec<BTreeSet<NodeId>> {
    let replicas = |(_, partition): (PartitionId, Partition)| partition.replicas.into_iter().collect();
    world.partitions().into_iter().map(replicas).collect()
}

/// Scenario 19.
#[test]
fn a_plan_that_waits_for_a_node_that_is_away_is_cancelled_and_nothing_is_lost() {
    let mut world = World::new(5, 20);
    world.copies = false;
    drain(&mut world, 5, true);
    world.pass(SECOND * 3);
    let target = world.partitions().iter().find_map(|(_, partition)| partition.adding().next()).unwrap();
    let plan = world.metadata.plan().unwrap().id;
    world.die(target.value());
    world.pass(SECOND * 60);
    assert_eq!(world.metadata.plan().map(|plan| plan.id), Some(plan), "it may come back");
    world.pass(SECOND * 20);
    assert_ne!(world.metadata.plan().map(|plan| plan.id), Some(plan));
    assert!(world.partitions().iter().all(|(_, partition)| partition.leader.is_some()));
}

/// Scenario 37.
#[test]
fn what_somebody_else_changed_meanwhile_is_left_alone_and_the_plan_ends() {
    let mut world = World::new(5, 6);
    let stay: Vec<NodeId> = world.partitions()[0].1.replicas.clone();
    let gone = stay[0];
    let to: Vec<NodeId> = (1..=5).map(id).filter(|node| *node != gone).take(3).collect();
    let changes: Vec<Change> = world
        .partitions()
        .into_iter()
        .take(1)
        .map(|(partition, _)| Change { partition, from: vec![id(77), id(78), id(79)], to: to.clone() })
        .collect();
    submit(&mut world, changes);
    world.pass(SECOND * 5);
    assert_eq!(world.metadata.plan(), None);
    assert_eq!(world.partitions()[0].1.replicas, stay);
}

#[test]
fn a_change_that_is_refused_is_not_tried_for_ever() {
    let mut world = World::new(5, 6);
    let (partition, record) = world.partitions()[0].clone();
    // Fewer replicas than have to be in sync.
    let to = vec![record.replicas[0]];
    submit(&mut world, vec![Change { partition, from: record.replicas.clone(), to }]);
    world.pass(SECOND * 10);
    assert_eq!(world.metadata.plan(), None);
    assert_eq!(world.count(|command| matches!(command, Command::StartReassignment { .. })), 1);
}

#[test]
fn a_large_plan_goes_in_parts_and_what_a_lost_leader_left_unfinished_is_cancelled() {
    let mut world = World::new(4, 5000);
    drain(&mut world, 4, true);
    let mut parts = 0;
    while !world.metadata.plan().is_some_and(|plan| plan.is_complete) {
        parts += 1;
        assert!(parts < 10, "it is not whole after ten reviews");
        world.now = world.now + TICK;
        world.hear_all();
        for command in world.review() {
            world.execute(command).unwrap();
            if parts == 1 {
                // Whoever had planned it leads no longer.
                world.controller = Controller::start(Settings::default(), world.now);
            }
        }
    }
    let begun =
        world.count(|command| matches!(command, Command::SubmitPlan { part: PlanPart::First { .. }, .. }));
    assert_eq!(begun, 1);
}

/// Seed 2744 of the pure world.
#[test]
fn a_partition_that_has_lost_everything_does_not_keep_others_from_moving() {
    let mut world = World::new(6, 20);
    let spec = TopicSpec {
        name: "lost".to_owned(),
        replicas: 3,
        min_in_sync: 2,
        recovery: Recovery::Manual,
        retention: Retention::default(),
    };
    world.execute(Command::CreateTopic { spec, assignments: vec![vec![id(1), id(2), id(3)]] }).unwrap();
    for node in 1..=3 {
        let record = world.metadata.node(id(node)).unwrap();
        let (epoch, seen, reason) = (record.epoch, record.changed, FenceReason::Disk);
        world.execute(Command::FenceNode { node: id(node), epoch, seen, reason }).unwrap();
        world.restart(node);
    }
    world.pass(SECOND * 10);
    assert_eq!(world.active().len(), 6);
    assert!(world.metadata.leaderless().next().is_some(), "nobody who has everything is left");
    drain(&mut world, 6, true);
    world.pass(SECOND * 60);
    assert_eq!((world.holds(6), world.metadata.plan()), (0, None));
}

/// Seed 2744 of the pure world, too.
#[test]
fn a_partition_that_nobody_can_copy_does_not_take_the_place_of_others() {
    let mut world = World::new(6, 20);
    let limits = steps::Limits { per_node: 1, total: 1 };
    world.controller = Controller::start(Settings { limits, ..Settings::default() }, world.now);
    for node in 1..=3 {
        let record = world.metadata.node(id(node)).unwrap();
        let (epoch, seen, reason) = (record.epoch, record.changed, FenceReason::Disk);
        world.execute(Command::FenceNode { node: id(node), epoch, seen, reason }).unwrap();
        world.restart(node);
    }
    world.pass(SECOND * 10);
    let lost: Vec<PartitionId> = world.metadata.leaderless().collect();
    assert!(!lost.is_empty());
    let mut changes = Vec::new();
    for (partition, record) in world.partitions() {
        let other = (1..=6).map(id).find(|node| !record.replicas.contains(node)).unwrap();
        let to = vec![record.replicas[0], record.replicas[1], other];
        changes.push(Change { partition, from: record.replicas, to });
    }
    submit(&mut world, changes);
    world.pass(SECOND * 60);
    assert_eq!(world.metadata.plan(), None, "what could be moved was");
}
