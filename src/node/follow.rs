//! Who follows the metadata from outside: it is sent the commands, and executes them itself.
//!
//! The metadata is a state machine: whoever has it at some index, and all commands since, has it now. So a client
//! fetches it once, and then asks for the commands after the last one that it has. A question to which there is no answer
//! yet waits until there is one, or for a while; so news travels at once, and an idle cluster costs a question now and
//! then.

use core::time::Duration;
use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::Node;
use super::answers::Question;
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
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Followers {
    /// What was executed after `since`, each with the bytes of its entry.
    kept: VecDeque<(LogIndex, Command, usize)>,
    bytes: usize,
    since: LogIndex,
    /// The last command that was executed, or refused.
    last: LogIndex,
    /// Who waits, what it has, and until when; in this order.
    waiting: VecDeque<(RequestId, LogIndex, Instant)>,
}

impl Followers {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiting.front().map(|(_, _, until)| *until)
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
        self.followers.last = ordered.at.index;
        if ordered.answer.is_ok() {
            self.followers.keep(ordered.at.index, ordered.command.clone(), ordered.length);
        }
        for (id, after, _) in core::mem::take(&mut self.followers.waiting) {
            self.answer_soon(id, Question::News { after });
        }
    }

    /// The last command to the metadata, or the state that replaced them.
    pub(super) fn last_news(&self) -> LogIndex {
        self.followers.last.max(self.followers.since)
    }

    /// The whole state was replaced: what led to it is not known.
    pub(super) fn begin_following(&mut self) {
        let waiting = core::mem::take(&mut self.followers.waiting);
        self.followers = Followers { since: self.applied, ..Followers::default() };
        self.answers.forget_metadata();
        for (id, ..) in waiting {
            self.refuse_request(id, Rejection::Forgotten);
        }
    }

    /// Somebody has the metadata up to `after`, and wants the rest.
    pub(super) fn answer_follower(&mut self, id: RequestId, after: LogIndex) {
        if self.raft.is_none() || after < self.last_news() {
            return self.ask(id, Question::News { after });
        }
        if self.followers.waiting.len() < WAITING_MAX {
            return self.followers.waiting.push_back((id, after, self.now + PATIENCE));
        }
        self.refuse_request(id, Rejection::Busy);
    }

    /// What has changed after `after`.
    pub(super) fn news(&mut self, after: LogIndex) -> Reply {
        if after < self.followers.since {
            return self.reject(Rejection::Forgotten);
        }
        Reply::Followed { applied: self.applied, commands: self.followers.after(after) }
    }

    /// There was nothing new for so long: whoever waits may ask again.
    pub(super) fn expire_followers(&mut self) {
        while self.followers.deadline().is_some_and(|until| until <= self.now) {
            let Some((id, ..)) = self.followers.waiting.pop_front() else { return };
            let reply = Reply::Followed { applied: self.applied, commands: Vec::new() };
            self.outputs.push_back(Output::Reply { id, reply });
        }
    }

    /// The node stops.
    pub(super) fn abandon_followers(&mut self) {
        for (id, ..) in core::mem::take(&mut self.followers.waiting) {
            self.refuse_request(id, Rejection::Halted);
        }
    }
}
