//! The plan of faults that a seed draws: storms and quiet, within what the protocols must survive.
//!
//! Each seed switches on a random subset of the kinds ("swarm"), so that some runs see one kind many
//! times, and rare combinations come up without waiting for all kinds to meet.
//!
//! # The budget
//!
//! A node whose disk was wiped, rolled back or damaged may never serve again, and must not be trusted
//! to keep what it promised. So all nodes damaged in a run, together with those that are left broken
//! when a quorum is healed, are a minority. Everything else may strike any number of nodes at once.

use std::collections::BTreeSet;

use rivven_cluster::rng::Stream;

use super::{Fault, FaultKind, Window};
use crate::scenario::WorldKind;
use crate::shape::{Shape, Store};

/// The first fault comes after so many milliseconds; by then a cluster has usually formed.
const QUIET_START: u64 = 1500;

/// Draws the faults of a run.
pub fn plan(
    mut stream: Stream,
    world: WorldKind,
    shape: &Shape,
    without: &BTreeSet<FaultKind>,
) -> Vec<Window> {
    let kinds = swarm(&mut stream, world, shape);
    let mut plan = Plan { shape, world, windows: Vec::new(), damaged: BTreeSet::new(), taken: 0 };
    let mut now = QUIET_START;
    while now < shape.faults_until {
        let storm_ends = (now + stream.between(4000, 14_000)).min(shape.faults_until);
        while now < storm_ends {
            plan.add_some(&mut stream, &kinds, now, storm_ends);
            now += stream.between(50, 900);
        }
        now += stream.between(1500, 5000);
    }
    plan.leave_a_minority_broken(&mut stream);
    // Filtered at the end, so that one kind less leaves the rest of the plan as it was.
    plan.windows.retain(|window| !without.contains(&window.fault.kind()));
    plan.windows
}

/// How many nodes may be out for good, if operators take so many of the founders: what is left decides, and
/// whether a newcomer is there yet nobody knows.
pub fn budget(shape: &Shape, taken: usize) -> usize {
    let founders = usize::try_from(shape.founders()).unwrap_or_default();
    founders.saturating_sub(taken + 1) / 2
}

/// How many voters operators may take in a plan, at the most: a demotion takes up to two.
pub fn voters_taken(windows: &[Window]) -> usize {
    let kinds = windows.iter().map(|window| window.fault.kind());
    kinds.filter(|kind| kind.takes_a_voter()).map(|kind| 1 + usize::from(kind == FaultKind::Demotion)).sum()
}

/// The nodes whose disks a plan wipes, rolls back or damages.
pub fn damaged_nodes<'a>(windows: impl IntoIterator<Item = &'a Window>) -> BTreeSet<u64> {
    let damaging = windows.into_iter().filter(|window| window.fault.kind().damages());
    damaging.filter_map(|window| window.fault.struck()).collect()
}

/// The nodes that never come back under their ids: a damaged disk is set aside, and the node taken in again, but one
/// that was emptied by hand is refused.
pub fn lost_nodes<'a>(windows: impl IntoIterator<Item = &'a Window>) -> BTreeSet<u64> {
    let kinds = [FaultKind::DiskWiped, FaultKind::OldDisk];
    let lasting = windows.into_iter().filter(|window| kinds.contains(&window.fault.kind()));
    lasting.filter_map(|window| window.fault.struck()).collect()
}

/// A random subset of the kinds that this world and store can have.
fn swarm(stream: &mut Stream, world: WorldKind, shape: &Shape) -> Vec<FaultKind> {
    let possible = FaultKind::ALL.iter().copied().filter(|kind| {
        let has_blocks = world == WorldKind::Turmoil || shape.store == Store::Redb;
        let rots = *kind == FaultKind::BitRot && shape.store == Store::Segments;
        (has_blocks || rots || !kind.needs_blocks())
            && (world == WorldKind::Pure || !kind.needs_messages())
            && shape.nodes >= kind.nodes_min()
    });
    let share = stream.between(150, 800);
    let chosen = possible.clone().filter(|kind| {
        let is_on = stream.chance(share, 1000);
        // After it nothing but panics can be judged: rare, or it would hide what other kinds find.
        is_on && (*kind != FaultKind::OldDisk || stream.chance(1, 8))
    });
    let chosen: Vec<FaultKind> = chosen.collect();
    if chosen.is_empty() { possible.collect() } else { chosen }
}

impl FaultKind {
    /// How many nodes it takes for the kind to make a difference.
    #[expect(clippy::wildcard_enum_match_arm, reason = "told apart by their order below")]
    fn nodes_min(self) -> u64 {
        use FaultKind::{Bridge, Corruption, Delay, Duplication, Isolation, Loss, Misdelivery};
        use FaultKind::{Reordering, Ring, Truncation};
        match self {
            Ring => 4,
            Bridge | Misdelivery => 3,
            // These strike clients, too.
            Loss | Duplication | Reordering | Delay | Corruption | Truncation | Isolation => 1,
            _ if self.damages() || self.takes_a_voter() => 3,
            FaultKind::HandOver => 2,
            _ if self < FaultKind::PowerLoss => 2,
            _ => 1,
        }
    }
}

