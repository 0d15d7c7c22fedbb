//! What one member costs: a datagram heard, news passed on, and the memory of those it knows.

use std::num::NonZeroU32;
use std::time::{Duration, Instant as Wall};

use bytes::BufMut as _;
use foca::{Codec as _, Foca, Header, Member, Message};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rivven_cluster::machine::Machine as _;
use rivven_cluster::rng::Seed;
use rivven_cluster::swim::{Config as OurConfig, Input, Output, Start, Swim, WallSeconds};
use rivven_cluster::time::Instant;
use rivven_sim::swim::world::{address_of, id_of};

use super::foca_world::{Acts, Peer, Plain, foca_id};

/// B2: CPU of one warm member for a datagram with so many updates that it knows already, in microseconds.
pub fn datagram(members: usize, updates: usize) -> [f64; 2] {
    let rounds = if members > 1000 { 2_000 } else { 20_000 };
    let time = |mut step: Box<dyn FnMut()>| {
        (0..rounds / 10).for_each(|_| step());
        let began = Wall::now();
        (0..rounds).for_each(|_| step());
        began.elapsed().as_secs_f64() * 1e6 / f64::from(rounds)
    };
    [time(our_listener(members, updates)), time(foca_listener(members, updates))]
}

/// A step in which one of our members hears a ping with updates, and answers it.
fn our_listener(members: usize, updates: usize) -> Box<dyn FnMut()> {
    // A member that has just met `updates` others tells of them.
    let (mut talker, mut listener) = (start(1), start(0));
    for seat in 1..members {
        listener.introduce(start(seat).record());
    }
    talker.introduce(listener.record());
    meet(&mut talker, 2..2 + updates);
    let mut said: Vec<u8> = Vec::new();
    while let Some(due) = talker.deadline().filter(|_| said.is_empty()) {
        talker.handle_timeout(due);
        while let Some(output) = talker.poll() {
            if let Output::Datagram { bytes, .. } = output {
                said = if bytes.len() > said.len() { bytes } else { said };
            }
        }
    }
    // Whomever it was for, and whatever it was: a ping to the listener.
    said[8] = 0;
    said[30..38].copy_from_slice(&1_u64.to_le_bytes());
    assert!(said.len() >= 51 + 20 * updates, "{} bytes hold fewer than {updates} updates", said.len());
    let (mut at, mut spare) = (Instant::ORIGIN, Vec::<Vec<u8>>::new());
    Box::new(move || {
        at = at + Duration::from_millis(1);
        let mut bytes = spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(&said);
        listener.handle(at, Input::Datagram { from: id_of(1), via: address_of(1), bytes });
        while let Some(output) = listener.poll() {
            if let Output::Datagram { bytes, .. } = output {
                spare.push(bytes);
            }
        }
        if listener.deadline().is_some_and(|due| due <= at) {
            listener.handle_timeout(at);
            while listener.poll().is_some() {}
        }
    })
}

/// The same with foca.
fn foca_listener(members: usize, updates: usize) -> Box<dyn FnMut()> {
    let mut acts = Acts::default();
    let mut peer = foca_peer(members, &mut acts);
    let header = Header { src: foca_id(1), src_incarnation: 0, dst: foca_id(0), message: Message::Ping(1) };
    let mut bytes = Vec::new();
    Plain.encode_header(&header, &mut bytes).expect("it fits");
    bytes.put_u16(updates as u16);
    for seat in 2..2 + updates {
        Plain.encode_member(&Member::alive(foca_id(seat)), &mut bytes).expect("it fits");
    }
    Box::new(move || {
        peer.handle_data(&bytes, &mut acts).expect("a sound datagram");
        let sent: Vec<Vec<u8>> = acts.sent.drain(..).map(|(_, bytes)| bytes).collect();
        acts.spare.extend(sent);
        acts.timers.clear();
    })
}

/// One of our members, which knows nobody.
fn start(seat: usize) -> Swim {
    let config = OurConfig::new(id_of(seat), "swim".parse().expect("a name"), address_of(seat), 1);
    let wall = WallSeconds(200_000_000);
    let start = Start { wall, remembered: None, seed: Seed::new(1) };
    Swim::start(OurConfig { datagram_max: 1400, ..config }, start, Instant::ORIGIN)
        .expect("a sound configuration")
}

