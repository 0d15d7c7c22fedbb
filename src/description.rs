//! What a node tells all others of itself by gossip, beside where it gossips.

use serde::{Deserialize, Serialize};

use crate::id::PeerName;
use crate::wire::codec;

/// The format of the bytes; it comes first. Others are not understood.
const FORMAT: u8 = 1;

/// What a node says of itself.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Description {
    /// Where nodes and clients reach it.
    pub address: PeerName,
}

impl Description {
    /// Writes it down.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        bytes.extend(codec::encode(self));
        bytes
    }

    /// Reads what [`Description::encode`] wrote; `None` if it is something else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Description> {
        let (format, bytes) = bytes.split_first()?;
        (*format == FORMAT).then(|| codec::decode(bytes).ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_read_as_it_was_written_and_nothing_else_is_taken_for_one() {
        let description = Description { address: "node1.example:9093".parse().unwrap() };
        let bytes = description.encode();
        assert_eq!(Description::decode(&bytes), Some(description));
        assert_eq!(Description::decode(&[]), None);
        assert_eq!(Description::decode(&bytes[1..]), None);
        assert_eq!(Description::decode(&bytes[..bytes.len() - 1]), None);
        // A name that is none.
        assert_eq!(Description::decode(&[FORMAT, 1, b' ']), None);
    }
}
