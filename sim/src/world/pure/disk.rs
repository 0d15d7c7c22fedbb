//! A node's disk in the pure world: batches kept whole, or a real store on a simulated medium.

use bytes::Bytes;
use rivven_cluster::driver::{
    Owner, RedbStorage, SegmentStorage, Storage, StorageError, open_or_set_aside, set_aside,
};
use rivven_cluster::formation::Standing;
use rivven_cluster::node::{Durable, WriteBatch};
use rivven_cluster::partition::log::{Logs, Read};
use rivven_cluster::partition::replica::io::Batch;
use rivven_cluster::raft::Snapshot;
use rivven_cluster::rng::Stream;

use crate::checkers::apply;
use crate::device::{Cut, Device, Loss, Trouble};
use crate::folder::{self, SimFolder};
use crate::shape::Store;

/// A disk. At most one write is under way.
pub(super) enum NodeDisk {
    /// The contract of a store: a batch is there or not.
    Batches(Box<BatchDisk>),
    /// A real store, on a medium that tears, rots and leads writes astray.
    Stored(Box<dyn Stored>),
}

#[derive(Clone, Default)]
pub(super) struct BatchDisk {
    durable: Durable,
    /// The records of partitions.
    records: Logs<Bytes>,
    in_flight: Option<WriteBatch>,
    trouble: Trouble,
}

/// What a store is on.
trait Medium: Default {
    type Store: Storage;

    /// Opens the store; a damaged one is set aside.
    fn open(&self, owner: &Owner) -> Result<(Self::Store, Durable), StorageError>;
    fn set_aside(&self) -> Result<(), StorageError>;
    fn settle(&self);
    fn cut(&self, cut: Cut, fate: &mut Stream) -> Loss;
    fn image(&self) -> Image;
    fn replace(&self, image: Image);
    fn rot(&self, fate: &mut Stream) -> u64;
    fn trouble(&self) -> Trouble;
    fn set_trouble(&self, trouble: Trouble);
}

/// A store on a medium, whatever both are.
pub(super) trait Stored {
    fn open(&mut self, owner: &Owner) -> Result<Durable, StorageError>;
    fn set_aside(&mut self) -> Result<(), StorageError>;
    fn submit(&mut self, batch: &WriteBatch);
    fn read(&mut self, read: &Read) -> Result<Vec<Batch>, StorageError>;
    fn save(&mut self, snapshot: &Snapshot) -> Result<(), StorageError>;
    fn settle(&mut self);
    fn complete(&mut self) -> Result<(), StorageError>;
    fn cut(&mut self, cut: Cut, fate: &mut Stream) -> Ended;
    fn image(&self) -> Image;
    fn replace(&mut self, image: Image);
    fn rot(&mut self, fate: &mut Stream) -> u64;
    fn trouble(&self) -> Trouble;
    fn set_trouble(&mut self, trouble: Trouble);
}

struct StoredDisk<M: Medium> {
    medium: M,
    store: Option<M::Store>,
    in_flight: Option<Result<(), StorageError>>,
    /// Whether what was there was damaged, and is gone. A folder knows that by itself.
    is_set_aside: bool,
}

impl<M: Medium> StoredDisk<M> {
    fn empty() -> StoredDisk<M> {
        StoredDisk { medium: M::default(), store: None, in_flight: None, is_set_aside: false }
    }

    fn store(&mut self) -> &mut M::Store {
        self.store.as_mut().expect("a running process has opened its store")
    }
}

impl<M: Medium> Stored for StoredDisk<M> {
    fn open(&mut self, owner: &Owner) -> Result<Durable, StorageError> {
        let trouble = self.medium.trouble();
        let is_troubled = trouble.is_unreadable || trouble.is_full || trouble.fails_next_sync;
        let opened = match self.medium.open(owner) {
            Err(StorageError::Damaged { .. } | StorageError::Open { .. }) if !is_troubled => {
                self.set_aside()?;
                self.medium.open(owner)
            }
            opened => opened,
        };
        let (store, mut durable) = opened?;
        self.medium.settle();
        if self.is_set_aside && durable.standing == Standing::Fresh {
            durable = Durable { standing: Standing::Damaged, ..Durable::default() };
        }
        self.store = Some(store);
        Ok(durable)
    }

