//! How a node is taken in by a cluster that exists, and how members say where they are.
//!
//! ```text
//!   newcomer ──Announce──► any member ──Ask { leader, address }──► newcomer
//!   newcomer ──Announce──► leader: list it │ add it as a learner │ send it a snapshot, one a time
//!   newcomer: save the snapshot, record that it has Joined, start consensus
//!   leader: promote it when it has caught up (members.rs)
//! ```
//!
//! Whoever is not yet where it should be announces itself again and again, and the leader takes the one
//! step that is missing. So nothing is lost when a message, a leader or a process is, and nobody remembers
//! how far it had come but the log. Members announce themselves, too, when the directory has another address
//! for them or when they have known no leader for long: they may have been put out without hearing of it.
//!
//! # A damaged member
//!
//! A member that has lost its disk may have promised anything. Under the same id it is *suspended*, which a
//! majority without it has to commit, and added again in a later term (see `raft/membership.rs`); until
//! it holds a snapshot again it neither votes nor acknowledges anything. A node that comes with an *empty* disk
//! under the id of a member is refused: nobody knows whether that disk is lost or still in another machine.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Node;
use super::gate::Departure;
use super::io::Peer;
use super::message::{CallId, Life, Message, Notice};
use crate::directory::Listing;
use crate::formation::{self, Refusal, Standing};
use crate::id::{LogIndex, NodeId, PeerName, Token};
use crate::machine::Machine;
use crate::raft::{self, Change, ChangeError, Role, Step};
use crate::session::seal_listing;
use crate::state_machine::StateMachine;
use crate::time::Instant;

/// Whoever is not where it should be says so every so many of the longest election timeouts.
const INTERVAL_FACTOR: u32 = 2;
/// The token of a member that an operator added and that has not yet come.
pub(super) const UNCLAIMED: Token = Token::new(u64::MAX);

/// What this node does about its own place in the cluster.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Presence {
    /// When it announces itself, if it has to.
    announces_at: Option<Instant>,
    /// The leader that has noted its announcement; only from there is a first snapshot taken, and none that is earlier
    /// than this.
    host: Option<(NodeId, LogIndex)>,
    /// What a leader wants to hear with the next announcement.
    proves: Option<CallId>,
    /// Numbers the questions of this node.
    last_question: u64,
    /// Which members have said that it was put out.
    dismissed_by: BTreeSet<NodeId>,
}

impl Presence {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.announces_at
    }

    /// Whether a first snapshot at `index` is taken from `node`.
    pub(super) fn is_host(&self, node: NodeId, index: LogIndex) -> bool {
        self.host.is_some_and(|(host, begins)| host == node && begins <= index)
    }
}

/// What a leader does for a node that announces itself.
#[derive(Debug, PartialEq)]
enum Service {
    Nothing,
    List,
    Change(Change),
    Suspend(Change),
    SendSnapshot,
    HandOver,
    Refuse(Refusal),
}

impl<S: StateMachine> Node<S> {
    /// Begins or stops to announce this node, as its standing asks for.
    pub(super) fn consider_announcing(&mut self) {
        let interval = self.config.timing.election_timeout.end * INTERVAL_FACTOR;
        let wanted = match self.formation.standing() {
            Standing::Joining { .. } => Some(self.now),
            Standing::Formed(_) | Standing::Joined { .. } => self.is_misplaced().then(|| self.now + interval),
            Standing::Fresh | Standing::Pledged(_) | Standing::Damaged | Standing::Removed => None,
        };
        self.presence.announces_at = wanted.map(|wanted| self.presence.announces_at.unwrap_or(wanted));
    }

    /// Whether a member is elsewhere than the directory says, or has lost touch.
    fn is_misplaced(&self) -> bool {
        let Some(raft) = &self.raft else { return false };
        let is_member = raft.membership().contains(self.config.id);
        let is_listed = self.ledger.directory().find(self.config.id) == Some(&self.listing());
        let is_alone = raft.membership().members().eq([self.config.id]);
        !is_member || !is_listed || (raft.standing().leader.is_none() && !is_alone)
    }

    pub(super) fn listing(&self) -> Listing {
        let token = match self.formation.standing() {
            Standing::Joining { token, .. } | Standing::Joined { token, .. } => *token,
            Standing::Fresh
            | Standing::Pledged(_)
            | Standing::Formed(_)
            | Standing::Damaged
            | Standing::Removed => Token::default(),
        };
        Listing { address: self.config.address.clone(), token, votes: self.config.votes }
    }

