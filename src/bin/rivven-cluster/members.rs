//! `member`, `transfer`, `leave`: who belongs to the cluster, and who leads it.

use std::path::PathBuf;

use rivven_cluster::id::{NodeId, PeerName};
use rivven_cluster::node::{MemberStatus, Members, Part};
use rivven_cluster::raft::Step;

use crate::Failure;
use crate::access::{Access, id};
use crate::run::load;

/// Lists and changes the members of the cluster.
#[derive(clap::Args)]
pub struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// List the members: their part, address, how much of the log they hold, how long they were silent.
    List {
        #[command(flatten)]
        access: Access,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Add a node, before or after it is started. A node that is started with the address of a member in its file
    /// adds itself.
    Add {
        #[command(flatten)]
        access: Access,
        /// Its id, never used before.
        node: u64,
        /// Where others reach it, as host:port.
        address: String,
        /// It decides nothing until it is promoted.
        #[arg(long)]
        learner: bool,
    },
    /// Let learners decide; with `--remove`, in the place of others, all at once.
    Promote {
        #[command(flatten)]
        access: Access,
        /// The learners.
        #[arg(required = true)]
        nodes: Vec<u64>,
        /// Voters that go.
        #[arg(long)]
        remove: Vec<u64>,
    },
    /// Let voters decide no longer; they go on as learners.
    Demote {
        #[command(flatten)]
        access: Access,
        /// The voters.
        #[arg(required = true)]
        nodes: Vec<u64>,
    },
    /// Remove members, for good: their ids are never used again.
    Remove {
        #[command(flatten)]
        access: Access,
        /// The members.
        #[arg(required = true)]
        nodes: Vec<u64>,
    },
}

/// Lets another voter lead.
#[derive(clap::Args)]
pub struct TransferOptions {
    #[command(flatten)]
    access: Access,
    /// Who is to lead; by default the voter that has most of the log.
    #[arg(long)]
    to: Option<u64>,
}

/// Removes the node of the file from the cluster, for good, with the node's own certificate. Its process then ends
/// by itself.
#[derive(clap::Args)]
pub struct LeaveOptions {
    /// The YAML file of the node.
    #[arg(long)]
    config: PathBuf,
}

pub async fn members(options: &Options) -> Result<(), Failure> {
    let (access, steps) = match &options.action {
        Action::List { access, json } => {
            let client = access.client()?;
            let members = client.members().await?;
            client.close();
            if *json {
                println!("{}", serde_json::to_string_pretty(&members)?);
            } else {
                print(&members);
            }
            return Ok(());
        }
        Action::Add { access, node, address, learner } => {
            let client = access.client()?;
            let address: PeerName = address.parse()?;
            let members = client.add_member(id(*node)?, address, !learner).await?;
            client.close();
            print(&members);
            return Ok(());
        }
        Action::Promote { access, nodes, remove } => {
            let promoted = steps(nodes, Step::Promote)?;
            (access, [promoted, steps(remove, Step::Remove)?].concat())
        }
        Action::Demote { access, nodes } => (access, steps(nodes, Step::Demote)?),
        Action::Remove { access, nodes } => (access, steps(nodes, Step::Remove)?),
    };
    let client = access.client()?;
    let members = client.change_members(steps).await?;
    client.close();
    print(&members);
    Ok(())
}

pub async fn transfer(options: &TransferOptions) -> Result<(), Failure> {
    let client = options.access.client()?;
    let leader = client.hand_over(options.to.map(id).transpose()?).await?;
    client.close();
    match leader {
        Some(leader) => println!("node {leader} leads"),
        None => println!("another node leads"),
    }
    Ok(())
}

pub async fn leave(options: &LeaveOptions) -> Result<(), Failure> {
    let access = Access { config: options.config.clone(), operator: None };
    let (settings, _, _) = load(&options.config)?;
    let client = access.client()?;
    let members = client.change_members(vec![Step::Remove(settings.node_id)]).await?;
    client.close();
    println!("node {} has left; its id must not be used again", settings.node_id);
    print(&members);
    Ok(())
}

fn steps(nodes: &[u64], step: impl Fn(NodeId) -> Step) -> Result<Vec<Step>, Failure> {
    nodes.iter().map(|node| Ok(step(id(*node)?))).collect()
}

fn print(members: &Members) {
    println!("{:>6}  {:<9} {:<24} {:>12} {:>10}", "node", "part", "address", "log up to", "silent");
    for MemberStatus { node, part, address, matched, silent } in &members.members {
        let part = match part {
            Part::Voter if members.leader == Some(*node) => "leader",
            Part::Voter => "voter",
            Part::Learner => "learner",
            Part::Outgoing => "outgoing",
        };
        let address = address.as_ref().map_or("unknown".to_owned(), ToString::to_string);
        let matched = matched.map_or("-".to_owned(), |matched| matched.to_string());
        let silent = silent.map_or("-".to_owned(), |silent| format!("{} ms", silent.as_millis()));
        println!("{node:>6}  {part:<9} {address:<24} {matched:>12} {silent:>10}");
    }
    if members.is_joint {
        println!("a change of several voters is under way");
    }
    for (what, nodes) in
        [("damaged, to be taken in again", &members.suspended), ("removed", &members.removed)]
    {
        if !nodes.is_empty() {
            let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
            println!("{what}: {}", nodes.join(", "));
        }
    }
}
