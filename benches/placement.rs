//! The ring and rendezvous beside the crates `hashring` and `hrw-hash`: who owns a partition, and who comes.
//!
//! `cargo bench --bench placement`. All have 1000 nodes, rings 128 points a node (`hashring` 128 replicas), rendezvous
//! 100 nodes. Each hashes the topic and the partition anew: ours with XXH3, theirs with their defaults.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use hrw_hash::HrwNodes;
use rivven_cluster::partition::{HashRing, RackPolicy, Rendezvous, RingNode, hash};

const NODES: u32 = 1000;
const POINTS: u32 = 128;
const TOPIC: &str = "orders.eu-west-1";

fn id(node: u32) -> String {
    format!("node{node}")
}

fn ours() -> HashRing {
    let mut ring = HashRing::new(POINTS);
    ring.add_nodes((0..NODES).map(|node| RingNode::new(&id(node)))).expect("new nodes");
    ring
}

fn theirs() -> hashring::HashRing<String> {
    let mut ring = hashring::HashRing::new();
    for node in 0..NODES {
        for point in 0..POINTS {
            ring.add(format!("{}-{point}", id(node)));
        }
    }
    ring
}

fn owners(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("the owner of a partition among 1000 nodes of 128 points");
    let (ours, theirs) = (ours(), theirs());
    let mut partition = 0_u32;
    let mut next = move || {
        partition = partition.wrapping_add(1);
        partition
    };
    group.bench_function("ours", |bencher| {
        bencher.iter(|| black_box(ours.get_partition_owner(TOPIC, next()).is_ok()));
    });
    group.bench_function("ours, three replicas", |bencher| {
        bencher.iter(|| black_box(ours.replicas(hash::key(TOPIC, next()), 3, RackPolicy::Ignore)));
    });
    group.bench_function("hashring", |bencher| bencher.iter(|| black_box(theirs.get(&(TOPIC, next())))));
    group.finish();
}

fn comers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("a node comes to 1000 nodes of 128 points");
    group.sample_size(20);
    let (ours, theirs) = (ours(), theirs());
    group.bench_function("ours", |bencher| {
        let add = |mut ring: HashRing| {
            ring.add_node("newcomer").expect("it is new");
            ring
        };
        bencher.iter_batched(|| ours.clone(), add, BatchSize::LargeInput);
    });
    group.bench_function("ours, and goes", |bencher| {
        let mut with = ours.clone();
        with.add_node("newcomer").expect("it is new");
        let remove = |mut ring: HashRing| {
            ring.remove_node("newcomer").expect("it is there");
            ring
        };
        bencher.iter_batched(|| with.clone(), remove, BatchSize::LargeInput);
    });
    group.bench_function("hashring", |bencher| {
        let add = |mut ring: hashring::HashRing<String>| {
            ring.batch_add((0..POINTS).map(|point| format!("newcomer-{point}")).collect());
            ring
        };
        bencher.iter_batched(|| theirs.clone(), add, BatchSize::LargeInput);
    });
    group.finish();
}

fn rendezvous(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("the owner of a partition by rendezvous among 100 nodes");
    let mut ours = Rendezvous::new();
    (0..100).for_each(|node| ours.add_node(&id(node)).expect("new nodes"));
    let theirs: HrwNodes<String> = HrwNodes::new((0..100).map(id));
    let mut partition = 0_u32;
    let mut next = move || {
        partition = partition.wrapping_add(1);
        partition
    };
    group.bench_function("ours", |bencher| {
        bencher.iter(|| black_box(ours.get_partition_owner(TOPIC, next()).is_ok()));
    });
    group.bench_function("hrw-hash", |bencher| {
        bencher.iter(|| black_box(theirs.sorted(&(TOPIC, next())).next()));
    });
    group.finish();
}

criterion_group!(benches, owners, comers, rendezvous);
criterion_main!(benches);
