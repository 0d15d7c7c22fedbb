//! A few members and everything that can happen to them, from one seed.
//!
//! For a minute members crash, return without a memory, are stopped, leave, join, swap addresses and describe themselves anew,
//! while the network loses, cuts and (in a quarter of the seeds) falsifies. Every step of every member is
//! checked. Then all faults end, and within a bounded time everybody must agree on exactly those who run.
//!
//! One seed in eight is another story: some dozens of members lose half of them for a moment. Nobody may be declared
//! dead, neither while it lasts nor when it is over.

use core::time::Duration;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rivven_cluster::rng::{Seed, Stream};
use rivven_cluster::swim::{Input, Lifecycle, State, Swim};

use super::gates::is_whole;
use super::world::{Setting, World, id_of, is_death, seat_of};

/// How long things happen.
const TORMENT: Duration = Duration::from_secs(60);
/// How long it may take until all agree: the longest suspicion, twice, and some periods.
const PEACE_MAX: Duration = Duration::from_secs(150);

/// What came of one seed.
pub struct Outcome {
    /// A hash of all that happened.
    pub trace: u64,
    /// What was broken, if anything.
    pub violation: Option<String>,
}

/// Plays one seed.
#[must_use]
pub fn play(seed: u64) -> Outcome {
    let mut trace = 0;
    let violation = contain(|| {
        if seed.is_multiple_of(8) {
            part_for_a_moment(seed, &mut trace)
        } else {
            torment(Seed::new(seed).stream("chaos", 0), seed, &mut trace)
        }
    });
    Outcome { trace, violation }
}

/// Plays as a tape says: the world of a fuzzer. It decides what happens to members; what becomes of a single message
/// follows from its first byte.
#[must_use]
pub fn play_tape(tape: &[u8]) -> Outcome {
    let mut trace = 0;
    let seed = tape.first().copied().unwrap_or_default().into();
    let draws = Seed::new(seed).stream("chaos", 0).behind(tape);
    let violation = contain(|| torment(draws, seed, &mut trace));
    Outcome { trace, violation }
}

/// What went wrong, a panic included.
fn contain(play: impl FnOnce() -> Option<String>) -> Option<String> {
    catch_unwind(AssertUnwindSafe(play)).unwrap_or_else(|panic| Some(panic_text(&*panic)))
}

