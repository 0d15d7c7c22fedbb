//! Linearizable reads on any node: which reads wait for which round, and where.
//!
//! ```text
//!  leader:    queries ─┐
//!  follower:  queries ─► ReadIndex ─► leader ─┴─► one round ─► index ─► applied? ─► answers
//! ```
//!
//! One round is under way at a time; what comes meanwhile is the next one, so a thousand readers cost
//! one question to the majority. A follower asks its leader for the index and answers from its own
//! state when it has applied that far (Raft thesis §6.4). A read changes nothing, so whatever goes wrong
//! it is rejected and may be tried again.

use serde::{Deserialize, Serialize};

use super::Node;
use super::answers::Question;
use super::gate::Departure;
use super::io::{Peer, Rejection};
use super::message::{CallId, Message};
use crate::id::{LogIndex, NodeId, RequestId};
use crate::raft::{self, Role};
use crate::state_machine::StateMachine;
use crate::time::Instant;

/// A confirmed read waits so many of the longest election timeouts to be applied. A round waits for one:
/// a leader without a majority knows it by then, and a lost question is better asked again.
const APPLY_PATIENCE_FACTOR: u32 = 4;

/// Who waits for an index.
#[derive(Clone, Debug, Deserialize, Serialize)]
enum Reader {
    /// A caller of this node.
    Caller(RequestId, Question),
    /// Another node.
    Node(NodeId, CallId),
}

/// A question to the majority.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Round {
    number: u64,
    readers: Vec<Reader>,
    until: Instant,
}

/// Reads that may be served when an index is applied.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Confirmed {
    index: LogIndex,
    reads: Vec<(RequestId, Question)>,
    until: Instant,
}

/// The reads of one node.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Reads {
    last_round: u64,
    queued: Vec<Reader>,
    round: Option<Round>,
    confirmed: Vec<Confirmed>,
    /// How many reads of callers are anywhere in here.
    waiting: usize,
    /// The bytes of what they ask.
    waiting_bytes: usize,
}

impl Reads {
    /// How many reads wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// The bytes of what they ask.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// A caller's read leaves, for better or worse.
    fn let_go(&mut self, question: &Question) {
        self.waiting -= 1;
        self.waiting_bytes -= question.length();
    }

    /// When the next read is given up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let round = self.round.as_ref().map(|round| round.until);
        self.confirmed.iter().map(|confirmed| confirmed.until).chain(round).min()
    }
}

impl<S: StateMachine> Node<S> {
    /// A caller's read waits for the next round.
    pub(super) fn queue_read(&mut self, id: RequestId, query: Question) {
        self.reads.waiting += 1;
        self.reads.waiting_bytes += query.length();
        self.reads.queued.push(Reader::Caller(id, query));
    }

    /// Another node asks for an index; it counts on nothing, so one that asks too much is not answered.
    pub(super) fn read_for(&mut self, from: NodeId, call: CallId) {
        if self.reads.queued.len() < self.config.limits.reads_max {
            self.reads.queued.push(Reader::Node(from, call));
        }
    }

    /// Begins a round with all that is queued, unless one is under way.
    pub(super) fn begin_reads(&mut self) {
        if self.reads.round.is_some() || self.reads.queued.is_empty() {
            return;
        }
        let readers = core::mem::take(&mut self.reads.queued);
        let standing = self.standing();
        let leads = standing.is_some_and(|standing| standing.role == Role::Leader);
        let leader = standing.and_then(|standing| standing.leader);
        let (Some(leader), false) = (leader, leads) else {
            if leads {
                let number = self.open_round(readers);
                return self.handle_raft(raft::Input::ReadIndex(number));
            }
            return self.refuse_reads(readers);
        };
        let (own, others) =
            readers.into_iter().partition::<Vec<_>, _>(|reader| matches!(reader, Reader::Caller(..)));
        self.refuse_reads(others);
        if !own.is_empty() {
            let number = self.open_round(own);
            let call = self.call_id(number);
            self.tell(leader, Message::ReadIndex(call));
        }
    }

    fn open_round(&mut self, readers: Vec<Reader>) -> u64 {
        self.stats.read_rounds += 1;
        self.reads.last_round += 1;
        let number = self.reads.last_round;
        let until = self.now + self.config.timing.election_timeout.end;
        self.reads.round = Some(Round { number, readers, until });
        number
    }

