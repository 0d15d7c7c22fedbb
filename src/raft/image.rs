//! An image of the machine: all that it needs to go on elsewhere as if nothing had happened.
//!
//! # The problem
//!
//! A run that began hours ago is replayed from a point in between. raft-rs offers no copy of itself: the state of a
//! `RawNode` is half private, and its durable part alone (term, vote, log) would be that of a node that has just
//! started. It would not know whom it leads, what is under way to whom, or whose votes it has.
//!
//! # The idea
//!
//! Between two drains, what is private can be read through raft-rs's own questions, and brought about again through
//! its own calls:
//!
//! | private | read by | brought about by |
//! |---|---|---|
//! | ticks since the last heartbeat | `heartbeat_elapsed` | as many ticks, with the other counter held at 0 |
//! | appends in flight to a follower | freeing a copy, index by index | adding the same indexes |
//! | where the log ended at the election | the first entry of the term | becoming leader on a log that ends there |
//! | bytes not yet committed | `uncommitted_size` | an entry of that length |
//! | which `Ready`s are not yet durable | [`Outstanding`] | a `Ready` for each, over one dummy entry |
//! | what was handed out last | nothing is ready | a first `Ready`, which is thrown away |
//!
//! The numbers of those `Ready`s start again at 1; [`Outstanding`] counts on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use raft::eraftpb::{self, MessageType};
use raft::{INVALID_ID, Inflights, ProgressState, RawNode, StateRole};

use super::election::ClockImage;
use super::flow::Flow;
use super::log::Log;
use super::membership::Change;
use super::message::Position;
use super::outstanding::Outstanding;
use super::read::ReadRounds;
use super::{Indexes, Raft, ReadyNumber, Role, Standing, Timing, configure, logger};
use crate::id::{LogIndex, NodeId, Term};
use crate::raft::Refusal;
use crate::time::Instant;

/// No leader has more bytes uncommitted than that; an image that says so is none.
const UNCOMMITTED_MAX: usize = 1 << 32;

/// A [`Raft`] between two drains.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Image {
    id: NodeId,
    log: Log,
    standing: Standing,
    vote: Option<NodeId>,
    indexes: Indexes,
    counters: Counters,
    /// What a leader knows of the members, itself included; of the others, what they knew when they led.
    progress: BTreeMap<NodeId, ProgressImage>,
    votes: BTreeMap<NodeId, bool>,
    /// Reads that a majority has not confirmed, in order: their context, their index, and who has.
    reads_asked: Vec<(Vec<u8>, LogIndex, BTreeSet<NodeId>)>,
    clock: ClockImage,
    now: Instant,
    ballot: (Term, Option<NodeId>),
    unsettled: Option<ReadyNumber>,
    appending: Option<ReadyNumber>,
    outstanding: Outstanding,
    reads: ReadRounds,
    unrecorded: Option<(ReadyNumber, LogIndex)>,
    unapplied: VecDeque<(Position, Change)>,
    refusals: BTreeMap<Refusal, u64>,
}

/// The numbers in raft-rs that nothing else tells.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Counters {
    election_elapsed: usize,
    /// This and the next mean something to a leader only.
    heartbeat_elapsed: usize,
    uncommitted_size: usize,
    lead_transferee: u64,
    pending_conf_index: u64,
    persisted: u64,
}

/// How far a member has got, as raft-rs sees it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct ProgressImage {
    matched: u64,
    next: u64,
    state: SendingState,
    paused: bool,
    pending_snapshot: u64,
    recent_active: bool,
    committed: u64,
    in_flight: Vec<u64>,
}

/// raft-rs's `ProgressState`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
enum SendingState {
    Probe,
    Replicate,
    Snapshot,
}

