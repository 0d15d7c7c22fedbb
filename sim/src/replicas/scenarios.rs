//! Histories that are told of systems like this one, each as a plan with a name: what happens in which order, and what must
//! come of it.
//!
//! The world is the one that seeds torment, and every check of it is made after every act; here nothing is drawn. Five nodes,
//! a partition on the first three, of which two must be in sync; node 1 leads.

mod replication;
mod sessions;
mod stage;

pub use self::stage::Stage;

/// A history with a name.
pub struct Scenario {
    /// What it is called.
    pub name: &'static str,
    play: fn(&mut Stage),
}

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "an-expansion-in-flight-holds-the-watermark", play: replication::expansion_in_flight },
    Scenario { name: "a-shrink-that-is-lost-acknowledges-nothing", play: replication::shrink_lost },
    Scenario { name: "a-refused-expansion-that-comes-twice", play: replication::refused_expansion_twice },
    Scenario { name: "a-leader-cut-off-from-the-metadata", play: replication::leader_cut_off },
    Scenario { name: "a-leader-cut-off-from-one-follower", play: replication::follower_cut_off },
    Scenario { name: "three-elections-without-a-write", play: replication::elections_without_writes },
    Scenario { name: "a-new-leader-with-an-old-watermark", play: replication::old_watermark },
    Scenario { name: "a-fetch-of-a-process-that-lost-its-disk", play: sessions::late_fetch_of_a_lost_disk },
    Scenario { name: "a-session-that-ends-while-it-is-admitted", play: sessions::session_ends_in_flight },
    Scenario { name: "the-last-one-in-sync-loses-its-disk", play: sessions::last_in_sync_loses_disk },
    Scenario { name: "all-lose-power-and-one-its-disk", play: sessions::all_lose_power },
    Scenario { name: "nobody-is-left-who-has-everything", play: sessions::nobody_is_left },
    Scenario { name: "too-few-in-sync-before-and-after-a-write", play: replication::too_few_in_sync },
    Scenario { name: "a-write-that-only-its-leader-had", play: replication::leader_only_write },
    Scenario {
        name: "fewer-must-be-in-sync-while-somebody-is-eligible",
        play: sessions::fewer_in_sync_needed,
    },
    Scenario { name: "a-watermark-that-stands-still", play: replication::frozen_watermark },
    Scenario { name: "removed-and-added-again-in-one-view", play: sessions::removed_and_added },
    Scenario { name: "a-leader-dies-while-its-partition-moves", play: sessions::leader_dies_while_moving },
    Scenario { name: "a-target-dies-and-the-move-is-taken-back", play: sessions::target_dies },
    Scenario { name: "a-move-that-drops-the-leader", play: sessions::move_drops_leader },
    Scenario { name: "every-node-shuts-down-in-turn", play: sessions::shut_down_in_turn },
    Scenario { name: "a-leader-that-skips-views", play: sessions::skipped_views },
    Scenario { name: "a-log-that-begins-behind-its-follower", play: replication::log_begins_behind_follower },
    Scenario { name: "a-clock-that-jumps", play: replication::clock_jumps },
    Scenario { name: "the-first-write-after-an-election", play: replication::first_write },
];

impl Scenario {
    /// Plays it, then peace.
    ///
    /// # Panics
    ///
    /// If something comes of it that must not.
    pub fn play(&self, narrates: bool) {
        let mut stage = Stage::new(narrates);
        (self.play)(&mut stage);
        stage.end();
    }
}
