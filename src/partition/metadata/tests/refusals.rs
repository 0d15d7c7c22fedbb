//! A table of commands that make no sense, each with its answer. None of them changes anything: [`World::run`] compares.

use super::*;

fn alter(world: &World, wrong: impl Fn(&mut Alteration)) -> Command {
    let mut alteration = world.alteration(&[1, 2]);
    wrong(&mut alteration);
    Command::AlterPartition(alteration)
}

fn reassign(world: &World, epoch: u64, target: &[u64]) -> Command {
    Command::StartReassignment {
        partition: world.place(),
        epoch: PartitionEpoch::new(epoch),
        target: ids(target),
    }
}

fn refuse<const ROWS: usize>(world: &mut World, table: [(Command, Refusal); ROWS]) {
    for (command, refusal) in table {
        assert_eq!(world.run(command.clone()), Err(refusal), "{command:?}");
    }
}

#[test]
fn every_refusal_about_nodes_says_why() {
    let mut world = World::new(4);
    world.fence(4).unwrap();
    let (node, epoch) = (id(9), NodeEpoch::new(1));
    let stale = Refusal::NodeEpochStale { node: id(1), current: Some(world.epoch(1)) };
    let unregistered = Refusal::NodeEpochStale { node, current: None };
    let table = [
        (
            Command::RegisterNode(Registration { features: 0, ..registration(9, 1) }),
            Refusal::NodeLacksFeatures { node, features: 0, level: 1 },
        ),
        (Command::RegisterNode(Registration { weight: 0, ..registration(9, 1) }), Refusal::Weightless),
        (Command::RegisterNode(Registration { known: Some(epoch), ..registration(9, 1) }), unregistered),
        (Command::RegisterNode(registration(1, 2)), stale.clone()),
        (
            Command::FenceNode { node, epoch, seen: LogIndex::new(0), reason: FenceReason::Left },
            Refusal::NodeUnknown(node),
        ),
        (
            Command::UnfenceNode {
                node: id(4),
                epoch: world.epoch(4),
                seen: world.seen(4),
                applied: LogIndex::new(1),
            },
            Refusal::NodeIsBehind { node: id(4), applied: LogIndex::new(1), registered: world.epoch(4) },
        ),
        (
            Command::UnfenceNode {
                node: id(1),
                epoch: NodeEpoch::new(77),
                seen: LogIndex::new(0),
                applied: LogIndex::new(99),
            },
            stale,
        ),
        (Command::BeginShutdown { node, epoch, seen: LogIndex::new(0) }, Refusal::NodeUnknown(node)),
        (
            Command::SetDraining { node, seen: LogIndex::new(0), is_draining: true },
            Refusal::NodeUnknown(node),
        ),
        (
            Command::SetShare { node, seen: LogIndex::new(0), weight: 1, rack: None },
            Refusal::NodeUnknown(node),
        ),
        (
            Command::SetShare { node: id(1), seen: LogIndex::new(0), weight: 0, rack: None },
            Refusal::Weightless,
        ),
        (Command::DeregisterNode { node, epoch }, Refusal::NodeUnknown(node)),
    ];
    refuse(&mut world, table);
}

