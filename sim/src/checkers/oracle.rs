//! Herlihy and Wing 1990, by way of Raft §8: the log is the linearization, and is checked in linear time.
//!
//! Every answer names the place of its command in the log, or the place up to which the state had come
//! that answered a query. So there is nothing to search: the executed commands, in log order, with the
//! queries between them, are run through a fresh state machine, and each answer must be what its client
//! was told. And what had been answered before something else was called stands before it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rivven_cluster::id::LogIndex;
use rivven_cluster::state_machine::StateMachine;

use super::{Rule, StateMachineSafety, Verdict, broken};
use crate::app::{Application, Call, Ticket};
use crate::history::{History, Operation, Outcome};

/// The rule; its books are the history and the executed commands.
pub struct Oracle;

/// The latest call among all that stands before, and whose it is.
type LatestCall = (u64, Ticket);

impl Oracle {
    /// Holds the history against the log.
    pub fn judge<A: Application>(app: &A, history: &History, commands: &StateMachineSafety) -> Verdict {
        let mut machine = app.machine();
        let mut seen = BTreeSet::new();
        let mut queries = queries(history);
        let mut latest = (0, Ticket { client: 0, operation: 0 });
        for (index, ticketed) in commands.in_order() {
            let later = queries.split_off(&index);
            judge_queries(&machine, &queries, &mut latest)?;
            queries = later;
            let sent = Ticket::unwrap(ticketed).and_then(|(ticket, command)| {
                let is_it = |call: &Call| matches!(call, Call::Command(sent) if sent == command);
                let operation = history.find(ticket).filter(|operation| is_it(&operation.call))?;
                seen.insert(ticket).then_some((command, operation))
            });
            let Some((command, operation)) = sent else {
                let what = format!("index {index} holds what no client sent, or what stands elsewhere, too");
                return broken(Rule::Oracle, what);
            };
            let answer = machine.apply(index, command);
            judge_answer(index, operation, &answer, latest)?;
            latest = latest.max((operation.called, operation.ticket));
        }
        judge_queries(&machine, &queries, &mut latest)
    }
}

/// The answered queries, by the index that they were answered at.
fn queries(history: &History) -> BTreeMap<LogIndex, Vec<&Operation>> {
    let mut queries: BTreeMap<LogIndex, Vec<&Operation>> = BTreeMap::new();
    for operation in history.operations() {
        if let (Call::Query(_), Outcome::Done { index, .. }) = (&operation.call, &operation.outcome) {
            queries.entry(*index).or_default().push(operation);
        }
    }
    queries
}

/// Judges queries on the present state of the machine. Those of one index commute.
fn judge_queries<M: StateMachine>(
    machine: &M,
    queries: &BTreeMap<LogIndex, Vec<&Operation>>,
    latest: &mut LatestCall,
) -> Verdict {
    for (index, queries) in queries {
        let before = *latest;
        for operation in queries {
            judge_answer(*index, operation, &machine.query(operation.call.bytes()), before)?;
            *latest = (*latest).max((operation.called, operation.ticket));
        }
    }
    Ok(())
}

/// Judges what the client of `operation` was told.
fn judge_answer(index: LogIndex, operation: &Operation, answer: &Bytes, latest: LatestCall) -> Verdict {
    let Outcome::Done { answer: told, .. } = &operation.outcome else { return Ok(()) };
    let ticket = operation.ticket;
    if told != answer {
        let what = format!("{ticket:?} at index {index} was answered {told:?}, the log says {answer:?}");
        return broken(Rule::Oracle, what);
    }
    if operation.returned.is_some_and(|returned| returned < latest.0) {
        let what = format!(
            "{ticket:?} at index {index} was answered before {:?} was called, which stands before it",
            latest.1
        );
        return broken(Rule::Oracle, what);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::KeyValueApp;
    use crate::shape::Shape;
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
            history.call(ticket(client), Call::Command(command), called);
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
    fn a_query_sees_what_was_acknowledged_before_it_was_asked() {
        let read_at = |index: u64, called: u64| {
            let (mut commands, mut history) = (StateMachineSafety::default(), History::default());
            let mut map = KeyValue::default();
            let stored = map.apply(LogIndex::new(5), &put());
            commands.applied(1, LogIndex::new(5), &ticket(1).wrap(&put()), b"").unwrap();
            history.call(ticket(1), Call::Command(put()), 1);
            history.end(ticket(1), 10, Outcome::Done { index: LogIndex::new(5), answer: stored });
            history.call(ticket(2), Call::Query(Bytes::from("k")), called);
            let state = if index < 5 { KeyValue::default() } else { map };
            let answer = state.query(b"k");
            history.end(ticket(2), 20, Outcome::Done { index: LogIndex::new(index), answer });
            Oracle::judge(&KeyValueApp::new(&Shape::light(1)), &history, &commands)
        };
        assert_eq!(read_at(5, 11), Ok(()));
        assert_eq!(read_at(4, 9), Ok(()), "they overlap");
        assert!(read_at(4, 11).is_err(), "the write had been acknowledged");
    }

    #[test]
    fn a_command_that_nobody_sent_is_a_violation() {
        let (mut commands, mut history) = (StateMachineSafety::default(), History::default());
        let app = KeyValueApp::new(&Shape::light(1));
        history.call(ticket(1), Call::Command(put()), 1);
        commands.applied(1, LogIndex::new(2), &ticket(1).wrap(&put()), b"").unwrap();
        assert_eq!(Oracle::judge(&app, &history, &commands), Ok(()));
        commands.applied(1, LogIndex::new(3), &ticket(1).wrap(&get()), b"").unwrap();
        assert!(Oracle::judge(&app, &history, &commands).is_err());
    }
}
