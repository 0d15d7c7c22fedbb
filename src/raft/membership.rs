//! Who belongs to the group, who decides in it, and how that changes without two majorities ever parting.
//!
//! # The problem
//!
//! A majority of the old members and a majority of the new ones need not share a node. If some nodes
//! count by the old list while others count by the new one, two leaders can be elected in one term, and what one
//! majority committed is lost on the other.
//!
//! # The idea (Raft §6; Raft thesis §4)
//!
//! The membership is part of the log. A [`Change`] of **one** voter needs no more than that: a majority of n nodes
//! and one of n ± 1 always share a node. A change of several goes through a *joint* membership in which
//! every decision needs both majorities, the old one and the new one; once that is committed the leader leaves it.
//!
//! ```text
//!   {1 2 3} ──promote 4──────────────────────────────────► {1 2 3 4}
//!   {1 2 3} ──promote 4, remove 1──► {2 3 4} and {1 2 3} ──leave──► {2 3 4}
//! ```
//!
//! A *learner* is sent the log and decides nothing, so a newcomer that is far behind costs no availability
//! (thesis §4.2.1).
//!
//! # When a change counts
//!
//! Differs from Raft §6, as raft-rs does: a change counts when it is *applied*, not when it is appended. That
//! is safe because a leader appends no change before it has applied the one before, so whoever holds a change
//! on disk also holds, in the same batch, the knowledge that the one before is committed; and nobody campaigns
//! while a committed change is not applied.
//!
//! # Gone for good, and gone to be repaired
//!
//! An id that was *removed* never comes back: some node may still believe what it once said. A member whose
//! disk was damaged is *suspended* instead and comes back as a learner, but only in a later term: whatever
//! its earlier life still has on the way carries an earlier term, and nobody believes it.
//!
//! What this file does not do: decide *which* change is wise. See `node/members.rs`.

use std::collections::{BTreeMap, BTreeSet};

use raft::eraftpb::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState};
use serde::{Deserialize, Serialize};

use crate::id::{NodeId, Term};

/// The most members of a group, learners included.
pub const MEMBERS_MAX: usize = 64;
/// The most steps of one change.
pub const STEPS_MAX: usize = 16;
/// The bytes of a step in the log: what it does, and to whom.
const STEP_BYTES: usize = 9;

/// The members of a group at one point of its log.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Membership(Box<Parts>);

/// Apart, since a membership is a small part of what is moved about.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
struct Parts {
    /// They decide.
    voters: BTreeSet<NodeId>,
    /// While a change of several voters is under way, these have to agree as well.
    outgoing: BTreeSet<NodeId>,
    /// They are sent the log.
    learners: BTreeSet<NodeId>,
    /// Outgoing voters that go on as learners.
    learners_next: BTreeSet<NodeId>,
    /// They never come back.
    removed: BTreeSet<NodeId>,
    /// They may come back as learners, in a later term than this one.
    suspended: BTreeMap<NodeId, Term>,
}

/// What a change does to one node.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Step {
    /// Someone new is sent the log.
    AddLearner(NodeId),
    /// A learner decides from now on.
    Promote(NodeId),
    /// A voter goes on as a learner.
    Demote(NodeId),
    /// A member goes, for good.
    Remove(NodeId),
    /// A member with a damaged disk goes, to come back as a learner.
    Suspend(NodeId),
}

/// A change of the membership, as it stands in the log.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Change {
    /// These, all at once; several lead through a joint membership.
    Steps(Vec<Step>),
    /// Out of the joint membership.
    Leave,
}

