//! Raft Fig. 2, "updated on stable storage before responding": what a message promises is durable.
//!
//! A copy of each node's disk is kept here: a batch enters it when the device has reported it done. A
//! message that leaves must be covered by that copy. After a restart, the disk must hold that copy, or
//! that copy with the batch that was in flight, whole: batches are atomic.

use std::collections::BTreeMap;

use rivven_cluster::id::{LogIndex, NodeId, Term, WriteId};
use rivven_cluster::node::{Durable, WriteBatch};
use rivven_cluster::raft::{BIRTH, Body, Message, Position};

use super::{Rule, Verdict, broken};

/// Keeps a copy of each disk.
#[derive(Clone, Default)]
pub struct DurablePromise {
    disks: BTreeMap<u64, Disk>,
    /// What disks held whenever they were emptied.
    former: BTreeMap<u64, Vec<Durable>>,
}

#[derive(Clone, Default)]
struct Disk {
    durable: Durable,
    in_flight: Option<WriteBatch>,
    /// The snapshot that is being saved, and the one that was saved last.
    saving: Option<Position>,
    saved: Option<Position>,
}

impl DurablePromise {
    /// `node` hands a batch to its disk.
    pub fn write(&mut self, node: u64, batch: &WriteBatch) -> Verdict {
        let disk = self.disks.entry(node).or_default();
        disk.in_flight = Some(batch.clone());
        for snapshot in batch.snapshot.iter().chain(&batch.compact) {
            if snapshot.at != BIRTH && disk.saved != Some(snapshot.at) {
                let what = format!("node {node} names the snapshot at {:?}, which is not saved", snapshot.at);
                return broken(Rule::DurablePromise, what);
            }
        }
        takes_nothing_back(node, &disk.durable, batch)
    }

    /// `node` hands a snapshot to its disk.
    pub fn save(&mut self, node: u64, at: Position) {
        self.disks.entry(node).or_default().saving = Some(at);
    }

    /// `node` is told that the snapshot is durable.
    pub fn saved(&mut self, node: u64) {
        let disk = self.disks.entry(node).or_default();
        disk.saved = disk.saving.take().or(disk.saved);
    }

    /// `node` is told that its batch is durable. Returns the batch.
    pub fn written(&mut self, node: u64, id: WriteId) -> Option<WriteBatch> {
        let disk = self.disks.entry(node).or_default();
        let batch = disk.in_flight.take_if(|batch| batch.id == id)?;
        apply(&mut disk.durable, &batch);
        Some(batch)
    }

    /// `node` started on `found`.
    pub fn started(&mut self, node: u64, found: &Durable) -> Verdict {
        let disk = self.disks.entry(node).or_default();
        let mut with_in_flight = disk.durable.clone();
        if let Some(batch) = disk.in_flight.take() {
            apply(&mut with_in_flight, &batch);
        }
        (disk.saving, disk.saved) = (None, None);
        let fits = *found == disk.durable || *found == with_in_flight;
        let expected = core::mem::replace(&mut disk.durable, found.clone());
        if fits {
            return Ok(());
        }
        let what = format!(
            "node {node} started on a disk that is neither what was durable nor that with the last batch: \
             it has {} entries, boot {} and {:?}, durable were {} entries, boot {} and {:?}",
            found.entries.len(),
            found.boot,
            found.hard_state,
            expected.entries.len(),
            expected.boot,
            expected.hard_state,
        );
        broken(Rule::DurablePromise, what)
    }

    /// Whether the disk of `node` held a member of a cluster.
    pub fn is_member(&self, node: u64) -> bool {
        self.disks.get(&node).is_some_and(|disk| disk.durable.standing.cluster().is_some())
    }

    /// The disk of `node` was emptied.
    pub fn emptied(&mut self, node: u64) {
        let Disk { mut durable, in_flight, .. } =
            self.disks.insert(node, Disk::default()).unwrap_or_default();
        if let Some(batch) = in_flight {
            apply(&mut durable, &batch);
        }
        self.former.entry(node).or_default().push(durable);
    }

