//! The rules of Raft as the paper and the thesis state them, on machines fed by hand.
#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for single messages")]

use crate::support::{Group, Member, at, drain, entry, newborn, node, with_log};
use rivven_cluster::id::{BootId, LogIndex, NodeId, Term};
use rivven_cluster::machine::Machine;
use rivven_cluster::raft::{
    BIRTH, Ballot, Body, Flow, Message, Output, Position, Raft, Role, TICK, Timing, Verdict,
};
use rivven_cluster::rng::Seed;
use rivven_cluster::time::Instant;

fn granted(verdict: &Body) -> Option<bool> {
    match verdict {
        Body::VoteResponse(verdict) => Some(verdict.granted),
        _ => None,
    }
}

/// The answers of `member` to a vote request of `from`, once they are durable.
fn ask_for_vote(member: &mut Member, from: u64, term: u64, last: Position) -> Vec<Option<bool>> {
    let ballot = Ballot { last, commit: Position::default(), transfer: false };
    member.receive(from, term, Body::Vote(ballot));
    member.persist();
    member.take_sent().iter().map(|message| granted(&message.body)).collect()
}

fn append(previous: Position, commit: u64, entries: Vec<rivven_cluster::raft::Entry>) -> Body {
    Body::Append { previous, commit: LogIndex::new(commit), entries }
}

/// Raft §5.2: a node votes for at most one candidate in a term, first come, first served.
#[test]
fn a_node_votes_once_a_term() {
    let mut member = Member::new(1, newborn(3));
    assert_eq!(ask_for_vote(&mut member, 2, 2, at(1, 1)), [Some(true)]);
    assert_eq!(ask_for_vote(&mut member, 3, 2, at(1, 1)), [Some(false)]);
    assert_eq!(ask_for_vote(&mut member, 2, 2, at(1, 1)), [Some(true)], "a repeated request");
    assert_eq!(ask_for_vote(&mut member, 3, 3, at(1, 1)), [Some(true)], "a later term");
}

/// Raft §5.2: the vote of a term survives a restart.
#[test]
fn a_restarted_node_remembers_its_vote() {
    let mut recovered = newborn(3);
    recovered.hard_state.term = Term::new(2);
    recovered.hard_state.vote = Some(node(2));
    let mut member = Member::new(1, recovered);
    assert_eq!(ask_for_vote(&mut member, 3, 2, at(1, 1)), [Some(false)]);
}

/// Raft §5.4.1: a voter refuses a candidate whose log is less up to date than its own.
#[test]
fn a_candidate_with_a_shorter_or_older_log_is_refused() {
    let log = || vec![entry(2, 2), entry(3, 3)];
    let fresh = || Member::new(1, with_log(3, 3, 1, log()));
    assert_eq!(ask_for_vote(&mut fresh(), 2, 4, at(9, 2)), [Some(false)], "longer, but of an older term");
    assert_eq!(ask_for_vote(&mut fresh(), 2, 4, at(2, 3)), [Some(false)], "shorter, of the same term");
    assert_eq!(ask_for_vote(&mut fresh(), 2, 4, at(3, 3)), [Some(true)]);
}

/// Raft Fig. 2: a vote leaves only when it is on stable storage.
#[test]
fn a_vote_waits_for_the_disk() {
    let mut member = Member::new(1, newborn(3));
    let ballot = Ballot { last: at(1, 1), commit: Position::default(), transfer: false };
    member.receive(2, 2, Body::Vote(ballot));
    assert_eq!(member.take_sent(), []);
    member.persist();
    assert_eq!(member.take_sent().len(), 1);
}

/// Raft §5.3: a follower acknowledges entries only when they are on stable storage.
#[test]
fn an_acknowledgement_waits_for_the_disk() {
    let mut member = Member::new(1, newborn(3));
    member.receive(2, 2, append(at(1, 1), 1, vec![entry(2, 2)]));
    assert_eq!(member.take_sent(), []);
    member.persist();
    let accepted = Body::AppendAccepted { index: LogIndex::new(2), commit: LogIndex::new(1) };
    assert_eq!(member.take_sent(), [Message { to: node(2), term: Term::new(2), body: accepted }]);
}

/// A repeated append writes nothing, but its acknowledgement still waits for the first one's write.
#[test]
fn the_acknowledgement_of_a_repeated_append_waits_as_well() {
    let mut member = Member::new(1, newborn(3));
    for _ in 0..2 {
        member.receive(2, 2, append(at(1, 1), 1, vec![entry(2, 2)]));
    }
    assert_eq!(member.take_sent(), []);
    member.persist();
    assert_eq!(member.take_sent().len(), 2);
}

