//! The straight moves: an empty slot is filled, and a replica moves, with a node below its quota.
//!
//! Each costs one move, which no plan can do for less. Of the racks that may take the replica the one that misses most
//! is taken, which keeps the rest feasible (Gale 1957, Ryser 1957: largest first), and in it the node that misses the
//! largest part of its quota. Ties are broken by hashes that change with each replica, so that a node's partitions have
//! their other replicas on many nodes, and a node that is lost is copied from many.
//!
//! A topic should not sit on one node, not even on one that is new and empty and misses most: no node gets more than
//! twice its share of a topic, as long as another can take it.

use core::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::super::{hash, size};
use super::board::{Board, NOBODY};
use super::quota::Levels;

/// What nobody could take straight away.
#[derive(Default)]
pub(super) struct Left {
    /// Rows, each with an empty slot.
    pub(super) vacancies: Vec<(usize, usize)>,
    /// Nodes above their quota.
    pub(super) over: Vec<u32>,
}

/// Fills and moves what can be in one step.
pub(super) fn fill(board: &mut Board<'_>, levels: &mut Levels) -> Left {
    let mut left = Left::default();
    let mut takers = Takers::new(board, levels);
    fill_vacancies(board, levels, &mut takers, &mut left);
    let over: Vec<u32> = levels.all_over().collect();
    if over.is_empty() {
        return left;
    }
    let mut spread = Spread::of(board, &takers);
    for (node, mut slots) in over.iter().zip(slots_of(board, &over)) {
        while levels.is_over(*node) {
            let Some((_, _, Reverse(slot), row)) = slots.pop() else { break };
            let topic = board.rows[row].topic;
            let cap = |taker: u32| spread.has_room(board, topic, taker);
            if let Some(taker) = takers.take(board, levels, row, *node, cap) {
                board.put(slot, taker);
                levels.amount[size(*node)] -= 1;
                spread.add(topic, taker);
            }
        }
        if levels.is_over(*node) {
            left.over.push(*node);
        }
    }
    left
}

fn fill_vacancies(board: &mut Board<'_>, levels: &mut Levels, takers: &mut Takers, left: &mut Left) {
    if board.vacancies == 0 {
        return;
    }
    let mut spread = OneTopic::new(board);
    for row in 0..board.rows.len() {
        for slot in size(board.rows[row].first)..size(board.rows[row].end) {
            if board.slots[slot] != NOBODY {
                continue;
            }
            spread.turn_to(board, row);
            match takers.take(board, levels, row, NOBODY, |taker| spread.has_room(board, taker)) {
                Some(taker) => {
                    board.put(slot, taker);
                    spread.counts[size(taker)] += 1;
                }
                None => left.vacancies.push((row, slot)),
            }
        }
    }
}

/// A slot that may be emptied: which one of its topic on its node it is, what breaks ties, where it is, and its row. The
/// greatest is first.
type Movable = (u64, Reverse<u64>, Reverse<usize>, usize);

/// The slots that each of some nodes has: of the topics that it has most of first, so that they are spread. Mostly few of
/// them are needed, so they are not sorted.
fn slots_of(board: &Board<'_>, nodes: &[u32]) -> Vec<BinaryHeap<Movable>> {
    let mut place = vec![usize::MAX; board.seats.len()];
    nodes.iter().enumerate().for_each(|(number, node)| place[size(*node)] = number);
    let mut found: Vec<Vec<Movable>> = vec![Vec::new(); nodes.len()];
    // The last topic seen on each, and how often.
    let mut seen = vec![(u32::MAX, 0_u64); nodes.len()];
    for (number, row) in board.rows.iter().enumerate() {
        for slot in size(row.first)..size(row.end) {
            let node = board.slots[slot];
            if node == NOBODY || place[size(node)] == usize::MAX {
                continue;
            }
            let at = place[size(node)];
            seen[at] = if seen[at].0 == row.topic { (row.topic, seen[at].1 + 1) } else { (row.topic, 1) };
            found[at].push((seen[at].1, Reverse(hash::place(row.key)), Reverse(slot), number));
        }
    }
    found.into_iter().map(BinaryHeap::from).collect()
}

/// The nodes below their quota, by rack.
struct Takers {
    /// What all of a rack miss.
    missing: Vec<u64>,
    /// The part of its quota that each misses, in 2^32nds; what breaks ties; which it is.
    queues: Vec<BinaryHeap<(u64, u64, u32)>>,
    aside: Vec<(u64, u64, u32)>,
}

impl Takers {
    fn new(board: &Board<'_>, levels: &Levels) -> Takers {
        let mut takers = Takers { missing: Vec::new(), queues: Vec::new(), aside: Vec::new() };
        for rack in &board.racks {
            let missing = rack.takers.iter().map(|node| levels.missing(*node)).sum();
            let below = rack.takers.iter().filter(|node| levels.missing(**node) > 0);
            takers.queues.push(below.map(|node| Takers::entry(board, levels, *node)).collect());
            takers.missing.push(missing);
        }
        takers
    }

    fn entry(board: &Board<'_>, levels: &Levels, node: u32) -> (u64, u64, u32) {
        let missing = levels.missing(node);
        let part = (u128::from(missing) << 32) / u128::from(levels.quota[size(node)].max(1));
        let part = u64::try_from(part).expect("at most one");
        (part, hash::score(board.seats[size(node)].hash, hash::place(missing)), node)
    }

