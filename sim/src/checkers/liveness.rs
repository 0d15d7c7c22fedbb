//! Raft §5.4.3 and §9.3, availability: with a quorum healed the cluster answers, with all healed everybody.
//!
//! First a random quorum is healed and the rest left broken: within a bound, a command is acknowledged.
//! Then all is healed: every command called after the bound is.

use super::{Rule, Verdict, broken};
use crate::history::{History, Operation, Outcome};
use crate::shape::Shape;

/// The rule; its books are the history.
pub struct Liveness;

impl Liveness {
    /// Judges a run whose faults have ended as its shape says.
    pub fn judge(shape: &Shape, history: &History) -> Verdict {
        let bound = shape.service_bound();
        let nanos = |millis: u64| millis * 1_000_000;
        let called_in = |begins: u64, ends: u64| {
            let times = nanos(begins)..nanos(ends);
            history.operations().iter().filter(move |operation| times.contains(&operation.called))
        };
        if is_long_enough(shape, bound) {
            let last = shape.quorum_until - shape.patience;
            let mut asked = called_in(shape.faults_until + bound, last).peekable();
            if asked.peek().is_some() && !asked.any(is_done) {
                let what = format!("{bound} ms after a quorum was healed it still answered nobody");
                return broken(Rule::Liveness, what);
            }
        }
        let unanswered =
            called_in(shape.quorum_until + bound, shape.ends).find(|operation| !is_served(operation));
        match unanswered {
            None => Ok(()),
            Some(Operation { ticket, outcome, .. }) => {
                let what = format!("{bound} ms after all was healed, {ticket:?} ended as {outcome:?}");
                broken(Rule::Liveness, what)
            }
        }
    }
}

/// Whether the phase in which only a quorum is healed leaves time to look.
fn is_long_enough(shape: &Shape, bound: u64) -> bool {
    shape.faults_until + bound + shape.patience < shape.quorum_until
}

fn is_done(operation: &Operation) -> bool {
    matches!(operation.outcome, Outcome::Done { .. })
}

/// A refusal because of a limit is an answer.
fn is_served(operation: &Operation) -> bool {
    match &operation.outcome {
        Outcome::Done { .. } => true,
        Outcome::Failed { reason } => reason.contains("as many commands under way as it may"),
        Outcome::Unknown => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::{Call, Ticket};
    use bytes::Bytes;
    use rivven_cluster::id::LogIndex;

    fn judge(called_ms: u64, outcome: Outcome) -> Verdict {
        let mut shape = Shape::light(1);
        (shape.faults_until, shape.quorum_until) = (10_000, 30_000);
        (shape.work_until, shape.ends) = (45_000, 50_000);
        let (mut history, ticket) = (History::default(), Ticket { client: 1, operation: 1 });
        history.call(ticket, Call::Command(Bytes::new()), called_ms * 1_000_000);
        history.end(ticket, called_ms * 1_000_000 + 1, outcome);
        Liveness::judge(&shape, &history)
    }

    #[test]
    fn silence_after_a_heal_is_a_violation_and_silence_before_it_is_not() {
        let done = || Outcome::Done { index: LogIndex::new(2), answer: Bytes::new() };
        assert_eq!(judge(9000, Outcome::Unknown), Ok(()));
        assert!(judge(20_000, Outcome::Unknown).is_err());
        assert_eq!(judge(20_000, done()), Ok(()));
        assert!(judge(40_000, Outcome::Failed { reason: "nobody leads".to_owned() }).is_err());
        assert_eq!(judge(40_000, done()), Ok(()));
    }
}
