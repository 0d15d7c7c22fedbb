//! One run: a seed becomes a cluster, a workload and a plan of faults, and the plan is played.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::UNIX_EPOCH;

use rivven_cluster::rng::Seed;
use turmoil::Sim;

use super::host::{Shared, host_name, run_clients, run_node};
use crate::checkers::{Checkers, Rule, Violation};
use crate::disk::Device;
use crate::entropy;
use crate::faults::{self, Effects, Fault, FaultKind, Window};
use crate::net::{CLIENTS, Net, Wires, lock};
use crate::trace::{Record, Trace};

/// How long faults come and go.
const FAULTS_UNTIL: Duration = Duration::from_secs(20);
/// How long clients work: some time after the last fault.
const WORK_UNTIL: Duration = Duration::from_secs(23);
/// By when every node must have caught up.
const HEALED_UNTIL: Duration = Duration::from_secs(40);
/// How long a power loss waits for the disk to be at work.
const PATIENCE: Duration = Duration::from_millis(200);
/// The step of the simulated clock.
const TICK: Duration = Duration::from_millis(1);
/// How many datagrams wait for a host before turmoil drops them; high, so that only faults drop any.
const SOCKET_CAPACITY: usize = 1 << 16;

/// How a seed is run.
#[derive(Default)]
pub struct Options {
    /// Rules that are not judged.
    pub ignored: BTreeSet<Rule>,
    /// Gets a line for every record of the trace.
    pub trace: Option<Box<dyn Write + Send>>,
}

/// What happened in a run.
#[derive(Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// How many nodes there were.
    pub nodes: u64,
    /// How many clients there were.
    pub clients: u64,
    /// What went wrong, by plan.
    pub plan: Vec<Window>,
    /// What the faults did.
    pub effects: Effects,
    /// How many commands were acknowledged.
    pub acknowledged: usize,
    /// How many commands failed for certain.
    pub failed: usize,
    /// How many commands have an unknown fate.
    pub unknown: u64,
    /// How much time passed in the simulation.
    pub simulated: Duration,
    /// How many records the trace has.
    pub records: u64,
    /// The hash of the trace.
    pub hash: u64,
    /// The first broken rule.
    pub violation: Option<Violation>,
}

/// Runs a seed.
pub fn run(number: u64, options: Options) -> Report {
    let seed = Seed::new(number).child("run", 0);
    let mut shape = seed.stream("shape", 0);
    let (nodes, clients) = (shape.between(3, 6), shape.between(2, 5));
    let plan = faults::plan(seed, nodes, FAULTS_UNTIL);
    let mut run = Run::prepare(seed, nodes, plan.clone(), options);
    let sim_seed = seed.stream("turmoil", 0).draw();
    let played = catch_unwind(AssertUnwindSafe(|| run.play(sim_seed, clients)));
    if played.is_err() {
        let what = "a panic; its message is above".to_owned();
        lock(&run.shared.checkers).note(Err(Violation { rule: Rule::Invariant, what }));
    }
    run.report(number, clients, plan)
}

struct Run {
    shared: Shared,
    net: Arc<Mutex<Net>>,
    effects: Arc<Mutex<Effects>>,
    devices: Vec<Device>,
    /// What is still to come, as (time, fault, whether it begins), last first.
    switches: Vec<(Duration, Fault, bool)>,
    /// Nodes that are about to lose power, and since when.
    doomed: BTreeMap<u64, Duration>,
    power_losses: u64,
    simulated: Duration,
}

impl Run {
    fn prepare(seed: Seed, nodes: u64, plan: Vec<Window>, options: Options) -> Run {
        let net = Arc::new(Mutex::new(Net::new(seed)));
        let effects = Arc::new(Mutex::new(Effects::default()));
        let trace = Arc::new(Mutex::new(Trace::new(options.trace)));
        let checkers = Arc::new(Mutex::new(Checkers::new(options.ignored)));
        let wires = Wires::new(Arc::clone(&net), Arc::clone(&effects), Arc::clone(&trace));
        let mut switches: Vec<_> = plan
            .into_iter()
            .flat_map(|window| {
                [(window.begins, window.fault.clone(), true), (window.ends, window.fault, false)]
            })
            .collect();
        switches.sort_by_key(|(time, _, _)| core::cmp::Reverse(*time));
        let devices = (0..nodes).map(|_| Device::default()).collect();
        let shared = Shared { seed, nodes, wires, checkers, trace };
        let doomed = BTreeMap::new();
        Run { shared, net, effects, devices, switches, doomed, power_losses: 0, simulated: Duration::ZERO }
    }

