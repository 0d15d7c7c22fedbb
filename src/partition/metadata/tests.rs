//! Each command and each refusal; then random commands, after each of which every rule holds.

use super::command::Registration;
use super::*;
use crate::id::{BootId, LeaderEpoch, NodeEpoch, PartitionEpoch, Token};
use crate::partition::planner::Change;
use crate::partition::retention::Retention;

mod laws;
mod refusals;

fn id(number: u64) -> NodeId {
    NodeId::new(number).unwrap()
}

fn ids(numbers: &[u64]) -> Vec<NodeId> {
    numbers.iter().copied().map(id).collect()
}

fn values(nodes: &[NodeId]) -> Vec<u64> {
    nodes.iter().map(|node| node.value()).collect()
}

fn registration(node: u64, boot: u64) -> Registration {
    Registration {
        node: id(node),
        token: Token::new(0),
        boot: BootId::new(boot),
        address: format!("node{node}:9093").parse().unwrap(),
        known: None,
        ended: None,
        is_durable: false,
        weight: 1,
        rack: None,
        features: 1,
    }
}

/// A state, and the log that led to it.
#[derive(Default)]
struct World {
    metadata: Metadata,
    log: Vec<Command>,
}

impl World {
    /// Nodes 1 to `nodes`, all active, and topic "t" of one partition on the first three, of which two must be in sync.
    fn new(nodes: u64) -> World {
        let mut world = World::default();
        (1..=nodes).for_each(|node| world.arrive(node, 1));
        world.run(create("t", 3, 2, &[&[1, 2, 3]])).unwrap();
        world
    }

    fn run(&mut self, command: Command) -> Result<Outcome, Refusal> {
        self.run_with_deltas(command).0
    }

    fn run_with_deltas(&mut self, command: Command) -> (Result<Outcome, Refusal>, Vec<Delta>) {
        self.log.push(command.clone());
        let index = LogIndex::new(u64::try_from(self.log.len()).unwrap());
        let before = self.metadata.clone();
        let (answer, deltas) = self.metadata.apply(index, &command);
        assert_eq!(self.metadata.check(), Ok(()), "after {command:?}");
        if answer.is_err() {
            assert_eq!(self.metadata, before, "what is refused changes nothing: {command:?}");
        }
        (answer, deltas)
    }

    fn epoch(&self, node: u64) -> NodeEpoch {
        self.metadata.node(id(node)).map_or(NodeEpoch::new(0), |record| record.epoch)
    }

    /// Where the record of a node was changed last.
    fn seen(&self, node: u64) -> LogIndex {
        self.metadata.node(id(node)).map_or(LogIndex::new(0), |record| record.changed)
    }

    fn arrive(&mut self, node: u64, boot: u64) {
        let known = self.metadata.node(id(node)).map(|record| record.epoch);
        self.run(Command::RegisterNode(Registration { known, ..registration(node, boot) })).unwrap();
        self.unfence(node).unwrap();
    }

    fn unfence(&mut self, node: u64) -> Result<Outcome, Refusal> {
        let (epoch, seen) = (self.epoch(node), self.seen(node));
        self.run(Command::UnfenceNode { node: id(node), epoch, seen, applied: LogIndex::new(epoch.value()) })
    }

    fn fence(&mut self, node: u64) -> Result<Outcome, Refusal> {
        self.fence_for(node, FenceReason::Dead)
    }

    fn fence_for(&mut self, node: u64, reason: FenceReason) -> Result<Outcome, Refusal> {
        let (epoch, seen) = (self.epoch(node), self.seen(node));
        self.run(Command::FenceNode { node: id(node), epoch, seen, reason })
    }

    /// The partition that most tests are about.
    fn place(&self) -> PartitionId {
        PartitionId { topic: self.metadata.topic_named("t").unwrap().0, number: 0 }
    }

    fn partition(&self) -> &Partition {
        self.metadata.partition(self.place()).unwrap()
    }

    /// Leader, in sync, eligible.
    fn looks(&self) -> (Option<u64>, Vec<u64>, Vec<u64>) {
        let partition = self.partition();
        (partition.leader.map(NodeId::value), values(&partition.in_sync), values(&partition.eligible))
    }

