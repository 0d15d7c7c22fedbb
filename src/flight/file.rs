//! A flight as a file.
//!
//! ```text
//!   "RVFLIGHT" 8 │ format 4 │ version of the program: length 1, text │ XXH3-64 of the rest 8 │ flight
//! ```
//!
//! A flight holds the innards of a node, so it is read by the version that wrote it, and by no other.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::disguise::{Hashes, Key};
use super::{Flight, Payloads};
use crate::payload::disguised;
use crate::wire::codec;

/// The format of the files. It changes with every change of what a node consists of.
pub const FLIGHT_FORMAT: u32 = 1;

const MAGIC: &[u8; 8] = b"RVFLIGHT";
const VERSION: &str = env!("CARGO_PKG_VERSION");

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
    #[error("it is damaged: its checksum is another one")]
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
        let body = match (payloads, key) {
            (Payloads::Hashed, Some(key)) => {
                let hashes = Arc::new(Hashes::new(*key));
                disguised(hashes, || codec::encode(&(reason, payloads, None::<Key>, image, steps)))
            }
            (Payloads::Hashed, None) | (Payloads::Whole, _) => codec::encode(self),
        };
        let length = u8::try_from(VERSION.len()).expect("a version is short");
        let mut bytes = Vec::with_capacity(body.len() + 64);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FLIGHT_FORMAT.to_le_bytes());
        bytes.push(length);
        bytes.extend_from_slice(VERSION.as_bytes());
        bytes.extend_from_slice(&xxh3_64(&body).to_le_bytes());
        bytes.extend_from_slice(&body);
        bytes
    }

    /// Reads what [`Flight::encode`] wrote.
    ///
    /// # Errors
    ///
    /// [`FlightError`] if the bytes are anything else.
    pub fn decode(bytes: &[u8]) -> Result<Flight, FlightError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(FlightError::NoFlight)?;
        let (format, rest) = rest.split_first_chunk().ok_or(FlightError::Damaged)?;
        let (length, rest) = rest.split_first().ok_or(FlightError::Damaged)?;
        let (version, rest) = rest.split_at_checked(usize::from(*length)).ok_or(FlightError::Damaged)?;
        let (format, version) = (u32::from_le_bytes(*format), String::from_utf8_lossy(version).into_owned());
        if format != FLIGHT_FORMAT || version != VERSION {
            return Err(FlightError::OtherVersion { version, format });
        }
        let (checksum, body) = rest.split_first_chunk().ok_or(FlightError::Damaged)?;
        if u64::from_le_bytes(*checksum) != xxh3_64(body) {
            return Err(FlightError::Damaged);
        }
        codec::decode_state(body).map_err(|error| FlightError::Malformed(error.to_string()))
    }
}
