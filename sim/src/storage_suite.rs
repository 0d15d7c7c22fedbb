//! What every [`Storage`] must do, as a suite that any implementation can run.
//!
//! A [`Rig`] is a store together with the simulated disk below it. `storage_suite!` makes one test of each
//! rule; what a store is held against is the contract itself, [`apply`], and nothing
//! of its own. Batches are drawn from a seed: births, votes, entries, tails replaced, snapshots built and
//! received; and what becomes of the logs of partitions: records at their ends, cut off, trimmed, begun anew, removed.
//!
//! ```text
//! rivven_sim::storage_suite!(my_store, MyRig::new);
//! ```

use bytes::Bytes;
use rivven_cluster::driver::{Owner, RedbStorage, SegmentStorage, Storage, StorageError};
use rivven_cluster::formation::{Standing, VoterSet};
use rivven_cluster::id::{
    LeaderEpoch, LogIndex, NodeId, Offset, PartitionId, ProducerId, Term, TopicId, WriteId,
};
use rivven_cluster::node::{Durable, WriteBatch};
use rivven_cluster::partition::log::{Change, Logs, Read, What};
use rivven_cluster::partition::records::{self, Record};
use rivven_cluster::partition::replica::io::{Batch, Stamp};
use rivven_cluster::raft::{BIRTH, Entry, HardState, Membership, Position, Snapshot};
use rivven_cluster::rng::{Seed, Stream};
use rivven_cluster::time::WallSeconds;

use crate::checkers::apply;
use crate::device::{Cut, Device, Trouble};
use crate::folder::SimFolder;

/// A store and the disk that it is on.
pub trait Rig: Sized {
    /// The store.
    type Store: Storage;

    /// A new, empty disk.
    fn empty() -> Self;

    /// A process opens the store.
    ///
    /// # Errors
    ///
    /// What the store says.
    fn open(&self) -> Result<Self::Store, StorageError>;

    /// A disk with what is durable on this one.
    fn copy(&self) -> Self;

    /// What was synced so far is durable now, and cannot be cut off any more; what was not is still to be lost.
    fn settle(&self);

    /// How many places there are at which the power can go; the same place may end in several ways.
    fn cuts(&self) -> usize;

    /// The power goes at one of them.
    fn cut(&self, place: usize, fate: &mut Stream);

    /// The next sync fails.
    fn fail_next_sync(&self);

    /// Some bits change.
    fn rot(&self, fate: &mut Stream);
}

/// Whose store it is.
pub fn owner() -> Owner {
    Owner { cluster: "suite".parse().expect("a sound name"), node: node(1) }
}

fn node(id: u64) -> NodeId {
    NodeId::new(id).expect("not 0")
}

/// What a node does to its store: a batch, or a snapshot to be saved.
#[derive(Clone, Debug)]
pub enum Step {
    /// A batch is written.
    Write(WriteBatch),
    /// A snapshot is saved.
    Save(Snapshot),
}

/// Draws what one node does in its life, as a node would: only what the contract allows.
#[derive(Clone)]
pub struct Life {
    choices: Stream,
    /// What is durable by the contract.
    pub durable: Durable,
    /// With the records of partitions.
    pub records: Logs<Bytes>,
    saved: Option<Snapshot>,
    batches: u64,
}

/// How many partitions there are.
const PARTITIONS: u64 = 3;

impl Life {
    /// A new life.
    pub fn new(seed: u64) -> Life {
        Life::of(Seed::new(seed).stream("storage suite", 0))
    }

    /// A new life, which these choices decide.
    pub fn of(choices: Stream) -> Life {
        let (durable, records) = Default::default();
        Life { choices, durable, records, saved: None, batches: 0 }
    }

