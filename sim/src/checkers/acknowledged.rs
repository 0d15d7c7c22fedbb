//! Raft §8: what a client was told is committed stands at that place; what failed stands nowhere.
//!
//! A command of unknown fate may be there or not, once. Whether any command is there twice is judged by
//! state machine safety, since no two commands are equal.

use super::{Rule, StateMachineSafety, Verdict, broken};
use crate::app::Call;
use crate::history::{History, Outcome};

/// The rule; its books are the history.
pub struct Acknowledged;

impl Acknowledged {
    /// Holds what clients were told against what nodes executed.
    pub fn judge(history: &History, commands: &StateMachineSafety) -> Verdict {
        for operation in history.operations() {
            let Call::Command(command) = &operation.call else { continue };
            let ticketed = operation.ticket.wrap(command);
            let place = commands.place_of(&ticketed);
            match &operation.outcome {
                Outcome::Done { index, .. } if place != Some(*index) => {
                    let what = format!(
                        "{:?} was acknowledged at index {index}, but was executed at {place:?}",
                        operation.ticket
                    );
                    return broken(Rule::Acknowledged, what);
                }
                Outcome::Failed { reason } if place.is_some() => {
                    let what =
                        format!("{:?} failed ({reason}), but was executed at {place:?}", operation.ticket);
                    return broken(Rule::Acknowledged, what);
                }
                Outcome::Done { .. } | Outcome::Failed { .. } | Outcome::Unknown => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::Ticket;
    use bytes::Bytes;
    use rivven_cluster::id::LogIndex;

    fn judge(outcome: Outcome, executed_at: Option<u64>) -> Verdict {
        let ticket = Ticket { client: 1, operation: 1 };
        let command = Bytes::from("a");
        let mut commands = StateMachineSafety::default();
        if let Some(index) = executed_at {
            commands.applied(1, LogIndex::new(index), &ticket.wrap(&command), b"").unwrap();
        }
        let mut history = History::default();
        history.call(ticket, Call::Command(command), 1);
        history.end(ticket, 2, outcome);
        Acknowledged::judge(&history, &commands)
    }

    #[test]
    fn a_lost_or_moved_acknowledged_command_is_a_violation() {
        let done = || Outcome::Done { index: LogIndex::new(2), answer: Bytes::new() };
        assert_eq!(judge(done(), Some(2)), Ok(()));
        assert!(judge(done(), None).is_err());
        assert!(judge(done(), Some(3)).is_err());
    }

    #[test]
    fn a_failed_command_that_was_executed_is_a_violation_and_an_unknown_one_is_not() {
        let failed = || Outcome::Failed { reason: "busy".to_owned() };
        assert_eq!(judge(failed(), None), Ok(()));
        assert!(judge(failed(), Some(2)).is_err());
        assert_eq!(judge(Outcome::Unknown, Some(2)), Ok(()));
        assert_eq!(judge(Outcome::Unknown, None), Ok(()));
    }
}
