//! Which change of the membership is wise: what operators ask for, and what a leader does by itself.
//!
//! A leader promotes a newcomer that wants to decide as soon as it has caught up, and puts a standby (a learner
//! that does not want to decide by itself) in the place of a voter that was silent for `replace_after`. Both are
//! looked at again and again, from what is applied and what was heard; a leader that dies loses nothing.
//!
//! Nothing is changed that the members who are up could not commit, or could not go on with: the voters that
//! were heard lately must be a majority of the old membership and of the new one.
//!
//! A newcomer has *caught up* when it took less than an election timeout to get everything that was in the log when
//! that time began (Raft thesis §4.2.1). A leader that is to go hands over first (§4.2.2, §3.10).

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Node;
use super::io::{Caller, Output, Rejection, Reply};
use super::join::UNCLAIMED;
use super::message::{CallId, Message, Notice};
use super::status::{MemberStatus, Members, Part};
use crate::directory::Listing;
use crate::id::{LogIndex, NodeId, PeerName, RequestId};
use crate::raft::{self, Change, Membership, Progress, Raft, Step};
use crate::state_machine::StateMachine;
use crate::time::Instant;

/// A member counts as up when it was heard within so many of the longest election timeouts; a hand-over that
/// is not done by then is given up.
const PATIENCE_FACTOR: u32 = 2;

/// What a leader knows of its members, and what it does for them.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Care {
    /// When each member was last heard, in this leadership.
    heard: BTreeMap<NodeId, Instant>,
    /// What learners have to reach, and since when.
    rounds: BTreeMap<NodeId, (LogIndex, Instant)>,
    /// The learners whose last round was quick enough.
    caught_up: BTreeSet<NodeId>,
    /// Which members were asked to say again that their disks were damaged.
    pub(super) questions: BTreeMap<NodeId, CallId>,
    /// When the members are looked at again.
    reviews_at: Option<Instant>,
    /// Who waits for the end of a hand-over, and until when.
    hand_over: Option<(RequestId, Instant)>,
}

impl Care {
    pub(super) fn deadline(&self) -> Option<Instant> {
        let hand_over = self.hand_over.as_ref().map(|(_, until)| *until);
        self.reviews_at.into_iter().chain(hand_over).min()
    }

    /// A member spoke.
    pub(super) fn hear(&mut self, from: NodeId, now: Instant) {
        if let Some(last) = self.heard.get_mut(&from) {
            *last = now;
        }
    }
}

impl<S: StateMachine> Node<S> {
    /// Everybody is given time when somebody begins to lead, and forgotten when it ends.
    pub(super) fn begin_care(&mut self) {
        let members = self.raft.iter().flat_map(|raft| raft.membership().members());
        let heard = members.map(|node| (node, self.now)).collect();
        let hand_over = self.care.hand_over.take();
        self.care = if self.leads() { Care { heard, ..Care::default() } } else { Care::default() };
        self.care.hand_over = hand_over;
        self.plan_review();
    }

    /// The members have changed.
    pub(super) fn adjust_care(&mut self) {
        if let (true, Some(raft)) = (self.leads(), &self.raft) {
            let members: BTreeSet<NodeId> = raft.membership().members().collect();
            self.care.heard.retain(|node, _| members.contains(node));
            self.transfers.forget_leavers(&members);
            self.care.questions.retain(|node, _| members.contains(node));
            let learners = raft.membership().learners();
            self.care.rounds.retain(|node, _| learners.contains(node));
            self.care.caught_up.retain(|node| learners.contains(node));
            for node in members {
                self.care.heard.entry(node).or_insert(self.now);
            }
        }
        self.plan_review();
    }

    fn patience(&self) -> Duration {
        self.config.timing.election_timeout.end * PATIENCE_FACTOR
    }

    /// The members that were heard lately, this node among them.
    pub(super) fn active_members(&self) -> BTreeSet<NodeId> {
        let since = |last: &Instant| self.now.saturating_since(*last) < self.patience();
        let heard = self.care.heard.iter().filter(|(_, last)| since(last)).map(|(node, _)| *node);
        heard.chain([self.config.id]).collect()
    }

    /// Looks at the members again in a while, if there is anything to look at.
    fn plan_review(&mut self) {
        let is_needed = |raft: &Raft| {
            let has_learners = !raft.membership().learners().is_empty();
            self.leads() && has_learners
        };
        let interval = self.config.timing.election_timeout.start;
        let wanted = self.raft.as_ref().is_some_and(is_needed).then(|| self.now + interval);
        self.care.reviews_at = wanted.map(|at| self.care.reviews_at.unwrap_or(at));
    }