    fn set_aside(&mut self) -> Result<(), StorageError> {
        (self.store, self.is_set_aside) = (None, true);
        self.medium.set_aside()?;
        self.medium.settle();
        Ok(())
    }

    fn submit(&mut self, batch: &WriteBatch) {
        self.in_flight = Some(self.store().write(batch));
    }

    fn read(&mut self, read: &Read) -> Result<Vec<Batch>, StorageError> {
        self.store().read(read)
    }

    fn save(&mut self, snapshot: &Snapshot) -> Result<(), StorageError> {
        self.store().save(snapshot)
    }

    fn settle(&mut self) {
        self.medium.settle();
    }

    fn complete(&mut self) -> Result<(), StorageError> {
        self.medium.settle();
        self.in_flight.take().unwrap_or(Ok(()))
    }

    fn cut(&mut self, cut: Cut, fate: &mut Stream) -> Ended {
        let was_busy = self.in_flight.take().is_some();
        // The medium goes first: what the store writes on its way out does not exist.
        let lost = self.medium.cut(cut, fate);
        self.store = None;
        match (was_busy, lost.blocks) {
            (_, 1..) => Ended::Lost { shows: lost.shows(cut) },
            (true, 0) => Ended::Kept,
            (false, 0) => Ended::Idle,
        }
    }

    fn image(&self) -> Image {
        self.medium.image()
    }

    fn replace(&mut self, image: Image) {
        self.is_set_aside &= !image.is_empty();
        self.medium.replace(image);
    }

    fn rot(&mut self, fate: &mut Stream) -> u64 {
        self.medium.rot(fate)
    }

    fn trouble(&self) -> Trouble {
        self.medium.trouble()
    }

    fn set_trouble(&mut self, trouble: Trouble) {
        self.medium.set_trouble(trouble);
    }
}

impl Medium for Device {
    type Store = RedbStorage;

    fn open(&self, owner: &Owner) -> Result<(RedbStorage, Durable), StorageError> {
        let device = self.attach();
        let place = format!("the disk of node {}", owner.node);
        device.make(&place, owner)?;
        let mut store = RedbStorage::open_backend(device, &place, owner)?;
        let durable = store.recover()?;
        Ok((store, durable))
    }

    fn set_aside(&self) -> Result<(), StorageError> {
        Device::replace(self, Vec::new());
        Ok(())
    }

    fn settle(&self) {
        Device::settle(self);
    }

    fn cut(&self, cut: Cut, fate: &mut Stream) -> Loss {
        Device::cut(self, cut, fate)
    }

    fn image(&self) -> Image {
        Image::Blocks(Device::image(self))
    }

    fn replace(&self, image: Image) {
        match image {
            Image::Blocks(blocks) => Device::replace(self, blocks),
            Image::Durable(_) | Image::Files(_) => unreachable!("an image goes back where it was taken"),
        }
    }

    fn rot(&self, fate: &mut Stream) -> u64 {
        Device::rot(self, fate)
    }

    fn trouble(&self) -> Trouble {
        Device::trouble(self)
    }

    fn set_trouble(&self, trouble: Trouble) {
        Device::set_trouble(self, trouble);
    }
}

/// A segment of the simulated log: small, so that a run fills many.
const SEGMENT_BYTES: u64 = 32 * 1024;

impl Medium for SimFolder {
    type Store = SegmentStorage<SimFolder>;

    fn open(&self, owner: &Owner) -> Result<(SegmentStorage<SimFolder>, Durable), StorageError> {
        let salt = owner.node.value();
        open_or_set_aside(&self.attach(), |folder| {
            SegmentStorage::open_sized(folder, owner, salt, SEGMENT_BYTES)
        })
    }

