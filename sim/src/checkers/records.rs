//! Spec of in-sync replication (KIP-101, 497, 966): what is committed in a partition never changes, and every leader has it.
//!
//! ```text
//!   write batches ─► the log of each replica ─┐
//!   high watermarks of leaders ───────────────┼─► what is committed ◄─ held against ─ followers, new leaders,
//!   acknowledgements, what consumers read ────┘                                       producers, consumers
//! ```
//!
//! Nothing is asked of a partition that an operator has given up to a leader that may lack something, nor of one of which
//! as many disks were lost as acknowledged records are on.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rivven_cluster::id::{LeaderEpoch, NodeId, Offset, PartitionId, ProducerId};
use rivven_cluster::node::{Durable, WriteBatch};
use rivven_cluster::partition::log::{Change, Entry, Log, Logs, What};
use rivven_cluster::partition::metadata::{Delta, Metadata, Partition};
use rivven_cluster::partition::records;
use rivven_cluster::partition::replica::Replica;
use rivven_cluster::partition::replica::io::{Batch, Stamp};
use rivven_cluster::partition::replicas::Replicas;

use super::retained::Retained;
use super::{Rule, Verdict, broken};

/// The records of all partitions.
#[derive(Clone, Default)]
pub struct Records {
    /// The logs of each node, as far as it has handed them to its disk.
    logs: BTreeMap<u64, Logs<()>>,
    /// What was written in each place by each leader.
    written: BTreeMap<(PartitionId, Offset, LeaderEpoch), Bytes>,
    committed: BTreeMap<PartitionId, Committed>,
    /// Up to where each node's log was held against that.
    judged: BTreeMap<(u64, PartitionId), Offset>,
    /// What each node has dropped from the front of its logs since it settled last.
    dropped: BTreeMap<(u64, PartitionId), Vec<Entry<()>>>,
    /// What topics want to be kept.
    retained: Retained,
    /// The leader epoch that each node led in when it settled last.
    leads: BTreeMap<(u64, PartitionId), LeaderEpoch>,
    /// Partitions of which nothing is asked any more.
    given_up: BTreeSet<PartitionId>,
    /// How many disks each partition has lost.
    lost: BTreeMap<PartitionId, u64>,
    /// The fewest replicas that ever had to be in sync.
    minimum: BTreeMap<PartitionId, usize>,
    /// What producers and consumers were told by a node that has not settled yet.
    told: Vec<(u64, Told)>,
    /// What somebody was told of which no leader is known yet that has committed it: one must be in the end.
    unproved: Vec<Told>,
    /// How many batches were acknowledged.
    acknowledged: u64,
}

/// What somebody was told.
#[derive(Clone, Debug)]
pub enum Told {
    /// A batch is on every replica in sync.
    Acknowledged {
        /// In which partition.
        partition: PartitionId,
        /// Its place.
        first: Offset,
        /// Whose it is.
        stamp: Stamp,
    },
    /// This is committed.
    Read {
        /// In which partition.
        partition: PartitionId,
        /// From where on it was asked for.
        from: Offset,
        /// What.
        batches: Vec<Batch>,
    },
    /// This record is committed.
    Record {
        /// In which partition.
        partition: PartitionId,
        /// Its place.
        offset: Offset,
        /// What is in it.
        value: Bytes,
    },
}

impl Told {
    fn partition(&self) -> PartitionId {
        let (Told::Acknowledged { partition, .. }
        | Told::Read { partition, .. }
        | Told::Record { partition, .. }) = self;
        *partition
    }
}

/// What is committed in a partition.
#[derive(Clone, Default)]
struct Committed {
    end: Offset,
    /// With the leader epoch in which it was.
    batches: BTreeMap<Offset, (Place, LeaderEpoch)>,
    stamps: BTreeMap<(ProducerId, u64), Offset>,
    /// The batch of each value: no value is produced twice.
    values: BTreeMap<Bytes, Offset>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Place {
    epoch: LeaderEpoch,
    count: u32,
    stamp: Option<Stamp>,
}

fn violation(what: String) -> Verdict {
    broken(Rule::Records, what)
}

impl Records {
    /// A process of `node` started on what was durable.
    pub fn started(&mut self, node: u64, durable: &Durable) {
        self.logs.insert(node, durable.logs.clone());
        self.judged.retain(|(of, _), _| *of != node);
        self.leads.retain(|(of, _), _| *of != node);
        self.dropped.retain(|(of, _), _| *of != node);
        self.told.retain(|(of, _)| *of != node);
        self.retained.started(node);
    }

