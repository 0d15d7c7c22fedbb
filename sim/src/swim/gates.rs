//! What SWIM, Lifeguard and arithmetic promise, measured on the production machines.
//!
//! Each measurement takes a size and a seed, and gives rows of expected beside measured. The theory:
//!
//! * *First detection.* `n - 1` members each probe one of `n - 1` others a period, so somebody probes a crashed
//!   one in its k-th round with the geometric law of `p = 1 - (1 - 1/(n-1))^(n-1)`: after `1/p` rounds on
//!   average, which tends to `e/(e-1) = 1.582` (SWIM §3.1). That is for targets that are drawn anew each time.
//!   Ours come up in turn, so a member has not been probed after k rounds with `1 - k/(n-1)`, which gives
//!   `Σ (1 - k/(n-1))^(n-1)`: the same limit, and 1.482 in place of 1.530 among ten. In time, probes of one member
//!   come at a rate of one a period: the first comes after `(n-1)/n` periods on average, and fails one later.
//! * *Load.* A ping and an ack a member and period, whatever the size (SWIM §3.1).
//! * *Dissemination.* A rumor with fanout f reaches everybody in `O(log n)` rounds (SWIM §4.1).
//! * *False suspicions* with independent loss p and k helpers: `(1 - (1-p)²)(1 - (1-p)⁴)^k` a probe.

use core::time::Duration;
use std::collections::BTreeMap;

use rivven_cluster::swim::{Caution, Event, Input, State, Swim};

use super::world::{Setting, Told, World, id_of, is_death, seat_of};

/// One measured quantity.
#[derive(Clone, Debug)]
pub struct Gate {
    /// What it is.
    pub name: String,
    /// What is expected.
    pub expected: String,
    /// What was measured.
    pub measured: String,
    /// Whether that will do.
    pub holds: bool,
}

impl Gate {
    fn near(name: &str, expected: f64, share: f64, measured: f64) -> Gate {
        Gate {
            name: name.to_owned(),
            expected: format!("{expected:.3} ± {:.0} %", share * 100.0),
            measured: format!("{measured:.3}"),
            holds: (measured / expected - 1.0).abs() <= share,
        }
    }

    fn below(name: &str, most: f64, unit: &str, measured: Option<f64>) -> Gate {
        Gate {
            name: name.to_owned(),
            expected: format!("at most {most} {unit}"),
            measured: measured.map_or_else(|| "never".to_owned(), |value| format!("{value:.3} {unit}")),
            holds: measured.is_some_and(|value| value <= most),
        }
    }
}

const TICK: Duration = Duration::from_millis(50);

fn count(n: usize) -> u64 {
    u64::try_from(n).expect("a small number")
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "counts below 2^52")]
fn float(n: u64) -> f64 {
    n as f64
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / float(count(values.len()))
}

/// The value below which a share of the values lies.
fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let skipped =
        (0..sorted.len()).filter(|at| float(count(*at)) < share * float(count(sorted.len()))).count();
    sorted.get(skipped.saturating_sub(1)).copied().unwrap_or_default()
}

/// Messages a member and period in a quiet cluster.
#[must_use]
pub fn quiet_load(members: usize, seed: u64) -> Gate {
    let mut world = World::new(Setting::new(members, seed));
    world.run_for(Duration::from_secs(3));
    let before = world.datagrams;
    let periods = 20_u32;
    world.run_for(Duration::from_secs(u64::from(periods)));
    let sent = float(world.datagrams - before) / float(count(members) * u64::from(periods));
    Gate::near("messages a member and period", 2.0, 0.025, sent)
}

/// Whether everybody who runs holds everybody who runs alive, and nobody else.
#[must_use]
pub fn is_whole(world: &World) -> bool {
    let running = world.running().count();
    let mut hashes = world.running().map(|(_, swim)| (swim.size(), swim.membership_hash()));
    let Some(first) = hashes.next() else { return true };
    first.0 == running && hashes.all(|hash| hash == first)
}

/// Whether all who run hold `member` dead.
#[must_use]
pub fn is_dead_to_all(world: &World, member: usize) -> bool {
    world.running().all(|(_, swim)| {
        let state = swim.member(id_of(member)).map(|member| member.state);
        state.is_none_or(|state| !state.is_live())
    })
}

