//! The rules of replication, each by its name: one replica is fed by hand, with views of real metadata.

use bytes::Bytes;

use super::io::{Acks, Answer, Batch, Fetch, FetchRefusal, Fetched};
use super::*;
use crate::id::{BootId, LogIndex, PartitionEpoch, RequestId, Token, TopicId};
use crate::partition::metadata::command::Registration;
use crate::partition::metadata::{
    Alteration, Command, Election, FenceReason, Outcome, Recovery, Refusal, TopicSpec,
};
use crate::partition::retention::Retention;
use crate::time::WallSeconds;

fn id(node: u64) -> NodeId {
    NodeId::new(node).unwrap()
}

fn at(millis: u64) -> Instant {
    Instant::from_nanos(millis * 1_000_000)
}

fn offset(offset: u64) -> Offset {
    Offset::new(offset)
}

/// Five nodes and a partition on the first three, of which two must be in sync.
struct World {
    metadata: Metadata,
    index: LogIndex,
    partition: PartitionId,
}

impl World {
    fn new() -> World {
        let topic = TopicId::new(0);
        let mut world = World {
            metadata: Metadata::default(),
            index: LogIndex::new(1),
            partition: PartitionId { topic, number: 0 },
        };
        (1..=5).for_each(|node| world.register(node, 1, 1));
        let spec = TopicSpec {
            name: "t".to_owned(),
            replicas: 3,
            min_in_sync: 2,
            recovery: Recovery::Manual,
            retention: Retention::default(),
        };
        let assignments = vec![vec![id(1), id(2), id(3)]];
        let Outcome::Created(topic) = world.run(Command::CreateTopic { spec, assignments }) else { panic!() };
        world.partition.topic = topic;
        world
    }

    fn run(&mut self, command: Command) -> Outcome {
        self.index = self.index.next();
        self.metadata.apply(self.index, &command).0.unwrap()
    }

    fn register(&mut self, node: u64, token: u64, boot: u64) {
        let known = self.metadata.node(id(node)).map(|record| record.epoch);
        let registration = Registration {
            node: id(node),
            token: Token::new(token),
            boot: BootId::new(boot),
            address: "node:1".parse().unwrap(),
            known,
            ended: None,
            is_durable: true,
            weight: 1,
            rack: None,
            features: 1,
        };
        self.run(Command::RegisterNode(registration));
        let record = self.metadata.node(id(node)).unwrap();
        let (epoch, seen) = (record.epoch, record.changed);
        self.run(Command::UnfenceNode { node: id(node), epoch, seen, applied: seen });
    }

    fn fence(&mut self, node: u64) {
        let record = self.metadata.node(id(node)).unwrap();
        let (epoch, seen) = (record.epoch, record.changed);
        self.run(Command::FenceNode { node: id(node), epoch, seen, reason: FenceReason::Dead });
    }

    fn elect(&mut self, node: u64) {
        let (partition, epoch) = (self.partition, self.view().partition.epoch);
        self.run(Command::ElectLeader { partition, epoch, election: Election::Designated(id(node)) });
    }

    fn view(&self) -> View {
        View::of(&self.metadata, self.partition, &[1, 2, 3, 4, 5].map(id)).unwrap()
    }

    fn session(&self, node: u64) -> NodeEpoch {
        self.metadata.node(id(node)).unwrap().epoch
    }

    /// A replica of `node` with records of these epochs on its disk.
    fn replica(&self, node: u64, records: &[u64]) -> Replica {
        let mut epochs = Epochs::default();
        for (epoch, place) in records.iter().zip(0..) {
            epochs.begin(LeaderEpoch::new(*epoch), offset(place));
        }
        let end = offset(u64::try_from(records.len()).unwrap());
        let stored = Stored { log: Extent::stored(offset(0), end), epochs, high_watermark: offset(0) };
        let own = (id(node), self.session(node));
        Replica::start(own, self.partition, Settings::default(), stored, self.view(), at(0))
    }

    fn fetch(&self, node: u64, leader_epoch: u64, place: u64, last_epoch: Option<u64>) -> Fetch {
        let last_epoch = last_epoch.map(LeaderEpoch::new);
        let leader_epoch = LeaderEpoch::new(leader_epoch);
        let knows = Default::default();
        Fetch { session: self.session(node), leader_epoch, at: offset(place), last_epoch, knows }
    }
}

fn effects(replica: &mut Replica) -> Vec<Effect> {
    replica.assert_invariants();
    core::iter::from_fn(|| replica.poll()).collect()
}

