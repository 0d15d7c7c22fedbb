//! Members that come and go, over real QUIC and real files: join with one address, promotion, hand-over, joint
//! changes, removal, leaving, and ids that stay dead.

#![expect(clippy::disallowed_types, reason = "a free port is found by binding it")]

use std::collections::BTreeMap;
use std::time::Duration;

use rivven_cluster::driver::DriverError;
use rivven_cluster::formation::{Refusal, Standing};
use rivven_cluster::id::{ClusterName, NodeId, PeerName};
use rivven_cluster::kv::KeyValue;
use rivven_cluster::node::{Caller, Config, Halt, Limits, Members, Part, Rejection, Reply, Request, Status};
use rivven_cluster::quic::{
    Authority, Client, ClientConfig, ClientError, Credentials, Identity, Launch, LaunchError, Running, Seams,
};
use rivven_cluster::raft::{ChangeError, Flow, Step, Timing};
use tokio::time::{Instant, sleep};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(40);

fn id(node: u64) -> NodeId {
    NodeId::new(node).expect("not 0")
}

/// A cluster whose nodes have addresses from the beginning, and run or not.
struct Cluster {
    names: BTreeMap<u64, PeerName>,
    authority: Authority,
    folder: tempfile::TempDir,
    nodes: BTreeMap<u64, Running>,
    operator: Client,
}

impl Cluster {
    /// Three founders.
    fn found() -> Cluster {
        let name = |_| {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
            socket.local_addr().expect("bound").to_string().parse().expect("an address")
        };
        let names: BTreeMap<u64, PeerName> = (1..=6).map(|node| (node, name(node))).collect();
        let authority = Authority::generate("membership").expect("entropy");
        let seams = Seams::system("127.0.0.1:0".parse().expect("an address")).expect("a socket");
        let credentials = credentials(&authority, Caller::Operator);
        let config = ClientConfig { addresses: names.values().take(3).cloned().collect(), timeout: PATIENCE };
        let operator = Client::open(&seams, &credentials, config).expect("a client");
        let folder = tempfile::tempdir().expect("a folder");
        let mut cluster = Cluster { names, authority, folder, nodes: BTreeMap::new(), operator };
        for node in 1..=3 {
            let peers = (1..=3).filter(|peer| *peer != node);
            cluster.launch(node, peers, true).expect("it starts");
        }
        cluster
    }

    fn launch(
        &mut self,
        node: u64,
        peers: impl IntoIterator<Item = u64>,
        votes: bool,
    ) -> Result<(), LaunchError> {
        let config = Config {
            id: id(node),
            address: self.names[&node].clone(),
            peers: peers.into_iter().map(|peer| self.names[&peer].clone()).collect(),
            timing: Timing::default(),
            limits: Limits { replace_after: Duration::from_secs(1), ..Limits::default() },
            flow: Flow::default(),
            votes,
            gossip: None,
            partitioning: None,
        };
        let bind = self.names[&node].as_str().parse().expect("an IP address");
        let data_dir = self.folder.path().join(node.to_string());
        let credentials = credentials(&self.authority, Caller::Node(id(node)));
        let running = Launch::new(config, bind, data_dir, credentials).start(KeyValue::default(), ())?;
        self.nodes.insert(node, running);
        Ok(())
    }

    async fn stop(&mut self, node: u64) {
        let running = self.nodes.remove(&node).expect("it runs");
        running.handle.shutdown().await;
        running.task.await.expect("no panic").expect("told to stop");
    }

