//! What must never be seen: one rule a file, each with its source on the first line.
//!
//! A checker is told what the nodes do, at the moment they do it, and answers with a [`Violation`] or
//! with nothing. It keeps its own books and never asks a node for its opinion.

mod acknowledged;
mod durable_promise;
mod election_safety;
mod log_matching;
mod state_machine_safety;

use std::collections::BTreeSet;
use std::fmt;

use rivven_cluster::id::LogIndex;
use rivven_cluster::node::{Durable, Event, Input, Message, Output, Peer};
use rivven_cluster::raft::{Role, Standing};

pub use self::acknowledged::Acknowledged;
pub use self::durable_promise::{DurablePromise, apply};
pub use self::election_safety::ElectionSafety;
pub use self::log_matching::LogMatching;
pub use self::state_machine_safety::StateMachineSafety;

/// The rules.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Rule {
    /// A term has one leader.
    ElectionSafety,
    /// Logs that share an entry share all before it.
    LogMatching,
    /// No two nodes execute different commands at one index.
    StateMachineSafety,
    /// What a message promises is durable when it leaves.
    DurablePromise,
    /// What was acknowledged is there, once, on every node.
    Acknowledged,
    /// The assertions inside the machines, alarms, and nodes that stop by themselves.
    Invariant,
    /// With the faults gone, the cluster works again.
    Liveness,
}

impl Rule {
    /// All of them.
    pub const ALL: [Rule; 7] = [
        Rule::ElectionSafety,
        Rule::LogMatching,
        Rule::StateMachineSafety,
        Rule::DurablePromise,
        Rule::Acknowledged,
        Rule::Invariant,
        Rule::Liveness,
    ];
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rule::ElectionSafety => "election-safety",
            Rule::LogMatching => "log-matching",
            Rule::StateMachineSafety => "state-machine-safety",
            Rule::DurablePromise => "durable-promise",
            Rule::Acknowledged => "acknowledged",
            Rule::Invariant => "invariant",
            Rule::Liveness => "liveness",
        })
    }
}

/// A rule that was broken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// Which rule.
    pub rule: Rule,
    /// How.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}

/// What a checker says.
pub type Verdict = Result<(), Violation>;

fn broken(rule: Rule, what: String) -> Verdict {
    Err(Violation { rule, what })
}

/// All checkers of a run.
#[derive(Default)]
pub struct Checkers {
    /// Rules that are not judged, to see whether others catch what they would.
    pub ignored: BTreeSet<Rule>,
    elections: ElectionSafety,
    logs: LogMatching,
    commands: StateMachineSafety,
    promises: DurablePromise,
    /// What clients were told.
    pub acknowledged: Acknowledged,
    /// The first violation; what comes after it may be its echo.
    pub violation: Option<Violation>,
}

impl Checkers {
    /// Makes checkers that judge all rules but `ignored`.
    pub fn new(ignored: BTreeSet<Rule>) -> Checkers {
        Checkers { ignored, ..Checkers::default() }
    }

    /// Notes a verdict.
    pub fn note(&mut self, verdict: Verdict) {
        let Err(violation) = verdict else { return };
        if self.violation.is_none() && !self.ignored.contains(&violation.rule) {
            self.violation = Some(violation);
        }
    }

    /// A node's process started, on this durable state.
    pub fn started(&mut self, node: u64, durable: &Durable) {
        let verdict = self.promises.started(node, durable);
        self.note(verdict);
        self.commands.started(node, durable.snapshot.as_ref().map(|snapshot| snapshot.at.index));
    }

    /// A node is about to be given an input.
    pub fn input(&mut self, node: u64, input: &Input) {
        if let Input::Written(id) = input {
            self.promises.written(node, *id);
        }
    }

    /// A node asked for something.
    pub fn output(&mut self, node: u64, output: &Output) {
        match output {
            Output::Write(batch) => {
                let verdict = self.logs.write(node, batch);
                self.note(verdict);
                self.promises.write(node, batch);
                self.commands.write(node, batch);
            }
            Output::Send { to: Peer::Node(to), message: Message::Raft(message) } => {
                let verdict = self.promises.send(node, to.value(), message);
                self.note(verdict);
            }
            Output::Event(Event::Alarm { from, refusal }) => {
                let what = format!("node {node} refuses what node {from} says: {refusal:?}");
                self.note(broken(Rule::Invariant, what));
            }
            Output::Send { .. } | Output::Reply { .. } | Output::Event(_) => {}
        }
    }

    /// A node has settled in this standing.
    pub fn settled(&mut self, node: u64, standing: Option<Standing>) {
        if let Some(Standing { role: Role::Leader, term, .. }) = standing {
            let verdict = self.elections.leads(node, term);
            self.note(verdict);
        }
    }

    /// A node executed a command.
    pub fn applied(&mut self, node: u64, index: LogIndex, command: &[u8]) {
        let verdict = self.commands.applied(node, index, command);
        self.note(verdict);
    }

    /// The run is over and the faults are gone: judges what clients were told.
    pub fn finish(&mut self, nodes: u64) {
        let verdict = self.acknowledged.judge(&self.commands, nodes);
        self.note(verdict);
    }

    /// Tells whether every node has executed what any node has.
    pub fn have_converged(&self, nodes: u64) -> bool {
        (1..=nodes).all(|node| self.commands.first_gap(node).is_none())
    }
}
