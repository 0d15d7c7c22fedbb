//! Followers pass on what their callers want, and relay what the leader answers.
//!
//! Only what comes in a session is passed on, or opens one; whoever sends a bare command is told where
//! the leader is, and goes there itself.
//!
//! A message between nodes may arrive twice or late, but *rejected* must mean that the command was not
//! appended and never will be. So a question names the term of the leader that it is for, and that leader
//! takes each question of that term once: a second copy is dropped. Only the first copy, and only by the
//! leader that it is for, is ever answered with *rejected*. Whoever else it reaches cannot know what became
//! of another copy, and says so.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Node;
use super::io::{Caller, Output, Rejection, Reply};
use super::message::{CallId, Message};
use super::requests::may_propose;
use crate::id::{BootId, NodeId, RequestId, Term};
use crate::raft::{Role, Standing};
use crate::session::Proposal;
use crate::state_machine::StateMachine;
use crate::time::Instant;

/// A request that was passed on is given up after so many of the longest election timeouts.
const PATIENCE_FACTOR: u32 = 4;
/// Numbers from here on name requests of other nodes; the driver's are below.
const FOREIGN: u64 = 1 << 63;
/// So many questions of a node are remembered; what is older is not answered any more.
const HEARD_MAX: usize = 16_384;
/// The most bytes of proposals in one message, unless a single one is larger.
const TOGETHER_BYTES_MAX: usize = 1024 * 1024;

/// What this node has passed on, and what others have passed on to it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Forwards {
    last_call: u64,
    /// Who waits here for an answer from where, and until when.
    sent: BTreeMap<u64, (RequestId, NodeId, Instant)>,
    /// What leaves with the next drain, and for whom, in which term.
    leaving: Vec<(CallId, Proposal)>,
    bound_for: Option<(NodeId, Term)>,
    last_foreign: u64,
    /// Whom an answer goes to.
    foreign: BTreeMap<RequestId, (NodeId, CallId)>,
    /// Which questions have come, in which term, and from which start of a node.
    heard: (Term, BTreeMap<NodeId, (BootId, BTreeSet<u64>)>),
}

impl Forwards {
    pub(super) fn start() -> Forwards {
        Forwards {
            last_call: 0,
            sent: BTreeMap::new(),
            leaving: Vec::new(),
            bound_for: None,
            last_foreign: FOREIGN,
            foreign: BTreeMap::new(),
            heard: (Term::default(), BTreeMap::new()),
        }
    }

    /// Tells whether a question of this term comes for the first time.
    fn is_new(&mut self, term: Term, from: NodeId, call: CallId) -> bool {
        if self.heard.0 != term {
            self.heard = (term, BTreeMap::new());
        }
        let (boot, numbers) = self.heard.1.entry(from).or_default();
        if *boot > call.boot {
            return false;
        }
        if *boot < call.boot {
            (*boot, *numbers) = (call.boot, BTreeSet::new());
        }
        let is_full = numbers.len() >= HEARD_MAX;
        let is_forgotten = is_full && numbers.first().is_some_and(|first| call.number < *first);
        if is_forgotten || !numbers.insert(call.number) {
            return false;
        }
        if is_full {
            numbers.pop_first();
        }
        true
    }

    /// How many requests wait for a leader's answer.
    pub(super) fn waiting(&self) -> usize {
        self.sent.len()
    }

    /// When the next request is given up. They were sent in this order.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.sent.first_key_value().map(|(_, (_, _, until))| *until)
    }
}

impl<S: StateMachine> Node<S> {
    /// Passes a proposal on to the leader.
    pub(super) fn forward(&mut self, id: RequestId, leader: NodeId, proposal: Proposal) {
        let Some(Standing { term, .. }) = self.standing() else { return };
        self.stats.forwarded += 1;
        self.forwards.last_call += 1;
        let number = self.forwards.last_call;
        let until = self.now + self.forward_patience();
        self.forwards.sent.insert(number, (id, leader, until));
        let call = self.call_id(number);
        if self.forwards.bound_for.is_some_and(|bound_for| bound_for != (leader, term)) {
            self.send_forwards();
        }
        self.forwards.bound_for = Some((leader, term));
        self.forwards.leaving.push((call, proposal));
    }

