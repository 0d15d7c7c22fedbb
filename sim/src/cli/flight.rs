//! `replay --flight` and `report --flight`: a node of production, told the same again.

use core::time::Duration;
use std::path::{Path, PathBuf};

use rivven_cluster::flight::{Flight, Payloads, Step};
use rivven_cluster::raft::Standing;
use rivven_sim::flight::branch::{Branched, Parting, Turn, branch};
use rivven_sim::flight::{Ending, Played, replay};
use rivven_sim::report::{Caption, Verdict, brief};
use rivven_sim::trace::Trace;

/// A flight, and where it goes another way.
#[derive(clap::Args)]
pub struct FlightArguments {
    /// A recording of a node, as `rivven-cluster record` has it written.
    #[arg(long, value_name = "FILE")]
    pub flight: Option<PathBuf>,
    /// Lose this input of the flight, counted from 1, and let the node go on from there.
    #[arg(long, value_name = "INPUT", requires = "flight")]
    branch: Option<usize>,
    /// How long the node goes on after the flight has ended, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, requires = "branch")]
    then: u64,
}

/// Plays the flight, and prints what came of it. Tells whether it is what was recorded, and what to write above a picture.
pub fn play(path: &Path, arguments: &FlightArguments, mut trace: Trace) -> Result<(bool, Caption), String> {
    let flight = load(path)?;
    let mut lines = about(path, &flight);
    let (is_same, told, verdict) = match arguments.branch {
        None => {
            let played = replay(&flight, &mut trace);
            (played.is_same(), ended(&flight, &played), verdict(&flight, &played))
        }
        Some(input) => {
            let turn = Turn { input, then: Duration::from_secs(arguments.then) };
            let branched = branch(&flight, turn, &mut trace).map_err(|error| error.to_string())?;
            let verdict = branched.broken.clone().map(|text| Verdict { rule: "invariant".to_owned(), text });
            (branched.broken.is_none(), turned(&branched, arguments), verdict)
        }
    };
    lines.extend(told);
    for line in &lines {
        println!("{line}");
    }
    println!("trace: {} records\ntrace-hash: {:016x}", trace.records(), trace.hash());
    let mut command = format!("cargo run --release -p rivven-sim -- replay --flight {}", path.display());
    if let Some(input) = arguments.branch {
        command = format!("{command} --branch {input} --then {}", arguments.then);
    }
    let title = format!("a flight of node {}", flight.node());
    Ok((is_same, Caption { title, command, about: lines, verdict }))
}

fn load(path: &Path) -> Result<Flight, String> {
    let place = path.display();
    let bytes = std::fs::read(path).map_err(|error| format!("cannot read {place}: {error}"))?;
    Flight::decode(&bytes).map_err(|error| format!("{place}: {error}"))
}

fn about(path: &Path, flight: &Flight) -> Vec<String> {
    let (begins, ends) = flight.times();
    let inputs = flight.steps.iter().filter(|step| matches!(step, Step::Input(..)));
    let payloads = match flight.payloads {
        Payloads::Hashed => "payloads are hashes",
        Payloads::Whole => "payloads are whole",
    };
    vec![
        format!("{}: node {}, {}", path.display(), flight.node(), flight.reason),
        format!(
            "{:.3} seconds, {} steps, of which {} inputs; {payloads}",
            ends.saturating_since(begins).as_secs_f64(),
            flight.steps.len(),
            inputs.count()
        ),
    ]
}

fn ended(flight: &Flight, played: &Played) -> Vec<String> {
    let Played { ending, steps, outputs, unsaid } = played;
    let mut lines = vec![match ending {
        Ending::Same => format!("it says the same again: {outputs} outputs of {steps} steps"),
        Ending::PanickedAgain(text) => {
            format!("it says the same again, {outputs} outputs, and panics as it did: {text}")
        }
        Ending::PanickedOutside => {
            format!("it says the same again, {outputs} outputs, up to where its state machine panicked")
        }
        Ending::PanicsNoMore => {
            format!("it says the same again, {outputs} outputs, and does not panic any more")
        }
        Ending::Differs(step, difference) => {
            format!("step {step} of {} DIFFERS\n{difference}", flight.steps.len())
        }
        Ending::Broken(step, text) => format!("step {step} of {}: BROKEN: {text}", flight.steps.len()),
    }];
    if *unsaid > 0 {
        lines.push(format!("the state machine was asked {unsaid} times for what it had not said"));
    }
    lines
}

fn verdict(flight: &Flight, played: &Played) -> Option<Verdict> {
    let (rule, text) = match &played.ending {
        Ending::Same => return None,
        Ending::PanicsNoMore => ("panic", "the recorded node panicked, and this one does not".to_owned()),
        Ending::PanickedAgain(text) => ("panic", text.clone()),
        Ending::PanickedOutside => ("panic", flight.reason.to_string()),
        Ending::Differs(step, difference) => {
            ("determinism", format!("step {step}: {}", brief(&difference.found)))
        }
        Ending::Broken(step, text) => ("invariant", format!("step {step}: {text}")),
    };
    Some(Verdict { rule: rule.to_owned(), text })
}

fn turned(branched: &Branched, arguments: &FlightArguments) -> Vec<String> {
    let Branched { lost, at, parting, unread, broken, standings: [now, then] } = branched;
    let number = arguments.branch.unwrap_or_default();
    let mut lines = vec![format!("without input {number}, of {:.3} s: {}", at.as_secs_f64(), brief(lost))];
    match parting {
        None => lines.push("it says what it said then".to_owned()),
        Some(Parting { at, now, then }) => {
            let or_nothing = |output: &Option<_>| output.as_ref().map_or("nothing".to_owned(), brief);
            lines.push(format!("it says something else first at {:.3} s", at.as_secs_f64()));
            lines.push(format!("  then: {}", or_nothing(then)));
            lines.push(format!("  now:  {}", or_nothing(now)));
        }
    }
    let stands = |standing: &Option<Standing>| {
        standing.map_or("not said".to_owned(), |stands| format!("{} in term {}", stands.role, stands.term))
    };
    lines.push(format!("in the end: {}; then: {}", stands(now), stands(then)));
    if *unread > 0 {
        lines.push(format!("{unread} reads of records found nothing: the branch has no disk for them"));
    }
    lines.extend(broken.iter().map(|text| format!("BROKEN: {text}")));
    lines
}
