//! What an attacking reading of the machine found, and the tormented members of the simulation: orders of
//! events, and lies, that must not work.

use super::*;

#[test]
fn the_word_that_belongs_to_an_epoch_which_an_accusation_named_is_no_conflict() {
    let mut swim = member(3);
    hears(&mut swim, 10, 3, &[Update::Suspect { id: node(2), epoch: epoch(5), by: node(3) }]);
    let restarted = Record { boot: 9, address: address(8), ..record(2, 5) };
    let outputs = hears(&mut swim, 20, 3, &[Update::Alive { record: restarted, metadata: None }]);
    assert_eq!(events(&outputs), []);
    let member = swim.member(node(2)).unwrap();
    assert_eq!((member.state, member.record), (State::Suspect, restarted));
}

#[test]
fn one_answer_cannot_fill_the_memory() {
    let mut swim = member(100);
    let outputs = hears(&mut swim, 10, 2, &[Update::Suspect { id: node(999), epoch: epoch(0), by: node(3) }]);
    let call = outputs.iter().find_map(|output| match output {
        Output::Ask { call, question: Question::Digest(_), .. } => Some(*call),
        Output::Ask { .. }
        | Output::Event(_)
        | Output::Datagram { .. }
        | Output::Answer { .. }
        | Output::Resolve(_) => None,
    });
    let buckets = (0..100_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let answer = Answer::Differences { buckets, known: Vec::new() };
    swim.handle(at(11), Input::Answered { call: call.unwrap(), from: node(2), answer });
    let cards = drain(&mut swim).into_iter().find_map(|output| match output {
        Output::Ask { question: Question::Exchange { cards, .. }, .. } => Some(cards.len()),
        Output::Ask { .. }
        | Output::Event(_)
        | Output::Datagram { .. }
        | Output::Answer { .. }
        | Output::Resolve(_) => None,
    });
    assert_eq!(cards, Some(100), "each member once");
}

#[test]
fn metadata_that_should_have_been_fetched_is_not_taken_from_anybody() {
    let mut swim = member(3);
    let metadata = vec![7; 100_000];
    let record = Record { metadata_version: 1, metadata_hash: hash_of(&metadata), ..record(9, 0) };
    let question =
        Question::Exchange { wanted: vec![], cards: vec![Card { record, metadata }], accused: vec![] };
    swim.handle(at(1), Input::Asked { call: CallId(0), from: node(2), question });
    drain(&mut swim);
    assert_eq!(swim.metadata(node(9)), b"");
}

#[test]
fn whoever_asks_often_does_not_use_up_the_news() {
    let mut swim = member(30);
    hears(&mut swim, 10, 2, &[Update::Suspect { id: node(1), epoch: epoch(0), by: node(2) }]);
    for _ in 0..50 {
        hears_bytes(&mut swim, 11, 2, packed(&header(2, Kind::Ping), &[]));
    }
    assert!(swim.backlog() > 0, "its refutation is still to be told to the others");
}

#[test]
fn one_peer_does_not_keep_us_from_comparing_tables_with_others() {
    let mut swim = member(5);
    let unknown = |id| Update::Suspect { id: node(id), epoch: epoch(0), by: node(2) };
    for second in 0..5 {
        pass(&mut swim, second * 1000);
        hears(&mut swim, second * 1000 + 1, 2, &[unknown(90 + second)]);
    }
    let outputs = hears(&mut swim, 5_001, 3, &[unknown(99)]);
    let asks =
        outputs.iter().any(|output| matches!(output, Output::Ask { to, .. } if to.id == Some(node(3))));
    assert!(asks, "the first one has not answered");
}

#[test]
fn a_helper_dials_nobody_whom_it_does_not_know_and_no_asker_takes_all_its_places() {
    let mut swim = member(40);
    let request = |target: u64, sequence: u32| {
        let body = Body::PingReq { target: node(target), nack_after_ms: 400 };
        Writer::begin(Vec::new(), 1160, &Header { sequence, ..header(2, Kind::PingReq) }, body).finish()
    };
    let stranger = sent(&hears_bytes(&mut swim, 10, 2, request(99, 1)));
    assert_eq!(stranger.first().map(|(to, kind, _)| (*to, *kind)), Some((2, Kind::Nack)));
    for sequence in 2..12 {
        let outputs = hears_bytes(&mut swim, 10, 2, request(3, sequence));
        let to_target = outputs
            .iter()
            .any(|output| matches!(output, Output::Datagram { to, .. } if to.address == address(3)));
        assert_eq!(to_target, sequence < 10, "request {sequence}");
    }
}

#[test]
fn a_clock_that_was_far_ahead_at_the_start_is_forgotten() {
    let ahead = WallSeconds(WALL.0 + 40 * 24 * 3600);
    let start = Start { wall: ahead, remembered: None, seed: Seed::new(7) };
    let mut swim = Swim::start(config(), start, Instant::ORIGIN).unwrap();
    swim.handle(at(1), Input::WallClock(WALL));
    drain(&mut swim);
    assert_eq!(swim.record().epoch, epoch(0), "nobody has believed the other one");
}

#[test]
fn a_lost_seed_is_found_among_thousands_of_dead() {
    let seeds: Vec<PeerName> = vec!["seed:7946".parse().unwrap()];
    let mut swim = started(Config { seeds: seeds.clone(), ..config() }, 2);
    swim.handle(at(1), Input::Resolved { name: seeds[0].clone(), addresses: vec![address(9)] });
    for id in 100..3_000 {
        let gone = Update::Dead { id: node(id), epoch: epoch(0) };
        swim.handle(
            at(2),
            Input::Datagram {
                from: node(2),
                via: address(2),
                bytes: packed(&header(2, Kind::Gossip), &[gone]),
            },
        );
        while swim.poll().is_some() {}
    }
    hears(&mut swim, 10, 2, &[Update::Left { id: node(2), epoch: epoch(1) }]);
    let tries = sent(&pass(&mut swim, 10_000));
    assert!(tries.iter().any(|(to, kind, _)| (*to, *kind) == (0, Kind::HealPing)), "within seconds");
}

/// The members that are asked for their metadata, with the number of the question.
fn asked_for_metadata(outputs: &[Output]) -> Vec<(u64, CallId)> {
    let ask = |output: &Output| match output {
        Output::Ask { call, to, question: Question::Metadata } => Some((to.id.unwrap().value(), *call)),
        Output::Ask { .. }
        | Output::Event(_)
        | Output::Datagram { .. }
        | Output::Answer { .. }
        | Output::Resolve(_) => None,
    };
    outputs.iter().filter_map(ask).collect()
}

fn described(id: u64, metadata: &[u8]) -> Record {
    Record { metadata_version: 1, metadata_hash: hash_of(metadata), ..record(id, 1) }
}

#[test]
fn metadata_that_was_asked_for_in_vain_is_asked_for_again_and_keeps_nobody_waiting() {
    let mut swim = member(4);
    let news = [2, 3].map(|id| Update::Alive { record: described(id, &[9; 100]), metadata: None });
    hears(&mut swim, 10, 4, &news);
    let mut asked = Vec::new();
    for second in 1..=20 {
        for (id, call) in asked_for_metadata(&pass(&mut swim, second * 1000)) {
            asked.push(id);
            swim.handle(at(second * 1000), Input::Unanswered { call });
        }
    }
    assert!(asked.len() >= 4, "{asked:?}");
    assert!(asked.windows(2).all(|pair| pair[0] != pair[1]), "in turn: {asked:?}");
}

#[test]
fn metadata_that_became_empty_is_fetched_once() {
    let mut swim = member(3);
    hears(&mut swim, 10, 3, &[Update::Alive { record: described(2, b""), metadata: None }]);
    let mut asked = 0;
    for second in 1..=5 {
        for (_, call) in asked_for_metadata(&pass(&mut swim, second * 1000)) {
            asked += 1;
            let answer = Answer::Metadata { version: 1, bytes: Vec::new() };
            swim.handle(at(second * 1000), Input::Answered { call, from: node(2), answer });
        }
    }
    assert_eq!(asked, 1);
}

#[test]
fn whose_words_were_falsified_is_told_and_speaks_again() {
    // Its metadata: the owner's answer does not fit what we were told.
    let mut swim = member(3);
    hears(&mut swim, 10, 3, &[Update::Alive { record: described(2, &[9; 100]), metadata: None }]);
    let (_, call) = asked_for_metadata(&pass(&mut swim, 1_000))[0];
    let answer = Answer::Metadata { version: 1, bytes: vec![8; 100] };
    swim.handle(at(1_001), Input::Answered { call, from: node(2), answer });
    assert!(is_told(&mut swim, 1_300));

    // Its address: another table has the same epoch with another word.
    let mut swim = member(3);
    let hash = swim.membership_hash();
    let elsewhere = Record { address: address(77), ..record(2, 1) };
    hears(&mut swim, 10, 3, &[Update::Alive { record: elsewhere, metadata: None }]);
    let mut other = member(3);
    hears(&mut other, 10, 3, &[Update::Alive { record: record(2, 1), metadata: None }]);
    assert_ne!(swim.membership_hash(), other.membership_hash(), "it shows in every datagram");
    assert_ne!(swim.membership_hash(), hash);
    let theirs = other.differences(&[0; table::BUCKETS]);
    let call = comparison(&mut swim);
    swim.handle(at(21), Input::Answered { call, from: node(3), answer: theirs });
    assert!(is_told(&mut swim, 400));
}

/// Makes the member compare its table with that of member 3.
fn comparison(swim: &mut Swim) -> CallId {
    let unknown = Update::Suspect { id: node(999), epoch: epoch(0), by: node(3) };
    let outputs = hears(swim, 20, 3, &[unknown]);
    let call = outputs.iter().find_map(|output| match output {
        Output::Ask { call, question: Question::Digest(_), .. } => Some(*call),
        Output::Ask { .. }
        | Output::Event(_)
        | Output::Datagram { .. }
        | Output::Answer { .. }
        | Output::Resolve(_) => None,
    });
    call.unwrap()
}

/// Whether member 2 is told, by then, what is held against it.
fn is_told(swim: &mut Swim, until: u64) -> bool {
    pass(swim, until).iter().any(|output| match output {
        Output::Datagram { to, bytes } if to.id == Some(node(2)) => {
            let updates = Datagram::read(bytes).unwrap();
            updates.updates().any(|update| matches!(update, Update::Suspect { id, .. } if id == node(2)))
        }
        Output::Datagram { .. }
        | Output::Ask { .. }
        | Output::Event(_)
        | Output::Answer { .. }
        | Output::Resolve(_) => false,
    })
}

#[test]
fn a_word_that_fills_a_gap_takes_its_failure_domain_along() {
    let mut swim = member(3);
    hears(&mut swim, 10, 3, &[Update::Suspect { id: node(2), epoch: epoch(5), by: node(3) }]);
    let moved = Record { zone: 7, ..record(2, 5) };
    hears(&mut swim, 20, 3, &[Update::Alive { record: moved, metadata: None }]);
    assert_eq!(swim.member(node(2)).unwrap().record, moved);
}
