//! What the state machine said, for whoever records the node: see [`crate::flight`].

use std::cell::{Cell, RefCell};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Node;
use crate::payload;
use crate::state_machine::RestoreError;

/// Something that a state machine said to its node.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Said {
    /// The answer to a command or a query.
    Answer(#[serde(serialize_with = "payload::plain")] Bytes),
    /// Its state, at the birth of the cluster. What is built later comes as an input.
    State(#[serde(serialize_with = "payload::plain")] Bytes),
    /// Whether it took a snapshot.
    Restored(#[serde(serialize_with = "payload::result")] Result<(), String>),
}

/// What was said since somebody asked last.
#[derive(Debug, Default)]
pub(super) struct Overheard {
    /// `None` while nobody listens.
    said: RefCell<Option<Vec<Said>>>,
    /// Whether it was asked something, and has not said anything yet.
    is_asked: Cell<bool>,
}

impl Overheard {
    /// The state machine is about to be called.
    pub(super) fn asks(&self) {
        self.is_asked.set(true);
    }

    fn note(&self, said: impl FnOnce() -> Said) {
        self.is_asked.set(false);
        if let Some(all) = &mut *self.said.borrow_mut() {
            all.push(said());
        }
    }

    pub(super) fn answer(&self, answer: &Bytes) {
        self.note(|| Said::Answer(answer.clone()));
    }

    pub(super) fn state(&self, state: &Bytes) {
        self.note(|| Said::State(state.clone()));
    }

    pub(super) fn restored(&self, result: &Result<(), RestoreError>) {
        self.note(|| Said::Restored(result.clone().map_err(|error| error.0)));
    }
}

impl<S> Node<S> {
    /// Keeps what the state machine says from now on, until [`take_said`](Node::take_said) takes it.
    pub fn overhear(&self) {
        self.overheard.said.borrow_mut().get_or_insert_default();
    }

    /// Takes what the state machine has said since this was last asked, in order.
    #[must_use]
    pub fn take_said(&self) -> Vec<Said> {
        self.overheard.said.borrow_mut().as_mut().map(core::mem::take).unwrap_or_default()
    }

    /// Whether the state machine was called and has not returned: after a panic, whether it was in there.
    #[must_use]
    pub fn is_in_state_machine(&self) -> bool {
        self.overheard.is_asked.get()
    }
}
