//! The production driver's disk on a simulated host: redb works inline, the device completes later.

use core::time::Duration;
use std::sync::{Arc, Mutex};

use rivven_cluster::driver::{Disk, RedbStorage, Storage, StorageError};
use rivven_cluster::id::WriteId;
use rivven_cluster::node::WriteBatch;
use rivven_cluster::rng::Stream;
use tokio::time::{Instant, sleep_until};

use super::plan::Strikes;
use crate::checkers::Checkers;
use crate::device::Device;
use crate::faults::FaultKind;
use crate::lock::lock;
use crate::shape::Shape;

/// The disk of one process.
pub(super) struct SimDisk {
    pub(super) node: u64,
    pub(super) storage: RedbStorage,
    pub(super) device: Device,
    pub(super) latency: Stream,
    pub(super) shape: Shape,
    pub(super) strikes: Arc<Mutex<Strikes>>,
    pub(super) checkers: Arc<Mutex<Checkers>>,
    pub(super) in_flight: Option<(WriteId, Instant, Result<(), StorageError>)>,
}

impl SimDisk {
    fn draw_latency(&mut self) -> Duration {
        let (least, most) = self.shape.write_micros;
        let mut micros = self.latency.between(least, most);
        if self.latency.chance(1, self.shape.slow_write_in) {
            micros += self.latency.below(self.shape.slow_write * 1000);
        }
        if let Some(most) = lock(&self.strikes).slow(self.node) {
            micros += self.latency.below(most * 1000);
        }
        Duration::from_micros(micros)
    }
}

impl Disk for SimDisk {
    fn submit(&mut self, batch: WriteBatch) {
        let was_aiming = self.device.trouble().misdirects_by.is_some();
        let result = self.storage.write(&batch);
        if was_aiming && self.device.trouble().misdirects_by.is_none() {
            lock(&self.strikes).strike(self.node, FaultKind::Misdirection);
            lock(&self.checkers).suspect(self.node);
        }
        let due = Instant::now() + self.draw_latency();
        self.in_flight = Some((batch.id, due, result));
    }

    async fn completed(&mut self) -> (WriteId, Result<(), StorageError>) {
        let Some((_, due, _)) = &self.in_flight else { return core::future::pending().await };
        sleep_until(*due).await;
        self.device.settle();
        let (id, _, result) = self.in_flight.take().expect("checked above");
        (id, result)
    }
}
