//! The data folder of a stopped node by the command line: inspected, verified, damaged, backed up and restored.
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use serde_json::Value;

use crate::processes::{Nodes, rivven, text};
use crate::{PARTITIONING, active, fed};

impl Nodes {
    fn data(&self, node: u64) -> PathBuf {
        self.folder.path().join(format!("data-{node}"))
    }

    fn offline(&self, command: &str, node: u64, more: &[&str]) -> (bool, String, String) {
        let output = rivven(&[&[command, "--config", &self.config(node)], more].concat());
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    }
}

fn a_running_node_is_left_alone(nodes: &Nodes) {
    let (done, _, why) = nodes.offline("verify", 2, &[]);
    assert!(!done && why.contains("in use by another process"), "{why}");
}

fn a_stopped_one_is_described_and_sound(nodes: &Nodes) {
    let (done, told, why) = nodes.offline("inspect", 1, &["--json"]);
    assert!(done, "{why}");
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((&told["cluster"], &told["node"]), (&"prod".into(), &1.into()));
    assert_eq!(told["replicas"].as_array().map(Vec::len), Some(2), "{told}");
    let (done, told, why) = nodes.offline("verify", 1, &[]);
    assert!(done && told.starts_with("sound: "), "{told}{why}");
    let folder = nodes.data(1).display().to_string();
    let without_file = ["--data-dir", &folder, "--cluster", "prod", "--node", "1"];
    let shown = rivven(&[&["inspect"], &without_file[..]].concat());
    assert!(text(&shown.stdout).contains("cluster                  \"prod\""), "{}", text(&shown.stdout));
    let stranger = rivven(&["verify", "--data-dir", &folder, "--cluster", "prod", "--node", "2"]);
    assert!(text(&stranger.stderr).contains("another node"), "{}", text(&stranger.stderr));
}

/// A byte in the middle of what was written; it is put back.
fn damage_is_named(nodes: &Nodes) {
    let first = nodes.data(1).join("log-0000000000000001");
    let file = std::fs::File::options().read(true).write(true).open(first).expect("a segment");
    // The first record stands behind the header of 4096 bytes.
    let (mut byte, at) = ([0], 4200);
    file.read_exact_at(&mut byte, at).expect("it is long");
    file.write_all_at(&[byte[0] ^ 1], at).expect("it is ours");
    let (done, _, why) = nodes.offline("verify", 1, &[]);
    assert!(!done && why.contains("is damaged: log-0000000000000001"), "{why}");
    file.write_all_at(&byte, at).expect("it is ours");
    let (done, _, why) = nodes.offline("verify", 1, &[]);
    assert!(done, "{why}");
}

#[test]
fn a_stopped_node_is_looked_at_and_comes_back_from_a_backup_when_all_are_lost() {
    let mut nodes = Nodes::start(PARTITIONING);
    nodes.until(&["node", "list"], 1, |listed| active(listed) == [1, 2, 3]);
    // One replica alone is to be enough, in the end.
    let topic = ["topic", "create", "orders", "--partitions", "2", "--min-in-sync", "1"];
    let created = nodes.operate(&topic, 1);
    assert!(created.status.success(), "{}", text(&created.stderr));
    nodes.until(&["topic", "describe", "orders"], 1, |topic| {
        let partitions = topic["partitions"].as_array().cloned().unwrap_or_default();
        partitions.len() == 2 && partitions.iter().all(|partition| partition["leader"].is_u64())
    });
    assert!(fed(&["produce", "orders", "--config", &nodes.config(1)], "tea\ncoffee\n").contains("2 records"));
    a_running_node_is_left_alone(&nodes);
    nodes.kill(1);
    a_stopped_one_is_described_and_sound(&nodes);
    damage_is_named(&nodes);

    let file = nodes.folder.path().join("node-1.backup").display().to_string();
    let (done, told, why) = nodes.offline("backup", 1, &["--out", &file]);
    assert!(done && told.contains("2 replicas"), "{told}{why}");
    let (done, _, why) = nodes.offline("backup", 1, &["--out", &file]);
    assert!(!done && why.contains("exists"), "{why}");
    let (done, _, why) = nodes.offline("restore", 1, &["--from", &file, "--unsafe", "--yes"]);
    assert!(!done && why.contains("is not empty"), "{why}");
    nodes.kill(2);
    nodes.kill(3);
    std::fs::remove_dir_all(nodes.data(1)).expect("it is ours");
    let (done, _, why) = nodes.offline("restore", 2, &["--from", &file, "--unsafe", "--yes"]);
    assert!(!done && why.contains("the backup is of node 1"), "{why}");
    let (done, told, why) = nodes.offline("restore", 1, &["--from", &file, "--unsafe", "--yes"]);
    assert!(done && told.contains("LOST") && told.contains("goes on alone"), "{told}{why}");

    nodes.run(1);
    nodes.until(&["status"], 1, |status| {
        let voters = status["raft"]["voters"].as_array().cloned().unwrap_or_default();
        voters == [1] && status["raft"]["role"] == "Leader"
    });
    nodes.until(&["topic", "describe", "orders"], 1, |topic| {
        let partitions = topic["partitions"].as_array().cloned().unwrap_or_default();
        partitions.len() == 2 && partitions.iter().all(|partition| partition["leader"] == 1)
    });
    let (done, told, why) = nodes.offline("consume", 1, &["orders"]);
    assert!(done && told.contains("tea") && told.contains("coffee"), "{told}{why}");
}
