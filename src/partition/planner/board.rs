//! What the planner works on: nodes, racks and partitions as numbers from 0, by ascending id.
//!
//! A partition has a row of slots, one for each replica that it can have. A slot holds a node, or nobody yet. Slots on
//! nodes that only [keep](Standing::Keeps) what they have are never touched; everything else is the planner's.

use core::cmp::Ordering;
use std::collections::BTreeMap;

use super::super::{hash, size};
use super::{Change, Placement, PlanError, PlanNode, Standing};
use crate::id::{NodeId, PartitionId};

/// Nobody has this slot.
pub(super) const NOBODY: u32 = u32::MAX;

/// A node, as the planner sees it.
pub(super) struct Seat {
    pub(super) id: NodeId,
    pub(super) hash: u64,
    pub(super) weight: u32,
    pub(super) rack: usize,
    pub(super) standing: Standing,
    pub(super) capacity: u64,
    pub(super) burden: u64,
}

/// The nodes of one failure domain; the last one is no rack: the nodes without any are in it.
pub(super) struct Rack {
    pub(super) hash: u64,
    /// Those that take replicas.
    pub(super) takers: Vec<u32>,
    /// How many are there, the keepers included.
    pub(super) nodes: u32,
}

/// A partition. Its slots are a part of those of all.
pub(super) struct Row {
    /// Which of the arguments it is.
    pub(super) source: usize,
    pub(super) key: u64,
    pub(super) topic: u32,
    pub(super) first: u32,
    pub(super) end: u32,
    /// Where it is today: a part of `Board::today`.
    today: (u32, u32),
    /// How many of its replicas may be in one rack.
    pub(super) rack_cap: u32,
    /// How many replicas it should have and cannot, since there are too few nodes.
    pub(super) short: u32,
}

pub(super) struct Board<'a> {
    pub(super) seats: Vec<Seat>,
    pub(super) racks: Vec<Rack>,
    pub(super) rows: Vec<Row>,
    pub(super) slots: Vec<u32>,
    /// How many slots each node has.
    pub(super) load: Vec<u64>,
    /// Slots that were empty when the board was made, which costs a move each.
    pub(super) vacancies: u64,
    /// Replicas that were dropped where others could have been: of which row, and on which node.
    pub(super) dropped: Vec<(usize, u32)>,
    /// The replicas of all rows as they are today, with nobody for nodes that are not known.
    today: Vec<u32>,
    /// How many replicas each node has today, to judge who should drop one.
    load_today: Vec<u64>,
    /// Of each seat, apart: these are looked at most.
    rack_of: Vec<usize>,
    takes: Vec<bool>,
    placements: &'a [Placement],
}

