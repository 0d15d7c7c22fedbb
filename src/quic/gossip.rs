//! How members reach each other: datagrams and short questions over QUIC connections that come and go.
//!
//! ```text
//!   datagram ─► connection kept? ── yes ─► send, or drop it if older ones still wait
//!                     │ no
//!                     └─► dial, with a few datagrams waiting; a handshake counts into the probe's time
//!   question ─► a stream of its own ─► the answer ─► the stream's end
//! ```
//!
//! A member probes another one each period, so with many members most probes open a connection. It is kept,
//! whoever dialled, until it has been idle for half a minute or is the one longest unused among too many; the
//! TLS session is resumed when the two meet again. A member is dialled by the name that only its certificate
//! carries, so whoever answers in its place is refused before it hears anything.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tracing::Instrument as _;

use super::connection::{HangUp, explain, identify};
use super::door::{Door, Reason};
use super::endpoint::Resolver;
use super::identity::{node_name, server_name};
use crate::id::{ClusterName, NodeId, PeerName};
use crate::node::Caller;
use crate::swim::{Answer, CallId, Input, Output, Question, Target};
use crate::wire::codec;

/// How long dialling may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a question may take, dialling included.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// The most connections that are kept.
const CONNECTIONS_MAX: usize = 256;
/// The most connections with one member.
const OF_ONE_MAX: usize = 2;
/// The most datagrams that wait for a connection.
const WAITING_MAX: usize = 8;
/// The most bytes of a question or an answer: what is known of 40,000 members.
const STREAM_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The most questions that are read at a time; others wait in their streams.
const QUESTIONS_MAX: usize = 32;
/// The most handshakes of those who dial at a time.
const HANDSHAKES_MAX: usize = 64;

/// What came from other members, and from name resolution.
pub(super) enum Incoming {
    Datagram { from: NodeId, via: SocketAddr, bytes: Vec<u8> },
    Asked { from: NodeId, question: Question, reply: oneshot::Sender<Answer> },
    Answered { call: CallId, from: NodeId, answer: Answer },
    Unanswered { call: CallId },
    Resolved { name: PeerName, addresses: Vec<SocketAddr> },
}

/// The questions of others that wait for the machine's answer.
#[derive(Default)]
pub(super) struct Owed {
    asked: BTreeMap<CallId, oneshot::Sender<Answer>>,
    next: u64,
}

impl Owed {
    /// What the machine is to be told.
    pub(super) fn input(&mut self, incoming: Incoming) -> Input {
        match incoming {
            Incoming::Datagram { from, via, bytes } => Input::Datagram { from, via, bytes },
            Incoming::Answered { call, from, answer } => Input::Answered { call, from, answer },
            Incoming::Unanswered { call } => Input::Unanswered { call },
            Incoming::Resolved { name, addresses } => Input::Resolved { name, addresses },
            Incoming::Asked { from, question, reply } => {
                let call = CallId(self.next);
                self.next += 1;
                self.asked.retain(|_, reply| !reply.is_closed());
                self.asked.insert(call, reply);
                Input::Asked { call, from, question }
            }
        }
    }

    fn answer(&mut self, call: CallId, answer: Answer) {
        if let Some(reply) = self.asked.remove(&call) {
            let _ = reply.send(answer);
        }
    }
}

/// The connections of one member.
#[derive(Clone)]
pub(super) struct Gossip {
    endpoint: Endpoint,
    resolver: Arc<dyn Resolver>,
    cluster: ClusterName,
    own: NodeId,
    kept: Arc<Mutex<Kept>>,
    incoming: mpsc::Sender<Incoming>,
    questions: Arc<Semaphore>,
    door: Arc<Door>,
    /// Datagrams that were dropped: older ones waited, nobody answered, they were too long, or came too fast.
    dropped: Arc<AtomicU64>,
}

#[derive(Default)]
struct Kept {
    /// The connections of each member, the newest last, and when they were last used.
    connections: BTreeMap<NodeId, (Vec<Connection>, u64)>,
    /// Who was last met at an address.
    at: BTreeMap<SocketAddr, NodeId>,
    /// Datagrams that wait until somebody is connected.
    waiting: BTreeMap<(Option<NodeId>, SocketAddr), Vec<Vec<u8>>>,
    uses: u64,
}

impl Kept {
    fn find(&mut self, to: Target) -> Option<Connection> {
        let id = to.id.or_else(|| self.at.get(&to.address).copied())?;
        self.uses += 1;
        let (connections, used) = self.connections.get_mut(&id)?;
        *used = self.uses;
        connections.iter().rev().find(|connection| connection.close_reason().is_none()).cloned()
    }

