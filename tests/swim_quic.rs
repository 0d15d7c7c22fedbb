//! Members over QUIC: real sockets, TLS and, in the last test, processes, signals and restarts.
#![cfg(feature = "quic")]
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test that cannot go on fails; it starts processes and binds ports"
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rivven_cluster::id::NodeId;
use rivven_cluster::node::Caller;
use rivven_cluster::quic::{Authority, Credentials, Identity, SwimConfig, SwimNode, SwimNodeError};
use rivven_cluster::swim::{Event, Lifecycle, State};
use tokio::time::{sleep, timeout};

fn peer(node: &SwimNode) -> Vec<rivven_cluster::id::PeerName> {
    vec![node.address().to_string().parse().unwrap()]
}

/// Fast enough for a test.
fn quick() -> SwimConfig {
    SwimConfig { protocol_period_ms: 100, suspect_timeout_ms: 500, ..SwimConfig::default() }
}

async fn live(node: &SwimNode) -> usize {
    node.members().await.unwrap().iter().filter(|member| member.state == State::Alive).count()
}

async fn until(what: &str, seconds: u64, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(seconds), wait)
        .await
        .unwrap_or_else(|_| panic!("not within {seconds} s: {what}"));
}

async fn three() -> [SwimNode; 3] {
    let first = SwimNode::new(quick()).await.unwrap();
    let known_peers = peer(&first);
    let second = SwimNode::new(SwimConfig { known_peers: known_peers.clone(), ..quick() }).await.unwrap();
    let third = SwimNode::new(SwimConfig { known_peers, ..quick() }).await.unwrap();
    let all = [first, second, third];
    until("all three know each other", 10, async || {
        live(&all[0]).await == 3 && live(&all[1]).await == 3 && live(&all[2]).await == 3
    })
    .await;
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_find_each_other_hear_what_they_say_and_see_them_leave() {
    let [first, second, third] = three().await;
    let mut events = first.events();
    let long = vec![7; 3000];
    second.describe(long.clone()).await.unwrap();
    third.describe(b"rack 4".to_vec()).await.unwrap();
    until("both texts are known", 10, async || {
        first.metadata(second.id()).await.unwrap() == long
            && first.metadata(third.id()).await.unwrap() == b"rack 4"
    })
    .await;
    let id = second.id();
    second.leave().await.unwrap();
    let left = async { while events.recv().await.unwrap() != Event::Left(id) {} };
    timeout(Duration::from_secs(10), left).await.expect("a goodbye is heard");
    assert_eq!(live(&first).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_dropped_is_dead_and_comes_back_under_its_id() {
    let [first, second, third] = three().await;
    let (id, address) = (third.id(), third.address());
    drop(third);
    let state = async |node: &SwimNode| {
        node.members().await.unwrap().iter().find(|member| member.record.id == id).map(|member| member.state)
    };
    until("both hold it dead", 20, async || {
        state(&first).await == Some(State::Dead) && state(&second).await == Some(State::Dead)
    })
    .await;
    // The socket goes some time after the last connection.
    let config =
        || SwimConfig { node_id: id.value(), bind_addr: address, known_peers: peer(&first), ..quick() };
    let mut back = SwimNode::new(config()).await;
    while matches!(back, Err(SwimNodeError::Bind { .. })) {
        sleep(Duration::from_millis(50)).await;
        back = SwimNode::new(config()).await;
    }
    let back = back.unwrap();
    until("it is back", 20, async || {
        state(&first).await == Some(State::Alive) && state(&second).await == Some(State::Alive)
    })
    .await;
    assert_eq!(back.lifecycle(), Lifecycle::Active);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused_and_wrong_configurations_explained() {
    let first = SwimNode::new(quick()).await.unwrap();
    let stranger = Authority::generate("other").unwrap();
    let identity =
        Identity { caller: Caller::Node(NodeId::new(9).unwrap()), cluster: "development".parse().unwrap() };
    let credentials = Some(stranger.issue(identity.clone()).unwrap());
    let foreign = SwimConfig { credentials, known_peers: peer(&first), ..quick() };
    let foreign = SwimNode::new(foreign).await.unwrap();
    let other =
        SwimNode::new(SwimConfig { cluster: "other".to_owned(), known_peers: peer(&first), ..quick() });
    let other = other.await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!((live(&first).await, live(&foreign).await, live(&other).await), (1, 1, 1));
    assert_eq!(foreign.lifecycle(), Lifecycle::Joining, "it goes on asking");

    let wrong = |config| async { SwimNode::new(config).await.unwrap_err().to_string() };
    let text =
        wrong(SwimConfig { credentials: Some(stranger.issue(identity).unwrap()), node_id: 5, ..quick() })
            .await;
    assert!(text.contains("use its own"), "{text}");
    let text = wrong(SwimConfig { bind_addr: "0.0.0.0:0".parse().unwrap(), ..quick() }).await;
    assert!(text.contains("advertise_addr"), "{text}");
    let text = wrong(SwimConfig { bind_addr: first.address(), ..quick() }).await;
    assert!(text.contains("cannot listen"), "{text}");
    let text = wrong(SwimConfig { protocol_period_ms: 0, ..quick() }).await;
    assert!(text.contains("zero"), "{text}");
}

// What follows runs this test program again, as members in processes of their own.

const CHILD: &str = "RIVVEN_SWIM_TEST_CHILD";

#[test]
fn a_process_of_the_test_below() {
    let Some(arguments) = std::env::var_os(CHILD) else { return };
    let arguments = arguments.into_string().unwrap();
    let [folder, id, bind, seeds] = <[&str; 4]>::try_from(arguments.split('|').collect::<Vec<_>>()).unwrap();
    let file = |name: String| Path::new(folder).join(name);
    let credentials =
        Credentials::read(&file("ca.pem".into()), &file(format!("{id}.pem")), &file(format!("{id}.key")))
            .unwrap();
    let config = SwimConfig {
        bind_addr: bind.parse().unwrap(),
        known_peers: seeds.split(',').map(|seed| seed.parse().unwrap()).collect(),
        credentials: Some(credentials),
        ..quick()
    };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let node = SwimNode::new(config).await.unwrap();
        loop {
            let members = node.members().await.unwrap();
            let held =
                |member: &rivven_cluster::swim::Member| format!("{}={:?}", member.record.id, member.state);
            let mut held: Vec<String> = members.iter().map(held).collect();
            held.sort();
            let mut out = std::io::stdout().lock();
            writeln!(out, "\nsees {}", held.join(" ")).unwrap();
            out.flush().unwrap();
            drop(out);
            sleep(Duration::from_millis(50)).await;
        }
    });
}

/// Members in processes, and what each last saw.
struct Processes {
    folder: PathBuf,
    binds: Vec<SocketAddr>,
    running: BTreeMap<usize, Child>,
    seen: BTreeMap<usize, String>,
    reports: mpsc::Receiver<(usize, u32, String)>,
    reporter: mpsc::Sender<(usize, u32, String)>,
}

impl Processes {
    fn start(&mut self, index: usize) {
        let seeds: Vec<String> = self.binds.iter().map(ToString::to_string).collect();
        let arguments =
            format!("{}|{}|{}|{}", self.folder.display(), index + 1, self.binds[index], seeds.join(","));
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_process_of_the_test_below", "--nocapture"])
            .env(CHILD, arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (output, reporter, id) = (child.stdout.take().unwrap(), self.reporter.clone(), child.id());
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some(seen) = line.strip_prefix("sees ") {
                    let _ = reporter.send((index, id, seen.to_owned()));
                }
            }
        });
        self.seen.remove(&index);
        self.running.insert(index, child);
    }

    fn signal(&self, index: usize, signal: &str) {
        let id = self.running[&index].id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    fn kill(&mut self, index: usize) {
        let mut child = self.running.remove(&index).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        self.seen.remove(&index);
    }

    /// Waits until all of `observers` see exactly this.
    fn until(&mut self, observers: &[usize], expected: &str) {
        let agrees = |seen: &BTreeMap<usize, String>| {
            observers.iter().all(|observer| seen.get(observer).is_some_and(|seen| seen == expected))
        };
        self.seen.clear();
        while !agrees(&self.seen) {
            let report = self.reports.recv_timeout(Duration::from_secs(60));
            let (index, id, seen) = report.unwrap_or_else(|_| panic!("silence; last seen {:?}", self.seen));
            if self.running.get(&index).is_some_and(|child| child.id() == id) {
                self.seen.insert(index, seen);
            }
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn processes_survive_signals_and_restarts_and_agree() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::generate("test").unwrap();
    authority.write(folder.path()).unwrap();
    let mut binds = Vec::new();
    for id in 1..=3 {
        let identity = Identity {
            caller: Caller::Node(NodeId::new(id).unwrap()),
            cluster: "development".parse().unwrap(),
        };
        authority.issue_files(&identity, folder.path(), &id.to_string()).unwrap();
        binds.push(free_port());
    }
    let (reporter, reports) = mpsc::channel();
    let (running, seen) = (BTreeMap::new(), BTreeMap::new());
    let mut all = Processes { folder: folder.path().to_owned(), binds, running, seen, reports, reporter };
    (0..3).for_each(|index| all.start(index));
    all.until(&[0, 1, 2], "1=Alive 2=Alive 3=Alive");
    for index in 0..3 {
        let others: Vec<usize> = (0..3).filter(|other| *other != index).collect();
        let without =
            [1, 2, 3].map(|id| format!("{id}={}", if id == index + 1 { "Dead" } else { "Alive" })).join(" ");
        all.signal(index, "-STOP");
        all.until(&others, &without);
        all.signal(index, "-CONT");
        all.until(&[0, 1, 2], "1=Alive 2=Alive 3=Alive");
        all.kill(index);
        all.until(&others, &without);
        all.start(index);
        all.until(&[0, 1, 2], "1=Alive 2=Alive 3=Alive");
    }
}

fn free_port() -> SocketAddr {
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
