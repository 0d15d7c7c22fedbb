//! Members by the command line, as an operator does it: real processes, files and signals.
#![cfg(all(feature = "cli", unix))]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test of the command line starts processes, binds ports and writes files"
)]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(40);

struct Nodes {
    folder: tempfile::TempDir,
    ports: BTreeMap<u64, u16>,
    gossip: BTreeMap<u64, u16>,
    processes: BTreeMap<u64, Child>,
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for process in self.processes.values_mut() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn rivven(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rivven-cluster")).args(arguments).output().expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Nodes {
    fn start() -> Nodes {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().display().to_string();
        let made = rivven(&["certs", "--cluster", "prod", "--out", &out, "--nodes", "1,2,3,4"]);
        assert!(made.status.success(), "{}", text(&made.stderr));
        let port = |_| {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
            socket.local_addr().expect("bound").port()
        };
        let ports = (1..=4).map(|node| (node, port(node))).collect();
        let gossip = (1..=4).map(|node| (node, port(node))).collect();
        let mut nodes = Nodes { folder, ports, gossip, processes: BTreeMap::new() };
        for node in 1..=3 {
            nodes.configure(node, &(1..=3).filter(|peer| *peer != node).collect::<Vec<u64>>());
            nodes.run(node);
        }
        nodes
    }

    fn config(&self, node: u64) -> String {
        self.folder.path().join(format!("{node}.yaml")).display().to_string()
    }

    fn configure(&self, node: u64, peers: &[u64]) {
        let names = |ports: &BTreeMap<u64, u16>| {
            let names = peers.iter().map(|peer| format!("\"127.0.0.1:{}\"", ports[peer]));
            names.collect::<Vec<String>>().join(", ")
        };
        let text = format!(
            "cluster:\n  node_id: {node}\n  name: prod\n  bind_address: \"127.0.0.1:{}\"\n  data_dir: data-{node}\n  \
             tls: {{ca: ca.pem, cert: node-{node}.pem, key: node-{node}.key}}\n  raft: {{peers: [{}]}}\n  \
             gossip: {{bind_port: {}, known_peers: [{}], protocol_period_ms: 200, suspect_timeout_ms: 400}}\n",
            self.ports[&node],
            names(&self.ports),
            self.gossip[&node],
            names(&self.gossip),
        );
        std::fs::write(self.config(node), text).expect("a writable folder");
    }

    fn run(&mut self, node: u64) {
        let process = Command::new(env!("CARGO_BIN_EXE_rivven-cluster"))
            .args(["run", "--config", &self.config(node)])
            .stdout(Stdio::null())
            .spawn()
            .expect("the program runs");
        self.processes.insert(node, process);
    }

    fn kill(&mut self, node: u64) {
        let mut process = self.processes.remove(&node).expect("it runs");
        process.kill().expect("it is ours");
        process.wait().expect("it ends");
    }

    /// Runs a command of the operator's with the file of a node.
    fn operate(&self, arguments: &[&str], node: u64) -> Output {
        let operator = self.folder.path().join("operator").display().to_string();
        rivven(&[arguments, &["--config", &self.config(node), "--operator", &operator]].concat())
    }

    /// The members as JSON, once they are like this.
    fn until(&self, node: u64, wanted: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let began = Instant::now();
        loop {
            let listed = rivven(&["member", "list", "--json", "--config", &self.config(node)]);
            let json = serde_json::from_slice(&listed.stdout).unwrap_or_default();
            if wanted(&json) {
                return json;
            }
            assert!(began.elapsed() < PATIENCE, "{json}\n{}", text(&listed.stderr));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Until this node holds that one to be in this state.
    fn until_held(&self, by: u64, of: u64, state: &str) {
        let began = Instant::now();
        loop {
            let told = rivven(&["status", "--json", "--config", &self.config(by)]);
            let json: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap_or_default();
            let members = json["gossip"]["members"].as_array().cloned().unwrap_or_default();
            let held = members.iter().find(|member| member["node"] == of);
            if held.is_some_and(|member| member["state"] == state) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{members:?}\n{}", text(&told.stderr));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn ends(&mut self, node: u64) -> Option<i32> {
        let began = Instant::now();
        loop {
            let process = self.processes.get_mut(&node).expect("it ran");
            if let Some(status) = process.try_wait().expect("it is ours") {
                self.processes.remove(&node);
                return status.code();
            }
            assert!(began.elapsed() < PATIENCE, "node {node} does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn voters(members: &serde_json::Value) -> Vec<u64> {
    let all = members["members"].as_array().cloned().unwrap_or_default();
    let voters = all.iter().filter(|member| member["part"] == "Voter");
    voters.filter_map(|member| member["node"].as_u64()).collect()
}

#[test]
fn members_come_hand_over_leave_and_the_last_one_recovers() {
    let mut nodes = Nodes::start();
    nodes.until(1, |members| voters(members) == [1, 2, 3] && members["leader"].is_u64());

    // A fourth node, that knows one address.
    nodes.configure(4, &[2]);
    nodes.run(4);
    nodes.until(4, |members| voters(members) == [1, 2, 3, 4]);

    // Only operators change anything.
    let refused = rivven(&["transfer", "--to", "4", "--config", &nodes.config(1)]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("use an operator's"), "{}", text(&refused.stderr));
    let moved = nodes.operate(&["transfer", "--to", "4"], 1);
    assert_eq!(text(&moved.stdout).trim(), "node 4 leads", "{}", text(&moved.stderr));
    let removed = nodes.operate(&["member", "remove", "3"], 1);
    assert!(removed.status.success(), "{}", text(&removed.stderr));
    assert!(text(&removed.stdout).contains("removed: 3"), "{}", text(&removed.stdout));
    assert_eq!(nodes.ends(3), Some(0), "who was removed ends in order");
    let dead = nodes.operate(&["member", "add", "3", "127.0.0.1:1"], 1);
    assert!(text(&dead.stderr).contains("never used again"), "{}", text(&dead.stderr));

    // A node leaves by itself, although it leads.
    let left = rivven(&["leave", "--config", &nodes.config(4)]);
    assert!(left.status.success(), "{}", text(&left.stderr));
    assert_eq!(nodes.ends(4), Some(0));
    nodes.until(1, |members| voters(members) == [1, 2]);

    // A majority is lost for good.
    nodes.kill(1);
    let in_use = rivven(&["recover", "--unsafe", "--yes", "--config", &nodes.config(2)]);
    assert!(text(&in_use.stderr).contains("another process"), "{}", text(&in_use.stderr));
    nodes.kill(2);
    assert_eq!(
        rivven(&["recover", "--config", &nodes.config(2)]).status.code(),
        Some(2),
        "--unsafe is required"
    );
    let mut asked = Command::new(env!("CARGO_BIN_EXE_rivven-cluster"))
        .args(["recover", "--unsafe", "--config", &nodes.config(2)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    asked.stdin.take().expect("piped").write_all(b"yes\n").expect("it listens");
    let answer = asked.wait_with_output().expect("it ends");
    assert_eq!(answer.status.code(), Some(1), "that is not the name of the cluster");
    assert!(text(&answer.stdout).contains("DEAD FOR GOOD: 1"), "{}", text(&answer.stdout));
    let recovered = rivven(&["recover", "--unsafe", "--yes", "--config", &nodes.config(2)]);
    assert!(recovered.status.success(), "{}", text(&recovered.stderr));
    nodes.run(2);
    let alone = nodes.until(2, |members| voters(members) == [2] && members["leader"] == 2);
    assert_eq!(alone["removed"], serde_json::json!([1, 3, 4]));
}

#[test]
fn status_tells_who_is_there_who_died_and_who_said_goodbye() {
    let mut nodes = Nodes::start();
    for by in 1..=3 {
        (1..=3).for_each(|of| nodes.until_held(by, of, "Alive"));
    }
    let shown = text(&rivven(&["status", "--config", &nodes.config(1)]).stdout);
    let line = format!("member     node 3 at 127.0.0.1:{}: alive for", nodes.gossip[&3]);
    assert!(shown.contains(&line), "{shown}");

    nodes.kill(3);
    nodes.until_held(1, 3, "Dead");
    nodes.run(3);
    nodes.until_held(1, 3, "Alive");
    nodes.until_held(3, 1, "Alive");

    let stopped = Command::new("kill").args(["-TERM", &nodes.processes[&2].id().to_string()]).status();
    assert!(stopped.expect("there is a kill").success());
    assert_eq!(nodes.ends(2), Some(0));
    nodes.until_held(1, 2, "Left");
    nodes.run(2);
    nodes.until_held(1, 2, "Alive");

    // A fourth node is met by whoever it knows, and by all.
    nodes.configure(4, &[2]);
    nodes.run(4);
    nodes.until_held(3, 4, "Alive");
    nodes.until_held(4, 3, "Alive");
}
