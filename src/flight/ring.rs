//! The ring: what is kept of a running node, in two halves.
//!
//! An image shares its bytes with the node, so it costs a few small copies. Steps are written down at once, one behind the
//! other: they cost a copy of what users wrote, no more memory than they have bytes, and nothing when they are dropped.
//! When the newer half is full, the older one is dropped and a new image is taken.
//!
//! With hashed payloads a flight begins after the last snapshot that arrived from a leader, since parts of a snapshot
//! cannot be hashed so that they still fit together.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::file::Chunks;
use super::replay::Digester;
use super::{Digest, Key, Payloads, Reason, Step};
use crate::id::NodeId;
use crate::node::{Image, Input, Node, Output, Said};
use crate::state_machine::StateMachine;
use crate::time::Instant;
use crate::wire::codec;

/// A [`Step`] as it is written down.
#[derive(Deserialize, Serialize)]
enum Kept<'a> {
    Input(Instant, Cow<'a, Input>),
    Timeout(Instant),
    Output(Digest),
    Settled,
    Said(Said),
    /// A snapshot was built; its state is beside the steps.
    Built(Instant),
}

/// An image, and what happened since.
#[derive(Debug)]
struct Half {
    image: Image,
    steps: Vec<u8>,
    /// The states of snapshots that were built, in order.
    built: Vec<Bytes>,
}

impl Half {
    fn push(&mut self, step: &Kept<'_>) {
        codec::encode_into(step, &mut self.steps);
    }
}

/// Keeps what a node is told and what it says. It has to be told everything, in order.
pub struct Ring {
    /// So many bytes of steps may be in both halves. What comes between two drains, the images, and the states of snapshots,
    /// which are shared with the node while that has them, come on top.
    bytes: usize,
    payloads: Payloads,
    key: Key,
    digests: Digester,
    older: Option<Half>,
    /// `None` until the node has nothing to say for the first time.
    newer: Option<Half>,
    /// Whether anything happened since the node had nothing to say.
    is_settled: bool,
    /// The state of a snapshot of the node's own that is to be saved.
    built: Option<Bytes>,
    /// A snapshot has arrived: nothing before its arrival can be replayed with hashed payloads.
    begins_anew: bool,
}

/// What was in a ring.
#[derive(Debug)]
pub struct Tape {
    reason: Reason,
    payloads: Payloads,
    key: Key,
    image: Image,
    steps: Vec<u8>,
    built: Vec<Bytes>,
}

impl Ring {
    /// An empty ring of about so many bytes. Payloads are hashed with `key`, which nobody should be able to guess.
    #[must_use]
    pub fn new(bytes: usize, payloads: Payloads, key: Key) -> Ring {
        Ring {
            bytes,
            payloads,
            key,
            digests: Digester::new(Some(key)),
            older: None,
            newer: None,
            is_settled: true,
            built: None,
            begins_anew: false,
        }
    }

    /// The node is about to be given this input.
    pub fn input(&mut self, now: Instant, input: &Input) {
        let Input::SnapshotBuilt(state) = input else {
            return self.push(&Kept::Input(now, Cow::Borrowed(input)));
        };
        self.built = Some(state.clone());
        self.push(&Kept::Built(now));
        if let Some(newer) = &mut self.newer {
            newer.built.push(state.clone());
        }
    }

    /// The node is about to be told the time.
    pub fn timeout(&mut self, now: Instant) {
        self.push(&Kept::Timeout(now));
    }

    /// The node has asked for this.
    pub fn output(&mut self, output: &Output) {
        if let Output::SaveSnapshot(snapshot) = output {
            // One of the node's own is the very bytes that were built.
            let is_own = self.built.take().is_some_and(|built| built.as_ptr() == snapshot.state.as_ptr());
            self.begins_anew |= !is_own && self.payloads == Payloads::Hashed;
        }
        if self.newer.is_some() {
            let digest = self.digests.of(output);
            self.push(&Kept::Output(digest));
        }
    }