fn proposals(replica: &mut Replica) -> Vec<Alteration> {
    let proposal = |effect| match effect {
        Effect::Propose(alteration) => Some(alteration),
        Effect::Append(_)
        | Effect::Truncate(_)
        | Effect::Trim(_)
        | Effect::Restart(_)
        | Effect::Reply { .. }
        | Effect::Committed(_)
        | Effect::Removed(_) => None,
    };
    effects(replica).into_iter().filter_map(proposal).collect()
}

fn replies(replica: &mut Replica) -> Vec<(u64, Result<Offset, ProduceError>)> {
    let reply = |effect| match effect {
        Effect::Reply { request, result } => Some((request.value(), result)),
        Effect::Append(_)
        | Effect::Truncate(_)
        | Effect::Trim(_)
        | Effect::Restart(_)
        | Effect::Propose(_)
        | Effect::Committed(_)
        | Effect::Removed(_) => None,
    };
    effects(replica).into_iter().filter_map(reply).collect()
}

fn members(alteration: &Alteration) -> Vec<u64> {
    alteration.in_sync.iter().map(|(node, _)| node.value()).collect()
}

fn produce(replica: &mut Replica, request: u64, acks: Acks) {
    let (request, records) = (RequestId::new(request), Bytes::from_static(b"record"));
    let (until, stamp) = (at(60_000), None);
    let time = WallSeconds::default();
    replica.produce(Produce { request, acks, until, count: 1, stamp, time, records });
}

fn sync(replica: &mut Replica) {
    let mark = replica.mark();
    replica.written(mark);
}

fn batch(first: u64, epoch: u64, count: u32) -> Batch {
    Batch {
        first: offset(first),
        epoch: LeaderEpoch::new(epoch),
        count,
        stamp: None,
        time: WallSeconds::default(),
        records: Bytes::new(),
    }
}

fn matches(fetch: Fetch, committed: u64) -> Fetched {
    Fetched { fetch, answer: Answer::Matches { high_watermark: offset(committed), start: offset(0) } }
}

#[test]
fn a_record_is_committed_when_all_who_are_in_sync_have_it_on_their_disks() {
    let world = World::new();
    let mut leader = world.replica(1, &[]);
    produce(&mut leader, 1, Acks::All);
    leader.serve(at(1), id(2), world.fetch(2, 1, 1, Some(1)));
    leader.serve(at(2), id(3), world.fetch(3, 1, 1, Some(1)));
    assert_eq!(
        (leader.high_watermark(), replies(&mut leader)),
        (offset(0), vec![]),
        "it is not on its own disk"
    );
    sync(&mut leader);
    assert_eq!((leader.high_watermark(), replies(&mut leader)), (offset(1), vec![(1, Ok(offset(0)))]));
    produce(&mut leader, 2, Acks::All);
    sync(&mut leader);
    leader.serve(at(3), id(2), world.fetch(2, 1, 2, Some(1)));
    assert_eq!(leader.high_watermark(), offset(1), "node 3 lacks it");
    assert_eq!(leader.latest(), Ok(offset(1)));
}

#[test]
fn a_producer_waits_for_what_it_asked_for() {
    let world = World::new();
    let mut leader = world.replica(1, &[]);
    produce(&mut leader, 1, Acks::None);
    produce(&mut leader, 2, Acks::Leader);
    produce(&mut leader, 3, Acks::All);
    assert_eq!(replies(&mut leader), []);
    sync(&mut leader);
    assert_eq!(replies(&mut leader), [(2, Ok(offset(1)))]);
    leader.handle_timeout(at(60_000));
    assert_eq!(replies(&mut leader), [(3, Err(ProduceError::TimedOut))]);
}

#[test]
fn nothing_is_written_where_nobody_leads_or_too_few_are_in_sync() {
    let mut world = World::new();
    let mut leader = world.replica(1, &[]);
    let mut follower = world.replica(2, &[]);
    produce(&mut follower, 1, Acks::All);
    let not_leader = ProduceError::NotLeader { leader: Some(id(1)), epoch: LeaderEpoch::new(1) };
    assert_eq!(replies(&mut follower), [(1, Err(not_leader))]);
    produce(&mut leader, 2, Acks::All);
    [2, 3].into_iter().for_each(|node| world.fence(node));
    leader.observe(at(1), world.view());
    assert_eq!(replies(&mut leader), [(2, Err(ProduceError::NotEnoughReplicasAfterAppend))]);
    produce(&mut leader, 3, Acks::All);
    let too_few = ProduceError::NotEnoughReplicas { in_sync: 1, min_in_sync: 2 };
    assert_eq!(replies(&mut leader), [(3, Err(too_few))]);
    assert_eq!(leader.log().end, offset(1));
    sync(&mut leader);
    assert_eq!(leader.high_watermark(), offset(0), "alone it commits nothing (KIP-966)");
}

