//! A folder of files on a simulated disk: for stores that keep plain files.
//!
//! What was written and not synced may be lost, kept or torn, sector by sector; a new name, a rename or a
//! removal may be lost until the folder is synced, and then all later ones are lost with it. The last is
//! how journalling file systems behave; a store that relies on more is wrong on all of them.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use rivven_cluster::driver::{FileBytes, Folder};
use rivven_cluster::rng::Stream;

use crate::device::{Cut, Loss, Trouble};
use crate::lock::lock;

/// What a disk writes as one.
const SECTOR_BYTES: usize = 512;

/// The folder of one node. It outlives the node's processes; each attaches anew.
#[derive(Clone, Default)]
pub struct SimFolder {
    disk: Arc<Mutex<Disk>>,
    attachment: u64,
}

#[derive(Clone, Default)]
struct Disk {
    /// How many processes have ended.
    ended: u64,
    /// What a process sees.
    visible: Image,
    /// What was there when everything was last durable.
    durable: Image,
    /// What was done since.
    journal: Vec<Change>,
    next_file: u64,
    trouble: Trouble,
}

/// The files of a folder.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Image {
    names: BTreeMap<String, u64>,
    files: BTreeMap<u64, Vec<u8>>,
}

#[derive(Clone, Debug)]
enum Change {
    Name(String, u64),
    Rename(String, String),
    Remove(String),
    SyncNames,
    Write(u64, usize, Vec<u8>),
    SyncFile(u64),
}

/// An open file.
pub struct SimFile {
    folder: SimFolder,
    file: u64,
}

impl SimFolder {
    /// Attaches the folder to a new process.
    pub fn attach(&self) -> SimFolder {
        let attachment = lock(&self.disk).ended;
        SimFolder { disk: Arc::clone(&self.disk), attachment }
    }

    /// What was synced so far is durable now; what was not is still to be lost.
    pub fn settle(&self) {
        let mut disk = lock(&self.disk);
        let journal = core::mem::take(&mut disk.journal);
        disk.journal = disk.durable.take_synced(journal);
    }

    /// How many changes are not durable yet.
    pub fn pending(&self) -> usize {
        lock(&self.disk).journal.len()
    }

    /// The process ends after some of the pending changes. Tells what was lost of what it had done.
    ///
    /// Call it before the process is ended: what a dying process writes on its way out does not exist.
    pub fn cut(&self, cut: Cut, fate: &mut Stream) -> Loss {
        let after = below(fate, self.pending() + 1);
        self.cut_after(after, cut, fate)
    }

    /// The process ends after exactly so many of the pending changes.
    pub fn cut_after(&self, after: usize, cut: Cut, fate: &mut Stream) -> Loss {
        let mut disk = lock(&self.disk);
        disk.ended += 1;
        let journal = core::mem::take(&mut disk.journal);
        let (done, never) = journal.split_at(after.min(journal.len()));
        let (image, mut loss) = core::mem::take(&mut disk.durable).after(done, cut, fate);
        loss.blocks += u64::try_from(never.len()).unwrap_or(u64::MAX);
        (disk.visible, disk.durable) = (image.clone(), image);
        loss
    }

    /// What is durable.
    pub fn image(&self) -> Image {
        lock(&self.disk).durable.clone()
    }

    /// A new disk with this content.
    pub fn of(image: Image) -> SimFolder {
        let next_file = image.files.keys().max().map_or(0, |file| file + 1);
        let disk = Disk { visible: image.clone(), durable: image, next_file, ..Disk::default() };
        SimFolder { disk: Arc::new(Mutex::new(disk)), attachment: 0 }
    }

    /// Puts another content in place of what is there.
    pub fn replace(&self, image: Image) {
        let mut disk = lock(&self.disk);
        disk.next_file = disk.next_file.max(image.files.keys().max().map_or(0, |file| file + 1));
        disk.journal.clear();
        (disk.visible, disk.durable) = (image.clone(), image);
    }

    /// What is wrong with the disk just now; a fault that strikes once takes itself back.
    pub fn trouble(&self) -> Trouble {
        lock(&self.disk).trouble
    }

