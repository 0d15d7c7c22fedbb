//! Plans of where replicas should be.

use std::collections::BTreeSet;

use rivven_cluster::id::{NodeId, PartitionId, TopicId};
use rivven_cluster::partition::hash;
use rivven_cluster::partition::planner::{Placement, Plan, PlanNode, Standing, plan};
use rivven_cluster::rng::{Seed, Stream};

/// Plans for the nodes and partitions that the tape says. What is planned is possible, its moves are counted right and not
/// below the bound, the order of the arguments does not matter, and once it is done there is nothing to plan, if all could be
/// fulfilled. Returns how many partitions change.
pub fn planner(tape: &[u8]) -> usize {
    let mut draws = Seed::new(0).stream("planner", 0).behind(tape);
    let nodes = nodes(&mut draws);
    let mut placements = placements(&mut draws);
    let planned = plan(&nodes, &placements).expect("the arguments do not contradict themselves");
    judge(&planned, &nodes);
    let had: Vec<u32> = nodes.iter().map(|node| held(node.id, &placements)).collect();
    let reversed = |placements: &[Placement]| {
        let nodes: Vec<PlanNode> = nodes.iter().rev().cloned().collect();
        plan(&nodes, &placements.iter().rev().cloned().collect::<Vec<_>>())
    };
    assert_eq!(reversed(&placements), Ok(planned.clone()), "the order of the arguments matters");
    for change in &planned.changes {
        let found = placements.iter_mut().find(|placement| placement.partition == change.partition);
        let placement = found.expect("only what was asked for changes");
        assert_eq!(placement.replicas, change.from);
        placement.replicas.clone_from(&change.to);
    }
    for (node, had) in nodes.iter().zip(had) {
        let most = node.capacity.unwrap_or(u32::MAX);
        assert!(held(node.id, &placements) <= most.max(had), "{node:?} was given more than it takes");
    }
    let again = plan(&nodes, &placements).expect("it was possible before");
    // Where not all could be fulfilled, a second plan may, if rarely, still find a place more.
    if planned.certificate.unsatisfied.is_empty() {
        assert_eq!(again.changes, [], "a plan for what is planned changes something");
    }
    planned.changes.len()
}

/// How many replicas a node holds.
fn held(node: NodeId, placements: &[Placement]) -> u32 {
    let held = placements.iter().filter(|placement| placement.replicas.contains(&node));
    u32::try_from(held.count()).expect("few")
}

fn judge(planned: &Plan, nodes: &[PlanNode]) {
    let mut moves = 0;
    for change in &planned.changes {
        let unique: BTreeSet<NodeId> = change.to.iter().copied().collect();
        assert_eq!(unique.len(), change.to.len(), "two replicas on one node: {change:?}");
        for to in &change.to {
            let node = nodes.iter().find(|node| node.id == *to).expect("a node that is there");
            let is_new = !change.from.contains(to);
            let may = if is_new { Standing::Takes } else { node.standing };
            assert!(node.standing != Standing::Leaves && node.standing == may, "{node:?} in {change:?}");
            moves += u64::from(is_new);
        }
    }
    let certificate = &planned.certificate;
    assert_eq!(certificate.moves, moves, "{planned:?}");
    assert!(certificate.moves >= certificate.moves_bound, "{certificate:?}");
}

fn nodes(draws: &mut Stream) -> Vec<PlanNode> {
    let count = draws.between(1, 10);
    let racks = draws.between(1, 5);
    (1..=count).filter_map(NodeId::new).map(|id| node(draws, id, racks)).collect()
}

fn node(draws: &mut Stream, id: NodeId, racks: u64) -> PlanNode {
    let weight = if draws.chance(1, 4) { u32::try_from(draws.between(2, 100)).expect("small") } else { 1 };
    let standing = match draws.below(8) {
        0 => Standing::Leaves,
        1 => Standing::Keeps,
        _ => Standing::Takes,
    };
    let capacity = draws.chance(1, 8).then(|| u32::try_from(draws.below(10)).expect("small"));
    let burden = if draws.chance(1, 8) { draws.below(100) } else { 0 };
    let rack = (racks > 1 && !draws.chance(1, 8)).then(|| format!("rack{}", draws.below(racks)));
    PlanNode { id, weight, rack, standing, capacity, burden }
}

/// Replicas are anywhere: on nodes that are gone, twice on one node, more of them than there should be.
fn placements(draws: &mut Stream) -> Vec<Placement> {
    let mut all = Vec::new();
    for topic in 0..draws.between(1, 4) {
        let factor = u16::try_from(draws.between(1, 6)).expect("small");
        for number in 0..u32::try_from(draws.between(1, 20)).expect("small") {
            let replicas = if draws.chance(1, 3) { 0 } else { draws.below(6) };
            let replicas = (0..replicas).filter_map(|_| NodeId::new(draws.between(1, 12))).collect();
            let partition = PartitionId { topic: TopicId::new(topic), number };
            let key = hash::key(&format!("topic{topic}"), number);
            all.push(Placement { partition, key, factor, replicas });
        }
    }
    all
}