#[test]
fn who_is_proposed_counts_at_once_and_who_is_to_go_counts_until_the_metadata_says_so() {
    let mut world = World::new();
    world.fence(3);
    world.register(3, 1, 2);
    let mut leader = world.replica(1, &[]);
    // Node 3 is admitted when it has everything, and holds the high watermark back from then on.
    leader.serve(at(1), id(2), world.fetch(2, 1, 0, None));
    leader.serve(at(1), id(3), world.fetch(3, 1, 0, None));
    assert_eq!(proposals(&mut leader).iter().map(members).collect::<Vec<_>>(), [[1, 2, 3]]);
    produce(&mut leader, 1, Acks::All);
    sync(&mut leader);
    leader.serve(at(2), id(2), world.fetch(2, 1, 1, Some(1)));
    assert_eq!(leader.high_watermark(), offset(0));
    // A late copy of that may be accepted as long as the record is the same.
    let epoch = world.view().partition.epoch;
    leader.refused(at(3), LeaderEpoch::new(1), epoch, &Refusal::NotInSync(id(3)));
    let [void] = &proposals(&mut leader)[..] else { panic!("one proposal") };
    assert_eq!((members(void), void.voids_earlier), (vec![1, 2], true));
    assert_eq!(leader.high_watermark(), offset(0), "it still counts");
    world.run(Command::AlterPartition(void.clone()));
    leader.observe(at(4), world.view());
    assert_eq!(leader.high_watermark(), offset(1));
}

#[test]
fn who_lags_is_put_out_of_sync_but_not_before_it_could_fetch() {
    let world = World::new();
    let mut leader = world.replica(1, &[]);
    produce(&mut leader, 1, Acks::All);
    assert_eq!(leader.deadline(), Some(at(10_000)));
    leader.handle_timeout(at(9_999));
    assert_eq!(proposals(&mut leader), []);
    leader.serve(at(9_000), id(2), world.fetch(2, 1, 1, Some(1)));
    leader.handle_timeout(at(10_000));
    assert_eq!(proposals(&mut leader).iter().map(members).collect::<Vec<_>>(), [[1, 2]]);
    // It is proposed again when nothing comes of it.
    assert_eq!(leader.deadline(), Some(at(11_000)));
    leader.handle_timeout(at(11_000));
    assert_eq!(proposals(&mut leader).iter().map(members).collect::<Vec<_>>(), [[1, 2]]);
}

#[test]
fn who_has_what_there_was_when_it_fetched_last_does_not_lag() {
    let world = World::new();
    let mut leader = world.replica(1, &[]);
    // Each fetch has what the one before found, though the leader has more by then.
    for second in 1..=30 {
        for node in [2, 3] {
            let last = (second > 1).then_some(1);
            leader.serve(at(second * 1000), id(node), world.fetch(node, 1, second - 1, last));
        }
        produce(&mut leader, second, Acks::None);
        leader.handle_timeout(at(second * 1000 + 500));
    }
    assert_eq!(proposals(&mut leader), []);
}

#[test]
fn a_new_leader_counts_nobody_who_has_not_fetched_in_its_epoch() {
    let mut world = World::new();
    let mut leader = world.replica(1, &[1, 1, 1]);
    leader.serve(at(1), id(2), world.fetch(2, 1, 2, Some(1)));
    leader.serve(at(1), id(3), world.fetch(3, 1, 3, Some(1)));
    assert_eq!(leader.high_watermark(), offset(2));
    world.elect(2);
    world.elect(1);
    leader.observe(at(2), world.view());
    assert_eq!(leader.leads(), Some(LeaderEpoch::new(3)));
    leader.serve(at(3), id(2), world.fetch(2, 3, 3, Some(1)));
    assert_eq!(leader.high_watermark(), offset(2), "what node 3 had may have been cut off");
    leader.serve(at(4), id(3), world.fetch(3, 3, 3, Some(1)));
    assert_eq!(leader.high_watermark(), offset(3));
}

