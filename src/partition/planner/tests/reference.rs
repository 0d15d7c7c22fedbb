//! All plans for up to five nodes and six partitions, tried one by one: no plan has fewer moves than the planner's.
//!
//! Partitions of the same factor are alike, so that it is enough to try each multiset of placements. The reference goes
//! through the partitions one after the other and remembers, for each way in which the nodes can be loaded, the fewest
//! moves that lead there; the multisets are walked depth first, so that this is shared between those that begin alike.

use std::collections::BTreeMap;

use super::*;

/// How bad a plan is: replicas that break the rule of racks, replicas away from the shares, moves.
type Cost = (u32, u64, u64);

/// What the nodes are loaded with, three bits each, and the fewest broken rules and moves that lead there.
type Loads = BTreeMap<u32, (u32, u64)>;

struct Reference<'a> {
    nodes: &'a [PlanNode],
    factor: u16,
    /// All ways to put the replicas of one partition on nodes of which each takes some, and how many of them each puts
    /// where they should not be.
    ways: Vec<(Vec<usize>, u32)>,
    /// All placements of one partition that there can be today.
    today: Vec<Vec<usize>>,
    plans: u64,
}

fn subsets(of: &[usize], count: usize) -> Vec<Vec<usize>> {
    let Some((first, rest)) = of.split_first() else {
        return if count == 0 { vec![Vec::new()] } else { Vec::new() };
    };
    let with = if count == 0 { Vec::new() } else { subsets(rest, count - 1) };
    let with = with.into_iter().map(|set| [&[*first][..], &set].concat());
    with.chain(subsets(rest, count)).collect()
}

impl Reference<'_> {
    /// Tries all multisets of `left` more placements, from number `from` on, behind those of `placements`.
    fn walk(&mut self, placements: &mut Vec<Placement>, loads: &Loads, from: usize, left: u32) {
        for number in from..self.today.len() {
            let today = self.today[number].clone();
            let mut next = fresh(1, u32::try_from(placements.len()).unwrap() + 1, self.factor).pop().unwrap();
            next.replicas = today.iter().map(|node| self.nodes[*node].id).collect();
            placements.push(next);
            self.compare(placements, loads, &today);
            if left > 1 {
                let mut further = Loads::new();
                for (load, cost) in self.further(loads, &today) {
                    let best = further.entry(load).or_insert(cost);
                    *best = cost.min(*best);
                }
                self.walk(placements, &further, number, left - 1);
            }
            placements.pop();
        }
    }

    /// Where one more partition leads, which is at `today`.
    fn further(&self, loads: &Loads, today: &[usize]) -> impl Iterator<Item = (u32, (u32, u64))> {
        self.ways.iter().flat_map(move |(way, broken)| {
            let moves = u64::try_from(way.iter().filter(|node| !today.contains(node)).count()).unwrap();
            let more: u32 = way.iter().map(|node| 1 << (3 * node)).sum();
            loads.iter().map(move |(load, cost)| (load + more, (cost.0 + *broken, cost.1 + moves)))
        })
    }

    /// How many replicas are in a rack where they should not be.
    fn broken(&self, way: &[usize]) -> u32 {
        let racks: std::collections::BTreeSet<&String> =
            self.nodes.iter().filter_map(|n| n.rack.as_ref()).collect();
        let size = |rack: &String| self.nodes.iter().filter(|node| node.rack.as_ref() == Some(rack)).count();
        let rackless = self.nodes.iter().filter(|node| node.rack.is_none()).count();
        let fits = |cap: usize| {
            let most: usize = racks.iter().map(|rack| size(rack).min(cap)).sum();
            most + rackless >= usize::from(self.factor).min(self.nodes.len())
        };
        let cap = (1..).find(|cap| fits(*cap)).unwrap();
        let over = racks.iter().map(|rack| {
            let inside = way.iter().filter(|node| self.nodes[**node].rack.as_ref() == Some(rack)).count();
            inside.saturating_sub(cap)
        });
        u32::try_from(over.sum::<usize>()).unwrap()
    }

    /// Compares the plan for some placements with all plans. The last one is at `today`, and the loads are without it.
    fn compare(&mut self, placements: &[Placement], loads: &Loads, today: &[usize]) {
        let board = Board::new(self.nodes, placements).unwrap();
        let levels = quota::replicas(&board);
        let away = |load: u32| -> u64 {
            let node = |(node, (floor, ceil)): (usize, (&u64, &u64))| {
                let load = u64::from(load >> (3 * node) & 7);
                floor.saturating_sub(load) + load.saturating_sub(*ceil)
            };
            levels.floor.iter().zip(&levels.ceil).enumerate().map(node).sum()
        };
        let all = self.further(loads, today);
        let best: Cost = all.map(|(load, (broken, moves))| (broken, away(load), moves)).min().unwrap();
        let planned = plan(self.nodes, placements).unwrap();
        let mut after = placements.to_vec();
        apply(&mut after, &planned);
        let places = |placement: &Placement| {
            let place = |node: &NodeId| self.nodes.iter().position(|other| other.id == *node).unwrap();
            placement.replicas.iter().map(place).collect::<Vec<usize>>()
        };
        let load = after.iter().flat_map(places).map(|node| 1 << (3 * node)).sum();
        let broken = after.iter().map(|placement| self.broken(&places(placement))).sum();
        let found: Cost = (broken, away(load), planned.certificate.moves);
        assert_eq!(found, best, "{:?}\n{placements:?}\n{planned:?}", self.nodes);
        assert_eq!(planned.certificate.proof, Proof::Minimal);
        assert!(planned.certificate.moves_bound <= best.2 || best.1 > 0, "{placements:?}\n{planned:?}");
        self.plans += 1;
    }
}