    /// The disk of `node` is empty now.
    pub fn emptied(&mut self, node: u64) {
        let logs = self.logs.remove(&node).unwrap_or_default();
        for (partition, _) in logs.iter() {
            let lost = self.lost.entry(partition).or_default();
            *lost += 1;
            let survives = self.minimum.get(&partition).copied().unwrap_or(1);
            if usize::try_from(*lost).unwrap_or(usize::MAX) >= survives {
                self.given_up.insert(partition);
            }
        }
    }

    /// What became of the metadata of `node`.
    pub fn changed(&mut self, node: u64, deltas: &[Delta]) {
        for delta in deltas {
            if let Delta::MayHaveLost(partition) = delta {
                self.given_up.insert(*partition);
            }
            if let Delta::Topic(topic) = delta {
                self.retained.changed(node, *topic);
            }
        }
    }

    /// `node` hands a batch to its disk.
    pub fn write(&mut self, node: u64, batch: &WriteBatch) -> Verdict {
        let mut verdict = Ok(());
        self.retained.written(node);
        for change in &batch.logs {
            verdict = verdict.and_then(|()| self.judge_change(node, change));
            self.keep_dropped(node, change);
            self.logs.entry(node).or_default().note(change);
            let judged = self.judged.entry((node, change.partition)).or_default();
            match change.what {
                What::Truncate(to) | What::Restart(to) => *judged = (*judged).min(to),
                What::Remove => *judged = Offset::default(),
                What::Append(_) | What::Trim(_) | What::Committed(_) => {}
            }
        }
        verdict
    }

    /// A leader may commit something and drop it before it settles.
    fn keep_dropped(&mut self, node: u64, change: &Change) {
        let (id, log) = (change.partition, self.logs.get(&node).and_then(|logs| logs.get(change.partition)));
        if let (What::Trim(start), Some(log)) = (&change.what, log) {
            let dropped = log.batches().take_while(|batch| batch.end() <= *start).cloned();
            self.dropped.entry((node, id)).or_default().extend(dropped);
        }
    }

    /// Logs that have a batch of one leader in one place have the same batch (log matching).
    fn judge_change(&mut self, node: u64, change: &Change) -> Verdict {
        let What::Append(batch) = &change.what else { return Ok(()) };
        let id = change.partition;
        let written = self.written.entry((id, batch.first, batch.epoch));
        if *written.or_insert_with(|| batch.records.clone()) != batch.records {
            let (first, epoch) = (batch.first, batch.epoch);
            return violation(format!(
                "node {node} writes another batch of epoch {epoch} at {first} of {id} than was there"
            ));
        }
        let end = self.logs.get(&node).and_then(|logs| logs.get(id)).map(Log::end).unwrap_or_default();
        if end != batch.first {
            return violation(format!(
                "node {node} writes a batch at {} of {id}, whose log ends at {end}",
                batch.first
            ));
        }
        Ok(())
    }

    /// Somebody was told something by `node`.
    pub fn told(&mut self, node: u64, told: Told) {
        self.told.push((node, told));
    }

    /// Somebody far away was told something.
    pub fn heard(&mut self, told: Told) {
        if self.judge_told(0, &told).is_err() {
            self.unproved.push(told);
        }
    }

    /// `node` has settled.
    pub fn settled(&mut self, node: u64, replicas: &Replicas, metadata: &Metadata) -> Verdict {
        self.retained.note(node, metadata);
        for (id, replica) in replicas.iter() {
            if self.given_up.contains(&id) {
                continue;
            }
            let view = replica.view();
            let minimum = self.minimum.entry(id).or_insert(view.min_in_sync);
            *minimum = (*minimum).min(view.min_in_sync);
            self.judge_leader(node, id, replica)?;
            let version = metadata.topic(id.topic).map_or(u32::MAX, |topic| topic.version);
            self.judge_drop(node, id, version, replica)?;
            self.judge_log(node, id, replica)?;
            match replica.leads() {
                Some(epoch) => _ = self.leads.insert((node, id), epoch),
                None => _ = self.leads.remove(&(node, id)),
            }
        }
        self.retained.settled(node, metadata);
        let told = core::mem::take(&mut self.told);
        let (now, later): (Vec<_>, Vec<_>) = told.into_iter().partition(|(of, _)| *of == node);
        self.told = later;
        let exists = |told: &Told| metadata.partition(told.partition()).is_some();
        for (_, told) in now.into_iter().filter(|(_, told)| exists(told)) {
            if replicas.replica(told.partition()).is_some() {
                self.judge_told(node, &told)?;
            } else {
                self.unproved.push(told);
            }
        }
        Ok(())
    }

