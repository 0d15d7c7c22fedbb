//! KIP-500, KIP-966: equal logs give equal metadata, a leader epoch has one leader, and who is in sync is there.
//!
//! The rules are written down here once more, from their sources, and not taken from the code that they judge.

use std::collections::{BTreeMap, BTreeSet};

use rivven_cluster::id::{LeaderEpoch, LogIndex, NodeId, PartitionEpoch, PartitionId};
use rivven_cluster::partition::metadata::{Metadata, NodeRecord, NodeState, Partition};
use rivven_cluster::wire::codec;
use xxhash_rust::xxh3::xxh3_64;

use super::{Rule, Verdict, broken};

/// What each node has of the metadata.
#[derive(Clone, Default)]
pub struct MetadataRules {
    /// The hash of the state after the command at each index, and who had it first.
    states: BTreeMap<LogIndex, (u64, u64)>,
    /// Who led in each leader epoch.
    leaders: BTreeMap<(PartitionId, LeaderEpoch), Option<NodeId>>,
    /// The epochs of each partition, as each node has seen them last.
    epochs: BTreeMap<(u64, PartitionId), (PartitionEpoch, LeaderEpoch)>,
    /// Nodes whose metadata has changed since they last settled, and by which command last.
    stirred: BTreeMap<u64, LogIndex>,
    /// The newest that any node has had.
    newest: Option<(LogIndex, Metadata)>,
    /// The hash of what each running node has.
    held: BTreeMap<u64, u64>,
}

impl MetadataRules {
    /// A process of `node` started, on some older state.
    pub fn started(&mut self, node: u64) {
        self.epochs.retain(|(of, _), _| *of != node);
        self.stirred.remove(&node);
        self.held.remove(&node);
    }

    /// `node` has executed the command at this index, or replaced its state by a snapshot of it.
    pub fn changed(&mut self, node: u64, at: LogIndex) {
        self.stirred.insert(node, at);
    }

    /// `node` has settled. Tells whether there was anything new, too.
    pub fn settled(&mut self, node: u64, metadata: &Metadata) -> (Verdict, bool) {
        let Some(at) = self.stirred.remove(&node) else { return (Ok(()), false) };
        let hash = xxh3_64(&codec::encode(metadata));
        self.held.insert(node, hash);
        let verdict = self.judge(node, (at, hash), metadata);
        if self.newest.as_ref().is_none_or(|(newest, _)| *newest < at) {
            self.newest = Some((at, metadata.clone()));
        }
        (verdict, true)
    }

