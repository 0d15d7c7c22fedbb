//! The nodes of the pure world: their processes, clocks and disks, and what they ask for.

use std::collections::BTreeMap;

use rivven_cluster::driver::Owner;
use rivven_cluster::formation::Standing;
use rivven_cluster::id::{BootId, WriteId};
use rivven_cluster::machine::Machine;
use rivven_cluster::node::{
    Durable, Event as NodeEvent, Halt, Input, Output, Peer, Reply, StartError, WriteBatch,
};
use rivven_cluster::partition::metadata::FEATURE_LEVEL;
use rivven_cluster::raft::{Role, Snapshot};
use rivven_cluster::state_machine::StateMachine;

use super::disk::{Ended, Image, NodeDisk};
use super::process::{Process, Start, configure, node_at, node_id};
use super::queue::{Answer, Event};
use super::{MICROSECOND, MILLISECOND, World, client_key, link_key};
use crate::app::Application;
use crate::checkers::Rule;
use crate::choice::Draw;
use crate::device::{Cut, Trouble};
use crate::faults::{Fault, FaultKind};
use crate::reachable;
use crate::report::Moment;
use crate::shape::Store;
use crate::skew::Skew;
use crate::trace::Record;

/// One node's machine, in the sense of hardware: it outlives its processes.
pub(super) struct Host<M> {
    pub(super) process: Option<Process<M>>,
    /// How many processes have started.
    pub(super) started: u64,
    /// The feature level that the last one understands.
    pub(super) features: u16,
    pub(super) disk: NodeDisk,
    pub(super) clock: Skew,
    /// Whether the plan keeps it from starting.
    pub(super) is_off: bool,
    /// Whether it refused to start on what it found, for good.
    pub(super) is_out: bool,
    /// While the process stands still, what happens to it waits here.
    pub(super) waiting: Option<Vec<Event>>,
    /// The fault of the plan, by its place, that cuts the power at the next write.
    pub(super) doomed: Option<usize>,
    /// What was wrong with the disk when the write under way began.
    pub(super) troubled: Trouble,
    /// Whether a write of this process has failed.
    pub(super) has_failed: bool,
    /// The longest that a slow sync takes, in milliseconds, and the fault that makes it so.
    pub(super) slow: Option<(u64, usize)>,
    /// The fault that lets the clock drift.
    pub(super) drifting: Option<usize>,
    /// Copies of the disk, by the place of the fault that they are for.
    pub(super) images: BTreeMap<usize, Image>,
}

impl<M: StateMachine> Host<M> {
    pub(super) fn new(store: Store) -> Host<M> {
        Host {
            process: None,
            started: 0,
            features: FEATURE_LEVEL,
            disk: NodeDisk::new(store),
            clock: Skew::start(0),
            is_off: false,
            is_out: false,
            waiting: None,
            doomed: None,
            troubled: Trouble::default(),
            has_failed: false,
            slow: None,
            drifting: None,
            images: BTreeMap::new(),
        }
    }

    pub(super) fn fork<A: Application<Machine = M>>(&self, app: &A, is_watched: bool) -> Option<Host<M>> {
        let process = match &self.process {
            Some(process) => Some(process.fork(app, is_watched)?),
            None => None,
        };
        Some(Host {
            process,
            started: self.started,
            features: self.features,
            disk: self.disk.fork()?,
            clock: self.clock,
            is_off: self.is_off,
            is_out: self.is_out,
            waiting: self.waiting.clone(),
            doomed: self.doomed,
            troubled: self.troubled,
            has_failed: self.has_failed,
            slow: self.slow,
            drifting: self.drifting,
            images: self.images.clone(),
        })
    }

    /// Whether the process wants to be connected to `peer`.
    pub(super) fn dials(&self, peer: u64) -> bool {
        self.process.as_ref().is_some_and(|process| process.dials.contains(&peer))
    }

    pub(super) fn runs(&self, process: u64) -> bool {
        self.process.as_ref().is_some_and(|running| running.number == process)
    }
}

impl<A: Application> World<A> {
    pub(super) fn host(&mut self, node: u64) -> &mut Host<A::Machine> {
        &mut self.hosts[usize::try_from(node - 1).unwrap_or_default()]
    }

