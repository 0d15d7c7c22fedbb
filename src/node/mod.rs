//! The node: the machines of one process, composed into one.
//!
//! A [`Node`] is fed [`Input`]s and gives [`Output`]s; it is a [`Machine`] itself. Inside it, formation
//! makes the cluster, Raft replicates the log, the state machine executes it, SWIM sees who is alive, and the gate
//! sees to it that no message leaves before what it promises is durable.
//!
//! ```text
//!                 ┌──────────────────────────── Node ────────────────────────────┐
//!  Link ──────────┼─► formation ──Record──► gate ──────────────────────── Write ─┼──► disk
//!  Message ───────┼─► formation / raft ──Persist─► gate                          │
//!  Request ───────┼─► queue ─► raft ──Send─► gate ──(when durable)──────── Send ─┼──► peers
//!                 │     └──► reads ◄──ReadAt───┘                                 │
//!  Gossip ────────┼─► swim ──hints─► raft, links ──────────────────────── Gossip ─┼──► members
//!  Beat ──────────┼─► controller ──commands─► raft                               │
//!  Records, Ask ──┼─► replicas ──changes─► gate ──────────────────────────── Send ─┼──► peers
//!  Written ───────┼─► gate ─► raft, swim                                         │
//!                 │            └─Commit─► state machine ────────────────── Reply ─┼──► callers
//!                 └──────────────────────────────────────────────────────────────┘
//! ```
//!
//! `route` is the switchboard: every output of a machine, and every message, passes through it. An edge
//! that has to wait for something has a file of its own beside it, with what waits: `reads` (for a
//! majority), `answers` (for their turn), `forward` (for the leader), `snapshots` (for building and saving), `transfer` (for the other
//! side), `join` (for a cluster), `members` (for learners to catch up), `gossip` (for the first write), `control`
//! (for nodes to speak), `follow` (for news); `features` says what may be used while others are of an earlier version; `partitions` is the node's own word on itself, `records` what its replicas are
//! told and want. `links` says who is
//! dialled, `requests` what callers may ask. Requests are collected and proposed together when the driver drains, so a
//! burst of commands is one append.

mod answers;
mod config;
mod control;
mod features;
mod follow;
mod forward;
mod gate;
mod gossip;
mod image;
mod io;
mod join;
mod links;
mod members;
mod message;
mod overheard;
mod partitions;
mod reads;
mod records;
mod requests;
mod route;
mod snapshots;
mod stats;
mod status;
mod survivor;
mod transfer;

use core::fmt;
use std::collections::{BTreeMap, VecDeque};

use self::answers::Answers;
use self::control::Control;
use self::follow::Followers;
use self::forward::Forwards;
use self::gate::Gate;
use self::gossip::Company;
use self::join::Presence;
use self::links::Links;
use self::members::Care;
use self::overheard::Overheard;
use self::partitions::Partitions;
use self::reads::Reads;
use self::records::Records;
use self::snapshots::Work;
use self::transfer::Transfers;
use crate::formation::{self, Formation};
use crate::id::{BootId, LogIndex, NodeId, PeerName, RequestId, Term};
use crate::ledger::Ledger;
use crate::machine::Machine;
use crate::partition::metadata::Metadata;
use crate::raft::{self, Raft, Recovered, RecoveryError, Snapshot, TimingError};
use crate::rng::Seed;
use crate::session::{ClusterTime, Proposal};
use crate::state_machine::{Frozen, RestoreError, StateMachine};
use crate::time::Instant;

pub use self::config::{Config, Gossip, Limits, Partitioning};
pub use self::features::Outdated;
pub use self::image::Image;
pub use self::io::{
    Caller, Durable, Event, Halt, Input, LinkState, Output, Peer, Rejection, Reply, Request, WriteBatch,
};
pub use self::message::{CallId, Lane, Life, Message, Notice};
pub use self::overheard::Said;
pub use self::stats::Stats;
pub use self::status::{
    GossipMember, GossipStatus, MemberStatus, Members, Part, PeerStatus, RaftStatus, Status,
};
pub use self::survivor::Survivor;
pub use self::transfer::{Parcel, Transfer};

