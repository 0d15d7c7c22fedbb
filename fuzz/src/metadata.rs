//! The metadata, and all that can be asked of it.

use rivven_cluster::id::{BootId, LogIndex, NodeEpoch, NodeId, PartitionId, Token, TopicId};
use rivven_cluster::partition::metadata::command::Registration;
use rivven_cluster::partition::metadata::{
    Alteration, Command, Election, FenceReason, Metadata, Partition, PlanPart, Recovery, TopicSpec,
};
use rivven_cluster::partition::planner::Change;
use rivven_cluster::partition::retention::Retention;
use rivven_cluster::rng::{Seed, Stream};
use rivven_cluster::wire::codec;

/// The most commands of one tape.
const COMMANDS_MAX: usize = 500;

/// Asks the metadata for what the tape says, most of it nearly right: the epochs are mostly those that are held. After each
/// command it is sound, and one that is refused has changed nothing. In the end it survives being written down and read.
/// Returns how many commands were not refused.
pub fn metadata(tape: &[u8]) -> usize {
    let mut draws = Seed::new(0).stream("metadata", 0).behind(tape);
    let mut metadata = Metadata::default();
    let mut index = LogIndex::new(0);
    let mut done = 0;
    for _ in 0..COMMANDS_MAX {
        if draws.tape_left() == 0 {
            break;
        }
        let command = command(&mut draws, &metadata, index);
        index = index.next();
        let before = metadata.clone();
        let (result, deltas) = metadata.apply(index, &command);
        if result.is_err() {
            assert_eq!((&metadata, &deltas[..]), (&before, &[][..]), "{command:?} was refused: {result:?}");
        }
        assert_eq!(metadata.check(), Ok(()), "{command:?}: {result:?}");
        done += usize::from(result.is_ok());
    }
    let read = codec::decode_state::<Metadata>(&codec::encode(&metadata));
    assert_eq!(read.as_ref(), Ok(&metadata));
    done
}

fn command(draws: &mut Stream, metadata: &Metadata, index: LogIndex) -> Command {
    let node = any_node(draws);
    let record = metadata.node(node);
    let epoch = stale(draws, record.map_or(0, |record| record.epoch.value()));
    let (epoch, seen) = (NodeEpoch::new(epoch), record.map_or(index, |record| record.changed));
    match draws.below(20) {
        0..=2 => Command::RegisterNode(registration(draws, metadata, node)),
        3..=5 => Command::UnfenceNode { node, epoch, seen, applied: index },
        6 => Command::FenceNode { node, epoch, seen, reason: FenceReason::Dead },
        7 => Command::BeginShutdown { node, epoch, seen },
        8 => Command::SetDraining { node, seen, is_draining: draws.chance(1, 2) },
        9 => Command::SetShare { node, seen, weight: small(draws, 3), rack: None },
        10 => Command::DeregisterNode { node, epoch },
        11 => Command::CreateTopic { spec: spec(draws), assignments: assignments(draws) },
        12..=17 => about_a_topic(draws, metadata),
        _ => about_plans(draws, metadata),
    }
}

fn registration(draws: &mut Stream, metadata: &Metadata, node: NodeId) -> Registration {
    let record = metadata.node(node);
    let (token, boot) = record.map_or((1, 1), |record| (record.token.value(), record.boot.value()));
    Registration {
        node,
        token: Token::new(token + draws.below(4) / 3),
        boot: BootId::new(boot.saturating_add(draws.below(2))),
        address: "node:1".parse().expect("a sound name"),
        known: record.map(|record| record.epoch).filter(|_| !draws.chance(1, 8)),
        ended: record.map(|record| record.epoch).filter(|_| draws.chance(1, 4)),
        is_durable: !draws.chance(1, 4),
        weight: small(draws, 3),
        rack: draws.chance(1, 2).then(|| format!("rack{}", draws.below(3))),
        features: 1,
    }
}

fn about_a_topic(draws: &mut Stream, metadata: &Metadata) -> Command {
    let topics = u64::try_from(metadata.topics().count()).expect("a few");
    let chosen = usize::try_from(draws.below(topics.max(1))).expect("a few");
    let Some((topic, record)) = metadata.topics().nth(chosen) else {
        return Command::DeleteTopic { topic: TopicId::new(draws.below(3)) };
    };
    let partitions = u32::try_from(record.partitions.len()).expect("a few");
    match draws.below(16) {
        0 => Command::DeleteTopic { topic },
        1 => Command::AddPartitions { topic, from: partitions, assignments: assignments(draws) },
        2 => Command::ConfigureTopic {
            topic,
            version: record.version + small::<u32>(draws, 8) / 7,
            min_in_sync: draws.chance(1, 2).then(|| small(draws, 4)),
            recovery: draws.chance(1, 2).then(|| recovery(draws)),
            retention: None,
        },
        _ => {
            let number = small(draws, u64::from(partitions));
            about_a_partition(draws, metadata, PartitionId { topic, number })
        }
    }
}

