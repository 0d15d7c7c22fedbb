//! One run of the turmoil world: hosts, clients and the plan of faults, a tick at a time.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::UNIX_EPOCH;

use turmoil::Sim;

use super::super::{Options, Report};
use super::clock::SkewedClock;
use super::entropy;
use super::host::{Hardware, Shared, States, host_name, run_clients, run_node};
use super::net::Wires;
use super::pause::Turnstile;
use super::plan::Strikes;
use crate::app::{Application, KeyValueApp};
use crate::checkers::{Checkers, Rule};
use crate::device::{Cut, Device, Loss, Trouble};
use crate::faults::{Fault, FaultKind, Host, Weather, Window, lost_nodes};
use crate::history::{History, Outcome};
use crate::lock::lock;
use crate::marks::Marks;
use crate::reachable;
use crate::scenario::Scenario;
use crate::trace::{Record, Trace};

/// How long a power loss waits for the disk to be at work, in milliseconds.
const PATIENCE: u64 = 200;
/// One run in so many has its registers searched for an order.
const SAMPLE: u64 = 8;

/// Plays a scenario at a tick of one millisecond.
pub fn run(scenario: &Scenario, options: Options, report: &mut Report) {
    run_with_tick(scenario, options, report, Duration::from_millis(1));
}

/// Plays a scenario; a coarser tick is faster, and less exact.
pub fn run_with_tick(scenario: &Scenario, options: Options, report: &mut Report, tick: Duration) {
    let mut run = Run::prepare(scenario, KeyValueApp::new(&scenario.shape), options);
    run.play(tick);
    run.report(report);
}

