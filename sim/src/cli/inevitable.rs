//! `inevitable`: from when on a failing run could not be saved by luck any more.

use core::time::Duration;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rivven_sim::app::KeyValueApp;
use rivven_sim::checkers::Rule;
use rivven_sim::inevitable::{Answer, Question, Share, ask};
use rivven_sim::lock::lock;
use rivven_sim::report::Picture;
use rivven_sim::scenario::{Scenario, WorldKind};
use rivven_sim::world::{self, Options};

/// The arguments of `inevitable`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The seed that fails, in the pure world.
    #[arg(long, required_unless_present = "plan")]
    seed: Option<u64>,
    /// A scenario file that fails, instead of a seed.
    #[arg(long, value_name = "FILE", conflicts_with = "seed")]
    plan: Option<PathBuf>,
    /// How many times are tried at first.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(2..=1000))]
    times: u32,
    /// How often the interval of the highest step is cut into four.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(0..=16))]
    cuts: u32,
    /// How often the luck is drawn anew from each time on.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    draws: u64,
    /// How many runs at a time; as many as there are processors if not given.
    #[arg(long)]
    jobs: Option<usize>,
    /// Do not judge this rule; may be repeated.
    #[arg(long, value_name = "RULE")]
    ignore: Vec<Rule>,
}

/// How wide the plot is, in characters.
const WIDTH: u64 = 50;
/// So many events of the step are printed.
const EVENTS_MAX: usize = 40;

/// Asks the question, and prints the answer.
pub fn run(arguments: &Arguments) -> Result<bool, String> {
    let scenario = match (&arguments.plan, arguments.seed) {
        (Some(path), _) => super::load(path)?,
        (None, Some(seed)) => Scenario::draw(seed, WorldKind::Pure),
        (None, None) => return Err("say which seed, or which file".to_owned()),
    };
    if scenario.world != WorldKind::Pure {
        return Err("luck can be drawn anew in the pure world only".to_owned());
    }
    let picture = Arc::new(Mutex::new(Picture::new(usize::MAX)));
    let ignored = arguments.ignore.iter().copied().collect();
    let options = Options { ignored, picture: Some(Arc::clone(&picture)), ..Options::default() };
    let report = world::run(&scenario, options);
    let Some(violation) = &report.violation else {
        println!("no violation: there is nothing to ask");
        return Ok(true);
    };
    println!("VIOLATION {violation}");
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let question = Question {
        intervals: arguments.times,
        cuts: arguments.cuts,
        draws: arguments.draws,
        jobs: arguments.jobs.unwrap_or(processors),
        ignored: arguments.ignore.iter().copied().collect(),
    };
    // A panic leaves no time behind; the last event has one.
    let end = Duration::from_micros(lock(&picture).last_at());
    let app = || KeyValueApp::new(&scenario.shape);
    let Answer { shares, step } = ask(&scenario, &app, violation.rule, end, &question);
    plot(&shares, arguments.draws);
    print_step(step, arguments.draws, &lock(&picture));
    Ok(true)
}

fn percent(failed: u64, draws: u64) -> u64 {
    failed * 100 / draws.max(1)
}

fn plot(shares: &[Share], draws: u64) {
    println!(
        "if the luck is drawn anew from a time on, {draws} times each, so many runs break the same rule:"
    );
    for Share { at, failed } in shares {
        let bar = "█".repeat(usize::try_from(failed * WIDTH / draws.max(1)).unwrap_or_default());
        println!("{:>12.6} s {:>4} %  {bar}", at.as_secs_f64(), percent(*failed, draws));
    }
}

fn print_step(step: Option<(Share, Share)>, draws: u64, picture: &Picture) {
    let Some((before, after)) = step else {
        println!(
            "it rises nowhere by more than chance: either luck plays no part under this plan of faults, or more"
        );
        println!("--draws are needed to see it");
        return;
    };
    println!(
        "it rises most between {:.6} s and {:.6} s, from {} % to {} %; this happened there:",
        before.at.as_secs_f64(),
        after.at.as_secs_f64(),
        percent(before.failed, draws),
        percent(after.failed, draws)
    );
    let micros = |share: Share| u64::try_from(share.at.as_micros()).unwrap_or(u64::MAX);
    let lines = picture.lines(micros(before), micros(after));
    for line in lines.iter().take(EVENTS_MAX) {
        println!("  {line}");
    }
    if lines.len() > EVENTS_MAX {
        println!("  and {} more events; more --cuts name fewer", lines.len() - EVENTS_MAX);
    }
}
