//! Snapshots of this node: when one is built, how it becomes durable, and what then stands for what.
//!
//! ```text
//!  applied far enough ─► BuildSnapshot ─► SnapshotBuilt ─► SaveSnapshot ─► SnapshotSaved ─► record, compact
//!  received from the leader (transfer) ────────────────► SaveSnapshot ─► SnapshotSaved ─► restore, record
//!  received before there is a membership (join) ───────► SaveSnapshot ─► SnapshotSaved ─► restore, TakenIn
//! ```
//!
//! Building and saving go on beside everything else; one snapshot is under way at a time. The *record* in
//! the log's store is the commit point: until it is durable the snapshot before it is the one that
//! counts, and after it the entries that it stands for are gone.

use serde::{Deserialize, Serialize};

use super::Node;
use super::gate;
use super::io::{Event, Halt, Output};
use crate::formation;
use crate::id::{NodeId, Term};
use crate::ledger::Ledger;
use crate::machine::Machine;
use crate::raft::{self, HardState, Membership, Position, Recovered, Refusal, Snapshot};
use crate::state_machine::{Frozen, StateMachine};

/// The snapshot under way.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) enum Work {
    /// The state at this place is being written down.
    Building(Position, Membership),
    /// A snapshot of our own is being saved.
    Saving(Snapshot),
    /// A snapshot that this leader sent in this term is being saved.
    Receiving(NodeId, Term, Snapshot),
    /// The record that names the last one is being written. Saving another one now could cost that one.
    Recording,
}

impl<S: StateMachine> Node<S> {
    /// Begins a snapshot once enough has been applied since the last one, or somebody needs a later one.
    pub(super) fn consider_snapshot(&mut self) {
        let limits = self.config.limits;
        let (Some(raft), Some(snapshot)) = (&self.raft, &self.snapshot) else { return };
        let applied = raft.indexes().applied;
        let entries = applied.value().saturating_sub(snapshot.at.index.value());
        let length = u64::try_from(snapshot.state.len()).unwrap_or(u64::MAX);
        let bytes = limits.snapshot_bytes.max(length.saturating_mul(2));
        let is_long = entries >= limits.snapshot_entries.max(1) || self.applied_bytes >= bytes;
        let is_due = is_long || self.is_snapshot_wanted;
        if self.work.is_some() || entries == 0 || !is_due {
            return;
        }
        let (at, membership) = (raft.applied_position(), raft.membership().clone());
        let ledger = self.ledger.clone();
        let state = self.state_machine.freeze();
        self.job = Some(Frozen::new(move || ledger.snapshot(&state.write())));
        (self.applied_bytes, self.is_snapshot_wanted) = (0, false);
        self.work = Some(Work::Building(at, membership));
        self.outputs.push_back(Output::BuildSnapshot);
    }

    /// Gives out the work that [`Output::BuildSnapshot`] asks for, once.
    pub fn take_job(&mut self) -> Option<Frozen> {
        self.job.take()
    }

    /// The state is written down.
    pub(super) fn snapshot_built(&mut self, state: bytes::Bytes) {
        let membership = match &self.work {
            Some(Work::Building(_, membership)) => membership.clone(),
            Some(Work::Saving(_) | Work::Receiving(..) | Work::Recording) | None => return,
        };
        let Some(Work::Building(at, _)) = self.work else { return };
        self.save(Snapshot { at, membership, state }, Work::Saving);
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
            Some(Work::Receiving(_, term, snapshot)) if self.raft.is_none() => {
                self.begin_with(term, snapshot)
            }
            Some(Work::Receiving(from, term, snapshot)) => self.install(from, term, snapshot),
            unfinished @ (Some(Work::Building(..) | Work::Recording) | None) => self.work = unfinished,
        }
    }

    /// Ours stands for the log before it, unless a later one has come meanwhile.
    fn keep_own(&mut self, snapshot: Snapshot) {
        let is_newer = self.snapshot.as_ref().is_none_or(|latest| latest.at.index < snapshot.at.index);
        if !is_newer {
            return;
        }
        self.stats.snapshots_built += 1;
        let (at, membership) = (snapshot.at, snapshot.membership.clone());
        let retained = self.config.limits.retained_entries;
        self.work = Some(Work::Recording);
        self.gate.compact(snapshot.clone());
        self.handle_raft(raft::Input::Compact { at, membership, retained });
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
        match raft.admit_snapshot(from, term, snapshot.at, &snapshot.membership) {
            Ok(()) => {}
            Err(Refusal::SnapshotBehind) => return self.transfer_done(from, term, &snapshot),
            Err(_) => return,
        }
        if let Err(error) = self.restore(&snapshot) {
            let reason = error.to_string();
            self.outputs.push_back(Output::Event(Event::SnapshotUnreadable { reason }));
            return;
        }
        if self.halts_if_outdated() {
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

    /// A node that is taken in begins with the snapshot of its host. Consensus begins when that is on record.
    fn begin_with(&mut self, term: Term, snapshot: Snapshot) {
        if let Err(error) = self.restore(&snapshot) {
            let reason = error.to_string();
            self.outputs.push_back(Output::Event(Event::SnapshotUnreadable { reason }));
            return;
        }
        if self.halts_if_outdated() {
            return;
        }
        let hard_state = HardState { term, vote: None, commit: snapshot.at.index };
        self.work = Some(Work::Recording);
        self.stats.snapshots_installed += 1;
        self.snapshot = Some(snapshot.clone());
        self.first = Some(Recovered { snapshot, hard_state, entries: Vec::new() });
        self.formation.handle(self.now, formation::Input::TakenIn);
    }

    fn restore(&mut self, snapshot: &Snapshot) -> Result<(), crate::state_machine::RestoreError> {
        let (ledger, state) = Ledger::restore(&snapshot.state)?;
        self.overheard.asks();
        let restored = self.state_machine.restore(state);
        self.overheard.restored(&restored);
        restored?;
        self.ledger = ledger;
        self.applied = snapshot.at.index;
        self.begin_partitions();
        self.begin_following();
        if self.config.partitioning.is_some() {
            let (at, deltas) = (self.applied, Vec::new());
            self.outputs.push_back(Output::Event(Event::Metadata { at, deltas }));
        }
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
    pub(super) fn birth_of(&self, voters: &formation::VoterSet) -> Snapshot {
        self.overheard.asks();
        let state = self.state_machine.snapshot();
        self.overheard.state(&state);
        let state = self.ledger.snapshot(&state);
        let membership = Membership::of_voters(voters.voters().iter().copied());
        Snapshot { at: raft::BIRTH, membership, state }
    }

    /// The newborn cluster's durable state.
    pub(super) fn birth_record(&self, voters: &formation::VoterSet) -> raft::Persist {
        gate::birth(self.birth_of(voters))
    }
}
