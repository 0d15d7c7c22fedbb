//! Real processes of the command line, as an operator starts them.

use std::collections::BTreeMap;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// Node processes, their files and certificates. Dropping it kills what still runs.
pub struct Nodes {
    pub folder: tempfile::TempDir,
    pub ports: BTreeMap<u64, u16>,
    pub gossip: BTreeMap<u64, u16>,
    pub processes: BTreeMap<u64, Child>,
    /// What is added to each one's file.
    more: &'static str,
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for process in self.processes.values_mut() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Runs the program to its end.
pub fn rivven(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rivven-cluster")).args(arguments).output().expect("the program runs")
}

/// What it printed.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Nodes {
    /// Starts nodes 1 to 3; a fourth one has a certificate.
    pub fn start(more: &'static str) -> Nodes {
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
        let mut nodes = Nodes { folder, ports, gossip, processes: BTreeMap::new(), more };
        for node in 1..=3 {
            nodes.configure(node, &(1..=3).filter(|peer| *peer != node).collect::<Vec<u64>>());
            nodes.run(node);
        }
        nodes
    }

    /// The file of a node.
    pub fn config(&self, node: u64) -> String {
        self.folder.path().join(format!("{node}.yaml")).display().to_string()
    }

    /// Writes the file of a node.
    pub fn configure(&self, node: u64, peers: &[u64]) {
        let names = |ports: &BTreeMap<u64, u16>| {
            let names = peers.iter().map(|peer| format!("\"127.0.0.1:{}\"", ports[peer]));
            names.collect::<Vec<String>>().join(", ")
        };
        let text = format!(
            "cluster:\n  node_id: {node}\n  name: prod\n  bind_address: \"127.0.0.1:{}\"\n  data_dir: data-{node}\n  \
             tls: {{ca: ca.pem, cert: node-{node}.pem, key: node-{node}.key}}\n  raft: {{peers: [{}]}}\n  \
             gossip: {{bind_port: {}, known_peers: [{}], protocol_period_ms: 200, suspect_timeout_ms: 400}}\n{}",
            self.ports[&node],
            names(&self.ports),
            self.gossip[&node],
            names(&self.gossip),
            self.more,
        );
        std::fs::write(self.config(node), text).expect("a writable folder");
    }

    /// Starts the process of a node.
    pub fn run(&mut self, node: u64) {
        let process = Command::new(env!("CARGO_BIN_EXE_rivven-cluster"))
            .args(["run", "--config", &self.config(node)])
            .stdout(Stdio::null())
            .spawn()
            .expect("the program runs");
        self.processes.insert(node, process);
    }

    /// Kills a process with SIGKILL.
    pub fn kill(&mut self, node: u64) {
        let mut process = self.processes.remove(&node).expect("it runs");
        process.kill().expect("it is ours");
        process.wait().expect("it ends");
    }

    /// Runs a command of the operator's with the file of a node.
    pub fn operate(&self, arguments: &[&str], node: u64) -> Output {
        let operator = self.folder.path().join("operator").display().to_string();
        rivven(&[arguments, &["--config", &self.config(node), "--operator", &operator]].concat())
    }
}