    /// Starts a node's process on what its disk holds, unless it runs or must not.
    pub(super) fn start(&mut self, node: u64) {
        let now = self.now;
        let (seed, shape) = (self.seed, self.scenario.shape.clone());
        let (is_watched, app) = (self.is_watched, self.app.clone());
        let drift = self.drift(node);
        let host = self.host(node);
        if host.process.is_some() || host.is_off || host.is_out {
            return;
        }
        host.started += 1;
        (host.has_failed, host.troubled) = (false, Trouble::default());
        let number = host.started;
        let cluster = "simulated".parse().expect("a sound name");
        let trouble = host.disk.trouble();
        let opened = host.disk.open(&Owner { cluster, node: node_id(node) });
        self.note_misdirection(node, trouble);
        let mut durable = match opened {
            Ok(durable) => durable,
            Err(error) => return self.disk_refuses(node, trouble, &error.to_string()),
        };
        if let Err(StartError::Recovery(_) | StartError::SnapshotMissing) = durable.check(node_id(node)) {
            // What the disk says contradicts itself.
            if let Err(error) = self.host(node).disk.set_aside() {
                return self.disk_refuses(node, trouble, &error.to_string());
            }
            durable = Durable { standing: Standing::Damaged, ..Durable::default() };
        }
        let is_set_aside = durable.standing == Standing::Damaged && durable.boot == BootId::default();
        let found = if is_set_aside { Durable::default() } else { durable.clone() };
        if is_set_aside {
            self.note_set_aside(node);
        }
        let host = self.host(node);
        host.clock = Skew::start(now);
        if let Some(ppm) = drift {
            host.clock.drift(now, ppm);
        }
        let seed = seed.child("node", node * 10_000 + number);
        host.features = shape.features(node, now / MILLISECOND);
        let config = configure(&shape, node, host.features);
        let (features, local) = (host.features, host.clock.local(now));
        let start = Start { config, seed, durable, now: local };
        let peers: Vec<u64> = start.config.peers.iter().map(node_at).collect();
        if is_watched {
            let had_forgiven = self.checkers.has_forgiven();
            self.checkers.started(node, &found);
            self.checkers.understands(node, features);
            if self.checkers.has_forgiven() && !had_forgiven {
                reachable!(self.marks, RolledBack);
            }
        }
        match Process::start(number, start, &app, is_watched) {
            Ok(process) => self.host(node).process = Some(process),
            Err(StartError::Removed) => return self.host(node).is_out = true,
            Err(StartError::Outdated(_)) => return self.outdated(node),
            Err(error) => return self.refuses_to_start(node, &error.to_string()),
        }
        self.marks.started(node);
        self.restarts += u64::from(number > 1);
        self.trace.record(now, &Record::Start { node, process: number, refused: None });
        for peer in peers {
            self.plan_dial(node, peer);
        }
        for peer in (1..=shape.nodes).filter(|peer| *peer != node) {
            if self.host(peer).dials(node) {
                self.plan_dial(peer, node);
            }
        }
        self.tell_wall(node, number);
        self.drain(node);
    }

    /// The store was damaged, and nothing of it is left. On a disk that is to be trusted that must not happen.
    fn note_set_aside(&mut self, node: u64) {
        self.checkers.disk_emptied(node);
        if self.checkers.suspects(node) {
            reachable!(self.marks, StoreSetAside);
        } else {
            let what = format!("node {node} takes a sound disk for a damaged one");
            self.checkers.broken(Rule::Invariant, what);
        }
    }

    /// By how many parts of a million a node's clock drifts just now.
    fn drift(&mut self, node: u64) -> Option<i64> {
        let place = self.host(node).drifting?;
        let window = &self.scenario.faults[place];
        let Fault::ClockDrift { ppm, .. } = window.fault else { return None };
        Some(ppm)
    }

    /// A disk that cannot be read just now is tried again; one that is damaged stays out.
    fn disk_refuses(&mut self, node: u64, trouble: Trouble, error: &str) {
        if trouble.is_unreadable || trouble.is_full || trouble.fails_next_sync {
            if trouble.is_unreadable {
                self.count_struck(node, FaultKind::ReadErrors);
            }
            let delay = self.pause(node, 300, 700);
            self.queue.push(self.now + delay, Event::Start { node });
            return;
        }
        self.refuses_to_start(node, error);
    }

    fn refuses_to_start(&mut self, node: u64, error: &str) {
        let number = self.host(node).started;
        self.trace.record(self.now, &Record::Start { node, process: number, refused: Some(error) });
        self.host(node).is_out = true;
        if !self.checkers.suspects(node) {
            self.checkers
                .broken(Rule::Invariant, format!("node {node} refuses to start on a sound disk: {error}"));
        }
    }

