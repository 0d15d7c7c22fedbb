//! Our SWIM beside foca 2, in one program: `cargo bench -p rivven-sim --bench swim_peers [-- MEMBERS ...]`.
//!
//! Both run on the same kind of loop, with the same latencies, a period of 1 s, a timeout of 500 ms, 3 helpers,
//! gossip every 200 ms to 3, datagrams of 1400 bytes, and an id of a number and an IPv4 address. foca gets a codec
//! written by hand, a runtime that keeps its buffers, `new_lan(n)` with all its periodic tasks, and
//! `notify_down_members`. A row is printed for each size, then what does not depend on it; lower is better but for speed.
#![expect(
    clippy::disallowed_types,
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "a benchmark reads the clock and prints averages"
)]

mod foca_world;
mod single;

use std::num::NonZeroU32;
use std::time::{Duration, Instant as Wall};

use foca::Foca;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rivven_sim::swim::gates;
use rivven_sim::swim::world::{Setting, World};

use self::foca_world::{FocaWorld, Plain, foca_id};

fn show(took: Option<f64>) -> String {
    took.map_or_else(|| "never".to_owned(), |took| format!("{took:.2} s"))
}

/// B1: CPU of one member in one quiet period, the loop included. The least of three runs.
fn quiet(members: usize) -> [f64; 2] {
    let each = |took: Duration, seconds: u64| took.as_secs_f64() * 1e6 / (members as u64 * seconds) as f64;
    let seconds = if members > 1000 { 5 } else { 20_000 / members as u64 };
    let mut ours = World::new(Setting::new(members, 1));
    ours.run_for(Duration::from_secs(2));
    let mut theirs = FocaWorld::new(members, 1);
    theirs.run_for(Duration::from_secs(40));
    let mut best = [f64::MAX; 2];
    for _ in 0..3 {
        let began = Wall::now();
        ours.run_for(Duration::from_secs(seconds));
        best[0] = best[0].min(each(began.elapsed(), seconds));
        let began = Wall::now();
        theirs.run_for(Duration::from_secs(seconds));
        best[1] = best[1].min(each(began.elapsed(), seconds));
    }
    best
}

/// B10: seconds until whole again after a minute in halves, and who was declared dead meanwhile.
fn merge(members: usize) -> [String; 2] {
    let ours = gates::merge(members, 60, 1);
    let mut world = FocaWorld::new(members, 1);
    world.run_for(Duration::from_secs(3));
    (0..members / 2).for_each(|seat| world.sides[seat] = 1);
    world.run_for(Duration::from_secs(60));
    world.sides.fill(0);
    let downs = world.downs;
    let took = world.until(600, |world| world.all_know(members));
    [
        format!("{}, {} deaths", ours[0].measured, ours[1].measured),
        format!("{}, {} deaths", show(took), world.downs - downs),
    ]
}

/// B6, B7: a newcomer knows all; a crash is known to all.
fn news(members: usize) -> [[String; 2]; 2] {
    let join = gates::join(members, 1);
    let crash = gates::detection(members, 1, 1);
    let mut world = FocaWorld::new(members, 1);
    world.run_for(Duration::from_secs(3));
    world.peers[1] = None;
    let crashed =
        world.until(200, |world| world.peers.iter().flatten().all(|peer| peer.num_members() + 2 == members));
    let mut world = FocaWorld::new(members, 2);
    world.run_for(Duration::from_secs(3));
    let config = foca::Config::new_lan(NonZeroU32::new(members as u32).expect("some members"));
    let newcomer = Foca::new(foca_id(members), config, ChaCha8Rng::seed_from_u64(9), Plain);
    world.peers.push(Some(Box::new(newcomer)));
    world.sides.push(0);
    world.step(members, |peer, acts| peer.announce(foca_id(0), acts).expect("a seed"));
    let joined = world
        .until(600, |world| world.peers[members].as_ref().is_some_and(|peer| peer.num_members() >= members));
    [[join[0].measured.clone(), show(joined)], [crash[2].measured.clone(), show(crashed)]]
}

/// B9: live members declared dead, a node and hour, at a loss of so many percent.
fn false_deaths(loss_percent: u64) -> [String; 2] {
    const HOURS: u64 = 3;
    let ours = gates::false_deaths(100, loss_percent, HOURS, 1).measured;
    let mut world = FocaWorld::new(100, 1);
    world.run_for(Duration::from_secs(3));
    world.loss_ppm = loss_percent * 10_000;
    world.run_for(Duration::from_secs(HOURS * 3600));
    // Each death is noticed by each of the others.
    let deaths = world.downs as f64 / 99.0 / (100 * HOURS) as f64;
    [ours, format!("{deaths:.4}")]
}

fn main() {
    let sizes: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![10, 100, 1000] } else { sizes };
    println!("{:>6}  {:<48} {:>24} {:>24}", "n", "", "ours", "foca");
    for members in sizes {
        let row = |what: &str, [ours, theirs]: [String; 2]| {
            println!("{members:>6}  {what:<48} {ours:>24} {theirs:>24}");
        };
        let quiet = quiet(members);
        row("CPU a member and quiet period, us", quiet.map(|us| format!("{us:.2}")));
        // B12 is the same figure, seen from the simulator.
        let speed = quiet.map(|us| format!("{:.0}", 1e6 / us / members as f64));
        row("simulated seconds a second", speed);
        for updates in [0, 10, 40] {
            if members > updates + 2 {
                let both = single::datagram(members, updates).map(|us| format!("{us:.2}"));
                row(&format!("CPU a datagram with {updates} known updates, us"), both);
            }
        }
        row("heap a known member, bytes", single::memory(members).map(|bytes| format!("{bytes:.0}")));
        let [join, crash] = news(members);
        row("a newcomer knows all", join);
        row("a crash is known to all, periods", crash);
        row("whole after a minute in halves", merge(members));
    }
    for backlog in [10, 1000, 10_000] {
        let both = single::news(backlog).map(|us| format!("{us:.2}"));
        println!(
            "{backlog:>6}  {:<48} {:>24} {:>24}",
            "CPU a datagram of news while so much waits, us", both[0], both[1]
        );
    }
    let both = single::sizes();
    println!("{:>6}  {:<48} {:>24} {:>24}", "", "a ping alone / with ten words of life", both[0], both[1]);
    for loss in [5, 10, 20, 30] {
        let both = false_deaths(loss);
        println!(
            "{:>5}%  {:<48} {:>24} {:>24}",
            loss, "false deaths a node-hour at such a loss, n = 100", both[0], both[1]
        );
    }
}
