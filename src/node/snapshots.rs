//! Snapshots of this node: when one is built, how it becomes durable, and what then stands for what.
//!
//! ```text
//!  applied far enough ─► BuildSnapshot ─► SnapshotBuilt ─► SaveSnapshot ─► SnapshotSaved ─► record, compact
//!  received from the leader (transfer) ────────────────► SaveSnapshot ─► SnapshotSaved ─► restore, record
//! ```
//!
//! Building and saving go on beside everything else; one snapshot is under way at a time. The *record* in
//! the log's store is the commit point: until it is durable the snapshot before it is the one that
//! counts, and after it the entries that it stands for are gone.

use super::Node;
use super::gate;
use super::io::{Event, Halt, Output};
use crate::id::{NodeId, Term};
use crate::raft::{self, Position, Refusal, Snapshot};
use crate::session::Sessions;
use crate::state_machine::{Frozen, StateMachine};

/// The snapshot under way.
#[derive(Debug)]
pub(super) enum Work {
    /// The state at this place is being written down.
    Building(Position),
    /// A snapshot of our own is being saved.
    Saving(Snapshot),
    /// A snapshot that this leader sent in this term is being saved.
    Receiving(NodeId, Term, Snapshot),
    /// The record that names the last one is being written. Saving another one now could cost that one.
    Recording,
}

impl<S: StateMachine> Node<S> {
    /// Begins a snapshot once enough has been applied since the last one.
    pub(super) fn consider_snapshot(&mut self) {
        let limits = self.config.limits;
        let (Some(raft), Some(snapshot)) = (&self.raft, &self.snapshot) else { return };
        let applied = raft.indexes().applied;
        let entries = applied.value().saturating_sub(snapshot.at.index.value());
        let length = u64::try_from(snapshot.state.len()).unwrap_or(u64::MAX);
        let bytes = limits.snapshot_bytes.max(length.saturating_mul(2));
        let is_due = entries >= limits.snapshot_entries.max(1) || self.applied_bytes >= bytes;
        if self.work.is_some() || entries == 0 || !is_due {
            return;
        }
        let at = raft.applied_position();
        let sessions = self.sessions.clone();
        let state = self.state_machine.freeze();
        self.job = Some(Frozen::new(move || sessions.snapshot(&state.write())));
        self.applied_bytes = 0;
        self.work = Some(Work::Building(at));
        self.outputs.push_back(Output::BuildSnapshot);
    }

    /// Gives out the work that [`Output::BuildSnapshot`] asks for, once.
    pub fn take_job(&mut self) -> Option<Frozen> {
        self.job.take()
    }

    /// The state is written down.
    pub(super) fn snapshot_built(&mut self, state: bytes::Bytes) {
        let Some(Work::Building(at)) = self.work else { return };
        let voters = self.raft.as_ref().map(|raft| raft.voters().to_vec()).unwrap_or_default();
        self.save(Snapshot { at, voters, state }, Work::Saving);
    }

    /// A snapshot was received whole.
    pub(super) fn snapshot_received(&mut self, from: NodeId, term: Term, snapshot: Snapshot) {
        self.save(snapshot, |snapshot| Work::Receiving(from, term, snapshot));
    }

    fn save(&mut self, snapshot: Snapshot, purpose: impl FnOnce(Snapshot) -> Work) {
        self.outputs.push_back(Output::SaveSnapshot(snapshot.clone()));
        self.work = Some(purpose(snapshot));
    }

    /// What was to be saved is durable.
    pub(super) fn snapshot_saved(&mut self) {
        match self.work.take() {
            Some(Work::Saving(snapshot)) => self.keep_own(snapshot),
            Some(Work::Receiving(from, term, snapshot)) => self.install(from, term, snapshot),
            unfinished @ (Some(Work::Building(_) | Work::Recording) | None) => self.work = unfinished,
        }
    }

    /// Ours stands for the log before it, unless a later one has come meanwhile.
    fn keep_own(&mut self, snapshot: Snapshot) {
        let is_newer = self.snapshot.as_ref().is_none_or(|latest| latest.at.index < snapshot.at.index);
        if !is_newer {
            return;
        }
        self.stats.snapshots_built += 1;
        let (at, retained) = (snapshot.at, self.config.limits.retained_entries);
        self.work = Some(Work::Recording);
        self.gate.compact(snapshot.clone());
        self.handle_raft(raft::Input::Compact { at, retained });
        self.snapshot = Some(snapshot);
    }

    /// The record that names the last snapshot is durable.
    pub(super) fn snapshot_recorded(&mut self) {
        if matches!(self.work, Some(Work::Recording)) {
            self.work = None;
        }
    }

    /// The leader's replaces our state, unless we need it no longer or cannot read it.
    fn install(&mut self, from: NodeId, term: Term, snapshot: Snapshot) {
        let Some(raft) = &self.raft else { return };
        match raft.admit_snapshot(from, term, snapshot.at, &snapshot.voters) {
            Ok(()) => {}
            Err(Refusal::SnapshotBehind) => return self.transfer_done(from, term, &snapshot),
            Err(_) => return,
        }
        if let Err(error) = self.restore(&snapshot) {
            let reason = error.to_string();
            self.outputs.push_back(Output::Event(Event::SnapshotUnreadable { reason }));
            return;
        }
        self.work = Some(Work::Recording);
        self.stats.snapshots_installed += 1;
        self.applied_bytes = 0;
        self.snapshot = Some(snapshot.clone());
        self.transfer_done(from, term, &snapshot);
        self.handle_raft(raft::Input::Install { from, term, snapshot });
        self.serve_reads();
    }

    fn restore(&mut self, snapshot: &Snapshot) -> Result<(), crate::state_machine::RestoreError> {
        let (sessions, state) = Sessions::restore(&snapshot.state)?;
        self.state_machine.restore(state)?;
        self.sessions = sessions;
        self.applied = snapshot.at.index;
        Ok(())
    }

    /// Starts consensus on what was durable.
    pub(super) fn resume(&mut self, snapshot: Snapshot) -> Result<(), crate::state_machine::RestoreError> {
        self.restore(&snapshot)?;
        self.snapshot = Some(snapshot);
        Ok(())
    }

    /// The disk that snapshots are saved on has failed.
    pub(super) fn snapshot_failed(&mut self, reason: String) {
        self.halt(Halt::SnapshotFailed { reason });
    }

    /// The newborn cluster's state.
    pub(super) fn birth_of(&self, voters: &crate::formation::VoterSet) -> Snapshot {
        let state = self.sessions.snapshot(&self.state_machine.snapshot());
        Snapshot { at: raft::BIRTH, voters: voters.voters().to_vec(), state }
    }

    /// The newborn cluster's durable state.
    pub(super) fn birth_record(&self, voters: &crate::formation::VoterSet) -> raft::Persist {
        gate::birth(self.birth_of(voters))
    }
}
