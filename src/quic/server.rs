//! The accepting side: who may come in, and what they may say.
//!
//! Nodes send messages in one-way streams, a stream a lane. Anybody in the cluster may open two-way
//! streams and send requests; many can be under way on one stream, and each is answered on its own,
//! in whatever order they finish. Whoever has [`REQUESTS_PER_STREAM`] unanswered requests on a stream
//! is not read from until one is answered.

use std::sync::Arc;

use bytes::Bytes;
use quinn::{Connection, Endpoint, Incoming, RecvStream, SendStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use super::connection::{FrameReader, HangUp, identify};
use super::identity::Identity;
use crate::driver::{Handle, ReplyTo};
use crate::id::{ClusterName, NodeId};
use crate::node::{Caller, Input, Reply};
use crate::wire::{Frame, WireError};

/// The most requests of one stream that are under way.
const REQUESTS_PER_STREAM: usize = 1024;
/// The most connections at one time. Beyond it, new ones are refused.
const CONNECTIONS_MAX: usize = 1024;
/// The most connections of clients and operators; the rest is kept for nodes and for handshakes.
const CLIENT_CONNECTIONS_MAX: usize = 768;

/// Accepts connections for a node.
#[derive(Clone)]
pub(super) struct Server {
    cluster: ClusterName,
    own_id: NodeId,
    node: Handle,
    /// One permit for each client that may still connect.
    client_places: Arc<Semaphore>,
}

impl Server {
    pub(super) fn new(cluster: ClusterName, own_id: NodeId, node: Handle) -> Server {
        Server { cluster, own_id, node, client_places: Arc::new(Semaphore::new(CLIENT_CONNECTIONS_MAX)) }
    }

    /// Accepts until the endpoint is closed.
    pub(super) async fn run(self, endpoint: Endpoint) {
        let mut connections = JoinSet::new();
        while let Some(incoming) = endpoint.accept().await {
            while connections.try_join_next().is_some() {}
            if connections.len() >= CONNECTIONS_MAX {
                incoming.refuse();
                continue;
            }
            connections.spawn(self.clone().welcome(incoming));
        }
    }

    async fn welcome(self, incoming: Incoming) {
        let from = incoming.remote_address();
        let connection = match incoming.await {
            Ok(connection) => connection,
            Err(error) => {
                tracing::debug!(%from, %error, "a handshake failed");
                return;
            }
        };
        if let Err(hang_up) = self.receive(&connection).await {
            tracing::warn!(%from, "refused a peer: {hang_up}");
            hang_up.close(&connection);
        }
    }

    async fn receive(&self, connection: &Connection) -> Result<(), HangUp> {
        let identity = identify(connection, &self.cluster)?;
        let _place = match identity.caller {
            Caller::Node(_) => None,
            Caller::Client | Caller::Operator => {
                let place = Arc::clone(&self.client_places).try_acquire_owned();
                Some(place.map_err(|_| HangUp::TooManyClients(CLIENT_CONNECTIONS_MAX))?)
            }
        };
        self.serve(connection, &identity).await
    }

    /// Serves streams until the connection ends, or until the peer says what makes no sense.
    async fn serve(&self, connection: &Connection, identity: &Identity) -> Result<(), HangUp> {
        let mut streams: JoinSet<Result<(), HangUp>> = JoinSet::new();
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
                    streams.spawn(receive_messages(self.node.clone(), from, stream));
                }
                stream = connection.accept_bi() => {
                    let Ok((replies, requests)) = stream else { return Ok(()) };
                    streams.spawn(serve_requests(self.node.clone(), identity.caller, replies, requests));
                }
            }
        }
    }
}

/// Hands the messages of one lane to the node, in order.
async fn receive_messages(node: Handle, from: NodeId, stream: RecvStream) -> Result<(), HangUp> {
    let mut frames = FrameReader::new(stream);
    while let Some(frame) = frames.next().await? {
        match frame {
            Frame::Message(message) => node.input(Input::Message { from, message }).await,
            Frame::Request { .. } => return Err(HangUp::Misplaced("request")),
            Frame::Reply { .. } => return Err(HangUp::Misplaced("reply")),
        }
    }
    Ok(())
}

/// Serves the requests of one stream until it ends and all are answered.
async fn serve_requests(
    node: Handle,
    from: Caller,
    mut replies: SendStream,
    requests: RecvStream,
) -> Result<(), HangUp> {
    let (outbox, mut inbox) = mpsc::unbounded_channel::<Answer>();
    let read = read_requests(node, from, requests, outbox);
    let write = async move {
        while let Some((frame, permit)) = inbox.recv().await {
            if replies.write_chunk(frame).await.is_err() {
                return;
            }
            // Only now is the request off our hands, and another may be read.
            drop(permit);
        }
        let _ = replies.finish();
    };
    let (read, ()) = tokio::join!(read, write);
    read
}

/// An encoded reply, and the right to have a request under way.
type Answer = (Bytes, OwnedSemaphorePermit);

/// Reads requests while fewer than the limit are under way, until nobody listens to the answers. What
/// waits in `outbox` holds a permit, so it is bounded by the limit as well.
async fn read_requests(
    node: Handle,
    from: Caller,
    requests: RecvStream,
    outbox: mpsc::UnboundedSender<Answer>,
) -> Result<(), HangUp> {
    let under_way = Arc::new(Semaphore::new(REQUESTS_PER_STREAM));
    let mut frames = FrameReader::new(requests);
    loop {
        let permit = tokio::select! {
            biased;
            () = outbox.closed() => return Ok(()),
            permit = Arc::clone(&under_way).acquire_owned() => permit,
        };
        let Ok(permit) = permit else { return Ok(()) };
        let (id, request) = match frames.next().await {
            Ok(Some(Frame::Request { id, request })) => (id, request),
            Ok(Some(Frame::Message(_))) => return Err(HangUp::Misplaced("message")),
            Ok(Some(Frame::Reply { .. })) => return Err(HangUp::Misplaced("reply")),
            Ok(None) => return Ok(()),
            Err(error) => return Err(WireError::into(error)),
        };
        let outbox = outbox.clone();
        let reply_to: ReplyTo = Box::new(move |reply| {
            // An answer that is too long to be sent leaves its caller as wise as a lost one.
            let frame = Frame::Reply { id, reply }.encode();
            let frame = frame.or_else(|_| Frame::Reply { id, reply: Reply::Unknown }.encode());
            let _ = outbox.send((frame.expect("an unknown outcome is short"), permit));
        });
        node.submit(from, request, reply_to).await;
    }
}
