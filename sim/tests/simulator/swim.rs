//! Membership in the simulated world: few members with every step checked, and what theory promises.
use core::time::Duration;

use rivven_cluster::swim::{Event, State};
use rivven_sim::swim::chaos;
use rivven_sim::swim::gates::{
    Gate, detection, dissemination, false_deaths, false_suspicions, is_dead_to_all, is_whole, join, merge,
    pause, quiet_load,
};
use rivven_sim::swim::world::{Setting, World, id_of};

const STEP: Duration = Duration::from_millis(100);

fn checked(setting: Setting) -> World {
    let mut world = World::new(setting);
    world.is_checked = true;
    world.keeps = |_| true;
    world
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn hold(gates: impl IntoIterator<Item = Gate>) {
    for gate in gates {
        assert!(gate.holds, "{}: {}, expected {}", gate.name, gate.measured, gate.expected);
    }
}

#[test]
fn members_that_know_three_of_them_find_each_other() {
    for members in [2, 3, 10, 60] {
        let mut world = checked(Setting { is_warm: false, ..Setting::new(members, 1) });
        let took = world.run_until_done(STEP, seconds(10), is_whole);
        assert!(took.is_some(), "{members} members do not find each other");
    }
}

#[test]
fn a_crash_is_known_to_all() {
    let mut world = checked(Setting::new(20, 2));
    world.run_for(seconds(3));
    world.crash(7);
    let took = world.run_until_done(STEP, seconds(60), |world| is_dead_to_all(world, 7));
    assert!(took.is_some());
}

#[test]
fn what_theory_promises_holds_in_the_small() {
    hold([quiet_load(2, 1), quiet_load(10, 1), quiet_load(100, 1)]);
    hold(detection(10, 1500, 1));
    hold(detection(100, 300, 1));
    hold([dissemination(10, 10, 1), dissemination(100, 10, 1)]);
    hold(join(100, 1));
}

#[test]
fn halves_become_whole_without_a_death_after_a_moment_or_when_they_held_each_other_dead() {
    for members in [4, 10, 100, 300] {
        hold([3, 90].into_iter().flat_map(|cut| merge(members, cut, 3)));
    }
}

#[test]
fn many_that_are_cut_off_together_are_dead_together_or_not_at_all() {
    // In a hundred, the longest suspicion lasts 48 s.
    for cut in [10, 15, 20, 30, 40, 47, 52, 60] {
        hold((1..4).flat_map(|seed| merge(100, cut, seed)));
    }
}

#[test]
fn two_members_that_swap_addresses_are_themselves() {
    for seed in 0..20 {
        let mut world = checked(Setting::new(10, seed));
        world.run_for(seconds(3));
        world.swap(4, 7);
        let is_known = |world: &World, member: usize| {
            let address = world.swim(member).unwrap().record().address;
            world.running().all(|(_, swim)| {
                swim.member(id_of(member))
                    .is_some_and(|seen| (seen.state, seen.record.address) == (State::Alive, address))
            })
        };
        let is_done = |world: &World| is_whole(world) && is_known(world, 4) && is_known(world, 7);
        assert!(world.run_until_done(STEP, seconds(20), is_done).is_some(), "seed {seed}");
        assert_eq!(deaths(&world), 0, "seed {seed}");
    }
}

#[test]
fn loss_makes_probes_fail_as_often_as_arithmetic_says_and_kills_nobody() {
    hold([20, 30].map(|loss| false_suspicions(loss, 2000, 1)));
    hold([false_deaths(100, 10, 5, 1)]);
}

#[test]
fn a_member_that_was_stopped_takes_nobody_for_dead() {
    hold([pause(30, 5, 1)]);
}

#[test]
fn members_that_lose_most_of_what_they_hear_do_not_bring_the_others_down() {
    let mut world = checked(Setting::new(20, 5));
    for member in 0..2 {
        world.ingress_loss_ppm.insert(member, 800_000);
    }
    world.run_for(seconds(120));
    let healthy_dead =
        world.told.iter().filter(|told| matches!(told.event, Event::Dead(id) if id.value() > 2)).count();
    assert_eq!(healthy_dead, 0);
}

#[test]
fn everything_at_once_breaks_nothing_and_happens_again_the_same_way() {
    for seed in 1..=150 {
        let outcome = chaos::play(seed);
        assert_eq!(outcome.violation, None, "seed {seed}");
        assert_eq!(chaos::play(seed).trace, outcome.trace, "seed {seed} is not the same twice");
    }
}

#[test]
fn the_dead_are_told_apart_from_those_who_left() {
    let mut world = checked(Setting::new(10, 4));
    world.run_for(seconds(2));
    world.tell(3, rivven_cluster::swim::Input::Leave);
    world.run_for(seconds(10));
    let gone = world.swim(3).unwrap().record().id;
    for (_, swim) in world.running().filter(|(seat, _)| *seat != 3) {
        assert_eq!(swim.member(gone).unwrap().state, State::Left);
    }
}

fn deaths(world: &World) -> usize {
    world.told.iter().filter(|told| matches!(told.event, Event::Dead(_))).count()
}

#[test]
fn a_path_that_works_one_way_kills_nobody() {
    let mut world = checked(Setting::new(10, 6));
    for other in 1..4 {
        world.cut(0, other);
    }
    world.run_for(seconds(120));
    assert_eq!(deaths(&world), 0);
    assert!(world.told.iter().any(|told| matches!(told.event, Event::LinkDegraded(_))), "but it is said");
}

#[test]
fn a_failure_domain_that_is_cut_off_for_a_moment_is_not_buried() {
    for (cut, seed) in [(6, 7), (12, 7), (15, 7), (20, 8), (30, 9), (34, 10)] {
        let mut world = checked(Setting { zones: 3, ..Setting::new(30, seed) });
        world.run_for(seconds(3));
        (0..30).filter(|member| member % 3 == 2).for_each(|member| world.set_side(member, 1));
        world.run_for(seconds(cut));
        let told = |world: &World| world.told.iter().any(|told| told.event == Event::ZoneUnreachable(2));
        assert!(told(&world));
        (0..30).for_each(|member| world.set_side(member, 0));
        world.told.clear();
        assert!(world.run_until_done(STEP, seconds(30), is_whole).is_some());
        assert_eq!(deaths(&world), 0, "cut off for {cut} s, seed {seed}");
    }
}

#[test]
fn all_members_are_restarted_one_after_the_other_and_nobody_else_is_suspected_for_long() {
    let mut world = checked(Setting { is_warm: false, ..Setting::new(40, 8) });
    assert!(world.run_until_done(STEP, seconds(20), is_whole).is_some());
    world.told.clear();
    for member in 0..40 {
        world.crash(member);
        world.run_for(Duration::from_millis(500));
        world.restart(member);
        world.run_for(Duration::from_millis(1500));
    }
    assert!(world.run_until_done(STEP, seconds(30), is_whole).is_some());
    assert_eq!(deaths(&world), 0, "each was back before its time was up");
}

#[test]
fn members_whose_clocks_began_anew_come_back_above_their_obituaries() {
    let mut world = checked(Setting::new(10, 9));
    world.run_for(seconds(3));
    for _ in 0..3 {
        world.crash(5);
        world.run_for(seconds(40));
        world.restart(5);
        assert!(world.run_until_done(STEP, seconds(10), is_whole).is_some());
    }
}

#[test]
fn a_member_that_is_deaf_every_other_moment_brings_nobody_down() {
    let mut world = checked(Setting::new(30, 10));
    world.run_for(seconds(3));
    for _ in 0..6 {
        world.ingress_loss_ppm.insert(7, 1_000_000);
        world.run_for(seconds(20));
        world.ingress_loss_ppm.clear();
        world.run_for(seconds(20));
    }
    let others =
        world.told.iter().filter(|told| matches!(told.event, Event::Dead(id) if id.value() != 8)).count();
    assert_eq!(others, 0, "it accuses others, and they object");
    assert!(world.run_until_done(STEP, seconds(10), is_whole).is_some());
}

#[test]
fn paths_that_lose_long_datagrams_keep_nobody_out_and_kill_nobody() {
    let mut world = checked(Setting { longest: 600, is_warm: false, ..Setting::new(60, 11) });
    assert!(world.run_until_done(STEP, seconds(60), is_whole).is_some(), "tables are compared on streams");
    world.told.clear();
    world.run_for(seconds(120));
    assert_eq!(deaths(&world), 0);
    let size = world.join();
    assert!(world.run_until_done(STEP, seconds(60), is_whole).is_some(), "member {size} is let in");
}