    /// A leader has everything that was committed in earlier epochs, as far as it was not trimmed. Whoever hears late that
    /// it leads may have been replaced already.
    fn judge_leader(&mut self, node: u64, id: PartitionId, replica: &Replica) -> Verdict {
        let Some(epoch) = replica.leads() else { return Ok(()) };
        if self.leads.get(&(node, id)) == Some(&epoch) {
            return Ok(());
        }
        let Some(committed) = self.committed.get(&id) else { return Ok(()) };
        let log = self.logs.get(&node).and_then(|logs| logs.get(id));
        let (has, start) = log.map(|log| (places(log), log.start())).unwrap_or_default();
        let lacks = |(first, (place, since)): &(&Offset, &(Place, LeaderEpoch))| {
            let is_kept = first.plus(place.count.into()) > start;
            *since < epoch && is_kept && has.get(first) != Some(place)
        };
        match committed.batches.iter().find(lacks) {
            None => Ok(()),
            Some((first, (place, _))) => violation(format!(
                "node {node} leads {id} in epoch {epoch}, and has {:?} at {first}, where {place:?} is committed",
                has.get(first)
            )),
        }
    }

    /// A leader drops only what its topic does not want to be kept. (Who began or ceased to lead in this step may have
    /// dropped something as a follower: that is its leader's affair.)
    fn judge_drop(&self, node: u64, id: PartitionId, version: u32, replica: &Replica) -> Verdict {
        let leads = replica.leads().is_some() && self.leads.contains_key(&(node, id));
        let has_dropped = self.dropped.get(&(node, id)).is_some_and(|dropped| !dropped.is_empty());
        if !leads || !has_dropped {
            return Ok(());
        }
        let Some(log) = self.logs.get(&node).and_then(|logs| logs.get(id)) else { return Ok(()) };
        let is_committed = |batch: &&Entry<()>| batch.end() <= replica.high_watermark();
        let left: u64 = log.batches().filter(is_committed).map(|batch| u64::from(batch.length)).sum();
        if self.retained.allows(node, id.topic, version, left) {
            return Ok(());
        }
        let wanted = replica.view().retention;
        violation(format!(
            "node {node} has dropped what was to be kept of {id}: {left} bytes are left, of {wanted:?}"
        ))
    }

    /// What is below a high watermark is committed: the leader says so, and everybody agrees.
    fn judge_log(&mut self, node: u64, id: PartitionId, replica: &Replica) -> Verdict {
        let dropped = self.dropped.remove(&(node, id)).unwrap_or_default();
        let Some(log) = self.logs.get(&node).and_then(|logs| logs.get(id)) else { return Ok(()) };
        // Whoever led until now may have committed something before it heard that it does not lead any more.
        let leads = replica.leads().max(self.leads.get(&(node, id)).copied());
        // What is not on the disk yet is judged when it is: something may have been cut off meanwhile.
        let end = replica.high_watermark().min(replica.log().durable).min(log.end());
        let from = self.judged.get(&(node, id)).copied().unwrap_or_default();
        if end <= from {
            return Ok(());
        }
        // And a follower's log may begin anew behind what the disk still has.
        let from = if leads.is_some() { from } else { from.max(replica.log().start) };
        let committed = self.committed.entry(id).or_default();
        let batches = dropped.iter().chain(log.batches());
        for batch in batches.filter(|batch| batch.end() > from && batch.end() <= end) {
            let place = Place { epoch: batch.epoch, count: batch.count, stamp: batch.stamp };
            match committed.batches.get(&batch.first) {
                Some((before, _)) if *before == place => {}
                Some((before, _)) => {
                    return violation(format!(
                        "at {} of {id}, {before:?} was committed, and at node {node} {place:?} is",
                        batch.first
                    ));
                }
                // It was trimmed where it was judged first.
                None if batch.first < committed.end => {}
                None => match leads {
                    Some(epoch) => {
                        committed.add(id, batch.first, place, epoch)?;
                        let written = self.written.get(&(id, batch.first, batch.epoch));
                        committed.add_values(id, batch.first, place.count, written)?;
                    }
                    None => {
                        return violation(format!(
                            "node {node}, which follows in {id}, holds {} to be committed, and no leader does",
                            batch.first
                        ));
                    }
                },
            }
        }
        self.judged.insert((node, id), end);
        Ok(())
    }