/// Compares all multisets of up to `partitions` placements of `factor` replicas on `nodes`, of which some leave.
fn compare_all(nodes: &[PlanNode], partitions: u32, factor: u16) -> u64 {
    let all: Vec<usize> = (0..nodes.len()).collect();
    let takers: Vec<usize> =
        all.iter().copied().filter(|node| nodes[*node].standing == Standing::Takes).collect();
    let count = usize::from(factor);
    let today = subsets(&all, count.min(all.len()));
    let mut reference = Reference { nodes, factor, ways: Vec::new(), today, plans: 0 };
    let ways = subsets(&takers, count.min(takers.len()));
    reference.ways = ways.into_iter().map(|way| (way.clone(), reference.broken(&way))).collect();
    let loads = Loads::from([(0, (0, 0))]);
    reference.walk(&mut Vec::new(), &loads, 0, partitions);
    reference.plans
}

/// Each of `count` nodes in the rack that `racks` says, with 0 for none; of the weights given, over and over.
fn described(count: u64, racks: &[u64], weights: &[u32]) -> Vec<PlanNode> {
    nodes(count, |number, node| {
        let place = usize::try_from(number - 1).unwrap();
        let rack = racks[place % racks.len()];
        node.rack = (rack > 0).then(|| format!("rack{rack}"));
        node.weight = weights[place % weights.len()];
    })
}

#[test]
fn no_plan_has_fewer_moves_for_up_to_four_nodes() {
    let mut plans = 0;
    for count in 1..=4 {
        for factor in 1..=4 {
            for racks in [&[0][..], &[1, 1, 2, 3], &[1, 2], &[1, 2, 2, 0]] {
                for weights in [&[1][..], &[1, 3, 2]] {
                    plans += compare_all(&described(count, racks, weights), 6, factor);
                }
            }
        }
    }
    assert!(plans > 10_000, "{plans}");
}

#[test]
fn no_plan_has_fewer_moves_for_five_nodes() {
    for factor in [1, 2, 3] {
        compare_all(&described(5, &[0], &[1]), 6, factor);
    }
}

#[test]
fn no_plan_has_fewer_moves_for_five_nodes_in_racks_and_of_weights() {
    for (racks, weights) in [(&[1, 1, 2, 2, 3][..], &[1][..]), (&[0], &[2, 1, 1]), (&[1, 2], &[1, 2])] {
        for factor in [2, 3] {
            compare_all(&described(5, racks, weights), 6, factor);
        }
    }
}

#[test]
fn no_plan_has_fewer_moves_when_a_node_leaves() {
    for racks in [&[0][..], &[1, 1, 2, 2, 3]] {
        for count in 2..=5 {
            let mut nodes = described(count, racks, &[1]);
            nodes[1].standing = Standing::Leaves;
            for factor in [1, 2, 3] {
                compare_all(&nodes, 6, factor);
            }
        }
    }
}
