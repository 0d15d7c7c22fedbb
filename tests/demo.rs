//! The command line, as a user runs it: real processes, real signals.
#![expect(clippy::disallowed_methods, reason = "a test of the command line reads and writes its files")]
#![cfg(feature = "cli")]

use std::path::Path;
use std::process::{Command, Output};

fn rivven(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rivven-cluster")).args(arguments).output().expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_demo_kills_leaders_and_loses_nothing() {
    let output = rivven(&["demo", "--commands", "2000", "--rounds", "3"]);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    let end = "demo: ok, no acknowledged write lost, and no record lost or written twice";
    assert_eq!(out.lines().last(), Some(end), "{out}");
    assert_eq!(out.matches("with SIGKILL").count(), 3 + 1, "three rounds of commands, one of records: {out}");
}

#[test]
fn wrong_usage_exits_with_2_and_failure_with_1() {
    assert_eq!(rivven(&["no-such-command"]).status.code(), Some(2));
    assert_eq!(rivven(&["run"]).status.code(), Some(2));
    let missing = rivven(&["run", "--config", "/no/such/file.yaml"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("/no/such/file.yaml"));
}

fn write_config(folder: &Path, name: &str) -> String {
    let path = folder.join("node.yaml");
    let text = format!(
        "cluster:\n  node_id: 1\n  name: {name}\n  bind_address: \"127.0.0.1:19290\"\n  data_dir: data\n  \
         tls: {{ca: ca.pem, cert: node-1.pem, key: node-1.key}}\n"
    );
    std::fs::write(&path, text).expect("a writable folder");
    path.display().to_string()
}

#[test]
fn certificates_are_made_for_a_cluster_and_checked_against_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().display().to_string();
    let made = rivven(&["certs", "--cluster", "prod", "--out", &out, "--nodes", "1,2"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    for file in ["ca.pem", "ca.key", "node-1.pem", "node-2.key", "client.pem", "operator.key"] {
        assert!(folder.path().join(file).exists(), "{file}");
    }
    let before = std::fs::read(folder.path().join("ca.pem")).unwrap();
    let again = rivven(&["certs", "--cluster", "prod", "--out", &out, "--nodes", "3"]);
    assert!(again.status.success() && folder.path().join("node-3.pem").exists());
    assert_eq!(std::fs::read(folder.path().join("ca.pem")).unwrap(), before, "the authority stays");
    let wrong = rivven(&["run", "--config", &write_config(folder.path(), "staging")]);
    assert_eq!(wrong.status.code(), Some(1));
    let error = text(&wrong.stderr);
    assert!(error.contains("staging") && error.contains("prod"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_node_runs_answers_status_and_stops_on_sigterm() {
    use std::io::{BufRead, BufReader};
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().display().to_string();
    assert!(rivven(&["certs", "--cluster", "prod", "--out", &out, "--nodes", "1"]).status.success());
    let config = write_config(folder.path(), "prod");
    let mut process = Command::new(env!("CARGO_BIN_EXE_rivven-cluster"))
        .args(["run", "--config", &config])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.starts_with("leader in term")), "a cluster of one elects itself");
    let status = rivven(&["status", "--config", &config, "--json"]);
    assert!(status.status.success(), "{}", text(&status.stderr));
    let json: serde_json::Value = serde_json::from_slice(&status.stdout).expect("JSON");
    assert_eq!(json["raft"]["role"], "Leader");
    assert!(text(&rivven(&["status", "--config", &config]).stdout).contains("role       leader"));
    let terminated = Command::new("kill").arg(process.id().to_string()).status().expect("kill runs");
    assert!(terminated.success());
    assert!(lines.any(|line| line == "node 1 has stopped"));
    assert!(process.wait().expect("it ends").success());
}