    fn judge_told(&mut self, node: u64, told: &Told) -> Verdict {
        let id = told.partition();
        if self.given_up.contains(&id) {
            return Ok(());
        }
        let committed = self.committed.entry(id).or_default();
        match told {
            Told::Acknowledged { first, stamp, .. } => {
                self.acknowledged += 1;
                match committed.batches.get(first) {
                    Some((place, _)) if place.stamp == Some(*stamp) => Ok(()),
                    found => violation(format!(
                        "node {node} has acknowledged {stamp:?} at {first} of {id}, where {found:?} is committed"
                    )),
                }
            }
            Told::Record { offset, value, .. } => match self.committed_value(id, *offset) {
                Some(committed) if committed == *value => Ok(()),
                found => violation(format!(
                    "somebody was told that {value:?} is at {offset} of {id}, where {found:?} is committed"
                )),
            },
            Told::Read { from, batches, .. } => {
                judge_row(id, *from, batches)?;
                let is_committed = |batch: &&Batch| {
                    let written = self.written.get(&(id, batch.first, batch.epoch));
                    let place = committed.batches.get(&batch.first);
                    let is_same = place.is_some_and(|(place, _)| {
                        (place.epoch, place.count, place.stamp) == (batch.epoch, batch.count, batch.stamp)
                    });
                    is_same && written == Some(&batch.records)
                };
                match batches.iter().find(|batch| !is_committed(batch)) {
                    None => Ok(()),
                    Some(batch) => violation(format!(
                        "a consumer has read a batch at {} of {id}, where {:?} is committed",
                        batch.first,
                        committed.batches.get(&batch.first)
                    )),
                }
            }
        }
    }

    /// The value of the committed record in a place.
    fn committed_value(&self, id: PartitionId, offset: Offset) -> Option<Bytes> {
        let (first, (place, _)) = self.committed.get(&id)?.batches.range(..=offset).next_back()?;
        let written = self.written.get(&(id, *first, place.epoch))?;
        let records = records::decode(written, place.count).ok()?;
        let at = usize::try_from(offset.value() - first.value()).ok()?;
        records.get(at).map(|record| record.value.clone())
    }

    /// How many batches were acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// What is missing in the end: every replica that is in sync has everything that its leader has, all of it committed.
    pub fn unsettled(&mut self, metadata: &Metadata, members: &BTreeSet<u64>) -> Option<String> {
        let mut unproved = None;
        for told in core::mem::take(&mut self.unproved) {
            let Some(record) = metadata.partition(told.partition()) else { continue };
            let Err(violation) = self.judge_told(0, &told) else { continue };
            if who_commits(metadata, members, told.partition(), record).is_some() {
                unproved.get_or_insert(violation.to_string());
            }
            self.unproved.push(told);
        }
        if unproved.is_some() {
            return unproved;
        }
        for (id, record) in metadata.all_partitions() {
            let ends = |node: &NodeId| {
                let log = self.logs.get(&node.value()).and_then(|logs| logs.get(id));
                log.map(Log::end).unwrap_or_default()
            };
            let Some(leader) = who_commits(metadata, members, id, record) else { continue };
            if let Some(node) = record.in_sync.iter().find(|node| ends(node) != ends(&leader)) {
                let (has, all) = (ends(node), ends(&leader));
                return Some(format!("node {node} has {id} up to {has}, its leader {leader} up to {all}"));
            }
            let judged = self.judged.get(&(leader.value(), id)).copied().unwrap_or_default();
            if judged < ends(&leader) && !self.given_up.contains(&id) {
                return Some(format!("of {id} {judged} are committed, and {} written", ends(&leader)));
            }
        }
        None
    }
}

impl Committed {
    /// One more batch is committed. No batch of a producer is committed twice.
    fn add(&mut self, id: PartitionId, first: Offset, place: Place, epoch: LeaderEpoch) -> Verdict {
        self.end = self.end.max(first.plus(place.count.into()));
        self.batches.insert(first, (place, epoch));
        let Some(stamp) = place.stamp else { return Ok(()) };
        match self.stamps.insert((stamp.producer, stamp.sequence), first) {
            None => Ok(()),
            Some(before) => violation(format!("{stamp:?} is committed at {before} and at {first} of {id}")),
        }
    }

