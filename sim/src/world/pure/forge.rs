//! A liar: a member that says what no correct member says.
//!
//! Raft does not survive liars in general, and nobody claims so. But some lies need no proof, since they
//! contradict themselves or what the listener knows; those are stopped at the door (`raft::guard`), or
//! they would stop the node. Each lie here is one that the door must stop.

use rivven_cluster::id::{LogIndex, NodeId, Term};
use rivven_cluster::node::{Input, Message as NodeMessage};
use rivven_cluster::raft::{BIRTH, Ballot, Body, Entry, Indexes, Message, Position, Role, Standing, Verdict};
use rivven_cluster::rng::Stream;

use super::process::node_id;
use super::queue::Event;
use super::{MILLISECOND, World};
use crate::app::Application;
use crate::checkers::Rule;
use crate::choice::Draw;
use crate::faults::{Fault, FaultKind};
use crate::reachable;

/// A number that no member has.
const STRANGER: u64 = 99;

/// What a liar knows of its victim.
struct Victim {
    id: NodeId,
    standing: Standing,
    indexes: Indexes,
    /// Somebody else than liar and victim.
    third: NodeId,
}

impl<A: Application> World<A> {
    /// Lets a liar speak, and again a little later, while the fault lasts.
    pub(super) fn forge(&mut self, place: usize) {
        let window = self.scenario.faults[place].clone();
        let Fault::Forgery { node: liar } = window.fault else { return };
        if self.now >= window.ends * MILLISECOND {
            return;
        }
        let mut choices = self.choices.stream(Draw::Fault, window.id * 10_000).clone();
        let victim = choices.between(1, self.scenario.shape.nodes + 1);
        let pause = choices.between(5, 120);
        if victim != liar && self.host(victim).waiting.is_none() {
            let before = self.refused_and_stalled(victim);
            let told = self.lie(liar, victim, &mut choices);
            let after = self.refused_and_stalled(victim);
            if after.0 > before.0 {
                self.effects.count(window.id, FaultKind::Forgery);
                reachable!(self.marks, ForgeryRefused);
            } else if let Some(lie) = told.filter(|_| after == before) {
                self.checkers
                    .broken(Rule::Lies, format!("node {victim} believes node {liar}, who lies: {lie:?}"));
            }
        }
        *self.choices.stream(Draw::Fault, window.id * 10_000) = choices;
        self.queue.push(self.now + pause * MILLISECOND, Event::Forge { place });
    }

    /// How many messages a node has dropped at the door, and how many because its disk is silent.
    fn refused_and_stalled(&mut self, node: u64) -> (u64, u64) {
        let stats = self.host(node).process.as_ref().map(|process| process.node().status().stats);
        stats.map_or((0, 0), |stats| (stats.refused.values().sum(), stats.stalled))
    }

    /// Tells a lie, if there is somebody to hear it; returns what it was.
    fn lie(&mut self, liar: u64, victim: u64, choices: &mut Stream) -> Option<Message> {
        let nodes = self.scenario.shape.nodes;
        let process = self.host(victim).process.as_ref()?;
        let (standing, indexes) = (process.node().standing()?, process.node().indexes()?);
        let third = (1..=nodes).find(|node| *node != liar && *node != victim).unwrap_or(STRANGER);
        let victim = Victim { id: node_id(victim), standing, indexes, third: node_id(third) };
        let (from, to) = (node_id(liar), victim.id);
        let (from, message) = invent(from, &victim, choices);
        let told = message.clone();
        self.deliver(to.value(), Input::Message { from, message: NodeMessage::Raft(message) });
        Some(told)
    }
}

/// Invents a lie, and says who tells it.
fn invent(liar: NodeId, victim: &Victim, choices: &mut Stream) -> (NodeId, Message) {
    let (to, term) = (victim.id, victim.standing.term);
    let later = Term::new(term.value() + 1);
    let say = |term: Term, body: Body| Message { to, term, body };
    let granted = Verdict { granted: true, commit: Position::default() };
    let leads = victim.standing.role == Role::Leader;
    let message = match choices.below(18) {
        0 => Message { to: victim.third, term, body: Body::VoteResponse(granted) },
        1 => return (node_id(STRANGER), say(later, Body::VoteResponse(granted))),
        2 => return (to, say(later, heartbeat(0))),
        3 => say(Term::new(0), append(Position::default(), vec![])),
        4 => say(Term::new(u64::MAX - choices.below(3)), heartbeat(0)),
        5 => say(later, append(Position::default(), vec![entry(1, later), entry(3, later)])),
        6 => say(later, append(at(victim.indexes.last, term), falling(victim.indexes.last, later))),
        7 => say(later, append(at(LogIndex::new(u64::MAX - 1), term), vec![entry(u64::MAX, later)])),
        8 => {
            let beyond = LogIndex::new(victim.indexes.last.value() + 1 + choices.below(9));
            say(later, append(at(beyond, Term::new(0)), vec![]))
        }
        9 => say(later, contradiction(victim, later)),
        10 => say(later, heartbeat(victim.indexes.last.value() + 1 + choices.below(5))),
        11 if leads => {
            let index = LogIndex::new(victim.indexes.last.value() + 1 + choices.below(5));
            say(term, Body::AppendAccepted { index, commit: index })
        }
        12 if leads => {
            let hint = at(LogIndex::new(victim.indexes.last.value() + 9), term);
            let index = LogIndex::new(victim.indexes.last.value() + 9);
            say(term, Body::AppendRejected { index, hint, commit: LogIndex::default() })
        }
        13 if leads => say(term, heartbeat(0)),
        14 if victim.standing.leader != Some(liar) => say(term, Body::TimeoutNow),
        15 if !leads && victim.indexes.persisted < victim.indexes.last => {
            say(term, Body::VoteResponse(granted))
        }
        16 => {
            let (commit, context) = (LogIndex::default(), bytes::Bytes::from_static(b"a read"));
            say(later, Body::Heartbeat { commit, context })
        }
        _ => {
            let last = at(victim.indexes.last, Term::new(0));
            let ballot = Ballot { last, commit: Position::default(), transfer: false };
            say(later, Body::Vote(ballot))
        }
    };
    (liar, message)
}

fn at(index: LogIndex, term: Term) -> Position {
    Position { index, term }
}

fn entry(index: u64, term: Term) -> Entry {
    Entry::of_command(at(LogIndex::new(index), term), "a lie")
}

fn heartbeat(commit: u64) -> Body {
    Body::Heartbeat { commit: LogIndex::new(commit), context: bytes::Bytes::new() }
}

fn append(previous: Position, entries: Vec<Entry>) -> Body {
    Body::Append { previous, commit: LogIndex::default(), entries }
}

/// Two entries that follow the log, with terms that fall.
fn falling(last: LogIndex, term: Term) -> Vec<Entry> {
    let earlier = Term::new(term.value() - 1);
    vec![entry(last.value() + 1, term), entry(last.value() + 2, earlier)]
}

/// Another entry than the one that was committed last: what was committed before may be compacted.
fn contradiction(victim: &Victim, term: Term) -> Body {
    let commit = victim.indexes.commit.value();
    if commit <= BIRTH.index.value() {
        return append(at(LogIndex::new(9), Term::new(0)), vec![]);
    }
    append(at(LogIndex::new(commit - 1), BIRTH.term), vec![entry(commit, term)])
}
