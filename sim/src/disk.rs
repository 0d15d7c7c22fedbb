//! The simulated disk: a block device that is behind, under the real storage engine.
//!
//! redb runs on it unchanged. What it writes is visible to it at once, but becomes durable only with
//! time: the engine's work for one batch happens in an instant, and the device then takes as long as a
//! disk would until it reports the batch done. If the power goes before that, the device stops at a
//! random point of its work: what a sync before that point covered is there, and of what came after
//! the last sync any subset of blocks is.

use core::fmt;
use core::time::Duration;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;
use rivven_cluster::driver::{Disk, RedbStorage, Storage, StorageError};
use rivven_cluster::id::WriteId;
use rivven_cluster::node::WriteBatch;
use rivven_cluster::rng::Stream;
use tokio::time::{Instant, sleep_until};

use crate::net::lock;

/// What the device writes as one.
const BLOCK_BYTES: usize = 4096;

/// One command to the device.
#[derive(Clone, Debug)]
enum Command {
    Write { offset: usize, data: Vec<u8> },
    SetLength(usize),
    Sync,
}

/// The device of one node. It outlives the node's processes; each of them attaches anew.
#[derive(Clone, Default)]
pub struct Device {
    blocks: Arc<Mutex<Blocks>>,
    /// Which process holds this end.
    attachment: u64,
}

#[derive(Default)]
struct Blocks {
    /// How often the power went. A process from before then cannot reach the device any more.
    power_losses: u64,
    /// What a process reads.
    visible: Vec<u8>,
    /// What is there after a power loss.
    durable: Vec<u8>,
    /// What lies between the two, in order.
    pending: Vec<Command>,
}

impl Device {
    /// Attaches the device to a new process.
    pub fn attach(&self) -> Device {
        let attachment = lock(&self.blocks).power_losses;
        Device { blocks: Arc::clone(&self.blocks), attachment }
    }

    /// Everything that was written so far is durable now.
    pub fn settle(&self) {
        let mut blocks = lock(&self.blocks);
        for command in core::mem::take(&mut blocks.pending) {
            apply(&mut blocks.durable, &command);
        }
    }

    /// Tells whether something was written that is not durable yet.
    pub fn is_busy(&self) -> bool {
        !lock(&self.blocks).pending.is_empty()
    }

    /// The power goes. Returns how many blocks were lost that had been written.
    ///
    /// Call it before the process is ended: what a dying process writes on its way out does not exist.
    pub fn lose_power(&self, fate: &mut Stream) -> u64 {
        let mut blocks = lock(&self.blocks);
        blocks.power_losses += 1;
        let pending = core::mem::take(&mut blocks.pending);
        let done = below(fate, pending.len() + 1);
        let synced =
            pending[..done].iter().rposition(|command| matches!(command, Command::Sync)).unwrap_or(0);
        for command in &pending[..synced] {
            apply(&mut blocks.durable, command);
        }
        let mut lost = 0;
        for command in &pending[synced..done] {
            lost += tear(&mut blocks.durable, command, fate);
        }
        // The engine waits for each sync, so the device was never told the rest.
        lost += pending[done..].iter().map(blocks_of).sum::<u64>();
        blocks.visible = blocks.durable.clone();
        lost
    }

    fn powered(&self) -> Result<MutexGuard<'_, Blocks>, io::Error> {
        let blocks = lock(&self.blocks);
        if blocks.power_losses == self.attachment {
            return Ok(blocks);
        }
        Err(io::Error::other("the power is off"))
    }

    fn push(&self, command: Command) -> Result<(), io::Error> {
        let mut blocks = self.powered()?;
        apply(&mut blocks.visible, &command);
        blocks.pending.push(command);
        Ok(())
    }
}

/// Applies any subset of the blocks of an unsynced command. Returns how many were lost.
fn tear(durable: &mut Vec<u8>, command: &Command, fate: &mut Stream) -> u64 {
    let Command::Write { offset, data } = command else {
        if fate.chance(1, 2) {
            apply(durable, command);
        }
        return 0;
    };
    let mut lost = 0;
    for (number, block) in data.chunks(BLOCK_BYTES).enumerate() {
        if fate.chance(1, 2) {
            let offset = offset + number * BLOCK_BYTES;
            apply(durable, &Command::Write { offset, data: block.to_vec() });
        } else {
            lost += 1;
        }
    }
    lost
}