    /// Ends a node's process. Tells what became of the write under way.
    pub(super) fn end_process(&mut self, node: u64, cut: Cut) -> Ended {
        let now = self.now;
        let mut fate = {
            let host = self.host(node);
            let key = node * 10_000 + host.started;
            self.choices.stream(Draw::PowerLoss, key).clone()
        };
        let host = self.host(node);
        host.doomed = None;
        let ended = host.disk.cut(cut, &mut fate);
        let Some(process) = host.process.take() else { return ended };
        self.trace.draw(|picture| picture.ended(now, node));
        let host = self.host(node);
        if let Some(waiting) = &mut host.waiting {
            waiting.clear();
        }
        for attempt in process.requests.into_values() {
            let delay = self.pause(client_key(attempt.client), 1, 80);
            self.queue.push(now + delay, Event::Answer { attempt, answer: Answer::Broken });
        }
        for peer in (1..=self.scenario.shape.nodes).filter(|peer| *peer != node) {
            let delay = self.pause(link_key(peer, node), 5, 2000);
            let Some(other) = &self.host(peer).process else { continue };
            let (process, is_linked) = (other.number, other.links.contains(&node));
            if is_linked {
                self.queue.push(now + delay, Event::LinkLost { node: peer, process, peer: node });
            }
        }
        match ended {
            Ended::Kept => reachable!(self.marks, BatchKept),
            Ended::Lost { .. } => reachable!(self.marks, BatchLost),
            Ended::Idle => {}
        }
        ended
    }

    /// Gives a node an input, and acts on what it asks for.
    pub(super) fn deliver(&mut self, node: u64, input: Input) {
        if self.feed(node, input) {
            self.fire_due(node);
            self.drain(node);
        }
    }

    /// Gives a node an input. Tells whether there is a process to take it.
    pub(super) fn feed(&mut self, node: u64, input: Input) -> bool {
        let at = self.now;
        let place = usize::try_from(node - 1).unwrap_or_default();
        let host = &mut self.hosts[place];
        let now = host.clock.local(at);
        let Some(process) = &mut host.process else { return false };
        if self.is_watched {
            self.checkers.input(node, &input);
            self.trace.record(at, &Record::Input { node, now: now.as_nanos(), input: &input });
        }
        process.handle(now, input);
        true
    }

    /// Tells a node the time if its deadline has come, as the production driver does.
    pub(super) fn fire_due(&mut self, node: u64) {
        let at = self.now;
        let place = usize::try_from(node - 1).unwrap_or_default();
        let host = &mut self.hosts[place];
        let now = host.clock.local(at);
        let Some(process) = &mut host.process else { return };
        if process.node().deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        self.trace.record(at, &Record::Timeout { node, now: now.as_nanos() });
        process.handle_timeout(now);
        if let Some(place) = host.drifting {
            let window = &self.scenario.faults[place];
            self.effects.count(window.id, window.fault.kind());
        }
    }

    /// Acts on everything that a node asks for.
    pub(super) fn drain(&mut self, node: u64) {
        let mut undelivered = Vec::new();
        let mut outputs = 0;
        loop {
            while let Some(output) = self.poll(node) {
                outputs += 1;
                self.act(node, output, &mut undelivered);
            }
            let Some(peer) = undelivered.pop() else { break };
            undelivered.retain(|other| *other != peer);
            self.feed(node, Input::Unreachable(node_id(peer)));
        }
        if let Some(process) = &mut self.host(node).process {
            process.settled();
        }
        if self.is_watched {
            self.judge(node, outputs);
        }
        self.settle(node);
    }

    fn poll(&mut self, node: u64) -> Option<Output> {
        let at = self.now;
        let place = usize::try_from(node - 1).unwrap_or_default();
        let host = &mut self.hosts[place];
        let output = host.process.as_mut()?.poll()?;
        if self.is_watched {
            self.checkers.output(node, &output);
            self.marks.observe(node, &output);
            self.trace.record(at, &Record::Output { node, output: &output });
        }
        Some(output)
    }