#[test]
fn a_new_leader_does_not_say_where_the_committed_records_end_before_it_knows() {
    let world = World::new();
    let mut leader = world.replica(1, &[1, 1]);
    assert_eq!(leader.latest(), Err(OffsetError::NotAvailable));
    for node in [2, 3] {
        leader.serve(at(1), id(node), world.fetch(node, 1, 2, Some(1)));
    }
    assert_eq!(leader.latest(), Ok(offset(2)));
    assert_eq!(world.replica(2, &[1, 1]).latest(), Err(OffsetError::NotLeader));
}

#[test]
fn who_is_admitted_has_all_that_was_there_before_this_leader() {
    let mut world = World::new();
    world.fence(3);
    world.register(3, 1, 2);
    let mut leader = world.replica(1, &[1, 1]);
    leader.serve(at(1), id(3), world.fetch(3, 1, 1, Some(1)));
    assert_eq!(proposals(&mut leader), [], "the high watermark is 0, and says nothing");
    leader.serve(at(2), id(3), world.fetch(3, 1, 2, Some(1)));
    assert_eq!(proposals(&mut leader).len(), 1);
}

#[test]
fn fetches_of_other_epochs_sessions_and_nodes_count_for_nothing() {
    let mut world = World::new();
    world.elect(2);
    let earlier = world.fetch(3, 2, 0, None);
    world.fence(3);
    world.register(3, 1, 2);
    let mut leader = world.replica(2, &[1]);
    let current = LeaderEpoch::new(2);
    let mut ask = |node, fetch| match leader.serve(at(1), id(node), fetch).answer {
        Answer::Refused(refusal) => Some(refusal),
        Answer::Matches { .. } | Answer::Diverges { .. } | Answer::OutOfRange { .. } => None,
    };
    assert_eq!(ask(3, world.fetch(3, 1, 0, None)), Some(FetchRefusal::EpochFenced { current }));
    assert_eq!(ask(3, world.fetch(3, 3, 0, None)), Some(FetchRefusal::EpochUnknown { current }));
    assert_eq!(ask(4, world.fetch(4, 2, 0, None)), Some(FetchRefusal::ReplicaUnknown));
    assert_eq!(ask(3, earlier), Some(FetchRefusal::SessionEnded));
    assert_eq!(ask(3, world.fetch(3, 2, 0, None)), None);
    let mut follower = world.replica(3, &[]);
    let fetched = follower.serve(at(1), id(2), world.fetch(2, 2, 0, None));
    assert_eq!(fetched.answer, Answer::Refused(FetchRefusal::NotLeader));
}

#[test]
fn logs_are_compared_by_epochs() {
    let mut world = World::new();
    [2, 1].into_iter().for_each(|node| world.elect(node));
    let mut leader = world.replica(1, &[1, 1, 3]);
    let mut ask = |place, last| leader.serve(at(1), id(2), world.fetch(2, 3, place, last)).answer;
    let diverges = |epoch, end| Answer::Diverges { epoch: LeaderEpoch::new(epoch), end: offset(end) };
    assert_eq!(ask(4, Some(1)), diverges(1, 2), "more of epoch 1 than the leader has");
    assert_eq!(ask(3, Some(2)), diverges(1, 2), "an epoch that the leader does not have");
    assert_eq!(ask(4, Some(3)), diverges(3, 3));
    assert_eq!(ask(5, None), Answer::OutOfRange { start: offset(0) });
    assert!(matches!(ask(2, Some(1)), Answer::Matches { .. }));
}

#[test]
fn a_log_that_ends_before_all_that_is_left_at_the_leader_begins_anew() {
    let mut world = World::new();
    world.elect(2);
    let mut leader = world.replica(2, &[1, 1, 2, 2]);
    for node in [1, 3] {
        leader.serve(at(1), id(node), world.fetch(node, 2, 4, Some(2)));
    }
    assert_eq!(leader.trim(offset(9)), offset(4), "no more than is committed");
    // What the follower has of epoch 1 may be something else than what was here.
    let answer = leader.serve(at(2), id(1), world.fetch(1, 2, 6, Some(1))).answer;
    assert_eq!(answer, Answer::OutOfRange { start: offset(4) });
    assert_eq!(leader.serve(at(2), id(1), world.fetch(1, 2, 1, Some(1))).answer, answer);
}

