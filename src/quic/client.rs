//! The client: commands to whoever leads, and honest answers about what became of them.
//!
//! A command ends in one of three ways, and the client never blurs them: it was committed; it was
//! certainly *not* appended (and may be tried again); or nobody can tell. The last happens when the
//! connection or the leader is lost after the command was sent. Outside a session the client then does
//! **not** try again by itself, for that could execute the command twice; in a session, and with a query,
//! it does.
//!
//! It always tries again, until its deadline, whenever a command was certainly not appended: the node does
//! not lead (it follows the hint), is busy, has not formed its cluster, or cannot be reached.
//!
//! One connection and one stream are kept to each node that is used; requests on it are numbered and
//! answered in any order.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use quinn::{Endpoint, VarInt};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::{Instant, sleep, timeout_at};

use super::authority::Credentials;
use super::connection::{HangUp, REQUEST_BYTES_MAX, identify};
use super::endpoint::{self, EndpointError, Resolver, Seams, Use};
use super::exchange::{Attempt, Exchange};
use super::link::dial;
use super::session::ClientSession;
use crate::id::{ClusterName, LogIndex, PeerName};
use crate::kv::{Answer, Command};
use crate::node::{Caller, Rejection, Reply, Request, Status};
use crate::raft::{Entry, Position};
use crate::rng::{Seed, Stream};
use crate::session::Proposal;

/// The most bytes of a command that fit into a request, whatever limit the nodes have.
const COMMAND_BYTES_MAX: usize = REQUEST_BYTES_MAX - 1024;

/// How a client reaches its cluster.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Where nodes listen; one that answers is enough to begin with.
    pub addresses: Vec<PeerName>,
    /// How long one request may take, tries and all.
    pub timeout: Duration,
}

/// What a node has written down of itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Recorded {
    /// Where, at the node.
    pub path: String,
    /// How many steps.
    pub steps: u64,
    /// The length of the file in bytes.
    pub bytes: u64,
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
    ways: Mutex<BTreeMap<PeerName, Slot>>,
    target: Mutex<Target>,
    jitter: Mutex<Stream>,
}

/// The way to one address. Whoever dials holds the lock, and only those who want the same wait.
type Slot = Arc<AsyncMutex<Way>>;

