//! Orders of events that a reader found, and that broke the controller before.

use super::*;
use crate::partition::metadata::PlanPart;
use crate::partition::planner::Change;
use crate::partition::retention::Retention;

fn drain(world: &mut World, node: u64) {
    let seen = world.metadata.node(id(node)).unwrap().changed;
    world.execute(Command::SetDraining { node: id(node), seen, is_draining: true }).unwrap();
}

/// Each partition's last replica goes somewhere else.
fn moves(world: &World) -> Vec<Change> {
    let change = |(partition, record): (PartitionId, Partition)| {
        let other = (1..=6).map(id).find(|node| !record.replicas.contains(node)).unwrap();
        let to = vec![record.replicas[0], record.replicas[1], other];
        Change { partition, from: record.replicas, to }
    };
    world.partitions().into_iter().map(change).collect()
}

fn submit(world: &mut World, changes: &[Change]) -> Outcome {
    let part = PlanPart::First { last: world.metadata.last_plan() };
    world.execute(Command::SubmitPlan { part, changes: changes.to_vec(), is_last: false }).unwrap()
}

#[test]
fn who_submits_a_plan_in_parts_is_given_time_and_then_the_plan_is_cancelled() {
    let mut world = World::new(6, 40);
    let changes = moves(&world);
    let Outcome::Planned(plan) = submit(&mut world, &changes[..20]) else { panic!() };
    world.pass(SECOND * 30);
    let part = PlanPart::Further { plan, from: 20 };
    world.execute(Command::SubmitPlan { part, changes: changes[20..].to_vec(), is_last: true }).unwrap();
    world.pass(SECOND * 120);
    assert_eq!(world.metadata.plan(), None);
    assert_eq!(world.count(|command| matches!(command, Command::StartReassignment { .. })), 40);
    // Whoever does not go on has lost its chance, and cannot complete what is cancelled.
    let changes = moves(&world);
    let Outcome::Planned(plan) = submit(&mut world, &changes[..20]) else { panic!() };
    world.pass(SECOND * 59);
    assert!(world.metadata.plan().is_some_and(|plan| !plan.is_cancelled));
    world.pass(SECOND * 3);
    assert_eq!(world.metadata.plan(), None);
    let part = PlanPart::Further { plan, from: 20 };
    let late = world.execute(Command::SubmitPlan { part, changes: changes[20..].to_vec(), is_last: true });
    assert_eq!(late, Err(Refusal::PlanUnknown(plan)));
}

#[test]
fn nothing_of_its_own_is_appended_to_the_plan_of_somebody_else() {
    let mut world = World::new(6, 40);
    let changes = moves(&world)[..3].to_vec();
    drain(&mut world, 6);
    world.now = world.now + SECOND;
    world.hear_all();
    let own = world.review();
    assert!(own.iter().any(|command| matches!(command, Command::SubmitPlan { .. })));
    submit(&mut world, &changes);
    own.into_iter().for_each(|command| drop(world.execute(command)));
    world.pass(SECOND * 10);
    assert_eq!(world.metadata.plan().map(|plan| plan.changes.len()), Some(3));
    world.pass(SECOND * 120);
    assert_eq!((world.holds(6), world.metadata.plan()), (0, None), "then its own is executed");
}

#[test]
fn one_word_is_not_to_speak_steadily() {
    let mut world = World::new(3, 3);
    (world.process(3).hint, world.process(3).speaks) = (None, false);
    world.pass(SECOND * 32);
    assert!(!world.active().contains(&3));
    let beat = world.beat(3, 0, 1);
    world.controller.hear(world.now, beat, &world.metadata);
    world.pass(SECOND * 10);
    assert!(!world.active().contains(&3));
}

#[test]
fn who_stood_still_fences_nobody_for_not_having_heard_them_meanwhile() {
    for nodes in [1, 3, 20] {
        let mut world = World::new(nodes, 0);
        world.pass(SECOND * 5);
        world.now = world.now + SECOND * 11;
        assert_eq!(world.review(), []);
        world.pass(SECOND * 20);
        assert_eq!(world.count(|command| matches!(command, Command::FenceNode { .. })), 0);
    }
}

