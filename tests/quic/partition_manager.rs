//! `PartitionManager` on three nodes in one process: its copy follows the log, whoever leads and whoever stops.

use std::time::Duration;

use rivven_cluster::id::NodeId;
use rivven_cluster::node::{Partitioning, Rejection};
use rivven_cluster::partition::controller::Settings;
use rivven_cluster::partition::metadata::{Delta, NodeState, Refusal};
use rivven_cluster::partition::planner::{PlanNode, Proof};
use rivven_cluster::quic::{
    ClientError, NewTopic, News, PartitionError, PartitionManager, PartitionSettings, RaftConfig, RaftNode,
    RouteBy,
};

const BASE_PORT: u16 = 19_500;
const PATIENCE: Duration = Duration::from_secs(30);

fn id(node: u64) -> NodeId {
    NodeId::new(node).expect("not zero")
}

async fn start(node_id: u64) -> RaftNode {
    let settings = Settings {
        beat_interval: Duration::from_millis(300),
        silence_max: Duration::from_secs(2),
        fence_delay: Duration::from_secs(2),
        ..Settings::default()
    };
    let config = RaftConfig {
        node_id,
        peers: (1..=3).filter(|peer| *peer != node_id).collect(),
        base_port: BASE_PORT,
        partitioning: Some(Partitioning { settings, ..Partitioning::default() }),
        ..RaftConfig::default()
    };
    RaftNode::new(config).await.expect("it starts")
}

/// Waits until the copy is like this.
async fn until(partitions: &PartitionManager, is_so: impl Fn(&PartitionManager) -> bool) {
    let mut news = partitions.news();
    let waiting = async {
        while !is_so(partitions) {
            // Whoever is told too much has only to look again.
            let _ = news.recv().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it comes about");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_created_routed_and_deleted_while_nodes_stop() {
    let mut nodes = Vec::new();
    for node in 1..=3 {
        nodes.push(start(node).await);
    }
    let open = |node: &RaftNode| PartitionManager::open(node.client().clone(), PartitionSettings::default());
    let (one, two) = (open(&nodes[0]).await.expect("it opens"), open(&nodes[1]).await.expect("it opens"));
    one.has_nodes(3).await;
    let mut news = two.news();
    let topic = one.create_topic(NewTopic::new("orders", 12)).await.expect("it is created");
    // What one has ordered it knows at once; the other is told.
    let first = one.route("orders", RouteBy::Partition(0)).expect("it is led");
    let told = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Ok(News::Changed(_, Delta::Topic(told))) = news.recv().await {
                return told;
            }
        }
    });
    assert_eq!(told.await.expect("it is told"), topic);
    assert_eq!(two.route("orders", RouteBy::Partition(0)), Ok(first.clone()));
    assert_eq!(first.address.port(), BASE_PORT + u16::try_from(first.leader.value()).expect("small"));
    let by_key = two.route("orders", RouteBy::Key(b"customer 17")).expect("it is led");
    assert!(by_key.partition.number < 12);

    // What makes no sense is said.
    let unknown = PartitionError::TopicUnknown("payments".to_owned());
    assert_eq!(two.route("payments", RouteBy::Key(b"")), Err(unknown.clone()));
    assert_eq!(one.delete_topic("payments").await, Err(unknown));
    let beyond = two.route("orders", RouteBy::Partition(12));
    assert!(matches!(beyond, Err(PartitionError::PartitionUnknown { partitions: 12, .. })), "{beyond:?}");
    let wrong = one.create_topic(NewTopic::new("no name", 1)).await;
    assert_eq!(wrong, Err(Refusal::TopicName("no name".to_owned()).into()));
    let many = one.create_topic(NewTopic { replicas: Some(4), ..NewTopic::new("wide", 1) }).await;
    assert!(matches!(many, Err(PartitionError::Assign(_))), "{many:?}");
    let forbidden = one.set_draining(id(2), true).await;
    assert_eq!(forbidden, Err(ClientError::Rejected(Rejection::Forbidden).into()));

    // A plan with a node that is not there yet, and the ring of those that are.
    let planned = one.plan(vec![PlanNode::new(id(4))]).expect("a plan");
    assert_eq!((planned.certificate.moves, planned.certificate.proof), (9, Proof::Minimal));
    assert_eq!(one.plan(Vec::new()).expect("a plan").changes, []);
    assert_eq!(one.ring().expect("a ring").len(), 3);

    // A node stops in order: others lead before it is gone. Later it is fenced.
    one.add_partitions("orders", 3).await.expect("there are nodes");
    let stopped = nodes.remove(2);
    stopped.shutdown().await.expect("it stops");
    let leads = |manager: &PartitionManager, node| {
        manager.look(|metadata| {
            metadata.all_partitions().filter(|(_, found)| found.leader == Some(id(node))).count()
        })
    };
    until(&two, |two| leads(two, 3) == 0 && leads(two, 1) + leads(two, 2) == 15).await;
    let state =
        |manager: &PartitionManager| manager.look(|metadata| metadata.node(id(3)).map(|record| record.state));
    until(&two, |two| state(two) == Some(NodeState::Fenced)).await;
    let explained = two.explain(id(3)).await.expect("the leader explains");
    assert_eq!((explained.replicas, explained.leads), (15, 0));

    one.delete_topic("orders").await.expect("it is there");
    until(&two, |two| two.route("orders", RouteBy::Partition(0)).is_err()).await;
    for node in nodes {
        node.shutdown().await.expect("it stops");
    }
}