/// One of our members that knows all the others.
fn warm(members: usize) -> Swim {
    let mut swim = start(0);
    (1..members).for_each(|seat| swim.introduce(start(seat).record()));
    swim
}

/// One of foca's members that knows all the others.
fn foca_peer(members: usize, acts: &mut Acts) -> Peer {
    let config = foca::Config::new_lan(NonZeroU32::new(members as u32).expect("some members"));
    let mut peer = Foca::new(foca_id(0), config, ChaCha8Rng::seed_from_u64(1), Plain);
    let others = (1..members).map(|seat| Member::alive(foca_id(seat)));
    peer.apply_many(others, false, acts).expect("sound members");
    peer
}

/// Lets `talker` hear of these, one datagram each, so that they are news to it.
fn meet(talker: &mut Swim, seats: std::ops::Range<usize>) {
    for seat in seats {
        let mut other = start(seat);
        other.introduce(talker.record());
        other.handle(Instant::ORIGIN, Input::Describe(Vec::new()));
        other.handle_timeout(other.deadline().expect("a probe"));
        while let Some(output) = other.poll() {
            if let Output::Datagram { bytes, .. } = output {
                let (from, via) = (id_of(seat), address_of(seat));
                talker.handle(Instant::ORIGIN, Input::Datagram { from, via, bytes });
            }
        }
        while talker.poll().is_some() {}
    }
}

/// B3: CPU of one datagram full of news, while so many pieces wait, in microseconds.
pub fn news(backlog: usize) -> [f64; 2] {
    let mut ours = warm(10);
    meet(&mut ours, 10..10 + backlog);
    let (mut sent, began) = (0_u32, Wall::now());
    while sent < 200 {
        let due = ours.deadline().expect("there is news");
        ours.handle_timeout(due);
        while let Some(output) = ours.poll() {
            sent += u32::from(matches!(output, Output::Datagram { .. }));
        }
    }
    let took = began.elapsed().as_secs_f64() * 1e6 / f64::from(sent);
    let mut acts = Acts::default();
    let mut theirs = foca_peer(backlog + 10, &mut acts);
    let (mut sent, began) = (0, Wall::now());
    while sent < 200 {
        theirs.gossip(&mut acts).expect("members");
        sent += acts.sent.len();
        acts.sent.clear();
    }
    [took, began.elapsed().as_secs_f64() * 1e6 / sent as f64]
}

/// B4: the bytes of a ping without news, and of one with ten words of life.
pub fn sizes() -> [String; 2] {
    let with = |words: usize| {
        let mut ours = warm(3);
        meet(&mut ours, 3..3 + words);
        said(&mut ours)
    };
    let header = Header { src: foca_id(1), src_incarnation: 0, dst: foca_id(0), message: Message::Ping(1) };
    let (mut head, mut member) = (Vec::new(), Vec::new());
    Plain.encode_header(&header, &mut head).expect("it fits");
    Plain.encode_member(&Member::alive(foca_id(1)), &mut member).expect("it fits");
    let theirs = [head.len(), head.len() + 2 + 10 * member.len()];
    [format!("{} / {} B", with(0), with(10)), format!("{} / {} B", theirs[0], theirs[1])]
}

/// The length of the longest datagram that a member sends next.
fn said(swim: &mut Swim) -> usize {
    let mut longest = 0;
    while longest == 0 {
        swim.handle_timeout(swim.deadline().expect("a probe"));
        while let Some(output) = swim.poll() {
            if let Output::Datagram { bytes, .. } = output {
                longest = longest.max(bytes.len());
            }
        }
    }
    longest
}

/// B5: bytes of the heap for each member that one knows.
pub fn memory(members: usize) -> [f64; 2] {
    let each = |bytes: i64| bytes as f64 / members as f64;
    let mut ours = None;
    let info = allocation_counter::measure(|| ours = Some(warm(members)));
    drop(ours);
    let (mut theirs, mut acts) = (None, Acts::default());
    let their_info = allocation_counter::measure(|| {
        let mut peer = foca_peer(members, &mut acts);
        while peer.updates_backlog() > 0 && peer.gossip(&mut acts).is_ok() {
            acts.sent.clear();
        }
        acts = Acts::default();
        theirs = Some(peer);
    });
    drop(theirs);
    [each(info.bytes_current), each(their_info.bytes_current)]
}
