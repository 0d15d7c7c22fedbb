//! What the clients of a run do: several at once, each on a key of its own and on shared ones.
//!
//! Every command carries a ticket that no other has, so that the checkers can tell each from all
//! others. A client goes on when it knows the fate of its last command, or knows that nobody does; that
//! one it never repeats.

use core::time::Duration;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rivven_cluster::id::LogIndex;
use rivven_cluster::kv::{Answer, Command, KeyValue};
use rivven_cluster::quic::{Client, ClientError};
use rivven_cluster::rng::{Seed, Stream};
use rivven_cluster::state_machine::{RestoreError, StateMachine};

use crate::checkers::Checkers;
use crate::net::{lock, sim_nanos};
use crate::trace::{Record, Trace};

/// How many keys all clients share.
const SHARED_KEYS: u64 = 5;
/// The length of a ticket in bytes: the client's number, then the operation's.
const TICKET_BYTES: usize = 16;

/// One client.
pub struct Worker {
    /// Its number.
    pub number: u64,
    /// How it reaches the cluster.
    pub client: Client,
    /// Where it reports what it was told.
    pub checkers: Arc<Mutex<Checkers>>,
    /// The trace of the run.
    pub trace: Arc<Mutex<Trace>>,
    /// When it stops, from the start of the run.
    pub until: Duration,
}

impl Worker {
    /// Works until its time is up.
    pub async fn run(self, seed: Seed) {
        let mut choices = seed.stream("workload", self.number);
        let mut own = OwnKey::Unknown;
        let mut operation = 0;
        while turmoil::sim_elapsed().unwrap_or_default() < self.until {
            operation += 1;
            let command = self.draw(&mut choices, operation);
            let ticketed = self.ticketed(operation, &command);
            let outcome = self.client.propose(ticketed.clone()).await;
            let told = self.report(&ticketed, &outcome);
            self.judge(&command, &outcome, &mut own);
            let record = Record::Outcome { client: self.number, operation, outcome: told };
            lock(&self.trace).record(sim_nanos(), &record);
            tokio::time::sleep(Duration::from_millis(choices.between(2, 60))).await;
        }
    }

    fn draw(&self, choices: &mut Stream, operation: u64) -> Command {
        let value = Bytes::from(format!("client {} operation {operation}", self.number));
        let shared = Bytes::from(format!("shared {}", choices.below(SHARED_KEYS)));
        match choices.below(8) {
            0..=2 => Command::Put { key: self.own_key(), value },
            3 => Command::Get { key: self.own_key() },
            4 | 5 => Command::Put { key: shared, value },
            6 => Command::Get { key: shared },
            _ => Command::CompareAndSet { key: shared, expected: None, value },
        }
    }

    fn own_key(&self) -> Bytes {
        Bytes::from(format!("own {}", self.number))
    }

    fn ticketed(&self, operation: u64, command: &Command) -> Bytes {
        let mut bytes = Vec::with_capacity(TICKET_BYTES);
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&operation.to_le_bytes());
        bytes.extend_from_slice(&command.encode());
        Bytes::from(bytes)
    }

    fn report(&self, command: &[u8], outcome: &Outcome) -> &'static str {
        let told = &mut lock(&self.checkers).acknowledged;
        match outcome {
            Ok(committed) => {
                told.done(command, committed.at.index);
                "done"
            }
            Err(ClientError::Unknown(_)) => {
                told.unknown();
                "unknown"
            }
            Err(error) => {
                told.failed(command, error.to_string());
                "failed"
            }
        }
    }

    /// A client that alone writes a key knows what it must read there.
    fn judge(&self, command: &Command, outcome: &Outcome, own: &mut OwnKey) {
        match (command, outcome) {
            (Command::Put { key, value }, outcome) if *key == self.own_key() => match outcome {
                Ok(_) => *own = OwnKey::Holds(value.clone()),
                Err(ClientError::Unknown(_)) => *own = OwnKey::Unknown,
                Err(_) => {}
            },
            (Command::Get { key }, Ok(committed)) if *key == self.own_key() => {
                let OwnKey::Holds(expected) = own else { return };
                let found = Answer::decode(&committed.answer);
                if found != Ok(Answer::Value(Some(expected.clone()))) {
                    let what = format!(
                        "client {} was told that {expected:?} is stored, and read {found:?}",
                        self.number
                    );
                    lock(&self.checkers).acknowledged.stale(what);
                }
            }
            _ => {}
        }
    }
}

type Outcome = Result<rivven_cluster::quic::Committed, ClientError>;

/// What a client knows of its own key.
enum OwnKey {
    Unknown,
    Holds(Bytes),
}

/// The key-value map of one node, which reports each command that it executes.
pub struct Reporting {
    map: KeyValue,
    node: u64,
    checkers: Arc<Mutex<Checkers>>,
}

impl Reporting {
    /// Makes an empty map.
    pub fn new(node: u64, checkers: Arc<Mutex<Checkers>>) -> Reporting {
        Reporting { map: KeyValue::default(), node, checkers }
    }
}

impl StateMachine for Reporting {
    fn apply(&mut self, index: LogIndex, command: &[u8]) -> Bytes {
        lock(&self.checkers).applied(self.node, index, command);
        self.map.apply(index, command.get(TICKET_BYTES..).unwrap_or_default())
    }

    fn query(&self, query: &[u8]) -> Bytes {
        self.map.query(query)
    }

    fn snapshot(&self) -> Bytes {
        self.map.snapshot()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        self.map.restore(snapshot)
    }
}
