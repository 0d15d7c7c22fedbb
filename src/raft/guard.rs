//! The door: what a peer says is judged here before raft-rs hears it.
//!
//! raft-rs trusts its caller. A message that a bug, a stale process or a hostile peer could send
//! makes it panic or, worse, believe: an append with term 0 passes for a local message and resets
//! the term; an acknowledgement of entries that were never sent commits them; a heartbeat whose
//! commit lies beyond the log is fatal. So each message is held against what this node knows, and
//! one that cannot come from a correct peer is dropped and counted under the reason. Nothing that a
//! peer sends stops this node.
//!
//! Kinds that have no place on the wire are not refused here: [`Body`] cannot express them.

use raft::{RawNode, StateRole};

use super::log::{BIRTH, Log};
use super::message::{Body, Entry, Message, Position, Verdict};
use super::read::CONTEXT_BYTES;
use crate::id::{LogIndex, NodeId, Term};

/// Why a message was dropped. Unless it says otherwise, the machine's state is unchanged.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Refusal {
    /// It was for another node.
    Misaddressed,
    /// Its sender claims to be us, or is no member and says what only a member may say. Whoever is behind
    /// does not know all members, so it listens to leaders and candidates that it does not know (Raft §6).
    Stranger,
    /// Its sender was a member, and is none any more.
    Departed,
    /// Its term is 0, which raft-rs takes for a message of its own.
    TermZero,
    /// Its term is more than 2^20 ahead: no sequence of elections gets there at once. Our own term moves
    /// up by 2^20, so that a member that was pushed far ahead is caught up with, and not stranded.
    TermTooFarAhead,
    /// Its entries have gaps, terms that decrease or exceed the message's, or indexes that overflow.
    MalformedAppend,
    /// It contradicts an entry that is committed here. Somebody lost what they promised.
    ContradictsCommitted,
    /// A heartbeat's commit lies beyond our log.
    CommitBeyondLog,
    /// It acknowledges, or hints at, entries that we do not have.
    AckBeyondLog,
    /// A vote that nobody can have been asked for yet, since our own log is not durable.
    PrematureVote,
    /// An order to campaign while our own log is not durable: whoever hands over waits until it is.
    PrematureHandOver,
    /// A ballot or verdict with an index but no term, or the reverse.
    MalformedBallot,
    /// A heartbeat that confirms a read under a name that no node gives to reads.
    MalformedContext,
    /// An order to campaign that is not the current leader's.
    NotFromLeader,
    /// A snapshot of a place that is none, or of a group that makes no sense or in which we have no part.
    MalformedSnapshot,
    /// A snapshot that this node needs no longer.
    SnapshotBehind,
    /// Somebody leads in the term that we lead: election safety (Raft §5.2) is broken.
    SecondLeader,
}

impl Refusal {
    /// Tells whether a refusal means that the cluster's promises are already broken.
    #[must_use]
    pub fn is_alarming(self) -> bool {
        matches!(self, Refusal::ContradictsCommitted | Refusal::CommitBeyondLog | Refusal::SecondLeader)
    }
}

/// How far ahead of ours a term may be.
pub(super) const TERM_LEAP_MAX: u64 = 1 << 20;
/// The highest index that a peer may name: no log gets there, and no arithmetic overflows beyond it.
pub(super) const INDEX_MAX: u64 = 1 << 60;

/// Judges `message`, which the holder of `from`'s certificate sent. `is_log_durable` tells whether all
/// entries that were ever appended, even those that were replaced since, are off the disk's hands.
pub(super) fn admit(
    raw: &RawNode<Log>,
    is_log_durable: bool,
    from: NodeId,
    message: &Message,
) -> Result<(), Refusal> {
    let node = View { raw, is_log_durable };
    node.admit_envelope(from, message)?;
    if message.term.value() < raw.raft.term {
        // raft-rs believes nothing that an earlier term says. What it says may rightly contradict what
        // has been committed since.
        return Ok(());
    }
    match &message.body {
        Body::Append { previous, entries, .. } => node.admit_append(message.term, *previous, entries),
        Body::AppendAccepted { index, commit } => node.admit_acknowledged(&[*index, *commit]),
        Body::AppendRejected { index, hint, commit } => {
            // Every log begins with the birth, so a hint before it would ask for what nobody has.
            let is_sane = BIRTH.index <= hint.index && hint.index <= *index && hint.term <= message.term;
            require(is_sane, Refusal::AckBeyondLog)?;
            node.admit_acknowledged(&[hint.index, *commit])
        }
        Body::Vote(ballot) | Body::PreVote(ballot) => {
            require(is_whole(ballot.last) && is_whole(ballot.commit), Refusal::MalformedBallot)
        }
        Body::VoteResponse(verdict) | Body::PreVoteResponse(verdict) => node.admit_verdict(*verdict),
        Body::Heartbeat { commit, context } => {
            node.admit_leadership(message.term)?;
            require(matches!(context.len(), 0 | CONTEXT_BYTES), Refusal::MalformedContext)?;
            require(commit.value() <= node.last(), Refusal::CommitBeyondLog)
        }
        Body::HeartbeatResponse { commit, .. } => node.admit_acknowledged(&[*commit]),
        Body::TimeoutNow => {
            let is_leader = raw.raft.leader_id == from.value() && message.term.value() == raw.raft.term;
            require(is_leader, Refusal::NotFromLeader)?;
            // raft-rs elects a lone voter on the spot, and panics if its log is not durable.
            require(is_log_durable, Refusal::PrematureHandOver)
        }
    }
}