    /// No record is committed twice, by whomever it was sent again.
    fn add_values(&mut self, id: PartitionId, first: Offset, count: u32, written: Option<&Bytes>) -> Verdict {
        let all = written.and_then(|written| records::decode(written, count).ok()).unwrap_or_default();
        for (record, place) in all.into_iter().zip(0..) {
            let (value, offset) = (record.value, first.plus(place));
            if let Some(before) = self.values.insert(value.clone(), offset) {
                return violation(format!("{value:?} is committed at {before} and at {offset} of {id}"));
            }
        }
        Ok(())
    }
}

/// Who reads is told everything from where it asked on, without a gap.
fn judge_row(id: PartitionId, from: Offset, batches: &[Batch]) -> Verdict {
    let mut next = from;
    for batch in batches {
        let follows = batch.first == next || (next == from && batch.first < from && batch.end() > from);
        if !follows {
            return violation(format!("a consumer of {id} has asked for {next}, and got {}", batch.first));
        }
        next = batch.end();
    }
    Ok(())
}

/// Who leads a partition, if that can commit what is written: everybody in sync is there, and they are enough.
fn who_commits(
    metadata: &Metadata,
    members: &BTreeSet<u64>,
    id: PartitionId,
    record: &Partition,
) -> Option<NodeId> {
    let minimum = record.min_in_sync(metadata.topic(id.topic)?.spec.min_in_sync);
    let is_there = |node: &NodeId| members.contains(&node.value());
    let are_enough = record.in_sync.len() >= minimum && record.in_sync.iter().all(is_there);
    record.leader.filter(is_there).filter(|_| are_enough)
}

fn places(log: &Log<()>) -> BTreeMap<Offset, Place> {
    let place = |batch: &Entry<()>| Place { epoch: batch.epoch, count: batch.count, stamp: batch.stamp };
    log.batches().map(|batch| (batch.first, place(batch))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rivven_cluster::id::TopicId;
    use rivven_cluster::time::WallSeconds;

    const PARTITION: PartitionId = PartitionId { topic: TopicId::new(1), number: 0 };

    fn append(first: u64, epoch: u64, records: &'static [u8]) -> WriteBatch {
        let batch = Batch {
            first: Offset::new(first),
            epoch: LeaderEpoch::new(epoch),
            count: 1,
            stamp: None,
            time: WallSeconds::default(),
            records: Bytes::from_static(records),
        };
        let logs = vec![Change { partition: PARTITION, what: What::Append(batch) }];
        WriteBatch { logs, ..WriteBatch::default() }
    }

    #[test]
    fn two_batches_of_one_leader_in_one_place_are_noticed() {
        let mut records = Records::default();
        assert_eq!(records.write(1, &append(0, 1, b"a")), Ok(()));
        assert_eq!(records.write(2, &append(0, 1, b"a")), Ok(()));
        assert_eq!(records.write(2, &append(1, 1, b"b")), Ok(()));
        assert!(records.write(1, &append(1, 1, b"c")).is_err());
        assert!(records.write(1, &append(7, 1, b"d")).is_err(), "a gap");
    }

    #[test]
    fn a_batch_that_is_committed_twice_is_noticed() {
        let stamp = Some(Stamp { producer: ProducerId::new(7), sequence: 0 });
        let place = Place { epoch: LeaderEpoch::new(1), count: 1, stamp };
        let mut committed = Committed::default();
        assert_eq!(committed.add(PARTITION, Offset::new(0), place, place.epoch), Ok(()));
        assert!(committed.add(PARTITION, Offset::new(1), place, place.epoch).is_err());
    }

    #[test]
    fn an_acknowledgement_of_what_is_not_committed_is_noticed() {
        let mut records = Records::default();
        let stamp = Stamp { producer: ProducerId::new(7), sequence: 0 };
        let told = Told::Acknowledged { partition: PARTITION, first: Offset::new(0), stamp };
        assert!(records.judge_told(1, &told).is_err());
        let place = Place { epoch: LeaderEpoch::new(1), count: 1, stamp: Some(stamp) };
        let committed = records.committed.entry(PARTITION).or_default();
        assert_eq!(committed.add(PARTITION, Offset::new(0), place, place.epoch), Ok(()));
        assert_eq!(records.judge_told(1, &told), Ok(()));
        records.changed(1, &[Delta::MayHaveLost(PARTITION)]);
        records.committed.clear();
        assert_eq!(records.judge_told(1, &told), Ok(()), "nothing is asked of it any more");
    }
}
