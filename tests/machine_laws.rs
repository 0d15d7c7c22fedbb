//! The laws of `Machine`, for every machine, over random inputs.
//!
//! A machine is described once, by how it starts and how a random input for it is made; the laws are
//! the same for all. The inputs are what peers, clients and disks can say, most of it nonsense.
#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on fails; it looks for single outputs"
)]

#[path = "laws/partitions.rs"]
mod partitions;
mod support;
#[path = "laws/swim.rs"]
mod swim_subject;

use std::collections::VecDeque;
use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use rivven_cluster::directory::Listing;
use rivven_cluster::formation::{self, Formation, VoterSet};
use rivven_cluster::id::{BootId, LogIndex, NodeId, RequestId, Term, Token, WriteId};
use rivven_cluster::kv::KeyValue;
use rivven_cluster::machine::Machine;
use rivven_cluster::node::{self, Caller, Durable, LinkState, Node, Request};
use rivven_cluster::raft::{self, Ballot, Body, Entry, Flow, Position, Proposal, Raft, Timing, Verdict};
use rivven_cluster::rng::Seed;
use rivven_cluster::session;
use rivven_cluster::swim::{self, Swim};
use rivven_cluster::time::Instant;
use support::{config, newborn, node as node_id};

/// The most outputs after one input: a few for each peer, entry and request that the tests use.
const OUTPUTS_MAX: usize = 2_000;

/// What happens to a machine.
#[derive(Clone, Debug)]
enum Step<I> {
    /// An input, after so many milliseconds.
    Input(u64, I),
    /// A timeout when it is due, if it ever is.
    Due,
    /// A timeout too early, after so many thousandths of the time that is left.
    Early(u64),
    /// Nothing: the driver drains.
    Drain,
    /// The disk finishes what it was given first.
    Finish,
}

/// A machine under test.
trait Subject: Machine<Input: Clone + Debug, Output: Debug + PartialEq> + Sized {
    fn start(seed: u64) -> Self;
    fn any_input() -> BoxedStrategy<Self::Input>;
    /// What a correct driver answers to an output.
    fn answer(output: &Self::Output) -> Option<Self::Input>;
    /// Whether the answer comes from the disk, which may take its time.
    fn is_slow(answer: &Self::Input) -> bool;
    fn assert_invariants(&self);
}

fn any_steps<S: Subject>() -> impl Strategy<Value = Vec<Step<S::Input>>>
where
    S::Input: 'static,
{
    let step = prop_oneof![
        6 => (0..200_u64, S::any_input()).prop_map(|(wait, input)| Step::Input(wait, input)),
        3 => Just(Step::Due),
        1 => (0..1000_u64).prop_map(Step::Early),
        2 => Just(Step::Drain),
        4 => Just(Step::Finish),
    ];
    prop::collection::vec(step, 1..60)
}

/// A machine, its clock, and its disk, which finishes when told to and in order.
struct Player<S: Subject> {
    machine: S,
    now: Instant,
    disk: VecDeque<S::Input>,
    all: Vec<S::Output>,
}

/// Plays the steps, judging laws 3 to 6 as it goes, and returns everything that came out.
fn play<S: Subject>(seed: u64, steps: &[Step<S::Input>]) -> Vec<S::Output> {
    let machine = S::start(seed);
    let mut player = Player { machine, now: Instant::ORIGIN, disk: VecDeque::new(), all: Vec::new() };
    player.drain();
    for step in steps {
        player.step(step);
    }
    player.drain();
    player.all
}

impl<S: Subject> Player<S> {
    fn step(&mut self, step: &Step<S::Input>) {
        match step {
            // Law 7: the next input may come before the drain.
            Step::Input(wait, input) => {
                self.now = self.now + Duration::from_millis(*wait);
                self.machine.handle(self.now, input.clone());
            }
            Step::Finish => {
                if let Some(finished) = self.disk.pop_front() {
                    self.machine.handle(self.now, finished);
                }
            }
            Step::Drain => _ = self.drain(),
            Step::Due => self.wait_until_due(),
            Step::Early(share) => self.fire_early(*share),
        }
    }

    fn wait_until_due(&mut self) {
        self.drain();
        let Some(deadline) = self.machine.deadline() else { return };
        self.now = deadline.max(self.now);
        self.machine.handle_timeout(self.now);
        self.drain();
        let (next, now) = (self.machine.deadline(), self.now);
        assert!(next.is_none_or(|next| next > now), "law 4: {next:?} is not after {now:?}");
    }

