//! A scenario: all that makes a run, as data that can be saved, edited and replayed.
//!
//! A seed draws one. A shrunk one is a seed's with faults left out; a pinned one is a file. The seed
//! stays in it, because it still decides what the clients do and what each fault does in detail.

use std::collections::BTreeSet;

use rivven_cluster::rng::Seed;
use serde::{Deserialize, Serialize};

use crate::faults::{self, FaultKind, Window};
use crate::shape::{Shape, Store};

/// The format of scenario files. Others are refused.
pub const SCENARIO_FORMAT: u64 = 1;

/// The longest time in a scenario, in milliseconds: an hour. No fault has a number beyond it either.
const TIME_MAX: u64 = 3_600_000;

/// The worlds in which a scenario can be played.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum WorldKind {
    /// The machines alone, on a heap of events.
    Pure,
    /// The production driver, QUIC and store, on simulated hosts.
    Turmoil,
}

impl core::fmt::Display for WorldKind {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            WorldKind::Pure => "pure",
            WorldKind::Turmoil => "turmoil",
        })
    }
}

/// All that makes a run.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Scenario {
    /// [`SCENARIO_FORMAT`].
    pub format: u64,
    /// Decides everything that is not written down here.
    pub seed: u64,
    /// Where it is played.
    pub world: WorldKind,
    /// How large, how fast, how loaded.
    pub shape: Shape,
    /// What goes wrong.
    pub faults: Vec<Window>,
}

/// A scenario file that cannot be used. Nothing was run.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// It is no scenario.
    #[error("not a scenario: {0}")]
    Syntax(#[from] serde_json::Error),
    /// It was written by another version of this program.
    #[error("the scenario has format {found}, this build plays format {SCENARIO_FORMAT}")]
    Format {
        /// Its format.
        found: u64,
    },
    /// It contradicts itself.
    #[error("the scenario makes no sense: {0}")]
    Senseless(String),
}

impl Scenario {
    /// Draws the scenario of a seed.
    pub fn draw(seed: u64, world: WorldKind) -> Scenario {
        Scenario::draw_without(seed, world, &BTreeSet::new())
    }

    /// Draws the scenario of a seed, and leaves out some kinds of faults.
    pub fn draw_without(seed: u64, world: WorldKind, without: &BTreeSet<FaultKind>) -> Scenario {
        let root = Seed::new(seed).child("scenario", 0);
        let shape = Shape::draw(&mut root.stream("shape", 0));
        let faults = faults::plan(root.stream("fault plan", 0), world, &shape, without);
        Scenario { format: SCENARIO_FORMAT, seed, world, shape, faults }
    }

