//! A member in a quiet period allocates nothing: buffers that come in go out again.

use std::net::SocketAddr;

use rivven_cluster::id::NodeId;
use rivven_cluster::machine::Machine;
use rivven_cluster::rng::Seed;
use rivven_cluster::swim::{Config, Input, Output, Start, Swim, WallSeconds};
use rivven_cluster::time::Instant;

const MEMBERS: u64 = 20;

fn address(id: u64) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, u8::try_from(id).expect("few members")], 7946))
}

fn members() -> Vec<Swim> {
    let start = |id: u64| {
        let node = NodeId::new(id).expect("not zero");
        let config = Config::new(node, "quiet".parse().expect("a name"), address(id), 1);
        let start = Start { wall: WallSeconds(200_000_000), remembered: None, seed: Seed::new(id) };
        Swim::start(config, start, Instant::ORIGIN).expect("a sound configuration")
    };
    let mut all: Vec<Swim> = (1..=MEMBERS).map(start).collect();
    let records: Vec<_> = all.iter().map(|member| *member.record()).collect();
    for member in &mut all {
        let own = member.id();
        records.iter().filter(|record| record.id != own).for_each(|record| member.introduce(record));
    }
    all
}

/// Plays until `end`: each timer when it is due, each datagram as soon as it is sent.
fn play(all: &mut [Swim], now: &mut Instant, end: Instant) {
    while let Some(due) = all.iter().filter_map(Machine::deadline).min().filter(|due| *due <= end) {
        *now = due;
        for index in 0..all.len() {
            if all[index].deadline().is_some_and(|at| at <= due) {
                all[index].handle_timeout(due);
                deliver(all, index, due);
            }
        }
    }
}

fn deliver(all: &mut [Swim], from: usize, now: Instant) {
    while let Some(output) = all[from].poll() {
        if let Output::Datagram { to, bytes } = output {
            let other = usize::try_from(to.id.expect("all are known").value() - 1).expect("a seat");
            let (id, via) = (all[from].id(), all[from].record().address);
            all[other].handle(now, Input::Datagram { from: id, via, bytes });
            deliver(all, other, now);
        }
    }
}

#[test]
fn a_quiet_period_allocates_nothing() {
    let (mut all, mut now) = (members(), Instant::ORIGIN);
    // Until every buffer and queue has found its size.
    play(&mut all, &mut now, Instant::from_nanos(60_000_000_000));
    let allocated = allocation_counter::measure(|| {
        play(&mut all, &mut now, Instant::from_nanos(120_000_000_000));
    });
    let probes: u64 = all.iter().map(|member| member.stats().probes).sum();
    assert!(probes >= MEMBERS * 110, "{probes} probes");
    assert_eq!(allocated.count_total, 0, "{allocated:?}");
}