struct Plan<'a> {
    shape: &'a Shape,
    world: WorldKind,
    windows: Vec<Window>,
    damaged: BTreeSet<u64>,
    /// How many voters operators may take, at the most.
    taken: usize,
}

impl Plan<'_> {
    /// Adds one fault, or the same for several nodes at once.
    fn add_some(&mut self, stream: &mut Stream, kinds: &[FaultKind], now: u64, until: u64) {
        let kind = kinds[index(stream, kinds.len())];
        let several = self.shape.nodes > 1 && stream.chance(1, 6);
        let count = if several { stream.between(2, self.shape.nodes + 1) } else { 1 };
        for node in subset(stream, self.shape.nodes, count) {
            let fault = self.draw(stream, kind, node);
            let longest = if kind == FaultKind::ClockDrift { 20_000 } else { 3500 };
            // A process that is back within an election may be asked for its vote again.
            let shortest = if stops_process(kind) { 5 } else { 150 };
            let shortest = if stream.chance(1, 3) { shortest } else { 150 };
            let lasts =
                if shortest < 150 { stream.between(shortest, 150) } else { stream.between(150, longest) };
            let ends = (now + lasts).min(until.max(now + 150));
            self.add(Window { id: 0, begins: now, ends, fault });
        }
    }

    fn add(&mut self, mut window: Window) {
        if window.ends >= self.shape.faults_until || self.windows.iter().any(|other| collide(other, &window))
        {
            return;
        }
        if window.fault.kind().damages() {
            let node = window.fault.struck().expect("damage strikes a node");
            if !self.damaged.contains(&node) && self.damaged.len() >= self.budget(self.taken) {
                return;
            }
            self.damaged.insert(node);
        }
        if window.fault.kind().takes_a_voter() {
            let taken = self.taken + if window.fault.kind() == FaultKind::Demotion { 2 } else { 1 };
            if self.shape.founders() < 3
                || taken + 1 >= self.founders()
                || self.damaged.len() > self.budget(taken)
            {
                return;
            }
            self.taken = taken;
        }
        window.id = u64::try_from(self.windows.len()).unwrap_or(u64::MAX) + 1;
        self.windows.push(window);
    }

    fn budget(&self, taken: usize) -> usize {
        budget(self.shape, taken)
    }

    fn founders(&self) -> usize {
        usize::try_from(self.shape.founders()).unwrap_or_default()
    }

    /// Heals a random quorum and leaves the rest cut off for a while: service must come back.
    fn leave_a_minority_broken(&mut self, stream: &mut Stream) {
        let most = u64::try_from(self.budget(self.taken)).unwrap_or_default();
        let count = stream.below(most + 1);
        let mut broken = self.damaged.clone();
        while u64::try_from(broken.len()).unwrap_or(u64::MAX) < count {
            let node = stream.between(1, self.shape.nodes + 1);
            if !broken.insert(node) {
                continue;
            }
            let id = u64::try_from(self.windows.len()).unwrap_or(u64::MAX) + 1;
            let (begins, ends) = (self.shape.faults_until, self.shape.quorum_until);
            self.windows.push(Window { id, begins, ends, fault: Fault::Isolation { node } });
        }
    }

    fn draw(&self, stream: &mut Stream, kind: FaultKind, node: u64) -> Fault {
        let nodes = self.shape.nodes;
        let other = if nodes > 1 { (node + stream.between(1, nodes) - 1) % nodes + 1 } else { node };
        match kind {
            FaultKind::Loss => Fault::Loss { permille: stream.between(10, 400) },
            FaultKind::Duplication => Fault::Duplication { permille: stream.between(50, 500) },
            FaultKind::Reordering => {
                Fault::Reordering { permille: stream.between(50, 500), most: stream.between(5, 200) }
            }
            FaultKind::Delay => Fault::Delay { most: stream.between(20, 300) },
            FaultKind::Clog => Fault::Clog { from: node, to: other },
            FaultKind::Corruption => Fault::Corruption { permille: stream.between(5, 200) },
            FaultKind::Truncation => Fault::Truncation { permille: stream.between(5, 200) },
            FaultKind::MtuBlackHole => {
                let bytes = match self.world {
                    WorldKind::Pure => stream.between(60, 300),
                    WorldKind::Turmoil => stream.between(1200, 1450),
                };
                Fault::MtuBlackHole { bytes, node }
            }
            FaultKind::Partition => {
                let size = stream.between(1, nodes.max(2));
                Fault::Partition { island: subset(stream, nodes, size) }
            }
            FaultKind::OneWay => Fault::OneWay { from: node, to: other },
            FaultKind::Bridge => {
                // Nodes are taken in a circle, from the one after the bridge on.
                let half = stream.between(1, nodes.max(3) - 1);
                let left = (0..half).map(|step| (node + step) % nodes + 1).collect();
                Fault::Bridge { bridge: node, left }
            }
            FaultKind::Ring => Fault::Ring,
            FaultKind::Isolation => Fault::Isolation { node },
            FaultKind::Flapping => {
                Fault::Flapping { first: node, second: other, period: stream.between(20, 400) }
            }
            FaultKind::Misdelivery => Fault::Misdelivery { permille: stream.between(20, 300) },
            FaultKind::Forgery => Fault::Forgery { node },
            FaultKind::PowerLoss => Fault::PowerLoss { node },
            FaultKind::TornWrites => Fault::TornWrites { node },
            FaultKind::ReorderedWrites => Fault::ReorderedWrites { node },
            FaultKind::Restart => Fault::Restart { node },
            FaultKind::DiskWiped => Fault::DiskWiped { node },
            FaultKind::OldDisk => Fault::OldDisk { node, age: stream.between(100, 5000) },
            FaultKind::Pause => Fault::Pause { node },
            FaultKind::ClockJump => Fault::ClockJump { node, ahead: stream.between(10, 5000) },
            FaultKind::ClockDrift => {
                let ppm = i64::try_from(stream.between(100, 400_000)).unwrap_or_default();
                Fault::ClockDrift { node, ppm: if stream.chance(1, 2) { ppm } else { -ppm } }
            }
            FaultKind::SlowSync => Fault::SlowSync { node, most: stream.between(20, 1500) },
            FaultKind::FailedSync => Fault::FailedSync { node },
            FaultKind::FullDisk => Fault::FullDisk { node },
            FaultKind::ReadErrors => Fault::ReadErrors { node },
            FaultKind::Misdirection => Fault::Misdirection { node },
            FaultKind::BitRot => Fault::BitRot { node },
            FaultKind::Removal => Fault::Removal { node },
            FaultKind::Demotion => Fault::Demotion { node },
            FaultKind::HandOver => Fault::HandOver { node },
        }
    }
}

