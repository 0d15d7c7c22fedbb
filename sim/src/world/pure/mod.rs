//! The pure world: the machines alone, on a heap of events. No async, no threads, no sockets.
//!
//! It runs thousands of times faster than real time, and is harsher than a real network: messages
//! between nodes are lost, repeated and reordered one by one, which the [`Node`] must bear, while QUIC
//! would hide most of it.
//!
//! ```text
//!            ┌────────────── Queue: (time, event) ──────────────┐
//!            │                                                  │
//!   Message ─┤► network: weather ─► fate                        │
//!   Datagram ┤► gossip:  the same faults, drawn apart            │
//!   Timer ───┤► nodes:  skewed clock ─► Node ─► outputs ────────┤► more events
//!   WriteDone┤► disk:   batches, or redb on faulty blocks       │
//!   Answer ──┤► clients: one command at a time, the history     │
//!   Records ─┤► producers and consumers, on the nodes themselves │
//!   Switch ──┤► play:   the plan of faults                      │
//!            └──────────────────────────────────────────────────┘
//!                        every input and output ─► checkers, trace, marks
//! ```
//!
//! One event is one thing that happens to one node or client. Time jumps from event to event, so an
//! idle cluster costs its heartbeats and nothing else.
//!
//! [`Node`]: rivven_cluster::node::Node

mod client;
mod clients;
mod disk;
mod forge;
mod gossip;
mod network;
mod nodes;
mod operator;
mod play;
mod process;
mod queue;
mod records;
mod steward;
mod versions;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use rivven_cluster::flight::{Ring, Tape};
use rivven_cluster::id::RequestId;
use rivven_cluster::rng::Seed;

use self::client::Client;
use self::nodes::Host;
use self::queue::{Event, Queue};
use self::records::Asked;
use super::{Options, Report};
use crate::app::Application;
use crate::checkers::{Checkers, Rule};
use crate::choice::Choices;
use crate::faults::{Effects, Fault, Weather, lost_nodes};
use crate::history::History;
use crate::marks::Marks;
use crate::records::Workload;
use crate::scenario::Scenario;
use crate::trace::Trace;

/// How often it is looked whether the run is over.
const CHECK_INTERVAL: u64 = 100 * MILLISECOND;
/// In nanoseconds.
const MILLISECOND: u64 = 1_000_000;
/// In nanoseconds.
const MICROSECOND: u64 = 1000;
/// One run in so many has its registers searched for an order.
const SAMPLE: u64 = 8;

/// The key of a client's own pauses; a node's is its number.
fn client_key(client: u64) -> u64 {
    10_000 + client
}

/// The key of the pauses of one node's link to another.
fn link_key(node: u64, peer: u64) -> u64 {
    100 + node * 10 + peer
}

/// A cluster, its clients and what goes wrong, at one point of simulated time.
pub struct World<A: Application> {
    scenario: Scenario,
    app: A,
    seed: Seed,
    /// Nanoseconds from the start.
    now: u64,
    queue: Queue,
    weather: Weather,
    /// The same faults, drawn apart.
    gossip_weather: Weather,
    choices: Choices,
    hosts: Vec<Host<A::Machine>>,
    clients: Vec<Client<A::Memory>>,
    /// When the last message of each path arrives: the next one comes later, unless it overtakes.
    arrivals: Vec<u64>,
    checkers: Checkers,
    history: History,
    trace: Trace,
    effects: Effects,
    marks: Marks,
    /// What operators have asked for, by its place in the plan.
    asked: BTreeSet<usize>,
    /// Who produces and consumes, and what of that is not answered yet.
    records: Workload,
    asked_records: BTreeMap<RequestId, Asked>,
    events: u64,
    elections: u64,
    restarts: u64,
    /// Whether checkers, trace and marks are told anything.
    is_watched: bool,
    is_over: bool,
    undecided: bool,
}

impl<A: Application> World<A> {
    /// Sets the scene: nothing has happened yet.
    pub fn new(scenario: Scenario, app: A, options: Options) -> World<A> {
        let seed = scenario.root();
        let shape = &scenario.shape;
        let (low, high) = shape.message_micros;
        let weather = Weather::new(seed.child("weather", 0), shape.nodes, low..high);
        let gossip_weather = Weather::new(seed.child("gossip weather", 0), shape.nodes, low..high);
        let hosts = (1..=shape.nodes).map(|_| Host::new(shape.store)).collect();
        let clients = (1..=shape.clients).map(|number| Client {
            number,
            memory: A::Memory::default(),
            choices: seed.stream("workload", number),
            target: number % shape.nodes + 1,
            operation: 0,
            is_content: false,
            under_way: None,
            session: None,
            session_used: 0,
        });
        let paths = usize::try_from((shape.nodes + 1) * (shape.nodes + 1)).unwrap_or_default();
        let mut checkers = Checkers::new(shape.founders(), options.ignored);
        for window in &scenario.faults {
            if let Fault::Forgery { node } = window.fault {
                checkers.expect_lies_of(node);
            }
        }
        let weather = weather.without_copies_for_clients();
        let mut world = World {
            clients: clients.collect(),
            app,
            seed,
            now: 0,
            queue: Queue::default(),
            weather,
            gossip_weather,
            choices: Choices::new(seed.child("choices", 0)),
            hosts,
            arrivals: vec![0; paths],
            checkers,
            history: History::default(),
            trace: Trace::new(options.trace, options.picture),
            effects: Effects::default(),
            marks: Marks::default(),
            asked: BTreeSet::new(),
            records: Workload::default(),
            asked_records: BTreeMap::new(),
            events: 0,
            elections: 0,
            restarts: 0,
            is_watched: true,
            is_over: false,
            undecided: false,
            scenario,
        };
        world.set_the_stage();
        world
    }