    /// What the leader says to be in sync, as it should be said.
    fn alteration(&self, in_sync: &[u64]) -> Alteration {
        let partition = self.partition();
        let leader = partition.leader.unwrap();
        Alteration {
            partition: self.place(),
            leader,
            node_epoch: self.epoch(leader.value()),
            leader_epoch: partition.leader_epoch,
            epoch: partition.epoch,
            in_sync: in_sync.iter().map(|node| (id(*node), self.epoch(*node))).collect(),
            is_recovered: false,
            voids_earlier: false,
        }
    }

    fn alter(&mut self, in_sync: &[u64]) -> Result<Outcome, Refusal> {
        self.run(Command::AlterPartition(self.alteration(in_sync)))
    }

    fn elect(&mut self, election: Election) -> Result<Outcome, Refusal> {
        self.run(Command::ElectLeader { partition: self.place(), epoch: self.partition().epoch, election })
    }

    fn reassign(&mut self, target: &[u64]) -> Result<Outcome, Refusal> {
        let (partition, epoch) = (self.place(), self.partition().epoch);
        self.run(Command::StartReassignment { partition, epoch, target: ids(target) })
    }
}

fn create(name: &str, replicas: u16, min_in_sync: u16, assignments: &[&[u64]]) -> Command {
    let spec = TopicSpec {
        name: name.to_owned(),
        replicas,
        min_in_sync,
        recovery: Recovery::Manual,
        retention: Retention::default(),
    };
    Command::CreateTopic { spec, assignments: assignments.iter().map(|nodes| ids(nodes)).collect() }
}

#[test]
fn who_is_fenced_leads_nothing_and_is_in_no_set() {
    let mut world = World::new(3);
    assert_eq!(world.looks(), (Some(1), vec![1, 2, 3], vec![]));
    let before = world.partition().clone();
    assert_eq!(world.fence(1), Ok(Outcome::Changed));
    assert_eq!(world.looks(), (Some(2), vec![2, 3], vec![]));
    assert_eq!(world.partition().why, Why::Fenced(id(1)));
    assert_eq!(world.partition().leader_epoch, before.leader_epoch.next());
    assert_eq!(world.partition().epoch, before.epoch.next());
    assert_eq!(world.fence(1), Ok(Outcome::Same));
    // A follower that goes changes the record, and not the leader's epoch.
    let before = world.partition().clone();
    world.fence(3).unwrap();
    assert_eq!(world.partition().leader_epoch, before.leader_epoch);
    assert_eq!(world.looks(), (Some(2), vec![2], vec![3]));
}

#[test]
fn the_last_one_in_sync_stays_eligible_and_nobody_else_is_elected() {
    let mut world = World::new(3);
    world.alter(&[1, 2]).unwrap();
    world.fence(2).unwrap();
    world.fence(1).unwrap();
    assert_eq!(world.looks(), (None, vec![], vec![1, 2]));
    assert_eq!(world.metadata.leaderless().collect::<Vec<_>>(), [world.place()]);
    // Node 3 is there all the time, and has not everything.
    assert_eq!(world.elect(Election::Designated(id(3))), Err(Refusal::NotEligible(id(3))));
    world.unfence(2).unwrap();
    assert_eq!(world.looks(), (Some(2), vec![2], vec![1]));
    assert_eq!(world.partition().why, Why::Unfenced(id(2)));
    world.unfence(1).unwrap();
    world.alter(&[1, 2]).unwrap();
    assert_eq!(world.looks(), (Some(2), vec![1, 2], vec![]));
}

#[test]
fn who_comes_back_from_an_unclean_stop_is_not_eligible_any_more() {
    for (was_durable, ends, other_disk, eligible) in [
        (false, false, false, false),
        (true, false, false, true),
        (false, true, false, true),
        (true, true, true, false),
    ] {
        let mut world = World::default();
        for node in 1..=3 {
            let first = Registration { is_durable: was_durable, ..registration(node, 1) };
            world.run(Command::RegisterNode(first)).unwrap();
            world.unfence(node).unwrap();
        }
        world.run(create("t", 3, 2, &[&[1, 2, 3]])).unwrap();
        (1..=3).for_each(|node| drop(world.fence(node)));
        assert_eq!(world.looks(), (None, vec![], vec![2, 3]), "1 was out when enough were in sync");
        let known = Some(world.epoch(3));
        let ended = known.filter(|_| ends);
        // What the new session promises says nothing of the one before. Another disk counts its starts anew.
        let token = Token::new(u64::from(other_disk));
        let boot = BootId::new(if other_disk { 1 } else { 2 });
        let again = Registration { token, boot, known, ended, is_durable: true, ..registration(3, 2) };
        world.run(Command::RegisterNode(again)).unwrap();
        assert_eq!(world.partition().eligible.contains(&id(3)), eligible);
        assert_eq!(world.partition().doubted.contains(&id(3)), !eligible);
        world.unfence(3).unwrap();
        assert_eq!(world.partition().leader, eligible.then(|| id(3)));
        world.unfence(2).unwrap();
        assert!(world.partition().leader.is_some());
    }
}

