//! The command line: what goes in, what comes out, and with which exit code.

#![expect(clippy::disallowed_methods, reason = "it reads what the program writes")]

use std::process::Command;

use rivven_sim::scenario::Scenario;

fn sim(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_rivven-sim")).args(arguments).output().expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn wrong_usage_exits_with_2_and_says_what_there_is() {
    assert_eq!(sim(&["run"]).0, Some(2));
    let (code, _, error) = sim(&["run", "--seed", "1", "--ignore", "no-such-rule"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("election-safety"), "{error}");
    let (code, _, error) = sim(&["sweep", "--without", "gremlins"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("power-loss"), "{error}");
    assert_eq!(sim(&["sweep", "--shard", "5/4"]).0, Some(2));
    let (code, _, error) = sim(&["replay", "/no/such/file"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("/no/such/file"), "{error}");
}

#[test]
fn a_run_writes_its_plan_its_trace_and_its_history_and_replays_from_the_plan() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (plan, trace, history) = (path("plan.json"), path("trace.txt"), path("history.jsonl"));
    let (code, text, _) =
        sim(&["run", "--seed", "3", "--save", &plan, "--trace", &trace, "--history", &history]);
    assert_eq!(code, Some(0), "{text}");
    let hash = text.lines().last().and_then(|line| line.strip_prefix("trace-hash: ")).expect("the last line");
    assert_eq!(hash.len(), 16, "{hash}");

    let (code, again, _) = sim(&["replay", &plan]);
    assert_eq!(code, Some(0), "{again}");
    assert_eq!(again.lines().last(), text.lines().last(), "the plan is the whole run");

    let (code, again, _) = sim(&["run", "--seed", "3", "--plan", &plan]);
    assert_eq!((code, again.lines().last()), (Some(0), text.lines().last()));
    let (_, other, _) = sim(&["run", "--seed", "4", "--plan", &plan]);
    assert_ne!(other.lines().last(), text.lines().last(), "the seed decides the rest");

    let scenario = std::fs::read_to_string(&plan).expect("the plan");
    assert_eq!(Scenario::parse(&scenario).expect("a scenario").seed, 3);
    let last = std::fs::read_to_string(&trace).expect("the trace").lines().last().map(str::to_owned);
    assert!(last.expect("a record").contains(hash), "the last record carries the hash");
    let lines = std::fs::read_to_string(&history).expect("the history");
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().expect("a line")).expect("JSON");
    for key in ["client", "op", "key", "value", "result", "call", "return", "outcome"] {
        assert!(first.get(key).is_some(), "{first} has no {key}");
    }
}

#[test]
fn shards_of_a_sweep_are_its_parts() {
    let seeds = |shard: &str| {
        let (code, text, _) = sim(&["sweep", "--seeds", "9", "--shard", shard, "--hashes"]);
        assert_eq!(code, Some(0), "{text}");
        let lines = text.lines().filter(|line| line.contains("trace-hash")).map(str::to_owned);
        lines.collect::<Vec<String>>()
    };
    let mut parts: Vec<String> = [seeds("1/2"), seeds("2/2")].concat();
    let mut whole = seeds("1/1");
    parts.sort();
    whole.sort();
    assert_eq!(parts, whole);
}

#[test]
fn a_hunt_that_finds_nothing_says_so_in_json() {
    let (code, text, _) = sim(&["hunt", "--seeds", "3"]);
    assert_eq!(code, Some(0), "{text}");
    let found: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&found["seeds"], &found["seed"]), (&3.into(), &serde_json::Value::Null));
}

#[test]
fn a_mutant_that_no_longer_applies_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("mutants.toml");
    let mutant = "[[mutant]]\nid = \"gone\"\nrule = \"none\"\nfile = \"src/lib.rs\"\n\
                  find = \"no such text\"\nreplace = \"\"\nworld = \"pure\"\n";
    std::fs::write(&file, mutant).expect("a file");
    let (code, _, error) = sim(&["mutants", "--file", &file.display().to_string()]);
    assert_eq!(code, Some(2));
    assert!(error.contains("gone no longer applies"), "{error}");
}
