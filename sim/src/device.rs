//! A simulated block device, under the real storage engine: behind, and with faults.
//!
//! redb runs on it unchanged. What it writes is visible to it at once, but becomes durable only with
//! time: the engine's work for one batch happens in an instant, and the device then takes as long as a
//! disk would until it reports the batch done. If the power goes before that, the device stops at a
//! random point of its work: what a sync before that point covered is there. What becomes of the rest
//! depends on the [`Cut`].
//!
//! The other faults: a sync that fails and drops its data, a disk that is full or cannot be read, a
//! write that goes to a wrong place, bits that change by themselves.

use core::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use redb::StorageBackend;
use rivven_cluster::driver::{Owner, RedbStorage, StorageError};
use rivven_cluster::rng::Stream;

use crate::lock::lock;

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
    /// How many processes have ended. One that has ended cannot reach the device any more.
    ended: u64,
    /// What a process reads.
    visible: Vec<u8>,
    /// What is there after a power loss.
    durable: Vec<u8>,
    /// What lies between the two, in order.
    pending: Vec<Command>,
    trouble: Trouble,
}

/// What is wrong with a device just now.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Trouble {
    /// The next sync fails, and what it should have kept is gone.
    pub fails_next_sync: bool,
    /// Nothing more can be written.
    pub is_full: bool,
    /// Nothing can be read.
    pub is_unreadable: bool,
    /// The next write goes so many blocks too far (modulo the device's size).
    pub misdirects_by: Option<u64>,
}

impl Trouble {
    /// What is wrong with either.
    #[must_use]
    pub fn or(self, other: Trouble) -> Trouble {
        Trouble {
            fails_next_sync: self.fails_next_sync || other.fails_next_sync,
            is_full: self.is_full || other.is_full,
            is_unreadable: self.is_unreadable || other.is_unreadable,
            misdirects_by: self.misdirects_by.or(other.misdirects_by),
        }
    }
}

/// How a process ends, and what of its unsynced writes stays.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cut {
    /// The process alone: the device has all that it was told, up to some point.
    Killed,
    /// The power: nothing that was not synced is there.
    Lost,
    /// The power: of each unsynced write any subset of blocks is there.
    Torn,
    /// The power: any subset of the unsynced writes is there.
    Reordered,
}

/// What was lost when a process ended.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Loss {
    /// How many written blocks.
    pub blocks: u64,
    /// Whether of the unsynced writes some blocks are there and some are not.
    pub is_mixed: bool,
}

impl Loss {
    /// Whether it shows what this way to end does.
    #[must_use]
    pub fn shows(self, cut: Cut) -> bool {
        match cut {
            Cut::Killed | Cut::Lost => self.blocks > 0,
            Cut::Torn | Cut::Reordered => self.is_mixed,
        }
    }
}

impl Device {
    /// Attaches the device to a new process.
    pub fn attach(&self) -> Device {
        let attachment = lock(&self.blocks).ended;
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

    /// What is wrong with the device just now; a fault that strikes once takes itself back.
    pub fn trouble(&self) -> Trouble {
        lock(&self.blocks).trouble
    }

    /// Changes what is wrong with the device.
    pub fn set_trouble(&self, trouble: Trouble) {
        lock(&self.blocks).trouble = trouble;
    }

    /// The process ends. Tells what was lost of what had been written.
    ///
    /// Call it before the process is ended: what a dying process writes on its way out does not exist.
    pub fn cut(&self, cut: Cut, fate: &mut Stream) -> Loss {
        let mut blocks = lock(&self.blocks);
        blocks.ended += 1;
        let pending = core::mem::take(&mut blocks.pending);
        let done = below(fate, pending.len() + 1);
        let is_sync = |command: &Command| matches!(command, Command::Sync);
        let synced = pending[..done].iter().rposition(is_sync).unwrap_or(0);
        for command in &pending[..synced] {
            apply(&mut blocks.durable, command);
        }
        let (mut lost, mut written) = (0, 0);
        for command in &pending[synced..done] {
            written += blocks_of(command);
            lost += match cut {
                Cut::Killed => keep(&mut blocks.durable, command, true),
                Cut::Lost => keep(&mut blocks.durable, command, false),
                Cut::Reordered => keep(&mut blocks.durable, command, fate.chance(1, 2)),
                Cut::Torn => tear(&mut blocks.durable, command, fate),
            };
        }
        let is_mixed = 0 < lost && lost < written;
        // The engine waits for each sync, so the device was never told the rest.
        lost += pending[done..].iter().map(blocks_of).sum::<u64>();
        blocks.visible = blocks.durable.clone();
        Loss { blocks: lost, is_mixed }
    }

    /// Makes the store of `owner` if the device is empty: beside it, and put in place at once, as the
    /// production store makes its file.
    ///
    /// # Errors
    ///
    /// What the store says.
    pub fn make(&self, place: &str, owner: &Owner) -> Result<(), StorageError> {
        if !lock(&self.blocks).visible.is_empty() {
            return Ok(());
        }
        let beside = Device::default();
        drop(RedbStorage::open_backend(beside.attach(), place, owner)?);
        beside.settle();
        self.replace(beside.image());
        Ok(())
    }

    /// What is durable.
    pub fn image(&self) -> Vec<u8> {
        lock(&self.blocks).durable.clone()
    }

    /// Puts another content in place of what is there; none empties the device.
    pub fn replace(&self, image: Vec<u8>) {
        let mut blocks = lock(&self.blocks);
        blocks.pending.clear();
        blocks.visible = image.clone();
        blocks.durable = image;
    }

    /// Changes a few bits of what is stored, for good. Returns how many.
    pub fn rot(&self, fate: &mut Stream) -> u64 {
        let mut blocks = lock(&self.blocks);
        if blocks.durable.is_empty() {
            return 0;
        }
        // Most of the file is empty; what is not is hit more often than what is.
        let used: Vec<usize> =
            (0..blocks.durable.len()).filter(|place| blocks.durable[*place] != 0).collect();
        let flips = fate.between(1, 9);
        for _ in 0..flips {
            let anywhere = below(fate, blocks.durable.len());
            let in_use = below(fate, used.len().max(1));
            let place = used.get(in_use).copied().filter(|_| fate.chance(3, 4)).unwrap_or(anywhere);
            let bit = 1 << fate.below(8);
            blocks.durable[place] ^= bit;
            if let Some(byte) = blocks.visible.get_mut(place) {
                *byte ^= bit;
            }
        }
        flips
    }

    fn reachable(&self) -> Result<MutexGuard<'_, Blocks>, io::Error> {
        let blocks = lock(&self.blocks);
        if blocks.ended == self.attachment {
            return Ok(blocks);
        }
        Err(io::Error::other("the process has ended"))
    }

