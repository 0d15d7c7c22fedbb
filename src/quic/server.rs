//! The accepting side: who may come in, and what they may say.
//!
//! Nodes send messages in one-way streams, a stream a lane. Anybody in the cluster may open two-way
//! streams and send requests; many can be under way on one stream, and each is answered on its own,
//! in whatever order they finish. Whoever has as many requests under way as the
//! [`ConnectionLimits`] allow is not read from until one is answered; whoever begins a frame and does not end it, or does not read what it asked
//! for, is hung up on. What requests and their answers take while they are under way is
//! given to callers from one [`Room`], and so are the number of requests, and the places of clients; beside that each
//! connection has its windows.

use std::sync::Arc;

use bytes::Bytes;
use quinn::{Connection, Endpoint, Incoming, RecvStream, SendStream, VarInt, WriteError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::Instrument as _;

use super::connection::{FrameReader, HangUp, REQUEST_BYTES_MAX, identify};
use super::door::{Door, Reason};
use super::endpoint::{CALLER_WINDOW_BYTES, CONNECTION_WINDOW_BYTES};
use super::limits::ConnectionLimits;
use super::room::{Holder, Place, Room, holder};
use crate::driver::recorder::{Trigger, Written};
use crate::driver::{Handle, ReplyTo};
use crate::id::{ClusterName, NodeId};
use crate::node::{Caller, Input, Rejection, Reply, Request};
use crate::wire::{FRAME_BYTES_MAX, Frame};

/// So much of an answer is written at once.
const PIECE_BYTES: usize = 64 * 1024;
/// Room that is kept for each answer while its request is under way: it is there for whoever wrote something.
const SHORT_ANSWER_BYTES: usize = 1024;

/// Accepts connections for a node.
#[derive(Clone)]
pub(super) struct Server {
    cluster: ClusterName,
    own_id: NodeId,
    node: Handle,
    limits: ConnectionLimits,
    recorder: Option<Trigger>,
    door: Arc<Door>,
    /// The connections of clients.
    client_places: Arc<Room>,
    /// The bytes of what callers ask, and are answered.
    room: Arc<Room>,
    /// The requests that are under way.
    requests: Arc<Room>,
}

impl Server {
    pub(super) fn new(
        cluster: ClusterName,
        own_id: NodeId,
        node: Handle,
        limits: ConnectionLimits,
        recorder: Option<Trigger>,
    ) -> Server {
        let client_places =
            Room::new(limits.client_connections_max, metrics::gauge!("rivven_client_connections"));
        let room = Room::new(limits.callers_bytes_max, metrics::gauge!("rivven_callers_bytes"));
        let requests = Room::new(limits.requests_max, metrics::gauge!("rivven_requests"));
        let door = Arc::new(Door::new(limits.handshakes_max));
        Server { cluster, own_id, node, limits, recorder, door, client_places, room, requests }
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
        let holder = holder(identity.caller, connection.remote_address().ip());
        let mut place = self.client_places.enter(holder);
        match identity.caller {
            Caller::Node(_) => connection.set_receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES)),
            Caller::Operator | Caller::Client => connection.set_send_window(u64::from(CALLER_WINDOW_BYTES)),
        }
        if identity.caller == Caller::Client && !place.try_grow(1) {
            return Err(HangUp::TooManyClients(self.limits.client_connections_max));
        }
        self.serve(connection, holder).await
    }

    /// Serves streams until the connection ends, or until the peer says what makes no sense.
    async fn serve(&self, connection: &Connection, holder: Holder) -> Result<(), HangUp> {
        let mut streams: JoinSet<Result<(), HangUp>> = JoinSet::new();
        let (room, requests) = (Arc::clone(&self.room), Arc::clone(&self.requests));
        let may_record = match holder.0 {
            Caller::Operator => true,
            Caller::Node(node) => node == self.own_id,
            Caller::Client => false,
        };
        let recorder = self.recorder.clone().filter(|_| may_record);
        let (node, limits) = (self.node.clone(), self.limits);
        let callers = Callers { node, holder, limits, recorder, room, requests };
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
                    let Caller::Node(from) = holder.0 else {
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
    holder: Holder,
    limits: ConnectionLimits,
    /// If they may ask for what it has recorded.
    recorder: Option<Trigger>,
    room: Arc<Room>,
    requests: Arc<Room>,
}

/// An encoded reply, the right to have a request under way, of this stream and of all, and the room that both take.
type Answer = (Bytes, OwnedSemaphorePermit, [Place; 2]);

impl Callers {
    /// Serves the requests of one stream until it ends and all are answered.
    async fn serve(self, mut replies: SendStream, requests: RecvStream) -> Result<(), HangUp> {
        let (outbox, mut inbox) = mpsc::unbounded_channel::<Answer>();
        let patience = self.limits.frame_timeout;
        let frames = FrameReader::new(requests, patience, REQUEST_BYTES_MAX);
        let read = self.read_requests(frames, outbox);
        let write = async move {
            while let Some((frame, ..)) = inbox.recv().await {
                // Only then is the request off our hands, and another may be read.
                match timeout(patience, write(&mut replies, &frame)).await {
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
    /// waits in `outbox` holds its right to be under way, so it is bounded as well.
    async fn read_requests(
        self,
        frames: FrameReader,
        outbox: mpsc::UnboundedSender<Answer>,
    ) -> Result<(), HangUp> {
        let mut frames = frames.within(self.room.enter(self.holder));
        let under_way = Arc::new(Semaphore::new(self.limits.requests_per_stream_max));
        loop {
            let turn = tokio::select! {
                biased;
                () = outbox.closed() => return Ok(()),
                turn = Arc::clone(&under_way).acquire_owned() => turn,
            };
            let Ok(turn) = turn else { return Ok(()) };
            let (id, request) = match frames.next().await? {
                Some(Frame::Request { id, request }) => (id, request),
                Some(Frame::Message(_)) => return Err(HangUp::Misplaced("message")),
                Some(Frame::Reply { .. }) => return Err(HangUp::Misplaced("reply")),
                None => return Ok(()),
            };
            let (mut place, length) =
                frames.place_of_last().unwrap_or_else(|| (self.room.enter(self.holder), 0));
            let mut request_place = self.requests.enter(self.holder);
            let has_room = request_place.try_grow(1) && place.fit(length + SHORT_ANSWER_BYTES);
            let outbox = outbox.clone();
            let reply_to: ReplyTo = Box::new(move |reply| {
                let frame = answer(id, reply, &mut place);
                let _ = outbox.send((frame, turn, [place, request_place]));
            });
            if let (true, Request::Record, Some(recorder)) = (has_room, &request, &self.recorder) {
                tokio::spawn(record(recorder.clone(), reply_to));
            } else if has_room {
                self.node.submit(self.holder.0, request, reply_to).await;
            } else {
                reply_to(Reply::Rejected(Rejection::Busy));
            }
        }
    }
}

/// Has what was recorded written down, and says where.
async fn record(recorder: Trigger, reply_to: ReplyTo) {
    let number = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
    reply_to(match recorder.write().await {
        Ok(Written { path, steps, bytes }) => {
            Reply::Recorded { path: path.display().to_string(), steps: number(steps), bytes }
        }
        Err(error) => Reply::Rejected(Rejection::NotRecorded(error.to_string())),
    });
}

/// Writes copies of an answer: what was sent and not acknowledged would keep all of the original in memory, which is not
/// counted any more then.
async fn write(replies: &mut SendStream, frame: &Bytes) -> Result<(), WriteError> {
    for piece in frame.chunks(PIECE_BYTES) {
        replies.write_all(piece).await?;
    }
    Ok(())
}

/// Encodes an answer. One that is too long to be sent, or for which there is no room, leaves its caller as wise as a lost
/// one.
fn answer(id: u64, reply: Reply, place: &mut Place) -> Bytes {
    if !place.could_fit(reply.bulk()) {
        metrics::counter!("rivven_answers_dropped_total").increment(1);
    } else if let Ok(frame) = (Frame::Reply { id, reply }).encode() {
        if place.fit(frame.len()) {
            return frame;
        }
        metrics::counter!("rivven_answers_dropped_total").increment(1);
    }
    let frame = (Frame::Reply { id, reply: Reply::Unknown }).encode();
    frame.expect("an unknown outcome is short")
}
