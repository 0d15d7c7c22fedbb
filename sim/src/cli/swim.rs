//! `swim`: membership alone, at a size of one's choice: expected beside measured.

use core::time::Duration;
use std::time::Instant;

use clap::ValueEnum;
use rivven_sim::swim::chaos;
use rivven_sim::swim::gates::{
    self, Gate, detection, dissemination, false_deaths, false_suspicions, join, lifeguard, merge, pause,
    quiet_load,
};
use rivven_sim::swim::world::{Setting, World};

use super::hunt::one_by_one;

/// The arguments of `swim`.
#[derive(clap::Args)]
pub struct Arguments {
    /// How many members.
    #[arg(long, default_value_t = 1000)]
    members: usize,
    /// Where all randomness comes from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many crashes the detection times are averaged over.
    #[arg(long)]
    crashes: Option<usize>,
    /// Instead: torment a few members from each of so many seeds, beginning at --seed.
    #[arg(long, value_name = "SEEDS")]
    chaos: Option<u64>,
    /// Instead: the same until one fails, which is printed as one line of JSON.
    #[arg(long, value_name = "SEEDS")]
    hunt: Option<u64>,
    /// Also what takes minutes: hours of loss, and Lifeguard's experiment, at 100 members.
    #[arg(long)]
    long: bool,
    /// Only this measurement; may be given several times.
    #[arg(long, value_name = "MEASUREMENT", conflicts_with = "long")]
    only: Vec<Measurement>,
}

/// What can be measured by itself.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Measurement {
    /// Simulated seconds a second, and the memory of a quiet cluster.
    Speed,
    /// Messages a member and period.
    Load,
    /// How soon a crash is noticed.
    Detection,
    /// How soon news are known to all.
    News,
    /// How soon a newcomer knows all, and all know it.
    Join,
    /// Two halves that find together again.
    Merge,
    /// Members that come and go.
    Churn,
}

/// Runs the measurements; tells whether each gate holds.
pub fn run(arguments: &Arguments) -> Result<bool, String> {
    let Arguments { members, seed, crashes, chaos, hunt: prey, long, ref only } = *arguments;
    if let Some(seeds) = chaos {
        return Ok(torment(seed, seeds));
    }
    if let Some(seeds) = prey {
        return one_by_one(seed, seeds, |seed| chaos::play(seed).violation);
    }
    if members < 4 {
        return Err("--members: at least 4".to_owned());
    }
    println!("{members} members, seed {seed}");
    let mut missed = 0;
    let mut show = |gates: Vec<Gate>| {
        for gate in gates {
            let mark = if gate.holds { "  " } else { "!!" };
            println!("{mark} {:<66} {:<18} {}", gate.name, gate.expected, gate.measured);
            missed += usize::from(!gate.holds);
        }
    };
    let all = Measurement::value_variants().iter();
    for measurement in all.filter(|measurement| only.is_empty() || only.contains(measurement)) {
        show(measure(*measurement, members, seed, crashes));
    }
    if long {
        show(vec![false_deaths(100, 10, 300, seed), false_deaths(100, 20, 300, seed)]);
        show([5, 10, 20, 30].map(|loss| false_suspicions(loss, 2000, seed)).to_vec());
        show(vec![pause(100, 20, seed)]);
        show(lifeguard(seed));
    }
    println!(
        "{}",
        if missed == 0 { "every gate holds".to_owned() } else { format!("{missed} gates missed") }
    );
    Ok(missed == 0)
}

/// The rows of one measurement.
fn measure(what: Measurement, members: usize, seed: u64, crashes: Option<usize>) -> Vec<Gate> {
    let is_large = members > 5000;
    match what {
        Measurement::Speed => vec![speed(members, seed)],
        Measurement::Load => vec![quiet_load(members, seed)],
        Measurement::Detection => {
            detection(members, crashes.unwrap_or(if is_large { 100 } else { 1500 }), seed)
        }
        Measurement::News => vec![dissemination(members, if is_large { 3 } else { 20 }, seed)],
        Measurement::Join => join(members, seed),
        // The longer one lets each half declare the other one dead.
        Measurement::Merge => {
            let cuts: &[u64] = if members <= 1000 { &[60, 150] } else { &[60] };
            cuts.iter().flat_map(|cut| merge(members, *cut, seed)).collect()
        }
        Measurement::Churn => gates::churn(members, if is_large { 1 } else { 3 }, seed),
    }
}

/// Torments a few members from each seed; tells whether nothing broke.
fn torment(from: u64, seeds: u64) -> bool {
    std::panic::set_hook(Box::new(|_| {}));
    let began = Instant::now();
    let mut broken = 0;
    for seed in from..from + seeds {
        if let Some(violation) = chaos::play(seed).violation {
            broken += 1;
            println!(
                "seed {seed}: {violation}\n  replay: cargo run --release -p rivven-sim -- swim --chaos 1 --seed {seed}"
            );
        }
    }
    println!("{seeds} seeds in {:.1} s: {broken} broken", began.elapsed().as_secs_f64());
    broken == 0
}

/// So long a quiet world is watched at least: a small one plays ten seconds in a few milliseconds, which tell little.
const SPEED_TIME: Duration = Duration::from_secs(2);

/// How fast a quiet world of this size is.
fn speed(members: usize, seed: u64) -> Gate {
    let mut world = World::new(Setting::new(members, seed));
    world.run_for(Duration::from_secs(2));
    let (began, events) = (Instant::now(), world.events);
    let mut seconds = 0.0;
    while began.elapsed() < SPEED_TIME {
        world.run_for(Duration::from_secs(10));
        seconds += 10.0;
    }
    let took = began.elapsed().as_secs_f64();
    let per_period = took * 1e6 / seconds / f64::from(u32::try_from(members).unwrap_or(u32::MAX));
    Gate {
        name: "simulated seconds a second, quiet".to_owned(),
        expected: "(reported)".to_owned(),
        measured: format!(
            "{:.0}, {} events; {per_period:.2} us a member and period, the world included; {}",
            seconds / took,
            world.events - events,
            peak_memory()
        ),
        holds: true,
    }
}

/// The most memory that this process has had, as Linux tells it.
fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.map_or_else(|| "peak memory unknown".to_owned(), |peak| format!("peak memory {}", peak.trim()))
}
