//! The gate: nothing that depends on a write leaves before the write is durable.
//!
//! # The problem
//!
//! A vote, an acknowledgement and a boot number are promises. If one leaves the node before the disk
//! holds it, a crash makes the node break its word: it votes twice in a term, or a leader counts a
//! copy that is gone. Drivers are written by many people, so the rule must not depend on them.
//!
//! # The idea
//!
//! Everything to be made durable is collected in one *open* batch. At most one batch is *in flight*;
//! while the disk works, inputs go on and fill the next one, so commits group by themselves. A message
//! that depends on a batch waits here, in a queue that is released strictly in order.
//!
//! ```text
//!  Persist(n) ──► open batch ──flush──► in flight ──Written──► durable
//!  Send{after n} ─► held, behind the batch that n is in ────────► released
//! ```
//!
//! A `Ready` that need not be synced (only the commit index moved) rides along with the next batch
//! that must be written. It counts as durable as soon as all before it are: it promises nothing.
//!
//! Before the very first batch is durable, which holds the boot number, nothing leaves at all.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::io::{Peer, WriteBatch};
use super::message::Message;
use crate::formation;
use crate::id::{BootId, WriteId};
use crate::partition::log::Change;
use crate::partition::replicas::Marks;
use crate::raft::{Persist, ReadyNumber, Snapshot};

/// A message on its way out.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Departure {
    pub(super) to: Peer,
    pub(super) message: Message,
}

/// What a durable batch sets free, in the order in which it must be acted on.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Released {
    /// The last `Ready` that is durable now.
    pub(super) ready: Option<ReadyNumber>,
    /// Whether a standing was in the batch.
    pub(super) standing: bool,
    /// Whether a record that names a snapshot was in the batch.
    pub(super) snapshot: bool,
    /// Messages whose promises are durable now.
    pub(super) departures: Vec<Departure>,
    /// What of partitions was in the batch.
    pub(super) marks: Marks,
}

/// What one batch carries besides its content.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Waiting {
    id: WriteId,
    ready: Option<ReadyNumber>,
    standing: bool,
    snapshot: bool,
    marks: Marks,
}

/// Collects writes, and holds back what depends on them.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Gate {
    open: WriteBatch,
    /// What hangs on the open batch.
    open_waiting: Waiting,
    /// Whether the open batch must be written.
    must_write: bool,
    in_flight: Option<Waiting>,
    /// The last batch that is durable.
    durable: Option<WriteId>,
    /// The last `Ready` that is durable.
    durable_ready: ReadyNumber,
    held: VecDeque<(WriteId, Departure)>,
}

impl Gate {
    /// Opens the gate of a process; its first batch holds the boot number.
    pub(super) fn start(boot: BootId) -> Gate {
        let first = WriteId::new(1);
        Gate {
            open: WriteBatch { id: first, boot: Some(boot), ..WriteBatch::default() },
            open_waiting: Waiting { id: first, ..Waiting::default() },
            must_write: true,
            in_flight: None,
            durable: None,
            durable_ready: ReadyNumber::default(),
            held: VecDeque::new(),
        }
    }

    /// Puts what a `Ready` wants into the open batch. Returns its number if it is durable already.
    pub(super) fn persist(&mut self, persist: Persist) -> Option<ReadyNumber> {
        let number = persist.number;
        if let Some(snapshot) = persist.snapshot {
            self.open.entries.clear();
            self.open.compact = None;
            self.open.snapshot = Some(snapshot);
            self.open_waiting.snapshot = true;
        }
        if let Some(first) = persist.entries.first() {
            // A batch that is not yet written is rewritten like the log itself.
            self.open.entries.retain(|entry| entry.at.index < first.at.index);
        }
        self.open.entries.extend(persist.entries);
        self.open.hard_state = persist.hard_state.or(self.open.hard_state);
        self.must_write |= persist.must_sync;
        if self.must_write {
            self.open_waiting.ready = Some(number);
        } else if let Some(in_flight) = &mut self.in_flight {
            in_flight.ready = Some(number);
        } else {
            self.durable_ready = number;
            return Some(number);
        }
        None
    }

    /// Puts the standing that a node starts with into its first batch; nobody waits for it.
    pub(super) fn begin_with(&mut self, standing: formation::Standing) {
        self.open.standing = Some(standing);
    }