impl Raft {
    /// Takes an image. `None` if the machine has not been drained: what it is about to say is in no image.
    #[must_use]
    pub fn image(&self) -> Option<Image> {
        if !self.outputs.is_empty() || self.installing.is_some() || self.raw.has_ready() {
            return None;
        }
        let raft = &self.raw.raft;
        let node = |id: &u64| NodeId::new(*id).expect("members count from 1");
        let leads = raft.state == StateRole::Leader;
        let counters = Counters {
            election_elapsed: raft.election_elapsed,
            heartbeat_elapsed: if leads { raft.heartbeat_elapsed() } else { 0 },
            uncommitted_size: if leads { raft.uncommitted_size() } else { 0 },
            lead_transferee: raft.lead_transferee.unwrap_or(INVALID_ID),
            pending_conf_index: raft.pending_conf_index,
            persisted: raft.raft_log.persisted,
        };
        let progress = raft.prs().iter().map(|(id, progress)| (node(id), ProgressImage::of(progress)));
        let asked = raft.read_only.read_index_queue.iter().map(|context| {
            let asked = &raft.read_only.pending_read_index[context];
            (context.clone(), LogIndex::new(asked.index), asked.acks.iter().map(node).collect())
        });
        Some(Image {
            id: self.id(),
            log: self.raw.store().clone(),
            standing: self.standing,
            vote: NodeId::new(raft.vote),
            indexes: self.indexes(),
            counters,
            progress: progress.collect(),
            votes: raft.prs().votes().iter().map(|(id, granted)| (node(id), *granted)).collect(),
            reads_asked: asked.collect(),
            clock: self.clock.image(),
            now: self.now,
            ballot: self.ballot,
            unsettled: self.unsettled,
            appending: self.appending,
            outstanding: self.outstanding.renumbered(),
            reads: self.reads.clone(),
            unrecorded: self.unrecorded,
            unapplied: self.unapplied.clone(),
            refusals: self.refusals.clone(),
        })
    }
}

impl Image {
    /// Makes the machine that the image was taken of. `timing` and `flow` are those that it was started with.
    ///
    /// # Panics
    ///
    /// If the image was not taken by [`Raft::image`] of a machine with this timing and flow.
    #[must_use]
    pub fn restore(self, timing: &Timing, flow: Flow) -> Raft {
        let mut raw = self.bare(timing, flow);
        let log = &mut raw.raft.raft_log;
        (log.store, log.committed, log.persisted) =
            (self.log.clone(), self.indexes.commit.value(), self.counters.persisted);
        log.applied = self.indexes.applied.value();
        let after = log.store.last() + 1;
        (log.unstable.entries, log.unstable.entries_size, log.unstable.offset) = (Vec::new(), 0, after);
        self.set_standing(&mut raw);
        self.hand_out_again(&mut raw, after);
        self.set_counters(&mut raw);
        self.set_members(&mut raw);
        let clock = self.clock.restore(&mut raw);
        Raft {
            raw,
            clock,
            now: self.now,
            outputs: VecDeque::new(),
            standing: self.standing,
            ballot: self.ballot,
            unsettled: self.unsettled,
            appending: self.appending,
            outstanding: self.outstanding,
            reads: self.reads,
            installing: None,
            unrecorded: self.unrecorded,
            unapplied: self.unapplied,
            refusals: self.refusals,
        }
    }

    /// A node of this membership, and if it is to lead, one that was elected when its log ended where it then did.
    fn bare(&self, timing: &Timing, flow: Flow) -> RawNode<Log> {
        let leads = self.standing.role == Role::Leader;
        let first = self.log.first_of(self.standing.term).filter(|_| leads);
        let tail = first.map_or(self.log.last(), |first| first - 1);
        let commit = LogIndex::new(self.indexes.commit.value().min(tail));
        let log = self.log.until(tail, self.standing.term, self.vote, commit);
        let applied = LogIndex::new(self.indexes.applied.value().min(tail));
        let config = configure(self.id, timing, flow, applied);
        let mut raw = RawNode::new(&config, log, &logger::bridge()).expect("the same configuration");
        if leads {
            raw.raft.state = StateRole::Candidate;
            raw.raft.become_leader();
        }
        raw
    }

    fn set_standing(&self, raw: &mut RawNode<Log>) {
        raw.raft.term = self.standing.term.value();
        raw.raft.vote = self.vote.map_or(INVALID_ID, NodeId::value);
        raw.raft.leader_id = self.standing.leader.map_or(INVALID_ID, NodeId::value);
        raw.raft.state = self.standing.role.to_raft();
    }

