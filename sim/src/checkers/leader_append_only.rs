//! Raft §5.3, leader append-only: a leader never overwrites or deletes entries of its own log.
//!
//! What it replaces after it was deposed is another matter; so only entries of the term that it leads,
//! replaced by entries of that term, are judged.

use std::collections::BTreeMap;

use rivven_cluster::id::Term;
use rivven_cluster::node::WriteBatch;
use rivven_cluster::raft::{Role, Standing};

use super::{LogMatching, Rule, Verdict, broken};

/// Remembers who leads.
#[derive(Clone, Default)]
pub struct LeaderAppendOnly {
    standings: BTreeMap<u64, Standing>,
}

impl LeaderAppendOnly {
    /// `node` takes a standing.
    pub fn stands(&mut self, node: u64, standing: Standing) {
        self.standings.insert(node, standing);
    }

    /// A new process of `node` started.
    pub fn started(&mut self, node: u64) {
        self.standings.remove(&node);
    }

    /// `node` writes a batch over what is in `logs`.
    pub fn write(&self, node: u64, batch: &WriteBatch, logs: &LogMatching) -> Verdict {
        let (Some(term), Some(first)) = (self.led_by(node), batch.entries.first()) else { return Ok(()) };
        let replaced = logs.prefix(node, first.at.index);
        let is_own = replaced.is_some_and(|prefix| prefix.term == term) && first.at.term == term;
        if !is_own {
            return Ok(());
        }
        let what = format!("node {node} leads term {term} and replaces its own entry at {:?}", first.at);
        broken(Rule::LeaderAppendOnly, what)
    }

    fn led_by(&self, node: u64) -> Option<Term> {
        let standing = self.standings.get(&node)?;
        (standing.role == Role::Leader).then_some(standing.term)
    }
}

#[cfg(test)]
mod tests {
    use super::super::log_matching::tests::{batch, born, entry};
    use super::*;
    use rivven_cluster::id::NodeId;

    #[test]
    fn a_leader_that_replaces_its_own_entry_is_a_violation() {
        let mut logs = born(&[1]);
        logs.written(1, &batch(vec![entry(2, 2, "a")])).unwrap();
        let mut checker = LeaderAppendOnly::default();
        let leads = Standing { role: Role::Leader, term: Term::new(2), leader: NodeId::new(1) };
        checker.stands(1, leads);
        assert_eq!(checker.write(1, &batch(vec![entry(3, 2, "b")]), &logs), Ok(()));
        assert_eq!(checker.write(1, &batch(vec![entry(2, 3, "c")]), &logs), Ok(()), "deposed since");
        assert!(checker.write(1, &batch(vec![entry(2, 2, "c")]), &logs).is_err());
    }
}
