//! A load without end: the log of every node stays as short as compaction promises.

use bytes::Bytes;
use rivven_cluster::id::LogIndex;
use rivven_cluster::kv::Command;
use rivven_cluster::node::Limits;

use self::cluster::Cluster;

#[path = "support/cluster.rs"]
mod cluster;

/// Commands that are sent at a time.
const BATCH: u64 = 50;

#[expect(clippy::disallowed_methods, reason = "a longer run is asked for in the environment")]
fn commands_wanted() -> Option<u64> {
    std::env::var("RIVVEN_COMMANDS").ok()?.parse().ok()
}

/// As many as stand in `RIVVEN_COMMANDS`, or else as a test has time for.
fn commands() -> u64 {
    commands_wanted().unwrap_or(100_000)
}

#[test]
fn logs_stay_short_under_an_endless_load() {
    let limits = Limits { snapshot_entries: 1000, retained_entries: 100, ..Limits::default() };
    let mut cluster = Cluster::formed(limits);
    let mut longest = 0;
    for round in 0..commands() / BATCH {
        let key = Bytes::from(format!("key {}", round % 100));
        let command = Command::Put { key, value: Bytes::from(vec![7; 100]) }.encode();
        cluster.propose(command, BATCH);
        for node in &cluster.nodes {
            let first = node.first_entry().expect("formed");
            let last = node.indexes().expect("formed").last;
            longest = longest.max(last.value() - first.value());
        }
    }
    assert!(cluster.answered >= commands(), "{} were answered", cluster.answered);
    assert!(cluster.nodes.iter().all(|node| node.first_entry() > Some(LogIndex::new(commands() - 2000))));
    assert!(longest <= 1000 + 100 + 4 * BATCH, "a log had {longest} entries");
}
