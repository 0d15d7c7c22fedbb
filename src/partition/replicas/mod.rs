//! All replicas of one node: they share its messages, its disk and its memory.
//!
//! # The problem
//!
//! A node has replicas of a thousand partitions, and each [`Replica`] is a machine for itself. If each sent its own messages,
//! an idle cluster would be busy; and each has to be told what the metadata, other nodes, producers and the disk say.
//!
//! # The idea
//!
//! Whatever changes a replica notes it down as *touched*. Before the node sleeps, [`settle`](Replicas::settle) looks at
//! those once, and puts together what they have to say to the same node:
//!
//! ```text
//!   metadata ─ observe ─┐                                      ┌─► Change ─► the write batch of the node ─► disk
//!   produce ────────────┤                                      ├─► Send{Fetch}:   to each leader, of all that moved on
//!   Fetch, Fetched ─────┼─► replica ─ touched ─► settle ───────┼─► Send{Fetched}: to each follower, of all with news
//!   written, read ──────┤                                      ├─► Propose ─► controller
//!   time ───────────────┘                                      └─► Reply, Read
//! ```
//!
//! A follower says once what it has, and the leader keeps that, *parked*, until there is something to answer: the next
//! records, or another epoch. So a busy partition costs what it moves, and an idle one nothing; in case something was lost,
//! everything is said again once in [`Settings::wait_max`], in one message for each leader.
//!
//! Records go out before they are on the leader's own disk; whoever counts copies counts only what is on disks. The
//! `tail` of each log is in memory as long as there is room, and always as far as it is not on the disk; what is older is read.
//!
//! | file | what it is |
//! |---|---|
//! | [`io`] | what replicas say to each other, and what producers and consumers ask |
//! | `hosted` | one replica, with what waits for it |
//! | `following` | what is fetched from leaders, and asked again |
//! | `serving` | what followers and consumers are sent |
//! | `producing` | what producers write, once |
//! | `tail` | the end of a log, in memory |
//!
//! Who leads drops from the front what the topic does not want to be kept ([`retention`](super::retention)): whenever a
//! replica is looked at, and every few seconds, when the wall clock is told.
//!
//! # One session
//!
//! A replica belongs to one session of the node: before the process is registered it has logs, and no replicas. Once it is,
//! whatever the metadata says that it holds begins with its log, or with an empty one; a log of which the metadata says
//! nothing is removed.

mod following;
mod hosted;
pub mod io;
mod producing;
mod serving;
mod tail;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use self::following::Upstreams;
use self::hosted::Hosted;
use self::io::{AskError, Message, Output};
use self::serving::{Answers, Reading};
use super::log::{Change, Stored, What};
use super::metadata::{Alteration, Metadata, Refusal};
use super::replica::io::Effect;
use super::replica::{self, Mark, Replica, View};
use super::retention::{Keep, Retention};
use crate::id::{NodeEpoch, NodeId, PartitionId, ReadId, RequestId};
use crate::time::{Instant, WallSeconds};

/// What a node's replicas take upon themselves.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Settings {
    /// How patient a leader is.
    pub replica: replica::Settings,
    /// A follower that was not answered asks again after so long. More than zero.
    pub wait_max: Duration,
    /// So many bytes of the ends of logs stay in memory, beside what is not on the disk yet.
    pub tail_bytes: usize,
    /// The most bytes of records of one partition in an answer, unless one batch has more.
    pub answer_bytes: usize,
    /// The most bytes of records in a message, unless one answer has more.
    pub message_bytes: usize,
    /// The most bytes of one batch. Beyond it, a producer is told that it is too large.
    pub batch_bytes_max: usize,
    /// So many bytes of records may wait for the disk. Beyond it, producers are told that the node is busy.
    pub unwritten_bytes_max: usize,
    /// So many producers and consumers may wait. Beyond it, they are told that the node is busy.
    pub waiting_max: usize,
    /// So long after it was written no producer sends a batch again, and it may be dropped.
    pub retries_within: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            replica: replica::Settings::default(),
            wait_max: Duration::from_millis(500),
            tail_bytes: 64 * 1024 * 1024,
            answer_bytes: 1024 * 1024,
            message_bytes: 4 * 1024 * 1024,
            batch_bytes_max: 1024 * 1024,
            unwritten_bytes_max: 64 * 1024 * 1024,
            waiting_max: 8192,
            retries_within: Duration::from_secs(90),
        }
    }
}