    fn fire_early(&mut self, share: u64) {
        self.drain();
        let Some(deadline) = self.machine.deadline() else { return };
        let left = deadline.saturating_since(self.now);
        let early = self.now + left * u32::try_from(share).unwrap() / 1000;
        if early < deadline {
            self.now = early;
            self.machine.handle_timeout(self.now);
            assert_eq!(self.drain(), 0, "law 5: an early timeout says something");
        }
    }

    /// Drains the machine as a driver would, and returns how much came out.
    fn drain(&mut self) -> usize {
        let mut count = 0;
        while let Some(output) = self.machine.poll() {
            match S::answer(&output) {
                Some(answer) if S::is_slow(&answer) => self.disk.push_back(answer),
                Some(answer) => self.machine.handle(self.now, answer),
                None => {}
            }
            self.all.push(output);
            count += 1;
            assert!(count <= OUTPUTS_MAX, "law 3: draining does not end");
        }
        self.machine.assert_invariants();
        count
    }
}

fn laws_hold<S: Subject>(seed: u64, steps: &[Step<S::Input>]) {
    assert_eq!(play::<S>(seed, steps), play::<S>(seed, steps), "law 1: two runs differ");
}

#[track_caller]
fn time_must_not_go_back<S: Subject>() {
    let mut machine = S::start(1);
    machine.handle_timeout(Instant::from_nanos(1_000));
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        machine.handle_timeout(Instant::from_nanos(999));
    }));
    assert!(result.is_err(), "law 2: time went back");
}

macro_rules! laws {
    ($name:ident, $subject:ty) => {
        mod $name {
            use super::*;

            proptest! {
                #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

                #[test]
                fn laws_hold_for_any_inputs(seed: u64, steps in any_steps::<$subject>()) {
                    laws_hold::<$subject>(seed, &steps);
                }
            }

            #[test]
            fn time_never_goes_back() {
                time_must_not_go_back::<$subject>();
            }
        }
    };
}

laws!(raft_machine, Raft);
laws!(formation_machine, Formation);
laws!(whole_node, Node<KeyValue>);
laws!(formed_node, Formed);
laws!(swim_machine, Swim);

fn any_id() -> BoxedStrategy<NodeId> {
    (1..5_u64).prop_map(node_id).boxed()
}

fn any_number() -> BoxedStrategy<u64> {
    prop_oneof![8 => 0..12_u64, 1 => Just(u64::MAX), 1 => any::<u64>()].boxed()
}

fn any_index() -> BoxedStrategy<LogIndex> {
    any_number().prop_map(LogIndex::new).boxed()
}

fn any_position() -> BoxedStrategy<Position> {
    (any_index(), any_number()).prop_map(|(index, term)| Position { index, term: Term::new(term) }).boxed()
}

fn any_entry() -> BoxedStrategy<Entry> {
    (any_position(), any::<[u8; 2]>())
        .prop_map(|(at, command)| Entry::of_command(at, Bytes::copy_from_slice(&command)))
        .boxed()
}

/// Entries that follow each other, as a correct peer's do; guards drop most others at once.
fn any_append() -> BoxedStrategy<Body> {
    let ordered =
        (any_position(), any_index(), 0..4_u64, 0..3_u64).prop_map(|(previous, commit, count, ahead)| {
            let term = Term::new(previous.term.value().saturating_add(ahead));
            let index = |offset: u64| LogIndex::new(previous.index.value().saturating_add(offset));
            let entries = (1..=count)
                .map(|offset| {
                    let at = Position { index: index(offset), term };
                    // Every fourth changes the membership.
                    if at.index.value().is_multiple_of(4) {
                        let node = node_id(at.index.value() % 5 + 1);
                        let steps = [
                            raft::Step::AddLearner(node),
                            raft::Step::Promote(node),
                            raft::Step::Remove(node),
                        ];
                        let step = steps[usize::try_from(term.value() % 3).unwrap()];
                        return Entry { at, content: raft::Content::Change(raft::Change::one(step)) };
                    }
                    Entry::of_command(at, Bytes::from("c"))
                })
                .collect();
            Body::Append { previous, commit, entries }
        });
    let wild = (any_position(), any_index(), prop::collection::vec(any_entry(), 0..3))
        .prop_map(|(previous, commit, entries)| Body::Append { previous, commit, entries });
    prop_oneof![4 => ordered, 1 => wild].boxed()
}

