//! What the nodes of the pure world gossip: datagrams that are lost one by one, and questions on streams.
//!
//! It has a weather of its own, with the same faults: so what happens to a node's messages does not depend on
//! whether it gossips.

use core::net::{Ipv4Addr, SocketAddr};

use rivven_cluster::id::PeerName;
use rivven_cluster::node::Input;
use rivven_cluster::swim::{self, CallId, Question, Target, WallSeconds};

use super::process::{node_at, node_id};
use super::queue::Event;
use super::{MICROSECOND, MILLISECOND, World};
use crate::app::Application;
use crate::faults::{Fate, Host};
use crate::shape::GOSSIP_PORT;
use crate::trace::Record;

/// What the wall clock says when the world begins.
const WALL: u64 = 200_000_000;
/// How often a node is told what it says.
const WALL_INTERVAL: u64 = 10_000 * MILLISECOND;
/// How long whoever asks waits for an answer.
const PATIENCE: u64 = 5000 * MILLISECOND;

/// Where a node gossips.
pub(super) fn address(node: u64) -> SocketAddr {
    let [.., high, low] = node.to_be_bytes();
    SocketAddr::new(Ipv4Addr::new(10, 0, high, low).into(), GOSSIP_PORT)
}

fn node_of(address: SocketAddr) -> Option<u64> {
    let SocketAddr::V4(address) = address else { return None };
    let [ten, _, high, low] = address.ip().octets();
    (ten == 10).then(|| u64::from(u16::from_be_bytes([high, low])))
}

impl<A: Application> World<A> {
    /// Tells a node what its wall clock says, now and every few seconds.
    pub(super) fn tell_wall(&mut self, node: u64, process: u64) {
        let now = self.now;
        let shape = &self.scenario.shape;
        let is_of_use = shape.gossip_period > 0 || shape.beat_interval > 0;
        if !is_of_use || !self.host(node).runs(process) {
            return;
        }
        self.queue.push(now + WALL_INTERVAL, Event::Wall { node, process });
        if self.host(node).waiting.is_some() {
            return;
        }
        let seconds = WALL + self.host(node).clock.local(now).as_nanos() / 1_000_000_000;
        let wall = WallSeconds(u32::try_from(seconds).unwrap_or(u32::MAX));
        self.feed(node, Input::WallClock(wall));
    }

    /// Does what a node asks for.
    pub(super) fn gossip(&mut self, node: u64, output: swim::Output) {
        match output {
            swim::Output::Datagram { to, bytes } => self.send_datagram(node, to, bytes),
            swim::Output::Ask { call, to, question } => self.ask(node, call, to, question),
            swim::Output::Answer { call, answer } => {
                let process = self.host(node).process.as_mut();
                let Some((asker, process, call)) = process.and_then(|process| process.asked.remove(&call))
                else {
                    return;
                };
                let Some(delay) = self.gossip_fate(node, asker, 0).first().copied() else { return };
                let input = swim::Input::Answered { call, from: node_id(node), answer };
                self.tell_later(delay, asker, process, input);
            }
            swim::Output::Resolve(name) => self.resolve(node, name),
            swim::Output::Event(event) => unreachable!("an event of gossip is one of the node: {event:?}"),
        }
    }

    fn send_datagram(&mut self, from: u64, to: Target, bytes: Vec<u8>) {
        let Some(to) = node_of(to.address) else { return };
        for delay in self.gossip_fate(from, to, bytes.len()) {
            let at = self.now + delay * MICROSECOND;
            self.queue.push(at, Event::Datagram { from, to, bytes: bytes.clone() });
        }
    }

    fn ask(&mut self, node: u64, call: CallId, to: Target, question: Question) {
        let process = self.host(node).started;
        self.tell_later(PATIENCE / MICROSECOND, node, process, swim::Input::Unanswered { call });
        let Some(to) = node_of(to.address) else { return };
        let Some(delay) = self.gossip_fate(node, to, 0).first().copied() else { return };
        let at = self.now + delay * MICROSECOND;
        self.queue.push(at, Event::Asked { node: to, asker: (node, process, call), question });
    }

    fn resolve(&mut self, node: u64, name: PeerName) {
        let process = self.host(node).started;
        let addresses = vec![address(node_at(&name))];
        self.tell_later(1000, node, process, swim::Input::Resolved { name, addresses });
    }

    fn tell_later(&mut self, micros: u64, node: u64, process: u64, input: swim::Input) {
        let at = self.now + micros * MICROSECOND;
        self.queue.push(at, Event::Gossip { node, process, input });
    }

    /// When what goes over a path arrives: after so many microseconds, each time that it does. A stream has
    /// no length here: it is cut into packets that fit.
    fn gossip_fate(&mut self, from: u64, to: u64, length: usize) -> Vec<u64> {
        let (from, to) = (Host(from), Host(to));
        let fate = self.gossip_weather.fate(from, to, length, self.now, &mut self.effects);
        self.trace.record(self.now, &Record::Message { from, to, fate });
        match fate {
            // QUIC drops what was damaged.
            Fate::Dropped(_) | Fate::Delivered { damage: Some(_), .. } => Vec::new(),
            Fate::Delivered { delay, again, damage: None, .. } => {
                [Some(delay), again].into_iter().flatten().collect()
            }
        }
    }

    pub(super) fn datagram_arrives(&mut self, from: u64, to: u64, bytes: Vec<u8>) {
        if let Some(waiting) = &mut self.host(to).waiting {
            return waiting.push(Event::Datagram { from, to, bytes });
        }
        let input = swim::Input::Datagram { from: node_id(from), via: address(from), bytes };
        self.deliver(to, Input::Gossip(input));
    }

    pub(super) fn question_arrives(&mut self, node: u64, asker: (u64, u64, CallId), question: Question) {
        if let Some(waiting) = &mut self.host(node).waiting {
            return waiting.push(Event::Asked { node, asker, question });
        }
        let Some(process) = &mut self.host(node).process else {
            let (asker, process, call) = asker;
            return self.tell_later(1000, asker, process, swim::Input::Unanswered { call });
        };
        let call = process.owe(asker);
        let input = swim::Input::Asked { call, from: node_id(asker.0), question };
        self.deliver(node, Input::Gossip(input));
    }

    pub(super) fn gossip_arrives(&mut self, node: u64, process: u64, input: swim::Input) {
        let host = self.host(node);
        if !host.runs(process) {
            return;
        }
        if let Some(waiting) = &mut host.waiting {
            return waiting.push(Event::Gossip { node, process, input });
        }
        self.deliver(node, Input::Gossip(input));
    }
}
