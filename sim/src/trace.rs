//! The trace of a run: everything that happened, in order, and its running hash.
//!
//! Two runs of the same seed must give the same hash; the first record at which they differ is where
//! something was not an input. It goes down to the bytes of each packet: TLS draws its random numbers
//! from the seed, too.

use std::io::Write;

use rivven_cluster::node::{Input, Output};
use rivven_cluster::wire::codec;
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::faults::{Fault, FaultKind};

/// Written into the hash first: a change of the format changes every hash.
pub const TRACE_FORMAT: u64 = 1;

/// A host: a node by its number, or the host of the clients, 0.
pub type HostId = u64;

/// One thing that happened.
#[derive(Debug, Serialize)]
pub enum Record<'a> {
    /// A host sent a datagram.
    Datagram {
        /// From where.
        from: HostId,
        /// To where.
        to: HostId,
        /// Its length in bytes.
        length: usize,
        /// The hash of its bytes.
        bytes: u64,
        /// What the network did with it.
        fate: Fate,
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

/// What the network did with a datagram.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum Fate {
    /// It arrives after so many milliseconds.
    Delivered {
        /// The delay, in milliseconds.
        delay: u64,
    },
    /// A fault of this kind dropped it.
    Dropped(FaultKind),
}

/// Collects the trace.
pub struct Trace {
    hash: u64,
    records: u64,
    text: Option<Box<dyn Write + Send>>,
}

impl Trace {
    /// Starts an empty trace; `text`, if given, gets a line for each record.
    pub fn new(text: Option<Box<dyn Write + Send>>) -> Trace {
        Trace { hash: xxh3_64_with_seed(&[], TRACE_FORMAT), records: 0, text }
    }

    /// Adds a record that happened at simulated time `at`, in nanoseconds.
    pub fn record(&mut self, at: u64, record: &Record<'_>) {
        self.hash = xxh3_64_with_seed(&codec::encode(&(at, record)), self.hash);
        self.records += 1;
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
