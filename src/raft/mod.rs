//! Consensus: a log that a majority agrees on, whoever crashes.
//!
//! # The problem
//!
//! Several nodes must execute the same commands in the same order, although messages are lost,
//! delayed and repeated, and nodes stop at any moment and come back with what was on their disk.
//!
//! # The idea (Ongaro and Ousterhout 2014; Ongaro's thesis)
//!
//! One node leads. A *term* is a period with at most one leader, because a candidate needs the votes
//! of a majority and a node votes once a term. The leader appends commands to its log and sends them
//! on; an entry that a majority holds durably is *committed* and never changes. Two majorities share
//! a node, and a voter refuses a candidate whose log ends before its own, so every later leader has
//! every committed entry. The algorithm itself is TiKV's `raft` crate. This module makes it a
//! [`Machine`]: deterministic, asynchronous towards the disk, and closed to hostile input.
//!
//! ```text
//!  Message ─► guard ─► raft-rs ─► ready ─┬─► Persist(n)            (to be made durable)
//!  Propose ───────────────▲              ├─► Send{after: None}     (may leave at once)
//!  tick ◄─ election clock ┘              ├─► Send{after: Some(n)}  (only when n is durable)
//!  Persisted(n) ─► next Ready            └─► Commit(entries) ─► applied ─► Applied(i)
//! ```
//!
//! # The rules, and who keeps them
//!
//! | rule | kept by |
//! |---|---|
//! | one vote a term, across restarts (Raft §5.2) | `Persist` before `Send`, ordered by the gate |
//! | an acknowledgement promises what is durable (Raft §5.3) | the same |
//! | a term elected inline is durable before anything is sent in it | `ready` |
//! | messages that no correct peer sends never reach raft-rs | `guard` |
//! | the same seed and inputs give the same run | `election` |
//! | a read sees what was acknowledged before it (Raft thesis §6.4) | `read` |
//! | a snapshot is applied before raft-rs hears of it (Raft §7) | `snapshot` |
//! | two majorities always share a node, whoever comes and goes (Raft §6) | `membership`, `change` |
//!
//! # What it does not do
//!
//! It writes nothing and sends nothing: see [`crate::node`] for the gate. It serves no reads, it
//! only says at which index they may be served. Which change of the membership is wise, others decide.

mod change;
mod election;
mod entries;
mod flow;
mod guard;
mod image;
mod io;
mod log;
mod logger;
mod membership;
mod message;
mod outstanding;
mod read;
mod ready;
mod recovery;
mod snapshot;
mod timing;

use core::fmt;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use raft::eraftpb::{self, MessageType};
use raft::{RawNode, StateRole};

use self::election::ElectionClock;
use self::log::Log;
use self::outstanding::Outstanding;
use self::read::ReadRounds;
use crate::id::{BootId, LogIndex, NodeId, RequestId, Term};
use crate::machine::Machine;
use crate::rng::Seed;
use crate::time::Instant;

pub use self::change::Progress;
pub use self::election::TICK;
pub use self::flow::Flow;
pub use self::guard::Refusal;
pub use self::image::Image;
pub use self::io::{Decline, Indexes, Input, Output, Persist, Proposal, ReadyNumber, Role, Standing};
pub use self::log::BIRTH;
pub use self::membership::{Change, ChangeError, MEMBERS_MAX, Membership, Step};
pub use self::message::{Ballot, Body, Content, Entry, HardState, Message, Position, Snapshot, Verdict};
pub use self::recovery::{Recovered, RecoveryError};
pub use self::snapshot::admit_first_snapshot;
pub use self::timing::{Timing, TimingError};

/// The consensus machine of one node in one group.
pub struct Raft {
    raw: RawNode<Log>,
    clock: ElectionClock,
    now: Instant,
    outputs: VecDeque<Output>,
    standing: Standing,
    /// Term and vote as of the last `Ready`.
    ballot: (Term, Option<NodeId>),
    /// The last `Ready` that changed term or vote and is not known to be durable.
    unsettled: Option<ReadyNumber>,
    /// The last `Ready` that appended entries and is not known to be durable.
    appending: Option<ReadyNumber>,
    outstanding: Outstanding,
    reads: ReadRounds,
    /// A snapshot that raft-rs has taken and not yet handed on.
    installing: Option<Snapshot>,
    /// The `Ready` of a snapshot whose record is not known to be durable, and the end of the log before.
    unrecorded: Option<(ReadyNumber, LogIndex)>,
    /// Committed changes of the membership that the state machine has not come to.
    unapplied: VecDeque<(Position, Change)>,
    refusals: BTreeMap<Refusal, u64>,
}