    /// Puts a new standing into the open batch and, when the node becomes a member, its first state.
    pub(super) fn record(&mut self, standing: formation::Standing, birth: Option<Persist>) {
        self.open.standing = Some(standing);
        self.open_waiting.standing = true;
        self.must_write = true;
        if let Some(birth) = birth {
            self.open.snapshot = birth.snapshot;
            self.open_waiting.snapshot = true;
            self.open.hard_state = birth.hard_state;
        }
    }

    /// Puts a saved snapshot of our own into the open batch: it replaces the entries up to its place, all
    /// of which are durable.
    pub(super) fn compact(&mut self, snapshot: Snapshot) {
        self.open.entries.retain(|entry| entry.at.index > snapshot.at.index);
        self.open.compact = Some(snapshot);
        self.open_waiting.snapshot = true;
        self.must_write = true;
    }

    /// Puts into the open batch what becomes of the log of a partition.
    pub(super) fn change_log(&mut self, change: Change) {
        self.open.logs.push(change);
        self.must_write = true;
    }

    /// Whether the open batch can be taken.
    pub(super) fn is_due(&self) -> bool {
        self.must_write && self.in_flight.is_none()
    }

    /// Lets a message through, or holds it until `after` is durable.
    pub(super) fn depart(&mut self, departure: Departure, after: Option<ReadyNumber>) -> Option<Departure> {
        let until = match after.filter(|number| *number > self.durable_ready) {
            Some(number) => Some(self.batch_of(number)),
            None if self.durable.is_none() => Some(WriteId::new(1)),
            None => None,
        };
        match until {
            Some(until) => {
                self.held.push_back((until, departure));
                None
            }
            None => Some(departure),
        }
    }

    /// The open batch is about to be taken: with it goes what is committed in the logs of partitions, and what they are told
    /// when it is durable.
    pub(super) fn close_logs(&mut self, committed: Vec<Change>, marks: Marks) {
        self.open.logs.extend(committed);
        self.open_waiting.marks = marks;
    }

    /// Takes the open batch if it must be written and nothing is in flight.
    pub(super) fn flush(&mut self) -> Option<WriteBatch> {
        if !self.is_due() {
            return None;
        }
        let id = self.open.id.next();
        let next = WriteBatch { id, ..WriteBatch::default() };
        let next_waiting = Waiting { id, ..Waiting::default() };
        self.in_flight = Some(core::mem::replace(&mut self.open_waiting, next_waiting));
        self.must_write = false;
        Some(core::mem::replace(&mut self.open, next))
    }

    /// Notes that the batch in flight is durable, and releases what waited for it.
    ///
    /// # Panics
    ///
    /// If `id` is not the batch in flight: the driver confirms what it was not asked to write.
    pub(super) fn written(&mut self, id: WriteId) -> Released {
        let done = self.in_flight.take().expect("a batch is in flight when one is confirmed");
        assert_eq!(done.id, id, "batches become durable in order");
        self.durable = Some(id);
        self.durable_ready = done.ready.unwrap_or(self.durable_ready).max(self.durable_ready);
        let waited = self.held.iter().take_while(|(until, _)| *until <= id).count();
        let departures = self.held.drain(..waited).map(|(_, departure)| departure).collect();
        let Waiting { ready, standing, snapshot, marks, .. } = done;
        Released { ready, standing, snapshot, departures, marks }
    }

    /// Tells how many messages wait.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    fn batch_of(&self, number: ReadyNumber) -> WriteId {
        match &self.in_flight {
            Some(in_flight) if in_flight.ready.is_some_and(|last| number <= last) => in_flight.id,
            Some(_) | None => self.open.id,
        }
    }
}

/// Makes the first durable state of a cluster, which all founding members share.
pub(super) fn birth(snapshot: Snapshot) -> Persist {
    let hard_state = crate::raft::HardState { term: snapshot.at.term, vote: None, commit: snapshot.at.index };
    Persist { snapshot: Some(snapshot), hard_state: Some(hard_state), must_sync: true, ..Persist::default() }
}

/// Makes the first durable state of a node that is taken in.
pub(super) fn first_of(first: &crate::raft::Recovered) -> Persist {
    let (snapshot, hard_state) = (Some(first.snapshot.clone()), Some(first.hard_state));
    Persist { snapshot, hard_state, must_sync: true, ..Persist::default() }
}

#[cfg(test)]
mod tests;
