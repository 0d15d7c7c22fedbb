//! What is drawn: events in lanes, arrows between them, faults, and what nodes looked like.

use core::fmt::{self, Debug};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use rivven_cluster::id::NodeId;
use rivven_cluster::node::{Input, Output, Peer};
use rivven_cluster::swim;
use rivven_cluster::wire::codec;
use xxhash_rust::xxh3::xxh3_64;

use super::moment::Moment;
use super::words;
use crate::trace::Record;

/// A picture that a world draws while somebody else holds it, too.
pub type SharedPicture = Arc<Mutex<Picture>>;

/// What kind of event it is; the page has a sign for each.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Start,
    End,
    Input,
    Timeout,
    Output,
    Sent,
    Arrived,
    Outcome,
    Fault,
}

impl Kind {
    /// As the page calls them, in this order.
    pub(super) const NAMES: [&'static str; 9] =
        ["start", "end", "input", "timeout", "output", "sent", "arrived", "outcome", "fault"];

    pub(super) fn name(self) -> &'static str {
        Kind::NAMES[self.number()]
    }

    /// Its place among the names.
    pub(super) fn number(self) -> usize {
        match self {
            Kind::Start => 0,
            Kind::End => 1,
            Kind::Input => 2,
            Kind::Timeout => 3,
            Kind::Output => 4,
            Kind::Sent => 5,
            Kind::Arrived => 6,
            Kind::Outcome => 7,
            Kind::Fault => 8,
        }
    }
}

/// Where something happened.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Lane {
    /// At a node.
    Node(u64),
    /// At a client.
    Client(u64),
    /// Around them.
    World,
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lane::Node(number) => f.pad(&format!("node {number}")),
            Lane::Client(number) => f.pad(&format!("client {number}")),
            Lane::World => f.pad("faults"),
        }
    }
}

/// One event. Events are numbered from the first of the run, whether they are kept or not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Event {
    /// In microseconds.
    pub(super) at: u64,
    pub(super) lane: Lane,
    pub(super) kind: Kind,
    pub(super) text: String,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// It arrived, as this event.
    Arrived(usize),
    /// And once more.
    Copied(usize),
    /// It has not arrived.
    Open,
}

/// One message, from the event of its sending.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Arrow {
    pub(super) from: usize,
    pub(super) to: Lane,
    pub(super) end: End,
}

/// A fault, while it lasted. In microseconds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Band {
    pub(super) id: u64,
    pub(super) kind: String,
    pub(super) begins: u64,
    pub(super) ends: Option<u64>,
    pub(super) lanes: Vec<Lane>,
    pub(super) text: String,
}

/// What tells one message from the others: who sent it, to whom, and its bytes. Answers to clients are told apart by
/// what they answer, whoever sends them.
type Key = (Lane, Lane, u64);

/// The picture of a run, as far as that has got.
#[derive(Debug)]
pub struct Picture {
    /// The latest events, and the number of the first of them.
    pub(super) events: VecDeque<Event>,
    pub(super) first: usize,
    most: usize,
    pub(super) arrows: Vec<Arrow>,
    /// Arrows that have not arrived.
    open: BTreeMap<Key, VecDeque<usize>>,
    /// The last arrow that has: what comes again is a copy of it.
    arrived: BTreeMap<Key, usize>,
    /// What the next input, of this node, is the arrival of.
    expected: Option<Key>,
    pub(super) bands: Vec<Band>,
    pub(super) moments: BTreeMap<Lane, Vec<(u64, Moment)>>,
}

impl Picture {
    /// An empty picture that keeps the last `most` events.
    #[must_use]
    pub fn new(most: usize) -> Picture {
        Picture {
            events: VecDeque::new(),
            first: 0,
            most: most.max(1),
            arrows: Vec::new(),
            open: BTreeMap::new(),
            arrived: BTreeMap::new(),
            expected: None,
            bands: Vec::new(),
            moments: BTreeMap::new(),
        }
    }

    /// How many events there were.
    #[must_use]
    pub fn events(&self) -> usize {
        self.first + self.events.len()
    }

    /// When the last event was, in microseconds.
    #[must_use]
    pub fn last_at(&self) -> u64 {
        self.events.back().map_or(0, |event| event.at)
    }

    /// What happened from one time to another, both in microseconds, a line each.
    #[must_use]
    pub fn lines(&self, from: u64, to: u64) -> Vec<String> {
        let events = self.events.iter().filter(|event| (from..to).contains(&event.at));
        let line = |event: &Event| {
            let (seconds, micros) = (event.at / 1_000_000, event.at % 1_000_000);
            format!("{seconds:>4}.{micros:06} s  {:<9} {:<8} {}", event.lane, event.kind.name(), event.text)
        };
        events.map(line).collect()
    }

