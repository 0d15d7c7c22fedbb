//! Who follows the metadata from outside: it is sent the commands, and executes them itself.
//!
//! The metadata is a state machine: whoever has it at some index, and all commands since, has it now. So a client
//! fetches it once, and then asks for the commands after the last one that it has. A question to which there is no answer
//! yet waits until there is one, or for a while; so news travels at once, and an idle cluster costs a question now and
//! then.

use core::time::Duration;
use std::collections::VecDeque;

use super::Node;
use super::io::{Output, Rejection, Reply};
use crate::id::{LogIndex, RequestId};
use crate::partition::metadata::Command;
use crate::session::Ordered;
use crate::state_machine::StateMachine;
use crate::time::Instant;

/// The most commands that are kept for those who follow.
const KEPT_MAX: usize = 4096;
/// The most bytes of their entries: all of them fit into a frame.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// The most questions that wait: each is sent the next command.
const WAITING_MAX: usize = 256;
/// So long a question waits at most.
const PATIENCE: Duration = Duration::from_secs(5);

/// The last commands, and who waits for the next one.
#[derive(Debug, Default)]
pub(super) struct Followers {
    /// What was executed after `since`, each with the bytes of its entry.
    kept: VecDeque<(LogIndex, Command, usize)>,
    bytes: usize,
    since: LogIndex,
    /// The last command that was executed, or refused.
    last: LogIndex,
    /// Who waits, and until when; in this order.
    waiting: VecDeque<(RequestId, Instant)>,
}

impl Followers {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiting.front().map(|(_, until)| *until)
    }

    fn keep(&mut self, at: LogIndex, command: Command, length: usize) {
        self.kept.push_back((at, command, length));
        self.bytes += length;
        while self.kept.len() > KEPT_MAX || (self.bytes > BYTES_MAX && self.kept.len() > 1) {
            let Some((index, _, length)) = self.kept.pop_front() else { return };
            self.bytes -= length;
            self.since = index;
        }
    }

    fn after(&self, index: LogIndex) -> Vec<(LogIndex, Command)> {
        let first = self.kept.partition_point(|(at, _, _)| *at <= index);
        self.kept.iter().skip(first).map(|(at, command, _)| (*at, command.clone())).collect()
    }
}

impl<S: StateMachine> Node<S> {
    /// A command to the metadata was executed: whoever waits is told.
    pub(super) fn follow(&mut self, ordered: &Ordered) {
        let applied = ordered.at.index;
        self.followers.last = applied;
        let changed = ordered.answer.is_ok().then(|| (applied, ordered.command.clone()));
        for (id, _) in core::mem::take(&mut self.followers.waiting) {
            let commands = changed.iter().cloned().collect();
            self.outputs.push_back(Output::Reply { id, reply: Reply::Followed { applied, commands } });
        }
        if let Some((at, command)) = changed {
            self.followers.keep(at, command, ordered.length);
        }
    }

    /// The whole state was replaced: what led to it is not known.
    pub(super) fn begin_following(&mut self) {
        let waiting = core::mem::take(&mut self.followers.waiting);
        self.followers = Followers { since: self.applied, ..Followers::default() };
        for (id, _) in waiting {
            let reply = self.reject(Rejection::Forgotten);
            self.outputs.push_back(Output::Reply { id, reply });
        }
    }

    /// Somebody has the metadata up to `after`, and wants the rest.
    pub(super) fn answer_follower(&mut self, id: RequestId, after: LogIndex) {
        let followers = &mut self.followers;
        let reply = if self.raft.is_none() {
            self.reject(Rejection::NotFormed)
        } else if after < followers.since {
            self.reject(Rejection::Forgotten)
        } else if followers.last > after {
            Reply::Followed { applied: self.applied, commands: followers.after(after) }
        } else if followers.waiting.len() >= WAITING_MAX {
            self.reject(Rejection::Busy)
        } else {
            return followers.waiting.push_back((id, self.now + PATIENCE));
        };
        self.outputs.push_back(Output::Reply { id, reply });
    }

    /// There was nothing new for so long: whoever waits may ask again.
    pub(super) fn expire_followers(&mut self) {
        while self.followers.deadline().is_some_and(|until| until <= self.now) {
            let Some((id, _)) = self.followers.waiting.pop_front() else { return };
            let reply = Reply::Followed { applied: self.applied, commands: Vec::new() };
            self.outputs.push_back(Output::Reply { id, reply });
        }
    }

    /// The node stops.
    pub(super) fn abandon_followers(&mut self) {
        for (id, _) in core::mem::take(&mut self.followers.waiting) {
            let reply = self.reject(Rejection::Halted);
            self.outputs.push_back(Output::Reply { id, reply });
        }
    }
}
