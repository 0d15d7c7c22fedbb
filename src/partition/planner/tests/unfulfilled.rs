//! Plans where not everything can be fulfilled. All were found by the fuzz target `planner`.

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