    /// What is done next.
    pub fn step(&mut self) -> Step {
        self.batches += 1;
        let mut batch = WriteBatch { id: WriteId::new(self.batches), ..WriteBatch::default() };
        if self.batches == 1 {
            batch.boot = Some(self.durable.boot.next());
            return Step::Write(batch);
        }
        if self.durable.snapshot.is_none() {
            let voters = VoterSet::new([node(1), node(2)].into()).expect("two");
            let state = self.bytes(900);
            batch.snapshot = Some(Snapshot {
                at: BIRTH,
                membership: Membership::of_voters(voters.voters().iter().copied()),
                state,
            });
            batch.standing = Some(Standing::Formed(voters));
            batch.hard_state = Some(HardState { term: BIRTH.term, vote: None, commit: BIRTH.index });
            return Step::Write(batch);
        }
        if let Some(snapshot) = self.saved.take() {
            let is_own = snapshot.at.index <= self.last().index;
            *(if is_own { &mut batch.compact } else { &mut batch.snapshot }) = Some(snapshot);
            return Step::Write(batch);
        }
        match self.choices.below(8) {
            0 => return self.save(),
            1 => batch.boot = Some(self.durable.boot.next()),
            2 => self.vote(&mut batch),
            _ => self.entries(&mut batch),
        }
        if self.choices.chance(1, 2) {
            batch.logs = self.changes();
        }
        Step::Write(batch)
    }

    /// What becomes of some logs, one change after the other.
    fn changes(&mut self) -> Vec<Change> {
        let mut logs = self.records.clone();
        let mut changes = Vec::new();
        for _ in 0..self.choices.between(1, 6) {
            let number = u32::try_from(self.choices.below(PARTITIONS)).expect("a small number");
            let partition = PartitionId { topic: TopicId::new(7), number };
            let (start, end) =
                logs.get(partition).map_or((0, 0), |log| (log.start().value(), log.end().value()));
            let anywhere = Offset::new(self.choices.between(start, end + 1));
            let what = match self.choices.below(24) {
                0 => What::Remove,
                1 => What::Restart(Offset::new(self.choices.between(start, end + 10))),
                2 | 3 => What::Truncate(anywhere),
                4 | 5 => What::Trim(anywhere),
                6 | 7 => What::Committed(anywhere),
                _ => What::Append(self.batch(Offset::new(end))),
            };
            let change = Change { partition, what };
            logs.apply(&change);
            changes.push(change);
        }
        changes
    }

    fn batch(&mut self, first: Offset) -> Batch {
        let value = self.bytes(900);
        let count = u32::try_from(self.choices.between(1, 4)).expect("a small number");
        let all = vec![Record { key: None, value }; usize::try_from(count).expect("a small number")];
        let producer = ProducerId::new(self.choices.below(3));
        let stamp = self.choices.chance(1, 2).then_some(Stamp { producer, sequence: first.value() });
        let epoch = LeaderEpoch::new(self.batches / 20);
        let time = WallSeconds(u32::try_from(self.choices.below(1 << 32)).expect("32 bits"));
        Batch { first, epoch, count, stamp, time, records: records::encode(&all) }
    }

    /// Whether a store reads what was written to it.
    pub fn check_records(&mut self, store: &mut impl Storage) {
        for (partition, log) in self.records.iter() {
            let from = Offset::new(self.choices.between(log.start().value(), log.end().value() + 1));
            let until = Offset::new(self.choices.between(from.value(), log.end().value() + 1));
            let read = Read { partition, from, until, bytes: 1500 };
            assert_eq!(store.read(&read), Ok(self.records.read(&read)), "{read:?} of {log:?}");
        }
    }

    fn bytes(&mut self, most: u64) -> Bytes {
        let mut bytes = vec![0; usize::try_from(self.choices.below(most)).unwrap_or_default()];
        self.choices.fill(&mut bytes);
        Bytes::from(bytes)
    }

    fn start(&self) -> Position {
        self.durable.snapshot.as_ref().map(|snapshot| snapshot.at).unwrap_or_default()
    }

    fn last(&self) -> Position {
        self.durable.entries.last().map_or(self.start(), |entry| entry.at)
    }

