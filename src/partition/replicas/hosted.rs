//! One replica of a node, with what waits for it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::serving::{Consumer, Parked};
use super::tail::Tail;
use crate::id::{NodeId, Offset};
use crate::partition::replica::Replica;
use crate::partition::replica::io::Fetch;
use crate::partition::replica::producers::Producers;
use crate::partition::retention::Chunks;
use crate::time::Instant;

/// A replica and what is about it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Hosted {
    pub(super) replica: Replica,
    /// Tells it from the one before, and after, of the same partition.
    pub(super) life: u64,
    pub(super) tail: Tail,
    pub(super) producers: Producers,
    pub(super) chunks: Chunks,
    /// What was committed when that was written last.
    checkpoint: Offset,
    /// Followers that have said what they have, and wait for news.
    pub(super) parked: BTreeMap<NodeId, Parked>,
    /// Consumers that wait for news.
    pub(super) consumers: Vec<Consumer>,
    /// What it has asked its leader, and not been answered.
    pub(super) asked: Option<Asked>,
    pub(super) timer: Option<Instant>,
}

/// What a leader was asked.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Asked {
    pub(super) leader: NodeId,
    pub(super) fetch: Fetch,
    pub(super) at: Instant,
}

impl Hosted {
    pub(super) fn new(replica: Replica, life: u64, (producers, chunks): (Producers, Chunks)) -> Hosted {
        Hosted {
            checkpoint: replica.high_watermark(),
            replica,
            life,
            tail: Tail::default(),
            producers,
            chunks,
            parked: BTreeMap::new(),
            consumers: Vec::new(),
            asked: None,
            timer: None,
        }
    }

    /// The log ends at `end` now. Returns how many bytes are not in the tail any more.
    pub(super) fn truncate(&mut self, end: Offset) -> usize {
        let before = self.tail.bytes();
        self.tail.truncate(end);
        self.producers.truncate(end);
        self.chunks.truncate(end);
        before - self.tail.bytes()
    }

    /// The log begins anew. Returns how many bytes are not in the tail any more.
    pub(super) fn restart(&mut self) -> usize {
        let before = self.tail.bytes();
        self.tail.clear();
        self.producers.clear();
        self.chunks.clear();
        before
    }

    /// What is committed, if that is not what was written last.
    pub(super) fn checkpoint(&mut self) -> Option<Offset> {
        let high_watermark = self.replica.high_watermark();
        let before = core::mem::replace(&mut self.checkpoint, high_watermark);
        (before != high_watermark).then_some(high_watermark)
    }

    pub(super) fn assert_invariants(&self) {
        self.replica.assert_invariants();
        let log = self.replica.log();
        let has_unwritten =
            log.durable == log.end || self.tail.first().is_some_and(|first| first <= log.durable);
        assert!(has_unwritten, "what is not on the disk is in memory");
        assert!(self.tail.end().is_none_or(|end| end == log.end), "the tail is the end of the log");
    }
}