/// What is in a batch that was handed to the disk.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Marks {
    marks: Vec<(PartitionId, u64, Mark)>,
    bytes: usize,
}

impl Marks {
    /// How many bytes of records are in the batch.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// All replicas of one node. See the [module](self).
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Replicas {
    own: NodeId,
    settings: Settings,
    /// The session of this process, once it is registered.
    session: Option<NodeEpoch>,
    /// Logs on the disk without a replica yet.
    stored: BTreeMap<PartitionId, Stored>,
    hosted: BTreeMap<PartitionId, Hosted>,
    /// How many replicas were started: tells one from the next of the same partition.
    lives: u64,
    /// What has changed since it was looked at last.
    touched: BTreeSet<PartitionId>,
    /// Whose log or high watermark has changed since the last batch was closed.
    unwritten: BTreeSet<PartitionId>,
    /// Bytes of records that are not in a closed batch, and in the batch that is being written.
    open_bytes: usize,
    written_bytes: usize,
    timers: BTreeSet<(Instant, PartitionId)>,
    upstreams: Upstreams,
    /// What is not fetched since the disk does not keep up.
    postponed: BTreeSet<PartitionId>,
    /// Consumers that wait, by when they are told that there is no news.
    patience: BTreeSet<(Instant, RequestId, PartitionId)>,
    reads: BTreeMap<ReadId, Reading>,
    last_read: ReadId,
    /// The tails' batches in the order in which they came, and all their bytes.
    tails: VecDeque<(PartitionId, u64)>,
    tail_bytes: usize,
    /// What the wall clock said last, and when.
    wall: Option<(WallSeconds, Instant)>,
    /// How many producers wait.
    producers: usize,
    proposals: Vec<Alteration>,
    outputs: VecDeque<Output>,
}

impl Replicas {
    /// The replicas of `own`, with the logs that are on its disk.
    #[must_use]
    pub fn start(own: NodeId, settings: Settings, stored: Vec<Stored>) -> Replicas {
        Replicas {
            own,
            settings,
            session: None,
            stored: stored.into_iter().map(|log| (log.partition, log)).collect(),
            hosted: BTreeMap::new(),
            lives: 0,
            touched: BTreeSet::new(),
            unwritten: BTreeSet::new(),
            open_bytes: 0,
            written_bytes: 0,
            timers: BTreeSet::new(),
            upstreams: Upstreams::default(),
            postponed: BTreeSet::new(),
            patience: BTreeSet::new(),
            reads: BTreeMap::new(),
            last_read: ReadId::default(),
            tails: VecDeque::new(),
            tail_bytes: 0,
            wall: None,
            producers: 0,
            proposals: Vec::new(),
            outputs: VecDeque::new(),
        }
    }

    /// The session of this process, once it is known.
    #[must_use]
    pub fn session(&self) -> Option<NodeEpoch> {
        self.session
    }

    /// This process is registered, as of the metadata that is observed next. All logs and all partitions of the node are
    /// to be observed then. If it was registered before, it was put out meanwhile, with nothing left: it begins with nothing.
    pub fn begin(&mut self, session: NodeEpoch, metadata: &Metadata) -> BTreeSet<PartitionId> {
        if self.session.replace(session).is_some() {
            let all: Vec<PartitionId> = self.stored.keys().chain(self.hosted.keys()).copied().collect();
            all.into_iter().for_each(|id| self.remove(id));
        }
        self.all(metadata)
    }

    /// All partitions of which this node has a replica or a log, or should have.
    #[must_use]
    pub fn all(&self, metadata: &Metadata) -> BTreeSet<PartitionId> {
        let logs = self.stored.keys().chain(self.hosted.keys()).copied();
        logs.chain(metadata.partitions_of(self.own)).collect()
    }

    /// The metadata has changed, of these partitions or of nodes that hold them.
    pub fn observe(&mut self, now: Instant, metadata: &Metadata, changed: &BTreeSet<PartitionId>) {
        let Some(session) = self.session else { return };
        for id in changed {
            match View::of(metadata, *id, &[self.own]) {
                Some(view) => self.take_view(now, session, *id, view),
                None => self.remove(*id),
            }
        }
    }

