//! What a node does for the partitions: it speaks for itself, and says who is in sync where it leads.
//!
//! ```text
//!   every beat ─► Beat ─► leader: who I am, how far I have applied the log, whether I am about to stop
//!   metadata ───► where I lead and somebody is there who is not in sync ─► Alterations ─► leader ─► log
//! ```
//!
//! Neither is answered: what comes of it stands in the log, and what does not is said again.
//!
//! Partitions hold no records yet, so whoever is there has all that there is. That is what a leader says; it never has to
//! say that somebody is *not* in sync, since whoever is fenced is taken out by that.

use std::collections::BTreeSet;

use super::io::{Event, Output};
use super::message::Message;
use super::{Node, NodeId};
use crate::id::PartitionId;
use crate::partition::controller::Beat;
use crate::partition::metadata::command::Registration;
use crate::partition::metadata::{Alteration, Command, Delta, FEATURE_LEVEL_FIRST, Metadata, NodeState};
use crate::session::Ordered;
use crate::state_machine::StateMachine;
use crate::time::Instant;

/// The most partitions of which is said at a time who is in sync.
const TOLD_AT_ONCE: usize = 1000;

/// A node's own part in the metadata.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    /// When the node speaks next.
    beats_at: Option<Instant>,
    /// Whether it has a reason to speak at once.
    is_urgent: bool,
    /// The partitions that it leads and of which somebody may be there who is not in sync.
    incomplete: BTreeSet<PartitionId>,
    /// When it says again who is in sync, if it has said something that has not come about yet.
    tells_at: Option<Instant>,
    is_leaving: bool,
}

impl Partitions {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.beats_at.into_iter().chain(self.tells_at).min()
    }
}

impl<S: StateMachine> Node<S> {
    /// Begins, or begins anew after the whole state was replaced.
    pub(super) fn begin_partitions(&mut self) {
        let Some(partitioning) = &self.config.partitioning else { return };
        self.partitions.beats_at = Some(self.now + partitioning.settings.beat_interval);
        self.partitions.is_urgent = true;
        self.partitions.incomplete = self.ledger.metadata().partitions_of(self.config.id).collect();
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
        if self.partitions.tells_at.is_some_and(|at| at <= self.now) {
            self.partitions.tells_at = None;
        }
    }

    /// Metadata -> leader: who this node is, if there is a reason to say it.
    pub(super) fn beat_if_urgent(&mut self) {
        if !core::mem::take(&mut self.partitions.is_urgent) {
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
            // It holds nothing that is not in the log.
            is_durable: true,
            weight: partitioning.weight,
            rack: partitioning.rack.clone(),
            features: FEATURE_LEVEL_FIRST,
        })
    }

    /// A command to the metadata was executed.
    pub(super) fn note_ordered(&mut self, ordered: &Ordered) {
        self.follow(ordered);
        self.note_to_controller(ordered);
        let own = self.config.id;
        let is_ours = |all: &[Alteration]| all.iter().any(|alteration| alteration.leader == own);
        if matches!(&ordered.command, Command::AlterPartitions(all) if is_ours(all)) {
            // It was heard: what is left can be said now.
            self.partitions.tells_at = None;
        }
        if ordered.deltas.is_empty() {
            return;
        }
        let is_about_us = |delta: &Delta| *delta == Delta::Node(own) || *delta == Delta::NodeGone(own);
        if ordered.deltas.iter().any(is_about_us) {
            self.beat_soon();
        }
        if self.config.partitioning.is_some() {
            self.note_incomplete(&ordered.deltas);
        }
        let deltas = ordered.deltas.clone();
        self.outputs.push_back(Output::Event(Event::Metadata { at: ordered.at.index, deltas }));
    }

    fn note_incomplete(&mut self, deltas: &[Delta]) {
        let (own, metadata) = (self.config.id, self.ledger.metadata());
        let leads = |id: &PartitionId| metadata.partition(*id).is_some_and(|found| found.leader == Some(own));
        for delta in deltas {
            match delta {
                Delta::Partition(id) if leads(id) => {
                    self.partitions.incomplete.insert(*id);
                }
                Delta::Node(node)
                    if metadata.node(*node).is_some_and(|found| found.state == NodeState::Active) =>
                {
                    self.partitions.incomplete.extend(metadata.partitions_of(*node).filter(leads));
                }
                Delta::Partition(_)
                | Delta::Node(_)
                | Delta::NodeGone(_)
                | Delta::Topic(_)
                | Delta::TopicGone(_)
                | Delta::MayHaveLost(_)
                | Delta::Plan => {}
            }
        }
    }

    /// Metadata -> leader: who is in sync where this node leads.
    pub(super) fn tell_in_sync(&mut self) {
        let Some(partitioning) = &self.config.partitioning else { return };
        let leader = self.standing().and_then(|standing| standing.leader);
        let (Some(leader), None, false) =
            (leader, self.partitions.tells_at, self.partitions.incomplete.is_empty())
        else {
            return;
        };
        let (own, metadata) = (self.config.id, self.ledger.metadata());
        // In the session of a process before this one nothing is said.
        let process = (self.listing().token, self.boot);
        if metadata.node(own).is_none_or(|record| (record.token, record.boot) != process) {
            return;
        }
        let mut alterations = Vec::new();
        self.partitions.incomplete.retain(|id| {
            if alterations.len() < TOLD_AT_ONCE {
                match alteration(own, *id, metadata) {
                    Some(alteration) => alterations.push(alteration),
                    None => return false,
                }
            }
            true
        });
        if alterations.is_empty() {
            return;
        }
        self.partitions.tells_at = Some(self.now + partitioning.settings.beat_interval);
        if leader == own {
            self.take_alterations(own, alterations);
        } else {
            self.tell(leader, Message::Alterations(alterations));
        }
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

/// What the leader of a partition has to say of it: whoever has a replica and is there is in sync. `None` if it does not
/// lead, or all has been said.
fn alteration(leader: NodeId, partition: PartitionId, metadata: &Metadata) -> Option<Alteration> {
    let record = metadata.partition(partition).filter(|record| record.leader == Some(leader))?;
    let session = |node: &NodeId| {
        let record = metadata.node(*node).filter(|record| record.state == NodeState::Active)?;
        Some((*node, record.epoch))
    };
    let in_sync: Vec<_> = record.replicas.iter().filter_map(session).collect();
    let is_said = in_sync.len() == record.in_sync.len() && !record.is_recovering;
    (!is_said).then_some(Alteration {
        partition,
        leader,
        node_epoch: metadata.node(leader)?.epoch,
        leader_epoch: record.leader_epoch,
        epoch: record.epoch,
        in_sync,
        is_recovered: true,
        voids_earlier: false,
    })
}

#[cfg(test)]
mod tests;
