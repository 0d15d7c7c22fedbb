//! Every edge between the machines of a node, one function each.
//!
//! Whatever a machine puts out, and whatever a peer says, is handed on here. Edges that wait for something
//! go on in the file that keeps what waits: `reads`, `forward`, `snapshots`, `transfer`, `gossip`.

use super::gate::{self, Departure};
use super::io::{Event, Halt, LinkState, Output, Peer, Rejection, Reply};
use super::message::Message;
use super::{Node, NodeId, PeerName};
use crate::formation::{self, Addressee};
use crate::id::{RequestId, WriteId};
use crate::machine::Machine;
use crate::raft::{self, Content, Decline, Entry, Membership, Position, Recovered, Refusal, Role};
use crate::session::{Applied, ClusterTime};
use crate::state_machine::StateMachine;
use crate::swim;

/// The most bytes of commands in one proposal, unless a single command is larger.
const PROPOSAL_BYTES_MAX: usize = 1024 * 1024;
/// A disk is given up after so many of the longest election timeouts.
const STALL_FACTOR: u32 = 4;

impl<S: StateMachine> Node<S> {
    /// Moves everything on that can move without another input.
    pub(super) fn route(&mut self) {
        self.propose_queued();
        self.send_forwards();
        self.begin_reads();
        while let Some(output) = self.formation.poll() {
            self.route_formation(output);
        }
        self.route_log();
        // What replicas propose may be for this node's own log.
        while self.route_records() {
            self.route_log();
        }
        self.route_gossip();
        self.beat_if_urgent();
        if self.halted.is_some() {
            return;
        }
        self.take_whole();
        self.flush();
    }

    fn route_log(&mut self) {
        while let Some(output) = self.raft.as_mut().and_then(Machine::poll) {
            self.route_raft(output);
        }
    }

    /// Gate -> disk: what is open is written, if something must be and nothing is under way.
    fn flush(&mut self) {
        if let (true, Some(replicas)) = (self.gate.is_due(), &mut self.records.replicas) {
            let (committed, marks) = replicas.close_batch();
            self.gate.close_logs(committed, marks);
        }
        if let Some(batch) = self.gate.flush() {
            self.stats.writes += 1;
            self.write_began = Some(self.now);
            self.outputs.push_back(Output::Write(batch));
        }
    }

    fn route_formation(&mut self, output: formation::Output) {
        match output {
            formation::Output::Record(standing) => self.record_standing(standing),
            formation::Output::Send { to, message } => self.send_formation(to, message),
            formation::Output::Refused(refusal) => self.event(Event::FormationRefused(refusal)),
        }
    }

    fn route_raft(&mut self, output: raft::Output) {
        match output {
            raft::Output::Persist(persist) => {
                if let Some(durable) = self.gate.persist(persist) {
                    self.handle_raft(raft::Input::Persisted(durable));
                }
            }
            raft::Output::Send { message, after } => {
                if self.is_stalled() {
                    self.stats.stalled += 1;
                    return;
                }
                let to = Peer::Node(message.to);
                self.depart(Departure { to, message: Message::Raft(message) }, after);
            }
            raft::Output::SendSnapshot { to } => self.begin_transfer(to),
            raft::Output::Commit(entries) => self.apply_committed(entries),
            raft::Output::Appended { first, ids } => self.note_appended(first, ids),
            raft::Output::Declined { ids, reason } => self.decline(&ids, reason),
            raft::Output::ReadAt { round, index } => self.confirm_reads(round, index),
            raft::Output::ReadLost { round } => self.lose_reads(round),
            raft::Output::Standing(standing) => self.note_standing(standing),
            raft::Output::Membership(membership) => self.note_membership(membership),
            raft::Output::Refused { from, refusal } => {
                if refusal.is_alarming() {
                    self.event(Event::Alarm { from, refusal });
                }
                if refusal == Refusal::Departed {
                    self.dismiss(from);
                }
            }
        }
    }

    /// Link -> formation: a certificate tells who answers at an address.
    pub(super) fn handle_link(&mut self, name: PeerName, state: LinkState) {
        if !self.links.note(&name, state.clone()) {
            return;
        }
        if let LinkState::Up { node } = state {
            self.introduce_to(node);
            self.formation.handle(self.now, formation::Input::Identified { name, node });
        }
        // Whoever answers there need not be dialled by another address, and who does not has to be.
        self.update_links();
    }