    fn vote(&mut self, batch: &mut WriteBatch) {
        let HardState { term, commit, .. } = self.durable.hard_state;
        batch.hard_state = Some(HardState { term: term.next(), vote: Some(node(2)), commit });
    }

    /// Entries behind the log, or in place of its end.
    fn entries(&mut self, batch: &mut WriteBatch) {
        let (start, last) = (self.start().index.value(), self.last().index.value());
        let first =
            if self.choices.chance(1, 4) { self.choices.between(start + 1, last + 2) } else { last + 1 };
        let term = self.durable.hard_state.term;
        for index in first..first + self.choices.between(1, 6) {
            let command = self.bytes(600);
            batch.entries.push(Entry::of_command(Position { index: LogIndex::new(index), term }, command));
        }
    }

    /// A snapshot of our own somewhere in the log, or a leader's behind it.
    fn save(&mut self) -> Step {
        let (start, last) = (self.start().index.value(), self.last().index.value());
        let index = LogIndex::new(self.choices.between(start + 1, last + 4));
        let term = self.durable.hard_state.term.max(Term::new(1));
        let membership = Membership::of_voters([node(1), node(2)]);
        let snapshot = Snapshot { at: Position { index, term }, membership, state: self.bytes(5000) };
        self.saved = Some(snapshot.clone());
        Step::Save(snapshot)
    }

    /// A step is durable.
    pub fn done(&mut self, step: &Step) {
        if let Step::Write(batch) = step {
            apply(&mut self.durable, batch);
            batch.logs.iter().for_each(|change| self.records.apply(change));
        }
    }
}

/// A store does it.
///
/// # Errors
///
/// What the store says.
pub fn carry_out(store: &mut impl Storage, step: &Step) -> Result<(), StorageError> {
    match step {
        Step::Write(batch) => store.write(batch),
        Step::Save(snapshot) => store.save(snapshot),
    }
}

/// What was written is read back, whenever the store is opened again.
pub fn reads_back<R: Rig>(seed: u64, steps: u64) {
    let (rig, mut life) = (R::empty(), Life::new(seed));
    let mut store = rig.open().expect("an empty disk");
    assert_eq!(store.recover(), Ok(Durable::default()));
    for number in 0..steps {
        let step = life.step();
        carry_out(&mut store, &step).expect("a sound disk");
        rig.settle();
        life.done(&step);
        if number % 7 == 0 {
            drop(store);
            rig.settle();
            store = rig.open().expect("a sound disk");
            assert_eq!(store.recover().expect("a sound disk"), life.durable, "after {step:?}");
        }
        life.check_records(&mut store);
    }
}

/// After a power loss at any write, all of the step under way is there or nothing of it, and the store
/// goes on from there.
pub fn survives_every_cut<R: Rig>(seed: u64, steps: u64) {
    let (rig, mut life) = (R::empty(), Life::new(seed));
    let mut fate = Seed::new(seed).stream("fate", 0);
    for _ in 0..steps {
        let step = life.step();
        let before = life.durable.clone();
        let mut after = before.clone();
        if let Step::Write(batch) = &step {
            apply(&mut after, batch);
        }
        let mut place = 0;
        loop {
            let copy = rig.copy();
            let mut store = copy.open().expect("a sound disk");
            copy.settle();
            carry_out(&mut store, &step).expect("a sound disk");
            if place >= copy.cuts() {
                break;
            }
            copy.cut(place, &mut fate);
            drop(store);
            let mut store = copy.open().unwrap_or_else(|error| panic!("cut {place} of {step:?}: {error}"));
            let found = store.recover().expect("it was opened");
            assert!(found == before || found == after, "cut {place} of {step:?}: {found:?}");
            copy.settle();
            goes_on(&copy, store, &step, found == after, life.clone());
            place += 1;
        }
        let mut store = rig.open().expect("a sound disk");
        carry_out(&mut store, &step).expect("a sound disk");
        drop(store);
        rig.settle();
        life.done(&step);
    }
}

