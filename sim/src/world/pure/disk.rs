//! A node's disk in the pure world: batches kept whole, or the production store on simulated blocks.

use rivven_cluster::driver::{Owner, RedbStorage, Storage, StorageError};
use rivven_cluster::id::WriteId;
use rivven_cluster::node::{Durable, WriteBatch};
use rivven_cluster::raft::Snapshot;
use rivven_cluster::rng::Stream;

use crate::checkers::apply;
use crate::device::{Cut, Device, Trouble};
use crate::shape::Store;

/// A disk. At most one write is under way.
pub(super) enum NodeDisk {
    /// The contract of a store: a batch is there or not.
    Batches(Box<BatchDisk>),
    /// redb on blocks that tear, rot and go astray.
    Redb(Box<RedbDisk>),
}

#[derive(Clone, Default)]
pub(super) struct BatchDisk {
    durable: Durable,
    in_flight: Option<WriteBatch>,
    trouble: Trouble,
}

#[derive(Default)]
pub(super) struct RedbDisk {
    device: Device,
    storage: Option<RedbStorage>,
    in_flight: Option<(WriteId, Result<(), StorageError>)>,
}

/// What a disk held at some time.
#[derive(Clone)]
pub(super) enum Image {
    Durable(Box<Durable>),
    Blocks(Vec<u8>),
}

/// What became of the write under way when a process ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ended {
    /// There was none.
    Idle,
    /// It is there, though nobody was told.
    Kept,
    /// It is gone, or a part of it; and whether that shows what this way to end does.
    Lost { shows: bool },
}

impl NodeDisk {
    pub(super) fn new(store: Store) -> NodeDisk {
        match store {
            Store::Batches => NodeDisk::Batches(Box::default()),
            Store::Redb => NodeDisk::Redb(Box::default()),
        }
    }

    /// A copy that goes its own way; the production store cannot be copied while it is open.
    pub(super) fn fork(&self) -> Option<NodeDisk> {
        match self {
            NodeDisk::Batches(disk) => Some(NodeDisk::Batches(disk.clone())),
            NodeDisk::Redb(_) => None,
        }
    }

    /// A process starts: reads what is durable.
    pub(super) fn open(&mut self, owner: &Owner) -> Result<Durable, StorageError> {
        match self {
            NodeDisk::Batches(disk) => Ok(disk.durable.clone()),
            NodeDisk::Redb(disk) => {
                let device = disk.device.attach();
                let place = format!("the disk of node {}", owner.node);
                device.make(&place, owner)?;
                let mut storage = RedbStorage::open_backend(device.clone(), &place, owner)?;
                let durable = storage.recover()?;
                device.settle();
                disk.storage = Some(storage);
                Ok(durable)
            }
        }
    }

    /// Starts a write.
    pub(super) fn submit(&mut self, batch: WriteBatch) {
        match self {
            NodeDisk::Batches(disk) => disk.in_flight = Some(batch),
            NodeDisk::Redb(disk) => {
                let storage = disk.storage.as_mut().expect("a running process has opened its store");
                disk.in_flight = Some((batch.id, storage.write(&batch)));
            }
        }
    }

    /// Saves a snapshot. A disk of batches finds it in the batch that names it.
    pub(super) fn save(&mut self, snapshot: &Snapshot) -> Result<(), String> {
        match self {
            NodeDisk::Batches(_) => Ok(()),
            NodeDisk::Redb(disk) => {
                let storage = disk.storage.as_mut().expect("a running process has opened its store");
                storage.save(snapshot).map_err(|error| error.to_string())
            }
        }
    }

    /// The save under way is done.
    pub(super) fn complete_save(&mut self) {
        if let NodeDisk::Redb(disk) = self {
            disk.device.settle();
        }
    }