/// How quickly crashes are noticed: `crashes` of them, a hundredth of the members at a time.
#[must_use]
pub fn detection(members: usize, crashes: usize, seed: u64) -> Vec<Gate> {
    let at_once = (members / 100).max(1);
    let (mut rounds, mut waits, mut last) = (Vec::new(), Vec::new(), Vec::new());
    let mut run = 0;
    while rounds.len() < crashes {
        let mut world = World::new(Setting::new(members, seed.wrapping_mul(1_000_003).wrapping_add(run)));
        run += 1;
        // Not always at the same place in the period.
        world.run_for(Duration::from_secs(3) + Duration::from_millis(run * 37 % 1000));
        let victims: Vec<usize> = (0..at_once).map(|index| (index * 97 + 1) % members).collect();
        let crashed = world.now();
        victims.iter().for_each(|victim| world.crash(*victim));
        let longest = Duration::from_secs(if members > 5000 { 8 } else { 150 });
        let done = |world: &World| victims.iter().all(|victim| is_dead_to_all(world, *victim));
        let took = world.run_until_done(Duration::from_millis(200), longest, done);
        last.extend(took.map(|took| took.as_secs_f64()));
        for victim in &victims {
            let pings = world.pings_to_crashed.range((*victim, 0)..(*victim + 1, 0)).map(|(_, at)| *at);
            let Some(first) = pings.min() else { continue };
            let wait = first.saturating_since(crashed).as_secs_f64();
            waits.push(wait);
            rounds.push(wait.floor() + 1.0);
        }
    }
    let others = float(count(members - 1));
    let theory: f64 = (0..members).map(|k| (1.0 - float(count(k)) / others).max(0.0).powf(others)).sum();
    // As many as the bound was chosen for; with fewer, three standard errors: rounds vary by 0.6 of their mean,
    // waits, which are about exponential, by all of it.
    let error = 3.0 / float(count(rounds.len())).sqrt();
    let (of_rounds, of_waits) = match (members > 5000, rounds.len() >= 1500) {
        (true, _) => (0.15, 0.15),
        (false, true) => (0.05, 0.05),
        (false, false) => (0.6 * error, error),
    };
    let mut gates = vec![
        Gate::near("first detection, rounds", theory, of_rounds, mean(&rounds)),
        Gate::near(
            "first probe of a crashed member, periods",
            others / (others + 1.0),
            of_waits,
            mean(&waits),
        ),
    ];
    if !last.is_empty() {
        let (half, most) = (quantile(&last, 0.5), quantile(&last, 0.99));
        gates.push(Gate {
            name: "crash known to all, periods p50 / p99".to_owned(),
            expected: "(reported)".to_owned(),
            measured: format!("{half:.1} / {most:.1}"),
            holds: true,
        });
    }
    gates
}

/// How long until everybody knows a new word of one member.
#[must_use]
pub fn dissemination(members: usize, tries: u64, seed: u64) -> Gate {
    let mut world = World::new(Setting::new(members, seed));
    world.run_for(Duration::from_secs(3));
    let mut times = Vec::new();
    for number in 0..tries {
        let member = usize::try_from(number * 13).expect("a seat") % members;
        world.tell(member, Input::Describe(number.to_le_bytes().to_vec()));
        world.run_for(Duration::from_millis(1));
        let epoch = world.swim(member).expect("it runs").record().epoch;
        let all = count(members) - count(members / 10_000);
        let knows = |world: &World| {
            let known = world.running().filter(|(_, swim)| {
                swim.member(id_of(member)).is_some_and(|member| member.record.epoch == epoch)
            });
            count(known.count()) >= all
        };
        if let Some(took) = world.run_until_done(TICK, Duration::from_secs(30), knows) {
            times.push(took.as_secs_f64());
        }
        world.run_for(Duration::from_secs(5));
    }
    let most = rumor_rounds(members) * 0.2;
    Gate::below("news known to 99.99 %, median", most, "s", Some(quantile(&times, 0.5)))
}

