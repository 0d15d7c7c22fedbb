//! Raft Fig. 2: while a process runs, its term, commit index and applied index never decrease.

use std::collections::BTreeMap;

use rivven_cluster::id::{LogIndex, Term};
use rivven_cluster::raft::Indexes;

use super::{Rule, Verdict, broken};

/// Remembers how far each process has got.
#[derive(Clone, Default)]
pub struct Monotone {
    reached: BTreeMap<u64, (Term, LogIndex, LogIndex)>,
}

impl Monotone {
    /// A new process of `node` started.
    pub fn started(&mut self, node: u64) {
        self.reached.remove(&node);
    }

    /// `node` has got this far.
    pub fn settled(&mut self, node: u64, term: Term, indexes: Indexes) -> Verdict {
        let now = (term, indexes.commit, indexes.applied);
        let before = self.reached.insert(node, now).unwrap_or(now);
        let decreases = now.0 < before.0 || now.1 < before.1 || now.2 < before.2;
        let is_ordered = indexes.applied <= indexes.commit && indexes.commit <= indexes.last;
        if !decreases && is_ordered {
            return Ok(());
        }
        let what =
            format!("node {node} went from (term, commit, applied) {before:?} to {now:?}, {indexes:?}");
        broken(Rule::Monotone, what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indexes(commit: u64, applied: u64) -> Indexes {
        let index = LogIndex::new;
        Indexes { last: index(9), persisted: index(9), commit: index(commit), applied: index(applied) }
    }

    #[test]
    fn going_back_without_a_restart_is_a_violation() {
        let mut checker = Monotone::default();
        assert_eq!(checker.settled(1, Term::new(2), indexes(5, 5)), Ok(()));
        assert!(checker.settled(1, Term::new(2), indexes(4, 4)).is_err());
        checker.started(1);
        assert_eq!(checker.settled(1, Term::new(2), indexes(3, 2)), Ok(()));
        assert!(checker.settled(1, Term::new(1), indexes(3, 2)).is_err());
        assert!(checker.settled(2, Term::new(1), indexes(3, 4)).is_err(), "applied is past commit");
    }
}
