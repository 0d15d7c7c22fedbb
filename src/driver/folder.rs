//! The seam below the segment log: a folder of files, as little of it as the log needs.
//!
//! In production it is a folder of the operating system. A simulation gives one of its own, in which what
//! was not synced may be lost, torn or kept, file by file and name by name.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

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

/// A folder of the operating system.
#[derive(Clone, Debug)]
pub struct SystemFolder(PathBuf);

impl SystemFolder {
    /// Names a folder, and makes it if it does not exist.
    ///
    /// # Errors
    ///
    /// What the system says.
    #[expect(clippy::disallowed_methods, reason = "this is the folder of the system")]
    pub fn at(path: &Path) -> io::Result<SystemFolder> {
        fs::create_dir_all(path)?;
        Ok(SystemFolder(path.to_owned()))
    }
}

#[expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is the folder of the system")]
impl Folder for SystemFolder {
    type File = fs::File;

    fn list(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.0)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    }

    fn open(&self, name: &str) -> io::Result<fs::File> {
        fs::File::options().read(true).write(true).open(self.0.join(name))
    }

    fn create(&self, name: &str) -> io::Result<fs::File> {
        let mut options = fs::File::options();
        options.read(true).write(true).create(true).truncate(true).open(self.0.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        fs::File::open(&self.0)?.sync_all()
    }

    fn place(&self) -> String {
        self.0.display().to_string()
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
