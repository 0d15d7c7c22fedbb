//! Herlihy and Wing 1990; Wing and Gong 1993, Lowe 2017: each register has an order that explains it.
//!
//! Unlike the oracle this search believes nobody, least of all the log: it looks for *some* order of a
//! register's operations that respects real time and gives the results that clients saw. Registers are
//! independent, so each is searched alone. The search is Wing and Gong's with Lowe's memory of what was
//! tried; since it can still explode, it gives up after a bounded number of steps, and says so.

use std::collections::{BTreeMap, BTreeSet};

use super::{Rule, Verdict, broken};
use crate::app::{Application, RegisterAction, RegisterCall};
use crate::history::{History, Operation, Outcome};

/// The most steps for one register.
const STEPS_MAX: u64 = 300_000;

/// The search was given up: nothing is known about this register.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Undecided {
    /// Which register.
    pub key: String,
}

/// Judges each register of a history; registers are those commands that the application describes.
///
/// # Errors
///
/// [`Undecided`] if the search of a register took too long, and no other has shown a violation.
pub fn linearizable<A: Application>(app: &A, history: &History) -> Result<Verdict, Undecided> {
    let mut registers: BTreeMap<String, Vec<Step>> = BTreeMap::new();
    for operation in history.operations() {
        if let Some((key, step)) = as_step(app, operation) {
            registers.entry(key).or_default().push(step);
        }
    }
    let mut undecided = None;
    for (key, steps) in registers {
        match Search::new(&steps).run() {
            Some(true) => {}
            Some(false) => {
                let what =
                    format!("no order of the {} operations on {key:?} explains their results", steps.len());
                return Ok(broken(Rule::Linearizability, what));
            }
            None => undecided = Some(Undecided { key }),
        }
    }
    undecided.map_or(Ok(Ok(())), Err)
}

/// One operation on the register.
#[derive(Clone, Debug)]
struct Step {
    called: u64,
    /// `u64::MAX` if nobody knows: it may take effect at any time after its call, as late as never.
    returned: u64,
    action: RegisterAction,
}

/// What failed for certain has no step, nor has a read that nobody saw.
fn as_step<A: Application>(app: &A, operation: &Operation) -> Option<(String, Step)> {
    let (answer, returned) = match &operation.outcome {
        Outcome::Done { answer, .. } => (Some(&answer[..]), operation.returned?),
        Outcome::Failed { .. } => return None,
        Outcome::Unknown => (None, u64::MAX),
    };
    let RegisterCall { key, action } = app.register(&operation.call, answer)?;
    if matches!(action, RegisterAction::Read { found: None }) {
        return None;
    }
    Some((key, Step { called: operation.called, returned, action }))
}

/// The events of a register in the order of time, as a list from which operations are lifted.
struct Search<'a> {
    steps: &'a [Step],
    /// Which operation, and whether this is its call.
    events: Vec<(usize, bool)>,
    /// The neighbours of each event, and of the head, which comes last.
    next: Vec<usize>,
    previous: Vec<usize>,
    /// Where each operation's return is.
    returns: Vec<usize>,
}

type State = Option<String>;

impl Search<'_> {
    fn new(steps: &[Step]) -> Search<'_> {
        let mut events: Vec<(u64, bool, usize)> = Vec::new();
        for (number, step) in steps.iter().enumerate() {
            // At one instant calls come first: what overlaps by a point may go either way.
            events.push((step.called, false, number));
            events.push((step.returned, true, number));
        }
        events.sort_unstable();
        let mut returns = vec![0; steps.len()];
        for (place, (_, is_return, number)) in events.iter().enumerate() {
            if *is_return {
                returns[*number] = place;
            }
        }
        let count = events.len();
        let events = events.into_iter().map(|(_, is_return, number)| (number, !is_return)).collect();
        // The head stands at `count`, before the first and after the last.
        let next = (1..=count).chain([0]).collect();
        let previous = core::iter::once(count).chain(0..count).collect();
        Search { steps, events, next, previous, returns }
    }

    /// Whether there is an order; `None` if the search was given up.
    fn run(mut self) -> Option<bool> {
        let head = self.events.len();
        let mut state: State = None;
        let mut taken = vec![0_u64; self.steps.len().div_ceil(64)];
        let mut path: Vec<(usize, State)> = Vec::new();
        let mut tried: BTreeSet<(Vec<u64>, State)> = BTreeSet::new();
        let mut at = self.next[head];
        for _ in 0..STEPS_MAX {
            if self.next[head] == head || self.steps.is_empty() {
                return Some(true);
            }
            let (number, is_call) = if at == head { (0, false) } else { self.events[at] };
            if is_call {
                if let Some(after) = explain(&self.steps[number].action, &state) {
                    flip(&mut taken, number);
                    if tried.insert((taken.clone(), after.clone())) {
                        path.push((at, core::mem::replace(&mut state, after)));
                        self.lift(at, number);
                        at = self.next[head];
                        continue;
                    }
                    flip(&mut taken, number);
                }
                at = self.next[at];
                continue;
            }
            // An operation that returned has not been placed: the last choice was wrong.
            let Some((place, before)) = path.pop() else { return Some(false) };
            let (number, _) = self.events[place];
            flip(&mut taken, number);
            state = before;
            self.put_back(place, number);
            at = self.next[place];
        }
        None
    }

    fn lift(&mut self, call: usize, number: usize) {
        for place in [call, self.returns[number]] {
            let (previous, next) = (self.previous[place], self.next[place]);
            self.next[previous] = next;
            self.previous[next] = previous;
        }
    }

    fn put_back(&mut self, call: usize, number: usize) {
        for place in [self.returns[number], call] {
            let (previous, next) = (self.previous[place], self.next[place]);
            self.next[previous] = place;
            self.previous[next] = place;
        }
    }
}

