//! Gossip in a node: who is there, by SWIM, and what the rest of the node makes of it.
//!
//! SWIM gives hints, never verdicts: no member is removed, no leader deposed, no vote counted because of it.
//!
//! ```text
//!   Dead, Left ───► raft, reads, forwards: whoever waits for it waits no longer
//!   link ─────────► swim: who is connected and not held live is told where this node gossips, and asks
//!   description ──► links: where a member is, should it not be where the directory says;
//!                          whom a node can ask that has lost sight of its cluster
//! ```
//!
//! Its own part begins when two things are known: that the boot number is durable, which tells two processes
//! under one id apart, and what the wall clock says, by which others judge its epoch. Before that nothing is
//! gossiped, so a node that cannot write is not seen alive.

use serde::{Deserialize, Serialize};

use super::io::{Event, Output};
use super::message::Message;
use super::status::{GossipMember, GossipStatus};
use super::{Gossip, Node, NodeId, PeerName};
use crate::description::Description;
use crate::machine::Machine;
use crate::state_machine::StateMachine;
use crate::swim::{self, Lifecycle, Start, Swim};
use crate::time::Instant;
use crate::time::WallSeconds;

/// So many members are asked at a time where the cluster is.
const ASKED_AT_ONCE: usize = 3;
/// The most members in a status.
const SHOWN_MAX: usize = 1024;

/// A node's part in gossip.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Company {
    /// Once it has begun.
    swim: Option<Box<Swim>>,
    /// When it is due: asked far more often than it changes, and too far away there.
    due: Option<Instant>,
    /// What the wall clock said last.
    wall: Option<WallSeconds>,
    is_boot_durable: bool,
    /// Whether the node is about to stop.
    is_leaving: bool,
    /// How many members were asked where the cluster is.
    asked: usize,
    /// When those who are connected and not held live are told where this node gossips.
    introduces_at: Option<Instant>,
}

impl Company {
    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.due, self.introduces_at].into_iter().flatten().min()
    }

    pub(super) fn swim(&self) -> Option<&Swim> {
        self.swim.as_deref()
    }

    /// Where a member says that nodes reach it.
    fn address_of(&self, node: NodeId) -> Option<PeerName> {
        let bytes = self.swim.as_ref()?.metadata(node);
        Description::decode(bytes).map(|description| description.address)
    }
}

impl<S: StateMachine> Node<S> {
    /// The driver has said what time it is.
    pub(super) fn note_wall_clock(&mut self, wall: WallSeconds) {
        self.company.wall = Some(wall);
        self.handle_gossip(swim::Input::WallClock(wall));
        self.begin_gossip();
    }

    /// A batch is durable; the very first one holds the boot number.
    pub(super) fn note_boot_is_durable(&mut self) {
        self.company.is_boot_durable = true;
        self.begin_gossip();
    }

    /// Begins to gossip, once everything is there that it takes.
    fn begin_gossip(&mut self) {
        let (Some(gossip), Some(wall)) = (&self.config.gossip, self.company.wall) else { return };
        if self.company.swim.is_some() || !self.company.is_boot_durable || self.company.is_leaving {
            return;
        }
        let description = Description { address: self.config.address.clone() };
        let config = gossip.plan(self.config.id, self.boot, description.encode());
        let start = Start { wall, remembered: None, seed: self.seed.child("gossip", 0) };
        let swim = Swim::start(config, start, self.now).expect("it was checked when the node started");
        self.company.due = swim.deadline();
        self.company.swim = Some(Box::new(swim));
        self.company.introduces_at = Some(self.now);
    }

    /// Input -> swim, once there is one.
    pub(super) fn handle_gossip(&mut self, input: swim::Input) {
        if let Some(swim) = &mut self.company.swim {
            swim.handle(self.now, input);
            self.company.due = swim.deadline();
        }
    }

    pub(super) fn gossip_if_due(&mut self) {
        if let Some(swim) = &mut self.company.swim {
            swim.handle_timeout(self.now);
            self.company.due = swim.deadline();
        }
        if self.company.introduces_at.is_some_and(|at| at <= self.now) {
            let interval = self.config.gossip.as_ref().map(|gossip| gossip.timing.heal_interval);
            self.company.introduces_at = interval.map(|interval| self.now + interval);
            self.links.reached().into_iter().for_each(|node| self.introduce_to(node));
        }
    }

    /// Tells a node that is connected where this one gossips, unless the two see each other.
    pub(super) fn introduce_to(&mut self, node: NodeId) {
        let (Some(swim), Some(gossip)) = (self.company.swim(), &self.config.gossip) else { return };
        let is_live = swim.member(node).is_some_and(|member| member.state.is_live());
        if !is_live && !self.company.is_leaving {
            self.tell(node, Message::Meet { address: gossip.address });
        }
    }

