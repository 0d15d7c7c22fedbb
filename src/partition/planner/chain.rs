//! Chains: where no node below its quota may take a replica, others move on by one each.
//!
//! ```text
//!   p has an empty slot, and may only use rack a      p ──► a1 (full)    q ──► a1 → b1 (has room)
//! ```
//!
//! That is a way through the flow's residual graph from who has too much to who has too little (Ford and Fulkerson 1956),
//! and the first that a breadth-first search finds has the fewest moves. Two nodes whose share has a fraction may also
//! exchange who is rounded up, which moves nothing: such a step is free.
//!
//! The search itself knows neither replicas nor leaders; [`super::leaders`] uses it, too.

use core::cell::RefCell;
use std::collections::VecDeque;

use super::super::size;
use super::board::{Board, NOBODY};
use super::fill::Left;
use super::quota::Levels;

/// How a node was reached.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// Something of this row moves here; from the node, or from nobody if an empty slot is filled.
    Move { row: usize, from: u32 },
    /// This node is rounded down, and that one up.
    Round { up: u32 },
}

/// A way found: where it ends, and how each node on it was reached.
pub(super) struct Way {
    pub(super) end: u32,
    steps: Vec<Option<Step>>,
}

impl Way {
    /// The steps, the last one first, each with the node that it reaches.
    pub(super) fn backwards(&self) -> impl Iterator<Item = (u32, Step)> {
        let mut at = self.end;
        core::iter::from_fn(move || {
            if at == NOBODY {
                return None;
            }
            let node = at;
            let step = self.steps[size(node)]?;
            at = match step {
                Step::Move { from, .. } => from,
                Step::Round { up } => up,
            };
            Some((node, step))
        })
    }
}

/// What has been reached so far.
pub(super) struct Reached<'a> {
    levels: &'a Levels,
    steps: Vec<Option<Step>>,
    queue: VecDeque<u32>,
    start: u32,
    /// A node below its quota.
    end: Option<u32>,
}

impl Reached<'_> {
    /// Whether a way was found, so that there is no need to look on.
    pub(super) fn is_done(&self) -> bool {
        self.end.is_some()
    }

    pub(super) fn is_new(&self, node: u32) -> bool {
        node != self.start && self.steps[size(node)].is_none()
    }

    fn reach(&mut self, node: u32, step: Step) {
        self.steps[size(node)] = Some(step);
        if self.end.is_none() && self.levels.missing(node) > 0 {
            self.end = Some(node);
        }
    }

    /// Rounded up, a node could keep what came. Somebody else is then rounded down, and has one too many if it has all of
    /// its quota.
    fn by_rounding(&mut self, up: u32) {
        for (other, at) in (0..).zip(0..self.levels.quota.len()) {
            if self.levels.quota[at] > self.levels.floor[at] && self.is_new(other) {
                self.reach(other, Step::Round { up });
                self.queue.push_front(other);
            }
        }
    }

    /// `node` can be reached by a move of `row`, from `from`.
    pub(super) fn by_move(&mut self, node: u32, row: usize, from: u32) {
        if self.is_new(node) {
            self.reach(node, Step::Move { row, from });
            self.queue.push_back(node);
        }
    }
}

