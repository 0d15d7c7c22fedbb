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
fn shards_that_were_saved_are_merged_and_a_missing_one_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = ["1/2", "2/2"].map(|shard| {
        let file = folder.path().join(shard.replace('/', "-of-")).display().to_string();
        let (code, text, _) = sim(&["sweep", "--seeds", "6", "--shard", shard, "--save", &file]);
        assert_eq!(code, Some(0), "{text}");
        file
    });
    let (code, text, _) = sim(&["merge", &files[1], &files[0]]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("2 shards") && text.contains("6 seeds in") && text.contains("no violation"),
        "{text}"
    );
    let (code, _, error) = sim(&["merge", &files[0]]);
    assert_eq!(code, Some(2));
    assert!(error.contains("of 2 shards these are missing: 2"), "{error}");
}

/// Of a page that `report` has written, the data.
fn data_of(page: &str) -> serde_json::Value {
    let (_, rest) = page.split_once(r#"id="run">"#).expect("the data");
    serde_json::from_str(rest.split_once("</script>").expect("their end").0).expect("JSON")
}

fn column(data: &serde_json::Value, table: &str, name: &str) -> Vec<i64> {
    let values = data[table][name].as_array().expect("a column");
    values.iter().map(|value| value.as_i64().expect("a number")).collect()
}

#[test]
fn a_report_is_one_page_with_every_event_and_arrows_that_go_forward() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("report.html");
    for world in ["pure", "turmoil"] {
        let out = file.display().to_string();
        let (code, text, _) = sim(&["report", "--seed", "3", "--world", world, "--out", &out]);
        assert_eq!(code, Some(0), "{text}");
        let data = data_of(&std::fs::read_to_string(&file).expect("a page"));
        let (from, to) = (column(&data, "messages", "from"), column(&data, "messages", "to"));
        let events = data["events"]["at"].as_array().expect("a column").len();
        assert!(events > 1000, "{world}: {events} events");
        let arrived = to.iter().filter(|to| **to >= 0).count();
        assert!(arrived * 10 > to.len() * 8, "{world}: of {} messages {arrived} arrived", to.len());
        assert!(from.iter().zip(&to).all(|(from, to)| *to < 0 || from < to), "{world}");
        let leads = |state: &serde_json::Value| {
            state["role"].as_array().is_some_and(|roles| roles.contains(&4.into()))
        };
        let states = data["states"].as_array().expect("a state for each lane");
        assert!(states.iter().any(leads), "{world}: somebody leads");
        assert_eq!(data["lanes"].as_array().map(Vec::len), Some(states.len()));
    }
}

#[test]
fn only_the_last_events_of_a_run_are_drawn_if_that_is_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("report.html").display().to_string();
    let (code, text, _) = sim(&["report", "--seed", "3", "--events", "500", "--out", &out]);
    assert_eq!(code, Some(0), "{text}");
    let data = data_of(&std::fs::read_to_string(&out).expect("a page"));
    assert_eq!(data["events"]["at"].as_array().map(Vec::len), Some(500));
    assert!(data["about"].to_string().contains("the last 500 are drawn"), "{}", data["about"]);
}

#[test]
fn when_nothing_is_broken_there_is_nothing_inevitable() {
    let (code, text, _) = sim(&["inevitable", "--seed", "3"]);
    assert_eq!((code, text.trim()), (Some(0), "no violation: there is nothing to ask"));
}

#[test]
fn a_hunt_that_finds_nothing_says_so_in_json() {
    let (code, text, _) = sim(&["hunt", "--seeds", "3"]);
    assert_eq!(code, Some(0), "{text}");
    let found: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&found["seeds"], &found["seed"]), (&3.into(), &serde_json::Value::Null));
}

/// The code moves on, and the list of mutants has to move with it.
#[test]
fn every_mutant_of_the_list_still_applies() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let read = |path: &std::path::Path| std::fs::read_to_string(path).expect("a file of the project");
    let list: toml::Table = toml::from_str(&read(&root.join("sim/mutants.toml"))).expect("TOML");
    let mutants = list["mutant"].as_array().expect("a list");
    assert!(mutants.len() > 100);
    for mutant in mutants {
        let text = |key: &str| mutant[key].as_str().expect("a text");
        let times = read(&root.join(text("file"))).matches(text("find")).count();
        assert_eq!(times, 1, "mutant {} is to be found once in {}", text("id"), text("file"));
    }
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
