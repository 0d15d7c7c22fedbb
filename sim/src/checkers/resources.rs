//! Bounded everything: queues and batches stay within what the limits allow. (Ours.)
//!
//! The bounds are generous: they tell growth without end from a busy moment.

use rivven_cluster::node::WriteBatch;

use super::{Rule, Verdict, broken};

/// The most outputs of one drain: to every peer a message for each of some hundred inputs.
const OUTPUTS_MAX: u64 = 100_000;
/// The most bytes of entries in one batch: what a leader may hold uncommitted, and one command more.
const BATCH_BYTES_MAX: usize = 33 * 1024 * 1024;

/// The rule; it needs no books.
#[derive(Clone, Default)]
pub struct Resources;

impl Resources {
    /// `node` gave so many outputs in one drain.
    pub fn settled(&self, node: u64, outputs: u64) -> Verdict {
        if outputs <= OUTPUTS_MAX {
            return Ok(());
        }
        broken(Rule::Resources, format!("node {node} gave {outputs} outputs at once"))
    }

    /// `node` writes a batch.
    pub fn write(&self, node: u64, batch: &WriteBatch) -> Verdict {
        let bytes: usize = batch.entries.iter().map(|entry| entry.length()).sum();
        if bytes <= BATCH_BYTES_MAX {
            return Ok(());
        }
        broken(Rule::Resources, format!("node {node} writes {bytes} bytes of entries at once"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::log_matching::tests::{batch, entry};
    use super::*;
    use bytes::Bytes;
    use rivven_cluster::raft::Content;

    #[test]
    fn what_is_beyond_its_bound_is_a_violation() {
        assert_eq!(Resources.settled(1, 10), Ok(()));
        assert!(Resources.settled(1, OUTPUTS_MAX + 1).is_err());
        let mut large = entry(2, 2, "");
        large.content = Content::Command(Bytes::from(vec![0; BATCH_BYTES_MAX + 1]));
        assert!(Resources.write(1, &batch(vec![large])).is_err());
    }
}
