//! Plans where not everything can be fulfilled. Found by the fuzz target `planner`, and by readers.

use super::*;

fn in_rack(name: &str, node: &mut PlanNode) {
    node.rack = Some(name.to_owned());
}

#[test]
fn what_has_no_place_is_not_in_the_bound_of_moves() {
    // Nobody has room for more than four of twenty replicas.
    let full = nodes(2, |_, node| node.capacity = Some(2));
    let planned = settle(&full, &mut fresh(1, 10, 2));
    assert_eq!((planned.certificate.moves, planned.certificate.moves_bound), (4, 4));
    assert_eq!(planned.certificate.unsatisfied.len(), 8);
}

#[test]
fn what_is_put_back_where_it_was_is_no_move_and_keeps_its_place() {
    // Node 3 only keeps what it has, so that both replicas have to be in one rack, which the rule forbids.
    let two = nodes(3, |number, node| match number {
        3 => node.standing = Standing::Keeps,
        _ => in_rack("a", node),
    });
    for order in [[1, 2], [2, 1]] {
        let mut placements = fresh(1, 1, 2);
        placements[0].replicas = order.map(id).to_vec();
        let planned = settle(&two, &mut placements);
        assert_eq!((planned.certificate.moves, planned.certificate.moves_bound), (0, 0));
        assert!(matches!(planned.certificate.unsatisfied[..], [Unsatisfied::Rack { .. }]));
    }
}

#[test]
fn a_node_that_is_full_is_given_nothing_even_to_keep_a_rule() {
    // Two in rack a break the rule, and node 4 has no room to mend that.
    let full = nodes(4, |number, node| match number {
        1 | 2 => in_rack("a", node),
        3 => node.standing = Standing::Keeps,
        _ => node.capacity = Some(0),
    });
    let mut placements = fresh(1, 2, 3);
    settle(&full, &mut placements);
    assert_eq!(replicas(&placements), [(1, 2), (2, 2)]);
}

#[test]
fn others_move_on_to_make_room_even_where_a_rule_is_broken() {
    let tight = nodes(5, |number, node| match number {
        1 | 2 => in_rack("a", node),
        3 => {
            in_rack("a", node);
            node.capacity = Some(2);
        }
        4 => node.capacity = Some(3),
        _ => node.standing = Standing::Keeps,
    });
    settle(&tight, &mut fresh(1, 4, 3));
}

#[test]
fn a_scarce_place_goes_where_it_breaks_no_rule() {
    // Node 1 is full. Node 2 has one place left: for partition 0 it would be a second one in rack a, for 1 it is not.
    let scarce = nodes(6, |number, node| {
        let racks = ["a", "a", "b", "c", "d", "e"];
        in_rack(racks[usize::try_from(number - 1).unwrap()], node);
        match number {
            1 => (node.weight, node.capacity) = (1000, Some(1)),
            2 => node.capacity = Some(2),
            6 => node.standing = Standing::Keeps,
            _ => node.weight = 1000,
        }
    });
    let today: [(u16, &[u64]); 5] =
        [(5, &[1, 3, 4, 5]), (4, &[3, 4, 5]), (4, &[2, 3, 4, 5]), (2, &[4, 5]), (2, &[4, 5])];
    let mut placements = fresh(1, 5, 1);
    for (placement, (factor, replicas)) in placements.iter_mut().zip(today) {
        placement.factor = factor;
        placement.replicas = replicas.iter().copied().map(id).collect();
    }
    let planned = settle(&scarce, &mut placements);
    assert!(placements[1].replicas.contains(&id(2)), "{placements:?}");
    let breaks = |it: &Unsatisfied| matches!(it, Unsatisfied::Rack { .. });
    assert!(!planned.certificate.unsatisfied.iter().any(breaks), "{planned:?}");
}

#[test]
fn what_is_too_much_goes_from_a_rack_with_too_many_before_it_goes_from_who_is_away() {
    let three = nodes(3, |number, node| {
        in_rack(if number == 3 { "b" } else { "a" }, node);
        node.standing = if number == 3 { Standing::Keeps } else { Standing::Takes };
    });
    let mut placements = fresh(1, 1, 2);
    placements[0].replicas = [1, 2, 3].map(id).to_vec();
    let planned = settle(&three, &mut placements);
    assert!(placements[0].replicas.contains(&id(3)));
    assert_eq!((planned.certificate.moves, planned.certificate.unsatisfied), (0, Vec::new()));
}
