//! How much of a log is kept: by leaders, by followers, across restarts.

use super::*;

impl World {
    fn keep(&mut self, bytes: Option<u64>, seconds: Option<u32>) {
        let (topic, version) = (self.topic, self.metadata.topic(self.topic).unwrap().version);
        let retention = Some(Retention { bytes, seconds });
        self.order(Command::ConfigureTopic { topic, version, min_in_sync: None, recovery: None, retention });
    }

    /// The wall clock says the seconds since the world began, and 1000 more.
    fn tell_wall(&mut self) {
        let wall = WallSeconds(1000).plus(self.now.saturating_since(Instant::ORIGIN));
        let now = self.now;
        self.hosts.values_mut().for_each(|host| host.replicas.note_wall_clock(now, wall));
    }

    /// So many seconds pass, in which the wall clock is told now and then.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds.div_ceil(10) {
            self.tell_wall();
            self.sleep(1000 * seconds.min(10));
        }
        self.tell_wall();
        self.sleep(1000);
    }

    /// Where the log begins at each node, on its disk.
    fn starts(&self) -> Vec<u64> {
        let partition = self.partition(0);
        self.hosts.values().map(|host| host.disk.get(partition).unwrap().start().value()).collect()
    }
}

/// One record a second, each in a batch of its own.
fn world(records: u64) -> World {
    let mut world = World::new(1, Settings::default());
    for _ in 0..records {
        world.tell_wall();
        world.produce(1, 0, &["0123456789"]);
        world.sleep(1000);
    }
    world
}

/// Of a batch with one such record.
const BATCH: u64 = 8 + 4 + 4 + 10;

#[test]
fn everything_is_kept_unless_something_else_is_said() {
    let mut world = world(5);
    world.pass(1000);
    assert_eq!(world.starts(), [0, 0, 0]);
}

#[test]
fn a_leader_drops_what_is_too_old_and_its_followers_do_so_too() {
    let mut world = world(10);
    world.keep(None, Some(200));
    world.pass(180);
    assert_eq!(world.starts(), [0, 0, 0]);
    world.pass(10);
    let starts = world.starts();
    assert!((1..10).contains(&starts[0]) && starts == [starts[0]; 3], "{starts:?}");
    world.pass(10);
    assert_eq!(world.starts(), [10, 10, 10]);
    world.produce(1, 0, &["new"]);
    world.run();
    assert_eq!(world.values(1, 0, 10), ["new"], "offsets go on");
}

#[test]
fn a_leader_drops_what_is_too_much_once_nobody_sends_it_again() {
    let mut world = world(10);
    world.keep(Some(3 * BATCH), None);
    world.sleep(60_000);
    assert_eq!(world.starts(), [0, 0, 0], "a producer may still send any of them again");
    world.sleep(60_000);
    world.produce(1, 0, &["0123456789"]);
    world.sleep(1_000);
    assert_eq!(world.starts(), [8, 8, 8]);
}

#[test]
fn what_is_not_committed_is_kept() {
    let mut world = world(3);
    world.keep(Some(0), None);
    // Nobody follows, and nobody says so.
    for node in [2, 3] {
        world.hosts.get_mut(&id(node)).unwrap().is_up = false;
    }
    world.produce(1, 0, &["0123456789"]);
    world.sleep(5_000);
    for _ in 0..10 {
        world.sleep(30_000);
        world.produce(1, 0, &["0123456789"]);
    }
    world.run();
    assert_eq!(world.starts()[0], 3);
}

#[test]
fn a_process_that_was_started_again_knows_how_old_its_log_is() {
    let mut world = world(10);
    world.crash(1);
    world.run();
    world.restart(1);
    world.run();
    world.elect(0, 1);
    world.keep(None, Some(300));
    world.pass(200);
    assert_eq!(world.starts(), [0, 0, 0]);
    world.pass(150);
    assert_eq!(world.starts(), [10, 10, 10]);
}

#[test]
fn a_follower_that_was_away_goes_on_where_the_log_begins_now() {
    let mut world = world(10);
    world.crash(3);
    world.keep(None, Some(100));
    world.pass(200);
    assert_eq!(world.starts(), [10, 10, 0]);
    world.produce(1, 0, &["a"]);
    world.produce(1, 0, &["b"]);
    world.run();
    world.restart(3);
    world.pass(20);
    assert_eq!(world.starts(), [10, 10, 10]);
    world.elect(0, 3);
    world.run();
    assert_eq!(world.values(3, 0, 10), ["a", "b"]);
}

#[test]
fn a_follower_whose_log_begins_behind_its_leaders_does_not_ask_all_the_time() {
    let mut world = world(10);
    world.sleep(300_000);
    world.keep(None, Some(100));
    world.run();
    assert_eq!(world.starts(), [10, 0, 0], "only the leader has dropped it so far");
    // The next leader is not to drop it.
    world.keep(None, None);
    world.elect(0, 2);
    let before = world.sent;
    world.sleep(10_000);
    // Two followers ask once in half a second; and a few messages more, since the leader is another one.
    assert!(world.sent - before < 60, "{} messages", world.sent - before);
    assert_eq!(world.starts(), [10, 0, 0]);
}
