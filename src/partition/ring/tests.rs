//! What a ring promises: minimal moves, whatever the order; and every small case.

use super::*;

fn ring(ids: &[&str]) -> HashRing {
    let mut ring = HashRing::new(128);
    ring.add_nodes(ids.iter().map(|id| RingNode::new(id))).unwrap();
    ring
}

fn keys(count: u32) -> Vec<u64> {
    (0..count).map(|partition| hash::key("topic", partition)).collect()
}

fn racked(id: &str, rack: &str) -> RingNode {
    RingNode { rack: Some(rack.to_owned()), ..RingNode::new(id) }
}

#[test]
fn nobody_one_and_all_the_same() {
    let empty = HashRing::new(128);
    assert_eq!(empty.get_partition_owner("t", 0), Err(RingError::Empty));
    assert_eq!(empty.replicas(7, 3, RackPolicy::Spread), Vec::<&str>::new());
    assert_eq!(empty.assign_bounded(&[], 0), Ok(Vec::new()));
    assert_eq!(empty.assign_bounded(&[1], 0), Err(RingError::Empty));
    let one = ring(&["a"]);
    assert_eq!(one.get_partition_owner("t", 0), Ok("a"));
    assert_eq!(one.replicas(7, 3, RackPolicy::Spread), ["a"]);
    // Without points there would be no ring: one is the least.
    let mut smallest = HashRing::new(0);
    smallest.add_node("a").unwrap();
    assert_eq!(smallest.owner(1), Some("a"));
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let mut ring = ring(&["a", "b"]);
    let before = ring.clone();
    let weightless = RingNode { weight: 0, ..RingNode::new("c") };
    let heavy = RingNode { weight: u32::MAX, ..RingNode::new("c") };
    assert_eq!(ring.add_node("a"), Err(RingError::Known("a".to_owned())));
    assert_eq!(ring.add_nodes(["c", "c"].map(RingNode::new)), Err(RingError::Known("c".to_owned())));
    assert_eq!(ring.add_nodes([RingNode::new("d"), weightless]), Err(RingError::Weightless("c".to_owned())));
    assert!(matches!(ring.add_nodes([heavy]), Err(RingError::TooManyPoints { .. })));
    assert_eq!(ring.remove_node("c"), Err(RingError::Unknown("c".to_owned())));
    assert_eq!(ring, before);
}

#[test]
fn the_order_in_which_nodes_came_does_not_matter() {
    let (forth, mut back) = (ring(&["a", "b", "c", "d"]), HashRing::new(128));
    for id in ["d", "b", "x", "a", "c"] {
        back.add_node(id).unwrap();
    }
    back.remove_node("x").unwrap();
    for key in keys(2000) {
        assert_eq!(forth.owner(key), back.owner(key));
        let replicas = |ring: &HashRing| -> Vec<String> {
            ring.replicas(key, 3, RackPolicy::Ignore).into_iter().map(str::to_owned).collect()
        };
        assert_eq!(replicas(&forth), replicas(&back));
    }
}

#[test]
fn who_comes_takes_keys_and_who_goes_gives_them_back_to_the_same() {
    let before = ring(&["a", "b", "c"]);
    let mut after = before.clone();
    after.add_node("d").unwrap();
    let mut moved = 0;
    for key in keys(10_000) {
        if after.owner(key) == Some("d") {
            moved += 1;
        } else {
            assert_eq!(after.owner(key), before.owner(key), "only the newcomer takes");
        }
    }
    assert!((2000..3000).contains(&moved), "about a quarter: {moved}");
    after.remove_node("d").unwrap();
    assert!(keys(10_000).into_iter().all(|key| after.owner(key) == before.owner(key)));
    assert_eq!(after.diff(&before), []);
}

#[test]
fn the_difference_of_two_rings_is_what_moved_and_nothing_else() {
    let before = ring(&["a", "b", "c"]);
    let mut after = before.clone();
    after.remove_node("b").unwrap();
    after.add_node("e").unwrap();
    let moved = after.diff(&before);
    let lies_in =
        |part: &Moved, place: u64| place.wrapping_sub(part.first) <= part.last.wrapping_sub(part.first);
    for key in keys(10_000) {
        let found: Vec<&Moved> = moved.iter().filter(|part| lies_in(part, hash::place(key))).collect();
        if before.owner(key) == after.owner(key) {
            assert!(found.is_empty());
        } else {
            assert_eq!(found.len(), 1);
            assert_eq!(
                (found[0].from.as_deref(), found[0].to.as_deref()),
                (before.owner(key), after.owner(key))
            );
        }
    }
    let none = HashRing::new(128);
    assert!(before.diff(&none).iter().all(|part| part.from.is_none() && part.to.is_some()));
    assert!(none.diff(&before).iter().all(|part| part.to.is_none()));
    assert_eq!(none.diff(&none), []);
}

