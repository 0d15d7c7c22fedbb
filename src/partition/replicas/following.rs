//! What a node fetches from the leaders of its partitions, and asks again if it is not answered.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Replicas;
use super::hosted::Asked;
use super::io::Delivery;
use crate::id::{NodeId, PartitionId};
use crate::partition::records;
use crate::partition::replica::io::{Answer, Fetch};
use crate::time::Instant;

/// The leaders that this node follows, and when it looks whether they have answered.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Upstreams(BTreeMap<NodeId, Instant>);

impl Upstreams {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.values().min().copied()
    }
}

impl Replicas {
    /// Says to the leader of a partition what this node has, if that is not what was said.
    pub(super) fn fetch(
        &mut self,
        now: Instant,
        id: PartitionId,
        fetches: &mut BTreeMap<NodeId, Vec<(PartitionId, Fetch)>>,
    ) {
        let is_full = self.open_bytes + self.written_bytes > self.settings.unwritten_bytes_max;
        let Some(hosted) = self.hosted.get_mut(&id) else { return };
        let Some((leader, fetch)) = hosted.replica.fetch() else { return };
        if is_full {
            // The disk does not keep up: it is asked for more when it has written something.
            self.postponed.insert(id);
            return;
        }
        if hosted.asked.is_some_and(|asked| (asked.leader, asked.fetch) == (leader, fetch)) {
            return;
        }
        hosted.asked = Some(Asked { leader, fetch, at: now });
        self.upstreams.0.entry(leader).or_insert(now + self.settings.wait_max);
        fetches.entry(leader).or_default().push((id, fetch));
    }

    /// Whatever was asked of a leader some time ago is asked again: the question or the answer may be lost.
    pub(super) fn ask_again(&mut self, now: Instant) {
        let wait = self.settings.wait_max;
        let due: BTreeSet<NodeId> =
            self.upstreams.0.iter().filter(|(_, at)| **at <= now).map(|(leader, _)| *leader).collect();
        if due.is_empty() {
            return;
        }
        self.upstreams.0.retain(|leader, _| !due.contains(leader));
        for (id, hosted) in &mut self.hosted {
            let Some(asked) = hosted.asked.filter(|asked| due.contains(&asked.leader)) else { continue };
            self.upstreams.0.insert(asked.leader, now + wait);
            // What was asked just now may still be answered.
            if asked.at + wait / 2 <= now {
                hosted.asked = None;
                self.touched.insert(*id);
            }
        }
    }

    /// A leader answers.
    pub(super) fn take_delivery(&mut self, from: NodeId, delivery: Delivery) {
        let Delivery { partition: id, fetched, records } = delivery;
        let Some(hosted) = self.hosted.get_mut(&id) else { return };
        let is_asked = hosted.asked.is_some_and(|asked| asked.leader == from && asked.fetch == fetched.fetch);
        // Whatever was changed on the way is not written: it is asked for again.
        if !is_asked || !records.iter().all(|batch| records::is_sound(&batch.records)) {
            return;
        }
        let is_refused = matches!(fetched.answer, Answer::Refused(_));
        let (has_records, end) = (!records.is_empty(), hosted.replica.log().end);
        let is_answer = hosted.replica.fetched(&fetched, records);
        // Records that do not follow on the log are no help.
        let is_useless = is_refused || (has_records && hosted.replica.log().end == end);
        if is_answer && !is_useless {
            // Otherwise it is asked again when it has waited long enough, or when the metadata is another.
            hosted.asked = None;
        }
        self.carry_out(id);
    }
}
