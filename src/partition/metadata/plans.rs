//! The plan that is being executed: at most one, so that no two contradict each other.
//!
//! A plan may be large, so it comes in parts; it begins when it is complete. It holds no progress: what is done and what
//! is next is read from the partitions (see [`steps`](crate::partition::planner::steps)), which no crash can contradict.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Delta, Metadata, Outcome, PARTITIONS_MAX, PlanPart, Refusal};
use crate::id::{LogIndex, NodeId};
use crate::partition::planner::Change;

/// So many changes are submitted in one part of a plan: a part has to fit into an entry of the log.
pub const PLAN_PART: usize = 4096;

/// A plan: the index of the entry that began it.
pub type PlanId = LogIndex;

/// A plan that is being executed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ActivePlan {
    /// Which one.
    pub id: PlanId,
    /// What changes.
    pub changes: Vec<Change>,
    /// Whether all of it is here.
    pub is_complete: bool,
    /// Whether what is under way is to be taken back.
    pub is_cancelled: bool,
}

impl Metadata {
    pub(super) fn submit_plan(
        &mut self,
        index: LogIndex,
        part: PlanPart,
        changes: &[Change],
        is_last: bool,
    ) -> Result<Outcome, Refusal> {
        let begun = match part {
            PlanPart::First { last } => {
                if let Some(active) = &self.state.plan {
                    return Err(Refusal::PlanIsActive(active.id));
                }
                if last != self.state.last_plan {
                    return Err(Refusal::PlanStale(self.state.last_plan));
                }
                None
            }
            PlanPart::Further { plan, from } => {
                let active = self.active(plan)?;
                if active.is_complete || active.is_cancelled {
                    return Err(Refusal::PlanUnknown(plan));
                }
                let current = u32::try_from(active.changes.len()).expect("changes are bounded");
                if current != from {
                    return Err(Refusal::PlanPartStale(current));
                }
                Some(active)
            }
        };
        let before = begun.as_deref().map_or(&[][..], |active| &active.changes);
        if before.len().saturating_add(changes.len()) > PARTITIONS_MAX {
            return Err(Refusal::PlanTooLarge);
        }
        check_changes(before.last(), changes)?;
        let id = begun.as_deref().map_or(index, |active| active.id);
        let new = || ActivePlan { id, changes: Vec::new(), is_complete: false, is_cancelled: false };
        let active = self.state.plan.get_or_insert_with(new);
        active.changes.extend_from_slice(changes);
        active.is_complete = is_last;
        self.state.last_plan = Some(id);
        self.deltas.push(Delta::Plan);
        Ok(Outcome::Planned(id))
    }

    pub(super) fn cancel_plan(&mut self, id: PlanId) -> Result<Outcome, Refusal> {
        let plan = self.active(id)?;
        if plan.is_cancelled {
            return Ok(Outcome::Same);
        }
        plan.is_cancelled = true;
        self.deltas.push(Delta::Plan);
        Ok(Outcome::Changed)
    }

    pub(super) fn finish_plan(&mut self, id: PlanId) -> Result<Outcome, Refusal> {
        self.active(id)?;
        self.state.plan = None;
        self.deltas.push(Delta::Plan);
        Ok(Outcome::Changed)
    }

    fn active(&mut self, id: PlanId) -> Result<&mut ActivePlan, Refusal> {
        self.state.plan.as_mut().filter(|plan| plan.id == id).ok_or(Refusal::PlanUnknown(id))
    }
}

/// Whether each partition is named once, and has different replicas. Two changes of one partition could contradict each
/// other for ever.
fn check_changes<'a>(mut before: Option<&'a Change>, changes: &'a [Change]) -> Result<(), Refusal> {
    for change in changes {
        let is_ordered = before.is_none_or(|before| before.partition < change.partition);
        let different: BTreeSet<&NodeId> = change.to.iter().collect();
        if !is_ordered || change.to.is_empty() || different.len() != change.to.len() {
            return Err(Refusal::PlanChange(change.partition));
        }
        before = Some(change);
    }
    Ok(())
}