    /// Adds a record of a trace, that happened at simulated time `at`, in nanoseconds.
    pub fn record(&mut self, at: u64, record: &Record<'_>) {
        let at = at / 1000;
        match record {
            // Packets are below what is drawn; of the pure world's messages the fate shows by itself.
            Record::Datagram { .. } | Record::Message { .. } => {}
            Record::Start { node, process, refused } => {
                let text = refused.map_or_else(
                    || format!("process {process} starts"),
                    |why| format!("process {process} does not start: {why}"),
                );
                self.push(at, Lane::Node(*node), Kind::Start, text);
            }
            Record::Input { node, input, .. } => self.input(at, *node, input),
            Record::Timeout { node, .. } => {
                self.push(at, Lane::Node(*node), Kind::Timeout, "a deadline has come".to_owned());
            }
            Record::Output { node, output } => self.output(at, *node, output),
            Record::Fault { id, fault, begins } => self.fault(at, *id, fault, *begins),
            Record::Outcome { client, operation, outcome } => {
                let text = format!("command {operation}: {outcome}");
                self.push(at, Lane::Client(*client), Kind::Outcome, text);
            }
        }
    }

    /// A node has settled like this.
    pub fn settled(&mut self, at: u64, node: u64, moment: Moment) {
        let moments = self.moments.entry(Lane::Node(node)).or_default();
        if moments.last().is_none_or(|(_, last)| *last != moment) {
            moments.push((at / 1000, moment));
        }
    }

    /// A node's process has ended.
    pub fn ended(&mut self, at: u64, node: u64) {
        self.push(at / 1000, Lane::Node(node), Kind::End, "the process ends".to_owned());
        self.settled(at, node, Moment::down());
    }

    /// A process of a node starts.
    pub fn started(&mut self, at: u64, node: u64) {
        self.push(at / 1000, Lane::Node(node), Kind::Start, "a process starts".to_owned());
    }

    /// A client sends something to a node; `tells` tells it from all else that the client sends.
    pub fn client_sends(&mut self, at: u64, client: u64, node: u64, tells: u64, what: &impl Debug) {
        let text = format!("to node {node}: {}", words::brief(what));
        let event = self.push(at / 1000, Lane::Client(client), Kind::Sent, text);
        self.send(event, (Lane::Client(client), Lane::Node(node), tells));
    }

    /// What the node is told next is what the client sent.
    pub fn client_reaches(&mut self, client: u64, node: u64, tells: u64) {
        self.expected = Some((Lane::Client(client), Lane::Node(node), tells));
    }

    /// What was said last, by a node, answers what the client sent.
    pub fn client_is_answered(&mut self, client: u64, tells: u64) {
        if self.events() > 0 {
            self.send(self.events() - 1, (Lane::World, Lane::Client(client), tells));
        }
    }

    /// The client hears the answer, if it is one and not just that nobody answers.
    pub fn client_hears(&mut self, at: u64, client: u64, tells: u64, what: &impl Debug) {
        let event = self.push(at / 1000, Lane::Client(client), Kind::Arrived, words::brief(what));
        self.arrive(event, (Lane::World, Lane::Client(client), tells));
    }

    fn input(&mut self, at: u64, node: u64, input: &Input) {
        let lane = Lane::Node(node);
        let expected = self.expected.take();
        let key = arrival_key(lane, input).or(expected);
        let (kind, text) = words::input(input);
        let event = self.push(at, lane, kind, text);
        if let Some(key) = key {
            self.arrive(event, key);
        }
    }

    fn output(&mut self, at: u64, node: u64, output: &Output) {
        let lane = Lane::Node(node);
        let (kind, text) = words::output(output);
        let event = self.push(at, lane, kind, text);
        if let Some(key) = sending_key(lane, output) {
            self.send(event, key);
        }
    }

    fn fault(&mut self, at: u64, id: u64, fault: &crate::faults::Fault, begins: bool) {
        let verb = if begins { "begins" } else { "ends" };
        self.push(at, Lane::World, Kind::Fault, format!("{fault} {verb}"));
        if begins {
            let lanes = fault.struck().map_or_else(|| fault.nodes(), |node| vec![node]);
            let lanes = lanes.into_iter().map(Lane::Node).collect();
            let (kind, text) = (fault.kind().to_string(), fault.to_string());
            self.bands.push(Band { id, kind, begins: at, ends: None, lanes, text });
        } else if let Some(band) = self.bands.iter_mut().rfind(|band| band.id == id) {
            band.ends = Some(at);
        }
    }

    fn push(&mut self, at: u64, lane: Lane, kind: Kind, text: String) -> usize {
        // The time of a host that is just ending may be unknown.
        let at = self.events.back().map_or(at, |last| last.at.max(at));
        if self.events.len() == self.most {
            self.events.pop_front();
            self.first += 1;
        }
        self.events.push_back(Event { at, lane, kind, text });
        self.first + self.events.len() - 1
    }

    fn send(&mut self, from: usize, key: Key) {
        self.open.entry(key).or_default().push_back(self.arrows.len());
        self.arrows.push(Arrow { from, to: key.1, end: End::Open });
    }