fn any_body() -> BoxedStrategy<Body> {
    let ballot = (any_position(), any_position(), any::<bool>())
        .prop_map(|(last, commit, transfer)| Ballot { last, commit, transfer });
    let verdict = (any::<bool>(), any_position()).prop_map(|(granted, commit)| Verdict { granted, commit });
    prop_oneof![
        4 => any_append(),
        2 => (any_index(), any_index()).prop_map(|(index, commit)| Body::AppendAccepted { index, commit }),
        1 => (any_index(), any_position(), any_index())
            .prop_map(|(index, hint, commit)| Body::AppendRejected { index, hint, commit }),
        1 => ballot.clone().prop_map(Body::Vote),
        1 => ballot.prop_map(Body::PreVote),
        2 => verdict.clone().prop_map(Body::VoteResponse),
        2 => verdict.prop_map(Body::PreVoteResponse),
        2 => any_index().prop_map(|commit| Body::Heartbeat { commit, context: Bytes::new() }),
        1 => (any_index(), any::<u8>())
            .prop_map(|(commit, byte)| Body::Heartbeat { commit, context: Bytes::from(vec![byte; 24]) }),
        1 => any_index().prop_map(|commit| Body::HeartbeatResponse { commit, context: Bytes::new() }),
        1 => Just(Body::TimeoutNow),
    ]
    .boxed()
}

fn any_raft_message() -> BoxedStrategy<raft::Message> {
    (prop_oneof![9 => Just(node_id(1)), 1 => any_id()], any_number(), any_body())
        .prop_map(|(to, term, body)| raft::Message { to, term: Term::new(term), body })
        .boxed()
}

impl Subject for Raft {
    fn start(seed: u64) -> Raft {
        Raft::start(
            node_id(1),
            BootId::new(1),
            &Timing::default(),
            Flow::default(),
            Seed::new(seed),
            newborn(3),
            Instant::ORIGIN,
        )
        .unwrap()
    }

    fn any_input() -> BoxedStrategy<raft::Input> {
        let proposals = prop::collection::vec(any::<u8>(), 0..3).prop_map(|commands| {
            let proposal = |command| Proposal { id: RequestId::new(1), command: Bytes::from(vec![command]) };
            raft::Input::Propose(commands.into_iter().map(proposal).collect())
        });
        prop_oneof![
            8 => (any_id(), any_raft_message()).prop_map(|(from, message)| raft::Input::Message { from, message }),
            2 => proposals,
            1 => any_id().prop_map(raft::Input::Unreachable),
            1 => any::<u64>().prop_map(raft::Input::ReadIndex),
        ]
        .boxed()
    }

    fn answer(output: &raft::Output) -> Option<raft::Input> {
        match output {
            raft::Output::Persist(persist) => Some(raft::Input::Persisted(persist.number)),
            raft::Output::Commit(entries) => Some(raft::Input::Applied(entries.last()?.at.index)),
            _ => None,
        }
    }

    fn is_slow(answer: &raft::Input) -> bool {
        matches!(answer, raft::Input::Persisted(_))
    }

    fn assert_invariants(&self) {
        Raft::assert_invariants(self);
    }
}

fn any_standing() -> BoxedStrategy<formation::Standing> {
    let voters = prop::collection::btree_set(any_id(), 1..4).prop_map(|ids| VoterSet::new(ids).unwrap());
    prop_oneof![
        Just(formation::Standing::Fresh),
        voters.clone().prop_map(formation::Standing::Pledged),
        voters.clone().prop_map(formation::Standing::Formed),
        voters.prop_map(|cluster| formation::Standing::Joined { cluster, token: Token::new(7) }),
        Just(formation::Standing::Damaged),
    ]
    .boxed()
}

fn any_formation_message() -> BoxedStrategy<formation::Message> {
    let names = prop::option::of(prop::collection::btree_set(any_id(), 1..4))
        .prop_map(|ids| ids.and_then(VoterSet::new));
    (any_standing(), names, any_name(), any::<bool>())
        .prop_map(|(standing, names, address, asks)| {
            if asks {
                formation::Message::Greeting { standing, names, address }
            } else {
                formation::Message::Answer { standing, names }
            }
        })
        .boxed()
}