    /// Changes what is wrong with the disk.
    pub fn set_trouble(&self, trouble: Trouble) {
        lock(&self.disk).trouble = trouble;
    }

    /// Changes some bits of what is stored, for good. Returns how many.
    pub fn rot(&self, fate: &mut Stream) -> u64 {
        let mut disk = lock(&self.disk);
        let files: Vec<u64> = disk.durable.names.values().copied().collect();
        let flips = fate.between(1, 5);
        for _ in 0..flips {
            let Some(file) = files.get(below(fate, files.len().max(1))) else { return 0 };
            let Some(bytes) = disk.durable.files.get_mut(file).filter(|bytes| !bytes.is_empty()) else {
                continue;
            };
            // Where something was written is hit more often than where nothing was.
            let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
            let end = if fate.chance(3, 4) { used } else { bytes.len() };
            let place = below(fate, end);
            bytes[place] ^= 1 << fate.below(8);
        }
        disk.visible = disk.durable.clone();
        flips
    }

    fn reachable(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let disk = lock(&self.disk);
        if disk.ended == self.attachment { Ok(disk) } else { Err(io::Error::other("the process has ended")) }
    }

    fn readable(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let disk = self.reachable()?;
        if disk.trouble.is_unreadable { Err(io::Error::other("the disk cannot be read")) } else { Ok(disk) }
    }

    fn change(&self, mut change: Change) -> io::Result<()> {
        let mut disk = self.reachable()?;
        let is_sync = matches!(change, Change::SyncNames | Change::SyncFile(_));
        if disk.trouble.is_full && !is_sync {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if let (Change::Write(file, offset, _), Some(by)) = (&mut change, disk.trouble.misdirects_by) {
            let length = disk.visible.files.get(file).map_or(0, Vec::len);
            let by = usize::try_from(by).unwrap_or_default() * SECTOR_BYTES;
            *offset = (*offset + by).checked_rem(length).unwrap_or_default();
            disk.trouble.misdirects_by = None;
        }
        disk.visible.apply(&change);
        disk.journal.push(change);
        Ok(())
    }
}

impl Change {
    fn is_of_names(&self) -> bool {
        matches!(self, Change::Name(..) | Change::Rename(..) | Change::Remove(_))
    }
}

impl Image {
    /// Whether there are no files.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Name(name, file) => {
                self.names.insert(name.clone(), *file);
                self.files.entry(*file).or_default();
            }
            Change::Rename(from, to) => {
                if let Some(file) = self.names.remove(from) {
                    self.names.insert(to.clone(), file);
                }
            }
            Change::Remove(name) => {
                self.names.remove(name);
            }
            Change::Write(file, offset, bytes) => {
                let content = self.files.entry(*file).or_default();
                if content.len() < offset + bytes.len() {
                    content.resize(offset + bytes.len(), 0);
                }
                content[*offset..offset + bytes.len()].copy_from_slice(bytes);
            }
            Change::SyncNames | Change::SyncFile(_) => {}
        }
    }

    /// Does what was synced, and returns what was not.
    fn take_synced(&mut self, journal: Vec<Change>) -> Vec<Change> {
        let mut rest: Vec<Change> = Vec::new();
        for change in journal {
            let is_synced = |pending: &Change| match (&change, pending) {
                (Change::SyncNames, pending) => pending.is_of_names(),
                (Change::SyncFile(synced), Change::Write(file, ..)) => file == synced,
                (_, _) => false,
            };
            let synced: Vec<Change> = rest.extract_if(.., |pending| is_synced(pending)).collect();
            synced.iter().for_each(|change| self.apply(change));
            if !matches!(change, Change::SyncNames | Change::SyncFile(_)) {
                rest.push(change);
            }
        }
        rest
    }

    /// What is there after a process ended behind these changes, and what of them was lost.
    fn after(mut self, journal: &[Change], cut: Cut, fate: &mut Stream) -> (Image, Loss) {
        let rest = self.take_synced(journal.to_vec());
        let (names, writes): (Vec<Change>, Vec<Change>) = rest.into_iter().partition(Change::is_of_names);
        let kept = match cut {
            Cut::Killed => names.len(),
            Cut::Lost => 0,
            Cut::Torn | Cut::Reordered => below(fate, names.len() + 1),
        };
        names[..kept].iter().for_each(|change| self.apply(change));
        let (mut lost, mut written) = (0, 0);
        for write in writes {
            let Change::Write(file, offset, bytes) = &write else { continue };
            let whole = fate.chance(1, 2);
            for (number, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                written += 1;
                let stays = match cut {
                    Cut::Killed => true,
                    Cut::Lost => false,
                    Cut::Reordered => whole,
                    Cut::Torn => fate.chance(1, 2),
                };
                if stays {
                    self.apply(&Change::Write(*file, offset + number * SECTOR_BYTES, sector.to_vec()));
                } else {
                    lost += 1;
                }
            }
        }
        let named: Vec<u64> = self.names.values().copied().collect();
        self.files.retain(|file, _| named.contains(file));
        (self, Loss { blocks: lost, is_mixed: 0 < lost && lost < written })
    }
}