/// Why a change makes no sense. The membership is unchanged.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// Wait until it is done, then ask again.
    #[error("another change of the membership is under way")]
    UnderWay,
    /// Leaving is for joint memberships only.
    #[error("no change of several voters is under way")]
    NotJoint,
    /// Name one to 16 nodes, each once.
    #[error("a change has 1 to {STEPS_MAX} steps, each for another node")]
    Steps,
    /// Give the newcomer an id that was never used.
    #[error("node {0} was removed, and an id is never used again: give the node a new one")]
    Removed(NodeId),
    /// It is there already.
    #[error("node {0} is a member already")]
    Member(NodeId),
    /// Add it first.
    #[error("node {0} is no member")]
    NotAMember(NodeId),
    /// Only a learner can be promoted.
    #[error("node {0} is no learner")]
    NotALearner(NodeId),
    /// Only a voter can be demoted.
    #[error("node {0} is no voter")]
    NotAVoter(NodeId),
    /// A later leader can take it back.
    #[error("node {0} was suspended in this term, and may come back only in a later one")]
    TooSoon(NodeId),
    /// Somebody has to decide.
    #[error("the last voter has to stay")]
    NoVoters,
    /// Remove somebody first.
    #[error("a group has at most {MEMBERS_MAX} members")]
    TooMany,
}

impl Step {
    /// Whom it concerns.
    #[must_use]
    pub fn node(self) -> NodeId {
        let (Step::AddLearner(node)
        | Step::Promote(node)
        | Step::Demote(node)
        | Step::Remove(node)
        | Step::Suspend(node)) = self;
        node
    }
}

impl Membership {
    /// A group of these voters and nobody else.
    #[must_use]
    pub fn of_voters(voters: impl IntoIterator<Item = NodeId>) -> Membership {
        Membership(Box::new(Parts { voters: voters.into_iter().collect(), ..Parts::default() }))
    }

    /// The membership that an operator forces on the only node that is left: all others are gone for good.
    #[must_use]
    pub fn of_survivor(&self, survivor: NodeId) -> Membership {
        let mut removed = self.0.removed.clone();
        removed
            .extend(self.members().chain(self.0.suspended.keys().copied()).filter(|node| *node != survivor));
        // Its own removal, if it was under way, is undone.
        removed.remove(&survivor);
        let voters = BTreeSet::from([survivor]);
        Membership(Box::new(Parts { voters, removed, ..Parts::default() }))
    }

    /// The same, and whoever is dead in `other` is dead in this one.
    #[must_use]
    pub fn with_removed(mut self, other: &Membership) -> Membership {
        self.0.removed.extend(other.0.removed.iter().copied());
        self
    }

    /// Who decides; while a change of several is under way, who will.
    #[must_use]
    pub fn voters(&self) -> &BTreeSet<NodeId> {
        &self.0.voters
    }

    /// Who has to agree as well while a change of several voters is under way.
    #[must_use]
    pub fn outgoing(&self) -> &BTreeSet<NodeId> {
        &self.0.outgoing
    }

    /// Who is sent the log and decides nothing.
    #[must_use]
    pub fn learners(&self) -> &BTreeSet<NodeId> {
        &self.0.learners
    }

    /// Who never comes back.
    #[must_use]
    pub fn removed(&self) -> &BTreeSet<NodeId> {
        &self.0.removed
    }

    /// Who may come back as a learner, and after which term.
    #[must_use]
    pub fn suspended(&self) -> &BTreeMap<NodeId, Term> {
        &self.0.suspended
    }

    /// All members, ascending.
    pub fn members(&self) -> impl Iterator<Item = NodeId> {
        let all: BTreeSet<NodeId> =
            self.0.voters.iter().chain(&self.0.outgoing).chain(&self.0.learners).copied().collect();
        all.into_iter()
    }

