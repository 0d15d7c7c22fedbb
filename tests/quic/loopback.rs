//! Real QUIC on loopback: who is let in, what is refused, and what becomes of a link that breaks.
#![expect(clippy::disallowed_types, reason = "a test over real sockets")]

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};

use bytes::Bytes;
use rivven_cluster::id::LogIndex;
use rivven_cluster::node::{Caller, LinkState, Rejection, Status};
use rivven_cluster::quic::{ClientError, Credentials, LaunchError, Running};
use rivven_cluster::raft::Role;
use tokio::time::timeout;

use crate::harness::{Nodes, PATIENCE, authority, issue, until};
use crate::stranger::Stranger;
use crate::support::node;

fn down_reason(status: &Status) -> &str {
    match &status.peers[0].state {
        LinkState::Down { reason } => reason,
        LinkState::Up { .. } => "",
    }
}

/// Node 1 dials node 2, which shows the wrong credentials; what node 1 says about it must hold `parts`.
async fn assert_refuses(ours: Credentials, theirs: Credentials, parts: &[&str]) {
    let nodes = Nodes::new(2);
    let first = nodes.launch(1, ours).expect("node 1");
    let _second = nodes.launch(2, theirs).expect("node 2");
    let refused = |status: &Status| parts.iter().all(|part| down_reason(status).contains(part));
    let status = until(&first, &format!("{parts:?}"), refused).await;
    assert_eq!(status.raft, None, "no cluster forms");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_of_another_authority_is_refused() {
    let ours = issue(&authority(), "test", Caller::Node(node(1)));
    let theirs = issue(&authority(), "test", Caller::Node(node(2)));
    assert_refuses(ours, theirs, &["another authority"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_of_another_cluster_is_refused() {
    let authority = authority();
    let ours = issue(&authority, "test", Caller::Node(node(1)));
    let theirs = issue(&authority, "other", Caller::Node(node(2)));
    assert_refuses(ours, theirs, &["not that of a node of cluster", "test"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_another_node_or_of_no_node_does_not_launch() {
    let nodes = Nodes::new(1);
    let authority = authority();
    for caller in [Caller::Node(node(2)), Caller::Client, Caller::Operator] {
        let Err(error) = nodes.launch(1, issue(&authority, "test", caller)) else { panic!("it started") };
        assert!(matches!(error, LaunchError::OtherIdentity { .. }), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_another_cluster_is_refused_on_both_sides() {
    let nodes = Nodes::new(1);
    let authority = authority();
    let _node = nodes.launch(1, issue(&authority, "test", Caller::Node(node(1)))).expect("node 1");
    let stranger = nodes.client(&issue(&authority, "other", Caller::Client));
    let error = stranger.status(&nodes.addresses[&1]).await.unwrap_err();
    assert!(matches!(&error, ClientError::Unavailable(reason) if reason.contains("other")), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_may_not_read_the_log_and_an_operator_may() {
    let nodes = Nodes::new(1);
    let authority = authority();
    let running = nodes.launch(1, issue(&authority, "test", Caller::Node(node(1)))).expect("node 1");
    until(&running, "a leader", |status| status.raft.as_ref().is_some_and(|raft| raft.role == Role::Leader))
        .await;
    let client = nodes.client(&issue(&authority, "test", Caller::Client));
    client.put("k", "v").await.expect("a leader of one");
    let from = LogIndex::default();
    let refused = client.entries(&nodes.addresses[&1], from, 10).await.unwrap_err();
    assert_eq!(refused, ClientError::Rejected(Rejection::Forbidden));
    let operator = nodes.client(&issue(&authority, "test", Caller::Operator));
    let entries = operator.entries(&nodes.addresses[&1], from, 10).await.expect("allowed");
    assert_eq!(entries.iter().filter(|entry| entry.command().is_some()).count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_that_cannot_be_are_refused_with_a_reason_and_cost_nothing() {
    let nodes = Nodes::new(1);
    let authority = authority();
    let running = nodes.launch(1, issue(&authority, "test", Caller::Node(node(1)))).expect("node 1");
    until(&running, "a leader", |status| status.raft.as_ref().is_some_and(|raft| raft.role == Role::Leader))
        .await;
    let client = nodes.client(&issue(&authority, "test", Caller::Client));
    let too_large = client.propose(Bytes::from(vec![0; 1024 * 1024 + 1])).await.unwrap_err();
    assert!(matches!(too_large, ClientError::Rejected(Rejection::TooLarge { .. })), "{too_large}");
    assert_eq!(client.propose(Bytes::new()).await.unwrap_err(), ClientError::Rejected(Rejection::Empty));
    client.put("k", "v").await.expect("and it goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_are_stored_compared_and_read_over_the_wire() {
    let nodes = Nodes::new(3);
    let authority = authority();
    let running: Vec<Running> = (1..=3)
        .map(|id| nodes.launch(id, issue(&authority, "test", Caller::Node(node(id)))).expect("a node"))
        .collect();
    let client = nodes.client(&issue(&authority, "test", Caller::Client));
    client.put("k", "a").await.expect("a quorum");
    client.compare_and_set("k", Some("a".into()), "b").await.expect("the right value");
    let conflict = client.compare_and_set("k", Some("a".into()), "c").await.unwrap_err();
    assert_eq!(conflict, ClientError::Conflict(Some("b".into())));
    assert_eq!(client.get("k").await.expect("a quorum"), Some("b".into()));
    assert_eq!(client.get("nothing").await.expect("a quorum"), None);
    for node in &running {
        until(node, "all links", |status| {
            status.peers.iter().all(|peer| matches!(peer.state, LinkState::Up { .. }))
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_is_dialled_again_and_a_restarted_node_catches_up() {
    let nodes = Nodes::new(3);
    let authority = authority();
    let credentials = |id: u64| issue(&authority, "test", Caller::Node(node(id)));
    let mut running: BTreeMap<u64, Running> =
        (1..=3).map(|id| (id, nodes.launch(id, credentials(id)).expect("a node"))).collect();
    let client = nodes.client(&issue(&authority, "test", Caller::Client));
    client.put("k", "before").await.expect("a quorum");

    let third = running.remove(&3).expect("node 3");
    third.handle.shutdown().await;
    third.task.await.expect("no panic").expect("an orderly end");
    let is_down = |status: &Status| {
        let third = status.peers.iter().find(|peer| peer.name == nodes.addresses[&3]).expect("a listed peer");
        matches!(third.state, LinkState::Down { .. })
    };
    until(&running[&1], "the link to go down", is_down).await;
    let written = client.put("k", "while it was away").await.expect("two of three");

    let third = nodes.launch(3, credentials(3)).expect("it starts again");
    let caught_up = until(&third, "node 3 to catch up", |status| {
        status.raft.as_ref().is_some_and(|raft| raft.indexes.applied >= written.index)
    })
    .await;
    assert_eq!(caught_up.boot.value(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_disk_was_wiped_is_refused_and_told_what_to_do() {
    let nodes = Nodes::new(3);
    let authority = authority();
    let credentials = |id: u64| issue(&authority, "test", Caller::Node(node(id)));
    let mut running: BTreeMap<u64, Running> =
        (1..=3).map(|id| (id, nodes.launch(id, credentials(id)).expect("a node"))).collect();
    let client = nodes.client(&issue(&authority, "test", Caller::Client));
    client.put("k", "v").await.expect("a quorum");
    let third = running.remove(&3).expect("node 3");
    until(&third, "node 3 to form", |status| status.raft.is_some()).await;
    third.handle.shutdown().await;
    third.task.await.expect("no panic").expect("an orderly end");
    std::fs::remove_dir_all(nodes.folder.path().join("node-3")).expect("wiped");

    let third = nodes.launch(3, credentials(3)).expect("it starts");
    let status = until(&third, "a refusal", |status| status.refusal.is_some()).await;
    let refusal = status.refusal.expect("checked").to_string();
    assert!(refusal.contains("data folder is empty") && refusal.contains("new id"), "{refusal}");
    assert_eq!(status.raft, None, "it never votes");
    client.put("k", "still").await.expect("the other two go on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_the_port_and_in_a_stream_changes_nothing() {
    let nodes = Nodes::new(1);
    let authority = authority();
    let running = nodes.launch(1, issue(&authority, "test", Caller::Node(node(1)))).expect("node 1");
    let address: SocketAddr = nodes.addresses[&1].as_str().parse().expect("an address");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    for length in [0, 1, 20, 1200] {
        socket.send_to(&vec![0xc3; length], address).expect("sent");
    }
    let stranger = Stranger::of(&authority, "test", Caller::Node(node(9)));
    let connection = stranger.connect(address).await.expect("a handshake");
    let mut stream = connection.open_uni().await.expect("a stream");
    stream.write_all(b"this is no frame").await.expect("written");
    let closed = timeout(PATIENCE, connection.closed()).await.expect("the node hangs up");
    assert!(closed.to_string().contains("version"), "{closed}");
    until(&running, "a leader", |status| status.raft.as_ref().is_some_and(|raft| raft.role == Role::Leader))
        .await;
}
