//! Client sessions: a command that is sent twice is executed once.
//!
//! # The problem
//!
//! A client whose answer is lost cannot tell whether its command was executed. If it does not send it
//! again the command may be missing; if it does, the command may be executed twice.
//!
//! # The idea (Raft thesis §6.3)
//!
//! A client opens a *session*; the index of that entry is the session's id, so no two are alike. Each of
//! its commands carries a number of its own. The replicated state remembers, for each session, the
//! answers to the commands that the client may still send again, and gives the remembered answer instead
//! of executing a command a second time. Each command also says below which number the client has all
//! its answers, so that those can be forgotten.
//!
//! # Forgetting sessions
//!
//! A session that nobody uses must end some day, on all nodes at the same place of the log, and no node
//! may ask its own clock for that. So each entry carries the *cluster time*: the leader's own monotonic
//! clock, counted on from the time in the log when it took over. It stands still while nobody leads,
//! never goes back, and depends on no wall clock. A session ends when its lifetime has passed in cluster
//! time without a command or, when there are too many, if its end is the nearest.
//!
//! What comes in a session that has ended is not executed, and its client is told so: an earlier attempt
//! of the same command may have been.

use core::time::Duration;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::directory::Listing;
use crate::id::{LogIndex, NodeId};
use crate::partition::metadata::{self, Delta, Outcome, Refusal};
use crate::payload;
use crate::raft::Position;
use crate::wire::codec;

/// The most sessions at one time. One more, and the one whose end is nearest ends.
pub const SESSIONS_MAX: usize = 16_384;
/// The most answers that are remembered for one session. One more, and the oldest is forgotten, so a
/// client must not give out a number so far beyond the oldest that it waits for.
pub const ANSWERS_MAX: usize = 1024;
/// The most bytes of answers that are remembered for one session, of which the last one always is.
pub const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The shortest and the longest lifetime of a session; others are moved to the nearer one.
pub const LIFETIMES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(24 * 3600));

/// The time in the log, in milliseconds since the cluster's birth.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct ClusterTime(u64);

impl ClusterTime {
    /// The time `elapsed` later.
    #[must_use]
    pub fn after(self, elapsed: Duration) -> ClusterTime {
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        ClusterTime(self.0.saturating_add(millis))
    }
}

/// What a client puts on a command to have it executed once.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Ticket {
    /// The session.
    pub session: LogIndex,
    /// The number of the command in its session. The same number means the same command.
    pub number: u64,
    /// The client has the answers to all commands below this number.
    pub oldest: u64,
}

/// What a client wants in the log.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Proposal {
    /// A command, to be executed as often as it is sent.
    Command(#[serde(serialize_with = "payload::plain")] Bytes),
    /// A command, to be executed once.
    Once {
        /// In which session, and which.
        ticket: Ticket,
        /// The command.
        #[serde(serialize_with = "payload::plain")]
        command: Bytes,
    },
    /// A new session, which ends when it is not used for so long.
    Open {
        /// See [`LIFETIMES`].
        lifetime: Duration,
    },
    /// A change of the metadata. It may be sent again: it names what it has seen, so a copy changes nothing.
    Metadata(Box<metadata::Command>),
}