impl<'a> Board<'a> {
    pub(super) fn new(nodes: &[PlanNode], placements: &'a [Placement]) -> Result<Board<'a>, PlanError> {
        let (seats, racks) = seat(nodes)?;
        let mut order: Vec<usize> = (0..placements.len()).collect();
        if !placements.is_sorted_by_key(|placement| placement.partition) {
            order.sort_by_key(|place| placements[*place].partition);
        }
        let none = || vec![0; seats.len()];
        let mut board = Board {
            load: none(),
            load_today: none(),
            rack_of: seats.iter().map(|seat| seat.rack).collect(),
            takes: seats.iter().map(|seat| seat.standing == Standing::Takes).collect(),
            rows: Vec::with_capacity(placements.len()),
            slots: Vec::new(),
            today: Vec::new(),
            vacancies: 0,
            dropped: Vec::new(),
            seats,
            racks,
            placements,
        };
        board.read(&order)?;
        board.lay_out()?;
        Ok(board)
    }

    /// Notes where all partitions are today.
    fn read(&mut self, order: &[usize]) -> Result<(), PlanError> {
        let lookup = Lookup::new(&self.seats);
        let mut caps = BTreeMap::new();
        let mut before: Option<PartitionId> = None;
        let mut topic = 0;
        for source in order.iter().copied() {
            let Placement { partition, key, factor, replicas } = &self.placements[source];
            if before == Some(*partition) {
                return Err(PlanError::PartitionTwice(*partition));
            }
            if *factor == 0 {
                return Err(PlanError::Factorless(*partition));
            }
            topic += u32::from(before.is_some_and(|before| before.topic != partition.topic));
            before = Some(*partition);
            let rack_cap = *caps.entry(*factor).or_insert_with(|| rack_cap(&self.racks, *factor));
            let start = number_of(self.today.len())?;
            for replica in replicas {
                let node = lookup.find(*replica);
                self.today.push(node.unwrap_or(NOBODY));
                if let Some(node) = node {
                    self.load_today[size(node)] += 1;
                }
            }
            let today = (start, number_of(self.today.len())?);
            self.rows.push(Row { source, key: *key, topic, first: 0, end: 0, today, rack_cap, short: 0 });
        }
        Ok(())
    }

    /// Gives each partition its slots: what may stay first, in its order, and then the vacancies.
    fn lay_out(&mut self) -> Result<(), PlanError> {
        let takers: usize = self.racks.iter().map(|rack| rack.takers.len()).sum();
        for number in 0..self.rows.len() {
            let start = self.slots.len();
            self.rows[number].first = number_of(start)?;
            for place in size(self.rows[number].today.0)..size(self.rows[number].today.1) {
                let node = self.today[place];
                let stays = node != NOBODY && self.seats[size(node)].standing != Standing::Leaves;
                if stays && !self.slots[start..].contains(&node) {
                    self.slots.push(node);
                }
            }
            self.drop_what_cannot_stay(number);
            let kept = self.slots.len() - start;
            let keepers = self.slots[start..].iter().filter(|node| !self.takes(**node)).count();
            let factor = self.factor(&self.rows[number]);
            let possible = factor.min(takers + keepers).max(kept);
            self.slots.resize(start + possible, NOBODY);
            let row = &mut self.rows[number];
            row.short = u32::try_from(factor - possible).expect("at most the factor");
            row.end = number_of(self.slots.len())?;
            self.vacancies += u64::try_from(possible - kept).expect("at most the factor");
            for slot in start..start + kept {
                self.load[size(self.slots[slot])] += 1;
            }
        }
        Ok(())
    }

    fn factor(&self, row: &Row) -> usize {
        usize::from(self.placements[row.source].factor)
    }

    /// Of a row whose slots are the last ones: the second replica in a rack goes, and what is more than the factor. It
    /// goes from a rack with too many, else from a node that is away rather than from one that is there, and else from the
    /// fullest.
    fn drop_what_cannot_stay(&mut self, number: usize) {
        loop {
            let row = &self.rows[number];
            let slots = &self.slots[size(row.first)..];
            let has_surplus = slots.len() > self.factor(row);
            let in_excess = |node: u32| {
                let rack = self.rack_of(node);
                self.takes(node) && self.uses(slots, rack) > self.cap_in(row, rack)
            };
            let candidates = slots.iter().copied().filter(|node| has_surplus || in_excess(*node));
            let worst = candidates.max_by(|a, b| {
                let excess = in_excess(*a).cmp(&in_excess(*b));
                let away = (!self.takes(*a)).cmp(&!self.takes(*b));
                excess.then(away).then_with(|| self.fuller(row, *a, *b))
            });
            let Some(worst) = worst else { return };
            let place = slots.iter().position(|node| *node == worst).expect("it was found there");
            let slot = size(row.first) + place;
            self.slots.remove(slot);
            if self.takes(worst) {
                self.dropped.push((number, worst));
            }
        }
    }

    /// Which of two nodes has more today for its weight; of equals, who wants the row less is greater.
    fn fuller(&self, row: &Row, a: u32, b: u32) -> Ordering {
        let fullness = |node: u32, other: u32| {
            u128::from(self.load_today[size(node)]) * u128::from(self.seats[size(other)].weight)
        };
        let score = |node: u32| hash::score(row.key, self.seats[size(node)].hash);
        fullness(a, b).cmp(&fullness(b, a)).then_with(|| score(b).cmp(&score(a))).then_with(|| a.cmp(&b))
    }

    pub(super) fn takes(&self, node: u32) -> bool {
        self.takes[size(node)]
    }

    pub(super) fn rack_of(&self, node: u32) -> usize {
        self.rack_of[size(node)]
    }

    /// The number of the pool of nodes that are in no rack.
    pub(super) fn pool(&self) -> usize {
        self.racks.len() - 1
    }

    fn today_of(&self, row: &Row) -> &[u32] {
        &self.today[size(row.today.0)..size(row.today.1)]
    }

    pub(super) fn slots_of(&self, row: &Row) -> &[u32] {
        &self.slots[size(row.first)..size(row.end)]
    }

    /// How many replicas of a row may be in a rack.
    pub(super) fn cap_in(&self, row: &Row, rack: usize) -> u32 {
        if rack == self.pool() { u32::MAX } else { row.rack_cap }
    }

    /// How many of some slots are in a rack.
    pub(super) fn uses(&self, slots: &[u32], rack: usize) -> u32 {
        let inside = |node: &&u32| **node != NOBODY && self.rack_of(**node) == rack;
        u32::try_from(slots.iter().filter(inside).count()).expect("at most the factor")
    }

    /// Whether a replica of a row may come to `rack` when the one on `leaving` goes.
    pub(super) fn has_room(&self, row: &Row, rack: usize, leaving: u32) -> bool {
        if rack == self.pool() {
            return true;
        }
        let frees = leaving != NOBODY && self.rack_of(leaving) == rack;
        self.uses(self.slots_of(row), rack) < row.rack_cap + u32::from(frees)
    }

    /// Puts another node into a slot.
    pub(super) fn put(&mut self, slot: usize, node: u32) {
        let before = core::mem::replace(&mut self.slots[slot], node);
        if before != NOBODY {
            self.load[size(before)] -= 1;
        }
        if node != NOBODY {
            self.load[size(node)] += 1;
        }
    }

    /// Puts `to` where `from` is in a row.
    pub(super) fn replace(&mut self, row: usize, from: u32, to: u32) {
        let first = size(self.rows[row].first);
        let place = self.slots_of(&self.rows[row]).iter().position(|node| *node == from);
        self.put(first + place.expect("the node is in the row"), to);
    }

    /// How many replicas that were dropped are where they were after all, since there is no better place.
    pub(super) fn restored(&self) -> usize {
        let is_back = |(row, node): &&(usize, u32)| self.slots_of(&self.rows[*row]).contains(node);
        self.dropped.iter().filter(is_back).count()
    }

    /// Whether some replica of a row was dropped where another could have been.
    pub(super) fn has_dropped(&self, number: usize) -> bool {
        self.dropped.binary_search_by_key(&number, |(row, _)| *row).is_ok()
    }

    /// Puts rows with a replica that was dropped, and is where it was, into the order of today: nothing has become of it.
    pub(super) fn restore_order(&mut self) {
        for (number, node) in core::mem::take(&mut self.dropped) {
            let row = &self.rows[number];
            let today = &self.today[size(row.today.0)..size(row.today.1)];
            let place = |node: &u32| {
                let place = today.iter().position(|other| other == node && *node != NOBODY);
                place.unwrap_or(usize::MAX)
            };
            let slots = &mut self.slots[size(row.first)..size(row.end)];
            if slots.contains(&node) {
                slots.sort_by_key(place);
            }
        }
    }

    /// Whether a node holds a replica of a row today.
    pub(super) fn held(&self, row: &Row, node: u32) -> bool {
        self.today_of(row).contains(&node)
    }

    /// How many replicas have to be copied to where they are not today.
    pub(super) fn moves(&self) -> u64 {
        let copies = |row: &Row| {
            if self.slots_of(row) == self.today_of(row) {
                return 0;
            }
            let new = |node: &&u32| **node != NOBODY && !self.held(row, **node);
            self.slots_of(row).iter().filter(new).count()
        };
        self.rows.iter().map(|row| u64::try_from(copies(row)).expect("at most the factor")).sum()
    }

    pub(super) fn partition(&self, row: &Row) -> PartitionId {
        self.placements[row.source].partition
    }

    /// What is different from today.
    pub(super) fn changes(&self) -> Vec<Change> {
        let change = |row: &Row| {
            let there = || self.slots_of(row).iter().copied().filter(|node| *node != NOBODY);
            let today = self.today_of(row);
            // Who comes after the first is in no order.
            let is_same = today.first().copied() == there().next()
                && today.len() == there().count()
                && there().all(|node| today.contains(&node));
            (!is_same).then(|| Change {
                partition: self.placements[row.source].partition,
                from: self.placements[row.source].replicas.clone(),
                to: there().map(|node| self.seats[size(node)].id).collect(),
            })
        };
        self.rows.iter().filter_map(change).collect()
    }
}

fn number_of(length: usize) -> Result<u32, PlanError> {
    u32::try_from(length).map_err(|_| PlanError::TooMany)
}

/// How many replicas of a partition have to be in one rack: one, if there are as many racks as replicas.
fn rack_cap(racks: &[Rack], factor: u16) -> u32 {
    let (pool, racks) = racks.split_last().expect("the pool is always there");
    let holds = |cap: u32| racks.iter().map(|rack| u64::from(rack.nodes.min(cap))).sum::<u64>();
    let most = u32::from(factor);
    (1..most).find(|cap| holds(*cap) + u64::from(pool.nodes) >= u64::from(factor)).unwrap_or(most)
}

fn seat(nodes: &[PlanNode]) -> Result<(Vec<Seat>, Vec<Rack>), PlanError> {
    let mut sorted: Vec<&PlanNode> = nodes.iter().collect();
    sorted.sort_by_key(|node| node.id);
    let names: BTreeMap<&str, ()> =
        nodes.iter().filter_map(|node| Some((node.rack.as_deref()?, ()))).collect();
    let empty = |name: &str| Rack { hash: hash::node(name), takers: Vec::new(), nodes: 0 };
    let mut racks: Vec<Rack> = names.keys().map(|name| empty(name)).chain([empty("")]).collect();
    let number: BTreeMap<&str, usize> =
        names.keys().enumerate().map(|(number, name)| (*name, number)).collect();
    let mut seats: Vec<Seat> = Vec::with_capacity(nodes.len());
    for node in sorted {
        if seats.last().is_some_and(|seat| seat.id == node.id) {
            return Err(PlanError::NodeTwice(node.id));
        }
        if node.weight == 0 {
            return Err(PlanError::Weightless(node.id));
        }
        let rack = node.rack.as_deref().map_or(racks.len() - 1, |name| number[name]);
        racks[rack].nodes += u32::from(node.standing != Standing::Leaves);
        if node.standing == Standing::Takes {
            racks[rack].takers.push(u32::try_from(seats.len()).map_err(|_| PlanError::TooMany)?);
        }
        seats.push(Seat {
            id: node.id,
            hash: hash::node(&node.id.to_string()),
            weight: node.weight,
            rack,
            standing: node.standing,
            capacity: node.capacity.map_or(u64::MAX, u64::from),
            burden: node.burden,
        });
    }
    Ok((seats, racks))
}

/// The number of a node, by its id.
struct Lookup {
    ids: Vec<NodeId>,
    /// By the id itself, when ids are small numbers, as they mostly are: one look instead of a search.
    direct: Vec<u32>,
}

impl Lookup {
    /// How many times more ids than nodes are still looked up directly.
    const SPARSE: u64 = 8;

    fn new(seats: &[Seat]) -> Lookup {
        let ids: Vec<NodeId> = seats.iter().map(|seat| seat.id).collect();
        let greatest = ids.last().map_or(0, |id| id.value());
        let mut direct = Vec::new();
        if greatest / Lookup::SPARSE <= u64::try_from(ids.len()).unwrap_or(u64::MAX) {
            direct.resize(usize::try_from(greatest).expect("a few times the nodes") + 1, NOBODY);
            for (id, number) in ids.iter().zip(0..) {
                direct[usize::try_from(id.value()).expect("below the greatest")] = number;
            }
        }
        Lookup { ids, direct }
    }

    fn find(&self, node: NodeId) -> Option<u32> {
        if self.direct.is_empty() {
            let place = self.ids.binary_search(&node).ok()?;
            return u32::try_from(place).ok();
        }
        let place = usize::try_from(node.value()).ok()?;
        self.direct.get(place).copied().filter(|number| *number != NOBODY)
    }
}
