//! What a leader does: it appends, answers fetches, counts who has what, and says who is in sync.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::io::{Acks, Answer, Batch, Effect, Fetch, FetchRefusal, Fetched, ProduceError, Stamp};
use super::producers::Written;
use super::{Replica, Role};
use crate::id::{LeaderEpoch, NodeEpoch, NodeId, Offset, PartitionEpoch, RequestId};
use crate::partition::metadata::{Alteration, Refusal};
use crate::payload;
use crate::time::{Instant, WallSeconds};

/// What only a leader knows.
#[derive(Clone, Debug, Deserialize, Hash, Serialize)]
pub(super) struct Leader {
    pub(super) epoch: LeaderEpoch,
    /// Where its epoch begins in the log.
    pub(super) start: Offset,
    since: Instant,
    /// Who has fetched in this epoch.
    followers: BTreeMap<NodeId, Progress>,
    /// Everybody who was proposed to be in sync since the record changed last: any of that may still be accepted.
    proposed: BTreeSet<NodeId>,
    /// What was proposed last, while it is not known what came of it, and when it is proposed again.
    proposal: Option<(Alteration, Instant)>,
    /// Producers that wait, in the order of their records.
    waiting: VecDeque<Waiting>,
}

/// How far a follower is.
#[derive(Clone, Copy, Debug, Deserialize, Hash, Serialize)]
struct Progress {
    session: NodeEpoch,
    /// It has everything before that on its disk.
    end: Offset,
    fetched: Instant,
    /// Where the leader's log ended then.
    end_then: Offset,
    /// When it last had everything that the leader had.
    caught_up: Option<Instant>,
}

/// A producer that waits.
#[derive(Clone, Debug, Deserialize, Hash, Serialize)]
struct Waiting {
    request: RequestId,
    first: Offset,
    end: Offset,
    /// Whether the leader's own disk is enough.
    is_leader_enough: bool,
    until: Instant,
}

/// Records that a producer wants written.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Produce {
    /// Whose request it is.
    pub request: RequestId,
    /// When it is answered.
    pub acks: Acks,
    /// When it is told at the latest that nobody knows.
    pub until: Instant,
    /// How many records there are, from 1.
    pub count: u32,
    /// Whose they are.
    pub stamp: Option<Stamp>,
    /// What the leader's clock says.
    pub time: WallSeconds,
    /// The records.
    #[serde(serialize_with = "payload::records")]
    pub records: Bytes,
}

impl Leader {
    fn new(epoch: LeaderEpoch, start: Offset, since: Instant, waiting: VecDeque<Waiting>) -> Leader {
        Leader {
            epoch,
            start,
            since,
            followers: BTreeMap::new(),
            proposed: BTreeSet::new(),
            proposal: None,
            waiting,
        }
    }

    pub(super) fn into_requests(self) -> impl Iterator<Item = RequestId> {
        self.waiting.into_iter().map(|waiting| waiting.request)
    }

    pub(super) fn deadline(&self, replica: &Replica) -> Option<Instant> {
        let proposal = self.proposal.as_ref().map(|(_, again)| *again);
        let patience = replica.settings.lag_max;
        let lagging = || replica.others_in_sync().filter(|node| self.end_of(*node) != Some(replica.log.end));
        let lags = if proposal.is_none() {
            lagging().map(|node| self.caught_up(node) + patience).min()
        } else {
            None
        };
        let gives_up = self.waiting.iter().map(|waiting| waiting.until).min();
        [proposal, lags, gives_up].into_iter().flatten().min()
    }

    fn end_of(&self, node: NodeId) -> Option<Offset> {
        self.followers.get(&node).map(|progress| progress.end)
    }

    /// When a follower last had everything; a new leader does not hold against it what it does not know.
    fn caught_up(&self, node: NodeId) -> Instant {
        let known = self.followers.get(&node).and_then(|progress| progress.caught_up);
        known.map_or(self.since, |at| at.max(self.since))
    }