    /// A node that takes a replica of a row, when the one on `leaving` goes.
    fn take(
        &mut self,
        board: &Board<'_>,
        levels: &mut Levels,
        row: usize,
        leaving: u32,
        has_room: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        self.search(board, levels, row, leaving, has_room)
            .or_else(|| self.search(board, levels, row, leaving, |_| true))
    }

    fn search(
        &mut self,
        board: &Board<'_>,
        levels: &mut Levels,
        row: usize,
        leaving: u32,
        has_room: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let mut passed: Vec<usize> = Vec::new();
        let key = board.rows[row].key;
        loop {
            let open = |rack: &usize| {
                let misses = self.missing[*rack] > 0 && !passed.contains(rack);
                misses && board.has_room(&board.rows[row], *rack, leaving)
            };
            let rack = (0..self.missing.len())
                .filter(open)
                .max_by_key(|rack| (self.missing[*rack], hash::score(key, board.racks[*rack].hash)))?;
            if let Some(node) = self.pop(board, row, rack, &has_room) {
                self.missing[rack] -= 1;
                levels.amount[size(node)] += 1;
                if levels.missing(node) > 0 {
                    self.queues[rack].push(Takers::entry(board, levels, node));
                }
                return Some(node);
            }
            passed.push(rack);
        }
    }

    /// The first in a rack that may take a replica of a row; it leaves the queue.
    fn pop(
        &mut self,
        board: &Board<'_>,
        row: usize,
        rack: usize,
        has_room: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        let slots = board.slots_of(&board.rows[row]);
        let queue = &mut self.queues[rack];
        let mut found = None;
        while let Some(entry) = queue.pop() {
            if !slots.contains(&entry.2) && has_room(entry.2) {
                found = Some(entry.2);
                break;
            }
            self.aside.push(entry);
        }
        queue.extend(self.aside.drain(..));
        found
    }
}

/// How many replicas of one topic are where.
struct OneTopic {
    topic: Option<u32>,
    counts: Vec<u64>,
    total: u64,
    weights: u64,
}

impl OneTopic {
    fn new(board: &Board<'_>) -> OneTopic {
        OneTopic { topic: None, counts: vec![0; board.seats.len()], total: 0, weights: weights(board) }
    }

    /// Counts the topic of a row, if it is another one than before. Rows are in the order of their topics.
    fn turn_to(&mut self, board: &Board<'_>, row: usize) {
        let topic = board.rows[row].topic;
        if self.topic == Some(topic) {
            return;
        }
        self.topic = Some(topic);
        self.total = 0;
        self.counts.fill(0);
        let first = board.rows[..row].iter().rev().take_while(|row| row.topic == topic).count();
        for row in board.rows[row - first..].iter().take_while(|row| row.topic == topic) {
            self.total += u64::from(row.end - row.first);
            for node in board.slots_of(row).iter().filter(|node| **node != NOBODY) {
                self.counts[size(*node)] += 1;
            }
        }
    }

    fn has_room(&self, board: &Board<'_>, node: u32) -> bool {
        is_below_twice(self.counts[size(node)], self.total, board.seats[size(node)].weight, self.weights)
    }
}

/// Whether a count is below twice a node's share of a total.
fn is_below_twice(count: u64, total: u64, weight: u32, weights: u64) -> bool {
    u128::from(count) * u128::from(weights) < u128::from(total) * 2 * u128::from(weight)
}

/// How many replicas of all topics are where, as far as nodes that miss replicas have them.
struct Spread {
    counts: BTreeMap<(u32, u32), u64>,
    /// The replicas of each topic, by its number.
    totals: Vec<u64>,
    weights: u64,
}

impl Spread {
    fn of(board: &Board<'_>, takers: &Takers) -> Spread {
        let mut spread = Spread { counts: BTreeMap::new(), totals: Vec::new(), weights: weights(board) };
        let mut misses = vec![false; board.seats.len()];
        let waiting = takers.queues.iter().flat_map(BinaryHeap::iter);
        waiting.for_each(|(_, _, node)| misses[size(*node)] = true);
        for row in &board.rows {
            spread.totals.resize(size(row.topic) + 1, 0);
            spread.totals[size(row.topic)] += u64::from(row.end - row.first);
            for node in board.slots_of(row).iter().filter(|node| **node != NOBODY && misses[size(**node)]) {
                spread.add(row.topic, *node);
            }
        }
        spread
    }

    fn add(&mut self, topic: u32, node: u32) {
        *self.counts.entry((topic, node)).or_insert(0) += 1;
    }

    fn has_room(&self, board: &Board<'_>, topic: u32, node: u32) -> bool {
        let count = self.counts.get(&(topic, node)).copied().unwrap_or(0);
        is_below_twice(count, self.totals[size(topic)], board.seats[size(node)].weight, self.weights)
    }
}

/// The weights of all who take replicas.
fn weights(board: &Board<'_>) -> u64 {
    let takers = board.racks.iter().flat_map(|rack| &rack.takers);
    takers.map(|node| u64::from(board.seats[size(*node)].weight)).sum()
}
