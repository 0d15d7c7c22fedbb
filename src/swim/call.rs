//! Questions on streams: who was asked what, and what an answer is for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Answer, CallId, Epoch, Output, Question, Swim, Target};
use crate::id::NodeId;
use crate::time::Instant;

/// The most questions at a time; beyond it, none is asked.
const CALLS_MAX: usize = 64;
/// After so many periods a question counts as unanswered, whatever the driver says.
const PATIENCE_PERIODS: u32 = 10;

/// Questions of ours that wait for an answer.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Calls {
    next: u64,
    open: BTreeMap<CallId, Call>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Call {
    to: Target,
    purpose: Purpose,
    asked: Instant,
}

/// What an answer is for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) enum Purpose {
    Join,
    Ping {
        sequence: u32,
    },
    Digest,
    Exchange,
    Metadata {
        of: NodeId,
    },
    /// Is somebody else there under our id?
    Twin {
        epoch: Epoch,
        boot: u32,
    },
}

impl Swim {
    /// Whether a member has been asked to let us in and may still answer.
    pub(super) fn is_asking_to_join(&self, id: NodeId) -> bool {
        self.calls.open.values().any(|call| call.purpose == Purpose::Join && call.to.id == Some(id))
    }

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
        let is_ours = from == self.config.id && question != Question::Ping;
        let is_flood = !self.pace.admits(from, cost_of(&question));
        self.stats.forged += u64::from(is_ours);
        self.stats.flooding += u64::from(is_flood);
        let answer = match question {
            _ if is_ours || is_flood => Answer::Refused,
            Question::Ping => Answer::Pong,
            Question::Metadata => self.own_description(),
            Question::Join(card) => self.welcome(from, &card),
            Question::Digest(buckets) => self.differences(&buckets),
            Question::Exchange { wanted, cards, accused } => self.exchange(&wanted, cards, accused, from),
        };
        self.outputs.push_back(Output::Answer { call, answer });
    }

    /// An answer came. One that does not fit its question is dropped.
    pub(super) fn answered(&mut self, call: CallId, from: NodeId, answer: Answer) {
        let Some(call) = self.calls.open.remove(&call) else { return };
        if call.to.id.is_some_and(|id| id != from) {
            self.stats.misdirected += 1;
            self.call_has_failed(call.purpose, call.to);
            return;
        }
        let to = Target { id: Some(from), address: call.to.address };
        match (call.purpose, answer) {
            (Purpose::Join, Answer::Welcome { cards, known }) => self.welcomed(to, from, cards, known),
            (Purpose::Ping { sequence }, Answer::Pong) => self.ponged(from, sequence),
            (Purpose::Digest, Answer::Differences { buckets, known }) => self.differ(to, buckets, known),
            (Purpose::Exchange, Answer::Exchanged { cards, accused }) => self.exchanged(to, cards, accused),
            (Purpose::Twin { epoch, boot }, Answer::Pong) => self.met_twin(epoch, boot),
            (Purpose::Metadata { .. }, Answer::Metadata { version, bytes }) => {
                self.described(from, version, bytes);
            }
            (purpose, _) => self.call_has_failed(purpose, call.to),
        }
    }

    pub(super) fn unanswered(&mut self, call: CallId) {
        if let Some(call) = self.calls.open.remove(&call) {
            self.call_has_failed(call.purpose, call.to);
        }
    }

    fn call_has_failed(&mut self, purpose: Purpose, to: Target) {
        match purpose {
            Purpose::Digest | Purpose::Exchange => self.sync_has_failed(to),
            Purpose::Metadata { of } => self.want_description(of),
            Purpose::Join | Purpose::Ping { .. } | Purpose::Twin { .. } => {}
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
            self.call_has_failed(call.purpose, call.to);
        }
    }
}

/// What a question counts for against a flood: as many datagrams as it would fill, about.
fn cost_of(question: &Question) -> u16 {
    let items = match question {
        Question::Join(_) | Question::Ping | Question::Metadata => 0,
        Question::Digest(_) => 16 * 16,
        Question::Exchange { wanted, cards, accused } => wanted.len() + cards.len() + accused.len(),
    };
    u16::try_from(1 + items / 16).unwrap_or(u16::MAX)
}
