//! Who is first among the replicas: each node leads by its weight, as far as its replicas allow.
//!
//! A partition that node u leads can be led by node v instead if v has a replica. So from each node with too many there
//! is a search for the shortest way to one with too few, the same as in [`super::chain`], and along it the order of
//! replicas changes. Nothing is copied. It ends when there is no way left, which is when no order is better (Ford and
//! Fulkerson 1956).
//!
//! A partition whose first replica is on a node that is away stays as it is: that node is expected back.

use super::super::size;
use super::board::{Board, NOBODY};
use super::chain::{self, Reached, Step};
use super::quota::{self, Levels};

/// Changes the order of replicas until leaders are as balanced as can be.
pub(super) fn balance(board: &mut Board<'_>) {
    let mut levels = quota::leaders(board, &counts(board));
    let over: Vec<u32> = levels.all_over().collect();
    if over.is_empty() {
        return;
    }
    let mut led = vec![Vec::new(); board.seats.len()];
    for (number, row) in board.rows.iter().enumerate() {
        if let Some(first) = leader(board, row) {
            led[size(first)].push(number);
        }
    }
    over.iter().for_each(|node| hand_over(board, &mut levels, &mut led, *node));
    for node in over {
        while levels.is_over(node) {
            let expand = |from: u32, reached: &mut Reached<'_>| {
                for row in &led[size(from)] {
                    successors(board, *row).for_each(|other| reached.by_move(other, *row, from));
                    if reached.is_done() {
                        return;
                    }
                }
            };
            let Some(way) = chain::search(&levels, node, |_| (), expand) else { break };
            for (to, step) in way.backwards() {
                let Step::Move { row, from } = step else { continue };
                lead(board, row, to);
                let place = led[size(from)].iter().position(|other| *other == row).expect("it leads the row");
                led[size(from)].swap_remove(place);
                led[size(to)].push(row);
            }
            chain::follow(&mut levels, &way);
        }
    }
}

/// What a node leads too much goes to those that have a replica and lead too little, as far as there are any.
fn hand_over(board: &mut Board<'_>, levels: &mut Levels, led: &mut [Vec<usize>], node: u32) {
    let mut place = 0;
    while levels.is_over(node) && place < led[size(node)].len() {
        let row = led[size(node)][place];
        let best = successors(board, row).max_by_key(|other| levels.missing(*other));
        match best.filter(|other| levels.missing(*other) > 0) {
            Some(other) => {
                led[size(node)].swap_remove(place);
                led[size(other)].push(row);
                lead(board, row, other);
                levels.amount[size(node)] -= 1;
                levels.amount[size(other)] += 1;
            }
            None => place += 1,
        }
    }
}

/// Who else could lead a row.
fn successors(board: &Board<'_>, row: usize) -> impl Iterator<Item = u32> {
    let others = board.slots_of(&board.rows[row]).iter().skip(1).copied();
    others.filter(|other| *other != NOBODY && board.takes(*other))
}

/// How many rows each node leads.
pub(super) fn counts(board: &Board<'_>) -> Vec<u64> {
    let mut led = vec![0; board.seats.len()];
    for first in board.rows.iter().filter_map(|row| leader(board, row)) {
        led[size(first)] += 1;
    }
    led
}

/// Who leads a row, if it is a node that the plan may burden.
fn leader(board: &Board<'_>, row: &super::board::Row) -> Option<u32> {
    board.slots_of(row).first().copied().filter(|node| *node != NOBODY && board.takes(*node))
}

/// Puts a node first in a row; the others stay in their order.
fn lead(board: &mut Board<'_>, row: usize, node: u32) {
    let (first, end) = (size(board.rows[row].first), size(board.rows[row].end));
    let slots = &mut board.slots[first..end];
    let place = slots.iter().position(|slot| *slot == node).expect("it has a replica");
    slots[..=place].rotate_right(1);
}