/// Why a node does not start. Nothing was changed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Change the timing.
    #[error(transparent)]
    Timing(#[from] TimingError),
    /// Change how the node gossips.
    #[error(transparent)]
    Gossip(#[from] crate::swim::ConfigError),
    /// Change how patient the controller is.
    #[error(transparent)]
    Partitioning(#[from] crate::partition::controller::SettingsError),
    /// The durable state contradicts itself: the disk has lost or changed what was synced to it.
    /// Starting on it could lose acknowledged writes; restore the data folder.
    #[error(
        "the data folder contradicts itself: {0}; it has lost or changed what was synced: restore it from before the damage, or give this node a new id and an empty folder"
    )]
    Recovery(#[from] RecoveryError),
    /// The cluster has put this node out; its folder is of no use any more.
    #[error(
        "this node was removed from its cluster: give it a new id, with a certificate for it, and an empty data folder"
    )]
    Removed,
    /// Use a later version.
    #[error(transparent)]
    Outdated(#[from] Outdated),
    /// Nothing in the folder belongs to a cluster.
    #[error("the data folder is not that of a member of a cluster")]
    NoMember,
    /// A formed cluster has no snapshot: part of the data folder is missing.
    #[error("the data folder says that the cluster has formed, but holds no snapshot: restore the folder")]
    SnapshotMissing,
    /// The snapshot is not one of this state machine.
    #[error("the durable snapshot cannot be restored: {0}")]
    Snapshot(#[from] RestoreError),
}

/// One node of a cluster around a state machine `S`.
pub struct Node<S> {
    config: Config,
    seed: Seed,
    boot: BootId,
    now: Instant,
    formation: Formation,
    raft: Option<Raft>,
    state_machine: S,
    /// What is replicated beside the state machine.
    ledger: Ledger,
    /// Since when this node leads, and what time it was in the log then.
    leads_since: Option<(Instant, ClusterTime)>,
    gate: Gate,
    /// When the write in flight was handed to the disk.
    write_began: Option<Instant>,
    links: Links,
    presence: Presence,
    care: Care,
    company: Company,
    partitions: Partitions,
    records: Records,
    control: Control,
    followers: Followers,
    /// Proposals that wait for the next drain.
    queued: Vec<(RequestId, Proposal)>,
    /// Appended proposals by index, with the term they were appended in.
    appended: BTreeMap<LogIndex, (Term, RequestId)>,
    reads: Reads,
    answers: Answers,
    forwards: Forwards,
    /// The latest snapshot, once there is a cluster.
    snapshot: Option<Snapshot>,
    /// Whether somebody needs a later one than that.
    is_snapshot_wanted: bool,
    /// What a node that is taken in begins with.
    first: Option<Recovered>,
    /// The snapshot under way.
    work: Option<Work>,
    /// The part of that which somebody else is to do.
    job: Option<Frozen>,
    /// Up to where state machine and sessions have got; raft-rs may learn of it a little later.
    applied: LogIndex,
    /// Bytes of commands that were applied since the last snapshot was begun.
    applied_bytes: u64,
    transfers: Transfers,
    stats: Stats,
    overheard: Overheard,
    halted: Option<Halt>,
    outputs: VecDeque<Output>,
}

impl<S: StateMachine> Node<S> {
    /// Starts a node on what was durable, at time `now`.
    ///
    /// The first thing that it asks for is a write of its new boot number; nothing is sent before that
    /// is durable. `seed` must differ between starts, or elections repeat themselves.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing was changed.
    pub fn start(
        config: Config,
        seed: Seed,
        durable: Durable,
        state_machine: S,
        now: Instant,
    ) -> Result<Node<S>, StartError> {
        config.timing.validate()?;
        if let Some(gossip) = &config.gossip {
            gossip.plan(config.id, durable.boot, Vec::new()).validate()?;
        }
        if let Some(partitioning) = &config.partitioning {
            partitioning.validate()?;
        }
        let is_damaged = durable.standing == formation::Standing::Damaged;
        let boot = boot_after(&durable, seed);
        let is_member = durable.standing.cluster().is_some();
        if durable.standing == formation::Standing::Removed {
            return Err(StartError::Removed);
        }
        let peers = config.peers.clone();
        let formation =
            Formation::start(config.id, config.address.clone(), peers, durable.standing, seed, now);
        let links = Links::start(&config.peers);
        let records = Records::start(&config, &durable.logs);
        let mut node = Node {
            config,
            seed,
            boot,
            now,
            formation,
            raft: None,
            state_machine,
            ledger: Ledger::default(),
            leads_since: None,
            gate: Gate::start(boot),
            write_began: None,
            links,
            presence: Presence::default(),
            care: Care::default(),
            company: Company::default(),
            partitions: Partitions::default(),
            records,
            control: Control::default(),
            followers: Followers::default(),
            queued: Vec::new(),
            appended: BTreeMap::new(),
            reads: Reads::default(),
            answers: Answers::default(),
            forwards: Forwards::start(),
            snapshot: None,
            is_snapshot_wanted: false,
            first: None,
            work: None,
            job: None,
            applied: LogIndex::default(),
            applied_bytes: 0,
            transfers: Transfers::default(),
            stats: Stats::default(),
            overheard: Overheard::default(),
            halted: None,
            outputs: VecDeque::new(),
        };
        if is_damaged {
            node.gate.begin_with(formation::Standing::Damaged);
        }
        if is_member {
            let snapshot = durable.snapshot.ok_or(StartError::SnapshotMissing)?;
            node.resume(snapshot.clone())?;
            if let Some(outdated) = node.outdated() {
                return Err(outdated.into());
            }
            let (hard_state, entries) = (durable.hard_state, durable.entries);
            node.start_raft(Recovered { snapshot, hard_state, entries })?;
        }
        node.place_has_changed();
        Ok(node)
    }

    /// The state machine, as far as it has got.
    #[must_use]
    pub fn state_machine(&self) -> &S {
        &self.state_machine
    }

    /// Tells why the node has stopped, if it has.
    #[must_use]
    pub fn halted(&self) -> Option<&Halt> {
        self.halted.as_ref()
    }

    /// Tells how the node is.
    #[must_use]
    pub fn status(&self) -> Status {
        let refused = self.raft.as_ref().map(|raft| raft.refusals().clone()).unwrap_or_default();
        Status {
            node: self.config.id,
            address: self.config.address.clone(),
            boot: self.boot,
            formation: self.formation.standing().clone(),
            refusal: self.formation.refusal().cloned(),
            raft: self.raft.as_ref().map(raft_status),
            peers: self.links.status(),
            gossip: self.gossip_status(),
            stats: Stats { refused, ..self.stats.clone() },
            halted: self.halted.clone(),
        }
    }

    /// The role, term and leader, once the cluster has formed. Cheaper than [`Node::status`].
    #[must_use]
    pub fn standing(&self) -> Option<raft::Standing> {
        self.raft.as_ref().map(Raft::standing)
    }

    /// How far the log has got, once the cluster has formed. Cheaper than [`Node::status`].
    #[must_use]
    pub fn indexes(&self) -> Option<raft::Indexes> {
        self.raft.as_ref().map(Raft::indexes)
    }

    /// Whether this node leads and has committed an entry in its term: then that term is durable, and no other node
    /// ever leads in it.
    #[must_use]
    pub fn has_committed_in_its_term(&self) -> bool {
        self.raft.as_ref().is_some_and(Raft::has_committed_in_its_term)
    }

    /// The members, once the cluster has formed. Cheaper than [`Node::status`].
    #[must_use]
    pub fn membership(&self) -> Option<&raft::Membership> {
        self.raft.as_ref().map(Raft::membership)
    }

    /// The first entry of the log that is still in memory, once the cluster has formed.
    #[must_use]
    pub fn first_entry(&self) -> Option<LogIndex> {
        self.raft.as_ref().map(Raft::first_entry)
    }

    /// Topics, partitions, and the nodes that hold them, as far as this node has applied the log.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        self.ledger.metadata()
    }

    /// How many sessions are open, as far as this node has got. At most [`SESSIONS_MAX`](crate::session::SESSIONS_MAX).
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.ledger.sessions()
    }

    /// Checks what must hold after every step.
    ///
    /// # Panics
    ///
    /// If an invariant is broken: that is a bug of this crate.
    pub fn assert_invariants(&self) {
        self.formation.assert_invariants();
        if let Some(raft) = &self.raft {
            raft.assert_invariants();
        }
        if let Some(swim) = self.company.swim() {
            swim.assert_invariants();
        }
        if let Some(replicas) = self.replicas() {
            replicas.assert_invariants();
        }
        let under_way = self.proposals_under_way();
        assert!(under_way <= self.config.limits.proposals_max, "{under_way} proposals are under way");
    }

    fn start_raft(&mut self, recovered: Recovered) -> Result<(), RecoveryError> {
        let raft = Raft::start(
            self.config.id,
            self.boot,
            &self.config.timing,
            self.config.flow,
            self.seed,
            recovered,
            self.now,
        )?;
        self.raft = Some(raft);
        self.begin_partitions();
        Ok(())
    }

    /// Stops for good. Whoever waits for a command is told that its fate is unknown.
    fn halt(&mut self, reason: Halt) {
        self.give_up_requests();
        self.abandon_reads();
        self.abandon_followers();
        self.abandon_records();
        self.abandon_answers();
        self.end_hand_over();
        self.outputs.push_back(Output::Event(Event::Halted { reason: reason.clone() }));
        self.halted = Some(reason);
    }

    fn note_time(&mut self, now: Instant) {
        assert!(now >= self.now, "time went back from {} to {now}", self.now);
        self.now = now;
    }
}