#[test]
fn another_disk_is_no_process_that_is_here() {
    let mut world = World::new(3);
    let known = Some(world.epoch(3));
    let clone = Registration { token: Token::new(9), known, ..registration(3, 1) };
    assert_eq!(
        world.run(Command::RegisterNode(clone)),
        Err(Refusal::NodeIsHere { node: id(3), boot: BootId::new(1) })
    );
}

#[test]
fn whose_disk_failed_is_not_eligible_even_if_that_is_heard_late() {
    for is_late in [false, true] {
        let mut world = World::new(3);
        world.fence(1).unwrap();
        world.fence(2).unwrap();
        if is_late {
            world.fence(3).unwrap();
        }
        assert_eq!(world.fence_for(3, FenceReason::Disk), Ok(Outcome::Changed));
        assert_eq!(world.fence_for(3, FenceReason::Disk), Ok(Outcome::Same));
        assert_eq!(world.looks(), (None, vec![], vec![2]));
        world.unfence(3).unwrap();
        assert_eq!(world.looks(), (None, vec![], vec![2]));
    }
}

#[test]
fn a_late_copy_does_not_bring_a_node_back_or_take_it_away() {
    let mut world = World::new(3);
    world.fence(3).unwrap();
    let (epoch, seen) = (world.epoch(3), world.seen(3));
    let unfence = Command::UnfenceNode { node: id(3), epoch, seen, applied: LogIndex::new(epoch.value()) };
    world.run(unfence.clone()).unwrap();
    let seen = world.seen(3);
    let fence = Command::FenceNode { node: id(3), epoch, seen, reason: FenceReason::Dead };
    let stop = Command::BeginShutdown { node: id(3), epoch, seen };
    world.run(fence.clone()).unwrap();
    let stale = |world: &World| Err(Refusal::NodeRecordStale { node: id(3), current: world.seen(3) });
    assert_eq!(world.run(unfence), stale(&world));
    world.unfence(3).unwrap();
    assert_eq!(world.run(fence), stale(&world));
    assert_eq!(world.run(stop), stale(&world));
}

#[test]
fn a_move_is_not_replaced_when_that_would_drop_all_who_have_everything() {
    let mut world = World::new(6);
    world.reassign(&[4, 5, 6]).unwrap();
    world.alter(&[1, 2, 3, 4, 5]).unwrap();
    (1..=3).for_each(|node| drop(world.fence(node)));
    assert_eq!(world.looks(), (Some(4), vec![4, 5], vec![]));
    world.unfence(1).unwrap();
    assert_eq!(world.reassign(&[1, 2, 3]), Err(Refusal::NoneInSync));
    world.fence(4).unwrap();
    world.fence(5).unwrap();
    assert_eq!(world.looks(), (None, vec![], vec![4, 5]));
    assert_eq!(world.reassign(&[1, 2, 3]), Err(Refusal::NoneInSync));
    world.unfence(5).unwrap();
    world.reassign(&[5, 2, 3]).unwrap();
    assert_eq!(world.looks(), (Some(5), vec![5], vec![]));
}

#[test]
fn if_something_has_to_be_lost_it_is_as_little_as_is_known() {
    let mut world = World::new(4);
    let (topic, recovery) = (world.place().topic, Some(Recovery::Unclean));
    world
        .run(Command::ConfigureTopic { topic, version: 1, min_in_sync: Some(1), recovery, retention: None })
        .unwrap();
    world.alter(&[1]).unwrap();
    world.reassign(&[4, 1, 2]).unwrap();
    world.fence(1).unwrap();
    let again = Registration { known: Some(world.epoch(1)), ..registration(1, 2) };
    world.run(Command::RegisterNode(again)).unwrap();
    // Node 4 comes first, and has been given nothing yet.
    assert_eq!(world.looks(), (Some(2), vec![2], vec![]));
}