impl Raft {
    /// Starts the machine on what was durable. `boot` must differ between starts of a node, for ever: a
    /// read of this start must not be confirmed by an answer to one before it.
    ///
    /// # Errors
    ///
    /// [`RecoveryError`] if the durable state contradicts itself. Nothing was started.
    ///
    /// # Panics
    ///
    /// If `timing` is not valid: see [`Timing::validate`].
    pub fn start(
        id: NodeId,
        boot: BootId,
        timing: &Timing,
        flow: Flow,
        seed: Seed,
        recovered: Recovered,
        now: Instant,
    ) -> Result<Raft, RecoveryError> {
        timing.validate().expect("the caller validates the timing");
        let hard_state = recovered.hard_state;
        let log = recovered.into_log(id)?;
        let config = configure(id, timing, flow, log.snapshot_at().index);
        let mut raw = RawNode::new(&config, log, &logger::bridge()).expect("a validated configuration");
        let range = election::in_ticks(timing.election_timeout.start)
            ..election::in_ticks(timing.election_timeout.end);
        let clock = ElectionClock::start(seed, range, now, &mut raw);
        let standing = Standing { role: Role::Follower, term: hard_state.term, leader: None };
        Ok(Raft {
            raw,
            clock,
            now,
            outputs: VecDeque::new(),
            standing,
            ballot: (hard_state.term, hard_state.vote),
            unsettled: None,
            appending: None,
            outstanding: Outstanding::default(),
            reads: ReadRounds::start(id, boot),
            installing: None,
            unrecorded: None,
            unapplied: VecDeque::new(),
            refusals: BTreeMap::new(),
        })
    }

    /// Tells the role, the term and the leader.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Tells whether this node leads and has committed an entry in its term.
    #[must_use]
    pub fn has_committed_in_its_term(&self) -> bool {
        self.raw.raft.state == StateRole::Leader && self.raw.raft.commit_to_current_term()
    }

    /// Tells how far the log has got.
    #[must_use]
    pub fn indexes(&self) -> Indexes {
        let log = &self.raw.raft.raft_log;
        Indexes {
            last: LogIndex::new(log.last_index()),
            persisted: self.unrecorded.map_or(LogIndex::new(log.persisted), |(_, before)| before),
            commit: LogIndex::new(log.committed),
            applied: LogIndex::new(log.applied),
        }
    }

    /// The first entry that is in memory, or would be.
    #[must_use]
    pub fn first_entry(&self) -> LogIndex {
        self.raw.store().start().index.next()
    }

    /// Copies at most `limit` committed entries from index `from` on.
    #[must_use]
    pub fn committed_entries(&self, from: LogIndex, limit: usize) -> Vec<Entry> {
        self.raw.store().read(from, self.indexes().commit, limit)
    }

    /// Counts the messages that were dropped at the door, by reason.
    #[must_use]
    pub fn refusals(&self) -> &BTreeMap<Refusal, u64> {
        &self.refusals
    }

    /// Checks what must hold after every step (Raft Fig. 3 and raft-rs's own bounds).
    ///
    /// # Panics
    ///
    /// If an invariant is broken: that is a bug of this crate.
    pub fn assert_invariants(&self) {
        let Indexes { last, commit, applied, .. } = self.indexes();
        let log = &self.raw.raft.raft_log;
        let persisted = LogIndex::new(log.persisted);
        assert!(self.raw.store().snapshot_at().index <= commit, "a snapshot holds what is committed");
        assert!(applied <= commit, "applied {applied} is past the commit index {commit}");
        assert!(applied <= persisted, "applied {applied} is past what is durable, {persisted}");
        assert!(persisted <= last, "persisted {persisted} is past the end of the log {last}");
        assert!(commit <= last, "commit {commit} is past the end of the log {last}");
        assert!(log.last_term() <= self.raw.raft.term, "the log is ahead of the term");
        let leads = self.standing.role == Role::Leader;
        let is_named = self.standing.leader.map(NodeId::value) == Some(self.raw.raft.id);
        assert_eq!(leads, is_named, "a node leads exactly when it names itself as the leader");
    }

    fn handle_message(&mut self, from: NodeId, message: Message) {
        if let Err(refusal) = guard::admit(&self.raw, self.is_log_durable(), from, &message) {
            self.count_refusal(from, refusal);
            if refusal == Refusal::TermTooFarAhead && self.membership().contains(from) {
                // A member cannot be left behind for ever: each such message closes a part of the gap.
                let nearer = self.raw.raft.term.saturating_add(guard::TERM_LEAP_MAX);
                self.raw.raft.become_follower(nearer, raft::INVALID_ID);
            }
            return;
        }
        // raft-rs reports messages from non-members; the guard has dropped those.
        let _ = self.raw.step(message.into_raft(from));
    }

    /// Whether all entries that were ever appended, even those that were replaced since, are off the disk's
    /// hands; those that have not been collected yet are not.
    fn is_log_durable(&self) -> bool {
        let log = &self.raw.raft.raft_log;
        let is_collected = log.unstable_entries().is_empty() && log.unstable_snapshot().is_none();
        let is_written = self.appending.is_none() && self.unrecorded.is_none();
        is_written && is_collected && log.persisted == log.last_index()
    }

    /// Counts a message that the caller has dropped for this reason.
    pub fn count_refusal(&mut self, from: NodeId, refusal: Refusal) {
        *self.refusals.entry(refusal).or_default() += 1;
        self.outputs.push_back(Output::Refused { from, refusal });
    }

