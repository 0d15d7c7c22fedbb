//! The planner against a reference that tries all plans, and what users expect of a plan.

use super::board::Board;
use super::*;
use crate::id::TopicId;
use crate::partition::hash;

mod reference;
mod unfulfilled;

fn id(number: u64) -> NodeId {
    NodeId::new(number).unwrap()
}

/// Nodes 1 to `count`; `describe` changes each.
fn nodes(count: u64, describe: impl Fn(u64, &mut PlanNode)) -> Vec<PlanNode> {
    let node = |number| {
        let mut node = PlanNode::new(id(number));
        describe(number, &mut node);
        node
    };
    (1..=count).map(node).collect()
}

fn in_racks(count: u64, racks: u64) -> Vec<PlanNode> {
    nodes(count, |number, node| node.rack = Some(format!("rack{}", number % racks)))
}

/// `count` partitions of topic `topic`, without replicas.
fn fresh(topic: u64, count: u32, factor: u16) -> Vec<Placement> {
    let name = format!("topic{topic}");
    let partition = |number| Placement {
        partition: PartitionId { topic: TopicId::new(topic), number },
        key: hash::key(&name, number),
        factor,
        replicas: Vec::new(),
    };
    (0..count).map(partition).collect()
}

/// Changes the placements as a plan says.
fn apply(placements: &mut [Placement], plan: &Plan) {
    for change in &plan.changes {
        let at = placements.iter().position(|placement| placement.partition == change.partition).unwrap();
        assert_eq!(placements[at].replicas, change.from);
        placements[at].replicas.clone_from(&change.to);
    }
}

/// Plans, changes the placements, and finds that there is nothing more to plan.
fn settle(nodes: &[PlanNode], placements: &mut [Placement]) -> Plan {
    let planned = plan(nodes, placements).unwrap();
    apply(placements, &planned);
    let again = plan(nodes, placements).unwrap();
    assert_eq!(again.changes, [], "a plan for what is planned changes nothing");
    planned
}

fn counts(placements: &[Placement], of: impl Fn(&Placement) -> Vec<NodeId>) -> Vec<(u64, usize)> {
    let mut counts = std::collections::BTreeMap::new();
    placements.iter().flat_map(of).for_each(|node| *counts.entry(node.value()).or_insert(0) += 1);
    counts.into_iter().collect()
}

fn replicas(placements: &[Placement]) -> Vec<(u64, usize)> {
    counts(placements, |placement| placement.replicas.clone())
}

fn leaders(placements: &[Placement]) -> Vec<(u64, usize)> {
    counts(placements, |placement| placement.replicas[..1].to_vec())
}

#[test]
fn partitions_are_shared_out_evenly_over_nodes_racks_and_leaders() {
    let nodes = in_racks(10, 5);
    let mut placements = fresh(1, 100, 3);
    let planned = settle(&nodes, &mut placements);
    assert_eq!(replicas(&placements), (1..=10).map(|node| (node, 30)).collect::<Vec<_>>());
    assert_eq!(leaders(&placements), (1..=10).map(|node| (node, 10)).collect::<Vec<_>>());
    for placement in &placements {
        let racks: std::collections::BTreeSet<u64> =
            placement.replicas.iter().map(|node| node.value() % 5).collect();
        assert_eq!(racks.len(), 3, "{placement:?}");
    }
    let certificate = planned.certificate;
    assert_eq!((certificate.moves, certificate.moves_bound), (300, 300));
    assert_eq!(certificate.proof, Proof::Minimal);
    assert_eq!((certificate.replicas_after, certificate.leaders_after), (1_000_000, 1_000_000));
    assert_eq!(certificate.unsatisfied, []);
}

#[test]
fn weights_are_kept_to() {
    let nodes = nodes(4, |number, node| node.weight = if number == 4 { 3 } else { 1 });
    let mut placements = fresh(1, 60, 2);
    settle(&nodes, &mut placements);
    assert_eq!(replicas(&placements), [(1, 20), (2, 20), (3, 20), (4, 60)]);
    assert_eq!(leaders(&placements), [(1, 10), (2, 10), (3, 10), (4, 30)]);
}

