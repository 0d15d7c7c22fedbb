//! Each guard at the door of the Raft machine: the message that it stops is dropped and counted, and
//! nothing else changes.
//!
//! Most of these messages make raft-rs panic, or believe what is not so, if it hears them.

use crate::support::{Group, Member, at, entry, newborn, node, with_log};
use bytes::Bytes;
use rivven_cluster::id::{LogIndex, Term};
use rivven_cluster::machine::Machine as _;
use rivven_cluster::raft::{
    Ballot, Body, Change, Entry, Input, Membership, Message, Output, Position, Refusal, Role, Step, Verdict,
};
use rivven_cluster::time::Instant;

/// A follower of three, in term 3, with entries 2 to 5, of which 2 and 3 are committed.
fn follower() -> Member {
    let log = vec![entry(2, 2), entry(3, 2), entry(4, 3), entry(5, 3)];
    Member::new(1, with_log(3, 3, 3, log))
}

/// Node 1 of three, which leads.
fn leader() -> Member {
    let mut group = Group::new(3);
    group.elect(1);
    let leader = group.members.remove(&1).expect("node 1");
    assert_eq!(leader.role(), Role::Leader);
    leader
}

/// Node 1 of three, which has asked for votes in term 2.
fn candidate() -> Member {
    let mut candidate = Member::new(1, newborn(3));
    candidate.time_out();
    candidate.persist();
    candidate.receive(2, 2, Body::PreVoteResponse(Verdict { granted: true, commit: Position::default() }));
    assert_eq!(candidate.role(), Role::Candidate);
    candidate
}

fn append(previous: Position, entries: Vec<Entry>) -> Body {
    Body::Append { previous, commit: LogIndex::new(3), entries }
}

fn accepted(index: u64) -> Body {
    Body::AppendAccepted { index: LogIndex::new(index), commit: LogIndex::new(1) }
}

fn rejected(index: u64, hint: Position) -> Body {
    Body::AppendRejected { index: LogIndex::new(index), hint, commit: LogIndex::new(1) }
}

fn ballot(last: Position) -> Body {
    Body::Vote(Ballot { last, commit: Position::default(), transfer: false })
}

fn heartbeat(commit: u64) -> Body {
    Body::Heartbeat { commit: LogIndex::new(commit), context: Bytes::new() }
}

/// The message is dropped, counted, and leaves the machine as it was.
#[track_caller]
fn assert_refused(mut member: Member, from: u64, term: u64, body: Body, refusal: Refusal) {
    let message = Message { to: node(1), term: Term::new(term), body };
    assert_message_refused(&mut member, from, message, refusal);
}

#[track_caller]
fn assert_message_refused(member: &mut Member, from: u64, message: Message, refusal: Refusal) {
    let before = (member.raft.standing(), member.raft.indexes());
    member.sent.clear();
    member.held.clear();
    member.others.clear();
    member.handle(Input::Message { from: node(from), message });
    assert_eq!(member.others, [Output::Refused { from: node(from), refusal }]);
    assert_eq!(member.raft.refusals().get(&refusal), Some(&1));
    assert_eq!((member.raft.standing(), member.raft.indexes()), before);
    assert_eq!(member.sent, []);
    assert!(member.held.is_empty());
}

/// The message is heard.
#[track_caller]
fn assert_admitted(member: &mut Member, from: u64, term: u64, body: Body) {
    member.receive(from, term, body);
    assert!(member.raft.refusals().is_empty(), "{:?}", member.raft.refusals());
}

#[test]
fn a_message_for_another_node_is_dropped() {
    let message = Message { to: node(2), term: Term::new(3), body: accepted(2) };
    assert_message_refused(&mut leader(), 3, message, Refusal::Misaddressed);
}

#[test]
fn a_stranger_answers_nothing_and_an_impostor_says_nothing() {
    let accepted = Body::AppendAccepted { index: LogIndex::new(1), commit: LogIndex::new(1) };
    assert_refused(follower(), 9, 3, accepted, Refusal::Stranger);
    assert_refused(follower(), 9, 3, Body::TimeoutNow, Refusal::Stranger);
    assert_refused(follower(), 1, 3, heartbeat(2), Refusal::Stranger);
}

