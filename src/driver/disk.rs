//! The seam between the node's task and the disk.
//!
//! In production a thread owns the [`Storage`], because syncing blocks. A simulation writes inline and
//! completes later, on its own clock. The node has at most one batch in flight, so neither needs a
//! queue.

use core::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::storage::{SnapshotSaver, Storage, StorageError};
use crate::id::{ReadId, WriteId};
use crate::node::WriteBatch;
use crate::partition::log::Read;
use crate::partition::replica::io::Batch;
use crate::raft::Snapshot;
use crate::state_machine::Frozen;

/// Something that a disk has done.
#[derive(Debug)]
pub enum Completion {
    /// A batch was written, or not.
    Written(WriteId, Result<(), StorageError>),
    /// Batches of a partition's log were read, or not.
    Read(ReadId, Result<Vec<Batch>, StorageError>),
    /// A snapshot was saved, or not.
    Saved(Result<(), StorageError>),
    /// A state was written down.
    Built(Bytes),
}

/// Takes batches and says when they are durable, in the same order. Beside them it takes snapshots, one at
/// a time, and the work of writing a state down.
pub trait Disk {
    /// Starts to write a batch.
    fn submit(&mut self, batch: WriteBatch);

    /// Starts to read batches of a partition's log, behind the writes that were begun before.
    fn read(&mut self, id: ReadId, read: Read);

    /// Starts to save a snapshot.
    fn save(&mut self, snapshot: Snapshot);

    /// Starts to write a state down, beside everything else.
    fn build(&mut self, job: Frozen);

    /// Waits until something is done; for ever if nothing is under way.
    ///
    /// Cancelling the wait loses nothing.
    fn completed(&mut self) -> impl Future<Output = Completion> + Send;

    /// Gives the files back. Called once, at the end; a write in flight is finished first.
    fn close(&mut self) -> impl Future<Output = ()> + Send {
        core::future::ready(())
    }
}

/// What a storage thread is told to do.
enum Order {
    Write(WriteBatch),
    Read(ReadId, Read),
    Save(Snapshot),
}

/// A [`Disk`] whose writes happen on a thread of their own, which ends when this is closed or dropped.
/// States are written down on another.
pub struct ThreadDisk {
    /// `None` once closed.
    orders: Option<mpsc::UnboundedSender<Order>>,
    /// To the thread that saves snapshots, if that is another one.
    saves: Option<mpsc::UnboundedSender<Snapshot>>,
    /// Ends with that thread.
    saver_gone: Option<oneshot::Receiver<()>>,
    outbox: mpsc::UnboundedSender<Completion>,
    results: mpsc::UnboundedReceiver<Completion>,
    /// Ends with the storage thread.
    gone: oneshot::Receiver<()>,
    is_gone: bool,
    in_flight: Option<WriteId>,
}

impl ThreadDisk {
    /// Moves `storage` to a new thread.
    ///
    /// # Errors
    ///
    /// If the operating system has no thread left.
    pub fn start(mut storage: impl Storage + 'static) -> std::io::Result<ThreadDisk> {
        let (orders, mut inbox) = mpsc::unbounded_channel::<Order>();
        let (outbox, results) = mpsc::unbounded_channel();
        let (alive, gone) = oneshot::channel::<()>();
        let outbox_of_thread = outbox.clone();
        let saver = storage.detach_saver().map(|saver| start_saver(saver, outbox.clone())).transpose()?;
        let (saves, saver_gone) = saver.unzip();
        std::thread::Builder::new().name("rivven storage".to_owned()).spawn(move || {
            while let Some(order) = inbox.blocking_recv() {
                let completion = match order {
                    Order::Write(batch) => Completion::Written(batch.id, storage.write(&batch)),
                    Order::Read(id, read) => Completion::Read(id, storage.read(&read)),
                    Order::Save(snapshot) => Completion::Saved(storage.save(&snapshot)),
                };
                if outbox_of_thread.send(completion).is_err() {
                    return;
                }
            }
            // In this order: whoever learns that the thread is gone may open the store again.
            drop(storage);
            drop(alive);
        })?;
        Ok(ThreadDisk {
            orders: Some(orders),
            saves,
            saver_gone,
            outbox,
            results,
            gone,
            is_gone: false,
            in_flight: None,
        })
    }