    /// The write under way is done.
    pub(super) fn complete(&mut self) -> Result<(), String> {
        match self {
            NodeDisk::Batches(disk) => {
                let Some(batch) = disk.in_flight.take() else { return Ok(()) };
                if disk.trouble.is_full {
                    return Err("no space left".to_owned());
                }
                if core::mem::take(&mut disk.trouble.fails_next_sync) {
                    return Err("the sync failed".to_owned());
                }
                apply(&mut disk.durable, &batch);
                Ok(())
            }
            NodeDisk::Redb(disk) => {
                disk.device.settle();
                let Some((_, result)) = disk.in_flight.take() else { return Ok(()) };
                result.map_err(|error| error.to_string())
            }
        }
    }

    /// The process ends.
    pub(super) fn cut(&mut self, cut: Cut, fate: &mut Stream) -> Ended {
        match self {
            NodeDisk::Batches(disk) => {
                let Some(batch) = disk.in_flight.take() else { return Ended::Idle };
                let fails = disk.trouble.is_full || disk.trouble.fails_next_sync;
                if fails || fate.chance(1, 2) {
                    return Ended::Lost { shows: true };
                }
                apply(&mut disk.durable, &batch);
                Ended::Kept
            }
            NodeDisk::Redb(disk) => {
                let was_busy = disk.in_flight.take().is_some();
                // The device goes first: what the store writes on its way out does not exist.
                let lost = disk.device.cut(cut, fate);
                disk.storage = None;
                match (was_busy, lost.blocks) {
                    (_, 1..) => Ended::Lost { shows: lost.shows(cut) },
                    (true, 0) => Ended::Kept,
                    (false, 0) => Ended::Idle,
                }
            }
        }
    }

    /// What is durable.
    pub(super) fn image(&self) -> Image {
        match self {
            NodeDisk::Batches(disk) => Image::Durable(Box::new(disk.durable.clone())),
            NodeDisk::Redb(disk) => Image::Blocks(disk.device.image()),
        }
    }

    /// Puts an image in place of what is there, after the process has ended. Tells whether that changed
    /// anything.
    pub(super) fn replace(&mut self, image: Image) -> bool {
        match (self, image) {
            (NodeDisk::Batches(disk), Image::Durable(durable)) => {
                let changes = disk.durable != *durable;
                disk.durable = *durable;
                changes
            }
            (NodeDisk::Redb(disk), Image::Blocks(blocks)) => {
                let changes = disk.device.image() != blocks;
                disk.device.replace(blocks);
                changes
            }
            (NodeDisk::Batches(_), Image::Blocks(_)) | (NodeDisk::Redb(_), Image::Durable(_)) => {
                unreachable!("an image goes back to the disk that it was taken of")
            }
        }
    }

    /// Empties the disk, after the process has ended. Tells whether there was anything on it.
    pub(super) fn empty(&mut self) -> bool {
        match self {
            NodeDisk::Batches(disk) => core::mem::take(&mut disk.durable) != Durable::default(),
            NodeDisk::Redb(disk) => {
                let held = !disk.device.image().is_empty();
                disk.device.replace(Vec::new());
                held
            }
        }
    }

    /// Changes bits of what is stored. Returns how many; a disk without blocks has none.
    pub(super) fn rot(&mut self, fate: &mut Stream) -> u64 {
        match self {
            NodeDisk::Batches(_) => 0,
            NodeDisk::Redb(disk) => disk.device.rot(fate),
        }
    }

    /// What is wrong with the disk.
    pub(super) fn trouble(&self) -> Trouble {
        match self {
            NodeDisk::Batches(disk) => disk.trouble,
            NodeDisk::Redb(disk) => disk.device.trouble(),
        }
    }

    /// Changes what is wrong with the disk.
    pub(super) fn set_trouble(&mut self, trouble: Trouble) {
        match self {
            NodeDisk::Batches(disk) => disk.trouble = trouble,
            NodeDisk::Redb(disk) => disk.device.set_trouble(trouble),
        }
    }
}
