//! The client: commands to whoever leads, and honest answers about what became of them.
//!
//! A command ends in one of three ways, and the client never blurs them: it was committed; it was
//! certainly *not* appended (and may be tried again); or nobody can tell. The last happens when the
//! connection or the leader is lost after the command was sent. The client then does **not** try again
//! by itself, for that could execute the command twice.
//!
//! It does try again, until its deadline, whenever a command was certainly not appended: the node does
//! not lead (it follows the hint), is busy, has not formed its cluster, or cannot be reached.
//!
//! One connection and one stream are kept to each node that is used; requests on it are numbered and
//! answered in any order.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use quinn::{Connection, Endpoint, SendStream, VarInt};
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout_at};

use super::authority::Credentials;
use super::connection::{FrameReader, HangUp, identify};
use super::endpoint::{self, EndpointError, Resolver, Seams};
use super::link::dial;
use crate::id::{ClusterName, LogIndex, PeerName};
use crate::kv::{Answer, Command};
use crate::node::{Caller, Rejection, Reply, Request, Status};
use crate::raft::{Entry, Position};
use crate::rng::Stream;
use crate::wire::{FRAME_BYTES_MAX, Frame};

/// The most bytes of a command that fit into a frame, whatever limit the nodes have.
const COMMAND_BYTES_MAX: usize = FRAME_BYTES_MAX - 1024;
/// The most requests of one session that wait to be written; beyond it callers wait.
const FRAMES_QUEUED_MAX: usize = 256;

/// How a client reaches its cluster.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Where nodes listen; one that answers is enough to begin with.
    pub addresses: Vec<PeerName>,
    /// How long one request may take, tries and all.
    pub timeout: Duration,
}

/// Talks to a cluster. Clones share their connections.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    endpoint: Endpoint,
    resolver: Arc<dyn Resolver>,
    cluster: ClusterName,
    config: ClientConfig,
    sessions: Mutex<BTreeMap<PeerName, Slot>>,
    target: Mutex<Target>,
    jitter: Mutex<Stream>,
}

/// The way to one address. Whoever dials holds the lock, and only those who want the same wait.
type Slot = Arc<AsyncMutex<Way>>;

#[derive(Default)]
struct Way {
    session: Option<Session>,
    /// When the last dial failed, and why.
    failure: Option<(Instant, String)>,
}

/// Whom to ask next.
struct Target {
    /// Who led, as far as is known.
    leader: Option<PeerName>,
    /// The next address to ask if nobody is known to lead.
    next: usize,
}

/// A command that was committed and applied.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Committed {
    /// Where it stands in the log.
    pub at: Position,
    /// What the state machine answered.
    pub answer: Bytes,
}

/// What became of a request that was not answered as wished.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The command may or may not take effect. Read before you decide to send it again.
    #[error("nobody can tell whether the command took effect: {0}")]
    Unknown(String),
    /// The command did not take effect and never will.
    #[error("the command was not carried out: {0}")]
    Rejected(#[from] Rejection),
    /// No node took the request before the deadline. It did not take effect and never will.
    #[error("no node took the request in time; the last reason was: {0}")]
    Unavailable(String),
    /// The answer makes no sense: the cluster runs another state machine.
    #[error("the answer cannot be understood: {0}")]
    Answer(String),
    /// A compare-and-set found another value, this one, and changed nothing.
    #[error("the key has another value")]
    Conflict(Option<Bytes>),
}

/// How one attempt failed.
enum Attempt {
    /// The request never left, or certainly changed nothing.
    NotSent(String),
    /// It left, and no answer came.
    Lost(String),
}

