//! What the replicated log is for: a [`StateMachine`] that every node steps through the same commands.
//!
//! Each node owns one and feeds it the committed commands in log order, so that equal logs give equal
//! states. It is deterministic and total: the answer may depend on nothing but the state and the
//! command, and a command that makes no sense is answered, not refused with a panic, because it is in
//! the log of every node and will be there again after every restart.

use bytes::Bytes;

use crate::id::LogIndex;

/// A deterministic state that commands change.
pub trait StateMachine {
    /// Executes the command at `index` and returns its answer, which goes to the client that waits.
    ///
    /// Indexes increase; some are missing, since leaders append entries of their own.
    fn apply(&mut self, index: LogIndex, command: &[u8]) -> Bytes;

    /// Answers a question without changing anything.
    #[must_use]
    fn query(&self, query: &[u8]) -> Bytes;

    /// Writes the whole state down. Equal states give equal bytes.
    #[must_use]
    fn snapshot(&self) -> Bytes;

    /// Takes the state as it is now, to be written down elsewhere while this one goes on.
    ///
    /// The default writes at once, which holds the node up for as long as that takes. A state that can be
    /// copied faster than written should be copied here.
    #[must_use]
    fn freeze(&self) -> Frozen {
        let state = self.snapshot();
        Frozen::new(move || state)
    }

    /// Replaces the whole state by what a snapshot holds.
    ///
    /// # Errors
    ///
    /// [`RestoreError`] if the bytes are no snapshot of this kind of state; the state is unchanged.
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError>;
}

/// A state that waits to be written down, on any thread.
pub struct Frozen(Box<dyn FnOnce() -> Bytes + Send>);

impl Frozen {
    /// Wraps what writes the state down; its bytes are those of [`StateMachine::snapshot`].
    #[must_use]
    pub fn new(write: impl FnOnce() -> Bytes + Send + 'static) -> Frozen {
        Frozen(Box::new(write))
    }

    /// Writes the state down.
    #[must_use]
    pub fn write(self) -> Bytes {
        (self.0)()
    }
}

/// Bytes that are no snapshot of this state machine. The state is unchanged.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a snapshot of this state machine: {0}")]
pub struct RestoreError(pub String);
