//! What a disk must do for a node: the [`Storage`] trait, and how it fails.

use crate::id::{ClusterName, NodeId};
use crate::node::{Durable, WriteBatch};
use crate::partition::log::Read;
use crate::partition::replica::io::Batch;
use crate::raft::Snapshot;

/// Whose data a store holds. Written when the store is made, checked whenever it is opened.
#[derive(Clone, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct Owner {
    /// The cluster.
    pub cluster: ClusterName,
    /// The node.
    pub node: NodeId,
}

/// A durable, atomic store for one node.
///
/// It is blocking: a thread of its own calls it in production.
pub trait Storage: Send {
    /// Reads everything that is durable. Called once, before the first write.
    ///
    /// # Errors
    ///
    /// [`StorageError`]; a node must not start on it.
    fn recover(&mut self) -> Result<Durable, StorageError>;

    /// Makes a batch durable as one: after a crash all of it is there or nothing of it.
    ///
    /// In this order: `snapshot` replaces snapshot and log; `compact` replaces the snapshot and the entries up
    /// to its place; `entries` replace the log from the first one's index on; `logs` are changed in their order; the other
    /// fields replace their old values if they are given.
    ///
    /// # Errors
    ///
    /// [`StorageError::Failed`]: the batch may or may not be durable. It must not be tried again: after
    /// a failed sync the kernel may have dropped the data and report success the next time. The node
    /// halts, and its next start re-reads what is there.
    fn write(&mut self, batch: &WriteBatch) -> Result<(), StorageError>;

    /// Reads batches of a partition's log that were written before: as [`Logs::read`] does.
    ///
    /// [`Logs::read`]: crate::partition::log::Logs::read
    ///
    /// # Errors
    ///
    /// [`StorageError`] if what was written is not there. The node halts.
    fn read(&mut self, read: &Read) -> Result<Vec<Batch>, StorageError>;

    /// Makes a snapshot durable that a later batch may name. The one that the last batch named stays until
    /// then, all others may go.
    ///
    /// # Errors
    ///
    /// As [`Storage::write`].
    fn save(&mut self, snapshot: &Snapshot) -> Result<(), StorageError>;

    /// Gives out what saves snapshots, if that can be done on another thread while batches are written.
    /// [`Storage::save`] is not called then.
    fn detach_saver(&mut self) -> Option<Box<dyn SnapshotSaver>> {
        None
    }
}

/// Saves snapshots beside the batches. See [`Storage::save`].
pub trait SnapshotSaver: Send {
    /// Makes a snapshot durable that a later batch may name.
    ///
    /// # Errors
    ///
    /// As [`Storage::write`].
    fn save(&mut self, snapshot: &Snapshot) -> Result<(), StorageError>;
}

/// What is wrong with a store.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The store cannot be opened. Nothing was changed.
    #[error("cannot open {place}: {reason}")]
    Open {
        /// Which store.
        place: String,
        /// Why not.
        reason: String,
    },
    /// Another process has it open. Stop that one first; nothing was changed.
    #[error("{place} is in use by another process: stop that one first")]
    InUse {
        /// Which store.
        place: String,
    },
    /// The store was written by another version of this program. Nothing was changed.
    #[error("{place} has format {found}, this build reads format {supported}: use the build that wrote it")]
    Format {
        /// Which store.
        place: String,
        /// The format it has.
        found: u32,
        /// The format that this build reads.
        supported: u32,
    },
    /// The store is another node's. Point the node at its own data folder; nothing was changed.
    #[error("{place} belongs to node {} of cluster {:?}, not to node {} of cluster {:?}", found.node, found.cluster.as_str(), expected.node, expected.cluster.as_str())]
    OtherOwner {
        /// Which store.
        place: String,
        /// Whose it is.
        found: Owner,
        /// Who opened it.
        expected: Owner,
    },
    /// The store is another node's or another cluster's. Point the node at its own data folder; nothing was
    /// changed.
    #[error("{place} belongs to another node or another cluster: point the node at its own data folder")]
    Foreign {
        /// Which store.
        place: String,
    },
    /// A record is not what was written. Restore the data folder; nothing was changed.
    #[error(
        "{place} is damaged: {record}: {reason}; restore it from before the damage, or give this node a new id and an empty folder"
    )]
    Damaged {
        /// Which store.
        place: String,
        /// Which record.
        record: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A read or a write failed. What was durable before is untouched.
    #[error("{place} failed: {reason}")]
    Failed {
        /// Which store.
        place: String,
        /// What the disk said.
        reason: String,
    },
}
