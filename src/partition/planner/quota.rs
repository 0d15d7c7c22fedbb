//! What each node should have: its share by weight, rounded so that the sum is right.
//!
//! A share is a fraction; a node gets it rounded down or up. Where a node or a rack cannot take its share (there is one
//! replica of a partition in a rack), it takes what it can and the rest is shared out among the others, again by weight,
//! until nobody is over. Who is rounded up moves nothing if it is above already, so those come first; then who has least
//! beside what is planned; then the largest remainders (Hamilton's method).
//!
//! All is in integers: a share is a number of replicas times a weight, over the sum of the weights that share it.

use core::cmp::Reverse;
use std::collections::BTreeMap;

use super::super::size;
use super::board::{Board, NOBODY};

/// What each node has and should have.
pub(super) struct Levels {
    /// Has now.
    pub(super) amount: Vec<u64>,
    /// Should have: one of the next two.
    pub(super) quota: Vec<u64>,
    /// Its share, rounded down.
    pub(super) floor: Vec<u64>,
    /// Its share, rounded up.
    pub(super) ceil: Vec<u64>,
}

impl Levels {
    pub(super) fn missing(&self, node: u32) -> u64 {
        self.quota[size(node)].saturating_sub(self.amount[size(node)])
    }

    /// Who has more than its quota.
    pub(super) fn all_over(&self) -> impl Iterator<Item = u32> {
        (0..)
            .zip(self.amount.iter().zip(&self.quota))
            .filter(|(_, (has, quota))| has > quota)
            .map(|(node, _)| node)
    }

    pub(super) fn are_met(&self) -> bool {
        self.amount == self.quota
    }

    pub(super) fn is_over(&self, node: u32) -> bool {
        self.amount[size(node)] > self.quota[size(node)]
    }
}

/// One that takes a share.
#[derive(Clone, Copy)]
struct Taker {
    node: u32,
    weight: u64,
    /// The most that it can take.
    most: u64,
    /// What it has.
    amount: u64,
    /// What it has beside that, relative to its weight, in 2^32nds; and what breaks ties.
    burden: u128,
    hash: u64,
}

impl Taker {
    fn new(board: &Board<'_>, node: u32, amount: u64, most: u64) -> Taker {
        let seat = &board.seats[size(node)];
        let burden = (u128::from(seat.burden) << 32) / u128::from(seat.weight);
        Taker { node, weight: u64::from(seat.weight), most, amount, burden, hash: seat.hash }
    }
}

/// The quotas of replicas. Nodes that only keep what they have get none beyond it.
pub(super) fn replicas(board: &Board<'_>) -> Levels {
    let mut levels = Levels {
        amount: board.load.clone(),
        quota: board.load.clone(),
        floor: board.load.clone(),
        ceil: board.load.clone(),
    };
    let bounds = Bounds::of(board);
    let mut free: Vec<usize> = (0..board.racks.len()).collect();
    let taker = |node: &u32| {
        let most = board.seats[size(*node)].capacity.min(bounds.rows);
        Taker::new(board, *node, board.load[size(*node)], most)
    };
    let takers: Vec<Vec<Taker>> =
        board.racks.iter().map(|rack| rack.takers.iter().map(taker).collect()).collect();
    let (mut total, mut found) = (bounds.total, Vec::new());
    // A rack that is over its bound takes just that, and the others share what is left, which is more for each.
    loop {
        let all: Vec<Taker> = free.iter().flat_map(|rack| takers[*rack].iter().copied()).collect();
        let shares = shares(&all, total);
        let share_of = |rack: usize| {
            let inside = shares.iter().filter(|(taker, _)| board.seats[size(taker.node)].rack == rack);
            inside.map(|(_, share)| *share).collect::<Vec<Share>>()
        };
        let Some(over) = free.iter().position(|rack| sum_exceeds(&share_of(*rack), bounds.rack[*rack]))
        else {
            found.extend(shares);
            break;
        };
        let rack = free.remove(over);
        found.extend(self::shares(&takers[rack], bounds.rack[rack]));
        total -= bounds.rack[rack];
    }
    let bound = |taker: &Taker| {
        let rack = board.seats[size(taker.node)].rack;
        (rack, bounds.rack[rack])
    };
    hand_out(&mut levels, &found, bounds.total, bound);
    levels
}

/// The quotas of leaders: each node leads by its weight, at most as many as it has replicas.
pub(super) fn leaders(board: &Board<'_>, led: &[u64]) -> Levels {
    let mut levels =
        Levels { amount: led.to_vec(), quota: led.to_vec(), floor: led.to_vec(), ceil: led.to_vec() };
    let taker = |node: &u32| Taker::new(board, *node, led[size(*node)], board.load[size(*node)]);
    let takers: Vec<Taker> = board.racks.iter().flat_map(|rack| &rack.takers).map(taker).collect();
    let total = takers.iter().map(|taker| taker.amount).sum();
    let shares = shares(&takers, total);
    hand_out(&mut levels, &shares, total, |_| (0, u64::MAX));
    levels
}

/// How much there is to share, and what can be taken at most.
struct Bounds {
    total: u64,
    /// The partitions of which a node can hold one.
    rows: u64,
    rack: Vec<u64>,
}