#[test]
fn every_refusal_about_topics_says_why() {
    let mut world = World::new(4);
    world.fence(4).unwrap();
    let place = world.place();
    let node = id(9);
    let configure = |min| Command::ConfigureTopic {
        topic: place.topic,
        version: 1,
        min_in_sync: Some(min),
        recovery: None,
        retention: None,
    };
    let name = |name: &str| (create(name, 1, 1, &[&[1]]), Refusal::TopicName(name.to_owned()));
    let table = [
        name(""),
        name("."),
        name(".."),
        name("a b"),
        name("t\u{fc}r"),
        name(&"x".repeat(250)),
        (create("t", 3, 1, &[&[1, 2, 3]]), Refusal::TopicExists(place.topic)),
        (create("u", 1, 0, &[&[1]]), Refusal::MinInSync { min_in_sync: 0, replicas: 1 }),
        (create("u", 1, 2, &[&[1]]), Refusal::MinInSync { min_in_sync: 2, replicas: 1 }),
        (create("u", 1, 1, &[]), Refusal::NoPartitions),
        (create("u", 2, 1, &[&[1, 2], &[1, 1]]), Refusal::Assignment { number: 1, replicas: 2 }),
        (create("u", 2, 1, &[&[1]]), Refusal::Assignment { number: 0, replicas: 2 }),
        (create("u", 1, 1, &[&[9]]), Refusal::NodeUnknown(node)),
        (create("u", 1, 1, &[&[4]]), Refusal::NodeIsNotActive(id(4))),
        (
            Command::AddPartitions { topic: TopicId::new(99), from: 0, assignments: vec![] },
            Refusal::TopicUnknown(TopicId::new(99)),
        ),
        (configure(0), Refusal::MinInSync { min_in_sync: 0, replicas: 3 }),
        (configure(4), Refusal::MinInSync { min_in_sync: 4, replicas: 3 }),
    ];
    refuse(&mut world, table);
}

#[test]
fn every_refusal_about_partitions_says_why() {
    let mut world = World::new(4);
    world.fence(4).unwrap();
    let place = world.place();
    let nowhere = PartitionId { topic: place.topic, number: 9 };
    let node = id(9);
    let first = PartitionEpoch::new(1);
    let elect = |partition, epoch, election| Command::ElectLeader { partition, epoch, election };
    let stale = Refusal::NodeEpochStale { node: id(1), current: Some(world.epoch(1)) };
    let table = [
        (alter(&world, |a| a.leader = node), Refusal::NodeUnknown(node)),
        (alter(&world, |a| a.node_epoch = NodeEpoch::new(0)), stale),
        (alter(&world, |a| a.partition = nowhere), Refusal::PartitionUnknown(nowhere)),
        (
            alter(&world, |a| (a.leader, a.node_epoch) = (id(2), world.epoch(2))),
            Refusal::LeaderStale { leader: Some(id(1)), epoch: LeaderEpoch::new(1) },
        ),
        (
            alter(&world, |a| a.leader_epoch = LeaderEpoch::new(u64::MAX)),
            Refusal::LeaderStale { leader: Some(id(1)), epoch: LeaderEpoch::new(1) },
        ),
        (alter(&world, |a| a.epoch = first.next()), Refusal::PartitionEpochStale { current: first }),
        (alter(&world, |a| a.in_sync.truncate(0)), Refusal::NotInSync(id(1))),
        (alter(&world, |a| a.in_sync.push((id(4), world.epoch(4)))), Refusal::NotInSync(id(4))),
        (alter(&world, |a| a.in_sync[1].1 = NodeEpoch::new(0)), Refusal::NotInSync(id(2))),
        (elect(nowhere, first, Election::Preferred), Refusal::PartitionUnknown(nowhere)),
        (elect(place, first.next(), Election::Preferred), Refusal::PartitionEpochStale { current: first }),
        (elect(place, first, Election::Designated(node)), Refusal::NotEligible(node)),
        (elect(place, first, Election::Unclean(id(2))), Refusal::IsEligible(id(1))),
        (reassign(&world, 2, &[1, 2]), Refusal::PartitionEpochStale { current: first }),
        (reassign(&world, 1, &[1]), Refusal::Target(2)),
        (reassign(&world, 1, &[]), Refusal::Target(2)),
        (reassign(&world, 1, &[1, 1, 2]), Refusal::Target(2)),
        (reassign(&world, 1, &[1, 9]), Refusal::NodeUnknown(node)),
        (reassign(&world, 1, &[1, 4]), Refusal::NodeIsNotActive(id(4))),
        (Command::CancelReassignment { partition: place, epoch: first }, Refusal::NotReassigning),
        (Command::CancelPlan { plan: LogIndex::new(1) }, Refusal::PlanUnknown(LogIndex::new(1))),
    ];
    refuse(&mut world, table);
}