    fn act(&mut self, node: u64, output: Output, undelivered: &mut Vec<u64>) {
        match output {
            Output::Write(batch) => self.write(node, batch),
            Output::BuildSnapshot => {
                let state = self.host(node).process.as_mut().and_then(Process::build);
                self.finish_later(node, Input::SnapshotBuilt(state.unwrap_or_default()));
            }
            Output::Read { id, read } => {
                let done = match self.host(node).disk.read(&read) {
                    Ok(batches) => Input::Read { id, batches },
                    Err(reason) => Input::ReadFailed { id, reason },
                };
                self.finish_later(node, done);
            }
            Output::SaveSnapshot(snapshot) => self.save(node, &snapshot),
            Output::Send { to, message } => {
                let to = match to {
                    Peer::Node(to) => to.value(),
                    Peer::Address(name) => node_at(&name),
                };
                if !self.send(node, to, message) {
                    undelivered.push(to);
                }
            }
            Output::Reply { id, reply } if self.asked_records.contains_key(&id) => {
                self.records_answered(node, id, &reply);
            }
            Output::Reply { id, reply } => {
                let process = self.host(node).process.as_mut();
                if let Some(attempt) = process.and_then(|process| process.requests.remove(&id)) {
                    self.answer(node, attempt, reply);
                }
            }
            Output::Dial(name) => self.plan_dial(node, node_at(&name)),
            Output::HangUp(name) => self.hang_up(node, node_at(&name)),
            Output::Gossip(output) => self.gossip(node, output),
            Output::Event(NodeEvent::Standing(standing)) => {
                self.elections += u64::from(standing.role == Role::Leader);
            }
            Output::Event(_) => {}
        }
    }

    fn answer(&mut self, node: u64, attempt: super::queue::Attempt, reply: Reply) {
        self.trace.draw(|picture| picture.client_is_answered(attempt.client, attempt.tells()));
        if let Some(arrival) = self.cross(node, 0, 0) {
            self.queue.push(arrival, Event::Answer { attempt, answer: Answer::Reply(reply) });
        }
    }

    /// Shows the checkers where a node stands now.
    fn judge(&mut self, node: u64, outputs: u64) {
        let place = usize::try_from(node - 1).unwrap_or_default();
        let Some(process) = &self.hosts[place].process else { return };
        let machine = process.node();
        machine.assert_invariants();
        self.trace.draw(|picture| picture.settled(self.now, node, Moment::of(machine)));
        self.checkers.executed(node, &machine.state_machine().take_executed());
        self.checkers.settled(node, outputs, machine.standing(), machine.indexes());
        self.checkers.gossips(node, machine.gossip());
        self.checkers.replicates(node, machine.replicas(), machine.metadata());
        if self.checkers.knows(node, machine.metadata()) {
            self.marks.observe_metadata(machine.metadata());
        }
    }

    /// Sets the timer for a node's next deadline; a node that has halted is started again.
    fn settle(&mut self, node: u64) {
        let now = self.now;
        let host = self.host(node);
        let Some(process) = &mut host.process else { return };
        if let Some(halt) = process.node().halted().cloned() {
            self.end_process(node, Cut::Killed);
            if halt == Halt::Removed {
                self.host(node).is_out = true;
                return;
            }
            let delay = self.pause(node, 100, 1000);
            self.queue.push(now + delay, Event::Start { node });
            return;
        }
        let Some(deadline) = process.node().deadline() else { return };
        let at = host.clock.world(deadline).max(now);
        if process.timer_at.is_none_or(|timer| timer > at) {
            process.timer_at = Some(at);
            let process = process.number;
            self.queue.push(at, Event::Timer { node, process });
        }
    }

    pub(super) fn timer_fires(&mut self, node: u64, process: u64) {
        let now = self.now;
        let host = self.host(node);
        if !host.runs(process) {
            return;
        }
        if let Some(waiting) = &mut host.waiting {
            return waiting.push(Event::Timer { node, process });
        }
        if let Some(process) = &mut host.process {
            // One that was set for later has been overtaken by this one, or is still to come.
            process.timer_at = process.timer_at.filter(|timer| *timer > now);
        }
        self.fire_due(node);
        self.drain(node);
    }

    fn write(&mut self, node: u64, batch: WriteBatch) {
        let shape = &self.scenario.shape;
        let stream = self.choices.stream(Draw::Disk, node);
        let mut micros = stream.between(shape.write_micros.0, shape.write_micros.1);
        if stream.chance(1, shape.slow_write_in) {
            micros += stream.below(shape.slow_write * 1000);
        }
        let place = usize::try_from(node - 1).unwrap_or_default();
        if let Some((most, fault)) = self.hosts[place].slow {
            let window = &self.scenario.faults[fault];
            micros += self.choices.choose(Draw::Fault, window.id * 10_000, most * 1000);
            self.effects.count(window.id, FaultKind::SlowSync);
        }
        let done = self.now + micros * MICROSECOND;
        let host = &mut self.hosts[place];
        let (id, process) = (batch.id, host.started);
        let before = host.disk.trouble();
        host.troubled = before;
        host.disk.submit(batch);
        self.note_misdirection(node, before);
        self.queue.push(done, Event::WriteDone { node, process, id });
        if let Some(fault) = self.host(node).doomed {
            // It strikes when it hurts: while the disk is at work.
            let at = self.now + self.choices.choose(Draw::PowerLoss, node, micros * MICROSECOND + 1);
            self.queue.push(at, Event::Cut { place: fault });
        }
    }

