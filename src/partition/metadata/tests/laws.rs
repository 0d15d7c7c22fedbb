//! Random commands, sensible and not: after each every rule holds, equal logs give equal states, epochs only grow, and
//! a state that was written down goes on as the one that was not.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::*;

struct Random(ChaCha8Rng);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0.next_u64() % bound
    }

    fn node(&mut self) -> u64 {
        1 + self.below(5)
    }

    fn nodes(&mut self, count: u64) -> Vec<u64> {
        (0..count).map(|_| self.node()).collect()
    }
}

/// A command that is about what is there, and often fits.
fn command(world: &World, random: &mut Random) -> Command {
    let node = random.node();
    let epoch = if random.below(8) == 0 { NodeEpoch::new(random.below(9)) } else { world.epoch(node) };
    let seen = if random.below(8) == 0 { LogIndex::new(random.below(9)) } else { world.seen(node) };
    let reason = if random.below(6) == 0 { FenceReason::Disk } else { FenceReason::Dead };
    let node = id(node);
    let known = world.metadata.node(node).map(|record| record.epoch);
    let all: Vec<PartitionId> = world
        .metadata
        .topics()
        .flat_map(|(topic, record)| {
            (0..).zip(&record.partitions).map(move |(number, _)| PartitionId { topic, number })
        })
        .collect();
    let place = all.get(usize::try_from(random.below(6)).unwrap()).copied();
    let record = place.and_then(|place| Some((place, world.metadata.partition(place)?)));
    match (random.below(16), record) {
        (0, _) => Command::RegisterNode(Registration {
            known,
            token: Token::new(random.below(2)),
            ended: known.filter(|_| random.below(2) == 0),
            is_durable: random.below(3) == 0,
            ..registration(node.value(), random.below(4))
        }),
        (1 | 2, _) => Command::FenceNode { node, epoch, seen, reason },
        (3 | 4, _) => Command::UnfenceNode { node, epoch, seen, applied: LogIndex::new(epoch.value()) },
        (5, _) => Command::BeginShutdown { node, epoch, seen },
        (6, _) => {
            let name = format!("t{}", random.below(3));
            let replicas = u16::try_from(1 + random.below(3)).unwrap();
            let assignment = random.nodes(u64::from(replicas));
            create(&name, replicas, u16::try_from(1 + random.below(2)).unwrap(), &[&assignment])
        }
        (7, Some((place, _))) if random.below(4) == 0 => Command::DeleteTopic { topic: place.topic },
        (8, Some((place, _))) => Command::ConfigureTopic {
            topic: place.topic,
            version: world.metadata.topic(place.topic).unwrap().version,
            min_in_sync: Some(u16::try_from(1 + random.below(3)).unwrap()),
            recovery: Some([Recovery::Manual, Recovery::Unclean][usize::try_from(random.below(2)).unwrap()]),
            retention: None,
        },
        (9, Some((partition, record))) => {
            let nodes = [Election::Preferred, Election::Designated(node), Election::Unclean(node)];
            let election = nodes[usize::try_from(random.below(3)).unwrap()];
            Command::ElectLeader { partition, epoch: record.epoch, election }
        }
        (10 | 11, Some((partition, record))) => {
            let count = 1 + random.below(3);
            Command::StartReassignment { partition, epoch: record.epoch, target: ids(&random.nodes(count)) }
        }
        (12, Some((partition, record))) => Command::CancelReassignment { partition, epoch: record.epoch },
        (13, _) => Command::DeregisterNode { node, epoch },
        (_, Some((partition, record))) => Command::AlterPartition(Alteration {
            partition,
            leader: record.leader.unwrap_or(node),
            node_epoch: record.leader.map_or(epoch, |leader| world.epoch(leader.value())),
            leader_epoch: record.leader_epoch,
            epoch: record.epoch,
            in_sync: record
                .replicas
                .iter()
                .filter(|other| Some(**other) == record.leader || random.below(3) > 0)
                .map(|other| (*other, world.epoch(other.value())))
                .collect(),
            is_recovered: random.below(2) == 0,
            voids_earlier: random.below(4) == 0,
        }),
        (_, None) => Command::SetDraining { node, seen, is_draining: random.below(2) == 0 },
    }
}

/// The epochs of all partitions.
fn epochs(metadata: &Metadata) -> BTreeMap<PartitionId, (LeaderEpoch, PartitionEpoch, Option<NodeId>)> {
    let of = |(topic, record): (TopicId, &Topic)| {
        let of = move |(number, partition): (u32, &Partition)| {
            let epochs = (partition.leader_epoch, partition.epoch, partition.leader);
            (PartitionId { topic, number }, epochs)
        };
        (0..).zip(&record.partitions).map(of).collect::<Vec<_>>()
    };
    metadata.topics().flat_map(of).collect()
}

#[test]
fn rules_hold_after_every_command_and_epochs_only_grow() {
    let mut changed = 0;
    for seed in 0..200 {
        let mut random = Random(ChaCha8Rng::seed_from_u64(seed));
        let mut world = World::default();
        let mut done = Vec::new();
        for _ in 0..200 {
            if let Some(late) = done.get(usize::try_from(random.below(400)).unwrap()).cloned() {
                assert_ne!(world.run(late), Ok(Outcome::Changed), "seed {seed}: a late copy had an effect");
            }
            let next = command(&world, &mut random);
            let before = epochs(&world.metadata);
            if world.run(next.clone()) == Ok(Outcome::Changed) {
                done.push(next.clone());
                changed += 1;
            }
            for (place, (leader_epoch, epoch, leader)) in epochs(&world.metadata) {
                let Some(before) = before.get(&place) else { continue };
                assert!(leader_epoch >= before.0 && epoch >= before.1, "seed {seed}: {next:?}");
                // One leader an epoch.
                assert!(leader == before.2 || leader_epoch > before.0, "seed {seed}: {next:?}");
            }
        }
        // Equal logs, equal states.
        let mut other = Metadata::default();
        for (index, command) in (1..).zip(&world.log) {
            let _ = other.apply(LogIndex::new(index), command);
        }
        assert_eq!(other, world.metadata, "seed {seed}");
    }
    assert!(changed > 5000, "most commands changed nothing: {changed} did");
}

#[test]
fn a_state_that_was_written_down_goes_on_alike_and_damage_is_noticed() {
    let format = bincode::config::standard();
    let mut random = Random(ChaCha8Rng::seed_from_u64(7));
    let mut world = World::new(5);
    for _ in 0..300 {
        let next = command(&world, &mut random);
        let _ = world.run(next);
    }
    let bytes = bincode::serde::encode_to_vec(&world.metadata, format).unwrap();
    let (restored, read): (Metadata, usize) = bincode::serde::decode_from_slice(&bytes, format).unwrap();
    assert_eq!((&restored, read), (&world.metadata, bytes.len()));
    assert_eq!(bincode::serde::encode_to_vec(&restored, format).unwrap(), bytes);
    let mut refused = 0;
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        match bincode::serde::decode_from_slice::<Metadata, _>(&damaged, format) {
            Ok((metadata, _)) => assert_eq!(metadata.check(), Ok(())),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > bytes.len() / 4, "{refused} of {}", bytes.len());
}

#[test]
fn a_record_whose_epochs_have_run_out_is_no_state() {
    let world = World::new(3);
    let mut partition = world.partition().clone();
    assert_eq!(partition.check(2, |_| true), Ok(()));
    partition.epoch = PartitionEpoch::new(u64::MAX);
    assert_eq!(partition.check(2, |_| true), Err("its epochs have not run out"));
}