    fn set_aside(&self) -> Result<(), StorageError> {
        set_aside(&self.attach())
    }

    fn settle(&self) {
        SimFolder::settle(self);
    }

    fn cut(&self, cut: Cut, fate: &mut Stream) -> Loss {
        SimFolder::cut(self, cut, fate)
    }

    fn image(&self) -> Image {
        Image::Files(SimFolder::image(self))
    }

    fn replace(&self, image: Image) {
        match image {
            Image::Files(files) => SimFolder::replace(self, files),
            Image::Durable(_) | Image::Blocks(_) => unreachable!("an image goes back where it was taken"),
        }
    }

    fn rot(&self, fate: &mut Stream) -> u64 {
        SimFolder::rot(self, fate)
    }

    fn trouble(&self) -> Trouble {
        SimFolder::trouble(self)
    }

    fn set_trouble(&self, trouble: Trouble) {
        SimFolder::set_trouble(self, trouble);
    }
}

/// What a disk held at some time.
#[derive(Clone, PartialEq)]
pub(super) enum Image {
    Durable(Box<(Durable, Logs<Bytes>)>),
    Blocks(Vec<u8>),
    Files(folder::Image),
}

impl Image {
    fn is_empty(&self) -> bool {
        match self {
            Image::Durable(durable) => durable.0 == Durable::default(),
            Image::Blocks(blocks) => blocks.is_empty(),
            Image::Files(files) => files.is_empty(),
        }
    }