/// One fault of a kind at a time, or one of a kind for each node that is struck.
fn collide(one: &Window, other: &Window) -> bool {
    let overlap = one.ends + 300 >= other.begins && other.ends + 300 >= one.begins;
    let same_kind = one.fault.kind() == other.fault.kind();
    let same_node = one.fault.struck().is_some() && one.fault.struck() == other.fault.struck();
    let stops = |fault: &Fault| stops_process(fault.kind());
    let clash = same_node && stops(&one.fault) && stops(&other.fault);
    overlap && (clash || same_kind && (same_node || one.fault.struck().is_none()))
}

/// Whether the node's process ends or stands still while it lasts.
fn stops_process(kind: FaultKind) -> bool {
    use FaultKind::{BitRot, DiskWiped, Misdirection, OldDisk, Pause, PowerLoss};
    use FaultKind::{ReorderedWrites, Restart, TornWrites};
    let loses_power = matches!(kind, PowerLoss | TornWrites | ReorderedWrites);
    loses_power || matches!(kind, Restart | DiskWiped | OldDisk | BitRot | Misdirection | Pause)
}

fn index(stream: &mut Stream, length: usize) -> usize {
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    usize::try_from(stream.below(length)).unwrap_or_default()
}

/// Draws `size` of the nodes.
fn subset(stream: &mut Stream, nodes: u64, size: u64) -> Vec<u64> {
    let mut rest: Vec<u64> = (1..=nodes).collect();
    for left in (size..nodes).rev() {
        let place = stream.below(left + 1);
        rest.remove(usize::try_from(place).unwrap_or_default());
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn a_plan_follows_from_its_seed_and_leaves_a_quorum() {
        for seed in 0..200 {
            let scenario = Scenario::draw(seed, WorldKind::Pure);
            assert_eq!(scenario, Scenario::draw(seed, WorldKind::Pure));
            let budget = budget(&scenario.shape, voters_taken(&scenario.faults));
            assert!(damaged_nodes(&scenario.faults).len() <= budget);
            for window in &scenario.faults {
                assert!(window.begins < window.ends && window.ends <= scenario.shape.quorum_until);
                assert!(window.fault.nodes().iter().all(|node| (1..=scenario.shape.nodes).contains(node)));
            }
        }
    }

    #[test]
    fn every_kind_is_drawn() {
        let plans = (0..400).flat_map(|seed| Scenario::draw(seed, WorldKind::Pure).faults);
        let kinds: BTreeSet<FaultKind> = plans.map(|window| window.fault.kind()).collect();
        assert_eq!(kinds.len(), FaultKind::ALL.len(), "{kinds:?}");
    }

    #[test]
    fn a_kind_that_is_switched_off_leaves_the_rest_as_it_was() {
        let whole = Scenario::draw(5, WorldKind::Pure);
        let off = whole.faults[0].fault.kind();
        let rest = Scenario::draw_without(5, WorldKind::Pure, &BTreeSet::from([off]));
        let expected: Vec<Window> =
            whole.faults.into_iter().filter(|window| window.fault.kind() != off).collect();
        assert_eq!(rest.faults, expected);
    }
}