#[test]
fn term_zero_is_dropped_since_raft_rs_takes_it_for_a_message_of_its_own() {
    assert_refused(candidate(), 2, 0, append(at(1, 1), vec![]), Refusal::TermZero);
    assert_refused(follower(), 2, 0, ballot(at(9, 9)), Refusal::TermZero);
}

#[test]
fn a_term_that_no_sequence_of_elections_reaches_is_dropped_but_moves_ours_nearer() {
    const LEAP: u64 = 1 << 20;
    for (term, expected) in [(u64::MAX, 3 + LEAP), (3 + LEAP + 1, 3 + LEAP)] {
        let mut member = follower();
        member.receive(2, term, ballot(at(9, 9)));
        assert_eq!(member.raft.refusals().get(&Refusal::TermTooFarAhead), Some(&1));
        assert_eq!((member.term(), member.role()), (expected, Role::Follower));
        member.persist();
        assert_eq!(member.take_sent(), [], "it does not vote");
    }
    assert_admitted(&mut follower(), 2, 3 + LEAP, ballot(at(9, 9)));
}

/// A member whose term was pushed far ahead would otherwise be neither heard nor able to hear.
#[test]
fn a_member_that_was_pushed_far_ahead_is_caught_up_with() {
    let mut group = Group::new(3);
    group.elect(1);
    for push in 1..=3 {
        group.member(3).receive(2, push << 20, accepted(1));
    }
    group.members.remove(&2);
    for _ in 0..200 {
        group.member(1).time_out();
        group.settle();
        group.member(3).time_out();
        group.settle();
        if [1, 3]
            .into_iter()
            .any(|id| group.member(id).role() == Role::Leader && group.member(id).term() > 1 << 21)
        {
            return;
        }
    }
    panic!("two of three never elect a leader again");
}

#[test]
fn an_append_with_a_gap_is_dropped() {
    assert_refused(follower(), 2, 3, append(at(5, 3), vec![entry(7, 3)]), Refusal::MalformedAppend);
    let gap_inside = vec![entry(6, 3), entry(8, 3)];
    assert_refused(follower(), 2, 3, append(at(5, 3), gap_inside), Refusal::MalformedAppend);
}

#[test]
fn an_append_whose_terms_make_no_sense_is_dropped() {
    let decreasing = vec![entry(6, 3), entry(7, 2)];
    assert_refused(follower(), 2, 3, append(at(5, 3), decreasing), Refusal::MalformedAppend);
    assert_refused(follower(), 2, 3, append(at(5, 3), vec![entry(6, 4)]), Refusal::MalformedAppend);
    assert_refused(follower(), 2, 3, append(at(5, 4), vec![]), Refusal::MalformedAppend);
}

#[test]
fn an_append_after_an_index_without_a_term_is_dropped_since_raft_rs_would_find_that_it_matches() {
    assert_refused(follower(), 2, 3, append(at(9, 0), vec![entry(10, 3)]), Refusal::MalformedAppend);
    assert_refused(follower(), 2, 3, append(at(0, 3), vec![entry(1, 3)]), Refusal::MalformedAppend);
}

#[test]
fn an_append_at_the_end_of_all_indexes_is_dropped() {
    let end = at(u64::MAX - 1, 3);
    assert_refused(follower(), 2, 3, append(end, vec![entry(u64::MAX, 3)]), Refusal::MalformedAppend);
    assert_refused(follower(), 2, 3, append(at(u64::MAX, 3), vec![]), Refusal::MalformedAppend);
    assert_refused(follower(), 2, 3, append(at(1 << 61, 3), vec![]), Refusal::MalformedAppend);
}

#[test]
fn an_append_that_contradicts_what_is_committed_is_dropped_with_an_alarm() {
    let body = append(at(2, 2), vec![entry(3, 3)]);
    assert_refused(follower(), 2, 3, body, Refusal::ContradictsCommitted);
    assert!(Refusal::ContradictsCommitted.is_alarming());
}

#[test]
fn what_an_earlier_term_says_is_no_alarm() {
    let mut member = follower();
    assert_admitted(&mut member, 2, 2, append(at(1, 1), vec![entry(2, 1)]));
    let mut leader = leader();
    assert_admitted(&mut leader, 2, 1, accepted(100));
    assert_admitted(&mut leader, 2, 1, heartbeat(100));
}