#[test]
fn what_a_node_or_a_rack_cannot_take_goes_to_the_others() {
    // Its share would be 99 of 102 times 180, and there is one replica of 60 partitions for it.
    let heavy = nodes(4, |number, node| node.weight = if number == 4 { 99 } else { 1 });
    let mut placements = fresh(1, 60, 3);
    settle(&heavy, &mut placements);
    assert_eq!(replicas(&placements), [(1, 40), (2, 40), (3, 40), (4, 60)]);
    // Node 4 is alone in its rack, and the others share two.
    let lonely = nodes(7, |number, node| node.rack = Some(format!("{}", number.min(4) / 2 % 3)));
    let mut placements = fresh(1, 90, 3);
    let planned = settle(&lonely, &mut placements);
    assert_eq!(planned.certificate.unsatisfied, []);
    let limited = nodes(3, |number, node| node.capacity = (number == 1).then_some(5));
    let mut placements = fresh(1, 30, 1);
    settle(&limited, &mut placements);
    assert_eq!(replicas(&placements), [(1, 5), (2, 13), (3, 12)]);
}

#[test]
fn too_few_racks_are_shared_out_and_too_few_nodes_are_named() {
    let mut placements = fresh(1, 10, 3);
    let planned = settle(&in_racks(4, 2), &mut placements);
    assert_eq!(planned.certificate.unsatisfied, []);
    assert!(placements.iter().all(|placement| {
        let even = placement.replicas.iter().filter(|node| node.value() % 2 == 0).count();
        even == 1 || even == 2
    }));
    let mut placements = fresh(1, 2, 5);
    let planned = settle(&in_racks(4, 2), &mut placements);
    let lacks = |number: usize| Unsatisfied::Replicas { partition: placements[number].partition, missing: 1 };
    assert_eq!(planned.certificate.unsatisfied, [lacks(0), lacks(1)]);
    let none = plan(&[], &fresh(1, 1, 2)).unwrap();
    assert_eq!((none.changes.len(), none.certificate.unsatisfied.len()), (0, 1));
    assert_eq!(plan(&in_racks(4, 2), &[]).unwrap().changes, []);
}

#[test]
fn a_newcomer_gets_its_share_and_nobody_else_moves_anything() {
    let mut placements = fresh(1, 1000, 3);
    settle(&in_racks(20, 5), &mut placements);
    let planned = settle(&in_racks(21, 5), &mut placements);
    // 3000 over 21 nodes: 142 or 143 each.
    assert_eq!(planned.certificate.moves, planned.certificate.moves_bound);
    assert!((142..=143).contains(&planned.certificate.moves), "{:?}", planned.certificate);
    for change in &planned.changes {
        let new = change.to.iter().filter(|node| !change.from.contains(node));
        assert!(new.count() <= 1);
    }
}

#[test]
fn what_is_undone_before_it_is_done_moves_nothing() {
    let mut placements = fresh(1, 200, 3);
    settle(&in_racks(10, 5), &mut placements);
    let leaves = nodes(10, |number, node| {
        node.rack = Some(format!("rack{}", number % 5));
        node.standing = if number == 4 { Standing::Leaves } else { Standing::Takes };
    });
    let planned = plan(&leaves, &placements).unwrap();
    assert_eq!(planned.certificate.moves, 60);
    assert_eq!(plan(&in_racks(10, 5), &placements).unwrap().changes, []);
}

#[test]
fn a_node_that_is_away_keeps_what_it_has_and_gets_nothing() {
    let mut placements = fresh(1, 100, 2);
    settle(&nodes(5, |_, _| ()), &mut placements);
    let before = placements.clone();
    placements.extend(fresh(2, 40, 2));
    let away = nodes(5, |number, node| {
        node.standing = if number == 2 { Standing::Keeps } else { Standing::Takes };
    });
    settle(&away, &mut placements);
    let on_it = |placements: &[Placement]| {
        let with = placements.iter().filter(|placement| placement.replicas.contains(&id(2)));
        with.map(|placement| placement.partition).collect::<Vec<_>>()
    };
    assert_eq!(on_it(&placements), on_it(&before));
}

#[test]
fn what_is_kept_twice_in_a_rack_takes_nothing_from_other_partitions() {
    // Nodes 1 and 2 are away, in a rack with node 3; nodes 4 and 5 have racks of their own.
    let racks = ["a", "a", "a", "b", "c"];
    let nodes = nodes(5, |number, node| {
        node.rack = Some(racks[usize::try_from(number - 1).unwrap()].to_owned());
        node.standing = if number < 3 { Standing::Keeps } else { Standing::Takes };
    });
    let mut placements = fresh(1, 2, 3);
    placements[0].replicas = vec![id(1), id(2)];
    placements[1].factor = 1;
    placements[1].replicas = vec![id(3)];
    let certificate = settle(&nodes, &mut placements).certificate;
    assert_eq!((certificate.moves, certificate.moves_bound), (1, 1));
}