fn about_a_partition(draws: &mut Stream, metadata: &Metadata, partition: PartitionId) -> Command {
    let Some(record) = metadata.partition(partition) else {
        return Command::DeleteTopic { topic: partition.topic };
    };
    let epoch = record.epoch;
    match draws.below(8) {
        0 => Command::ElectLeader { partition, epoch, election: Election::Preferred },
        1 => Command::ElectLeader { partition, epoch, election: Election::Designated(any_node(draws)) },
        2 => Command::ElectLeader { partition, epoch, election: Election::Unclean(any_node(draws)) },
        3 => Command::StartReassignment { partition, epoch, target: any_nodes(draws) },
        4 => Command::CancelReassignment { partition, epoch },
        5 => {
            let more = (0..draws.below(3)).map(|_| alteration(draws, metadata, partition, record)).collect();
            Command::AlterPartitions(more)
        }
        _ => Command::AlterPartition(alteration(draws, metadata, partition, record)),
    }
}

fn alteration(
    draws: &mut Stream,
    metadata: &Metadata,
    partition: PartitionId,
    record: &Partition,
) -> Alteration {
    let session = |node: NodeId| metadata.node(node).map(|node| node.epoch).unwrap_or_default();
    let leader = record.leader.filter(|_| !draws.chance(1, 8)).unwrap_or_else(|| any_node(draws));
    let mut in_sync: Vec<NodeId> = record.in_sync.clone();
    if draws.chance(1, 2) {
        in_sync.retain(|node| *node == leader || draws.chance(1, 2));
    } else {
        in_sync.extend(record.replicas.iter().filter(|_| draws.chance(1, 2)));
        in_sync.sort_unstable();
        in_sync.dedup();
    }
    Alteration {
        partition,
        leader,
        node_epoch: session(leader),
        leader_epoch: record.leader_epoch,
        epoch: record.epoch,
        in_sync: in_sync.into_iter().map(|node| (node, session(node))).collect(),
        is_recovered: draws.chance(1, 4),
        voids_earlier: draws.chance(1, 8),
    }
}

fn about_plans(draws: &mut Stream, metadata: &Metadata) -> Command {
    let last = metadata.last_plan();
    let Some(plan) = metadata.plan().and(last).filter(|_| draws.chance(1, 2)) else {
        let changes = metadata.all_partitions().filter(|_| draws.chance(1, 2));
        let changes: Vec<(PartitionId, Vec<NodeId>)> =
            changes.map(|(partition, record)| (partition, record.replicas.clone())).collect();
        let changes =
            changes.into_iter().map(|(partition, from)| Change { partition, from, to: any_nodes(draws) });
        return Command::SubmitPlan {
            part: PlanPart::First { last },
            changes: changes.collect(),
            is_last: draws.chance(3, 4),
        };
    };
    match draws.below(3) {
        0 => Command::CancelPlan { plan },
        1 => Command::FinishPlan { plan },
        _ => Command::SetFeatureLevel { from: metadata.feature_level(), to: small(draws, 3) },
    }
}

fn spec(draws: &mut Stream) -> TopicSpec {
    TopicSpec {
        name: format!("topic{}", draws.below(4)),
        replicas: small(draws, 4),
        min_in_sync: small(draws, 4),
        recovery: recovery(draws),
        retention: Retention::default(),
    }
}

fn recovery(draws: &mut Stream) -> Recovery {
    match draws.below(3) {
        0 => Recovery::Manual,
        1 => Recovery::Balanced,
        _ => Recovery::Unclean,
    }
}

fn assignments(draws: &mut Stream) -> Vec<Vec<NodeId>> {
    (0..draws.below(4)).map(|_| any_nodes(draws)).collect()
}

fn any_nodes(draws: &mut Stream) -> Vec<NodeId> {
    let first = draws.below(5);
    let count = draws.below(4);
    // Mostly each once.
    let step = if draws.chance(1, 16) { 0 } else { 1 };
    (0..count).filter_map(|place| NodeId::new(1 + (first + place * step) % 5)).collect()
}

fn any_node(draws: &mut Stream) -> NodeId {
    NodeId::new(1 + draws.below(5)).expect("not zero")
}

/// A number, or now and then one that is no longer, or not yet, the right one.
fn stale(draws: &mut Stream, number: u64) -> u64 {
    match draws.below(16) {
        0 => number.saturating_sub(1),
        1 => number.saturating_add(1),
        _ => number,
    }
}

fn small<N: TryFrom<u64, Error: core::fmt::Debug>>(draws: &mut Stream, bound: u64) -> N {
    N::try_from(draws.below(bound)).expect("a small number")
}
