//! `replicas`: one partition, from many seeds, with everything that can happen to it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rivven_sim::lock::lock;
use rivven_sim::replicas::scenarios::SCENARIOS;
use rivven_sim::replicas::{Marks, play};

use super::hunt::one_by_one;

/// The arguments of `replicas`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many of them.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// How many steps each has before all faults end.
    #[arg(long, default_value_t = 600)]
    steps: u64,
    /// Instead: look for the first seed that fails, and print it as one line of JSON.
    #[arg(long)]
    hunt: bool,
    /// Print all that happens, in the first seed or in the history.
    #[arg(long, conflicts_with = "hunt")]
    narrate: bool,
    /// Instead: play the history of this name; `list` names them all.
    #[arg(long, value_name = "NAME", conflicts_with = "hunt")]
    scenario: Option<String>,
}

/// Plays the seeds; tells whether nothing broke.
pub fn run(arguments: &Arguments) -> Result<bool, String> {
    let Arguments { seed, seeds, steps, .. } = *arguments;
    if seeds == 0 || steps == 0 || seed.checked_add(seeds).is_none() {
        return Err("--seeds and --steps: at least 1 each".to_owned());
    }
    if let Some(name) = &arguments.scenario {
        return act(name, arguments.narrate);
    }
    if arguments.narrate {
        let outcome = play(seed, steps, true);
        println!("trace-hash: {:016x}", outcome.trace);
        return Ok(report(outcome.violation.map(|text| (seed, text)).as_slice(), steps));
    }
    if arguments.hunt {
        return one_by_one(seed, seeds, |seed| play(seed, steps, false).violation);
    }
    let began = Instant::now();
    let (marks, broken) = sweep(seed, seeds, steps);
    let seconds = began.elapsed().as_secs_f64();
    for (name, count) in marks.iter() {
        println!("{count:>12} {name}");
    }
    println!("{seeds} seeds of {steps} steps in {seconds:.1} s");
    let idle: Vec<&str> = marks.iter().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect();
    // In a short run not everything can happen.
    let is_covered = idle.is_empty() || seeds.saturating_mul(steps) < 1_000_000;
    if !is_covered {
        println!("never happened: {}", idle.join(", "));
    }
    Ok(report(&broken, steps) && is_covered)
}

/// Plays the history of a name, or names them.
fn act(name: &str, narrates: bool) -> Result<bool, String> {
    if name == "list" {
        SCENARIOS.iter().for_each(|scenario| println!("{}", scenario.name));
        return Ok(true);
    }
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name);
    let scenario =
        scenario.ok_or_else(|| format!("--scenario: no history is called {name:?}; see `list`"))?;
    scenario.play(narrates);
    println!("{name}: as it must be");
    Ok(true)
}

fn report(broken: &[(u64, String)], steps: u64) -> bool {
    for (seed, text) in broken {
        println!(
            "seed {seed}: {text}\n  replay: cargo run --release -p rivven-sim -- replicas --narrate --seed {seed} --steps {steps}"
        );
    }
    println!("{}", if broken.is_empty() { "no violation" } else { "VIOLATED" });
    broken.is_empty()
}

/// Plays all seeds, on all processors.
fn sweep(from: u64, seeds: u64, steps: u64) -> (Marks, Vec<(u64, String)>) {
    let next = AtomicU64::new(from);
    let all = Mutex::new((Marks::default(), Vec::new()));
    let work = || {
        let (mut marks, mut broken) = (Marks::default(), Vec::new());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from + seeds {
                break;
            }
            let outcome = play(seed, steps, false);
            marks.absorb(&outcome.marks);
            broken.extend(outcome.violation.map(|text| (seed, text)));
        }
        let mut all = lock(&all);
        all.0.absorb(&marks);
        all.1.extend(broken);
    };
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..jobs).for_each(|_| drop(scope.spawn(work))));
    let (marks, mut broken) = all.into_inner().unwrap_or_default();
    broken.sort_unstable();
    (marks, broken)
}
