//! `explore`: every order of events of a small world.

use rivven_sim::explore::{Explored, SmallWorld, explore};
use rivven_sim::{replicas, swim};

use super::hunt::one_by_one;

/// The arguments of `explore`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Which small world.
    #[arg(long, value_enum, default_value_t = Which::Replicas)]
    world: Which,
    /// The most states of each.
    #[arg(long, default_value_t = 10_000_000)]
    states: u64,
    /// What may happen how often, as WHAT=COUNT, instead of what is tried in the tests; may be repeated. Replicas: records,
    /// crashes, disks, fences, elections, lags, repeats. Members: lost, timers, crashes, leaves, words, repeats.
    #[arg(long, value_name = "WHAT=COUNT")]
    allow: Vec<String>,
    /// Stop at the first that breaks, and print it as one line of JSON.
    #[arg(long)]
    hunt: bool,
}

/// Three replicas of a partition, or three members.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Which {
    /// Three replicas of one partition, and the metadata.
    Replicas,
    /// Three members.
    Members,
}

/// Explores; tells whether nothing broke.
pub fn run(arguments: &Arguments) -> Result<bool, String> {
    match arguments.world {
        Which::Replicas => {
            let given = parse(&arguments.allow, replica_budget)?;
            let budgets = given.map_or(replicas::small::BUDGETS.to_vec(), |budget| vec![budget]);
            all(arguments, &budgets, replicas::small::Small::new)
        }
        Which::Members => {
            let given = parse(&arguments.allow, member_budget)?;
            let budgets = given.map_or(swim::small::BUDGETS.to_vec(), |budget| vec![budget]);
            all(arguments, &budgets, swim::small::Small::new)
        }
    }
}

fn all<B: Copy + core::fmt::Debug, W: SmallWorld>(
    arguments: &Arguments,
    budgets: &[B],
    world: impl Fn(B) -> W,
) -> Result<bool, String> {
    if arguments.hunt {
        let count = u64::try_from(budgets.len()).map_err(|error| error.to_string())?;
        return one_by_one(1, count, |number| {
            let place = usize::try_from(number - 1).expect("a few");
            explore(&world(budgets[place]), arguments.states).violation.map(|(_, text)| text)
        });
    }
    let mut is_clean = true;
    for budget in budgets {
        println!("{budget:?}");
        let explored = explore(&world(*budget), arguments.states);
        print(&explored);
        is_clean &= explored.violation.is_none();
    }
    Ok(is_clean)
}

fn print<E: core::fmt::Debug>(explored: &Explored<E>) {
    let Explored { states, steps, is_all, violation } = explored;
    let all = if *is_all { "all that there are" } else { "and there are more" };
    println!("  {states} states ({all}), {steps} events tried");
    if let Some((path, text)) = violation {
        path.iter().for_each(|event| println!("  {event:?}"));
        println!("violation: {text}");
    }
}

/// A budget, if any is given; `count_of` tells where the count of a name stands.
fn parse<B: Default>(
    allow: &[String],
    count_of: impl for<'b> Fn(&'b mut B, &str) -> Option<&'b mut u8>,
) -> Result<Option<B>, String> {
    let mut budget = B::default();
    for text in allow {
        let wrong = || format!("--allow {text}: not WHAT=COUNT with a count up to 255, see --help");
        let (name, count) = text.split_once('=').ok_or_else(wrong)?;
        *count_of(&mut budget, name).ok_or_else(wrong)? = count.parse().map_err(|_| wrong())?;
    }
    Ok((!allow.is_empty()).then_some(budget))
}

fn replica_budget<'b>(budget: &'b mut replicas::small::Budget, name: &str) -> Option<&'b mut u8> {
    match name {
        "records" => Some(&mut budget.records),
        "crashes" => Some(&mut budget.crashes),
        "disks" => Some(&mut budget.disks),
        "fences" => Some(&mut budget.fences),
        "elections" => Some(&mut budget.elections),
        "lags" => Some(&mut budget.lags),
        "repeats" => Some(&mut budget.repeats),
        _ => None,
    }
}

fn member_budget<'b>(budget: &'b mut swim::small::Budget, name: &str) -> Option<&'b mut u8> {
    match name {
        "lost" => Some(&mut budget.lost),
        "timers" => Some(&mut budget.timers),
        "crashes" => Some(&mut budget.crashes),
        "leaves" => Some(&mut budget.leaves),
        "words" => Some(&mut budget.words),
        "repeats" => Some(&mut budget.repeats),
        _ => None,
    }
}