    fn order(&self, order: Order) {
        // If the thread is gone, `completed` says so.
        if let Some(orders) = &self.orders {
            let _ = orders.send(order);
        }
    }
}

/// Starts the thread that saves snapshots; it ends when nobody can send it one.
fn start_saver(
    mut saver: Box<dyn SnapshotSaver>,
    outbox: mpsc::UnboundedSender<Completion>,
) -> std::io::Result<(mpsc::UnboundedSender<Snapshot>, oneshot::Receiver<()>)> {
    let (saves, mut inbox) = mpsc::unbounded_channel::<Snapshot>();
    let (alive, gone) = oneshot::channel::<()>();
    std::thread::Builder::new().name("rivven snapshots".to_owned()).spawn(move || {
        while let Some(snapshot) = inbox.blocking_recv() {
            let saved = catch_unwind(AssertUnwindSafe(|| saver.save(&snapshot)));
            let done = saved.map_or_else(|_| lost("saving a snapshot has panicked"), Completion::Saved);
            if outbox.send(done).is_err() {
                break;
            }
        }
        drop(saver);
        drop(alive);
    })?;
    Ok((saves, gone))
}

/// A snapshot that will never be there: the node must not wait for it.
fn lost(reason: &str) -> Completion {
    let (place, reason) = ("the snapshot thread".to_owned(), reason.to_owned());
    Completion::Saved(Err(StorageError::Failed { place, reason }))
}

impl Disk for ThreadDisk {
    fn submit(&mut self, batch: WriteBatch) {
        self.in_flight = Some(batch.id);
        self.order(Order::Write(batch));
    }

    fn read(&mut self, id: ReadId, read: Read) {
        self.order(Order::Read(id, read));
    }

    fn save(&mut self, snapshot: Snapshot) {
        match &self.saves {
            Some(saves) => {
                if saves.send(snapshot).is_err() {
                    let _ = self.outbox.send(lost("the thread that saves snapshots is gone"));
                }
            }
            None => self.order(Order::Save(snapshot)),
        }
    }

    fn build(&mut self, job: Frozen) {
        let outbox = self.outbox.clone();
        let write = move || {
            let built = catch_unwind(AssertUnwindSafe(|| job.write()));
            let _ = outbox
                .send(built.map_or_else(|_| lost("building a snapshot has panicked"), Completion::Built));
        };
        if let Err(error) = std::thread::Builder::new().name("rivven snapshot".to_owned()).spawn(write) {
            let _ = self.outbox.send(lost(&format!("there is no thread to build a snapshot on: {error}")));
        }
    }

    async fn completed(&mut self) -> Completion {
        let done = tokio::select! {
            biased;
            done = self.results.recv() => done,
            _ = &mut self.gone, if self.in_flight.is_some() && !self.is_gone => None,
        };
        let completion = match (done, self.in_flight) {
            (Some(completion), _) => completion,
            (None, None) => return core::future::pending().await,
            (None, Some(id)) => {
                self.is_gone = true;
                let (place, reason) = ("the storage thread".to_owned(), "it has panicked".to_owned());
                Completion::Written(id, Err(StorageError::Failed { place, reason }))
            }
        };
        if matches!(completion, Completion::Written(..)) {
            self.in_flight = None;
        }
        completion
    }

    async fn close(&mut self) {
        (self.orders, self.saves) = (None, None);
        if !self.is_gone {
            let _ = (&mut self.gone).await;
            self.is_gone = true;
        }
        if let Some(gone) = self.saver_gone.take() {
            let _ = gone.await;
        }
    }
}
