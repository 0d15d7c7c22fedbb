//! When did it become inevitable?
//!
//! A run that breaks a rule ends with the event that shows it, which is seldom the one that led to it: a vote
//! that was not durable is harmless for seconds, until the wrong node crashes. So the run is played again to
//! a time t, and from there on with other luck: other delays, losses and pauses, other wishes of the clients,
//! under the same plan of faults. Played so a number of times, some runs break the rule and some do not. As t goes
//! from the start to the end, the share of those that do goes up to all; where it jumps is the event that was
//! the beginning of the end. A rise that chance could bring as well is none.
//!
//! ```text
//!   share │                      ┌────────
//!         │                  ┌───┘
//!         │      ┌───────────┘ ◄── here is what to look at
//!         │──────┘
//!         └──────────────────────────── t
//! ```
//!
//! The times lie evenly at first; then the interval of the highest step is cut into pieces, and so on, as long as there is a
//! step in one of them.
//! What a process has drawn from its own seed before t stays drawn: a node's next election timeout is part of its
//! state.

use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::app::Application;
use crate::checkers::Rule;
use crate::scenario::Scenario;
use crate::world::pure::World;
use crate::world::{Options, contain};

/// How it is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// How many intervals there are at first.
    pub intervals: u32,
    /// How often that of the highest step is cut into [`PIECES`].
    pub cuts: u32,
    /// How often each is played.
    pub draws: u64,
    /// How many are played at a time.
    pub jobs: usize,
    /// Rules that are not judged.
    pub ignored: BTreeSet<Rule>,
}

/// Into so many pieces an interval is cut.
pub const PIECES: u32 = 4;

/// How many of the runs break the rule whose luck is drawn anew from this time on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Share {
    /// From when on.
    pub at: Duration,
    /// How many break it.
    pub failed: u64,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// In the order of time.
    pub shares: Vec<Share>,
    /// Between which two of them, neighbours at the time when it was found, the share rises by more than chance; if there
    /// are several such steps, the highest.
    pub step: Option<(Share, Share)>,
}

/// Plays `scenario`, which breaks `rule` at the time `end`, each time with a new `app`, and with other luck from a row of
/// times on.
#[must_use]
pub fn ask<A: Application>(
    scenario: &Scenario,
    app: &(impl Fn() -> A + Sync),
    rule: Rule,
    end: Duration,
    question: &Question,
) -> Answer {
    let times = (0..=question.intervals).map(|place| end * place / question.intervals.max(1));
    let mut shares = play_all(scenario, app, rule, &times.collect::<Vec<_>>(), question);
    let mut step = highest_step(&shares, question.draws);
    for _ in 0..question.cuts {
        let Some((before, after)) = step else { break };
        let width = after.at - before.at;
        let times: Vec<Duration> = (1..PIECES).map(|place| before.at + width * place / PIECES).collect();
        let between = play_all(scenario, app, rule, &times, question);
        let pieces: Vec<Share> = [&[before], &between[..], &[after]].concat();
        shares.extend(between);
        match highest_step(&pieces, question.draws) {
            Some(higher) => step = Some(higher),
            // The rise is spread over the pieces, and none of them has more of it than chance could give.
            None => break,
        }
    }
    shares.sort_by_key(|share| share.at);
    shares.dedup_by_key(|share| share.at);
    Answer { shares, step }
}

/// The two neighbours between which the share rises most, if that is more than chance; the first such.
fn highest_step(shares: &[Share], draws: u64) -> Option<(Share, Share)> {
    let rises = shares.windows(2).map(|pair| (pair[0], pair[1]));
    let rise = |(before, after): &(Share, Share)| after.failed.saturating_sub(before.failed);
    rises.rev().max_by_key(rise).filter(|(before, after)| is_beyond_chance(*before, *after, draws))
}

/// Whether the rise is more than three standard deviations of what two rows of draws of one share differ by. Some
/// thirty pairs are compared, so fewer would name a step where there is none.
fn is_beyond_chance(before: Share, after: Share, draws: u64) -> bool {
    let wide = u128::from;
    let (rise, both) = (wide(after.failed.saturating_sub(before.failed)), wide(before.failed + after.failed));
    let all = 2 * wide(draws);
    rise * rise * all > 9 * both * all.saturating_sub(both)
}

/// How many break the rule, for each time; several at once.
fn play_all<A: Application>(
    scenario: &Scenario,
    app: &(impl Fn() -> A + Sync),
    rule: Rule,
    times: &[Duration],
    question: &Question,
) -> Vec<Share> {
    let failed: Vec<AtomicU64> = times.iter().map(|_| AtomicU64::new(0)).collect();
    let next = AtomicU64::new(0);
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let place = usize::try_from(number / question.draws.max(1)).unwrap_or(usize::MAX);
            let (Some(at), Some(failed)) = (times.get(place), failed.get(place)) else { return };
            let draw = number % question.draws.max(1);
            if breaks(scenario, app, rule, *at, draw, &question.ignored) {
                failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..question.jobs.max(1) {
            scope.spawn(work);
        }
    });
    let share = |(at, failed): (&Duration, AtomicU64)| Share { at: *at, failed: failed.into_inner() };
    times.iter().zip(failed).map(share).collect()
}

/// Whether the run breaks the rule with its luck drawn anew from `at` on, for the `draw`-th time.
fn breaks<A: Application>(
    scenario: &Scenario,
    app: &(impl Fn() -> A + Sync),
    rule: Rule,
    at: Duration,
    draw: u64,
    ignored: &BTreeSet<Rule>,
) -> bool {
    let report = contain(|report| {
        let options = Options { ignored: ignored.clone(), ..Options::default() };
        let mut world = World::new(scenario.clone(), app(), options);
        if world.play_until(at) {
            world.redraw(scenario.root().child("other luck", draw));
        }
        *report = world.run();
    });
    report.violation.is_some_and(|violation| violation.rule == rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(at: u64, failed: u64) -> Share {
        Share { at: Duration::from_secs(at), failed }
    }

    #[test]
    fn the_highest_step_is_the_first_of_the_largest_rises() {
        let shares = [share(0, 1), share(1, 0), share(2, 9), share(3, 7), share(4, 16), share(5, 20)];
        assert_eq!(highest_step(&shares, 20), Some((share(1, 0), share(2, 9))));
    }

    #[test]
    fn a_rise_that_chance_could_bring_is_no_step() {
        assert_eq!(highest_step(&[share(0, 14), share(1, 17), share(2, 20)], 20), None);
        assert_eq!(highest_step(&[share(0, 60), share(1, 60)], 60), None);
        assert_eq!(highest_step(&[share(0, 0), share(1, 60)], 60), Some((share(0, 0), share(1, 60))));
    }
}
