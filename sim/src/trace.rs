//! The trace of a run: everything that happened, in order, and its running hash.
//!
//! Two runs of the same seed must give the same hash; the first record at which they differ is where
//! something was not an input. In the turmoil world it goes down to the bytes of each packet: TLS draws
//! its random numbers from the seed, too.

use std::io::Write;

use rivven_cluster::node::{Input, Output};
use rivven_cluster::wire::codec;
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::faults::{Fate, Fault, Host};
use crate::lock::lock;
use crate::report::{Picture, SharedPicture};

/// Written into the hash first: a change of the format changes every hash.
pub const TRACE_FORMAT: u64 = 3;

/// One thing that happened.
#[derive(Debug, Serialize)]
pub enum Record<'a> {
    /// A host sent a UDP datagram.
    Datagram {
        /// From where.
        from: Host,
        /// To where.
        to: Host,
        /// Its length in bytes.
        length: usize,
        /// The hash of its bytes.
        bytes: u64,
        /// What the network did with it.
        fate: Fate,
    },
    /// A host sent a message, in the world without datagrams. What it was stands in an output before.
    Message {
        /// From where.
        from: Host,
        /// To where.
        to: Host,
        /// What the network did with it.
        fate: Fate,
    },
    /// A process started.
    Start {
        /// Which node's.
        node: u64,
        /// Which of its processes, from 1.
        process: u64,
        /// Why it ended at once, if it did.
        refused: Option<&'a str>,
    },
    /// A node was given an input.
    Input {
        /// Which node.
        node: u64,
        /// The node's own time, in nanoseconds.
        now: u64,
        /// What it was told.
        input: &'a Input,
    },
    /// A node was told the time.
    Timeout {
        /// Which node.
        node: u64,
        /// The node's own time, in nanoseconds.
        now: u64,
    },
    /// A node asked for something.
    Output {
        /// Which node.
        node: u64,
        /// What it asked for.
        output: &'a Output,
    },
    /// A fault began or ended.
    Fault {
        /// Its number in the plan.
        id: u64,
        /// What it is.
        fault: &'a Fault,
        /// Whether it began.
        begins: bool,
    },
    /// A client was told what became of its command.
    Outcome {
        /// Which client.
        client: u64,
        /// Its operation.
        operation: u64,
        /// What it was told.
        outcome: &'a str,
    },
}

/// Collects the trace.
pub struct Trace {
    hash: u64,
    records: u64,
    /// Whether anything is recorded at all.
    is_on: bool,
    text: Option<Box<dyn Write + Send>>,
    picture: Option<SharedPicture>,
}

impl Trace {
    /// Starts an empty trace; `text`, if given, gets a line for each record, and `picture` is drawn.
    pub fn new(text: Option<Box<dyn Write + Send>>, picture: Option<SharedPicture>) -> Trace {
        Trace { hash: xxh3_64_with_seed(&[], TRACE_FORMAT), records: 0, is_on: true, text, picture }
    }

    /// A trace that records nothing.
    pub fn off() -> Trace {
        Trace { is_on: false, ..Trace::new(None, None) }
    }

    /// A trace that goes on where this one is, without its text and its picture.
    pub fn fork(&self) -> Trace {
        Trace { hash: self.hash, records: self.records, is_on: self.is_on, text: None, picture: None }
    }

    /// Lets the picture, if there is one, have what is not a record.
    pub fn draw(&self, draw: impl FnOnce(&mut Picture)) {
        if let Some(picture) = &self.picture {
            draw(&mut lock(picture));
        }
    }

    /// Adds a record that happened at simulated time `at`, in nanoseconds.
    pub fn record(&mut self, at: u64, record: &Record<'_>) {
        if !self.is_on {
            return;
        }
        self.hash = xxh3_64_with_seed(&codec::encode(&(at, record)), self.hash);
        self.records += 1;
        self.draw(|picture| picture.record(at, record));
        if let Some(text) = &mut self.text {
            let written = writeln!(text, "{at:>14} {:016x} {record:?}", self.hash);
            if let Err(error) = written {
                tracing::error!("the trace cannot be written: {error}");
                self.text = None;
            }
        }
    }

    /// The hash of everything so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many records there are.
    pub fn records(&self) -> u64 {
        self.records
    }
}