    /// The node has nothing more to say.
    pub fn settled<S: StateMachine>(&mut self, node: &Node<S>) {
        self.said(node);
        if self.newer.is_none() {
            (self.newer, self.is_settled, self.begins_anew) = (begin(node), true, false);
            return;
        }
        if !self.is_settled {
            self.push(&Kept::Settled);
            self.is_settled = true;
        }
        let length = self.newer.as_ref().map_or(0, |newer| newer.steps.len());
        if self.begins_anew || length * 2 >= self.bytes {
            let has_turned = self.turn(node);
            if !has_turned && length > self.bytes && node.halted().is_none() {
                // There was nothing to begin a new half with, for so long: the memory is worth more.
                (self.older, self.newer) = (None, None);
            }
        }
    }

    /// Keeps what the state machine has said, also before the node has nothing more to say.
    pub fn said<S>(&mut self, node: &Node<S>) {
        for said in node.take_said() {
            self.push(&Kept::Said(said));
        }
    }

    /// Takes all of it; the ring begins anew when it is told next that the node has nothing more to say. `None` if there is
    /// nothing yet, or nothing that can be replayed.
    pub fn take(&mut self, reason: Reason) -> Option<Tape> {
        let (older, newer) = (self.older.take(), self.newer.take());
        if core::mem::take(&mut self.begins_anew) {
            return None;
        }
        let (Half { image, mut steps, mut built }, more) = match (older, newer) {
            (Some(older), newer) => (older, newer),
            (None, newer) => (newer?, None),
        };
        if let Some(half) = more {
            steps.extend(half.steps);
            built.extend(half.built);
        }
        Some(Tape { reason, payloads: self.payloads, key: self.key, image, steps, built })
    }

    /// Begins a new half, in the memory of the older one, if the node can be written down now.
    fn turn<S>(&mut self, node: &Node<S>) -> bool {
        let Some(mut next) = begin(node) else { return false };
        if let Some(older) = self.older.take() {
            next.steps = older.steps;
            next.steps.clear();
            next.steps.shrink_to(self.bytes);
        }
        self.older = self.newer.replace(next).filter(|_| !self.begins_anew);
        self.begins_anew = false;
        true
    }

    fn push(&mut self, step: &Kept<'_>) {
        if let Some(newer) = &mut self.newer {
            newer.push(step);
            self.is_settled = false;
        }
    }
}

/// Begins with the node as it is, if it has nothing to say.
fn begin<S>(node: &Node<S>) -> Option<Half> {
    let image = node.image()?;
    node.overhear();
    Some(Half { image, steps: Vec::new(), built: Vec::new() })
}

impl Tape {
    /// Whose it is.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.image.node()
    }

    /// Why it was taken.
    #[must_use]
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// Makes a file of it, piece by piece.
    #[must_use]
    pub fn into_chunks(self) -> Chunks<Steps> {
        let Tape { reason, payloads, key, image, steps, built } = self;
        let steps = Steps { written: steps, read: 0, built: built.into_iter() };
        Chunks::new(&reason, payloads, Some(key), &image, steps)
    }
}

/// The steps on a tape, one after the other.
pub struct Steps {
    written: Vec<u8>,
    /// So many bytes of it were read.
    read: usize,
    built: std::vec::IntoIter<Bytes>,
}

impl Iterator for Steps {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let rest = &self.written[self.read..];
        if rest.is_empty() {
            return None;
        }
        let read = codec::decode_prefix::<Kept<'_>>(rest);
        debug_assert!(read.is_ok(), "what was written can be read");
        let (kept, length) = read.ok()?;
        self.read += length;
        Some(match kept {
            Kept::Input(now, input) => Step::Input(now, input.into_owned()),
            Kept::Timeout(now) => Step::Timeout(now),
            Kept::Output(digest) => Step::Output(digest),
            Kept::Settled => Step::Settled,
            Kept::Said(said) => Step::Said(said),
            Kept::Built(now) => Step::Input(now, Input::SnapshotBuilt(self.built.next().unwrap_or_default())),
        })
    }
}