#[test]
fn a_session_is_one_process_and_a_second_one_waits_until_it_is_fenced() {
    let mut world = World::new(3);
    let known = world.epoch(1);
    let second = || Command::RegisterNode(Registration { known: Some(known), ..registration(1, 9) });
    assert_eq!(world.run(second()), Err(Refusal::NodeIsHere { node: id(1), boot: BootId::new(1) }));
    // The same process may ask twice.
    let same = Command::RegisterNode(registration(1, 1));
    assert_eq!(world.run(same), Ok(Outcome::Registered(world.epoch(1))));
    world.fence(1).unwrap();
    let Ok(Outcome::Registered(epoch)) = world.run(second()) else { panic!("it is fenced") };
    assert_eq!(epoch.value(), u64::try_from(world.log.len()).unwrap());
    // What was meant for the one before does not touch it.
    let late =
        Command::FenceNode { node: id(1), epoch: known, seen: LogIndex::new(1), reason: FenceReason::Dead };
    assert_eq!(world.run(late), Err(Refusal::NodeEpochStale { node: id(1), current: Some(epoch) }));
    world.unfence(1).unwrap();
}

#[test]
fn a_command_that_comes_twice_changes_nothing_the_second_time() {
    let mut world = World::new(4);
    let shrink = Command::AlterPartition(world.alteration(&[1, 2]));
    assert_eq!(world.run(shrink.clone()), Ok(Outcome::Changed));
    let current = world.partition().epoch;
    assert_eq!(world.run(shrink), Err(Refusal::PartitionEpochStale { current }));
    assert_eq!(world.alter(&[1, 2]), Ok(Outcome::Same));
    let Ok(Outcome::Created(topic)) = world.run(create("u", 1, 1, &[&[1]])) else { panic!("it is new") };
    assert_eq!(world.run(create("u", 1, 1, &[&[2]])), Ok(Outcome::Created(topic)));
    world.run(Command::DeleteTopic { topic }).unwrap();
    assert_eq!(world.run(Command::DeleteTopic { topic }), Err(Refusal::TopicUnknown(topic)));
    // The same name is another topic.
    let again = world.run(create("u", 1, 1, &[&[1]])).unwrap();
    assert_ne!(again, Outcome::Created(topic));
}

#[test]
fn a_record_made_void_kills_what_was_proposed_before() {
    let mut world = World::new(3);
    world.alter(&[1, 2]).unwrap();
    let stray = Command::AlterPartition(world.alteration(&[1, 2, 3]));
    let mut void = world.alteration(&[1, 2]);
    void.voids_earlier = true;
    assert_eq!(world.run(Command::AlterPartition(void)), Ok(Outcome::Changed));
    assert!(matches!(world.run(stray), Err(Refusal::PartitionEpochStale { .. })));
    assert_eq!(world.looks(), (Some(1), vec![1, 2], vec![]));
}

#[test]
fn a_partition_moves_in_three_phases() {
    let mut world = World::new(6);
    world.reassign(&[4, 5, 6]).unwrap();
    assert_eq!(values(&world.partition().replicas), [4, 5, 6, 1, 2, 3]);
    assert_eq!(world.partition().adding().map(NodeId::value).collect::<Vec<_>>(), [4, 5, 6]);
    assert_eq!(world.looks(), (Some(1), vec![1, 2, 3], vec![]));
    world.alter(&[1, 2, 3, 4, 5]).unwrap();
    assert!(world.partition().reassignment.is_some());
    let before = world.partition().leader_epoch;
    world.alter(&[1, 4, 5, 6]).unwrap();
    assert_eq!(world.looks(), (Some(4), vec![4, 5, 6], vec![]));
    assert_eq!(values(&world.partition().replicas), [4, 5, 6]);
    assert_eq!(world.partition().leader_epoch, before.next());
    assert_eq!(world.metadata.partitions_of(id(1)).count(), 0);
    assert_eq!(world.metadata.partitions_of(id(6)).count(), 1);
}

