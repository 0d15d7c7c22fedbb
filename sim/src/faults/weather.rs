//! The network's weather: which faults are on, and what becomes of each message because of them.
//!
//! Both worlds ask here, the turmoil world for each UDP datagram, the pure world for each message. A
//! fault draws from a stream of its own for each path, and only while it is on. So what one fault does
//! to a path never depends on which others are on.

use rivven_cluster::rng::Seed;
use serde::Serialize;

use super::{Effects, Fault, FaultKind, Window};
use crate::choice::{Choices, Draw};

/// A host: a node by its number, or the host of the clients.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Host(pub u64);

impl Host {
    /// Where the clients are.
    pub const CLIENTS: Host = Host(0);

    fn is_node(self) -> bool {
        self != Host::CLIENTS
    }
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum Fate {
    /// A fault of this kind swallowed it.
    Dropped(FaultKind),
    /// It arrives.
    Delivered {
        /// After so many microseconds.
        delay: u64,
        /// Earlier messages of its path may arrive later.
        overtakes: bool,
        /// A copy arrives after so many microseconds.
        again: Option<u64>,
        /// What it looks like then.
        damage: Option<Damage>,
        /// A copy arrives there, too.
        astray: Option<Host>,
    },
}

/// How a message was damaged; the number decides where.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum Damage {
    /// A bit is not what it was.
    Corrupted(u64),
    /// Its end is missing.
    Truncated(u64),
}

impl Damage {
    /// Damages `bytes`.
    pub fn strike(self, bytes: &mut Vec<u8>) {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if length == 0 {
            return;
        }
        match self {
            Damage::Corrupted(salt) => {
                let place = usize::try_from((salt >> 3) % length).unwrap_or_default();
                bytes[place] ^= 1 << (salt & 7);
            }
            Damage::Truncated(salt) => bytes.truncate(usize::try_from(salt % length).unwrap_or_default()),
        }
    }
}

/// The state of all paths.
#[derive(Clone, Debug)]
pub struct Weather {
    choices: Choices,
    /// What a message takes without faults, in microseconds.
    calm_delay: core::ops::Range<u64>,
    nodes: u64,
    copies_for_clients: bool,
    active: Vec<Window>,
}

impl Weather {
    /// Makes calm weather, in which a message takes one of `calm_delay` microseconds.
    pub fn new(seed: Seed, nodes: u64, calm_delay: core::ops::Range<u64>) -> Weather {
        Weather {
            choices: Choices::new(seed),
            calm_delay,
            nodes,
            copies_for_clients: true,
            active: Vec::new(),
        }
    }

    /// What goes between clients and nodes is a stream here, in which nothing comes twice.
    #[must_use]
    pub fn without_copies_for_clients(mut self) -> Weather {
        self.copies_for_clients = false;
        self
    }

    /// From now on everything is drawn anew, in the same faults.
    pub fn redraw(&mut self, seed: Seed) {
        self.choices = Choices::new(seed);
    }

    /// Begins a fault, or ends it. Faults that do not strike the network are ignored.
    pub fn set(&mut self, window: &Window, begins: bool) {
        if window.fault.struck().is_some() {
            return;
        }
        self.active.retain(|active| active.id != window.id);
        if begins {
            self.active.push(window.clone());
        }
    }

    /// The faults of the network that are on.
    pub fn active(&self) -> &[Window] {
        &self.active
    }

    /// Decides what becomes of a message of `length` bytes that leaves at `now`, in nanoseconds.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a fault that does not strike this message lets it be"
    )]
    pub fn fate(&mut self, from: Host, to: Host, length: usize, now: u64, effects: &mut Effects) -> Fate {
        let path = from.0 * 100 + to.0;
        let calm = self.calm_delay.clone();
        let delay = self.choices.stream(Draw::Delay, path).between(calm.start, calm.end);
        let (mut overtakes, mut again, mut damage, mut astray) = (false, None, None, None);
        let (mut late, mut dropped) = (0, None);
        for window in &self.active {
            let stream = self.choices.stream(Draw::Fault, window.id * 10_000 + path);
            let kind = window.fault.kind();
            let had_effect = match &window.fault {
                Fault::Loss { permille } if stream.chance(*permille, 1000) => {
                    dropped = dropped.or(Some(kind));
                    dropped == Some(kind)
                }
                Fault::Duplication { permille } if stream.chance(*permille, 1000) => {
                    let between_nodes = from.is_node() && to.is_node();
                    again = (between_nodes || self.copies_for_clients)
                        .then(|| delay + stream.between(100, 50_000));
                    again.is_some()
                }
                Fault::Reordering { permille, most } if stream.chance(*permille, 1000) => {
                    overtakes = true;
                    late += stream.between(1, most * 1000 + 2);
                    true
                }
                Fault::Delay { most } => {
                    late += stream.below(most * 1000 + 1);
                    true
                }
                Fault::Clog { from: one, to: other } if (from.0, to.0) == (*one, *other) => {
                    late += (window.ends * 1000).saturating_sub(now / 1000);
                    true
                }
                Fault::Corruption { permille } if stream.chance(*permille, 1000) => {
                    damage = Some(Damage::Corrupted(stream.draw()));
                    true
                }
                Fault::Truncation { permille } if stream.chance(*permille, 1000) => {
                    damage = Some(Damage::Truncated(stream.draw()));
                    true
                }
                Fault::Misdelivery { permille } if stream.chance(*permille, 1000) => {
                    let third = Host(stream.between(1, self.nodes + 1));
                    astray =
                        (from.is_node() && to.is_node() && third != from && third != to).then_some(third);
                    astray.is_some()
                }
                fault if is_cut(fault, from, to, self.nodes, length, window.begins, now) => {
                    dropped = dropped.or(Some(kind));
                    dropped == Some(kind)
                }
                _ => false,
            };
            if had_effect {
                effects.count(window.id, kind);
            }
        }
        if let Some(kind) = dropped {
            return Fate::Dropped(kind);
        }
        Fate::Delivered { delay: delay + late, overtakes, again, damage, astray }
    }
}