/// Raft §5.3: what does not follow the log is rejected, with a hint where to look.
#[test]
fn an_append_that_does_not_fit_is_rejected() {
    let mut member = Member::new(1, with_log(3, 3, 1, vec![entry(2, 2)]));
    member.receive(2, 3, append(at(5, 3), 1, vec![entry(6, 3)]));
    member.persist();
    let index = LogIndex::new(5);
    let body = Body::AppendRejected { index, hint: at(2, 2), commit: LogIndex::new(1) };
    assert_eq!(member.take_sent(), [Message { to: node(2), term: Term::new(3), body }]);
}

/// Raft §5.3: a leader's entries replace those of a follower that conflict with them.
#[test]
fn a_conflicting_tail_is_replaced() {
    let mut member = Member::new(1, with_log(3, 3, 1, vec![entry(2, 2), entry(3, 2)]));
    member.receive(2, 3, append(at(1, 1), 2, vec![entry(2, 3)]));
    member.persist();
    assert_eq!(member.raft.indexes().last, LogIndex::new(2));
    assert_eq!(member.committed, [entry(2, 3)]);
}

/// Raft §5.4.2, Fig. 8: a leader never counts replicas for an entry of an earlier term.
#[test]
fn an_entry_of_an_earlier_term_commits_only_with_one_of_the_current_term() {
    let mut leader = Member::new(1, with_log(3, 2, 1, vec![entry(2, 2)]));
    leader.time_out();
    leader.persist();
    let yes = Verdict { granted: true, commit: Position::default() };
    leader.receive(2, 3, Body::PreVoteResponse(yes));
    leader.persist();
    leader.receive(2, 3, Body::VoteResponse(yes));
    leader.persist();
    assert_eq!(leader.role(), Role::Leader);
    let accepted = |index| Body::AppendAccepted { index: LogIndex::new(index), commit: LogIndex::new(1) };
    leader.receive(2, 3, accepted(2));
    assert_eq!(leader.raft.indexes().commit, LogIndex::new(1), "index 2 is of term 2");
    leader.receive(2, 3, accepted(3));
    assert_eq!(leader.raft.indexes().commit, LogIndex::new(3), "index 3 is of term 3");
}

/// Raft §5.3, §5.5: what a majority holds is committed, in order, everywhere.
#[test]
fn a_command_is_committed_on_every_node() {
    let mut group = Group::new(3);
    group.elect(1);
    group.member(1).propose(3);
    group.settle();
    group.member(1).time_out();
    group.settle();
    let committed = group.member(1).committed.clone();
    assert_eq!(committed.iter().filter(|entry| entry.command().is_some()).count(), 3);
    for id in 2..=3 {
        assert_eq!(group.member(id).committed, committed, "node {id}");
    }
}

/// Raft §5.1: a leader that hears of a later term steps down.
#[test]
fn a_leader_steps_down_for_a_later_term() {
    let mut group = Group::new(3);
    group.elect(1);
    let leader = group.member(1);
    let later = leader.term() + 1;
    leader.receive(2, later, append(at(1, 1), 1, vec![]));
    assert_eq!((leader.role(), leader.term()), (Role::Follower, later));
}

/// Raft thesis §6.2: a leader that hears from no majority for an election timeout steps down.
#[test]
fn a_leader_without_a_majority_steps_down() {
    let mut group = Group::new(3);
    group.elect(1);
    let leader = group.member(1);
    for _ in 0..20 {
        leader.time_out();
        if leader.role() != Role::Leader {
            return;
        }
    }
    panic!("still leads");
}

/// Raft thesis §9.6: a node that cannot win does not raise its term, and disturbs nobody.
#[test]
fn an_isolated_node_keeps_its_term() {
    let mut member = Member::new(1, newborn(3));
    for _ in 0..10 {
        member.time_out();
        member.persist();
    }
    assert_eq!((member.role(), member.term()), (Role::PreCandidate, 1));
}

