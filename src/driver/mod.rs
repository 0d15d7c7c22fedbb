//! The driver: one tokio task that gives a node its time, its disk and its peers.
//!
//! The task owns the [`Node`]; no other touches it. It waits for the first of: a finished write, an
//! input, the node's deadline. It hands over everything that has already arrived, then drains the
//! node and acts on what it asks for:
//!
//! ```text
//!   loop {  receive ─► handle … handle ─► handle_timeout ─► drain ─► write / send / reply ─► sleep  }
//! ```
//!
//! Inputs come before the timer, so that a node that was paused reads the heartbeats that waited for
//! it before it decides that there are none. A panic inside the node (a bug) halts this node with a
//! reason and loses nothing that is durable.
//!
//! What differs between production and simulation is below this file: [`Disk`], [`Transport`] and
//! [`Clock`].

pub mod backup;
mod clock;
mod disk;
mod folder;
mod log;
pub mod meter;
mod quarantine;
mod read_only;
pub mod recorder;
mod redb_store;
mod segments;
mod storage;
pub mod watch;

use core::time::Duration;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant as TokioInstant, sleep_until};

use crate::id::{NodeId, PeerName, RequestId};
use crate::machine::Machine;
use crate::node::{Caller, Halt, Input, Lane, Message, Node, Output, Peer, Reply, Request};
use crate::state_machine::StateMachine;
use crate::swim;
use crate::time::Instant;

pub use self::clock::{Clock, TokioClock};
pub use self::disk::{Completion, Disk, ThreadDisk};
pub use self::folder::{Bytes as FileBytes, Folder, SystemFolder};
pub use self::meter::Meter;
pub use self::quarantine::{is_being_set_aside, open_or_set_aside, set_aside};
pub use self::read_only::{ReadOnly, ReadOnlyFile};
pub use self::redb_store::RedbStorage;
pub use self::segments::SegmentStorage;
pub use self::storage::{Owner, SnapshotSaver, Storage, StorageError};
pub use self::watch::{Leadership, Watched, Watcher, watched};

/// The most inputs that wait for the node's task. Whoever brings more waits.
const INBOX_CAPACITY: usize = 1024;
/// The most inputs that are handed over before the node is drained.
const INPUTS_PER_DRAIN: usize = 1024;
/// How often the node is told what the wall clock says.
const WALL_INTERVAL: Duration = Duration::from_secs(10);
/// How long a node that is to stop may take to say goodbye to the members.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Sends messages, without waiting and without promising that they arrive.
pub trait Transport {
    /// Puts a message on its way.
    ///
    /// # Errors
    ///
    /// [`Dropped`] if it is certain that the message will not arrive.
    fn send(&mut self, to: &Peer, message: Message) -> Result<(), Dropped>;

    /// Keeps a connection to this address, and says [`Input::Link`] whenever it comes up or goes down.
    fn dial(&mut self, name: PeerName);

    /// Gives up the connection to this address.
    fn hang_up(&mut self, name: &PeerName);

    /// Does something for the node's part in gossip; what comes of it is an [`Input::Gossip`].
    fn gossip(&mut self, output: swim::Output);

    /// Says goodbye and gives back what the system lent, such as a port. Called once, at the end.
    fn close(&mut self) -> impl Future<Output = ()> + Send {
        core::future::ready(())
    }
}

/// A message that was not sent: there is no connection, or its queue is full.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Dropped;

/// Watches a node from inside its driver: a recorder, a checker, a log.
///
/// All methods do nothing unless they are implemented.
pub trait Observer<S> {
    /// The node is about to be given this input.
    fn input(&mut self, _now: Instant, _input: &Input) {}
    /// The node is about to be told the time.
    fn timeout(&mut self, _now: Instant) {}
    /// The node asked for this, and it is about to be done.
    fn output(&mut self, _now: Instant, _output: &Output) {}
    /// The node has nothing more to say for now.
    fn settled(&mut self, _now: Instant, _node: &Node<S>) {}
    /// A bug: the node panicked on what it was told last. It is told nothing any more.
    fn panicked(&mut self, _now: Instant, _text: &str, _node: &Node<S>) {}
}

impl<S> Observer<S> for () {}

/// Both watch, the first one first.
impl<S, A: Observer<S>, B: Observer<S>> Observer<S> for (A, B) {
    fn input(&mut self, now: Instant, input: &Input) {
        self.0.input(now, input);
        self.1.input(now, input);
    }
    fn timeout(&mut self, now: Instant) {
        self.0.timeout(now);
        self.1.timeout(now);
    }
    fn output(&mut self, now: Instant, output: &Output) {
        self.0.output(now, output);
        self.1.output(now, output);
    }
    fn settled(&mut self, now: Instant, node: &Node<S>) {
        self.0.settled(now, node);
        self.1.settled(now, node);
    }
    fn panicked(&mut self, now: Instant, text: &str, node: &Node<S>) {
        self.0.panicked(now, text, node);
        self.1.panicked(now, text, node);
    }
}