    /// Message -> formation, raft, or what waits for it.
    pub(super) fn handle_message(&mut self, from: NodeId, message: Message) {
        match message {
            Message::Formation(message) => {
                if let formation::Message::Greeting { address, .. } = &message {
                    self.receive_guest(from, address);
                }
                self.formation.handle(self.now, formation::Input::Message { from, message });
            }
            Message::Raft(_) if self.raft.is_none() => self.stats.early += 1,
            Message::Raft(_) if self.is_stalled() => self.stats.stalled += 1,
            Message::Raft(message) => {
                self.care.hear(from, self.now);
                self.handle_raft(raft::Input::Message { from, message });
            }
            Message::Announce { listing, life, proves } => {
                self.handle_announce(from, listing, life, proves);
            }
            Message::Notice { to, token, notice } if self.is_to_us(to, token) => {
                self.handle_notice(from, notice);
            }
            Message::Beat(beat) => self.hear_beat(from, *beat),
            Message::Alterations(alterations) => self.take_alterations(from, alterations),
            Message::Records(_) if self.is_stalled() => self.stats.stalled += 1,
            Message::Records(message) => {
                if let Some(replicas) = &mut self.records.replicas {
                    replicas.handle_message(self.now, from, message);
                }
            }
            Message::Meet { address } => self.handle_gossip(swim::Input::Met { id: from, address }),
            Message::Dismissed { node } if node == self.config.id => self.handle_dismissed(from),
            Message::Notice { .. } | Message::Dismissed { .. } => {}
            Message::Forward { call, term, proposal } => self.forwarded_to_us(from, call, term, proposal),
            Message::Forwards { term, wanted } => {
                for (call, proposal) in wanted {
                    self.forwarded_to_us(from, call, term, proposal);
                }
            }
            Message::Forwarded { call, reply } => self.forward_answered(from, call, *reply),
            Message::Transfer(message) => self.handle_transfer(from, message),
            Message::ReadIndex(call) => self.read_for(from, call),
            Message::ReadIndexAt { call, index } => self.read_answered(from, call, index),
        }
    }

    /// Input -> raft, once there is one.
    pub(super) fn handle_raft(&mut self, input: raft::Input) {
        if let Some(raft) = &mut self.raft {
            raft.handle(self.now, input);
        }
    }

    /// Driver, or swim -> raft, and whoever waits for an answer: there will be none from there.
    pub(super) fn do_not_wait_for(&mut self, node: NodeId) {
        self.lose_reads_at(node);
        self.lose_forwards_to(node);
        self.handle_raft(raft::Input::Unreachable(node));
    }

    /// Written -> gate -> raft, formation, swim, and the messages that waited.
    pub(super) fn handle_written(&mut self, id: WriteId) {
        let released = self.gate.written(id);
        self.write_began = None;
        self.note_boot_is_durable();
        if let Some(number) = released.ready {
            self.handle_raft(raft::Input::Persisted(number));
        }
        self.records_written(released.marks);
        for departure in released.departures {
            self.send(departure);
        }
        if released.snapshot {
            self.snapshot_recorded();
        }
        if released.standing {
            self.formation.handle(self.now, formation::Input::Recorded);
            self.begin_membership();
        }
    }

    /// Formation -> gate: a standing is durable before it is told. A cluster is born with it.
    fn record_standing(&mut self, standing: formation::Standing) {
        let birth = match &standing {
            formation::Standing::Formed(voters) => Some(self.birth_record(voters)),
            formation::Standing::Joined { .. } => self.first.as_ref().map(gate::first_of),
            formation::Standing::Fresh
            | formation::Standing::Pledged(_)
            | formation::Standing::Joining { .. }
            | formation::Standing::Damaged
            | formation::Standing::Removed => None,
        };
        self.gate.record(standing, birth);
    }

