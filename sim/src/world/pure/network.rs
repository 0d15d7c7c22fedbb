//! The network of the pure world: what becomes of each message, and who can reach whom.

use rivven_cluster::node::{Input, LinkState, Message};
use rivven_cluster::wire::{self, Decoded, Frame};

use super::process::{name, node_id};
use super::queue::Event;
use super::{MICROSECOND, World, link_key};
use crate::app::Application;
use crate::checkers::level_of;
use crate::faults::{Damage, Fate, Fault, Host};
use crate::trace::Record;

impl<A: Application> World<A> {
    /// Puts a message on its way. Tells whether there is a connection at all.
    pub(super) fn send(&mut self, from: u64, to: u64, message: Message) -> bool {
        let is_linked = self.host(from).process.as_ref().is_some_and(|process| process.links.contains(&to));
        if !is_linked {
            return false;
        }
        let fate = self.fate(from, to, || length_of(&message));
        let Fate::Delivered { delay, overtakes, again, damage, astray } = fate else { return true };
        if let Some(astray) = astray {
            let at = self.now + delay * MICROSECOND;
            self.queue.push(at, Event::Message { from, to: astray.0, message: message.clone() });
        }
        let Some(message) = damaged(message, damage) else { return true };
        if let Some(again) = again {
            let at = self.now + again * MICROSECOND;
            self.queue.push(at, Event::Message { from, to, message: message.clone() });
        }
        let at = self.arrival(from, to, delay, overtakes);
        self.queue.push(at, Event::Message { from, to, message });
        true
    }

    /// When something between a client and a node arrives, if it does. A client's stream is not damaged
    /// or repeated: QUIC sees to that.
    pub(super) fn cross(&mut self, from: u64, to: u64, length: u64) -> Option<u64> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        match self.fate(from, to, || length) {
            Fate::Delivered { delay, overtakes, damage: None, .. } => {
                Some(self.arrival(from, to, delay, overtakes))
            }
            Fate::Delivered { .. } | Fate::Dropped(_) => None,
        }
    }

    fn fate(&mut self, from: u64, to: u64, length: impl FnOnce() -> usize) -> Fate {
        let weighs =
            self.weather.active().iter().any(|window| matches!(window.fault, Fault::MtuBlackHole { .. }));
        let length = if weighs { length() } else { 0 };
        let (from, to) = (Host(from), Host(to));
        let fate = self.weather.fate(from, to, length, self.now, &mut self.effects);
        self.trace.record(self.now, &Record::Message { from, to, fate });
        fate
    }

    fn arrival(&mut self, from: u64, to: u64, delay: u64, overtakes: bool) -> u64 {
        let at = self.now + delay * MICROSECOND;
        if overtakes {
            return at;
        }
        let path = from * (self.scenario.shape.nodes + 1) + to;
        let last = &mut self.arrivals[usize::try_from(path).unwrap_or_default()];
        *last = at.max(*last + 1);
        *last
    }

    pub(super) fn message_arrives(&mut self, from: u64, to: u64, message: Message) {
        if let Some(waiting) = &mut self.host(to).waiting {
            return waiting.push(Event::Message { from, to, message });
        }
        let needed = level_of(&message);
        let (input, understood) = (Input::Message { from: node_id(from), message }, self.host(to).features);
        if needed > understood {
            // What cannot be read is lost.
            if self.host(to).process.is_some() {
                self.checkers.input(to, &input);
            }
            return;
        }
        self.deliver(to, input);
    }

    /// A node tries to reach a peer; if the path and the peer are there, each learns who the other is.
    pub(super) fn dial(&mut self, node: u64, process: u64, peer: u64) {
        let host = self.host(node);
        if !host.runs(process) {
            return;
        }
        if let Some(waiting) = &mut host.waiting {
            return waiting.push(Event::Dial { node, process, peer });
        }
        if !host.dials(peer) {
            return;
        }
        let listens = self.host(peer).process.is_some() && self.host(peer).waiting.is_none();
        let both_ways = self.cross(node, peer, 0).and_then(|_| self.cross(peer, node, 0));
        if !listens || both_ways.is_none() {
            let delay = self.pause(link_key(node, peer), 100, 500);
            return self.queue.push(self.now + delay, Event::Dial { node, process, peer });
        }
        if let Some(process) = &mut self.host(node).process {
            process.links.insert(peer);
        }
        let state = LinkState::Up { node: node_id(peer) };
        self.deliver(node, Input::Link { name: name(peer), state });
    }

    /// A node wants a connection to a peer from now on.
    pub(super) fn plan_dial(&mut self, node: u64, peer: u64) {
        let place = usize::try_from(node - 1).unwrap_or_default();
        let Some(process) = &mut self.hosts[place].process else { return };
        process.dials.insert(peer);
        let process = process.number;
        let delay = self.pause(link_key(node, peer), 1, 60);
        self.queue.push(self.now + delay, Event::Dial { node, process, peer });
    }

    /// A node wants none any more.
    pub(super) fn hang_up(&mut self, node: u64, peer: u64) {
        if let Some(process) = &mut self.host(node).process {
            process.dials.remove(&peer);
            process.links.remove(&peer);
        }
    }

    pub(super) fn link_is_lost(&mut self, node: u64, process: u64, peer: u64) {
        if !self.host(node).runs(process) {
            return;
        }
        if let Some(waiting) = &mut self.host(node).waiting {
            return waiting.push(Event::LinkLost { node, process, peer });
        }
        if self.host(peer).process.is_some() {
            // It is back, and has been dialled anew since.
            return;
        }
        if let Some(process) = &mut self.host(node).process {
            process.links.remove(&peer);
        }
        let state = LinkState::Down { reason: "the connection was lost".to_owned() };
        self.deliver(node, Input::Link { name: name(peer), state });
        let delay = self.pause(link_key(node, peer), 100, 500);
        self.queue.push(self.now + delay, Event::Dial { node, process, peer });
    }
}

fn length_of(message: &Message) -> usize {
    Frame::Message(message.clone()).encode().map_or(usize::MAX, |bytes| bytes.len())
}

/// What a receiver makes of a message whose bytes were damaged: usually nothing.
fn damaged(message: Message, damage: Option<Damage>) -> Option<Message> {
    let Some(damage) = damage else { return Some(message) };
    let mut bytes = Frame::Message(message).encode().ok()?.to_vec();
    damage.strike(&mut bytes);
    match wire::decode(&mut bytes::BytesMut::from(&bytes[..])) {
        Ok(Decoded::Frame(Frame::Message(message))) => Some(message),
        Ok(Decoded::Frame(_) | Decoded::Skipped { .. } | Decoded::Incomplete { .. }) | Err(_) => None,
    }
}
