//! The driver alone: a disk in memory, no peers, and a state machine with a bug.
#![cfg(feature = "driver")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;
mod watch;

use std::collections::BTreeSet;

use bytes::Bytes;
use rivven_cluster::driver::{
    Clock, Completion, Disk, Driver, DriverError, Dropped, Handle, Observer, StorageError, TokioClock,
    Transport, inbox,
};
use rivven_cluster::id::{LogIndex, PeerName, ReadId, WriteId};
use rivven_cluster::kv::{Command, KeyValue};
use rivven_cluster::node::{
    Caller, Config, Durable, Event, Halt, Message, Node, Output, Peer, Reply, Request, WriteBatch,
};
use rivven_cluster::partition::log::Read;
use rivven_cluster::raft::{Entry, Role, Snapshot};
use rivven_cluster::rng::Seed;
use rivven_cluster::session::{Proposal, command_in};
use rivven_cluster::state_machine::{Frozen, RestoreError, StateMachine};
use rivven_cluster::swim;
use rivven_cluster::time::Instant;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// A disk that is done at once, and whose sync fails on the command `fail`.
#[derive(Default)]
struct Memory {
    written: Option<WriteId>,
    fails: bool,
}

impl Disk for Memory {
    fn submit(&mut self, batch: WriteBatch) {
        self.written = Some(batch.id);
        let command = |entry: &Entry| command_in(entry.command()?).map(|(_, command)| command.to_vec());
        let is_it = |entry: &Entry| command(entry).is_some_and(|command| command == b"fail");
        self.fails = batch.entries.iter().any(is_it);
    }

    fn read(&mut self, _id: ReadId, _read: Read) {
        unreachable!("there are no partitions")
    }

    fn save(&mut self, _snapshot: Snapshot) {
        unreachable!("nothing is large enough")
    }

    fn build(&mut self, _job: Frozen) {
        unreachable!("nothing is large enough")
    }

    async fn completed(&mut self) -> Completion {
        let Some(id) = self.written.take() else { return core::future::pending().await };
        if self.fails {
            let (place, reason) = ("memory".to_owned(), "the sync failed".to_owned());
            return Completion::Written(id, Err(StorageError::Failed { place, reason }));
        }
        Completion::Written(id, Ok(()))
    }
}

/// Nobody is there.
struct Nobody;

impl Transport for Nobody {
    fn send(&mut self, _to: &Peer, _message: Message) -> Result<(), Dropped> {
        Err(Dropped)
    }

    fn dial(&mut self, _name: PeerName) {}

    fn gossip(&mut self, _output: swim::Output) {}

    fn hang_up(&mut self, _name: &PeerName) {}
}

/// Tells when the node leads.
struct Leads(mpsc::UnboundedSender<()>);

impl<S> Observer<S> for Leads {
    fn output(&mut self, _now: Instant, output: &Output) {
        if matches!(output, Output::Event(Event::Standing(standing)) if standing.role == Role::Leader) {
            let _ = self.0.send(());
        }
    }
}

/// A map with a bug: it panics on one command.
#[derive(Default)]
struct Buggy(KeyValue);

impl StateMachine for Buggy {
    fn apply(&mut self, index: LogIndex, command: &[u8]) -> Bytes {
        assert!(command != b"crash", "a bug in somebody's state machine");
        self.0.apply(index, command)
    }

    fn query(&self, query: &[u8]) -> Bytes {
        self.0.query(query)
    }

    fn snapshot(&self) -> Bytes {
        self.0.snapshot()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        self.0.restore(snapshot)
    }
}

/// Starts a cluster of one, and waits until it leads.
async fn start() -> (Handle, JoinHandle<Result<(), DriverError>>) {
    let config = Config { peers: BTreeSet::new(), ..support::config(1, 1) };
    let clock = TokioClock::start();
    let node = Node::start(config, Seed::new(1), Durable::default(), Buggy::default(), clock.now());
    let (handle, receiver) = inbox();
    let (leads, mut led) = mpsc::unbounded_channel();
    let disk = Memory::default();
    let driver = Driver::new(node.expect("an empty disk"), clock, Nobody, disk, Leads(leads), receiver);
    let task = tokio::spawn(driver.run());
    led.recv().await.expect("a cluster of one elects itself");
    (handle, task)
}

fn propose(command: Bytes) -> Request {
    Request::Propose(Proposal::Command(command))
}

#[tokio::test(start_paused = true)]
async fn a_command_is_answered_and_a_shutdown_is_orderly() {
    let (handle, task) = start().await;
    let command = Command::Put { key: "k".into(), value: "v".into() }.encode();
    let reply = handle.request(Caller::Client, propose(command)).await;
    assert!(matches!(reply, Some(Reply::Done { .. })), "{reply:?}");
    handle.shutdown().await;
    assert_eq!(task.await.expect("no panic"), Ok(()));
    assert_eq!(handle.request(Caller::Client, Request::Status).await, None, "nobody answers any more");
}

#[tokio::test(start_paused = true)]
async fn a_panic_inside_the_node_halts_it_with_a_reason() {
    let (handle, task) = start().await;
    let reply = handle.request(Caller::Client, propose(Bytes::from_static(b"crash"))).await;
    assert_eq!(reply, None, "the fate of the command is unknown");
    let Err(DriverError::Panicked(reason)) = task.await.expect("contained") else { panic!("it went on") };
    assert!(reason.contains("somebody's state machine"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_failed_sync_halts_the_node_with_a_reason_and_answers_unknown() {
    let (handle, task) = start().await;
    let reply = handle.request(Caller::Client, propose(Bytes::from_static(b"fail"))).await;
    assert_eq!(reply, Some(Reply::Unknown));
    let Err(DriverError::Halted(Halt::WriteFailed { reason, .. })) = task.await.expect("no panic") else {
        panic!("it went on")
    };
    assert!(reason.contains("the sync failed"), "{reason}");
}