    /// Formation -> raft: the node is a member, durably, so its part in consensus begins; or ends.
    fn begin_membership(&mut self) {
        match self.formation.standing() {
            formation::Standing::Formed(voters) => {
                let voters = voters.clone();
                self.begin_consensus(self.birth_of(&voters));
                self.event(Event::Formed { voters: voters.voters().to_vec() });
            }
            formation::Standing::Joined { .. } => {
                if let Some(first) = self.first.take() {
                    self.start_raft(first).expect("what a leader sent contradicts nothing");
                    self.event(Event::TakenIn);
                }
            }
            formation::Standing::Removed => self.halt(Halt::Removed),
            formation::Standing::Fresh
            | formation::Standing::Pledged(_)
            | formation::Standing::Joining { .. }
            | formation::Standing::Damaged => {}
        }
        self.place_has_changed();
    }

    fn begin_consensus(&mut self, snapshot: raft::Snapshot) {
        self.applied = snapshot.at.index;
        self.snapshot = Some(snapshot.clone());
        let hard_state = gate::birth(snapshot.clone()).hard_state.expect("a birth has a hard state");
        let recovered = Recovered { snapshot, hard_state, entries: Vec::new() };
        self.start_raft(recovered).expect("a newborn log contradicts nothing");
    }

    /// Formation -> gate -> peers.
    fn send_formation(&mut self, to: Addressee, message: formation::Message) {
        let to = match to {
            Addressee::Address(name) => Peer::Address(name),
            Addressee::Node(node) => Peer::Node(node),
        };
        self.depart(Departure { to, message: Message::Formation(message) }, None);
    }

    pub(super) fn depart(&mut self, departure: Departure, after: Option<raft::ReadyNumber>) {
        let held_before = self.gate.held();
        if let Some(departure) = self.gate.depart(departure, after) {
            self.send(departure);
        } else {
            self.stats.held += u64::from(self.gate.held() > held_before);
        }
    }

    fn send(&mut self, departure: Departure) {
        self.stats.sent += 1;
        self.outputs.push_back(Output::Send { to: departure.to, message: departure.message });
    }

    /// Requests -> raft: all that came since the last drain, in as few proposals as may be. Each is
    /// accepted or declined as a whole, so none is larger than the bound that raft-rs holds it against.
    fn propose_queued(&mut self) {
        let time = self.cluster_time();
        let mut chunk = Vec::new();
        let mut bytes = 0;
        for (id, proposal) in core::mem::take(&mut self.queued) {
            let command = proposal.seal(time);
            if bytes + command.len() > PROPOSAL_BYTES_MAX && !chunk.is_empty() {
                self.handle_raft(raft::Input::Propose(core::mem::take(&mut chunk)));
                bytes = 0;
            }
            bytes += command.len();
            chunk.push(raft::Proposal { id, command });
        }
        if !chunk.is_empty() {
            self.handle_raft(raft::Input::Propose(chunk));
        }
    }

    /// What time it is in the log, by this leader's clock.
    pub(super) fn cluster_time(&self) -> ClusterTime {
        self.leads_since
            .map_or(self.ledger.time(), |(since, time)| time.after(self.now.saturating_since(since)))
    }

    /// Tells whether the disk has not answered for longer than any voter waits for a leader. Such a node
    /// falls silent and deaf: it must not lead a cluster that it cannot serve, nor pile up promises.
    /// Losing messages is always safe.
    pub(super) fn is_stalled(&self) -> bool {
        let patience = self.config.timing.election_timeout.end * STALL_FACTOR;
        self.write_began.is_some_and(|began| self.now.saturating_since(began) > patience)
    }

    fn note_appended(&mut self, first: Position, ids: Vec<RequestId>) {
        let mut index = first.index;
        for id in ids {
            self.appended.insert(index, (first.term, id));
            self.stats.appended += 1;
            index = index.next();
        }
    }

    fn decline(&mut self, ids: &[RequestId], reason: Decline) {
        for id in ids {
            let rejection = match reason {
                Decline::NotLeader => self.not_leader(),
                Decline::Busy => Rejection::Busy,
                Decline::Change(error) => Rejection::Change(error),
            };
            let reply = self.reject(rejection);
            self.answer(*id, reply);
        }
    }

