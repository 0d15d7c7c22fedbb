//! What if this had been lost?
//!
//! The node is told what it was told, but for one input. As long as it says what it said then, all goes on as it went:
//! that input made no difference yet. Once it says something else, it goes its own way in a small pure world: time passes
//! for it, its writes become durable, its snapshots are built and saved, and the others say what they said then, when they
//! said it. They do not answer what it says now; so the further it goes, the less it means, and what it says first is what
//! counts.

use core::time::Duration;
use std::collections::VecDeque;

use bytes::Bytes;
use rivven_cluster::flight::{Flight, StandIn, Step};
use rivven_cluster::machine::Machine;
use rivven_cluster::node::{Input, Node, Output};
use rivven_cluster::raft::Standing;
use rivven_cluster::state_machine::Frozen;
use rivven_cluster::time::Instant;

use super::Stage;
use crate::trace::Trace;
use crate::world::caught;

/// How long the disk of a branch takes for anything.
const DISK: Duration = Duration::from_millis(1);

/// A branch goes on for no longer than that, and what it is told to go on then.
const SPAN_MAX: Duration = Duration::from_secs(24 * 3600);

/// How a node goes on from somewhere in its flight.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Turn {
    /// Which input is lost, from 1.
    pub input: usize,
    /// How long it goes on when the flight is over and nobody says anything any more.
    pub then: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Branched {
    /// The input that was lost.
    pub lost: Input,
    /// When, since the beginning of the flight.
    pub at: Duration,
    /// Where it began to say something else, if it did.
    pub parting: Option<Parting>,
    /// Reads of records that the branch has no disk for: they found nothing.
    pub unread: usize,
    /// A panic, or a broken invariant.
    pub broken: Option<String>,
    /// How the node stood at the end of the branch, and at the end of the flight.
    pub standings: [Option<Standing>; 2],
}

/// The first thing that the node said and had not said.
#[derive(Debug)]
pub struct Parting {
    /// When, since the beginning of the flight.
    pub at: Duration,
    /// What it said.
    pub now: Option<Output>,
    /// What it had said there.
    pub then: Option<Output>,
}

/// Why there is no branch.
#[derive(Debug, thiserror::Error)]
pub enum BranchError {
    /// Choose another one.
    #[error("the flight has {0} inputs; they are counted from 1")]
    NoSuchInput(usize),
    /// It differs before the branch begins.
    #[error("the flight does not replay up to there: {0}")]
    Differs(String),
}

/// Plays a flight without one of its inputs.
///
/// # Errors
///
/// [`BranchError`] if there is no such input, or the flight does not replay up to there.
pub fn branch(flight: &Flight, turn: Turn, trace: &mut Trace) -> Result<Branched, BranchError> {
    let (place, at, lost) = find(flight, turn.input)?;
    let mut stage = Stage::new(flight, trace);
    let (begins, (_, ends)) = (stage.begins, flight.times());
    let mut player = caught(|| flight.player()).map_err(BranchError::Differs)?;
    stage.settles(player.node());
    let mut disk = Disk::default();
    let mut parted = None;
    let kept = flight.steps.iter().enumerate().filter(|(number, _)| *number != place);
    for (number, step) in kept {
        stage.before(step);
        match caught(|| player.step(step)) {
            Ok(Ok(said)) => follow(flight, number, &mut stage, &mut disk, said.as_ref()),
            Ok(Err(difference)) if number > place => {
                parted = Some((number, difference));
                break;
            }
            Ok(Err(difference)) => return Err(BranchError::Differs(difference.to_string())),
            Err(text) => return Err(BranchError::Differs(text)),
        }
        if *step == Step::Settled {
            stage.settles(player.node());
        }
    }
    let mut branched = Branched {
        lost: lost.clone(),
        at: at.saturating_since(begins),
        parting: None,
        unread: 0,
        broken: None,
        standings: [player.node().standing(), undisturbed(flight, flight.steps.len()).1],
    };
    let Some((number, difference)) = parted else { return Ok(branched) };
    let (now, said) = (stage.now, difference.found.map(|found| *found));
    let (then, _) = undisturbed(flight, number + 1);
    branched.parting = Some(Parting { at: now.saturating_since(begins), now: said.clone(), then });
    let rest = flight.steps[number..].iter().filter_map(by_others).collect();
    let mut world = World { node: player.into_node(), stage, disk, rest, now };
    let ran = caught(|| {
        said.into_iter().for_each(|output| world.act(&output));
        world.run(ends.min(now + SPAN_MAX) + turn.then)
    });
    branched.broken = ran.and_then(|result| result).err();
    (branched.standings[0], branched.unread) = (world.node.standing(), world.disk.unread);
    Ok(branched)
}

/// The input of that number: its place among the steps, when it came, and what it was.
fn find(flight: &Flight, wanted: usize) -> Result<(usize, Instant, &Input), BranchError> {
    let inputs = flight.steps.iter().enumerate().filter_map(|(place, step)| match step {
        Step::Input(at, input) => Some((place, *at, input)),
        Step::Output(_) | Step::Timeout(_) | Step::Settled | Step::Said(_) => None,
    });
    let found = wanted.checked_sub(1).and_then(|before| inputs.clone().nth(before));
    found.ok_or_else(|| BranchError::NoSuchInput(inputs.count()))
}