    /// The leader's answer to a follower.
    pub(super) fn read_answered(&mut self, from: NodeId, call: CallId, index: Option<LogIndex>) {
        let leader = self.standing().and_then(|standing| standing.leader);
        if call != self.call_id(call.number) || leader != Some(from) {
            return;
        }
        match index {
            Some(index) => self.confirm_reads(call.number, index),
            None => self.lose_reads(call.number),
        }
    }

    /// The reads of a round may be served at `index`.
    pub(super) fn confirm_reads(&mut self, number: u64, index: LogIndex) {
        let Some(round) = self.reads.round.take_if(|round| round.number == number) else { return };
        let mut reads = Vec::new();
        for reader in round.readers {
            match reader {
                Reader::Caller(id, query) => reads.push((id, query)),
                Reader::Node(node, call) => {
                    self.tell(node, Message::ReadIndexAt { call, index: Some(index) });
                }
            }
        }
        if !reads.is_empty() {
            let until = self.now + self.config.timing.election_timeout.end * APPLY_PATIENCE_FACTOR;
            self.reads.confirmed.push(Confirmed { index, reads, until });
        }
        self.serve_reads();
        self.begin_reads();
    }

    /// A round will not be answered.
    pub(super) fn lose_reads(&mut self, number: u64) {
        if let Some(round) = self.reads.round.take_if(|round| round.number == number) {
            self.refuse_reads(round.readers);
            self.begin_reads();
        }
    }

    /// The reads whose index is applied may be answered.
    pub(super) fn serve_reads(&mut self) {
        if self.reads.confirmed.is_empty() {
            return;
        }
        let applied = self.applied;
        let ready: Vec<Confirmed> =
            self.reads.confirmed.extract_if(.., |confirmed| confirmed.index <= applied).collect();
        for (id, query) in ready.into_iter().flat_map(|confirmed| confirmed.reads) {
            self.reads.let_go(&query);
            self.stats.reads += 1;
            self.answer_soon(id, query);
        }
    }

    /// Rejects the reads that have waited too long.
    pub(super) fn expire_reads(&mut self) {
        let now = self.now;
        if let Some(round) = self.reads.round.take_if(|round| round.until <= now) {
            self.refuse_reads(round.readers);
        }
        let late: Vec<Confirmed> =
            self.reads.confirmed.extract_if(.., |confirmed| confirmed.until <= now).collect();
        for (id, query) in late.into_iter().flat_map(|confirmed| confirmed.reads) {
            self.refuse_reads(vec![Reader::Caller(id, query)]);
        }
    }

    /// A message to `node` is lost: perhaps the question of the round under way.
    pub(super) fn lose_reads_at(&mut self, node: NodeId) {
        let leader = self.standing().and_then(|standing| standing.leader);
        if leader == Some(node)
            && let Some(round) = self.reads.round.take()
        {
            self.refuse_reads(round.readers);
        }
    }

    /// Rejects all reads, since nobody is there any more to confirm them.
    pub(super) fn give_up_reads(&mut self) {
        let round = self.reads.round.take().map(|round| round.readers).unwrap_or_default();
        let queued = core::mem::take(&mut self.reads.queued);
        self.refuse_reads(round.into_iter().chain(queued).collect());
    }

    /// The node stops: what is confirmed will not be applied here any more.
    pub(super) fn abandon_reads(&mut self) {
        self.give_up_reads();
        let confirmed = core::mem::take(&mut self.reads.confirmed);
        let reads = confirmed.into_iter().flat_map(|confirmed| confirmed.reads);
        self.refuse_reads(reads.map(|(id, query)| Reader::Caller(id, query)).collect());
    }

    fn refuse_reads(&mut self, readers: Vec<Reader>) {
        for reader in readers {
            match reader {
                Reader::Caller(id, query) => {
                    self.reads.let_go(&query);
                    self.refuse_request(id, Rejection::Unconfirmed);
                }
                Reader::Node(node, call) => self.tell(node, Message::ReadIndexAt { call, index: None }),
            }
        }
    }

    /// The name of a question of this process.
    pub(super) fn call_id(&self, number: u64) -> CallId {
        CallId { node: self.config.id, boot: self.boot, number }
    }

    /// Sends what promises nothing.
    pub(super) fn tell(&mut self, node: NodeId, message: Message) {
        self.depart(Departure { to: Peer::Node(node), message }, None);
    }
}