/// Rounds of a rumor with fanout 3, by the logistic law: `x(t) = 1 / (1 + (n+1) e^(-f t / 2))`.
fn rumor_rounds(members: usize) -> f64 {
    let n = float(count(members));
    let reached = |rounds: f64| 1.0 / (1.0 + (n + 1.0) * (-1.5 * rounds).exp());
    let mut rounds = 1.0;
    while reached(rounds) < 0.9999 {
        rounds += 1.0;
    }
    rounds
}

/// Two halves that do not hear each other for so many seconds, then do.
#[must_use]
pub fn merge(members: usize, cut: u64, seed: u64) -> Vec<Gate> {
    let mut world = World::new(Setting::new(members, seed));
    world.run_for(Duration::from_secs(3));
    (0..members / 2).for_each(|member| world.set_side(member, 1));
    world.run_for(Duration::from_secs(cut));
    (0..members / 2).for_each(|member| world.set_side(member, 0));
    world.keeps = is_death;
    let held_dead = world.running().next().map_or(0, |(_, swim)| members - swim.size());
    let sent = world.datagrams;
    let most = if members <= 100 {
        5
    } else if members <= 1000 {
        10
    } else {
        30
    };
    let all_live = |world: &World| {
        let is_alive = |swim: &Swim| swim.members().all(|seen| seen.state == State::Alive);
        is_whole(world) && world.running().all(|(_, swim)| is_alive(swim))
    };
    let took = world.run_until_done(TICK, Duration::from_secs(2 * most), all_live);
    world.run_for(Duration::from_secs(5));
    let deaths = world.told.len();
    let name = format!(
        "whole after {cut} s in halves ({held_dead} held dead), {} datagrams",
        world.datagrams - sent
    );
    vec![
        Gate::below(&name, float(most), "s", took.map(|took| took.as_secs_f64())),
        Gate::below(
            &format!("healthy members declared dead in the merge after {cut} s"),
            0.0,
            "",
            Some(float(count(deaths))),
        ),
    ]
}

/// A newcomer that knows three addresses.
#[must_use]
pub fn join(members: usize, seed: u64) -> Vec<Gate> {
    let mut world = World::new(Setting::new(members, seed));
    world.run_for(Duration::from_secs(3));
    let newcomer = world.join();
    let size = |world: &World| world.swim(newcomer).map_or(0, |swim| swim.size());
    let knows = world.run_until_done(TICK, Duration::from_secs(60), |world| size(world) > members);
    let whole = world.run_until_done(TICK, Duration::from_secs(60), is_whole);
    let most = if members <= 1000 { 3.0 } else { 10.0 };
    vec![
        Gate::below("a newcomer knows all", most, "s", knows.map(|took| took.as_secs_f64())),
        Gate::below("and is known to all", most, "s", knows.zip(whole).map(|(a, b)| (a + b).as_secs_f64())),
    ]
}

/// How often a healthy member is declared dead, an hour and member, when datagrams are lost.
#[must_use]
pub fn false_deaths(members: usize, loss_percent: u64, hours: u64, seed: u64) -> Gate {
    let setting = Setting { loss_ppm: loss_percent * 10_000, ..Setting::new(members, seed) };
    let mut world = World::new(setting);
    let seconds = hours * 3600 / count(members);
    world.run_for(Duration::from_secs(seconds));
    let dead: u64 = world.running().map(|(_, swim)| swim.stats().declared_dead).sum();
    let most = if loss_percent <= 10 { 0.0 } else { 0.05 };
    let name = format!("false deaths a member and hour at {loss_percent} % loss, {hours} h");
    Gate::below(&name, most, "", Some(float(dead) / float(hours)))
}

/// How many probes fail although their target is well, without the stream.
#[must_use]
pub fn false_suspicions(loss_percent: u64, failures: u64, seed: u64) -> Gate {
    let caution = Caution { stream_ping: false, awareness: false, ..Caution::ALL };
    let setting = Setting { loss_ppm: loss_percent * 10_000, caution, ..Setting::new(100, seed) };
    let p = float(loss_percent) / 100.0;
    let theory = (1.0 - (1.0 - p).powi(2)) * (1.0 - (1.0 - p).powi(4)).powi(3);
    let mut world = World::new(setting);
    let failed = |world: &World| -> u64 { world.running().map(|(_, swim)| swim.stats().probes_failed).sum() };
    // Until there are enough for the error of the mean to be small.
    while failed(&world) < failures {
        world.run_for(Duration::from_secs(10));
    }
    let sum = |count: fn(&rivven_cluster::swim::Stats) -> u64| -> u64 {
        world.running().map(|(_, swim)| count(swim.stats())).sum()
    };
    let measured = float(sum(|stats| stats.probes_failed)) / float(sum(|stats| stats.probes));
    Gate::near(
        &format!("probes that fail at {loss_percent} % loss, a thousand"),
        theory * 1e3,
        0.1,
        measured * 1e3,
    )
}

