//! A client of the pure world: one command at a time, sent to whoever leads, until it knows its fate.
//!
//! Like the production client it tries again when it is certain that nobody heard it, or that who heard
//! it refused; and, until its patience ends, whenever trying again is harmless: a query, or a command in
//! a session. Every other client works in a session. Any other command whose answer never came is of
//! unknown fate, and is never repeated.

use core::time::Duration;

use bytes::Bytes;
use rivven_cluster::id::LogIndex;
use rivven_cluster::node::Request;
use rivven_cluster::rng::Stream;
use rivven_cluster::session::{self, Proposal};

use super::queue::Attempt;
use crate::app::{Call, Ticket};

/// Some sessions end while their clients wait for a leader.
const SESSION_LIFETIME: Duration = Duration::from_secs(5);
/// Others end between two attempts of one command.
const SESSION_LIFETIME_SHORT: Duration = Duration::from_secs(1);

/// One client.
#[derive(Clone)]
pub(super) struct Client<M> {
    pub(super) number: u64,
    pub(super) memory: M,
    pub(super) choices: Stream,
    /// Whom it believes to lead.
    pub(super) target: u64,
    pub(super) operation: u64,
    /// Whether its last call was answered.
    pub(super) is_content: bool,
    pub(super) under_way: Option<UnderWay>,
    /// Its session, once that is open.
    pub(super) session: Option<LogIndex>,
    /// When it last had an answer in its session.
    pub(super) session_used: u64,
}

/// A call that is not yet answered.
#[derive(Clone)]
pub(super) struct UnderWay {
    pub(super) call: Call,
    pub(super) attempt: u64,
    /// Whether the last attempt may have been heard.
    pub(super) is_sent: bool,
    /// Whether an attempt may have been carried out, of which nobody has heard.
    pub(super) may_have_happened: bool,
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

    /// Whether it works in a session.
    pub(super) fn has_session(&self) -> bool {
        self.number.is_multiple_of(2)
    }

    /// How long its sessions last without a command.
    pub(super) fn session_lifetime(&self) -> Duration {
        if self.number.is_multiple_of(4) { SESSION_LIFETIME_SHORT } else { SESSION_LIFETIME }
    }

    /// Whether it asks one node all the time, and hardly thinks.
    pub(super) fn is_reader(&self) -> bool {
        self.number.is_multiple_of(3)
    }

    /// Whether its present call may be sent again although it may have been carried out.
    pub(super) fn may_repeat(&self) -> bool {
        let is_query =
            self.under_way.as_ref().is_some_and(|under_way| matches!(under_way.call, Call::Query(_)));
        is_query || self.has_session()
    }

    /// Whether its present call is a command that an attempt before may have had executed.
    pub(super) fn may_have_happened(&self) -> bool {
        let is_so =
            |under_way: &UnderWay| under_way.may_have_happened && matches!(under_way.call, Call::Command(_));
        self.under_way.as_ref().is_some_and(is_so)
    }

    /// What it sends for its present call; a session has to be opened first.
    pub(super) fn request(&self) -> Option<Request> {
        let command = match &self.under_way.as_ref()?.call {
            Call::Query(query) => return Some(Request::Query { query: query.clone() }),
            Call::Command(command) => self.ticket().wrap(command),
        };
        Some(Request::Propose(self.proposal(command)))
    }

    fn proposal(&self, command: Bytes) -> Proposal {
        match self.session {
            _ if !self.has_session() => Proposal::Command(command),
            None => Proposal::Open { lifetime: self.session_lifetime() },
            Some(session) => {
                let ticket = session::Ticket { session, number: self.operation, oldest: self.operation };
                Proposal::Once { ticket, command }
            }
        }
    }

    /// Turns to the next node.
    pub(super) fn turn(&mut self, nodes: u64) {
        self.target = self.target % nodes + 1;
    }
}