    pub(super) fn care_if_due(&mut self) {
        if self.care.hand_over.as_ref().is_some_and(|(_, until)| *until <= self.now) {
            self.end_hand_over();
        }
        if self.care.reviews_at.is_some_and(|at| at <= self.now) {
            self.care.reviews_at = None;
            self.note_rounds();
            self.invite_newcomers();
            let change = self.promotion().or_else(|| self.replacement());
            if let Some(change) = change {
                self.handle_raft(raft::Input::Change { id: None, change });
            }
            self.plan_review();
        }
    }

    /// Notes which learners have come to the end of a round, and how quickly.
    fn note_rounds(&mut self) {
        let Some(raft) = &self.raft else { return };
        let (last, quick) = (raft.indexes().last, self.config.timing.election_timeout.end);
        for Progress { node, matched, .. } in raft.progress() {
            if !raft.membership().learners().contains(&node) {
                continue;
            }
            let (target, began) = *self.care.rounds.entry(node).or_insert((last, self.now));
            let took = self.now.saturating_since(began);
            if took > quick {
                self.care.caught_up.remove(&node);
            }
            if matched >= target {
                if took <= quick {
                    self.care.caught_up.insert(node);
                }
                self.care.rounds.insert(node, (last, self.now));
            }
        }
    }

    /// Tells members that an operator has added, and that have not come, whom to ask.
    fn invite_newcomers(&mut self) {
        let listings = self.ledger.directory().iter();
        let awaited = listings.filter(|(_, listing)| listing.token == UNCLAIMED).map(|(node, _)| node);
        for to in awaited.collect::<Vec<NodeId>>() {
            let (leader, address) = (self.config.id, self.config.address.clone());
            let notice = Notice::Ask { leader, address };
            self.tell(to, Message::Notice { to, token: UNCLAIMED, notice });
        }
    }

    /// The learners that have caught up, and want to decide or not.
    fn ready_learners(&self, votes: bool) -> impl Iterator<Item = NodeId> {
        self.care.caught_up.iter().copied().filter(move |node| {
            let listing = self.ledger.directory().find(*node);
            listing.is_some_and(|listing| listing.votes == votes && listing.token != UNCLAIMED)
        })
    }

    /// A learner that wants to decide, and has caught up.
    fn promotion(&self) -> Option<Change> {
        let change = Change::one(Step::Promote(self.ready_learners(true).next()?));
        self.is_wise(&change).then_some(change)
    }

    /// A standby in the place of a voter that is silent for long: one joint change.
    fn replacement(&self) -> Option<Change> {
        let raft = self.raft.as_ref()?;
        let (membership, patience) = (raft.membership(), self.config.limits.replace_after);
        let silent = |node: &&NodeId| {
            let heard = self.care.heard.get(node);
            let is_silent = heard.is_some_and(|last| self.now.saturating_since(*last) >= patience);
            is_silent && **node != self.config.id
        };
        let dead = membership.voters().iter().find(silent).filter(|_| !patience.is_zero())?;
        let standby = self.ready_learners(false).next()?;
        let change = Change::Steps(vec![Step::Promote(standby), Step::Remove(*dead)]);
        self.is_wise(&change).then_some(change)
    }

    /// Whether those who are up can commit the change, and go on after it.
    fn is_wise(&self, change: &Change) -> bool {
        let Some(raft) = &self.raft else { return false };
        raft.check_change(change).is_ok_and(|next| self.have_quorum(raft.membership(), &next))
    }

    fn have_quorum(&self, old: &Membership, new: &Membership) -> bool {
        let active = self.active_members();
        old.is_quorum(&active) && new.is_quorum(&active)
    }

    /// An operator adds a node before it comes, or while it runs.
    pub(super) fn add_member(&mut self, id: RequestId, node: NodeId, address: PeerName, votes: bool) {
        let change = Change::one(Step::AddLearner(node));
        match self.judge(&change) {
            Ok(()) => {
                if self.ledger.directory().find(node).is_none() {
                    self.list(node, Listing { address, token: UNCLAIMED, votes });
                }
                self.handle_raft(raft::Input::Change { id: Some(id), change });
            }
            Err(rejection) => self.refuse_request(id, rejection),
        }
    }

    /// An operator, or a node that wants to leave, asks for a change.
    pub(super) fn change_members(&mut self, id: RequestId, from: Caller, steps: Vec<Step>) {
        let leaves = |node| steps == [Step::Remove(node)];
        let may = match from {
            Caller::Operator => true,
            Caller::Node(node) => leaves(node),
            Caller::Client => false,
        };
        let by_hand = |step: &Step| !matches!(step, Step::AddLearner(_) | Step::Suspend(_));
        if !may || !steps.iter().all(by_hand) {
            return self.refuse_request(id, Rejection::Forbidden);
        }
        let change = Change::Steps(steps);
        match self.judge(&change) {
            Ok(()) => self.handle_raft(raft::Input::Change { id: Some(id), change }),
            Err(rejection) => {
                if rejection == Rejection::HandingOver {
                    self.hand_over_to_best();
                }
                self.refuse_request(id, rejection);
            }
        }
    }