/// What stands in an entry: a proposal, stamped by the leader that appended it.
#[derive(Debug, Deserialize, Serialize)]
enum Record<'a> {
    Command(ClusterTime, &'a [u8]),
    Once(ClusterTime, Ticket, &'a [u8]),
    Open(ClusterTime, u64),
    List(ClusterTime, NodeId, Listing),
    Metadata(ClusterTime, Cow<'a, metadata::Command>),
}

impl Proposal {
    /// The command, if it has one.
    #[must_use]
    pub fn command(&self) -> Option<&Bytes> {
        match self {
            Proposal::Command(command) | Proposal::Once { command, .. } => Some(command),
            Proposal::Open { .. } | Proposal::Metadata(_) => None,
        }
    }

    /// How many bytes it costs the log, roughly.
    #[must_use]
    pub fn length(&self) -> usize {
        match self {
            Proposal::Command(command) | Proposal::Once { command, .. } => command.len(),
            Proposal::Open { .. } => 0,
            Proposal::Metadata(command) => codec::encode(command).len(),
        }
    }

    /// Encodes the entry that a leader appends at `time`.
    #[must_use]
    pub fn seal(&self, time: ClusterTime) -> Bytes {
        let record = match self {
            Proposal::Command(command) => Record::Command(time, command),
            Proposal::Once { ticket, command } => Record::Once(time, *ticket, command),
            Proposal::Open { lifetime } => {
                let (shortest, longest) = LIFETIMES;
                let millis = (*lifetime).clamp(shortest, longest).as_millis();
                Record::Open(time, u64::try_from(millis).unwrap_or(u64::MAX))
            }
            Proposal::Metadata(command) => Record::Metadata(time, Cow::Borrowed(command)),
        };
        Bytes::from(codec::encode(&record))
    }
}

/// Encodes the entry with which a leader lists a member at `time`.
#[must_use]
pub fn seal_listing(time: ClusterTime, node: NodeId, listing: Listing) -> Bytes {
    Bytes::from(codec::encode(&Record::List(time, node, listing)))
}

/// Finds the command that stands in an entry, if one does.
#[must_use]
pub fn command_in(entry: &[u8]) -> Option<(Option<Ticket>, &[u8])> {
    match codec::decode_borrowed(entry).ok()? {
        Record::Command(_, command) => Some((None, command)),
        Record::Once(_, ticket, command) => Some((Some(ticket), command)),
        Record::Open(..) | Record::List(..) | Record::Metadata(..) => None,
    }
}

/// Puts another command into an entry that has one, and leaves its envelope as it is; one without a command stays as it
/// is. `None` if it is no entry at all.
#[must_use]
pub fn reseal(entry: &[u8], rewrite: impl FnOnce(&[u8]) -> Bytes) -> Option<Bytes> {
    let rewritten = match codec::decode_borrowed(entry).ok()? {
        Record::Command(time, command) => codec::encode(&Record::Command(time, &rewrite(command))),
        Record::Once(time, ticket, command) => codec::encode(&Record::Once(time, ticket, &rewrite(command))),
        Record::Open(..) | Record::List(..) | Record::Metadata(..) => {
            return Some(Bytes::copy_from_slice(entry));
        }
    };
    Some(rewritten.into())
}

/// No entry that means anything begins with this byte.
pub const NO_RECORD: u8 = 0xfa;

/// What became of an entry when it was applied.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Applied {
    /// The command was executed, now or when it came first.
    Answered {
        /// Where the command stands that was executed.
        at: Position,
        /// What the state machine answered.
        answer: Bytes,
        /// Whether it was executed now.
        is_new: bool,
    },
    /// The session of this id is open.
    Opened(LogIndex),
    /// This is known of a member from now on.
    Listed(NodeId, Listing),
    /// The metadata was asked for this.
    Metadata(Box<Ordered>),
    /// The session has ended, or the number is below what its client has answers to. Nothing was executed.
    Expired,
    /// No leader of this version writes such an entry. Nothing was executed.
    Malformed,
}

/// What a command to the metadata led to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ordered {
    /// Where it stands.
    pub at: Position,
    /// The command.
    pub command: metadata::Command,
    /// The answer.
    pub answer: Result<Outcome, Refusal>,
    /// What it changed.
    pub deltas: Vec<Delta>,
    /// The bytes of its entry.
    pub length: usize,
}

/// The sessions of a cluster. It is part of the replicated state.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Sessions {
    time: ClusterTime,
    open: BTreeMap<LogIndex, Session>,
    /// The same sessions, by the time at which they end.
    by_end: BTreeSet<(ClusterTime, LogIndex)>,
}

/// A remembered answer, and where its command stands.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Answer {
    at: Position,
    #[serde(serialize_with = "payload::plain")]
    answer: Bytes,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Session {
    /// In milliseconds.
    lifetime: u64,
    /// When it ends, unless it is used before.
    ends: ClusterTime,
    /// Numbers below this are answered and forgotten.
    oldest: u64,
    answers: BTreeMap<u64, Answer>,
    /// The bytes of all answers.
    bytes: usize,
}

impl Sessions {
    /// The time in the log so far.
    #[must_use]
    pub fn time(&self) -> ClusterTime {
        self.time
    }

