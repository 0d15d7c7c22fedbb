//! `topic`: create, configure, list, describe, extend, delete.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rivven_cluster::id::{NodeId, Offset, TopicId};
use rivven_cluster::partition::metadata::{Metadata, NodeState, Partition, Recovery, Topic};
use rivven_cluster::partition::retention::Retention;
use rivven_cluster::quic::{Consumer, NewTopic, Offsets, PartitionManager, StartAt, TopicChanges};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::Failure;
use crate::access::{Access, ids};

/// Creates, configures, lists, describes, extends and deletes topics.
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
        /// Lets whoever is there lead when no replica is left that is known to have everything, be it up or not: what it
        /// does not have is lost.
        #[arg(long)]
        unclean: bool,
        #[command(flatten)]
        keep: Keep,
    },
    /// Say anew how many replicas must be in sync, or how much is kept. What is not said stays as it is.
    Configure {
        #[command(flatten)]
        access: Access,
        /// The topic.
        name: String,
        /// How many replicas must be in sync for a write to be acknowledged.
        #[arg(long)]
        min_in_sync: Option<u16>,
        #[command(flatten)]
        keep: Keep,
        /// Keep all records.
        #[arg(long, conflicts_with_all = ["keep_bytes", "keep_seconds"])]
        keep_all: bool,
    },
    /// List the topics.
    List {
        #[command(flatten)]
        access: Access,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Say of each partition who leads it and since what, who holds it, who is in sync, how much is in it, and how far its
    /// followers are behind.
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

/// How much of each partition is kept; everything if nothing is said.
#[derive(clap::Args)]
struct Keep {
    /// Drop the oldest records of a partition when so many bytes are left without them, and they are a minute and a half
    /// old.
    #[arg(long)]
    keep_bytes: Option<u64>,
    /// Drop records that were written more than so many seconds ago, and a minute and a half.
    #[arg(long)]
    keep_seconds: Option<u32>,
}

/// What `describe --json` prints.
#[derive(Serialize)]
struct Description<'a> {
    id: TopicId,
    fenced: Vec<NodeId>,
    #[serde(flatten)]
    topic: &'a Topic,
    /// Of each partition, if its leader answers.
    offsets: Vec<Option<Extent>>,
}

/// How much is in a partition.
#[derive(Clone, Serialize)]
struct Extent {
    start: Offset,
    high_watermark: Offset,
    end: Offset,
    /// How many records each follower lacks, as far as the leader has heard.
    lag: BTreeMap<NodeId, u64>,
}

/// How long the leader of a partition may take to say how much is in it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks the leaders of all partitions, at the same time.
async fn offsets(
    manager: Arc<PartitionManager>,
    name: &str,
) -> Result<(Arc<PartitionManager>, Vec<Option<Extent>>), Failure> {
    let count = manager.partitions(name)?;
    let mut asked = JoinSet::new();
    for number in 0..count {
        let mut consumer = Consumer::new(manager.clone(), name, number, StartAt::Earliest);
        asked.spawn(async move { (number, timeout(PATIENCE, consumer.offsets()).await) });
    }
    let mut all = vec![None; usize::try_from(count)?];
    while let Some(answered) = asked.join_next().await {
        let (number, answer) = answered?;
        let Ok(Ok(Offsets { start, high_watermark, end, followers })) = answer else { continue };
        let behind = |(node, has): (NodeId, Offset)| (node, end.value().saturating_sub(has.value()));
        let lag = followers.into_iter().map(behind).collect();
        all[usize::try_from(number)?] = Some(Extent { start, high_watermark, end, lag });
    }
    Ok((manager, all))
}

