//! What both ends of a connection do: prove who they are, move frames, and say why they hang up.

use core::time::Duration;

use bytes::BytesMut;
use quinn::{Connection, ConnectionError, RecvStream, VarInt};
use rustls::pki_types::CertificateDer;
use tokio::time::{Instant, timeout_at};

use super::door::Reason;
use super::identity::{Identity, IdentityError};
use super::room::Place;
use crate::id::ClusterName;
use crate::wire::{self, Decoded, FRAME_BYTES_MAX, Frame, HEADER_BYTES, WireError};

/// How much is read from a stream at once.
const READ_BYTES: usize = 64 * 1024;
/// Of each stream, so many bytes may be in memory that are not counted.
const UNCOUNTED_BYTES: usize = 4 * 1024;

/// Why this side hangs up. The code goes over the wire, the text beside it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HangUp {
    /// The process ends.
    #[error("the node is shutting down")]
    Shutdown,
    /// The peer's certificate names nobody.
    #[error(transparent)]
    Nameless(#[from] IdentityError),
    /// The peer's certificate is another cluster's.
    #[error("this is cluster {ours:?}, but the certificate is for {theirs}")]
    OtherCluster {
        /// This cluster.
        ours: String,
        /// Whom the certificate names.
        theirs: String,
    },
    /// The peer claims the id of this very node.
    #[error("the certificate is that of this node itself")]
    OwnIdentity,
    /// Who was dialled as a node is none.
    #[error("{0} cannot be a node")]
    NotANode(String),
    /// What the peer sends makes no sense.
    #[error("the stream cannot be read: {0}")]
    Wire(#[from] WireError),
    /// The node serves as many clients as it may, or as many from that address; ask another, or close connections.
    #[error(
        "this node serves {0} clients at most, and from one address no more than it keeps free for others: there is no place"
    )]
    TooManyClients(usize),
    /// A frame that has no place in this stream, or on a connection of this kind.
    #[error("a {0} has no place in this stream")]
    Misplaced(&'static str),
    /// The peer began a frame and did not end it.
    #[error("a frame was begun, and did not end within {0:?}")]
    Stalled(Duration),
    /// A frame is longer than whoever sends it may have it.
    #[error("a frame has more than {0} bytes")]
    TooLong(usize),
    /// There is no memory for what the peer sends: others, or it itself, have taken it.
    #[error("there was no room for a request within {0:?}")]
    NoRoom(Duration),
    /// The peer does not read what it asked for.
    #[error("an answer was not read within {0:?}")]
    Unread(Duration),
}

impl HangUp {
    fn code(&self) -> u32 {
        match self {
            HangUp::Shutdown => 0,
            HangUp::Nameless(_) => 1,
            HangUp::OtherCluster { .. } => 2,
            HangUp::OwnIdentity => 3,
            HangUp::NotANode(_) => 4,
            HangUp::Wire(_) => 5,
            HangUp::Misplaced(_) => 6,
            HangUp::TooManyClients(_) => 7,
            HangUp::Stalled(_) => 8,
            HangUp::Unread(_) => 9,
            HangUp::TooLong(_) => 10,
            HangUp::NoRoom(_) => 11,
        }
    }

    /// As what it is counted.
    pub(super) fn reason(&self) -> Option<Reason> {
        Some(match self {
            HangUp::Shutdown => return None,
            HangUp::Nameless(_) | HangUp::OtherCluster { .. } | HangUp::NotANode(_) => Reason::OtherName,
            HangUp::OwnIdentity => Reason::OwnIdentity,
            HangUp::Wire(_) | HangUp::Misplaced(_) | HangUp::TooLong(_) => Reason::Nonsense,
            HangUp::TooManyClients(_) | HangUp::NoRoom(_) => Reason::Full,
            HangUp::Stalled(_) => Reason::Stalled,
            HangUp::Unread(_) => Reason::Unread,
        })
    }

    /// Closes the connection, and tells the peer why.
    pub(super) fn close(&self, connection: &Connection) {
        connection.close(VarInt::from_u32(self.code()), self.to_string().as_bytes());
    }
}

/// Reads who the peer is, and checks that it belongs to `cluster`.
pub(super) fn identify(connection: &Connection, cluster: &ClusterName) -> Result<Identity, HangUp> {
    let certificates = connection.peer_identity().ok_or(IdentityError::Missing)?;
    let certificates = certificates.downcast::<Vec<CertificateDer<'static>>>();
    let certificates = certificates.map_err(|_| IdentityError::Missing)?;
    let identity = Identity::of(certificates.first().ok_or(IdentityError::Missing)?)?;
    if identity.cluster != *cluster {
        let (ours, theirs) = (cluster.to_string(), identity.to_string());
        return Err(HangUp::OtherCluster { ours, theirs });
    }
    Ok(identity)
}

/// The most bytes of a request. Nodes send longer frames to each other: snapshots, and records of many batches.
pub(super) const REQUEST_BYTES_MAX: usize = FRAME_BYTES_MAX / 4 + 64 * 1024;

