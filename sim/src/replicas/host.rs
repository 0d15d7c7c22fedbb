//! A node of the world: its process, if it runs, and its disk.

use bytes::Bytes;
use rivven_cluster::id::{LeaderEpoch, NodeEpoch, NodeId, Offset};
use rivven_cluster::partition::replica::epochs::Epochs;
use rivven_cluster::partition::replica::io::Batch;
use rivven_cluster::partition::replica::{Extent, Mark, Replica, Stats, Stored};
use rivven_cluster::time::WallSeconds;

/// A record: the leader epoch in which it was written, and what it says.
pub(super) type Record = (LeaderEpoch, u64);

/// How many bytes a record has on the wire.
const RECORD: usize = 8;

/// A log, as a disk has it.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Log {
    pub(super) start: u64,
    pub(super) records: Vec<Record>,
}

impl Log {
    pub(super) fn end(&self) -> u64 {
        self.start + u64::try_from(self.records.len()).expect("a short log")
    }

    pub(super) fn at(&self, offset: u64) -> Option<Record> {
        let place = usize::try_from(offset.checked_sub(self.start)?).expect("a short log");
        self.records.get(place).copied()
    }

    pub(super) fn append(&mut self, batch: &Batch) {
        assert_eq!(batch.first.value(), self.end(), "records come at the end of the log");
        let values = values_of(&batch.records);
        self.records.extend(values.map(|value| (batch.epoch, value)));
        assert_eq!(batch.end().value(), self.end(), "a batch has as many records as it says");
    }

    pub(super) fn truncate(&mut self, end: u64) {
        let left = end.saturating_sub(self.start);
        self.records.truncate(usize::try_from(left).expect("a short log"));
    }

    pub(super) fn trim(&mut self, start: u64) {
        let gone = start.saturating_sub(self.start);
        self.records.drain(..usize::try_from(gone).expect("a short log"));
        self.start = start;
    }

    /// Up to `most` records from `at` on, in batches of one epoch each.
    pub(super) fn read(&self, at: u64, most: usize) -> Vec<Batch> {
        let mut batches: Vec<Batch> = Vec::new();
        let from = usize::try_from(at - self.start).expect("a short log");
        for (record, offset) in self.records.iter().skip(from).take(most).zip(at..) {
            let bytes = record.1.to_le_bytes();
            match batches.last_mut() {
                Some(batch) if batch.epoch == record.0 => {
                    batch.count += 1;
                    batch.records = [&batch.records[..], &bytes].concat().into();
                }
                Some(_) | None => batches.push(Batch {
                    first: Offset::new(offset),
                    epoch: record.0,
                    count: 1,
                    stamp: None,
                    time: WallSeconds::default(),
                    records: Bytes::copy_from_slice(&bytes),
                }),
            }
        }
        batches
    }

    fn epochs(&self) -> Epochs {
        let mut epochs = Epochs::default();
        for (record, offset) in self.records.iter().zip(self.start..) {
            epochs.begin(record.0, Offset::new(offset));
        }
        epochs
    }
}

/// What the records of a batch say.
pub(super) fn values_of(records: &[u8]) -> impl Iterator<Item = u64> {
    let value = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    records.chunks_exact(RECORD).map(value)
}

/// A node.
#[derive(Clone)]
pub(super) struct Host {
    pub(super) node: NodeId,
    /// Which disk it has.
    pub(super) token: u64,
    /// Which process on it.
    pub(super) boot: u64,
    pub(super) is_up: bool,
    /// The session of its process, if it has registered.
    pub(super) session: Option<NodeEpoch>,
    /// Which view of the metadata it has applied.
    pub(super) seen: usize,
    pub(super) replica: Option<Replica>,
    /// The log as the process sees it.
    pub(super) log: Log,
    /// As a crash leaves it.
    pub(super) synced: Log,
    /// What is being synced, with what was committed by then.
    pub(super) syncing: Option<(Mark, Log, u64)>,
    /// Whether there is something to sync.
    pub(super) is_dirty: bool,
    /// What was committed when that was synced.
    pub(super) checkpoint: u64,
}

impl Host {
    pub(super) fn new(node: NodeId) -> Host {
        Host {
            node,
            token: 1,
            boot: 1,
            is_up: true,
            session: None,
            seen: 0,
            replica: None,
            log: Log::default(),
            synced: Log::default(),
            syncing: None,
            is_dirty: false,
            checkpoint: 0,
        }
    }

    /// What a replica begins with.
    pub(super) fn stored(&self) -> Stored {
        let (start, end) = (Offset::new(self.log.start), Offset::new(self.log.end()));
        Stored {
            log: Extent::stored(start, end),
            epochs: self.log.epochs(),
            high_watermark: Offset::new(self.checkpoint),
        }
    }

    /// The log is gone, from memory and from the disk.
    pub(super) fn forget(&mut self) {
        (self.log, self.synced) = (Log::default(), Log::default());
        (self.syncing, self.is_dirty, self.checkpoint) = (None, false, 0);
    }

    pub(super) fn stats(&self) -> Stats {
        self.replica.as_ref().map(|replica| *replica.stats()).unwrap_or_default()
    }
}
