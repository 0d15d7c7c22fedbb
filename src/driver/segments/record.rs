//! The bytes of a segment: a header, then records, one for each batch.
//!
//! ```text
//!   segment:  magic 8 │ format 4 │ length 4 │ number 8 │ salt 8 │ owner 8 │ CRC32C 4 │ 0 … up to 4096
//!   record:   length 4 │ CRC32C 4 │ serial 8 │ CRC32C of the record before 4 │
//!             CRC32C of all before and of the place 4 │ body │ 0 … up to 8
//! ```
//!
//! All numbers are little-endian. A record's checksum covers its place (the segment's number and salt, and
//! the offset), its serial number, the checksum before it, and its body. So a record is valid only where it
//! was written, only behind the record that it was written behind, and not in a segment that is used again.
//! The header has a checksum of its own, so that a search for records does not read bodies that are none.
//! The salt is drawn when a segment is begun, so that nobody can put bytes into a command that pass for a
//! record.

use crc32c::{crc32c, crc32c_append};

use crate::driver::storage::Owner;
use crate::wire::codec;

/// The first bytes of every segment.
const MAGIC: [u8; 8] = *b"rivvenlg";
/// The format that this build writes and reads.
pub(super) const FORMAT: u32 = 4;
/// Where the first record begins.
pub(super) const HEADER_BYTES: u64 = 4096;
/// The bytes before a record's body.
pub(super) const RECORD_HEADER_BYTES: usize = 24;
/// Records begin at multiples of this.
pub(super) const ALIGNMENT: u64 = 8;

/// A segment, as its header says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) salt: u64,
    pub(super) owner: u64,
}

/// Why a header is none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum HeaderError {
    /// It was never written whole.
    Torn,
    /// Another program's version wrote it.
    Format(u32),
}

/// What stands before a record's body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Header {
    pub(super) length: usize,
    pub(super) checksum: u32,
    pub(super) serial: u64,
    pub(super) before: u32,
    own: u32,
}

/// Names the owner in eight bytes.
pub(super) fn owner_hash(owner: &Owner) -> u64 {
    xxhash_rust::xxh3::xxh3_64(&codec::encode(owner))
}

impl Segment {
    /// Encodes the header, without its padding.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        for number in [self.number, self.salt, self.owner] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&crc32c(&bytes).to_le_bytes());
        bytes
    }

    /// Reads a header.
    pub(super) fn decode(bytes: &[u8]) -> Result<Segment, HeaderError> {
        let (body, rest) = bytes.split_at_checked(40).ok_or(HeaderError::Torn)?;
        let checksum = rest.first_chunk::<4>().ok_or(HeaderError::Torn)?;
        let is_ours = body.starts_with(&MAGIC) && u32::from_le_bytes(*checksum) == crc32c(body);
        if !is_ours {
            return Err(HeaderError::Torn);
        }
        let format = u32_at(body, 8);
        if format != FORMAT {
            return Err(HeaderError::Format(format));
        }
        Ok(Segment { number: u64_at(body, 16), salt: u64_at(body, 24), owner: u64_at(body, 32) })
    }

    /// The checksum of a record at `offset`.
    fn checksum(&self, offset: u64, serial: u64, before: u32, body: &[u8]) -> u32 {
        crc32c_append(self.place(offset, serial, before), body)
    }

    fn place(&self, offset: u64, serial: u64, before: u32) -> u32 {
        let numbers = [self.number, self.salt, offset, serial, u64::from(before)];
        crc32c(numbers.map(u64::to_le_bytes).as_flattened())
    }

    /// The checksum of a header at `offset`.
    fn header_checksum(&self, offset: u64, header: &Header) -> u32 {
        let length = u64::try_from(header.length).unwrap_or(u64::MAX);
        let place = self.place(offset, header.serial, header.before);
        crc32c_append(crc32c_append(place, &length.to_le_bytes()), &header.checksum.to_le_bytes())
    }

    /// Whether a header is valid where it stands.
    pub(super) fn begins(&self, offset: u64, header: Header) -> bool {
        header.own == self.header_checksum(offset, &header)
    }

    /// Fills in the header of a record whose body stands behind [`RECORD_HEADER_BYTES`] in `record`, pads
    /// it, and returns its checksum.
    pub(super) fn seal(&self, offset: u64, serial: u64, before: u32, record: &mut Vec<u8>) -> u32 {
        let length = record.len() - RECORD_HEADER_BYTES;
        let checksum = self.checksum(offset, serial, before, &record[RECORD_HEADER_BYTES..]);
        let own = self.header_checksum(offset, &Header { length, checksum, serial, before, own: 0 });
        let length = u32::try_from(length).expect("a batch is smaller than 4 GiB");
        record[0..4].copy_from_slice(&length.to_le_bytes());
        record[4..8].copy_from_slice(&checksum.to_le_bytes());
        record[8..16].copy_from_slice(&serial.to_le_bytes());
        record[16..20].copy_from_slice(&before.to_le_bytes());
        record[20..24].copy_from_slice(&own.to_le_bytes());
        let alignment = usize::try_from(ALIGNMENT).expect("a small number");
        record.resize(record.len().next_multiple_of(alignment), 0);
        checksum
    }

    /// Whether the record at `offset` is valid where it stands.
    pub(super) fn holds(&self, offset: u64, header: Header, body: &[u8]) -> bool {
        header.checksum == self.checksum(offset, header.serial, header.before, body)
    }
}

