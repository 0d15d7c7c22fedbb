//! Herlihy and Wing 1990, by way of Raft §8: the log is the linearization, and is checked in linear time.
//!
//! Every answer names the place of its command in the log. So there is nothing to search: the executed
//! commands, in log order, are run through a fresh state machine, and each answer must be what its
//! client was told. And a command that had been answered before another was called stands before it.

use std::collections::BTreeSet;

use rivven_cluster::state_machine::StateMachine;

use super::{Rule, StateMachineSafety, Verdict, broken};
use crate::app::{Application, Ticket};
use crate::history::{History, Outcome};

/// The rule; its books are the history and the executed commands.
pub struct Oracle;

impl Oracle {
    /// Holds the history against the log.
    pub fn judge<A: Application>(app: &A, history: &History, commands: &StateMachineSafety) -> Verdict {
        let mut machine = app.machine();
        let mut seen = BTreeSet::new();
        let mut latest_call = (0, Ticket { client: 0, operation: 0 });
        for (index, ticketed) in commands.in_order() {
            let sent = Ticket::unwrap(ticketed).and_then(|(ticket, command)| {
                let operation = history.find(ticket).filter(|operation| operation.command == command)?;
                seen.insert(ticket).then_some((ticket, command, operation))
            });
            let Some((ticket, command, operation)) = sent else {
                let what = format!("index {index} holds what no client sent, or what stands elsewhere, too");
                return broken(Rule::Oracle, what);
            };
            let answer = machine.apply(index, command);
            if let Outcome::Done { answer: told, .. } = &operation.outcome {
                if *told != answer {
                    let what =
                        format!("{ticket:?} at index {index} was answered {told:?}, the log says {answer:?}");
                    return broken(Rule::Oracle, what);
                }
                if operation.returned.is_some_and(|returned| returned < latest_call.0) {
                    let what = format!(
                        "{ticket:?} at index {index} was answered before {:?} was called, which stands before it",
                        latest_call.1
                    );
                    return broken(Rule::Oracle, what);
                }
            }
            latest_call = latest_call.max((operation.called, ticket));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::KeyValueApp;
    use crate::shape::Shape;
    use bytes::Bytes;
    use rivven_cluster::id::LogIndex;
    use rivven_cluster::kv::{Command, KeyValue};

    fn ticket(client: u64) -> Ticket {
        Ticket { client, operation: 1 }
    }

    fn put() -> Bytes {
        Command::Put { key: Bytes::from("k"), value: Bytes::from("v") }.encode()
    }

    fn get() -> Bytes {
        Command::Get { key: Bytes::from("k") }.encode()
    }

    /// A write and a read, executed in the given order; the read is told what a read after the write
    /// finds.
    fn judge(write_at: u64, write: (u64, u64), read_at: u64, read: (u64, u64)) -> Verdict {
        let (mut commands, mut history) = (StateMachineSafety::default(), History::default());
        let mut map = KeyValue::default();
        map.apply(LogIndex::new(2), &put());
        let (stored, found) = (map.apply(LogIndex::new(3), &put()), map.apply(LogIndex::new(4), &get()));
        let mut executed = [(write_at, 1, put(), write, stored), (read_at, 2, get(), read, found)];
        executed.sort_by_key(|(index, ..)| *index);
        for (index, client, command, (called, returned), answer) in executed {
            let index = LogIndex::new(index);
            commands.applied(1, index, &ticket(client).wrap(&command), b"").unwrap();
            history.call(ticket(client), command, called);
            history.end(ticket(client), returned, Outcome::Done { index, answer });
        }
        Oracle::judge(&KeyValueApp::new(&Shape::light(1)), &history, &commands)
    }

    #[test]
    fn an_answer_that_the_log_does_not_give_is_a_violation() {
        assert_eq!(judge(2, (1, 9), 3, (1, 9)), Ok(()));
        assert!(judge(3, (1, 9), 2, (1, 9)).is_err(), "it read what was written later");
    }

    #[test]
    fn an_order_against_real_time_is_a_violation() {
        assert_eq!(judge(2, (1, 2), 3, (3, 4)), Ok(()));
        assert!(judge(2, (3, 4), 3, (1, 2)).is_err());
    }

    #[test]
    fn a_command_that_nobody_sent_is_a_violation() {
        let (mut commands, mut history) = (StateMachineSafety::default(), History::default());
        let app = KeyValueApp::new(&Shape::light(1));
        history.call(ticket(1), put(), 1);
        commands.applied(1, LogIndex::new(2), &ticket(1).wrap(&put()), b"").unwrap();
        assert_eq!(Oracle::judge(&app, &history, &commands), Ok(()));
        commands.applied(1, LogIndex::new(3), &ticket(1).wrap(&get()), b"").unwrap();
        assert!(Oracle::judge(&app, &history, &commands).is_err());
    }
}
