//! Rendezvous hashing: each node scores a key, and the highest score wins (Thaler and Ravishankar 1998).
//!
//! Every node is asked, so it suits up to a few hundred. In return keys are shared out as evenly as chance allows,
//! weights are exact, and the second highest score is the natural first replica.
//!
//! With weights, a node of weight w has to win as often as w nodes together. The smallest of w numbers, each drawn as
//! `-log(u)`, is distributed as one of them over w: so `-log(u) / w` is compared, in integers, by multiplying
//! crosswise.

use core::cmp::Ordering;
use std::collections::BTreeMap;

use super::hash;
use super::logarithm::negative_log2;
use super::ring::{RackPolicy, RingError, RingNode};

/// Nodes that score keys.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Rendezvous {
    /// By id; with the hash of each.
    nodes: BTreeMap<String, (RingNode, u64)>,
}

/// How much a node wants a key.
#[derive(Clone, Copy)]
struct Bid<'a> {
    node: &'a RingNode,
    score: u64,
    cost: u64,
}

impl Bid<'_> {
    /// The better bid is the greater one. Of two that are equal that of the smaller id is better.
    fn order(&self, other: &Bid<'_>) -> Ordering {
        let mine = u128::from(self.cost) * u128::from(other.node.weight);
        let theirs = u128::from(other.cost) * u128::from(self.node.weight);
        let by_cost = theirs.cmp(&mine);
        by_cost.then(self.score.cmp(&other.score)).then_with(|| other.node.id.cmp(&self.node.id))
    }
}

impl Rendezvous {
    /// No nodes.
    #[must_use]
    pub fn new() -> Rendezvous {
        Rendezvous::default()
    }

    /// Adds a node of weight 1, in no rack.
    ///
    /// # Errors
    ///
    /// [`RingError::Known`]; nothing was changed.
    pub fn add_node(&mut self, id: &str) -> Result<(), RingError> {
        self.add(RingNode::new(id))
    }

    /// Adds a node.
    ///
    /// # Errors
    ///
    /// [`RingError::Known`], [`RingError::Weightless`]; nothing was changed.
    pub fn add(&mut self, node: RingNode) -> Result<(), RingError> {
        if self.nodes.contains_key(&node.id) {
            return Err(RingError::Known(node.id));
        }
        if node.weight == 0 {
            return Err(RingError::Weightless(node.id));
        }
        let hashed = hash::node(&node.id);
        self.nodes.insert(node.id.clone(), (node, hashed));
        Ok(())
    }

    /// Takes a node away; each of its keys goes to whoever scored it second.
    ///
    /// # Errors
    ///
    /// [`RingError::Unknown`]; nothing was changed.
    pub fn remove_node(&mut self, id: &str) -> Result<(), RingError> {
        self.nodes.remove(id).map(drop).ok_or_else(|| RingError::Unknown(id.to_owned()))
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
        self.bids(key).max_by(Bid::order).map(|bid| bid.node.id.as_str())
    }

    /// Who holds a [key](hash::key) in so many copies, the best first. Fewer if there are not so many nodes.
    #[must_use]
    pub fn replicas(&self, key: u64, count: usize, policy: RackPolicy) -> Vec<&str> {
        let mut bids: Vec<Bid<'_>> = self.bids(key).collect();
        bids.sort_unstable_by(|a, b| b.order(a));
        let (mut chosen, mut passed): (Vec<Bid<'_>>, Vec<Bid<'_>>) = (Vec::new(), Vec::new());
        for bid in bids {
            let is_taken = |other: &Bid<'_>| other.node.rack.is_some() && other.node.rack == bid.node.rack;
            if policy == RackPolicy::Spread && chosen.iter().any(is_taken) {
                passed.push(bid);
            } else {
                chosen.push(bid);
            }
        }
        chosen.into_iter().chain(passed).take(count).map(|bid| bid.node.id.as_str()).collect()
    }

    fn bids(&self, key: u64) -> impl Iterator<Item = Bid<'_>> {
        self.nodes.values().map(move |(node, hashed)| {
            let score = hash::score(key, *hashed);
            Bid { node, score, cost: negative_log2(score) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(nodes: &[(&str, u32, Option<&str>)]) -> Rendezvous {
        let mut all = Rendezvous::new();
        for (id, weight, rack) in nodes {
            let rack = rack.map(str::to_owned);
            all.add(RingNode { id: (*id).to_owned(), weight: *weight, rack }).unwrap();
        }
        all
    }

    #[test]
    fn with_equal_weights_the_highest_score_wins() {
        let all = of(&[("a", 3, None), ("b", 3, None), ("c", 3, None)]);
        for partition in 0..1000 {
            let key = hash::key("t", partition);
            let best = ["a", "b", "c"].into_iter().max_by_key(|id| hash::score(key, hash::node(id)));
            assert_eq!(all.owner(key), best);
        }
    }

    #[test]
    fn each_node_has_its_share() {
        let all = of(&[("a", 1, None), ("b", 2, None), ("c", 3, None)]);
        let mut counts = BTreeMap::new();
        for partition in 0..60_000 {
            *counts.entry(all.get_partition_owner("t", partition).unwrap()).or_insert(0_u32) += 1;
        }
        for (id, expected) in [("a", 10_000), ("b", 20_000), ("c", 30_000)] {
            // Three standard deviations.
            assert!(counts[id].abs_diff(expected) < 370, "{counts:?}");
        }
    }

    #[test]
    fn who_comes_and_goes_moves_its_own_keys_only() {
        let before = of(&[("a", 1, None), ("b", 2, None), ("c", 1, None)]);
        let mut after = before.clone();
        after.add_node("d").unwrap();
        for partition in 0..2000 {
            let key = hash::key("t", partition);
            assert!(after.owner(key) == Some("d") || after.owner(key) == before.owner(key));
        }
        after.remove_node("d").unwrap();
        assert_eq!(after, before);
        assert_eq!(after.add_node("a"), Err(RingError::Known("a".to_owned())));
        assert_eq!(after.remove_node("x"), Err(RingError::Unknown("x".to_owned())));
        assert_eq!(Rendezvous::new().get_partition_owner("t", 0), Err(RingError::Empty));
    }

    #[test]
    fn replicas_are_in_different_racks_as_long_as_there_are_any() {
        let all = of(&[("a", 1, Some("r1")), ("b", 1, Some("r1")), ("c", 1, Some("r2")), ("d", 1, None)]);
        for partition in 0..200 {
            let key = hash::key("t", partition);
            let three = all.replicas(key, 3, RackPolicy::Spread);
            assert!(!(three.contains(&"a") && three.contains(&"b")), "{three:?}");
            assert_eq!(all.replicas(key, 9, RackPolicy::Spread).len(), 4);
            assert_eq!(all.replicas(key, 1, RackPolicy::Ignore), [all.owner(key).unwrap()]);
        }
    }
}
