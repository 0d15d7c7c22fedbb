//! `status`: how a node is, for people or as JSON.

use std::path::PathBuf;
use std::time::Duration;

use rivven_cluster::formation::Standing;
use rivven_cluster::id::NodeId;
use rivven_cluster::node::{GossipMember, LinkState, Status};
use rivven_cluster::quic::{Client, ClientConfig, Seams};

use crate::Failure;
use crate::run::load;

/// How long a node may take to answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Asks the node at the file's advertise_address, with the node's own certificate.
#[derive(clap::Args)]
pub struct Options {
    /// The YAML file of the node.
    #[arg(long)]
    config: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub async fn status(options: &Options) -> Result<(), Failure> {
    let (_, runnable, credentials) = load(&options.config)?;
    let address = runnable.advertise_address;
    let seams = Seams::system("0.0.0.0:0".parse()?)?;
    let config = ClientConfig { addresses: vec![address.clone()], timeout: TIMEOUT };
    let client = Client::open(&seams, &credentials, config)?;
    let status = client.status(&address).await?;
    client.close();
    if options.json {
        println!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        print(&status);
    }
    Ok(())
}

fn print(status: &Status) {
    println!("node {} at {}, started {} times", status.node, status.address, status.boot);
    match &status.formation {
        Standing::Fresh => println!("cluster    not formed: waiting for all peers"),
        Standing::Pledged(voters) => println!("cluster    not formed: waiting for all of {voters} to agree"),
        Standing::Formed(voters) => println!("cluster    formed by {voters}"),
        Standing::Joined { cluster, .. } => {
            println!("cluster    formed by {cluster}, which took this node in")
        }
        Standing::Joining { cluster, repairs: false, .. } => {
            println!("cluster    waits to be taken in by the cluster that {cluster} formed");
        }
        Standing::Joining { cluster, repairs: true, .. } => {
            println!(
                "cluster    its disk was damaged: waits to be taken in again by the cluster of {cluster}"
            );
        }
        Standing::Damaged => println!("cluster    its disk was damaged: waits for a member of its cluster"),
        Standing::Removed => println!("cluster    removed: the id of this node must not be used again"),
    }
    if let Some(refusal) = &status.refusal {
        println!("           CANNOT GO ON: {refusal}");
    }
    if let Some(raft) = &status.raft {
        let leader = raft.leader.map_or("unknown".to_owned(), |leader| format!("node {leader}"));
        let indexes = raft.indexes;
        println!("role       {}", raft.role);
        println!("term       {}", raft.term);
        println!("leader     {leader}");
        let list = |nodes: &[NodeId]| {
            let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
            nodes.join(", ")
        };
        println!("voters     {}", list(&raft.voters));
        if !raft.learners.is_empty() {
            println!("learners   {}", list(&raft.learners));
        }
        println!("commit     {}", indexes.commit);
        println!("applied    {}", indexes.applied);
        println!("log end    {} ({} on disk)", indexes.last, indexes.persisted);
    }
    for peer in &status.peers {
        let who = peer.node.map_or("not yet identified".to_owned(), |node| format!("node {node}"));
        match &peer.state {
            LinkState::Up { .. } => println!("peer       {} ({who}): connected", peer.name),
            LinkState::Down { reason } => println!("peer       {} ({who}): down: {reason}", peer.name),
        }
    }
    if let Some(gossip) = &status.gossip {
        println!("gossip     {}; its own slowness is {} of 7", gossip.lifecycle, gossip.health);
        for member in &gossip.members {
            let GossipMember { node, address, state, epoch, since } = member;
            println!("member     node {node} at {address}: {state} for {} s, epoch {epoch}", since.as_secs());
        }
        if gossip.members.len() < gossip.total {
            println!("           and {} more", gossip.total - gossip.members.len());
        }
    }
    if let Some(halt) = &status.halted {
        println!("HALTED     {halt}");
    }
}
