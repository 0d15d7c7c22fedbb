//! The ring: what is kept of a running node, in two halves.
//!
//! Everything in it shares its bytes with the node, so that keeping it costs a few small copies for each step. When the
//! newer half is full, the older one is dropped and a new image is taken.
//!
//! With hashed payloads a flight begins after the last snapshot that arrived from a leader, since parts of a snapshot
//! cannot be hashed so that they still fit together.

use super::weight::of_step;
use super::{Flight, Payloads, Reason, Step};
use crate::node::{Image, Input, Message, Node, Output, Transfer};
use crate::time::Instant;

/// An image, and what happened since.
#[derive(Debug)]
struct Half {
    image: Image,
    steps: Vec<Step>,
    bytes: usize,
}

impl Half {
    fn new(image: Image) -> Half {
        Half { image, steps: Vec::new(), bytes: 0 }
    }

    fn push(&mut self, step: Step) {
        self.bytes += of_step(&step);
        self.steps.push(step);
    }
}

/// Begins with the node as it is, if it has nothing to say.
fn begin<S>(node: &Node<S>) -> Option<Half> {
    let image = node.image()?;
    node.overhear();
    Some(Half::new(image))
}

/// Keeps what a node is told and what it says. It has to be told everything, in order.
#[derive(Debug)]
pub struct Ring {
    /// About how many bytes it may hold. What goes into a log or a snapshot at once may come on top.
    bytes: usize,
    payloads: Payloads,
    older: Option<Half>,
    /// `None` until the node has nothing to say for the first time.
    newer: Option<Half>,
    /// A part of a snapshot has come since the node had nothing to say.
    takes_snapshot: bool,
    /// A snapshot has arrived: nothing before its arrival can be replayed with hashed payloads.
    begins_anew: bool,
}

impl Ring {
    /// An empty ring of about so many bytes.
    #[must_use]
    pub fn new(bytes: usize, payloads: Payloads) -> Ring {
        let (takes_snapshot, begins_anew) = (false, false);
        Ring { bytes, payloads, older: None, newer: None, takes_snapshot, begins_anew }
    }

    /// The node is about to be given this input.
    pub fn input(&mut self, now: Instant, input: &Input) {
        let message = match input {
            Input::Message { message, .. } => Some(message),
            Input::Link { .. }
            | Input::Unreachable(_)
            | Input::WallClock(_)
            | Input::Gossip(_)
            | Input::Leave
            | Input::Written(_)
            | Input::WriteFailed { .. }
            | Input::Read { .. }
            | Input::ReadFailed { .. }
            | Input::SnapshotBuilt(_)
            | Input::SnapshotSaved
            | Input::SnapshotFailed { .. }
            | Input::Request { .. } => None,
        };
        self.takes_snapshot |= matches!(message, Some(Message::Transfer(Transfer::Part { .. })));
        self.push(|| Step::Input(now, input.clone()));
    }

    /// The node is about to be told the time.
    pub fn timeout(&mut self, now: Instant) {
        self.push(|| Step::Timeout(now));
    }

    /// The node has asked for this.
    pub fn output(&mut self, output: &Output) {
        if self.takes_snapshot && matches!(output, Output::SaveSnapshot(_)) {
            self.begins_anew = self.payloads == Payloads::Hashed;
        }
        self.push(|| Step::Output(output.clone()));
    }

    /// The node has nothing more to say.
    pub fn settled<S>(&mut self, node: &Node<S>) {
        self.said(node);
        self.takes_snapshot = false;
        let Some(newer) = &mut self.newer else {
            self.newer = begin(node);
            return;
        };
        if newer.steps.last().is_some_and(|last| *last != Step::Settled) {
            newer.push(Step::Settled);
        }
        let is_full = newer.bytes.saturating_mul(2) >= self.bytes;
        if (self.begins_anew || is_full)
            && let Some(next) = begin(node)
        {
            self.older = self.newer.replace(next).filter(|_| !self.begins_anew);
            self.begins_anew = false;
        }
    }

    /// Keeps what the state machine has said, also before the node has nothing more to say.
    pub fn said<S>(&mut self, node: &Node<S>) {
        for said in node.take_said() {
            self.push(|| Step::Said(said));
        }
    }

    /// Takes all of it. The ring begins anew with the node as it is, or when that has nothing to say the next time.
    /// `None` if there is nothing yet, or nothing that can be replayed.
    pub fn take<S>(&mut self, reason: Reason, node: &Node<S>) -> Option<Flight> {
        let newer = core::mem::replace(&mut self.newer, begin(node));
        let mut halves = [self.older.take(), newer].into_iter().flatten();
        if core::mem::take(&mut self.begins_anew) {
            return None;
        }
        let Half { image, mut steps, .. } = halves.next()?;
        steps.extend(halves.flat_map(|half| half.steps));
        Some(Flight { reason, payloads: self.payloads, image: Box::new(image), steps })
    }

    fn push(&mut self, step: impl FnOnce() -> Step) {
        if let Some(newer) = &mut self.newer {
            newer.push(step());
        }
    }
}
