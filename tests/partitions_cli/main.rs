//! Topics and partitions by the command line: real processes, a node that is killed, one that comes, one that drains.
#![cfg(all(feature = "cli", unix))]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test of the command line starts processes, binds ports and writes files"
)]

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

mod offline;
#[path = "../support/processes.rs"]
mod processes;

use self::processes::{Nodes, PATIENCE, rivven, text};

const PARTITIONING: &str =
    "  partitioning: {fence_delay_ms: 2000, unfence_hold_ms: 1000, moves_per_node: 8}\n";

impl Nodes {
    /// What a command with `--json` prints, once it is like this.
    fn until(&self, arguments: &[&str], by: u64, wanted: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let shown = rivven(&[arguments, &["--json", "--config", &self.config(by)]].concat());
            let json = serde_json::from_slice(&shown.stdout).unwrap_or_default();
            if wanted(&json) {
                return json;
            }
            assert!(began.elapsed() < PATIENCE, "{arguments:?}: {json}\n{}", text(&shown.stderr));
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn shown(&self, arguments: &[&str], by: u64) -> String {
        let shown = rivven(&[arguments, &["--config", &self.config(by)]].concat());
        assert!(shown.status.success(), "{arguments:?}: {}", text(&shown.stderr));
        text(&shown.stdout)
    }
}

fn what_all_understand_is_used_when_an_operator_says_so(nodes: &Nodes) {
    let shown = nodes.shown(&["node", "features"], 1);
    assert!(shown.contains("at feature level 1") && shown.contains("node 3 understands level 2"), "{shown}");
    let refused = rivven(&["node", "features", "--raise", "--config", &nodes.config(1)]);
    assert!(!refused.status.success() && text(&refused.stderr).contains("operator"), "{refused:?}");
    let raised = nodes.operate(&["node", "features", "--raise"], 3);
    assert!(text(&raised.stdout).contains("at feature level 2 now"), "{}", text(&raised.stderr));
}

fn a_topic_that_is_not_there_is_named(nodes: &Nodes) {
    let nowhere = rivven(&["consume", "payments", "--config", &nodes.config(1)]);
    assert!(text(&nowhere.stderr).contains("no topic is called \"payments\""), "{}", text(&nowhere.stderr));
}

fn how_much_is_kept_is_configured(nodes: &Nodes) {
    for (options, kept) in [
        (&["--keep-seconds", "604800"][..], "kept: what is not older than 604800 s"),
        (
            &["--keep-bytes", "1000"],
            "kept: the last 1000 bytes of each, as far as they are not older than 604800 s",
        ),
        (&["--keep-all"], "kept: everything"),
    ] {
        nodes.shown(&[&["topic", "configure", "orders"], options].concat(), 2);
        let described = nodes.shown(&["topic", "describe", "orders"], 1);
        assert!(described.contains(kept), "{described}");
    }
}

/// Runs a command with these lines to read.
fn fed(arguments: &[&str], lines: &str) -> String {
    let mut process = Command::new(env!("CARGO_BIN_EXE_rivven-cluster"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut stdin = process.stdin.take().expect("it reads");
    stdin.write_all(lines.as_bytes()).expect("it reads");
    drop(stdin);
    let output = process.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{arguments:?}");
    text(&output.stdout)
}

fn active(nodes: &Value) -> Vec<u64> {
    let all = nodes.as_array().cloned().unwrap_or_default();
    all.iter().filter(|node| node["state"] == "Active").filter_map(|node| node["node"].as_u64()).collect()
}

/// How many partitions are led by each of nodes 1 to 4, and how many replicas are in sync in all.
fn looks(topic: &Value) -> ([usize; 4], usize) {
    let partitions = topic["partitions"].as_array().cloned().unwrap_or_default();
    let leads = |node: u64| partitions.iter().filter(|partition| partition["leader"] == node).count();
    let in_sync = partitions.iter().filter_map(|partition| partition["in_sync"].as_array());
    ([1, 2, 3, 4].map(leads), in_sync.map(Vec::len).sum())
}

#[test]
fn partitions_have_leaders_whoever_is_killed_and_move_to_who_comes_and_from_who_drains() {
    let mut nodes = Nodes::start(PARTITIONING);
    nodes.until(&["node", "list"], 1, |listed| active(listed) == [1, 2, 3]);

    // A topic of 64 partitions, led by all alike.
    let created = nodes.shown(&["topic", "create", "orders", "--partitions", "64"], 2);
    assert!(created.contains("topic orders is there"), "{created}");
    let topic = nodes.until(&["topic", "describe", "orders"], 3, |topic| looks(topic).1 == 192);
    let (leads, _) = looks(&topic);
    assert!(leads[..3].iter().all(|leads| (21..=22).contains(leads)), "{leads:?}");
    // Once more is as good; a different one is refused, and so is who has no right.
    nodes.shown(&["topic", "create", "orders", "--partitions", "64"], 1);
    let other = rivven(&["topic", "create", "orders", "--partitions", "7", "--config", &nodes.config(1)]);
    assert!(text(&other.stderr).contains("has that name, and is different"), "{}", text(&other.stderr));
    let refused = rivven(&["node", "drain", "1", "--config", &nodes.config(1)]);
    assert!(text(&refused.stderr).contains("use an operator's"), "{}", text(&refused.stderr));

    // Lines become records, which are there for whoever asks any node.
    let produce = ["produce", "orders", "--key-separator", ":", "--config", &nodes.config(1)];
    let produced = fed(&produce, "a:1\nb:2\nthree\n");
    assert!(produced.starts_with("3 records are written"), "{produced}");
    let consumed = nodes.shown(&["consume", "orders", "--json"], 3);
    let mut lines: Vec<Value> =
        consumed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    lines.sort_by_key(|line| line["value"].to_string());
    let values: Vec<_> = lines.iter().map(|line| (&line["key"], &line["value"])).collect();
    assert_eq!(
        values,
        [(&"a".into(), &"1".into()), (&"b".into(), &"2".into()), (&Value::Null, &"three".into())]
    );
    nodes.until(&["topic", "describe", "orders"], 2, |topic| {
        let offsets = topic["offsets"].as_array().expect("an extent for each partition");
        let sum = |key: &str| offsets.iter().filter_map(|extent| extent[key].as_u64()).sum::<u64>();
        (offsets.len(), sum("high_watermark"), sum("end")) == (64, 3, 3)
    });
    how_much_is_kept_is_configured(&nodes);
    a_topic_that_is_not_there_is_named(&nodes);

    // A node is killed: others lead, and it is said why.
    nodes.kill(3);
    nodes.until(&["topic", "describe", "orders"], 1, |topic| {
        let (leads, in_sync) = looks(topic);
        leads[0] + leads[1] == 64 && in_sync == 128 && topic["fenced"] == serde_json::json!([3])
    });
    let described = nodes.shown(&["topic", "describe", "orders"], 2);
    assert!(described.contains("is fenced: held dead by the members, and not heard of"), "{described}");
    assert_eq!(described.matches("since node 3 was fenced").count(), leads[2], "{described}");
    let explained = nodes.shown(&["explain", "node", "3"], 1);
    assert!(explained.contains("away: it has to speak"), "{explained}");
    assert!(explained.contains("gossip     dead"), "{explained}");

    // It comes back: it is unfenced, in sync, and leads again what it is preferred for.
    nodes.run(3);
    nodes.until(&["node", "list"], 1, |listed| active(listed) == [1, 2, 3]);
    nodes
        .until(&["topic", "describe", "orders"], 3, |topic| (looks(topic).0, looks(topic).1) == (leads, 192));
    let explained = nodes.shown(&["explain", "node", "3"], 2);
    assert!(explained.contains("all is well") && explained.contains("it was fenced"), "{explained}");

    what_all_understand_is_used_when_an_operator_says_so(&nodes);

    // A fourth node comes: what would move is known before it does, and before it is there.
    let foreseen = nodes.shown(&["plan", "show", "--with", "4"], 1);
    assert!(foreseen.contains("48 replicas would be copied"), "{foreseen}");
    nodes.configure(4, &[2]);
    nodes.run(4);
    nodes.until(&["node", "list"], 4, |listed| active(listed) == [1, 2, 3, 4]);
    let planned = nodes.until(&["plan", "show"], 4, |plan| plan["certificate"]["moves"] == 48);
    assert_eq!((&planned["active"], &planned["certificate"]["moves_bound"]), (&Value::Null, &48.into()));
    assert_eq!(planned["certificate"]["proof"], "Minimal");
    let started = nodes.operate(&["plan", "start"], 1);
    assert!(text(&started.stdout).contains("is being executed"), "{}", text(&started.stderr));
    nodes.until(&["topic", "describe", "orders"], 2, |topic| looks(topic) == ([16; 4], 192));
    let done = nodes.until(&["plan", "show"], 1, |plan| plan["active"].is_null());
    assert_eq!(done["changes"], serde_json::json!([]), "nothing is left to be moved");

    // One drains, and holds nothing any more.
    let drained = nodes.operate(&["node", "drain", "2"], 3);
    assert!(drained.status.success(), "{}", text(&drained.stderr));
    nodes.until(&["node", "list"], 1, |listed| listed[1]["node"] == 2 && listed[1]["replicas"] == 0);
    nodes.until(&["topic", "describe", "orders"], 4, |topic| looks(topic).1 == 192);
    // What was produced in the beginning has moved along.
    assert_eq!(nodes.shown(&["consume", "orders"], 4).lines().count(), 3);
    let deleted = nodes.shown(&["topic", "delete", "orders"], 1);
    assert!(deleted.contains("is deleted"), "{deleted}");
    nodes.until(&["topic", "list"], 4, |topics| *topics == serde_json::json!([]));
}