    /// Two members that dial each other at once have two connections, and need both for a moment: what is under
    /// way arrives. A third one ends the first.
    fn keep(&mut self, id: NodeId, connection: Connection) {
        self.uses += 1;
        self.at.retain(|_, at| *at != id);
        self.at.insert(connection.remote_address(), id);
        let (connections, used) = self.connections.entry(id).or_default();
        *used = self.uses;
        connections.push(connection);
        if connections.len() > OF_ONE_MAX {
            HangUp::Shutdown.close(&connections.remove(0));
        }
        if self.connections.len() > CONNECTIONS_MAX {
            let oldest = self.connections.iter().min_by_key(|(_, (_, used))| *used).map(|(id, _)| *id);
            oldest.iter().for_each(|id| self.hang_up(*id));
        }
    }

    fn hang_up(&mut self, id: NodeId) {
        let (connections, _) = self.connections.remove(&id).unwrap_or_default();
        connections.iter().for_each(|connection| HangUp::Shutdown.close(connection));
        self.at.retain(|_, at| *at != id);
    }

    fn forget(&mut self, id: NodeId, connection: &Connection) {
        let Some((connections, _)) = self.connections.get_mut(&id) else { return };
        connections.retain(|kept| kept.stable_id() != connection.stable_id());
        if connections.is_empty() {
            self.hang_up(id);
        }
    }
}

impl Gossip {
    pub(super) fn start(
        endpoint: Endpoint,
        resolver: Arc<dyn Resolver>,
        cluster: ClusterName,
        own: NodeId,
        incoming: mpsc::Sender<Incoming>,
    ) -> Gossip {
        let gossip = Gossip {
            endpoint,
            resolver,
            cluster,
            own,
            kept: Arc::default(),
            incoming,
            questions: Arc::new(Semaphore::new(QUESTIONS_MAX)),
            door: Arc::new(Door::new(HANDSHAKES_MAX)),
            dropped: Arc::default(),
        };
        tokio::spawn(gossip.clone().accept().in_current_span());
        gossip
    }