#[expect(clippy::wildcard_enum_match_arm, reason = "a reply of any other kind is equally wrong")]
impl Client {
    /// Opens a client on its own endpoint. Connections are made when they are needed.
    ///
    /// # Errors
    ///
    /// [`EndpointError`] if the endpoint cannot be opened.
    pub fn open(
        seams: &Seams,
        credentials: &Credentials,
        config: ClientConfig,
    ) -> Result<Client, EndpointError> {
        if config.addresses.is_empty() {
            return Err(EndpointError::NoAddress);
        }
        let endpoint = endpoint::open(seams, credentials, false)?;
        let shared = Shared {
            endpoint,
            resolver: seams.resolver.clone(),
            cluster: credentials.identity().cluster.clone(),
            config,
            sessions: Mutex::default(),
            target: Mutex::new(Target { leader: None, next: 0 }),
            jitter: Mutex::new(seams.entropy.stream("client backoff", 0)),
        };
        Ok(Client { shared: Arc::new(shared) })
    }

    /// Has a command committed and applied.
    ///
    /// # Errors
    ///
    /// [`ClientError`]; only [`ClientError::Unknown`] leaves it open whether the command took effect.
    pub async fn propose(&self, command: Bytes) -> Result<Committed, ClientError> {
        let in_bytes = |length| u64::try_from(length).unwrap_or(u64::MAX);
        if command.len() > COMMAND_BYTES_MAX {
            let (length, limit) = (in_bytes(command.len()), in_bytes(COMMAND_BYTES_MAX));
            return Err(Rejection::TooLarge { length, limit }.into());
        }
        let deadline = Instant::now() + self.shared.config.timeout;
        let mut reason = "nobody was asked".to_owned();
        while Instant::now() < deadline {
            let address = self.shared.choose();
            let request = Request::Propose { command: command.clone() };
            match self.shared.ask(&address, request, deadline).await {
                Ok(Reply::Done { at, answer }) => {
                    self.shared.target().leader = Some(address);
                    return Ok(Committed { at, answer });
                }
                Ok(Reply::Rejected(rejection)) => {
                    self.shared.learn_from(&rejection)?;
                    reason = format!("{address}: {rejection}");
                    if matches!(&rejection, Rejection::NotLeader { address: Some(_), .. }) {
                        continue;
                    }
                }
                Ok(Reply::Unknown) => {
                    self.shared.target().leader = None;
                    return Err(ClientError::Unknown(format!("{address} stopped leading")));
                }
                Ok(other) => return Err(ClientError::Answer(format!("{other:?}"))),
                Err(Attempt::Lost(lost)) => {
                    self.shared.target().leader = None;
                    return Err(ClientError::Unknown(format!("{address}: {lost}")));
                }
                Err(Attempt::NotSent(failed)) => {
                    self.shared.target().leader = None;
                    reason = format!("{address}: {failed}");
                }
            }
            self.shared.back_off(deadline).await;
        }
        Err(ClientError::Unavailable(reason))
    }

    /// Sets a key.
    ///
    /// # Errors
    ///
    /// As [`Client::propose`].
    pub async fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<Position, ClientError> {
        let command = Command::Put { key: key.into(), value: value.into() };
        let committed = self.propose(command.encode()).await?;
        match decode(&committed.answer)? {
            Answer::Stored => Ok(committed.at),
            other => Err(unexpected(&other)),
        }
    }

    /// Reads a key, linearizably: the read goes through the log.
    ///
    /// # Errors
    ///
    /// As [`Client::propose`].
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Option<Bytes>, ClientError> {
        let committed = self.propose(Command::Get { key: key.into() }.encode()).await?;
        match decode(&committed.answer)? {
            Answer::Value(value) => Ok(value),
            other => Err(unexpected(&other)),
        }
    }