#[test]
fn a_follower_appends_what_follows_and_nothing_else() {
    let mut world = World::new();
    world.elect(2);
    let mut follower = world.replica(1, &[1]);
    let Some((leader, fetch)) = follower.fetch() else { panic!("it follows") };
    assert_eq!((leader, fetch.at, fetch.last_epoch), (id(2), offset(1), Some(LeaderEpoch::new(1))));
    for wrong in [batch(2, 2, 1), batch(0, 2, 1), batch(1, 2, 0), batch(1, 3, 1), batch(1, 0, 1)] {
        assert!(follower.fetched(&matches(fetch, 0), vec![wrong]));
    }
    assert_eq!((follower.log().end, follower.stats().answers_malformed), (offset(1), 5));
    assert!(follower.fetched(&matches(fetch, 9), vec![batch(1, 1, 2), batch(3, 2, 1)]));
    assert_eq!((follower.log().end, follower.high_watermark()), (offset(4), offset(4)));
    assert!(!follower.fetched(&matches(fetch, 9), vec![batch(1, 1, 2)]), "it comes twice");
    assert_eq!(follower.fetch(), None, "what it says to have is on its disk");
    sync(&mut follower);
    assert_eq!(follower.fetch().unwrap().1.at, offset(4));
    assert_eq!(effects(&mut follower).len(), 2);
}

#[test]
fn a_follower_cuts_off_what_the_leader_does_not_have() {
    let mut world = World::new();
    [2, 3, 2].into_iter().for_each(|node| world.elect(node));
    let told = |records: &[u64], epoch, end| {
        let mut follower = world.replica(1, records);
        let fetch = follower.fetch().unwrap().1;
        let answer = Answer::Diverges { epoch: LeaderEpoch::new(epoch), end: offset(end) };
        let was_cut = follower.fetched(&Fetched { fetch, answer }, Vec::new());
        assert_eq!(was_cut, follower.log().end < offset(u64::try_from(records.len()).unwrap()));
        effects(&mut follower);
        follower.log().end.value()
    };
    assert_eq!(told(&[1, 1, 1], 1, 2), 2);
    assert_eq!(told(&[1, 1, 2], 1, 5), 2, "epoch 1 ends there already");
    assert_eq!(told(&[1, 3, 3], 2, 2), 1, "it never had epoch 2");
    assert_eq!(told(&[3, 3], 2, 2), 0, "nor any before");
    assert_eq!(told(&[1, 1], 1, 2), 2, "what it has is all the leader's");
}

#[test]
fn what_was_written_before_a_cut_is_not_what_is_there_after_it() {
    let mut world = World::new();
    world.elect(2);
    let mut follower = world.replica(1, &[1]);
    let fetch = follower.fetch().unwrap().1;
    follower.fetched(&matches(fetch, 0), vec![batch(1, 1, 2)]);
    let mark = follower.mark();
    follower.written(mark);
    let fetch = follower.fetch().unwrap().1;
    let answer = Answer::Diverges { epoch: LeaderEpoch::new(1), end: offset(2) };
    follower.fetched(&Fetched { fetch, answer }, Vec::new());
    let fetch = follower.fetch().unwrap().1;
    follower.fetched(&matches(fetch, 0), vec![batch(2, 2, 1)]);
    follower.written(mark);
    assert_eq!(follower.log().durable, offset(2));
    assert_eq!(follower.fetch(), None);
}

#[test]
fn a_log_that_began_anew_is_spoken_of_when_that_is_on_the_disk() {
    let mut world = World::new();
    world.elect(2);
    let mut follower = world.replica(1, &[1]);
    let fetch = follower.fetch().unwrap().1;
    follower.fetched(&Fetched { fetch, answer: Answer::OutOfRange { start: offset(7) } }, Vec::new());
    assert_eq!(effects(&mut follower), [Effect::Restart(offset(7))]);
    assert_eq!(follower.fetch(), None, "a crash would bring the old one back");
    sync(&mut follower);
    let fetch = follower.fetch().unwrap().1;
    assert_eq!((fetch.at, fetch.last_epoch), (offset(7), None));
}

#[test]
fn who_is_deposed_says_that_nobody_knows_and_keeps_its_log() {
    let mut world = World::new();
    let mut leader = world.replica(1, &[]);
    produce(&mut leader, 1, Acks::All);
    world.elect(2);
    leader.observe(at(1), world.view());
    let deposed = ProduceError::Deposed { leader: Some(id(2)), epoch: LeaderEpoch::new(2) };
    assert_eq!(replies(&mut leader), [(1, Err(deposed))]);
    assert_eq!((leader.leader(), leader.log().end), (Some(id(2)), offset(1)));
}