    /// Swim -> other members, and whoever can do something with what it says.
    pub(super) fn route_gossip(&mut self) {
        while let Some(output) = self.company.swim.as_mut().and_then(|swim| swim.poll()) {
            match output {
                swim::Output::Event(event) => {
                    self.note_gossip(event);
                    self.outputs.push_back(Output::Event(Event::Gossip(event)));
                }
                output @ (swim::Output::Datagram { .. }
                | swim::Output::Ask { .. }
                | swim::Output::Answer { .. }
                | swim::Output::Resolve(_)) => self.outputs.push_back(Output::Gossip(output)),
            }
        }
    }

    fn note_gossip(&mut self, event: swim::Event) {
        match event {
            swim::Event::Dead(node) | swim::Event::Left(node) if node != self.config.id => {
                self.do_not_wait_for(node);
            }
            swim::Event::Joined(_) | swim::Event::Rejoined(_) | swim::Event::Updated(_) => {
                self.update_links()
            }
            // The rest changes nothing for anybody here.
            swim::Event::Dead(_)
            | swim::Event::Left(_)
            | swim::Event::Suspected(_)
            | swim::Event::Cleared(_)
            | swim::Event::AddressChanged(_)
            | swim::Event::IdConflict(_)
            | swim::Event::LinkDegraded(_)
            | swim::Event::ZoneUnreachable(_)
            | swim::Event::Isolated
            | swim::Event::Reconnected
            | swim::Event::HealthChanged(_)
            | swim::Event::Converged(_)
            | swim::Event::BacklogHigh(_)
            | swim::Event::VersionMismatch(_)
            | swim::Event::Fenced => {}
        }
    }

    /// Where gossip says that a member is, if that is not where the directory says.
    pub(super) fn moved_to(&self, node: NodeId) -> Option<PeerName> {
        let listed = self.ledger.directory().find(node).map(|listing| &listing.address);
        self.company.address_of(node).filter(|address| listed != Some(address))
    }

    /// A node that nobody is connected to asks some live members where the cluster is: by dialling them.
    pub(super) fn ask_around(&mut self) {
        let Some(swim) = self.company.swim() else { return };
        let live = |member: &swim::Member| member.state.is_live() && member.record.id != self.config.id;
        let live: Vec<NodeId> = swim.members().filter(live).map(|member| member.record.id).collect();
        for turn in 0..live.len().min(ASKED_AT_ONCE) {
            let node = live[(self.company.asked + turn) % live.len()];
            if let Some(address) = self.company.address_of(node) {
                self.receive_guest(node, &address);
            }
        }
        self.company.asked += ASKED_AT_ONCE;
    }

    /// Says goodbye to the members, for the node is about to stop.
    pub(super) fn leave_gossip(&mut self) {
        self.company.is_leaving = true;
        self.handle_gossip(swim::Input::Leave);
    }

    /// Whether there is nobody left to say goodbye to.
    #[must_use]
    pub fn has_left(&self) -> bool {
        let is_done = |swim: &Swim| matches!(swim.lifecycle(), Lifecycle::Gone | Lifecycle::Fenced);
        self.company.is_leaving && self.is_relieved() && self.company.swim().is_none_or(is_done)
    }

    /// Its part in gossip, once that has begun.
    #[must_use]
    pub fn gossip(&self) -> Option<&Swim> {
        self.company.swim()
    }

    pub(super) fn gossip_status(&self) -> Option<GossipStatus> {
        let swim = self.company.swim()?;
        let now = self.now.as_nanos() / 1_000_000_000;
        let show = |member: swim::Member| GossipMember {
            node: member.record.id,
            address: member.record.address,
            state: member.state,
            epoch: member.record.epoch,
            since: core::time::Duration::from_secs(now.saturating_sub(u64::from(member.since))),
        };
        let mut members: Vec<GossipMember> = swim.members().map(show).collect();
        let total = members.len();
        members.sort_unstable_by_key(|member| member.node);
        members.truncate(SHOWN_MAX);
        Some(GossipStatus { lifecycle: swim.lifecycle(), health: swim.health(), total, members })
    }
}

impl Gossip {
    /// What a member is started with.
    pub(super) fn plan(&self, id: NodeId, boot: crate::id::BootId, metadata: Vec<u8>) -> swim::Config {
        // Half of the number tells two lives apart: it counts, or is drawn.
        let boot = u32::try_from(boot.value() & u64::from(u32::MAX)).expect("the lower half fits");
        swim::Config {
            zone: self.zone,
            metadata,
            seeds: self.seeds.iter().cloned().collect(),
            timing: self.timing,
            datagram_max: self.datagram_max,
            ..swim::Config::new(id, self.cluster.clone(), self.address, boot)
        }
    }
}

#[cfg(test)]
mod tests;
