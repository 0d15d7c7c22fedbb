//! The audit: what clients were told, against the logs of all nodes.

use std::collections::BTreeMap;
use std::time::Duration;

use rivven_cluster::id::{LogIndex, PeerName};
use rivven_cluster::quic::Client;
use rivven_cluster::raft::Entry;
use rivven_cluster::session::command_in;

use super::workload::Ledger;
use crate::Failure;
use crate::cluster::Cluster;

/// How many entries are asked for at once.
const ENTRIES_PER_REQUEST: u32 = 2000;

/// What the audit found, when nothing was lost.
pub struct Audited {
    /// How many entries each node's log has.
    pub entries: usize,
    /// How many commands of unknown fate took effect.
    pub unknown_found: usize,
}

/// Waits until every node has applied what any of them had applied when this began, and at least up to `least`. Returns
/// up to where that is.
pub async fn caught_up(operator: &Client, cluster: &Cluster, least: u64) -> Result<LogIndex, Failure> {
    let target = applied(operator, cluster).await.into_iter().flatten().max();
    let target = target.map(|target| target.max(LogIndex::new(least)));
    loop {
        let reached = applied(operator, cluster).await.into_iter().all(|index| index >= target);
        if let Some(target) = target.filter(|_| reached) {
            return Ok(target);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// How far each node has applied the log; `None` for one that does not answer.
async fn applied(operator: &Client, cluster: &Cluster) -> Vec<Option<LogIndex>> {
    let mut applied = Vec::new();
    for name in cluster.peer_names().values() {
        let status = operator.status(name).await.ok().and_then(|status| status.raft);
        applied.push(status.map(|raft| raft.indexes.applied));
    }
    applied
}

/// Checks that every acknowledged command is on all nodes, once, at the place that its client was
/// told, and that no command that failed is anywhere. Looks at the logs up to `until`, which all nodes have applied:
/// beyond it one node may be ahead of another, after an election for example.
pub async fn audit(
    operator: &Client,
    cluster: &Cluster,
    ledger: &Ledger,
    until: LogIndex,
) -> Result<Audited, Failure> {
    let mut logs = Vec::new();
    for (node, name) in cluster.peer_names() {
        let mut log = read_log(operator, &name).await?;
        log.retain(|entry| entry.at.index <= until);
        logs.push((node, log));
    }
    let (_, log) = &logs[0];
    for (node, other) in &logs[1..] {
        if other != log {
            return Err(lost(&format!("the logs of nodes 1 and {node} differ")));
        }
    }
    let mut places: BTreeMap<&[u8], Vec<u64>> = BTreeMap::new();
    for entry in log {
        if let Some((_, command)) = entry.command().and_then(|command| command_in(command)) {
            places.entry(command).or_default().push(entry.at.index.value());
        }
    }
    for (command, index) in &ledger.acknowledged {
        if places.get(&command[..]) != Some(&vec![*index]) {
            let found = places.get(&command[..]);
            return Err(lost(&format!(
                "an acknowledged command belongs at index {index} and is at {found:?}"
            )));
        }
    }
    if ledger.failed.iter().any(|command| places.contains_key(&command[..])) {
        return Err(lost("a command that was reported as failed is in the log"));
    }
    let unknown_found = ledger.unknown.iter().filter(|command| places.contains_key(&command[..])).count();
    Ok(Audited { entries: log.len(), unknown_found })
}

async fn read_log(operator: &Client, name: &PeerName) -> Result<Vec<Entry>, Failure> {
    let mut log: Vec<Entry> = Vec::new();
    loop {
        let from = log.last().map_or(LogIndex::new(0), |entry| entry.at.index.next());
        let entries = operator.entries(name, from, ENTRIES_PER_REQUEST).await?;
        if entries.is_empty() {
            return Ok(log);
        }
        log.extend(entries);
    }
}

fn lost(what: &str) -> Failure {
    Failure(format!("demo: FAILED: {what}"))
}
