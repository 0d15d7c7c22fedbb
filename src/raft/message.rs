//! What Raft nodes say to each other, as types of our own.
//!
//! Bytes from a peer never reach the protobuf parser of `raft`: a frame is decoded into these types,
//! judged by [`guard`](super::guard), and only then translated. What has no variant here cannot be
//! said by a peer: forwarded proposals, reads, and the messages that raft-rs sends to itself. A snapshot is
//! streamed apart, and reaches raft-rs only when it has been received and restored.
//! A message names its addressee, because `raft` does not check it; its sender is whoever the
//! certificate says, never a field.

use bytes::Bytes;
use raft::eraftpb;
use raft::eraftpb::{EntryType, MessageType};
use serde::{Deserialize, Serialize};

use super::membership::{Change, Membership};
use crate::id::{LogIndex, NodeId, Term};
use crate::payload;

/// One message of the consensus protocol.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Message {
    /// Whom it is for.
    pub to: NodeId,
    /// The sender's term (or, in a pre-vote, the term it would campaign in).
    pub term: Term,
    /// What it says.
    pub body: Body,
}

/// A place in a log, and the term of the entry there: two logs that share one share all before it
/// (Raft §5.3, the log matching property). Index 0 and term 0 go together and mean "nowhere".
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Position {
    /// The index of the entry.
    pub index: LogIndex,
    /// The term in which a leader created it.
    pub term: Term,
}

/// One entry of the replicated log.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Entry {
    /// Where it stands.
    pub at: Position,
    /// What it holds.
    pub content: Content,
}

/// What an [`Entry`] holds.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Content {
    /// A command; empty for the entry with which a leader opens its term (Raft §8).
    Command(#[serde(serialize_with = "payload::entry")] Bytes),
    /// A change of the membership (Raft §6).
    Change(Change),
}

/// The state of the replicated state machine at a point of the log, in place of the log before it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Snapshot {
    /// The last entry that it contains.
    pub at: Position,
    /// The members at that point.
    pub membership: Membership,
    /// What [`StateMachine::snapshot`](crate::state_machine::StateMachine::snapshot) gave.
    #[serde(serialize_with = "payload::snapshot")]
    pub state: Bytes,
}

/// What a node must remember to be safe (Raft Fig. 2, "persistent state").
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct HardState {
    /// The latest term that the node has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<NodeId>,
    /// The last entry that it knows to be committed.
    pub commit: LogIndex,
}

/// What a [`Message`] says.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Body {
    /// A leader's entries (Raft Fig. 2, AppendEntries).
    Append {
        /// The entry before the first of `entries`.
        previous: Position,
        /// The leader's commit index.
        commit: LogIndex,
        /// What to append; may be empty.
        entries: Vec<Entry>,
    },
    /// The follower's log holds everything up to `index`, durably.
    AppendAccepted {
        /// The last index that is known to match the leader's log.
        index: LogIndex,
        /// The follower's commit index.
        commit: LogIndex,
    },
    /// The follower has no entry that matches `previous`.
    AppendRejected {
        /// The index of the `previous` that did not fit.
        index: LogIndex,
        /// Where to look next (the largest place that may match).
        hint: Position,
        /// The follower's commit index.
        commit: LogIndex,
    },
    /// A candidate asks for a vote (Raft §5.2).
    Vote(Ballot),
    /// The answer to a vote.
    VoteResponse(Verdict),
    /// A node asks whether it would win, before it disturbs anybody (Raft thesis §9.6).
    PreVote(Ballot),
    /// The answer to a pre-vote.
    PreVoteResponse(Verdict),
    /// A leader is alive.
    Heartbeat {
        /// What the leader knows to be committed and on this follower.
        commit: LogIndex,
        /// The read that the answer confirms (Raft thesis §6.4); empty for none.
        context: Bytes,
    },
    /// The follower heard the heartbeat.
    HeartbeatResponse {
        /// The follower's commit index.
        commit: LogIndex,
        /// Repeated from the heartbeat.
        context: Bytes,
    },
    /// A leader hands over: campaign at once (Raft thesis §3.10).
    TimeoutNow,
}