    /// Appends all proposals in one step: each step costs an append to every follower.
    fn handle_proposals(&mut self, proposals: Vec<Proposal>) {
        let ids: Vec<RequestId> = proposals.iter().map(|proposal| proposal.id).collect();
        if self.raw.raft.state != StateRole::Leader {
            // Never handed to raft-rs: it would forward them to the leader on its own.
            self.outputs.push_back(Output::Declined { ids, reason: Decline::NotLeader });
            return;
        }
        if ids.is_empty() {
            return;
        }
        let index = LogIndex::new(self.raw.raft.raft_log.last_index()).next();
        let first = Position { index, term: Term::new(self.raw.raft.term) };
        let mut message = eraftpb::Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.raw.raft.id;
        message.set_entries(proposals.into_iter().map(into_entry).collect());
        let output = match self.raw.step(message) {
            Ok(()) => Output::Appended { first, ids },
            Err(_) => Output::Declined { ids, reason: Decline::Busy },
        };
        self.outputs.push_back(output);
    }

    fn handle_note(&mut self, command: Bytes) {
        if self.raw.raft.state == StateRole::Leader {
            // If it is dropped, because too much is under way, whoever has it noted does so again.
            let _ = self.raw.propose(Vec::new(), command.into());
        }
    }

    fn handle_persisted(&mut self, number: ReadyNumber) {
        let known_as = self.outstanding.settle(number);
        self.raw.on_persist_ready(known_as);
        self.unsettled = self.unsettled.filter(|unsettled| *unsettled > number);
        self.appending = self.appending.filter(|appending| *appending > number);
        self.unrecorded = self.unrecorded.filter(|(unrecorded, _)| *unrecorded > number);
    }

    fn note_time(&mut self, now: Instant) {
        assert!(now >= self.now, "time went back from {} to {now}", self.now);
        self.now = now;
    }

    fn note_standing(&mut self) {
        let raft = &self.raw.raft;
        let role = Role::of(raft.state);
        let standing = Standing { role, term: Term::new(raft.term), leader: NodeId::new(raft.leader_id) };
        if standing != self.standing {
            let leads_on = standing.role == Role::Leader && standing.term == self.standing.term;
            self.standing = standing;
            if !leads_on {
                self.give_up_read();
            }
            self.outputs.push_back(Output::Standing(standing));
        }
    }
}

impl Machine for Raft {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        self.note_time(now);
        self.clock.pay_quiet(now, &mut self.raw);
        match input {
            Input::Message { from, message } => self.handle_message(from, message),
            Input::Propose(proposals) => self.handle_proposals(proposals),
            Input::Note(command) => self.handle_note(command),
            Input::ReadIndex(round) => self.handle_read(round),
            Input::Persisted(number) => self.handle_persisted(number),
            Input::Change { id, change } => self.handle_change(id, &change),
            Input::HandOver(to) => self.handle_hand_over(to),
            Input::StepDown => self.handle_step_down(),
            Input::Applied(index) => self.handle_applied(index),
            Input::Install { from, term, snapshot } => self.handle_install(from, term, snapshot),
            Input::SnapshotSent { to, arrived } => self.handle_snapshot_sent(to, arrived),
            Input::Compact { at, membership, retained } => self.handle_compact(at, &membership, retained),
            Input::Unreachable(node) => self.raw.report_unreachable(node.value()),
        }
        self.clock.settle(&mut self.raw);
        self.note_standing();
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.note_time(now);
        self.clock.pay(now, &mut self.raw);
        self.note_standing();
    }

    fn poll(&mut self) -> Option<Output> {
        if self.outputs.is_empty() {
            self.collect_ready();
            self.clock.settle(&mut self.raw);
        }
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<Instant> {
        self.clock.deadline(&self.raw)
    }
}

impl fmt::Debug for Raft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Raft");
        debug.field("standing", &self.standing).field("indexes", &self.indexes());
        debug.finish_non_exhaustive()
    }
}

fn configure(id: NodeId, timing: &Timing, flow: Flow, applied: LogIndex) -> raft::Config {
    let ticks = |time: Duration| {
        usize::try_from(election::in_ticks(time)).expect("a validated time is below an hour")
    };
    let shortest = ticks(timing.election_timeout.start);
    raft::Config {
        id: id.value(),
        election_tick: shortest,
        min_election_tick: shortest,
        max_election_tick: ticks(timing.election_timeout.end),
        heartbeat_tick: ticks(timing.heartbeat_interval),
        applied: applied.value(),
        max_size_per_msg: flow.append_bytes_max,
        max_inflight_msgs: flow.appends_in_flight_max.max(1),
        max_uncommitted_size: flow.uncommitted_bytes_max,
        // A follower learns what is committed from the next entries, or from a heartbeat, such as the one that
        // confirms a read: one message less to each follower, and one back, for every batch.
        skip_bcast_commit: true,
        check_quorum: true,
        pre_vote: true,
        ..raft::Config::default()
    }
}

fn into_entry(proposal: Proposal) -> eraftpb::Entry {
    eraftpb::Entry { data: proposal.command, ..eraftpb::Entry::default() }
}
