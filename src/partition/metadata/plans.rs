//! The plan that is being executed: at most one, so that no two contradict each other.
//!
//! A plan may be large, so it comes in parts; it begins when it is complete. It holds no progress: what is done and what
//! is next is read from the partitions (see [`steps`](crate::partition::planner::steps)), which no crash can contradict.

use serde::{Deserialize, Serialize};

use super::{Delta, Metadata, Outcome, PARTITIONS_MAX, Refusal};
use crate::id::LogIndex;
use crate::partition::planner::Change;

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
        plan: Option<PlanId>,
        changes: &[Change],
        is_last: bool,
    ) -> Result<Outcome, Refusal> {
        let active = match (plan, &mut self.state.plan) {
            (None, Some(active)) => return Err(Refusal::PlanIsActive(active.id)),
            (None, none) => none.insert(ActivePlan {
                id: index,
                changes: Vec::new(),
                is_complete: false,
                is_cancelled: false,
            }),
            (Some(id), Some(active)) if active.id == id && !active.is_complete => active,
            (Some(id), _) => return Err(Refusal::PlanUnknown(id)),
        };
        if active.changes.len().saturating_add(changes.len()) > PARTITIONS_MAX {
            if plan.is_none() {
                self.state.plan = None;
            }
            return Err(Refusal::PlanTooLarge);
        }
        active.changes.extend_from_slice(changes);
        active.is_complete = is_last;
        let id = active.id;
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