/// A candidate's claim.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Ballot {
    /// The end of the candidate's log: voters refuse a candidate that is behind (Raft §5.4.1).
    pub last: Position,
    /// What the candidate knows to be committed.
    pub commit: Position,
    /// The leader asked for this campaign, so leases do not protect it.
    pub transfer: bool,
}

/// A voter's answer.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Verdict {
    /// Whether the vote is the candidate's.
    pub granted: bool,
    /// What the voter knows to be committed.
    pub commit: Position,
}

/// What raft-rs writes into the context of a vote that a leader asked for.
const CAMPAIGN_TRANSFER: &[u8] = b"CampaignTransfer";

impl Message {
    /// Translates a message of raft-rs.
    ///
    /// # Panics
    ///
    /// If it is of a kind that has no place on the wire: we never make raft-rs produce one.
    pub(super) fn from_raft(message: eraftpb::Message) -> Message {
        let to = NodeId::new(message.to).expect("raft-rs addresses its messages");
        Message { to, term: Term::new(message.term), body: Body::from_raft(message) }
    }

    /// Translates into a message of raft-rs that `from` sent.
    pub(super) fn into_raft(self, from: NodeId) -> eraftpb::Message {
        let mut message = self.body.into_raft();
        message.from = from.value();
        message.to = self.to.value();
        message.term = self.term.value();
        message
    }
}

impl Body {
    fn from_raft(mut message: eraftpb::Message) -> Body {
        let commit = LogIndex::new(message.commit);
        let index = LogIndex::new(message.index);
        let at = Position { index, term: Term::new(message.log_term) };
        let context = message.take_context();
        match message.get_msg_type() {
            MessageType::MsgAppend => {
                let entries = message.take_entries().into_iter().map(Entry::from_raft).collect();
                Body::Append { previous: at, commit, entries }
            }
            MessageType::MsgAppendResponse if message.reject => {
                let hint = Position { index: LogIndex::new(message.reject_hint), term: at.term };
                Body::AppendRejected { index, hint, commit }
            }
            MessageType::MsgAppendResponse => Body::AppendAccepted { index, commit },
            MessageType::MsgRequestVote => Body::Vote(Ballot::from_raft(&message, at, &context)),
            MessageType::MsgRequestPreVote => Body::PreVote(Ballot::from_raft(&message, at, &context)),
            MessageType::MsgRequestVoteResponse => Body::VoteResponse(Verdict::from_raft(&message)),
            MessageType::MsgRequestPreVoteResponse => Body::PreVoteResponse(Verdict::from_raft(&message)),
            MessageType::MsgHeartbeat => Body::Heartbeat { commit, context },
            MessageType::MsgHeartbeatResponse => Body::HeartbeatResponse { commit, context },
            MessageType::MsgTimeoutNow => Body::TimeoutNow,
            local @ (MessageType::MsgHup
            | MessageType::MsgBeat
            | MessageType::MsgPropose
            | MessageType::MsgTransferLeader
            | MessageType::MsgUnreachable
            | MessageType::MsgSnapshot
            | MessageType::MsgSnapStatus
            | MessageType::MsgCheckQuorum
            | MessageType::MsgReadIndex
            | MessageType::MsgReadIndexResp) => unreachable!("{local:?} never leaves a node"),
        }
    }