/// Watches if it is there.
impl<S, A: Observer<S>> Observer<S> for Option<A> {
    fn input(&mut self, now: Instant, input: &Input) {
        self.iter_mut().for_each(|watching| watching.input(now, input));
    }
    fn timeout(&mut self, now: Instant) {
        self.iter_mut().for_each(|watching| watching.timeout(now));
    }
    fn output(&mut self, now: Instant, output: &Output) {
        self.iter_mut().for_each(|watching| watching.output(now, output));
    }
    fn settled(&mut self, now: Instant, node: &Node<S>) {
        self.iter_mut().for_each(|watching| watching.settled(now, node));
    }
    fn panicked(&mut self, now: Instant, text: &str, node: &Node<S>) {
        self.iter_mut().for_each(|watching| watching.panicked(now, text, node));
    }
}

/// Why a driver ended other than by being told to.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DriverError {
    /// The node stopped itself.
    #[error("the node has halted: {0}")]
    Halted(Halt),
    /// A bug. What was durable is untouched; please report it.
    #[error("a bug in this program halted the node, nothing durable was lost: {0}")]
    Panicked(String),
}

/// Takes the reply to one request, wherever the caller is.
pub type ReplyTo = Box<dyn FnOnce(Reply) + Send>;

/// What reaches the node's task from outside.
pub enum Inbound {
    /// From the transport.
    Input(Input),
    /// From a caller, in this process or another.
    Request {
        /// Who asks, by certificate.
        from: Caller,
        /// What is asked.
        request: Request,
        /// Where the answer goes.
        reply_to: ReplyTo,
    },
    /// Stop the task.
    Shutdown,
}

/// Reaches a node's task from anywhere in the process.
#[derive(Clone)]
pub struct Handle {
    inbox: mpsc::Sender<Inbound>,
}

/// Makes the queue into a node's task: its two ends go to the transport and to [`Driver::new`].
#[must_use]
pub fn inbox() -> (Handle, mpsc::Receiver<Inbound>) {
    let (sender, receiver) = mpsc::channel(INBOX_CAPACITY);
    (Handle { inbox: sender }, receiver)
}

impl Handle {
    /// Hands over an input; waits while the queue is full. Does nothing if the node has stopped.
    pub async fn input(&self, input: Input) {
        let _ = self.inbox.send(Inbound::Input(input)).await;
    }

    /// Hands over a request whose reply goes to `reply_to`; that is dropped if the node has stopped.
    pub async fn submit(&self, from: Caller, request: Request, reply_to: ReplyTo) {
        let _ = self.inbox.send(Inbound::Request { from, request, reply_to }).await;
    }

    /// Asks the node, and waits for the answer; `None` if the node has stopped.
    pub async fn request(&self, from: Caller, request: Request) -> Option<Reply> {
        let (sender, receiver) = oneshot::channel();
        let reply_to: ReplyTo = Box::new(move |reply| {
            let _ = sender.send(reply);
        });
        self.submit(from, request, reply_to).await;
        receiver.await.ok()
    }

    /// Tells the task to end, once it has said goodbye to those it gossips with, which takes it at most two
    /// seconds. What is durable stays; what waits is dropped.
    pub async fn shutdown(&self) {
        let _ = self.inbox.send(Inbound::Shutdown).await;
    }
}

/// Runs one node.
pub struct Driver<S, C, T, D, O> {
    node: Node<S>,
    transport: T,
    disk: D,
    observer: O,
    inbox: mpsc::Receiver<Inbound>,
    clock: C,
    callers: BTreeMap<RequestId, ReplyTo>,
    last_request: RequestId,
}