    /// Lets raft-rs hand out a `Ready` for each that is not durable, after one that takes up what is no news.
    fn hand_out_again(&self, raw: &mut RawNode<Log>, after: u64) {
        let ready = raw.ready();
        raw.advance_append_async(ready);
        for last in self.outstanding.ends() {
            let unstable = &mut raw.raft.raft_log.unstable;
            if let Some(Position { index, term }) = last {
                let entry =
                    eraftpb::Entry { index: index.value(), term: term.value(), ..eraftpb::Entry::default() };
                (unstable.entries, unstable.offset) = (vec![entry], index.value());
            }
            let ready = raw.ready();
            raw.advance_append_async(ready);
            raw.raft.raft_log.unstable.offset = after;
        }
    }

    fn set_counters(&self, raw: &mut RawNode<Log>) {
        let Counters { election_elapsed, heartbeat_elapsed, uncommitted_size, .. } = self.counters;
        if self.standing.role == Role::Leader {
            for _ in 0..heartbeat_elapsed.min(raw.raft.heartbeat_timeout()) {
                raw.raft.election_elapsed = 0;
                raw.tick();
            }
            let data = vec![0; uncommitted_size.min(UNCOMMITTED_MAX)].into();
            raw.raft.maybe_increase_uncommitted_size(&[eraftpb::Entry { data, ..eraftpb::Entry::default() }]);
        }
        raw.raft.election_elapsed = election_elapsed;
        raw.raft.lead_transferee = Some(self.counters.lead_transferee).filter(|to| *to != INVALID_ID);
        raw.raft.pending_conf_index = self.counters.pending_conf_index;
    }

    fn set_members(&self, raw: &mut RawNode<Log>) {
        let capacity = raw.raft.max_inflight;
        let members = raw.raft.mut_prs();
        members.reset_votes();
        for (node, granted) in &self.votes {
            members.record_vote(node.value(), *granted);
        }
        for (node, image) in &self.progress {
            let progress = members.get_mut(node.value()).expect("the log tells the same members");
            image.bring_about(progress, capacity);
        }
        for (context, index, confirmed_by) in &self.reads_asked {
            let mut question = eraftpb::Message::default();
            question.set_msg_type(MessageType::MsgReadIndex);
            let data = context.clone().into();
            question.set_entries(vec![eraftpb::Entry { data, ..eraftpb::Entry::default() }].into());
            raw.raft.read_only.add_request(index.value(), question, self.id.value());
            for node in confirmed_by {
                raw.raft.read_only.recv_ack(node.value(), context);
            }
        }
    }
}

impl ProgressImage {
    fn of(progress: &raft::Progress) -> ProgressImage {
        ProgressImage {
            matched: progress.matched,
            next: progress.next_idx,
            state: match progress.state {
                ProgressState::Probe => SendingState::Probe,
                ProgressState::Replicate => SendingState::Replicate,
                ProgressState::Snapshot => SendingState::Snapshot,
            },
            paused: progress.paused,
            pending_snapshot: progress.pending_snapshot,
            recent_active: progress.recent_active,
            committed: progress.committed_index,
            in_flight: in_flight(progress),
        }
    }

    fn bring_about(&self, progress: &mut raft::Progress, capacity: usize) {
        (progress.matched, progress.next_idx) = (self.matched, self.next);
        progress.state = match self.state {
            SendingState::Probe => ProgressState::Probe,
            SendingState::Replicate => ProgressState::Replicate,
            SendingState::Snapshot => ProgressState::Snapshot,
        };
        (progress.paused, progress.pending_snapshot) = (self.paused, self.pending_snapshot);
        (progress.recent_active, progress.committed_index) = (self.recent_active, self.committed);
        progress.ins = Inflights::new(capacity);
        for index in &self.in_flight {
            progress.ins.add(*index);
        }
    }
}

/// The last entries of the appends in flight: those at which freeing a copy up to there makes it smaller.
fn in_flight(progress: &raft::Progress) -> Vec<u64> {
    let mut left = progress.ins.clone();
    let mut found = Vec::with_capacity(left.count());
    // Where nothing is in flight, that can be the whole log.
    for index in progress.matched..progress.next_idx {
        if left.count() == 0 {
            break;
        }
        let before = left.count();
        left.free_to(index);
        found.extend((left.count()..before).map(|_| index));
    }
    debug_assert_eq!(left.count(), 0, "what is in flight lies between what is there and what is next");
    found
}