#[derive(Default)]
struct Way {
    exchange: Option<Exchange>,
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

/// A query that was answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answered {
    /// How far the node that answered had applied the log.
    pub applied: LogIndex,
    /// What its state machine answered.
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
    /// The command's session has ended. This attempt was not executed; if an earlier one ended as
    /// [`ClientError::Unknown`] it may have been. Read, then open a new session.
    #[error("the session has ended: read before you send the command in a new one")]
    SessionExpired,
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
        let (endpoint, _) = endpoint::open(seams, credentials, &Use::Client)?;
        let shared = Shared {
            endpoint,
            resolver: seams.resolver.clone(),
            cluster: credentials.identity().cluster.clone(),
            config,
            ways: Mutex::default(),
            target: Mutex::new(Target { leader: None, next: 0 }),
            jitter: Mutex::new(seams.entropy.stream("client backoff", 0)),
        };
        Ok(Client { shared: Arc::new(shared) })
    }

    /// Has a command committed and applied. It is not sent again once its fate is unknown; in a
    /// [session](Client::open_session) it is.
    ///
    /// # Errors
    ///
    /// [`ClientError`]; only [`ClientError::Unknown`] leaves it open whether the command took effect.
    pub async fn propose(&self, command: Bytes) -> Result<Committed, ClientError> {
        check_length(&command)?;
        committed(self.carry_out(|| Request::Propose(Proposal::Command(command.clone())), false).await?)
    }

    /// Has a query answered that sees everything that was acknowledged before it was asked, whoever was
    /// told (Herlihy and Wing 1990). It costs no entry in the log.
    ///
    /// # Errors
    ///
    /// As [`Client::propose`], but never [`ClientError::Unknown`]: a query changes nothing.
    pub async fn query(&self, query: Bytes) -> Result<Answered, ClientError> {
        match self.carry_out(|| Request::Query { query: query.clone() }, true).await {
            Ok(Reply::Answer { applied, answer }) => Ok(Answered { applied, answer }),
            Ok(other) => Err(ClientError::Answer(format!("{other:?}"))),
            Err(ClientError::Unknown(reason)) => Err(ClientError::Unavailable(reason)),
            Err(error) => Err(error),
        }
    }

    /// Opens a session, in which each command is executed once although it is sent again when its answer
    /// is lost. It ends when it is not used for `lifetime`, see
    /// [`LIFETIMES`](crate::session::LIFETIMES).
    ///
    /// # Errors
    ///
    /// As [`Client::propose`]. A session that was opened and not heard of ends by itself.
    pub async fn open_session(&self, lifetime: Duration) -> Result<ClientSession, ClientError> {
        match self.carry_out(|| Request::Propose(Proposal::Open { lifetime }), true).await? {
            Reply::Opened { session } => Ok(ClientSession::new(self.clone(), session)),
            other => Err(ClientError::Answer(format!("{other:?}"))),
        }
    }

    /// Sends a request until somebody carries it out, or nobody can tell whether somebody did.
    pub(super) async fn carry_out(
        &self,
        request: impl Fn() -> Request,
        is_repeatable: bool,
    ) -> Result<Reply, ClientError> {
        let deadline = Instant::now() + self.shared.config.timeout;
        let mut reason = "nobody was asked".to_owned();
        let mut may_have_happened = false;
        while Instant::now() < deadline {
            let address = self.shared.choose();
            match self.shared.ask(&address, request(), deadline).await {
                Ok(Reply::Rejected(rejection)) => {
                    if let Err(error) = self.shared.learn_from(&rejection) {
                        // An attempt before may have been carried out by somebody who thought otherwise.
                        let unknown = ClientError::Unknown(format!("{address}: {rejection}"));
                        return Err(if may_have_happened { unknown } else { error });
                    }
                    reason = format!("{address}: {rejection}");
                    if matches!(&rejection, Rejection::NotLeader { address: Some(_), .. }) {
                        continue;
                    }
                }
                Ok(Reply::Unknown) => {
                    self.shared.target().leader = None;
                    may_have_happened = true;
                    reason = format!("{address} stopped leading");
                }
                Ok(reply) => {
                    self.shared.target().leader = Some(address);
                    return Ok(reply);
                }
                Err(Attempt::Lost(lost)) => {
                    self.shared.target().leader = None;
                    may_have_happened = true;
                    reason = format!("{address}: {lost}");
                }
                Err(Attempt::NotSent(failed)) => {
                    self.shared.target().leader = None;
                    reason = format!("{address}: {failed}");
                }
            }
            if may_have_happened && !is_repeatable {
                return Err(ClientError::Unknown(reason));
            }
            self.shared.back_off(deadline).await;
        }
        Err(if may_have_happened { ClientError::Unknown(reason) } else { ClientError::Unavailable(reason) })
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

    /// Reads a key, linearizably.
    ///
    /// # Errors
    ///
    /// As [`Client::query`].
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<Option<Bytes>, ClientError> {
        match decode(&self.query(key.into()).await?.answer)? {
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
            Reply::Rejected(rejection) => Err(rejection.into()),
            other => Err(ClientError::Answer(format!("{other:?}"))),
        }
    }

    /// Has one node write down what it was told last, where it runs. Needs an operator's certificate, or that node's.
    ///
    /// # Errors
    ///
    /// [`ClientError::Rejected`] if the node is not recorded, or it cannot be written; else as [`Client::status`].
    pub async fn record(&self, address: &PeerName) -> Result<Recorded, ClientError> {
        match self.request(address, Request::Record).await? {
            Reply::Recorded { path, steps, bytes } => Ok(Recorded { path, steps, bytes }),
            Reply::Rejected(rejection) => Err(rejection.into()),
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

    /// Random choices of somebody who uses this client.
    pub(super) fn stream(&self, name: &str) -> Stream {
        let mut jitter = self.shared.jitter.lock().unwrap_or_else(PoisonError::into_inner);
        Seed::new(jitter.draw()).stream(name, 0)
    }

    /// How long one request may take.
    pub(super) fn patience(&self) -> Duration {
        self.shared.config.timeout
    }

    /// The next request goes there first, if it is known.
    pub(super) fn prefer(&self, address: Option<PeerName>) {
        self.shared.target().leader = address;
    }

    /// Closes all connections. Requests under way end as unknown.
    pub fn close(&self) {
        self.shared.endpoint.close(VarInt::from_u32(0), b"the client is done");
    }
}

pub(super) fn check_length(command: &[u8]) -> Result<(), ClientError> {
    let in_bytes = |length| u64::try_from(length).unwrap_or(u64::MAX);
    if command.len() > COMMAND_BYTES_MAX {
        let (length, limit) = (in_bytes(command.len()), in_bytes(COMMAND_BYTES_MAX));
        return Err(Rejection::TooLarge { length, limit }.into());
    }
    Ok(())
}

#[expect(clippy::wildcard_enum_match_arm, reason = "a reply of any other kind is equally wrong")]
pub(super) fn committed(reply: Reply) -> Result<Committed, ClientError> {
    match reply {
        Reply::Done { at, answer } => Ok(Committed { at, answer }),
        Reply::Expired => Err(ClientError::SessionExpired),
        other => Err(ClientError::Answer(format!("{other:?}"))),
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
            Rejection::Busy | Rejection::Unconfirmed | Rejection::HandingOver => {}
            Rejection::TooLarge { .. }
            | Rejection::Empty
            | Rejection::Forbidden
            | Rejection::Change(_)
            | Rejection::NoMajority
            | Rejection::NotCaughtUp(_)
            | Rejection::Forgotten
            | Rejection::NoPartitions
            | Rejection::Unregistered(_)
            | Rejection::NotRecorded(_)
            | Rejection::NoSuccessor
            | Rejection::StillLeads => {
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
        let exchange = timeout_at(deadline, self.exchange(address)).await;
        let exchange =
            exchange.unwrap_or_else(|_| Err(Attempt::NotSent("no connection in time".to_owned())))?;
        match timeout_at(deadline, exchange.ask(request)).await {
            Ok(answered) => answered,
            Err(_) => Err(Attempt::Lost("no answer in time".to_owned())),
        }
    }

    async fn exchange(&self, address: &PeerName) -> Result<Exchange, Attempt> {
        let slot = {
            let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(ways.entry(address.clone()).or_default())
        };
        let began = Instant::now();
        let mut way = slot.lock().await;
        if let Some(exchange) = way.exchange.as_ref().filter(|exchange| exchange.is_open()) {
            return Ok(exchange.clone());
        }
        // Whoever waited while another's dial failed does not wait for the same failure again.
        if let Some((_, reason)) = way.failure.as_ref().filter(|(failed, _)| *failed >= began) {
            return Err(Attempt::NotSent(reason.clone()));
        }
        match self.connect(address).await {
            Ok(exchange) => {
                way.exchange = Some(exchange.clone());
                Ok(exchange)
            }
            Err(reason) => {
                way.failure = Some((Instant::now(), reason.clone()));
                Err(Attempt::NotSent(reason))
            }
        }
    }

    async fn connect(&self, address: &PeerName) -> Result<Exchange, String> {
        let connection = dial(&self.endpoint, &*self.resolver, address, &self.cluster).await?;
        let identity = identify(&connection, &self.cluster).map_err(|hang_up| hang_up.to_string())?;
        if !matches!(identity.caller, Caller::Node(_)) {
            let hang_up = HangUp::NotANode(identity.to_string());
            hang_up.close(&connection);
            return Err(hang_up.to_string());
        }
        Exchange::open(connection).await
    }
}
