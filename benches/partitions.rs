//! Plans and metadata of 100,000 partitions of three replicas, in topics of 100 partitions.
//!
//! `cargo bench --bench partitions`. A plan from nothing, without a change, without one node, and with it again, on 10,
//! 100 and 1000 nodes in racks; then a node of 1000 is fenced and unfenced that has about 3000 replicas (on 100 nodes),
//! and the state is written down and read. The size of what is written is printed first. Last, the controller looks at it
//! all: when nothing is to be done, and while a plan is executed that relieves a node of 3000 replicas.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use rivven_cluster::id::{BootId, LogIndex, NodeId, PartitionId, Token, TopicId};
use rivven_cluster::partition::controller::{Beat, Controller, Settings, Sight};
use rivven_cluster::partition::hash;
use rivven_cluster::partition::metadata::command::Registration;
use rivven_cluster::partition::metadata::{
    Command, FenceReason, Metadata, Outcome, PlanPart, Recovery, TopicSpec,
};
use rivven_cluster::partition::planner::{Placement, Plan, PlanNode, Standing, plan};
use rivven_cluster::partition::planning;
use rivven_cluster::partition::retention::Retention;
use rivven_cluster::time::Instant;
use rivven_cluster::wire::codec;

const TOPICS: u64 = 1000;
const PARTITIONS: u32 = 100;

fn id(node: u64) -> NodeId {
    NodeId::new(node).expect("not zero")
}

fn nodes(count: u64) -> Vec<PlanNode> {
    let racks = count.clamp(5, 10);
    let node =
        |number| PlanNode { rack: Some(format!("rack{}", number % racks)), ..PlanNode::new(id(number)) };
    (1..=count).map(node).collect()
}

fn fresh() -> Vec<Placement> {
    let partition = |topic: u64, number| Placement {
        partition: PartitionId { topic: TopicId::new(topic), number },
        key: hash::key(&format!("topic{topic}"), number),
        factor: 3,
        replicas: Vec::new(),
    };
    (1..=TOPICS).flat_map(|topic| (0..PARTITIONS).map(move |number| partition(topic, number))).collect()
}

fn follow(placements: &mut [Placement], plan: &Plan) {
    for change in &plan.changes {
        let place = placements.binary_search_by_key(&change.partition, |placement| placement.partition);
        placements[place.expect("it is there")].replicas.clone_from(&change.to);
    }
}

fn plans(criterion: &mut Criterion) {
    for count in [10, 100, 1000] {
        let mut group = criterion.benchmark_group(format!("plan for {count} nodes"));
        group.sample_size(10);
        let all = nodes(count);
        let mut without = nodes(count);
        without[1].standing = Standing::Leaves;
        let mut placements = fresh();
        let mut step = |name: &str, nodes: &[PlanNode]| {
            let planned = plan(nodes, &placements).expect("no contradiction");
            println!("{count} nodes, {name}: {:?}", planned.certificate);
            group.bench_function(name, |bencher| bencher.iter(|| black_box(plan(nodes, &placements))));
            follow(&mut placements, &planned);
        };
        step("from nothing", &all);
        step("nothing to do", &all);
        step("a node leaves", &without);
        step("it comes back", &all);
        group.finish();
    }
}

/// 100 nodes, and the topics spread over them.
fn metadata() -> Metadata {
    let mut metadata = Metadata::default();
    let mut index = LogIndex::new(1);
    let mut run = |command: &Command| {
        index = index.next();
        metadata.apply(index, command).0.expect("it makes sense")
    };
    for node in 1..=100 {
        let registration = Registration {
            node: id(node),
            token: Token::new(0),
            boot: BootId::new(1),
            address: format!("node{node}:9093").parse().expect("a sound name"),
            known: None,
            ended: None,
            is_durable: true,
            weight: 1,
            rack: Some(format!("rack{}", node % 10)),
            features: 1,
        };
        let Outcome::Registered(epoch) = run(&Command::RegisterNode(registration)) else { continue };
        let seen = LogIndex::new(epoch.value());
        run(&Command::UnfenceNode { node: id(node), epoch, seen, applied: seen });
    }
    let mut placements = fresh();
    let planned = plan(&nodes(100), &placements).expect("no contradiction");
    follow(&mut placements, &planned);
    let size = usize::try_from(PARTITIONS).expect("it fits");
    for (topic, partitions) in placements.chunks(size).enumerate() {
        let name = format!("topic{topic}");
        let spec = TopicSpec {
            name,
            replicas: 3,
            min_in_sync: 2,
            recovery: Recovery::Manual,
            retention: Retention::default(),
        };
        let assignments = partitions.iter().map(|placement| placement.replicas.clone()).collect();
        run(&Command::CreateTopic { spec, assignments });
    }
    metadata
}