/// The step that was cut off, done again, is done; and the store has a life after it. Records are not written again: they
/// come at the end, where they are already if the step `is_done`.
fn goes_on<R: Rig>(rig: &R, mut store: R::Store, step: &Step, is_done: bool, mut life: Life) {
    let again = match step {
        Step::Write(batch) if is_done => Step::Write(WriteBatch { logs: Vec::new(), ..batch.clone() }),
        Step::Write(_) | Step::Save(_) => step.clone(),
    };
    carry_out(&mut store, &again).expect("a sound disk");
    rig.settle();
    life.done(step);
    for number in 0..25 {
        if number % 8 == 0 {
            let copy = rig.copy();
            let mut again =
                copy.open().unwrap_or_else(|error| panic!("{number} steps after {step:?}: {error}"));
            assert_eq!(
                again.recover().expect("it was opened"),
                life.durable,
                "{number} steps after {step:?}"
            );
            life.check_records(&mut again);
        }
        let next = life.step();
        carry_out(&mut store, &next).expect("a sound disk");
        rig.settle();
        life.done(&next);
    }
}

/// A failed sync is reported, and whoever opens the store then finds all of the batch or nothing.
pub fn reports_a_failed_sync<R: Rig>(seed: u64) {
    let (rig, mut life) = (R::empty(), Life::new(seed));
    let mut store = rig.open().expect("an empty disk");
    for _ in 0..6 {
        let step = life.step();
        carry_out(&mut store, &step).expect("a sound disk");
        rig.settle();
        life.done(&step);
    }
    let step = loop {
        let step = life.step();
        if matches!(step, Step::Write(_)) {
            break step;
        }
        carry_out(&mut store, &step).expect("a sound disk");
        rig.settle();
    };
    rig.fail_next_sync();
    assert!(carry_out(&mut store, &step).is_err(), "the sync failed");
    rig.cut(rig.cuts().saturating_sub(1), &mut Seed::new(seed).stream("fate", 0));
    drop(store);
    let found = rig.open().and_then(|mut store| store.recover()).expect("nothing is damaged");
    let before = life.durable.clone();
    life.done(&step);
    assert!(found == before || found == life.durable, "{found:?}");
}