impl Header {
    /// Reads what may be a record's header; `None` where certainly none begins.
    pub(super) fn decode(bytes: &[u8]) -> Option<Header> {
        if bytes.len() < RECORD_HEADER_BYTES {
            return None;
        }
        let length = usize::try_from(u32_at(bytes, 0)).ok()?;
        let (checksum, serial) = (u32_at(bytes, 4), u64_at(bytes, 8));
        let header = Header { length, checksum, serial, before: u32_at(bytes, 16), own: u32_at(bytes, 20) };
        let fits = length > 0 && length <= bytes.len() - RECORD_HEADER_BYTES;
        fits.then_some(header)
    }
}

/// How many bytes a record with such a body takes.
pub(super) fn record_bytes(body: usize) -> u64 {
    let bytes = u64::try_from(body + RECORD_HEADER_BYTES).unwrap_or(u64::MAX);
    bytes.next_multiple_of(ALIGNMENT)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let chunk = bytes[at..].first_chunk::<4>().expect("the caller has looked at the length");
    u32::from_le_bytes(*chunk)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let chunk = bytes[at..].first_chunk::<8>().expect("the caller has looked at the length");
    u64::from_le_bytes(*chunk)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: Segment = Segment { number: 7, salt: 9, owner: 11 };

    fn record(offset: u64, serial: u64, before: u32, body: &[u8]) -> Vec<u8> {
        let mut record = vec![0; RECORD_HEADER_BYTES];
        record.extend_from_slice(body);
        SEGMENT.seal(offset, serial, before, &mut record);
        record
    }

    fn holds(segment: Segment, offset: u64, record: &[u8]) -> bool {
        let Some(header) = Header::decode(record) else { return false };
        let body = &record[RECORD_HEADER_BYTES..][..header.length];
        segment.begins(offset, header) && segment.holds(offset, header, body)
    }

    #[test]
    fn a_record_is_valid_only_where_it_was_written() {
        let record = record(4096, 3, 5, b"body");
        assert!(holds(SEGMENT, 4096, &record));
        assert!(!holds(SEGMENT, 4104, &record));
        assert!(!holds(Segment { number: 8, ..SEGMENT }, 4096, &record));
        assert!(!holds(Segment { salt: 8, ..SEGMENT }, 4096, &record), "the segment is used again");
    }

    #[test]
    fn any_changed_bit_of_a_record_is_found() {
        let sound = record(4096, 3, 5, b"some body");
        for bit in 0..(RECORD_HEADER_BYTES + 9) * 8 {
            let mut record = sound.clone();
            record[bit / 8] ^= 1 << (bit % 8);
            assert!(!holds(SEGMENT, 4096, &record), "bit {bit}");
        }
    }

    #[test]
    fn a_segment_header_reads_back_and_damage_is_found() {
        let bytes = SEGMENT.encode();
        assert_eq!(Segment::decode(&bytes), Ok(SEGMENT));
        for byte in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[byte] ^= 1;
            assert!(Segment::decode(&damaged).is_err(), "byte {byte}");
        }
        assert_eq!(Segment::decode(&bytes[..20]), Err(HeaderError::Torn));
    }
}
