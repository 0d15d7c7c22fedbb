//! Raft §5.3 and §5.4.3: what is committed is durable on a majority, and never changes.
//!
//! When the first node's commit index reaches an entry, a majority must hold it on disk, as the copies
//! of the disks show. A disk that was emptied counts with what it held before. Whoever reaches it later must have the same log up to there.
//!
//! A majority of whom the committed changes of the membership tell (Raft §6): an entry is committed by the members
//! as of the last change before it or, while its leader has not applied that one, as of the one before. A change itself
//! is committed by the members before it.

use std::collections::BTreeMap;

use rivven_cluster::id::{LogIndex, NodeId, Term};
use rivven_cluster::raft::{BIRTH, Membership, Position};

use super::log_matching::Prefix;
use super::{DurablePromise, LogMatching, Rule, Verdict, broken};

/// Remembers what was committed.
#[derive(Clone, Default)]
pub struct Committed {
    /// The members from each index on, and those before the first change.
    members: BTreeMap<LogIndex, Membership>,
    /// The committed log, by index, and the latest term in which each entry can have been committed.
    log: BTreeMap<LogIndex, (Prefix, Term)>,
    /// Up to where each node's commit index was judged.
    judged: BTreeMap<u64, LogIndex>,
}

impl Committed {
    /// Nothing is committed in a cluster of so many founders.
    pub fn new(founders: u64) -> Committed {
        let founders = (1..=founders).filter_map(NodeId::new);
        let members = BTreeMap::from([(BIRTH.index, Membership::of_voters(founders))]);
        Committed { members, ..Committed::default() }
    }

    /// The disk of `node` was emptied, and what it held is judged by what disks held before.
    pub fn emptied(&mut self, node: u64) {
        self.judged.remove(&node);
    }

    /// The members as of the last change that is committed.
    pub fn members(&self) -> &Membership {
        self.members.last_key_value().map(|(_, members)| members).expect("there are founders")
    }

    /// On its own disk, `node` has reached the commit index `commit`; it is in `term`.
    pub fn advance(
        &mut self,
        node: u64,
        commit: LogIndex,
        term: Term,
        logs: &LogMatching,
        promises: &DurablePromise,
    ) -> Verdict {
        let judged = self.judged.get(&node).copied().unwrap_or_default();
        // After a restart the commit index starts lower; what was judged before still stands.
        let mut index = judged.next().max(logs.start(node));
        while index <= commit {
            let Some(prefix) = logs.prefix(node, index) else { break };
            self.judged.insert(node, index);
            match self.log.get(&index) {
                Some((first, _)) if *first == prefix => {}
                Some((first, _)) => {
                    let what = format!(
                        "index {index} was committed in term {}, node {node} commits another log of term {}",
                        first.term, prefix.term
                    );
                    return broken(Rule::Committed, what);
                }
                None => {
                    self.log.insert(index, (prefix, term));
                    // The birth is committed by all founders' pledge, before any of them holds it.
                    let at = Position { index, term: prefix.term };
                    if index > BIRTH.index && !self.is_held(at, logs, promises) {
                        let what = format!(
                            "node {node} commits index {index} of term {}, which is not durable on a majority of {:?}",
                            prefix.term,
                            self.members(),
                        );
                        return broken(Rule::Committed, what);
                    }
                    self.note_change(at, logs);
                }
            }
            index = index.next();
        }
        Ok(())
    }

    fn is_held(&self, at: Position, logs: &LogMatching, promises: &DurablePromise) -> bool {
        let deciders = if logs.change(at).is_some() { 1 } else { 2 };
        self.members.range(..at.index).rev().take(deciders).any(|(_, members)| {
            let holds = |node: &NodeId| promises.has_held(node.value(), at.index, at.term);
            members.is_quorum(&members.members().filter(holds).collect())
        })
    }

    /// The members change with the entry, if it is a change that makes sense.
    fn note_change(&mut self, at: Position, logs: &LogMatching) {
        let Some(change) = logs.change(at) else { return };
        if let Ok(members) = self.members().after(change, at.term) {
            self.members.insert(at.index, members);
        }
    }

