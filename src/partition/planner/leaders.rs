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
use super::quota;

/// Changes the order of replicas until leaders are as balanced as can be.
pub(super) fn balance(board: &mut Board<'_>) {
    let mut led: Vec<Vec<usize>> = vec![Vec::new(); board.seats.len()];
    for (number, row) in board.rows.iter().enumerate() {
        if let Some(first) = leader(board, row) {
            led[size(first)].push(number);
        }
    }
    let counts: Vec<u64> = led.iter().map(|rows| u64::try_from(rows.len()).unwrap_or(u64::MAX)).collect();
    let mut levels = quota::leaders(board, &counts);
    for (node, _) in (0..).zip(&counts) {
        while levels.is_over(node) {
            let expand = |from: u32, reached: &mut Reached| {
                for row in &led[size(from)] {
                    let others = &board.slots_of(&board.rows[*row])[1..];
                    let takes = |other: &&u32| **other != NOBODY && board.takes(**other);
                    others.iter().filter(takes).for_each(|other| reached.by_move(*other, *row, from));
                }
            };
            let Some(way) = chain::search(&levels, node, |_| (), expand) else { break };
            for (to, step) in way.backwards() {
                let Step::Move { row, from } = step else { continue };
                lead(board, row, to);
                led[size(from)].retain(|other| *other != row);
                led[size(to)].push(row);
            }
            chain::follow(&mut levels, &way, node);
        }
    }
}

/// Who leads a row, if it is a node that the plan may burden.
pub(super) fn leader(board: &Board<'_>, row: &super::board::Row) -> Option<u32> {
    board.slots_of(row).first().copied().filter(|node| *node != NOBODY && board.takes(*node))
}

/// Puts a node first in a row; the others stay in their order.
fn lead(board: &mut Board<'_>, row: usize, node: u32) {
    let (first, end) = (size(board.rows[row].first), size(board.rows[row].end));
    let slots = &mut board.slots[first..end];
    let place = slots.iter().position(|slot| *slot == node).expect("it has a replica");
    slots[..=place].rotate_right(1);
}
