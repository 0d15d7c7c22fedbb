//! What is written down in place of payloads, so that the node behaves the same with it.
//!
//! A payload of `n` bytes becomes its keyed XXH3-64, repeated over `n` bytes: equal ones stay equal, wherever they
//! stand. Around it:
//!
//! * an *entry* keeps the envelope of its session; one that is malformed stays so;
//! * *records* keep the lengths of keys and values, and get the checksum of what they are now;
//! * a *snapshot* keeps the ledger, whose sessions remember answers in disguise;
//! * a *part* of a snapshot cannot keep anything, since it begins anywhere: it becomes zeros, and the checksum that was
//!   promised for the whole becomes 0. A flight does not go on past the arrival of a whole snapshot (see `recorder`),
//!   so nobody compares them.

use bytes::{BufMut, Bytes, BytesMut};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::ledger::Ledger;
use crate::partition::records;
use crate::session;
use crate::wire::payload::Disguise;

/// Hashes, with a key that is in no flight.
pub(super) struct Hashes {
    key: u64,
}

impl Hashes {
    pub(super) fn new(key: u64) -> Hashes {
        Hashes { key }
    }
}

impl Disguise for Hashes {
    fn plain(&self, bytes: &[u8]) -> Bytes {
        let hash = xxh3_64_with_seed(bytes, self.key).to_le_bytes();
        hash.iter().copied().cycle().take(bytes.len()).collect()
    }

    fn entry(&self, bytes: &[u8]) -> Bytes {
        session::reseal(bytes, |command| self.plain(command)).unwrap_or_else(|| {
            let mut malformed = BytesMut::from(&self.plain(bytes)[..]);
            if let Some(first) = malformed.first_mut() {
                *first = session::NO_RECORD;
            }
            malformed.freeze()
        })
    }

    fn records(&self, bytes: &[u8]) -> Bytes {
        records::rewrite(bytes, |part| self.plain(part)).unwrap_or_else(|| {
            // They are damaged, and stay so.
            let rest = self.plain(bytes.get(8..).unwrap_or_default());
            let mut damaged = BytesMut::with_capacity(bytes.len());
            damaged.put_u64_le(!records::checksum(&rest));
            damaged.put_slice(&rest);
            damaged.truncate(bytes.len());
            damaged.freeze()
        })
    }

    fn snapshot(&self, bytes: &[u8]) -> Bytes {
        match Ledger::restore(bytes) {
            Ok((ledger, state)) => ledger.snapshot(&self.plain(state)),
            Err(_) => self.plain(bytes),
        }
    }

    fn part(&self, bytes: &[u8]) -> Bytes {
        BytesMut::zeroed(bytes.len()).freeze()
    }

    fn checksum(&self, _checksum: u64) -> u64 {
        0
    }
}

/// Whatever a disguise keeps, and nothing that it does not: what is compared between a recorded output and one of the
/// replay, whose snapshots are in disguise already.
pub(super) struct Compared;

impl Disguise for Compared {
    fn plain(&self, bytes: &[u8]) -> Bytes {
        Bytes::copy_from_slice(bytes)
    }

    fn entry(&self, bytes: &[u8]) -> Bytes {
        self.plain(bytes)
    }

    fn records(&self, bytes: &[u8]) -> Bytes {
        self.plain(bytes)
    }

    fn snapshot(&self, bytes: &[u8]) -> Bytes {
        self.plain(bytes)
    }

    fn part(&self, bytes: &[u8]) -> Bytes {
        BytesMut::zeroed(bytes.len()).freeze()
    }

    fn checksum(&self, _checksum: u64) -> u64 {
        0
    }
}