    /// Switches checkers, trace and marks off, to see how fast the world is without them.
    #[must_use]
    pub fn unwatched(mut self) -> World<A> {
        self.is_watched = false;
        self.trace = Trace::off();
        self
    }

    /// Makes an equal world that goes its own way from here. `None` unless its disks keep batches, since an
    /// open redb cannot be copied, or if a node has just halted.
    #[must_use]
    pub fn fork(&self) -> Option<World<A>> {
        let hosts: Option<Vec<_>> =
            self.hosts.iter().map(|host| host.fork(&self.app, self.is_watched)).collect();
        Some(World {
            hosts: hosts?,
            scenario: self.scenario.clone(),
            app: self.app.clone(),
            seed: self.seed,
            now: self.now,
            queue: self.queue.clone(),
            weather: self.weather.clone(),
            gossip_weather: self.gossip_weather.clone(),
            choices: self.choices.clone(),
            clients: self.clients.clone(),
            arrivals: self.arrivals.clone(),
            checkers: self.checkers.clone(),
            history: self.history.clone(),
            trace: self.trace.fork(),
            effects: self.effects.clone(),
            marks: self.marks.clone(),
            asked: self.asked.clone(),
            records: self.records.clone(),
            asked_records: self.asked_records.clone(),
            events: self.events,
            elections: self.elections,
            restarts: self.restarts,
            is_watched: self.is_watched,
            is_over: self.is_over,
            undecided: self.undecided,
        })
    }

    /// Replaces every node that runs by what is read from its image, written down. Nothing may become of it: not a
    /// record of the trace may differ. Returns how many bytes the images have.
    pub fn write_nodes_down(&mut self) -> usize {
        let processes = self.hosts.iter_mut().filter_map(|host| host.process.as_mut());
        processes.map(|process| process.write_down(&self.app, self.is_watched)).sum()
    }

    /// Takes what was recorded of each node that runs, since it was last taken. A node that was not recorded is from now
    /// on, in a `new` ring.
    pub fn take_tapes(&mut self, new: impl Fn() -> Ring) -> Vec<Tape> {
        let processes = self.hosts.iter_mut().filter_map(|host| host.process.as_mut());
        processes.filter_map(|process| process.take_tape(&new)).collect()
    }

    /// Plays to the end, or to the first violation.
    #[must_use]
    pub fn run(mut self) -> Report {
        while self.step() {}
        self.report()
    }

    /// Plays everything that happens before `at`. Tells whether there is more to come.
    pub fn play_until(&mut self, at: Duration) -> bool {
        let at = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        while self.queue.next_at().is_some_and(|next| next < at) {
            if !self.step() {
                return false;
            }
        }
        !self.is_over && self.checkers.violation().is_none()
    }

    /// From now on everything that the world draws is drawn anew: delays, losses, what clients do, how long disks take,
    /// and what the processes that start later draw. The plan of faults stays, and so does what a process that runs
    /// has drawn from its own seed.
    pub fn redraw(&mut self, seed: Seed) {
        self.seed = seed;
        self.weather.redraw(seed.child("weather", 0));
        self.gossip_weather.redraw(seed.child("gossip weather", 0));
        self.choices = Choices::new(seed.child("choices", 0));
        for client in &mut self.clients {
            client.choices = seed.stream("workload", client.number);
        }
    }

    /// Plays one event. Tells whether there is more to come.
    pub fn step(&mut self) -> bool {
        if self.is_over || self.checkers.violation().is_some() {
            return false;
        }
        let Some((at, event)) = self.queue.pop() else { return false };
        debug_assert!(at >= self.now, "time goes forward");
        self.now = at;
        self.events += 1;
        self.dispatch(event);
        true
    }

