//! The fuzz targets on stable Rust: over the corpora that lie in git, and over noise.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::disallowed_methods, reason = "it reads the corpora")]

use rivven_cluster::rng::Seed;
use rivven_fuzz::{TARGETS, Target};

fn target(name: &str) -> Target {
    TARGETS.into_iter().find(|(known, _)| *known == name).expect("a target of this name")
}

/// Every finding lies there as a file, too, once it is mended.
#[test]
fn the_corpora_in_git_hold() {
    for (name, body) in TARGETS {
        let folder = format!("{}/fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
        let mut got_far = 0;
        for file in std::fs::read_dir(&folder).expect("each target has a corpus in git") {
            got_far += body(&std::fs::read(file.unwrap().path()).unwrap());
        }
        assert!(got_far > 0, "nothing in {folder} gets anywhere");
    }
}

/// Plays tapes of noise, and returns how far all of them got.
fn noise(name: &str, tapes: u64, longest: u64) -> usize {
    let (name, body) = target(name);
    let play = |number| {
        let mut draws = Seed::new(number).stream(name, 0);
        let mut tape = vec![0; usize::try_from(draws.below(longest)).unwrap()];
        draws.fill(&mut tape);
        body(&tape)
    };
    (0..tapes).map(play).sum()
}

#[test]
fn the_metadata_withstands_noise() {
    let done = noise("metadata", 1500, 1000);
    assert!(done > 30_000, "only {done} commands were not refused");
}

#[test]
fn the_planner_withstands_noise() {
    let changed = noise("planner", 3000, 300);
    assert!(changed > 10_000, "only {changed} partitions were planned");
}

#[test]
fn raft_withstands_noise() {
    let committed = noise("raft", 2000, 3000);
    assert!(committed > 1000, "only {committed} entries were committed");
}

#[test]
fn a_store_withstands_noise() {
    let done = noise("storage", 300, 1600);
    assert!(done > 20_000, "only {done} steps were done");
}

#[test]
fn whole_nodes_withstand_noise() {
    let answered = noise("node", 60, 8000);
    assert!(answered > 1000, "only {answered} requests were answered as wished");
}

#[test]
fn members_replicas_and_a_cluster_withstand_noise() {
    assert_eq!(noise("replica", 300, 3000), 300);
    assert_eq!(noise("swim", 20, 200), 20);
    assert_eq!(noise("cluster", 4, 300), 4);
}

#[test]
fn a_file_of_noise_is_refused() {
    assert_eq!(noise("config", 2000, 300), 0);
}
