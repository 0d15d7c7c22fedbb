//! Three Raft machines between whom messages are late, repeated and lost, and whose processes end. Their logs are never
//! compacted, and nobody joins or leaves: that is the `cluster` target's.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use rivven_cluster::id::{BootId, LogIndex, NodeId, RequestId, Term};
use rivven_cluster::machine::Machine;
use rivven_cluster::raft::{
    BIRTH, Entry, Flow, HardState, Input, Membership, Message, Output, Persist, Proposal, Raft, ReadyNumber,
    Recovered, Role, Snapshot, Timing,
};
use rivven_cluster::rng::{Seed, Stream};
use rivven_cluster::time::Instant;

/// So many members.
const MEMBERS: usize = 3;
/// The most steps that a tape decides.
const STEPS_MAX: usize = 2000;
/// So much is on its way at most; what is older is lost.
const WIRE_MAX: usize = 64;

/// A member: its machine, its disk, and what waits for the disk.
struct Seat {
    id: NodeId,
    boot: u64,
    raft: Raft,
    now: Instant,
    disk: Recovered,
    writes: VecDeque<Persist>,
    held: VecDeque<(ReadyNumber, Message)>,
    /// What the state machine of this start has come to.
    applied: LogIndex,
}

struct World {
    draws: Stream,
    seats: Vec<Seat>,
    wire: Vec<(usize, Message)>,
    /// Who led in each term (Raft §5.2).
    leaders: BTreeMap<Term, NodeId>,
    /// What was applied at each index (Raft §5.4.3).
    committed: BTreeMap<LogIndex, Entry>,
    proposals: u64,
    /// How often timers fire and processes end, from 0 to 3.
    unrest: usize,
    /// Whether somebody has lied: then nothing can be promised but that nobody panics.
    has_lied: bool,
}

/// Plays what the tape says: timers fire, messages arrive, again, late or never, disks write, processes crash, clients
/// propose, and in one tape of four somebody lies. One leads in a term, all apply the same, and what is applied is on the
/// disks of a majority. Returns how many entries were committed.
pub fn raft(tape: &[u8]) -> usize {
    let draws = Seed::new(0).stream("raft", 0).behind(tape);
    let mut world = World::new(draws);
    let lies = world.draws.chance(1, 4);
    world.unrest = world.draw(4);
    for _ in 0..(tape.len() / 2).min(STEPS_MAX) {
        world.step(lies);
        world.check();
    }
    world.committed.len()
}

impl World {
    fn new(draws: Stream) -> World {
        let ids: Vec<NodeId> = (1..).filter_map(NodeId::new).take(MEMBERS).collect();
        let membership = Membership::of_voters(ids.iter().copied());
        let snapshot = Snapshot { at: BIRTH, membership, state: Bytes::new() };
        let hard_state = HardState { term: BIRTH.term, vote: None, commit: BIRTH.index };
        let disk = Recovered { snapshot, hard_state, entries: Vec::new() };
        let seats = ids.into_iter().map(|id| Seat::start(id, 1, disk.clone(), Instant::ORIGIN)).collect();
        World {
            draws,
            seats,
            wire: Vec::new(),
            leaders: BTreeMap::new(),
            committed: BTreeMap::new(),
            proposals: 0,
            unrest: 0,
            has_lied: false,
        }
    }

