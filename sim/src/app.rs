//! What runs on the simulated cluster and what its clients ask: ours, or yours.
//!
//! An [`Application`] is a state machine and a workload. The world wraps each command in a ticket that
//! no other command has, so that checkers can tell it from all others, and takes the ticket off before
//! the state machine sees it.

use std::cell::RefCell;
use std::collections::BTreeMap;

use bytes::Bytes;
use rivven_cluster::id::LogIndex;
use rivven_cluster::kv::{Answer, Command, KeyValue};
use rivven_cluster::rng::Stream;
use rivven_cluster::state_machine::{RestoreError, StateMachine};
use rivven_cluster::wire::codec;

use crate::shape::Shape;

/// The length of a ticket in bytes: the client's number, then the operation's.
const TICKET_BYTES: usize = 16;

/// A state machine, and what clients do with it. The crate's guide has a complete example.
pub trait Application: Clone {
    /// The state machine that every node runs.
    type Machine: StateMachine;
    /// What one client remembers between its commands.
    type Memory: Clone + Default;

    /// Makes the state machine of a node that starts. All are equal.
    fn machine(&self) -> Self::Machine;

    /// Draws what a client does next, from nothing but its memory and `choices`.
    fn call(&self, memory: &mut Self::Memory, ticket: Ticket, choices: &mut Stream) -> Call;

    /// A client is told the answer to its last call.
    fn told(&self, _memory: &mut Self::Memory, _call: &Call, _answer: &[u8]) {}

    /// Says what a call does to which register, if it is that simple. Then histories are checked for
    /// linearizability without trusting the log's order, and read well in a file.
    fn register(&self, _call: &Call, _answer: Option<&[u8]>) -> Option<RegisterCall> {
        None
    }
}

/// What a client wants of the state machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Call {
    /// A command, which goes through the log.
    Command(Bytes),
    /// A linearizable query, which does not.
    Query(Bytes),
}

impl Call {
    /// The bytes of the command or query.
    pub fn bytes(&self) -> &Bytes {
        match self {
            Call::Command(bytes) | Call::Query(bytes) => bytes,
        }
    }
}

/// Names one command: the client, and how many it has sent, from 1.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Ticket {
    /// The client.
    pub client: u64,
    /// Its operation.
    pub operation: u64,
}

impl Ticket {
    /// Puts the ticket in front of a command.
    pub fn wrap(self, command: &[u8]) -> Bytes {
        let mut bytes = Vec::with_capacity(TICKET_BYTES + command.len());
        bytes.extend_from_slice(&self.client.to_le_bytes());
        bytes.extend_from_slice(&self.operation.to_le_bytes());
        bytes.extend_from_slice(command);
        Bytes::from(bytes)
    }

    /// Takes the ticket off a command; `None` if it has none.
    pub fn unwrap(bytes: &[u8]) -> Option<(Ticket, &[u8])> {
        let (client, rest) = bytes.split_first_chunk::<8>()?;
        let (operation, command) = rest.split_first_chunk::<8>()?;
        let (client, operation) = (u64::from_le_bytes(*client), u64::from_le_bytes(*operation));
        Some((Ticket { client, operation }, command))
    }
}

/// A command on one register, with its result if it has one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RegisterCall {
    /// Which register.
    pub key: String,
    /// What is done.
    pub action: RegisterAction,
}

/// What is done to a register.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RegisterAction {
    /// Its value is read.
    Read {
        /// What was found, once it is known: nothing, or a value.
        found: Option<Option<String>>,
    },
    /// It is set.
    Write {
        /// To this.
        value: String,
    },
    /// It is set if it has the expected value.
    CompareAndSet {
        /// What it must hold.
        expected: Option<String>,
        /// What it is set to.
        value: String,
        /// Whether it was, once that is known.
        stored: Option<bool>,
    },
}

/// A state machine that takes tickets off, and notes what it executes until somebody asks.
pub struct Recorded<M> {
    machine: M,
    /// `None` if nobody will ask.
    executed: Option<RefCell<Vec<Executed>>>,
}

/// One executed command.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Executed {
    /// Where it stands in the log.
    pub index: LogIndex,
    /// The command, with its ticket.
    pub command: Bytes,
    /// What the state machine answered.
    pub answer: Bytes,
}

impl<M> Recorded<M> {
    /// Wraps a machine; `is_watched` says whether anybody will ask what it executed.
    pub fn new(machine: M, is_watched: bool) -> Recorded<M> {
        Recorded { machine, executed: is_watched.then(RefCell::default) }
    }

    /// What was executed since the last time this was asked.
    pub fn take_executed(&self) -> Vec<Executed> {
        self.executed.as_ref().map(RefCell::take).unwrap_or_default()
    }
}

impl<M: StateMachine> StateMachine for Recorded<M> {
    fn apply(&mut self, index: LogIndex, command: &[u8]) -> Bytes {
        let bare = Ticket::unwrap(command).map_or(command, |(_, bare)| bare);
        let answer = self.machine.apply(index, bare);
        if let Some(executed) = &self.executed {
            let command = Bytes::copy_from_slice(command);
            executed.borrow_mut().push(Executed { index, command, answer: answer.clone() });
        }
        answer
    }

