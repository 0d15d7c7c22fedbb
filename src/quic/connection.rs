//! What both ends of a connection do: prove who they are, move frames, and say why they hang up.

use bytes::BytesMut;
use quinn::{Connection, ConnectionError, RecvStream, VarInt};
use rustls::pki_types::CertificateDer;

use super::identity::{Identity, IdentityError};
use crate::id::ClusterName;
use crate::wire::{self, Decoded, Frame, WireError};

/// How much is read from a stream at once.
const READ_BYTES: usize = 64 * 1024;

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
    /// The node serves as many clients as it may; ask another, or close connections.
    #[error("this node serves {0} clients already")]
    TooManyClients(usize),
    /// A frame that has no place in this stream, or on a connection of this kind.
    #[error("a {0} has no place in this stream")]
    Misplaced(&'static str),
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
        }
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

/// Reads frames from a stream, one after the other.
pub(super) struct FrameReader {
    stream: RecvStream,
    buffer: BytesMut,
}

impl FrameReader {
    pub(super) fn new(stream: RecvStream) -> FrameReader {
        FrameReader { stream, buffer: BytesMut::new() }
    }

    /// Waits for the next frame; `None` when the stream has ended or was cut off.
    ///
    /// Frames of unknown kinds are passed over. Cancelling the wait loses nothing.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, WireError> {
        loop {
            match wire::decode(&mut self.buffer)? {
                Decoded::Frame(frame) => return Ok(Some(frame)),
                Decoded::Skipped { kind } => tracing::debug!(kind, "passed over a frame of unknown kind"),
                Decoded::Incomplete => match self.stream.read_chunk(READ_BYTES, true).await {
                    Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk.bytes),
                    Ok(None) | Err(_) => return Ok(None),
                },
            }
        }
    }
}

/// Says in words, and with what to do, why a connection failed.
pub(super) fn explain(error: &ConnectionError, cluster: &ClusterName) -> String {
    let text = error.to_string();
    if text.contains("UnknownIssuer") || text.contains("UnknownCA") || text.contains("BadSignature") {
        return format!("its certificate was issued by another authority than ours ({text})");
    }
    if text.contains("NotValidForName") || text.contains("not valid for name") {
        return format!("its certificate is not that of a node of cluster {:?} ({text})", cluster.as_str());
    }
    if text.contains("application protocol") || text.contains("NoApplicationProtocol") {
        return format!("it speaks another version of the protocol ({text})");
    }
    text
}