    /// The scenario that a fuzzer's tape says, for the pure world: its first two bytes are the seed, the next sixteen
    /// decide on the shape, and all others on the faults.
    pub fn of_tape(tape: &[u8]) -> Scenario {
        let (seed, tape) = tape.split_at(tape.len().min(2));
        let (shape, faults) = tape.split_at(tape.len().min(16));
        let seed = seed.iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte));
        let root = Seed::new(seed).child("scenario", 0);
        let shape = Shape::draw(&mut root.stream("shape", 0).behind(shape));
        let stream = root.stream("fault plan", 0).behind(faults);
        let faults = faults::plan(stream, WorldKind::Pure, &shape, &BTreeSet::new());
        Scenario { format: SCENARIO_FORMAT, seed, world: WorldKind::Pure, shape, faults }
    }

    /// A calm run of a given shape.
    pub fn calm(seed: u64, world: WorldKind, shape: Shape) -> Scenario {
        Scenario { format: SCENARIO_FORMAT, seed, world, shape, faults: Vec::new() }
    }

    /// The root of all random draws of the run.
    pub fn root(&self) -> Seed {
        Seed::new(self.seed).child("run", 0)
    }

    /// Reads a scenario.
    ///
    /// # Errors
    ///
    /// [`ScenarioError`]; it says what is wrong.
    pub fn parse(text: &str) -> Result<Scenario, ScenarioError> {
        #[derive(Deserialize)]
        struct Header {
            format: u64,
        }
        let Header { format } = serde_json::from_str(text)?;
        if format != SCENARIO_FORMAT {
            return Err(ScenarioError::Format { found: format });
        }
        let scenario: Scenario = serde_json::from_str(text)?;
        scenario.check()?;
        Ok(scenario)
    }

    /// Writes the scenario down.
    pub fn to_text(&self) -> String {
        serde_json::to_string_pretty(self).expect("a scenario has only plain fields")
    }

    /// The same on one line.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("a scenario has only plain fields")
    }

    fn check(&self) -> Result<(), ScenarioError> {
        let senseless = |what: String| Err(ScenarioError::Senseless(what));
        let shape = &self.shape;
        if !(1..=9).contains(&shape.nodes) {
            return senseless(format!("{} nodes; there can be 1 to 9", shape.nodes));
        }
        if shape.newcomers >= shape.nodes {
            return senseless(format!(
                "{} newcomers of {} nodes: somebody has to found the cluster",
                shape.newcomers, shape.nodes
            ));
        }
        if let Err(error) = shape.timing().validate() {
            return senseless(error.to_string());
        }
        let ranges = [shape.think, shape.message_micros, shape.write_micros];
        if let Some((low, high)) = ranges.into_iter().find(|(low, high)| low >= high) {
            return senseless(format!("the range from {low} to {high} is empty"));
        }
        let phases = [shape.faults_until, shape.quorum_until, shape.work_until, shape.ends];
        if !phases.is_sorted() {
            return senseless("faults_until, quorum_until, work_until and ends must not decrease".to_owned());
        }
        let positive =
            [shape.clients, shape.shared_keys, shape.slow_write_in, shape.slow_write, shape.value_bytes_max];
        if positive.contains(&0) {
            return senseless("a count or size in the shape is zero".to_owned());
        }
        let times = [
            shape.replace_after,
            shape.election_max,
            shape.patience,
            shape.think.1,
            shape.slow_write,
            shape.ends,
        ];
        if times.into_iter().any(|time| time > TIME_MAX) {
            return senseless(format!("a time in the shape is longer than {TIME_MAX} ms"));
        }
        let micros = [shape.message_micros.1, shape.write_micros.1];
        if micros.into_iter().any(|time| time > TIME_MAX * 1000) || shape.clients > 1000 {
            return senseless("more than 1000 clients, or a delay longer than an hour".to_owned());
        }
        if shape.value_bytes_max > 1_000_000 {
            return senseless("values may be longer than a command".to_owned());
        }
        let mut ids = BTreeSet::new();
        for window in &self.faults {
            let strangers = window.fault.nodes().into_iter().find(|node| !(1..=shape.nodes).contains(node));
            if let Some(node) = strangers {
                return senseless(format!("fault {} names node {node}, which is not there", window.id));
            }
            let kind = window.fault.kind();
            let has_blocks = self.world == WorldKind::Turmoil || shape.store == Store::Redb;
            let rots = kind == FaultKind::BitRot && shape.store == Store::Segments;
            let fits = (has_blocks || rots || !kind.needs_blocks())
                && (self.world == WorldKind::Pure || !kind.needs_messages());
            if !fits {
                return senseless(format!("fault {}: this world or store has no {kind}", window.id));
            }
            if window.ends > TIME_MAX || window.id > TIME_MAX || !window.fault.has_sound_sizes() {
                return senseless(format!("fault {} has a number that is out of its range", window.id));
            }
            if window.begins >= window.ends || !ids.insert(window.id) {
                return senseless(format!("fault {} ends before it begins, or is there twice", window.id));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_survives_being_written_down() {
        for seed in 0..20 {
            let scenario = Scenario::draw(seed, WorldKind::Pure);
            assert_eq!(Scenario::parse(&scenario.to_text()).unwrap(), scenario);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_reason() {
        let text = Scenario::draw(1, WorldKind::Pure).to_text();
        let refused = |from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            Scenario::parse(&text.replacen(from, to, 1)).unwrap_err().to_string()
        };
        assert!(refused("\"format\": 1", "\"format\": 9").contains("format 9"));
        assert!(refused("\"seed\": 1", "\"seed\": \"x\"").contains("line"));
        assert!(refused("\"nodes\": ", "\"nodes\": 9999").contains("nodes"));
        let with = |fault: &str| {
            let window = format!("{{\"id\": 1, \"begins\": 1, \"ends\": 2, \"fault\": {fault}}}");
            let mut scenario = Scenario::draw(1, WorldKind::Pure);
            scenario.faults.clear();
            let text = scenario.to_text().replacen("\"faults\": []", &format!("\"faults\": [{window}]"), 1);
            Scenario::parse(&text).unwrap_err().to_string()
        };
        assert!(with(r#"{"clock-drift": {"node": 1, "ppm": -1000000}}"#).contains("range"));
        assert!(with(r#"{"slow-sync": {"node": 1, "most": 0}}"#).contains("range"));
        assert!(with(r#"{"restart": {"node": 77}}"#).contains("node 77"));
    }
}
