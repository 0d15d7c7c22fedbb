//! A folder that is only looked at: whatever would change it is refused.
//!
//! What reads a log offline is the code that a node starts with. It must not be able to change what it is to judge,
//! whatever it finds there.

use std::io;

use super::folder::{Bytes, Folder};

/// A folder, without the means to change it.
#[derive(Clone, Debug)]
pub struct ReadOnly<F>(pub F);

/// A file in it.
#[derive(Debug)]
pub struct ReadOnlyFile<B>(B);

fn refused() -> io::Error {
    io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "it is only read, and there is something to write")
}

impl<F: Folder> Folder for ReadOnly<F> {
    type File = ReadOnlyFile<F::File>;

    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn open(&self, name: &str) -> io::Result<Self::File> {
        self.0.open(name).map(ReadOnlyFile)
    }

    fn create(&self, _name: &str) -> io::Result<Self::File> {
        Err(refused())
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        Err(refused())
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        Err(refused())
    }

    fn sync(&self) -> io::Result<()> {
        Err(refused())
    }

    fn place(&self) -> String {
        self.0.place()
    }

    fn share(&self) -> ReadOnly<F> {
        ReadOnly(self.0.share())
    }
}

impl<B: Bytes> Bytes for ReadOnlyFile<B> {
    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, buffer)
    }

    fn write(&mut self, _offset: u64, _bytes: &[u8]) -> io::Result<()> {
        Err(refused())
    }

    fn sync(&mut self) -> io::Result<()> {
        Err(refused())
    }
}
