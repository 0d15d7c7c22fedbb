//! The only caller of raft-rs's `ready()`: what leaves raft-rs, and what it has to wait for.
//!
//! raft-rs hands out its work in numbered `Ready`s. Each holds things to make durable, messages that
//! may leave at once, messages that may leave only when this `Ready` *and all before it* are durable,
//! and entries to apply. Four traps lie here:
//!
//! * A `Ready` that writes nothing can still carry messages that wait for an earlier one: a repeated
//!   append is acknowledged without entries while the entries are still on their way to the disk. So
//!   its messages wait in line like all others, even if it writes nothing.
//! * A leader's messages leave at once, in parallel with its own write (Raft thesis §10.2.1). But a
//!   lone voter elects itself inside one call: the term that it leads is not durable yet, and a crash
//!   would let it use the term again for other entries. So a leader's messages wait as long as any
//!   `Ready` that changed term or vote is not durable.
//! * An answer to a heartbeat is among the messages that wait, yet it promises nothing but the term. A
//!   follower whose disk is slower than an election timeout would seem dead, and its leader would step
//!   down, although nobody has failed. So that one waits for term and vote only.
//! * raft-rs iterates over hash maps, and their order reaches the order of messages. So messages are
//!   sorted by addressee; the sort is stable, since to one addressee the order means something.

use raft::eraftpb::{self, MessageType};

use super::message::{Content, Entry, HardState, Message, Position};
use super::{Output, Persist, Raft, ReadyNumber};
use crate::id::{LogIndex, NodeId, Term};

impl Raft {
    /// Takes everything that raft-rs has ready and turns it into outputs.
    pub(super) fn collect_ready(&mut self) {
        self.ask_read();
        self.leave_joint();
        while self.raw.has_ready() {
            let mut ready = self.raw.ready();
            let entries = ready.take_entries();
            let end = entries.last().map(|last| position(last.index, last.term));
            let number = self.outstanding.hand_out(ready.number(), end);
            let snapshot = self.installing.take();
            if let Some(snapshot) = &snapshot {
                let before = self.raw.raft.raft_log.persisted.min(self.raw.store().start().index.value());
                let before = self.unrecorded.map_or(LogIndex::new(before), |(_, before)| before);
                self.unrecorded = Some((number, before));
                assert_eq!(ready.snapshot().get_metadata().index, snapshot.at.index.value(), "it was taken");
                self.raw.mut_store().replace(snapshot);
                self.unapplied.retain(|(at, _)| at.index > snapshot.at.index);
                self.outputs.push_back(Output::Membership(snapshot.membership.clone()));
            }
            let installed = snapshot.as_ref().map(|snapshot| snapshot.at.index);
            self.raw.mut_store().append(&entries);
            if !entries.is_empty() {
                self.appending = Some(number);
            }
            let hard_state = ready.hs().map(from_hard_state);
            self.note_ballot(number, hard_state);
            self.outputs.push_back(Output::Persist(Persist {
                number,
                snapshot,
                entries: entries.into_iter().map(Entry::from_raft).collect(),
                hard_state,
                must_sync: ready.must_sync(),
            }));
            self.send_all(ready.take_messages(), self.unsettled);
            let is_sign_of_life =
                |message: &eraftpb::Message| message.get_msg_type() == MessageType::MsgHeartbeatResponse;
            let (at_once, waiting) = ready.take_persisted_messages().into_iter().partition(is_sign_of_life);
            self.send_all(at_once, self.unsettled);
            self.send_all(waiting, Some(number));
            for read in ready.take_read_states() {
                self.confirm_read(&read.request_ctx, LogIndex::new(read.index));
            }
            let committed = ready.take_committed_entries();
            if !committed.is_empty() {
                let committed: Vec<Entry> = committed.into_iter().map(Entry::from_raft).collect();
                self.note_changes(&committed);
                self.outputs.push_back(Output::Commit(committed));
            }
            self.raw.advance_append_async(ready);
            if let Some(index) = installed {
                // Its state is durable and restored; only the record that names it is not. What raft-rs
                // does with this knowledge is its own business: what leaves waits for the record.
                let known_as = self.outstanding.settle(number);
                self.raw.on_persist_ready(known_as);
                self.raw.advance_apply_to(index.value());
            }
            self.ask_read();
        }
    }

    /// Remembers committed changes of the membership until they are applied.
    fn note_changes(&mut self, committed: &[Entry]) {
        let change = |entry: &Entry| match &entry.content {
            Content::Change(change) => Some((entry.at, change.clone())),
            Content::Command(_) => None,
        };
        self.unapplied.extend(committed.iter().filter_map(change));
    }

    /// Remembers a `Ready` that changes the term or the vote until it is durable.
    fn note_ballot(&mut self, number: ReadyNumber, hard_state: Option<HardState>) {
        let Some(hard_state) = hard_state else { return };
        let ballot = (hard_state.term, hard_state.vote);
        if ballot != self.ballot {
            self.ballot = ballot;
            self.unsettled = Some(number);
        }
    }

    fn send_all(&mut self, mut messages: Vec<eraftpb::Message>, after: Option<ReadyNumber>) {
        messages.sort_by_key(|message| message.to);
        for message in messages {
            if message.get_msg_type() == MessageType::MsgSnapshot {
                let to = NodeId::new(message.to).expect("raft-rs addresses its messages");
                self.offer_snapshot(to, after.is_none());
                continue;
            }
            let message = Message::from_raft(message);
            self.outputs.push_back(Output::Send { message, after });
        }
    }
}

fn position(index: u64, term: u64) -> Position {
    Position { index: LogIndex::new(index), term: Term::new(term) }
}

fn from_hard_state(hard_state: &eraftpb::HardState) -> HardState {
    HardState {
        term: Term::new(hard_state.term),
        vote: NodeId::new(hard_state.vote),
        commit: LogIndex::new(hard_state.commit),
    }
}
