//! The seam between the node's task and the disk.
//!
//! In production a thread owns the [`Storage`], because syncing blocks. A simulation writes inline and
//! completes later, on its own clock. The node has at most one batch in flight, so neither needs a
//! queue.

use core::future::Future;

use tokio::sync::mpsc;

use super::storage::{Storage, StorageError};
use crate::id::WriteId;
use crate::node::WriteBatch;

/// Takes batches and says when they are durable, in the same order.
pub trait Disk {
    /// Starts to write a batch.
    fn submit(&mut self, batch: WriteBatch);

    /// Waits until the batch in flight is done; for ever if there is none.
    ///
    /// Cancelling the wait loses nothing.
    fn completed(&mut self) -> impl Future<Output = (WriteId, Result<(), StorageError>)> + Send;

    /// Gives the files back. Called once, at the end; a write in flight is finished first.
    fn close(&mut self) -> impl Future<Output = ()> + Send {
        core::future::ready(())
    }
}

/// A [`Disk`] whose writes happen on a thread of their own, which ends when this is closed or dropped.
pub struct ThreadDisk {
    /// `None` once closed.
    batches: Option<mpsc::UnboundedSender<WriteBatch>>,
    results: mpsc::UnboundedReceiver<(WriteId, Result<(), StorageError>)>,
    in_flight: Option<WriteId>,
}

impl ThreadDisk {
    /// Moves `storage` to a new thread.
    ///
    /// # Errors
    ///
    /// If the operating system has no thread left.
    pub fn start(mut storage: impl Storage + 'static) -> std::io::Result<ThreadDisk> {
        let (batches, mut inbox) = mpsc::unbounded_channel::<WriteBatch>();
        let (outbox, results) = mpsc::unbounded_channel();
        std::thread::Builder::new().name("rivven storage".to_owned()).spawn(move || {
            while let Some(batch) = inbox.blocking_recv() {
                let result = storage.write(&batch);
                if outbox.send((batch.id, result)).is_err() {
                    return;
                }
            }
            // In this order: whoever sees the outbox close may open the store again.
            drop(storage);
            drop(outbox);
        })?;
        Ok(ThreadDisk { batches: Some(batches), results, in_flight: None })
    }
}

impl Disk for ThreadDisk {
    fn submit(&mut self, batch: WriteBatch) {
        self.in_flight = Some(batch.id);
        // If the thread is gone, `completed` says so.
        if let Some(batches) = &self.batches {
            let _ = batches.send(batch);
        }
    }

    async fn completed(&mut self) -> (WriteId, Result<(), StorageError>) {
        let Some(id) = self.in_flight else { return core::future::pending().await };
        let result = self.results.recv().await.unwrap_or_else(|| {
            let (place, reason) = ("the storage thread".to_owned(), "it has panicked".to_owned());
            (id, Err(StorageError::Failed { place, reason }))
        });
        self.in_flight = None;
        result
    }

    async fn close(&mut self) {
        self.batches = None;
        while self.results.recv().await.is_some() {}
    }
}
