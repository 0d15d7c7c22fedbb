//! The data folder that an earlier build has left behind, before there were feature levels to raise: it opens, a node starts on
//! it and goes on, and everything is there. `tests/previous` has its files; the zeros at the end of the log are left out.

use std::path::Path;
use std::time::Duration;

use crate::support::{config, node};
use rivven_cluster::driver::{Owner, SegmentStorage, Storage, StorageError, SystemFolder};
use rivven_cluster::id::{BootId, LogIndex, Offset, Term};
use rivven_cluster::kv::KeyValue;
use rivven_cluster::machine::Machine;
use rivven_cluster::node::{Input, Node, Output};
use rivven_cluster::partition::log::Read;
use rivven_cluster::partition::records;
use rivven_cluster::raft::Role;
use rivven_cluster::rng::Seed;
use rivven_cluster::time::Instant;

const LOG: &str = "log-0000000000000001";
/// How long the log was before its zeros were left out.
const LOG_BYTES: usize = 16 * 1024 * 1024;

fn owner() -> Owner {
    Owner { cluster: "prod".parse().expect("a sound name"), node: node(1) }
}

/// A copy of the folder; `change` may spoil the log.
fn copied(change: impl FnOnce(&mut Vec<u8>)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/previous");
    let snapshot = "snapshot-0000000000000001-0000000000000001";
    std::fs::copy(from.join(snapshot), folder.path().join(snapshot)).unwrap();
    let mut log = std::fs::read(from.join(LOG)).unwrap();
    log.resize(LOG_BYTES, 0);
    change(&mut log);
    std::fs::write(folder.path().join(LOG), log).unwrap();
    folder
}

fn open(folder: &Path) -> Result<SegmentStorage<SystemFolder>, StorageError> {
    SegmentStorage::open(SystemFolder::claim(folder)?, &owner(), 7)
}

#[test]
fn a_folder_of_an_earlier_build_opens_with_everything_in_it_and_its_node_goes_on() {
    let folder = copied(|_| ());
    let mut storage = open(folder.path()).unwrap();
    let durable = storage.recover().unwrap();
    durable.check(node(1)).unwrap();
    assert_eq!((durable.boot, durable.hard_state.term), (BootId::new(1), Term::new(2)));
    let mut lines = Vec::new();
    for (partition, log) in durable.logs.iter() {
        let read = Read { partition, from: Offset::default(), until: log.end(), bytes: usize::MAX };
        for batch in storage.read(&read).unwrap() {
            lines.extend(records::decode(&batch.records, batch.count).unwrap());
        }
    }
    let mut lines: Vec<String> =
        lines.iter().map(|line| String::from_utf8(line.value.to_vec()).unwrap()).collect();
    lines.sort();
    assert_eq!(lines, ["coffee", "tea", "water"]);

    let mut now = Instant::ORIGIN;
    let settings = rivven_cluster::node::Config {
        partitioning: Some(rivven_cluster::node::Partitioning::default()),
        ..config(1, 1)
    };
    let mut node = Node::start(settings, Seed::new(1), durable, KeyValue::default(), now).unwrap();
    loop {
        while let Some(output) = node.poll() {
            if let Output::Write(batch) = output {
                storage.write(&batch).unwrap();
                node.handle(now, Input::Written(batch.id));
            }
        }
        let leads = node.standing().is_some_and(|standing| standing.role == Role::Leader);
        if leads && node.replicas().unwrap().iter().count() == 2 {
            break;
        }
        assert!(now < Instant::ORIGIN + Duration::from_secs(60), "its replicas do not begin");
        now = node.deadline().unwrap().max(now);
        node.handle_timeout(now);
    }
    let metadata = node.metadata();
    assert_eq!(metadata.feature_level(), 1, "nobody has raised it");
    let (_, topic) = metadata.topic_named("orders").unwrap();
    assert_eq!(topic.partitions.len(), 2);
    assert!(node.indexes().unwrap().applied > LogIndex::new(6), "it goes on");
}

/// The format stands behind the eight bytes of the magic, and the checksum of the header's forty bytes behind them.
#[test]
fn a_folder_of_a_later_build_is_refused_with_a_reason() {
    let folder = copied(|log| {
        log[8] += 1;
        let checksum = crc32c::crc32c(&log[..40]);
        log[40..44].copy_from_slice(&checksum.to_le_bytes());
    });
    let refused = open(folder.path()).map(|_| ()).unwrap_err();
    assert!(matches!(refused, StorageError::Format { found: 5, supported: 4, .. }), "{refused}");
    assert!(refused.to_string().contains("use the build that wrote it"), "{refused}");
}
