//! Consistent hashing: each node has points on a ring, and a key belongs to the next one (Karger et al. 1997).
//!
//! A node that comes takes keys only from those whose points it precedes, and gives them back to the very same when it
//! goes: nothing else moves. A node of weight w has w times the points, and w times the keys, about.
//!
//! The points lie in one sorted list. Since they are spread evenly, the first bits of a key's place tell almost where
//! in the list its owner stands: a table of a quarter as many cells as there are points leads there, and a few steps to
//! the owner. They go along a list of the upper halves of the places, which with 1000 nodes still is near the processor.
//! So finding an owner costs two looks at memory, however many nodes there are.

use std::collections::{BTreeMap, BTreeSet};

use super::{hash, size};

/// The most points of one node.
const POINTS_MAX: u64 = 1 << 20;

/// Nodes, and who owns what.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HashRing {
    /// Points of a node of weight 1.
    points: u32,
    /// Who is there, by id.
    numbers: BTreeMap<String, u32>,
    /// By number; a number is used again when its node has gone.
    nodes: Vec<Option<RingNode>>,
    /// The ids of the same; empty for a number that nobody has.
    ids: Vec<Box<str>>,
    /// Where each point is, and whose it is, ascending; of two points at one place that of the smaller id is first.
    ring: Vec<(u64, u32)>,
    /// The same with the upper halves of the places only: half as much to look at.
    brief: Vec<(u32, u32)>,
    /// For each of 2^bits equal parts of the ring, the first point that is not before it.
    index: Vec<u32>,
    bits: u32,
}

/// A node on a ring.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct RingNode {
    /// Its id.
    pub id: String,
    /// How much it takes, in shares; from 1.
    pub weight: u32,
    /// Its failure domain, if there are any.
    pub rack: Option<String>,
}

impl RingNode {
    /// A node of weight 1, in no rack.
    #[must_use]
    pub fn new(id: &str) -> RingNode {
        RingNode { id: id.to_owned(), weight: 1, rack: None }
    }
}

/// What replicas of one partition have to do with racks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RackPolicy {
    /// Nothing.
    #[default]
    Ignore,
    /// No two in one rack, as long as there is a rack without one. A node without a rack is one by itself.
    Spread,
}

/// A part of the ring whose owner is another one now: all keys whose [places](hash::place) are in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Moved {
    /// From this place on.
    pub first: u64,
    /// To this one, which is part of it. If it is before the first one, the part goes over the top.
    pub last: u64,
    /// Who owned it, if there was anybody.
    pub from: Option<String>,
    /// Who owns it, if there is anybody.
    pub to: Option<String>,
}

/// Why a ring cannot do what is asked. Nothing was changed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// Remove it first, or choose another id.
    #[error("node {0:?} is on the ring already")]
    Known(String),
    /// Add it first.
    #[error("node {0:?} is not on the ring")]
    Unknown(String),
    /// A node of weight 0 owns nothing: leave it out.
    #[error("node {0:?} has a weight of 0; use 1 or more, or leave it out")]
    Weightless(String),
    /// Lower its weight, or the points of each share.
    #[error("node {id:?} would have {points} points; at most {POINTS_MAX} are allowed")]
    TooManyPoints {
        /// Which node.
        id: String,
        /// Its weight times the points of each share.
        points: u64,
    },
    /// Lower the number of points, or of nodes: the ring holds at most 2^32 - 1.
    #[error("the ring would have more than {} points", u32::MAX)]
    Full,
    /// Add a node.
    #[error("there is no node on the ring")]
    Empty,
}

impl HashRing {
    /// A ring without nodes, on which each node will have so many points for each share of its weight, from 1. More
    /// points share the keys out more evenly: the standard deviation of a share is one over their root.
    #[must_use]
    pub fn new(points: u32) -> HashRing {
        let mut ring = HashRing {
            points: points.max(1),
            numbers: BTreeMap::new(),
            nodes: Vec::new(),
            ids: Vec::new(),
            ring: Vec::new(),
            brief: Vec::new(),
            index: Vec::new(),
            bits: 0,
        };
        ring.build_index();
        ring
    }

    /// Adds a node of weight 1, in no rack.
    ///
    /// # Errors
    ///
    /// [`RingError`]; the ring is as it was.
    pub fn add_node(&mut self, id: &str) -> Result<(), RingError> {
        self.add_nodes([RingNode::new(id)])
    }

    /// Adds nodes, all or none.
    ///
    /// # Errors
    ///
    /// [`RingError`]; the ring is as it was.
    pub fn add_nodes(&mut self, nodes: impl IntoIterator<Item = RingNode>) -> Result<(), RingError> {
        let nodes: Vec<RingNode> = nodes.into_iter().collect();
        let mut more = 0;
        let mut new = BTreeSet::new();
        for node in &nodes {
            if self.numbers.contains_key(&node.id) || !new.insert(&node.id) {
                return Err(RingError::Known(node.id.clone()));
            }
            more += self.points_of(node)?;
        }
        if wide(self.ring.len()) + more > u64::from(u32::MAX) {
            return Err(RingError::Full);
        }
        let mut new_points: Vec<(u64, u32)> = Vec::new();
        for node in nodes {
            let number = self.place_for(node.id.clone());
            let hashed = hash::node(&node.id);
            let points = u32::try_from(self.points_of(&node)?).expect("it is within the bound");
            new_points.extend((0..points).map(|point| (hash::point(hashed, point), number)));
            self.nodes[size(number)] = Some(node);
        }
        self.merge(new_points);
        Ok(())
    }