/// Whether a fault swallows all such messages.
#[expect(clippy::wildcard_enum_match_arm, reason = "all other faults cut nothing")]
fn is_cut(fault: &Fault, from: Host, to: Host, nodes: u64, length: usize, began: u64, now: u64) -> bool {
    if let Fault::Isolation { node } = fault {
        return from.0 == *node || to.0 == *node;
    }
    if !from.is_node() || !to.is_node() {
        return false;
    }
    let (from, to) = (from.0, to.0);
    match fault {
        Fault::Partition { island } => island.contains(&from) != island.contains(&to),
        Fault::OneWay { from: deaf, to: dumb } => (from, to) == (*deaf, *dumb),
        Fault::Bridge { bridge, left } => {
            let crosses = left.contains(&from) != left.contains(&to);
            crosses && from != *bridge && to != *bridge
        }
        Fault::Ring => {
            let distance = from.abs_diff(to);
            distance != 1 && distance != nodes - 1
        }
        Fault::Flapping { first, second, period } => {
            let touches = [(*first, *second), (*second, *first)].contains(&(from, to));
            let phase = (now / 1_000_000).saturating_sub(began) / (*period).max(1);
            touches && phase.is_multiple_of(2)
        }
        Fault::MtuBlackHole { bytes, node } => {
            let touches = from == *node || to == *node;
            touches && u64::try_from(length).unwrap_or(u64::MAX) > *bytes
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(id: u64, fault: Fault) -> Window {
        Window { id, begins: 0, ends: 1000, fault }
    }

    fn weather(faults: &[Window]) -> Weather {
        let mut weather = Weather::new(Seed::new(1), 5, 100..4000);
        for window in faults {
            weather.set(window, true);
        }
        weather
    }

    fn dropped(fault: Fault) -> Vec<(u64, u64)> {
        let mut weather = weather(&[window(1, fault)]);
        let mut effects = Effects::default();
        let paths =
            (0..=5).flat_map(|from| (0..=5).map(move |to| (from, to))).filter(|(from, to)| from != to);
        paths
            .filter(|(from, to)| {
                let fate = weather.fate(Host(*from), Host(*to), 1000, 0, &mut effects);
                matches!(fate, Fate::Dropped(_))
            })
            .collect()
    }

    #[test]
    fn each_cut_cuts_just_its_paths() {
        assert_eq!(dropped(Fault::OneWay { from: 2, to: 3 }), [(2, 3)]);
        assert_eq!(dropped(Fault::Isolation { node: 1 }).len(), 10, "both ways, clients too");
        assert_eq!(dropped(Fault::Partition { island: vec![1, 2] }).len(), 12);
        assert_eq!(dropped(Fault::Bridge { bridge: 5, left: vec![1, 2] }).len(), 8);
        assert_eq!(dropped(Fault::Ring).len(), 10);
        assert_eq!(dropped(Fault::Flapping { first: 1, second: 2, period: 10 }), [(1, 2), (2, 1)]);
        assert_eq!(dropped(Fault::MtuBlackHole { node: 4, bytes: 999 }).len(), 8);
        assert_eq!(dropped(Fault::MtuBlackHole { node: 4, bytes: 1000 }), []);
    }

    #[test]
    fn one_fault_less_leaves_what_the_others_do() {
        let loss = window(1, Fault::Loss { permille: 300 });
        let copies = window(2, Fault::Duplication { permille: 500 });
        let both = [loss.clone(), copies.clone()];
        let fates = |faults: &[Window]| {
            let (mut weather, mut effects) = (weather(faults), Effects::default());
            (0..200).map(|_| weather.fate(Host(1), Host(2), 9, 0, &mut effects)).collect::<Vec<Fate>>()
        };
        let is_lost = |fate: &Fate| matches!(fate, Fate::Dropped(_));
        let (all, without_copies, without_loss) = (fates(&both), fates(&[loss]), fates(&[copies]));
        for place in 0..200 {
            assert_eq!(is_lost(&all[place]), is_lost(&without_copies[place]));
            assert!(is_lost(&all[place]) || all[place] == without_loss[place], "copies as without the loss");
        }
    }

    #[test]
    fn damage_changes_or_shortens() {
        let original = vec![7; 20];
        for salt in 0..500 {
            let mut bytes = original.clone();
            Damage::Corrupted(salt * 77).strike(&mut bytes);
            assert_eq!(bytes.iter().zip(&original).filter(|(a, b)| a != b).count(), 1);
            Damage::Truncated(salt * 77).strike(&mut bytes);
            assert!(bytes.len() < 20);
        }
    }
}