/// The node has done the step of that number as it did then.
fn follow(flight: &Flight, number: usize, stage: &mut Stage<'_>, disk: &mut Disk, said: Option<&Output>) {
    if let Some(output) = said {
        stage.said(output);
        disk.asked(stage.now, output, || built_after(flight, number));
    }
    if let Step::Input(_, input) = &flight.steps[number] {
        disk.told(input);
    }
}

/// What came of a snapshot that was to be built at that step.
fn built_after(flight: &Flight, step: usize) -> Bytes {
    let built = flight.steps[step..].iter().find_map(|step| match step {
        Step::Input(_, Input::SnapshotBuilt(state)) => Some(state.clone()),
        Step::Input(..) | Step::Output(_) | Step::Timeout(_) | Step::Settled | Step::Said(_) => None,
    });
    built.unwrap_or_default()
}

/// What comes to the node also in the branch: not from its disk, which is another one.
fn by_others(step: &Step) -> Option<(Instant, Input)> {
    let Step::Input(now, input) = step else { return None };
    (!is_of_disk(input)).then(|| (*now, input.clone()))
}

fn is_of_disk(input: &Input) -> bool {
    match input {
        Input::Written(_)
        | Input::WriteFailed { .. }
        | Input::Read { .. }
        | Input::ReadFailed { .. }
        | Input::SnapshotBuilt(_)
        | Input::SnapshotSaved
        | Input::SnapshotFailed { .. } => true,
        Input::Link { .. }
        | Input::Message { .. }
        | Input::Unreachable(_)
        | Input::WallClock(_)
        | Input::Gossip(_)
        | Input::Leave
        | Input::Request { .. } => false,
    }
}

/// Plays so many steps as they were: what was said in the last of them, and how the node stood then.
fn undisturbed(flight: &Flight, steps: usize) -> (Option<Output>, Option<Standing>) {
    let (mut player, mut last) = (flight.player(), None);
    for step in &flight.steps[..steps] {
        // If it panicked, this is how it ended.
        let Ok(Ok(said)) = caught(|| player.step(step)) else { break };
        last = said;
    }
    (last, player.node().standing())
}

/// A disk on which everything goes well.
#[derive(Default)]
struct Disk {
    /// What it will say, and when.
    due: VecDeque<(Instant, Input)>,
    unread: usize,
}

impl Disk {
    /// The node wants something of it.
    fn asked(&mut self, now: Instant, output: &Output, build: impl FnOnce() -> Bytes) {
        let done = match output {
            Output::Write(batch) => Input::Written(batch.id),
            Output::Read { id, .. } => Input::Read { id: *id, batches: Vec::new() },
            Output::SaveSnapshot(_) => Input::SnapshotSaved,
            Output::BuildSnapshot => Input::SnapshotBuilt(build()),
            Output::Send { .. }
            | Output::Dial(_)
            | Output::HangUp(_)
            | Output::Reply { .. }
            | Output::Gossip(_)
            | Output::Event(_) => return,
        };
        self.due.push_back((now + DISK, done));
    }

    /// It was done in the recording already.
    fn told(&mut self, input: &Input) {
        self.due.retain(|(_, due)| match (due, input) {
            (Input::Written(due), Input::Written(id)) => due != id,
            (Input::Read { id: due, .. }, Input::Read { id, .. }) => due != id,
            (Input::SnapshotSaved, Input::SnapshotSaved) => false,
            (Input::SnapshotBuilt(_), Input::SnapshotBuilt(_)) => false,
            _ => true,
        });
    }

    fn next_at(&self) -> Option<Instant> {
        self.due.front().map(|(at, _)| *at)
    }

    fn take(&mut self) -> Option<Input> {
        let (_, input) = self.due.pop_front()?;
        self.unread += usize::from(matches!(input, Input::Read { .. }));
        Some(input)
    }
}

/// The node from the branch on.
struct World<'a> {
    node: Node<StandIn>,
    stage: Stage<'a>,
    disk: Disk,
    /// What others say, in order.
    rest: VecDeque<(Instant, Input)>,
    now: Instant,
}

impl World<'_> {
    fn run(&mut self, until: Instant) -> Result<(), String> {
        self.drain()?;
        loop {
            let others = self.rest.front().map(|(at, _)| *at);
            let next = [self.disk.next_at(), others, self.node.deadline()].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= until) else { return Ok(()) };
            self.now = self.now.max(next);
            let now = self.now;
            if self.disk.next_at().is_some_and(|at| at <= now) {
                let input = self.disk.take();
                self.tell(input);
            } else if others.is_some_and(|at| at <= now) {
                let input = self.rest.pop_front().map(|(_, input)| input);
                self.tell(input);
            } else {
                self.stage.fires(now);
                self.node.handle_timeout(now);
            }
            self.drain()?;
        }
    }

    fn tell(&mut self, input: Option<Input>) {
        let Some(input) = input else { return };
        self.stage.tells(self.now, &input);
        self.node.handle(self.now, input);
    }

    fn act(&mut self, output: &Output) {
        self.stage.said(output);
        let node = &mut self.node;
        self.disk.asked(self.now, output, || node.take_job().map(Frozen::write).unwrap_or_default());
    }

    fn drain(&mut self) -> Result<(), String> {
        while let Some(output) = self.node.poll() {
            self.act(&output);
        }
        caught(|| self.node.assert_invariants())?;
        self.stage.settles(&self.node);
        Ok(())
    }
}
