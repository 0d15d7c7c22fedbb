//! A flight as a file.
//!
//! ```text
//!   "RVFLIGHT" 8 │ format 4 │ version of the program: length 1, text │ head │ steps … │ nothing
//!   each of the three: length 8 │ XXH3-64 of the rest 8 │ rest
//! ```
//!
//! The head is all but the steps. Steps come in rows of a quarter of a megabyte, so that whoever writes a flight has
//! a few of them before them, and not all: read, they take many times the memory that they have in the ring. An empty row
//! is the end.
//!
//! A flight holds the innards of a node, so it is read by the version that wrote it, and by no other.

use core::borrow::Borrow;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::disguise::{Hashes, Key};
use super::{Flight, Payloads, Reason, Step};
use crate::node::Image;
use crate::payload::disguised;
use crate::wire::codec;

/// The format of the files. It changes with every change of what a node consists of.
pub const FLIGHT_FORMAT: u32 = 2;

const MAGIC: &[u8; 8] = b"RVFLIGHT";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// A row of steps ends when it has so many bytes.
const ROW_BYTES: usize = 256 * 1024;

/// Bytes that are no flight that this program can replay.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FlightError {
    /// It is something else.
    #[error("it is no recording of a node")]
    NoFlight,
    /// Take the version that wrote it.
    #[error(
        "it was recorded by version {version} in format {format}; this is version {VERSION}, which replays format {FLIGHT_FORMAT} of its own: take the version that recorded it"
    )]
    OtherVersion {
        /// What recorded it.
        version: String,
        /// In which format.
        format: u32,
    },
    /// It is not what was written.
    #[error("it is damaged: it is cut short, or a checksum is another one")]
    Damaged,
    /// It was written by a build of this version that differs from this one.
    #[error("it cannot be read, although it is whole ({0}): was it recorded by another build?")]
    Malformed(String),
}

impl Flight {
    /// Writes it down. What was read from a file is written as it was.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let Flight { reason, payloads, key, image, steps } = self;
        Chunks::new(reason, *payloads, *key, image, steps.iter()).flatten().collect()
    }

    /// Reads what [`Flight::encode`] or [`Chunks`] wrote.
    ///
    /// # Errors
    ///
    /// [`FlightError`] if the bytes are anything else.
    pub fn decode(bytes: &[u8]) -> Result<Flight, FlightError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(FlightError::NoFlight)?;
        let (format, rest) = rest.split_first_chunk().ok_or(FlightError::Damaged)?;
        let (length, rest) = rest.split_first().ok_or(FlightError::Damaged)?;
        let (version, mut rest) = rest.split_at_checked(usize::from(*length)).ok_or(FlightError::Damaged)?;
        let (format, version) = (u32::from_le_bytes(*format), String::from_utf8_lossy(version).into_owned());
        if format != FLIGHT_FORMAT || version != VERSION {
            return Err(FlightError::OtherVersion { version, format });
        }
        let malformed = |error: codec::CodecError| FlightError::Malformed(error.to_string());
        let (reason, payloads, key, image) = codec::decode_state(unframed(&mut rest)?).map_err(malformed)?;
        let mut flight = Flight { reason, payloads, key, image, steps: Vec::new() };
        loop {
            let mut row = unframed(&mut rest)?;
            if row.is_empty() {
                break;
            }
            while !row.is_empty() {
                let (step, length) = codec::decode_prefix(row).map_err(malformed)?;
                flight.steps.push(step);
                row = &row[length..];
            }
        }
        if rest.is_empty() { Ok(flight) } else { Err(FlightError::Damaged) }
    }
}

/// A flight on its way into a file: what is to be written, one piece after the other.
pub struct Chunks<I> {
    /// Until it is taken.
    head: Option<Vec<u8>>,
    steps: I,
    /// What payloads are written as, if not as they are.
    hashes: Option<Arc<Hashes>>,
    written: usize,
    is_over: bool,
}

impl<I: Iterator<Item: Borrow<Step>>> Chunks<I> {
    pub(super) fn new(
        reason: &Reason,
        payloads: Payloads,
        key: Option<Key>,
        image: &Image,
        steps: I,
    ) -> Chunks<I> {
        let (hashes, key) = match payloads {
            Payloads::Hashed => (key.map(|key| Arc::new(Hashes::new(key))), None),
            Payloads::Whole => (None, key),
        };
        let length = u8::try_from(VERSION.len()).expect("a version is short");
        let mut head = Vec::new();
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(&FLIGHT_FORMAT.to_le_bytes());
        head.push(length);
        head.extend_from_slice(VERSION.as_bytes());
        let rest = hidden(hashes.as_ref(), || codec::encode(&(reason, payloads, key, image)));
        frame(&rest, &mut head);
        Chunks { head: Some(head), steps, hashes, written: 0, is_over: false }
    }

    /// How many steps are written so far.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.written
    }

    fn row(&mut self) -> Vec<u8> {
        let mut row = Vec::new();
        while row.len() < ROW_BYTES
            && let Some(step) = self.steps.next()
        {
            codec::encode_into(step.borrow(), &mut row);
            self.written += 1;
        }
        row
    }
}

impl<I: Iterator<Item: Borrow<Step>>> Iterator for Chunks<I> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if self.is_over {
            return None;
        }
        if let Some(head) = self.head.take() {
            return Some(head);
        }
        let hashes = self.hashes.clone();
        let row = hidden(hashes.as_ref(), || self.row());
        self.is_over = row.is_empty();
        let mut chunk = Vec::with_capacity(row.len() + 16);
        frame(&row, &mut chunk);
        Some(chunk)
    }
}

/// Does some work, in which payloads are hidden if they are to be.
fn hidden<T>(hashes: Option<&Arc<Hashes>>, work: impl FnOnce() -> T) -> T {
    match hashes {
        Some(hashes) => disguised(Arc::<Hashes>::clone(hashes), work),
        None => work(),
    }
}

fn frame(bytes: &[u8], into: &mut Vec<u8>) {
    into.extend_from_slice(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_le_bytes());
    into.extend_from_slice(&xxh3_64(bytes).to_le_bytes());
    into.extend_from_slice(bytes);
}

/// Takes what was framed off the front.
fn unframed<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], FlightError> {
    let (length, after) = rest.split_first_chunk().ok_or(FlightError::Damaged)?;
    let (checksum, after) = after.split_first_chunk().ok_or(FlightError::Damaged)?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| FlightError::Damaged)?;
    let (bytes, after) = after.split_at_checked(length).ok_or(FlightError::Damaged)?;
    if u64::from_le_bytes(*checksum) != xxh3_64(bytes) {
        return Err(FlightError::Damaged);
    }
    *rest = after;
    Ok(bytes)
}
