//! What is done with the data folder of a node that does not run: look at it, check it, back it up, restore it.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};

use rivven_cluster::driver::backup::{Backup, back_up};
use rivven_cluster::driver::{Owner, ReadOnly, SegmentStorage, Storage, SystemFolder, is_being_set_aside};
use rivven_cluster::id::{ClusterName, NodeId};
use rivven_cluster::ledger::Ledger;
use rivven_cluster::node::Durable;
use rivven_cluster::partition::log::Read;
use rivven_cluster::quic::system_entropy;
use serde_json::json;

use crate::Failure;
use crate::recover::{explain, is_confirmed};
use crate::run::load;

/// Whose data folder, and where it is.
#[derive(clap::Args)]
pub struct Place {
    /// The YAML file of the node.
    #[arg(long, required_unless_present = "data_dir")]
    config: Option<PathBuf>,
    /// The data folder, if there is no YAML file for it here.
    #[arg(long, conflicts_with = "config", requires_all = ["cluster", "node"])]
    data_dir: Option<PathBuf>,
    /// The name of its cluster.
    #[arg(long, requires = "data_dir")]
    cluster: Option<ClusterName>,
    /// The id of its node.
    #[arg(long, requires = "data_dir", value_parser = parse_node)]
    node: Option<NodeId>,
}

fn parse_node(text: &str) -> Result<NodeId, String> {
    let id = text.parse().ok().and_then(NodeId::new);
    id.ok_or_else(|| format!("{text:?} is no node id: ids are numbers from 1"))
}

impl Place {
    fn find(&self) -> Result<(PathBuf, Owner), Failure> {
        if let (Some(path), Some(cluster), Some(node)) = (&self.data_dir, &self.cluster, self.node) {
            return Ok((path.clone(), Owner { cluster: cluster.clone(), node }));
        }
        let config = self.config.as_deref().unwrap_or(Path::new("rivven.yaml"));
        let (settings, runnable, credentials) = load(config)?;
        let owner = Owner { cluster: credentials.identity().cluster.clone(), node: settings.node_id };
        Ok((runnable.data_dir, owner))
    }
}

/// A store that is only read. The node must be stopped.
type Store = SegmentStorage<ReadOnly<SystemFolder>>;

fn open(path: &Path, owner: &Owner) -> Result<Store, Failure> {
    if !path.is_dir() {
        return Err(Failure(format!("{} is no folder", path.display())));
    }
    let folder = SystemFolder::claim(path)?;
    if is_being_set_aside(&folder)? {
        return Err(Failure("the data folder is damaged and was being set aside".to_owned()));
    }
    Ok(SegmentStorage::open(ReadOnly(folder), owner, 0)?)
}

