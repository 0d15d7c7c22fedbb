//! `topic`: create, list, describe, extend, delete.

use rivven_cluster::id::{NodeId, TopicId};
use rivven_cluster::partition::metadata::{Metadata, NodeState, Partition, Recovery, Topic};
use rivven_cluster::quic::NewTopic;
use serde::Serialize;

use crate::Failure;
use crate::access::{Access, ids};

/// Creates, lists, describes, extends and deletes topics.
#[derive(clap::Args)]
pub struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Create a topic, over all nodes that are active. One that is there already, and is the same, is as good.
    Create {
        #[command(flatten)]
        access: Access,
        /// Its name: 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-'.
        name: String,
        /// How many partitions it has.
        #[arg(long)]
        partitions: u32,
        /// How many replicas each has; by default what the file says.
        #[arg(long)]
        replicas: Option<u16>,
        /// How many of them must be in sync for a write to be acknowledged; by default a majority.
        #[arg(long)]
        min_in_sync: Option<u16>,
        /// Lets whoever is there lead when nobody that has everything is: what it does not have is lost.
        #[arg(long)]
        unclean: bool,
    },
    /// List the topics.
    List {
        #[command(flatten)]
        access: Access,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Say of each partition who leads it and since what, who holds it, and who is in sync.
    Describe {
        #[command(flatten)]
        access: Access,
        /// The topic.
        name: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Give a topic more partitions. Keys move: which partition a key belongs to depends on how many there are.
    Extend {
        #[command(flatten)]
        access: Access,
        /// The topic.
        name: String,
        /// How many more.
        #[arg(long)]
        by: u32,
    },
    /// Delete a topic.
    Delete {
        #[command(flatten)]
        access: Access,
        /// The topic.
        name: String,
    },
}

/// What `describe --json` prints.
#[derive(Serialize)]
struct Description<'a> {
    id: TopicId,
    fenced: Vec<NodeId>,
    #[serde(flatten)]
    topic: &'a Topic,
}

pub async fn topic(options: &Options) -> Result<(), Failure> {
    match &options.action {
        Action::Create { access, name, partitions, replicas, min_in_sync, unclean } => {
            let (client, manager) = access.partitions().await?;
            let recovery = if *unclean { Recovery::Unclean } else { Recovery::Manual };
            let new = NewTopic {
                replicas: *replicas,
                min_in_sync: *min_in_sync,
                recovery,
                ..NewTopic::new(name, *partitions)
            };
            let id = manager.create_topic(new).await?;
            println!("topic {name} is there, with the id {id}");
            client.close();
        }
        Action::List { access, json } => {
            let (client, manager) = access.partitions().await?;
            manager.look(|metadata| list(metadata, *json))?;
            client.close();
        }
        Action::Describe { access, name, json } => {
            let (client, manager) = access.partitions().await?;
            manager.look(|metadata| describe(metadata, name, *json))?;
            client.close();
        }
        Action::Extend { access, name, by } => {
            let (client, manager) = access.partitions().await?;
            manager.add_partitions(name, *by).await?;
            println!("topic {name} has {by} more partitions");
            client.close();
        }
        Action::Delete { access, name } => {
            let (client, manager) = access.partitions().await?;
            manager.delete_topic(name).await?;
            println!("topic {name} is deleted");
            client.close();
        }
    }
    Ok(())
}

fn list(metadata: &Metadata, json: bool) -> Result<(), Failure> {
    if json {
        let topics: Vec<Description> =
            metadata.topics().map(|(id, topic)| describe_as(metadata, id, topic)).collect();
        println!("{}", serde_json::to_string_pretty(&topics)?);
        return Ok(());
    }
    println!(
        "{:<32} {:>10} {:>9} {:>11} {:>10}",
        "topic", "partitions", "replicas", "min in sync", "leaderless"
    );
    for (_, topic) in metadata.topics() {
        let leaderless = topic.partitions.iter().filter(|partition| partition.leader.is_none()).count();
        let spec = &topic.spec;
        println!(
            "{:<32} {:>10} {:>9} {:>11} {leaderless:>10}",
            spec.name,
            topic.partitions.len(),
            spec.replicas,
            spec.min_in_sync
        );
    }
    Ok(())
}

fn describe_as<'a>(metadata: &Metadata, id: TopicId, topic: &'a Topic) -> Description<'a> {
    let fenced = metadata.nodes().filter(|(_, record)| record.state == NodeState::Fenced);
    Description { id, fenced: fenced.map(|(node, _)| node).collect(), topic }
}

fn describe(metadata: &Metadata, name: &str, json: bool) -> Result<(), Failure> {
    let (id, topic) =
        metadata.topic_named(name).ok_or_else(|| Failure(format!("no topic is called {name:?}")))?;
    if json {
        println!("{}", serde_json::to_string_pretty(&describe_as(metadata, id, topic))?);
        return Ok(());
    }
    let spec = &topic.spec;
    println!(
        "topic {name}, id {id}: {} partitions of {} replicas, of which {} must be in sync",
        topic.partitions.len(),
        spec.replicas,
        spec.min_in_sync
    );
    for (node, record) in metadata.nodes().filter(|(_, record)| record.state != NodeState::Active) {
        let what = match record.state {
            NodeState::Fenced => format!("fenced: {}", record.reason),
            NodeState::ShuttingDown | NodeState::Active => "shutting down".to_owned(),
        };
        println!("node {node} at {} is {what}", record.address);
    }
    println!(
        "{:>9}  {:>6}  {:<16} {:<16} {:>5}  leader",
        "partition", "leader", "replicas", "in sync", "epoch"
    );
    for (number, partition) in topic.partitions.iter().enumerate() {
        println!(
            "{number:>9}  {:>6}  {:<16} {:<16} {:>5}  {}{}",
            partition.leader.map_or("none".to_owned(), |leader| leader.to_string()),
            ids(&partition.replicas),
            ids(&partition.in_sync),
            partition.leader_epoch,
            partition.why,
            more(partition)
        );
    }
    Ok(())
}

/// What is not always so.
fn more(partition: &Partition) -> String {
    let mut more = String::new();
    if let Some(moves) = &partition.reassignment {
        more += &format!("; moves to {}", ids(&moves.target));
    }
    if !partition.eligible.is_empty() {
        more += &format!("; eligible: {}", ids(&partition.eligible));
    }
    if !partition.doubted.is_empty() {
        more += &format!("; may have lost something: {}", ids(&partition.doubted));
    }
    if partition.is_recovering {
        more += "; may have lost something that was acknowledged";
    }
    more
}