/// One member that is stopped for half a minute must not take others for dead.
#[must_use]
pub fn pause(members: usize, tries: u64, seed: u64) -> Gate {
    let mut deaths = 0;
    for number in 0..tries {
        let mut world = World::new(Setting::new(members, seed + number));
        world.keeps = is_death;
        world.run_for(Duration::from_secs(3) + Duration::from_millis(number * 91));
        world.pause(0, Duration::from_secs(30));
        world.run_for(Duration::from_secs(90));
        let is_wrong = |told: &&Told| matches!(told.event, Event::Dead(id) if seat_of(id) != 0);
        deaths += count(world.told.iter().filter(is_wrong).count());
    }
    let name = format!("healthy members declared dead by one that was stopped for 30 s, {tries} runs");
    Gate::below(&name, 0.0, "", Some(float(deaths)))
}

/// Lifeguard's experiment: some of a hundred members are stopped again and again. False deaths of healthy
/// members, with and without what Lifeguard adds.
#[must_use]
pub fn lifeguard(seed: u64) -> Vec<Gate> {
    let without = slow_members(Caution::NONE, seed);
    let with = slow_members(Caution::ALL, seed);
    let factor = float(without) / float(with.max(1));
    vec![Gate {
        name: "false deaths of healthy members, plain SWIM against ours".to_owned(),
        expected: "at least 50 times fewer".to_owned(),
        measured: format!("{without} against {with}: {factor:.0} times"),
        holds: factor >= 50.0,
    }]
}

fn slow_members(caution: Caution, seed: u64) -> u64 {
    let mut deaths = 0;
    for slow in [1, 4, 16, 32_usize] {
        for pause in [1_000, 4_000, 16_000, 32_000] {
            let mut world = World::new(Setting { caution, ..Setting::new(100, seed + count(slow)) });
            world.keeps = is_death;
            let mut played = 0;
            while played < 120_000 {
                // They run for a moment only: long enough to say what they believe, and to hear a little.
                for member in 0..slow {
                    world.starve(member, Duration::from_millis(pause), 2);
                }
                world.run_for(Duration::from_millis(pause + 1));
                played += pause + 1;
            }
            let is_false = |told: &&Told| matches!(told.event, Event::Dead(id) if seat_of(id) >= slow);
            deaths += count(world.told.iter().filter(is_false).count());
        }
    }
    deaths
}

/// A twentieth of the members a minute crash and come back: how long until all agree again, once that ends.
#[must_use]
pub fn churn(members: usize, minutes: u64, seed: u64) -> Vec<Gate> {
    let mut world = World::new(Setting::new(members, seed));
    world.run_for(Duration::from_secs(3));
    let each_second = (members / 20 / 60).max(1);
    let (mut down, mut next) = (BTreeMap::<u64, Vec<usize>>::new(), 3);
    for second in 0..minutes * 60 {
        for _ in 0..each_second {
            if world.swim(next).is_some() {
                world.crash(next);
                down.entry(second + 30).or_default().push(next);
            }
            next = 3 + (next - 2) % (members - 3);
        }
        down.remove(&second).into_iter().flatten().for_each(|member| world.restart(member));
        world.run_for(Duration::from_secs(1));
    }
    down.into_values().flatten().for_each(|member| world.restart(member));
    let took = world.run_until_done(Duration::from_millis(500), Duration::from_secs(300), |world| {
        world.running().all(|(_, swim)| {
            swim.members().filter(|seen| seen.state == State::Alive).count() == world.running().count()
        })
    });
    vec![Gate::below(
        "all agree after churn of 5 % a minute",
        300.0,
        "s",
        took.map(|took| took.as_secs_f64()),
    )]
}