    fn count_dropped(&self, datagrams: u64) {
        self.dropped.fetch_add(datagrams, Ordering::Relaxed);
        metrics::counter!("rivven_gossip_datagrams_dropped_total").increment(datagrams);
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn close(&self) {
        self.endpoint.close(0_u32.into(), HangUp::Shutdown.to_string().as_bytes());
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        self.endpoint.clone()
    }

    /// Does what the machine asks for. Its events are not for the network.
    pub(super) fn act(&self, output: Output, owed: &mut Owed) {
        match output {
            Output::Datagram { to, bytes } => self.send(to, bytes),
            Output::Ask { call, to, question } => self.ask(call, to, question),
            Output::Answer { call, answer } => owed.answer(call, answer),
            Output::Resolve(name) => self.resolve(name),
            Output::Event(_) => {}
        }
    }

    fn resolve(&self, name: PeerName) {
        let (lookup, incoming) = (self.resolver.resolve(&name), self.incoming.clone());
        tokio::spawn(async move {
            let addresses = lookup.await.unwrap_or_default();
            let _ = incoming.send(Incoming::Resolved { name, addresses }).await;
        });
    }

    /// Sends a datagram, or drops it.
    fn send(&self, to: Target, bytes: Vec<u8>) {
        let mut kept = self.kept();
        if let Some(connection) = kept.find(to) {
            drop(kept);
            self.send_on(&connection, bytes);
            return;
        }
        if let Some(waiting) = kept.waiting.get_mut(&(to.id, to.address)) {
            if waiting.len() < WAITING_MAX {
                waiting.push(bytes);
            } else {
                self.count_dropped(1);
            }
            return;
        }
        kept.waiting.insert((to.id, to.address), vec![bytes]);
        drop(kept);
        let gossip = self.clone();
        tokio::spawn(async move { gossip.dial_and_flush(to).await }.in_current_span());
    }

    fn send_on(&self, connection: &Connection, bytes: Vec<u8>) {
        // Never behind others: an old probe is worth less than none.
        let fits = connection.datagram_send_buffer_space() >= bytes.len();
        if !fits || connection.send_datagram(Bytes::from(bytes)).is_err() {
            self.count_dropped(1);
        }
    }

    async fn dial_and_flush(&self, to: Target) {
        let dialled = self.dial(to).await;
        let waiting = self.kept().waiting.remove(&(to.id, to.address)).unwrap_or_default();
        match dialled {
            Some(connection) => waiting.into_iter().for_each(|bytes| self.send_on(&connection, bytes)),
            None => {
                self.count_dropped(u64::try_from(waiting.len()).unwrap_or_default());
            }
        }
    }

    async fn dial(&self, to: Target) -> Option<Connection> {
        let connection = self.connect(to).await?;
        self.admit(&connection)?;
        Some(connection)
    }

    async fn connect(&self, to: Target) -> Option<Connection> {
        let name = to.id.map_or_else(|| server_name(&self.cluster), |id| node_name(id, &self.cluster));
        let connecting = self.endpoint.connect(to.address, &name).ok()?;
        let error = match timeout(DIAL_TIMEOUT, connecting).await.ok()? {
            Ok(connection) => return Some(connection),
            Err(error) => error,
        };
        let reason = Reason::of(&error);
        if reason == Reason::Handshake {
            tracing::debug!(?to, "cannot dial: {error}");
        } else {
            self.door.turn_away(to.address, reason, &explain(&error, &self.cluster));
        }
        None
    }

    /// Whether somebody shows our own certificate at an address: its handshake is the answer.
    async fn is_our_twin(&self, to: Target) -> Option<(NodeId, Answer)> {
        let connection = self.connect(to).await?;
        let identity = identify(&connection, &self.cluster).ok()?;
        HangUp::OwnIdentity.close(&connection);
        (identity.caller == Caller::Node(self.own)).then_some((self.own, Answer::Pong))
    }

    async fn accept(self) {
        while let Some(incoming) = self.endpoint.accept().await {
            let gossip = self.clone();
            let welcome = async move {
                let connection = gossip.door.shake_hands(incoming).await?;
                gossip.admit(&connection)
            };
            tokio::spawn(welcome.in_current_span());
        }
    }

    /// Checks who the other side is, keeps the connection, and reads from it until it ends.
    fn admit(&self, connection: &Connection) -> Option<NodeId> {
        let identity = identify(connection, &self.cluster).and_then(|identity| match identity.caller {
            Caller::Node(node) if node == self.own => Err(HangUp::OwnIdentity),
            Caller::Node(node) => Ok(node),
            Caller::Client | Caller::Operator => Err(HangUp::NotANode(identity.to_string())),
        });
        match identity {
            Ok(node) => {
                self.kept().keep(node, connection.clone());
                tokio::spawn(self.clone().serve(node, connection.clone()).in_current_span());
                Some(node)
            }
            Err(hang_up) => {
                if let Some(reason) = hang_up.reason() {
                    self.door.turn_away(connection.remote_address(), reason, &hang_up);
                }
                hang_up.close(connection);
                None
            }
        }
    }

    async fn serve(self, from: NodeId, connection: Connection) {
        loop {
            tokio::select! {
                biased;
                datagram = connection.read_datagram() => match datagram {
                    Ok(bytes) => {
                        let via = connection.remote_address();
                        // A member that does not keep up loses datagrams, as it would on any network.
                        if self.incoming.try_send(Incoming::Datagram { from, via, bytes: bytes.into() }).is_err() {
                            self.count_dropped(1);
                        }
                    }
                    Err(_) => break,
                },
                stream = connection.accept_bi() => match stream {
                    Ok((send, receive)) => {
                        let gossip = self.clone();
                        tokio::spawn(async move { gossip.answer(from, send, receive).await });
                    }
                    Err(_) => break,
                },
            }
        }
        self.kept().forget(from, &connection);
    }

    /// Reads one question and writes its answer.
    async fn answer(&self, from: NodeId, mut send: SendStream, mut receive: RecvStream) -> Option<()> {
        let answered = timeout(ASK_TIMEOUT, async {
            // A turn is taken only by what is there: a peer that writes slowly has but its own few streams.
            let bytes = receive.read_to_end(STREAM_BYTES_MAX).await.ok()?;
            let _turn = self.questions.acquire().await.ok()?;
            let question = codec::decode(&bytes).ok()?;
            let (reply, answer) = oneshot::channel();
            self.incoming.send(Incoming::Asked { from, question, reply }).await.ok()?;
            let bytes = codec::encode(&answer.await.ok()?);
            send.write_all(&bytes).await.ok()?;
            send.finish().ok()
        });
        answered.await.ok()?
    }

    /// Asks a question; what becomes of it is an input.
    fn ask(&self, call: CallId, to: Target, question: Question) {
        let gossip = self.clone();
        tokio::spawn(async move {
            let answered = timeout(ASK_TIMEOUT, gossip.question(to, &question)).await.ok().flatten();
            let incoming = match answered {
                Some((from, answer)) => Incoming::Answered { call, from, answer },
                None => {
                    // The path that the connection knows may be gone: the next one is dialled anew.
                    to.id.iter().for_each(|id| gossip.kept().hang_up(*id));
                    Incoming::Unanswered { call }
                }
            };
            let _ = gossip.incoming.send(incoming).await;
        });
    }

    async fn question(&self, to: Target, question: &Question) -> Option<(NodeId, Answer)> {
        if to.id == Some(self.own) {
            return self.is_our_twin(to).await;
        }
        let kept = self.kept().find(to);
        let connection = match kept {
            Some(connection) => connection,
            None => self.dial(to).await?,
        };
        let Caller::Node(from) = identify(&connection, &self.cluster).ok()?.caller else { return None };
        let (mut send, mut receive) = connection.open_bi().await.ok()?;
        send.write_all(&codec::encode(question)).await.ok()?;
        send.finish().ok()?;
        let bytes = receive.read_to_end(STREAM_BYTES_MAX).await.ok()?;
        Some((from, codec::decode(&bytes).ok()?))
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::endpoint::{self, Use};
    use super::super::{Authority, Identity, Seams};
    use super::*;

    fn member(
        authority: &Authority,
        id: u64,
    ) -> (Gossip, mpsc::Receiver<Incoming>, SocketAddr, Arc<AtomicU64>) {
        let (own, cluster): (NodeId, ClusterName) = (NodeId::new(id).unwrap(), "demo".parse().unwrap());
        let identity = Identity { caller: Caller::Node(own), cluster: cluster.clone() };
        let seams = Seams::system("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = seams.socket.local_addr().unwrap();
        let resumed = Arc::default();
        let purpose = Use::Gossip(Arc::clone(&resumed));
        let (endpoint, _) = endpoint::open(&seams, &authority.issue(identity).unwrap(), &purpose).unwrap();
        let (incoming, received) = mpsc::channel(16);
        (Gossip::start(endpoint, seams.resolver, cluster, own, incoming), received, address, resumed)
    }

    async fn answers(mut received: mpsc::Receiver<Incoming>) {
        while let Some(incoming) = received.recv().await {
            if let Incoming::Asked { reply, .. } = incoming {
                let _ = reply.send(Answer::Pong);
            }
        }
    }

    #[tokio::test]
    async fn sessions_are_resumed_with_the_member_that_they_were_made_with() {
        let authority = Authority::generate("demo").unwrap();
        let (first, _received, _, _) = member(&authority, 1);
        let mut others = Vec::new();
        for id in 2..4 {
            let (other, received, address, resumed) = member(&authority, id);
            tokio::spawn(answers(received));
            others.push((other, Target { id: NodeId::new(id), address }, resumed));
        }
        for round in 0..3 {
            for (_, to, resumed) in &others {
                let (from, answer) = first.question(*to, &Question::Ping).await.expect("it answers");
                assert_eq!((Some(from), answer), (to.id, Answer::Pong));
                first.kept().hang_up(from);
                assert_eq!(resumed.load(Ordering::Relaxed), round, "each time but the first");
            }
        }
    }

    #[tokio::test]
    async fn whoever_answers_under_our_own_id_is_found() {
        let authority = Authority::generate("demo").unwrap();
        let (first, _received, _, _) = member(&authority, 1);
        let (_twin, _received, twin, _) = member(&authority, 1);
        let (_other, _received, other, _) = member(&authority, 2);
        let id = NodeId::new(1);
        let found = first.question(Target { id, address: twin }, &Question::Ping).await;
        assert_eq!(found, Some((id.unwrap(), Answer::Pong)));
        let found = first.question(Target { id, address: other }, &Question::Ping).await;
        assert_eq!(found, None, "it is somebody else");
    }

    #[tokio::test]
    async fn one_member_has_few_connections_however_often_it_dials() {
        let authority = Authority::generate("demo").unwrap();
        let (first, received, address, _) = member(&authority, 1);
        tokio::spawn(answers(received));
        let (second, _received, _, _) = member(&authority, 2);
        let to = Target { id: NodeId::new(1), address };
        let mut dialled = Vec::new();
        for _ in 0..6 {
            let connection = second.connect(to).await.expect("it is there");
            // Until the other side has taken it in.
            let (mut send, mut receive) = connection.open_bi().await.unwrap();
            send.write_all(&codec::encode(&Question::Ping)).await.unwrap();
            send.finish().unwrap();
            receive.read_to_end(100).await.unwrap();
            dialled.push(connection);
        }
        let kept = first.kept().connections.get(&NodeId::new(2).unwrap()).map(|(all, _)| all.len());
        assert_eq!(kept, Some(OF_ONE_MAX));
    }
}
