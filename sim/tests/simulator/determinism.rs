//! One seed, one run: in this process, again in this process, and in another process. Both worlds.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::Command;
use std::sync::{Arc, Mutex};

use rivven_cluster::flight::{Flight, Key, Payloads, Ring};
use rivven_cluster::rng::Seed;
use rivven_sim::app::KeyValueApp;
use rivven_sim::flight::replay;
use rivven_sim::lock::lock;
use rivven_sim::scenario::{Scenario, WorldKind};
use rivven_sim::sweep::{Order, sweep};
use rivven_sim::trace::Trace;
use rivven_sim::world::pure::World;
use rivven_sim::world::{Options, run};

/// So many runs have their nodes written down again and again,
const IMAGES_OF_SEEDS: u64 = 8;
/// after at most so many events each time.
const EVENTS_APART: u64 = 2000;

/// So many runs have their nodes recorded, in rings of so many bytes.
const FLIGHTS_OF_SEEDS: u64 = 8;
const RING_BYTES: usize = 16 * 1024;
/// What the clients of the worlds write: keys, and what values are filled up with.
const SECRETS: [&[u8]; 3] = [b"own 1", b"shared 0", b"------------"];

/// The hash of each seed's trace, by seed.
fn hashes(world: WorldKind, seeds: u64) -> Vec<(u64, u64)> {
    let found = Mutex::new(Vec::new());
    let order = Order {
        world,
        from: 1,
        seeds,
        shard: (1, 1),
        jobs: 2,
        without: BTreeSet::new(),
        ignored: BTreeSet::new(),
        stops_at_violation: false,
    };
    let summary = sweep(&order, |scenario, report| {
        lock(&found).push((scenario.seed, report.hash));
        true
    });
    assert_eq!(summary.violations, []);
    let mut found = found.into_inner().expect("not poisoned");
    found.sort_unstable();
    found
}

fn hashes_of_another_process(world: WorldKind, seeds: u64) -> Vec<(u64, u64)> {
    let output = Command::new(env!("CARGO_BIN_EXE_rivven-sim"))
        .args(["sweep", "--hashes", "--seeds", &seeds.to_string(), "--world", &world.to_string()])
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

fn assert_that_seeds_repeat(world: WorldKind, seeds: u64) {
    let first = hashes(world, seeds);
    assert_eq!(u64::try_from(first.len()), Ok(seeds));
    let repeats = [
        ("twice in one process", hashes(world, seeds)),
        ("in a second process", hashes_of_another_process(world, seeds)),
    ];
    for (how, again) in repeats {
        let differing = first.iter().zip(&again).find(|(one, other)| one != other);
        if let Some(((seed, _), _)) = differing {
            panic!("seed {seed} differs, {how}; {}", first_difference(*seed, world));
        }
        assert_eq!(first.len(), again.len(), "{how}");
    }
}

/// The first record of two traces of a seed that is not the same.
fn first_difference(seed: u64, world: WorldKind) -> String {
    let trace = || {
        let text = Text::default();
        let options = Options { trace: Some(Box::new(text.clone())), ..Options::default() };
        run(&Scenario::draw(seed, world), options);
        String::from_utf8(lock(&text.0).clone()).expect("text")
    };
    let (one, other) = (trace(), trace());
    let differing = one.lines().zip(other.lines()).find(|(one, other)| one != other);
    differing.map_or("both traces are equal this time".to_owned(), |(one, other)| {
        format!("first at\n{one}\n{other}")
    })
}

/// A trace as text, in memory.
#[derive(Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl Write for Text {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        lock(&self.0).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn two_traces_of_a_seed_have_no_first_difference() {
    assert_eq!(first_difference(1, WorldKind::Pure), "both traces are equal this time");
}

#[test]
fn a_seed_of_the_pure_world_gives_the_same_trace_twice_and_in_another_process() {
    assert_that_seeds_repeat(WorldKind::Pure, 8);
}

#[test]
fn a_seed_of_the_turmoil_world_gives_the_same_trace_twice_and_in_another_process() {
    assert_that_seeds_repeat(WorldKind::Turmoil, 2);
}

/// Whoever goes on from an image goes on as if nothing had happened (the second law of flights). Tries it at random
/// moments of a run, with all nodes: while they write, elect, copy snapshots, and after each crash and restart.
#[test]
fn nodes_that_are_written_down_and_read_again_go_on_as_if_nothing_had_happened() {
    for seed in 1..=IMAGES_OF_SEEDS {
        let scenario = Scenario::draw(seed, WorldKind::Pure);
        let world = || World::new(scenario.clone(), KeyValueApp::new(&scenario.shape), Options::default());
        let mut moments = Seed::new(seed).stream("moments to write nodes down", 0);
        let (mut written, mut bytes) = (world(), 0);
        let mut until_next = moments.below(EVENTS_APART);
        while written.step() {
            if until_next == 0 {
                bytes += written.write_nodes_down();
            }
            until_next = until_next.checked_sub(1).unwrap_or_else(|| moments.below(EVENTS_APART));
        }
        assert!(bytes > 0, "seed {seed}: nothing was written down");
        let (plain, written) = (world().run(), written.report());
        assert_eq!((plain.violation, written.violation), (None, None), "seed {seed}");
        assert_eq!((plain.events, plain.hash), (written.events, written.hash), "seed {seed}");
    }
}

/// A recorded node, told the same again, says the same (the first law of flights): whatever happens to it, whether its
/// payloads are hashed or whole, and wherever the recording begins: the rings are so small that their halves turn.
#[test]
fn flights_of_nodes_replay_to_the_same_outputs() {
    let (mut flights, mut outputs) = (0, 0);
    for seed in 1..=FLIGHTS_OF_SEEDS {
        let scenario = Scenario::draw(seed, WorldKind::Pure);
        let mut world = World::new(scenario.clone(), KeyValueApp::new(&scenario.shape), Options::default());
        let mut moments = Seed::new(seed).stream("moments to take flights", 0);
        let payloads = if seed % 4 == 0 { Payloads::Whole } else { Payloads::Hashed };
        let ring = || Ring::new(RING_BYTES, payloads, Key::draw(&mut Seed::new(seed).stream("key", 0)));
        let mut until_next = moments.below(EVENTS_APART);
        while world.step() {
            if until_next == 0 {
                for tape in world.take_tapes(ring) {
                    let written: Vec<u8> = tape.into_chunks().flatten().collect();
                    outputs += replays(seed, &written);
                    flights += 1;
                }
            }
            until_next = until_next.checked_sub(1).unwrap_or_else(|| moments.below(EVENTS_APART));
        }
        assert_eq!(world.report().violation, None, "seed {seed}");
    }
    assert!(flights > 100 && outputs > 10_000, "{flights} flights with {outputs} outputs prove little");
}

/// Reads a flight and plays it. Returns how many outputs it has.
fn replays(seed: u64, written: &[u8]) -> usize {
    let read = Flight::decode(written).expect("what was written can be read");
    let told = SECRETS.iter().find(|secret| written.windows(secret.len()).any(|window| window == **secret));
    if read.payloads == Payloads::Hashed {
        assert_eq!(told, None, "seed {seed}: a flight tells what users wrote");
    }
    let played = replay(&read, &mut Trace::off());
    assert!(played.is_same(), "seed {seed}: {played:?}");
    played.outputs
}
