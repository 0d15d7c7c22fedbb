//! How a node speaks for itself, so that the controller knows that it is there.
//!
//! ```text
//!   every beat ─► Beat ─► leader: who I am, how far I have applied the log, whether I am about to stop
//! ```
//!
//! It is not answered: what comes of it stands in the log. A node whose disk does not answer is silent, so that others
//! lead what it leads.

use serde::{Deserialize, Serialize};

use super::Node;
use super::io::{Event, Output};
use super::message::Message;
use crate::partition::controller::Beat;
use crate::partition::metadata::command::Registration;
use crate::partition::metadata::{Delta, NodeState};
use crate::session::Ordered;
use crate::state_machine::StateMachine;
use crate::time::Instant;

/// A node's own part in the metadata.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Partitions {
    /// When the node speaks next.
    beats_at: Option<Instant>,
    /// Whether it has a reason to speak at once.
    is_urgent: bool,
    is_leaving: bool,
}

impl Partitions {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.beats_at
    }
}

impl<S: StateMachine> Node<S> {
    /// Begins, or begins anew after the whole state was replaced.
    pub(super) fn begin_partitions(&mut self) {
        let Some(partitioning) = &self.config.partitioning else { return };
        self.partitions.beats_at = Some(self.now + partitioning.settings.beat_interval);
        self.partitions.is_urgent = true;
        self.metadata_was_replaced();
    }

    /// The leader is another one, or this node's own record is: it is better heard soon.
    pub(super) fn beat_soon(&mut self) {
        self.partitions.is_urgent = self.partitions.beats_at.is_some();
    }

    pub(super) fn beat_if_due(&mut self) {
        let Some(partitioning) = &self.config.partitioning else { return };
        let interval = partitioning.settings.beat_interval;
        if self.partitions.beats_at.is_some_and(|at| at <= self.now) {
            self.partitions.beats_at = Some(self.now + interval);
            self.partitions.is_urgent = true;
        }
    }

    /// Metadata -> leader: who this node is, if there is a reason to say it.
    pub(super) fn beat_if_urgent(&mut self) {
        if !core::mem::take(&mut self.partitions.is_urgent) || self.is_stalled() {
            return;
        }
        let leader = self.standing().and_then(|standing| standing.leader);
        let (Some(leader), Some(registration)) = (leader, self.registration()) else { return };
        let beat = Beat { registration, applied: self.applied, is_leaving: self.partitions.is_leaving };
        if leader == self.config.id {
            self.hear_beat(leader, beat);
        } else {
            self.tell(leader, Message::Beat(Box::new(beat)));
        }
    }

    /// Who this node is, and what it can hold.
    fn registration(&self) -> Option<Registration> {
        let partitioning = self.config.partitioning.as_ref()?;
        let node = self.config.id;
        Some(Registration {
            node,
            token: self.listing().token,
            boot: self.boot,
            address: self.config.address.clone(),
            known: self.ledger.metadata().node(node).map(|record| record.epoch),
            ended: None,
            // A follower says to have only what is on its disk.
            is_durable: true,
            weight: partitioning.weight,
            rack: partitioning.rack.clone(),
            features: partitioning.features,
        })
    }

    /// A command to the metadata was executed.
    pub(super) fn note_ordered(&mut self, ordered: &Ordered) {
        self.follow(ordered);
        self.note_to_controller(ordered);
        self.note_to_replicas(ordered);
        let own = self.config.id;
        if ordered.deltas.is_empty() {
            return;
        }
        let is_about_us = |delta: &Delta| *delta == Delta::Node(own) || *delta == Delta::NodeGone(own);
        if ordered.deltas.iter().any(is_about_us) {
            self.beat_soon();
        }
        let deltas = ordered.deltas.clone();
        self.outputs.push_back(Output::Event(Event::Metadata { at: ordered.at.index, deltas }));
        self.halts_if_outdated();
    }

    /// The node is about to stop: somebody else shall lead what it leads.
    pub(super) fn leave_partitions(&mut self) {
        self.partitions.is_leaving = true;
        self.beat_soon();
    }

    /// Whether nobody counts on this node any more, or nobody is there to be told.
    pub(super) fn is_relieved(&self) -> bool {
        let record = self.ledger.metadata().node(self.config.id);
        let leader = self.standing().and_then(|standing| standing.leader);
        leader.is_none() || record.is_none_or(|record| record.state != NodeState::Active)
    }
}

#[cfg(test)]
mod tests;