    fn judge(&mut self, node: u64, (at, hash): (LogIndex, u64), metadata: &Metadata) -> Verdict {
        let violation = |what: String| broken(Rule::Metadata, format!("node {node} at {at}: {what}"));
        let (expected, first) = *self.states.entry(at).or_insert((hash, node));
        if expected != hash {
            return violation(format!("its metadata is not that of node {first} at the same index"));
        }
        for (topic, record) in metadata.topics() {
            for (number, partition) in (0..).zip(&record.partitions) {
                let id = PartitionId { topic, number };
                if let Err(what) = judge_partition(partition, record.spec.min_in_sync, metadata) {
                    return violation(format!("partition {id}: {what}: {partition:?}"));
                }
                let key = (id, partition.leader_epoch);
                let leader = *self.leaders.entry(key).or_insert(partition.leader);
                if leader != partition.leader {
                    let (epoch, now) = (partition.leader_epoch, partition.leader);
                    return violation(format!(
                        "partition {id} is led by {leader:?} and {now:?} in epoch {epoch}"
                    ));
                }
                let epochs = (partition.epoch, partition.leader_epoch);
                let before = self.epochs.insert((node, id), epochs).unwrap_or_default();
                if epochs.0 < before.0 || epochs.1 < before.1 {
                    return violation(format!(
                        "the epochs of partition {id} went from {before:?} to {epochs:?}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// The newest that any node has had.
    pub fn newest(&self) -> Option<&Metadata> {
        self.newest.as_ref().map(|(_, metadata)| metadata)
    }

    /// What is missing in the end: `members` are the nodes that are there, `gone` those that were put out.
    pub fn unsettled(&self, members: &BTreeSet<u64>, gone: impl IntoIterator<Item = u64>) -> Option<String> {
        let Some((newest, metadata)) = &self.newest else {
            return Some("no node has begun a session".to_owned());
        };
        let hash = xxh3_64(&codec::encode(metadata));
        if let Some(node) = members.iter().find(|node| self.held.get(node) != Some(&hash)) {
            return Some(format!("node {node} has not the metadata of {newest}"));
        }
        let state =
            |node: u64| NodeId::new(node).and_then(|node| metadata.node(node)).map(|record| record.state);
        if let Some(node) = members.iter().find(|node| state(**node) != Some(NodeState::Active)) {
            return Some(format!("node {node} is {:?}, and there", state(*node)));
        }
        let gone: BTreeSet<u64> = gone.into_iter().collect();
        if let Some(node) = gone.iter().find(|node| state(**node) == Some(NodeState::Active)) {
            return Some(format!("node {node} is active, and was put out"));
        }
        if let Some(plan) = metadata.plan() {
            let change = plan.changes.iter().find(|change| {
                metadata.partition(change.partition).is_some_and(|found| found.replicas != change.to)
            });
            let now = change.and_then(|change| metadata.partition(change.partition));
            let (is_complete, is_cancelled) = (plan.is_complete, plan.is_cancelled);
            return Some(format!(
                "plan {} has not ended, complete: {is_complete}, cancelled: {is_cancelled}; {change:?} is to become of {now:?}",
                plan.id
            ));
        }
        if let Some(what) = kept(metadata, &gone) {
            return Some(what);
        }
        let is_there = |node: &NodeId| state(node.value()) == Some(NodeState::Active);
        for (topic, record) in metadata.topics() {
            for (number, partition) in (0..).zip(&record.partitions) {
                let id = PartitionId { topic, number };
                let lacks = |node: &&NodeId| is_there(node) && !partition.in_sync.contains(node);
                if let (Some(_), Some(node)) = (partition.leader, partition.replicas.iter().find(lacks)) {
                    return Some(format!("node {node} is there, and not in sync in partition {id}"));
                }
                let moves = partition.reassignment.as_deref();
                let can_end = partition.leader.is_some();
                if can_end && moves.is_some_and(|moves| moves.target.iter().all(is_there)) {
                    return Some(format!("partition {id} has not come where it should be"));
                }
            }
        }
        None
    }
}

/// What a node still holds that drains, or was put out, though others could.
fn kept(metadata: &Metadata, gone: &BTreeSet<u64>) -> Option<String> {
    let is_whole = |partition: &Partition| {
        let is_out = |node: &NodeId| gone.contains(&node.value()) || partition.in_sync.contains(node);
        partition.leader.is_some() && partition.replicas.iter().all(is_out)
    };
    // As long as anything has no copy to spare, the rest waits.
    if !metadata.all_partitions().all(|(_, partition)| is_whole(partition)) {
        return None;
    }
    let takes =
        |(_, record): &(NodeId, &NodeRecord)| record.state == NodeState::Active && !record.is_draining;
    let takers = metadata.nodes().filter(takes).count();
    let leaves = |(node, record): &(NodeId, &NodeRecord)| record.is_draining || gone.contains(&node.value());
    for (node, _) in metadata.nodes().filter(leaves) {
        let could_move =
            |id: &PartitionId| metadata.partition(*id).is_some_and(|found| found.replicas.len() <= takers);
        if let Some(id) = metadata.partitions_of(node).find(could_move) {
            return Some(format!("node {node} drains, or was put out, and still holds partition {id}"));
        }
    }
    None
}

/// KIP-966, and what in sync means.
fn judge_partition(partition: &Partition, min_in_sync: u16, metadata: &Metadata) -> Result<(), &'static str> {
    let Partition { replicas, in_sync, eligible, leader, .. } = partition;
    let is_active =
        |node: &NodeId| metadata.node(*node).is_some_and(|record| record.state == NodeState::Active);
    let distinct: BTreeSet<&NodeId> = replicas.iter().collect();
    if distinct.is_empty() || distinct.len() != replicas.len() {
        return Err("its replicas are not different ones");
    }
    if !in_sync.iter().chain(eligible).all(|node| distinct.contains(node)) {
        return Err("who is in sync or eligible has no replica");
    }
    if in_sync.iter().any(|node| eligible.contains(node)) {
        return Err("who is in sync is eligible beside that");
    }
    if !in_sync.iter().all(is_active) {
        return Err("who is fenced is in sync");
    }
    if leader.is_some_and(|leader| !in_sync.contains(&leader)) {
        return Err("the leader is not in sync");
    }
    if leader.is_none() && in_sync.iter().chain(eligible).any(is_active) {
        return Err("somebody who has everything is there, and nobody leads");
    }
    if in_sync.len() >= usize::from(min_in_sync).min(replicas.len()) && !eligible.is_empty() {
        return Err("enough are in sync, and others are eligible, too");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rivven_cluster::id::{BootId, Token};
    use rivven_cluster::partition::metadata::command::Registration;
    use rivven_cluster::partition::metadata::{Command, FenceReason, Outcome, Recovery, TopicSpec};
    use rivven_cluster::partition::retention::Retention;

    fn id(number: u64) -> NodeId {
        NodeId::new(number).unwrap()
    }

    /// Nodes 1 to 3, all active, and a topic of one partition.
    fn metadata() -> (LogIndex, Metadata) {
        let (mut index, mut metadata) = (LogIndex::new(1), Metadata::default());
        let mut run = |command: Command| {
            index = index.next();
            metadata.apply(index, &command).0.unwrap()
        };
        for node in 1..=3 {
            let registration = Registration {
                node: id(node),
                token: Token::new(0),
                boot: BootId::new(1),
                address: format!("node{node}:1").parse().unwrap(),
                known: None,
                ended: None,
                is_durable: true,
                weight: 1,
                rack: None,
                features: 1,
            };
            let Outcome::Registered(epoch) = run(Command::RegisterNode(registration)) else { unreachable!() };
            let seen = LogIndex::new(epoch.value());
            run(Command::UnfenceNode { node: id(node), epoch, seen, applied: seen });
        }
        let (name, recovery) = ("t".to_owned(), Recovery::Manual);
        let spec = TopicSpec { name, replicas: 3, min_in_sync: 2, recovery, retention: Retention::default() };
        run(Command::CreateTopic { spec, assignments: vec![vec![id(1), id(2), id(3)]] });
        (index, metadata)
    }

    #[test]
    fn two_states_at_one_index_and_two_leaders_in_one_epoch_are_violations() {
        let (at, state) = metadata();
        let mut rules = MetadataRules::default();
        assert_eq!(rules.settled(1, &state), (Ok(()), false), "nothing is new");
        for node in [1, 2] {
            rules.changed(node, at);
            assert_eq!(rules.settled(node, &state), (Ok(()), true));
        }
        rules.changed(3, at);
        assert!(rules.settled(3, &Metadata::default()).0.is_err());

        let mut other = state.clone();
        let record = other.node(id(1)).unwrap().clone();
        let reason = FenceReason::Dead;
        let fence = Command::FenceNode { node: id(1), epoch: record.epoch, seen: record.changed, reason };
        assert_eq!(other.apply(at.next(), &fence).0, Ok(Outcome::Changed));
        let mut rules = MetadataRules::default();
        rules.leaders.insert((place(&other), LeaderEpoch::new(2)), Some(id(3)));
        rules.changed(1, at.next());
        assert!(rules.settled(1, &other).0.is_err(), "node 3 led in epoch 2, and now node 2 does");
    }

    fn place(metadata: &Metadata) -> PartitionId {
        PartitionId { topic: metadata.topic_named("t").unwrap().0, number: 0 }
    }

    #[test]
    fn each_rule_of_a_partition_is_judged() {
        let (_, metadata) = metadata();
        let sound = metadata.partition(place(&metadata)).unwrap().clone();
        assert_eq!(judge_partition(&sound, 2, &metadata), Ok(()));
        let broken: [&dyn Fn(&mut Partition); 6] = [
            &|partition| partition.replicas = vec![id(1), id(1)],
            &|partition| partition.replicas.truncate(2),
            &|partition| partition.eligible = vec![id(2)],
            &|partition| partition.in_sync.retain(|node| *node != id(1)),
            &|partition| partition.leader = None,
            &|partition| (partition.replicas[2], partition.in_sync[2]) = (id(9), id(9)),
        ];
        for change in broken {
            let mut partition = sound.clone();
            change(&mut partition);
            assert!(judge_partition(&partition, 2, &metadata).is_err(), "{partition:?}");
        }
        let mut partition = sound;
        partition.in_sync.truncate(2);
        partition.eligible = vec![id(3)];
        assert!(judge_partition(&partition, 2, &metadata).is_err(), "enough are in sync");
        assert_eq!(judge_partition(&partition, 3, &metadata), Ok(()));
    }

    #[test]
    fn in_the_end_all_are_active_and_nothing_moves() {
        let (at, state) = metadata();
        let mut rules = MetadataRules::default();
        assert!(rules.unsettled(&BTreeSet::from([1]), []).is_some(), "nothing was ever seen");
        for node in 1..=3 {
            rules.changed(node, at);
            assert_eq!(rules.settled(node, &state), (Ok(()), true));
        }
        assert_eq!(rules.unsettled(&BTreeSet::from([1, 2, 3]), []), None);
        assert!(rules.unsettled(&BTreeSet::from([1, 2, 4]), []).is_some(), "node 4 never came");
        assert!(rules.unsettled(&BTreeSet::from([1, 2]), [3]).is_some(), "node 3 was put out");
        rules.started(2);
        assert!(rules.unsettled(&BTreeSet::from([1, 2, 3]), []).is_some(), "node 2 has only begun");
    }
}
