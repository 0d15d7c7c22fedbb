//! The accepting side: who may come in, and what they may say.
//!
//! Nodes send messages in one-way streams, a stream a lane. Anybody in the cluster may open two-way
//! streams and send requests; many can be under way on one stream, and each is answered on its own,
//! in whatever order they finish. Whoever has as many requests or bytes of answers under way as the [`ConnectionLimits`] allow
//! is not read from until one is answered; whoever begins a frame and does not end it, or does not read what it asked
//! for, is hung up on.

use std::sync::Arc;

use bytes::Bytes;
use quinn::{Connection, Endpoint, Incoming, RecvStream, SendStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::Instrument as _;

use super::connection::{FrameReader, HangUp, REQUEST_BYTES_MAX, identify};
use super::door::{Door, Reason};
use super::identity::Identity;
use super::limits::ConnectionLimits;
use crate::driver::{Handle, ReplyTo};
use crate::id::{ClusterName, NodeId};
use crate::node::{Caller, Input, Reply};
use crate::wire::{FRAME_BYTES_MAX, Frame};

/// In such pieces the bytes of answers are counted.
const ANSWER_PIECE_BYTES: usize = 1024;

/// Accepts connections for a node.
#[derive(Clone)]
pub(super) struct Server {
    cluster: ClusterName,
    own_id: NodeId,
    node: Handle,
    limits: ConnectionLimits,
    door: Arc<Door>,
    /// One permit for each client that may still connect.
    client_places: Arc<Semaphore>,
}

impl Server {
    pub(super) fn new(
        cluster: ClusterName,
        own_id: NodeId,
        node: Handle,
        limits: ConnectionLimits,
    ) -> Server {
        let client_places = Arc::new(Semaphore::new(limits.client_connections_max));
        let door = Arc::new(Door::new(limits.handshakes_max));
        Server { cluster, own_id, node, limits, door, client_places }
    }

    /// Accepts until the endpoint is closed.
    pub(super) async fn run(self, endpoint: Endpoint) {
        let mut connections = JoinSet::new();
        while let Some(incoming) = endpoint.accept().await {
            while connections.try_join_next().is_some() {}
            metrics::gauge!("rivven_connections").set(u32::try_from(connections.len()).unwrap_or(u32::MAX));
            let from = incoming.remote_address();
            if connections.len() >= self.limits.connections_max {
                let most = self.limits.connections_max;
                self.door.turn_away(
                    from,
                    Reason::Full,
                    &format_args!("there are {most} connections already"),
                );
                incoming.refuse();
                continue;
            }
            connections.spawn(self.clone().welcome(incoming).in_current_span());
        }
    }

    async fn welcome(self, incoming: Incoming) {
        let from = incoming.remote_address();
        let Some(connection) = self.door.shake_hands(incoming).await else { return };
        if let Err(hang_up) = self.receive(&connection).await {
            if let Some(reason) = hang_up.reason() {
                self.door.turn_away(from, reason, &hang_up);
                if reason != Reason::Full {
                    self.door.blame(from.ip(), 1);
                }
            }
            hang_up.close(&connection);
        }
    }

    async fn receive(&self, connection: &Connection) -> Result<(), HangUp> {
        let identity = identify(connection, &self.cluster)?;
        let _place = match identity.caller {
            Caller::Node(_) | Caller::Operator => None,
            Caller::Client => {
                let place = Arc::clone(&self.client_places).try_acquire_owned();
                Some(place.map_err(|_| HangUp::TooManyClients(self.limits.client_connections_max))?)
            }
        };
        self.serve(connection, &identity).await
    }

    /// Serves streams until the connection ends, or until the peer says what makes no sense.
    async fn serve(&self, connection: &Connection, identity: &Identity) -> Result<(), HangUp> {
        let mut streams: JoinSet<Result<(), HangUp>> = JoinSet::new();
        let callers = Callers::new(self, identity.caller);
        loop {
            tokio::select! {
                biased;
                Some(ended) = streams.join_next() => {
                    if let Ok(Err(hang_up)) = ended {
                        return Err(hang_up);
                    }
                }
                stream = connection.accept_uni() => {
                    let Ok(stream) = stream else { return Ok(()) };
                    let Caller::Node(from) = identity.caller else {
                        return Err(HangUp::Misplaced("message of somebody who is no node"));
                    };
                    if from == self.own_id {
                        return Err(HangUp::OwnIdentity);
                    }
                    let frames = FrameReader::new(stream, self.limits.frame_timeout, FRAME_BYTES_MAX);
                    streams.spawn(receive_messages(self.node.clone(), from, frames).in_current_span());
                }
                stream = connection.accept_bi() => {
                    let Ok((replies, requests)) = stream else { return Ok(()) };
                    streams.spawn(callers.clone().serve(replies, requests));
                }
            }
        }
    }
}

/// Hands the messages of one lane to the node, in order.
async fn receive_messages(node: Handle, from: NodeId, mut frames: FrameReader) -> Result<(), HangUp> {
    while let Some(frame) = frames.next().await? {
        match frame {
            Frame::Message(message) => node.input(Input::Message { from, message }).await,
            Frame::Request { .. } => return Err(HangUp::Misplaced("request")),
            Frame::Reply { .. } => return Err(HangUp::Misplaced("reply")),
        }
    }
    Ok(())
}

/// Those who ask over one connection.
#[derive(Clone)]
struct Callers {
    node: Handle,
    from: Caller,
    limits: ConnectionLimits,
    /// A permit for each piece of an answer that may still wait to be sent, over all streams.
    pieces: Arc<Semaphore>,
}

/// An encoded reply, and the right to have a request under way, and so many bytes of an answer.
type Answer = (Bytes, OwnedSemaphorePermit, OwnedSemaphorePermit);

impl Callers {
    fn new(server: &Server, from: Caller) -> Callers {
        let pieces = Arc::new(Semaphore::new(server.limits.answer_bytes_max.div_ceil(ANSWER_PIECE_BYTES)));
        Callers { node: server.node.clone(), from, limits: server.limits, pieces }
    }

    /// Serves the requests of one stream until it ends and all are answered.
    async fn serve(self, mut replies: SendStream, requests: RecvStream) -> Result<(), HangUp> {
        let (outbox, mut inbox) = mpsc::unbounded_channel::<Answer>();
        let patience = self.limits.frame_timeout;
        let read = self.read_requests(FrameReader::new(requests, patience, REQUEST_BYTES_MAX), outbox);
        let write = async move {
            while let Some((frame, ..)) = inbox.recv().await {
                // Only then is the request off our hands, and another may be read.
                match timeout(patience, replies.write_chunk(frame)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return Ok(()),
                    Err(_) => return Err(HangUp::Unread(patience)),
                }
            }
            let _ = replies.finish();
            Ok(())
        };
        tokio::try_join!(read, write).map(|_| ())
    }

    /// Reads requests while fewer than the limit are under way, until nobody listens to the answers. What
    /// waits in `outbox` holds permits, so it is bounded by the limits as well.
    async fn read_requests(
        self,
        mut frames: FrameReader,
        outbox: mpsc::UnboundedSender<Answer>,
    ) -> Result<(), HangUp> {
        let under_way = Arc::new(Semaphore::new(self.limits.requests_per_stream_max));
        loop {
            let permits = async {
                let turn = Arc::clone(&under_way).acquire_owned().await.ok()?;
                Some((turn, Arc::clone(&self.pieces).acquire_owned().await.ok()?))
            };
            let permits = tokio::select! {
                biased;
                () = outbox.closed() => return Ok(()),
                permits = permits => permits,
            };
            let Some((turn, piece)) = permits else { return Ok(()) };
            let (id, request) = match frames.next().await? {
                Some(Frame::Request { id, request }) => (id, request),
                Some(Frame::Message(_)) => return Err(HangUp::Misplaced("message")),
                Some(Frame::Reply { .. }) => return Err(HangUp::Misplaced("reply")),
                None => return Ok(()),
            };
            let (outbox, pieces) = (outbox.clone(), Arc::clone(&self.pieces));
            let reply_to: ReplyTo = Box::new(move |reply| {
                let (frame, pieces) = answer(id, reply, piece, &pieces);
                let _ = outbox.send((frame, turn, pieces));
            });
            self.node.submit(self.from, request, reply_to).await;
        }
    }
}

/// Encodes an answer. One that is too long to be sent, or that finds no room beside those that wait, leaves its caller
/// as wise as a lost one.
fn answer(
    id: u64,
    reply: Reply,
    mut piece: OwnedSemaphorePermit,
    pieces: &Arc<Semaphore>,
) -> (Bytes, OwnedSemaphorePermit) {
    if let Ok(frame) = (Frame::Reply { id, reply }).encode() {
        let more = u32::try_from(frame.len() / ANSWER_PIECE_BYTES).unwrap_or(u32::MAX);
        if let Ok(room) = Arc::clone(pieces).try_acquire_many_owned(more) {
            piece.merge(room);
            return (frame, piece);
        }
        metrics::counter!("rivven_answers_dropped_total").increment(1);
    }
    let frame = (Frame::Reply { id, reply: Reply::Unknown }).encode();
    (frame.expect("an unknown outcome is short"), piece)
}
