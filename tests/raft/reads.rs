//! Reads without an entry (Raft thesis §6.4): who confirms them, and at which index.

#![expect(clippy::wildcard_enum_match_arm, reason = "few outputs matter here")]

use crate::support::{Group, Member, newborn, node};
use bytes::Bytes;
use rivven_cluster::id::{BootId, LogIndex};
use rivven_cluster::raft::{Body, Input, Message, Output, Raft};
use rivven_cluster::time::Instant;

/// What became of reads, by the number of the round: the index, or nothing.
fn reads(member: &mut Member) -> Vec<(u64, Option<u64>)> {
    let read = |output: Output| match output {
        Output::ReadAt { round, index } => Some((round, Some(index.value()))),
        Output::ReadLost { round } => Some((round, None)),
        _ => None,
    };
    core::mem::take(&mut member.others).into_iter().filter_map(read).collect()
}

fn contexts(messages: &[Message]) -> Vec<Bytes> {
    let context = |message: &Message| match &message.body {
        Body::Heartbeat { context, .. } if !context.is_empty() => Some(context.clone()),
        _ => None,
    };
    messages.iter().filter_map(context).collect()
}

#[test]
fn a_majority_confirms_a_read_at_the_commit_index() {
    let mut group = Group::new(3);
    group.elect(1);
    group.member(1).handle(Input::ReadIndex(1));
    assert_eq!(reads(group.member(1)), []);
    group.settle();
    assert_eq!(reads(group.member(1)), [(1, Some(2))]);
}

#[test]
fn a_lone_voter_confirms_itself() {
    let mut group = Group::new(1);
    group.elect(1);
    group.member(1).handle(Input::ReadIndex(1));
    assert_eq!(reads(group.member(1)), [(1, Some(2))]);
}

#[test]
fn a_follower_confirms_nothing() {
    let mut group = Group::new(3);
    group.elect(1);
    group.member(2).handle(Input::ReadIndex(1));
    assert_eq!(reads(group.member(2)), [(1, None)]);
}

#[test]
fn a_new_leader_answers_only_after_an_entry_of_its_own_term_is_committed() {
    let mut leader = Member::new(1, newborn(3));
    leader.time_out();
    let granted = rivven_cluster::raft::Verdict { granted: true, commit: rivven_cluster::raft::BIRTH };
    leader.receive(2, 2, Body::PreVoteResponse(granted));
    leader.persist();
    leader.receive(2, 2, Body::VoteResponse(granted));
    leader.persist();
    leader.take_sent();
    leader.handle(Input::ReadIndex(1));
    leader.time_out();
    assert!(contexts(&leader.take_sent()).is_empty(), "nobody is asked yet");
    leader.receive(2, 2, Body::AppendAccepted { index: LogIndex::new(2), commit: LogIndex::new(1) });
    let asked = contexts(&leader.take_sent());
    assert_eq!(asked.len(), 2, "now both are");
    let answer = Body::HeartbeatResponse { commit: LogIndex::new(1), context: asked[0].clone() };
    leader.receive(3, 2, answer);
    assert_eq!(reads(&mut leader), [(1, Some(2))]);
}

#[test]
fn who_is_deposed_loses_the_round() {
    let mut group = Group::new(3);
    group.elect(1);
    group.member(1).handle(Input::ReadIndex(1));
    group.member(1).receive(2, 9, Body::Heartbeat { commit: LogIndex::new(1), context: Bytes::new() });
    assert_eq!(reads(group.member(1)), [(1, None)]);
}

#[test]
fn an_answer_to_an_earlier_round_confirms_nothing() {
    let mut group = Group::new(3);
    group.elect(1);
    let term = group.member(1).term();
    group.member(1).handle(Input::ReadIndex(1));
    let first = contexts(&group.member(1).take_sent());
    group.member(1).handle(Input::ReadIndex(2));
    assert_eq!(reads(group.member(1)), [(1, None)], "one round at a time");
    let late = Body::HeartbeatResponse { commit: LogIndex::new(1), context: first[0].clone() };
    group.member(1).receive(2, term, late);
    assert_eq!(reads(group.member(1)), []);
}

#[test]
fn contexts_differ_between_nodes_starts_and_rounds() {
    let mut seen = std::collections::BTreeSet::new();
    for (boot, rounds) in [(1, [1, 2]), (2, [1, 2])] {
        let mut group = Group::new(3);
        group.member(1).raft = Raft::start(
            node(1),
            BootId::new(boot),
            &rivven_cluster::raft::Timing::default(),
            rivven_cluster::raft::Flow::default(),
            rivven_cluster::rng::Seed::new(1),
            newborn(3),
            Instant::ORIGIN,
        )
        .expect("a sound disk");
        group.elect(1);
        for round in rounds {
            group.member(1).handle(Input::ReadIndex(round));
            let asked = contexts(&group.member(1).take_sent());
            assert!(seen.insert(asked[0].clone()), "boot {boot}, round {round}");
            group.settle();
        }
    }
}