fn flip(taken: &mut [u64], number: usize) {
    taken[number / 64] ^= 1 << (number % 64);
}

/// The state after an action, if the state before it explains its result.
fn explain(action: &RegisterAction, before: &State) -> Option<State> {
    match action {
        RegisterAction::Read { found } => {
            let fits = found.as_ref().is_none_or(|found| found == before);
            fits.then(|| before.clone())
        }
        RegisterAction::Write { value } => Some(Some(value.clone())),
        RegisterAction::CompareAndSet { expected, value, stored } => {
            let stores = expected == before;
            let fits = stored.is_none_or(|stored| stored == stores);
            fits.then(|| if stores { Some(value.clone()) } else { before.clone() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(called: u64, returned: u64, found: Option<&str>) -> Step {
        Step { called, returned, action: RegisterAction::Read { found: Some(found.map(str::to_owned)) } }
    }

    fn write(called: u64, returned: u64, value: &str) -> Step {
        Step { called, returned, action: RegisterAction::Write { value: value.to_owned() } }
    }

    fn judge(steps: &[Step]) -> Option<bool> {
        Search::new(steps).run()
    }

    #[test]
    fn a_stale_read_has_no_order() {
        assert_eq!(judge(&[write(1, 2, "a"), read(3, 4, Some("a"))]), Some(true));
        assert_eq!(judge(&[write(1, 2, "a"), read(3, 4, None)]), Some(false));
        assert_eq!(judge(&[write(1, 5, "a"), read(3, 4, None)]), Some(true), "they overlap");
        let forgotten = [write(1, 2, "a"), write(3, 4, "b"), read(5, 6, Some("a"))];
        assert_eq!(judge(&forgotten), Some(false));
    }

    #[test]
    fn reads_that_contradict_each_other_have_no_order() {
        let steps = [write(1, 10, "a"), write(1, 10, "b"), read(11, 12, Some("a")), read(13, 14, Some("b"))];
        assert_eq!(judge(&steps), Some(false));
    }

    #[test]
    fn what_nobody_knows_may_happen_late_or_never() {
        let lost = write(1, u64::MAX, "a");
        assert_eq!(judge(&[lost.clone(), read(3, 4, None), read(5, 6, Some("a"))]), Some(true));
        assert_eq!(judge(&[lost.clone(), read(3, 4, None)]), Some(true));
        assert_eq!(judge(&[lost, read(3, 4, Some("a")), read(5, 6, None)]), Some(false));
    }

    #[test]
    fn compare_and_set_is_explained_by_what_was_there() {
        let swap = |called, expected: Option<&str>, value: &str, stored| {
            let (expected, value) = (expected.map(str::to_owned), value.to_owned());
            Step {
                called,
                returned: called + 1,
                action: RegisterAction::CompareAndSet { expected, value, stored },
            }
        };
        assert_eq!(judge(&[swap(1, None, "a", Some(true)), swap(3, Some("a"), "b", Some(true))]), Some(true));
        assert_eq!(judge(&[swap(1, None, "a", Some(true)), swap(3, None, "b", Some(true))]), Some(false));
        assert_eq!(judge(&[swap(1, None, "a", Some(true)), swap(3, None, "b", Some(false))]), Some(true));
    }
}
