//! Long answers: they are made when somebody is there to take them, and so many bytes at a time.
//!
//! ```text
//!  reads ──(confirmed, applied)─┐
//!  stale reads, entries, status ┤
//!  follow ──(there is news)─────┼─► asked ──(one at a time, so many bytes a turn)──► Reply
//!  replicas ──(consumed)────────┘
//! ```
//!
//! A question has a few bytes, its answer may have millions. If each answer were made as soon as it could be, a thousand
//! questions would cost gigabytes, and seconds in which the node does nothing else: it would lose its lead. So an answer
//! is made when everything before it has been taken ([`Machine::poll`](crate::machine::Machine::poll)), and after
//! [`Limits::answer_bytes_per_turn`](super::Limits::answer_bytes_per_turn) the turn is over: the rest is due at once,
//! but the driver looks at disks, peers and other callers first. How a node is comes before everything else: it is what
//! an operator asks of one that has too much to do.
//!
//! Answers to commands are made when those are applied, in which they take no turns. So they have a bound: beyond
//! [`APPLIED_BYTES_MAX`] in one turn a caller is told that the outcome is unknown. Whoever has a session asks again.

use std::collections::VecDeque;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Node;
use super::io::{Output, Rejection, Reply};
use crate::id::{LogIndex, RequestId};
use crate::payload;
use crate::state_machine::StateMachine;

/// The most bytes of answers to commands in one turn.
const APPLIED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The most that may ask how the node is at one time.
const STATUS_MAX: usize = 256;

/// What a caller wants to know.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) enum Question {
    /// Of the state machine.
    State(#[serde(serialize_with = "payload::plain")] Bytes),
    /// All of the metadata.
    Metadata,
    /// What has changed in the metadata after an index.
    News {
        /// What the caller has.
        after: LogIndex,
    },
    /// How the node is.
    Status,
    /// Nothing more: this is the answer.
    Answered(Box<Reply>),
    /// Committed entries.
    Entries {
        /// The first.
        from: LogIndex,
        /// So many at most.
        limit: u32,
    },
}

impl Question {
    /// The bytes that are kept until it is answered.
    pub(super) fn length(&self) -> usize {
        match self {
            Question::State(query) => query.len(),
            Question::Metadata
            | Question::News { .. }
            | Question::Status
            | Question::Answered(_)
            | Question::Entries { .. } => 0,
        }
    }
}

/// Who may be answered now.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Answers {
    /// Who asks how the node is.
    urgent: VecDeque<RequestId>,
    asked: VecDeque<(RequestId, Question)>,
    /// The bytes of those.
    asked_bytes: usize,
    /// The bytes of answers in this turn.
    made_bytes: usize,
    /// And of those to commands.
    applied_bytes: usize,
    /// The metadata as it was written down last, and up to where.
    written_down: Option<(LogIndex, Bytes)>,
}

impl Answers {
    /// How many wait for their turn.
    pub(super) fn waiting(&self) -> usize {
        self.urgent.len() + self.asked.len()
    }

    /// The bytes of what they ask.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.asked_bytes
    }

    /// Everybody else has had a turn.
    pub(super) fn begin_turn(&mut self) {
        (self.made_bytes, self.applied_bytes) = (0, 0);
    }

    /// The metadata was replaced.
    pub(super) fn forget_metadata(&mut self) {
        self.written_down = None;
    }

    fn take(&mut self) -> Option<(RequestId, Question)> {
        if let Some(id) = self.urgent.pop_front() {
            return Some((id, Question::Status));
        }
        let (id, question) = self.asked.pop_front()?;
        self.asked_bytes -= question.length();
        Some((id, question))
    }
}

impl<S: StateMachine> Node<S> {
    /// Tells whether a question can be answered here, and finds room beside those that wait.
    pub(super) fn admit_question(&self, question: &Question) -> Result<(), Rejection> {
        let has_room = if matches!(question, Question::Status) {
            self.answers.urgent.len() < STATUS_MAX
        } else if self.raft.is_none() {
            return Err(Rejection::NotFormed);
        } else {
            self.has_room_to_ask(question)
        };
        has_room.then_some(()).ok_or(Rejection::Busy)
    }

