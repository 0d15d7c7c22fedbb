//! A sweep in parts, on many machines.
//!
//! Seeds have nothing to do with each other, so a sweep is cut by taking each n-th of them: shard i of n runs
//! the seeds that leave the rest i when they are divided by n. Each shard writes what came of it to a file, and whoever
//! has all files adds them up. What must not happen is that a shard is missing, or is there twice, or was run
//! by another build, and the sum looks as good as any: [`merge`] refuses that.

use core::time::Duration;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::sweep::{Order, Summary};
use crate::trace::TRACE_FORMAT;

/// What came of one shard.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Shard {
    /// The commit that it was run from.
    pub commit: String,
    /// What it was to run.
    pub order: Order,
    /// Whether it ran all of that, and was not stopped before.
    pub is_whole: bool,
    /// How long it took.
    pub took: Duration,
    /// The sum.
    pub summary: Summary,
}

/// A file as it is written.
#[derive(Deserialize, Serialize)]
struct Saved<S> {
    trace_format: u64,
    shard: S,
}

/// Why shards cannot be added up. Nothing was.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ShardError {
    /// Take files that `sweep --save` has written.
    #[error("this is no file that `sweep --save` has written: {0}")]
    Malformed(String),
    /// Run all shards with one build.
    #[error(
        "it was written by a build whose traces are of format {0}; this one's are of format {TRACE_FORMAT}"
    )]
    Format(u64),
    /// Name the files.
    #[error("there is nothing to add up")]
    Nothing,
    /// Run all shards with one build and the same arguments.
    #[error(
        "shard {0} and shard {1} were run from different commits, or were to run different seeds or rules"
    )]
    Different(u64, u64),
    /// Name each file once.
    #[error("shard {0} is there twice")]
    Twice(u64),
    /// Run them, or wait until they are done.
    #[error("of {of} shards these are missing: {}", list(.missing))]
    Missing {
        /// Which.
        missing: Vec<u64>,
        /// How many there are.
        of: u64,
    },
    /// Run it again without `--minutes`, or with more.
    #[error("shard {0} was stopped before its end")]
    CutShort(u64),
}

fn list(numbers: &[u64]) -> String {
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

impl Shard {
    /// Writes it down.
    #[must_use]
    pub fn to_text(&self) -> String {
        let saved = Saved { trace_format: TRACE_FORMAT, shard: self };
        serde_json::to_string_pretty(&saved).expect("it is made of numbers and names") + "\n"
    }

    /// Reads what [`to_text`](Shard::to_text) has written.
    ///
    /// # Errors
    ///
    /// [`ShardError::Malformed`] or [`ShardError::Format`].
    pub fn parse(text: &str) -> Result<Shard, ShardError> {
        let malformed = |error: serde_json::Error| ShardError::Malformed(error.to_string());
        let saved: Saved<serde_json::Value> = serde_json::from_str(text).map_err(malformed)?;
        if saved.trace_format != TRACE_FORMAT {
            return Err(ShardError::Format(saved.trace_format));
        }
        serde_json::from_value(saved.shard).map_err(malformed)
    }
}

/// Adds up all shards of one sweep. Tells what they were to run, the sum, and how long all took together.
///
/// # Errors
///
/// [`ShardError`] if they are not the parts of one whole.
pub fn merge(shards: Vec<Shard>) -> Result<(Order, Summary, Duration), ShardError> {
    let mut by_number = BTreeMap::new();
    for shard in shards {
        let number = shard.order.shard.0;
        if by_number.insert(number, shard).is_some() {
            return Err(ShardError::Twice(number));
        }
    }
    let (first, example) = by_number.first_key_value().ok_or(ShardError::Nothing)?;
    let whole = |shard: &Shard| {
        let order = Order { shard: (1, shard.order.shard.1), jobs: 1, ..shard.order.clone() };
        (shard.commit.clone(), order)
    };
    let (commit, order) = whole(example);
    for (number, shard) in &by_number {
        if whole(shard) != (commit.clone(), order.clone()) {
            return Err(ShardError::Different(*first, *number));
        }
        if !shard.is_whole {
            return Err(ShardError::CutShort(*number));
        }
    }
    let of = order.shard.1;
    let missing: Vec<u64> = (1..=of).filter(|number| !by_number.contains_key(number)).collect();
    if !missing.is_empty() {
        return Err(ShardError::Missing { missing, of });
    }
    let (mut sum, mut took) = (Summary::default(), Duration::ZERO);
    for shard in by_number.into_values() {
        took += shard.took;
        sum.merge(shard.summary);
    }
    Ok((Order { shard: (1, 1), ..order }, sum, took))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::checkers::{Rule, Violation};
    use crate::scenario::WorldKind;

    fn shard(number: u64) -> Shard {
        let order = Order {
            world: WorldKind::Pure,
            from: 1,
            seeds: 10,
            shard: (number, 3),
            jobs: 2,
            without: BTreeSet::new(),
            ignored: BTreeSet::new(),
            stops_at_violation: false,
        };
        let violation = Violation { rule: Rule::Committed, what: "it is not".to_owned() };
        let summary =
            Summary { seeds: number, violations: vec![(20 - number, violation)], ..Summary::default() };
        let took = Duration::from_secs(1);
        Shard { commit: "abc".to_owned(), order, is_whole: true, took, summary }
    }

    #[test]
    fn the_whole_is_the_sum_of_its_parts_in_any_order_of_the_files() {
        let written = [3, 1, 2].map(|number| Shard::parse(&shard(number).to_text()).unwrap());
        let (order, sum, took) = merge(written.to_vec()).unwrap();
        assert_eq!((order.shard, sum.seeds, took), ((1, 1), 6, Duration::from_secs(3)));
        let seeds: Vec<u64> = sum.violations.iter().map(|(seed, _)| *seed).collect();
        assert_eq!(seeds, [17, 18, 19]);
    }

    #[test]
    fn what_is_not_one_whole_is_refused() {
        let refuses = |shards: Vec<Shard>| merge(shards).map(|_| ()).unwrap_err();
        assert_eq!(refuses(vec![]), ShardError::Nothing);
        assert_eq!(refuses(vec![shard(1), shard(1)]), ShardError::Twice(1));
        assert_eq!(refuses(vec![shard(2)]), ShardError::Missing { missing: vec![1, 3], of: 3 });
        let other = Shard { commit: "def".to_owned(), ..shard(2) };
        assert_eq!(refuses(vec![shard(1), other, shard(3)]), ShardError::Different(1, 2));
        let mut fewer = shard(2);
        fewer.order.seeds = 9;
        assert_eq!(refuses(vec![shard(1), fewer, shard(3)]), ShardError::Different(1, 2));
        let short = Shard { is_whole: false, ..shard(3) };
        assert_eq!(refuses(vec![shard(1), shard(2), short]), ShardError::CutShort(3));
    }

    #[test]
    fn what_is_no_such_file_is_refused_and_so_is_another_format() {
        assert!(matches!(Shard::parse("{}"), Err(ShardError::Malformed(_))));
        let text =
            shard(1).to_text().replace(&format!("\"trace_format\": {TRACE_FORMAT}"), "\"trace_format\": 1");
        assert_eq!(Shard::parse(&text).unwrap_err(), ShardError::Format(1));
    }
}
