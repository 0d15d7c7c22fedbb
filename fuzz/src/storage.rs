//! A store on a disk that fails at any point, held against what the contract says that it holds.

use rivven_cluster::driver::{Storage as _, StorageError};
use rivven_cluster::node::{Durable, WriteBatch};
use rivven_cluster::rng::{Seed, Stream};
use rivven_sim::checkers::apply;
use rivven_sim::storage_suite::{Life, RedbRig, Rig, SegmentRig, Step, carry_out};

/// The most steps that a tape decides.
const STEPS_MAX: usize = 200;

/// Plays what the tape says: its first half what a node writes, its second what becomes of the disk. Power goes, syncs
/// fail, bits change, and the store is opened again: it holds what was written, with or without what was under way, or
/// says why it cannot; a disk whose bits have changed is refused, or read as what was once on it. Returns how many steps
/// were done.
pub fn storage(tape: &[u8]) -> usize {
    let (life, fate) = tape.split_at(tape.len() / 2);
    let life = Life::of(Seed::new(0).stream("storage life", 0).behind(life));
    let mut fate = Seed::new(0).stream("storage fate", 0).behind(fate);
    let steps = (tape.len() / 8).min(STEPS_MAX);
    if fate.chance(1, 4) {
        World::<RedbRig>::begin(life, fate).play(steps)
    } else {
        World::<SegmentRig>::begin(life, fate).play(steps)
    }
}

struct World<R: Rig> {
    rig: R,
    store: Option<R::Store>,
    life: Life,
    fate: Stream,
    /// All that was ever durable.
    once: Vec<Durable>,
    /// Whether some sync is to fail.
    may_fail: bool,
}

impl<R: Rig> World<R> {
    fn begin(life: Life, fate: Stream) -> World<R> {
        let rig = R::empty();
        let store = rig.open().expect("an empty disk");
        rig.settle();
        World { rig, store: Some(store), life, fate, once: vec![Durable::default()], may_fail: false }
    }

    fn play(mut self, steps: usize) -> usize {
        for _ in 0..steps {
            let step = self.life.step();
            match self.fate.below(16) {
                0 => self.lose_power(&step),
                1 => {
                    self.rig.fail_next_sync();
                    self.may_fail = true;
                    self.take(&step);
                }
                2 => {
                    self.take(&step);
                    self.open_again();
                }
                3 => {
                    self.take(&step);
                    self.rot();
                }
                _ => self.take(&step),
            }
            self.once.push(self.life.durable.clone());
        }
        self.open_again();
        steps
    }

    fn store(&mut self) -> &mut R::Store {
        self.store.as_mut().expect("it is open between two steps")
    }

    /// The step is done, or fails of a sync that was to fail.
    fn take(&mut self, step: &Step) {
        match carry_out(self.store(), step) {
            Ok(()) => {
                self.rig.settle();
                self.life.done(step);
            }
            Err(error) => {
                assert!(self.may_fail, "nothing was to fail: {error}");
                self.may_fail = false;
                self.recover_from(step);
            }
        }
    }

    /// The power goes while the step is under way.
    fn lose_power(&mut self, step: &Step) {
        if carry_out(self.store(), step).is_err() {
            assert!(self.may_fail, "nothing was to fail");
            self.may_fail = false;
        }
        self.recover_from(step);
    }

    /// The process ends, and so does the power, somewhere in what is not durable. All of the step is there afterwards, or
    /// nothing of it; then it is done again.
    fn recover_from(&mut self, step: &Step) {
        let place = self.fate.below(u64::try_from(self.rig.cuts()).expect("a few").max(1));
        self.rig.cut(usize::try_from(place).expect("a few"), &mut self.fate);
        self.store = None;
        let found = self.open().unwrap_or_else(|error| panic!("nothing is damaged, after {step:?}: {error}"));
        let mut after = self.life.durable.clone();
        if let Step::Write(batch) = step {
            apply(&mut after, batch);
        }
        let is_done = found == after;
        assert!(is_done || found == self.life.durable, "after {step:?}: {found:?}");
        // Records come at the end of their logs, where they are already if the step is done.
        let again = match step {
            Step::Write(batch) if is_done => Step::Write(WriteBatch { logs: Vec::new(), ..batch.clone() }),
            Step::Write(_) | Step::Save(_) => step.clone(),
        };
        carry_out(self.store(), &again).unwrap_or_else(|error| panic!("{again:?} again: {error}"));
        self.rig.settle();
        self.life.done(step);
    }

    /// The process ends, and another one opens the store.
    fn open_again(&mut self) {
        self.store = None;
        self.rig.settle();
        match self.open() {
            Ok(found) => assert_eq!(found, self.life.durable),
            Err(error) => {
                assert!(self.may_fail, "nothing was to fail: {error}");
                self.may_fail = false;
                assert_eq!(self.open().expect("nothing fails twice"), self.life.durable);
            }
        }
        let (life, store) = (&mut self.life, self.store.as_mut().expect("it was opened"));
        life.check_records(store);
    }

    fn open(&mut self) -> Result<Durable, StorageError> {
        let mut store = self.rig.open()?;
        let found = store.recover()?;
        self.rig.settle();
        self.store = Some(store);
        Ok(found)
    }

    /// Bits change on a copy of the disk.
    fn rot(&mut self) {
        self.once.push(self.life.durable.clone());
        let copy = self.rig.copy();
        copy.rot(&mut self.fate);
        if let Ok(found) = copy.open().and_then(|mut store| store.recover()) {
            assert!(self.once.contains(&found), "bits have changed, and it was read as {found:?}");
        }
    }
}
