//! Questions on streams: who was asked what, and what an answer is for.

use std::collections::BTreeMap;

use super::{Answer, CallId, Output, Question, Swim, Target};
use crate::id::NodeId;
use crate::time::Instant;

/// The most questions at a time; beyond it, none is asked.
const CALLS_MAX: usize = 64;
/// After so many periods a question counts as unanswered, whatever the driver says.
const PATIENCE_PERIODS: u32 = 10;

/// Questions of ours that wait for an answer.
#[derive(Debug, Default)]
pub(super) struct Calls {
    next: u64,
    open: BTreeMap<CallId, Call>,
}

#[derive(Debug)]
struct Call {
    to: Target,
    purpose: Purpose,
    asked: Instant,
}

/// What an answer is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Purpose {
    Join,
    Ping { sequence: u32 },
    Digest,
    Exchange,
    Metadata { of: NodeId },
}

impl Swim {
    /// Asks a member. Tells whether it was asked.
    pub(super) fn ask(&mut self, to: Target, purpose: Purpose, question: Question) -> bool {
        if self.calls.open.len() >= CALLS_MAX {
            return false;
        }
        let call = CallId(self.calls.next);
        self.calls.next += 1;
        self.calls.open.insert(call, Call { to, purpose, asked: self.now });
        self.outputs.push_back(Output::Ask { call, to, question });
        true
    }

    /// A question came. Each is answered, and at once.
    pub(super) fn asked(&mut self, call: CallId, from: NodeId, question: Question) {
        if from == self.config.id {
            self.stats.forged += 1;
            return;
        }
        if !self.pace.admits(from) {
            self.stats.flooding += 1;
            return;
        }
        let answer = match question {
            Question::Ping => Answer::Pong,
            Question::Metadata => self.own_description(),
            Question::Join(card) => self.welcome(from, &card),
            Question::Digest(buckets) => self.differences(&buckets),
            Question::Exchange { wanted, cards, accused } => self.exchange(&wanted, cards, accused),
        };
        self.outputs.push_back(Output::Answer { call, answer });
    }

    /// An answer came. One that does not fit its question is dropped.
    pub(super) fn answered(&mut self, call: CallId, from: NodeId, answer: Answer) {
        let Some(call) = self.calls.open.remove(&call) else { return };
        if call.to.id.is_some_and(|id| id != from) {
            self.stats.misdirected += 1;
            self.call_has_failed(call.purpose);
            return;
        }
        let to = Target { id: Some(from), address: call.to.address };
        match (call.purpose, answer) {
            (Purpose::Join, Answer::Welcome { cards, known }) => self.welcomed(to, from, cards, known),
            (Purpose::Ping { sequence }, Answer::Pong) => self.ponged(from, sequence),
            (Purpose::Digest, Answer::Differences { buckets, known }) => self.differ(to, &buckets, known),
            (Purpose::Exchange, Answer::Exchanged { cards, accused }) => self.exchanged(cards, accused),
            (Purpose::Metadata { .. }, Answer::Metadata { version, bytes }) => {
                self.described(from, version, bytes);
            }
            (purpose, _) => self.call_has_failed(purpose),
        }
    }

    pub(super) fn unanswered(&mut self, call: CallId) {
        if let Some(call) = self.calls.open.remove(&call) {
            self.call_has_failed(call.purpose);
        }
    }

    fn call_has_failed(&mut self, purpose: Purpose) {
        match purpose {
            Purpose::Digest | Purpose::Exchange => self.sync_has_ended(),
            Purpose::Metadata { of } => self.want_description(of),
            Purpose::Join | Purpose::Ping { .. } => {}
        }
    }

    /// Gives up what the driver seems to have forgotten.
    pub(super) fn forget_calls(&mut self) {
        let patience = self.period() * PATIENCE_PERIODS;
        while let Some(oldest) = self.calls.open.first_entry() {
            if self.now < oldest.get().asked + patience {
                return;
            }
            let call = oldest.remove();
            self.call_has_failed(call.purpose);
        }
    }
}