fn blocks_of(command: &Command) -> u64 {
    match command {
        Command::Write { data, .. } => u64::try_from(data.len().div_ceil(BLOCK_BYTES)).unwrap_or(u64::MAX),
        Command::SetLength(_) | Command::Sync => 0,
    }
}

fn apply(bytes: &mut Vec<u8>, command: &Command) {
    match command {
        Command::Write { offset, data } => {
            let end = offset + data.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*offset..end].copy_from_slice(data);
        }
        Command::SetLength(length) => bytes.resize(*length, 0),
        Command::Sync => {}
    }
}

fn below(stream: &mut Stream, bound: usize) -> usize {
    let bound = u64::try_from(bound).unwrap_or(u64::MAX);
    usize::try_from(stream.below(bound)).unwrap_or_default()
}

impl StorageBackend for Device {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(u64::try_from(self.powered()?.visible.len()).unwrap_or(u64::MAX))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let blocks = self.powered()?;
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = blocks.visible.get(start..start + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> Result<(), io::Error> {
        self.push(Command::SetLength(usize::try_from(length).map_err(io::Error::other)?))
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.push(Command::Sync)
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        self.push(Command::Write { offset, data: data.to_vec() })
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Device")
    }
}

/// The [`Disk`] of a simulated node: the engine works inline, the device completes later.
pub struct SimDisk {
    storage: RedbStorage,
    device: Device,
    latency: Stream,
    /// One write in so many is slow.
    slow_in: u64,
    in_flight: Option<(WriteId, Instant, Result<(), StorageError>)>,
}

impl SimDisk {
    /// Brings the parts together; `latency` draws how long each write takes, and how often a write of
    /// this process is slow.
    pub fn new(storage: RedbStorage, device: Device, mut latency: Stream) -> SimDisk {
        let slow_in = latency.between(2, 20);
        SimDisk { storage, device, latency, slow_in, in_flight: None }
    }

    /// A write takes 1 to 4 ms, a slow one up to 400: longer than an election.
    fn draw_latency(&mut self) -> Duration {
        let is_slow = self.latency.chance(1, self.slow_in);
        Duration::from_millis(self.latency.between(1, if is_slow { 401 } else { 5 }))
    }
}

impl Disk for SimDisk {
    fn submit(&mut self, batch: WriteBatch) {
        let result = self.storage.write(&batch);
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

#[cfg(test)]
mod tests {
    use super::*;
    use rivven_cluster::rng::Seed;

    fn write(device: &Device, block: u64, fill: u8) {
        StorageBackend::write(device, block * 4096, &[fill; BLOCK_BYTES]).unwrap();
    }

    fn read(device: &Device, block: u64) -> u8 {
        let mut out = [0; BLOCK_BYTES];
        device.read(block * 4096, &mut out).map_or(0, |()| out[0])
    }

    #[test]
    fn what_is_settled_survives_a_power_loss_and_what_is_not_may_be_lost() {
        let (mut lost, mut kept) = (0, 0);
        for seed in 0..100 {
            let device = Device::default();
            write(&device, 0, 1);
            device.sync_data().unwrap();
            device.settle();
            write(&device, 1, 2);
            assert_eq!(read(&device, 1), 2, "a process sees what it wrote");
            device.lose_power(&mut Seed::new(seed).stream("power", 0));
            assert!(StorageBackend::write(&device, 0, &[9]).is_err(), "a dead process writes nothing");
            let device = device.attach();
            assert_eq!(read(&device, 0), 1);
            if read(&device, 1) == 2 { kept += 1 } else { lost += 1 }
        }
        assert!(lost > 20 && kept > 20, "lost {lost}, kept {kept}");
    }

    #[test]
    fn a_sync_that_the_device_has_reached_protects_what_came_before_it() {
        for seed in 0..100 {
            let device = Device::default();
            write(&device, 0, 1);
            device.sync_data().unwrap();
            write(&device, 1, 2);
            device.sync_data().unwrap();
            device.lose_power(&mut Seed::new(seed).stream("power", 0));
            assert!(StorageBackend::write(&device, 0, &[9]).is_err(), "a dead process writes nothing");
            let device = device.attach();
            let (first, second) = (read(&device, 0) == 1, read(&device, 1) == 2);
            assert!(first || !second, "the second block was written after a sync of the first");
        }
    }
}