fn commands(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("metadata of 100,000 partitions");
    group.sample_size(20);
    let metadata = metadata();
    let bytes = codec::encode(&metadata);
    println!(
        "a snapshot has {} bytes; node 7 has {} replicas",
        bytes.len(),
        metadata.partitions_of(id(7)).count()
    );
    let record = metadata.node(id(7)).expect("it is there");
    let (epoch, seen) = (record.epoch, record.changed);
    let fence = Command::FenceNode { node: id(7), epoch, seen, reason: FenceReason::Dead };
    group.bench_function("a node of 3000 replicas is fenced", |bencher| {
        let run = |metadata: &mut Metadata| drop(metadata.apply(LogIndex::new(1 << 40), &fence));
        bencher.iter_batched_ref(|| copy(&bytes), run, BatchSize::PerIteration);
    });
    group.bench_function("and while a copy waits to be written down", |bencher| {
        let run = |metadata: &mut Metadata| drop(metadata.apply(LogIndex::new(1 << 40), &fence));
        bencher.iter_batched_ref(|| metadata.clone(), run, BatchSize::PerIteration);
    });
    group.bench_function("a copy to be written down", |bencher| {
        bencher.iter_with_large_drop(|| metadata.clone())
    });
    group.bench_function("written down", |bencher| bencher.iter(|| codec::encode(&metadata)));
    group.bench_function("read", |bencher| bencher.iter_with_large_drop(|| copy(&bytes)));
    group.finish();
}

/// A controller that has heard of all nodes, a second ago or less.
fn controller(metadata: &Metadata, now: Instant) -> Controller {
    let mut controller = Controller::start(Settings::default(), Instant::ORIGIN);
    for (node, record) in metadata.nodes() {
        let registration = Registration {
            node,
            token: record.token,
            boot: record.boot,
            address: record.address.clone(),
            known: Some(record.epoch),
            ended: None,
            is_durable: true,
            weight: 1,
            rack: record.rack.clone(),
            features: 1,
        };
        let applied = LogIndex::new(1 << 40);
        controller.hear(now, Beat { registration, applied, is_leaving: false }, metadata);
    }
    controller
}

fn reviews(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("a review of 100 nodes and 100,000 partitions");
    let mut metadata = metadata();
    let now = Instant::from_nanos(60_000_000_000);
    let sight = |_| Sight { is_member: true, token: None, hint: None };
    let mut run = |name: &str, metadata: &Metadata| {
        let ready = || {
            let mut ready = controller(metadata, now);
            ready.review(now, metadata, &sight);
            ready
        };
        // A second later, so that the plan is looked at again.
        let later = now + Duration::from_secs(1);
        let review = |controller: &mut Controller| black_box(controller.review(later, metadata, &sight));
        group
            .bench_function(name, |bencher| bencher.iter_batched_ref(ready, review, BatchSize::PerIteration));
    };
    run("nothing to do", &metadata);
    let seen = metadata.node(id(7)).expect("it is there").changed;
    let drain = Command::SetDraining { node: id(7), seen, is_draining: true };
    metadata.apply(LogIndex::new(1 << 40), &drain).0.expect("it makes sense");
    run("a node has to be relieved: a plan is made", &metadata);
    let changes = planning::rebalance(&metadata, &planning::nodes(&metadata, |_| false))
        .expect("no contradiction")
        .changes;
    let submit = Command::SubmitPlan { part: PlanPart::First { last: None }, changes, is_last: true };
    metadata.apply(LogIndex::new((1 << 40) + 1), &submit).0.expect("it makes sense");
    run("a plan is executed", &metadata);
    group.finish();
}

fn copy(bytes: &[u8]) -> Metadata {
    codec::decode_state(bytes).expect("it was written so")
}

criterion_group!(benches, plans, commands, reviews);
criterion_main!(benches);