#[test]
fn an_append_that_replaces_what_is_not_committed_is_heard() {
    let mut member = follower();
    assert_admitted(&mut member, 2, 4, append(at(3, 2), vec![entry(4, 4)]));
    assert_eq!(member.raft.indexes().last, LogIndex::new(4));
}

#[test]
fn a_heartbeat_whose_commit_lies_beyond_our_log_is_dropped_with_an_alarm() {
    assert_refused(follower(), 2, 3, heartbeat(6), Refusal::CommitBeyondLog);
    assert!(Refusal::CommitBeyondLog.is_alarming());
    assert_admitted(&mut follower(), 2, 3, heartbeat(5));
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_is_dropped() {
    let term = leader().term();
    assert_refused(leader(), 2, term, accepted(3), Refusal::AckBeyondLog);
    assert_refused(leader(), 2, term, accepted(u64::MAX), Refusal::AckBeyondLog);
    assert_admitted(&mut leader(), 2, term, accepted(2));
}

#[test]
fn a_hint_that_makes_no_sense_is_dropped() {
    let term = leader().term();
    assert_refused(leader(), 2, term, rejected(2, at(3, 1)), Refusal::AckBeyondLog);
    assert_refused(leader(), 2, term, rejected(9, at(9, 1)), Refusal::AckBeyondLog);
    assert_refused(leader(), 2, term, rejected(2, at(2, term + 1)), Refusal::AckBeyondLog);
    assert_refused(leader(), 2, term, rejected(2, at(0, 0)), Refusal::AckBeyondLog);
    assert_admitted(&mut leader(), 2, term, rejected(2, at(1, 1)));
}

#[test]
fn a_vote_that_nobody_can_have_been_asked_for_yet_is_dropped() {
    let mut member = follower();
    member.receive(2, 3, append(at(5, 3), vec![entry(6, 3)]));
    member.time_out();
    assert_eq!(member.role(), Role::PreCandidate);
    let granted = Body::PreVoteResponse(Verdict { granted: true, commit: Position::default() });
    let message = Message { to: node(1), term: Term::new(4), body: granted };
    assert_message_refused(&mut member, 2, message, Refusal::PrematureVote);
}

/// The log may look durable again although an older write of the same entry is what was confirmed.
/// raft-rs panics when it is elected with such a write outstanding.
#[test]
fn a_vote_is_premature_as_long_as_any_append_is_not_confirmed() {
    let mut member = Member::new(1, newborn(3));
    let command = Body::Append { previous: at(1, 1), commit: LogIndex::new(1), entries: vec![entry(2, 2)] };
    member.receive(2, 2, command.clone());
    let first = member.unconfirmed.take().expect("a write");
    member.receive(
        2,
        3,
        Body::Append { previous: at(1, 1), commit: LogIndex::new(1), entries: vec![entry(2, 3)] },
    );
    member.receive(2, 4, command);
    member.handle(Input::Persisted(first));
    assert_eq!(member.raft.indexes().persisted, member.raft.indexes().last, "it looks durable");
    member.time_out();
    assert_eq!(member.role(), Role::PreCandidate);
    let granted = Body::PreVoteResponse(Verdict { granted: true, commit: Position::default() });
    let message = Message { to: node(1), term: Term::new(5), body: granted };
    assert_message_refused(&mut member, 2, message, Refusal::PrematureVote);
}

#[test]
fn a_ballot_with_half_a_position_is_dropped() {
    assert_refused(follower(), 2, 4, ballot(at(9, 0)), Refusal::MalformedBallot);
    assert_refused(follower(), 2, 4, ballot(at(0, 9)), Refusal::MalformedBallot);
    let half = Verdict { granted: false, commit: at(9, 0) };
    assert_refused(candidate(), 2, 2, Body::VoteResponse(half), Refusal::MalformedBallot);
}

#[test]
fn a_heartbeat_that_confirms_a_read_which_nobody_asked_for_is_dropped() {
    let body = Body::Heartbeat { commit: LogIndex::new(2), context: Bytes::from(vec![0; 100]) };
    assert_refused(follower(), 2, 3, body, Refusal::MalformedContext);
}

/// While nothing is compacted no leader has a reason to send its state, so a frame cannot hold one:
/// raft-rs would replace the log and the voters by it.
#[test]
fn snapshots_and_local_messages_cannot_be_said() {
    use rivven_cluster::wire::codec;
    let kinds = codec::encode(&Body::TimeoutNow);
    assert_eq!(kinds.len(), 1, "the last kind is a single byte");
    for unknown in kinds[0] + 1..=u8::MAX {
        assert!(codec::decode::<Body>(&[unknown, 0, 0, 0]).is_err(), "kind {unknown}");
    }
}

#[test]
fn only_the_current_leader_may_hand_over() {
    assert_refused(follower(), 2, 3, Body::TimeoutNow, Refusal::NotFromLeader);
    let mut member = follower();
    assert_admitted(&mut member, 2, 3, heartbeat(3));
    assert_admitted(&mut member, 2, 3, Body::TimeoutNow);
    assert_eq!(member.role(), Role::Candidate);
}

/// raft-rs elects a lone voter on the spot, and wants its log durable: a learner that lies could make it panic.
#[test]
fn an_order_to_campaign_is_dropped_while_the_log_is_not_durable() {
    let mut recovered = newborn(1);
    recovered.snapshot.membership = Membership::of_voters([node(1), node(2)])
        .after(&Change::one(Step::Demote(node(2))), Term::new(1))
        .expect("it makes sense");
    let mut member = Member::new(1, recovered);
    assert_admitted(&mut member, 2, 3, heartbeat(1));
    let entries = vec![entry(2, 3)];
    let body = Body::Append { previous: at(1, 1), commit: LogIndex::new(1), entries };
    for body in [body, Body::TimeoutNow] {
        let message = Message { to: node(1), term: Term::new(3), body };
        // Both come before the machine is drained.
        member.raft.handle(Instant::ORIGIN, Input::Message { from: node(2), message });
    }
    assert_eq!(member.raft.refusals().get(&Refusal::PrematureHandOver), Some(&1));
    assert_eq!(member.role(), Role::Follower);
}

/// A suspended member may long be back, and lead: whoever is behind must listen, or never learns of it.
#[test]
fn a_suspended_member_is_heard_like_a_stranger_and_a_removed_one_not_at_all() {
    let with = |step| {
        let membership = Membership::of_voters([1, 2, 3].map(node)).after(&Change::one(step), Term::new(1));
        let mut recovered = newborn(3);
        recovered.snapshot.membership = membership.expect("it makes sense");
        Member::new(1, recovered)
    };
    let mut member = with(Step::Suspend(node(3)));
    assert_admitted(&mut member, 3, 3, heartbeat(1));
    assert_refused(with(Step::Suspend(node(3))), 3, 3, accepted(1), Refusal::Stranger);
    assert_refused(with(Step::Remove(node(3))), 3, 3, heartbeat(1), Refusal::Departed);
}

#[test]
fn a_second_leader_of_our_term_is_dropped_with_an_alarm() {
    let term = leader().term();
    assert_refused(leader(), 2, term, heartbeat(1), Refusal::SecondLeader);
    assert_refused(leader(), 2, term, append(at(2, term), vec![]), Refusal::SecondLeader);
    assert!(Refusal::SecondLeader.is_alarming());
}

#[test]
fn proposals_at_a_follower_never_reach_raft_rs_which_would_forward_them() {
    let mut member = follower();
    assert_admitted(&mut member, 2, 3, heartbeat(3));
    member.persist();
    member.take_sent();
    member.propose(2);
    assert!(matches!(member.others.last(), Some(Output::Declined { ids, .. }) if ids.len() == 2));
    assert_eq!(member.take_sent(), []);
}

#[test]
fn an_empty_proposal_is_nothing_since_raft_rs_panics_on_it() {
    let mut member = leader();
    member.propose(0);
    assert_eq!(member.raft.indexes().last, leader().raft.indexes().last);
}

#[test]
fn a_lone_voter_whose_log_is_not_durable_sits_its_election_out() {
    let mut member = Member::new(1, newborn(1));
    member.time_out();
    member.persist();
    assert_eq!(member.role(), Role::Leader);
    member.propose(1);
    assert_eq!(member.raft.indexes().commit, LogIndex::new(2), "the proposal is not durable yet");
    let body = Body::AppendAccepted { index: LogIndex::new(3), commit: LogIndex::new(2) };
    let message = Message { to: node(1), term: Term::new(member.term()), body };
    member.handle(Input::Message { from: node(2), message });
    assert_eq!(member.raft.refusals().get(&Refusal::Stranger), Some(&1), "nobody else is a member");
}