#[test]
fn a_topic_that_is_planned_alone_goes_over_all_nodes_and_where_there_is_least_first() {
    let burdened = nodes(11, |number, node| node.burden = if number == 11 { 0 } else { 300 });
    let mut topic = fresh(2, 110, 1);
    settle(&burdened, &mut topic);
    assert_eq!(replicas(&topic), (1..=11).map(|node| (node, 10)).collect::<Vec<_>>());
    let burdened = nodes(6, |number, node| node.burden = 10 * number % 4);
    let mut small = fresh(3, 1, 3);
    settle(&burdened, &mut small);
    assert_eq!(replicas(&small), [(2, 1), (4, 1), (6, 1)]);
}

#[test]
fn a_newcomer_gets_a_part_of_every_topic() {
    let mut placements: Vec<Placement> = (1..=10).flat_map(|topic| fresh(topic, 40, 3)).collect();
    settle(&nodes(10, |_, _| ()), &mut placements);
    settle(&nodes(12, |_, _| ()), &mut placements);
    for topic in 1..=10 {
        let of_topic = placements.iter().filter(|placement| placement.partition.topic == TopicId::new(topic));
        for (node, count) in replicas(&of_topic.cloned().collect::<Vec<_>>()) {
            assert!(count <= 20, "node {node} has {count} of topic {topic}, its share is 10");
        }
    }
}

#[test]
fn neither_order_nor_names_decide() {
    let nodes = in_racks(9, 4);
    let mut placements = fresh(1, 50, 3);
    placements.extend(fresh(2, 30, 2));
    settle(&nodes, &mut placements);
    let mut more = in_racks(12, 4);
    more[3].standing = Standing::Leaves;
    let planned = plan(&more, &placements).unwrap();
    let mut shuffled = placements.clone();
    shuffled.reverse();
    shuffled.swap(3, 40);
    more.reverse();
    more.swap(2, 7);
    assert_eq!(plan(&more, &shuffled).unwrap(), planned);
}

#[test]
fn fewer_replicas_are_dropped_where_it_is_fullest_and_more_are_added() {
    let mut placements = fresh(1, 60, 3);
    let all = nodes(6, |_, _| ());
    settle(&all, &mut placements);
    placements.iter_mut().for_each(|placement| placement.factor = 2);
    let planned = settle(&all, &mut placements);
    assert_eq!(planned.certificate.moves, 0);
    assert_eq!(replicas(&placements), (1..=6).map(|node| (node, 20)).collect::<Vec<_>>());
    placements.iter_mut().for_each(|placement| placement.factor = 4);
    let planned = settle(&all, &mut placements);
    assert_eq!(planned.certificate.moves, 120);
}

#[test]
fn a_survivor_leads_rather_than_who_has_nothing_yet() {
    let mut placements = fresh(1, 1, 3);
    placements[0].replicas = vec![id(9), id(1), id(2)];
    let planned = plan(&nodes(3, |_, _| ()), &placements).unwrap();
    assert_eq!(planned.changes[0].to[..2], [id(1), id(2)]);
}

#[test]
fn replicas_named_twice_or_unknown_count_as_missing() {
    let mut placements = fresh(1, 1, 2);
    placements[0].replicas = vec![id(1), id(1)];
    let planned = settle(&nodes(2, |_, _| ()), &mut placements);
    assert_eq!(planned.certificate.moves, 1);
    placements[0].replicas = vec![id(8), id(9)];
    assert_eq!(settle(&nodes(2, |_, _| ()), &mut placements).certificate.moves, 2);
}

#[test]
fn contradictions_are_refused() {
    let two = [PlanNode::new(id(1)), PlanNode::new(id(1))];
    assert_eq!(plan(&two, &[]), Err(PlanError::NodeTwice(id(1))));
    let weightless = nodes(1, |_, node| node.weight = 0);
    assert_eq!(plan(&weightless, &[]), Err(PlanError::Weightless(id(1))));
    let mut twice = fresh(1, 2, 1);
    twice[1].partition = twice[0].partition;
    assert_eq!(plan(&nodes(1, |_, _| ()), &twice), Err(PlanError::PartitionTwice(twice[0].partition)));
    let none = fresh(1, 1, 0);
    assert_eq!(plan(&nodes(1, |_, _| ()), &none), Err(PlanError::Factorless(none[0].partition)));
}