    /// How many sessions are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.open.len()
    }

    /// Applies the entry at `at`; one of `execute` and `order` is called at most once, with the command to the state
    /// machine or to the metadata.
    pub fn apply(
        &mut self,
        at: Position,
        entry: &[u8],
        execute: impl FnOnce(&[u8]) -> Bytes,
        order: impl FnOnce(&metadata::Command) -> (Result<Outcome, Refusal>, Vec<Delta>),
    ) -> Applied {
        let Ok(record) = codec::decode_borrowed(entry) else { return Applied::Malformed };
        match record {
            Record::Command(time, command) => {
                self.pass(time);
                Applied::Answered { at, answer: execute(command), is_new: true }
            }
            Record::Once(time, ticket, command) => {
                self.pass(time);
                self.once(at, ticket, || execute(command))
            }
            Record::Open(time, lifetime) => {
                self.pass(time);
                self.open(at.index, lifetime);
                Applied::Opened(at.index)
            }
            Record::List(time, node, listing) => {
                self.pass(time);
                Applied::Listed(node, listing)
            }
            Record::Metadata(time, command) => {
                self.pass(time);
                let command = command.into_owned();
                let (answer, deltas) = order(&command);
                Applied::Metadata(Box::new(Ordered { at, command, answer, deltas, length: entry.len() }))
            }
        }
    }

    fn once(&mut self, at: Position, ticket: Ticket, execute: impl FnOnce() -> Bytes) -> Applied {
        let Some(session) = self.open.get_mut(&ticket.session) else { return Applied::Expired };
        self.by_end.remove(&(session.ends, ticket.session));
        session.ends = self.time.after(Duration::from_millis(session.lifetime));
        self.by_end.insert((session.ends, ticket.session));
        session.forget_below(ticket.oldest);
        if ticket.number < session.oldest {
            return Applied::Expired;
        }
        if let Some(Answer { at, answer }) = session.answers.get(&ticket.number) {
            return Applied::Answered { at: *at, answer: answer.clone(), is_new: false };
        }
        let answer = execute();
        session.remember(ticket.number, at, answer.clone());
        Applied::Answered { at, answer, is_new: true }
    }

    fn open(&mut self, id: LogIndex, lifetime: u64) {
        if self.open.len() >= SESSIONS_MAX
            && let Some((_, nearest)) = self.by_end.pop_first()
        {
            self.open.remove(&nearest);
        }
        let ends = self.time.after(Duration::from_millis(lifetime));
        self.by_end.insert((ends, id));
        self.open.insert(id, Session { lifetime, ends, oldest: 0, answers: BTreeMap::new(), bytes: 0 });
    }

    /// Moves the time on, and ends the sessions whose lifetime has passed.
    fn pass(&mut self, time: ClusterTime) {
        self.time = self.time.max(time);
        while let Some((ends, id)) = self.by_end.first().copied().filter(|(ends, _)| *ends <= self.time) {
            self.by_end.remove(&(ends, id));
            self.open.remove(&id);
        }
    }

    /// What a snapshot holds of them.
    pub(crate) fn table(&self) -> (ClusterTime, &BTreeMap<LogIndex, Session>) {
        (self.time, &self.open)
    }

    /// Makes them of what a snapshot holds.
    pub(crate) fn of_table((time, open): (ClusterTime, BTreeMap<LogIndex, Session>)) -> Sessions {
        let by_end = open.iter().map(|(id, session)| (session.ends, *id)).collect();
        Sessions { time, open, by_end }
    }
}

impl Session {
    fn remember(&mut self, number: u64, at: Position, answer: Bytes) {
        self.bytes += answer.len();
        self.answers.insert(number, Answer { at, answer });
        while self.answers.len() > ANSWERS_MAX || (self.bytes > ANSWER_BYTES_MAX && self.answers.len() > 1) {
            let Some((oldest, _)) = self.answers.first_key_value() else { return };
            self.forget_below(oldest.saturating_add(1));
        }
    }

    fn forget_below(&mut self, oldest: u64) {
        self.oldest = self.oldest.max(oldest);
        while let Some(first) = self.answers.first_entry().filter(|first| *first.key() < self.oldest) {
            self.bytes -= first.remove().answer.len();
        }
    }
}

#[cfg(test)]
mod tests;
