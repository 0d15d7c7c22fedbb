//! As few moves as any plan has: moves are taken back in circles, until there is no circle left.
//!
//! A plan is a flow, and a flow is a cheapest one if and only if its residual graph has no circle of negative cost
//! (Klein 1967). Costs are compared in this order: replicas that are missing (one is worth sixteen that break a rule),
//! replicas that break a rule, replicas away from a quota, moves. So what is left has the fewest moves of all plans that
//! are as complete, as valid and as balanced as can be.
//!
//! Bellman and Ford's algorithm finds the circles. It looks at each arc as often as there are vertices, so this is for
//! plans of a few thousand arcs; larger ones are told by their certificate how far from the bound they are.

use super::super::size;
use super::board::{Board, NOBODY};
use super::quota::Levels;

/// The most times that an arc is looked at, in all circles together: a few seconds at worst. Each circle makes the plan
/// better by at least one move, so that it ends anyway; this is for plans that are large, or far from their bound.
const LOOKS_MAX: usize = 1_000_000_000;

/// One arc of the residual graph.
#[derive(Clone, Copy)]
struct Arc {
    from: usize,
    to: usize,
    cost: i64,
    /// What it does to a row: the node gets a replica, or gives it away.
    effect: Option<(usize, u32, bool)>,
}

/// Takes moves back as long as that leaves the plan as good. Tells whether no plan has fewer moves.
pub(super) fn improve(board: &mut Board<'_>, levels: &mut Levels) -> bool {
    let vertices = board.seats.len() + 1 + board.rows.len() * (1 + board.racks.len());
    let mut looks = 0_usize;
    loop {
        // At most one from each node to each row's rack, and two between any other two.
        let most = 2 * vertices + board.rows.len().saturating_mul(board.seats.len());
        looks = looks.saturating_add(vertices.saturating_mul(most));
        if looks > LOOKS_MAX {
            return false;
        }
        let arcs = arcs(board, levels);
        let Some(circle) = negative_circle(vertices, &arcs) else { return true };
        take(board, levels, &circle);
    }
}

/// Vertices: the nodes, where all flows end, the rows, and each row's racks.
struct Vertices {
    nodes: usize,
    rows: usize,
    racks: usize,
}

impl Vertices {
    fn end(&self) -> usize {
        self.nodes
    }

    fn row(&self, row: usize) -> usize {
        self.nodes + 1 + row
    }

    fn rack(&self, row: usize, rack: usize) -> usize {
        self.nodes + 1 + self.rows + row * self.racks + rack
    }
}

fn arcs(board: &Board<'_>, levels: &Levels) -> Vec<Arc> {
    let vertices = Vertices { nodes: board.seats.len(), rows: board.rows.len(), racks: board.racks.len() };
    // One of a kind of cost outweighs all of the next.
    let slots = i64::try_from(board.slots.len()).expect("bounded") + 1;
    let (unbalanced, broken) = (4 * slots, 16 * slots * slots);
    let missing = 16 * broken;
    let mut arcs = Vec::new();
    for (node, seat) in
        board.seats.iter().enumerate().filter(|(_, seat)| seat.standing == super::Standing::Takes)
    {
        let cost = |amount: u64| match amount {
            _ if amount < levels.floor[node] => -unbalanced,
            _ if amount >= seat.capacity => broken,
            _ if amount < levels.ceil[node] => 0,
            _ => unbalanced,
        };
        let amount = levels.amount[node];
        // A rule may have to be broken; a node that is full is full.
        if amount < seat.capacity {
            arcs.push(Arc { from: node, to: vertices.end(), cost: cost(amount), effect: None });
        }
        if amount > 0 {
            arcs.push(Arc { from: vertices.end(), to: node, cost: -cost(amount - 1), effect: None });
        }
    }
    for (number, row) in board.rows.iter().enumerate() {
        let slots = board.slots_of(row);
        let (at, end) = (vertices.row(number), vertices.end());
        arcs.push(Arc { from: at, to: end, cost: missing, effect: None });
        if slots.contains(&NOBODY) {
            arcs.push(Arc { from: end, to: at, cost: -missing, effect: None });
        }
        for (rack, takers) in board.racks.iter().enumerate() {
            let used = board.uses(slots, rack);
            let moving = slots.iter().any(|node| takers.takers.contains(node));
            let cost = |used: u32| if used < board.cap_in(row, rack) { 0 } else { broken };
            let at = vertices.rack(number, rack);
            arcs.push(Arc { from: vertices.row(number), to: at, cost: cost(used), effect: None });
            if moving {
                arcs.push(Arc { from: at, to: vertices.row(number), cost: -cost(used - 1), effect: None });
            }
            for node in &takers.takers {
                let cost = i64::from(!board.held(row, *node));
                let there = slots.contains(node);
                let effect = Some((number, *node, !there));
                arcs.push(if there {
                    Arc { from: size(*node), to: at, cost: -cost, effect }
                } else {
                    Arc { from: at, to: size(*node), cost, effect }
                });
            }
        }
    }
    arcs
}

/// A circle of arcs whose costs add up to less than nothing.
fn negative_circle(vertices: usize, arcs: &[Arc]) -> Option<Vec<Arc>> {
    let mut distance = vec![0_i64; vertices];
    let mut last: Vec<Option<usize>> = vec![None; vertices];
    let mut changed = None;
    for _ in 0..vertices {
        changed = None;
        for (number, arc) in arcs.iter().enumerate() {
            let through = distance[arc.from] + arc.cost;
            if through < distance[arc.to] {
                distance[arc.to] = through;
                last[arc.to] = Some(number);
                changed = Some(arc.to);
            }
        }
        changed?;
    }
    // So many steps back from a vertex that still changed is on the circle.
    let back = |vertex: usize| arcs[last[vertex].expect("it was reached")];
    let mut at = changed?;
    for _ in 0..vertices {
        at = back(at).from;
    }
    let mut circle = Vec::new();
    let start = at;
    loop {
        circle.push(back(at));
        at = back(at).from;
        if at == start {
            return Some(circle);
        }
    }
}

/// Changes the plan along a circle: in each row who gives a replica away is replaced by who gets one.
fn take(board: &mut Board<'_>, levels: &mut Levels, circle: &[Arc]) {
    let effects = || circle.iter().filter_map(|arc| arc.effect);
    for (row, leaving, _) in effects().filter(|(_, _, gets)| !gets) {
        board.replace(row, leaving, NOBODY);
        levels.amount[size(leaving)] -= 1;
    }
    for (row, node, _) in effects().filter(|(_, _, gets)| *gets) {
        board.replace(row, NOBODY, node);
        levels.amount[size(node)] += 1;
    }
}