    fn take_view(&mut self, now: Instant, session: NodeEpoch, id: PartitionId, view: View) {
        if let Some(hosted) = self.hosted.get_mut(&id) {
            hosted.replica.observe(now, view);
            return self.carry_out(id);
        }
        if !view.partition.replicas.contains(&self.own) {
            return self.remove(id);
        }
        let stored = self.stored.remove(&id).unwrap_or_else(|| {
            let (start, committed) = Default::default();
            Stored::new(id, start, committed)
        });
        self.lives += 1;
        let own = (self.own, session);
        let replica = Replica::start(own, id, self.settings.replica, stored.replica(), view, now);
        self.hosted.insert(id, Hosted::new(replica, self.lives, (stored.producers, stored.chunks)));
        self.carry_out(id);
    }

    /// The node has no replica of this partition any more.
    fn remove(&mut self, id: PartitionId) {
        let had_log = self.stored.remove(&id).is_some();
        let Some(mut hosted) = self.hosted.remove(&id) else {
            if had_log {
                self.change(id, What::Remove);
            }
            return;
        };
        hosted.replica.step_down();
        while let Some(effect) = hosted.replica.poll() {
            if let Effect::Reply { request, result } = effect {
                self.reply_to_producer(request, result);
            }
        }
        self.dismiss_all(&mut hosted);
        if let Some(timer) = hosted.timer {
            self.timers.remove(&(timer, id));
        }
        self.tail_bytes -= hosted.tail.bytes();
        self.tails.retain(|(_, life)| *life != hosted.life);
        self.touched.remove(&id);
        self.change(id, What::Remove);
    }

    /// Does what a replica wants done.
    fn carry_out(&mut self, id: PartitionId) {
        let mut is_removed = false;
        loop {
            let Some(hosted) = self.hosted.get_mut(&id) else { return };
            let Some(effect) = hosted.replica.poll() else { break };
            match effect {
                Effect::Append(batch) => {
                    let bytes = batch.records.len();
                    let length = u32::try_from(bytes).unwrap_or(u32::MAX);
                    hosted.chunks.push(batch.first, batch.end(), length, batch.time);
                    hosted.producers.note(&batch, hosted.replica.high_watermark());
                    hosted.tail.push(batch.clone());
                    self.tails.push_back((id, hosted.life));
                    self.tail_bytes += bytes;
                    self.open_bytes += bytes;
                    self.change(id, What::Append(batch));
                }
                Effect::Truncate(end) => {
                    self.tail_bytes -= hosted.truncate(end);
                    self.change(id, What::Truncate(end));
                }
                Effect::Trim(start) => {
                    hosted.chunks.trim(start);
                    self.change(id, What::Trim(start));
                }
                Effect::Restart(start) => {
                    self.tail_bytes -= hosted.restart();
                    self.change(id, What::Restart(start));
                }
                Effect::Propose(alteration) => self.proposals.push(alteration),
                Effect::Reply { request, result } => self.reply_to_producer(request, result),
                Effect::Committed(_) => {}
                Effect::Removed(_) => is_removed = true,
            }
        }
        if is_removed {
            return self.remove(id);
        }
        self.touched.insert(id);
        self.unwritten.insert(id);
    }

    fn change(&mut self, partition: PartitionId, what: What) {
        self.outputs.push_back(Output::Change(Change { partition, what }));
    }

    /// A batch is closed: whatever was put out so far is in it, and so is what is returned. When it is durable, the marks
    /// are to be told.
    #[must_use]
    pub fn close_batch(&mut self) -> (Vec<Change>, Marks) {
        let mut committed = Vec::new();
        let mut marks = Marks { marks: Vec::new(), bytes: core::mem::take(&mut self.open_bytes) };
        for id in core::mem::take(&mut self.unwritten) {
            let Some(hosted) = self.hosted.get_mut(&id) else { continue };
            marks.marks.push((id, hosted.life, hosted.replica.mark()));
            if let Some(high_watermark) = hosted.checkpoint() {
                committed.push(Change { partition: id, what: What::Committed(high_watermark) });
            }
        }
        self.written_bytes = marks.bytes;
        (committed, marks)
    }

