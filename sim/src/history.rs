//! What the clients did and were told, in the order in which they called.
//!
//! Acknowledged, failed and unknown are kept apart, since they promise different things: the command
//! took effect once, it never will, or nobody knows. A history can be written as a file of JSON lines,
//! so that a checker of somebody else's can judge a run.

use std::collections::BTreeMap;
use std::io::{self, Write};

use bytes::Bytes;
use rivven_cluster::id::LogIndex;
use serde::{Deserialize, Serialize};

use crate::app::{Application, Call, RegisterAction, RegisterCall, Ticket};

/// One command of one client. Times are nanoseconds from the start of the run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Operation {
    /// Whose it is.
    pub ticket: Ticket,
    /// What the client wanted; a command has no ticket here.
    pub call: Call,
    /// When the client sent it first.
    pub called: u64,
    /// When the client learned what became of it.
    pub returned: Option<u64>,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a command, as far as its client was told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It was executed, or answered.
    Done {
        /// Where it stands in the log; of a query, up to where the state that answered it had come.
        index: LogIndex,
        /// What the state machine answered.
        answer: Bytes,
    },
    /// It was never appended and never will be.
    Failed {
        /// Why.
        reason: String,
    },
    /// Nobody knows, or the client still waits.
    Unknown,
}

/// How many commands ended how.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Counts {
    /// Acknowledged.
    pub done: u64,
    /// Failed for certain.
    pub failed: u64,
    /// Of unknown fate.
    pub unknown: u64,
}

/// All operations of a run.
#[derive(Clone, Debug, Default)]
pub struct History {
    operations: Vec<Operation>,
    places: BTreeMap<Ticket, usize>,
}

impl History {
    /// A client calls.
    pub fn call(&mut self, ticket: Ticket, call: Call, at: u64) {
        self.places.insert(ticket, self.operations.len());
        let (returned, outcome) = (None, Outcome::Unknown);
        self.operations.push(Operation { ticket, call, called: at, returned, outcome });
    }

    /// A client learns what became of its command.
    pub fn end(&mut self, ticket: Ticket, at: u64, outcome: Outcome) {
        let Some(place) = self.places.get(&ticket) else { return };
        let operation = &mut self.operations[*place];
        operation.returned = Some(at);
        operation.outcome = outcome;
    }

    /// The operations, in the order of their calls.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The operation of a ticket.
    pub fn find(&self, ticket: Ticket) -> Option<&Operation> {
        self.places.get(&ticket).map(|place| &self.operations[*place])
    }

    /// How many ended how.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for operation in &self.operations {
            match operation.outcome {
                Outcome::Done { .. } => counts.done += 1,
                Outcome::Failed { .. } => counts.failed += 1,
                Outcome::Unknown => counts.unknown += 1,
            }
        }
        counts
    }

    /// Writes one JSON object a line.
    ///
    /// # Errors
    ///
    /// What `out` says.
    pub fn write<A: Application>(&self, app: &A, out: &mut impl Write) -> io::Result<()> {
        for operation in &self.operations {
            serde_json::to_writer(&mut *out, &Line::of(app, operation))?;
            out.write_all(b"\n")?;
        }
        Ok(())
    }
}

/// A line of a history file.
#[derive(Serialize)]
struct Line {
    client: u64,
    op: &'static str,
    key: String,
    value: serde_json::Value,
    result: serde_json::Value,
    call: u64,
    r#return: Option<u64>,
    outcome: &'static str,
    position: Option<u64>,
}

impl Line {
    fn of<A: Application>(app: &A, operation: &Operation) -> Line {
        let (answer, position, outcome) = match &operation.outcome {
            Outcome::Done { index, answer } => (Some(answer), Some(index.value()), "ok"),
            Outcome::Failed { .. } => (None, None, "fail"),
            Outcome::Unknown => (None, None, "unknown"),
        };
        let call = app.register(&operation.call, answer.map(|answer| &answer[..]));
        let (op, key, value, result) = call.map_or_else(|| in_hex(operation, answer), in_words);
        Line {
            client: operation.ticket.client,
            op,
            key,
            value,
            result,
            call: operation.called,
            r#return: operation.returned,
            outcome,
            position,
        }
    }
}

type Words = (&'static str, String, serde_json::Value, serde_json::Value);

fn in_words(call: RegisterCall) -> Words {
    use serde_json::Value::Null;
    match call.action {
        RegisterAction::Read { found } => ("read", call.key, Null, found.flatten().into()),
        RegisterAction::Write { value } => ("write", call.key, value.into(), Null),
        RegisterAction::CompareAndSet { expected, value, stored } => {
            ("cas", call.key, serde_json::json!([expected, value]), stored.into())
        }
    }
}

fn in_hex(operation: &Operation, answer: Option<&Bytes>) -> Words {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let result = answer.map(|answer| hex(answer)).into();
    let name = match operation.call {
        Call::Command(_) => "command",
        Call::Query(_) => "query",
    };
    (name, String::new(), hex(operation.call.bytes()).into(), result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::KeyValueApp;
    use crate::shape::Shape;
    use rivven_cluster::kv::{Command, KeyValue};
    use rivven_cluster::state_machine::StateMachine;

    #[test]
    fn a_history_reads_as_json_lines() {
        let mut history = History::default();
        let key = Bytes::from("k7");
        let put = Command::Put { key: key.clone(), value: Bytes::from("v") }.encode();
        let get = Command::Get { key }.encode();
        let ticket = |operation| Ticket { client: 3, operation };
        history.call(ticket(1), Call::Command(put.clone()), 10);
        history.call(ticket(2), Call::Command(get.clone()), 30);
        let mut map = KeyValue::default();
        map.apply(LogIndex::new(2), &put);
        let answer = map.apply(LogIndex::new(3), &get);
        history.end(ticket(2), 40, Outcome::Done { index: LogIndex::new(3), answer });
        let mut text = Vec::new();
        history.write(&KeyValueApp::new(&Shape::light(1)), &mut text).unwrap();
        let expected = concat!(
            r#"{"client":3,"op":"write","key":"k7","value":"v","result":null,"call":10,"return":null,"outcome":"unknown","position":null}"#,
            "\n",
            r#"{"client":3,"op":"read","key":"k7","value":null,"result":"v","call":30,"return":40,"outcome":"ok","position":3}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