    fn push(&self, command: Command) -> Result<(), io::Error> {
        let mut blocks = self.reachable()?;
        if blocks.trouble.is_full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        apply(&mut blocks.visible, &command);
        blocks.pending.push(command);
        Ok(())
    }
}

/// Applies an unsynced command whole or not at all. Returns how many blocks were lost.
fn keep(durable: &mut Vec<u8>, command: &Command, keeps: bool) -> u64 {
    if keeps {
        apply(durable, command);
        return 0;
    }
    blocks_of(command)
}

/// Applies any subset of the blocks of an unsynced command. Returns how many were lost.
fn tear(durable: &mut Vec<u8>, command: &Command, fate: &mut Stream) -> u64 {
    let Command::Write { offset, data } = command else {
        return keep(durable, command, fate.chance(1, 2));
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

impl Device {
    /// Where a write really goes: always inside the file, as a real misdirected write would.
    fn directed(&self, offset: usize, length: usize) -> usize {
        let mut blocks = lock(&self.blocks);
        let room = blocks.visible.len().saturating_sub(length) / BLOCK_BYTES;
        let Some(by) = blocks.trouble.misdirects_by.filter(|_| room > 0) else { return offset };
        blocks.trouble.misdirects_by = None;
        let by = usize::try_from(by).unwrap_or_default();
        (offset / BLOCK_BYTES + by) % room * BLOCK_BYTES
    }
}

impl StorageBackend for Device {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(u64::try_from(self.reachable()?.visible.len()).unwrap_or(u64::MAX))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let blocks = self.reachable()?;
        if blocks.trouble.is_unreadable {
            return Err(io::Error::other("the medium cannot be read"));
        }
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = blocks.visible.get(start..start + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> Result<(), io::Error> {
        self.push(Command::SetLength(usize::try_from(length).map_err(io::Error::other)?))
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        {
            let mut blocks = self.reachable()?;
            if core::mem::take(&mut blocks.trouble.fails_next_sync) {
                // What was not yet synced is still in the cache for whoever reads, and nowhere else.
                let synced = blocks.pending.iter().rposition(|command| matches!(command, Command::Sync));
                blocks.pending.truncate(synced.map_or(0, |place| place + 1));
                return Err(io::Error::other("the sync failed"));
            }
        }
        self.push(Command::Sync)
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let offset = self.directed(usize::try_from(offset).map_err(io::Error::other)?, data.len());
        self.push(Command::Write { offset, data: data.to_vec() })
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Device")
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
            device.cut(Cut::Torn, &mut Seed::new(seed).stream("power", 0));
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
            device.cut(Cut::Torn, &mut Seed::new(seed).stream("power", 0));
            assert!(StorageBackend::write(&device, 0, &[9]).is_err(), "a dead process writes nothing");
            let device = device.attach();
            let (first, second) = (read(&device, 0) == 1, read(&device, 1) == 2);
            assert!(first || !second, "the second block was written after a sync of the first");
        }
    }

    #[test]
    fn a_failed_sync_drops_what_it_should_have_kept_and_says_so_once() {
        let device = Device::default();
        write(&device, 0, 1);
        device.sync_data().unwrap();
        device.set_trouble(Trouble { fails_next_sync: true, ..Trouble::default() });
        write(&device, 1, 2);
        assert!(device.sync_data().is_err());
        assert!(device.sync_data().is_ok(), "the next one lies");
        device.settle();
        device.cut(Cut::Killed, &mut Seed::new(1).stream("kill", 0));
        let device = device.attach();
        assert_eq!((read(&device, 0), read(&device, 1)), (1, 0));
    }

    #[test]
    fn trouble_shows_itself_as_errors_or_in_the_bytes() {
        let device = Device::default();
        for block in 0..4 {
            write(&device, block, 1);
        }
        device.settle();
        device.set_trouble(Trouble { misdirects_by: Some(1), ..Trouble::default() });
        write(&device, 0, 9);
        assert_eq!((read(&device, 0), read(&device, 1)), (1, 9));
        device.set_trouble(Trouble { is_full: true, is_unreadable: true, ..Trouble::default() });
        assert!(StorageBackend::write(&device, 0, &[9]).is_err());
        assert!(device.read(0, &mut [0]).is_err());
        let before = device.image();
        assert!(device.rot(&mut Seed::new(1).stream("rot", 0)) > 0);
        assert_ne!(before, device.image());
    }
}
