//! The names that users know from the system's public description, as they are written there.

use std::path::Path;

use rivven_cluster::config::Settings;
use rivven_cluster::quic::{RaftConfig, RaftNode, RaftNodeError};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raft_nodes_start_from_their_published_fields() {
    let node = |id: u64, peers: Vec<u64>| {
        RaftNode::new(RaftConfig {
            node_id: id,
            peers,
            election_timeout_ms: 150..300,
            heartbeat_interval_ms: 50,
            base_port: 19_300,
            ..Default::default()
        })
    };
    let node1 = node(1, vec![2, 3]).await.unwrap();
    let node2 = node(2, vec![1, 3]).await.unwrap();
    let node3 = node(3, vec![1, 2]).await.unwrap();
    node1.client().put("colour", "blue").await.unwrap();
    assert_eq!(node3.client().get("colour").await.unwrap().as_deref(), Some(&b"blue"[..]));
    let status = node2.status().await.unwrap();
    assert_eq!(status.raft.unwrap().voters.len(), 3);
    for node in [node1, node2, node3] {
        node.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_configurations_are_refused_with_a_reason() {
    let start = |config: RaftConfig| async { RaftNode::new(config).await.unwrap_err() };
    let zero = start(RaftConfig { node_id: 0, ..RaftConfig::default() }).await;
    assert!(matches!(zero, RaftNodeError::NodeIdZero));
    let own = start(RaftConfig { peers: vec![1, 2], ..RaftConfig::default() }).await;
    assert!(matches!(own, RaftNodeError::PeerTwice(1)));
    let port = start(RaftConfig { base_port: 65_535, ..RaftConfig::default() }).await;
    assert!(matches!(port, RaftNodeError::Port { node: 1, .. }));
    let timing = start(RaftConfig { heartbeat_interval_ms: 200, ..RaftConfig::default() }).await;
    assert!(timing.to_string().contains("two heartbeats"), "{timing}");
    let name = start(RaftConfig { cluster: "No Such".to_owned(), ..RaftConfig::default() }).await;
    assert!(name.to_string().contains("cluster name"), "{name}");
}

#[test]
fn the_published_yaml_parses() {
    let text = r#"
cluster:
  node_id: 1
  bind_address: "0.0.0.0:9093"
  raft:
    peers: ["node2:9093", "node3:9093"]
    election_timeout_min_ms: 150
    election_timeout_max_ms: 300
  gossip:
    bind_port: 7946
    known_peers: ["node2:7946"]
    protocol_period_ms: 1000
  partitioning:
    virtual_nodes: 128
    replication_factor: 3
"#;
    let settings = Settings::parse(text, Path::new(".")).unwrap();
    assert_eq!(settings.peers.len(), 2);
}