    /// Takes a node away; what it owned goes to the next ones on the ring.
    ///
    /// # Errors
    ///
    /// [`RingError::Unknown`]; the ring is as it was.
    pub fn remove_node(&mut self, id: &str) -> Result<(), RingError> {
        let number = self.numbers.remove(id).ok_or_else(|| RingError::Unknown(id.to_owned()))?;
        self.nodes[size(number)] = None;
        self.ring.retain(|(_, owner)| *owner != number);
        self.build_index();
        Ok(())
    }

    /// The nodes, by ascending id.
    pub fn nodes(&self) -> impl Iterator<Item = &RingNode> {
        self.numbers.values().filter_map(|number| self.nodes[size(*number)].as_ref())
    }

    /// How many nodes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Who owns a partition of a topic.
    ///
    /// # Errors
    ///
    /// [`RingError::Empty`].
    pub fn get_partition_owner(&self, topic: &str, partition: u32) -> Result<&str, RingError> {
        self.owner(hash::key(topic, partition)).ok_or(RingError::Empty)
    }

    /// Who owns a [key](hash::key).
    #[must_use]
    pub fn owner(&self, key: u64) -> Option<&str> {
        let (_, number) = self.brief.get(self.next(hash::place(key)))?;
        self.id_of(*number)
    }

    /// Who holds a [key](hash::key) in so many copies: its owner, and the next nodes on the ring. Fewer if there are not
    /// so many nodes.
    #[must_use]
    pub fn replicas(&self, key: u64, count: usize, policy: RackPolicy) -> Vec<&str> {
        let count = count.min(self.len());
        let mut chosen: Vec<u32> = Vec::with_capacity(count);
        let mut passed: Vec<u32> = Vec::new();
        let start = self.next(hash::place(key));
        for step in 0..self.ring.len() {
            if chosen.len() == count {
                break;
            }
            let (_, number) = self.ring[(start + step) % self.ring.len()];
            if chosen.contains(&number) || passed.contains(&number) {
                continue;
            }
            if policy == RackPolicy::Spread && self.shares_rack(number, &chosen) {
                passed.push(number);
                if chosen.len() + passed.len() == self.len() {
                    break;
                }
            } else {
                chosen.push(number);
            }
        }
        let missing = count - chosen.len();
        chosen.extend(passed.into_iter().take(missing));
        chosen.into_iter().filter_map(|number| self.id_of(number)).collect()
    }

    /// What belongs to others than on `old`.
    #[must_use]
    pub fn diff(&self, old: &HashRing) -> Vec<Moved> {
        // Between two points of either ring all keys have one owner on each.
        let points = self.ring.iter().chain(&old.ring).map(|(at, _)| *at);
        let ends: BTreeSet<u64> = points.collect();
        let Some(last) = ends.last() else { return Vec::new() };
        let mut moved: Vec<Moved> = Vec::new();
        let mut before = *last;
        for end in &ends {
            let (from, to) = (old.owner_at(*end), self.owner_at(*end));
            let first = before.wrapping_add(1);
            before = *end;
            if from == to {
                continue;
            }
            match moved.last_mut() {
                Some(part)
                    if part.last.wrapping_add(1) == first
                        && (part.from.as_deref(), part.to.as_deref()) == (from, to) =>
                {
                    part.last = *end;
                }
                Some(_) | None => moved.push(Moved {
                    first,
                    last: *end,
                    from: from.map(str::to_owned),
                    to: to.map(str::to_owned),
                }),
            }
        }
        moved
    }