/// A damaged disk is refused with a reason, or read as what was once on it; never as anything else.
pub fn makes_nothing_up<R: Rig>(seed: u64, steps: u64, tries: u64) {
    let (rig, mut life) = (R::empty(), Life::new(seed));
    let mut store = rig.open().expect("an empty disk");
    let mut once = vec![Durable::default()];
    for _ in 0..steps {
        let step = life.step();
        carry_out(&mut store, &step).expect("a sound disk");
        rig.settle();
        life.done(&step);
        once.push(life.durable.clone());
    }
    drop(store);
    rig.settle();
    let mut refused = 0;
    for number in 0..tries {
        let copy = rig.copy();
        copy.rot(&mut Seed::new(seed).stream("rot", number));
        match copy.open().and_then(|mut store| store.recover()) {
            Ok(found) => assert!(once.contains(&found), "try {number} was read as {found:?}"),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 0, "{tries} damaged disks, and none was refused");
}

/// Another node's store is refused.
pub fn knows_its_owner(open_as: impl Fn(&Owner) -> Result<(), StorageError>) {
    open_as(&owner()).expect("an empty disk");
    open_as(&owner()).expect("its own disk");
    let other = Owner { node: node(2), ..owner() };
    assert!(open_as(&other).is_err(), "another node's disk");
}

/// Two stores that are told the same hold the same, cut off at the same step or not.
pub fn agree<A: Rig, B: Rig>(seed: u64, steps: u64) {
    let (a, b, mut life) = (A::empty(), B::empty(), Life::new(seed));
    let (mut store_a, mut store_b) = (a.open().expect("empty"), b.open().expect("empty"));
    for _ in 0..steps {
        let step = life.step();
        for result in [carry_out(&mut store_a, &step), carry_out(&mut store_b, &step)] {
            result.expect("a sound disk");
        }
        a.settle();
        b.settle();
        life.done(&step);
        let (copy_a, copy_b) = (a.copy(), b.copy());
        let found_a = copy_a.open().and_then(|mut store| store.recover()).expect("a sound disk");
        let found_b = copy_b.open().and_then(|mut store| store.recover()).expect("a sound disk");
        assert_eq!(found_a, found_b, "after {step:?}");
    }
}

/// The segment log on a simulated folder, with segments of a few batches.
pub struct SegmentRig(SimFolder);

/// The length of a segment in the suite: a few batches fill it.
const SEGMENT_BYTES: u64 = 12 * 1024;

impl Rig for SegmentRig {
    type Store = SegmentStorage<SimFolder>;

    fn empty() -> SegmentRig {
        SegmentRig(SimFolder::default())
    }

    fn open(&self) -> Result<Self::Store, StorageError> {
        SegmentStorage::open_sized(self.0.attach(), &owner(), 77, SEGMENT_BYTES)
    }

    fn copy(&self) -> SegmentRig {
        SegmentRig(SimFolder::of(self.0.image()))
    }

    fn settle(&self) {
        self.0.settle();
    }

    fn cuts(&self) -> usize {
        self.0.pending() + 1
    }

    fn cut(&self, place: usize, fate: &mut Stream) {
        self.0.cut_after(place, Cut::Torn, fate);
    }

    fn fail_next_sync(&self) {
        self.0.set_trouble(Trouble { fails_next_sync: true, ..self.0.trouble() });
    }

    fn rot(&self, fate: &mut Stream) {
        self.0.rot(fate);
    }
}

/// redb on a simulated block device. The device draws where the power goes.
pub struct RedbRig(Device);

impl Rig for RedbRig {
    type Store = RedbStorage;

    fn empty() -> RedbRig {
        RedbRig(Device::default())
    }

    fn open(&self) -> Result<RedbStorage, StorageError> {
        let device = self.0.attach();
        device.make("the suite", &owner())?;
        RedbStorage::open_backend(device, "the suite", &owner())
    }

    fn copy(&self) -> RedbRig {
        let device = Device::default();
        device.replace(self.0.image());
        RedbRig(device)
    }

    fn settle(&self) {
        self.0.settle();
    }

    fn cuts(&self) -> usize {
        6
    }

    fn cut(&self, place: usize, fate: &mut Stream) {
        let cut = [Cut::Torn, Cut::Reordered, Cut::Lost][place % 3];
        self.0.cut(cut, fate);
    }

    fn fail_next_sync(&self) {
        self.0.set_trouble(Trouble { fails_next_sync: true, ..self.0.trouble() });
    }

    fn rot(&self, fate: &mut Stream) {
        self.0.rot(fate);
    }
}

/// Makes a module of tests, one for each rule, of a [`Rig`].
#[macro_export]
macro_rules! storage_suite {
    ($name:ident, $rig:ty) => {
        mod $name {
            use super::*;
            use $crate::storage_suite as suite;

            #[test]
            fn what_was_written_is_read_back() {
                (1..=4).for_each(|seed| suite::reads_back::<$rig>(seed, 120));
            }

            #[test]
            fn a_batch_is_there_or_not_wherever_the_power_goes() {
                (1..=3).for_each(|seed| suite::survives_every_cut::<$rig>(seed, 40));
            }

            #[test]
            fn a_failed_sync_is_reported() {
                (1..=5).for_each(|seed| suite::reports_a_failed_sync::<$rig>(seed));
            }

            #[test]
            fn a_damaged_disk_is_refused_or_read_as_it_once_was() {
                (1..=3).for_each(|seed| suite::makes_nothing_up::<$rig>(seed, 40, 60));
            }
        }
    };
}