    /// Whether `node` holds, or held before its disk was emptied, an entry of this index and term.
    pub fn has_held(&self, node: u64, index: LogIndex, term: Term) -> bool {
        // What a snapshot stands for is held, too: a snapshot is of what is committed.
        let held = |durable: &Durable| {
            let start = durable.snapshot.as_ref().map(|snapshot| snapshot.at.index);
            start.is_some_and(|start| index < start) || term_at(durable, index) == Some(term)
        };
        self.disks.get(&node).is_some_and(|disk| held(&disk.durable))
            || self.former.get(&node).is_some_and(|former| former.iter().any(held))
    }

    /// `node` sends `message` to `to`.
    pub fn send(&self, node: u64, to: u64, message: &Message) -> Verdict {
        let empty = Disk::default();
        let durable = &self.disks.get(&node).unwrap_or(&empty).durable;
        let holds = match &message.body {
            // A pre-vote promises nothing (Raft thesis §9.6).
            Body::PreVote(_) | Body::PreVoteResponse(_) => true,
            Body::Vote(_) => has_voted(durable, message.term, node),
            Body::VoteResponse(verdict) if verdict.granted => has_voted(durable, message.term, to),
            Body::AppendAccepted { index, .. } => {
                // An acknowledgement of an earlier term may leave together with what has replaced the
                // entries since. It is then the same as one that was long on its way.
                let is_late = durable.hard_state.term > message.term;
                is_late || (has_term(durable, message.term) && has_entry(durable, *index))
            }
            Body::VoteResponse(_)
            | Body::Append { .. }
            | Body::AppendRejected { .. }
            | Body::Heartbeat { .. }
            | Body::HeartbeatResponse { .. }
            | Body::TimeoutNow => has_term(durable, message.term),
        };
        if holds {
            return Ok(());
        }
        let last = durable.entries.last().map(|entry| entry.at);
        let what = format!(
            "node {node} sends {message:?}, but durable are {:?} and a log that ends at {last:?}",
            durable.hard_state
        );
        broken(Rule::DurablePromise, what)
    }
}

/// A later batch never takes back a term, a vote (Raft §5.2: one a term, across restarts) or a boot number.
fn takes_nothing_back(node: u64, durable: &Durable, batch: &WriteBatch) -> Verdict {
    let before = durable.hard_state;
    if let Some(after) = batch.hard_state {
        let changes_vote = after.term == before.term && before.vote.is_some() && after.vote != before.vote;
        if after.term < before.term || changes_vote {
            let what = format!("node {node} wrote {before:?}, and now writes {after:?}");
            return broken(Rule::DurablePromise, what);
        }
    }
    match batch.boot {
        Some(boot) if boot <= durable.boot => {
            let what = format!("node {node} uses boot number {boot} again, after {}", durable.boot);
            broken(Rule::DurablePromise, what)
        }
        Some(_) | None => Ok(()),
    }
}

fn term_at(durable: &Durable, index: LogIndex) -> Option<Term> {
    let start = durable.snapshot.as_ref()?.at;
    if index == start.index {
        return Some(start.term);
    }
    let place = index.value().checked_sub(start.index.value() + 1)?;
    durable.entries.get(usize::try_from(place).ok()?).map(|entry| entry.at.term)
}

fn has_term(durable: &Durable, term: Term) -> bool {
    durable.hard_state.term >= term
}

fn has_voted(durable: &Durable, term: Term, candidate: u64) -> bool {
    let recorded = durable.hard_state;
    let voted = recorded.term == term && recorded.vote.map(NodeId::value) == Some(candidate);
    voted || recorded.term > term
}

fn has_entry(durable: &Durable, index: LogIndex) -> bool {
    let start = durable.snapshot.as_ref().map(|snapshot| snapshot.at.index).unwrap_or_default();
    let end = durable.entries.last().map_or(start, |entry| entry.at.index);
    index <= end
}

