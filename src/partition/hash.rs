//! The hash of placements, version 1: frozen, for ever.
//!
//! ```text
//!   key   = xxh3("P1" ‖ u32le(length of topic) ‖ topic ‖ u32le(partition))
//!   node  = xxh3("N1" ‖ u32le(length of id) ‖ id)
//!   point = fmix64(node ^ (j · 0x9E3779B97F4A7C15)), for j from 0
//!   place = fmix64(key), which belongs to the first point at or after it, round the ring
//!   score = fmix64(key ^ node), of which the highest wins
//!   partition of a record's key = xxh3("K1" ‖ key) mod partitions
//! ```
//!
//! XXH3-64 with seed 0 has been frozen since xxHash 0.8.0; `fmix64` is the finalizer of MurmurHash3. All sums wrap at
//! 2^64. Nothing here depends on the width of a machine word, on its byte order, or on a compiler's version.
//! `tests/placement.rs` holds it against vectors of another implementation.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// Which hash placed something. It is stored beside what it placed.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[non_exhaustive]
pub enum PlacementVersion {
    /// The one of this module.
    #[default]
    V1,
}

/// What is hashed beside the name.
const BESIDE: usize = 2 + 4 + 4;
/// Topics and ids of up to so many bytes are hashed without a detour over the heap, in one line of the processor's cache.
const SHORT: usize = 64 - BESIDE;
/// 2^64 divided by the golden ratio: multiples of it are far apart.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The hash of a partition of a topic.
#[must_use]
pub fn key(topic: &str, partition: u32) -> u64 {
    tagged(*b"P1", topic.as_bytes(), partition.to_le_bytes())
}

/// The hash of a node, by its id as text.
#[must_use]
pub fn node(id: &str) -> u64 {
    tagged(*b"N1", id.as_bytes(), [])
}

/// The partition of a topic of so many that a record with this key belongs to; 0 if there are none.
#[must_use]
pub fn partition_of(key: &[u8], partitions: u32) -> u32 {
    let hash = xxh3_64(&[&b"K1"[..], key].concat());
    u32::try_from(hash % u64::from(partitions.max(1))).expect("less than a number of 32 bits")
}

/// Where a key sits on the ring.
#[must_use]
pub fn place(key: u64) -> u64 {
    fmix64(key)
}

/// Where point `number` of a node sits on the ring.
#[must_use]
pub fn point(node: u64, number: u32) -> u64 {
    fmix64(node ^ u64::from(number).wrapping_mul(GOLDEN))
}

/// How much a node wants a key (Thaler and Ravishankar 1998: highest random weight).
#[must_use]
pub fn score(key: u64, node: u64) -> u64 {
    fmix64(key ^ node)
}

/// The finalizer of MurmurHash3: each bit of the input changes each of the output half of the time.
fn fmix64(mut bits: u64) -> u64 {
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    bits ^ (bits >> 33)
}

fn tagged<const N: usize>(tag: [u8; 2], name: &[u8], rest: [u8; N]) -> u64 {
    // Longer names than 4 GiB are no names; they would all have this length.
    let length = u32::try_from(name.len()).unwrap_or(u32::MAX).to_le_bytes();
    if name.len() > SHORT {
        return xxh3_64(&[&tag[..], &length, name, &rest].concat());
    }
    let mut bytes = [0; SHORT + BESIDE];
    bytes[..2].copy_from_slice(&tag);
    bytes[2..6].copy_from_slice(&length);
    let end = 6 + name.len();
    bytes[6..end].copy_from_slice(name);
    bytes[end..end + N].copy_from_slice(&rest);
    xxh3_64(&bytes[..end + N])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_names_are_hashed_alike() {
        for length in [0, 1, SHORT - 1, SHORT, SHORT + 1, 1000] {
            let topic = "t".repeat(length);
            let mut bytes = b"P1".to_vec();
            bytes.extend(u32::try_from(length).unwrap().to_le_bytes());
            bytes.extend(topic.as_bytes());
            bytes.extend(7_u32.to_le_bytes());
            assert_eq!(key(&topic, 7), xxh3_64(&bytes), "{length} bytes");
        }
    }

    #[test]
    fn a_key_belongs_to_one_of_the_partitions_for_ever() {
        assert_eq!([0, 1].map(|count| partition_of(b"colour", count)), [0, 0]);
        assert_eq!(partition_of(b"colour", 64), 43);
        let used: std::collections::BTreeSet<u32> =
            (0..1000_u32).map(|key| partition_of(&key.to_le_bytes(), 64)).collect();
        assert_eq!(used.len(), 64);
    }

    #[test]
    fn neither_names_nor_numbers_run_into_each_other() {
        assert_ne!(key("a", 1), key("a\u{1}", 0));
        assert_ne!(key("n", 0), node("n"));
        assert_ne!(point(node("a"), 0), point(node("a"), 1));
    }
}