    async fn status(&self, node: u64) -> Status {
        match self.nodes[&node].handle.request(Caller::Operator, Request::Status).await {
            Some(Reply::Status(status)) => *status,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until the members are these.
    async fn until(&self, voters: &[u64], learners: &[u64]) -> Members {
        let began = Instant::now();
        loop {
            let members = self.operator.members().await.expect("a majority is up");
            let list = |part| -> Vec<u64> {
                let members = members.members.iter().filter(|member| member.part == part);
                members.map(|member| member.node.value()).collect()
            };
            if list(Part::Voter) == voters && list(Part::Learner) == learners && !members.is_joint {
                return members;
            }
            assert!(began.elapsed() < PATIENCE, "{members:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn put(&self, value: u64) {
        self.operator.put("key", value.to_string()).await.expect("a majority is up");
    }
}

fn credentials(authority: &Authority, caller: Caller) -> Credentials {
    let cluster: ClusterName = "membership".parse().expect("a name");
    authority.issue(Identity { caller, cluster }).expect("a certificate")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_knows_one_address_joins_learns_and_votes() {
    let mut cluster = Cluster::found();
    cluster.put(1).await;
    cluster.launch(4, [2], true).expect("it starts");
    let members = cluster.until(&[1, 2, 3, 4], &[]).await;
    let newcomer = members.members.iter().find(|member| member.node == id(4)).expect("a member");
    assert_eq!(newcomer.address.as_ref(), Some(&cluster.names[&4]));
    assert!(matches!(cluster.status(4).await.formation, Standing::Joined { .. }));
    // It knows everybody, and goes on although the one that it knew first is gone.
    cluster.stop(2).await;
    cluster.stop(4).await;
    cluster.launch(4, [2], true).expect("it starts again on its disk");
    cluster.put(2).await;
    let began = Instant::now();
    while cluster.status(4).await.raft.is_none_or(|raft| raft.leader.is_none()) {
        assert!(began.elapsed() < PATIENCE);
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_adds_promotes_hands_over_and_removes() {
    let mut cluster = Cluster::found();
    cluster.put(1).await;
    // Added before it runs, to stand by.
    let added = cluster.operator.add_member(id(4), cluster.names[&4].clone(), false).await;
    added.expect("it makes sense");
    cluster.launch(4, [1], false).expect("it starts");
    cluster.until(&[1, 2, 3], &[4]).await;
    // Two voters at once: jointly.
    let leader = cluster.operator.members().await.expect("a majority is up").leader.expect("somebody leads");
    let goes = if leader == id(3) { 2 } else { 3 };
    let steps = vec![Step::Promote(id(4)), Step::Remove(id(goes))];
    cluster.operator.change_members(steps).await.expect("it makes sense");
    let stays = 5 - goes;
    let members = cluster.until(&[1, stays, 4], &[]).await;
    assert_eq!(members.removed, [id(goes)]);
    // The one that is gone notices, and stops.
    let gone = cluster.nodes.remove(&goes).expect("it ran");
    let ended = gone.task.await.expect("no panic");
    assert_eq!(ended, Err(DriverError::Halted(Halt::Removed)));
    // Its id stays dead: on its old disk, on an empty one, and by the operator's word.
    assert!(matches!(cluster.launch(goes, [1], true), Err(LaunchError::Start(_))));
    let again = cluster.operator.add_member(id(goes), cluster.names[&goes].clone(), true).await;
    let dead = Rejection::Change(ChangeError::Removed(id(goes)));
    assert_eq!(again, Err(ClientError::Rejected(dead)));
    // Another leader, by name.
    let leader = cluster.operator.members().await.expect("a majority is up").leader.expect("somebody leads");
    let next = [1, stays, 4].map(id).into_iter().find(|node| *node != leader);
    cluster.operator.hand_over(next).await.expect("it is up");
    assert_eq!(cluster.operator.members().await.expect("a majority is up").leader, next);
    // The leader itself is to go: it hands over first.
    let leader = next.expect("there are three");
    cluster.operator.change_members(vec![Step::Remove(leader)]).await.expect("it makes sense");
    cluster.put(3).await;
    let gone = cluster.nodes.remove(&leader.value()).expect("it ran");
    assert_eq!(gone.task.await.expect("no panic"), Err(DriverError::Halted(Halt::Removed)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_cost_the_majority_or_is_not_allowed_is_refused() {
    let mut cluster = Cluster::found();
    cluster.put(1).await;
    let leader = cluster.operator.members().await.expect("a majority is up").leader.expect("somebody leads");
    let others: Vec<u64> = (1..=3).filter(|node| *node != leader.value()).collect();
    cluster.stop(others[0]).await;
    // It counts as up for a while.
    let began = Instant::now();
    loop {
        let members = cluster.operator.members().await.expect("a majority is up");
        let away = members.members.iter().find(|member| member.node == id(others[0])).expect("a member");
        if away.silent.is_some_and(|silent| silent > Duration::from_secs(1)) {
            break;
        }
        assert!(began.elapsed() < PATIENCE);
        sleep(Duration::from_millis(50)).await;
    }
    let remove = cluster.operator.change_members(vec![Step::Remove(id(others[1]))]).await;
    assert_eq!(remove, Err(ClientError::Rejected(Rejection::NoMajority)));
    let seams = Seams::system("127.0.0.1:0".parse().expect("an address")).expect("a socket");
    let config = ClientConfig { addresses: vec![cluster.names[&leader.value()].clone()], timeout: PATIENCE };
    let client = credentials(&cluster.authority, Caller::Client);
    let client = Client::open(&seams, &client, config).expect("a client");
    let remove = client.change_members(vec![Step::Remove(id(others[0]))]).await;
    assert_eq!(remove, Err(ClientError::Rejected(Rejection::Forbidden)));
    // Whoever is away may go.
    cluster.operator.change_members(vec![Step::Remove(id(others[0]))]).await.expect("a majority is up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_takes_the_place_of_a_voter_that_is_silent_for_long() {
    let mut cluster = Cluster::found();
    cluster.put(1).await;
    cluster.launch(5, [3], false).expect("it starts");
    cluster.until(&[1, 2, 3], &[5]).await;
    let leader = cluster.operator.members().await.expect("a majority is up").leader.expect("somebody leads");
    let dies = if leader == id(2) { 1 } else { 2 };
    cluster.stop(dies).await;
    let members = cluster.until(&[3 - dies, 3, 5], &[]).await;
    assert_eq!(members.removed, [id(dies)]);
    assert!(matches!(cluster.launch(dies, [3], true), Ok(())), "it does not know yet");
    let gone = cluster.nodes.remove(&dies).expect("it runs");
    assert_eq!(gone.task.await.expect("no panic"), Err(DriverError::Halted(Halt::Removed)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_disk_under_the_id_of_a_member_that_joined_is_refused_with_what_to_do() {
    let mut cluster = Cluster::found();
    cluster.put(1).await;
    cluster.launch(4, [1], true).expect("it starts");
    cluster.until(&[1, 2, 3, 4], &[]).await;
    cluster.stop(4).await;
    tokio::fs::remove_dir_all(cluster.folder.path().join("4")).await.expect("it is there");
    cluster.launch(4, [1], true).expect("it starts");
    let began = Instant::now();
    let refusal = loop {
        if let Some(refusal @ Refusal::OtherDisk { .. }) = cluster.status(4).await.refusal {
            break refusal.to_string();
        }
        assert!(began.elapsed() < PATIENCE);
        sleep(Duration::from_millis(20)).await;
    };
    assert!(refusal.contains("give the node a new id"), "{refusal}");
    cluster.stop(4).await;
    // Under a new id it is welcome, and the old one can go.
    cluster.operator.change_members(vec![Step::Remove(id(4))]).await.expect("three of four are up");
    cluster.launch(6, [1], true).expect("it starts");
    cluster.until(&[1, 2, 3, 6], &[]).await;
}