    /// The oldest of those that are under way has arrived; if there is none, a copy of the last one.
    fn arrive(&mut self, event: usize, key: Key) {
        let mut is_done = false;
        if let Some(open) = self.open.get_mut(&key) {
            if let Some(arrow) = open.pop_front() {
                self.arrows[arrow].end = End::Arrived(event);
                self.arrived.insert(key, arrow);
                is_done = true;
            }
            if open.is_empty() {
                self.open.remove(&key);
            }
        }
        if is_done {
            return;
        }
        if let Some(arrow) = self.arrived.get(&key) {
            let copy = Arrow { end: End::Copied(event), ..self.arrows[*arrow] };
            self.arrows.push(copy);
        }
    }
}

/// What a node was sent by another, if that is what it was told.
#[expect(clippy::wildcard_enum_match_arm, reason = "nothing else comes from another node")]
fn arrival_key(lane: Lane, input: &Input) -> Option<Key> {
    match input {
        Input::Message { from, message } => Some((node(*from), lane, xxh3_64(&codec::encode(message)))),
        Input::Gossip(swim::Input::Datagram { from, bytes, .. }) => Some((node(*from), lane, xxh3_64(bytes))),
        _ => None,
    }
}

/// What a node sends to another, if that is what it asks for.
#[expect(clippy::wildcard_enum_match_arm, reason = "nothing else goes to another node")]
fn sending_key(lane: Lane, output: &Output) -> Option<Key> {
    match output {
        Output::Send { to: Peer::Node(to), message } => {
            Some((lane, node(*to), xxh3_64(&codec::encode(message))))
        }
        Output::Gossip(swim::Output::Datagram { to, bytes }) => Some((lane, node(to.id?), xxh3_64(bytes))),
        _ => None,
    }
}

fn node(id: NodeId) -> Lane {
    Lane::Node(id.value())
}

#[cfg(test)]
mod tests {
    use rivven_cluster::node::Message;

    use super::*;

    fn id(number: u64) -> NodeId {
        NodeId::new(number).unwrap()
    }

    fn message() -> Message {
        Message::Dismissed { node: id(9) }
    }

    fn sends(picture: &mut Picture, at: u64, from: u64, to: u64) {
        let output = Output::Send { to: Peer::Node(id(to)), message: message() };
        picture.record(at * 1000, &Record::Output { node: from, output: &output });
    }

    fn hears(picture: &mut Picture, at: u64, from: u64, to: u64) {
        let input = Input::Message { from: id(from), message: message() };
        picture.record(at * 1000, &Record::Input { node: to, now: 0, input: &input });
    }

    #[test]
    fn an_arrival_belongs_to_the_earliest_sending_and_one_more_is_a_copy() {
        let mut picture = Picture::new(100);
        sends(&mut picture, 1, 1, 2);
        sends(&mut picture, 2, 1, 2);
        sends(&mut picture, 3, 1, 3);
        hears(&mut picture, 4, 1, 2);
        hears(&mut picture, 5, 1, 2);
        hears(&mut picture, 6, 1, 2);
        let ends: Vec<(usize, End)> = picture.arrows.iter().map(|arrow| (arrow.from, arrow.end)).collect();
        assert_eq!(ends, [(0, End::Arrived(3)), (1, End::Arrived(4)), (2, End::Open), (1, End::Copied(5))]);
    }

    #[test]
    fn a_request_is_an_arrow_from_its_client_and_back() {
        let mut picture = Picture::new(100);
        picture.client_sends(1000, 7, 2, 42, &"wants");
        picture.client_reaches(7, 2, 42);
        let input = Input::SnapshotSaved;
        picture.record(2000, &Record::Input { node: 2, now: 0, input: &input });
        picture.record(2000, &Record::Input { node: 2, now: 0, input: &input });
        sends(&mut picture, 3, 2, 1);
        picture.client_is_answered(7, 42);
        picture.client_hears(4000, 7, 42, &"done");
        let ends: Vec<(usize, Lane, End)> =
            picture.arrows.iter().map(|arrow| (arrow.from, arrow.to, arrow.end)).collect();
        assert_eq!(
            ends,
            [
                (0, Lane::Node(2), End::Arrived(1)),
                (3, Lane::Node(1), End::Open),
                (3, Lane::Client(7), End::Arrived(4)),
            ]
        );
    }

    #[test]
    fn only_the_last_events_are_kept_and_their_numbers_stay() {
        let mut picture = Picture::new(2);
        for at in 0..5 {
            sends(&mut picture, at, 1, 2);
        }
        assert_eq!((picture.first, picture.events.len(), picture.events()), (3, 2, 5));
        hears(&mut picture, 9, 1, 2);
        assert_eq!(picture.arrows[0].end, End::Arrived(5));
    }

    #[test]
    fn a_state_is_told_when_it_changes() {
        let mut picture = Picture::new(2);
        picture.settled(1000, 1, Moment::down());
        picture.settled(2000, 1, Moment::down());
        picture.settled(3000, 1, Moment { term: 1, ..Moment::down() });
        assert_eq!(picture.moments[&Lane::Node(1)].len(), 2);
    }
}
