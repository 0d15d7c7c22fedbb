//! The commands, one a file.

pub mod explore;
pub mod flight;
pub mod hunt;
pub mod inevitable;
pub mod merge;
pub mod mutants;
pub mod replicas;
pub mod report;
pub mod run;
pub mod shrink;
pub mod sweep;
pub mod swim;

use std::path::Path;

use rivven_sim::checkers::Rule;
use rivven_sim::faults::FaultKind;
use rivven_sim::scenario::Scenario;

/// The commit that this program was built from, as far as it can be told where it runs.
pub fn commit() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = std::process::Command::new("git")
        .arg("-C")
        .arg(root)
        .args(["describe", "--always", "--exclude=*", "--dirty=, and changed since"])
        .output();
    let output = output.ok().filter(|output| output.status.success());
    output.map_or_else(
        || "of an unknown commit".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

/// Reads a scenario file.
pub fn load(path: &Path) -> Result<Scenario, String> {
    let place = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {place}: {error}"))?;
    Scenario::parse(&text).map_err(|error| format!("{place}: {error}"))
}

/// Writes a text to a file.
pub fn save(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// The flags that leave out kinds of faults and rules, as they are typed.
pub fn flags(without: &[FaultKind], ignored: &[Rule]) -> String {
    let without = without.iter().map(|kind| format!(" --without {kind}"));
    without.chain(ignored.iter().map(|rule| format!(" --ignore {rule}"))).collect()
}

/// The command that runs a seed again.
pub fn replay(scenario: &Scenario) -> String {
    let (seed, world) = (scenario.seed, scenario.world);
    format!("cargo run --release -p rivven-sim -- run --seed {seed} --world {world}")
}
