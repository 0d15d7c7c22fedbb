//! The built-in state machine: a map from keys to values, with put, get and compare-and-set.
//!
//! It is what `RaftNode`, the demo and the simulator run, and the smallest example of how to write a
//! state machine of one's own. A read is a command like any other: it goes through the log and is
//! answered when it is committed, which makes it linearizable.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::LogIndex;
use crate::state_machine::{Frozen, RestoreError, StateMachine};
use crate::wire::codec;

/// What a client wants done.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Command {
    /// Sets a key.
    Put {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
    },
    /// Reads a key.
    Get {
        /// The key.
        key: Bytes,
    },
    /// Sets a key if it has the expected value; `None` expects it to be absent.
    CompareAndSet {
        /// The key.
        key: Bytes,
        /// The value it must have.
        expected: Option<Bytes>,
        /// Its new value.
        value: Bytes,
    },
}

/// What became of a [`Command`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Answer {
    /// The key was set.
    Stored,
    /// The value of the key, if it has one.
    Value(Option<Bytes>),
    /// The key had another value, this one, and keeps it.
    Conflict(Option<Bytes>),
    /// The bytes were no command. Nothing was changed.
    Malformed,
}

impl Command {
    /// Encodes the command for the log.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        Bytes::from(codec::encode(self))
    }
}

impl Answer {
    /// Decodes the answer that came back.
    ///
    /// # Errors
    ///
    /// If the bytes are no answer: the cluster runs another state machine.
    pub fn decode(bytes: &[u8]) -> Result<Answer, codec::CodecError> {
        codec::decode(bytes)
    }

    fn encode(&self) -> Bytes {
        Bytes::from(codec::encode(self))
    }
}

/// The map.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KeyValue {
    map: BTreeMap<Bytes, Bytes>,
}

impl KeyValue {
    fn execute(&mut self, command: Command) -> Answer {
        match command {
            Command::Put { key, value } => {
                self.map.insert(key, value);
                Answer::Stored
            }
            Command::Get { key } => Answer::Value(self.map.get(&key).cloned()),
            Command::CompareAndSet { key, expected, value } => {
                let current = self.map.get(&key);
                if current != expected.as_ref() {
                    return Answer::Conflict(current.cloned());
                }
                self.map.insert(key, value);
                Answer::Stored
            }
        }
    }
}

impl StateMachine for KeyValue {
    fn apply(&mut self, _index: LogIndex, command: &[u8]) -> Bytes {
        codec::decode(command).map_or(Answer::Malformed, |command| self.execute(command)).encode()
    }

    /// The query is the key; the answer is [`Answer::Value`].
    fn query(&self, query: &[u8]) -> Bytes {
        Answer::Value(self.map.get(query).cloned()).encode()
    }

    fn snapshot(&self) -> Bytes {
        Bytes::from(codec::encode(&self.map))
    }

    fn freeze(&self) -> Frozen {
        let map = self.map.clone();
        Frozen::new(move || Bytes::from(codec::encode(&map)))
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        self.map = codec::decode_state(snapshot).map_err(|error| RestoreError(error.to_string()))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(map: &mut KeyValue, command: &Command) -> Answer {
        Answer::decode(&map.apply(LogIndex::new(2), &command.encode())).unwrap()
    }

    fn set_if(expected: Option<&'static str>, value: &'static str) -> Command {
        let expected = expected.map(Bytes::from);
        Command::CompareAndSet { key: Bytes::from("k"), expected, value: Bytes::from(value) }
    }

    #[test]
    fn compare_and_set_changes_only_the_expected_value() {
        let mut map = KeyValue::default();
        assert_eq!(run(&mut map, &set_if(Some("a"), "b")), Answer::Conflict(None));
        assert_eq!(run(&mut map, &set_if(None, "a")), Answer::Stored);
        assert_eq!(run(&mut map, &set_if(None, "c")), Answer::Conflict(Some(Bytes::from("a"))));
        assert_eq!(run(&mut map, &set_if(Some("a"), "b")), Answer::Stored);
        assert_eq!(
            run(&mut map, &Command::Get { key: Bytes::from("k") }),
            Answer::Value(Some(Bytes::from("b")))
        );
    }

    #[test]
    fn a_snapshot_restores_to_the_same_state_and_garbage_changes_nothing() {
        let mut map = KeyValue::default();
        run(&mut map, &Command::Put { key: Bytes::from("k"), value: Bytes::from("v") });
        let mut copy = KeyValue::default();
        copy.restore(&map.snapshot()).unwrap();
        assert_eq!(copy, map);
        assert!(copy.restore(&[0xff; 9]).is_err());
        assert_eq!(copy, map);
        assert_eq!(copy.query(b"k"), Answer::Value(Some(Bytes::from("v"))).encode());
    }

    #[test]
    fn garbage_in_the_log_is_answered() {
        let answer = KeyValue::default().apply(LogIndex::new(2), &[0xff; 3]);
        assert_eq!(Answer::decode(&answer), Ok(Answer::Malformed));
    }
}
