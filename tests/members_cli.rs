//! Members by the command line, as an operator does it: real processes, files and signals.
#![cfg(all(feature = "cli", unix))]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test of the command line starts processes, binds ports and writes files"
)]

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[path = "support/processes.rs"]
mod processes;

use self::processes::{Nodes, PATIENCE, rivven, text};

impl Nodes {
    /// The members as JSON, once they are like this.
    fn until(&self, node: u64, wanted: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let began = Instant::now();
        loop {
            let listed = rivven(&["member", "list", "--json", "--config", &self.config(node)]);
            let json = serde_json::from_slice(&listed.stdout).unwrap_or_default();
            if wanted(&json) {
                return json;
            }
            assert!(began.elapsed() < PATIENCE, "{json}\n{}", text(&listed.stderr));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Until this node holds that one to be in this state.
    fn until_held(&self, by: u64, of: u64, state: &str) {
        let began = Instant::now();
        loop {
            let told = rivven(&["status", "--json", "--config", &self.config(by)]);
            let json: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap_or_default();
            let members = json["gossip"]["members"].as_array().cloned().unwrap_or_default();
            let held = members.iter().find(|member| member["node"] == of);
            if held.is_some_and(|member| member["state"] == state) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{members:?}\n{}", text(&told.stderr));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn ends(&mut self, node: u64) -> Option<i32> {
        let began = Instant::now();
        loop {
            let process = self.processes.get_mut(&node).expect("it ran");
            if let Some(status) = process.try_wait().expect("it is ours") {
                self.processes.remove(&node);
                return status.code();
            }
            assert!(began.elapsed() < PATIENCE, "node {node} does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn voters(members: &serde_json::Value) -> Vec<u64> {
    let all = members["members"].as_array().cloned().unwrap_or_default();
    let voters = all.iter().filter(|member| member["part"] == "Voter");
    voters.filter_map(|member| member["node"].as_u64()).collect()
}

#[test]
fn members_come_hand_over_leave_and_the_last_one_recovers() {
    let mut nodes = Nodes::start("");
    nodes.until(1, |members| voters(members) == [1, 2, 3] && members["leader"].is_u64());

    // A fourth node, that knows one address.
    nodes.configure(4, &[2]);
    nodes.run(4);
    nodes.until(4, |members| voters(members) == [1, 2, 3, 4]);

    // Only operators change anything.
    let refused = rivven(&["transfer", "--to", "4", "--config", &nodes.config(1)]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("use an operator's"), "{}", text(&refused.stderr));
    let moved = nodes.operate(&["transfer", "--to", "4"], 1);
    assert_eq!(text(&moved.stdout).trim(), "node 4 leads", "{}", text(&moved.stderr));
    let removed = nodes.operate(&["member", "remove", "3"], 1);
    assert!(removed.status.success(), "{}", text(&removed.stderr));
    assert!(text(&removed.stdout).contains("removed: 3"), "{}", text(&removed.stdout));
    assert_eq!(nodes.ends(3), Some(0), "who was removed ends in order");
    let dead = nodes.operate(&["member", "add", "3", "127.0.0.1:1"], 1);
    assert!(text(&dead.stderr).contains("never used again"), "{}", text(&dead.stderr));

    // A node leaves by itself, although it leads.
    let left = rivven(&["leave", "--config", &nodes.config(4)]);
    assert!(left.status.success(), "{}", text(&left.stderr));
    assert_eq!(nodes.ends(4), Some(0));
    nodes.until(1, |members| voters(members) == [1, 2]);

    // A majority is lost for good.
    nodes.kill(1);
    let in_use = rivven(&["recover", "--unsafe", "--yes", "--config", &nodes.config(2)]);
    assert!(text(&in_use.stderr).contains("another process"), "{}", text(&in_use.stderr));
    nodes.kill(2);
    assert_eq!(
        rivven(&["recover", "--config", &nodes.config(2)]).status.code(),
        Some(2),
        "--unsafe is required"
    );
    let mut asked = Command::new(env!("CARGO_BIN_EXE_rivven-cluster"))
        .args(["recover", "--unsafe", "--config", &nodes.config(2)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    asked.stdin.take().expect("piped").write_all(b"yes\n").expect("it listens");
    let answer = asked.wait_with_output().expect("it ends");
    assert_eq!(answer.status.code(), Some(1), "that is not the name of the cluster");
    assert!(text(&answer.stdout).contains("DEAD FOR GOOD: 1"), "{}", text(&answer.stdout));
    let recovered = rivven(&["recover", "--unsafe", "--yes", "--config", &nodes.config(2)]);
    assert!(recovered.status.success(), "{}", text(&recovered.stderr));
    nodes.run(2);
    let alone = nodes.until(2, |members| voters(members) == [2] && members["leader"] == 2);
    assert_eq!(alone["removed"], serde_json::json!([1, 3, 4]));
}

#[test]
fn status_tells_who_is_there_who_died_and_who_said_goodbye() {
    let mut nodes = Nodes::start("");
    for by in 1..=3 {
        (1..=3).for_each(|of| nodes.until_held(by, of, "Alive"));
    }
    let shown = text(&rivven(&["status", "--config", &nodes.config(1)]).stdout);
    let line = format!("member     node 3 at 127.0.0.1:{}: alive for", nodes.gossip[&3]);
    assert!(shown.contains(&line), "{shown}");

    nodes.kill(3);
    nodes.until_held(1, 3, "Dead");
    nodes.run(3);
    nodes.until_held(1, 3, "Alive");
    nodes.until_held(3, 1, "Alive");

    let stopped = Command::new("kill").args(["-TERM", &nodes.processes[&2].id().to_string()]).status();
    assert!(stopped.expect("there is a kill").success());
    assert_eq!(nodes.ends(2), Some(0));
    nodes.until_held(1, 2, "Left");
    nodes.run(2);
    nodes.until_held(1, 2, "Alive");

    // A fourth node is met by whoever it knows, and by all.
    nodes.configure(4, &[2]);
    nodes.run(4);
    nodes.until_held(3, 4, "Alive");
    nodes.until_held(4, 3, "Alive");
}