#[test]
fn whose_epoch_ends_without_another_leader_keeps_its_producers() {
    let mut world = World::new();
    let mut leader = world.replica(1, &[]);
    produce(&mut leader, 1, Acks::All);
    let (partition, epoch) = (world.partition, world.view().partition.epoch);
    let target = vec![id(1), id(2)];
    world.run(Command::StartReassignment { partition, epoch, target });
    leader.observe(at(1), world.view());
    assert_eq!(leader.leads(), Some(LeaderEpoch::new(2)), "a replica was removed");
    sync(&mut leader);
    leader.serve(at(2), id(2), world.fetch(2, 2, 1, Some(1)));
    assert_eq!(replies(&mut leader), [(1, Ok(offset(0)))]);
}

#[test]
fn another_process_of_the_node_speaks_for_it() {
    let mut world = World::new();
    let mut leader = world.replica(1, &[]);
    world.fence(1);
    world.register(1, 1, 2);
    (2..=3).for_each(|node| world.fence(node));
    assert_eq!(world.view().partition.leader, None, "nobody is in sync, and nodes 2 and 3 are eligible");
    leader.observe(at(1), world.view());
    assert_eq!((leader.leads(), leader.fetch()), (None, None));
    // A view from before a process registered is not its own, either: what it says of replicas may be past.
    let old = world.view();
    let own = (id(4), NodeEpoch::new(1000));
    let stored = Stored {
        log: Extent::stored(offset(0), offset(2)),
        epochs: Epochs::default(),
        high_watermark: offset(0),
    };
    let mut early = Replica::start(own, world.partition, Settings::default(), stored, old, at(0));
    assert_eq!(effects(&mut early), [], "it is not removed");
}

#[test]
fn who_has_all_that_is_committed_but_does_not_keep_up_is_not_admitted() {
    let mut world = World::new();
    world.fence(3);
    world.register(3, 1, 2);
    let mut leader = world.replica(1, &[]);
    (1..=20).for_each(|request| produce(&mut leader, request, Acks::None));
    sync(&mut leader);
    leader.serve(at(11_000), id(3), world.fetch(3, 1, 0, None));
    assert_eq!((leader.high_watermark(), proposals(&mut leader)), (offset(0), vec![]));
    leader.serve(at(11_500), id(3), world.fetch(3, 1, 20, Some(1)));
    assert_eq!(proposals(&mut leader).len(), 1);
}

#[test]
fn a_follower_drops_what_is_committed_and_on_its_disk() {
    let mut world = World::new();
    world.elect(2);
    let mut follower = world.replica(1, &[1]);
    let fetch = follower.fetch().unwrap().1;
    follower.fetched(&matches(fetch, 9), vec![batch(1, 1, 8)]);
    assert_eq!(follower.trim(offset(5)), offset(1));
    sync(&mut follower);
    assert_eq!(follower.trim(offset(5)), offset(5));
    follower.assert_invariants();
}

#[test]
fn a_view_that_is_older_changes_nothing_and_who_is_removed_says_so() {
    let mut world = World::new();
    let mut replica = world.replica(3, &[1]);
    let old = world.view();
    let (partition, epoch) = (world.partition, world.view().partition.epoch);
    world.run(Command::StartReassignment { partition, epoch, target: vec![id(1), id(2)] });
    replica.observe(at(1), world.view());
    replica.observe(at(2), old);
    assert_eq!(effects(&mut replica), [Effect::Removed(PartitionEpoch::new(2))]);
    assert_eq!(replica.leader(), None);
    let epoch = world.view().partition.epoch;
    world.run(Command::StartReassignment { partition, epoch, target: vec![id(1), id(2), id(3)] });
    replica.observe(at(3), world.view());
    assert_eq!(replica.leader(), None, "its log is being deleted: who is added again is another one");
}

#[test]
fn who_was_elected_though_it_may_lack_something_recovers_alone() {
    let mut world = World::new();
    (1..=3).for_each(|node| world.fence(node));
    let topic = world.partition.topic;
    let recovery = Some(Recovery::Unclean);
    world.run(Command::ConfigureTopic { topic, version: 1, min_in_sync: None, recovery, retention: None });
    for node in 1..=3 {
        world.register(node, 2, 1);
    }
    let record = world.view().partition;
    assert!(record.is_recovering, "{record:?}");
    let node = record.leader.unwrap().value();
    let mut leader = world.replica(node, &[]);
    let [proposal] = &proposals(&mut leader)[..] else { panic!("one proposal") };
    assert_eq!((members(proposal), proposal.is_recovered), (vec![node], true));
    world.run(Command::AlterPartition(proposal.clone()));
    assert!(!world.view().partition.is_recovering);
}