    /// Shares partitions out so that no node has more than `(1 + permille / 1000)` times its share, rounded up: each
    /// goes to the first node on its way round the ring that has room (Mirrokni, Thorup, Zadimoghaddam 2018). The
    /// keys are taken in the order of their hashes, so neither their order nor their history matters. The answer has the
    /// order of `keys`.
    ///
    /// # Errors
    ///
    /// [`RingError::Empty`] if there are keys, but no node.
    pub fn assign_bounded(&self, keys: &[u64], permille: u64) -> Result<Vec<&str>, RingError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        if self.is_empty() {
            return Err(RingError::Empty);
        }
        let mut room = self.room(wide(keys.len()), permille);
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_by_key(|number| (hash::place(keys[*number]), keys[*number], *number));
        let mut owners: Vec<u32> = vec![0; keys.len()];
        for number in order {
            let start = self.next(hash::place(keys[number]));
            let way = (0..self.ring.len()).map(|step| self.ring[(start + step) % self.ring.len()].1);
            let owner = way.into_iter().find(|owner| room[size(*owner)] > 0).expect("there is room for all");
            room[size(owner)] -= 1;
            owners[number] = owner;
        }
        Ok(owners.into_iter().filter_map(|owner| self.id_of(owner)).collect())
    }

    /// How many of so many keys each node may have, by its number.
    fn room(&self, keys: u64, permille: u64) -> Vec<u64> {
        let total: u128 = self.nodes().map(|node| u128::from(node.weight)).sum();
        let bound = |weight: u32| {
            let share = u128::from(keys) * u128::from(weight) * (1000 + u128::from(permille));
            u64::try_from(share.div_ceil(total.max(1) * 1000)).unwrap_or(u64::MAX)
        };
        self.nodes.iter().map(|node| node.as_ref().map_or(0, |node| bound(node.weight))).collect()
    }

    fn owner_at(&self, place: u64) -> Option<&str> {
        let (_, number) = self.ring.get(self.next(place))?;
        self.id_of(*number)
    }

    fn id_of(&self, number: u32) -> Option<&str> {
        self.ids.get(size(number)).map(|id| &**id)
    }

    fn shares_rack(&self, number: u32, chosen: &[u32]) -> bool {
        let rack = |number: u32| self.nodes[size(number)].as_ref().and_then(|node| node.rack.as_deref());
        rack(number).is_some_and(|own| chosen.iter().any(|other| rack(*other) == Some(own)))
    }

    /// The first point at or after a place, round the ring.
    fn next(&self, place: u64) -> usize {
        let cell = if self.bits == 0 { 0 } else { size_of(place >> (u64::BITS - self.bits)) };
        let mut at = size(self.index[cell]);
        let upper = upper_half(place);
        while self.brief.get(at).is_some_and(|(point, _)| *point < upper) {
            at += 1;
        }
        // Seldom two places have the same upper half.
        while self.brief.get(at).is_some_and(|(point, _)| *point == upper) && self.ring[at].0 < place {
            at += 1;
        }
        if at == self.ring.len() { 0 } else { at }
    }

    fn points_of(&self, node: &RingNode) -> Result<u64, RingError> {
        let points = u64::from(self.points) * u64::from(node.weight);
        match points {
            0 => Err(RingError::Weightless(node.id.clone())),
            1..=POINTS_MAX => Ok(points),
            _ => Err(RingError::TooManyPoints { id: node.id.clone(), points }),
        }
    }

    /// A number for a new node.
    fn place_for(&mut self, id: String) -> u32 {
        let free = self.nodes.iter().position(Option::is_none);
        let number = free.unwrap_or_else(|| {
            self.nodes.push(None);
            self.nodes.len() - 1
        });
        // Nobody else may take it meanwhile.
        self.nodes[number] = Some(RingNode::new(&id));
        let number = u32::try_from(number).expect("there are fewer nodes than points");
        self.numbers.insert(id, number);
        number
    }

    /// Puts new points where they belong. Who comes alone brings few, and what lies between them is copied in one piece.
    fn merge(&mut self, mut new: Vec<(u64, u32)>) {
        let nodes = &self.nodes;
        let id = |number: u32| nodes[size(number)].as_ref().map(|node| node.id.as_str());
        let order = |a: &(u64, u32), b: &(u64, u32)| a.0.cmp(&b.0).then_with(|| id(a.1).cmp(&id(b.1)));
        new.sort_unstable_by(order);
        let mut merged = Vec::with_capacity(self.ring.len() + new.len());
        let mut rest = &self.ring[..];
        for point in new {
            let (before, after) = rest.split_at(rest.partition_point(|old| order(old, &point).is_lt()));
            merged.extend_from_slice(before);
            merged.push(point);
            rest = after;
        }
        merged.extend_from_slice(rest);
        self.ring = merged;
        self.build_index();
    }

    fn build_index(&mut self) {
        let id = |node: &Option<RingNode>| node.as_ref().map_or("", |node| &node.id).into();
        self.ids = self.nodes.iter().map(id).collect();
        self.bits = self.ring.len().checked_ilog2().unwrap_or(0).saturating_sub(2);
        self.brief.clear();
        self.brief.extend(self.ring.iter().map(|(place, number)| (upper_half(*place), *number)));
        self.index.clear();
        let mut at = 0;
        for cell in 0..1_u64 << self.bits {
            let begins = if self.bits == 0 { 0 } else { cell << (u64::BITS - self.bits) };
            while self.ring.get(at).is_some_and(|(point, _)| *point < begins) {
                at += 1;
            }
            self.index.push(u32::try_from(at).expect("the ring is bounded"));
        }
    }
}

fn upper_half(place: u64) -> u32 {
    u32::try_from(place >> u32::BITS).expect("half of it")
}

fn size_of(number: u64) -> usize {
    usize::try_from(number).expect("a cell of the index")
}

fn wide(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
