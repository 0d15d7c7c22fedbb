//! Snapshots on their way from a leader to a follower: in parts, each acknowledged, on a lane of their own.
//!
//! The leader keeps a few parts under way and goes on where the follower's last acknowledgement says; so
//! a lost part, a broken connection or a new leader costs the parts under way, and not the rest. The
//! follower takes parts only from the leader of its term, only in order, and keeps one snapshot at a
//! time. When all is there, its checksum must be what the first part promised.
//!
//! The leader is told that it is done when the state has been restored. While it is being saved, which may
//! take long, the follower says that it has all of it and that it is not done.
//!
//! Nobody is sent a snapshot in which it has no part, for raft-rs would throw it away: if the latest one is older
//! than the member, a new one is made first.
//!
//! What was received is gone when the follower's process ends; it is then sent again from its beginning.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::Node;
use super::gate::Departure;
use super::io::Peer;
use super::message::Message;
use super::snapshots::Work;
use crate::formation::Standing;
use crate::id::{LogIndex, NodeId, Term};
use crate::payload;
use crate::raft::{self, Membership, Position, Refusal, Snapshot};
use crate::state_machine::StateMachine;
use crate::time::Instant;

/// The parts that are under way to one follower.
const PARTS_UNDER_WAY: u64 = 4;
/// Parts are sent again when nothing was acknowledged for so many of the longest election timeouts,
const PATIENCE_FACTOR: u32 = 2;
/// and the sending is given up after so many times in a row.
const RETRIES_MAX: u32 = 5;

/// Which snapshot a part belongs to, and what it will be as a whole.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Parcel {
    /// The leader's term.
    pub term: Term,
    /// The last entry that the snapshot contains.
    pub at: Position,
    /// The members at that point.
    pub membership: Membership,
    /// The length of the state in bytes.
    pub length: u64,
    /// The XXH3-64 of the state.
    #[serde(serialize_with = "payload::checksum")]
    pub checksum: u64,
}

/// What leader and follower say about a snapshot.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Transfer {
    /// The leader sends a part.
    Part {
        /// Of which snapshot.
        parcel: Parcel,
        /// Where it begins, in bytes.
        offset: u64,
        /// The part.
        #[serde(serialize_with = "payload::part")]
        bytes: Bytes,
    },
    /// The follower has the beginning of a snapshot.
    Received {
        /// The leader's term.
        term: Term,
        /// Which snapshot.
        at: Position,
        /// Up to where, in bytes.
        until: u64,
        /// It has all of it, or needs it no longer.
        is_done: bool,
    },
}

/// A snapshot that is being sent.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Outgoing {
    parcel: Parcel,
    #[serde(serialize_with = "payload::snapshot")]
    state: Bytes,
    /// What the follower has.
    acknowledged: u64,
    /// What was sent.
    sent: u64,
    /// When parts are sent again.
    again_at: Instant,
    retries: u32,
}

/// A snapshot that is being received.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Incoming {
    from: NodeId,
    parcel: Parcel,
    state: Received,
}

/// The beginning of a state, in the parts in which it came: an image of the node shares them.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Received {
    parts: Vec<Piece>,
    length: u64,
}

/// One of them.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Piece(#[serde(serialize_with = "payload::part")] Bytes);

impl Received {
    fn push(&mut self, part: &[u8]) {
        self.length += u64::try_from(part.len()).unwrap_or(u64::MAX);
        self.parts.push(Piece(Bytes::copy_from_slice(part)));
    }

    fn join(self) -> Bytes {
        let mut whole = BytesMut::with_capacity(usize::try_from(self.length).unwrap_or_default());
        for Piece(part) in self.parts {
            whole.extend_from_slice(&part);
        }
        whole.freeze()
    }
}

/// The snapshots on their way from and to this node.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Transfers {
    outgoing: BTreeMap<NodeId, Outgoing>,
    incoming: Option<Incoming>,
    /// How far this leader had applied the log when it found that a newcomer had been admitted.
    admitted: BTreeMap<NodeId, LogIndex>,
}

impl Transfers {
    /// Who left and comes back is admitted anew, and sent another snapshot.
    pub(super) fn forget_leavers(&mut self, members: &BTreeSet<NodeId>) {
        self.admitted.retain(|node, _| members.contains(node));
        self.outgoing.retain(|node, _| members.contains(node));
    }

    /// From which index on a newcomer may begin with a snapshot.
    pub(super) fn admission_of(&self, node: NodeId) -> Option<LogIndex> {
        self.admitted.get(&node).copied()
    }

    /// When something is sent again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.outgoing.values().map(|outgoing| outgoing.again_at).min()
    }
}

impl<S: StateMachine> Node<S> {
    /// Raft wants the latest snapshot sent to `to`.
    pub(super) fn begin_transfer(&mut self, to: NodeId) {
        if self.is_in_snapshot(to) {
            return self.transfer(to);
        }
        self.handle_raft(raft::Input::SnapshotSent { to, arrived: false });
        self.want_snapshot();
    }

