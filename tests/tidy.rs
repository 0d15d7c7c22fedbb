//! Keeps the house in order: reads the sources and says what to do instead.
//!
//! * Who may import whom (an arrow is "may import"):
//!   `bin -> config -> quic -> driver -> {node, wire}`, `node -> {raft, swim, formation, state_machine}`, and the
//!   machines import only `{machine, time, id, rng}` and what they are about, never each other.
//! * The cores hold no floats, no `as` casts, no clock, no threads, no files, no `unsafe`.
//! * A file has at most 600 lines and opens with why it exists.
#![expect(clippy::disallowed_methods, reason = "it reads the sources")]

use std::fs;
use std::path::{Path, PathBuf};

/// Which modules of this crate each part may name. What is not listed here is not a part.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("id", &[]),
    ("guide", &[]),
    ("time", &[]),
    ("payload", &[]),
    ("rng", &[]),
    ("machine", &["time"]),
    ("state_machine", &["id"]),
    ("formation", &["id", "machine", "rng", "time"]),
    ("raft", &["id", "machine", "payload", "rng", "time", "state_machine"]),
    ("swim", &["id", "machine", "rng", "time"]),
    ("partition", &["id", "machine", "payload", "rng", "time"]),
    ("wire", &["node"]),
    ("kv", &["id", "state_machine", "wire"]),
    ("description", &["id", "wire"]),
    ("directory", &["id"]),
    ("session", &["directory", "id", "partition", "payload", "raft", "wire"]),
    ("ledger", &["directory", "id", "partition", "raft", "session", "state_machine", "wire"]),
    (
        "node",
        &[
            "description",
            "directory",
            "formation",
            "id",
            "kv",
            "ledger",
            "machine",
            "partition",
            "payload",
            "raft",
            "rng",
            "session",
            "state_machine",
            "swim",
            "time",
        ],
    ),
    (
        "flight",
        &[
            "id",
            "ledger",
            "machine",
            "node",
            "partition",
            "payload",
            "rng",
            "session",
            "state_machine",
            "time",
            "wire",
        ],
    ),
    (
        "driver",
        &[
            "flight",
            "formation",
            "id",
            "machine",
            "node",
            "partition",
            "raft",
            "state_machine",
            "swim",
            "time",
            "wire",
        ],
    ),
    ("config", &["flight", "id", "node", "partition", "quic", "raft", "swim", "wire"]),
    (
        "quic",
        &[
            "driver",
            "flight",
            "id",
            "kv",
            "machine",
            "node",
            "partition",
            "raft",
            "rng",
            "session",
            "state_machine",
            "swim",
            "time",
            "wire",
        ],
    ),
];

/// Parts without any side effect.
const CORES: &[&str] = &[
    "description",
    "directory",
    "flight",
    "formation",
    "id",
    "kv",
    "ledger",
    "machine",
    "node",
    "partition",
    "payload",
    "raft",
    "rng",
    "session",
    "state_machine",
    "swim",
    "time",
    "wire",
];

/// What the cores must not contain, and what to do instead.
const BANNED_IN_CORES: &[(&str, &str)] = &[
    ("f32", "use integers: floats differ between platforms"),
    ("f64", "use integers: floats differ between platforms"),
    (" as u8", "use From or try_from: `as` loses bits in silence"),
    (" as u16", "use From or try_from: `as` loses bits in silence"),
    (" as u32", "use From or try_from: `as` loses bits in silence"),
    (" as u64", "use From or try_from: `as` loses bits in silence"),
    (" as usize", "use From or try_from: `as` loses bits in silence"),
    (" as i32", "use From or try_from: `as` loses bits in silence"),
    (" as i64", "use From or try_from: `as` loses bits in silence"),
    ("std::time::Instant", "take time::Instant as an argument"),
    ("SystemTime", "take the wall clock as an argument"),
    ("HashMap", "use BTreeMap: the order of a HashMap is random"),
    ("HashSet", "use BTreeSet: the order of a HashSet is random"),
    ("std::fs", "files belong to driver and quic"),
    ("std::net::", "sockets belong to quic"),
    ("std::thread", "threads belong to driver"),
    ("tokio", "tasks belong to driver"),
    ("thread_rng", "draw from an rng::Stream"),
];

