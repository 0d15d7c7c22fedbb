//! The seam below the segment log: a folder of files, as little of it as the log needs.
//!
//! In production it is a folder of the operating system. A simulation gives one of its own, in which what
//! was not synced may be lost, torn or kept, file by file and name by name.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::storage::StorageError;

/// A folder. What is done to names is durable when [`Folder::sync`] returns, what is done to a file when
/// [`Bytes::sync`] returns.
///
/// Every method fails with what the system says.
pub trait Folder: Send + 'static {
    /// An open file.
    type File: Bytes;

    /// Names all files.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens a file that exists.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Makes an empty file, in place of one of that name.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Moves a file to another name, in place of one that has it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes all changes of names durable.
    fn sync(&self) -> io::Result<()>;

    /// Says where it is, for errors.
    fn place(&self) -> String;

    /// The same folder, for another thread.
    fn share(&self) -> Self
    where
        Self: Sized;
}

/// An open file.
pub trait Bytes: Send + 'static {
    /// Its length in bytes.
    fn length(&self) -> io::Result<u64>;

    /// Reads all of `buffer`, from `offset` on.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes`, from `offset` on.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes what was written durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// The file that is locked by whoever uses a folder.
const LOCK: &str = "lock";

/// A folder of the operating system, which no other process uses.
#[derive(Clone, Debug)]
#[expect(clippy::disallowed_types, reason = "the file is locked as long as anybody holds it")]
pub struct SystemFolder {
    path: PathBuf,
    _lock: Arc<fs::File>,
}

impl SystemFolder {
    /// Claims a folder, and makes it if it does not exist.
    ///
    /// # Errors
    ///
    /// [`StorageError::InUse`] if another process has it, [`StorageError::Open`] with what the system says.
    #[expect(
        clippy::disallowed_methods,
        clippy::disallowed_types,
        reason = "this is the folder of the system"
    )]
    pub fn claim(path: &Path) -> Result<SystemFolder, StorageError> {
        let place = || path.display().to_string();
        let opened = fs::create_dir_all(path).and_then(|()| {
            fs::File::options().write(true).create(true).truncate(false).open(path.join(LOCK))
        });
        let failed = |error: io::Error| StorageError::Open { place: place(), reason: error.to_string() };
        let file = opened.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(SystemFolder { path: path.to_owned(), _lock: Arc::new(file) }),
            Err(fs::TryLockError::WouldBlock) => Err(StorageError::InUse { place: place() }),
            Err(fs::TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}

#[expect(clippy::disallowed_types, reason = "this is the folder of the system")]
impl Folder for SystemFolder {
    type File = fs::File;

    fn list(&self) -> io::Result<Vec<String>> {
        let names =
            fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    }

    fn open(&self, name: &str) -> io::Result<fs::File> {
        fs::File::options().read(true).write(true).open(self.path.join(name))
    }

    fn create(&self, name: &str) -> io::Result<fs::File> {
        let mut options = fs::File::options();
        options.read(true).write(true).create(true).truncate(true).open(self.path.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        fs::File::open(&self.path)?.sync_all()
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn share(&self) -> SystemFolder {
        self.clone()
    }
}

#[expect(clippy::disallowed_types, reason = "this is the file of the system")]
impl Bytes for fs::File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}
