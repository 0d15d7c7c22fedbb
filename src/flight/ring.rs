//! The ring: what is kept of a running node, in two halves.
//!
//! An image shares its bytes with the node, so it costs a few small copies. Steps are written down at once, one behind the
//! other: they cost a copy of what users wrote, no more memory than they have bytes, and nothing when they are dropped.
//! When the newer half is full, the older one is dropped and a new image is taken.
//!
//! With hashed payloads a flight begins after the last snapshot that arrived from a leader, since parts of a snapshot
//! cannot be hashed so that they still fit together.

use bytes::Bytes;
use serde::Serialize;

use super::replay::Digester;
use super::{Digest, Flight, Payloads, Reason, Step};
use crate::node::{Image, Input, Node, Output, Said};
use crate::time::Instant;
use crate::wire::codec;

/// A [`Step`] that is being written down.
#[derive(Serialize)]
enum Kept<'a> {
    Input(Instant, &'a Input),
    Timeout(Instant),
    Output(Digest),
    Settled,
    Said(&'a Said),
}

/// An image, and what happened since.
#[derive(Debug)]
struct Half {
    image: Image,
    steps: Vec<u8>,
}

impl Half {
    fn push(&mut self, step: &Kept<'_>) {
        codec::encode_into(step, &mut self.steps);
    }
}

/// Keeps what a node is told and what it says. It has to be told everything, in order.
pub struct Ring {
    /// So many bytes of steps may be in both halves. One step, and the images, come on top.
    bytes: usize,
    payloads: Payloads,
    key: u64,
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
    key: u64,
    image: Image,
    steps: Vec<u8>,
}

impl Ring {
    /// An empty ring of about so many bytes. Payloads are hashed with `key`, which nobody should be able to guess.
    #[must_use]
    pub fn new(bytes: usize, payloads: Payloads, key: u64) -> Ring {
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
        if let Input::SnapshotBuilt(state) = input {
            self.built = Some(state.clone());
        }
        self.push(&Kept::Input(now, input));
    }

    /// The node is about to be told the time.
    pub fn timeout(&mut self, now: Instant) {
        self.push(&Kept::Timeout(now));
    }

    /// The node has asked for this.
    pub fn output(&mut self, output: &Output) {
        if let (Output::SaveSnapshot(snapshot), Payloads::Hashed) = (output, self.payloads) {
            // One of the node's own is the very bytes that were built.
            let is_own = self.built.take().is_some_and(|built| built.as_ptr() == snapshot.state.as_ptr());
            self.begins_anew |= !is_own;
        }
        if self.newer.is_some() {
            let digest = self.digests.of(output);
            self.push(&Kept::Output(digest));
        }
    }

    /// The node has nothing more to say.
    pub fn settled<S>(&mut self, node: &Node<S>) {
        self.said(node);
        if self.newer.is_none() {
            self.newer = begin(node);
            return;
        }
        if !self.is_settled {
            self.push(&Kept::Settled);
            self.is_settled = true;
        }
        let is_full = self.newer.as_ref().is_some_and(|newer| newer.steps.len() * 2 >= self.bytes);
        if self.begins_anew || is_full {
            self.turn(node);
        }
    }

    /// Keeps what the state machine has said, also before the node has nothing more to say.
    pub fn said<S>(&mut self, node: &Node<S>) {
        for said in node.take_said() {
            self.push(&Kept::Said(&said));
        }
    }

    /// Takes all of it. The ring begins anew with the node as it is, or when that has nothing to say the next time.
    /// `None` if there is nothing yet, or nothing that can be replayed.
    pub fn take<S>(&mut self, reason: Reason, node: &Node<S>) -> Option<Tape> {
        let newer = core::mem::replace(&mut self.newer, begin(node));
        let older = self.older.take();
        if core::mem::take(&mut self.begins_anew) {
            return None;
        }
        let (Half { image, mut steps }, more) = match (older, newer) {
            (Some(older), newer) => (older, newer),
            (None, newer) => (newer?, None),
        };
        steps.extend(more.into_iter().flat_map(|half| half.steps));
        Some(Tape { reason, payloads: self.payloads, key: self.key, image, steps })
    }

    /// Begins a new half, in the memory of the older one.
    fn turn<S>(&mut self, node: &Node<S>) {
        let Some(mut next) = begin(node) else { return };
        if let Some(older) = self.older.take() {
            next.steps = older.steps;
            next.steps.clear();
        }
        self.older = self.newer.replace(next).filter(|_| !self.begins_anew);
        self.begins_anew = false;
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
    Some(Half { image, steps: Vec::new() })
}

impl Tape {
    /// Makes a flight of it.
    #[must_use]
    pub fn into_flight(self) -> Flight {
        let Tape { reason, payloads, key, image, steps: written } = self;
        let (mut steps, mut rest) = (Vec::new(), &written[..]);
        while let Ok((step, length)) = codec::decode_prefix::<Step>(rest) {
            steps.push(step);
            rest = &rest[length..];
        }
        debug_assert!(rest.is_empty(), "what was written can be read");
        Flight { reason, payloads, key: Some(key), image: Box::new(image), steps }
    }
}
