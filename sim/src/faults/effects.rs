//! What the faults of a run did, by kind, and how many of them did anything.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::FaultKind;

/// Counts what the faults did.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Effects {
    by_kind: BTreeMap<FaultKind, u64>,
    /// The faults of the plan that had an effect.
    effective: BTreeSet<u64>,
}

impl Effects {
    /// The fault of this number and kind had an effect.
    pub fn count(&mut self, id: u64, kind: FaultKind) {
        *self.by_kind.entry(kind).or_default() += 1;
        self.effective.insert(id);
    }

    /// How many effects a kind had.
    pub fn of(&self, kind: FaultKind) -> u64 {
        self.by_kind.get(&kind).copied().unwrap_or_default()
    }

    /// How many faults of the plan had an effect.
    pub fn effective(&self) -> u64 {
        u64::try_from(self.effective.len()).unwrap_or(u64::MAX)
    }

    /// Whether the fault of this number had one.
    pub fn had(&self, id: u64) -> bool {
        self.effective.contains(&id)
    }

    /// Adds the counts by kind of another run.
    pub fn add(&mut self, other: &Effects) {
        for (kind, count) in &other.by_kind {
            *self.by_kind.entry(*kind).or_default() += count;
        }
    }
}