    fn play(&mut self, sim_seed: u64, clients: u64) {
        entropy::begin(self.shared.seed);
        let mut sim = turmoil::Builder::new()
            .rng_seed(sim_seed)
            .epoch(UNIX_EPOCH)
            .simulation_duration(HEALED_UNTIL * 2)
            .tick_duration(TICK)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(1))
            .udp_capacity(SOCKET_CAPACITY)
            .build();
        self.populate(&mut sim, clients);
        while !self.is_over(&mut sim) {
            self.switch_faults(&mut sim);
            if let Err(error) = sim.step() {
                let what = format!("a host stopped: {error}");
                lock(&self.shared.checkers).note(Err(Violation { rule: Rule::Invariant, what }));
            }
            self.simulated = sim.elapsed();
        }
        lock(&self.shared.checkers).finish(self.shared.nodes);
    }

    fn populate(&self, sim: &mut Sim<'_>, clients: u64) {
        for (number, device) in (1..).zip(&self.devices) {
            let (shared, device) = (self.shared.clone(), device.clone());
            sim.host(host_name(number), move || run_node(shared.clone(), number, device.clone()));
            lock(&self.net).place(sim.lookup(host_name(number)), number);
        }
        let shared = self.shared.clone();
        sim.client("clients", async move { run_clients(shared, clients, WORK_UNTIL).await });
        lock(&self.net).place(sim.lookup("clients"), CLIENTS);
    }

    /// Over when a rule is broken, or the work is done and every node has caught up.
    fn is_over(&mut self, sim: &mut Sim<'_>) -> bool {
        let mut checkers = lock(&self.shared.checkers);
        if checkers.violation.is_some() {
            return true;
        }
        let is_working = sim.elapsed() < WORK_UNTIL || sim.is_host_running("clients");
        if !is_working && checkers.have_converged(self.shared.nodes) {
            return true;
        }
        if sim.elapsed() < HEALED_UNTIL {
            return false;
        }
        let what = format!("nodes have not caught up {:?} after the last fault", HEALED_UNTIL - FAULTS_UNTIL);
        checkers.note(Err(Violation { rule: Rule::Liveness, what }));
        true
    }

    fn switch_faults(&mut self, sim: &mut Sim<'_>) {
        while self.switches.last().is_some_and(|(time, _, _)| *time <= sim.elapsed()) {
            let Some((_, fault, begins)) = self.switches.pop() else { return };
            let at = u64::try_from(sim.elapsed().as_nanos()).unwrap_or(u64::MAX);
            lock(&self.shared.trace).record(at, &Record::Fault { fault: &fault, begins });
            lock(&self.net).set(&fault, begins);
            match fault {
                Fault::PowerLoss { node } if begins => {
                    self.doomed.insert(node, sim.elapsed());
                }
                Fault::PowerLoss { node } => {
                    self.lose_power(sim, node);
                    sim.bounce(host_name(node));
                }
                Fault::Loss { .. } | Fault::Delay { .. } | Fault::Partition { .. } | Fault::OneWay { .. } => {
                }
            }
        }
        self.strike_the_doomed(sim);
    }

    /// A power loss strikes when it hurts: while the disk is at work, if that comes soon.
    fn strike_the_doomed(&mut self, sim: &mut Sim<'_>) {
        let due: Vec<u64> = self
            .doomed
            .iter()
            .filter(|(node, since)| self.device(**node).is_busy() || sim.elapsed() >= **since + PATIENCE)
            .map(|(node, _)| *node)
            .collect();
        for node in due {
            self.lose_power(sim, node);
        }
    }

    fn lose_power(&mut self, sim: &mut Sim<'_>, node: u64) {
        if self.doomed.remove(&node).is_none() {
            return;
        }
        self.power_losses += 1;
        let mut fate = self.shared.seed.stream("power loss", node * 10_000 + self.power_losses);
        if self.device(node).lose_power(&mut fate) > 0 {
            lock(&self.effects).count(FaultKind::PowerLoss);
        }
        sim.crash(host_name(node));
    }

    fn device(&self, node: u64) -> &Device {
        &self.devices[usize::try_from(node - 1).unwrap_or_default()]
    }

    fn report(&self, seed: u64, clients: u64, plan: Vec<Window>) -> Report {
        let (checkers, trace) = (lock(&self.shared.checkers), lock(&self.shared.trace));
        let (acknowledged, failed, unknown) = checkers.acknowledged.counts();
        Report {
            seed,
            nodes: self.shared.nodes,
            clients,
            plan,
            effects: lock(&self.effects).clone(),
            acknowledged,
            failed,
            unknown,
            simulated: self.simulated,
            records: trace.records(),
            hash: trace.hash(),
            violation: checkers.violation.clone(),
        }
    }
}