    pub(super) fn assert_invariants(&self, replica: &Replica) {
        assert!(self.start <= replica.log.end, "a leader's epoch begins in its log");
        let last = replica.epochs.iter().last();
        assert!(
            last.is_some_and(|(epoch, _)| epoch == self.epoch),
            "a leader's epoch is the last of its log"
        );
        let is_proposed = |(node, _): &(NodeId, NodeEpoch)| self.proposed.contains(node);
        let proposal = self.proposal.as_ref();
        assert!(
            proposal.is_none_or(|(alteration, _)| alteration.in_sync.iter().all(is_proposed)),
            "whoever is proposed counts"
        );
        let ascends = self.waiting.iter().zip(self.waiting.iter().skip(1)).all(|(a, b)| a.first <= b.first);
        assert!(ascends, "producers wait in the order of their records");
    }
}

impl Replica {
    /// It leads. `is_news` says whether its partition's record is another one than before.
    pub(super) fn lead(&mut self, now: Instant, is_news: bool) {
        let record = &self.view.partition;
        let epoch = record.leader_epoch;
        match &mut self.role {
            Role::Leader(leader) if leader.epoch == epoch => {
                if is_news {
                    // What was proposed for the record before cannot be accepted any more.
                    leader.proposed.clear();
                    leader.proposal = None;
                }
                leader.followers.retain(|node, _| record.replicas.contains(node));
            }
            Role::Leader(_) | Role::Follower { .. } | Role::Idle => self.begin_epoch(now, epoch),
        }
        if self.view.partition.is_recovering && self.proposal().is_none() {
            // It is the only one in sync, and has nothing to recover but itself.
            self.propose(now, self.view.partition.in_sync.clone(), false);
        }
        self.give_up_under_minimum();
        self.advance();
    }

    fn begin_epoch(&mut self, now: Instant, epoch: LeaderEpoch) {
        // Who led when it last looked, and leads now, has cut off nothing meanwhile: its producers wait on.
        let waiting = match core::mem::replace(&mut self.role, Role::Idle) {
            Role::Leader(leader) => leader.waiting,
            Role::Follower { .. } | Role::Idle => VecDeque::new(),
        };
        self.stats.led += 1;
        self.epochs.begin(epoch, self.log.end);
        self.role = Role::Leader(Leader::new(epoch, self.log.end, now, waiting));
    }

