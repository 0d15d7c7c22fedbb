//! Who looks after topics and nodes in a simulated cluster: an operator with ever new wishes.
//!
//! Each wish is a command to the metadata, made from the metadata as somebody has it, which may be old. Some make sense,
//! some do not: the cluster has to bear both.

use core::time::Duration;

use rivven_cluster::id::{NodeId, PartitionId};
use rivven_cluster::partition::metadata::{
    Command, Election, FEATURE_LEVEL, Metadata, Partition, PlanPart, Recovery, TopicSpec,
};
use rivven_cluster::partition::planning;
use rivven_cluster::partition::retention::Retention;
use rivven_cluster::rng::Stream;

/// The most topics at a time.
const TOPICS_MAX: u64 = 3;
/// The most replicas of a partition.
const REPLICAS_MAX: usize = 3;

/// How long the steward is content, in milliseconds, at least and less than.
pub const CONTENT: (u64, u64) = (150, 900);

/// What a steward wants next of a cluster that looks like this.
pub fn wish(metadata: &Metadata, choices: &mut Stream) -> Option<Command> {
    let count = u64::try_from(metadata.partitions()).unwrap_or(u64::MAX);
    let place = usize::try_from(choices.below(count.max(1))).unwrap_or_default();
    let found = metadata.all_partitions().nth(place);
    match choices.below(16) {
        0..=2 => create(metadata, choices),
        3 if choices.below(3) == 0 => Some(Command::DeleteTopic { topic: found?.0.topic }),
        4 => extend(metadata, found?.0),
        5 | 6 => drain(metadata, choices),
        7 => plan(metadata),
        8 if choices.below(2) == 0 => Some(Command::CancelPlan { plan: metadata.plan()?.id }),
        9 => {
            let (partition, record) = found?;
            let node = one_of(&record.replicas, choices)?;
            Some(Command::ElectLeader {
                partition,
                epoch: record.epoch,
                election: Election::Designated(node),
            })
        }
        10 | 11 => reassign(metadata, found?, choices),
        12 => {
            let (node, record) = metadata.nodes().nth(usize::try_from(choices.below(8)).ok()?)?;
            let weight = u32::try_from(choices.between(1, 4)).ok()?;
            Some(Command::SetShare { node, seen: record.changed, weight, rack: record.rack.clone() })
        }
        13 => {
            // Nobody else would: who leads now may lack what was acknowledged.
            let partition = metadata.leaderless().next()?;
            let record = metadata.partition(partition)?;
            let election = Election::Unclean(one_of(&record.replicas, choices)?);
            Some(Command::ElectLeader { partition, epoch: record.epoch, election })
        }
        14 => {
            let topic = found?.0.topic;
            let (version, min) = (metadata.topic(topic)?.version, choices.between(1, 3));
            let min_in_sync = u16::try_from(min).ok();
            let retention = choices.chance(1, 2).then(|| keep(choices));
            Some(Command::ConfigureTopic { topic, version, min_in_sync, recovery: None, retention })
        }
        15 => {
            let from = metadata.feature_level();
            (from < FEATURE_LEVEL).then_some(Command::SetFeatureLevel { from, to: FEATURE_LEVEL })
        }
        _ => None,
    }
}

fn one_of(nodes: &[NodeId], choices: &mut Stream) -> Option<NodeId> {
    let length = u64::try_from(nodes.len()).ok().filter(|length| *length > 0)?;
    nodes.get(usize::try_from(choices.below(length)).ok()?).copied()
}

fn create(metadata: &Metadata, choices: &mut Stream) -> Option<Command> {
    let name = format!("topic-{}", choices.below(TOPICS_MAX));
    let partitions = u32::try_from(choices.between(1, 6)).ok()?;
    let nodes = metadata.nodes().count().min(REPLICAS_MAX);
    let replicas = u16::try_from(nodes).ok()?;
    let assignments = planning::assign(metadata, &name, (0, partitions), replicas).ok()?;
    let retention = keep(choices);
    let spec =
        TopicSpec { name, replicas, min_in_sync: replicas / 2 + 1, recovery: Recovery::Manual, retention };
    Some(Command::CreateTopic { spec, assignments })
}

/// A few records, or a few seconds, or everything.
fn keep(choices: &mut Stream) -> Retention {
    let bytes = choices.chance(1, 3).then(|| choices.between(0, 1000));
    let seconds = choices.chance(1, 3).then(|| u32::try_from(choices.between(1, 20)).unwrap_or(1));
    Retention { bytes, seconds }
}

fn extend(metadata: &Metadata, partition: PartitionId) -> Option<Command> {
    let topic = metadata.topic(partition.topic)?;
    let from = u32::try_from(topic.partitions.len()).ok().filter(|from| *from < 12)?;
    let (name, replicas) = (&topic.spec.name, topic.spec.replicas);
    let assignments = planning::assign(metadata, name, (from, 1), replicas).ok()?;
    Some(Command::AddPartitions { topic: partition.topic, from, assignments })
}

/// One node drains at a time.
fn drain(metadata: &Metadata, choices: &mut Stream) -> Option<Command> {
    let draining = metadata.nodes().find(|(_, record)| record.is_draining);
    let nodes: Vec<NodeId> = metadata.nodes().map(|(node, _)| node).collect();
    let is_draining = draining.is_none();
    let node = if let Some((node, _)) = draining { node } else { one_of(&nodes, choices)? };
    Some(Command::SetDraining { node, seen: metadata.node(node)?.changed, is_draining })
}

fn plan(metadata: &Metadata) -> Option<Command> {
    let nodes = planning::nodes(metadata, |_| false);
    let changes = planning::rebalance(metadata, &nodes).ok()?.changes;
    let part = PlanPart::First { last: metadata.last_plan() };
    (!changes.is_empty()).then_some(Command::SubmitPlan { part, changes, is_last: true })
}

/// Some other nodes, in any order; or an end to what moves.
fn reassign(
    metadata: &Metadata,
    (partition, record): (PartitionId, &Partition),
    choices: &mut Stream,
) -> Option<Command> {
    let epoch = record.epoch;
    if record.reassignment.is_some() && choices.below(2) == 0 {
        return Some(Command::CancelReassignment { partition, epoch });
    }
    let mut nodes: Vec<NodeId> = metadata.nodes().map(|(node, _)| node).collect();
    let mut target = Vec::new();
    while target.len() < REPLICAS_MAX {
        let Some(node) = one_of(&nodes, choices) else { break };
        nodes.retain(|other| *other != node);
        target.push(node);
    }
    Some(Command::StartReassignment { partition, epoch, target })
}

/// How long the steward is content until its next wish.
pub fn rest(choices: &mut Stream) -> Duration {
    Duration::from_millis(choices.between(CONTENT.0, CONTENT.1))
}