#[test]
fn a_move_goes_on_when_its_leader_dies_and_can_be_taken_back() {
    let mut world = World::new(6);
    world.reassign(&[4, 5, 6]).unwrap();
    world.alter(&[1, 2, 3, 4]).unwrap();
    world.fence(1).unwrap();
    assert_eq!(world.looks().0, Some(4), "the first of the target that is in sync");
    let cancel = |world: &World| Command::CancelReassignment {
        partition: world.place(),
        epoch: world.partition().epoch,
    };
    let command = cancel(&world);
    assert_eq!(world.run(command), Ok(Outcome::Changed));
    assert_eq!(world.looks(), (Some(2), vec![2, 3], vec![]));
    assert_eq!(values(&world.partition().replicas), [1, 2, 3]);
    // With only new ones in sync it cannot be.
    world.unfence(1).unwrap();
    world.reassign(&[4, 5, 6]).unwrap();
    world.alter(&[2, 4, 5]).unwrap();
    world.elect(Election::Designated(id(4))).unwrap();
    world.alter(&[4, 5]).unwrap();
    let command = cancel(&world);
    assert_eq!(world.run(command), Err(Refusal::NoneInSync));
}

#[test]
fn another_target_replaces_the_one_under_way_and_an_order_is_no_move() {
    let mut world = World::new(6);
    world.reassign(&[4, 2, 3]).unwrap();
    world.reassign(&[5, 2, 3]).unwrap();
    assert_eq!(values(&world.partition().replicas), [5, 2, 3, 1]);
    world.reassign(&[3, 1, 2]).unwrap();
    assert_eq!(values(&world.partition().replicas), [3, 1, 2]);
    assert_eq!(world.partition().reassignment, None);
    assert_eq!(world.elect(Election::Preferred), Ok(Outcome::Changed));
    assert_eq!((world.looks().0, world.elect(Election::Preferred)), (Some(3), Ok(Outcome::Same)));
    // Fewer replicas copy nothing: it is done at once.
    world.reassign(&[3, 1]).unwrap();
    assert_eq!(world.looks(), (Some(3), vec![1, 3], vec![]));
    assert_eq!(world.reassign(&[3, 1]), Ok(Outcome::Same));
}

#[test]
fn an_election_that_may_lose_something_says_so_and_recovers_alone() {
    let mut world = World::new(3);
    world.alter(&[1, 2]).unwrap();
    world.fence(2).unwrap();
    world.fence(1).unwrap();
    let (partition, epoch) = (world.place(), world.partition().epoch);
    let unclean = Command::ElectLeader { partition, epoch, election: Election::Unclean(id(3)) };
    let (answer, deltas) = world.run_with_deltas(unclean);
    assert_eq!(answer, Ok(Outcome::Changed));
    assert!(deltas.contains(&Delta::MayHaveLost(partition)));
    assert_eq!(world.looks(), (Some(3), vec![3], vec![]));
    assert!(world.partition().is_recovering);
    assert_eq!(world.elect(Election::Unclean(id(3))), Err(Refusal::IsEligible(id(3))));
    world.unfence(1).unwrap();
    assert_eq!(world.alter(&[1, 3]), Err(Refusal::NotInSync(id(1))));
    let mut recovered = world.alteration(&[1, 3]);
    recovered.is_recovered = true;
    assert_eq!(world.run(Command::AlterPartition(recovered)), Ok(Outcome::Changed));
    assert!(!world.partition().is_recovering);
}

#[test]
fn a_topic_may_say_that_whoever_is_there_leads() {
    let mut world = World::new(3);
    let topic = world.place().topic;
    let unclean = Command::ConfigureTopic {
        topic,
        version: 1,
        min_in_sync: Some(1),
        recovery: Some(Recovery::Unclean),
        retention: None,
    };
    world.run(unclean.clone()).unwrap();
    assert_eq!(world.run(unclean), Err(Refusal::TopicVersionStale { current: 2 }));
    world.alter(&[1]).unwrap();
    world.fence(1).unwrap();
    // Node 1 is eligible, and so nobody else leads.
    assert_eq!(world.looks(), (None, vec![], vec![1]));
    let again = Registration { known: Some(world.epoch(1)), ..registration(1, 2) };
    let (_, deltas) = world.run_with_deltas(Command::RegisterNode(again));
    assert_eq!(world.looks(), (Some(2), vec![2], vec![]));
    assert!(deltas.contains(&Delta::MayHaveLost(world.place())));
}