impl Folder for SimFolder {
    type File = SimFile;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.readable()?.visible.names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<SimFile> {
        let file = self.readable()?.visible.names.get(name).copied();
        let file = file.ok_or(io::ErrorKind::NotFound)?;
        Ok(SimFile { folder: self.clone(), file })
    }

    fn create(&self, name: &str) -> io::Result<SimFile> {
        let file = {
            let mut disk = self.reachable()?;
            disk.next_file += 1;
            disk.next_file
        };
        self.change(Change::Name(name.to_owned(), file))?;
        Ok(SimFile { folder: self.clone(), file })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(Change::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change(Change::Remove(name.to_owned()))
    }

    fn sync(&self) -> io::Result<()> {
        self.change(Change::SyncNames)
    }

    fn place(&self) -> String {
        "the simulated folder".to_owned()
    }

    fn share(&self) -> SimFolder {
        self.clone()
    }
}

impl FileBytes for SimFile {
    fn length(&self) -> io::Result<u64> {
        let disk = self.folder.reachable()?;
        let length = disk.visible.files.get(&self.file).map_or(0, Vec::len);
        Ok(u64::try_from(length).unwrap_or(u64::MAX))
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let disk = self.folder.readable()?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let content = disk.visible.files.get(&self.file).map(Vec::as_slice).unwrap_or_default();
        let bytes = content.get(from..).and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        self.folder.change(Change::Write(self.file, offset, bytes.to_vec()))
    }

    fn sync(&mut self) -> io::Result<()> {
        if core::mem::take(&mut self.folder.reachable()?.trouble.fails_next_sync) {
            return Err(io::Error::other("the sync failed"));
        }
        self.folder.change(Change::SyncFile(self.file))
    }
}

fn below(fate: &mut Stream, bound: usize) -> usize {
    let bound = u64::try_from(bound).unwrap_or(u64::MAX);
    usize::try_from(fate.below(bound)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rivven_cluster::rng::Seed;

    #[test]
    fn what_was_synced_stays_and_what_was_not_may_go() {
        let mut outcomes = std::collections::BTreeSet::new();
        for number in 0..40 {
            let folder = SimFolder::default().attach();
            let mut file = folder.create("kept").unwrap();
            file.write(0, b"synced").unwrap();
            file.sync().unwrap();
            folder.sync().unwrap();
            file.write(0, b"newer!").unwrap();
            folder.create("new").unwrap();
            let mut fate = Seed::new(number).stream("fate", 0);
            folder.cut_after(folder.pending(), Cut::Torn, &mut fate);
            assert!(file.write(0, b"late").is_err(), "the process has ended");
            let after = folder.attach();
            let mut content = [0; 6];
            after.open("kept").unwrap().read(0, &mut content).unwrap();
            outcomes.insert((content, after.open("new").is_ok()));
        }
        let contents: Vec<_> = outcomes.iter().map(|(content, _)| content).collect();
        assert!(contents.iter().all(|content| [b"synced", b"newer!"].contains(content)));
        assert_eq!(outcomes.len(), 4, "everything that may happen does");
    }
}