    /// What an empty disk of the same kind holds.
    fn emptied(&self) -> Image {
        match self {
            Image::Durable(_) => Image::Durable(Box::default()),
            Image::Blocks(_) => Image::Blocks(Vec::new()),
            Image::Files(_) => Image::Files(folder::Image::default()),
        }
    }
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
            Store::Redb => NodeDisk::Stored(Box::new(StoredDisk::<Device>::empty())),
            Store::Segments => NodeDisk::Stored(Box::new(StoredDisk::<SimFolder>::empty())),
        }
    }

    /// A copy that goes its own way; a real store cannot be copied while it is open.
    pub(super) fn fork(&self) -> Option<NodeDisk> {
        match self {
            NodeDisk::Batches(disk) => Some(NodeDisk::Batches(disk.clone())),
            NodeDisk::Stored(_) => None,
        }
    }

    /// A process starts: reads what is durable.
    pub(super) fn open(&mut self, owner: &Owner) -> Result<Durable, StorageError> {
        match self {
            NodeDisk::Batches(disk) => Ok(disk.durable.clone()),
            NodeDisk::Stored(disk) => disk.open(owner),
        }
    }

    /// What the disk holds contradicts itself: a process that starts on it has forgotten everything.
    pub(super) fn set_aside(&mut self) -> Result<(), StorageError> {
        match self {
            NodeDisk::Batches(disk) => {
                disk.durable = Durable { standing: Standing::Damaged, ..Durable::default() };
                disk.records = Logs::default();
                Ok(())
            }
            NodeDisk::Stored(disk) => disk.set_aside(),
        }
    }

    /// Starts a write.
    pub(super) fn submit(&mut self, batch: WriteBatch) {
        match self {
            NodeDisk::Batches(disk) => disk.in_flight = Some(batch),
            NodeDisk::Stored(disk) => disk.submit(&batch),
        }
    }

    /// Reads batches of a partition.
    pub(super) fn read(&mut self, read: &Read) -> Result<Vec<Batch>, String> {
        match self {
            NodeDisk::Batches(disk) => Ok(disk.records.read(read)),
            NodeDisk::Stored(disk) => disk.read(read).map_err(|error| error.to_string()),
        }
    }

    /// Saves a snapshot. A disk of batches finds it in the batch that names it.
    pub(super) fn save(&mut self, snapshot: &Snapshot) -> Result<(), String> {
        match self {
            NodeDisk::Batches(_) => Ok(()),
            NodeDisk::Stored(disk) => disk.save(snapshot).map_err(|error| error.to_string()),
        }
    }

    /// The save under way is done.
    pub(super) fn complete_save(&mut self) {
        if let NodeDisk::Stored(disk) = self {
            disk.settle();
        }
    }

    /// The write under way is done.
    pub(super) fn complete(&mut self) -> Result<(), String> {
        match self {
            NodeDisk::Batches(disk) => disk.complete(),
            NodeDisk::Stored(disk) => disk.complete().map_err(|error| error.to_string()),
        }
    }

    /// The process ends.
    pub(super) fn cut(&mut self, cut: Cut, fate: &mut Stream) -> Ended {
        match self {
            NodeDisk::Batches(disk) => disk.cut(fate),
            NodeDisk::Stored(disk) => disk.cut(cut, fate),
        }
    }

    /// What is durable.
    pub(super) fn image(&self) -> Image {
        match self {
            NodeDisk::Batches(disk) => Image::Durable(Box::new((disk.durable.clone(), disk.records.clone()))),
            NodeDisk::Stored(disk) => disk.image(),
        }
    }

    /// Puts an image in place of what is there, after the process has ended. Tells whether that changed
    /// anything.
    pub(super) fn replace(&mut self, image: Image) -> bool {
        let changes = self.image() != image;
        match (self, image) {
            (NodeDisk::Batches(disk), Image::Durable(durable)) => (disk.durable, disk.records) = *durable,
            (NodeDisk::Stored(disk), image) => disk.replace(image),
            (NodeDisk::Batches(_), Image::Blocks(_) | Image::Files(_)) => {
                unreachable!("an image goes back to the disk that it was taken of")
            }
        }
        changes
    }

    /// Empties the disk, after the process has ended. Tells whether there was anything on it.
    pub(super) fn empty(&mut self) -> bool {
        let held = self.image();
        self.replace(held.emptied());
        !held.is_empty()
    }

    /// Changes bits of what is stored. Returns how many; a disk of batches has none.
    pub(super) fn rot(&mut self, fate: &mut Stream) -> u64 {
        match self {
            NodeDisk::Batches(_) => 0,
            NodeDisk::Stored(disk) => disk.rot(fate),
        }
    }

    /// What is wrong with the disk.
    pub(super) fn trouble(&self) -> Trouble {
        match self {
            NodeDisk::Batches(disk) => disk.trouble,
            NodeDisk::Stored(disk) => disk.trouble(),
        }
    }

    /// Changes what is wrong with the disk.
    pub(super) fn set_trouble(&mut self, trouble: Trouble) {
        match self {
            NodeDisk::Batches(disk) => disk.trouble = trouble,
            NodeDisk::Stored(disk) => disk.set_trouble(trouble),
        }
    }
}

impl BatchDisk {
    fn complete(&mut self) -> Result<(), String> {
        let Some(batch) = self.in_flight.take() else { return Ok(()) };
        if self.trouble.is_full {
            return Err("no space left".to_owned());
        }
        if core::mem::take(&mut self.trouble.fails_next_sync) {
            return Err("the sync failed".to_owned());
        }
        self.keep(&batch);
        Ok(())
    }

    fn keep(&mut self, batch: &WriteBatch) {
        apply(&mut self.durable, batch);
        batch.logs.iter().for_each(|change| self.records.apply(change));
    }

    fn cut(&mut self, fate: &mut Stream) -> Ended {
        let Some(batch) = self.in_flight.take() else { return Ended::Idle };
        let fails = self.trouble.is_full || self.trouble.fails_next_sync;
        if fails || fate.chance(1, 2) {
            return Ended::Lost { shows: true };
        }
        self.keep(&batch);
        Ended::Kept
    }
}