    /// Raft -> sessions -> state machine -> callers. An empty entry is a leader's own (Raft §8).
    fn apply_committed(&mut self, entries: Vec<Entry>) {
        let Some(last) = entries.last().map(|entry| entry.at.index) else { return };
        for entry in entries {
            self.applied_bytes += u64::try_from(entry.length()).unwrap_or(u64::MAX);
            let applied = self.apply_entry(&entry);
            let at = entry.at;
            self.applied = at.index;
            if self.halted.is_some() {
                return;
            }
            let Some((term, id)) = self.appended.remove(&at.index) else { continue };
            let reply = match applied {
                Some(applied) if term == at.term => {
                    let reply = self.reply_to(applied);
                    self.bounded(reply)
                }
                // Another leader's entry stands where this proposal stood.
                Some(_) | None => self.unknown(),
            };
            self.answer(id, reply);
        }
        self.handle_raft(raft::Input::Applied(last));
        self.serve_reads();
        self.consider_snapshot();
    }

    fn apply_entry(&mut self, entry: &Entry) -> Option<Applied> {
        match &entry.content {
            Content::Change(change) => {
                self.ledger.apply_change(change);
                Some(Applied::Answered { at: entry.at, answer: bytes::Bytes::new(), is_new: false })
            }
            Content::Command(command) => (!command.is_empty()).then(|| self.apply(entry.at, command)),
        }
    }

    fn apply(&mut self, at: Position, entry: &[u8]) -> Applied {
        let (state_machine, overheard) = (&mut self.state_machine, &self.overheard);
        let applied = self.ledger.apply(at, entry, |command| {
            overheard.asks();
            let answer = state_machine.apply(at.index, command);
            overheard.answer(&answer);
            answer
        });
        match &applied {
            Applied::Answered { is_new: true, .. } => self.stats.applied += 1,
            Applied::Answered { is_new: false, .. } => self.stats.repeated += 1,
            Applied::Listed(..) => self.place_has_changed(),
            Applied::Metadata(ordered) => self.note_ordered(ordered),
            Applied::Opened(_) | Applied::Expired | Applied::Malformed => {}
        }
        applied
    }

    fn reply_to(&mut self, applied: Applied) -> Reply {
        match applied {
            Applied::Answered { at, answer, .. } => Reply::Done { at, answer },
            Applied::Opened(session) => Reply::Opened { session },
            Applied::Expired => Reply::Expired,
            Applied::Metadata(ordered) => Reply::Ordered { at: ordered.at, answer: Box::new(ordered.answer) },
            Applied::Listed(..) | Applied::Malformed => self.unknown(),
        }
    }

    /// Raft -> callers: who no longer leads cannot tell what becomes of what it appended, and whoever
    /// was asked to pass on or to confirm may be gone.
    fn note_standing(&mut self, standing: raft::Standing) {
        self.give_up_forwards();
        if standing.role == Role::Leader {
            self.stats.elections_won += 1;
            self.leads_since = Some((self.now, self.ledger.time()));
        } else {
            self.leads_since = None;
            self.give_up_transfers();
            self.give_up_requests();
        }
        self.begin_care();
        self.begin_control();
        self.note_new_leader();
        self.consider_announcing();
        self.event(Event::Standing(standing));
    }

    /// Raft -> everything that depends on who is a member.
    fn note_membership(&mut self, membership: Membership) {
        for node in membership.removed().iter().copied().filter(|node| !membership.contains(*node)) {
            if let Some(address) = self.links.address_of(node).cloned() {
                self.keep_as_guest(node, address);
                self.tell(node, Message::Dismissed { node });
            }
        }
        self.adjust_care();
        self.place_has_changed();
        self.event(Event::Membership(membership));
    }

    /// A node that was put out does not know it.
    fn dismiss(&mut self, node: NodeId) {
        let is_removed = |raft: &raft::Raft| raft.membership().removed().contains(&node);
        if self.raft.as_ref().is_some_and(is_removed) {
            self.tell(node, Message::Dismissed { node });
        }
    }

    pub(super) fn give_up_requests(&mut self) {
        let appended = core::mem::take(&mut self.appended);
        for (_, id) in appended.into_values() {
            let reply = self.unknown();
            self.answer(id, reply);
        }
        for (id, _) in core::mem::take(&mut self.queued) {
            let reply = self.reject(Rejection::NotLeader { leader: None, address: None });
            self.answer(id, reply);
        }
        self.give_up_reads();
        self.give_up_forwards();
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}
