//! Snapshots over real QUIC and real files: a follower that was away, a large state, and writes meanwhile.

#![expect(clippy::disallowed_types, reason = "a free port is found by binding it")]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use rivven_cluster::id::{ClusterName, LogIndex, NodeId, PeerName};
use rivven_cluster::kv::{Command, KeyValue};
use rivven_cluster::node::{Caller, Config, Limits, Reply, Request, Status};
use rivven_cluster::quic::{Authority, Client, ClientConfig, Credentials, Identity, Launch, Running, Seams};
use rivven_cluster::raft::{Flow, Timing};
use tokio::time::{Instant, sleep};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

struct Cluster {
    names: BTreeMap<u64, PeerName>,
    authority: Authority,
    folder: tempfile::TempDir,
}

impl Cluster {
    fn new() -> Cluster {
        let name = |_| {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
            socket.local_addr().expect("bound").to_string().parse().expect("an address")
        };
        let names = (1..=3).map(|id| (id, name(id))).collect();
        let authority = Authority::generate("snapshots").expect("entropy");
        Cluster { names, authority, folder: tempfile::tempdir().expect("a folder") }
    }

    fn credentials(&self, caller: Caller) -> Credentials {
        let cluster: ClusterName = "snapshots".parse().expect("a name");
        self.authority.issue(Identity { caller, cluster }).expect("a certificate")
    }

    fn launch(&self, id: u64) -> Running {
        let node = NodeId::new(id).expect("not 0");
        let peers = self.names.iter().filter(|(other, _)| **other != id).map(|(_, name)| name.clone());
        let second = Duration::from_secs(1);
        let limits = Limits { snapshot_entries: 300, retained_entries: 10, ..Limits::default() };
        let config = Config {
            id: node,
            address: self.names[&id].clone(),
            peers: peers.collect(),
            timing: Timing { election_timeout: second..second * 2, ..Timing::default() },
            limits,
            flow: Flow::default(),
            votes: true,
            gossip: None,
            partitioning: None,
        };
        let bind = self.names[&id].as_str().parse().expect("an IP address");
        let data_dir = self.folder.path().join(id.to_string());
        let credentials = self.credentials(Caller::Node(node));
        let launch = Launch::new(config, bind, data_dir, credentials);
        launch.start(KeyValue::default(), ()).expect("it starts")
    }

    fn client(&self) -> Client {
        let seams = Seams::system("127.0.0.1:0".parse().expect("an address")).expect("a socket");
        let addresses = self.names.values().cloned().collect();
        let config = ClientConfig { addresses, timeout: PATIENCE };
        Client::open(&seams, &self.credentials(Caller::Client), config).expect("a client")
    }
}

async fn status(node: &Running) -> Status {
    match node.handle.request(Caller::Operator, Request::Status).await {
        Some(Reply::Status(status)) => *status,
        other => panic!("{other:?}"),
    }
}

/// Whether all nodes have built a snapshot that stands for more than so many entries.
async fn compacted(nodes: &BTreeMap<u64, Running>, entries: u64) -> bool {
    for node in nodes.values() {
        let from_the_first = Request::Entries { from: LogIndex::new(0), limit: 1 };
        match node.handle.request(Caller::Operator, from_the_first).await {
            Some(Reply::Entries(first))
                if first.first().is_some_and(|first| first.at.index.value() > entries) => {}
            _ => return false,
        }
    }
    true
}

async fn put(client: &Client, key: u64, bytes: usize) {
    let key = Bytes::from(format!("key {key}"));
    let command = Command::Put { key, value: Bytes::from(vec![7; bytes]) };
    client.propose(command.encode()).await.expect("a majority is up");
}

/// A state of 64 MiB reaches a follower whose entries are gone, while others write, and nobody takes the
/// leader for dead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_snapshot_reaches_a_follower_while_writes_go_on_and_heartbeats_do_not_wait() {
    let cluster = Cluster::new();
    let mut nodes: BTreeMap<u64, Running> = (1..=3).map(|id| (id, cluster.launch(id))).collect();
    let client = cluster.client();
    put(&client, 0, 10).await;
    let follower = loop {
        let raft = status(&nodes[&1]).await.raft.expect("formed");
        if let Some(leader) = raft.leader {
            break if leader.value() == 3 { 2 } else { 3 };
        }
        sleep(Duration::from_millis(10)).await;
    };
    let away = nodes.remove(&follower).expect("it runs");
    away.handle.shutdown().await;
    away.task.await.expect("no panic").expect("told to stop");
    for key in 0..128 {
        put(&client, key, 512 * 1024).await;
    }
    // Until nobody has the entries any more that the follower lacks.
    let mut more = 0;
    while !compacted(&nodes, 128).await {
        put(&client, 1000 + more % 1000, 10).await;
        more += 1;
    }
    let term = status(&nodes[&1]).await.raft.expect("formed").term;
    nodes.insert(follower, cluster.launch(follower));
    let began = Instant::now();
    let mut written = 0;
    loop {
        put(&client, 5000 + written % 100, 100).await;
        written += 1;
        let back = status(&nodes[&follower]).await;
        let applied = back.raft.as_ref().map(|raft| raft.indexes.applied);
        if back.stats.snapshots_installed > 0 && applied.is_some_and(|applied| applied.value() > 128) {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{back:?}");
    }
    assert!(written > 10, "writes went on: {written}");
    let after = status(&nodes[&1]).await.raft.expect("formed");
    assert_eq!(after.term, term, "nobody stood for election");
    assert_eq!(
        client.get("key 77").await.expect("a majority is up").map(|value| value.len()),
        Some(512 * 1024)
    );
    for (_, node) in nodes {
        node.handle.shutdown().await;
        node.task.await.expect("no panic").expect("told to stop");
    }
}