    /// A producer's records come at the end of the log, if this replica leads and enough are in sync.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub fn produce(&mut self, produce: Produce) {
        let Produce { request, acks, until, count, stamp, time, records } = produce;
        assert!(count > 0, "a producer has something to write");
        if let Err(error) = self.may_produce(acks) {
            if acks != Acks::None {
                self.effects.push_back(Effect::Reply { request, result: Err(error) });
            }
            return;
        }
        let Role::Leader(leader) = &mut self.role else { return };
        let batch = Batch { first: self.log.end, epoch: leader.epoch, count, stamp, time, records };
        let (first, end) = (batch.first, batch.end());
        self.log.end = end;
        if acks != Acks::None {
            let is_leader_enough = acks == Acks::Leader;
            leader.waiting.push_back(Waiting { request, first, end, is_leader_enough, until });
        }
        self.effects.push_back(Effect::Append(batch));
    }

    /// A producer has sent a batch again that is in the log already: it is answered when that has come as far as it wants.
    pub fn produced_before(&mut self, request: RequestId, acks: Acks, until: Instant, written: Written) {
        let is_leader_enough = acks != Acks::All;
        let is_done = written.end() <= if is_leader_enough { self.log.durable } else { self.high_watermark };
        let result = match self.may_produce(acks) {
            Err(error @ ProduceError::NotLeader { .. }) => Err(error),
            _ if is_done => Ok(written.first),
            Err(_) => Err(ProduceError::NotEnoughReplicasAfterAppend),
            Ok(()) => {
                let Role::Leader(leader) = &mut self.role else { return };
                let (first, end) = (written.first, written.end());
                let place = leader.waiting.partition_point(|waiting| waiting.first <= first);
                leader.waiting.insert(place, Waiting { request, first, end, is_leader_enough, until });
                return;
            }
        };
        self.effects.push_back(Effect::Reply { request, result });
    }

    fn may_produce(&self, acks: Acks) -> Result<(), ProduceError> {
        let record = &self.view.partition;
        if !matches!(self.role, Role::Leader(_)) {
            return Err(ProduceError::NotLeader { leader: record.leader, epoch: record.leader_epoch });
        }
        let (in_sync, min_in_sync) = (record.in_sync.len(), self.view.min_in_sync);
        if acks == Acks::All && in_sync < min_in_sync {
            return Err(ProduceError::NotEnoughReplicas { in_sync, min_in_sync });
        }
        Ok(())
    }

    /// A follower asks for what comes next: what it has is counted, and it is answered. If the answer is that the logs
    /// match, the records from where it asked are to go with it.
    pub fn serve(&mut self, now: Instant, from: NodeId, fetch: Fetch) -> Fetched {
        let answer = self.answer_to(now, from, &fetch).unwrap_or_else(Answer::Refused);
        Fetched { fetch, answer }
    }

    fn answer_to(&mut self, now: Instant, from: NodeId, fetch: &Fetch) -> Result<Answer, FetchRefusal> {
        self.judge(from, fetch)?;
        if let Some(difference) = self.compare(fetch) {
            return Ok(difference);
        }
        self.note_progress(now, from, fetch);
        self.admit(now, from);
        // What it has may have been what was missing.
        self.advance();
        Ok(Answer::Matches { high_watermark: self.high_watermark, start: self.log.start })
    }

    /// As [`serve`](Replica::serve), for a fetch that was counted before and has waited for news.
    #[must_use]
    pub fn serve_again(&self, from: NodeId, fetch: Fetch) -> Fetched {
        let matches = Answer::Matches { high_watermark: self.high_watermark, start: self.log.start };
        let answer = match self.judge(from, &fetch) {
            Ok(()) => self.compare(&fetch).unwrap_or(matches),
            Err(refusal) => Answer::Refused(refusal),
        };
        Fetched { fetch, answer }
    }

    /// Whether this replica can answer.
    fn judge(&self, from: NodeId, fetch: &Fetch) -> Result<(), FetchRefusal> {
        let Role::Leader(leader) = &self.role else { return Err(FetchRefusal::NotLeader) };
        let current = leader.epoch;
        if fetch.leader_epoch < current {
            return Err(FetchRefusal::EpochFenced { current });
        }
        if fetch.leader_epoch > current {
            return Err(FetchRefusal::EpochUnknown { current });
        }
        if from == self.own || !self.view.partition.replicas.contains(&from) {
            return Err(FetchRefusal::ReplicaUnknown);
        }
        // What an earlier process had may be gone (KIP-903).
        let sessions =
            [self.view.session(from), leader.followers.get(&from).map(|progress| progress.session)];
        if sessions.into_iter().flatten().any(|session| fetch.session < session) {
            return Err(FetchRefusal::SessionEnded);
        }
        Ok(())
    }

    /// What to say to a follower whose log is no part of this one.
    fn compare(&self, fetch: &Fetch) -> Option<Answer> {
        let start = self.log.start;
        if fetch.at < start {
            return Some(Answer::OutOfRange { start });
        }
        if let Some(last) = fetch.last_epoch {
            let (Some(epoch), end) = self.epochs.end_of(last, self.log.end) else {
                // All that is left here is later. What the follower has before that may be something else than what was
                // here, and nobody can tell any more.
                return Some(Answer::OutOfRange { start });
            };
            if epoch < last || end < fetch.at {
                return Some(Answer::Diverges { epoch, end });
            }
        }
        (fetch.at > self.log.end).then_some(Answer::OutOfRange { start })
    }

    fn note_progress(&mut self, now: Instant, from: NodeId, fetch: &Fetch) {
        let Role::Leader(leader) = &mut self.role else { return };
        let end = self.log.end;
        let before = leader.followers.get(&from).filter(|progress| progress.session == fetch.session);
        let caught_up = match before {
            _ if fetch.at >= end => Some(now),
            // It has what there was when it fetched last: then it would have had everything.
            Some(progress) if fetch.at >= progress.end_then => Some(progress.fetched),
            Some(progress) => progress.caught_up,
            None => None,
        };
        let progress =
            Progress { session: fetch.session, end: fetch.at, fetched: now, end_then: end, caught_up };
        leader.followers.insert(from, progress);
    }

    /// Proposes that a follower is in sync, if it is (KIP-497, KIP-903).
    fn admit(&mut self, now: Instant, from: NodeId) {
        let Role::Leader(leader) = &self.role else { return };
        let record = &self.view.partition;
        let Some(progress) = leader.followers.get(&from) else { return };
        let is_free = leader.proposal.is_none() && !record.in_sync.contains(&from) && !record.is_recovering;
        let is_there = self.view.is_active(from) && self.view.session(from) == Some(progress.session);
        // It has all that is committed, and all that the leaders before may have committed (KAFKA-7128). To be close, in
        // this epoch, implies the second.
        let has_all = progress.end >= self.high_watermark && progress.end >= leader.start;
        // And it keeps up: while the high watermark stands still everybody has all that is committed, and would be put
        // out again at once (KAFKA-19996).
        let is_close = progress.end == self.log.end
            || progress.caught_up.is_some_and(|at| now < at + self.settings.lag_max);
        if !is_free || !is_there || !has_all || !is_close {
            return;
        }
        let mut in_sync = record.in_sync.clone();
        in_sync.push(from);
        self.stats.admitted += 1;
        self.propose(now, in_sync, false);
    }

    /// Tells the controller who is in sync. Whoever is named counts from now on.
    fn propose(&mut self, now: Instant, in_sync: Vec<NodeId>, voids_earlier: bool) {
        let Role::Leader(leader) = &mut self.role else { return };
        let session = |node: NodeId| Some((node, self.view.session(node)?));
        let alteration = Alteration {
            partition: self.id,
            leader: self.own,
            node_epoch: self.session,
            leader_epoch: leader.epoch,
            epoch: self.view.partition.epoch,
            in_sync: in_sync.iter().filter_map(|node| session(*node)).collect(),
            is_recovered: true,
            voids_earlier,
        };
        leader.proposed.extend(in_sync);
        leader.proposal = Some((alteration.clone(), now + self.settings.proposal_timeout));
        self.effects.push_back(Effect::Propose(alteration));
    }

    fn proposal(&self) -> Option<&Alteration> {
        match &self.role {
            Role::Leader(leader) => leader.proposal.as_ref().map(|(alteration, _)| alteration),
            Role::Follower { .. } | Role::Idle => None,
        }
    }

    /// The controller refused what was proposed in that leader epoch for that record. A copy of it may still be accepted,
    /// so all who were proposed count on, and a change is asked for that makes all earlier proposals void. Kafka goes back
    /// to who is in sync instead, which is safe only since nothing there comes twice.
    pub fn refused(
        &mut self,
        now: Instant,
        leader_epoch: LeaderEpoch,
        epoch: PartitionEpoch,
        refusal: &Refusal,
    ) {
        let is_last = self
            .proposal()
            .is_some_and(|alteration| (alteration.leader_epoch, alteration.epoch) == (leader_epoch, epoch));
        // Of any other refusal the log tells: this replica is behind it.
        if !is_last || !matches!(refusal, Refusal::NotInSync(_)) {
            return;
        }
        self.stats.voided += 1;
        self.propose(now, self.view.partition.in_sync.clone(), true);
    }

    /// What time brings: see [`handle_timeout`](Replica::handle_timeout).
    pub(super) fn lead_on(&mut self, now: Instant) {
        self.give_up(|waiting| waiting.until <= now, ProduceError::TimedOut);
        let again = now + self.settings.proposal_timeout;
        let Role::Leader(leader) = &mut self.role else { return };
        if let Some((alteration, due)) = &mut leader.proposal {
            if *due <= now {
                *due = again;
                self.effects.push_back(Effect::Propose(alteration.clone()));
            }
            return;
        }
        self.put_out_who_lags(now);
    }

    fn put_out_who_lags(&mut self, now: Instant) {
        let Role::Leader(leader) = &self.role else { return };
        let lags = |node: NodeId| {
            let has_all = node == self.own || leader.end_of(node) == Some(self.log.end);
            !has_all && leader.caught_up(node) + self.settings.lag_max <= now
        };
        let in_sync = &self.view.partition.in_sync;
        let left: Vec<NodeId> = in_sync.iter().copied().filter(|node| !lags(*node)).collect();
        if left.len() < in_sync.len() {
            self.stats.put_out += 1;
            self.propose(now, left, false);
        }
    }

    /// Up to where each follower has the log, as far as it has said so in this leader epoch.
    #[must_use]
    pub fn followers(&self) -> Vec<(NodeId, Offset)> {
        match &self.role {
            Role::Leader(leader) => {
                leader.followers.iter().map(|(node, progress)| (*node, progress.end)).collect()
            }
            Role::Follower { .. } | Role::Idle => Vec::new(),
        }
    }

    pub(super) fn others_in_sync(&self) -> impl Iterator<Item = NodeId> {
        self.view.partition.in_sync.iter().copied().filter(|node| *node != self.own)
    }

    /// Commits what everybody has who is in sync, or may be.
    pub(super) fn advance(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        if self.view.partition.in_sync.len() < self.view.min_in_sync {
            return;
        }
        let counted = self.others_in_sync().chain(leader.proposed.iter().copied());
        let mut end = self.log.durable;
        for node in counted.filter(|node| *node != self.own) {
            let Some(has) = leader.end_of(node) else { return };
            end = end.min(has);
        }
        if end > self.high_watermark {
            self.high_watermark = end;
            self.effects.push_back(Effect::Committed(end));
            self.acknowledge(|waiting| waiting.end <= end);
        }
    }

    /// The leader's own disk has everything before its durable end.
    pub(super) fn acknowledge_durable(&mut self) {
        let durable = self.log.durable;
        self.acknowledge(|waiting| waiting.is_leader_enough && waiting.end <= durable);
    }

    fn acknowledge(&mut self, is_done: impl Fn(&Waiting) -> bool) {
        self.answer(is_done, |waiting| Ok(waiting.first));
    }

    fn give_up(&mut self, is_over: impl Fn(&Waiting) -> bool, error: ProduceError) {
        self.answer(is_over, |_| Err(error));
    }

    /// Nothing is committed any more, so nobody can say when it will be.
    fn give_up_under_minimum(&mut self) {
        if self.view.partition.in_sync.len() < self.view.min_in_sync {
            self.give_up(|waiting| !waiting.is_leader_enough, ProduceError::NotEnoughReplicasAfterAppend);
        }
    }

    fn answer(
        &mut self,
        is_meant: impl Fn(&Waiting) -> bool,
        result: impl Fn(&Waiting) -> Result<Offset, ProduceError>,
    ) {
        let Role::Leader(leader) = &mut self.role else { return };
        if !leader.waiting.iter().any(&is_meant) {
            return;
        }
        for waiting in core::mem::take(&mut leader.waiting) {
            if is_meant(&waiting) {
                let (request, result) = (waiting.request, result(&waiting));
                self.effects.push_back(Effect::Reply { request, result });
            } else {
                leader.waiting.push_back(waiting);
            }
        }
    }
}
