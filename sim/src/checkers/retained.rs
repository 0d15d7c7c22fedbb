//! (Ours) A leader drops only what its topic does not want to be kept. How old that is only its clock knows.
//!
//! It drops by what it has heard. It may drop something, and then hear that this was to be kept, before the drop is handed
//! to the disk with the next batch: so it is held against all that the topic has said since before the batch before that.

use core::ops::RangeInclusive;
use std::collections::{BTreeMap, BTreeSet};

use rivven_cluster::id::TopicId;
use rivven_cluster::partition::metadata::Metadata;
use rivven_cluster::partition::retention::Retention;

/// What topics want to be kept.
#[derive(Clone, Default)]
pub(super) struct Retained {
    /// By the version of the topic.
    said: BTreeMap<TopicId, BTreeMap<u32, Retention>>,
    /// Which version each node knew when it settled last.
    heard: BTreeMap<(u64, TopicId), u32>,
    /// Which one before it settled with its last batch handed out.
    since: BTreeMap<(u64, TopicId), u32>,
    /// Who has handed out a batch and not settled yet.
    has_written: BTreeSet<u64>,
    /// Of what topics each node has heard something since then.
    stirred: BTreeSet<(u64, TopicId)>,
}

impl Retained {
    /// A process of `node` started: it has heard what it finds on its disk, whatever that is.
    pub(super) fn started(&mut self, node: u64) {
        self.heard.retain(|(of, _), _| *of != node);
        self.since.retain(|(of, _), _| *of != node);
        self.stirred.retain(|(of, _)| *of != node);
        self.has_written.remove(&node);
    }

    /// `node` hands a batch to its disk.
    pub(super) fn written(&mut self, node: u64) {
        self.has_written.insert(node);
    }

    /// `node` has heard something of a topic.
    pub(super) fn changed(&mut self, node: u64, id: TopicId) {
        self.stirred.insert((node, id));
    }

    /// `node` is about to be judged, and knows this.
    pub(super) fn note(&mut self, node: u64, metadata: &Metadata) {
        for (id, topic) in self.news(node).into_iter().filter_map(|id| Some((id, metadata.topic(id)?))) {
            self.said.entry(id).or_default().insert(topic.version, topic.spec.retention);
        }
    }

    /// `node` was judged.
    pub(super) fn settled(&mut self, node: u64, metadata: &Metadata) {
        if self.has_written.remove(&node) {
            let heard = self.heard.range(every_topic(node));
            self.since.extend(heard.map(|(of, version)| (*of, *version)));
        }
        for id in self.news(node) {
            self.stirred.remove(&(node, id));
            if let Some(topic) = metadata.topic(id) {
                self.heard.insert((node, id), topic.version);
            }
        }
    }

    fn news(&self, node: u64) -> Vec<TopicId> {
        self.stirred.range(every_topic(node)).map(|(_, id)| *id).collect()
    }

    /// Whether `node`, which knows this version by now, may have dropped so much that so many bytes are left.
    pub(super) fn allows(&self, node: u64, id: TopicId, version: u32, left: u64) -> bool {
        let since = self.since.get(&(node, id)).copied().unwrap_or(0);
        let allows = |Retention { bytes, seconds }: &Retention| {
            seconds.is_some() || bytes.is_some_and(|kept| left >= kept)
        };
        self.said
            .get(&id)
            .is_some_and(|said| said.range(since.min(version)..=version).any(|(_, it)| allows(it)))
    }
}

fn every_topic(node: u64) -> RangeInclusive<(u64, TopicId)> {
    (node, TopicId::new(0))..=(node, TopicId::new(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: TopicId = TopicId::new(1);

    fn said(versions: &[(u32, Option<u64>)]) -> Retained {
        let row =
            versions.iter().map(|(version, bytes)| (*version, Retention { bytes: *bytes, seconds: None }));
        Retained { said: [(TOPIC, row.collect())].into(), ..Retained::default() }
    }

    #[test]
    fn what_is_left_is_held_against_what_the_topic_wants_kept() {
        let retained = said(&[(1, Some(500))]);
        assert!(retained.allows(1, TOPIC, 1, 500));
        assert!(!retained.allows(1, TOPIC, 1, 499));
        assert!(!said(&[(1, None)]).allows(1, TOPIC, 1, 500));
    }

    #[test]
    fn a_drop_that_was_decided_before_more_was_to_be_kept_is_no_violation_but_a_later_one_is() {
        let mut retained = said(&[(1, Some(300)), (2, None)]);
        let settle = |retained: &mut Retained, writes: bool, version| {
            if writes {
                retained.written(1);
            }
            retained.settled(1, &Metadata::default());
            retained.heard.insert((1, TOPIC), version);
        };
        settle(&mut retained, true, 1);
        assert!(retained.allows(1, TOPIC, 2, 392), "heard of in the same step: seed 7970");
        assert!(!retained.allows(1, TOPIC, 2, 299));
        settle(&mut retained, false, 2);
        assert!(retained.allows(1, TOPIC, 2, 392), "decided in the step before, and written now: seed 10435");
        settle(&mut retained, true, 2);
        settle(&mut retained, true, 2);
        assert!(!retained.allows(1, TOPIC, 2, 392));
    }
}