    /// A closed batch is durable.
    pub fn written(&mut self, marks: Marks) {
        self.written_bytes -= marks.bytes.min(self.written_bytes);
        self.touched.append(&mut self.postponed);
        for (id, life, mark) in marks.marks {
            let Some(hosted) = self.hosted.get_mut(&id).filter(|hosted| hosted.life == life) else {
                continue;
            };
            hosted.replica.written(mark);
            self.carry_out(id);
        }
        self.forget_tails();
    }

    /// Forgets the ends of logs that came first, as far as the disk has them.
    fn forget_tails(&mut self) {
        while self.tail_bytes > self.settings.tail_bytes {
            let Some((id, life)) = self.tails.front().copied() else { return };
            let hosted = self.hosted.get_mut(&id).filter(|hosted| hosted.life == life);
            // Of a replica that is gone, or whose log was cut off, there may be more places than batches.
            if let Some(hosted) = hosted.filter(|hosted| hosted.tail.first().is_some()) {
                let Some(bytes) = hosted.tail.forget_first(hosted.replica.log().durable) else { return };
                self.tail_bytes -= bytes;
            }
            self.tails.pop_front();
        }
    }

    /// A node speaks.
    pub fn handle_message(&mut self, now: Instant, from: NodeId, message: Message) {
        match message {
            Message::Fetch(fetches) => {
                for (id, fetch) in fetches {
                    self.serve(now, from, id, fetch);
                }
            }
            Message::Fetched(deliveries) => {
                for delivery in deliveries {
                    self.take_delivery(from, delivery);
                }
            }
        }
    }

    /// The controller has refused what the replica of a partition had proposed.
    pub fn refused(&mut self, now: Instant, alteration: &Alteration, refusal: &Refusal) {
        let (id, leader_epoch, epoch) = (alteration.partition, alteration.leader_epoch, alteration.epoch);
        if let Some(hosted) = self.hosted.get_mut(&id) {
            hosted.replica.refused(now, leader_epoch, epoch, refusal);
            self.carry_out(id);
        }
    }

