//! `shrink`: the smallest scenario that breaks the same rule, as a test and as a file.

use std::collections::BTreeSet;
use std::path::PathBuf;

use rivven_sim::checkers::Rule;
use rivven_sim::scenario::{Scenario, WorldKind};
use rivven_sim::shrink::{as_test, blame, shrink};
use rivven_sim::world::{Options, run as run_scenario};

/// The arguments of `shrink`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The seed that fails.
    #[arg(long, required_unless_present = "file")]
    seed: Option<u64>,
    /// Where it fails.
    #[arg(long, default_value_t = WorldKind::Pure)]
    world: WorldKind,
    /// A scenario file that fails, instead of a seed.
    #[arg(long, alias = "plan", conflicts_with = "seed")]
    file: Option<PathBuf>,
    /// Write the small scenario to this file.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Do not judge this rule; may be repeated.
    #[arg(long, value_name = "RULE")]
    ignore: Vec<Rule>,
    /// The most runs.
    #[arg(long, default_value_t = 1000)]
    runs: u64,
    /// Also say of each fault of the whole plan whether the run fails without it.
    #[arg(long)]
    blame: bool,
}

/// Shrinks a scenario.
pub fn run(arguments: &Arguments) -> Result<bool, String> {
    let scenario = match (&arguments.file, arguments.seed) {
        (Some(path), _) => super::load(path)?,
        (None, Some(seed)) => Scenario::draw(seed, arguments.world),
        (None, None) => return Err("say which seed, or which file".to_owned()),
    };
    let ignored: BTreeSet<Rule> = arguments.ignore.iter().copied().collect();
    let play = |scenario: &Scenario| {
        run_scenario(scenario, Options { ignored: ignored.clone(), ..Options::default() })
    };
    let Some(shrunk) = shrink(&scenario, arguments.runs, &play) else {
        println!("no violation: there is nothing to shrink");
        return Ok(true);
    };
    if arguments.blame {
        for (window, violation) in blame(&scenario, &play) {
            let is_same = violation.is_some_and(|violation| violation.rule == shrunk.violation.rule);
            let verdict = if is_same { "also fails without" } else { "NEEDS" };
            println!("{verdict} {:>3}  {}", window.id, window.fault);
        }
    }
    println!("VIOLATION {}", shrunk.violation);
    println!(
        "{} of {} faults are left after {} runs, {} nodes, {} clients:",
        shrunk.scenario.faults.len(),
        scenario.faults.len(),
        shrunk.runs,
        shrunk.scenario.shape.nodes,
        shrunk.scenario.shape.clients
    );
    for window in &shrunk.scenario.faults {
        println!("  {:>6} to {:>6} ms  {}", window.begins, window.ends, window.fault);
    }
    println!("\n{}", as_test(&shrunk));
    if let Some(path) = &arguments.save {
        super::save(path, &shrunk.scenario.to_text())?;
        println!("replay: cargo run --release -p rivven-sim -- replay {}", path.display());
    }
    Ok(false)
}