impl<S, C, T, D, O> Driver<S, C, T, D, O>
where
    S: StateMachine,
    C: Clock,
    T: Transport,
    D: Disk,
    O: Observer<S>,
{
    /// Brings the parts together. `node` must have been started at a time of `clock`.
    pub fn new(
        node: Node<S>,
        clock: C,
        transport: T,
        disk: D,
        observer: O,
        inbox: mpsc::Receiver<Inbound>,
    ) -> Driver<S, C, T, D, O> {
        let (callers, last_request) = (BTreeMap::new(), RequestId::default());
        Driver { node, transport, disk, observer, inbox, clock, callers, last_request }
    }

    /// Runs until told to shut down.
    ///
    /// # Errors
    ///
    /// [`DriverError`] if the node halts or a bug shows itself.
    pub async fn run(mut self) -> Result<(), DriverError> {
        let result = self.drive().await;
        if let Err(DriverError::Panicked(text)) = &result {
            let (now, observer, node) = (self.clock.now(), &mut self.observer, &self.node);
            if let Err(again) = contain(|| observer.panicked(now, text, node)) {
                tracing::error!("who watches the node panicked, too: {again}");
            }
        }
        self.transport.close().await;
        self.disk.close().await;
        result
    }

    async fn drive(&mut self) -> Result<(), DriverError> {
        let mut wall_at = TokioInstant::now();
        // Until when the node says goodbye, once it does.
        let mut leaves_by: Option<TokioInstant> = None;
        loop {
            if TokioInstant::now() >= wall_at {
                self.handle(Input::WallClock(self.clock.wall()))?;
                wall_at = TokioInstant::now() + WALL_INTERVAL;
            }
            self.fire_due(self.clock.now())?;
            self.drain()?;
            if leaves_by.is_some_and(|until| self.node.has_left() || TokioInstant::now() >= until) {
                return Ok(());
            }
            let deadline = self.node.deadline().map(|deadline| self.clock.wake_at(deadline));
            let wake_at = [deadline, leaves_by].into_iter().flatten().fold(wall_at, TokioInstant::min);
            tokio::select! {
                biased;
                done = self.disk.completed() => self.handle(into_input(done))?,
                inbound = self.inbox.recv() => {
                    let Some(inbound) = inbound else { return Ok(()) };
                    if self.receive(inbound)? {
                        leaves_by.get_or_insert(TokioInstant::now() + LEAVE_TIMEOUT);
                    }
                }
                () = sleep_until(wake_at) => {}
            }
        }
    }

    /// Hands over `first` and what has arrived behind it. Tells whether the node is to stop.
    fn receive(&mut self, first: Inbound) -> Result<bool, DriverError> {
        let mut stops = false;
        let mut next = Some(first);
        for _ in 0..INPUTS_PER_DRAIN {
            let Some(inbound) = next.take().or_else(|| self.inbox.try_recv().ok()) else { break };
            match inbound {
                Inbound::Input(input) => self.handle(input)?,
                Inbound::Request { from, request, reply_to } => {
                    self.last_request = self.last_request.next();
                    self.callers.insert(self.last_request, reply_to);
                    self.handle(Input::Request { id: self.last_request, from, request })?;
                }
                Inbound::Shutdown => {
                    stops = true;
                    self.handle(Input::Leave)?;
                }
            }
        }
        Ok(stops)
    }

    fn handle(&mut self, input: Input) -> Result<(), DriverError> {
        let now = self.clock.now();
        self.observer.input(now, &input);
        let node = &mut self.node;
        contain(|| node.handle(now, input))
    }

    fn fire_due(&mut self, now: Instant) -> Result<(), DriverError> {
        if self.node.deadline().is_some_and(|deadline| deadline <= now) {
            self.observer.timeout(now);
            let node = &mut self.node;
            contain(|| node.handle_timeout(now))?;
        }
        Ok(())
    }

    /// Acts on everything that the node asks for.
    fn drain(&mut self) -> Result<(), DriverError> {
        let mut undelivered = Vec::new();
        loop {
            self.act(&mut undelivered)?;
            let Some(node) = undelivered.pop() else { break };
            undelivered.retain(|other| *other != node);
            self.handle(Input::Unreachable(node))?;
        }
        let (now, observer, node) = (self.clock.now(), &mut self.observer, &self.node);
        contain(|| observer.settled(now, node))?;
        match self.node.halted() {
            Some(halt) => Err(DriverError::Halted(halt.clone())),
            None => Ok(()),
        }
    }

    fn act(&mut self, undelivered: &mut Vec<NodeId>) -> Result<(), DriverError> {
        let node = &mut self.node;
        while let Some(output) = contain(|| node.poll())? {
            self.observer.output(self.clock.now(), &output);
            match output {
                Output::Write(batch) => self.disk.submit(batch),
                Output::Read { id, read } => self.disk.read(id, read),
                Output::SaveSnapshot(snapshot) => self.disk.save(snapshot),
                Output::BuildSnapshot => {
                    if let Some(job) = node.take_job() {
                        self.disk.build(job);
                    }
                }
                Output::Send { to, message } => {
                    // Records are asked for again; that they find no room says nothing of the node.
                    let tells = message.lane() != Lane::Records;
                    let dropped = self.transport.send(&to, message).is_err();
                    if let (Peer::Node(node), true) = (to, dropped && tells) {
                        undelivered.push(node);
                    }
                }
                Output::Dial(name) => self.transport.dial(name),
                Output::HangUp(name) => self.transport.hang_up(&name),
                Output::Gossip(output) => self.transport.gossip(output),
                Output::Reply { id, reply } => {
                    if let Some(reply_to) = self.callers.remove(&id) {
                        reply_to(reply);
                    }
                }
                Output::Event(event) => log::event(&event, node),
            }
        }
        Ok(())
    }
}

fn into_input(done: Completion) -> Input {
    match done {
        Completion::Written(id, Ok(())) => Input::Written(id),
        Completion::Written(id, Err(error)) => Input::WriteFailed { id, reason: error.to_string() },
        Completion::Read(id, Ok(batches)) => Input::Read { id, batches },
        Completion::Read(id, Err(error)) => Input::ReadFailed { id, reason: error.to_string() },
        Completion::Saved(Ok(())) => Input::SnapshotSaved,
        Completion::Saved(Err(error)) => Input::SnapshotFailed { reason: error.to_string() },
        Completion::Built(state) => Input::SnapshotBuilt(state),
    }
}

/// Calls into the node, and turns a panic into an error.
fn contain<T>(work: impl FnOnce() -> T) -> Result<T, DriverError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        DriverError::Panicked(text.unwrap_or("no message").to_owned())
    })
}
