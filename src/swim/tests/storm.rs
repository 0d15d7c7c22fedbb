//! Too many suspects at once.

use super::*;

/// One of 40, of which ten are suspects since the tenth millisecond.
fn member_in_a_storm() -> (Swim, Vec<Event>) {
    let mut swim = member(40);
    let suspect = |id| Update::Suspect { id: node(id), epoch: epoch(0), by: node(40) };
    let mut told = Vec::new();
    for id in 2..12 {
        told.extend(events(&hears(&mut swim, id, 40, &[suspect(id)])));
    }
    (swim, told)
}

fn states(swim: &Swim, of: impl Iterator<Item = u64>) -> Vec<State> {
    of.filter_map(|id| state(swim, id)).collect()
}

/// The longest suspicion among forty, in milliseconds.
const LONGEST: u64 = 38_449;

#[test]
fn many_suspects_at_once_are_held_at_their_longest() {
    let (mut swim, told) = member_in_a_storm();
    assert_eq!(told.iter().filter(|event| **event == Event::ZoneUnreachable(0)).count(), 1);
    // Neither who confirms it nor who says that they are dead changes that, and those who are late are held, too.
    let late = Update::Suspect { id: node(12), epoch: epoch(0), by: node(40) };
    pass(&mut swim, 5_000);
    hears(&mut swim, 5_000, 40, &[late]);
    for by in [38, 39] {
        let confirms = |id| Update::Suspect { id: node(id), epoch: epoch(0), by: node(by) };
        hears(&mut swim, 5_001, by, &(2..13).map(confirms).collect::<Vec<_>>());
    }
    let dead = |id| Update::Dead { id: node(id), epoch: epoch(0) };
    hears(&mut swim, 5_002, 39, &(2..13).map(dead).collect::<Vec<_>>());
    pass(&mut swim, LONGEST);
    assert_eq!(states(&swim, 2..13), [State::Suspect; 11]);
    pass(&mut swim, LONGEST + 100);
    assert_eq!(states(&swim, 2..13), [State::Dead; 11], "all at once");
}

#[test]
fn a_suspect_that_speaks_shortly_before_the_end_gives_the_others_time() {
    let (mut swim, _) = member_in_a_storm();
    pass(&mut swim, LONGEST - 1_000);
    hears(&mut swim, LONGEST - 1_000, 2, &[]);
    pass(&mut swim, LONGEST + 1_000);
    assert_eq!(states(&swim, 3..12), [State::Suspect; 9]);
    hears(&mut swim, LONGEST + 1_001, 2, &[]);
    pass(&mut swim, LONGEST + 7_000);
    assert_eq!(states(&swim, 3..12), [State::Dead; 9], "but once");
}
