//! The production driver's disk on a simulated host: redb works inline, the device completes later.

use core::time::Duration;
use std::sync::{Arc, Mutex};

use rivven_cluster::driver::{Completion, Disk, RedbStorage, Storage};
use rivven_cluster::id::ReadId;
use rivven_cluster::node::WriteBatch;
use rivven_cluster::partition::log::Read;
use rivven_cluster::raft::Snapshot;
use rivven_cluster::rng::Stream;
use rivven_cluster::state_machine::Frozen;
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
    /// What is under way, and when it will be done.
    pub(super) under_way: Vec<(Instant, Completion)>,
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

impl SimDisk {
    fn work<T>(&mut self, work: impl FnOnce(&mut RedbStorage) -> T) -> T {
        let was_aiming = self.device.trouble().misdirects_by.is_some();
        let result = work(&mut self.storage);
        if was_aiming && self.device.trouble().misdirects_by.is_none() {
            lock(&self.strikes).strike(self.node, FaultKind::Misdirection);
            lock(&self.checkers).suspect(self.node);
        }
        result
    }

    fn finish_later(&mut self, completion: Completion) {
        let due = Instant::now() + self.draw_latency();
        self.under_way.push((due, completion));
    }
}

impl Disk for SimDisk {
    fn submit(&mut self, batch: WriteBatch) {
        let result = self.work(|storage| storage.write(&batch));
        self.finish_later(Completion::Written(batch.id, result));
    }

    fn read(&mut self, id: ReadId, read: Read) {
        let result = self.work(|storage| storage.read(&read));
        self.finish_later(Completion::Read(id, result));
    }

    fn save(&mut self, snapshot: Snapshot) {
        let result = self.work(|storage| storage.save(&snapshot));
        self.finish_later(Completion::Saved(result));
    }

    fn build(&mut self, job: Frozen) {
        self.finish_later(Completion::Built(job.write()));
    }

    async fn completed(&mut self) -> Completion {
        let next = (0..self.under_way.len()).min_by_key(|place| self.under_way[*place].0);
        let Some(place) = next else { return core::future::pending().await };
        sleep_until(self.under_way[place].0).await;
        self.device.settle();
        self.under_way.remove(place).1
    }
}