struct View<'a> {
    raw: &'a RawNode<Log>,
    is_log_durable: bool,
}

impl View<'_> {
    fn last(&self) -> u64 {
        self.raw.raft.raft_log.last_index()
    }

    fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    fn admit_envelope(&self, from: NodeId, message: &Message) -> Result<(), Refusal> {
        let raft = &self.raw.raft;
        require(message.to.value() == raft.id, Refusal::Misaddressed)?;
        require(from.value() != raft.id, Refusal::Stranger)?;
        self.admit_sender(from, &message.body)?;
        require(message.term > Term::new(0), Refusal::TermZero)?;
        let highest = raft.term.saturating_add(TERM_LEAP_MAX);
        require(message.term.value() <= highest, Refusal::TermTooFarAhead)
    }

    /// Members may say anything, who was removed nothing, and others what leaders and candidates say. Whoever is
    /// suspended may long be back where this node has not come to yet: it is heard like a stranger.
    fn admit_sender(&self, from: NodeId, body: &Body) -> Result<(), Refusal> {
        let membership = self.raw.store().membership();
        if membership.contains(from) {
            return Ok(());
        }
        require(!membership.removed().contains(&from), Refusal::Departed)?;
        match body {
            Body::Append { .. } | Body::Heartbeat { .. } | Body::Vote(_) | Body::PreVote(_) => Ok(()),
            Body::AppendAccepted { .. }
            | Body::AppendRejected { .. }
            | Body::VoteResponse(_)
            | Body::PreVoteResponse(_)
            | Body::HeartbeatResponse { .. }
            | Body::TimeoutNow => Err(Refusal::Stranger),
        }
    }

    /// Entries follow `previous` without a gap, and terms never decrease (Raft §5.3).
    fn admit_append(&self, term: Term, previous: Position, entries: &[Entry]) -> Result<(), Refusal> {
        self.admit_leadership(term)?;
        require(is_whole(previous) && previous.term <= term, Refusal::MalformedAppend)?;
        let mut last = previous;
        for entry in entries {
            let follows = last.index.value().checked_add(1) == Some(entry.at.index.value());
            let ordered = last.term <= entry.at.term && entry.at.term <= term && entry.at.term > Term::new(0);
            require(follows && ordered, Refusal::MalformedAppend)?;
            last = entry.at;
        }
        require(last.index.value() <= INDEX_MAX, Refusal::MalformedAppend)?;
        entries.iter().try_for_each(|entry| self.admit_position(entry.at))
    }

    /// What is committed never changes (Raft §5.4.3).
    fn admit_position(&self, at: Position) -> Result<(), Refusal> {
        let log = &self.raw.raft.raft_log;
        let index = at.index.value();
        if index > log.committed || index + 1 < log.first_index() {
            return Ok(());
        }
        require(log.match_term(index, at.term.value()), Refusal::ContradictsCommitted)
    }

    /// A term has one leader (Raft §5.2): nobody else speaks as leader of ours while we lead.
    fn admit_leadership(&self, term: Term) -> Result<(), Refusal> {
        require(!(self.is_leader() && term.value() == self.raw.raft.term), Refusal::SecondLeader)
    }

    /// A peer can hold no more than a leader has given it.
    fn admit_acknowledged(&self, indexes: &[LogIndex]) -> Result<(), Refusal> {
        let within = indexes.iter().all(|index| index.value() <= self.last());
        require(!self.is_leader() || within, Refusal::AckBeyondLog)
    }

    /// Nobody can answer a ballot that has not left this node, and it leaves when the log is durable.
    fn admit_verdict(&self, verdict: Verdict) -> Result<(), Refusal> {
        require(is_whole(verdict.commit), Refusal::MalformedBallot)?;
        require(self.is_leader() || self.is_log_durable, Refusal::PrematureVote)
    }
}

/// An index of 0 means "nowhere", and goes with the term 0.
fn is_whole(position: Position) -> bool {
    (position.index == LogIndex::new(0)) == (position.term == Term::new(0))
}

fn require(holds: bool, otherwise: Refusal) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(otherwise) }
}
