//! Reads that need no entry in the log, yet see every write that was acknowledged before them.
//!
//! A leader that answered from its own state could be one that was deposed without knowing it. So it
//! notes its commit index, asks a majority whether it still leads, and the read may be served wherever
//! that index has been applied (Raft thesis §6.4). One round serves all reads that were queued when it
//! began; the question travels in the context of heartbeats, so a lost one is asked again by the next.
//!
//! Two traps:
//!
//! * A leader does not know what its predecessors committed before an entry of its own term is
//!   committed (Raft §8). Until then a round waits here; raft-rs would drop it without a word.
//! * A context that is ever used twice can be confirmed by a late answer to its first use, from a time
//!   when this node did lead. So it holds the node, the number of its start and a counter.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Output, Raft};
use crate::id::{BootId, LogIndex, NodeId};

/// The length of a context, in bytes.
pub(super) const CONTEXT_BYTES: usize = 24;

/// The round under way, if any.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct ReadRounds {
    node: NodeId,
    boot: BootId,
    /// The caller's number of the round, and whether raft-rs knows of it.
    round: Option<(u64, bool)>,
}

impl ReadRounds {
    pub(super) fn start(node: NodeId, boot: BootId) -> ReadRounds {
        ReadRounds { node, boot, round: None }
    }

    fn context(&self, round: u64) -> Bytes {
        let parts = [self.node.value(), self.boot.value(), round];
        Bytes::from(parts.map(u64::to_le_bytes).concat())
    }
}

impl Raft {
    /// Begins a round, in place of one that is under way.
    pub(super) fn handle_read(&mut self, round: u64) {
        self.give_up_read();
        if self.raw.raft.state == raft::StateRole::Leader {
            self.reads.round = Some((round, false));
            self.ask_read();
        } else {
            self.outputs.push_back(Output::ReadLost { round });
        }
    }

    /// Asks the majority as soon as this leader knows what is committed.
    pub(super) fn ask_read(&mut self) {
        if let Some((round, false)) = self.reads.round
            && self.raw.raft.commit_to_current_term()
        {
            self.reads.round = Some((round, true));
            self.raw.read_index(self.reads.context(round).to_vec());
        }
    }

    /// A majority has confirmed that this node led when it noted `index`.
    pub(super) fn confirm_read(&mut self, context: &[u8], index: LogIndex) {
        if let Some((round, true)) = self.reads.round
            && self.reads.context(round) == context
        {
            self.reads.round = None;
            self.outputs.push_back(Output::ReadAt { round, index });
        }
    }

    /// Nobody will confirm the round under way: this node leads no longer, or in another term.
    pub(super) fn give_up_read(&mut self) {
        if let Some((round, _)) = self.reads.round.take() {
            self.outputs.push_back(Output::ReadLost { round });
        }
    }
}
