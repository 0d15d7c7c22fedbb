//! `report`: a run as a picture.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rivven_sim::checkers::Rule;
use rivven_sim::lock::lock;
use rivven_sim::report::{Caption, Picture, Verdict, html};
use rivven_sim::scenario::{Scenario, WorldKind};
use rivven_sim::trace::Trace;
use rivven_sim::world::{self, Options, Report};

/// The arguments of `report`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The seed; of a plan, that which stands in it unless another is given.
    #[arg(long, required_unless_present_any = ["plan", "flight"])]
    seed: Option<u64>,
    /// Where it is played; pure if neither this nor the plan says.
    #[arg(long)]
    world: Option<WorldKind>,
    /// Draw this scenario file.
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    #[command(flatten)]
    flight: super::flight::FlightArguments,
    /// Where the picture is written.
    #[arg(long, value_name = "FILE", default_value = "report.html")]
    out: PathBuf,
    /// Keep so many events, the last ones.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    events: usize,
    /// Do not judge this rule; may be repeated.
    #[arg(long, value_name = "RULE")]
    ignore: Vec<Rule>,
}

/// Plays a run and draws it. A violation is what is looked for here, and no failure.
pub fn run(arguments: &Arguments) -> Result<bool, String> {
    if let Some(path) = &arguments.flight.flight {
        let picture = Arc::new(Mutex::new(Picture::new(arguments.events)));
        let trace = Trace::new(None, Some(Arc::clone(&picture)));
        let (_, caption) = super::flight::play(path, &arguments.flight, trace)?;
        return draw(arguments, &lock(&picture), &caption);
    }
    let scenario = scenario(arguments)?;
    let picture = Arc::new(Mutex::new(Picture::new(arguments.events)));
    let ignored = arguments.ignore.iter().copied().collect();
    let options = Options { ignored, picture: Some(Arc::clone(&picture)), ..Options::default() };
    let report = world::run(&scenario, options);
    let picture = lock(&picture);
    if let Some(violation) = &report.violation {
        println!("VIOLATION {violation}");
    }
    draw(arguments, &picture, &caption(arguments, &scenario, &report, picture.events()))
}

fn draw(arguments: &Arguments, picture: &Picture, caption: &Caption) -> Result<bool, String> {
    super::save(&arguments.out, &html(picture, caption))?;
    let events = picture.events().min(arguments.events);
    println!("{events} of {} events are drawn in {}", picture.events(), arguments.out.display());
    Ok(true)
}

fn scenario(arguments: &Arguments) -> Result<Scenario, String> {
    let Some(path) = &arguments.plan else {
        let world = arguments.world.unwrap_or(WorldKind::Pure);
        return Ok(Scenario::draw(arguments.seed.unwrap_or_default(), world));
    };
    let mut scenario = super::load(path)?;
    scenario.seed = arguments.seed.unwrap_or(scenario.seed);
    scenario.world = arguments.world.unwrap_or(scenario.world);
    Ok(scenario)
}

fn caption(arguments: &Arguments, scenario: &Scenario, report: &Report, events: usize) -> Caption {
    let Scenario { seed, world, shape, faults, .. } = scenario;
    let counts = report.history.counts();
    let mut command = super::replay(scenario);
    if let Some(path) = &arguments.plan {
        command = format!("{command} --plan {}", path.display());
    }
    command.push_str(&super::flags(&[], &arguments.ignore));
    let mut about = vec![
        format!("{} nodes, {} clients, commit {}", shape.nodes, shape.clients, super::commit()),
        format!(
            "{:.1} simulated seconds; {} faults, of which {} had an effect; {} elections, {} restarts",
            report.simulated.as_secs_f64(),
            faults.len(),
            report.effects.effective(),
            report.elections,
            report.restarts
        ),
        format!(
            "{} commands acknowledged, {} failed, {} unknown",
            counts.done, counts.failed, counts.unknown
        ),
    ];
    if events > arguments.events {
        about.push(format!("of {events} events the last {} are drawn", arguments.events));
    }
    let verdict = report
        .violation
        .as_ref()
        .map(|violation| Verdict { rule: violation.rule.to_string(), text: violation.what.clone() });
    Caption { title: format!("seed {seed} in the {world} world"), command, about, verdict }
}
