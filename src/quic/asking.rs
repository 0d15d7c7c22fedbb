//! Asking the leader of a partition, whoever that is, until there is an answer or no time is left.
//!
//! Who leads is known from the metadata, which may be a moment old: who is asked in vain says so, and the metadata is
//! looked at again. What may have been done by somebody who did not answer is told from what certainly was not. A topic
//! that is created anew under the same name while somebody asks is another one, and not asked.

use core::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::client::{Client, ClientError};
use super::partitions::{PartitionError, PartitionManager, RouteBy};
use crate::id::PartitionId;
use crate::node::{Rejection, Reply, Request};
use crate::partition::replicas::io::{Answer, Ask, AskError};

/// How long one node may take before another one is looked for, beside what it is asked to wait.
const ATTEMPT: Duration = Duration::from_secs(3);
/// The pause before the next attempt.
const PAUSE: Duration = Duration::from_millis(30);

/// How asking has ended without an answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Unanswered {
    /// This is the answer of everybody; nothing was changed.
    Refused(AskError),
    /// There is no such topic or partition, or the cluster does not allow it.
    Failed(PartitionError),
    /// Nobody was there to do it in time. Nothing was changed; the last reason was this.
    TooLate(String),
    /// Somebody may have done it.
    Unknown(String),
}

/// What is asked.
pub(super) struct Question<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: u32,
    /// Which one that must be, if it was asked before.
    pub(super) id: Option<PartitionId>,
    pub(super) ask: Ask,
    /// How long a node waits before it answers, when there is nothing else to say.
    pub(super) waits: Duration,
    /// Whether it may be asked again although somebody may have done it.
    pub(super) is_repeatable: bool,
}

/// What one attempt has come to.
enum Attempt {
    Done(PartitionId, Answer),
    Over(Unanswered),
    /// Nothing was changed.
    Again(String),
    /// Something may have been.
    MaybeDone(String),
}

/// Asks the leader until `deadline`. Says which partition has answered, and what.
pub(super) async fn ask(
    partitions: &PartitionManager,
    question: &Question<'_>,
    deadline: Instant,
) -> Result<(PartitionId, Answer), Unanswered> {
    let (mut id, mut is_maybe_done) = (question.id, false);
    let mut reason = "nobody was asked".to_owned();
    while Instant::now() < deadline {
        match attempt(partitions, question, &mut id, deadline).await {
            Attempt::Done(id, answer) => return Ok((id, answer)),
            Attempt::Over(Unanswered::Refused(error)) if is_maybe_done => {
                return Err(Unanswered::Unknown(error.to_string()));
            }
            Attempt::Over(Unanswered::Failed(error)) if is_maybe_done => {
                return Err(Unanswered::Unknown(error.to_string()));
            }
            Attempt::Over(unanswered) => return Err(unanswered),
            Attempt::Again(why) => reason = why,
            // Who only asks can ask again, whatever became of the question.
            Attempt::MaybeDone(why) if !matches!(question.ask, Ask::Produce(_)) => reason = why,
            Attempt::MaybeDone(why) if question.is_repeatable => (is_maybe_done, reason) = (true, why),
            Attempt::MaybeDone(why) => return Err(Unanswered::Unknown(why)),
        }
        sleep(PAUSE.min(deadline.saturating_duration_since(Instant::now()))).await;
    }
    Err(if is_maybe_done { Unanswered::Unknown(reason) } else { Unanswered::TooLate(reason) })
}

async fn attempt(
    partitions: &PartitionManager,
    question: &Question<'_>,
    id: &mut Option<PartitionId>,
    deadline: Instant,
) -> Attempt {
    let Question { topic, partition, ask, waits, .. } = question;
    let route = match partitions.route(topic, RouteBy::Partition(*partition)) {
        Ok(route) => route,
        Err(error @ (PartitionError::Leaderless(_) | PartitionError::NodeUnknown(_))) => {
            return Attempt::Again(error.to_string());
        }
        Err(error) => return Attempt::Over(Unanswered::Failed(error)),
    };
    if *id.get_or_insert(route.partition) != route.partition {
        return Attempt::Over(Unanswered::Failed(PartitionError::TopicReplaced((*topic).to_owned())));
    }
    let time = deadline.saturating_duration_since(Instant::now()).min(ATTEMPT + *waits);
    let request = Request::Ask { partition: route.partition, epoch: Some(route.epoch), ask: ask.clone() };
    let client: &Client = partitions.client();
    let at = |what: String| format!("{}: {what}", route.address);
    match timeout(time, client.request(&route.address, request)).await {
        Err(_) => Attempt::MaybeDone(at("no answer in time".to_owned())),
        Ok(Ok(Reply::Told(Ok(answer)))) => Attempt::Done(route.partition, answer),
        Ok(Ok(Reply::Told(Err(error)))) => judge(error, &route.address.to_string()),
        Ok(Ok(Reply::Rejected(rejection @ (Rejection::NotFormed | Rejection::Halted | Rejection::Busy)))) => {
            Attempt::Again(at(rejection.to_string()))
        }
        Ok(Ok(Reply::Rejected(rejection))) => {
            Attempt::Over(Unanswered::Failed(ClientError::Rejected(rejection).into()))
        }
        Ok(Ok(other)) => Attempt::Over(Unanswered::Failed(ClientError::Answer(format!("{other:?}")).into())),
        Ok(Err(ClientError::Unavailable(why))) => Attempt::Again(at(why)),
        Ok(Err(error)) => Attempt::MaybeDone(at(error.to_string())),
    }
}

fn judge(error: AskError, address: &str) -> Attempt {
    let why = format!("{address}: {error}");
    match error {
        AskError::NotLeader { .. }
        | AskError::PartitionUnknown(_)
        | AskError::NotEnoughReplicas { .. }
        | AskError::Busy
        | AskError::EpochFenced { .. }
        | AskError::EpochUnknown { .. }
        | AskError::NotAvailable => Attempt::Again(why),
        AskError::NotEnoughReplicasAfterAppend | AskError::Deposed | AskError::TimedOut => {
            Attempt::MaybeDone(why)
        }
        AskError::OutOfSequence { .. }
        | AskError::StampWithoutAll
        | AskError::TooLarge { .. }
        | AskError::Malformed(_)
        | AskError::OutOfRange { .. } => Attempt::Over(Unanswered::Refused(error)),
    }
}