fn any_name() -> BoxedStrategy<rivven_cluster::id::PeerName> {
    (1..5_u64).prop_map(|id| format!("node{id}:9093").parse().unwrap()).boxed()
}

impl Subject for Formation {
    fn start(seed: u64) -> Formation {
        let standing = formation::Standing::default();
        let node::Config { id, address, peers, .. } = config(1, 3);
        Formation::start(id, address, peers, standing, Seed::new(seed), Instant::ORIGIN)
    }

    fn any_input() -> BoxedStrategy<formation::Input> {
        prop_oneof![
            (any_name(), any_id()).prop_map(|(name, node)| formation::Input::Identified { name, node }),
            (any_id(), any_formation_message())
                .prop_map(|(from, message)| formation::Input::Message { from, message }),
            Just(formation::Input::TakenIn),
            Just(formation::Input::PutOut),
        ]
        .boxed()
    }

    fn answer(output: &formation::Output) -> Option<formation::Input> {
        matches!(output, formation::Output::Record(_)).then_some(formation::Input::Recorded)
    }

    fn is_slow(_answer: &formation::Input) -> bool {
        true
    }

    fn assert_invariants(&self) {
        Formation::assert_invariants(self);
    }
}

fn any_call() -> BoxedStrategy<node::CallId> {
    (0..3_u64, 0..4_u64)
        .prop_map(|(boot, number)| node::CallId {
            node: NodeId::new(1).unwrap(),
            boot: BootId::new(boot),
            number,
        })
        .boxed()
}

fn any_proposal() -> BoxedStrategy<session::Proposal> {
    let ticket = (any_index(), 0..5_u64, 0..5_u64).prop_map(|(session, number, oldest)| session::Ticket {
        session,
        number,
        oldest,
    });
    let command = prop::collection::vec(any::<u8>(), 0..3).prop_map(Bytes::from);
    prop_oneof![
        3 => command.clone().prop_map(session::Proposal::Command),
        2 => (ticket, command).prop_map(|(ticket, command)| session::Proposal::Once { ticket, command }),
        2 => partitions::any_command().prop_map(|command| session::Proposal::Metadata(Box::new(command))),
        1 => any::<u32>().prop_map(|secs| session::Proposal::Open { lifetime: Duration::from_secs(secs.into()) }),
    ]
    .boxed()
}

fn any_reply() -> BoxedStrategy<node::Reply> {
    prop_oneof![
        Just(node::Reply::Unknown),
        Just(node::Reply::Expired),
        Just(node::Reply::Rejected(node::Rejection::Busy)),
        any_index().prop_map(|session| node::Reply::Opened { session }),
    ]
    .boxed()
}

fn any_step() -> BoxedStrategy<raft::Step> {
    (any_id(), 0..5)
        .prop_map(|(node, kind)| match kind {
            0 => raft::Step::AddLearner(node),
            1 => raft::Step::Promote(node),
            2 => raft::Step::Demote(node),
            3 => raft::Step::Remove(node),
            _ => raft::Step::Suspend(node),
        })
        .boxed()
}

fn any_listing() -> BoxedStrategy<Listing> {
    (any_name(), 0..3_u64, any::<bool>())
        .prop_map(|(address, token, votes)| Listing { address, token: Token::new(token), votes })
        .boxed()
}

fn any_life() -> BoxedStrategy<node::Life> {
    prop_oneof![Just(node::Life::Member), Just(node::Life::New), Just(node::Life::Damaged)].boxed()
}

