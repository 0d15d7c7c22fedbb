//! A state in place of a log: when it may be taken from a leader, and what is cut off behind it.
//!
//! # The problem
//!
//! A log that only grows fills the disk, and a node that was away for long would have to be sent all of
//! it. So from time to time the state of the state machine stands for everything before it (Raft §7).
//!
//! # The idea
//!
//! A snapshot comes here only when it has been received whole, saved durably, and the state machine has
//! been restored from it. raft-rs then takes it in one step: log and configuration are replaced, the
//! commit index and the applied index move to it. There is never a moment in which raft-rs knows of a
//! snapshot that is not yet applied, so an election in that moment (it would look for configuration
//! changes in entries that are gone) cannot happen. Only the *record* that names the snapshot is still to
//! be written; every acknowledgement waits for that behind the gate, as for any other `Ready`.
//!
//! The guard of this file is stricter than raft-rs, which replaces its log first and looks at the
//! configuration after.

use raft::eraftpb::{self, MessageType};
use raft::{StateRole, Storage as _};

use super::guard::{INDEX_MAX, Refusal};
use super::membership::Membership;
use super::message::{Position, Snapshot};
use super::{BIRTH, Output, Raft};
use crate::id::{LogIndex, NodeId, Term};

impl Raft {
    /// Tells whether a snapshot at `at`, of this membership, that `from` has sent in `term`, would be taken
    /// now. Asked before a byte of it is kept, and again before the state machine is restored.
    ///
    /// # Errors
    ///
    /// The reason why not; [`Refusal::SnapshotBehind`] only says that this node needs it no longer.
    pub fn admit_snapshot(
        &self,
        from: NodeId,
        term: Term,
        at: Position,
        membership: &Membership,
    ) -> Result<(), Refusal> {
        let raft = &self.raw.raft;
        let is_leader = raft.leader_id == from.value() && term.value() == raft.term;
        if !is_leader || raft.state != StateRole::Follower {
            return Err(Refusal::NotFromLeader);
        }
        admit_shape(self.id(), term, at, membership)?;
        let log = &raft.raft_log;
        if at.index.value() <= log.committed || log.match_term(at.index.value(), at.term.value()) {
            return Err(Refusal::SnapshotBehind);
        }
        Ok(())
    }

    /// Takes a snapshot whose state has been saved and restored.
    ///
    /// # Panics
    ///
    /// If [`Raft::admit_snapshot`] does not admit it.
    pub(super) fn handle_install(&mut self, from: NodeId, term: Term, snapshot: Snapshot) {
        let admitted = self.admit_snapshot(from, term, snapshot.at, &snapshot.membership);
        assert_eq!(admitted, Ok(()), "the caller asks first");
        let mut message = eraftpb::Message::default();
        message.set_msg_type(MessageType::MsgSnapshot);
        (message.from, message.to) = (from.value(), self.raw.raft.id);
        message.term = term.value();
        message.set_snapshot(into_raft(&snapshot));
        self.installing = Some(snapshot);
        self.raw.step(message).expect("raft-rs knows its leader");
    }

    /// The sending of a snapshot to `to` has ended, well or not; raft-rs goes on with entries, or again.
    pub(super) fn handle_snapshot_sent(&mut self, to: NodeId, arrived: bool) {
        let status = if arrived { raft::SnapshotStatus::Finish } else { raft::SnapshotStatus::Failure };
        self.raw.report_snapshot(to.value(), status);
    }

    /// A snapshot of our own is saved: it stands for all entries up to `at`. The last `retained` of these
    /// stay in memory, for followers that are only a little behind.
    pub(super) fn handle_compact(&mut self, at: Position, membership: &Membership, retained: u64) {
        self.raw.mut_store().note_snapshot(at, membership);
        let applied = self.raw.raft.raft_log.applied;
        let end = LogIndex::new(at.index.value().min(applied).saturating_sub(retained));
        self.raw.mut_store().compact(end);
    }

    /// The place of the last applied entry.
    #[must_use]
    pub fn applied_position(&self) -> Position {
        let index = self.raw.raft.raft_log.applied;
        let term = self.raw.store().term(index).expect("what is applied is in the log, or just before it");
        Position { index: LogIndex::new(index), term: Term::new(term) }
    }

    /// What raft-rs wants sent to `to`, who lacks entries that are compacted.
    pub(super) fn offer_snapshot(&mut self, to: NodeId, is_settled: bool) {
        if is_settled {
            self.outputs.push_back(Output::SendSnapshot { to });
        } else {
            // Its own term is not durable yet. Later, then.
            self.raw.report_snapshot(to.value(), raft::SnapshotStatus::Failure);
        }
    }
}

/// Tells whether a snapshot makes sense for a node that has no part in consensus yet: it learns before it decides.
///
/// # Errors
///
/// The reason why not.
pub fn admit_first_snapshot(
    own: NodeId,
    term: Term,
    at: Position,
    membership: &Membership,
) -> Result<(), Refusal> {
    let learns = membership.learners().contains(&own) && term.value() <= INDEX_MAX;
    if learns { admit_shape(own, term, at, membership) } else { Err(Refusal::MalformedSnapshot) }
}

fn admit_shape(own: NodeId, term: Term, at: Position, membership: &Membership) -> Result<(), Refusal> {
    let is_whole = BIRTH.index < at.index && Term::new(1) <= at.term && at.term <= term;
    // raft-rs throws away a snapshot in which the node itself has no part.
    let has_part = membership.contains(own) && membership.is_sound();
    if is_whole && at.index.value() <= INDEX_MAX && has_part {
        Ok(())
    } else {
        Err(Refusal::MalformedSnapshot)
    }
}

fn into_raft(snapshot: &Snapshot) -> eraftpb::Snapshot {
    let mut converted = eraftpb::Snapshot::default();
    let metadata = converted.mut_metadata();
    metadata.index = snapshot.at.index.value();
    metadata.term = snapshot.at.term.value();
    metadata.set_conf_state(snapshot.membership.to_raft());
    converted
}
