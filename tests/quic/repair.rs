//! A member whose disk was damaged: set aside, taken in again, and none the worse for it.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a free port is found by binding it, and files are damaged"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rivven_cluster::formation::{Refusal, Standing};
use rivven_cluster::id::{ClusterName, NodeId, PeerName};
use rivven_cluster::kv::KeyValue;
use rivven_cluster::node::{Caller, Config, Limits, Reply, Request, Status};
use rivven_cluster::quic::{Authority, Client, ClientConfig, Credentials, Identity, Launch, Running, Seams};
use rivven_cluster::raft::{Flow, Timing};
use tokio::time::{Instant, sleep};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(40);

/// What stands before the first record of a segment.
const SEGMENT_HEADER_BYTES: usize = 4096;

struct Cluster {
    names: BTreeMap<u64, PeerName>,
    authority: Authority,
    folder: tempfile::TempDir,
    nodes: BTreeMap<u64, Running>,
}

impl Cluster {
    fn found() -> Cluster {
        let name = |_| {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
            socket.local_addr().expect("bound").to_string().parse().expect("an address")
        };
        let names = (1..=3).map(|node| (node, name(node))).collect();
        let authority = Authority::generate("repair").expect("entropy");
        let folder = tempfile::tempdir().expect("a folder");
        let mut cluster = Cluster { names, authority, folder, nodes: BTreeMap::new() };
        (1..=3).for_each(|node| cluster.launch(node));
        cluster
    }

    fn credentials(&self, caller: Caller) -> Credentials {
        let cluster: ClusterName = "repair".parse().expect("a name");
        self.authority.issue(Identity { caller, cluster }).expect("a certificate")
    }

    fn launch(&mut self, node: u64) {
        let id = NodeId::new(node).expect("not 0");
        let config = Config {
            id,
            address: self.names[&node].clone(),
            peers: self
                .names
                .iter()
                .filter(|(peer, _)| **peer != node)
                .map(|(_, name)| name.clone())
                .collect(),
            timing: Timing::default(),
            limits: Limits::default(),
            flow: Flow::default(),
            votes: true,
            gossip: None,
            partitioning: None,
        };
        let bind = self.names[&node].as_str().parse().expect("an IP address");
        let data_dir = self.data(node);
        let credentials = self.credentials(Caller::Node(id));
        let launch = Launch::new(config, bind, data_dir, credentials);
        self.nodes.insert(node, launch.start(KeyValue::default(), ()).expect("it starts"));
    }

    fn data(&self, node: u64) -> std::path::PathBuf {
        self.folder.path().join(node.to_string())
    }

    async fn stop(&mut self, node: u64) {
        let running = self.nodes.remove(&node).expect("it runs");
        running.handle.shutdown().await;
        running.task.await.expect("no panic").expect("told to stop");
    }

    fn client(&self) -> Client {
        let seams = Seams::system("127.0.0.1:0".parse().expect("an address")).expect("a socket");
        let config = ClientConfig { addresses: self.names.values().cloned().collect(), timeout: PATIENCE };
        Client::open(&seams, &self.credentials(Caller::Client), config).expect("a client")
    }

    async fn until(&self, node: u64, wanted: impl Fn(&Status) -> bool) -> Status {
        let began = Instant::now();
        loop {
            let Some(Reply::Status(status)) =
                self.nodes[&node].handle.request(Caller::Operator, Request::Status).await
            else {
                panic!("node {node} has stopped")
            };
            if wanted(&status) {
                return *status;
            }
            assert!(began.elapsed() < PATIENCE, "{status:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Changes records that others follow: what was synced is not what is there.
fn damage(folder: &Path) {
    let log = folder.join("log-0000000000000001");
    let mut bytes = std::fs::read(&log).expect("the first segment");
    let used = bytes.iter().rposition(|byte| *byte != 0).expect("something was written");
    let third = (used - SEGMENT_HEADER_BYTES) / 3;
    let middle = SEGMENT_HEADER_BYTES + third..used - third;
    // Zeros are the space between records.
    bytes[middle].iter_mut().filter(|byte| **byte != 0).for_each(|byte| *byte ^= 0xff);
    std::fs::write(log, bytes).expect("it can be written");
}

fn names(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).expect("a folder");
    files.map(|file| file.expect("a file").file_name().to_string_lossy().into_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_member_is_taken_in_again_and_has_everything() {
    let mut cluster = Cluster::found();
    let client = cluster.client();
    for key in 0..50 {
        client.put(format!("key {key}"), vec![7; 500]).await.expect("a majority is up");
    }
    cluster.stop(3).await;
    damage(&cluster.data(3));
    cluster.launch(3);
    let is_whole = |status: &Status| {
        status.raft.as_ref().is_some_and(|raft| {
            raft.voters.len() == 3 && raft.leader.is_some() && raft.indexes.applied.value() > 50
        })
    };
    let status = cluster.until(3, is_whole).await;
    assert!(matches!(status.formation, Standing::Joined { .. }), "{status:?}");
    assert!(
        names(&cluster.data(3)).contains(&"damaged.1.log-0000000000000001".to_owned()),
        "nothing is deleted"
    );
    let stale = Request::QueryStale { query: "key 7".into() };
    let answer = cluster.nodes[&3].handle.request(Caller::Operator, stale).await;
    assert!(matches!(&answer, Some(Reply::Answer { answer, .. }) if answer.len() > 500), "{answer:?}");
    // It is a voter like any other: with it, another may go.
    cluster.stop(1).await;
    client.put("after", "repair").await.expect("two of three are up");
    // And once more, on the disk that was set aside before.
    cluster.launch(1);
    cluster.until(1, is_whole).await;
    cluster.stop(3).await;
    damage(&cluster.data(3));
    cluster.launch(3);
    cluster.until(3, is_whole).await;
    assert!(names(&cluster.data(3)).iter().any(|name| name.starts_with("damaged.2.")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_nodes_alone_found_nothing_and_say_what_they_wait_for() {
    let mut cluster = Cluster::found();
    let client = cluster.client();
    client.put("key", "value").await.expect("a majority is up");
    for node in 1..=3 {
        cluster.stop(node).await;
        damage(&cluster.data(node));
    }
    (1..=3).for_each(|node| cluster.launch(node));
    let status = cluster.until(1, |status| status.refusal == Some(Refusal::Damaged)).await;
    assert_eq!(status.formation, Standing::Damaged);
    sleep(Duration::from_secs(2)).await;
    for node in 1..=3 {
        let status = cluster.until(node, |status| status.refusal == Some(Refusal::Damaged)).await;
        assert_eq!((status.formation, status.raft), (Standing::Damaged, None));
    }
}