#[test]
fn a_partition_that_nothing_can_help_keeps_no_other_from_moving() {
    for replace_after in [0, 900] {
        let mut world = World::new(4, 0);
        let replace_after = SECOND * replace_after;
        world.controller = Controller::start(Settings { replace_after, ..Settings::default() }, world.now);
        for (name, replicas, min_in_sync, count) in [("all", 4, 3, 1), ("easy", 2, 1, 30)] {
            let assignments = planning::assign(&world.metadata, name, (0, count), replicas).unwrap();
            let (name, recovery) = (name.to_owned(), Recovery::Manual);
            let spec = TopicSpec { name, replicas, min_in_sync, recovery, retention: Retention::default() };
            world.execute(Command::CreateTopic { spec, assignments }).unwrap();
        }
        world.pass(SECOND * 20);
        world.die(4);
        world.pass(SECOND * 1000);
        drain(&mut world, 3);
        world.pass(SECOND * 600);
        let easy: usize = world
            .partitions()
            .iter()
            .filter(|(_, partition)| partition.replicas.len() == 2 && partition.replicas.contains(&id(3)))
            .filter(|(_, partition)| !partition.replicas.contains(&id(4)))
            .count();
        assert_eq!(easy, 0, "what could leave node 3 has left it");
        assert_eq!(world.count(|command| matches!(command, Command::CancelPlan { .. })), 0);
    }
}

#[test]
fn nothing_is_copied_in_vain_while_a_replica_that_stays_is_away() {
    let mut world = World::new(6, 0);
    let replace_after = Duration::ZERO;
    world.controller = Controller::start(Settings { replace_after, ..Settings::default() }, world.now);
    let spec = TopicSpec {
        name: "t".into(),
        replicas: 3,
        min_in_sync: 2,
        recovery: Recovery::Manual,
        retention: Retention::default(),
    };
    let assignments = (0..20).map(|_| vec![id(1), id(2), id(3)]).collect();
    world.execute(Command::CreateTopic { spec, assignments }).unwrap();
    world.pass(SECOND * 10);
    world.die(2);
    world.pass(SECOND * 10);
    drain(&mut world, 3);
    world.pass(SECOND * 3600);
    let count = |world: &World| world.count(|command| matches!(command, Command::CancelReassignment { .. }));
    assert_eq!(count(&world), 0);
    world.restart(2);
    world.pass(SECOND * 300);
    assert_eq!((world.holds(3), world.metadata.plan()), (0, None));
}

#[test]
fn what_an_operator_has_fenced_stays_so_until_it_is_started_again() {
    let mut world = World::new(3, 3);
    let record = world.metadata.node(id(3)).unwrap();
    let (epoch, seen, reason) = (record.epoch, record.changed, FenceReason::Operator);
    world.execute(Command::FenceNode { node: id(3), epoch, seen, reason }).unwrap();
    world.pass(SECOND * 60);
    assert_eq!((world.verdict(3), world.active().contains(&3)), (Verdict::Barred, false));
    world.restart(3);
    world.pass(SECOND * 6);
    assert!(world.active().contains(&3));
}

#[test]
fn a_late_word_of_another_disk_is_nobodys() {
    let mut world = World::new(3, 3);
    world.die(3);
    world.pass(SECOND * 6);
    let late = world.beat(3, 77, 1);
    world.controller.hear(world.now, late, &world.metadata);
    let sight = |node| Sight { is_member: true, token: Some(Token::new(0)), hint: world.sight()(node).hint };
    let explained = world.controller.explain(world.now, id(3), &world.metadata, &sight);
    assert_eq!(explained.verdict, Verdict::Away);
}

#[test]
fn settings_that_contradict_themselves_are_refused() {
    let settings = Settings { fence_delay: SECOND * 60, ..Settings::default() };
    assert!(matches!(settings.validate(), Err(SettingsError::TooStrict { .. })));
    let settings = Settings { fence_delay: SECOND, ..Settings::default() };
    assert!(matches!(settings.validate(), Err(SettingsError::TooHasty { .. })));
    assert_eq!(Settings::default().validate(), Ok(()));
}
