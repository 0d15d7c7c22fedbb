//! The bytes of records: how producers pack them, and consumers unpack them. Replicas look at the checksum only.
//!
//! ```text
//!   XXH3-64 of the rest 8 │ record │ record …
//!   record:  length of the key + 1, or 0 if it has none 4 │ key │ length of the value 4 │ value
//! ```
//!
//! All numbers are little-endian. The checksum is the producer's, and goes with the records wherever they go, so whoever
//! gets them knows that they are what was produced.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// What a producer says: a value, and perhaps what it is about.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Record {
    /// Records with the same key go to the same partition.
    pub key: Option<Bytes>,
    /// Anything.
    pub value: Bytes,
}

/// Bytes that are no records.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
#[non_exhaustive]
pub enum RecordsError {
    /// They are not what was produced.
    #[error("the records are damaged: their checksum is another one")]
    Checksum,
    /// They are not as many as was said.
    #[error("the bytes do not hold as many records as was said")]
    Count,
}

/// How many bytes a record takes.
#[must_use]
pub fn length(record: &Record) -> usize {
    8 + record.key.as_ref().map_or(0, Bytes::len) + record.value.len()
}

/// Packs records.
///
/// # Panics
///
/// If a key or a value is 4 GiB or longer.
#[must_use]
pub fn encode(records: &[Record]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(8 + records.iter().map(length).sum::<usize>());
    bytes.put_u64_le(0);
    let size = |bytes: &Bytes| u32::try_from(bytes.len()).expect("a record is shorter than 4 GiB");
    for record in records {
        bytes.put_u32_le(record.key.as_ref().map_or(0, |key| size(key) + 1));
        bytes.put_slice(record.key.as_deref().unwrap_or_default());
        bytes.put_u32_le(size(&record.value));
        bytes.put_slice(&record.value);
    }
    seal(bytes)
}

/// Writes the checksum in front, where there is room for it.
fn seal(mut bytes: BytesMut) -> Bytes {
    let checksum = checksum(&bytes[8..]);
    bytes[..8].copy_from_slice(&checksum.to_le_bytes());
    bytes.freeze()
}

/// What stands in front of packed records.
#[must_use]
pub fn checksum(rest: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(rest)
}

/// The keys and values, in order, one after the other; a record without a key has an empty one. `None` if the bytes are
/// not what was packed.
#[must_use]
pub fn parts(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    if !is_sound(bytes) {
        return None;
    }
    let (mut rest, mut is_key, mut parts) = (&bytes[8..], true, Vec::new());
    while !rest.is_empty() {
        let length = usize::try_from(u32::from_le_bytes(*rest.first_chunk()?)).ok()?;
        let length = if is_key { length.saturating_sub(1) } else { length };
        let (part, after) = rest.get(4..)?.split_at_checked(length)?;
        parts.push(part);
        (rest, is_key) = (after, !is_key);
    }
    Some(parts)
}

/// Replaces each key and each value by another one of the same length. `None` if the bytes are not what was packed.
///
/// # Panics
///
/// If a length is another one.
#[must_use]
pub fn rewrite(bytes: &[u8], part: impl Fn(&[u8]) -> Bytes) -> Option<Bytes> {
    let (mut rewritten, mut at) = (BytesMut::from(bytes), 8);
    for old in parts(bytes)? {
        rewritten[at + 4..][..old.len()].copy_from_slice(&part(old));
        at += 4 + old.len();
    }
    Some(seal(rewritten))
}

/// Tells whether the bytes are what was packed.
#[must_use]
pub fn is_sound(bytes: &[u8]) -> bool {
    bytes.split_first_chunk().is_some_and(|(sum, rest)| u64::from_le_bytes(*sum) == checksum(rest))
}

/// Unpacks the first `count` records. There may be more: a log may have been cut off within a batch.
///
/// # Errors
///
/// [`RecordsError`] if there are not as many, or they are not what was packed.
pub fn decode(bytes: &Bytes, count: u32) -> Result<Vec<Record>, RecordsError> {
    if !is_sound(bytes) {
        return Err(RecordsError::Checksum);
    }
    let mut rest = bytes.slice(8..);
    let mut records = Vec::new();
    for _ in 0..count {
        let key = take_length(&mut rest)?;
        let key = key.checked_sub(1).map(|length| take(&mut rest, length)).transpose()?;
        let length = take_length(&mut rest)?;
        records.push(Record { key, value: take(&mut rest, length)? });
    }
    Ok(records)
}

/// Tells whether the bytes hold exactly so many records, without unpacking them.
pub(super) fn holds(bytes: &Bytes, count: u32) -> Result<(), RecordsError> {
    if !is_sound(bytes) {
        return Err(RecordsError::Checksum);
    }
    let mut rest = &bytes[8..];
    let mut skip = |is_key: bool| -> Option<()> {
        let length = usize::try_from(u32::from_le_bytes(*rest.first_chunk()?)).ok()?;
        let length = if is_key { length.saturating_sub(1) } else { length };
        rest = rest.get(4..)?.get(length..)?;
        Some(())
    };
    for _ in 0..count {
        skip(true).and_then(|()| skip(false)).ok_or(RecordsError::Count)?;
    }
    if rest.is_empty() { Ok(()) } else { Err(RecordsError::Count) }
}

fn take_length(rest: &mut Bytes) -> Result<usize, RecordsError> {
    let length = rest.try_get_u32_le().map_err(|_| RecordsError::Count)?;
    usize::try_from(length).map_err(|_| RecordsError::Count)
}

fn take(rest: &mut Bytes, length: usize) -> Result<Bytes, RecordsError> {
    if length > rest.len() {
        return Err(RecordsError::Count);
    }
    Ok(rest.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Record> {
        let record = |key: Option<&'static str>, value: &'static str| Record {
            key: key.map(|key| Bytes::from_static(key.as_bytes())),
            value: Bytes::from_static(value.as_bytes()),
        };
        vec![record(None, "one"), record(Some(""), ""), record(Some("k"), "three")]
    }

    #[test]
    fn records_come_out_as_they_went_in() {
        let bytes = encode(&records());
        assert_eq!(bytes.len(), 8 + records().iter().map(length).sum::<usize>());
        assert_eq!(decode(&bytes, 3), Ok(records()));
        assert_eq!(decode(&bytes, 2), Ok(records()[..2].to_vec()), "a log may end within a batch");
        assert_eq!(holds(&bytes, 3), Ok(()));
        assert_eq!(decode(&encode(&[]), 0), Ok(Vec::new()));
    }

    #[test]
    fn whatever_is_not_what_was_packed_is_refused() {
        let bytes = encode(&records());
        for count in [0, 2, 4, u32::MAX] {
            assert_eq!(holds(&bytes, count), Err(RecordsError::Count));
        }
        assert_eq!(decode(&bytes, 4), Err(RecordsError::Count));
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&changed.into(), 3), Err(RecordsError::Checksum));
        }
        for length in 0..bytes.len() {
            assert!(holds(&bytes.slice(..length), 3).is_err());
        }
    }

    #[test]
    fn lengths_that_lie_are_refused_although_the_checksum_is_right() {
        let mut body = vec![0; 8];
        body.extend_from_slice(&u32::MAX.to_le_bytes());
        body.extend_from_slice(&[1; 20]);
        let checksum = xxhash_rust::xxh3::xxh3_64(&body[8..]);
        body[..8].copy_from_slice(&checksum.to_le_bytes());
        let bytes = Bytes::from(body);
        assert_eq!(decode(&bytes, 1), Err(RecordsError::Count));
        assert_eq!(holds(&bytes, 1), Err(RecordsError::Count));
    }
}