fn any_node_input() -> BoxedStrategy<node::Input> {
    let message = prop_oneof![
        1 => any_formation_message().prop_map(node::Message::Formation),
        4 => any_raft_message().prop_map(node::Message::Raft),
        1 => (any_call(), 0..4_u64, any_proposal())
            .prop_map(|(call, term, proposal)| node::Message::Forward { call, term: Term::new(term), proposal }),
        1 => (any_call(), any_reply()).prop_map(|(call, reply)| node::Message::Forwarded { call, reply: Box::new(reply) }),
        1 => any_call().prop_map(node::Message::ReadIndex),
        1 => (any_call(), prop::option::of(any_index()))
            .prop_map(|(call, index)| node::Message::ReadIndexAt { call, index }),
        2 => (any_listing(), any_life(), prop::option::of(any_call()))
            .prop_map(|(listing, life, proves)| node::Message::Announce { listing, life, proves }),
        1 => (any_id(), any_name()).prop_map(|(leader, address)| {
            let notice = node::Notice::Ask { leader, address };
            node::Message::Notice { to: node_id(1), token: Token::default(), notice }
        }),
        1 => (prop::option::of(any_index()), any_call(), any::<bool>()).prop_map(|(begins, call, proves)| {
            let notice = if proves { node::Notice::Prove(call) } else { node::Notice::Noted { begins } };
            node::Message::Notice { to: node_id(1), token: Token::default(), notice }
        }),
        1 => Just(node::Message::Dismissed { node: node_id(1) }),
        2 => partitions::any_message(),
    ];
    let request = prop_oneof![
        5 => any_proposal().prop_map(Request::Propose),
        2 => partitions::any_question(),
        2 => Just(Request::Query { query: Bytes::from("k") }),
        1 => Just(Request::QueryStale { query: Bytes::from("k") }),
        1 => Just(Request::Status),
        1 => (any_index(), any::<u32>()).prop_map(|(from, limit)| Request::Entries { from, limit }),
        1 => Just(Request::Members),
        1 => (any_id(), any_name(), any::<bool>())
            .prop_map(|(node, address, votes)| Request::AddMember { node, address, votes }),
        2 => prop::collection::vec(any_step(), 0..3).prop_map(Request::ChangeMembers),
        1 => prop::option::of(any_id()).prop_map(|to| Request::HandOver { to }),
    ];
    let state = prop_oneof![
        any_id().prop_map(|node| LinkState::Up { node }),
        Just(LinkState::Down { reason: "gone".to_owned() })
    ];
    let caller = prop_oneof![Just(Caller::Client), Just(Caller::Operator), any_id().prop_map(Caller::Node)];
    prop_oneof![
        3 => (any_name(), state).prop_map(|(name, state)| node::Input::Link { name, state }),
        8 => (any_id(), message).prop_map(|(from, message)| node::Input::Message { from, message }),
        1 => any_id().prop_map(node::Input::Unreachable),
        2 => any::<u32>().prop_map(|wall| node::Input::WallClock(swim::WallSeconds(wall))),
        6 => Swim::any_input().prop_map(node::Input::Gossip),
        1 => Just(node::Input::Leave),
        3 => (any::<u64>(), caller, request).prop_map(|(id, from, request)| {
            node::Input::Request { id: RequestId::new(id), from, request }
        }),
    ]
    .boxed()
}

fn written(output: &node::Output) -> Option<node::Input> {
    match output {
        node::Output::Write(batch) => Some(node::Input::Written(batch.id)),
        _ => None,
    }
}

impl Subject for Node<KeyValue> {
    fn start(seed: u64) -> Node<KeyValue> {
        support::start_node(1, 3, seed, Durable::default(), Instant::ORIGIN)
    }

    fn any_input() -> BoxedStrategy<node::Input> {
        any_node_input()
    }

    fn answer(output: &node::Output) -> Option<node::Input> {
        written(output)
    }

    fn is_slow(_answer: &node::Input) -> bool {
        true
    }

    fn assert_invariants(&self) {
        Node::assert_invariants(self);
    }
}

/// A node whose cluster has formed, so that consensus hears what comes.
struct Formed(Node<KeyValue>);

impl Machine for Formed {
    type Input = node::Input;
    type Output = node::Output;

    fn handle(&mut self, now: Instant, input: node::Input) {
        self.0.handle(now, input);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.0.handle_timeout(now);
    }

    fn poll(&mut self) -> Option<node::Output> {
        self.0.poll()
    }

    fn deadline(&self) -> Option<Instant> {
        self.0.deadline()
    }
}

impl Subject for Formed {
    fn start(seed: u64) -> Formed {
        Formed(support::start_node(1, 3, seed, support::formed(3), Instant::ORIGIN))
    }

    fn any_input() -> BoxedStrategy<node::Input> {
        any_node_input()
    }

    fn answer(output: &node::Output) -> Option<node::Input> {
        written(output)
    }

    fn is_slow(_answer: &node::Input) -> bool {
        true
    }

    fn assert_invariants(&self) {
        self.0.assert_invariants();
    }
}

#[test]
fn a_batch_number_that_was_never_given_stops_the_driver() {
    let mut node = support::start_node(1, 3, 1, Durable::default(), Instant::ORIGIN);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        node.handle(Instant::ORIGIN, node::Input::Written(WriteId::new(9)));
    }));
    assert!(result.is_err());
}
