//! Raft §5.2, election safety: at most one leader can be elected in a given term.

use std::collections::BTreeMap;

use rivven_cluster::id::Term;

use super::{Rule, Verdict, broken};

/// Remembers who led each term.
#[derive(Clone, Default)]
pub struct ElectionSafety {
    leaders: BTreeMap<Term, u64>,
}

impl ElectionSafety {
    /// `node` leads `term`.
    pub fn leads(&mut self, node: u64, term: Term) -> Verdict {
        let first = *self.leaders.entry(term).or_insert(node);
        if first == node {
            return Ok(());
        }
        broken(Rule::ElectionSafety, format!("nodes {first} and {node} both lead term {term}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_leader_in_a_term_is_a_violation() {
        let mut checker = ElectionSafety::default();
        assert_eq!(checker.leads(1, Term::new(2)), Ok(()));
        assert_eq!(checker.leads(1, Term::new(2)), Ok(()));
        assert_eq!(checker.leads(2, Term::new(3)), Ok(()));
        assert!(checker.leads(2, Term::new(2)).is_err());
    }
}