    /// Sets a key if it has the expected value; `None` expects it to be absent.
    ///
    /// # Errors
    ///
    /// [`ClientError::Conflict`] if it has another; else as [`Client::propose`].
    pub async fn compare_and_set(
        &self,
        key: impl Into<Bytes>,
        expected: Option<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<Position, ClientError> {
        let command = Command::CompareAndSet { key: key.into(), expected, value: value.into() };
        let committed = self.propose(command.encode()).await?;
        match decode(&committed.answer)? {
            Answer::Stored => Ok(committed.at),
            Answer::Conflict(value) => Err(ClientError::Conflict(value)),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks one node how it is.
    ///
    /// # Errors
    ///
    /// [`ClientError::Unavailable`] if it does not answer in time.
    pub async fn status(&self, address: &PeerName) -> Result<Status, ClientError> {
        match self.request(address, Request::Status).await? {
            Reply::Status(status) => Ok(*status),
            other => Err(ClientError::Answer(format!("{other:?}"))),
        }
    }

    /// Reads committed entries of one node, from index `from` on. Not for clients' certificates.
    ///
    /// # Errors
    ///
    /// [`ClientError::Rejected`] if the certificate does not allow it, else as [`Client::status`].
    pub async fn entries(
        &self,
        address: &PeerName,
        from: LogIndex,
        limit: u32,
    ) -> Result<Vec<Entry>, ClientError> {
        match self.request(address, Request::Entries { from, limit }).await? {
            Reply::Entries(entries) => Ok(entries),
            Reply::Rejected(rejection) => Err(rejection.into()),
            other => Err(ClientError::Answer(format!("{other:?}"))),
        }
    }

    /// Sends one request to one node, once.
    ///
    /// # Errors
    ///
    /// [`ClientError::Unavailable`] if it certainly did not arrive, [`ClientError::Unknown`] if no
    /// answer came.
    pub async fn request(&self, address: &PeerName, request: Request) -> Result<Reply, ClientError> {
        let deadline = Instant::now() + self.shared.config.timeout;
        self.shared.ask(address, request, deadline).await.map_err(|attempt| match attempt {
            Attempt::NotSent(reason) => ClientError::Unavailable(reason),
            Attempt::Lost(reason) => ClientError::Unknown(reason),
        })
    }

    /// Closes all connections. Requests under way end as unknown.
    pub fn close(&self) {
        self.shared.endpoint.close(VarInt::from_u32(0), b"the client is done");
    }
}

fn decode(answer: &[u8]) -> Result<Answer, ClientError> {
    Answer::decode(answer).map_err(|error| ClientError::Answer(error.to_string()))
}

fn unexpected(answer: &Answer) -> ClientError {
    ClientError::Answer(format!("{answer:?}"))
}

impl Shared {
    fn target(&self) -> MutexGuard<'_, Target> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn choose(&self) -> PeerName {
        let mut target = self.target();
        if let Some(leader) = &target.leader {
            return leader.clone();
        }
        let address = self.config.addresses[target.next % self.config.addresses.len()].clone();
        target.next = target.next.wrapping_add(1);
        address
    }

    /// Follows a hint. A rejection that no other node would lift is the answer.
    fn learn_from(&self, rejection: &Rejection) -> Result<(), ClientError> {
        match rejection {
            Rejection::NotLeader { address, .. } => self.target().leader = address.clone(),
            Rejection::NotFormed | Rejection::Halted => self.target().leader = None,
            Rejection::Busy => {}
            Rejection::TooLarge { .. } | Rejection::Empty | Rejection::Forbidden => {
                return Err(rejection.clone().into());
            }
        }
        Ok(())
    }

    async fn back_off(&self, deadline: Instant) {
        let millis = self.jitter.lock().unwrap_or_else(PoisonError::into_inner).between(10, 60);
        sleep(Duration::from_millis(millis).min(deadline - Instant::now())).await;
    }

    async fn ask(&self, address: &PeerName, request: Request, deadline: Instant) -> Result<Reply, Attempt> {
        let session = timeout_at(deadline, self.session(address)).await;
        let session =
            session.unwrap_or_else(|_| Err(Attempt::NotSent("no connection in time".to_owned())))?;
        match timeout_at(deadline, session.ask(request)).await {
            Ok(answered) => answered,
            Err(_) => Err(Attempt::Lost("no answer in time".to_owned())),
        }
    }

    async fn session(&self, address: &PeerName) -> Result<Session, Attempt> {
        let slot = {
            let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(sessions.entry(address.clone()).or_default())
        };
        let began = Instant::now();
        let mut way = slot.lock().await;
        if let Some(session) = way.session.as_ref().filter(|session| session.is_open()) {
            return Ok(session.clone());
        }
        // Whoever waited while another's dial failed does not wait for the same failure again.
        if let Some((_, reason)) = way.failure.as_ref().filter(|(failed, _)| *failed >= began) {
            return Err(Attempt::NotSent(reason.clone()));
        }
        match self.connect(address).await {
            Ok(session) => {
                way.session = Some(session.clone());
                Ok(session)
            }
            Err(reason) => {
                way.failure = Some((Instant::now(), reason.clone()));
                Err(Attempt::NotSent(reason))
            }
        }
    }

    async fn connect(&self, address: &PeerName) -> Result<Session, String> {
        let connection = dial(&self.endpoint, &*self.resolver, address, &self.cluster).await?;
        let identity = identify(&connection, &self.cluster).map_err(|hang_up| hang_up.to_string())?;
        if !matches!(identity.caller, Caller::Node(_)) {
            let hang_up = HangUp::NotANode(identity.to_string());
            hang_up.close(&connection);
            return Err(hang_up.to_string());
        }
        Session::open(connection).await
    }
}

/// One request stream to one node. A task of its own writes to it, so that a caller who gives up in
/// the middle of a frame does not leave half of it in the stream.
#[derive(Clone)]
struct Session {
    connection: Connection,
    frames: mpsc::Sender<Bytes>,
    waiting: Arc<Mutex<Waiting>>,
}

/// Who waits for which answer.
#[derive(Default)]
struct Waiting {
    /// The stream is lost: no answer will come.
    is_lost: bool,
    last_id: u64,
    answers: BTreeMap<u64, oneshot::Sender<Reply>>,
}

impl Session {
    async fn open(connection: Connection) -> Result<Session, String> {
        let (stream, replies) = connection.open_bi().await.map_err(|error| error.to_string())?;
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let (frames, queue) = mpsc::channel(FRAMES_QUEUED_MAX);
        tokio::spawn(write_frames(stream, queue));
        tokio::spawn(deliver(FrameReader::new(replies), Arc::clone(&waiting)));
        Ok(Session { connection, frames, waiting })
    }

    fn is_open(&self) -> bool {
        self.connection.close_reason().is_none() && !lock(&self.waiting).is_lost
    }

    async fn ask(&self, request: Request) -> Result<Reply, Attempt> {
        let (answer, answered) = oneshot::channel();
        let place = {
            let mut waiting = lock(&self.waiting);
            if waiting.is_lost {
                return Err(Attempt::NotSent("the connection was lost".to_owned()));
            }
            waiting.last_id += 1;
            let id = waiting.last_id;
            waiting.answers.insert(id, answer);
            Place { waiting: &self.waiting, id }
        };
        let frame = Frame::Request { id: place.id, request }.encode();
        let frame = frame.map_err(|error| Attempt::NotSent(error.to_string()))?;
        let sent = self.frames.send(frame).await;
        sent.map_err(|_| Attempt::NotSent("the connection was lost".to_owned()))?;
        answered.await.map_err(|_| Attempt::Lost("the connection was lost".to_owned()))
    }
}

/// A place among those who wait; given up when the caller stops waiting.
struct Place<'a> {
    waiting: &'a Mutex<Waiting>,
    id: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        lock(self.waiting).answers.remove(&self.id);
    }
}

async fn write_frames(mut stream: SendStream, mut queue: mpsc::Receiver<Bytes>) {
    while let Some(frame) = queue.recv().await {
        if stream.write_chunk(frame).await.is_err() {
            return;
        }
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hands each reply to whoever waits for it; when the stream ends, nobody waits any longer.
async fn deliver(mut replies: FrameReader, waiting: Arc<Mutex<Waiting>>) {
    while let Ok(Some(Frame::Reply { id, reply })) = replies.next().await {
        let answer = lock(&waiting).answers.remove(&id);
        if let Some(answer) = answer {
            let _ = answer.send(reply);
        }
    }
    let mut waiting = lock(&waiting);
    waiting.is_lost = true;
    waiting.answers.clear();
}
