//! Frames: how messages travel in an ordered stream of bytes.
//!
//! ```text
//!   0        1        2                4                8                12
//!   ├────────┼────────┼────────────────┼────────────────┼────────────────┼─────── … ┤
//!   │version │  kind  │  reserved (0)  │ length (bytes) │    checksum    │   body   │
//!   └────────┴────────┴────────────────┴────────────────┴────────────────┴──────────┘
//! ```
//!
//! All numbers are little-endian. The checksum is the low half of the XXH3-64 of the body: TLS already
//! guards the path, this one catches our own mistakes on either side of it. The version says how the
//! rest is to be read; a frame of another version is refused. A *kind* that this version does not know
//! is skipped by its length, so that a newer node can say more to those that understand it.
//!
//! Nothing here panics on any bytes, and nothing allocates more than [`FRAME_BYTES_MAX`].

pub mod codec;

use bytes::{Buf, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use self::codec::CodecError;
use crate::node::{Message, Reply, Request};

/// The version of the frames that this build writes and reads.
pub const VERSION: u8 = 1;
/// The bytes before the body.
pub const HEADER_BYTES: usize = 12;
/// The most bytes that a body may have.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What one frame carries.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Frame {
    /// A node to a node.
    Message(Message),
    /// A caller asks; `id` is the caller's own number for it.
    Request {
        /// Unique on this stream.
        id: u64,
        /// What is asked.
        request: Request,
    },
    /// The answer to the request of that number.
    Reply {
        /// The number of the request.
        id: u64,
        /// The answer.
        reply: Reply,
    },
}

/// A frame that cannot be read. The stream it came on is lost: close it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Upgrade the older side.
    #[error("the frame is of version {found}, this build reads version {VERSION}")]
    Version {
        /// The version in the frame.
        found: u8,
    },
    /// The peer sends more than it may, or the stream is out of step.
    #[error("the frame claims {length} bytes, the most is {FRAME_BYTES_MAX}")]
    TooLong {
        /// The length in the frame.
        length: usize,
    },
    /// Reserved bits are set: the stream is out of step.
    #[error("reserved bits of the frame are set: {found:#06x}")]
    Reserved {
        /// What stands there.
        found: u16,
    },
    /// The body is not what the sender wrote.
    #[error("the checksum of a frame of kind {kind} does not fit: {found:#010x}, not {expected:#010x}")]
    Checksum {
        /// The kind of the frame.
        kind: u8,
        /// What the body gives.
        found: u32,
        /// What the frame says.
        expected: u32,
    },
    /// The body is no value of its kind.
    #[error("the body of a frame of kind {kind} cannot be read: {error}")]
    Body {
        /// The kind of the frame.
        kind: u8,
        /// What is wrong with it.
        error: CodecError,
    },
}

/// What the bytes so far hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decoded {
    /// One frame.
    Frame(Frame),
    /// One frame of a kind that this version does not know; it was passed over.
    Skipped {
        /// Its kind.
        kind: u8,
    },
    /// Not yet a whole frame.
    Incomplete {
        /// So many bytes more there must be, at least: of the header, or once that is there, of the whole frame.
        missing: usize,
    },
}

const KIND_MESSAGE: u8 = 1;
const KIND_REQUEST: u8 = 2;
const KIND_REPLY: u8 = 3;

impl Frame {
    /// Encodes the frame, header and all.
    ///
    /// # Errors
    ///
    /// [`WireError::TooLong`] if the body is longer than [`FRAME_BYTES_MAX`]. The limits on commands and
    /// on appends keep messages below it; only the answers of a state machine can be so long.
    pub fn encode(&self) -> Result<Bytes, WireError> {
        let (kind, body) = match self {
            Frame::Message(message) => (KIND_MESSAGE, codec::encode(message)),
            Frame::Request { id, request } => (KIND_REQUEST, codec::encode(&(id, request))),
            Frame::Reply { id, reply } => (KIND_REPLY, codec::encode(&(id, reply))),
        };
        let too_long = WireError::TooLong { length: body.len() };
        let length = u32::try_from(body.len()).map_err(|_| too_long.clone())?;
        if body.len() > FRAME_BYTES_MAX {
            return Err(too_long);
        }
        let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
        bytes.extend_from_slice(&[VERSION, kind, 0, 0]);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&checksum(&body).to_le_bytes());
        bytes.extend_from_slice(&body);
        Ok(Bytes::from(bytes))
    }

    fn decode_body(kind: u8, body: &[u8]) -> Result<Option<Frame>, CodecError> {
        Ok(Some(match kind {
            KIND_MESSAGE => Frame::Message(codec::decode(body)?),
            KIND_REQUEST => {
                let (id, request) = codec::decode(body)?;
                Frame::Request { id, request }
            }
            KIND_REPLY => {
                let (id, reply) = codec::decode(body)?;
                Frame::Reply { id, reply }
            }
            _ => return Ok(None),
        }))
    }
}

/// Takes the first frame off `buffer`; leaves it alone while the frame is incomplete.
///
/// # Errors
///
/// [`WireError`] if the bytes can never become a frame.
pub fn decode(buffer: &mut BytesMut) -> Result<Decoded, WireError> {
    let Some(header) = buffer.first_chunk::<HEADER_BYTES>() else {
        return Ok(Decoded::Incomplete { missing: HEADER_BYTES - buffer.len() });
    };
    let [version, kind, reserved @ ..] = *header;
    let [r0, r1, l0, l1, l2, l3, c0, c1, c2, c3] = reserved;
    let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
    let expected = u32::from_le_bytes([c0, c1, c2, c3]);
    if version != VERSION {
        return Err(WireError::Version { found: version });
    }
    if [r0, r1] != [0, 0] {
        return Err(WireError::Reserved { found: u16::from_le_bytes([r0, r1]) });
    }
    if length > FRAME_BYTES_MAX {
        return Err(WireError::TooLong { length });
    }
    if buffer.len() < HEADER_BYTES + length {
        return Ok(Decoded::Incomplete { missing: HEADER_BYTES + length - buffer.len() });
    }
    buffer.advance(HEADER_BYTES);
    let body = buffer.split_to(length);
    let found = checksum(&body);
    if found != expected {
        return Err(WireError::Checksum { kind, found, expected });
    }
    match Frame::decode_body(kind, &body) {
        Ok(Some(frame)) => Ok(Decoded::Frame(frame)),
        Ok(None) => Ok(Decoded::Skipped { kind }),
        Err(error) => Err(WireError::Body { kind, error }),
    }
}

fn checksum(body: &[u8]) -> u32 {
    let [b0, b1, b2, b3, ..] = xxh3_64(body).to_le_bytes();
    u32::from_le_bytes([b0, b1, b2, b3])
}