    /// The simulated time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.now)
    }

    /// What happened so far.
    #[must_use]
    pub fn report(self) -> Report {
        Report {
            effects: self.effects,
            marks: self.marks,
            history: self.history,
            simulated: Duration::from_nanos(self.now),
            events: self.events,
            elections: self.elections,
            restarts: self.restarts,
            records: self.trace.records(),
            hash: self.trace.hash(),
            undecided: self.undecided,
            forgiven: self.checkers.has_forgiven(),
            violation: self.checkers.violation().cloned(),
        }
    }

    fn set_the_stage(&mut self) {
        for node in 1..=self.scenario.shape.nodes {
            let delay = self.pause(node, 0, 200);
            let arrives = self.scenario.shape.arrives(node) * MILLISECOND;
            self.queue.push(arrives + delay, Event::Start { node });
        }
        for client in 1..=self.scenario.shape.clients {
            self.queue.push(client * MILLISECOND, Event::ClientWakes { client, operation: 0, attempt: 0 });
        }
        if self.scenario.shape.beat_interval > 0 {
            self.queue.push(MILLISECOND, Event::Steward);
            self.queue.push(MILLISECOND, Event::Records);
        }
        for (at, node) in self.scenario.shape.changes_version() {
            self.queue.push(at * MILLISECOND, Event::Version { node });
        }
        self.plan_switches();
        self.queue.push(self.scenario.shape.work_until * MILLISECOND, Event::Check);
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::Message { from, to, message } => self.message_arrives(from, to, message),
            Event::Dial { node, process, peer } => self.dial(node, process, peer),
            Event::LinkLost { node, process, peer } => self.link_is_lost(node, process, peer),
            Event::WriteDone { node, process, id } => self.write_is_done(node, process, id),
            Event::SnapshotDone { node, process, input } => self.snapshot_is_done(node, process, input),
            Event::Datagram { from, to, bytes } => self.datagram_arrives(from, to, bytes),
            Event::Asked { node, asker, question } => self.question_arrives(node, asker, question),
            Event::Gossip { node, process, input } => self.gossip_arrives(node, process, input),
            Event::Wall { node, process } => {
                self.tell_wall(node, process);
                self.drain(node);
            }
            Event::Timer { node, process } => self.timer_fires(node, process),
            Event::Request { node, attempt, request } => self.request_arrives(node, attempt, request),
            Event::Answer { attempt, answer } => self.answer_arrives(attempt, answer),
            Event::ClientWakes { client, operation, attempt } => {
                self.client_wakes(client, operation, attempt)
            }
            Event::Start { node } => self.start(node),
            Event::Switch { place, begins } => self.switch(place, begins),
            Event::Copy { place } => self.copy_disk(place),
            Event::Cut { place } => self.cut_power(place),
            Event::Forge { place } => self.forge(place),
            Event::Operate { place } => self.operate(place),
            Event::Steward => self.look_after_partitions(),
            Event::Records => self.move_records(),
            Event::Version { node } => self.change_version(node),
            Event::Check => self.check(),
        }
    }

    /// Over when every client has its answer and every node that is not damaged has caught up.
    fn check(&mut self) {
        let lost = self.lost();
        let run = (1..).zip(&self.hosts).all(|(node, host)| host.process.is_some() || lost.contains(&node));
        let are_idle = run && self.records.is_idle();
        let are_idle = are_idle && self.clients.iter().all(|client| client.under_way.is_none());
        let is_late = self.now >= self.scenario.shape.ends * MILLISECOND;
        let converged =
            if self.is_watched { self.checkers.have_converged(&self.scenario.shape, &lost) } else { Ok(()) };
        let converged =
            converged.and(are_idle.then_some(()).ok_or("a client or a node still works".to_owned()));
        if converged.is_ok() {
            self.finish();
        } else if let (true, Err(what)) = (is_late, converged) {
            self.checkers.broken(Rule::Liveness, format!("not caught up in the end: {what}"));
            self.finish();
        } else {
            self.queue.push(self.now + CHECK_INTERVAL, Event::Check);
        }
    }

    /// The nodes that never come back: removed, or with a disk that was wiped, rolled back, or is another's now.
    fn lost(&self) -> BTreeSet<u64> {
        let struck = self.scenario.faults.iter().filter(|window| self.effects.had(window.id));
        let out = (1..).zip(&self.hosts).filter(|(_, host)| host.is_out).map(|(node, _)| node);
        let lost = lost_nodes(struck).into_iter().chain(out).chain(self.checkers.removed()).collect();
        self.checkers.with_stranded(&self.scenario.shape, lost)
    }

    fn finish(&mut self) {
        self.is_over = true;
        if !self.is_watched {
            return;
        }
        self.compare_states();
        let is_sampled = self.scenario.seed.is_multiple_of(SAMPLE);
        let (shape, history) = (&self.scenario.shape, &self.history);
        self.undecided = self.checkers.finish(&self.app, shape, history, is_sampled).is_err();
    }

    /// A wait of up to so many milliseconds, in nanoseconds; `key` tells apart who waits.
    fn pause(&mut self, key: u64, least: u64, most: u64) -> u64 {
        let stream = self.choices.stream(crate::choice::Draw::Pause, key);
        stream.between(least * MILLISECOND, most * MILLISECOND)
    }
}
