//! (Ours, formation): a cluster forms when every one of its founders has durably pledged itself to just these.
//!
//! Pledges are counted when a disk has reported them done, or was found to hold them. A pledge is never taken back, so
//! it counts whatever becomes of the disk.

use std::collections::BTreeMap;

use rivven_cluster::formation::{Standing, VoterSet};
use rivven_cluster::id::NodeId;
use rivven_cluster::node::WriteBatch;

use super::{Rule, Verdict, broken};

/// Remembers who has pledged itself to whom.
#[derive(Clone, Default)]
pub struct Formation {
    pledges: BTreeMap<u64, Vec<VoterSet>>,
}

impl Formation {
    /// `node` has this standing on its disk.
    pub fn stands(&mut self, node: u64, standing: &Standing) {
        let Standing::Pledged(founders) = standing else { return };
        let pledges = self.pledges.entry(node).or_default();
        if !pledges.contains(founders) {
            pledges.push(founders.clone());
        }
    }

    /// `node` hands a batch to its disk.
    pub fn write(&self, node: u64, batch: &WriteBatch) -> Verdict {
        let Some(Standing::Formed(founders)) = &batch.standing else { return Ok(()) };
        match founders.voters().iter().find(|founder| !self.has_pledged(**founder, founders)) {
            None => Ok(()),
            Some(missing) => broken(
                Rule::Formation,
                format!("node {node} holds {founders} for a cluster, which node {missing} has not pledged"),
            ),
        }
    }

    fn has_pledged(&self, node: NodeId, founders: &VoterSet) -> bool {
        self.pledges.get(&node.value()).is_some_and(|pledges| pledges.contains(founders))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn founders(ids: &[u64]) -> VoterSet {
        VoterSet::new(ids.iter().copied().filter_map(NodeId::new).collect()).unwrap()
    }

    #[test]
    fn a_cluster_that_one_of_its_founders_has_not_pledged_is_a_violation() {
        let formed =
            WriteBatch { standing: Some(Standing::Formed(founders(&[1, 2]))), ..WriteBatch::default() };
        let mut checker = Formation::default();
        checker.stands(1, &Standing::Pledged(founders(&[1, 2])));
        checker.stands(2, &Standing::Pledged(founders(&[1, 2, 3])));
        assert!(checker.write(1, &formed).is_err(), "the other has pledged itself to more");
        checker.stands(2, &Standing::Pledged(founders(&[1, 2])));
        checker.stands(2, &Standing::Damaged);
        assert_eq!(checker.write(1, &formed), Ok(()), "a pledge counts, whatever becomes of the disk");
    }
}
