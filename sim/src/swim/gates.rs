//! What SWIM, Lifeguard and arithmetic promise, measured.

use core::time::Duration;

use rivven_cluster::swim::State;

use super::world::{Setting, World, id_of};

/// One measured quantity.
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

/// Messages per member and period in a quiet cluster.
#[must_use]
pub fn quiet_load(members: usize, seed: u64) -> Gate {
    let mut world = World::new(Setting::new(members, seed));
    world.run_for(Duration::from_secs(3));
    let before = world.datagrams;
    let periods = 20_u32;
    world.run_for(Duration::from_secs(u64::from(periods)));
    let sent = ratio(world.datagrams - before, count(members) * u64::from(periods));
    Gate {
        name: "messages a member and period".to_owned(),
        expected: "2.00 ± 0.05".to_owned(),
        measured: format!("{sent:.3}"),
        holds: (sent - 2.0).abs() <= 0.05,
    }
}

fn count(n: usize) -> u64 {
    u64::try_from(n).expect("a small number")
}

#[expect(clippy::as_conversions, reason = "a ratio of counts below 2^52")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
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
        state.is_none_or(|state| state == State::Dead || state == State::Left)
    })
}