/// What no source may contain.
const BANNED_EVERYWHERE: &[(&str, &str)] = &[
    ("todo!(", "do it now, or leave it out"),
    ("unimplemented!(", "do it now, or leave it out"),
    ("#[ignore", "a test that does not run tests nothing"),
    ("dbg!(", "remove it"),
];

const LINES_MAX: usize = 600;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn all_sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for folder in ["src", "sim", "tests", "fuzz/src", "fuzz/fuzz_targets"] {
        sources(&root().join(folder), &mut found);
    }
    found.sort();
    found.into_iter().map(|path| (path.clone(), fs::read_to_string(path).expect("readable"))).collect()
}

/// The part of the library that a file belongs to.
fn part_of(path: &Path) -> Option<String> {
    let inside = path.strip_prefix(root().join("src")).ok()?;
    let first = inside.iter().next()?.to_str()?;
    let name = first.trim_end_matches(".rs");
    (name != "lib" && name != "bin").then(|| name.to_owned())
}

/// The code lines of a file, without comments and without its tests, numbered from 1.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = (1..).zip(text.lines()).take_while(|(_, line)| !line.starts_with("#[cfg(test)]"));
    lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn is_test(path: &Path) -> bool {
    path.ends_with("tests.rs")
}

fn complain(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn imports_follow_the_arrows() {
    let mut complaints = Vec::new();
    for (path, text) in all_sources().iter().filter(|(path, _)| !is_test(path)) {
        let Some(part) = part_of(path) else { continue };
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == part) else {
            complaints.push(format!(
                "{}: {part} is no part yet: say in tests/tidy.rs what it may import",
                path.display()
            ));
            continue;
        };
        for (number, line) in code(text) {
            for named in line.match_indices("crate::").map(|(place, _)| &line[place + 7..]) {
                let name: String = named.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if name != part && !allowed.contains(&name.as_str()) {
                    let place = format!("{}:{number}", path.display());
                    complaints.push(format!(
                        "{place}: {part} must not know {name}; route between them in node/route.rs"
                    ));
                }
            }
        }
    }
    complain(&complaints);
}

#[test]
fn the_cores_are_pure() {
    let mut complaints = Vec::new();
    for (path, text) in all_sources() {
        let is_core = part_of(&path).is_some_and(|part| CORES.contains(&part.as_str()));
        for (number, line) in code(&text).filter(|_| is_core) {
            for (banned, instead) in BANNED_IN_CORES {
                if line.contains(banned) {
                    complaints.push(format!("{}:{number}: {banned}: {instead}", path.display()));
                }
            }
        }
    }
    complain(&complaints);
}

#[test]
fn nothing_is_left_undone() {
    let mut complaints = Vec::new();
    for (path, text) in all_sources().iter().filter(|(path, _)| !path.ends_with("tidy.rs")) {
        for (number, line) in (1..).zip(text.lines()) {
            for (banned, instead) in BANNED_EVERYWHERE {
                if line.contains(banned) {
                    complaints.push(format!("{}:{number}: {banned}: {instead}", path.display()));
                }
            }
        }
    }
    complain(&complaints);
}

#[test]
fn files_are_short_and_say_why_they_exist() {
    let mut complaints = Vec::new();
    for (path, text) in all_sources() {
        let lines = text.lines().count();
        if lines > LINES_MAX {
            complaints.push(format!(
                "{}: {lines} lines: split it by concept; {LINES_MAX} is the most",
                path.display()
            ));
        }
        let is_target = path.components().any(|part| part.as_os_str() == "fuzz_targets");
        if !text.starts_with("//!") && !is_target {
            complaints.push(format!("{}: open with `//!` and why the file exists", path.display()));
        }
    }
    complain(&complaints);
}

#[test]
fn each_checker_names_its_source_on_its_first_line() {
    let mut found = Vec::new();
    sources(&root().join("sim/src/checkers"), &mut found);
    for path in found.iter().filter(|path| !path.ends_with("mod.rs")) {
        let text = fs::read_to_string(path).expect("readable");
        let first = text.lines().next().unwrap_or_default();
        assert!(
            ["Raft", "SWIM", "KIP", "Herlihy", "(Ours"].iter().any(|source| first.contains(source)),
            "{}: name the source of the rule on line one: {first}",
            path.display()
        );
    }
}
