//! SWIM in the small: few members, every step checked.

use core::time::Duration;

use rivven_sim::swim::gates::{is_dead_to_all, is_whole, quiet_load};
use rivven_sim::swim::world::{Setting, World};

fn checked(setting: Setting) -> World {
    let mut world = World::new(setting);
    (world.is_checked, world.keeps_told) = (true, true);
    world
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn members_that_know_three_of_them_find_each_other() {
    for members in [2, 3, 10, 60] {
        let mut world = checked(Setting { is_warm: false, ..Setting::new(members, 1) });
        let took = world.run_until_done(Duration::from_millis(100), seconds(60), is_whole);
        println!("{members}: {took:?}");
        assert!(took.is_some(), "{members} members are not whole");
    }
}

#[test]
fn a_crash_is_known_to_all() {
    let mut world = checked(Setting::new(20, 2));
    world.run_for(seconds(3));
    world.crash(7);
    let took = world.run_until_done(Duration::from_millis(100), seconds(100), |world| is_dead_to_all(world, 7));
    println!("{took:?}");
    assert!(took.is_some());
}

#[test]
fn a_quiet_cluster_sends_two_messages_a_member_and_period() {
    for members in [2, 10, 100] {
        let gate = quiet_load(members, 1);
        println!("{members} {}", gate.measured);
        assert!(gate.holds, "{}: {}, expected {}", gate.name, gate.measured, gate.expected);
    }
}

#[test]
fn halves_that_held_each_other_dead_become_whole_without_a_death() {
    for members in [4, 10, 100, 300] {
        let mut world = World::new(Setting::new(members, 3));
        world.keeps_told = true;
        world.is_checked = members < 50;
        world.run_for(seconds(3));
        for member in 0..members / 2 {
            world.set_side(member, 1);
        }
        world.run_for(seconds(60));
        for member in 0..members / 2 {
            world.set_side(member, 0);
        }
        world.told.clear();
        let took = world.run_until_done(Duration::from_millis(100), seconds(100), is_whole);
        let deaths = world.told.iter().filter(|told| matches!(told.event, rivven_cluster::swim::Event::Dead(_))).count();
        println!("{members}: {took:?} deaths {deaths} told {}", world.told.len());
        assert!(took.is_some());
    }
}
