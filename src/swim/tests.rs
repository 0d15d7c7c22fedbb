//! The subtle cases, each by its name: what is said to one member, and what it does.
//!
//! A member is fed by hand; what others say to it is packed with the real writer, under their own names.

mod attacks;
mod storm;

use core::net::SocketAddr;
use core::time::Duration;

use super::message::{Body, Datagram, Header, Update, Writer, tag_of};
use super::*;
use crate::id::{ClusterName, PeerName};

const WALL: WallSeconds = WallSeconds(200_000_000);

fn node(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

fn address(id: u64) -> SocketAddr {
    format!("10.0.{}.{}:7946", id / 250, id % 250).parse().unwrap()
}

fn epoch(incarnation: u64) -> Epoch {
    Epoch::new(u64::from(WALL.0) << 32 | incarnation)
}

fn at(millis: u64) -> Instant {
    Instant::from_nanos(millis * 1_000_000)
}

fn cluster() -> ClusterName {
    "demo".parse().unwrap()
}

fn record(id: u64, incarnation: u64) -> Record {
    let (zone, metadata_version, metadata_hash) = (0, 0, 0);
    Record {
        id: node(id),
        epoch: epoch(incarnation),
        address: address(id),
        boot: 1,
        zone,
        metadata_version,
        metadata_hash,
    }
}

fn config() -> Config {
    Config::new(node(1), cluster(), address(1), 1)
}

/// Member 1, which knows members 2 to `members`.
fn member(members: u64) -> Swim {
    started(config(), members)
}

fn started(config: Config, members: u64) -> Swim {
    let start = Start { wall: WALL, remembered: None, seed: Seed::new(7) };
    let mut swim = Swim::start(config, start, Instant::ORIGIN).unwrap();
    for id in 2..=members {
        swim.introduce(&record(id, 0));
    }
    swim
}

fn header(from: u64, kind: Kind) -> Header {
    Header {
        cluster: tag_of(&cluster()),
        kind,
        is_settled: false,
        is_overwhelmed: false,
        source: node(from),
        source_epoch: epoch(0),
        source_boot: 1,
        destination: Some(node(1)),
        sequence: 77,
        membership_hash: 0,
    }
}

fn packed(header: &Header, updates: &[Update<'_>]) -> Vec<u8> {
    let mut writer = Writer::begin(Vec::new(), 1160, header, Body::Empty);
    for update in updates {
        assert!(writer.push(update));
    }
    writer.finish()
}

/// Member `from` says something to member 1.
fn hears(swim: &mut Swim, millis: u64, from: u64, updates: &[Update<'_>]) -> Vec<Output> {
    hears_bytes(swim, millis, from, packed(&header(from, Kind::Gossip), updates))
}

fn hears_bytes(swim: &mut Swim, millis: u64, from: u64, bytes: Vec<u8>) -> Vec<Output> {
    swim.handle(at(millis), Input::Datagram { from: node(from), via: address(from), bytes });
    drain(swim)
}

fn drain(swim: &mut Swim) -> Vec<Output> {
    let outputs = core::iter::from_fn(|| swim.poll()).collect();
    swim.assert_invariants();
    outputs
}

fn events(outputs: &[Output]) -> Vec<Event> {
    let event = |output: &Output| match output {
        Output::Event(event) => Some(*event),
        Output::Datagram { .. } | Output::Ask { .. } | Output::Answer { .. } | Output::Resolve(_) => None,
    };
    outputs.iter().filter_map(event).collect()
}

/// The datagrams among outputs: to whom, of what kind, and who is said to be alive in them.
fn sent(outputs: &[Output]) -> Vec<(u64, Kind, Vec<Epoch>)> {
    let datagram = |output: &Output| match output {
        Output::Datagram { to, bytes } => {
            let read = Datagram::read(bytes).unwrap();
            let own = |update: Update<'_>| match update {
                Update::Alive { record, .. } if record.id == node(1) => Some(record.epoch),
                Update::Alive { .. } | Update::Suspect { .. } | Update::Dead { .. } | Update::Left { .. } => {
                    None
                }
            };
            let to = to.id.map_or(0, NodeId::value);
            Some((to, read.header.kind, read.updates().filter_map(own).collect()))
        }
        Output::Event(_) | Output::Ask { .. } | Output::Answer { .. } | Output::Resolve(_) => None,
    };
    outputs.iter().filter_map(datagram).collect()
}

/// Lets time pass, timer by timer.
fn pass(swim: &mut Swim, until_millis: u64) -> Vec<Output> {
    let mut outputs = Vec::new();
    while let Some(due) = swim.deadline().filter(|due| *due <= at(until_millis)) {
        swim.handle_timeout(due);
        outputs.extend(drain(swim));
    }
    swim.handle_timeout(at(until_millis));
    outputs.extend(drain(swim));
    outputs
}

fn state(swim: &Swim, id: u64) -> Option<State> {
    swim.member(node(id)).map(|member| member.state)
}

#[test]
fn whoever_is_accused_says_that_it_lives_to_the_accuser_and_to_the_messenger() {
    for accusation in [
        Update::Suspect { id: node(1), epoch: epoch(0), by: node(3) },
        Update::Dead { id: node(1), epoch: epoch(0) },
        Update::Left { id: node(1), epoch: epoch(0) },
    ] {
        let mut swim = member(4);
        let outputs = hears(&mut swim, 10, 2, &[accusation]);
        assert_eq!(swim.record().epoch, epoch(1));
        assert_eq!(swim.health(), 1, "an accusation says something about the accused, too");
        let told: Vec<u64> =
            sent(&outputs).iter().filter(|(_, _, own)| own == &[epoch(1)]).map(|sent| sent.0).collect();
        let expected: &[u64] = if matches!(accusation, Update::Suspect { .. }) { &[2, 3] } else { &[2] };
        assert_eq!(told, expected, "{accusation:?}");
    }
}

#[test]
fn an_old_accusation_is_answered_once_a_period_and_needs_no_new_epoch() {
    let mut swim = member(3);
    let accusation = |of| Update::Suspect { id: node(1), epoch: epoch(of), by: node(2) };
    hears(&mut swim, 10, 2, &[accusation(0)]);
    let answered = sent(&hears(&mut swim, 20, 3, &[accusation(0)]));
    assert_eq!(answered, [(3, Kind::Gossip, vec![epoch(1)])]);
    assert_eq!(sent(&hears(&mut swim, 30, 3, &[accusation(0)])), []);
    assert_eq!(swim.record().epoch, epoch(1));
}

#[test]
fn who_leaves_ignores_what_is_said_of_it() {
    let mut swim = member(5);
    swim.handle(at(5), Input::Leave);
    drain(&mut swim);
    let before = swim.record().epoch;
    hears(&mut swim, 10, 2, &[Update::Dead { id: node(1), epoch: before }]);
    assert_eq!(swim.record().epoch, before);
}

#[test]
fn a_restart_without_a_memory_begins_above_its_obituary() {
    let mut swim = member(3);
    let old = Record { boot: 99, ..record(1, 40) };
    hears(&mut swim, 10, 2, &[Update::Alive { record: old, metadata: None }]);
    assert_eq!(swim.record().epoch, epoch(41));
    assert_eq!(swim.stats().id_conflicts, 0, "the past answers nothing");
}

#[test]
fn a_seed_tells_a_joiner_what_is_known_of_it() {
    let mut swim = member(3);
    let card = Card { record: Record { boot: 2, ..record(2, 0) }, metadata: Vec::new() };
    swim.handle(at(1), Input::Asked { call: CallId(0), from: node(2), question: Question::Join(card) });
    let known = drain(&mut swim).into_iter().find_map(|output| match output {
        Output::Answer { answer: Answer::Welcome { known, .. }, .. } => known,
        Output::Answer { .. }
        | Output::Event(_)
        | Output::Ask { .. }
        | Output::Datagram { .. }
        | Output::Resolve(_) => None,
    });
    assert_eq!(known, Some((epoch(0), 1)));
}

#[test]
fn the_same_member_at_another_address_needs_a_higher_epoch() {
    let mut swim = member(3);
    let moved = |incarnation| Record { address: "10.9.9.9:1".parse().unwrap(), ..record(2, incarnation) };
    let outputs = hears(&mut swim, 10, 3, &[Update::Alive { record: moved(0), metadata: None }]);
    assert_eq!(events(&outputs), [Event::IdConflict(node(2))]);
    assert_eq!(swim.member(node(2)).unwrap().record.address, address(2), "no change of state");
    let outputs = hears(&mut swim, 20, 3, &[Update::Alive { record: moved(1), metadata: None }]);
    assert_eq!(events(&outputs), [Event::AddressChanged(node(2))]);
}

#[test]
fn of_two_processes_under_one_id_the_newest_stays() {
    for (policy, boot, gives_way) in [
        (IdConflictPolicy::KeepNewest, 9, true),
        (IdConflictPolicy::KeepNewest, 0, false),
        (IdConflictPolicy::KeepOldest, 9, false),
        (IdConflictPolicy::Report, 9, false),
    ] {
        let mut swim = started(Config { id_conflict: policy, boot: 5, ..config() }, 3);
        let twin =
            |incarnation| Update::Alive { record: Record { boot, ..record(1, incarnation) }, metadata: None };
        hears(&mut swim, 10, 2, &[twin(0)]);
        assert_eq!(swim.record().epoch, epoch(1), "it may be our past");
        let elsewhere = Record { boot, address: address(9), ..record(1, 2) };
        let outputs = hears(&mut swim, 20, 2, &[Update::Alive { record: elsewhere, metadata: None }]);
        assert!(events(&outputs).contains(&Event::IdConflict(node(1))), "{policy:?}");
        assert_ne!(swim.lifecycle(), Lifecycle::Fenced, "anybody can say that");
        let asked = outputs.iter().find_map(|output| match output {
            Output::Ask { call, to, .. } if to.address == address(9) => Some((*call, to.id)),
            Output::Ask { .. }
            | Output::Event(_)
            | Output::Datagram { .. }
            | Output::Answer { .. }
            | Output::Resolve(_) => None,
        });
        let (call, whom) = asked.expect("it goes and looks");
        assert_eq!(whom, Some(node(1)));
        swim.handle(at(30), Input::Answered { call, from: node(1), answer: Answer::Pong });
        drain(&mut swim);
        assert_eq!(swim.lifecycle() == Lifecycle::Fenced, gives_way, "{policy:?}, its boot is {boot}");
        if gives_way {
            assert_eq!(swim.deadline(), None, "it says nothing any more");
        }
    }
}

#[test]
fn a_fight_for_an_id_slows_down() {
    let mut swim = started(Config { id_conflict: IdConflictPolicy::Report, ..config() }, 3);
    let mut fights = 0;
    for second in 0..60_u64 {
        let theirs = swim.record().epoch.next();
        let twin = Record { boot: 9, epoch: theirs, ..record(1, 0) };
        pass(&mut swim, second * 1000 + 1);
        hears(&mut swim, second * 1000 + 2, 2, &[Update::Alive { record: twin, metadata: None }]);
        fights += u64::from(swim.record().epoch > theirs);
    }
    assert!(fights <= 8, "{fights} answers in a minute");
}

#[test]
fn who_left_comes_back_with_a_later_start_only() {
    let mut swim = member(3);
    let outputs = hears(&mut swim, 10, 2, &[Update::Left { id: node(2), epoch: epoch(1) }]);
    assert_eq!(events(&outputs), [Event::Left(node(2))]);
    for update in [
        Update::Alive { record: record(2, 9), metadata: None },
        Update::Suspect { id: node(2), epoch: epoch(9), by: node(3) },
        Update::Dead { id: node(2), epoch: epoch(9) },
    ] {
        hears(&mut swim, 20, 3, &[update]);
        assert_eq!(state(&swim, 2), Some(State::Left), "{update:?}");
    }
    let later = Record { epoch: Epoch::new(u64::from(WALL.0 + 1) << 32), ..record(2, 0) };
    let outputs = hears(&mut swim, 30, 3, &[Update::Alive { record: later, metadata: None }]);
    assert_eq!(events(&outputs), [Event::Rejoined(node(2))]);
}

#[test]
fn a_goodbye_that_somebody_else_passes_on_leaves_time_to_object() {
    let mut swim = member(3);
    let goodbye = Update::Left { id: node(2), epoch: epoch(0) };
    hears(&mut swim, 10, 3, &[goodbye]);
    assert_eq!(state(&swim, 2), Some(State::Suspect));
    hears(&mut swim, 20, 3, &[Update::Alive { record: record(2, 1), metadata: None }]);
    assert_eq!(state(&swim, 2), Some(State::Alive), "it objected");
    hears(&mut swim, 30, 3, &[Update::Left { id: node(2), epoch: epoch(1) }]);
    pass(&mut swim, 4_100);
    assert_eq!(state(&swim, 2), Some(State::Left), "it did not");
    assert_eq!(swim.stats().declared_dead, 0);
}

#[test]
fn epochs_that_nobody_could_outbid_are_dropped() {
    let mut swim = member(3);
    let highest = Epoch::new(u64::MAX);
    for update in [
        Update::Alive { record: Record { epoch: highest, ..record(2, 0) }, metadata: None },
        Update::Suspect { id: node(2), epoch: highest, by: node(3) },
        Update::Dead { id: node(2), epoch: highest },
        Update::Left { id: node(2), epoch: highest },
        Update::Suspect { id: node(1), epoch: highest, by: node(3) },
        Update::Alive { record: Record { epoch: highest, boot: 9, ..record(1, 0) }, metadata: None },
    ] {
        let before = swim.stats().implausible;
        hears(&mut swim, 10, 3, &[update]);
        assert_eq!(swim.stats().implausible, before + 1, "{update:?}");
        assert_eq!((state(&swim, 2), swim.record().epoch), (Some(State::Alive), epoch(0)), "{update:?}");
    }
}

#[test]
fn a_death_is_believed_of_a_suspect_and_doubted_of_the_living() {
    let mut swim = member(3);
    let dead = Update::Dead { id: node(2), epoch: epoch(0) };
    hears(&mut swim, 10, 3, &[dead]);
    assert_eq!(state(&swim, 2), Some(State::Alive));
    let told = sent(&pass(&mut swim, 300));
    assert!(told.iter().any(|(to, kind, _)| (*to, *kind) == (2, Kind::Gossip)), "it is asked: {told:?}");
    hears(&mut swim, 310, 3, &[Update::Suspect { id: node(2), epoch: epoch(0), by: node(3) }, dead]);
    assert_eq!(state(&swim, 2), Some(State::Suspect), "it has the shortest time to object, whatever is said");
    let outputs = pass(&mut swim, 4_400);
    assert!(events(&outputs).contains(&Event::Dead(node(2))));
}

#[test]
fn whoever_is_doubted_and_does_not_answer_becomes_a_suspect_with_our_own_timer() {
    let mut swim = member(3);
    hears(&mut swim, 10, 3, &[Update::Dead { id: node(2), epoch: epoch(0) }]);
    pass(&mut swim, 4_500);
    assert_eq!(state(&swim, 2), Some(State::Suspect));
}

#[test]
fn somebody_else_at_an_address_makes_its_member_a_suspect_for_the_shortest_time() {
    let mut swim = member(2);
    let outputs = pass(&mut swim, 1_000);
    let ping = outputs.iter().find_map(|output| match output {
        Output::Datagram { bytes, .. } => Some(Datagram::read(bytes).unwrap().header.sequence),
        Output::Event(_) | Output::Ask { .. } | Output::Answer { .. } | Output::Resolve(_) => None,
    });
    let wrong = Header { sequence: ping.unwrap(), ..header(9, Kind::WrongNode) };
    let elsewhere = Input::Datagram { from: node(9), via: address(9), bytes: packed(&wrong, &[]) };
    swim.handle(at(1_009), elsewhere);
    assert_eq!(state(&swim, 2), Some(State::Alive), "that was said from another address");
    swim.handle(at(1_010), Input::Datagram { from: node(9), via: address(2), bytes: packed(&wrong, &[]) });
    drain(&mut swim);
    assert_eq!(state(&swim, 2), Some(State::Suspect));
    pass(&mut swim, 5_100);
    assert_eq!(state(&swim, 2), Some(State::Dead));
}

#[test]
fn a_datagram_for_somebody_else_is_answered_with_who_is_here() {
    let mut swim = member(3);
    let misdirected = Header { destination: Some(node(8)), ..header(2, Kind::Ping) };
    let dead = Update::Dead { id: node(3), epoch: epoch(0) };
    let outputs = hears_bytes(&mut swim, 10, 2, packed(&misdirected, &[dead]));
    assert_eq!(sent(&outputs).first().map(|(to, kind, _)| (*to, *kind)), Some((2, Kind::WrongNode)));
    assert_eq!(state(&swim, 3), Some(State::Alive), "what was said to somebody else is not heard");
}

#[test]
fn a_stall_voids_the_probe_and_gives_the_time_back_once() {
    let mut swim = member(3);
    hears(&mut swim, 10, 3, &[Update::Suspect { id: node(2), epoch: epoch(0), by: node(3) }]);
    pass(&mut swim, 1_500);
    let (stopped, health) = (31_000, swim.health());
    for later in 0..5 {
        hears(&mut swim, stopped + later, 3, &[]);
    }
    assert_eq!(swim.health(), health + 2, "we were the slow one");
    pass(&mut swim, stopped + 1_000);
    assert_eq!(state(&swim, 2), Some(State::Suspect), "it could not be heard");
    pass(&mut swim, stopped + 8_000);
    assert_eq!(state(&swim, 2), Some(State::Dead), "but the time is given back once, not with each datagram");
}

#[test]
fn a_suspicion_of_a_stranger_makes_us_compare_tables() {
    let mut swim = member(3);
    let outputs = hears(&mut swim, 10, 2, &[Update::Suspect { id: node(9), epoch: epoch(0), by: node(3) }]);
    let asks =
        outputs.iter().any(|output| matches!(output, Output::Ask { question: Question::Digest(_), .. }));
    assert!(asks && state(&swim, 9).is_none());
}

/// Seed 4649 of the pure world: a founder without seeds started again, and never learned who spoke to it.
#[test]
fn who_has_no_seeds_asks_the_stranger_that_speaks_to_it() {
    let mut swim = member(1);
    assert_eq!(swim.lifecycle(), Lifecycle::Idle);
    let outputs = hears_bytes(&mut swim, 10, 2, packed(&header(2, Kind::Ping), &[]));
    let is_question = |output: &Output| matches!(output, Output::Ask { question: Question::Digest(_), .. });
    assert!(outputs.iter().any(is_question), "{outputs:?}");
}

#[test]
fn an_obituary_of_a_stranger_is_kept_so_that_old_words_do_not_revive_it() {
    let mut swim = member(3);
    let outputs = hears(&mut swim, 10, 2, &[Update::Dead { id: node(9), epoch: epoch(4) }]);
    assert_eq!(events(&outputs), []);
    hears(&mut swim, 20, 2, &[Update::Alive { record: record(9, 4), metadata: None }]);
    assert_eq!(state(&swim, 9), Some(State::Dead));
    hears(&mut swim, 30, 2, &[Update::Alive { record: record(9, 5), metadata: None }]);
    assert_eq!(state(&swim, 9), Some(State::Alive));
}

#[test]
fn strangers_forgers_and_other_clusters_are_counted_and_dropped() {
    let mut swim = member(3);
    let dead = Update::Dead { id: node(3), epoch: epoch(0) };
    let foreign = Header { cluster: [0; 4], ..header(2, Kind::Ping) };
    assert_eq!(hears_bytes(&mut swim, 10, 2, packed(&foreign, &[dead])), []);
    assert_eq!(hears_bytes(&mut swim, 11, 2, packed(&header(3, Kind::Ping), &[dead])), []);
    assert_eq!(hears_bytes(&mut swim, 12, 2, vec![0; 70_000]), []);
    assert_eq!(hears_bytes(&mut swim, 13, 2, packed(&header(2, Kind::Ping), &[dead])[..60].to_vec()), []);
    let stats = swim.stats();
    assert_eq!((stats.foreign, stats.forged), (1, 1));
    assert_eq!(stats.malformed.get(&Malformed::TooLong), Some(&1));
    assert_eq!(stats.malformed.get(&Malformed::Truncated), Some(&1));
}

#[test]
fn another_version_is_answered_once_a_period() {
    let mut swim = member(3);
    let mut bytes = packed(&header(2, Kind::Ping), &[]);
    bytes[2] = 9;
    let outputs = hears_bytes(&mut swim, 10, 2, bytes.clone());
    assert_eq!(sent(&outputs).first().map(|sent| sent.1), Some(Kind::VersionMismatch));
    assert_eq!(events(&outputs), [Event::VersionMismatch(node(2))]);
    assert_eq!(hears_bytes(&mut swim, 20, 2, bytes), []);
}

#[test]
fn a_flood_is_cut_off_until_the_period_ends() {
    let mut swim = member(3);
    let ping = packed(&header(2, Kind::Ping), &[]);
    for _ in 0..10_000 {
        hears_bytes(&mut swim, 10, 2, ping.clone());
    }
    assert!(swim.stats().flooding >= 5_000);
    assert!(swim.stats().sent <= 5_000);
    pass(&mut swim, 1_100);
    assert!(!sent(&hears_bytes(&mut swim, 1_110, 2, ping)).is_empty(), "it is heard again");
}

#[test]
fn a_helper_forwards_the_answer_and_says_when_there_is_none() {
    let mut swim = member(3);
    let asked = header(2, Kind::PingReq);
    let body = Body::PingReq { target: node(3), nack_after_ms: 400 };
    let request = Writer::begin(Vec::new(), 1160, &asked, body).finish();
    let outputs = hears_bytes(&mut swim, 10, 2, request);
    let ping = outputs.iter().find_map(|output| match output {
        Output::Datagram { bytes, .. } => Some(Datagram::read(bytes).unwrap().header),
        Output::Event(_) | Output::Ask { .. } | Output::Answer { .. } | Output::Resolve(_) => None,
    });
    let ping = ping.unwrap();
    assert_eq!((ping.kind, ping.destination), (Kind::Ping, Some(node(3))));
    let nacks = sent(&pass(&mut swim, 411));
    assert!(nacks.iter().any(|(to, kind, _)| (*to, *kind) == (2, Kind::Nack)), "{nacks:?}");
    let ack = Header { sequence: ping.sequence, ..header(3, Kind::Ack) };
    let forwarded = sent(&hears_bytes(&mut swim, 500, 3, packed(&ack, &[])));
    assert_eq!(forwarded.first().map(|(to, kind, _)| (*to, *kind)), Some((2, Kind::ForwardedAck)));
}

#[test]
fn a_member_without_company_tries_its_seeds_for_ever() {
    let seeds: Vec<PeerName> = vec!["seed:7946".parse().unwrap()];
    let mut swim = started(Config { seeds: seeds.clone(), ..config() }, 2);
    drain(&mut swim);
    let resolved = Input::Resolved { name: seeds[0].clone(), addresses: vec![address(9)] };
    swim.handle(at(1), resolved);
    hears(&mut swim, 10, 2, &[Update::Left { id: node(2), epoch: epoch(1) }]);
    assert_eq!(swim.lifecycle(), Lifecycle::Isolated);
    for minute in 1..4 {
        let outputs = pass(&mut swim, minute * 60_000);
        let tries = sent(&outputs).iter().filter(|(_, kind, _)| *kind == Kind::HealPing).count();
        assert!(tries > 50, "{tries} tries in a minute");
        assert!(outputs.contains(&Output::Resolve(seeds[0].clone())), "its name is resolved again");
    }
}

#[test]
fn a_goodbye_ends_when_enough_have_acknowledged_it_or_its_time_is_up() {
    let mut swim = member(5);
    swim.handle(at(5), Input::Leave);
    let outputs = drain(&mut swim);
    assert_eq!(sent(&outputs).iter().filter(|sent| sent.1 == Kind::Ping).count(), 3);
    let outputs = pass(&mut swim, 10_000);
    assert!(events(&outputs).contains(&Event::Left(node(1))));
    assert_eq!((swim.lifecycle(), swim.deadline()), (Lifecycle::Gone, None));
    hears(&mut swim, 11_000, 2, &[]);
    assert_eq!(drain(&mut swim), []);
}

#[test]
fn the_dead_are_forgotten_in_time() {
    let timing = Timing { retention: Duration::from_secs(60), ..Timing::LAN };
    let mut swim = started(Config { timing, ..config() }, 3);
    hears(&mut swim, 10, 2, &[Update::Left { id: node(2), epoch: epoch(1) }]);
    pass(&mut swim, 30_000);
    assert_eq!(state(&swim, 2), Some(State::Left));
    pass(&mut swim, 61_000);
    assert_eq!(state(&swim, 2), None);
}

#[test]
fn a_full_table_turns_newcomers_away() {
    let mut swim = started(Config { members_max: 3, ..config() }, 3);
    hears(&mut swim, 10, 2, &[Update::Alive { record: record(9, 0), metadata: None }]);
    assert_eq!((state(&swim, 9), swim.stats().table_full), (None, 1));
}

#[test]
fn work_does_not_grow_with_the_number_of_members() {
    let work = |members: u64| {
        let mut swim = member(2);
        for id in 3..=members {
            swim.introduce(&record(id, 0));
        }
        swim.handle_timeout(at(1_000));
        while swim.poll().is_some() {}
        let before = swim.work();
        let ten: Vec<Update<'_>> =
            (2..12).map(|id| Update::Alive { record: record(id, 0), metadata: None }).collect();
        let bytes = packed(&header(2, Kind::Ping), &ten);
        for step in 0..100 {
            let datagram = Input::Datagram { from: node(2), via: address(2), bytes: bytes.clone() };
            swim.handle(at(1_000 + step), datagram);
            while swim.poll().is_some() {}
        }
        swim.work() - before
    };
    let (few, many) = (work(100), work(10_000));
    assert!(many <= few * 3 / 2, "{few} steps among a hundred, {many} among ten thousand");
}

#[test]
fn room_for_what_is_said_after_a_partition_is_given_back() {
    let mut swim = member(3);
    swim.outputs.extend(core::iter::repeat_n(Output::Event(Event::Isolated), 5000));
    drain(&mut swim);
    assert!(swim.outputs.capacity() <= 2 * OUTPUTS_KEPT, "{}", swim.outputs.capacity());
}

#[test]
fn a_member_takes_less_than_a_hundred_bytes() {
    let mut swim = member(2);
    for id in 3..=10_000 {
        swim.introduce(&record(id, 0));
    }
    let bytes = swim.table_bytes() / 10_000;
    assert!(bytes <= 100, "{bytes} bytes a member");
}
