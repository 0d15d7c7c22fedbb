//! A client of the pure world: one command at a time, sent to whoever leads, until it knows its fate.
//!
//! Like the production client it tries again only when it is certain that nobody heard it, or that who
//! heard it refused. A command whose answer never came is of unknown fate, and is never repeated.

use bytes::Bytes;
use rivven_cluster::rng::Stream;

use super::queue::Attempt;
use crate::app::Ticket;

/// One client.
#[derive(Clone)]
pub(super) struct Client<M> {
    pub(super) number: u64,
    pub(super) memory: M,
    pub(super) choices: Stream,
    /// Whom it believes to lead.
    pub(super) target: u64,
    pub(super) operation: u64,
    pub(super) under_way: Option<UnderWay>,
}

/// A command that is not yet answered.
#[derive(Clone)]
pub(super) struct UnderWay {
    pub(super) command: Bytes,
    pub(super) attempt: u64,
    /// Whether the last attempt may have been heard.
    pub(super) is_sent: bool,
    /// When the client stops to wait.
    pub(super) gives_up: u64,
}

impl<M> Client<M> {
    pub(super) fn ticket(&self) -> Ticket {
        Ticket { client: self.number, operation: self.operation }
    }

    /// The present attempt, if this is it.
    pub(super) fn is_at(&self, attempt: Attempt) -> bool {
        let present = self.under_way.as_ref().map(|under_way| under_way.attempt);
        attempt.operation == self.operation && present == Some(attempt.number)
    }

    /// Turns to the next node.
    pub(super) fn turn(&mut self, nodes: u64) {
        self.target = self.target % nodes + 1;
    }
}