    /// Whether a leader takes on a change.
    fn judge(&self, change: &Change) -> Result<(), Rejection> {
        let Some(raft) = &self.raft else { return Err(Rejection::NotFormed) };
        if !self.leads() {
            return Err(self.not_leader());
        }
        if self.proposals_under_way() >= self.config.limits.proposals_max {
            return Err(Rejection::Busy);
        }
        let next = raft.check_change(change)?;
        let behind = change.promoted().find(|node| !self.care.caught_up.contains(node));
        if let Some(node) = behind {
            return Err(Rejection::NotCaughtUp(node));
        }
        if !next.voters().contains(&self.config.id) {
            return Err(Rejection::HandingOver);
        }
        if !self.have_quorum(raft.membership(), &next) {
            return Err(Rejection::NoMajority);
        }
        Ok(())
    }

    /// An operator wants another leader.
    pub(super) fn request_hand_over(&mut self, id: RequestId, to: Option<NodeId>) {
        let rejection = if self.raft.is_none() {
            Rejection::NotFormed
        } else if !self.leads() {
            self.not_leader()
        } else if self.care.hand_over.is_some() {
            Rejection::Busy
        } else if to == Some(self.config.id) {
            return self.reply_handed_over(id);
        } else if let Some(to) = to.or_else(|| self.best_successor())
            && self.active_members().contains(&to)
        {
            self.care.hand_over = Some((id, self.now + self.patience()));
            return self.handle_raft(raft::Input::HandOver(to));
        } else {
            Rejection::NoSuccessor
        };
        self.refuse_request(id, rejection);
    }

    /// The voter that has most of the log, of those that are up.
    fn best_successor(&self) -> Option<NodeId> {
        let raft = self.raft.as_ref()?;
        let active = self.active_members();
        let may = |progress: &Progress| {
            progress.node != self.config.id
                && raft.membership().voters().contains(&progress.node)
                && active.contains(&progress.node)
        };
        let candidates = raft.progress().into_iter().filter(may);
        candidates.max_by_key(|progress| progress.matched).map(|progress| progress.node)
    }

    /// Lets somebody lead in a later term: another voter, or this node again if it is the only one.
    pub(super) fn hand_over_to_best(&mut self) {
        let is_alone = |raft: &Raft| raft.membership().voters().iter().eq([&self.config.id]);
        if let Some(to) = self.best_successor() {
            self.handle_raft(raft::Input::HandOver(to));
        } else if self.raft.as_ref().is_some_and(is_alone) {
            self.handle_raft(raft::Input::StepDown);
        }
    }

    /// Another leader is known, or the time is up.
    pub(super) fn end_hand_over(&mut self) {
        if let Some((id, _)) = self.care.hand_over.take() {
            if self.leads() {
                self.refuse_request(id, Rejection::StillLeads);
            } else {
                self.reply_handed_over(id);
            }
        }
    }

    /// Whoever waits is told when the new leader is known.
    pub(super) fn note_new_leader(&mut self) {
        let leader = self.standing().and_then(|standing| standing.leader);
        if leader.is_some_and(|leader| leader != self.config.id) {
            self.end_hand_over();
        }
    }

    fn reply_handed_over(&mut self, id: RequestId) {
        let leader = self.standing().and_then(|standing| standing.leader);
        self.outputs.push_back(Output::Reply { id, reply: Reply::HandedOver { leader } });
    }

    /// Lists the members; how far they are and how long they were silent only a leader knows.
    pub(super) fn members(&self) -> Option<Members> {
        let raft = self.raft.as_ref()?;
        let membership = raft.membership();
        let progress = raft.progress();
        let status = |node: NodeId| MemberStatus {
            node,
            part: if membership.voters().contains(&node) {
                Part::Voter
            } else if membership.outgoing().contains(&node) {
                Part::Outgoing
            } else {
                Part::Learner
            },
            address: self.address_of(node),
            matched: progress.iter().find(|progress| progress.node == node).map(|found| found.matched),
            silent: (node != self.config.id)
                .then(|| self.care.heard.get(&node).map(|last| self.now.saturating_since(*last)))
                .flatten(),
        };
        Some(Members {
            leader: raft.standing().leader,
            is_joint: membership.is_joint(),
            members: membership.members().map(status).collect(),
            suspended: membership.suspended().keys().copied().collect(),
            removed: membership.removed().iter().copied().collect(),
        })
    }
}

#[cfg(test)]
mod tests;
