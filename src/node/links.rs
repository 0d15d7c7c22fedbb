//! Whom this node is connected to: the peers of its file, the members of its cluster, and guests.
//!
//! A node sends over connections that it dialled. So it has to dial everybody who may need an answer: the
//! members, wherever the directory says that they are, and for a while whoever else has spoken and said
//! where it listens: a newcomer, or one that was put out and has not heard of it. A member of which gossip says
//! that it is somewhere else is dialled there, too. Who is reached by an
//! address of the file already is not dialled a second time by that of the directory.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::io::{LinkState, Output};
use super::status::PeerStatus;
use super::{Node, NodeId, PeerName};
use crate::state_machine::StateMachine;
use crate::time::Instant;

/// A guest that says nothing for so long is hung up on.
const GUEST_PATIENCE: Duration = Duration::from_secs(30);
/// The most guests, one address each; one more, and it is not dialled.
const GUESTS_MAX: usize = 32;

/// The links of one node.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Links {
    /// The addresses in its file.
    listed: BTreeSet<PeerName>,
    /// What each link last said, and who last answered there.
    all: BTreeMap<PeerName, (Option<NodeId>, LinkState)>,
    /// Whom, where, and until when.
    guests: BTreeMap<NodeId, (PeerName, Instant)>,
}

impl Links {
    /// The driver dials what the file lists by itself.
    pub(super) fn start(listed: &BTreeSet<PeerName>) -> Links {
        let all = listed.iter().map(|name| (name.clone(), (None, not_yet()))).collect();
        Links { listed: listed.clone(), all, guests: BTreeMap::new() }
    }

    /// Where `node` answers, if it does.
    pub(super) fn address_of(&self, node: NodeId) -> Option<&PeerName> {
        self.all.iter().find(|(_, (found, _))| *found == Some(node)).map(|(name, _)| name)
    }

    /// All that are connected.
    pub(super) fn connected(&self) -> impl Iterator<Item = &PeerName> {
        let is_up = |state: &LinkState| matches!(state, LinkState::Up { .. });
        self.all.iter().filter(move |(_, (_, state))| is_up(state)).map(|(name, _)| name)
    }

    /// Whom a link leads to, now.
    pub(super) fn reached(&self) -> BTreeSet<NodeId> {
        let node = |(_, state): &(Option<NodeId>, LinkState)| match state {
            LinkState::Up { node } => Some(*node),
            LinkState::Down { .. } => None,
        };
        self.all.values().filter_map(node).collect()
    }

    pub(super) fn status(&self) -> Vec<PeerStatus> {
        let status = |(name, (node, state)): (&PeerName, &(Option<NodeId>, LinkState))| PeerStatus {
            name: name.clone(),
            node: *node,
            state: state.clone(),
        };
        self.all.iter().map(status).collect()
    }

    /// When the next guest is hung up on.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.guests.values().map(|(_, until)| *until).min()
    }

    /// Notes what became of a link. Tells whether there is such a link.
    pub(super) fn note(&mut self, name: &PeerName, state: LinkState) -> bool {
        let Some((node, last)) = self.all.get_mut(name) else { return false };
        if let LinkState::Up { node: identified } = &state {
            *node = Some(*identified);
        }
        *last = state;
        true
    }

    /// Whether an address of the file leads to `node`, now.
    fn is_listed(&self, node: NodeId) -> bool {
        self.listed.iter().any(|name| self.leads_to(name, node))
    }

    /// Whether a link leads to `node`, now.
    fn is_reached(&self, node: NodeId) -> bool {
        self.all.keys().any(|name| self.leads_to(name, node))
    }

    fn leads_to(&self, name: &PeerName, node: NodeId) -> bool {
        matches!(self.all.get(name), Some((_, LinkState::Up { node: found })) if *found == node)
    }
}

fn not_yet() -> LinkState {
    LinkState::Down { reason: "not yet connected".to_owned() }
}

impl<S: StateMachine> Node<S> {
    /// Dials whoever should be reached and is not, and hangs up on whoever need not be.
    pub(super) fn update_links(&mut self) {
        let wanted = self.wanted_links();
        let gone: Vec<PeerName> =
            self.links.all.keys().filter(|name| !wanted.contains(*name)).cloned().collect();
        for name in gone {
            self.links.all.remove(&name);
            self.outputs.push_back(Output::HangUp(name));
        }
        for name in wanted {
            if !self.links.all.contains_key(&name) {
                self.links.all.insert(name.clone(), (None, not_yet()));
                self.outputs.push_back(Output::Dial(name));
            }
        }
    }

    fn wanted_links(&self) -> BTreeSet<PeerName> {
        let mut wanted = self.links.listed.clone();
        wanted.extend(self.links.guests.values().map(|(address, _)| address.clone()));
        if let Some(raft) = &self.raft {
            let others = raft.membership().members().filter(|node| *node != self.config.id);
            for node in others.filter(|node| !self.links.is_listed(*node)) {
                wanted.extend(self.ledger.directory().find(node).map(|listing| listing.address.clone()));
                wanted.extend(self.moved_to(node));
            }
        }
        wanted.remove(&self.config.address);
        wanted
    }

    /// `node` listens at `address`; it is dialled if nothing else leads to it.
    pub(super) fn receive_guest(&mut self, node: NodeId, address: &PeerName) {
        let is_known = self.links.guests.contains_key(&node);
        let is_reached = self.links.is_reached(node) && !is_known;
        if is_reached || (!is_known && self.links.guests.len() >= GUESTS_MAX) {
            return;
        }
        self.links.guests.insert(node, (address.clone(), self.now + GUEST_PATIENCE));
        self.update_links();
    }

    /// A member was put out: it is kept as a guest for a while, to be told.
    pub(super) fn keep_as_guest(&mut self, node: NodeId, address: PeerName) {
        if self.links.guests.len() < GUESTS_MAX {
            self.links.guests.insert(node, (address, self.now + GUEST_PATIENCE));
        }
    }

    pub(super) fn expire_guests(&mut self) {
        let before = self.links.guests.len();
        let now = self.now;
        self.links.guests.retain(|_, (_, until)| *until > now);
        if self.links.guests.len() < before {
            self.update_links();
        }
    }
}
