//! `node` and `explain`: who holds partitions, and what the controller makes of it.

use rivven_cluster::id::NodeId;
use rivven_cluster::partition::controller::{Explanation, Life};
use rivven_cluster::partition::metadata::{Command, Metadata, NodeRecord, NodeState};
use serde::Serialize;

use crate::Failure;
use crate::access::{Access, id};

/// Lists the nodes that hold partitions, and drains them.
#[derive(clap::Args)]
pub struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// List the nodes: what they may do and why, their racks and weights, what they hold and lead.
    List {
        #[command(flatten)]
        access: Access,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Have all that a node holds go elsewhere, and give it nothing new. For operators.
    Drain {
        #[command(flatten)]
        access: Access,
        /// The node.
        node: u64,
    },
    /// Show what the cluster may use, and what each node understands.
    Features {
        #[command(flatten)]
        access: Access,
        /// Let the cluster use all that every node understands. There is no way back. For operators.
        #[arg(long)]
        raise: bool,
    },
    /// Let a node hold something again. A plan that is under way goes on. For operators.
    Undrain {
        #[command(flatten)]
        access: Access,
        /// The node.
        node: u64,
    },
}

/// Says what the controller makes of something, and why.
#[derive(clap::Args)]
pub struct ExplainOptions {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// A node: what the metadata says of it, what is known beside that, and what will be done.
    Node {
        #[command(flatten)]
        access: Access,
        /// The node.
        node: u64,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// What `list --json` prints of a node.
#[derive(Serialize)]
struct Listed<'a> {
    node: NodeId,
    replicas: usize,
    leads: usize,
    #[serde(flatten)]
    record: &'a NodeRecord,
}

pub async fn nodes(options: &Options) -> Result<(), Failure> {
    match &options.action {
        Action::List { access, json } => {
            let (client, manager) = access.partitions().await?;
            manager.look(|metadata| list(metadata, *json))?;
            client.close();
        }
        Action::Drain { access, node } => {
            let (client, manager) = access.partitions().await?;
            manager.set_draining(id(*node)?, true).await?;
            println!("node {node} drains: `rivven-cluster plan show` says how far that is");
            client.close();
        }
        Action::Features { access, raise } => features(access, *raise).await?,
        Action::Undrain { access, node } => {
            let (client, manager) = access.partitions().await?;
            manager.set_draining(id(*node)?, false).await?;
            println!("node {node} takes replicas again");
            client.close();
        }
    }
    Ok(())
}

async fn features(access: &Access, raise: bool) -> Result<(), Failure> {
    let (client, manager) = access.partitions().await?;
    let from = manager.look(Metadata::feature_level);
    let understood: Vec<(NodeId, u16)> =
        manager.look(|metadata| metadata.nodes().map(|(node, record)| (node, record.features)).collect());
    println!("the cluster is at feature level {from}");
    for (node, features) in &understood {
        println!("node {node} understands level {features}");
    }
    let to = understood.iter().map(|(_, features)| *features).min().unwrap_or(from);
    if raise && to > from {
        client.order(Command::SetFeatureLevel { from, to }).await?.answer?;
        println!(
            "the cluster is at feature level {to} now: a node that understands less will not start any more"
        );
    } else if raise {
        println!("no more is understood by every node");
    }
    client.close();
    Ok(())
}

fn list(metadata: &Metadata, json: bool) -> Result<(), Failure> {
    let partitions =
        |node| metadata.partitions_of(node).filter_map(|partition| metadata.partition(partition));
    let listed = |(node, record)| Listed {
        node,
        replicas: partitions(node).count(),
        leads: partitions(node).filter(|partition| partition.leader == Some(node)).count(),
        record,
    };
    let nodes: Vec<Listed> = metadata.nodes().map(listed).collect();
    if json {
        println!("{}", serde_json::to_string_pretty(&nodes)?);
        return Ok(());
    }
    println!(
        "{:>6}  {:<24} {:<12} {:>6} {:>8} {:>6}  state",
        "node", "address", "rack", "weight", "replicas", "leads"
    );
    for Listed { node, replicas, leads, record } in nodes {
        let rack = record.rack.as_deref().unwrap_or("-");
        let address = record.address.as_str();
        let state = describe(record);
        println!(
            "{node:>6}  {address:<24} {rack:<12} {:>6} {replicas:>8} {leads:>6}  {state}",
            record.weight
        );
    }
    Ok(())
}

fn describe(record: &NodeRecord) -> String {
    let state = match record.state {
        NodeState::Active => "active".to_owned(),
        NodeState::ShuttingDown => "shutting down".to_owned(),
        NodeState::Fenced => format!("fenced: {}", record.reason),
    };
    if record.is_draining { format!("{state}, draining") } else { state }
}

pub async fn explain(options: &ExplainOptions) -> Result<(), Failure> {
    let What::Node { access, node, json } = &options.what;
    let client = access.client()?;
    let explanation = client.explain(id(*node)?).await?;
    client.close();
    if *json {
        println!("{}", serde_json::to_string_pretty(&explanation)?);
    } else {
        print(&explanation);
    }
    Ok(())
}

fn print(explanation: &Explanation) {
    let Explanation { node, verdict, .. } = explanation;
    println!("node {node}   {verdict}");
    match &explanation.record {
        Some(record) => {
            println!("state      {}", describe(record));
            println!("session    {}, process {}, at {}", record.epoch, record.boot, record.address);
            let Explanation { replicas, in_sync, leads, .. } = explanation;
            println!("holds      {replicas} replicas, in sync in {in_sync}, leads {leads}");
        }
        None => println!("state      it has never begun a session, or was forgotten"),
    }
    if !explanation.is_member {
        println!("member     no: it is no member of the cluster");
    }
    match explanation.heard {
        Some(heard) => println!("heard      {} ms ago", heard.as_millis()),
        None => println!("heard      not since this leader leads"),
    }
    match explanation.hint {
        Some(hint) => {
            let life = match hint.life {
                Life::Alive => "alive",
                Life::Suspect => "suspect",
                Life::Dead => "dead",
                Life::Left => "gone, it said goodbye",
            };
            println!("gossip     {life}, as process {}", hint.boot);
        }
        None => println!("gossip     nothing is known"),
    }
    if let Some(away) = explanation.fenced_for {
        println!("fenced     for {} s, as far as this leader has seen", away.as_secs());
        println!("hold       it speaks for {} ms before it is unfenced", explanation.hold.as_millis());
    }
    if explanation.flaps > 0 {
        println!("flaps      it was fenced {} times lately", explanation.flaps);
    }
    if explanation.is_given_up {
        println!("replicas   go elsewhere, as far as there are nodes that take them");
    } else if explanation.fenced_for.is_some() && !explanation.replace_after.is_zero() {
        println!("replicas   stay until it is away for {} s", explanation.replace_after.as_secs());
    }
    if explanation.is_braking {
        println!("brake      many nodes seem gone at once: they are fenced one at a time");
    }
}
