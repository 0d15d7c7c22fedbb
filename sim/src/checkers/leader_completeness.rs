//! Raft §5.4, leader completeness: a leader holds every entry that was committed in an earlier term.

use rivven_cluster::id::LogIndex;

use super::{Committed, LogMatching, Rule, Verdict, broken};

/// The rule; it needs no books of its own.
pub struct LeaderCompleteness;

impl LeaderCompleteness {
    /// Judges a new leader whose log ends at `last`.
    pub fn judge(node: u64, last: LogIndex, logs: &LogMatching, committed: &Committed) -> Verdict {
        let Some(index) = committed.last() else { return Ok(()) };
        if last < index {
            let what = format!("node {node} leads with a log that ends at {last}, but {index} is committed");
            return broken(Rule::LeaderCompleteness, what);
        }
        // By log matching, one equal prefix means that all before it is equal, too.
        match logs.prefix(node, index) {
            Some(own) if committed.prefix(index) != Some(own) => {
                let what = format!("node {node} leads, but has another log than was committed up to {index}");
                broken(Rule::LeaderCompleteness, what)
            }
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::DurablePromise;
    use super::super::committed::tests::written;
    use super::super::log_matching::tests::{batch, birth, born, entry};
    use super::*;

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
        committed.advance(1, two, &logs, &promises).unwrap();
        assert_eq!(LeaderCompleteness::judge(1, two, &logs, &committed), Ok(()));
        assert!(LeaderCompleteness::judge(2, LogIndex::new(1), &logs, &committed).is_err());
        assert!(LeaderCompleteness::judge(3, two, &logs, &committed).is_err());
    }
}
