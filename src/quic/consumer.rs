//! `Consumer`: the committed records of a partition, in their order.

use core::time::Duration;
use std::sync::Arc;

use tokio::time::Instant;

use super::asking::{Question, Unanswered, ask};
use super::partitions::{PartitionError, PartitionManager};
use crate::id::{NodeId, Offset, PartitionId};
use crate::partition::records::{self, Record, RecordsError};
use crate::partition::replicas::io::{Answer, Ask, AskError, Consume};
use crate::time::WallSeconds;

/// How long a node waits for news before it says that there is none.
const WAIT: Duration = Duration::from_millis(500);
/// How many bytes of records are asked for at a time.
const BYTES: u32 = 1024 * 1024;

/// Where a [`Consumer`] begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StartAt {
    /// At the first record that is kept.
    Earliest,
    /// Behind the last one that is committed.
    Latest,
    /// Here.
    Offset(Offset),
}

/// A record, and where it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Consumed {
    /// Its place in the partition.
    pub offset: Offset,
    /// What was produced.
    pub record: Record,
    /// When it was written, by the clock of who led then.
    pub time: WallSeconds,
}

/// Why there are no records.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConsumeFailure {
    /// There is no such topic or partition, or the cluster does not allow it.
    #[error(transparent)]
    Partition(#[from] PartitionError),
    /// What was there is gone, or nothing is there yet: [seek](Consumer::seek).
    #[error(transparent)]
    Refused(#[from] AskError),
    /// Nobody could say in time. Try again.
    #[error("nobody could read in time; the last reason was: {0}")]
    TooLate(String),
    /// They are not what was produced.
    #[error("the records at {offset} cannot be read: {error}")]
    Damaged {
        /// Where.
        offset: Offset,
        /// What is wrong with them.
        error: RecordsError,
    },
}

impl From<Unanswered> for ConsumeFailure {
    fn from(unanswered: Unanswered) -> ConsumeFailure {
        match unanswered {
            Unanswered::Failed(error) => error.into(),
            Unanswered::Refused(error) => error.into(),
            Unanswered::TooLate(reason) | Unanswered::Unknown(reason) => ConsumeFailure::TooLate(reason),
        }
    }
}

/// Where a partition's log begins and ends, and how far its replicas are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Offsets {
    /// The place of the first record.
    pub start: Offset,
    /// The place after the last one that is committed.
    pub high_watermark: Offset,
    /// The place after the last one that the leader has.
    pub end: Offset,
    /// Up to where each follower has it, as far as the leader has heard.
    pub followers: Vec<(NodeId, Offset)>,
}

/// Reads the committed records of one partition, from one place on.
pub struct Consumer {
    partitions: Arc<PartitionManager>,
    topic: String,
    number: u32,
    /// Which one that is, once it was asked.
    id: Option<PartitionId>,
    position: StartAt,
}

impl Consumer {
    /// Makes a consumer. Nothing is asked before it is to read.
    #[must_use]
    pub fn new(
        partitions: Arc<PartitionManager>,
        topic: impl Into<String>,
        partition: u32,
        from: StartAt,
    ) -> Consumer {
        Consumer { partitions, topic: topic.into(), number: partition, id: None, position: from }
    }

    /// Goes on from somewhere else. If the topic was deleted, and created anew under its name, then in the new one.
    pub fn seek(&mut self, to: StartAt) {
        self.position = to;
        self.id = None;
    }

    /// Which partition it reads, once it has.
    #[must_use]
    pub fn partition(&self) -> Option<PartitionId> {
        self.id
    }

    /// The next records, as soon as there are some; none if there were none for half a second. The next call goes on behind
    /// them.
    ///
    /// # Errors
    ///
    /// [`ConsumeFailure`]; the place is as before.
    pub async fn next(&mut self) -> Result<Vec<Consumed>, ConsumeFailure> {
        let from = match self.position {
            StartAt::Offset(from) => from,
            StartAt::Earliest => self.offsets().await?.start,
            StartAt::Latest => self.offsets().await?.high_watermark,
        };
        let consume = Consume { from, bytes: BYTES, wait: WAIT, from_anybody: false };
        let batches = match self.ask(Ask::Consume(consume), WAIT).await? {
            Answer::Consumed { batches, .. } => batches,
            Answer::Produced { .. } | Answer::Offsets { .. } => Vec::new(),
        };
        let mut all = Vec::new();
        for batch in &batches {
            let records = records::decode(&batch.records, batch.count)
                .map_err(|error| ConsumeFailure::Damaged { offset: batch.first, error })?;
            let placed = records.into_iter().zip(0..);
            let time = batch.time;
            let placed =
                placed.map(|(record, place)| Consumed { offset: batch.first.plus(place), record, time });
            all.extend(placed.filter(|consumed| consumed.offset >= from));
        }
        self.position = StartAt::Offset(batches.last().map_or(from, |last| last.end().max(from)));
        Ok(all)
    }

    /// Where the log begins and ends.
    ///
    /// # Errors
    ///
    /// As [`Consumer::next`].
    pub async fn offsets(&mut self) -> Result<Offsets, ConsumeFailure> {
        match self.ask(Ask::Offsets, Duration::ZERO).await? {
            Answer::Offsets { start, high_watermark, end, followers } => {
                Ok(Offsets { start, high_watermark, end, followers })
            }
            Answer::Produced { .. } | Answer::Consumed { .. } => {
                Err(ConsumeFailure::TooLate("the answer makes no sense".to_owned()))
            }
        }
    }

    async fn ask(&mut self, what: Ask, waits: Duration) -> Result<Answer, Unanswered> {
        let deadline = Instant::now() + self.partitions.client().patience();
        let (topic, partition) = (&*self.topic, self.number);
        let question = Question { topic, partition, id: self.id, ask: what, waits, is_repeatable: true };
        let (id, answer) = ask(&self.partitions, &question, deadline).await?;
        self.id = Some(id);
        Ok(answer)
    }
}
