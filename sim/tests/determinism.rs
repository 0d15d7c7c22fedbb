//! One seed, one run: in this process, again in this process, and in another process.

use std::process::Command;
use std::sync::Mutex;

use rivven_sim::net::lock;
use rivven_sim::sweep::sweep;
use rivven_sim::world::Options;

const SEEDS: u64 = 20;

/// The hash of each seed's trace, by seed.
fn hashes() -> Vec<(u64, u64)> {
    let found = Mutex::new(Vec::new());
    let summary = sweep(1, SEEDS, 2, &Options::default().ignored, |report| {
        lock(&found).push((report.seed, report.hash));
    });
    assert_eq!(summary.violations, []);
    let mut found = found.into_inner().expect("not poisoned");
    found.sort_unstable();
    found
}

fn hashes_of_another_process() -> Vec<(u64, u64)> {
    let output = Command::new(env!("CARGO_BIN_EXE_rivven-sim"))
        .args(["sweep", "--hashes", "--seeds", &SEEDS.to_string()])
        .output()
        .expect("the program runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let mut found: Vec<(u64, u64)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("seed ")?.split_once(": trace-hash: "))
        .map(|(seed, hash)| (seed.parse().expect("a seed"), u64::from_str_radix(hash, 16).expect("a hash")))
        .collect();
    found.sort_unstable();
    found
}

#[test]
fn a_seed_gives_the_same_trace_twice_and_in_another_process() {
    let first = hashes();
    assert_eq!(first.len(), 20);
    assert_eq!(first, hashes(), "twice in one process");
    assert_eq!(first, hashes_of_another_process(), "in a second process");
}

#[test]
fn wrong_usage_exits_with_2_and_a_clean_run_with_0() {
    let run = |arguments: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_rivven-sim")).args(arguments).output().expect("it runs");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(run(&["run"]).0, Some(2));
    assert_eq!(run(&["run", "--seed", "1", "--ignore", "no-such-rule"]).0, Some(2));
    let (code, text) = run(&["run", "--seed", "1"]);
    assert_eq!(code, Some(0), "{text}");
    let hash = text.lines().last().and_then(|line| line.strip_prefix("trace-hash: ")).expect("the last line");
    assert_eq!(hash.len(), 16, "{hash}");
}