    /// `node` has a new log from `first` on: what it has committed must still be there.
    pub fn rewritten(&self, node: u64, first: LogIndex, logs: &LogMatching) -> Verdict {
        let Some(judged) = self.judged.get(&node).filter(|judged| first <= **judged) else { return Ok(()) };
        for (index, (expected, _)) in self.log.range(first..=*judged) {
            if logs.prefix(node, *index) != Some(*expected) {
                let what = format!("node {node} has committed index {index}, and replaces it");
                return broken(Rule::Committed, what);
            }
        }
        Ok(())
    }

    /// The committed log up to an index.
    pub fn prefix(&self, index: LogIndex) -> Option<Prefix> {
        self.log.get(&index).map(|(prefix, _)| *prefix)
    }

    /// The last index that was certainly committed in a term before `term`.
    pub fn last_before(&self, term: Term) -> Option<LogIndex> {
        let mut newest = self.log.iter().rev();
        newest.find(|(_, (_, committed_in))| *committed_in < term).map(|(index, _)| *index)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::log_matching::tests::{batch, birth, born, entry};
    use super::*;
    use rivven_cluster::id::WriteId;
    use rivven_cluster::node::WriteBatch;

    pub fn written(promises: &mut DurablePromise, node: u64, batch: &WriteBatch) {
        promises.write(node, batch).unwrap();
        promises.written(node, WriteId::default());
    }

    #[test]
    fn a_commit_without_a_majority_on_disk_is_a_violation() {
        let (mut logs, mut promises) = (born(&[1, 2, 3]), DurablePromise::default());
        let one = batch(vec![entry(2, 2, "a")]);
        for node in 1..=3 {
            written(&mut promises, node, &birth());
        }
        logs.written(1, &one).unwrap();
        written(&mut promises, 1, &one);
        let mut checker = Committed::new(3);
        assert_eq!(checker.advance(1, LogIndex::new(1), Term::new(2), &logs, &promises), Ok(()));
        assert!(checker.advance(1, LogIndex::new(2), Term::new(2), &logs, &promises).is_err());
        written(&mut promises, 2, &one);
        assert_eq!(Committed::new(3).advance(1, LogIndex::new(2), Term::new(2), &logs, &promises), Ok(()));
    }

    #[test]
    fn another_log_at_a_committed_index_is_a_violation() {
        let (mut logs, mut promises) = (born(&[1, 2]), DurablePromise::default());
        for node in 1..=2 {
            written(&mut promises, node, &birth());
            written(&mut promises, node, &batch(vec![entry(2, 2, "a")]));
        }
        logs.written(1, &batch(vec![entry(2, 2, "a")])).unwrap();
        logs.written(2, &batch(vec![entry(2, 3, "b")])).unwrap();
        let mut checker = Committed::new(2);
        assert_eq!(checker.advance(1, LogIndex::new(2), Term::new(2), &logs, &promises), Ok(()));
        assert!(checker.advance(2, LogIndex::new(2), Term::new(2), &logs, &promises).is_err());
    }

    #[test]
    fn replacing_what_one_has_committed_is_a_violation() {
        let (mut logs, mut promises) = (born(&[1]), DurablePromise::default());
        for batch in [birth(), batch(vec![entry(2, 2, "a")])] {
            written(&mut promises, 1, &batch);
        }
        logs.written(1, &batch(vec![entry(2, 2, "a")])).unwrap();
        let mut checker = Committed::new(1);
        assert_eq!(checker.advance(1, LogIndex::new(2), Term::new(2), &logs, &promises), Ok(()));
        assert_eq!(checker.rewritten(1, LogIndex::new(2), &logs), Ok(()));
        logs.written(1, &batch(vec![entry(2, 3, "b")])).unwrap();
        assert!(checker.rewritten(1, LogIndex::new(2), &logs).is_err());
    }
}
