//! Raft §5.4, leader completeness: a leader holds every entry that was committed in an earlier term.

use rivven_cluster::id::Term;

use super::{Committed, LogMatching, Rule, Verdict, broken};

/// The rule; it needs no books of its own.
pub struct LeaderCompleteness;

impl LeaderCompleteness {
    /// Judges a new leader of `term` by what is on its disk: it asked for votes when its log was there.
    ///
    /// Who was paused may still win an election of long ago, and lacks what later terms have committed.
    pub fn judge(node: u64, term: Term, logs: &LogMatching, committed: &Committed) -> Verdict {
        let Some(index) = committed.last_before(term) else { return Ok(()) };
        // By log matching, one equal prefix means that all before it is equal, too.
        if index < logs.start(node) {
            // A snapshot stands for it.
            return Ok(());
        }
        match logs.prefix(node, index) {
            Some(own) if committed.prefix(index) != Some(own) => {
                let what = format!("node {node} leads, but has another log than was committed up to {index}");
                broken(Rule::LeaderCompleteness, what)
            }
            None => {
                let what = format!("node {node} leads without the entry at {index}, which is committed");
                broken(Rule::LeaderCompleteness, what)
            }
            Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::DurablePromise;
    use super::super::committed::tests::written;
    use super::super::log_matching::tests::{batch, birth, born, entry};
    use super::*;
    use rivven_cluster::id::LogIndex;

    #[test]
    fn a_leader_without_a_committed_entry_is_a_violation() {
        let (mut logs, mut promises) = (born(&[1, 2, 3]), DurablePromise::default());
        for node in 1..=2 {
            written(&mut promises, node, &birth());
            written(&mut promises, node, &batch(vec![entry(2, 2, "a")]));
        }
        logs.written(1, &batch(vec![entry(2, 2, "a")])).unwrap();
        logs.written(3, &batch(vec![entry(2, 3, "b")])).unwrap();
        let mut committed = Committed::new(3);
        let two = LogIndex::new(2);
        committed.advance(1, two, Term::new(2), &logs, &promises).unwrap();
        assert_eq!(LeaderCompleteness::judge(1, Term::new(3), &logs, &committed), Ok(()));
        assert!(LeaderCompleteness::judge(2, Term::new(3), &logs, &committed).is_err());
        assert!(LeaderCompleteness::judge(3, Term::new(3), &logs, &committed).is_err());
        assert_eq!(LeaderCompleteness::judge(3, Term::new(2), &logs, &committed), Ok(()), "an old term");
    }
}