#[test]
fn replicas_are_distinct_nodes_and_distinct_racks_as_long_as_there_are_any() {
    let mut ring = HashRing::new(16);
    ring.add_nodes([
        racked("a", "1"),
        racked("b", "1"),
        racked("c", "2"),
        racked("d", "2"),
        racked("e", "2"),
    ])
    .unwrap();
    let rack = |id: &str| if ["a", "b"].contains(&id) { 1 } else { 2 };
    for key in keys(500) {
        let two = ring.replicas(key, 2, RackPolicy::Spread);
        assert_ne!(rack(two[0]), rack(two[1]));
        assert_eq!(two[0], ring.owner(key).unwrap());
        // More copies than racks: each rack has one, the rest follows the ring.
        let all: BTreeSet<&str> = ring.replicas(key, 5, RackPolicy::Spread).into_iter().collect();
        assert_eq!(all.len(), 5);
        let three: BTreeSet<&str> = ring.replicas(key, 3, RackPolicy::Ignore).into_iter().collect();
        assert_eq!(three.len(), 3);
    }
}

#[test]
fn weights_are_shares() {
    let mut ring = HashRing::new(1000);
    ring.add_nodes([RingNode::new("a"), RingNode { weight: 3, ..RingNode::new("b") }]).unwrap();
    let count = keys(20_000).into_iter().filter(|key| ring.owner(*key) == Some("b")).count();
    assert!((14_000..16_000).contains(&count), "{count} of 20000");
}

#[test]
fn nobody_is_above_the_bound_and_order_does_not_matter() {
    let ring = ring(&["a", "b", "c", "d", "e", "f", "g"]);
    let keys = keys(1001);
    let owners = ring.assign_bounded(&keys, 50).unwrap();
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    owners.iter().for_each(|owner| *counts.entry(owner).or_default() += 1);
    // 1001 / 7 = 143, and a twentieth.
    assert!(counts.values().all(|count| *count <= 151), "{counts:?}");
    let stay = keys.iter().zip(&owners).filter(|(key, owner)| ring.owner(**key) == Some(**owner)).count();
    assert!(stay > 800, "most stay where the ring says: {stay}");

    let backwards: Vec<u64> = keys.iter().rev().copied().collect();
    let mut again = ring.assign_bounded(&backwards, 50).unwrap();
    again.reverse();
    assert_eq!(again, owners);

    // Without slack it is the exact share, rounded up.
    let exact = ring.assign_bounded(&keys, 0).unwrap();
    for id in ["a", "b", "c", "d", "e", "f", "g"] {
        assert_eq!(exact.iter().filter(|owner| **owner == id).count(), 143);
    }
}

#[test]
fn places_between_before_and_after_all_points_have_an_owner() {
    let mut ring = HashRing::new(1);
    ring.add_nodes(["a", "b", "c"].map(RingNode::new)).unwrap();
    let mut points = ring.ring.clone();
    points.sort_unstable();
    for (at, owner) in &points {
        assert_eq!(ring.owner_at(*at), ring.id_of(*owner), "a point owns its own place");
    }
    let first = ring.id_of(points[0].1);
    assert_eq!(ring.owner_at(points[2].0.wrapping_add(1)), first, "round the top");
    assert_eq!(ring.owner_at(0), first);
    assert_eq!(ring.owner_at(u64::MAX), first);
}

#[test]
fn a_place_belongs_to_the_first_point_at_or_after_it_to_the_last_bit() {
    let ring = ring(&["a", "b", "c", "d"]);
    for (at, (point, _)) in ring.ring.iter().enumerate() {
        let after = if at + 1 == ring.ring.len() { 0 } else { at + 1 };
        assert_eq!(ring.next(*point), at);
        assert_eq!(ring.next(point.wrapping_sub(1)), at);
        assert_eq!(ring.next(point.wrapping_add(1)), after);
    }
}