impl<S: StateMachine> Machine for Node<S> {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        self.note_time(now);
        if self.halted.is_some() {
            if let Input::Request { id, .. } = input {
                self.refuse_request(id, Rejection::Halted);
            }
            return;
        }
        self.answers.begin_turn();
        match input {
            Input::Link { name, state } => self.handle_link(name, state),
            Input::Message { from, message } => self.handle_message(from, message),
            Input::Unreachable(node) => {
                self.stats.unreachable += 1;
                self.do_not_wait_for(node);
            }
            Input::WallClock(wall) => {
                self.records.note_wall_clock(self.now, wall);
                self.note_wall_clock(wall);
            }
            Input::Gossip(input) => self.handle_gossip(input),
            Input::Leave => {
                self.leave_partitions();
                self.leave_gossip();
            }
            Input::Written(id) => self.handle_written(id),
            Input::Read { id, batches } => self.records_read(id, batches),
            Input::ReadFailed { reason, .. } => self.records_unreadable(reason),
            Input::SnapshotBuilt(state) => self.snapshot_built(state),
            Input::SnapshotSaved => self.snapshot_saved(),
            Input::SnapshotFailed { reason } => self.snapshot_failed(reason),
            Input::WriteFailed { id, reason } => self.halt(Halt::WriteFailed { id, reason }),
            Input::Request { id, from, request } => self.handle_request(id, from, request),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.note_time(now);
        if self.halted.is_some() {
            return;
        }
        self.answers.begin_turn();
        self.formation.handle_timeout(now);
        if let Some(raft) = &mut self.raft {
            raft.handle_timeout(now);
        }
        self.expire_reads();
        self.expire_forwards();
        self.expire_transfers();
        self.expire_guests();
        self.announce_if_due();
        self.care_if_due();
        self.gossip_if_due();
        self.beat_if_due();
        self.review_if_due();
        self.expire_followers();
        self.records.handle_timeout(now);
    }