    fn query(&self, query: &[u8]) -> Bytes {
        self.machine.query(query)
    }

    fn snapshot(&self) -> Bytes {
        self.machine.snapshot()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        self.machine.restore(snapshot)
    }
}

/// The built-in application: the key-value map; each client has a key of its own, and all share some.
#[derive(Clone, Debug)]
pub struct KeyValueApp {
    shared_keys: u64,
    value_bytes_max: u64,
}

impl KeyValueApp {
    /// Sizes the workload for a run.
    pub fn new(shape: &Shape) -> KeyValueApp {
        KeyValueApp { shared_keys: shape.shared_keys, value_bytes_max: shape.value_bytes_max }
    }

    fn value(&self, ticket: Ticket, choices: &mut Stream) -> Bytes {
        let mut value = format!("{}.{}", ticket.client, ticket.operation);
        let length = usize::try_from(choices.below(self.value_bytes_max)).unwrap_or_default();
        while value.len() < length {
            value.push('-');
        }
        Bytes::from(value)
    }
}

impl Application for KeyValueApp {
    type Machine = KeyValue;
    /// The value that the client last saw, by key.
    type Memory = BTreeMap<Bytes, Bytes>;

    fn machine(&self) -> KeyValue {
        KeyValue::default()
    }

    fn call(&self, memory: &mut Self::Memory, ticket: Ticket, choices: &mut Stream) -> Call {
        let value = self.value(ticket, choices);
        let shared = Bytes::from(format!("shared {}", choices.below(self.shared_keys)));
        let own = Bytes::from(format!("own {}", ticket.client));
        if ticket.client.is_multiple_of(3) && choices.chance(9, 10) {
            // A reader, who sees it when a node does not know that it leads no longer.
            return Call::Query(shared);
        }
        let command = match choices.below(12) {
            0 | 1 => Command::Put { key: own, value },
            2 => Command::Get { key: own },
            3 => return Call::Query(own),
            4 | 5 => Command::Put { key: shared, value },
            6 => Command::Get { key: shared },
            7..=9 => return Call::Query(shared),
            _ => {
                let expected = memory.get(&shared).cloned();
                Command::CompareAndSet { key: shared, expected, value }
            }
        };
        Call::Command(command.encode())
    }

    fn told(&self, memory: &mut Self::Memory, call: &Call, answer: &[u8]) {
        let (Some(command), Ok(answer)) = (as_command(call), Answer::decode(answer)) else { return };
        let (key, seen) = match (command, answer) {
            (Command::Put { key, value } | Command::CompareAndSet { key, value, .. }, Answer::Stored) => {
                (key, Some(value))
            }
            (
                Command::Get { key } | Command::CompareAndSet { key, .. },
                Answer::Value(found) | Answer::Conflict(found),
            ) => (key, found),
            (_, _) => return,
        };
        match seen {
            Some(value) => memory.insert(key, value),
            None => memory.remove(&key),
        };
    }

    fn register(&self, call: &Call, answer: Option<&[u8]>) -> Option<RegisterCall> {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let answer = answer.and_then(|answer| Answer::decode(answer).ok());
        let (key, action) = match as_command(call)? {
            Command::Put { key, value } => (key, RegisterAction::Write { value: text(&value) }),
            Command::Get { key } => {
                let found = answer.and_then(|answer| match answer {
                    Answer::Value(found) => Some(found.as_ref().map(text)),
                    Answer::Stored | Answer::Conflict(_) | Answer::Malformed => None,
                });
                (key, RegisterAction::Read { found })
            }
            Command::CompareAndSet { key, expected, value } => {
                let stored = answer.map(|answer| answer == Answer::Stored);
                let (expected, value) = (expected.as_ref().map(text), text(&value));
                (key, RegisterAction::CompareAndSet { expected, value, stored })
            }
        };
        Some(RegisterCall { key: text(&key), action })
    }
}

/// What a call asks of the map; a query reads the key that it names.
fn as_command(call: &Call) -> Option<Command> {
    match call {
        Call::Command(command) => codec::decode(command).ok(),
        Call::Query(key) => Some(Command::Get { key: key.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_machine_sees_commands_without_tickets() {
        let mut recorded = Recorded::new(KeyValue::default(), true);
        let command = Command::Put { key: Bytes::from("k"), value: Bytes::from("v") }.encode();
        let ticketed = Ticket { client: 3, operation: 9 }.wrap(&command);
        let answer = recorded.apply(LogIndex::new(2), &ticketed);
        assert_eq!(Answer::decode(&answer), Ok(Answer::Stored));
        let executed = recorded.take_executed();
        assert_eq!(executed, [Executed { index: LogIndex::new(2), command: ticketed.clone(), answer }]);
        assert_eq!(recorded.take_executed(), []);
        assert_eq!(Ticket::unwrap(&ticketed), Some((Ticket { client: 3, operation: 9 }, &command[..])));
    }
}
