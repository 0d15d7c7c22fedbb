//! What users say, told apart from what the cluster says.
//!
//! # The problem
//!
//! A recording of a node ([`crate::flight`]) is to leave the house in which it was made, without what its users wrote.
//! But what they wrote is in entries, batches, queues, sessions and snapshots, behind envelopes and under checksums
//! that the node does look at.
//!
//! # The idea
//!
//! Each field that holds something of users says so where it is declared, with serde's `serialize_with`, and which
//! envelope is around it. Within [`disguised`], what is written down there is what the given [`Disguise`] makes of it;
//! anywhere else it is the thing itself, byte for byte as if nothing had been declared. What knows the envelopes is
//! elsewhere, above the types that are declared here.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Serialize, Serializer};

/// Bytes that are written down in place of others. Short ones take no memory of their own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Cover {
    /// The first so many of these.
    Short([u8; 16], usize),
    /// All of these.
    Long(Bytes),
}

impl AsRef<[u8]> for Cover {
    fn as_ref(&self) -> &[u8] {
        match self {
            Cover::Short(bytes, length) => &bytes[..*length],
            Cover::Long(bytes) => bytes,
        }
    }
}

/// What is written down in place of what users say.
pub trait Disguise: Send + Sync {
    /// For a command, a query, or the answer to one.
    fn plain(&self, bytes: &[u8]) -> Cover;
    /// For what stands in an entry of the log: a command in the envelope of its session.
    fn entry(&self, bytes: &[u8]) -> Cover;
    /// For packed records, with their checksum.
    fn records(&self, bytes: &[u8]) -> Cover;
    /// For a snapshot: sessions, metadata, and the state of the state machine.
    fn snapshot(&self, bytes: &[u8]) -> Cover;
    /// For a part of a snapshot, which begins anywhere in it.
    fn part(&self, bytes: &[u8]) -> Cover;
    /// For the checksum of a snapshot that comes in parts.
    fn checksum(&self, checksum: u64) -> u64;
    /// For what a state machine says in words: that may quote anything.
    fn text(&self) -> &'static str {
        "its words are left out"
    }
}

thread_local! {
    static WORN: RefCell<Option<Arc<dyn Disguise>>> = const { RefCell::new(None) };
}

/// Does some work, in which everything that is encoded is written down in disguise.
pub fn disguised<T>(disguise: Arc<dyn Disguise>, work: impl FnOnce() -> T) -> T {
    struct Undress(Option<Arc<dyn Disguise>>);
    impl Drop for Undress {
        fn drop(&mut self) {
            WORN.set(self.0.take());
        }
    }
    let _undress = Undress(WORN.replace(Some(disguise)));
    work()
}

fn write<S: Serializer>(
    bytes: &[u8],
    serializer: S,
    disguise: impl FnOnce(&dyn Disguise, &[u8]) -> Cover,
) -> Result<S::Ok, S::Error> {
    WORN.with_borrow(|worn| match worn {
        None => serializer.serialize_bytes(bytes),
        Some(worn) => serializer.serialize_bytes(disguise(&**worn, bytes).as_ref()),
    })
}

/// Writes a command, a query, or the answer to one.
pub(crate) fn plain<S: Serializer>(bytes: &impl AsRef<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    write(bytes.as_ref(), serializer, |worn, bytes| worn.plain(bytes))
}

/// Writes what stands in an entry.
pub(crate) fn entry<S: Serializer>(bytes: &impl AsRef<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    write(bytes.as_ref(), serializer, |worn, bytes| worn.entry(bytes))
}

/// Writes packed records.
pub(crate) fn records<S: Serializer>(bytes: &impl AsRef<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    write(bytes.as_ref(), serializer, |worn, bytes| worn.records(bytes))
}

/// Writes a snapshot.
pub(crate) fn snapshot<S: Serializer>(bytes: &impl AsRef<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    write(bytes.as_ref(), serializer, |worn, bytes| worn.snapshot(bytes))
}

/// Writes a part of a snapshot.
pub(crate) fn part<S: Serializer>(bytes: &impl AsRef<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    write(bytes.as_ref(), serializer, |worn, bytes| worn.part(bytes))
}

/// Writes the checksum of a snapshot.
pub(crate) fn checksum<S: Serializer>(checksum: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    let written = WORN.with_borrow(|worn| worn.as_ref().map_or(*checksum, |worn| worn.checksum(*checksum)));
    written.serialize(serializer)
}

/// Writes what a state machine says in words.
pub(crate) fn text<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    WORN.with_borrow(|worn| serializer.serialize_str(worn.as_ref().map_or(text, |worn| worn.text())))
}

/// Writes whether something went well, and what a state machine says in words if it did not.
pub(crate) fn result<S: Serializer>(result: &Result<(), String>, serializer: S) -> Result<S::Ok, S::Error> {
    let hidden = WORN.with_borrow(|worn| worn.as_ref().map(|worn| worn.text()));
    result.as_ref().map_err(|text| hidden.unwrap_or(text)).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::wire::codec;

    #[derive(Deserialize, Serialize)]
    struct Said {
        #[serde(serialize_with = "plain")]
        command: Bytes,
    }

    struct Stars;

    impl Disguise for Stars {
        fn plain(&self, bytes: &[u8]) -> Cover {
            Cover::Long(vec![b'*'; bytes.len()].into())
        }
        fn entry(&self, bytes: &[u8]) -> Cover {
            self.plain(bytes)
        }
        fn records(&self, bytes: &[u8]) -> Cover {
            self.plain(bytes)
        }
        fn snapshot(&self, bytes: &[u8]) -> Cover {
            self.plain(bytes)
        }
        fn part(&self, bytes: &[u8]) -> Cover {
            self.plain(bytes)
        }
        fn checksum(&self, _checksum: u64) -> u64 {
            0
        }
    }

    #[test]
    fn a_disguise_is_worn_inside_only_and_also_taken_off_by_a_panic() {
        let said = Said { command: Bytes::from_static(b"secret") };
        let bare = codec::encode(&said.command);
        assert_eq!(codec::encode(&said), bare, "nothing else is written than without the declaration");
        let stars = disguised(Arc::new(Stars), || codec::encode(&said));
        assert_eq!(codec::decode::<Said>(&stars).unwrap().command, b"******"[..]);
        let panicked = std::panic::catch_unwind(|| disguised(Arc::new(Stars), || panic!("a bug")));
        assert!(panicked.is_err());
        assert_eq!(codec::encode(&said), bare);
    }
}
