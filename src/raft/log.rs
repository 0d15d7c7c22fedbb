//! The log in memory, as raft-rs wants to read it.
//!
//! raft-rs's `Storage` cannot fail and is read synchronously, so the entries since the last snapshot, and
//! some before it, live in memory. The disk is elsewhere: what is appended here is also put into a write batch, and
//! nothing that depends on it leaves the node before that batch is durable. So this log may be ahead
//! of the disk, never behind it.

use raft::eraftpb;
use raft::{GetEntriesContext, RaftState, Storage, StorageError};
use serde::{Deserialize, Serialize};

use super::RecoveryError;
use super::entries::Entries;
use super::membership::Membership;
use super::message::{Entry, HardState, Position, Snapshot};
use crate::id::{LogIndex, NodeId, Term};

/// The latest snapshot's place, the entries after it, and some of those before.
///
/// Invariant: the first entry's index is `start.index + 1`, indexes have no gaps, and `start` is not
/// beyond the snapshot.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Log {
    start: Position,
    snapshot_at: Position,
    /// As of the last applied entry.
    membership: Membership,
    /// As of the snapshot: whoever is sent that one begins with it.
    snapshot_membership: Membership,
    hard_state: HardState,
    entries: Entries,
}

impl Eq for Log {}

impl Log {
    /// Takes what was durable, and refuses what no correct node can have written.
    pub(super) fn recover(
        snapshot: Snapshot,
        hard_state: HardState,
        entries: Vec<Entry>,
    ) -> Result<Log, RecoveryError> {
        let mut last = snapshot.at;
        for entry in &entries {
            if entry.at.index.value() != last.index.value() + 1 || entry.at.term < last.term {
                return Err(RecoveryError::Gap { after: last, found: entry.at });
            }
            last = entry.at;
        }
        if last.index < hard_state.commit {
            return Err(RecoveryError::EndsBelowCommit { last: last.index, commit: hard_state.commit });
        }
        if hard_state.term < last.term {
            return Err(RecoveryError::TermBelowLog { term: hard_state.term, last: last.term });
        }
        let Snapshot { at, membership, .. } = snapshot;
        let snapshot_membership = membership.clone();
        let commit = hard_state.commit.max(at.index);
        let hard_state = HardState { commit, ..hard_state };
        let entries = entries.into_iter().map(Entry::into_raft).collect();
        Ok(Log { start: at, snapshot_at: at, membership, snapshot_membership, hard_state, entries })
    }

    /// The entry before the first one that is in memory.
    pub(super) fn start(&self) -> Position {
        self.start
    }

    /// The last entry that the latest snapshot contains.
    pub(super) fn snapshot_at(&self) -> Position {
        self.snapshot_at
    }

    /// A later snapshot is durable.
    pub(super) fn note_snapshot(&mut self, at: Position, membership: &Membership) {
        assert!(at.index >= self.snapshot_at.index, "snapshots go forward");
        self.snapshot_at = at;
        self.snapshot_membership.clone_from(membership);
    }

    /// Forgets the entries up to `end`.
    pub(super) fn compact(&mut self, end: LogIndex) {
        assert!(end <= self.snapshot_at.index, "a snapshot stands for what is forgotten");
        while let Some(first) = self.entries.get(0).filter(|first| first.index <= end.value()) {
            self.start = Position { index: LogIndex::new(first.index), term: Term::new(first.term) };
            self.entries.pop_front();
        }
    }

    /// Replaces everything by a snapshot.
    pub(super) fn replace(&mut self, snapshot: &Snapshot) {
        (self.start, self.snapshot_at) = (snapshot.at, snapshot.at);
        self.membership.clone_from(&snapshot.membership);
        self.snapshot_membership.clone_from(&snapshot.membership);
        self.entries = Entries::default();
    }

    pub(super) fn membership(&self) -> &Membership {
        &self.membership
    }

    /// A change of the membership was applied.
    pub(super) fn note_membership(&mut self, membership: Membership) {
        self.membership = membership;
    }

    /// Puts entries at the end, in place of whatever stood there from the first one's index on. Of a change that was
    /// proposed here, raft-rs's own form is dropped: it would count among the bytes of an append, and after a restart
    /// it would not.
    pub(super) fn append(&mut self, entries: &[eraftpb::Entry]) {
        let Some(first) = entries.first() else { return };
        let keep = first.index.checked_sub(self.first()).expect("raft-rs never rewrites a snapshot");
        let keep = usize::try_from(keep).expect("a log in memory has a length that fits it");
        assert!(keep <= self.entries.len(), "raft-rs appends without gaps");
        self.entries.truncate(keep);
        for entry in entries {
            self.entries.push(Entry::from_raft(entry.clone()).into_raft());
        }
    }

    /// Copies the entries in `from..=to` that are in memory, `limit` at the most.
    pub(super) fn read(&self, from: LogIndex, to: LogIndex, limit: usize) -> Vec<Entry> {
        let skip = from.value().saturating_sub(self.first());
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let wanted = self.entries.from(skip).take_while(|entry| entry.index <= to.value());
        wanted.take(limit).cloned().map(Entry::from_raft).collect()
    }

    fn first(&self) -> u64 {
        self.start.index.value() + 1
    }

    /// The first entry of that term, or the first one in memory if those before may be of it, too.
    pub(super) fn first_of(&self, term: Term) -> Option<u64> {
        if self.start.term == term {
            return Some(self.first());
        }
        self.entries.from(0).find(|entry| entry.term == term.value()).map(|entry| entry.index)
    }

