//! What the controller makes of a node, and what it bases that on.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::watch::Watch;
use super::{Controller, Hint, Sight, Verdict};
use crate::id::{NodeId, TopicId};
use crate::partition::metadata::{Metadata, NodeRecord};
use crate::time::Instant;

/// Why the controller does with a node what it does.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Explanation {
    /// Which node.
    pub node: NodeId,
    /// What the metadata says of it, if it is known.
    pub record: Option<NodeRecord>,
    /// What is to be done about it.
    pub verdict: Verdict,
    /// Whether it is a member of the Raft group.
    pub is_member: bool,
    /// How long ago it spoke, if it did within this leadership.
    pub heard: Option<Duration>,
    /// What gossip says of it, of whichever process.
    pub hint: Option<Hint>,
    /// How long it has been fenced, as far as this controller has seen.
    pub fenced_for: Option<Duration>,
    /// How often it was fenced lately.
    pub flaps: u32,
    /// How long it has to speak before it is unfenced, should it be fenced.
    pub hold: Duration,
    /// After how long away its replicas go elsewhere; zero: never.
    pub replace_after: Duration,
    /// Whether its replicas go elsewhere.
    pub is_given_up: bool,
    /// Whether nodes that seem gone are fenced one at a time only, since there are so many.
    pub is_braking: bool,
    /// How many replicas it has, of how many of them it is in sync, and how many it leads.
    pub replicas: usize,
    /// See `replicas`.
    pub in_sync: usize,
    /// See `replicas`.
    pub leads: usize,
    /// Of which topics, at most so many as fit a screen.
    pub topics: Vec<TopicId>,
}

/// The most topics in an explanation.
const TOPICS_MAX: usize = 20;

impl Controller {
    /// Explains what it does with a node.
    #[must_use]
    pub fn explain(
        &self,
        now: Instant,
        node: NodeId,
        metadata: &Metadata,
        sight: &dyn Fn(NodeId) -> Sight,
    ) -> Explanation {
        let unwatched = Watch::default();
        let watch = self.watches.get(&node).unwrap_or(&unwatched);
        let record = metadata.node(node);
        let seen = sight(node);
        let partitions = || metadata.partitions_of(node).filter_map(|id| metadata.partition(id));
        let mut topics: Vec<TopicId> = metadata.partitions_of(node).map(|id| id.topic).collect();
        topics.dedup();
        topics.truncate(TOPICS_MAX);
        Explanation {
            node,
            record: record.cloned(),
            verdict: self.verdict(now, node, metadata, seen),
            is_member: seen.is_member,
            heard: watch.heard().map(|heard| now.saturating_since(heard)),
            hint: seen.hint,
            fenced_for: watch.fenced_for(now),
            flaps: watch.flaps_now(now, self.settings.calm),
            hold: record.map_or(Duration::ZERO, |record| self.hold(now, record, watch)),
            replace_after: self.settings.replace_after,
            is_given_up: record.is_some() && self.is_given_up(now, node, metadata, sight),
            is_braking: self.is_braking,
            replicas: partitions().count(),
            in_sync: partitions().filter(|partition| partition.in_sync.contains(&node)).count(),
            leads: partitions().filter(|partition| partition.leader == Some(node)).count(),
            topics,
        }
    }
}