pub async fn topic(options: &Options) -> Result<(), Failure> {
    match &options.action {
        Action::Create { access, name, partitions, replicas, min_in_sync, unclean, keep } => {
            let (client, manager) = access.partitions().await?;
            let recovery = if *unclean { Recovery::Unclean } else { Recovery::Manual };
            let new = NewTopic {
                replicas: *replicas,
                min_in_sync: *min_in_sync,
                recovery,
                retention: Retention { bytes: keep.keep_bytes, seconds: keep.keep_seconds },
                ..NewTopic::new(name, *partitions)
            };
            let id = manager.create_topic(new).await?;
            println!("topic {name} is there, with the id {id}");
            client.close();
        }
        Action::Configure { access, name, min_in_sync, keep, keep_all } => {
            let (client, manager) = access.partitions().await?;
            let unknown = || Failure(format!("no topic is called {name:?}"));
            let spec =
                manager.look(|metadata| metadata.topic_named(name).map(|(_, topic)| topic.spec.clone()));
            let kept = spec.ok_or_else(unknown)?.retention;
            let retention = Retention {
                bytes: keep.keep_bytes.or(kept.bytes.filter(|_| !keep_all)),
                seconds: keep.keep_seconds.or(kept.seconds.filter(|_| !keep_all)),
            };
            let (min_in_sync, retention) = (*min_in_sync, Some(retention));
            manager.configure_topic(name, TopicChanges { min_in_sync, retention, recovery: None }).await?;
            println!("topic {name} is configured");
            client.close();
        }
        Action::List { access, json } => {
            let (client, manager) = access.partitions().await?;
            manager.look(|metadata| list(metadata, *json))?;
            client.close();
        }
        Action::Describe { access, name, json } => {
            let (client, manager) = access.partitions().await?;
            let (manager, offsets) = offsets(Arc::new(manager), name).await?;
            manager.look(|metadata| describe(metadata, name, &offsets, *json))?;
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
            metadata.topics().map(|(id, topic)| describe_as(metadata, id, topic, &[])).collect();
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

fn describe_as<'a>(
    metadata: &Metadata,
    id: TopicId,
    topic: &'a Topic,
    offsets: &[Option<Extent>],
) -> Description<'a> {
    let fenced = metadata.nodes().filter(|(_, record)| record.state == NodeState::Fenced);
    Description { id, fenced: fenced.map(|(node, _)| node).collect(), topic, offsets: offsets.to_vec() }
}

fn describe(metadata: &Metadata, name: &str, offsets: &[Option<Extent>], json: bool) -> Result<(), Failure> {
    let (id, topic) =
        metadata.topic_named(name).ok_or_else(|| Failure(format!("no topic is called {name:?}")))?;
    if json {
        println!("{}", serde_json::to_string_pretty(&describe_as(metadata, id, topic, offsets))?);
        return Ok(());
    }
    let spec = &topic.spec;
    println!(
        "topic {name}, id {id}: {} partitions of {} replicas, of which {} must be in sync",
        topic.partitions.len(),
        spec.replicas,
        spec.min_in_sync
    );
    println!("kept: {}", kept(spec.retention));
    for (node, record) in metadata.nodes().filter(|(_, record)| record.state != NodeState::Active) {
        let what = match record.state {
            NodeState::Fenced => format!("fenced: {}", record.reason),
            NodeState::ShuttingDown | NodeState::Active => "shutting down".to_owned(),
        };
        println!("node {node} at {} is {what}", record.address);
    }
    println!(
        "{:>9}  {:>6}  {:<16} {:<16} {:>5} {:>10} {:>10} {:>8}  leader",
        "partition", "leader", "replicas", "in sync", "epoch", "start", "committed", "lag"
    );
    for (number, partition) in topic.partitions.iter().enumerate() {
        let extent = offsets.get(number).and_then(Option::as_ref);
        let shown = |of: fn(&Extent) -> u64| extent.map_or("?".to_owned(), |extent| of(extent).to_string());
        println!(
            "{number:>9}  {:>6}  {:<16} {:<16} {:>5} {:>10} {:>10} {:>8}  {}{}",
            partition.leader.map_or("none".to_owned(), |leader| leader.to_string()),
            ids(&partition.replicas),
            ids(&partition.in_sync),
            partition.leader_epoch,
            shown(|extent| extent.start.value()),
            shown(|extent| extent.high_watermark.value()),
            shown(|extent| extent.lag.values().max().copied().unwrap_or_default()),
            partition.why,
            more(partition)
        );
    }
    Ok(())
}

fn kept(retention: Retention) -> String {
    match retention {
        Retention { bytes: None, seconds: None } => "everything".to_owned(),
        Retention { bytes: Some(bytes), seconds: None } => format!("the last {bytes} bytes of each"),
        Retention { bytes: None, seconds: Some(seconds) } => format!("what is not older than {seconds} s"),
        Retention { bytes: Some(bytes), seconds: Some(seconds) } => {
            format!("the last {bytes} bytes of each, as far as they are not older than {seconds} s")
        }
    }
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