/// Reads frames from a stream, one after the other.
pub(super) struct FrameReader {
    stream: RecvStream,
    buffer: BytesMut,
    /// The most bytes of one frame's body.
    longest: usize,
    /// How long a frame may take from its first byte to its last.
    patience: Duration,
    /// When the frame at hand must be there, once it has begun.
    due: Option<Instant>,
    /// The room that a long frame takes, if that is counted. It is taken for all of the frame at once, or many that are
    /// begun and not ended could wait for each other.
    place: Option<Place>,
    /// The bytes of the last frame.
    last: usize,
}

impl FrameReader {
    pub(super) fn new(stream: RecvStream, patience: Duration, longest: usize) -> FrameReader {
        let (buffer, due, place, last) = (BytesMut::new(), None, None, 0);
        FrameReader { stream, buffer, longest, patience, due, place, last }
    }

    /// Reads no more than there is room for.
    pub(super) fn within(self, place: Place) -> FrameReader {
        FrameReader { place: Some(place), ..self }
    }

    /// The room that the last frame has, if that is counted, and its bytes: those of a short one have no room yet.
    pub(super) fn place_of_last(&mut self) -> Option<(Place, usize)> {
        let last = self.last;
        self.place.as_mut().map(|place| (place.split_all(), last))
    }

    /// Waits for the next frame; `None` when the stream has ended or was cut off.
    ///
    /// Frames of unknown kinds are passed over. Cancelling the wait loses nothing.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, HangUp> {
        loop {
            let length = self.buffer.len();
            match wire::decode(&mut self.buffer)? {
                Decoded::Frame(frame) => {
                    self.forget(length);
                    return Ok(Some(frame));
                }
                Decoded::Skipped { kind } => {
                    self.forget(length);
                    drop(self.place_of_last());
                    tracing::debug!(kind, "passed over a frame of unknown kind");
                }
                Decoded::Incomplete { missing } if length + missing > self.longest + HEADER_BYTES => {
                    return Err(HangUp::TooLong(self.longest));
                }
                Decoded::Incomplete { missing } if !self.read(missing).await? => return Ok(None),
                Decoded::Incomplete { .. } => {}
            }
        }
    }

    /// A frame was taken off a buffer of that length. An empty buffer would keep the memory of its longest frame.
    fn forget(&mut self, length: usize) {
        self.due = None;
        self.last = length - self.buffer.len();
        if self.buffer.is_empty() && length > READ_BYTES {
            self.buffer = BytesMut::new();
        }
    }

    /// Waits for some of the bytes that are missing, and for room for all of them; `false` if none will come.
    async fn read(&mut self, missing: usize) -> Result<bool, HangUp> {
        let whole = self.buffer.len() + missing;
        if let (Some(place), true) = (&mut self.place, whole > UNCOUNTED_BYTES) {
            let due = *self.due.get_or_insert_with(|| Instant::now() + self.patience);
            let grown = timeout_at(due, place.grow_to(whole)).await;
            grown.map_err(|_| HangUp::NoRoom(self.patience))?;
        }
        let most = if self.place.is_some() { missing.clamp(UNCOUNTED_BYTES, READ_BYTES) } else { READ_BYTES };
        let read = self.stream.read_chunk(most, true);
        let read = if self.buffer.is_empty() {
            read.await
        } else {
            let due = *self.due.get_or_insert_with(|| Instant::now() + self.patience);
            timeout_at(due, read).await.map_err(|_| HangUp::Stalled(self.patience))?
        };
        let Ok(Some(chunk)) = read else { return Ok(false) };
        self.buffer.extend_from_slice(&chunk.bytes);
        Ok(true)
    }
}

/// Says in words, and with what to do, why a connection failed.
pub(super) fn explain(error: &ConnectionError, cluster: &ClusterName) -> String {
    let text = error.to_string();
    // Who hears of an alert is told what is wrong with what it shows itself.
    let is_told = matches!(error, ConnectionError::ConnectionClosed(_));
    let (whose, ours) = if is_told { ("our", "its") } else { ("its", "ours") };
    match Reason::of(error) {
        Reason::OtherAuthority => {
            format!("{whose} certificate was issued by another authority than {ours} ({text})")
        }
        Reason::OtherName => {
            format!("{whose} certificate is not that of a node of cluster {:?} ({text})", cluster.as_str())
        }
        Reason::Expired => format!("{whose} certificate has expired, or is not valid yet ({text})"),
        Reason::NoCertificate => format!("no certificate was shown ({text})"),
        Reason::OtherProtocol => format!("it speaks another version of the protocol ({text})"),
        Reason::Handshake
        | Reason::OwnIdentity
        | Reason::Nonsense
        | Reason::Stalled
        | Reason::Unread
        | Reason::Full
        | Reason::Crowd
        | Reason::Again => text,
    }
}