    /// Tells whether `node` is a member, in whatever part.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        [&self.0.voters, &self.0.outgoing, &self.0.learners].into_iter().any(|part| part.contains(&node))
    }

    /// Tells whether `node` is a member, or was one and was put out: it may linger until it has heard of that.
    #[must_use]
    pub fn has_known(&self, node: NodeId) -> bool {
        self.contains(node) || self.0.removed.contains(&node) || self.0.suspended.contains_key(&node)
    }

    /// Tells whether decisions need the vote of `node`, or may.
    #[must_use]
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.0.voters.contains(&node) || self.0.outgoing.contains(&node)
    }

    /// Tells whether two majorities decide at present.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.0.outgoing.is_empty()
    }

    /// Tells whether `nodes` hold a majority of the voters, and of the outgoing ones if there are any.
    #[must_use]
    pub fn is_quorum(&self, nodes: &BTreeSet<NodeId>) -> bool {
        let holds = |part: &BTreeSet<NodeId>| part.intersection(nodes).count() * 2 > part.len();
        holds(&self.0.voters) && (self.0.outgoing.is_empty() || holds(&self.0.outgoing))
    }

    /// Tells whether a correct group can look like this.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let decides = |node: &NodeId| self.0.voters.contains(node) || self.0.outgoing.contains(node);
        let gone = |node: &NodeId| self.0.removed.contains(node) || self.0.suspended.contains_key(node);
        let stay = self.0.voters.iter().chain(&self.0.learners).chain(&self.0.learners_next);
        !self.0.voters.is_empty()
            && self.0.learners.iter().all(|node| !decides(node))
            && self.0.learners_next.iter().all(|node| self.0.outgoing.contains(node))
            && self.0.learners_next.is_disjoint(&self.0.voters)
            && !stay.into_iter().any(gone)
            && self.members().count() <= MEMBERS_MAX
    }

    /// The membership after `change`, which stands in an entry of `term`.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]: the change makes no sense here. It is then the same on all nodes, and changes nothing.
    pub fn after(&self, change: &Change, term: Term) -> Result<Membership, ChangeError> {
        let mut next = self.clone();
        let steps = match change {
            Change::Leave if self.is_joint() => {
                next.0.outgoing.clear();
                next.0.learners.append(&mut next.0.learners_next);
                return Ok(next);
            }
            Change::Leave => return Err(ChangeError::NotJoint),
            Change::Steps(_) if self.is_joint() => return Err(ChangeError::UnderWay),
            Change::Steps(steps) => steps,
        };
        let nodes: BTreeSet<NodeId> = steps.iter().map(|step| step.node()).collect();
        if steps.is_empty() || steps.len() > STEPS_MAX || nodes.len() != steps.len() {
            return Err(ChangeError::Steps);
        }
        if steps.len() > 1 {
            next.0.outgoing.clone_from(&self.0.voters);
        }
        for step in steps {
            next.take(*step, term)?;
        }
        if next.0.voters.is_empty() {
            return Err(ChangeError::NoVoters);
        }
        if next.members().count() > MEMBERS_MAX {
            return Err(ChangeError::TooMany);
        }
        assert!(next.is_sound(), "a sound membership stays one: {next:?}");
        Ok(next)
    }

    fn take(&mut self, step: Step, term: Term) -> Result<(), ChangeError> {
        match step {
            Step::AddLearner(node) => {
                if self.0.removed.contains(&node) {
                    return Err(ChangeError::Removed(node));
                }
                if self.contains(node) {
                    return Err(ChangeError::Member(node));
                }
                if self.0.suspended.get(&node).is_some_and(|since| term <= *since) {
                    return Err(ChangeError::TooSoon(node));
                }
                self.0.suspended.remove(&node);
                self.0.learners.insert(node);
            }
            Step::Promote(node) => {
                if !self.0.learners.remove(&node) {
                    return Err(ChangeError::NotALearner(node));
                }
                self.0.voters.insert(node);
            }
            Step::Demote(node) => {
                if !self.0.voters.remove(&node) {
                    return Err(ChangeError::NotAVoter(node));
                }
                let held_back = self.0.outgoing.contains(&node);
                let learners = if held_back { &mut self.0.learners_next } else { &mut self.0.learners };
                learners.insert(node);
            }
            Step::Remove(node) => {
                let was_suspended = self.0.suspended.remove(&node).is_some();
                if !self.drop(node) && !was_suspended {
                    return Err(ChangeError::NotAMember(node));
                }
                self.0.removed.insert(node);
            }
            Step::Suspend(node) => {
                if !self.drop(node) {
                    return Err(ChangeError::NotAMember(node));
                }
                self.0.suspended.insert(node, term);
            }
        }
        Ok(())
    }

    fn drop(&mut self, node: NodeId) -> bool {
        let was_voter = self.0.voters.remove(&node);
        self.0.learners.remove(&node) || was_voter
    }

    /// The configuration as raft-rs writes it, its lists ascending.
    pub(super) fn to_raft(&self) -> ConfState {
        let list = |part: &BTreeSet<NodeId>| part.iter().map(|node| node.value()).collect();
        ConfState {
            voters: list(&self.0.voters),
            voters_outgoing: list(&self.0.outgoing),
            learners: list(&self.0.learners),
            learners_next: list(&self.0.learners_next),
            ..ConfState::default()
        }
    }
}

