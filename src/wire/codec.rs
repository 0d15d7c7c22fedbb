//! Values to bytes and back: the one place that knows the byte format.
//!
//! serde describes the values and bincode 2 writes them: integers as varints, no field names, no
//! self-description. Decoding never panics, never allocates more than the input can hold (bincode is
//! given the limit), and accepts no bytes after the value.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The most bytes that a value may take, in memory and encoded.
pub const VALUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The most bytes that a value may take which [`decode_state`] reads.
pub const STATE_BYTES_MAX: usize = 64 * 1024 * 1024 * 1024;

const STATE_FORMAT: Configuration<LittleEndian, Varint, Limit<STATE_BYTES_MAX>> =
    bincode::config::standard().with_limit::<STATE_BYTES_MAX>();

const FORMAT: Configuration<LittleEndian, Varint, Limit<VALUE_BYTES_MAX>> =
    bincode::config::standard().with_limit::<VALUE_BYTES_MAX>();

/// Bytes that are no value of the wanted type. Nothing was changed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The bytes do not describe such a value.
    #[error("{0}")]
    Malformed(String),
    /// The value ends before the bytes do.
    #[error("{0} bytes follow the value")]
    Trailing(usize),
}

/// Encodes a value.
///
/// # Panics
///
/// If the type cannot be encoded at all (it is skipped by serde), which the type's first test shows.
#[must_use]
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_into(value, &mut bytes);
    bytes
}

/// Encodes a value behind what `bytes` hold.
///
/// # Panics
///
/// As [`encode`].
pub fn encode_into<T: Serialize>(value: &T, bytes: &mut Vec<u8>) {
    bincode::serde::encode_into_writer(value, Appender(bytes), FORMAT)
        .expect("the types of this crate can be encoded");
}

struct Appender<'a>(&'a mut Vec<u8>);

impl bincode::enc::write::Writer for Appender<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), bincode::error::EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Decodes a value that takes up all of `bytes`.
///
/// # Errors
///
/// [`CodecError`] if the bytes are anything else.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (value, used) = bincode::serde::decode_from_slice(bytes, FORMAT)
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    if used == bytes.len() { Ok(value) } else { Err(CodecError::Trailing(bytes.len() - used)) }
}

/// Decodes what this node has written itself, and tells how many of the bytes that took.
///
/// # Errors
///
/// [`CodecError`] if the bytes do not begin with such a value.
pub fn decode_prefix<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, usize), CodecError> {
    bincode::serde::decode_from_slice(bytes, STATE_FORMAT)
        .map_err(|error| CodecError::Malformed(error.to_string()))
}

/// Decodes what this node has written itself, or a state machine's state: it may be larger than any
/// message. Nothing is allocated that the bytes do not hold.
///
/// # Errors
///
/// [`CodecError`] if the bytes are anything else.
pub fn decode_state<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, CodecError> {
    let (value, used) = bincode::serde::borrow_decode_from_slice(bytes, STATE_FORMAT)
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    if used == bytes.len() { Ok(value) } else { Err(CodecError::Trailing(bytes.len() - used)) }
}

/// Decodes a value that takes up all of `bytes` and borrows from them.
///
/// # Errors
///
/// [`CodecError`] if the bytes are anything else.
pub fn decode_borrowed<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, CodecError> {
    let (value, used) = bincode::serde::borrow_decode_from_slice(bytes, FORMAT)
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    if used == bytes.len() { Ok(value) } else { Err(CodecError::Trailing(bytes.len() - used)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beyond_the_input_is_refused_without_allocating_it() {
        let claims_an_exabyte = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0x10];
        assert!(matches!(decode::<Vec<u64>>(&claims_an_exabyte), Err(CodecError::Malformed(_))));
    }

    #[test]
    fn bytes_after_the_value_are_refused() {
        assert_eq!(decode::<u8>(&[1, 2, 3]), Err(CodecError::Trailing(2)));
    }
}