fn panic_text(panic: &(dyn core::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a text").to_owned()
}

fn torment(mut draws: Stream, seed: u64, trace: &mut u64) -> Option<String> {
    let members = usize::try_from(draws.between(3, 12)).expect("a few");
    let setting = Setting {
        is_warm: draws.chance(1, 2),
        loss_ppm: if draws.chance(1, 2) { draws.below(300_000) } else { 0 },
        ..Setting::new(members, seed)
    };
    let mut world = World::new(setting);
    world.is_checked = true;
    let forges = draws.chance(1, 4);
    world.forges_ppm = if forges { 20_000 } else { 0 };
    while world.now().as_nanos() < u64::try_from(TORMENT.as_nanos()).expect("a minute") {
        world.run_for(Duration::from_millis(draws.between(50, 4000)));
        happen(&mut world, &mut draws);
        *trace = world.trace();
    }
    make_peace(&mut world);
    let took = world.run_until_done(Duration::from_millis(500), PEACE_MAX, agrees);
    *trace = world.trace();
    took.is_none().then(|| describe(&world))
}

/// Some dozens lose half of them, for less than the longest suspicion (35 s among 30): a storm, and no more.
fn part_for_a_moment(seed: u64, trace: &mut u64) -> Option<String> {
    let mut draws = Seed::new(seed).stream("moment", 0);
    let members = usize::try_from(draws.between(30, 60)).expect("a few");
    let mut world = World::new(Setting::new(members, seed));
    world.is_checked = true;
    world.keeps = is_death;
    world.run_for(Duration::from_millis(draws.between(2000, 4000)));
    (0..members / 2).for_each(|seat| world.set_side(seat, 1));
    world.run_for(Duration::from_millis(draws.between(4000, 34_000)));
    (0..members / 2).for_each(|seat| world.set_side(seat, 0));
    let took = world.run_until_done(Duration::from_millis(500), PEACE_MAX, |world| {
        is_whole(world)
            && world.running().all(|(_, swim)| swim.members().all(|seen| seen.state == State::Alive))
    });
    *trace = world.trace();
    let dead = world.told.first();
    let dead = dead.map(|told| format!("a moment apart, and {:?} at {:?}", told.event, told.at));
    dead.or_else(|| took.is_none().then(|| describe(&world)))
}

/// One thing happens.
fn happen(world: &mut World, draws: &mut Stream) {
    let seats = world.seats();
    let member = usize::try_from(draws.below(u64::try_from(seats).expect("a few"))).expect("a seat");
    let is_up = world.swim(member).is_some();
    match draws.below(11) {
        0 if member >= 3 => world.crash(member),
        1 | 2 if !is_up => world.restart(member),
        3 => world.pause(member, Duration::from_millis(draws.between(100, 20_000))),
        4 => (0..seats).for_each(|other| world.set_side(other, u8::from(draws.chance(1, 3)))),
        5 | 6 => (0..seats).for_each(|other| world.set_side(other, 0)),
        7 if seats < 16 => {
            world.join();
        }
        8 if is_up && member >= 3 => world.tell(member, Input::Leave),
        9 if is_up => {
            let mut metadata = vec![0; usize::try_from(draws.below(100)).expect("a few")];
            draws.fill(&mut metadata);
            world.tell(member, Input::Describe(metadata));
        }
        10 => {
            let other = (member + 1) % seats;
            if is_up && world.swim(other).is_some() {
                world.swap(member, other);
            }
        }
        _ => {}
    }
}

/// All faults end; who left is gone, and who crashed stays away.
fn make_peace(world: &mut World) {
    world.set_loss_ppm(0);
    world.forges_ppm = 0;
    (0..world.seats()).for_each(|seat| world.set_side(seat, 0));
    world.run_for(Duration::from_secs(25));
    for seat in 0..world.seats() {
        let is_over = world.swim(seat).is_some_and(|swim| {
            matches!(swim.lifecycle(), Lifecycle::Gone | Lifecycle::Fenced | Lifecycle::Leaving)
        });
        if is_over {
            world.crash(seat);
        }
    }
}

fn agrees(world: &World) -> bool {
    if !world.has_forged() {
        return is_whole(world) && world.running().all(|(_, swim)| knows_texts(world, swim));
    }
    // A member that lied about itself ("I have left") is believed, by whomever it told: that is its own affair.
    world.running().all(|(observer, swim)| {
        let holds = |seat: usize| swim.member(id_of(seat)).map(|seen| seen.state);
        let all_known =
            world.running().all(|(seat, _)| matches!(holds(seat), Some(State::Alive | State::Left)));
        let live = swim.members().filter(|seen| seen.state.is_live());
        let none_made_up = live.into_iter().all(|seen| world.swim(seat_of(seen.record.id)).is_some());
        let keeps_itself = holds(observer) == Some(State::Alive);
        all_known && none_made_up && keeps_itself && knows_texts(world, swim)
    })
}

/// Whether a member knows what all live ones say of themselves.
fn knows_texts(world: &World, swim: &Swim) -> bool {
    swim.members().filter(|seen| seen.state.is_live()).all(|seen| {
        let id = seen.record.id;
        let owner = world.swim(seat_of(id));
        owner.is_none_or(|owner| owner.metadata(id) == swim.metadata(id))
    })
}

fn describe(world: &World) -> String {
    let seen = |(seat, swim): (usize, &Swim)| {
        let others: Vec<String> = swim
            .members()
            .map(|seen| {
                let (id, epoch) = (seen.record.id, seen.record.epoch.incarnation());
                format!(
                    "{id}:{:?}@{epoch} for {} s, {} bytes",
                    seen.state,
                    seen.since,
                    swim.metadata(id).len()
                )
            })
            .collect();
        format!("{} ({:?}, {}): {}", id_of(seat), swim.lifecycle(), swim.size(), others.join(", "))
    };
    let all: Vec<String> = world.running().map(seen).collect();
    format!("no agreement within {PEACE_MAX:?}:\n  {}", all.join("\n  "))
}
