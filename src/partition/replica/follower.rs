//! What a follower does: it asks for what comes next, cuts off what the leader does not have, and appends.

use super::io::{Answer, Batch, Effect, Fetch, Fetched};
use super::{Replica, Role};
use crate::id::{LeaderEpoch, NodeId, Offset};

impl Replica {
    /// What to ask the leader, and who that is. `None` if it does not follow, or while something of its log is not on the
    /// disk: what it says to have must be there.
    #[must_use]
    pub fn fetch(&self) -> Option<(NodeId, Fetch)> {
        let Role::Follower { leader, epoch } = self.role else { return None };
        self.log.is_durable().then(|| (leader, self.next_fetch(epoch)))
    }

    fn next_fetch(&self, leader_epoch: LeaderEpoch) -> Fetch {
        let (at, last_epoch) = (self.log.end, self.epochs.of_last_record(self.log.end));
        let knows = (self.high_watermark, self.log.start);
        Fetch { session: self.session, leader_epoch, at, last_epoch, knows }
    }

    /// The leader answers; with records, if it has some. Returns whether that was an answer to what is asked now: one that
    /// comes late, or twice, changes nothing.
    pub fn fetched(&mut self, fetched: &Fetched, records: Vec<Batch>) -> bool {
        let Role::Follower { epoch, .. } = self.role else { return false };
        // In one leader epoch the same end with the same last epoch is the same log.
        if fetched.fetch != self.next_fetch(epoch) {
            self.stats.answers_stale += 1;
            return false;
        }
        match fetched.answer {
            Answer::Matches { high_watermark, start } => self.append_all(records, high_watermark, start),
            Answer::Diverges { epoch, end } => return self.cut_to(epoch, end),
            Answer::OutOfRange { start } => self.restart(start),
            Answer::Refused(_) => {}
        }
        true
    }

    fn append_all(&mut self, records: Vec<Batch>, high_watermark: Offset, start: Offset) {
        for batch in records {
            if !self.follows(&batch) {
                self.stats.answers_malformed += 1;
                return;
            }
            self.epochs.begin(batch.epoch, batch.first);
            self.log.end = batch.end();
            self.effects.push_back(Effect::Append(batch));
        }
        // It may fall: a new leader learns late what is committed.
        self.high_watermark = high_watermark.min(self.log.end).max(self.log.start);
        self.trim(start);
    }

    /// Whether a batch comes next in the log.
    fn follows(&self, batch: &Batch) -> bool {
        let Role::Follower { epoch, .. } = self.role else { return false };
        let last = self.epochs.of_last_record(self.log.end);
        let is_next = batch.first == self.log.end && batch.count > 0;
        let fits = batch.first.value().checked_add(batch.count.into()).is_some();
        is_next && fits && batch.epoch <= epoch && last.is_none_or(|last| last <= batch.epoch)
    }

    /// Of `epoch` the leader's records end at `end`; of later ones that this log has, it has none (KIP-101, KIP-279).
    /// Tells whether something was cut off: whoever says so of a log that is all its own says nothing.
    fn cut_to(&mut self, epoch: LeaderEpoch, end: Offset) -> bool {
        let to = match self.epochs.end_of(epoch, self.log.end) {
            (Some(own), ends) if own == epoch => ends.min(end),
            // It has none of that epoch: what it has of later ones goes.
            (Some(_), ends) => ends,
            // It has none so early either, and the leader none so late: nothing is left.
            (None, _) => self.log.start,
        };
        let to = to.clamp(self.log.start, self.log.end);
        if to == self.log.end {
            self.stats.answers_malformed += 1;
            return false;
        }
        self.stats.cut += 1;
        self.epochs.truncate(to);
        self.log.end = to;
        self.log.durable = self.log.durable.min(to);
        self.log.cuts += 1;
        self.high_watermark = self.high_watermark.min(to);
        self.effects.push_back(Effect::Truncate(to));
        true
    }

    /// The leader has nothing that this log could be compared with (KAFKA-9491).
    fn restart(&mut self, start: Offset) {
        self.stats.restarted += 1;
        self.epochs.clear();
        (self.log.start, self.log.end, self.log.durable) = (start, start, start);
        self.log.cuts += 1;
        self.log.is_anew = true;
        self.high_watermark = start;
        self.effects.push_back(Effect::Restart(start));
    }
}