    fn draw(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).expect("a small number");
        usize::try_from(self.draws.below(bound)).expect("below a small number")
    }

    fn step(&mut self, lies: bool) {
        let member = self.draw(MEMBERS);
        match self.draw(61 + 6 * self.unrest) {
            0..=2 => self.time_out(member),
            3..=34 => self.deliver(lies),
            35..=55 => self.write(member),
            56..=59 => self.propose(member),
            60 => self.restart(member),
            more if more % 2 == 0 => self.time_out(member),
            _ => self.restart(member),
        }
        self.settle(member);
        let excess = self.wire.len().saturating_sub(WIRE_MAX);
        self.wire.drain(..excess);
    }

    fn time_out(&mut self, member: usize) {
        let seat = &mut self.seats[member];
        if let Some(due) = seat.raft.deadline() {
            seat.now = seat.now.max(due);
            seat.raft.handle_timeout(seat.now);
        }
    }

    /// Something arrives: once, or more often, or not at all.
    fn deliver(&mut self, lies: bool) {
        if self.wire.is_empty() {
            return;
        }
        // Mostly in order, or an election hardly ever comes to its end.
        let place = if self.draw(4) == 0 { self.draw(self.wire.len()) } else { 0 };
        let fate = self.draw(16);
        let (from, mut message) = if fate == 0 { self.wire[place].clone() } else { self.wire.remove(place) };
        if fate == 1 {
            return;
        }
        if lies && fate == 2 {
            self.has_lied = true;
            message.term = Term::new(self.draws.below(8));
        }
        let to = usize::try_from(message.to.value() - 1).expect("a seat");
        let from = self.seats[from].id;
        let seat = &mut self.seats[to];
        seat.raft.handle(seat.now, Input::Message { from, message });
        self.settle(to);
    }

    /// The disk has written the oldest thing that it was given.
    fn write(&mut self, member: usize) {
        let seat = &mut self.seats[member];
        let Some(persist) = seat.writes.pop_front() else { return };
        let number = persist.number;
        if let Some(snapshot) = persist.snapshot {
            (seat.disk.snapshot, seat.disk.entries) = (snapshot, Vec::new());
        }
        if let Some(first) = persist.entries.first() {
            seat.disk.entries.retain(|entry| entry.at.index < first.at.index);
        }
        seat.disk.entries.extend(persist.entries);
        seat.disk.hard_state = persist.hard_state.unwrap_or(seat.disk.hard_state);
        seat.raft.handle(seat.now, Input::Persisted(number));
        while seat.held.front().is_some_and(|(until, _)| *until <= number) {
            self.wire.extend(seat.held.pop_front().map(|(_, message)| (member, message)));
        }
    }

    /// A client proposes something, mostly to somebody who leads.
    fn propose(&mut self, member: usize) {
        self.proposals += 1;
        let leads = |seat: &Seat| seat.raft.standing().role == Role::Leader;
        let member = self.seats.iter().position(leads).filter(|_| self.proposals % 4 != 0).unwrap_or(member);
        let command = Bytes::from(self.proposals.to_le_bytes().to_vec());
        let proposal = Proposal { id: RequestId::new(self.proposals), command };
        let seat = &mut self.seats[member];
        seat.raft.handle(seat.now, Input::Propose(vec![proposal]));
        self.settle(member);
    }

    /// A process ends, and another starts with what the disk has.
    fn restart(&mut self, member: usize) {
        let seat = &mut self.seats[member];
        *seat = Seat::start(seat.id, seat.boot + 1, seat.disk.clone(), seat.now);
    }

    /// Does what a machine wants done.
    fn settle(&mut self, member: usize) {
        while let Some(output) = self.seats[member].raft.poll() {
            let seat = &mut self.seats[member];
            match output {
                Output::Persist(persist) => seat.writes.push_back(persist),
                Output::Send { message, after: Some(number) } => seat.held.push_back((number, message)),
                Output::Send { message, after: None } => self.wire.push((member, message)),
                Output::SendSnapshot { to } => {
                    seat.raft.handle(seat.now, Input::SnapshotSent { to, arrived: false });
                }
                Output::Commit(entries) => self.apply(member, entries),
                _ => {}
            }
            self.seats[member].raft.assert_invariants();
        }
    }

    fn apply(&mut self, member: usize, entries: Vec<Entry>) {
        for entry in entries {
            let seat = &mut self.seats[member];
            assert_eq!(entry.at.index, seat.applied.next(), "entries are applied in order");
            seat.applied = entry.at.index;
            seat.raft.handle(seat.now, Input::Applied(entry.at.index));
            if self.has_lied {
                continue;
            }
            let has_it = |seat: &&Seat| seat.disk.entries.contains(&entry);
            let copies = self.seats.iter().filter(has_it).count();
            assert!(copies > MEMBERS / 2, "{:?} is committed, and on {copies} disks", entry.at);
            let known = self.committed.entry(entry.at.index).or_insert_with(|| entry.clone());
            assert_eq!(*known, entry, "two members apply different entries");
        }
    }

    fn check(&mut self) {
        for seat in &self.seats {
            let standing = seat.raft.standing();
            if standing.role == Role::Leader && !self.has_lied {
                let leader = *self.leaders.entry(standing.term).or_insert(seat.id);
                assert_eq!(leader, seat.id, "two members lead in {}", standing.term);
            }
        }
    }
}

impl Seat {
    fn start(id: NodeId, boot: u64, disk: Recovered, now: Instant) -> Seat {
        let seed = Seed::new(id.value() << 32 | boot);
        let (timing, flow, applied) = (Timing::default(), Flow::default(), disk.snapshot.at.index);
        let raft = Raft::start(id, BootId::new(boot), &timing, flow, seed, disk.clone(), now);
        let raft = raft.expect("a member can start from what it has written");
        Seat { id, boot, raft, now, disk, writes: VecDeque::new(), held: VecDeque::new(), applied }
    }
}