    /// Sends what came since the last drain: together, once all nodes understand that.
    pub(super) fn send_forwards(&mut self) {
        let leaving = core::mem::take(&mut self.forwards.leaving);
        let Some((leader, term)) = self.forwards.bound_for.take() else { return };
        if !self.forwards_travel_together() {
            for (call, proposal) in leaving {
                self.tell(leader, Message::Forward { call, term, proposal });
            }
            return;
        }
        let mut wanted = Vec::new();
        let mut bytes = 0;
        for (call, proposal) in leaving {
            if bytes + proposal.length() > TOGETHER_BYTES_MAX && !wanted.is_empty() {
                let wanted = core::mem::take(&mut wanted);
                self.tell(leader, Message::Forwards { term, wanted });
                bytes = 0;
            }
            bytes += proposal.length();
            wanted.push((call, proposal));
        }
        if !wanted.is_empty() {
            self.tell(leader, Message::Forwards { term, wanted });
        }
    }

    fn forward_patience(&self) -> Duration {
        self.config.timing.election_timeout.end * PATIENCE_FACTOR
    }

    /// Another node passes a proposal on to the leader of `term`.
    pub(super) fn forwarded_to_us(&mut self, from: NodeId, call: CallId, term: Term, proposal: Proposal) {
        let leads = |standing: Standing| standing.role == Role::Leader && standing.term == term;
        if !self.standing().is_some_and(leads) {
            let reply = Box::new(Reply::Unknown);
            return self.tell(from, Message::Forwarded { call, reply });
        }
        if !self.forwards.is_new(term, from, call) {
            return;
        }
        self.forwards.last_foreign += 1;
        let id = RequestId::new(self.forwards.last_foreign);
        self.forwards.foreign.insert(id, (from, call));
        // What no operator may propose no honest node passes on.
        let allowed = may_propose(Caller::Operator, &proposal).then_some(()).ok_or(Rejection::Forbidden);
        match allowed.and_then(|()| self.admit(&proposal)) {
            Ok(()) => self.queued.push((id, proposal)),
            Err(rejection) => {
                let reply = self.reject(rejection);
                self.answer(id, reply);
            }
        }
    }

    /// The leader has answered; `reply` goes to the caller who waits.
    pub(super) fn forward_answered(&mut self, from: NodeId, call: CallId, reply: Reply) {
        if call != self.call_id(call.number) {
            return;
        }
        let is_asked = self.forwards.sent.get(&call.number).is_some_and(|(_, leader, _)| *leader == from);
        let (true, Some((id, ..))) = (is_asked, self.forwards.sent.remove(&call.number)) else { return };
        let reply = match reply {
            reply @ (Reply::Done { .. }
            | Reply::Opened { .. }
            | Reply::Ordered { .. }
            | Reply::Expired
            | Reply::Rejected(_)
            | Reply::Unknown) => reply,
            Reply::Answer { .. }
            | Reply::Metadata { .. }
            | Reply::Followed { .. }
            | Reply::Explained(_)
            | Reply::Told(_)
            | Reply::Status(_)
            | Reply::Entries(_)
            | Reply::Members(_)
            | Reply::HandedOver { .. }
            | Reply::Recorded { .. } => self.unknown(),
        };
        self.outputs.push_back(Output::Reply { id, reply });
    }

    /// Answers a request, wherever it came from.
    pub(super) fn answer(&mut self, id: RequestId, reply: Reply) {
        match self.forwards.foreign.remove(&id) {
            Some((node, call)) => {
                self.tell(node, Message::Forwarded { call, reply: Box::new(reply) });
            }
            None => self.outputs.push_back(Output::Reply { id, reply }),
        }
    }

    /// Gives up what has waited too long.
    pub(super) fn expire_forwards(&mut self) {
        while self.forwards.deadline().is_some_and(|until| until <= self.now) {
            let Some((_, (id, ..))) = self.forwards.sent.pop_first() else { return };
            let reply = self.unknown();
            self.outputs.push_back(Output::Reply { id, reply });
        }
    }

    /// Gives up what was passed on to `node`: a message to it is lost.
    pub(super) fn lose_forwards_to(&mut self, node: NodeId) {
        let lost: Vec<u64> = self
            .forwards
            .sent
            .iter()
            .filter(|(_, (_, leader, _))| *leader == node)
            .map(|(n, _)| *n)
            .collect();
        for number in lost {
            let Some((id, ..)) = self.forwards.sent.remove(&number) else { continue };
            let reply = self.unknown();
            self.outputs.push_back(Output::Reply { id, reply });
        }
    }

    /// Gives up everything that was passed on: who would have answered leads no longer.
    pub(super) fn give_up_forwards(&mut self) {
        self.forwards.leaving.clear();
        self.forwards.bound_for = None;
        for (id, ..) in core::mem::take(&mut self.forwards.sent).into_values() {
            let reply = self.unknown();
            self.outputs.push_back(Output::Reply { id, reply });
        }
    }
}
