//! Three node processes in a temporary folder, and what they print: for `demo` and `bench`.

use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rivven_cluster::id::{ClusterName, NodeId, PeerName};
use rivven_cluster::node::{Caller, Event};
use rivven_cluster::quic::{Authority, Client, ClientConfig, Credentials, Identity, Seams, system_entropy};
use rivven_cluster::raft::Standing;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::Failure;

/// The name of the cluster.
pub const CLUSTER: &str = "demo";
/// The ids of the nodes.
const NODES: [u64; 3] = [1, 2, 3];

/// A standing that a node printed.
pub struct Observed {
    pub node: u64,
    pub standing: Standing,
    pub at: Instant,
}

/// The processes, their folder and their certificates. Dropping it kills what still runs.
pub struct Cluster {
    folder: tempfile::TempDir,
    authority: Authority,
    names: BTreeMap<u64, PeerName>,
    processes: BTreeMap<u64, Child>,
    printed: mpsc::UnboundedSender<Observed>,
    standings: mpsc::UnboundedReceiver<Observed>,
}

impl Cluster {
    /// Starts the nodes, with their data somewhere in `place`; `more` is added to each one's configuration.
    pub async fn start(place: &Path, more: &str) -> Result<Cluster, Failure> {
        let folder = tempfile::Builder::new().prefix("rivven-").tempdir_in(place)?;
        let authority = Authority::generate(CLUSTER)?;
        authority.write(folder.path())?;
        let (printed, standings) = mpsc::unbounded_channel();
        let names = free_addresses()?;
        let processes = BTreeMap::new();
        let mut cluster = Cluster { folder, authority, names, processes, printed, standings };
        for node in NODES {
            let identity = cluster.identity(Caller::Node(node_id(node)?))?;
            cluster.authority.issue_files(&identity, cluster.folder.path(), &format!("node-{node}"))?;
            fs::write(cluster.config_path(node), cluster.config(node) + more)?;
            cluster.restart(node).await?;
        }
        Ok(cluster)
    }

    /// Starts the process of a node.
    pub async fn restart(&mut self, node: u64) -> Result<(), Failure> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["run", "--json", "--config"])
            .arg(self.config_path(node))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = process.stdout.take().ok_or_else(|| Failure("a process has no output".to_owned()))?;
        let printed = self.printed.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(stdout).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let at = Instant::now();
                if let Ok(Event::Standing(standing)) = serde_json::from_str(&line) {
                    let _ = printed.send(Observed { node, standing, at });
                }
            }
        });
        self.processes.insert(node, process);
        Ok(())
    }

    /// Kills a process with SIGKILL.
    pub async fn kill(&mut self, node: u64) -> Result<(), Failure> {
        let process = self.processes.get_mut(&node).ok_or_else(|| Failure(format!("no node {node}")))?;
        Ok(process.kill().await?)
    }

    /// Lets a process stand still (SIGSTOP), or go on (SIGCONT).
    pub async fn pause(&self, node: u64, stands: bool) -> Result<(), Failure> {
        let process = self.processes.get(&node).and_then(Child::id);
        let process = process.ok_or_else(|| Failure(format!("no node {node}")))?;
        let signal = if stands { "-STOP" } else { "-CONT" };
        let sent = Command::new("kill").arg(signal).arg(process.to_string()).status().await?;
        if sent.success() { Ok(()) } else { Err(Failure(format!("no signal reached node {node}"))) }
    }

    /// The ids of the processes.
    pub fn processes(&self) -> Vec<u32> {
        self.processes.values().filter_map(Child::id).collect()
    }

    /// Ends all processes.
    pub async fn stop(&mut self) {
        for process in self.processes.values_mut() {
            // It may have ended by itself; then there is nothing to do.
            let _ = process.kill().await;
        }
    }

    /// Waits until a node prints that its standing has changed.
    pub async fn next_standing(&mut self) -> Result<Observed, Failure> {
        self.standings.recv().await.ok_or_else(|| Failure("all nodes have gone silent".to_owned()))
    }

    /// Passes over what was printed so far.
    pub fn forget_events(&mut self) {
        while self.standings.try_recv().is_ok() {}
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn addresses(&self) -> Vec<&str> {
        self.names.values().map(PeerName::as_str).collect()
    }

    pub fn peer_names(&self) -> BTreeMap<u64, PeerName> {
        self.names.clone()
    }

    pub fn credentials(&self, caller: Caller) -> Result<Credentials, Failure> {
        Ok(self.authority.issue(self.identity(caller)?)?)
    }

    /// Issues a client's certificate and key, as files of this name.
    pub fn client_files(&self, name: &str) -> Result<(PathBuf, PathBuf), Failure> {
        Ok(self.authority.issue_files(&self.identity(Caller::Client)?, self.folder(), name)?)
    }

    /// Opens a client that knows all nodes.
    pub fn client(&self, caller: Caller, timeout: Duration) -> Result<Client, Failure> {
        let addresses = self.names.values().cloned().collect();
        let seams = Seams::system("127.0.0.1:0".parse()?)?;
        Ok(Client::open(&seams, &self.credentials(caller)?, ClientConfig { addresses, timeout })?)
    }

    fn identity(&self, caller: Caller) -> Result<Identity, Failure> {
        let cluster: ClusterName = CLUSTER.parse()?;
        Ok(Identity { caller, cluster })
    }

    fn config_path(&self, node: u64) -> PathBuf {
        self.folder.path().join(format!("node-{node}.yaml"))
    }

    fn config(&self, node: u64) -> String {
        let peers: Vec<String> =
            self.names.iter().filter(|(id, _)| **id != node).map(|(_, name)| format!("\"{name}\"")).collect();
        format!(
            "cluster:\n  node_id: {node}\n  name: {CLUSTER}\n  bind_address: \"{}\"\n  data_dir: node-{node}\n  \
             tls:\n    ca: ca.pem\n    cert: node-{node}.pem\n    key: node-{node}.key\n  \
             raft:\n    peers: [{}]\n",
            self.names[&node],
            peers.join(", ")
        )
    }
}

fn node_id(node: u64) -> Result<NodeId, Failure> {
    NodeId::new(node).ok_or_else(|| Failure("0 is no node id".to_owned()))
}

/// Finds a free port for each node, below the range from which the system gives ports to clients.
fn free_addresses() -> Result<BTreeMap<u64, PeerName>, Failure> {
    let mut choices = system_entropy()?.stream("demo ports", 0);
    let mut names = BTreeMap::new();
    for node in NODES {
        let port = loop {
            let port = u16::try_from(choices.between(20_000, 32_000))?;
            let is_ours = names.values().any(|name: &PeerName| name.port() == port);
            if !is_ours && UdpSocket::bind(("127.0.0.1", port)).is_ok() {
                break port;
            }
        };
        names.insert(node, format!("127.0.0.1:{port}").parse()?);
    }
    Ok(names)
}
