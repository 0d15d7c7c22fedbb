//! The task that owns a member: receive, handle, drain, act, sleep.
//!
//! It is to [`Swim`] what the [driver](crate::driver) is to a node, without a disk. Nobody else touches the
//! machine; what others want of it comes as a [`Command`], what other members say as [`Incoming`].

use core::time::Duration;

use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant as TokioInstant, sleep_until};

use super::gossip::{Gossip, Incoming, Owed};
use crate::driver::{Clock as _, TokioClock};
use crate::id::NodeId;
use crate::machine::Machine as _;
use crate::swim::{Event, Input, Lifecycle, Member, Output, Stats, Swim};
use crate::time::Instant;

/// The most commands that wait; beyond it their senders do.
const COMMANDS_MAX: usize = 64;
/// So many events are kept for a listener that is slow; it hears how many it missed.
const EVENTS_MAX: usize = 1024;
/// So many inputs are handled before their outputs are carried out.
const BATCH: usize = 64;
/// How often the wall clock is read.
const WALL_INTERVAL: Duration = Duration::from_secs(10);

/// What the application wants of its member.
pub(super) enum Command {
    Members(oneshot::Sender<Vec<Member>>),
    Stats(oneshot::Sender<Stats>),
    Metadata(NodeId, oneshot::Sender<Vec<u8>>),
    Describe(Vec<u8>),
    Leave,
}

/// The application's ends of a running member.
pub(super) struct Controls {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) events: broadcast::Sender<Event>,
    pub(super) lifecycle: watch::Receiver<Lifecycle>,
    pub(super) task: JoinHandle<()>,
}

/// Runs a member from now on.
pub(super) fn start(
    swim: Swim,
    clock: TokioClock,
    gossip: Gossip,
    received: mpsc::Receiver<Incoming>,
) -> Controls {
    let (commands, commanded) = mpsc::channel(COMMANDS_MAX);
    let (events, _) = broadcast::channel(EVENTS_MAX);
    let (living, lifecycle) = watch::channel(swim.lifecycle());
    let owed = Owed::default();
    let driver = Driver { swim, clock, gossip, events: events.clone(), living, owed };
    let task = tokio::spawn(driver.run(commanded, received));
    Controls { commands, events, lifecycle, task }
}

/// The task and what it holds.
struct Driver {
    swim: Swim,
    clock: TokioClock,
    gossip: Gossip,
    events: broadcast::Sender<Event>,
    living: watch::Sender<Lifecycle>,
    owed: Owed,
}

impl Driver {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>, mut incoming: mpsc::Receiver<Incoming>) {
        let mut wall_at = TokioInstant::now() + WALL_INTERVAL;
        loop {
            self.drain();
            match self.swim.lifecycle() {
                Lifecycle::Gone => return,
                Lifecycle::Fenced => return self.gossip.close(),
                Lifecycle::Idle
                | Lifecycle::Joining
                | Lifecycle::Active
                | Lifecycle::Isolated
                | Lifecycle::Leaving => {}
            }
            let due = self.swim.deadline().map_or(wall_at, |due| self.clock.wake_at(due));
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return,
                },
                Some(first) = incoming.recv() => {
                    self.take(first);
                    for _ in 0..BATCH {
                        // Not beyond the next timer: being late for it would look like a stall.
                        if self.swim.deadline().is_some_and(|due| due <= self.clock.now()) {
                            break;
                        }
                        let Ok(next) = incoming.try_recv() else { break };
                        self.take(next);
                    }
                }
                () = sleep_until(due.min(wall_at)) => {}
            }
            if TokioInstant::now() >= wall_at {
                wall_at += WALL_INTERVAL;
                self.swim.handle(self.clock.now(), Input::WallClock(self.clock.wall()));
            }
            let now = self.clock.now();
            if self.swim.deadline().is_some_and(|due| due <= now) {
                self.swim.handle_timeout(now);
            }
        }
    }

    fn now(&self) -> Instant {
        self.clock.now()
    }

    fn take(&mut self, incoming: Incoming) {
        let input = self.owed.input(incoming);
        self.swim.handle(self.now(), input);
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Members(reply) => _ = reply.send(self.swim.members().collect()),
            Command::Stats(reply) => _ = reply.send(self.swim.stats().clone()),
            Command::Metadata(of, reply) => _ = reply.send(self.swim.metadata(of).to_vec()),
            Command::Describe(metadata) => self.swim.handle(self.now(), Input::Describe(metadata)),
            Command::Leave => self.swim.handle(self.now(), Input::Leave),
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.swim.poll() {
            match output {
                // Nobody may be listening.
                Output::Event(event) => _ = self.events.send(event),
                output @ (Output::Datagram { .. }
                | Output::Ask { .. }
                | Output::Answer { .. }
                | Output::Resolve(_)) => self.gossip.act(output, &mut self.owed),
            }
        }
        let lifecycle = self.swim.lifecycle();
        self.living.send_if_modified(|living| core::mem::replace(living, lifecycle) != lifecycle);
    }
}
