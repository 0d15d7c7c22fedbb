//! The controller in a node: it is there as long as the node leads.
//!
//! ```text
//!   Beat, Alterations ─► controller, log       swim, raft ─► sight ─┐
//!   metadata ──────────────────────────────────────────────────────┼─► controller ─► commands ─► raft
//! ```

use serde::{Deserialize, Serialize};

use super::io::{Event, Output, Rejection, Reply};
use super::join::UNCLAIMED;
use super::{Node, NodeId};
use crate::id::RequestId;
use crate::partition::controller::{Beat, Controller, Hint, Life, Sight};
use crate::partition::metadata::{Alteration, Command};
use crate::raft;
use crate::session::{Ordered, Proposal};
use crate::state_machine::StateMachine;
use crate::swim::State;
use crate::time::Instant;

/// The most bytes of a rack's name that is heard.
const RACK_BYTES_MAX: usize = 255;
/// The most alterations that a node is heard of at a time.
const HEARD_AT_ONCE: usize = 10_000;

/// The controller, and when it looks at everything again.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Control {
    controller: Option<Controller>,
    reviews_at: Option<Instant>,
    is_braking: bool,
}

impl Control {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.reviews_at
    }
}

impl<S: StateMachine> Node<S> {
    /// A leadership begins or ends, and the controller with it.
    pub(super) fn begin_control(&mut self) {
        let settings = self.config.partitioning.as_ref().map(|partitioning| partitioning.settings);
        self.control = Control::default();
        if let (true, Some(settings)) = (self.leads(), settings) {
            let controller = Controller::start(settings, self.now);
            self.control.reviews_at = Some(self.now + controller.interval());
            self.control.controller = Some(controller);
        }
        self.beat_soon();
    }

    /// A node speaks for itself, and for nobody else.
    pub(super) fn hear_beat(&mut self, from: NodeId, beat: Beat) {
        let metadata = self.ledger.metadata();
        let new = &beat.registration;
        let is_sound = new.weight > 0 && new.rack.as_ref().is_none_or(|rack| rack.len() <= RACK_BYTES_MAX);
        if let (true, Some(controller)) = (new.node == from && is_sound, &mut self.control.controller) {
            controller.hear(self.now, beat, metadata);
        }
    }

    /// The leader of partitions says who is in sync there.
    pub(super) fn take_alterations(&mut self, from: NodeId, mut alterations: Vec<Alteration>) {
        alterations.truncate(HEARD_AT_ONCE);
        alterations.retain(|alteration| alteration.leader == from);
        if self.control.controller.is_some() && !alterations.is_empty() {
            self.order(Command::AlterPartitions(alterations));
        }
    }

    pub(super) fn note_to_controller(&mut self, ordered: &Ordered) {
        let (metadata, Ordered { command, answer, deltas, .. }) = (self.ledger.metadata(), ordered);
        if let Some(controller) = &mut self.control.controller {
            controller.note(self.now, command, answer, deltas, metadata);
        }
    }

    /// Controller -> raft: what is missing is proposed.
    pub(super) fn review_if_due(&mut self) {
        if self.control.reviews_at.is_none_or(|at| at > self.now) {
            return;
        }
        let Some(mut controller) = self.control.controller.take() else { return };
        let metadata = self.ledger.metadata();
        let review = controller.review(self.now, metadata, &|node| self.sight(node));
        self.control.reviews_at = Some(self.now + controller.interval());
        self.control.controller = Some(controller);
        if review.is_braking && !self.control.is_braking {
            self.outputs.push_back(Output::Event(Event::ManySeemGone));
        }
        self.control.is_braking = review.is_braking;
        for command in review.commands {
            self.order(command);
        }
    }

    /// Puts a command to the metadata into the log. Nobody waits for its answer.
    fn order(&mut self, command: Command) {
        let entry = Proposal::Metadata(Box::new(command)).seal(self.cluster_time());
        // Nothing of our own is so large; a peer's word may be.
        if entry.len() <= self.config.limits.command_bytes_max {
            self.handle_raft(raft::Input::Note(entry));
        }
    }

    /// What is known of a node beside its own words.
    fn sight(&self, node: NodeId) -> Sight {
        let is_member = self.membership().is_some_and(|members| members.contains(node));
        let member = self.gossip().and_then(|swim| swim.member(node));
        let hint = member.map(|member| Hint {
            boot: member.record.boot,
            life: match member.state {
                State::Alive => Life::Alive,
                State::Suspect => Life::Suspect,
                State::Dead => Life::Dead,
                State::Left => Life::Left,
            },
        });
        let token = self.ledger.directory().find(node).map(|listing| listing.token);
        Sight { is_member, token: token.filter(|token| *token != UNCLAIMED), hint }
    }

    /// An operator wants to know what the controller makes of a node.
    pub(super) fn explain(&mut self, id: RequestId, node: NodeId) {
        let reply = match &self.control.controller {
            Some(controller) => {
                let metadata = self.ledger.metadata();
                let explained = controller.explain(self.now, node, metadata, &|node| self.sight(node));
                Reply::Explained(Box::new(explained))
            }
            None => {
                let rejection = if self.raft.is_none() {
                    Rejection::NotFormed
                } else if self.config.partitioning.is_none() {
                    Rejection::NoPartitions
                } else {
                    self.not_leader()
                };
                self.reject(rejection)
            }
        };
        self.outputs.push_back(Output::Reply { id, reply });
    }
}