    /// A copy that ends there, and begins with that term, vote and commit index.
    pub(super) fn until(&self, last: u64, term: Term, vote: Option<NodeId>, commit: LogIndex) -> Log {
        let mut log = self.clone();
        log.entries.truncate(self.offset(last + 1).unwrap_or_default());
        log.hard_state = HardState { term, vote, commit };
        log
    }

    /// The last entry's index.
    pub(super) fn last(&self) -> u64 {
        self.entries.back().map_or(self.start.index.value(), |entry| entry.index)
    }

    fn offset(&self, index: u64) -> Option<usize> {
        usize::try_from(index.checked_sub(self.first())?).ok()
    }
}

impl Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let hard_state = eraftpb::HardState {
            term: self.hard_state.term.value(),
            vote: self.hard_state.vote.map_or(raft::INVALID_ID, NodeId::value),
            commit: self.hard_state.commit.value(),
            ..eraftpb::HardState::default()
        };
        Ok(RaftState::new(hard_state, self.membership.to_raft()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<eraftpb::Entry>> {
        let start = self.offset(low).ok_or(StorageError::Compacted)?;
        let end =
            self.offset(high).filter(|end| *end <= self.entries.len()).ok_or(StorageError::Unavailable)?;
        let wanted = end.saturating_sub(start);
        let mut entries: Vec<eraftpb::Entry> = self.entries.from(start).take(wanted).cloned().collect();
        raft::util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.start.index.value() {
            return Ok(self.start.term.value());
        }
        let offset = self.offset(index).ok_or(StorageError::Compacted)?;
        let entry = self.entries.get(offset).ok_or(StorageError::Unavailable)?;
        Ok(entry.term)
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    /// Names the latest snapshot; its state goes another way.
    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<eraftpb::Snapshot> {
        if self.snapshot_at.index.value() < request_index {
            return Err(StorageError::SnapshotTemporarilyUnavailable.into());
        }
        let mut snapshot = eraftpb::Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = self.snapshot_at.index.value();
        metadata.term = self.snapshot_at.term.value();
        metadata.set_conf_state(self.snapshot_membership.to_raft());
        Ok(snapshot)
    }
}

/// The place before the first entry of every cluster: its birth, which no message carries.
///
/// A cluster starts at index 1 and term 1, not 0, because raft-rs reads both zeroes as "nothing"
/// and could not tell a member of a new cluster from a node that is yet to join.
pub const BIRTH: Position = Position { index: LogIndex::new(1), term: Term::new(1) };

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, term: u64) -> Entry {
        let at = Position { index: LogIndex::new(index), term: Term::new(term) };
        Entry::of_command(at, "x")
    }

    fn birth() -> Snapshot {
        let membership = Membership::of_voters(NodeId::new(1));
        Snapshot { at: BIRTH, membership, state: bytes::Bytes::new() }
    }

    fn hard_state(term: u64, commit: u64) -> HardState {
        HardState { term: Term::new(term), vote: None, commit: LogIndex::new(commit) }
    }

    #[test]
    fn append_replaces_a_conflicting_tail() {
        let old = vec![entry(2, 1), entry(3, 1), entry(4, 1)];
        let mut log = Log::recover(birth(), hard_state(1, 2), old).unwrap();
        log.append(&[entry(3, 2).into_raft()]);
        assert_eq!(log.last_index().unwrap(), 3);
        assert_eq!(log.term(3).unwrap(), 2);
        assert_eq!(log.read(LogIndex::new(2), LogIndex::new(9), 9), vec![entry(2, 1), entry(3, 2)]);
    }

    #[test]
    fn compaction_keeps_what_is_wanted_and_knows_the_term_before_it() {
        let entries = vec![entry(2, 1), entry(3, 2), entry(4, 2)];
        let mut log = Log::recover(birth(), hard_state(2, 4), entries).unwrap();
        log.note_snapshot(entry(4, 2).at, &birth().membership);
        log.compact(LogIndex::new(3));
        assert_eq!((log.first_index().unwrap(), log.last_index().unwrap()), (4, 4));
        assert_eq!(log.term(3).unwrap(), 2);
        assert_eq!(log.term(2), Err(StorageError::Compacted.into()));
        assert_eq!(log.snapshot(0, 2).unwrap().get_metadata().index, 4);
        assert!(log.snapshot(5, 2).is_err());
    }

    #[test]
    fn recovery_refuses_a_gap_in_the_log() {
        let error = Log::recover(birth(), hard_state(1, 1), vec![entry(3, 1)]).unwrap_err();
        assert_eq!(error, RecoveryError::Gap { after: BIRTH, found: entry(3, 1).at });
    }

    #[test]
    fn recovery_refuses_a_log_that_ends_below_its_commit() {
        let error = Log::recover(birth(), hard_state(1, 3), vec![entry(2, 1)]).unwrap_err();
        let expected = RecoveryError::EndsBelowCommit { last: LogIndex::new(2), commit: LogIndex::new(3) };
        assert_eq!(error, expected);
    }

    #[test]
    fn recovery_refuses_a_term_below_that_of_the_log() {
        let error = Log::recover(birth(), hard_state(1, 1), vec![entry(2, 5)]).unwrap_err();
        assert_eq!(error, RecoveryError::TermBelowLog { term: Term::new(1), last: Term::new(5) });
    }
}
