//! What is written down in place of payloads, so that the node behaves the same with it.
//!
//! A payload of `n` bytes becomes its SipHash-1-3 (Aumasson and Bernstein 2012), repeated over `n` bytes: equal ones stay
//! equal, wherever they stand, and without the key nobody can try what they were. Around it:
//!
//! * an *entry* keeps the envelope of its session; one that is malformed stays so;
//! * *records* keep the lengths of keys and values, and get the checksum of what they are now;
//! * a *snapshot* keeps the ledger, whose sessions remember answers in disguise;
//! * a *part* of a snapshot cannot keep anything, since it begins anywhere: it becomes zeros, and the checksum that was
//!   promised for the whole becomes 0. A flight does not go on past the arrival of a whole snapshot (see `ring`), so
//!   nobody compares them;
//! * a *text* of the state machine, such as why it refuses a snapshot, is left out.

use core::hash::Hasher as _;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use crate::ledger::Ledger;
use crate::partition::records;
use crate::payload::{Cover, Disguise};
use crate::rng::Stream;
use crate::session;

/// What payloads are hashed with. It is in no flight with hashed payloads, nor anything that it could be made of.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Key([u64; 2]);

impl Key {
    /// Draws a key. The stream should be of a seed that nobody can guess, and that the recorded node does not have.
    pub fn draw(stream: &mut Stream) -> Key {
        Key([stream.draw(), stream.draw()])
    }

    fn hash(self, bytes: &[u8]) -> [u8; 8] {
        let mut hasher = SipHasher13::new_with_keys(self.0[0], self.0[1]);
        hasher.write(bytes);
        hasher.finish().to_le_bytes()
    }
}

/// Hashes in the place of payloads.
pub(super) struct Hashes {
    key: Key,
}

impl Hashes {
    pub(super) fn new(key: Key) -> Hashes {
        Hashes { key }
    }

    fn fill(&self, bytes: &[u8]) -> Bytes {
        let hash = self.key.hash(bytes);
        hash.iter().copied().cycle().take(bytes.len()).collect()
    }

    fn malformed(&self, bytes: &[u8]) -> Bytes {
        let mut malformed = BytesMut::from(&self.fill(bytes)[..]);
        if let Some(first) = malformed.first_mut() {
            *first = session::NO_RECORD;
        }
        malformed.freeze()
    }

    /// They are no records, or damaged, and stay so. Those that are whole, but lie about a length, lie about the first.
    fn damaged(&self, bytes: &[u8]) -> Bytes {
        if records::is_sound(bytes) {
            let rest = vec![u8::MAX; bytes.len() - 8];
            return [&records::checksum(&rest).to_le_bytes()[..], &rest].concat().into();
        }
        let rest = self.fill(bytes.get(8..).unwrap_or_default());
        let mut damaged = BytesMut::with_capacity(bytes.len());
        damaged.put_u64_le(!records::checksum(&rest));
        damaged.put_slice(&rest);
        damaged.truncate(bytes.len());
        damaged.freeze()
    }
}

impl Disguise for Hashes {
    fn plain(&self, bytes: &[u8]) -> Cover {
        Cover::Long(self.fill(bytes))
    }

    fn entry(&self, bytes: &[u8]) -> Cover {
        let sealed = session::reseal(bytes, |command| self.fill(command));
        Cover::Long(sealed.unwrap_or_else(|| self.malformed(bytes)))
    }

    fn records(&self, bytes: &[u8]) -> Cover {
        let packed = records::rewrite(bytes, |part| self.fill(part));
        Cover::Long(packed.unwrap_or_else(|| self.damaged(bytes)))
    }

    fn snapshot(&self, bytes: &[u8]) -> Cover {
        Cover::Long(match Ledger::restore(bytes) {
            Ok((ledger, state)) => ledger.snapshot(&self.fill(state)),
            Err(_) => self.fill(bytes),
        })
    }

    fn part(&self, bytes: &[u8]) -> Cover {
        Cover::Long(BytesMut::zeroed(bytes.len()).freeze())
    }

    fn checksum(&self, _checksum: u64) -> u64 {
        0
    }
}

/// What a digest takes of a payload: its length, and perhaps its hash. One that is in disguise already begins with that, so
/// that both have the same digest.
pub(super) enum Digests {
    /// Only the length.
    Lengths,
    /// And the hash, of payloads as users wrote them.
    Hashed(Key),
    /// And the hash, of payloads in disguise.
    Disguised,
}

impl Digests {
    fn hash(&self, bytes: &[u8]) -> ([u8; 8], usize) {
        let (mut told, count) = ([0; 8], bytes.len().min(8));
        match self {
            Digests::Lengths => return (told, 0),
            Digests::Hashed(key) => told = key.hash(bytes),
            Digests::Disguised => told[..count].copy_from_slice(&bytes[..count]),
        }
        (told, count)
    }