    /// A newcomer has no part in consensus yet, so Raft cannot know what it lacks. It begins with a snapshot that is
    /// later than its admission: in an earlier one it may be the voter that it was before its disk was damaged.
    pub(super) fn begin_first_transfer(&mut self, to: NodeId) {
        if self.transfers.outgoing.contains_key(&to) {
            return;
        }
        let admitted = *self.transfers.admitted.entry(to).or_insert(self.applied);
        if self.snapshot.as_ref().is_some_and(|snapshot| snapshot.at.index >= admitted) {
            return self.transfer(to);
        }
        self.want_snapshot();
    }

    fn is_in_snapshot(&self, node: NodeId) -> bool {
        self.snapshot.as_ref().is_some_and(|snapshot| snapshot.membership.contains(node))
    }

    fn want_snapshot(&mut self) {
        self.is_snapshot_wanted = true;
        self.consider_snapshot();
    }

    fn transfer(&mut self, to: NodeId) {
        let (Some(snapshot), Some(standing)) = (&self.snapshot, self.standing()) else { return };
        let parcel = Parcel {
            term: standing.term,
            at: snapshot.at,
            membership: snapshot.membership.clone(),
            length: u64::try_from(snapshot.state.len()).unwrap_or(u64::MAX),
            checksum: xxh3_64(&snapshot.state),
        };
        let state = snapshot.state.clone();
        let again_at = self.now + self.transfer_patience();
        let outgoing = Outgoing { parcel, state, acknowledged: 0, sent: 0, again_at, retries: 0 };
        self.transfers.outgoing.insert(to, outgoing);
        self.stats.snapshots_sent += 1;
        self.send_parts(to);
    }

    fn transfer_patience(&self) -> Duration {
        self.config.timing.election_timeout.end * PATIENCE_FACTOR
    }

    /// Sends as many parts as may be under way. An empty state is one empty part.
    fn send_parts(&mut self, to: NodeId) {
        let part_bytes = self.config.limits.snapshot_part_bytes.max(1);
        let Some(outgoing) = self.transfers.outgoing.get_mut(&to) else { return };
        let mut departures = Vec::new();
        let window = outgoing.acknowledged + PARTS_UNDER_WAY * part_bytes;
        let is_first = |outgoing: &Outgoing| outgoing.parcel.length == 0 && outgoing.sent == 0;
        while outgoing.sent < outgoing.parcel.length.min(window) || is_first(outgoing) {
            let offset = outgoing.sent;
            let end = outgoing.parcel.length.min(offset + part_bytes);
            let bytes = outgoing.state.slice(in_memory(offset)..in_memory(end));
            let parcel = outgoing.parcel.clone();
            let message = Message::Transfer(Transfer::Part { parcel, offset, bytes });
            departures.push(Departure { to: Peer::Node(to), message });
            outgoing.sent = end;
            if end == offset {
                break;
            }
        }
        for departure in departures {
            self.depart(departure, None);
        }
    }

    pub(super) fn handle_transfer(&mut self, from: NodeId, message: Transfer) {
        match message {
            Transfer::Part { parcel, offset, bytes } => self.part_arrives(from, parcel, offset, &bytes),
            Transfer::Received { term, at, until, is_done } => {
                self.part_acknowledged(from, term, at, until, is_done);
            }
        }
    }

    fn part_acknowledged(&mut self, from: NodeId, term: Term, at: Position, until: u64, is_done: bool) {
        let again_at = self.now + self.transfer_patience();
        let Some(outgoing) = self.transfers.outgoing.get_mut(&from) else { return };
        if (outgoing.parcel.term, outgoing.parcel.at) != (term, at) || until > outgoing.parcel.length {
            return;
        }
        if is_done {
            return self.end_transfer(from, true);
        }
        if until > outgoing.acknowledged || until == outgoing.parcel.length {
            outgoing.acknowledged = until;
            outgoing.sent = outgoing.sent.max(until);
            (outgoing.again_at, outgoing.retries) = (again_at, 0);
        }
        self.send_parts(from);
    }

    fn end_transfer(&mut self, to: NodeId, arrived: bool) {
        if self.transfers.outgoing.remove(&to).is_some() {
            self.handle_raft(raft::Input::SnapshotSent { to, arrived });
        }
    }

    /// Sends again what was not acknowledged in time, or gives it up.
    pub(super) fn expire_transfers(&mut self) {
        let (now, again_at) = (self.now, self.now + self.transfer_patience());
        let late: Vec<NodeId> = (self.transfers.outgoing.iter())
            .filter(|(_, outgoing)| outgoing.again_at <= now)
            .map(|(node, _)| *node)
            .collect();
        for node in late {
            let Some(outgoing) = self.transfers.outgoing.get_mut(&node) else { continue };
            if outgoing.retries >= RETRIES_MAX {
                self.end_transfer(node, false);
                continue;
            }
            outgoing.retries += 1;
            outgoing.again_at = again_at;
            outgoing.sent = outgoing.acknowledged;
            if outgoing.acknowledged == outgoing.parcel.length {
                self.ask_whether_done(node);
            } else {
                self.send_parts(node);
            }
        }
    }