    pub(super) fn announce_if_due(&mut self) {
        if self.presence.announces_at.is_none_or(|at| at > self.now) {
            return;
        }
        let interval = self.config.timing.election_timeout.end * INTERVAL_FACTOR;
        self.presence.announces_at = Some(self.now + interval);
        let life = match self.formation.standing() {
            Standing::Joining { repairs: true, .. } => Life::Damaged,
            Standing::Joining { repairs: false, .. } => Life::New,
            Standing::Fresh
            | Standing::Pledged(_)
            | Standing::Formed(_)
            | Standing::Joined { .. }
            | Standing::Damaged
            | Standing::Removed => Life::Member,
        };
        let proves = self.presence.proves;
        let message = Message::Announce { listing: self.listing(), life, proves };
        let is_member = |raft: &raft::Raft| raft.membership().contains(self.config.id);
        let is_member = self.raft.as_ref().is_some_and(is_member);
        match self.standing().and_then(|standing| standing.leader).filter(|_| is_member) {
            Some(leader) if leader == self.config.id => self.list(leader, self.listing()),
            Some(leader) => self.tell(leader, message),
            None => {
                if self.links.connected().next().is_none() {
                    self.ask_around();
                }
                let names: Vec<PeerName> = self.links.connected().cloned().collect();
                for name in names {
                    let (to, message) = (Peer::Address(name), message.clone());
                    self.depart(Departure { to, message }, None);
                }
            }
        }
        self.consider_announcing();
    }

    /// A node says where and what it is.
    pub(super) fn handle_announce(
        &mut self,
        from: NodeId,
        listing: Listing,
        life: Life,
        proves: Option<CallId>,
    ) {
        let Some(raft) = &self.raft else { return };
        let membership = raft.membership();
        let is_removed = membership.removed().contains(&from) && !membership.contains(from);
        let leader = raft.standing().leader;
        self.receive_guest(from, &listing.address);
        if is_removed {
            return self.tell(from, Message::Dismissed { node: from });
        }
        match leader {
            Some(leader) if leader == self.config.id => self.serve(from, listing, life, proves),
            Some(leader) => {
                if let Some(address) = self.address_of(leader) {
                    self.notify(from, listing.token, Notice::Ask { leader, address });
                }
            }
            None => {}
        }
    }

    /// Takes the step that is missing.
    fn serve(&mut self, from: NodeId, listing: Listing, life: Life, proves: Option<CallId>) {
        let token = listing.token;
        match self.service_for(from, &listing, life) {
            Service::Nothing => {}
            Service::Refuse(refusal) => return self.notify(from, token, Notice::Refused(refusal)),
            Service::List => self.list(from, listing),
            Service::Suspend(change) if self.has_proved(from, proves) => {
                self.handle_raft(raft::Input::Change { id: None, change });
            }
            Service::Suspend(_) => return self.question(from, token),
            Service::Change(change) => self.handle_raft(raft::Input::Change { id: None, change }),
            Service::SendSnapshot => self.begin_first_transfer(from),
            Service::HandOver => self.hand_over_to_best(),
        }
        let begins = self.transfers.admission_of(from);
        self.notify(from, token, Notice::Noted { begins });
    }

    fn notify(&mut self, to: NodeId, token: Token, notice: Notice) {
        self.tell(to, Message::Notice { to, token, notice });
    }

    /// A message of an earlier life may be long on its way: what puts a member out has to be said now.
    fn question(&mut self, node: NodeId, token: Token) {
        let next = self.call_id(self.presence.last_question + 1);
        // Asked again until it is answered: a new one would make the answer to the last one worthless.
        let call = *self.care.questions.entry(node).or_insert(next);
        self.presence.last_question = self.presence.last_question.max(call.number);
        self.notify(node, token, Notice::Prove(call));
    }

    fn has_proved(&mut self, node: NodeId, proves: Option<CallId>) -> bool {
        proves.is_some() && self.care.questions.get(&node).copied() == proves
    }

    /// Whether a notice is for this node, on this disk.
    pub(super) fn is_to_us(&self, to: NodeId, token: Token) -> bool {
        to == self.config.id && (token == UNCLAIMED || token == self.listing().token)
    }

