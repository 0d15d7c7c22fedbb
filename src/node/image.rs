//! An image of the node: all of it but the state machine, to go on elsewhere as if nothing had happened.
//!
//! A recorded run begins with one (see [`crate::flight`]), and a simulated world is copied by them. The law that makes
//! it useful: a node that is restored from its image says, from then on, to every input what the other one says. The
//! simulator holds every node to it, over and over, in the midst of its faults.
//!
//! What is in a snapshot, in a queue or on its way is shared with the node and not copied, so an image is cheap to
//! take; writing it down is not.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::Node;
use super::answers::Answers;
use super::config::Config;
use super::control::Control;
use super::follow::Followers;
use super::forward::Forwards;
use super::gate::Gate;
use super::gossip::Company;
use super::join::Presence;
use super::links::Links;
use super::members::Care;
use super::overheard::Overheard;
use super::partitions::Partitions;
use super::reads::Reads;
use super::records::Records;
use super::snapshots::Work;
use super::stats::Stats;
use super::transfer::Transfers;
use crate::formation::Formation;
use crate::id::{BootId, LogIndex, NodeId, RequestId, Term};
use crate::ledger::Ledger;
use crate::raft::{self, Recovered, Snapshot};
use crate::rng::Seed;
use crate::session::{ClusterTime, Proposal};
use crate::time::Instant;

/// A [`Node`] between two drains, without its state machine.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Image {
    raft: Option<raft::Image>,
    config: Config,
    seed: Seed,
    boot: BootId,
    now: Instant,
    formation: Formation,
    ledger: Ledger,
    leads_since: Option<(Instant, ClusterTime)>,
    gate: Gate,
    write_began: Option<Instant>,
    links: Links,
    presence: Presence,
    care: Care,
    company: Company,
    partitions: Partitions,
    records: Records,
    control: Control,
    followers: Followers,
    queued: Vec<(RequestId, Proposal)>,
    appended: BTreeMap<LogIndex, (Term, RequestId)>,
    reads: Reads,
    answers: Answers,
    forwards: Forwards,
    snapshot: Option<Snapshot>,
    is_snapshot_wanted: bool,
    first: Option<Recovered>,
    work: Option<Work>,
    applied: LogIndex,
    applied_bytes: u64,
    transfers: Transfers,
    stats: Stats,
}

impl<S> Node<S> {
    /// Takes an image. `None` if the node has not been drained, if the work that
    /// [`Output::BuildSnapshot`](super::Output::BuildSnapshot) asked for was not taken, or if the node has halted.
    #[must_use]
    pub fn image(&self) -> Option<Image> {
        if !self.outputs.is_empty() || self.job.is_some() || self.halted.is_some() {
            return None;
        }
        let raft = match &self.raft {
            Some(raft) => Some(raft.image()?),
            None => None,
        };
        Some(Image {
            raft,
            config: self.config.clone(),
            seed: self.seed,
            boot: self.boot,
            now: self.now,
            formation: self.formation.clone(),
            ledger: self.ledger.clone(),
            leads_since: self.leads_since,
            gate: self.gate.clone(),
            write_began: self.write_began,
            links: self.links.clone(),
            presence: self.presence.clone(),
            care: self.care.clone(),
            company: self.company.clone(),
            partitions: self.partitions.clone(),
            records: self.records.clone(),
            control: self.control.clone(),
            followers: self.followers.clone(),
            queued: self.queued.clone(),
            appended: self.appended.clone(),
            reads: self.reads.clone(),
            answers: self.answers.clone(),
            forwards: self.forwards.clone(),
            snapshot: self.snapshot.clone(),
            is_snapshot_wanted: self.is_snapshot_wanted,
            first: self.first.clone(),
            work: self.work.clone(),
            applied: self.applied,
            applied_bytes: self.applied_bytes,
            transfers: self.transfers.clone(),
            stats: self.stats.clone(),
        })
    }
}

impl Image {
    /// Whose image it is.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.config.id
    }

    /// When it was taken, by the node's clock.
    #[must_use]
    pub fn taken_at(&self) -> Instant {
        self.now
    }

    /// Makes the node that the image was taken of, around a state machine in the state that its own was in.
    ///
    /// # Panics
    ///
    /// If the image was not taken by [`Node::image`].
    #[must_use]
    pub fn restore<S>(self, state_machine: S) -> Node<S> {
        let (timing, flow) = (self.config.timing.clone(), self.config.flow);
        Node {
            raft: self.raft.map(|raft| raft.restore(&timing, flow)),
            state_machine,
            job: None,
            outputs: VecDeque::new(),
            config: self.config,
            seed: self.seed,
            boot: self.boot,
            now: self.now,
            formation: self.formation,
            ledger: self.ledger,
            leads_since: self.leads_since,
            gate: self.gate,
            write_began: self.write_began,
            links: self.links,
            presence: self.presence,
            care: self.care,
            company: self.company,
            partitions: self.partitions,
            records: self.records,
            control: self.control,
            followers: self.followers,
            queued: self.queued,
            appended: self.appended,
            reads: self.reads,
            answers: self.answers,
            forwards: self.forwards,
            snapshot: self.snapshot,
            is_snapshot_wanted: self.is_snapshot_wanted,
            first: self.first,
            work: self.work,
            applied: self.applied,
            applied_bytes: self.applied_bytes,
            transfers: self.transfers,
            stats: self.stats,
            halted: None,
            overheard: Overheard::default(),
        }
    }
}
