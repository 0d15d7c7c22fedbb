//! The names of the rules, Raft's (Raft Fig. 3) and ours.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident $name:literal,)*) => {
        /// The rules.
        #[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
        pub enum Rule { $($(#[$doc])* $rule,)* }

        impl Rule {
            /// All of them.
            pub const ALL: &[Rule] = &[$(Rule::$rule,)*];
        }

        impl fmt::Display for Rule {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Rule::$rule => $name,)* })
            }
        }
    };
}

rules! {
    /// A term has one leader.
    ElectionSafety "election-safety",
    /// A leader never replaces what it appended in its term.
    LeaderAppendOnly "leader-append-only",
    /// Logs that share an entry share all before it.
    LogMatching "log-matching",
    /// A leader has every entry that was committed before.
    LeaderCompleteness "leader-completeness",
    /// What is committed is durable on a majority and never changes.
    Committed "committed",
    /// No two nodes execute different commands, or get different answers, at one index.
    StateMachineSafety "state-machine-safety",
    /// Terms and indexes never decrease while a process runs.
    Monotone "monotone",
    /// What a message promises is durable when it leaves.
    DurablePromise "durable-promise",
    /// A cluster is what all its founders have pledged.
    Formation "formation",
    /// A damaged disk is refused, or read as what it once was.
    Stored "stored",
    /// What was acknowledged is there, once; what failed is not.
    Acknowledged "acknowledged",
    /// Each answer is what the log says, and the log's order is that of real time.
    Oracle "oracle",
    /// Each register's history has an order that explains it.
    Linearizability "linearizability",
    /// With the faults gone, the cluster works again.
    Liveness "liveness",
    /// No word about a member is taken back.
    Gossip "gossip",
    /// Equal logs give equal metadata, a leader epoch has one leader, and who is in sync is there.
    Metadata "metadata",
    /// What is committed in a partition never changes, every leader has it, and nothing is there twice.
    Records "records",
    /// No node is sent what its version does not read, and the level is not raised over its head.
    Features "features",
    /// Queues and batches stay within their bounds.
    Resources "resources",
    /// What contradicts itself, or what a node knows, is dropped at its door.
    Lies "lies",
    /// Nobody refuses messages that only a broken promise explains.
    Alarm "alarm",
    /// The assertions inside the machines, and nodes that stop by themselves.
    Invariant "invariant",
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(name: &str) -> Result<Rule, String> {
        Rule::ALL.iter().copied().find(|rule| rule.to_string() == name).ok_or_else(|| {
            let names: Vec<String> = Rule::ALL.iter().map(Rule::to_string).collect();
            format!("no rule is called {name:?}; there are {}", names.join(", "))
        })
    }
}

/// A rule that was broken.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
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

pub(super) fn broken(rule: Rule, what: String) -> Verdict {
    Err(Violation { rule, what })
}