impl Change {
    /// One step.
    #[must_use]
    pub fn one(step: Step) -> Change {
        Change::Steps(vec![step])
    }

    /// The nodes that it puts out of the group.
    pub fn leavers(&self) -> impl Iterator<Item = NodeId> {
        let steps = match self {
            Change::Steps(steps) => &steps[..],
            Change::Leave => &[],
        };
        steps.iter().filter_map(|step| match step {
            Step::Remove(node) | Step::Suspend(node) => Some(*node),
            Step::AddLearner(_) | Step::Promote(_) | Step::Demote(_) => None,
        })
    }

    /// The learners that it lets decide.
    pub fn promoted(&self) -> impl Iterator<Item = NodeId> {
        let steps = match self {
            Change::Steps(steps) => &steps[..],
            Change::Leave => &[],
        };
        steps.iter().filter_map(|step| match step {
            Step::Promote(node) => Some(*node),
            Step::AddLearner(_) | Step::Demote(_) | Step::Remove(_) | Step::Suspend(_) => None,
        })
    }

    /// The change as raft-rs carries it out. The empty one means "leave".
    pub(super) fn to_raft(&self) -> ConfChangeV2 {
        let mut converted = ConfChangeV2::default();
        let Change::Steps(steps) = self else { return converted };
        let single = |step: &Step| {
            let kind = match step {
                Step::AddLearner(_) | Step::Demote(_) => ConfChangeType::AddLearnerNode,
                Step::Promote(_) => ConfChangeType::AddNode,
                Step::Remove(_) | Step::Suspend(_) => ConfChangeType::RemoveNode,
            };
            let mut single = ConfChangeSingle { node_id: step.node().value(), ..ConfChangeSingle::default() };
            single.set_change_type(kind);
            single
        };
        if steps.len() > 1 {
            converted.set_transition(ConfChangeTransition::Explicit);
        }
        converted.set_changes(steps.iter().map(single).collect());
        converted
    }

    /// The change as bytes, for the log in memory: raft-rs keeps bytes, and its own format has no room for all of it.
    pub(super) fn encode(&self) -> Vec<u8> {
        let Change::Steps(steps) = self else { return vec![0] };
        let mut bytes = Vec::with_capacity(steps.len() * STEP_BYTES);
        for step in steps {
            bytes.push(match step {
                Step::AddLearner(_) => 1,
                Step::Promote(_) => 2,
                Step::Demote(_) => 3,
                Step::Remove(_) => 4,
                Step::Suspend(_) => 5,
            });
            bytes.extend(step.node().value().to_le_bytes());
        }
        bytes
    }

    /// Reads what [`Change::encode`] wrote; `None` for anything else.
    pub(super) fn decode(bytes: &[u8]) -> Option<Change> {
        if bytes == [0] {
            return Some(Change::Leave);
        }
        let (steps, rest) = bytes.as_chunks::<STEP_BYTES>();
        let step = |[kind, node @ ..]: &[u8; STEP_BYTES]| {
            let node = NodeId::new(u64::from_le_bytes(*node))?;
            Some(match kind {
                1 => Step::AddLearner(node),
                2 => Step::Promote(node),
                3 => Step::Demote(node),
                4 => Step::Remove(node),
                5 => Step::Suspend(node),
                _ => return None,
            })
        };
        if !rest.is_empty() {
            return None;
        }
        steps.iter().map(step).collect::<Option<Vec<Step>>>().map(Change::Steps)
    }
}

#[cfg(test)]
mod tests;