    fn service_for(&self, from: NodeId, listing: &Listing, life: Life) -> Service {
        let Some(raft) = &self.raft else { return Service::Nothing };
        let (own, membership) = (self.config.id, raft.membership());
        let known = self.ledger.directory().find(from);
        if !membership.contains(from) {
            let is_suspended = membership.suspended().contains_key(&from);
            if is_suspended && life != Life::Damaged {
                return Service::Refuse(Refusal::OtherDisk { peer: own });
            }
            if life == Life::Member {
                // Perhaps of what this cluster was before it had to go on with one node. Its log is another.
                let reason = "it holds the log of another cluster: empty its data folder".to_owned();
                return Service::Refuse(Refusal::NotTakenIn { peer: own, reason });
            }
            let add = Change::one(Step::AddLearner(from));
            return match raft.check_change(&add) {
                Ok(_) if known == Some(listing) => Service::Change(add),
                Ok(_) => Service::List,
                Err(ChangeError::UnderWay) => Service::Nothing,
                Err(ChangeError::TooSoon(_)) => Service::HandOver,
                Err(error) => Service::Refuse(Refusal::NotTakenIn { peer: own, reason: error.to_string() }),
            };
        }
        let expected = known.map_or(Token::default(), |known| known.token);
        if expected != listing.token && expected != UNCLAIMED {
            return self.service_for_other_disk(from, life);
        }
        if known != Some(listing) {
            return Service::List;
        }
        if life == Life::Member { Service::Nothing } else { Service::SendSnapshot }
    }

    /// A node of a member's id has another disk.
    fn service_for_other_disk(&self, from: NodeId, life: Life) -> Service {
        let Some(raft) = &self.raft else { return Service::Nothing };
        let own = self.config.id;
        let suspend = Change::one(Step::Suspend(from));
        if life != Life::Damaged {
            return Service::Refuse(Refusal::OtherDisk { peer: own });
        }
        let mut active = self.active_members();
        active.remove(&from);
        if !raft.membership().is_quorum(&active) {
            let reason = "no majority is up without it".to_owned();
            return Service::Refuse(Refusal::NotTakenIn { peer: own, reason });
        }
        match raft.check_change(&suspend) {
            Ok(_) => Service::Suspend(suspend),
            Err(ChangeError::UnderWay) => Service::Nothing,
            Err(error) => Service::Refuse(Refusal::NotTakenIn { peer: own, reason: error.to_string() }),
        }
    }

    /// Puts what is known of a member into the log.
    pub(super) fn list(&mut self, node: NodeId, listing: Listing) {
        if self.ledger.directory().find(node) != Some(&listing) {
            let entry = seal_listing(self.cluster_time(), node, listing);
            self.handle_raft(raft::Input::Note(entry));
        }
    }

    /// A member answers an announcement.
    pub(super) fn handle_notice(&mut self, from: NodeId, notice: Notice) {
        match notice {
            Notice::Ask { leader, address } => {
                if leader != self.config.id {
                    self.receive_guest(leader, &address);
                }
            }
            Notice::Noted { begins } => self.presence.host = begins.map(|begins| (from, begins)),
            Notice::Prove(call) if self.presence.proves == Some(call) => {}
            Notice::Prove(call) => {
                self.presence.proves = Some(call);
                self.presence.announces_at = self.presence.announces_at.map(|at| at.min(self.now));
            }
            Notice::Refused(refusal) => {
                self.formation.handle(self.now, formation::Input::Refused(refusal));
            }
        }
    }

    /// A member says that this node was put out. That counts when a majority of the voters that it knows says so, to
    /// which it belongs itself if its removal stands in its own log: no single peer can stop a node. Until then it
    /// lingers, for others may need its vote to learn that it is gone (Raft thesis §4.2.2).
    pub(super) fn handle_dismissed(&mut self, from: NodeId) {
        let Some(raft) = &self.raft else {
            let refusal = Refusal::WasRemoved { peer: from };
            return self.formation.handle(self.now, formation::Input::Refused(refusal));
        };
        let (membership, own) = (raft.membership(), self.config.id);
        let is_in_log = raft.is_removal_in_log();
        let dismissed_by = &mut self.presence.dismissed_by;
        if from != own {
            dismissed_by.insert(from);
        }
        dismissed_by.retain(|node| membership.is_voter(*node));
        let mut sure = dismissed_by.clone();
        sure.extend(is_in_log.then_some(own));
        if membership.is_quorum(&sure) {
            self.formation.handle(self.now, formation::Input::PutOut);
        }
    }

    /// The membership or the directory has changed.
    pub(super) fn place_has_changed(&mut self) {
        self.update_links();
        self.consider_announcing();
    }

    /// Whether this node leads.
    pub(super) fn leads(&self) -> bool {
        self.standing().is_some_and(|standing| standing.role == Role::Leader)
    }
}
