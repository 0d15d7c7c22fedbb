//! What producers write: once, however often they send it.

use core::cmp::Ordering;
use core::time::Duration;

use super::Replicas;
use super::io::{Answer, Ask, AskError, Produce};
use super::serving::Consumer;
use crate::id::{LeaderEpoch, Offset, PartitionId, RequestId};
use crate::partition::records;
use crate::partition::replica::io::{Acks, ProduceError};
use crate::partition::replica::producers::Sequel;
use crate::partition::replica::{self};
use crate::time::Instant;

/// How long a producer waits at least, and at most.
const TIMEOUT_MIN: Duration = Duration::from_millis(1);
const TIMEOUT_MAX: Duration = Duration::from_secs(300);

impl Replicas {
    /// A producer or a consumer wants something of a partition, which is led since then as far as it knows (KIP-320). It is
    /// answered once, by an [`Output::Reply`].
    ///
    /// [`Output::Reply`]: super::io::Output::Reply
    pub fn handle_ask(
        &mut self,
        now: Instant,
        request: RequestId,
        (id, epoch): (PartitionId, Option<LeaderEpoch>),
        ask: Ask,
    ) {
        if let Err(error) = self.agrees(id, epoch) {
            return self.reply(request, Err(error));
        }
        let answer = match ask {
            Ask::Produce(produce) => match self.produce(now, request, id, produce) {
                Ok(()) => return,
                Err(error) => Err(error),
            },
            Ask::Consume(consume) => match self.may_wait().and_then(|()| self.consume_from(id, &consume)) {
                Ok(()) => return self.park_consumer(id, Consumer::new(request, consume, now)),
                Err(error) => Err(error),
            },
            Ask::Offsets => self.offsets(id),
        };
        self.reply(request, answer);
    }

    /// Whether whoever asks knows as much of the partition as this node does.
    fn agrees(&self, id: PartitionId, epoch: Option<LeaderEpoch>) -> Result<(), AskError> {
        let Some((epoch, replica)) = epoch.zip(self.replica(id)) else { return Ok(()) };
        let current = replica.view().partition.leader_epoch;
        match epoch.cmp(&current) {
            Ordering::Less => Err(AskError::EpochFenced { current }),
            Ordering::Equal => Ok(()),
            Ordering::Greater => Err(AskError::EpochUnknown { current }),
        }
    }

    pub(super) fn may_wait(&self) -> Result<(), AskError> {
        let waiting = self.producers + self.patience.len() + self.reads.len();
        if waiting < self.settings.waiting_max { Ok(()) } else { Err(AskError::Busy) }
    }

    fn produce(
        &mut self,
        now: Instant,
        request: RequestId,
        id: PartitionId,
        produce: Produce,
    ) -> Result<(), AskError> {
        self.admit(&produce)?;
        let Produce { acks, timeout, count, stamp, records } = produce;
        let wall = self.wall(now).unwrap_or_default();
        let hosted = self.hosted.get_mut(&id).ok_or(AskError::PartitionUnknown(id))?;
        // A clock that is behind makes nothing older than what was there before.
        let time = wall.max(hosted.chunks.latest());
        let until = now + timeout.clamp(TIMEOUT_MIN, TIMEOUT_MAX);
        let sequel = stamp.map_or(Sequel::Next, |stamp| hosted.producers.judge(stamp, count));
        match sequel {
            // Who does not lead cannot say what is missing.
            Sequel::Gap { expected } if hosted.replica.leads().is_some() => {
                return Err(AskError::OutOfSequence { expected });
            }
            Sequel::Repeats(written) => hosted.replica.produced_before(request, acks, until, written),
            Sequel::Next | Sequel::Gap { .. } => {
                let produce = replica::Produce { request, acks, until, count, stamp, time, records };
                hosted.replica.produce(produce);
            }
        }
        if acks == Acks::None {
            self.reply(request, Ok(Answer::Produced { first: None }));
        } else {
            self.producers += 1;
        }
        self.carry_out(id);
        Ok(())
    }

    /// Whether a producer's records are taken.
    fn admit(&self, produce: &Produce) -> Result<(), AskError> {
        let (length, limit) = (produce.records.len(), self.settings.batch_bytes_max);
        if length > limit {
            let in_bytes = |length| u64::try_from(length).unwrap_or(u64::MAX);
            return Err(AskError::TooLarge { length: in_bytes(length), limit: in_bytes(limit) });
        }
        if produce.count == 0 {
            return Err(AskError::Malformed(records::RecordsError::Count));
        }
        if produce.stamp.is_some() && produce.acks != Acks::All {
            return Err(AskError::StampWithoutAll);
        }
        records::holds(&produce.records, produce.count)?;
        if self.open_bytes + self.written_bytes + length > self.settings.unwritten_bytes_max {
            return Err(AskError::Busy);
        }
        self.may_wait()
    }

    pub(super) fn reply_to_producer(&mut self, request: RequestId, result: Result<Offset, ProduceError>) {
        self.producers -= 1;
        let answer = result.map(|first| Answer::Produced { first: Some(first) });
        self.reply(request, answer.map_err(AskError::from));
    }
}
