//! Flights of nodes in production: QUIC, TLS, a segment log, and the recorder in the driver. Then the ground: the bare
//! node, told the same again by the command line.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it starts the program, reads what it writes, and finds a free port by binding it"
)]

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rivven_cluster::driver::recorder::Settings;
use rivven_cluster::driver::{
    Clock, DriverError, Owner, SegmentStorage, SystemFolder, TokioClock, open_or_set_aside,
};
use rivven_cluster::flight::{Flight, FlightError, Payloads, Step};
use rivven_cluster::id::{ClusterName, NodeId, PeerName};
use rivven_cluster::kv::KeyValue;
use rivven_cluster::node::{Caller, Config, Input, Limits, Partitioning};
use rivven_cluster::quic::{Authority, Identity, Launch, Parts, RaftConfig, RaftNode, Seams};
use rivven_cluster::raft::{Flow, Timing};
use rivven_cluster::time::{Instant, WallSeconds};
use rivven_sim::flight::branch::{Turn, branch};
use rivven_sim::flight::{Ending, replay};
use rivven_sim::trace::Trace;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// What users wrote, and what is nobody else's business.
const SECRET: &str = "the-king-has-donkey-ears";

fn sim(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_rivven-sim")).args(arguments).output().expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

/// Does something asynchronous.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await.expect("in time") })
}

fn free_port() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port")
}

fn flights_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("there is one");
    let mut flights: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    flights.sort();
    flights
}

fn holds(bytes: &[u8], what: &str) -> bool {
    bytes.windows(what.len()).any(|window| window == what.as_bytes())
}

/// Three nodes under load, in one process; each is asked for a flight, in the middle of everything and once more.
async fn fly(folder: &Path, base_port: u16, payloads: Payloads) -> Vec<PathBuf> {
    let mut nodes = Vec::new();
    for node_id in 1..=3 {
        let recorder = Settings { payloads, ..Settings::in_folder(folder.join(node_id.to_string())) };
        let config = RaftConfig {
            node_id,
            peers: (1..=3).filter(|peer| *peer != node_id).collect(),
            base_port,
            partitioning: Some(Partitioning::default()),
            recorder: Some(recorder),
            ..RaftConfig::default()
        };
        nodes.push(RaftNode::new(config).await.expect("it starts"));
    }
    for round in 0..2 {
        for number in 0..100 {
            let client = nodes[number % 3].client();
            let key = || format!("{SECRET}-{number}");
            client.put(key(), format!("{SECRET}={round}")).await.expect("it is written");
            assert!(client.get(key()).await.expect("it is read").is_some());
        }
        for node in &nodes {
            let written = node.recorder().expect("it is recorded").write().await.expect("it is written");
            assert!(written.steps > 100, "{written:?}");
        }
    }
    for node in nodes {
        node.shutdown().await.expect("it stops in order");
    }
    (1..=3).flat_map(|node| flights_in(&folder.join(node.to_string()))).collect()
}

#[test]
fn what_nodes_of_a_cluster_were_told_makes_bare_nodes_say_the_same() {
    for (payloads, base_port) in [(Payloads::Hashed, 27_400), (Payloads::Whole, 27_410)] {
        let folder = tempfile::tempdir().expect("a folder");
        let flights = block_on(fly(folder.path(), base_port, payloads));
        assert_eq!(flights.len(), 6);
        for path in flights {
            let bytes = std::fs::read(&path).expect("a flight");
            let is_told = holds(&bytes, SECRET);
            assert_eq!(
                is_told,
                payloads == Payloads::Whole,
                "{} tells the secret: {is_told}",
                path.display()
            );
            let flight = Flight::decode(&bytes).expect("a flight");
            let played = replay(&flight, &mut Trace::off());
            assert!(played.is_same() && played.outputs > 50, "{}: {played:?}", path.display());
        }
    }
}

/// A clock that goes back when it is told to: no node survives that.
#[derive(Clone)]
struct Broken {
    clock: TokioClock,
    is_broken: Arc<AtomicBool>,
}

impl Clock for Broken {
    fn now(&self) -> Instant {
        if self.is_broken.load(Ordering::Acquire) { Instant::ORIGIN } else { self.clock.now() }
    }

    fn wake_at(&self, instant: Instant) -> tokio::time::Instant {
        self.clock.wake_at(instant)
    }

    fn wall(&self) -> WallSeconds {
        self.clock.wall()
    }
}

/// Launches a node on a clock that can be broken.
fn launch(folder: &Path, clock: Broken) -> rivven_cluster::quic::Running {
    let cluster: ClusterName = "flights".parse().expect("a name");
    let (id, bind) = (NodeId::new(1).expect("not 0"), free_port());
    let address: PeerName = bind.to_string().parse().expect("an address");
    let config = Config {
        id,
        address,
        peers: std::collections::BTreeSet::new(),
        timing: Timing::default(),
        limits: Limits::default(),
        flow: Flow::default(),
        votes: true,
        gossip: None,
        partitioning: None,
    };
    let authority = Authority::generate("flights").expect("entropy");
    let identity = Identity { caller: Caller::Node(id), cluster: cluster.clone() };
    let credentials = authority.issue(identity).expect("a certificate");
    let data = SystemFolder::claim(&folder.join("data")).expect("a folder");
    let owner = Owner { cluster, node: id };
    let opened = open_or_set_aside(&data, |folder| SegmentStorage::open(folder, &owner, 1));
    let (storage, durable) = opened.expect("an empty folder");
    let recorder = Some(Settings::in_folder(folder.join("flights")));
    let launch = Launch { recorder, ..Launch::new(config, bind, folder.join("data"), credentials) };
    let seams = Seams::system(bind).expect("a socket");
    let parts = Parts { seams, gossip: None, storage, durable, clock };
    launch.start_on(parts, KeyValue::default(), ()).expect("it starts")
}