    fn poll(&mut self) -> Option<Output> {
        if self.outputs.is_empty() && self.halted.is_none() {
            self.route();
        }
        if self.outputs.is_empty() && self.halted.is_none() {
            self.answer_next();
        }
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<Instant> {
        if self.halted.is_some() {
            return None;
        }
        if self.answers.waiting() > 0 {
            return Some(self.now);
        }
        let raft = self.raft.as_ref().and_then(Raft::deadline);
        let waiting = [
            self.reads.deadline(),
            self.forwards.deadline(),
            self.transfers.deadline(),
            self.links.deadline(),
            self.presence.deadline(),
            self.care.deadline(),
            self.company.deadline(),
            self.partitions.deadline(),
            self.records.deadline(),
            self.control.deadline(),
            self.followers.deadline(),
        ];
        [self.formation.deadline(), raft].into_iter().chain(waiting).flatten().min()
    }
}

impl<S> fmt::Debug for Node<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Node");
        debug.field("id", &self.config.id).field("formation", &self.formation.standing());
        debug.field("raft", &self.raft).finish_non_exhaustive()
    }
}

/// The number of the start after these. A node that has forgotten its boot numbers takes one that none of its lives before
/// can have had: they name its reads and questions, for ever.
fn boot_after(durable: &Durable, seed: Seed) -> BootId {
    let is_damaged = durable.standing == formation::Standing::Damaged;
    if is_damaged && durable.boot == BootId::default() {
        return BootId::new((seed.stream("boot after damage", 0).draw() >> 2) | (1 << 61));
    }
    durable.boot.next()
}

fn raft_status(raft: &Raft) -> RaftStatus {
    let raft::Standing { role, term, leader } = raft.standing();
    let membership = raft.membership();
    let voters = membership.members().filter(|node| membership.is_voter(*node)).collect();
    let learners = membership.learners().iter().copied().collect();
    RaftStatus { role, term, leader, indexes: raft.indexes(), voters, learners }
}

#[cfg(test)]
mod tests;