    /// Fires what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((_, id)) = self.timers.pop_first_if_due(now) {
            if let Some(hosted) = self.hosted.get_mut(&id) {
                hosted.timer = None;
                hosted.replica.handle_timeout(now);
                self.carry_out(id);
            }
        }
        self.ask_again(now);
        self.dismiss_consumers(now);
    }

    /// When [`handle_timeout`](Replicas::handle_timeout) is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let patience = self.patience.first().map(|(at, _, _)| *at);
        [timer, patience, self.upstreams.deadline()].into_iter().flatten().min()
    }

    /// Looks at whatever was touched, and says what there is to say. Called before outputs are taken.
    pub fn settle(&mut self, now: Instant) {
        if self.touched.is_empty() && self.proposals.is_empty() {
            return;
        }
        let mut deliveries: BTreeMap<NodeId, Answers> = BTreeMap::new();
        let mut fetches = BTreeMap::new();
        while let Some(id) = self.touched.pop_first() {
            self.drop_old(now, id);
            self.answer_followers(id, &mut deliveries);
            self.answer_consumers(id);
            self.fetch(now, id, &mut fetches);
            self.set_timer(now, id);
        }
        for (to, fetches) in fetches {
            self.outputs.push_back(Output::Send { to, message: Message::Fetch(fetches) });
        }
        for (to, answers) in deliveries {
            self.send_deliveries(to, answers.deliveries);
        }
        if !self.proposals.is_empty() {
            let proposals = core::mem::take(&mut self.proposals);
            self.outputs.push_back(Output::Propose(proposals));
        }
    }

    /// What the wall clock says; every few seconds. It may step.
    pub fn note_wall_clock(&mut self, now: Instant, wall: WallSeconds) {
        let was_ahead = self.wall(now).is_some_and(|before| wall.0.saturating_add(1) < before.0);
        self.wall = Some((wall, now));
        for (id, hosted) in &mut self.hosted {
            if was_ahead {
                hosted.chunks.were_written_by(wall);
            }
            // Nothing else happens to a log that is not written to.
            if hosted.replica.view().retention != Retention::default() {
                self.touched.insert(*id);
            }
        }
    }

    pub(super) fn wall(&self, now: Instant) -> Option<WallSeconds> {
        self.wall.map(|(wall, at)| wall.plus(now.saturating_since(at)))
    }

    /// Who leads drops what need not be kept. See [`retention`](crate::partition::retention).
    fn drop_old(&mut self, now: Instant, id: PartitionId) {
        let wall = self.wall(now);
        let Some(hosted) = self.hosted.get_mut(&id) else { return };
        hosted.chunks.are_known(now, wall);
        let Hosted { replica, chunks, .. } = hosted;
        let retention = replica.view().retention;
        if replica.leads().is_none() || retention == Retention::default() {
            return;
        }
        let (retries_within, committed) = (self.settings.retries_within, replica.high_watermark());
        let keep = Keep { retention, wall, now, retries_within, committed };
        let Some(start) = chunks.begin(&keep) else { return };
        let before = replica.log().start;
        if replica.trim(start) > before {
            self.carry_out(id);
        }
    }

    fn set_timer(&mut self, now: Instant, id: PartitionId) {
        let Some(hosted) = self.hosted.get_mut(&id) else { return };
        if hosted.replica.deadline().is_some_and(|at| at <= now) {
            // Somebody who was silent for long lags as soon as there is something to lag behind.
            hosted.replica.handle_timeout(now);
            return self.carry_out(id);
        }
        let deadline = hosted.replica.deadline();
        if hosted.timer == deadline {
            return;
        }
        if let Some(before) = core::mem::replace(&mut hosted.timer, deadline) {
            self.timers.remove(&(before, id));
        }
        if let Some(at) = deadline {
            self.timers.insert((at, id));
        }
    }

    /// Takes what is to be done next.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether something has come up since [`settle`](Replicas::settle).
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.touched.is_empty() && self.proposals.is_empty() && self.outputs.is_empty()
    }

    /// The node stops: whoever waits is told so.
    pub fn abandon(&mut self) {
        for (id, mut hosted) in core::mem::take(&mut self.hosted) {
            hosted.replica.step_down();
            while let Some(effect) = hosted.replica.poll() {
                if let Effect::Reply { request, result } = effect {
                    self.reply_to_producer(request, result);
                }
            }
            self.dismiss_all(&mut hosted);
            self.timers.retain(|(_, other)| *other != id);
        }
        self.touched.clear();
        self.tails.clear();
        self.tail_bytes = 0;
    }

    /// The replica of a partition, if there is one.
    #[must_use]
    pub fn replica(&self, id: PartitionId) -> Option<&Replica> {
        self.hosted.get(&id).map(|hosted| &hosted.replica)
    }

    /// All replicas.
    pub fn iter(&self) -> impl Iterator<Item = (PartitionId, &Replica)> {
        self.hosted.iter().map(|(id, hosted)| (*id, &hosted.replica))
    }

    fn reply(&mut self, request: RequestId, answer: Result<io::Answer, AskError>) {
        self.outputs.push_back(Output::Reply { request, answer });
    }

    /// Checks what must hold between any two calls.
    ///
    /// # Panics
    ///
    /// If something does not.
    pub fn assert_invariants(&self) {
        self.hosted.values().for_each(Hosted::assert_invariants);
        let bytes: usize = self.hosted.values().map(|hosted| hosted.tail.bytes()).sum();
        assert_eq!(bytes, self.tail_bytes, "the tails' bytes are counted");
        let timers = self.hosted.iter().filter_map(|(id, hosted)| Some((hosted.timer?, *id)));
        assert_eq!(timers.collect::<BTreeSet<_>>(), self.timers, "a timer for each deadline");
        let waits = |hosted: &Hosted| hosted.consumers.len();
        let consumers: usize = self.hosted.values().map(waits).sum();
        assert_eq!(consumers, self.patience.len(), "a consumer waits once");
    }
}

/// Taking what is due from a set of times.
trait Due {
    type Item;
    fn pop_first_if_due(&mut self, now: Instant) -> Option<Self::Item>;
}

impl<T: Copy + Ord> Due for BTreeSet<(Instant, T)> {
    type Item = (Instant, T);

    fn pop_first_if_due(&mut self, now: Instant) -> Option<(Instant, T)> {
        if self.first().is_some_and(|(at, _)| *at <= now) { self.pop_first() } else { None }
    }
}

#[cfg(test)]
mod tests;