/// Looks for a shortest way from a node with too much, or with `NOBODY` from what `begin` reaches, to a node below its
/// quota. `expand` tells where one of what a node has could go.
pub(super) fn search(
    levels: &Levels,
    start: u32,
    begin: impl FnOnce(&mut Reached<'_>),
    mut expand: impl FnMut(u32, &mut Reached<'_>),
) -> Option<Way> {
    let steps = vec![None; levels.amount.len()];
    let mut reached = Reached { levels, steps, queue: VecDeque::new(), start, end: None };
    let mut is_rounding_open = true;
    if start != NOBODY {
        reached.queue.push_back(start);
    }
    begin(&mut reached);
    while reached.end.is_none() {
        let node = reached.queue.pop_front()?;
        if is_rounding_open && levels.quota[size(node)] < levels.ceil[size(node)] {
            is_rounding_open = false;
            reached.by_rounding(node);
        }
        expand(node, &mut reached);
    }
    reached.end.map(|end| Way { end, steps: reached.steps })
}

/// Changes the quotas and amounts along a way. What moves is the caller's.
pub(super) fn follow(levels: &mut Levels, way: &Way) {
    for (node, step) in way.backwards() {
        if let Step::Round { up } = step {
            levels.quota[size(node)] -= 1;
            levels.quota[size(up)] += 1;
        }
    }
    for (node, step) in way.backwards() {
        if let Step::Move { from, .. } = step {
            levels.amount[size(node)] += 1;
            if from != NOBODY {
                levels.amount[size(from)] -= 1;
            }
        }
    }
}

/// Does by chains what could not be done straight away, as far as there are any; what is missing after that is put
/// where it is allowed at all.
pub(super) fn finish(board: &mut Board<'_>, levels: &mut Levels, left: Left) {
    if left.vacancies.is_empty() && left.over.is_empty() {
        return;
    }
    let mut rows_of = Rows::of(board);
    let mut hopeless = Vec::new();
    for (row, slot) in left.vacancies {
        match find(board, levels, &rows_of, NOBODY, Some(row)) {
            Some(way) => apply(board, levels, &mut rows_of, &way),
            None => hopeless.push((row, slot)),
        }
    }
    for node in left.over {
        while levels.is_over(node) {
            let Some(way) = find(board, levels, &rows_of, node, None) else { break };
            apply(board, levels, &mut rows_of, &way);
        }
    }
    // What was dropped and can only be put back goes first: to copy another instead helps nobody.
    hopeless.sort_by_key(|(row, _)| !board.has_dropped(*row));
    for (row, slot) in hopeless {
        if let Some(node) = anywhere(board, levels, row) {
            board.put(slot, node);
            levels.amount[size(node)] += 1;
        }
    }
}

/// The rows of each node.
struct Rows(Vec<Vec<usize>>);

impl Rows {
    fn of(board: &Board<'_>) -> Rows {
        let mut rows = vec![Vec::new(); board.seats.len()];
        for (number, row) in board.rows.iter().enumerate() {
            for node in board.slots_of(row).iter().filter(|node| **node != NOBODY) {
                rows[size(*node)].push(number);
            }
        }
        Rows(rows)
    }
}

fn find(board: &Board<'_>, levels: &Levels, rows: &Rows, start: u32, vacant: Option<usize>) -> Option<Way> {
    // Those that were not reached yet, by rack, so that none is looked at again and again.
    let open: Vec<Vec<u32>> = board.racks.iter().map(|rack| rack.takers.clone()).collect();
    let open = RefCell::new(open);
    let offer = |row: usize, from: u32, reached: &mut Reached<'_>| {
        let slots = board.slots_of(&board.rows[row]);
        for (rack, open) in open.borrow_mut().iter_mut().enumerate() {
            if !open.is_empty() && board.has_room(&board.rows[row], rack, from) {
                open.retain(|node| {
                    let stays = slots.contains(node);
                    if !stays {
                        reached.by_move(*node, row, from);
                    }
                    stays
                });
            }
        }
    };
    let begin = |reached: &mut Reached<'_>| {
        if let Some(row) = vacant {
            offer(row, NOBODY, reached);
        }
    };
    let expand = |node: u32, reached: &mut Reached<'_>| {
        for row in &rows.0[size(node)] {
            if reached.is_done() {
                return;
            }
            offer(*row, node, reached);
        }
    };
    search(levels, start, begin, expand)
}

fn apply(board: &mut Board<'_>, levels: &mut Levels, rows: &mut Rows, way: &Way) {
    for (node, step) in way.backwards() {
        let Step::Move { row, from } = step else { continue };
        board.replace(row, from, node);
        rows.0[size(node)].push(row);
        if from != NOBODY {
            rows.0[size(from)].retain(|other| *other != row);
        }
    }
    follow(levels, way);
}

/// Where a replica can be that fits nowhere: on a node that has it today rather than on another, in a rack without one
/// rather than in one with, where it exceeds the quota least.
fn anywhere(board: &Board<'_>, levels: &Levels, row: usize) -> Option<u32> {
    let row = &board.rows[row];
    let slots = board.slots_of(row);
    let takers = board.racks.iter().flat_map(|rack| rack.takers.iter().copied());
    let is_free =
        |node: &u32| !slots.contains(node) && board.load[size(*node)] < board.seats[size(*node)].capacity;
    takers.filter(is_free).min_by_key(|node| {
        let seat = &board.seats[size(*node)];
        let excess = (levels.amount[size(*node)] + 1).saturating_sub(levels.quota[size(*node)]);
        let excess = (u128::from(excess) << 32) / u128::from(seat.weight);
        let breaks_rule = !board.has_room(row, seat.rack, NOBODY);
        (
            breaks_rule,
            !board.held(row, *node),
            excess,
            u64::MAX - super::super::hash::score(row.key, seat.hash),
            *node,
        )
    })
}