/// Does to a disk what a batch does, by the contract of the store.
pub fn apply(durable: &mut Durable, batch: &WriteBatch) {
    durable.boot = batch.boot.unwrap_or(durable.boot);
    if let Some(standing) = &batch.standing {
        durable.standing = standing.clone();
    }
    if let Some(snapshot) = &batch.snapshot {
        durable.snapshot = Some(snapshot.clone());
        durable.entries.clear();
    }
    if let Some(snapshot) = &batch.compact {
        durable.snapshot = Some(snapshot.clone());
        durable.entries.retain(|entry| entry.at.index > snapshot.at.index);
    }
    if let Some(first) = batch.entries.first() {
        let kept = durable.entries.partition_point(|entry| entry.at.index < first.at.index);
        durable.entries.truncate(kept);
        durable.entries.extend(batch.entries.iter().cloned());
    }
    durable.hard_state = batch.hard_state.unwrap_or(durable.hard_state);
    batch.logs.iter().for_each(|change| durable.logs.note(change));
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use rivven_cluster::id::BootId;
    use rivven_cluster::raft::{Entry, HardState, Position, Verdict as Vote};

    fn node(id: u64) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn vote_batch() -> WriteBatch {
        let hard_state = HardState { term: Term::new(2), vote: Some(node(2)), commit: LogIndex::default() };
        let at = Position { index: LogIndex::new(1), term: Term::new(2) };
        let entries = vec![Entry::of_command(at, Bytes::new())];
        WriteBatch { id: WriteId::new(1), hard_state: Some(hard_state), entries, ..WriteBatch::default() }
    }

    fn message(body: Body) -> Message {
        Message { to: node(2), term: Term::new(2), body }
    }

    #[test]
    fn a_vote_before_it_is_durable_is_a_violation() {
        let vote = message(Body::VoteResponse(Vote { granted: true, commit: Position::default() }));
        let mut checker = DurablePromise::default();
        checker.write(1, &vote_batch()).unwrap();
        assert!(checker.send(1, 2, &vote).is_err());
        checker.written(1, WriteId::new(1));
        assert_eq!(checker.send(1, 2, &vote), Ok(()));
        assert!(checker.send(1, 3, &vote).is_err(), "the vote was another's");
    }

    #[test]
    fn an_acknowledgement_before_it_is_durable_is_a_violation() {
        let accepted = message(Body::AppendAccepted { index: LogIndex::new(1), commit: LogIndex::default() });
        let mut checker = DurablePromise::default();
        checker.write(1, &vote_batch()).unwrap();
        assert!(checker.send(1, 2, &accepted).is_err());
        checker.written(1, WriteId::new(1));
        assert_eq!(checker.send(1, 2, &accepted), Ok(()));
    }

    #[test]
    fn half_a_batch_after_a_restart_is_a_violation() {
        let mut checker = DurablePromise::default();
        checker.write(1, &vote_batch()).unwrap();
        let half = Durable { entries: vote_batch().entries, ..Durable::default() };
        assert!(checker.started(1, &half).is_err());
        let mut checker = DurablePromise::default();
        checker.write(1, &vote_batch()).unwrap();
        assert_eq!(checker.started(1, &Durable::default()), Ok(()));
    }

    #[test]
    fn taking_back_a_vote_a_term_or_a_boot_number_is_a_violation() {
        let mut checker = DurablePromise::default();
        let with = |term: u64, vote: u64| {
            let (term, vote) = (Term::new(term), NodeId::new(vote));
            let hard_state = HardState { term, vote, commit: LogIndex::default() };
            WriteBatch { id: WriteId::new(1), hard_state: Some(hard_state), ..WriteBatch::default() }
        };
        let boot =
            WriteBatch { id: WriteId::new(1), boot: Some(BootId::default().next()), ..WriteBatch::default() };
        for batch in [with(2, 2), boot.clone()] {
            checker.write(1, &batch).unwrap();
            checker.written(1, WriteId::new(1));
        }
        assert!(checker.write(1, &with(2, 3)).is_err());
        assert!(checker.write(1, &with(1, 2)).is_err());
        assert!(checker.write(1, &boot).is_err());
        assert_eq!(checker.write(1, &with(3, 3)), Ok(()));
    }
}