    /// The length of all, and the hash of a part.
    fn tell(&self, all: &[u8], part: &[u8]) -> Cover {
        let (hash, count) = self.hash(part);
        let mut told = [0; 16];
        told[..8].copy_from_slice(&length(all));
        told[8..8 + count].copy_from_slice(&hash[..count]);
        Cover::Short(told, 8 + count)
    }
}

fn length(bytes: &[u8]) -> [u8; 8] {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes()
}

impl Disguise for Digests {
    fn plain(&self, bytes: &[u8]) -> Cover {
        self.tell(bytes, bytes)
    }

    fn entry(&self, bytes: &[u8]) -> Cover {
        let command = match self {
            Digests::Lengths => None,
            Digests::Hashed(_) | Digests::Disguised => session::command_in(bytes),
        };
        self.tell(bytes, command.map_or(&[], |(_, command)| command))
    }

    fn records(&self, bytes: &[u8]) -> Cover {
        if let Digests::Lengths = self {
            return self.tell(bytes, &[]);
        }
        let mut told = BytesMut::from(&length(bytes)[..]);
        for part in records::parts(bytes).unwrap_or_default() {
            let (hash, count) = self.hash(part);
            told.extend_from_slice(&hash[..count]);
        }
        Cover::Long(told.freeze())
    }

    fn snapshot(&self, bytes: &[u8]) -> Cover {
        self.tell(bytes, &[])
    }

    fn part(&self, bytes: &[u8]) -> Cover {
        self.tell(bytes, &[])
    }

    fn checksum(&self, _checksum: u64) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::records::Record;
    use crate::session::{ClusterTime, Proposal};

    const KEY: Key = Key([7, 8]);

    /// A payload and its disguise have the same length and the same digest; and another payload has another one.
    fn is_kept(what: &str, bytes: &[u8], other: &[u8], write: fn(&dyn Disguise, &[u8]) -> Cover) {
        let (hashes, digests, masked) = (Hashes::new(KEY), Digests::Hashed(KEY), Digests::Disguised);
        let disguise = write(&hashes, bytes);
        assert_eq!(disguise.as_ref().len(), bytes.len(), "{what}");
        assert_eq!(write(&digests, bytes), write(&masked, disguise.as_ref()), "{what}");
        let lengths = Digests::Lengths;
        assert_eq!(write(&lengths, bytes), write(&lengths, disguise.as_ref()), "{what}");
        assert_ne!(write(&digests, bytes), write(&digests, other), "{what}");
    }

    #[test]
    fn a_disguise_keeps_the_length_and_the_digest_of_everything() {
        let plain = |worn: &dyn Disguise, bytes: &[u8]| worn.plain(bytes);
        for text in ["", "x", "seven77", "exactly8", "something longer than that"] {
            is_kept(text, text.as_bytes(), b"something else", plain);
        }
        let entry = |worn: &dyn Disguise, bytes: &[u8]| worn.entry(bytes);
        let sealed = |text: &'static str| Proposal::Command(text.into()).seal(ClusterTime::default());
        is_kept("an entry", &sealed("a command"), &sealed("another one"), entry);
        is_kept("no entry", &[0xee; 20], &[0xee; 21], entry);
        let packed = |value: &'static str| {
            records::encode(&[
                Record { key: Some("key".into()), value: value.into() },
                Record { key: None, value: "".into() },
            ])
        };
        let write = |worn: &dyn Disguise, bytes: &[u8]| worn.records(bytes);
        is_kept("records", &packed("a value"), &packed("a valve"), write);
        is_kept("damaged records", &packed("a value")[1..], b"", write);
        let lies = [&[u8::MAX; 4][..], &[1; 20]].concat();
        let lies = [&records::checksum(&lies).to_le_bytes()[..], &lies].concat();
        is_kept("records that lie about a length", &lies, b"", write);
        let disguise = Hashes::new(KEY).records(&lies);
        assert!(records::is_sound(disguise.as_ref()) && records::parts(disguise.as_ref()).is_none());
        assert!(records::is_sound(Hashes::new(KEY).records(&packed("a value")).as_ref()));
        assert!(!records::is_sound(Hashes::new(KEY).records(&packed("a value")[1..]).as_ref()));
    }

    #[test]
    fn a_snapshot_in_disguise_has_its_ledger_and_nothing_of_the_state() {
        let snapshot = Ledger::default().snapshot(b"what users wrote");
        let disguise = Hashes::new(KEY).snapshot(&snapshot);
        let (ledger, state) = Ledger::restore(disguise.as_ref()).expect("a snapshot");
        assert_eq!((ledger, state.len()), (Ledger::default(), 16));
        assert_ne!(state, b"what users wrote");
    }
}