/// Say what the data folder of a stopped node holds. Nothing is changed.
#[derive(clap::Args)]
pub struct InspectOptions {
    #[command(flatten)]
    place: Place,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub fn inspect(options: &InspectOptions) -> Result<(), Failure> {
    let (path, owner) = options.place.find()?;
    let durable = open(&path, &owner)?.recover()?;
    let told = describe(&owner, &durable);
    if options.json {
        println!("{}", serde_json::to_string_pretty(&told)?);
    } else {
        print(&told, "");
    }
    Ok(())
}

fn describe(owner: &Owner, durable: &Durable) -> serde_json::Value {
    let Durable { boot, standing, snapshot, entries, hard_state, logs } = durable;
    let ledger = snapshot.as_ref().map(|snapshot| Ledger::restore(&snapshot.state));
    let snapshot = snapshot.as_ref().map(|snapshot| {
        json!({
            "index": snapshot.at.index,
            "term": snapshot.at.term,
            "bytes": snapshot.state.len(),
            "voters": snapshot.membership.voters(),
            "learners": snapshot.membership.learners(),
            "removed": snapshot.membership.removed(),
        })
    });
    let state = ledger.map(|ledger| match ledger {
        Ok((ledger, state)) => json!({
            "state_machine_bytes": state.len(),
            "sessions": ledger.sessions(),
            "feature_level": ledger.metadata().feature_level(),
            "nodes": ledger.metadata().nodes().count(),
            "topics": ledger.metadata().topics().count(),
            "partitions": ledger.metadata().partitions(),
        }),
        Err(error) => json!({ "unreadable": error.to_string() }),
    });
    let logs: Vec<_> = logs
        .iter()
        .map(|(partition, log)| {
            let bytes: u64 = log.batches().map(|batch| u64::from(batch.length)).sum();
            json!({
                "partition": partition.to_string(),
                "start": log.start(),
                "end": log.end(),
                "high_watermark": log.high_watermark(),
                "batches": log.batches().count(),
                "bytes": bytes,
            })
        })
        .collect();
    json!({
        "cluster": owner.cluster,
        "node": owner.node,
        "starts": boot,
        "standing": format!("{standing:?}"),
        "hard_state": { "term": hard_state.term, "vote": hard_state.vote, "commit": hard_state.commit },
        "snapshot": snapshot,
        "state_as_of_the_snapshot": state,
        "log": {
            "entries": entries.len(),
            "first": entries.first().map(|entry| entry.at.index),
            "last": entries.last().map(|entry| entry.at.index),
            "bytes": entries.iter().map(rivven_cluster::raft::Entry::length).sum::<usize>(),
        },
        "replicas": logs,
    })
}

/// Prints JSON as lines of names and values.
fn print(value: &serde_json::Value, indent: &str) {
    let Some(fields) = value.as_object() else { return };
    for (name, value) in fields {
        let name = name.replace('_', " ");
        if value.is_object() {
            println!("{indent}{name}");
            print(value, &format!("{indent}  "));
        } else if let Some(items) = value.as_array().filter(|items| items.iter().any(|item| item.is_object()))
        {
            for item in items {
                println!("{indent}{name}");
                print(item, &format!("{indent}  "));
            }
        } else {
            println!("{indent}{name:<24} {value}");
        }
    }
}

/// Read everything in the data folder of a stopped node, and check that it is what was written. Nothing is changed.
#[derive(clap::Args)]
pub struct VerifyOptions {
    #[command(flatten)]
    place: Place,
}

/// About so many bytes of records are read at a time.
const READ_BYTES: usize = 1024 * 1024;

pub fn verify(options: &VerifyOptions) -> Result<(), Failure> {
    let (path, owner) = options.place.find()?;
    let mut storage = open(&path, &owner)?;
    let durable = storage.recover()?;
    durable.check(owner.node)?;
    if let Some(snapshot) = &durable.snapshot {
        Ledger::restore(&snapshot.state)?;
    }
    let (mut batches, mut bytes) = (0, 0);
    for (partition, log) in durable.logs.iter() {
        let mut from = log.start();
        while from < log.end() {
            let read = storage.read(&Read { partition, from, until: log.end(), bytes: READ_BYTES })?;
            let Some(last) = read.last() else {
                return Err(Failure(format!("partition {partition} has nothing at {from}, before its end")));
            };
            from = last.first.plus(last.count.into());
            batches += read.len();
            bytes += read.iter().map(|batch| batch.records.len()).sum::<usize>();
        }
    }
    println!(
        "sound: {} entries behind a snapshot of {} bytes; {batches} batches of records, {bytes} bytes",
        durable.entries.len(),
        durable.snapshot.map_or(0, |snapshot| snapshot.state.len())
    );
    Ok(())
}

/// Write everything that a stopped node holds to one file: the state of the cluster, as far as it has got, and its
/// replicas. The rest of the cluster goes on meanwhile. Nothing is changed.
#[derive(clap::Args)]
pub struct BackupOptions {
    #[command(flatten)]
    place: Place,
    /// The file; it must not exist.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub fn backup(options: &BackupOptions) -> Result<(), Failure> {
    let (path, owner) = options.place.find()?;
    let mut storage = open(&path, &owner)?;
    let at = |error: &dyn std::fmt::Display| Failure(format!("{}: {error}", options.out.display()));
    let file = File::options().write(true).create_new(true).open(&options.out).map_err(|error| at(&error))?;
    let mut out = BufWriter::new(file);
    let written = back_up(&mut storage, &owner, &mut out);
    let synced = out
        .into_inner()
        .map_err(|error| at(&error))
        .and_then(|file| file.sync_all().map_err(|error| at(&error)));
    let contents = match written.map_err(Failure::from).and_then(|contents| synced.map(|()| contents)) {
        Ok(contents) => contents,
        Err(failure) => {
            // Half a backup must not be taken for one.
            let _ = std::fs::remove_file(&options.out);
            return Err(failure);
        }
    };
    println!(
        "node {} of cluster {}, up to index {}; {} replicas with {} bytes of records",
        owner.node, owner.cluster, contents.last, contents.partitions, contents.record_bytes
    );
    Ok(())
}

/// Begin a cluster anew from a backup: the node becomes its only voter, in an empty data folder. The members that the
/// backup knows are dead for good then. Says what may be lost, and asks.
#[derive(clap::Args)]
pub struct RestoreOptions {
    /// The YAML file of the node; its data folder must not exist, or be empty.
    #[arg(long)]
    config: PathBuf,
    /// What `backup` has written.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Understood: what was acknowledged after the backup is lost, and if the others are still there, there will be
    /// two clusters.
    #[arg(long, required = true)]
    r#unsafe: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

pub fn restore(options: &RestoreOptions) -> Result<(), Failure> {
    let (settings, runnable, credentials) = load(&options.config)?;
    let owner = Owner { cluster: credentials.identity().cluster.clone(), node: settings.node_id };
    let at = |error: &dyn std::fmt::Display| Failure(format!("{}: {error}", options.from.display()));
    let file = File::open(&options.from).map_err(|error| at(&error))?;
    let backup = Backup::open(BufReader::new(file), &owner).map_err(|error| at(&error))?;
    let data_dir = &runnable.data_dir;
    let is_used = std::fs::read_dir(data_dir).is_ok_and(|mut files| files.next().is_some());
    if is_used {
        return Err(Failure(format!("{} is not empty: move what is there away first", data_dir.display())));
    }
    explain(&owner, &backup.survivor()?);
    if !options.yes && !is_confirmed(&owner)? {
        return Err(Failure("nothing was changed".to_owned()));
    }
    // Only what is whole gets the name of the data folder.
    let mut part = data_dir.clone().into_os_string();
    part.push(".restoring");
    let part = PathBuf::from(part);
    if part.exists() {
        std::fs::remove_dir_all(&part)?;
    }
    let contents = {
        let salt = system_entropy()?.stream("segment salt", 0).draw();
        let mut storage = SegmentStorage::open(SystemFolder::claim(&part)?, &owner, salt)?;
        backup.restore(&mut storage).map_err(|error| at(&error))?
    };
    if data_dir.exists() {
        std::fs::remove_dir(data_dir)?;
    }
    std::fs::rename(&part, data_dir)?;
    println!(
        "node {} has everything up to index {} and goes on alone: start it, and add nodes with new ids and empty data folders",
        owner.node, contents.last
    );
    Ok(())
}