impl Bounds {
    fn of(board: &Board<'_>) -> Bounds {
        let mut bounds = Bounds { total: 0, rows: 0, rack: vec![0; board.racks.len()] };
        let takers: Vec<u32> =
            board.racks.iter().map(|rack| u32::try_from(rack.takers.len()).unwrap_or(u32::MAX)).collect();
        // Rows of one shape take the same from every rack, so that they are counted and not looked at one by one.
        let mut shapes = BTreeMap::new();
        for row in &board.rows {
            let slots = board.slots_of(row);
            let kept = slots.iter().filter(|node| **node != NOBODY && !board.takes(**node));
            let wanted =
                row.end - row.first - u32::try_from(kept.clone().count()).expect("at most the factor");
            bounds.total += u64::from(wanted);
            bounds.rows += u64::from(wanted > 0);
            *shapes.entry((wanted, row.rack_cap)).or_insert(0) += 1;
            // Each one kept leaves its rack one less that it may take, unless that has no bearing.
            let mut used = BTreeMap::new();
            for node in kept {
                let rack = board.rack_of(*node);
                let most = wanted.min(takers[rack]);
                let used = used.entry(rack).or_insert(0_u32);
                let room = board.cap_in(row, rack).saturating_sub(*used);
                let lost = most.min(room) - most.min(room.saturating_sub(1));
                *used += 1;
                bounds.rack[rack] = bounds.rack[rack].wrapping_sub(u64::from(lost));
            }
        }
        for ((wanted, cap), rows) in shapes {
            for (rack, takers) in takers.iter().enumerate() {
                let cap = if rack == board.pool() { u32::MAX } else { cap };
                let most = u64::from(wanted.min(cap).min(*takers)) * rows;
                bounds.rack[rack] = bounds.rack[rack].wrapping_add(most);
            }
        }
        let most: u64 = (0..board.racks.len())
            .map(|rack| {
                let inside = board.racks[rack].takers.iter();
                let inside: u64 = inside
                    .map(|node| board.seats[size(*node)].capacity.min(bounds.rows))
                    .fold(0, u64::saturating_add);
                bounds.rack[rack] = bounds.rack[rack].min(inside);
                bounds.rack[rack]
            })
            .fold(0, u64::saturating_add);
        bounds.total = bounds.total.min(most);
        bounds
    }
}

/// A fraction of replicas: `amount * weight / weights`.
#[derive(Clone, Copy)]
struct Share {
    whole: u64,
    rest: u128,
    of: u128,
}

/// What each taker gets of `total`, by weight and by what it can take at most.
fn shares(takers: &[Taker], total: u64) -> Vec<(Taker, Share)> {
    let mut is_full = vec![false; takers.len()];
    let (mut left, mut weights) =
        (u128::from(total), takers.iter().map(|taker| u128::from(taker.weight)).sum());
    loop {
        let over = |taker: &Taker| left * u128::from(taker.weight) > u128::from(taker.most) * weights;
        let full: Vec<usize> =
            (0..takers.len()).filter(|number| !is_full[*number] && over(&takers[*number])).collect();
        if full.is_empty() {
            break;
        }
        for number in full {
            is_full[number] = true;
            left = left.saturating_sub(u128::from(takers[number].most));
            weights -= u128::from(takers[number].weight);
        }
    }
    let share = |(taker, is_full): (&Taker, &bool)| {
        if *is_full || weights == 0 {
            return (*taker, Share { whole: taker.most, rest: 0, of: 1 });
        }
        let product = left * u128::from(taker.weight);
        let whole = u64::try_from(product / weights).expect("at most the total");
        (*taker, Share { whole, rest: product % weights, of: weights })
    };
    takers.iter().zip(&is_full).map(share).collect()
}

/// Whether shares come to more than `bound`. All that are not whole have one denominator.
fn sum_exceeds(shares: &[Share], bound: u64) -> bool {
    let of = shares.iter().map(|share| share.of).max().unwrap_or(1);
    let whole: u128 = shares.iter().map(|share| u128::from(share.whole)).sum();
    let rest: u128 = shares.iter().map(|share| share.rest).sum();
    whole * of + rest > u128::from(bound) * of
}

/// Rounds the shares: each down, and then up by one until the total is reached, where the rack's bound allows it.
fn hand_out(
    levels: &mut Levels,
    shares: &[(Taker, Share)],
    total: u64,
    rack: impl Fn(&Taker) -> (usize, u64),
) {
    let mut in_rack = BTreeMap::new();
    let mut left = total;
    for (taker, share) in shares {
        let node = size(taker.node);
        levels.floor[node] = share.whole;
        levels.ceil[node] = share.whole + u64::from(share.rest > 0);
        levels.quota[node] = share.whole;
        *in_rack.entry(rack(taker).0).or_insert(0) += share.whole;
        left -= share.whole;
    }
    let mut order: Vec<&(Taker, Share)> = shares.iter().filter(|(_, share)| share.rest > 0).collect();
    order.sort_by_key(|(taker, share)| {
        let is_above = taker.amount > share.whole;
        let rest = (share.rest << 32) / share.of;
        (Reverse(is_above), taker.burden, Reverse(rest), Reverse(taker.hash), taker.node)
    });
    for (taker, _) in order {
        let (rack, bound) = rack(taker);
        let inside = in_rack.get_mut(&rack).expect("each taker was counted");
        if left > 0 && *inside < bound {
            levels.quota[size(taker.node)] += 1;
            *inside += 1;
            left -= 1;
        }
    }
}