/// What the plan does at one moment.
struct Switch {
    at: u64,
    place: usize,
    change: Change,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Change {
    Copies,
    Begins,
    Ends,
}

struct Run<A> {
    scenario: Scenario,
    shared: Shared<A>,
    weather: Arc<Mutex<Weather>>,
    hardware: Vec<Hardware>,
    /// What is still to come, last first.
    switches: Vec<Switch>,
    /// Nodes that are about to lose power, by which fault, and since when.
    doomed: BTreeMap<u64, (usize, u64)>,
    /// Nodes that are started again at a time.
    returning: BTreeMap<u64, u64>,
    images: BTreeMap<usize, Vec<u8>>,
    now: u64,
    undecided: bool,
}

impl<A> Run<A>
where
    A: Application + Send + Sync + 'static,
    A::Machine: Send,
    A::Memory: Send,
{
    fn prepare(scenario: &Scenario, app: A, options: Options) -> Run<A> {
        let (seed, shape) = (scenario.root(), scenario.shape.clone());
        let (low, high) = shape.message_micros;
        let weather = Weather::new(seed.child("weather", 0), shape.nodes, low..high);
        let weather = Arc::new(Mutex::new(weather));
        let strikes = Arc::new(Mutex::new(Strikes::default()));
        let trace = Arc::new(Mutex::new(Trace::new(options.trace, options.picture)));
        let checkers = Arc::new(Mutex::new(Checkers::new(shape.founders(), options.ignored)));
        let wires = Wires::new(Arc::clone(&weather), Arc::clone(&strikes), Arc::clone(&trace));
        let hardware = (0..shape.nodes).map(|_| Hardware {
            device: Device::default(),
            clock: SkewedClock::start(),
            turnstile: Turnstile::default(),
            started: Arc::default(),
            is_set_aside: Arc::default(),
        });
        let hardware = hardware.collect();
        let operations = scenario.faults.iter().filter(|window| window.fault.kind().is_operation());
        let shared = Shared {
            seed,
            shape,
            app,
            wires,
            strikes,
            checkers,
            history: Arc::new(Mutex::new(History::default())),
            marks: Arc::new(Mutex::new(Marks::default())),
            trace,
            recordings: options.recordings,
            counts: Arc::default(),
            states: Arc::default(),
            operations: operations.cloned().collect(),
            out: Arc::default(),
        };
        Run {
            scenario: scenario.clone(),
            shared,
            weather,
            hardware,
            switches: switches(&scenario.faults),
            doomed: BTreeMap::new(),
            returning: BTreeMap::new(),
            images: BTreeMap::new(),
            now: 0,
            undecided: false,
        }
    }

    fn play(&mut self, tick: Duration) {
        entropy::begin(self.shared.seed);
        let mut sim = turmoil::Builder::new()
            .rng_seed(self.shared.seed.stream("turmoil", 0).draw())
            .epoch(UNIX_EPOCH)
            .simulation_duration(Duration::from_millis(self.scenario.shape.ends * 2))
            .tick_duration(tick)
            .build();
        self.populate(&mut sim);
        while !self.is_over(&mut sim) {
            self.now = u64::try_from(sim.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.switch_faults(&mut sim);
            if let Err(error) = sim.step() {
                lock(&self.shared.checkers).broken(Rule::Invariant, format!("a host stopped: {error}"));
            }
        }
        self.finish();
    }

    fn populate(&self, sim: &mut Sim<'_>) {
        for (number, hardware) in (1..).zip(&self.hardware) {
            let (shared, hardware) = (self.shared.clone(), hardware.clone());
            sim.host(host_name(number), move || run_node(shared.clone(), number, hardware.clone()));
            self.shared.wires.place(sim.lookup(host_name(number)), Host(number));
        }
        let shared = self.shared.clone();
        sim.client("clients", async move { run_clients(shared).await });
        self.shared.wires.place(sim.lookup("clients"), Host::CLIENTS);
    }

    /// Over when a rule is broken, or the work is done and every node has caught up.
    fn is_over(&mut self, sim: &mut Sim<'_>) -> bool {
        let mut checkers = lock(&self.shared.checkers);
        if checkers.violation().is_some() {
            return true;
        }
        let is_working = self.now < self.scenario.shape.work_until || sim.is_host_running("clients");
        let lost = self.lost(&checkers);
        let converged = if is_working {
            Err("a client still works".to_owned())
        } else {
            checkers.have_converged(&self.scenario.shape, &lost)
        };
        let Err(what) = converged else { return true };
        if self.now < self.scenario.shape.ends {
            return false;
        }
        checkers.broken(Rule::Liveness, format!("not caught up in the end: {what}"));
        true
    }

    /// The nodes that never come back: removed, or with a disk that was wiped, rolled back, or is another's now.
    fn lost(&self, checkers: &Checkers) -> BTreeSet<u64> {
        let strikes = lock(&self.shared.strikes);
        let struck = self.scenario.faults.iter().filter(|window| strikes.effects.had(window.id));
        let out = lock(&self.shared.out).clone();
        let lost = lost_nodes(struck).into_iter().chain(out).chain(checkers.removed()).collect();
        checkers.with_stranded(&self.scenario.shape, lost)
    }

    fn finish(&mut self) {
        let is_sampled = self.scenario.seed.is_multiple_of(SAMPLE);
        let history = lock(&self.shared.history);
        let mut checkers = lock(&self.shared.checkers);
        if checkers.violation().is_some() {
            return;
        }
        let shape = &self.scenario.shape;
        self.undecided = checkers.finish(&self.shared.app, shape, &history, is_sampled).is_err();
        let lost = self.lost(&checkers);
        compare_states(&lock(&self.shared.states), &lost, &mut checkers);
        let phase = shape.faults_until * 1_000_000..shape.quorum_until * 1_000_000;
        let is_quorum = |at: u64| {
            self.scenario.faults.iter().any(|window| {
                matches!(window.fault, Fault::Isolation { .. })
                    && (window.begins * 1_000_000..window.ends * 1_000_000).contains(&at)
            })
        };
        let served = history.operations().iter().any(|operation| {
            let returned = operation.returned.unwrap_or_default();
            matches!(operation.outcome, Outcome::Done { .. })
                && phase.contains(&returned)
                && is_quorum(returned)
        });
        if served {
            reachable!(lock(&self.shared.marks), ServedByQuorum);
        }
    }

    fn switch_faults(&mut self, sim: &mut Sim<'_>) {
        while self.switches.last().is_some_and(|switch| switch.at <= self.now) {
            let Some(Switch { place, change, .. }) = self.switches.pop() else { return };
            let window = self.scenario.faults[place].clone();
            if change == Change::Copies {
                if let Some(node) = window.fault.struck() {
                    self.images.insert(place, self.hardware(node).device.image());
                }
                continue;
            }
            let begins = change == Change::Begins;
            let record = Record::Fault { id: window.id, fault: &window.fault, begins };
            lock(&self.shared.trace).record(self.now * 1_000_000, &record);
            lock(&self.weather).set(&window, begins);
            lock(&self.shared.strikes).set(&window, begins);
            if begins { self.begin(sim, place, &window) } else { self.end(sim, &window) }
        }
        self.strike_the_doomed(sim);
        let due: Vec<u64> =
            self.returning.iter().filter(|(_, at)| **at <= self.now).map(|(node, _)| *node).collect();
        for node in due {
            self.returning.remove(&node);
            sim.bounce(host_name(node));
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "faults of the network are the weather, slow disks ask"
    )]
    fn begin(&mut self, sim: &mut Sim<'_>, place: usize, window: &Window) {
        let kind = window.fault.kind();
        match &window.fault {
            Fault::PowerLoss { node } | Fault::TornWrites { node } | Fault::ReorderedWrites { node } => {
                self.doomed.insert(*node, (place, self.now));
            }
            Fault::Restart { node } => {
                self.crash(sim, *node, Cut::Killed);
                self.strike(*node, kind);
            }
            Fault::DiskWiped { node } => {
                self.crash(sim, *node, Cut::Killed);
                let held = !self.hardware(*node).device.image().is_empty();
                self.hardware(*node).device.replace(Vec::new());
                *lock(&self.hardware(*node).is_set_aside) = false;
                lock(&self.shared.checkers).disk_emptied(*node);
                if held {
                    self.strike(*node, kind);
                }
            }
            Fault::OldDisk { node, .. } => {
                self.crash(sim, *node, Cut::Killed);
                let image = self.images.remove(&place).unwrap_or_default();
                if image != self.hardware(*node).device.image() {
                    self.hardware(*node).device.replace(image);
                    lock(&self.shared.checkers).suspect(*node);
                    lock(&self.shared.checkers).forgive();
                    self.strike(*node, kind);
                }
            }
            Fault::BitRot { node } => {
                self.crash(sim, *node, Cut::Killed);
                let mut fate = self.shared.seed.stream("bit rot", window.id);
                if self.hardware(*node).device.rot(&mut fate) > 0 {
                    lock(&self.shared.checkers).suspect(*node);
                    self.strike(*node, kind);
                }
            }
            Fault::Pause { node } => {
                self.hardware(*node).turnstile.close();
                self.strike(*node, kind);
            }
            Fault::ClockJump { node, ahead } => {
                self.hardware(*node).clock.jump(self.now * 1_000_000, ahead * 1_000_000);
                self.strike(*node, kind);
            }
            Fault::ClockDrift { node, ppm } => self.hardware(*node).clock.drift(self.now * 1_000_000, *ppm),
            Fault::FailedSync { node } => self.trouble(*node, |trouble| trouble.fails_next_sync = true),
            Fault::FullDisk { node } => self.trouble(*node, |trouble| trouble.is_full = true),
            Fault::ReadErrors { node } => self.trouble(*node, |trouble| trouble.is_unreadable = true),
            Fault::Misdirection { node } => {
                let by = self.shared.seed.stream("misdirection", window.id).between(1, 65);
                self.trouble(*node, |trouble| trouble.misdirects_by = Some(by));
            }
            // The network asks the weather, the disk the strikes.
            _ => {}
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "faults of the network are the weather, slow disks ask"
    )]
    fn end(&mut self, sim: &mut Sim<'_>, window: &Window) {
        match &window.fault {
            Fault::PowerLoss { node } | Fault::TornWrites { node } | Fault::ReorderedWrites { node } => {
                let has_struck = self.doomed.remove(node).is_none();
                if has_struck {
                    sim.bounce(host_name(*node));
                }
            }
            Fault::Restart { node }
            | Fault::DiskWiped { node }
            | Fault::OldDisk { node, .. }
            | Fault::BitRot { node } => sim.bounce(host_name(*node)),
            Fault::Pause { node } => self.hardware(*node).turnstile.open(),
            Fault::ClockDrift { node, .. } => self.hardware(*node).clock.drift(self.now * 1_000_000, 0),
            Fault::FailedSync { node } => self.trouble(*node, |trouble| trouble.fails_next_sync = false),
            Fault::FullDisk { node } => self.trouble(*node, |trouble| trouble.is_full = false),
            Fault::ReadErrors { node } => self.trouble(*node, |trouble| trouble.is_unreadable = false),
            Fault::Misdirection { node } => {
                self.trouble(*node, |trouble| trouble.misdirects_by = None);
                if lock(&self.shared.strikes).effects.had(window.id) {
                    // What lies in the wrong place is found out when somebody reads.
                    self.crash(sim, *node, Cut::Killed);
                    self.returning.insert(*node, self.now + 100);
                }
            }
            _ => {}
        }
    }

    fn trouble(&self, node: u64, change: impl FnOnce(&mut Trouble)) {
        let device = &self.hardware(node).device;
        let mut trouble = device.trouble();
        change(&mut trouble);
        device.set_trouble(trouble);
    }

    fn strike(&self, node: u64, kind: FaultKind) {
        lock(&self.shared.strikes).strike(node, kind);
    }

    /// A power loss strikes when it hurts: while the disk is at work, if that comes soon.
    fn strike_the_doomed(&mut self, sim: &mut Sim<'_>) {
        let is_due =
            |node: u64, since: u64| self.hardware(node).device.is_busy() || self.now >= since + PATIENCE;
        let doomed = self.doomed.iter();
        let due: Vec<(u64, usize)> = doomed
            .filter(|(node, (_, since))| is_due(**node, *since))
            .map(|(node, (place, _))| (*node, *place))
            .collect();
        for (node, place) in due {
            self.doomed.remove(&node);
            let fault = self.scenario.faults[place].fault.clone();
            let cut = fault.power_cut();
            if self.crash(sim, node, cut).shows(cut) {
                self.strike(node, fault.kind());
            }
        }
    }

    /// Ends a host's process. Tells what was lost of what it had written.
    fn crash(&mut self, sim: &mut Sim<'_>, node: u64, cut: Cut) -> Loss {
        self.returning.remove(&node);
        self.doomed.remove(&node);
        let hardware = self.hardware(node).clone();
        let key = node * 10_000 + *lock(&hardware.started);
        let mut fate = self.shared.seed.stream("power loss", key);
        // The device goes first: what a dying process writes does not exist.
        let lost = hardware.device.cut(cut, &mut fate);
        lock(&self.shared.marks).started(node);
        hardware.turnstile.open();
        sim.crash(host_name(node));
        lost
    }

    fn hardware(&self, node: u64) -> &Hardware {
        &self.hardware[usize::try_from(node - 1).unwrap_or_default()]
    }

    fn report(&self, report: &mut Report) {
        let (checkers, trace) = (lock(&self.shared.checkers), lock(&self.shared.trace));
        let (elections, restarts) = *lock(&self.shared.counts);
        *report = Report {
            effects: lock(&self.shared.strikes).effects.clone(),
            marks: lock(&self.shared.marks).clone(),
            history: lock(&self.shared.history).clone(),
            simulated: Duration::from_millis(self.now),
            events: 0,
            elections,
            restarts,
            records: trace.records(),
            hash: trace.hash(),
            undecided: self.undecided,
            forgiven: checkers.has_forgiven(),
            violation: checkers.violation().cloned(),
        };
    }
}

/// Equal logs give equal states: holds the nodes that are not damaged against each other.
fn compare_states(states: &States, damaged: &BTreeSet<u64>, checkers: &mut Checkers) {
    let mut sound = states.iter().filter(|(node, _)| !damaged.contains(node));
    let Some((first, expected)) = sound.next() else { return };
    if let Some((other, _)) = sound.find(|(_, state)| state.0 == expected.0 && state.1 != expected.1) {
        let what = format!("nodes {first} and {other} executed the same commands and differ");
        checkers.broken(Rule::StateMachineSafety, what);
    }
}

/// Everything that the plan does, last first.
fn switches(faults: &[Window]) -> Vec<Switch> {
    let mut switches = Vec::new();
    for (place, window) in faults.iter().enumerate() {
        if let Fault::OldDisk { age, .. } = &window.fault {
            switches.push(Switch { at: window.begins.saturating_sub(*age), place, change: Change::Copies });
        }
        switches.push(Switch { at: window.begins, place, change: Change::Begins });
        switches.push(Switch { at: window.ends, place, change: Change::Ends });
    }
    switches.sort_by_key(|switch| switch.at);
    switches.reverse();
    switches
}