#[test]
fn another_number_that_must_be_in_sync_makes_nobody_eligible() {
    let mut world = World::new(3);
    world.alter(&[1]).unwrap();
    assert_eq!(world.looks(), (Some(1), vec![1], vec![2, 3]));
    let topic = world.place().topic;
    let fewer =
        Command::ConfigureTopic { topic, version: 1, min_in_sync: Some(1), recovery: None, retention: None };
    world.run(fewer).unwrap();
    world.fence(1).unwrap();
    // What node 1 acknowledged alone the others do not have.
    assert_eq!(world.looks(), (None, vec![], vec![1]));
}

/// Seed 1075 of the replicas' world, and seed 579 after the first attempt to mend it.
#[test]
fn another_number_that_must_be_in_sync_takes_nothing_from_who_is_eligible_while_nobody_leads() {
    let mut world = World::new(3);
    (1..=3).for_each(|node| drop(world.fence(node)));
    assert_eq!(world.looks(), (None, vec![], vec![2, 3]));
    let topic = world.place().topic;
    let fewer =
        Command::ConfigureTopic { topic, version: 1, min_in_sync: Some(1), recovery: None, retention: None };
    world.run(fewer).unwrap();
    assert_eq!(world.looks(), (None, vec![], vec![2, 3]), "nothing was acknowledged without them");
    world.unfence(2).unwrap();
    assert_eq!(world.looks(), (Some(2), vec![2], vec![]), "now it will be");
}

#[test]
fn who_shuts_down_leads_nothing_and_leaves_all_sets() {
    let mut world = World::new(3);
    let stop = Command::BeginShutdown { node: id(1), epoch: world.epoch(1), seen: world.seen(1) };
    assert_eq!(world.run(stop.clone()), Ok(Outcome::Changed));
    assert_eq!(world.looks(), (Some(2), vec![2, 3], vec![]));
    assert_eq!(world.run(stop.clone()), Ok(Outcome::Same));
    assert_eq!(world.alter(&[1, 2, 3]), Err(Refusal::NotInSync(id(1))));
    assert_eq!(world.unfence(1), Err(Refusal::NodeIsNotFenced(id(1))));
    world.fence(1).unwrap();
    assert_eq!(world.run(stop), Err(Refusal::NodeIsNotActive(id(1))));
}

#[test]
fn a_node_is_forgotten_when_it_holds_nothing() {
    let mut world = World::new(4);
    let forget =
        |world: &World, node: u64| Command::DeregisterNode { node: id(node), epoch: world.epoch(node) };
    assert_eq!(world.run(forget(&world, 4)), Err(Refusal::NodeIsNotFenced(id(4))));
    world.fence(4).unwrap();
    world.fence(3).unwrap();
    assert_eq!(world.run(forget(&world, 3)), Err(Refusal::NodeHasReplicas { node: id(3), replicas: 1 }));
    let (answer, deltas) = world.run_with_deltas(forget(&world, 4));
    assert_eq!((answer, deltas), (Ok(Outcome::Changed), vec![Delta::NodeGone(id(4))]));
    // It may come back, as somebody new.
    world.arrive(4, 1);
}

#[test]
fn what_an_operator_says_of_a_node_is_kept_over_sessions() {
    let mut world = World::new(3);
    let drain = |seen, is_draining| Command::SetDraining { node: id(1), seen, is_draining };
    let first = drain(world.seen(1), true);
    assert_eq!(world.run(first.clone()), Ok(Outcome::Changed));
    assert_eq!(world.run(first.clone()), Ok(Outcome::Same));
    let undrain = drain(world.seen(1), false);
    world.run(undrain).unwrap();
    let current = world.seen(1);
    assert_eq!(world.run(first), Err(Refusal::NodeRecordStale { node: id(1), current }), "a late copy");
    world.run(drain(current, true)).unwrap();
    let share =
        Command::SetShare { node: id(1), seen: world.seen(1), weight: 3, rack: Some("r1".to_owned()) };
    assert_eq!(world.run(share.clone()), Ok(Outcome::Changed));
    assert_eq!(world.run(share), Ok(Outcome::Same));
    world.fence(1).unwrap();
    world.arrive(1, 2);
    let record = world.metadata.node(id(1)).unwrap();
    assert_eq!((record.is_draining, record.weight, record.rack.as_deref()), (true, 3, None));
}

