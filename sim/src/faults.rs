//! What goes wrong, when: a plan that follows from the seed, and the count of what it did.
//!
//! A fault counts only when it had an effect: a datagram was dropped by it, a block was lost by it. A
//! kind of fault that never had one tests nothing, and a sweep says so.

use core::time::Duration;
use std::collections::BTreeMap;
use std::fmt;

use rivven_cluster::rng::{Seed, Stream};
use serde::Serialize;

/// The first fault comes after this long; by then a cluster has usually formed.
const QUIET_START: Duration = Duration::from_secs(2);

/// The kinds of faults.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum FaultKind {
    /// Datagrams vanish at random.
    Loss,
    /// Datagrams arrive late, and overtake each other.
    Delay,
    /// Two groups of hosts cannot reach each other.
    Partition,
    /// One host cannot reach another, but is reached by it.
    OneWay,
    /// A node loses power, and any part of what its disk had not synced.
    PowerLoss,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [FaultKind; 5] =
        [FaultKind::Loss, FaultKind::Delay, FaultKind::Partition, FaultKind::OneWay, FaultKind::PowerLoss];
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FaultKind::Loss => "loss",
            FaultKind::Delay => "delay",
            FaultKind::Partition => "partition",
            FaultKind::OneWay => "one-way partition",
            FaultKind::PowerLoss => "power loss",
        })
    }
}

/// One fault. Nodes are numbered from 1.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub enum Fault {
    /// So many of a thousand datagrams vanish, on every path.
    Loss {
        /// Of a thousand.
        permille: u64,
    },
    /// Every datagram is late by up to so many milliseconds.
    Delay {
        /// In milliseconds.
        most: u64,
    },
    /// These nodes are cut off from all others.
    Partition {
        /// Node ids.
        island: Vec<u64>,
    },
    /// Nothing from the one reaches the other.
    OneWay {
        /// The node that is not heard.
        from: u64,
        /// The node that does not hear it.
        to: u64,
    },
    /// The node is off until the window ends.
    PowerLoss {
        /// Which node.
        node: u64,
    },
}

impl Fault {
    /// Tells its kind.
    pub fn kind(&self) -> FaultKind {
        match self {
            Fault::Loss { .. } => FaultKind::Loss,
            Fault::Delay { .. } => FaultKind::Delay,
            Fault::Partition { .. } => FaultKind::Partition,
            Fault::OneWay { .. } => FaultKind::OneWay,
            Fault::PowerLoss { .. } => FaultKind::PowerLoss,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Loss { permille } => write!(f, "{permille} of 1000 datagrams are lost"),
            Fault::Delay { most } => write!(f, "datagrams are up to {most} ms late"),
            Fault::Partition { island } => write!(f, "nodes {island:?} are cut off"),
            Fault::OneWay { from, to } => write!(f, "node {to} does not hear node {from}"),
            Fault::PowerLoss { node } => write!(f, "node {node} is without power"),
        }
    }
}

/// A fault and the time for which it lasts, from the start of the run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Window {
    /// When it begins.
    pub begins: Duration,
    /// When it ends.
    pub ends: Duration,
    /// What goes wrong.
    pub fault: Fault,
}

/// Draws the faults of a run with `nodes` nodes; all of them have ended by `until`.
pub fn plan(seed: Seed, nodes: u64, until: Duration) -> Vec<Window> {
    let mut stream = seed.stream("fault plan", 0);
    let mut windows: Vec<Window> = Vec::new();
    let mut now = QUIET_START;
    while now < until {
        now += Duration::from_millis(stream.between(100, 1200));
        for fault in draw(&mut stream, nodes) {
            // Nodes that lose power together come back one after the other.
            let ends = now + Duration::from_millis(stream.between(200, 3500));
            let window = Window { begins: now, ends, fault };
            if ends < until && !windows.iter().any(|other| collide(other, &window)) {
                windows.push(window);
            }
        }
    }
    windows
}

/// One cut of a kind at a time keeps "which fault dropped it" a question with one answer; and a node
/// without power cannot lose it.
fn collide(one: &Window, other: &Window) -> bool {
    let overlap = one.ends >= other.begins && other.ends >= one.begins;
    let same = match (&one.fault, &other.fault) {
        (Fault::PowerLoss { node }, Fault::PowerLoss { node: other }) => node == other,
        (one, other) => one.kind() == other.kind(),
    };
    overlap && same
}

/// Draws one fault, or a blackout of several nodes.
fn draw(stream: &mut Stream, nodes: u64) -> Vec<Fault> {
    match stream.below(10) {
        0 => vec![Fault::Loss { permille: stream.between(10, 300) }],
        1 => vec![Fault::Delay { most: stream.between(20, 300) }],
        2 | 3 => {
            let size = stream.between(1, nodes);
            vec![Fault::Partition { island: subset(stream, nodes, size) }]
        }
        4 => {
            let from = stream.between(1, nodes + 1);
            let to = (from + stream.between(1, nodes) - 1) % nodes + 1;
            vec![Fault::OneWay { from, to }]
        }
        5..=7 => vec![Fault::PowerLoss { node: stream.between(1, nodes + 1) }],
        _ => {
            let size = stream.between(2, nodes + 1);
            subset(stream, nodes, size).into_iter().map(|node| Fault::PowerLoss { node }).collect()
        }
    }
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

/// Counts what the faults did.
#[derive(Clone, Debug, Default)]
pub struct Effects(BTreeMap<FaultKind, u64>);

impl Effects {
    /// A fault of this kind had an effect.
    pub fn count(&mut self, kind: FaultKind) {
        *self.0.entry(kind).or_default() += 1;
    }

    /// How many effects a kind had.
    pub fn of(&self, kind: FaultKind) -> u64 {
        self.0.get(&kind).copied().unwrap_or_default()
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: &Effects) {
        for (kind, count) in &other.0 {
            *self.0.entry(*kind).or_default() += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_follows_from_its_seed_and_ends_in_time() {
        let until = Duration::from_secs(30);
        let first = plan(Seed::new(3), 5, until);
        assert_eq!(first, plan(Seed::new(3), 5, until));
        assert_ne!(first, plan(Seed::new(4), 5, until));
        assert!(first.iter().all(|window| window.begins < window.ends && window.ends < until));
    }

    #[test]
    fn every_kind_is_drawn_and_names_only_nodes_that_exist() {
        let mut effects = Effects::default();
        for seed in 0..50 {
            for window in plan(Seed::new(seed), 3, Duration::from_secs(30)) {
                effects.count(window.fault.kind());
                if let Fault::OneWay { from, to } = window.fault {
                    assert!(from != to && (1..=3).contains(&from) && (1..=3).contains(&to));
                }
            }
        }
        assert!(FaultKind::ALL.into_iter().all(|kind| effects.of(kind) > 0), "{effects:?}");
    }
}