/// Something that no test has thought of: the node panics. What is left is a file; and two commands later, a picture.
#[test]
fn a_panic_in_production_is_a_picture_in_two_commands() {
    let folder = tempfile::tempdir().expect("a folder");
    let ended = block_on(async {
        let is_broken = Arc::new(AtomicBool::new(false));
        let clock = Broken { clock: TokioClock::start(), is_broken: Arc::clone(&is_broken) };
        let running = launch(folder.path(), clock);
        let mut leadership = running.watched.leadership.clone();
        leadership.wait_for(|now| now.fencing_token().is_some()).await.expect("it leads");
        is_broken.store(true, Ordering::Release);
        running.task.await.expect("the driver contains it")
    });
    assert!(matches!(&ended, Err(DriverError::Panicked(why)) if why.contains("time went back")), "{ended:?}");
    let flights = flights_in(&folder.path().join("flights"));
    let [flight] = &flights[..] else { panic!("one flight, not {flights:?}") };
    let flight = flight.display().to_string();
    let (code, told) = sim(&["replay", "--flight", &flight]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("panics as it did: time went back"), "{told}");
    let picture = folder.path().join("report.html").display().to_string();
    let (code, told) = sim(&["report", "--flight", &flight, "--out", &picture]);
    assert_eq!(code, Some(0), "{told}");
    let page = std::fs::read_to_string(&picture).expect("a picture");
    assert!(
        page.contains("time went back") && page.contains("a flight of node 1"),
        "it is not in the picture"
    );
}

/// The flights of a small cluster, for what is done with one on the ground.
fn a_flight(folder: &Path, base_port: u16) -> PathBuf {
    block_on(fly(folder, base_port, Payloads::Hashed)).swap_remove(0)
}

#[test]
fn some_inputs_could_have_been_lost_and_a_finished_write_could_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = a_flight(folder.path(), 27_420);
    let flight = Flight::decode(&std::fs::read(&path).expect("a flight")).expect("a flight");
    let inputs: Vec<&Input> = flight.steps.iter().filter_map(as_input).collect();
    let command_line = |number: usize| {
        let path = path.display().to_string();
        sim(&["replay", "--flight", &path, "--branch", &number.to_string(), "--then", "2"])
    };
    let written = inputs.iter().position(|input| matches!(input, Input::Written(_))).expect("it writes") + 1;
    let (code, told) = command_line(written);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("it says something else first"), "nothing goes on without the disk: {told}");
    let makes_no_difference = |number: &usize| {
        let turn = Turn { input: *number, then: Duration::from_secs(1) };
        let branched = branch(&flight, turn, &mut Trace::off()).expect("there is such an input");
        assert_eq!(branched.broken, None, "without input {number}");
        branched.parting.is_none()
    };
    let lost = (1..=inputs.len()).find(makes_no_difference).expect("some are said twice, or late");
    let (code, told) = command_line(lost);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("it says what it said then"), "{told}");
    let (code, told) = command_line(inputs.len() + 1);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains(&format!("the flight has {} inputs", inputs.len())), "{told}");
}

fn as_input(step: &Step) -> Option<&Input> {
    match step {
        Step::Input(_, input) => Some(input),
        Step::Timeout(_) | Step::Output(_) | Step::Settled | Step::Said(_) => None,
    }
}

#[test]
fn what_is_no_flight_or_not_the_same_any_more_is_refused_or_shows() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = a_flight(folder.path(), 27_430);
    let bytes = std::fs::read(&path).expect("a flight");
    assert_eq!(Flight::decode(b"something else").unwrap_err(), FlightError::NoFlight);
    let mut later = bytes.clone();
    later[8] += 1;
    assert!(matches!(Flight::decode(&later), Err(FlightError::OtherVersion { .. })));
    for place in [21, bytes.len() / 2, bytes.len() - 1] {
        let mut rotten = bytes.clone();
        rotten[place] ^= 1;
        assert!(Flight::decode(&rotten).is_err(), "the byte at {place}");
    }
    for length in (0..bytes.len()).step_by(997) {
        assert!(Flight::decode(&bytes[..length]).is_err(), "the first {length}");
    }
    // It is written in rows of steps: so are many.
    let mut flight = Flight::decode(&bytes).expect("a flight");
    let mut long = flight.clone();
    long.steps = flight.steps.iter().cycle().take(200_000).cloned().collect();
    let written = long.encode();
    assert!(written.len() > 1024 * 1024);
    assert_eq!(Flight::decode(&written).expect("a flight").steps, long.steps);
    // A node that was told something else says something else: the comparison bites.
    let written = flight.steps.iter().position(|step| matches!(as_input(step), Some(Input::Written(_))));
    flight.steps.remove(written.expect("there is one"));
    let played = replay(&flight, &mut Trace::off());
    assert!(matches!(played.ending, Ending::Differs(..)), "{played:?}");
    let changed = folder.path().join("changed.flight");
    std::fs::write(&changed, flight.encode()).expect("a writable folder");
    let (code, told) = sim(&["replay", "--flight", &changed.display().to_string()]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("DIFFERS"), "{told}");
    let (code, told) = sim(&["replay", "--flight", &folder.path().join("none").display().to_string()]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("cannot read"), "{told}");
}
