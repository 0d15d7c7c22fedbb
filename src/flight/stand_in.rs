//! What stands in for the state machine of a recorded node.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use bytes::Bytes;

use super::Step;
use crate::id::LogIndex;
use crate::node::Said;
use crate::state_machine::{Frozen, RestoreError, StateMachine};

/// A state machine that says what another one has said, in the same order, and nothing once that has come to its end.
#[derive(Debug, Default)]
pub struct StandIn {
    said: RefCell<VecDeque<Said>>,
    missed: Cell<u64>,
}

impl StandIn {
    /// Says what was said in these steps.
    #[must_use]
    pub fn of(steps: &[Step]) -> StandIn {
        let said = steps.iter().filter_map(|step| match step {
            Step::Said(said) => Some(said.clone()),
            Step::Input(..) | Step::Timeout(_) | Step::Output(_) | Step::Settled => None,
        });
        StandIn { said: RefCell::new(said.collect()), missed: Cell::new(0) }
    }

    /// How often it was asked for something that was not said in the recording.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed.get()
    }

    fn next<T>(&self, pick: impl FnOnce(&Said) -> Option<T>) -> Option<T> {
        let mut said = self.said.borrow_mut();
        let picked = said.front().and_then(pick);
        if picked.is_some() {
            said.pop_front();
        } else {
            self.missed.set(self.missed.get() + 1);
        }
        picked
    }

    fn answer(&self) -> Bytes {
        let answer = |said: &Said| match said {
            Said::Answer(answer) => Some(answer.clone()),
            Said::State(_) | Said::Restored(_) => None,
        };
        self.next(answer).unwrap_or_default()
    }
}

impl StateMachine for StandIn {
    fn apply(&mut self, _index: LogIndex, _command: &[u8]) -> Bytes {
        self.answer()
    }

    fn query(&self, _query: &[u8]) -> Bytes {
        self.answer()
    }

    fn snapshot(&self) -> Bytes {
        let state = |said: &Said| match said {
            Said::State(state) => Some(state.clone()),
            Said::Answer(_) | Said::Restored(_) => None,
        };
        self.next(state).unwrap_or_default()
    }

    /// What was written down elsewhere comes back as an input.
    fn freeze(&self) -> Frozen {
        Frozen::new(Bytes::new)
    }

    fn restore(&mut self, _snapshot: &[u8]) -> Result<(), RestoreError> {
        let restored = |said: &Said| match said {
            Said::Restored(result) => Some(result.clone()),
            Said::Answer(_) | Said::State(_) => None,
        };
        self.next(restored).unwrap_or(Ok(())).map_err(RestoreError)
    }
}