    fn has_room_to_ask(&self, question: &Question) -> bool {
        let limits = self.config.limits;
        let waiting = self.reads.waiting() + self.answers.asked.len();
        let bytes = self.reads.waiting_bytes() + self.answers.waiting_bytes();
        waiting < limits.reads_max && bytes + question.length() <= limits.reads_bytes_max
    }

    /// Takes a question on that can be answered from what is here, if there is room.
    pub(super) fn ask(&mut self, id: RequestId, question: Question) {
        match self.admit_question(&question) {
            Ok(()) => self.answer_soon(id, question),
            Err(rejection) => self.refuse_request(id, rejection),
        }
    }

    /// A question may be answered from now on.
    pub(super) fn answer_soon(&mut self, id: RequestId, question: Question) {
        if matches!(question, Question::Status) {
            return self.answers.urgent.push_back(id);
        }
        self.answers.asked_bytes += question.length();
        self.answers.asked.push_back((id, question));
    }

    /// Makes one answer, unless there were enough in this turn.
    pub(super) fn answer_next(&mut self) {
        if self.answers.made_bytes >= self.config.limits.answer_bytes_per_turn.max(1) {
            return;
        }
        let Some((id, question)) = self.answers.take() else { return };
        let reply = match question {
            Question::State(query) => {
                self.overheard.asks();
                let answer = self.state_machine.query(&query);
                self.overheard.answer(&answer);
                Reply::Answer { applied: self.applied, answer }
            }
            Question::Metadata => Reply::Metadata { applied: self.applied, state: self.written_metadata() },
            Question::News { after } => self.news(after),
            Question::Status => Reply::Status(Box::new(self.status())),
            Question::Entries { from, limit } => self.entries(from, limit),
            Question::Answered(reply) => *reply,
        };
        self.answers.made_bytes = self.answers.made_bytes.saturating_add(reply.bulk().max(1));
        self.outputs.push_back(Output::Reply { id, reply });
    }

    /// The answer to a command, if it is not too much for this turn.
    pub(super) fn bounded(&mut self, reply: Reply) -> Reply {
        if reply.bulk() > 0 && self.answers.applied_bytes >= APPLIED_BYTES_MAX {
            return self.unknown();
        }
        self.answers.applied_bytes += reply.bulk();
        reply
    }

    /// The metadata, written down once for all who ask before it changes.
    fn written_metadata(&mut self) -> Bytes {
        let changed = self.last_news();
        if let Some((at, state)) = &self.answers.written_down
            && *at == changed
        {
            return state.clone();
        }
        let state = self.ledger.metadata_snapshot();
        self.answers.written_down = Some((changed, state.clone()));
        state
    }

    fn entries(&mut self, from: LogIndex, limit: u32) -> Reply {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let Some(raft) = &self.raft else { return self.reject(Rejection::NotFormed) };
        let mut entries = raft.committed_entries(from, limit);
        let mut bytes = 0_usize;
        let fits = entries.iter().take_while(|entry| {
            bytes = bytes.saturating_add(entry.length());
            bytes <= self.config.limits.entries_bytes_max
        });
        // At least one, or a reader would never get past a large entry.
        let count = fits.count().max(1);
        entries.truncate(count);
        Reply::Entries(entries)
    }

    /// The node stops.
    pub(super) fn abandon_answers(&mut self) {
        while let Some((id, question)) = self.answers.take() {
            let reply = match question {
                Question::Answered(reply) => *reply,
                Question::State(_)
                | Question::Metadata
                | Question::News { .. }
                | Question::Status
                | Question::Entries { .. } => self.reject(Rejection::Halted),
            };
            self.outputs.push_back(Output::Reply { id, reply });
        }
    }
}

#[cfg(test)]
mod tests;
