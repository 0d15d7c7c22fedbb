//! "placement-v1" is a wire format: what other implementations compute, to the bit.
//!
//! The vectors were made by a program of its own in another language, with XXH3 written from its description and
//! logarithms of sixty digits. They are never regenerated: a difference is a bug in what is compared with them.

use rivven_cluster::partition::{HashRing, RackPolicy, Rendezvous, RingNode, hash};

const VECTORS: &str = include_str!("vectors/placement-v1.tsv");

fn rows(kind: &str) -> impl Iterator<Item = Vec<&'static str>> {
    let rows = VECTORS.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    rows.filter(move |row| row[0] == kind).map(|row| row[1..].to_vec())
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text, 16).expect("a hash")
}

fn nodes() -> Vec<RingNode> {
    let row = rows("nodes").next().expect("the nodes");
    let node = |text: &str| {
        let (id, weight) = text.split_once(':').expect("id:weight");
        RingNode { weight: weight.parse().expect("a weight"), ..RingNode::new(id) }
    };
    row[0].split(' ').map(node).collect()
}

#[test]
fn nodes_and_their_points_are_hashed_as_written_down() {
    assert_eq!(rows("node").count(), 23);
    for row in rows("node") {
        let node = hash::node(row[0]);
        assert_eq!(node, hex(row[1]), "{}", row[0]);
        assert_eq!([hash::point(node, 0), hash::point(node, 7)], [hex(row[2]), hex(row[3])], "{}", row[0]);
    }
}

#[test]
fn keys_and_whose_they_are_on_a_ring_and_by_rendezvous_are_as_written_down() {
    let mut ring = HashRing::new(8);
    ring.add_nodes(nodes()).expect("sound nodes");
    let (mut weighted, mut equal) = (Rendezvous::new(), Rendezvous::new());
    for node in nodes() {
        equal.add_node(&node.id).expect("a sound node");
        weighted.add(node).expect("a sound node");
    }
    assert!(rows("key").count() > 1000);
    for row in rows("key") {
        let (topic, partition) = (row[0], row[1].parse().expect("a partition"));
        let key = hash::key(topic, partition);
        assert_eq!([key, hash::place(key)], [hex(row[2]), hex(row[3])], "{topic} {partition}");
        let replicas = ring.replicas(key, 3, RackPolicy::Ignore).join(",");
        assert_eq!(replicas, row[4], "{topic} {partition}");
        assert_eq!(ring.owner(key), row[4].split(',').next());
        assert_eq!(weighted.owner(key), Some(row[5]), "{topic} {partition}");
        assert_eq!(equal.owner(key), Some(row[6]), "{topic} {partition}");
    }
}
