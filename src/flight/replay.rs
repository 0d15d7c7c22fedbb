//! Telling a node the same again.

use core::fmt;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::disguise::Digests;
use super::{Digest, Key, Step};
use crate::machine::Machine;
use crate::node::{Node, Output};
use crate::payload::disguised;
use crate::state_machine::StateMachine;
use crate::wire::codec;

/// A node that is told what another one was told, step by step.
pub struct Player<S> {
    node: Node<S>,
    /// Whether the last step was an output: then the node has nothing more to say before the next one.
    is_draining: bool,
    digests: Digester,
}

/// Where a node, told the same again, said something else.
#[derive(Debug)]
pub struct Difference {
    /// What was recorded there.
    pub recorded: Box<Step>,
    /// What it asks for now; nothing if it asks for nothing.
    pub found: Option<Box<Output>>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let recorded = match *self.recorded {
            Step::Output(_) => "something else",
            Step::Input(..) | Step::Timeout(_) | Step::Settled | Step::Said(_) => "nothing",
        };
        match &self.found {
            None => write!(f, "it had said {recorded}, and says nothing"),
            Some(found) => write!(f, "it had said {recorded}, and says {found:?}"),
        }
    }
}

impl<S: StateMachine> Player<S> {
    /// Goes on with this node, which has nothing to say.
    pub(super) fn new(node: Node<S>, key: Option<Key>) -> Player<S> {
        Player { node, is_draining: false, digests: Digester::new(key) }
    }

    /// The node as it is.
    #[must_use]
    pub fn node(&self) -> &Node<S> {
        &self.node
    }

    /// The node, to go on with in another way.
    #[must_use]
    pub fn into_node(self) -> Node<S> {
        self.node
    }

    /// Takes the next thing that the node says after the last step. What panicked may have been this.
    pub fn poll(&mut self) -> Option<Output> {
        self.node.poll()
    }

    /// Does the next step. What the node says has to be what was recorded; it is returned.
    ///
    /// # Errors
    ///
    /// What it says instead. There is no going on after that.
    ///
    /// # Panics
    ///
    /// If the node does, as it may have done when it was recorded.
    pub fn step(&mut self, step: &Step) -> Result<Option<Output>, Difference> {
        let differs = |found: Option<Output>| Difference {
            recorded: Box::new(step.clone()),
            found: found.map(Box::new),
        };
        if let Step::Output(recorded) = step {
            self.is_draining = true;
            return match self.node.poll() {
                Some(found) if self.digests.of(&found) == *recorded => {
                    // What it would give comes as an input.
                    let _ = self.node.take_job();
                    Ok(Some(found))
                }
                found => Err(differs(found)),
            };
        }
        if let Step::Said(_) = step {
            return Ok(None);
        }
        if (self.is_draining || *step == Step::Settled)
            && let Some(found) = self.node.poll()
        {
            return Err(differs(Some(found)));
        }
        self.is_draining = false;
        match step {
            Step::Input(now, input) => self.node.handle(*now, input.clone()),
            Step::Timeout(now) => self.node.handle_timeout(*now),
            Step::Output(_) | Step::Settled | Step::Said(_) => {}
        }
        Ok(None)
    }
}

/// Makes digests of outputs. What users said counts where they are answered; what is written and sent is what came in, and
/// counts by its length.
pub(super) struct Digester {
    contents: Arc<Digests>,
    lengths: Arc<Digests>,
    buffer: Vec<u8>,
}

impl Digester {
    /// With `key`, payloads are as users wrote them; without, they are in disguise already.
    pub(super) fn new(key: Option<Key>) -> Digester {
        let contents = Arc::new(key.map_or(Digests::Disguised, Digests::Hashed));
        Digester { contents, lengths: Arc::new(Digests::Lengths), buffer: Vec::new() }
    }

    pub(super) fn of(&mut self, output: &Output) -> Digest {
        self.buffer.clear();
        let is_answer = matches!(output, Output::Reply { .. });
        let worn = Arc::clone(if is_answer { &self.contents } else { &self.lengths });
        disguised(worn, || codec::encode_into(output, &mut self.buffer));
        Digest(xxh3_64(&self.buffer))
    }
}