    /// The follower has all of it and is silent: an empty part behind the last one asks for a sign of life.
    fn ask_whether_done(&mut self, to: NodeId) {
        let Some(outgoing) = self.transfers.outgoing.get(&to) else { return };
        let (parcel, offset) = (outgoing.parcel.clone(), outgoing.parcel.length);
        self.tell(to, Message::Transfer(Transfer::Part { parcel, offset, bytes: Bytes::new() }));
    }

    /// Who leads no longer sends no snapshots. What is received may be gone on with by the next leader.
    pub(super) fn give_up_transfers(&mut self) {
        self.transfers.outgoing.clear();
        self.transfers.admitted.clear();
    }

    fn part_arrives(&mut self, from: NodeId, parcel: Parcel, offset: u64, bytes: &[u8]) {
        if parcel.length > self.config.limits.snapshot_state_bytes_max {
            return self.refuse(from, Refusal::MalformedSnapshot);
        }
        match self.admit_parcel(from, &parcel) {
            Ok(()) => {}
            Err(Refusal::SnapshotBehind) => return self.acknowledge(from, &parcel, 0, true),
            Err(refusal) => return self.refuse(from, refusal),
        }
        let is_saved =
            |work: &Work| matches!(work, Work::Receiving(_, _, snapshot) if snapshot.at == parcel.at);
        if self.work.as_ref().is_some_and(is_saved) {
            return self.acknowledge(from, &parcel, parcel.length, false);
        }
        let same = |incoming: &mut Incoming| incoming.parcel.is_same_state(&parcel);
        let mut incoming = self.transfers.incoming.take_if(same).unwrap_or_else(|| Incoming {
            from,
            parcel: parcel.clone(),
            state: Received::default(),
        });
        // A new leader may go on with what the one before it has begun: equal states give equal bytes.
        (incoming.from, incoming.parcel.term) = (from, parcel.term);
        let have = incoming.state.length;
        let fits = u64::try_from(bytes.len()).unwrap_or(u64::MAX) <= parcel.length.saturating_sub(have);
        if offset == have && fits && !bytes.is_empty() {
            incoming.state.push(bytes);
        }
        let have = incoming.state.length;
        self.transfers.incoming = Some(incoming);
        self.acknowledge(from, &parcel, have, false);
        self.take_whole();
    }

    /// Whether a snapshot would be taken: by consensus, or by a node that is about to have a part in it.
    fn admit_parcel(&self, from: NodeId, parcel: &Parcel) -> Result<(), Refusal> {
        let Parcel { term, at, membership, .. } = parcel;
        if let Some(raft) = &self.raft {
            return raft.admit_snapshot(from, *term, *at, membership);
        }
        let is_joining = matches!(self.formation.standing(), Standing::Joining { .. });
        if !is_joining || !self.presence.is_host(from, at.index) || self.first.is_some() {
            return Err(Refusal::NotFromLeader);
        }
        raft::admit_first_snapshot(self.config.id, *term, *at, membership)
    }

    /// Hands on a snapshot that is there whole, once no other is under way.
    pub(super) fn take_whole(&mut self) {
        let is_whole = |incoming: &mut Incoming| incoming.state.length == incoming.parcel.length;
        if self.work.is_some() {
            return;
        }
        let Some(Incoming { from, parcel, state }) = self.transfers.incoming.take_if(is_whole) else {
            return;
        };
        match self.admit_parcel(from, &parcel) {
            Ok(()) => {}
            Err(Refusal::SnapshotBehind) => return self.acknowledge(from, &parcel, parcel.length, true),
            Err(_) => return,
        }
        let state = state.join();
        if xxh3_64(&state) != parcel.checksum {
            return self.refuse(from, Refusal::MalformedSnapshot);
        }
        let snapshot = Snapshot { at: parcel.at, membership: parcel.membership, state };
        self.snapshot_received(from, parcel.term, snapshot);
    }

    /// Tells the leader that its snapshot was taken, or is not needed.
    pub(super) fn transfer_done(&mut self, to: NodeId, term: Term, snapshot: &Snapshot) {
        let until = u64::try_from(snapshot.state.len()).unwrap_or(u64::MAX);
        let at = snapshot.at;
        self.tell(to, Message::Transfer(Transfer::Received { term, at, until, is_done: true }));
    }

    fn acknowledge(&mut self, to: NodeId, parcel: &Parcel, until: u64, is_done: bool) {
        let Parcel { term, at, .. } = *parcel;
        self.tell(to, Message::Transfer(Transfer::Received { term, at, until, is_done }));
    }

    fn refuse(&mut self, from: NodeId, refusal: Refusal) {
        if let Some(raft) = &mut self.raft {
            raft.count_refusal(from, refusal);
        }
    }
}

impl Parcel {
    /// Whether two parcels hold the same bytes.
    fn is_same_state(&self, other: &Parcel) -> bool {
        (self.at, self.length, self.checksum) == (other.at, other.length, other.checksum)
            && self.membership == other.membership
    }
}

fn in_memory(offset: u64) -> usize {
    usize::try_from(offset).expect("the state is in memory")
}