    fn into_raft(self) -> eraftpb::Message {
        let mut message = eraftpb::Message::default();
        match self {
            Body::Append { previous, commit, entries } => {
                message.set_msg_type(MessageType::MsgAppend);
                message.index = previous.index.value();
                message.log_term = previous.term.value();
                message.commit = commit.value();
                message.set_entries(entries.into_iter().map(Entry::into_raft).collect());
            }
            Body::AppendAccepted { index, commit } => {
                message.set_msg_type(MessageType::MsgAppendResponse);
                message.index = index.value();
                message.commit = commit.value();
            }
            Body::AppendRejected { index, hint, commit } => {
                message.set_msg_type(MessageType::MsgAppendResponse);
                message.reject = true;
                message.index = index.value();
                message.reject_hint = hint.index.value();
                message.log_term = hint.term.value();
                message.commit = commit.value();
            }
            Body::Vote(ballot) => ballot.into_raft(&mut message, MessageType::MsgRequestVote),
            Body::PreVote(ballot) => ballot.into_raft(&mut message, MessageType::MsgRequestPreVote),
            Body::VoteResponse(verdict) => {
                verdict.into_raft(&mut message, MessageType::MsgRequestVoteResponse);
            }
            Body::PreVoteResponse(verdict) => {
                verdict.into_raft(&mut message, MessageType::MsgRequestPreVoteResponse);
            }
            Body::Heartbeat { commit, context } => {
                message.set_msg_type(MessageType::MsgHeartbeat);
                message.commit = commit.value();
                message.context = context;
            }
            Body::HeartbeatResponse { commit, context } => {
                message.set_msg_type(MessageType::MsgHeartbeatResponse);
                message.commit = commit.value();
                message.context = context;
            }
            Body::TimeoutNow => message.set_msg_type(MessageType::MsgTimeoutNow),
        }
        message
    }
}

impl Ballot {
    fn from_raft(message: &eraftpb::Message, last: Position, context: &[u8]) -> Ballot {
        Ballot { last, commit: commit_position(message), transfer: context == CAMPAIGN_TRANSFER }
    }

    fn into_raft(self, message: &mut eraftpb::Message, kind: MessageType) {
        message.set_msg_type(kind);
        message.index = self.last.index.value();
        message.log_term = self.last.term.value();
        message.commit = self.commit.index.value();
        message.commit_term = self.commit.term.value();
        if self.transfer {
            message.context = Bytes::from_static(CAMPAIGN_TRANSFER);
        }
    }
}

impl Verdict {
    fn from_raft(message: &eraftpb::Message) -> Verdict {
        Verdict { granted: !message.reject, commit: commit_position(message) }
    }

    fn into_raft(self, message: &mut eraftpb::Message, kind: MessageType) {
        message.set_msg_type(kind);
        message.reject = !self.granted;
        message.commit = self.commit.index.value();
        message.commit_term = self.commit.term.value();
    }
}

fn commit_position(message: &eraftpb::Message) -> Position {
    Position { index: LogIndex::new(message.commit), term: Term::new(message.commit_term) }
}

impl Entry {
    /// An entry that holds a command.
    #[must_use]
    pub fn of_command(at: Position, command: impl Into<Bytes>) -> Entry {
        Entry { at, content: Content::Command(command.into()) }
    }

    /// The command, if it holds one that is not empty.
    #[must_use]
    pub fn command(&self) -> Option<&Bytes> {
        match &self.content {
            Content::Command(command) if !command.is_empty() => Some(command),
            Content::Command(_) | Content::Change(_) => None,
        }
    }

    /// The bytes that it costs, beside its frame.
    #[must_use]
    pub fn length(&self) -> usize {
        match &self.content {
            Content::Command(command) => command.len(),
            Content::Change(change) => change.encode().len(),
        }
    }

    pub(super) fn from_raft(mut entry: eraftpb::Entry) -> Entry {
        let at = Position { index: LogIndex::new(entry.index), term: Term::new(entry.term) };
        let content = match entry.get_entry_type() {
            EntryType::EntryNormal => Content::Command(entry.take_data()),
            EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
                let change = Change::decode(entry.get_context());
                Content::Change(change.expect("a change in the log was encoded here"))
            }
        };
        Entry { at, content }
    }

    pub(super) fn into_raft(self) -> eraftpb::Entry {
        let mut entry = self.content.into_raft();
        (entry.index, entry.term) = (self.at.index.value(), self.at.term.value());
        entry
    }
}

impl Content {
    /// As raft-rs keeps it. It looks into `data` of a change only when one is proposed, and knows nothing of
    /// ours, which stands in `context`.
    pub(super) fn into_raft(self) -> eraftpb::Entry {
        let mut entry = eraftpb::Entry::default();
        match self {
            Content::Command(command) => entry.data = command,
            Content::Change(change) => {
                entry.set_entry_type(EntryType::EntryConfChangeV2);
                entry.context = change.encode().into();
            }
        }
        entry
    }
}
