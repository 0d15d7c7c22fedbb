//! What sessions promise, held against a state machine that counts.

use super::*;
use crate::id::Term;

/// Sessions around a state machine that counts how often it executed anything.
#[derive(Default)]
struct Counter {
    sessions: Sessions,
    index: u64,
    executed: u64,
}

impl Counter {
    fn apply(&mut self, millis: u64, proposal: &Proposal) -> Applied {
        self.index += 1;
        let at = Position { index: LogIndex::new(self.index), term: Term::new(1) };
        let executed = &mut self.executed;
        let entry = proposal.seal(ClusterTime(millis));
        let execute = |_: &[u8]| {
            *executed += 1;
            Bytes::from(executed.to_string())
        };
        self.sessions.apply(at, &entry, execute, |_| unreachable!("nothing is asked of the metadata"))
    }

    fn open(&mut self, millis: u64, lifetime: u64) -> LogIndex {
        match self.apply(millis, &Proposal::Open { lifetime: Duration::from_secs(lifetime) }) {
            Applied::Opened(session) => session,
            other @ (Applied::Answered { .. }
            | Applied::Listed(..)
            | Applied::Metadata(_)
            | Applied::Expired
            | Applied::Malformed) => panic!("{other:?}"),
        }
    }
}

fn once(session: LogIndex, number: u64, oldest: u64) -> Proposal {
    let ticket = Ticket { session, number, oldest };
    Proposal::Once { ticket, command: Bytes::from_static(b"count") }
}

#[test]
fn a_command_that_comes_twice_is_executed_once_and_answered_alike() {
    let mut counter = Counter::default();
    let session = counter.open(0, 60);
    let first = counter.apply(1, &once(session, 7, 0));
    let Applied::Answered { at, answer, is_new: true } = first else { panic!("{first:?}") };
    counter.apply(2, &once(session, 8, 0));
    let again = counter.apply(3, &once(session, 7, 0));
    assert_eq!(again, Applied::Answered { at, answer, is_new: false });
    assert_eq!(counter.executed, 2);
}

#[test]
fn what_the_client_has_answers_to_is_forgotten_and_never_executed_again() {
    let mut counter = Counter::default();
    let session = counter.open(0, 60);
    counter.apply(1, &once(session, 1, 0));
    counter.apply(1, &once(session, 2, 2));
    assert_eq!(counter.apply(1, &once(session, 1, 0)), Applied::Expired);
    assert_eq!(counter.executed, 2);
}

#[test]
fn a_session_ends_when_its_lifetime_has_passed_in_cluster_time() {
    let mut counter = Counter::default();
    let session = counter.open(0, 10);
    counter.apply(9_000, &once(session, 1, 0));
    counter.apply(18_999, &Proposal::Command(Bytes::new()));
    assert_eq!(counter.sessions.count(), 1, "using it has put its end off");
    counter.apply(19_000, &Proposal::Command(Bytes::new()));
    assert_eq!(counter.sessions.count(), 0);
    assert_eq!(counter.apply(19_001, &once(session, 2, 0)), Applied::Expired);
}

#[test]
fn the_time_in_the_log_never_goes_back() {
    let mut counter = Counter::default();
    counter.open(5_000, 10);
    counter.apply(1_000, &Proposal::Command(Bytes::new()));
    assert_eq!(counter.sessions.time(), ClusterTime(5_000));
}

#[test]
fn one_session_too_many_ends_the_one_whose_end_is_nearest() {
    let mut counter = Counter::default();
    let long = counter.open(0, 100);
    let short = counter.open(0, 10);
    for _ in 2..SESSIONS_MAX {
        counter.open(0, 50);
    }
    counter.open(0, 50);
    assert_eq!(counter.sessions.count(), SESSIONS_MAX);
    assert_eq!(counter.apply(1, &once(short, 1, 0)), Applied::Expired);
    assert!(matches!(counter.apply(1, &once(long, 1, 0)), Applied::Answered { .. }));
}

#[test]
fn a_session_remembers_a_bounded_number_of_answers() {
    let mut counter = Counter::default();
    let session = counter.open(0, 60);
    let many = u64::try_from(ANSWERS_MAX).unwrap() + 1;
    for number in 0..many {
        counter.apply(1, &once(session, number, 0));
    }
    assert_eq!(counter.apply(1, &once(session, 0, 0)), Applied::Expired);
    assert!(matches!(counter.apply(1, &once(session, 1, 0)), Applied::Answered { is_new: false, .. }));
}

#[test]
fn a_snapshot_carries_sessions_with_their_answers() {
    let mut counter = Counter::default();
    let session = counter.open(0, 60);
    let first = counter.apply(1, &once(session, 1, 0));
    let table = codec::encode(&counter.sessions.table());
    let sessions = Sessions::of_table(codec::decode_state(&table).unwrap());
    assert_eq!(sessions, counter.sessions);
    counter.sessions = sessions;
    let again = counter.apply(2, &once(session, 1, 0));
    let (Applied::Answered { answer, .. }, Applied::Answered { answer: remembered, is_new: false, .. }) =
        (&first, &again)
    else {
        panic!("{first:?} {again:?}")
    };
    assert_eq!(answer, remembered);
}

#[test]
fn garbage_is_answered_and_changes_nothing() {
    let mut sessions = Sessions::default();
    let at = Position { index: LogIndex::new(2), term: Term::new(1) };
    let applied = sessions.apply(
        at,
        &[0xff; 4],
        |_| unreachable!("nothing is executed"),
        |_| unreachable!("nothing is asked of the metadata"),
    );
    assert_eq!((applied, sessions), (Applied::Malformed, Sessions::default()));
}