/// Raft thesis §10.2.1: a leader sends while it writes. But a lone voter elects itself inline, and
/// nothing may leave in a term that a crash could make it use twice.
#[test]
fn a_leader_whose_own_term_is_not_durable_sends_nothing() {
    let mut group = Group::new(3);
    group.elect(1);
    let leader = group.member(1);
    leader.propose(1);
    assert_eq!(leader.take_sent().len(), 2, "appends leave at once");

    let mut alone = Member::new(1, newborn(1));
    alone.time_out();
    assert_eq!(alone.role(), Role::Leader);
    assert_eq!(alone.raft.indexes().commit, LogIndex::new(1), "nothing commits before it is durable");
    assert_eq!(alone.take_sent(), []);
    alone.persist();
    assert_eq!(alone.raft.indexes().commit, LogIndex::new(2));
}

/// Follower timeouts lie in the configured range, are drawn anew, and follow from the seed.
#[test]
fn election_timeouts_are_drawn_from_the_seed_in_the_configured_range() {
    let timeouts = |seed: u64| {
        let timing = Timing::default();
        let mut raft = Raft::start(
            node(1),
            BootId::new(1),
            &timing,
            Flow::default(),
            Seed::new(seed),
            newborn(3),
            Instant::ORIGIN,
        )
        .unwrap();
        let (mut last, mut drawn) = (Instant::ORIGIN, Vec::new());
        for _ in 0..50 {
            let deadline = raft.deadline().unwrap();
            let waited = deadline.saturating_since(last);
            assert!(timing.election_timeout.contains(&waited), "{waited:?}");
            drawn.push(waited);
            last = deadline;
            raft.handle_timeout(deadline);
            drain(&mut raft);
        }
        drawn
    };
    assert_eq!(timeouts(1), timeouts(1));
    assert_ne!(timeouts(1), timeouts(2));
    let first = timeouts(1);
    assert!(first.iter().any(|timeout| *timeout != first[0]), "drawn anew after each campaign");
}

/// A node that was paused lives one longest timeout at most when it wakes up.
#[test]
fn a_long_pause_is_not_lived_through_in_one_instant() {
    let mut member = raft_alone();
    let woken = Instant::ORIGIN + TICK * 1_000_000;
    member.handle_timeout(woken);
    let campaigns = drain(&mut member)
        .into_iter()
        .filter(|output| matches!(output, Output::Send { message, .. } if matches!(message.body, Body::PreVote(_))))
        .count();
    assert!((2..=4).contains(&campaigns), "{campaigns} pre-votes, two a campaign");
    assert!(member.deadline().unwrap() > woken);
}

fn raft_alone() -> Raft {
    crate::support::raft(1, newborn(3), Flow::default())
}

/// An idle follower wakes up once a timeout, not at every tick.
#[test]
fn the_deadline_is_the_next_tick_that_does_something() {
    let raft = raft_alone();
    assert!(raft.deadline().unwrap().saturating_since(Instant::ORIGIN) > TICK * 10);
}

/// Messages leave in the order of their addressees, whatever order raft-rs's hash maps have.
#[test]
fn messages_are_sorted_by_addressee() {
    let mut member = Member::new(1, newborn(7));
    member.time_out();
    member.persist();
    let addressees: Vec<NodeId> = member.take_sent().iter().map(|message| message.to).collect();
    assert_eq!(addressees, (2..=7).map(node).collect::<Vec<_>>());
}

/// A follower answers its leader's heartbeats while its disk is at work: the answer promises nothing but
/// the term. What is acknowledged still waits (Raft §5.2, §5.3).
#[test]
fn a_heartbeat_is_answered_while_the_disk_is_at_work_but_never_before_its_term_is_durable() {
    let mut follower = Member::new(1, newborn(3));
    let heartbeat = || Body::Heartbeat { commit: BIRTH.index, context: bytes::Bytes::new() };
    let answers = |follower: &mut Member| {
        let is_answer = |message: &Message| matches!(message.body, Body::HeartbeatResponse { .. });
        follower.take_sent().into_iter().filter(is_answer).count()
    };
    follower.receive(2, 2, heartbeat());
    assert_eq!(answers(&mut follower), 0, "term 2 is not durable");
    follower.persist();
    assert_eq!(answers(&mut follower), 1);

    let append = Body::Append { previous: BIRTH, commit: BIRTH.index, entries: vec![entry(2, 2)] };
    follower.receive(2, 2, append);
    follower.receive(2, 2, heartbeat());
    assert_eq!(answers(&mut follower), 1, "the entry is not durable, and the answer does not care");
    assert_eq!(follower.held.len(), 1, "its acknowledgement waits");
}