#[test]
fn one_plan_at_a_time_in_parts() {
    let mut world = World::new(3);
    let place = world.place();
    let change = |number| Change {
        partition: PartitionId { number, ..place },
        from: ids(&[1, 2, 3]),
        to: ids(&[3, 2, 1]),
    };
    let submit = |part, numbers: &[u32], is_last| Command::SubmitPlan {
        part,
        changes: numbers.iter().map(|number| change(*number)).collect(),
        is_last,
    };
    let first = submit(PlanPart::First { last: None }, &[0], false);
    let Ok(Outcome::Planned(plan)) = world.run(first.clone()) else { panic!("there is none yet") };
    assert_eq!(world.run(first.clone()), Err(Refusal::PlanIsActive(plan)));
    let further = |plan, from| PlanPart::Further { plan, from };
    let unknown = plan.next();
    assert_eq!(world.run(submit(further(unknown, 1), &[1], true)), Err(Refusal::PlanUnknown(unknown)));
    assert_eq!(world.run(submit(further(plan, 2), &[2], true)), Err(Refusal::PlanPartStale(1)));
    assert_eq!(world.run(submit(further(plan, 1), &[0], true)), Err(Refusal::PlanChange(place)));
    let last = submit(further(plan, 1), &[1, 2], true);
    assert_eq!(world.run(last.clone()), Ok(Outcome::Planned(plan)));
    assert_eq!(world.run(last), Err(Refusal::PlanUnknown(plan)), "it is complete");
    assert_eq!(world.metadata.plan().map(|plan| plan.changes.len()), Some(3));
    assert_eq!(world.run(Command::CancelPlan { plan }), Ok(Outcome::Changed));
    assert_eq!(world.run(Command::CancelPlan { plan }), Ok(Outcome::Same));
    assert_eq!(world.run(Command::FinishPlan { plan }), Ok(Outcome::Changed));
    assert_eq!(world.run(Command::FinishPlan { plan }), Err(Refusal::PlanUnknown(plan)));
    assert_eq!(world.run(first), Err(Refusal::PlanStale(Some(plan))), "a late copy");
    for to in [&[][..], &[3, 3]] {
        let changes = vec![Change { to: ids(to), ..change(0) }];
        let part = PlanPart::First { last: Some(plan) };
        let submitted = world.run(Command::SubmitPlan { part, changes, is_last: true });
        assert_eq!(submitted, Err(Refusal::PlanChange(place)));
    }
}

#[test]
fn several_alterations_are_judged_one_by_one() {
    let mut world = World::new(3);
    let (good, mut bad) = (world.alteration(&[1, 2]), world.alteration(&[1, 2]));
    bad.partition.number = 7;
    let refusal = Err(Refusal::PartitionUnknown(bad.partition));
    let answer = world.run(Command::AlterPartitions(vec![bad, good]));
    assert_eq!(answer, Ok(Outcome::Each(vec![refusal, Ok(Outcome::Changed)])));
}

#[test]
fn more_partitions_and_the_level_of_features() {
    let mut world = World::new(3);
    let topic = world.place().topic;
    let add = |from| Command::AddPartitions { topic, from, assignments: vec![ids(&[2, 3, 1])] };
    assert_eq!(world.run(add(1)), Ok(Outcome::Changed));
    assert_eq!(world.run(add(1)), Err(Refusal::PartitionCountStale { current: 2 }));
    assert_eq!((world.metadata.partitions(), world.metadata.partitions_of(id(2)).count()), (2, 2));
    let level = |from, to| Command::SetFeatureLevel { from, to };
    assert_eq!(world.run(level(1, 1)), Ok(Outcome::Same));
    assert_eq!(world.run(level(3, 4)), Err(Refusal::FeatureLevel { current: 1 }));
    let lacks = Refusal::NodeLacksFeatures { node: id(1), features: 1, level: 2 };
    assert_eq!(world.run(level(1, 2)), Err(lacks));
}
