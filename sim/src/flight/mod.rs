//! Flights, played again: a node of production, on the ground.
//!
//! A [`Flight`] is what a node was told and what it said (see [`rivven_cluster::flight`]). Here a bare node is told the
//! same again, and has to say the same; after each drain its invariants are asserted. It may panic: a flight is a file,
//! and what that holds may be anything. A trace is kept and a picture drawn as of any run. In the picture the peers have
//! lanes, too: what they sent is drawn where it arrived, and what was sent to them where it left.
//!
//! [`branch`](mod@branch) lets the node go on in another way: "what if this message had been lost?"

pub mod branch;

use rivven_cluster::flight::{Difference, Flight, Player, Reason, StandIn, Step};
use rivven_cluster::id::NodeId;
use rivven_cluster::node::{Input, Node, Output, Peer};
use rivven_cluster::time::Instant;

use crate::report::Moment;
use crate::trace::{Record, Trace};
use crate::world::caught;

/// How a replay ended.
#[derive(Debug)]
pub enum Ending {
    /// Everything was said again.
    Same,
    /// It panicked on the last step, as it had.
    PanickedAgain(String),
    /// It said everything again up to where its state machine panicked, which is in no flight.
    PanickedOutside,
    /// It had panicked, and does not any more.
    PanicsNoMore,
    /// At this step it said something else.
    Differs(usize, Difference),
    /// At this step it panicked, or broke an invariant.
    Broken(usize, String),
}

/// What came of a replay.
#[derive(Debug)]
pub struct Played {
    /// How it ended.
    pub ending: Ending,
    /// How many steps were done.
    pub steps: usize,
    /// Outputs that were the same.
    pub outputs: usize,
    /// How often the state machine was asked for what it had not said.
    pub unsaid: u64,
}

impl Played {
    /// Whether it is what was recorded.
    #[must_use]
    pub fn is_same(&self) -> bool {
        let is_same =
            matches!(self.ending, Ending::Same | Ending::PanickedAgain(_) | Ending::PanickedOutside);
        is_same && self.unsaid == 0
    }
}

/// Plays a flight from its beginning to its end.
#[must_use]
pub fn replay(flight: &Flight, trace: &mut Trace) -> Played {
    let mut stage = Stage::new(flight, trace);
    let mut player = match caught(|| flight.player()) {
        Ok(player) => player,
        Err(text) => {
            let ending = Ending::Broken(0, format!("no node can be made of its image: {text}"));
            return Played { ending, steps: 0, outputs: 0, unsaid: 0 };
        }
    };
    stage.settles(player.node());
    let mut played = Played { ending: Ending::Same, steps: 0, outputs: 0, unsaid: 0 };
    for step in &flight.steps {
        stage.before(step);
        match caught(|| player.step(step)) {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(output))) => {
                played.outputs += 1;
                stage.said(&output);
            }
            Ok(Err(difference)) => {
                played.ending = Ending::Differs(played.steps, difference);
                return played;
            }
            Err(text) => return panicked(flight, played, text),
        }
        if *step == Step::Settled {
            if let Err(text) = caught(|| player.node().assert_invariants()) {
                played.ending = Ending::Broken(played.steps, text);
                return played;
            }
            stage.settles(player.node());
        }
        played.steps += 1;
        played.unsaid = player.node().state_machine().missed();
    }
    if let Reason::Panicked(_) = flight.reason {
        return at_the_panic(flight, played, player);
    }
    played
}

/// It panicked; if that is how the flight ends, it is what was recorded.
fn panicked(flight: &Flight, mut played: Played, text: String) -> Played {
    let rest = flight.steps.get(played.steps + 1..).unwrap_or_default();
    let is_last = rest.iter().all(|step| matches!(step, Step::Said(_)));
    played.ending = match &flight.reason {
        Reason::Panicked(_) if is_last => Ending::PanickedAgain(text),
        Reason::Panicked(_) | Reason::Asked | Reason::Alarm(_) | Reason::Halted(_) => {
            Ending::Broken(played.steps, text)
        }
    };
    played
}

/// All steps were done, and the recorded node panicked after the last one: on what it was about to say, or in its state
/// machine.
fn at_the_panic(flight: &Flight, mut played: Played, mut player: Player<StandIn>) -> Played {
    if let Err(text) = caught(|| while player.poll().is_some() {}) {
        return panicked(flight, played, text);
    }
    let missed = player.node().state_machine().missed();
    // What it was asked for there, it did not live to say.
    played.ending = if missed > 0 { Ending::PanickedOutside } else { Ending::PanicsNoMore };
    played.unsaid = 0;
    played
}

/// Where a flight is played: its trace, and its picture.
struct Stage<'a> {
    trace: &'a mut Trace,
    node: NodeId,
    begins: Instant,
    now: Instant,
}

impl<'a> Stage<'a> {
    fn new(flight: &Flight, trace: &'a mut Trace) -> Stage<'a> {
        let (begins, _) = flight.times();
        Stage { trace, node: flight.node(), begins, now: begins }
    }

    /// Since the beginning of the flight, in nanoseconds.
    fn at(&self) -> u64 {
        self.now.as_nanos().saturating_sub(self.begins.as_nanos())
    }

    /// A step is about to be done.
    fn before(&mut self, step: &Step) {
        match step {
            Step::Input(now, input) => self.tells(*now, input),
            Step::Timeout(now) => self.fires(*now),
            Step::Output(_) | Step::Settled | Step::Said(_) => {}
        }
    }

    fn tells(&mut self, now: Instant, input: &Input) {
        self.now = now;
        let (at, node) = (self.at(), self.node.value());
        if let Input::Message { from, message } = input {
            let output = Output::Send { to: Peer::Node(self.node), message: message.clone() };
            let sent = Record::Output { node: from.value(), output: &output };
            self.trace.draw(|picture| picture.record(at, &sent));
        }
        self.trace.record(at, &Record::Input { node, now: now.as_nanos(), input });
    }

    fn fires(&mut self, now: Instant) {
        self.now = now;
        self.trace.record(self.at(), &Record::Timeout { node: self.node.value(), now: now.as_nanos() });
    }

    fn said(&mut self, output: &Output) {
        let at = self.at();
        self.trace.record(at, &Record::Output { node: self.node.value(), output });
        if let Output::Send { to: Peer::Node(to), message } = output {
            let input = Input::Message { from: self.node, message: message.clone() };
            let arrived = Record::Input { node: to.value(), now: self.now.as_nanos(), input: &input };
            self.trace.draw(|picture| picture.record(at, &arrived));
        }
    }

    fn settles(&mut self, node: &Node<StandIn>) {
        let (at, number) = (self.at(), self.node.value());
        self.trace.draw(|picture| picture.settled(at, number, Moment::of(node)));
    }
}
