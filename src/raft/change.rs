//! Carrying out changes of the membership: when one may be appended, and what happens when it is applied.
//!
//! Four traps lie here:
//!
//! * raft-rs turns a change that it does not want into an empty entry, without a word. So every change is
//!   judged before raft-rs sees it, and what it would refuse is refused here, with a reason.
//! * A leader that has committed nothing in its own term does not know which changes its predecessors
//!   have committed, so it begins none (the erratum of Raft thesis §4.1, raft-dev, July 2015).
//! * A leader that is no voter any more is missing from raft-rs's own books, which makes it panic at the next
//!   chance. So it steps down in the moment in which it applies that (Raft thesis §4.2.2).
//! * A leader may die between entering a joint membership and leaving it. So *whoever* leads and finds the
//!   membership joint leaves it, as soon as nothing stands in the way; raft-rs's own automatism is not used.

use raft::StateRole;

use super::membership::{Change, ChangeError, Membership};
use super::{Content, Decline, Entry, Output, Position, Raft};
use crate::id::{LogIndex, NodeId, RequestId, Term};

/// How far a member has got, as its leader sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Progress {
    /// Which member.
    pub node: NodeId,
    /// The last entry that it is known to hold durably.
    pub matched: LogIndex,
    /// Whether it was heard since the last check for a majority.
    pub is_active: bool,
}

impl Raft {
    /// The members, as of the last applied entry.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        self.raw.store().membership()
    }

    /// How far each member has got; empty unless this node leads.
    #[must_use]
    pub fn progress(&self) -> Vec<Progress> {
        if self.raw.raft.state != StateRole::Leader {
            return Vec::new();
        }
        let progress = |node: NodeId| {
            let progress = self.raw.raft.prs().get(node.value())?;
            let matched = LogIndex::new(progress.matched);
            Some(Progress { node, matched, is_active: progress.recent_active || node == self.id() })
        };
        self.membership().members().filter_map(progress).collect()
    }

    /// Tells whether this node could append `change` now, and with which outcome once it is applied.
    ///
    /// # Errors
    ///
    /// Why not; nothing was changed.
    pub fn check_change(&self, change: &Change) -> Result<Membership, ChangeError> {
        if self.raw.raft.has_pending_conf() || !self.raw.raft.commit_to_current_term() {
            return Err(ChangeError::UnderWay);
        }
        self.membership().after(change, Term::new(self.raw.raft.term))
    }

    /// Appends a change, if this node leads and the change makes sense.
    pub(super) fn handle_change(&mut self, id: Option<RequestId>, change: &Change) {
        let ids: Vec<RequestId> = id.into_iter().collect();
        if self.raw.raft.state != StateRole::Leader {
            return self.outputs.push_back(Output::Declined { ids, reason: Decline::NotLeader });
        }
        if let Err(error) = self.check_change(change) {
            return self.outputs.push_back(Output::Declined { ids, reason: Decline::Change(error) });
        }
        let output = match self.append_change(change) {
            Some(first) => Output::Appended { first, ids },
            None => Output::Declined { ids, reason: Decline::Busy },
        };
        self.outputs.push_back(output);
    }

    fn append_change(&mut self, change: &Change) -> Option<Position> {
        let index = LogIndex::new(self.raw.raft.raft_log.last_index()).next();
        let term = Term::new(self.raw.raft.term);
        let pending = self.raw.raft.pending_conf_index;
        if self.raw.propose_conf_change(change.encode(), change.to_raft()).is_err() {
            // raft-rs takes a change for pending before it looks whether there is room for it.
            self.raw.raft.pending_conf_index = pending;
            return None;
        }
        assert_eq!(self.raw.raft.pending_conf_index, index.value(), "raft-rs takes what was checked");
        Some(Position { index, term })
    }

    /// Leaves a joint membership, if this node leads one and nothing stands in the way.
    pub(super) fn leave_joint(&mut self) {
        let leads = self.raw.raft.state == StateRole::Leader;
        if leads && self.membership().is_joint() && self.check_change(&Change::Leave).is_ok() {
            // If it is dropped, while leadership is handed over, there is a next time.
            let _ = self.append_change(&Change::Leave);
        }
    }

    /// The state machine has come to `index`: the changes up to there count.
    pub(super) fn handle_applied(&mut self, index: LogIndex) {
        while let Some((at, change)) = self.unapplied.pop_front_if(|(at, _)| at.index <= index) {
            self.apply_change(at, &change);
        }
        self.raw.advance_apply_to(index.value());
    }

    fn apply_change(&mut self, at: Position, change: &Change) {
        // One that makes no sense is the same on all nodes, and changes nothing on any.
        let Ok(membership) = self.membership().after(change, at.term) else { return };
        self.raw.apply_conf_change(&change.to_raft()).expect("it was judged by the same rules");
        let leads = self.raw.raft.state == StateRole::Leader;
        if leads && !membership.is_voter(self.id()) {
            let term = self.raw.raft.term;
            self.raw.raft.become_follower(term, raft::INVALID_ID);
        }
        self.raw.mut_store().note_membership(membership.clone());
        self.outputs.push_back(Output::Membership(membership));
    }

    /// Tells whether this node leads and is about to let another lead.
    #[must_use]
    pub fn is_handing_over(&self) -> bool {
        self.raw.raft.lead_transferee.is_some()
    }

    /// Hands leadership over: `to` is asked to campaign as soon as it has the whole log (Raft thesis §3.10). It
    /// is given up after one election timeout; until then nothing is appended, and nobody else is asked: two who
    /// are asked would depose each other.
    pub(super) fn handle_hand_over(&mut self, to: NodeId) {
        let leads = self.raw.raft.state == StateRole::Leader && !self.is_handing_over();
        if leads && to != self.id() && self.membership().is_voter(to) {
            self.raw.transfer_leader(to.value());
        }
    }

    /// Steps down, to lead again in a later term if nobody else does.
    pub(super) fn handle_step_down(&mut self) {
        if self.raw.raft.state == StateRole::Leader {
            let term = self.raw.raft.term;
            self.raw.raft.become_follower(term, raft::INVALID_ID);
        }
    }

    /// Tells whether the removal of this node stands in its log, committed or not.
    #[must_use]
    pub fn is_removal_in_log(&self) -> bool {
        let (applied, last) = (self.indexes().applied.next(), self.indexes().last);
        let removes = |entry: Entry| match entry.content {
            Content::Change(change) => change.leavers().any(|node| node == self.id()),
            Content::Command(_) => false,
        };
        self.raw.store().read(applied, last, usize::MAX).into_iter().any(removes)
    }

    pub(super) fn id(&self) -> NodeId {
        NodeId::new(self.raw.raft.id).expect("nodes count from 1")
    }
}
