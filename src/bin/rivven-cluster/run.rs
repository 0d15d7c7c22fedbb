//! `run`: one node, until it is told to stop or stops itself.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use rivven_cluster::config::{GossipSettings, Runnable, Settings, TlsPaths};
use rivven_cluster::driver::recorder::{self, Trigger};
use rivven_cluster::driver::{DriverError, Meter, Observer, meter};
use rivven_cluster::id::{NodeId, PeerName};
use rivven_cluster::kv::KeyValue;
use rivven_cluster::node::{Config, Event, Gossip, Halt, Output};
use rivven_cluster::quic::{CredentialFiles, Credentials, DATAGRAM_MAX, Launch, resolve};
use rivven_cluster::raft::Flow;
use rivven_cluster::swim;
use rivven_cluster::time::Instant;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::Failure;

/// How often it is looked whether the certificates have changed.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(2);
/// Where recordings are written, in the data folder.
const FLIGHTS: &str = "flights";

/// Prints what happens, a line each, and logs to standard error (RUST_LOG sets how much).
#[derive(clap::Args)]
pub struct Options {
    /// The YAML file of the node.
    #[arg(long)]
    config: PathBuf,
    /// Print what happens as JSON, an object a line.
    #[arg(long)]
    json: bool,
}

pub async fn run(options: &Options) -> Result<(), Failure> {
    let (settings, runnable, credentials) = load(&options.config)?;
    let gossip = settings.gossip.map(|given| gossip(given, &runnable.advertise_address, &credentials));
    let config = Config {
        id: settings.node_id,
        address: runnable.advertise_address,
        peers: settings.peers,
        timing: settings.timing,
        limits: settings.limits,
        flow: Flow::default(),
        votes: settings.votes,
        gossip: gossip.transpose()?,
        partitioning: settings.partitioning.map(|given| given.node),
    };
    let (id, bind) = (config.id, settings.bind_address);
    let (files, before) = (files(&runnable.tls), credentials.clone());
    let recorder = settings.recorder.map(|given| recorder::Settings {
        bytes: given.bytes,
        payloads: given.payloads,
        ..recorder::Settings::in_folder(runnable.data_dir.join(FLIGHTS))
    });
    let (data_dir, limits) = (runnable.data_dir, settings.connections);
    let launch = Launch { config, bind, data_dir, credentials, limits, recorder };
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let asks = signal(SignalKind::user_defined1())?;
    if let Some(address) = settings.metrics_address {
        serve_metrics(address)?;
    }
    let observer = (Printer { json: options.json }, Meter::default());
    let running = launch.start(KeyValue::default(), observer)?;
    if !options.json {
        say(&format!("node {id} listens on {bind}"));
    }
    tokio::spawn(running.renewal.follow(files, before, RENEWAL_INTERVAL));
    tokio::spawn(write_flights(asks, running.recorder));
    let handle = running.handle;
    let mut task = running.task;
    tokio::select! {
        ended = &mut task => return match ended? {
            // What it was asked for has come about, or the operator knows.
            Err(DriverError::Halted(Halt::Removed)) => Ok(()),
            ended => Ok(ended?),
        },
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    handle.shutdown().await;
    task.await??;
    if !options.json {
        say(&format!("node {id} has stopped"));
    }
    Ok(())
}

/// Writes what was recorded whenever SIGUSR1 comes. Whether it was written is in the log.
async fn write_flights(mut asks: Signal, recorder: Option<Trigger>) {
    while asks.recv().await.is_some() {
        match &recorder {
            Some(recorder) => drop(recorder.write().await),
            None => {
                tracing::warn!("SIGUSR1 asks for a recording, but the file says `recorder: enabled: false`")
            }
        }
    }
}

/// Prints a line. A node goes on when nobody reads it, or when the disk that it goes to is full.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Serves what is counted, as Prometheus reads it.
fn serve_metrics(address: SocketAddr) -> Result<(), Failure> {
    let installed = PrometheusBuilder::new().with_http_listener(address).install();
    installed.map_err(|error| Failure(format!("cannot serve metrics on {address}: {error}")))?;
    meter::describe();
    Ok(())
}

/// How the node gossips: at the port of the file, on the host that others dial.
fn gossip(given: GossipSettings, address: &PeerName, credentials: &Credentials) -> Result<Gossip, Failure> {
    let GossipSettings { bind_port, known_peers, timing, zone } = given;
    let address = SocketAddr::new(resolve(address)?.ip(), bind_port);
    let own = |peer: &PeerName| peer.as_str() == address.to_string();
    let seeds = known_peers.into_iter().filter(|peer| !own(peer)).collect();
    let cluster = credentials.identity().cluster.clone();
    Ok(Gossip { cluster, address, seeds, zone, timing, datagram_max: DATAGRAM_MAX })
}

/// Reads the file, and the certificates that it names.
pub fn load(path: &Path) -> Result<(Settings, Runnable, Credentials), Failure> {
    let in_file = |error: &dyn std::fmt::Display| Failure(format!("{}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| in_file(&error))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let settings = Settings::parse(&text, folder).map_err(|error| in_file(&error))?;
    let runnable = settings.runnable().map_err(|error| in_file(&error))?;
    let tls = &runnable.tls;
    let credentials = files(tls).read()?;
    let certified = &credentials.identity().cluster;
    match &settings.name {
        Some(name) if name != certified => Err(Failure(format!(
            "{}: cluster.name is {name}, but {} is for cluster {certified}: use the certificate of this cluster",
            path.display(),
            tls.cert.display(),
        ))),
        Some(_) | None => Ok((settings, runnable, credentials)),
    }
}

fn files(tls: &TlsPaths) -> CredentialFiles {
    CredentialFiles { authority: tls.ca.clone(), certificate: tls.cert.clone(), key: tls.key.clone() }
}

/// Prints events.
struct Printer {
    json: bool,
}

impl<S> Observer<S> for Printer {
    fn output(&mut self, _now: Instant, output: &Output) {
        let Output::Event(event) = output else { return };
        if self.json {
            match serde_json::to_string(event) {
                Ok(line) => say(&line),
                Err(error) => tracing::error!("an event cannot be printed: {error}"),
            }
        } else if !matches!(event, Event::Metadata { .. }) {
            // What clients change all the time is in the log, at level debug.
            say(&describe(event));
        }
    }
}

fn describe(event: &Event) -> String {
    match event {
        Event::Formed { voters } => {
            let voters: Vec<String> = voters.iter().map(ToString::to_string).collect();
            format!("the cluster has formed; its voters are {}", voters.join(", "))
        }
        Event::FormationRefused(refusal) => format!("not a member of a cluster: {refusal}"),
        Event::TakenIn => "the cluster has taken this node in".to_owned(),
        Event::Membership(membership) => {
            let list = |nodes: &BTreeSet<NodeId>| {
                let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
                nodes.join(", ")
            };
            let (voters, learners) = (list(membership.voters()), list(membership.learners()));
            let joint = if membership.is_joint() { ", jointly with those before" } else { "" };
            format!("voters are {voters}{joint}; learners are {learners}")
        }
        Event::Standing(standing) => {
            let leader = standing.leader.map_or("nobody".to_owned(), |leader| format!("node {leader}"));
            format!("{} in term {}; {leader} leads", standing.role, standing.term)
        }
        Event::Alarm { from, refusal } => format!("ALARM: node {from} broke a promise: {refusal:?}"),
        Event::Halted { reason } => format!("halted: {reason}"),
        Event::SnapshotUnreadable { reason } => format!("the leader's snapshot cannot be read: {reason}"),
        Event::Gossip(event) => describe_gossip(*event),
        Event::ManySeemGone => "many nodes seem gone at once: they are fenced one at a time".to_owned(),
        Event::Metadata { at, .. } => format!("the metadata changed at {at}"),
        other => format!("{other:?}"),
    }
}

fn describe_gossip(event: swim::Event) -> String {
    let what = match event {
        swim::Event::Joined(node) => format!("node {node} is there"),
        swim::Event::Rejoined(node) => format!("node {node} is back"),
        swim::Event::Suspected(node) => format!("node {node} does not answer"),
        swim::Event::Cleared(node) => format!("node {node} answers again"),
        swim::Event::Dead(node) => format!("node {node} is dead"),
        swim::Event::Left(node) => format!("node {node} has said goodbye"),
        swim::Event::Isolated => "nobody answers any more".to_owned(),
        swim::Event::Reconnected => "somebody answers again".to_owned(),
        swim::Event::HealthChanged(health) => format!("this node finds itself {health} of 7 slow"),
        swim::Event::Converged(hash) => format!("all agree on who is there ({hash:016x})"),
        swim::Event::Updated(node) => format!("node {node} says something else of itself"),
        swim::Event::AddressChanged(node) => format!("node {node} is somewhere else"),
        swim::Event::IdConflict(node) => format!("two processes have the id {node}"),
        swim::Event::LinkDegraded(node) => format!("node {node} answers others, but not this node"),
        swim::Event::ZoneUnreachable(zone) => format!("hardly anybody in zone {zone} answers"),
        swim::Event::BacklogHigh(pieces) => format!("{pieces} pieces of news wait to be passed on"),
        swim::Event::VersionMismatch(node) => format!("node {node} speaks another version"),
        swim::Event::Fenced => "another process with this node's id was started later".to_owned(),
        other => format!("{other:?}"),
    };
    format!("gossip: {what}")
}