    /// Saves a snapshot, which takes as long as a write and goes on beside it.
    fn save(&mut self, node: u64, snapshot: &Snapshot) {
        // A write under way may have failed already: then the store fails everything that comes after.
        let host = self.host(node);
        let before = host.troubled.or(host.disk.trouble());
        let saved = self.host(node).disk.save(snapshot);
        self.note_misdirection(node, before);
        let input = match saved {
            Ok(()) => Input::SnapshotSaved,
            Err(reason) => {
                self.explain_failure(node, before, &reason);
                Input::SnapshotFailed { reason }
            }
        };
        self.finish_later(node, input);
    }

    fn finish_later(&mut self, node: u64, input: Input) {
        let (least, most) = self.scenario.shape.write_micros;
        let micros = self.choices.stream(Draw::Snapshot, node).between(least, most);
        let process = self.host(node).started;
        self.queue.push(self.now + micros * MICROSECOND, Event::SnapshotDone { node, process, input });
    }

    pub(super) fn snapshot_is_done(&mut self, node: u64, process: u64, input: Input) {
        let host = self.host(node);
        if !host.runs(process) {
            return;
        }
        if let Some(waiting) = &mut host.waiting {
            return waiting.push(Event::SnapshotDone { node, process, input });
        }
        if input == Input::SnapshotSaved {
            host.disk.complete_save();
        }
        self.deliver(node, input);
    }

    /// A write went astray if one was going to and no longer is.
    fn note_misdirection(&mut self, node: u64, before: Trouble) {
        if before.misdirects_by.is_some() && self.host(node).disk.trouble().misdirects_by.is_none() {
            self.checkers.suspect(node);
            self.count_struck(node, FaultKind::Misdirection);
        }
    }

    pub(super) fn write_is_done(&mut self, node: u64, process: u64, id: WriteId) {
        let host = self.host(node);
        if !host.runs(process) {
            return;
        }
        if let Some(waiting) = &mut host.waiting {
            return waiting.push(Event::WriteDone { node, process, id });
        }
        let before = core::mem::take(&mut host.troubled).or(host.disk.trouble());
        let input = match host.disk.complete() {
            Ok(()) => Input::Written(id),
            Err(reason) => {
                self.explain_failure(node, before, &reason);
                Input::WriteFailed { id, reason }
            }
        };
        self.deliver(node, input);
    }

    /// Counts the fault because of which a write has failed; on a sound disk none does. Whatever fails in the
    /// same process after it is its echo.
    fn explain_failure(&mut self, node: u64, before: Trouble, reason: &str) {
        if core::mem::replace(&mut self.host(node).has_failed, true) {
            return;
        }
        if before.is_full {
            self.count_struck(node, FaultKind::FullDisk);
        } else if before.is_unreadable {
            self.count_struck(node, FaultKind::ReadErrors);
        } else if before.fails_next_sync {
            self.count_struck(node, FaultKind::FailedSync);
        } else if !self.checkers.suspects(node) {
            let what = format!("node {node} halts: a write failed on a sound disk: {reason}");
            self.checkers.broken(Rule::Invariant, what);
        }
    }

    /// The fault of this kind that strikes this node just now had an effect.
    pub(super) fn count_struck(&mut self, node: u64, kind: FaultKind) {
        let now = self.now / MILLISECOND;
        let windows = self.scenario.faults.iter();
        let mut striking =
            windows.filter(|window| window.fault.struck() == Some(node) && window.fault.kind() == kind);
        if let Some(window) = striking.rfind(|window| window.begins <= now) {
            self.effects.count(window.id, kind);
        }
    }

    /// Equal logs give equal states: holds the nodes that are not lost against each other.
    pub(super) fn compare_states(&mut self) {
        let lost = self.lost();
        let nodes = (1..).zip(&self.hosts).filter(|(node, _)| !lost.contains(node));
        let mut states = nodes.filter_map(|(node, host)| {
            let process = host.process.as_ref()?;
            let applied = process.node().indexes()?.applied;
            Some((node, applied, process.node().state_machine().snapshot()))
        });
        let Some((first, _, expected)) = states.next() else { return };
        if let Some((other, ..)) = states.find(|(_, _, state)| *state != expected) {
            let what = format!("nodes {first} and {other} executed the same commands and differ");
            self.checkers.broken(Rule::StateMachineSafety, what);
        }
    }
}
