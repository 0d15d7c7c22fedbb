//! What is going to happen, in the order of time. Events of one instant keep the order of their making.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rivven_cluster::id::WriteId;
use rivven_cluster::node::{Input, Message, Reply, Request};
use rivven_cluster::swim::{self, CallId, Question};

/// One thing that is going to happen.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A message arrives.
    Message { from: u64, to: u64, message: Message },
    /// A node tries to reach a peer, which tells who it is.
    Dial { node: u64, process: u64, peer: u64 },
    /// A node notices that the process at the other end is gone.
    LinkLost { node: u64, process: u64, peer: u64 },
    /// A node's disk has done a write.
    WriteDone { node: u64, process: u64, id: WriteId },
    /// A snapshot of a node is built or saved; then it is told this.
    SnapshotDone { node: u64, process: u64, input: Input },
    /// A datagram of gossip arrives.
    Datagram { from: u64, to: u64, bytes: Vec<u8> },
    /// A question of gossip arrives, from a node, its process and its number there.
    Asked { node: u64, asker: (u64, u64, CallId), question: Question },
    /// A node hears something of what it asked for.
    Gossip { node: u64, process: u64, input: swim::Input },
    /// A node reads its wall clock.
    Wall { node: u64, process: u64 },
    /// A node's deadline may have come.
    Timer { node: u64, process: u64 },
    /// A client's request arrives.
    Request { node: u64, attempt: Attempt, request: Request },
    /// An answer arrives at a client.
    Answer { attempt: Attempt, answer: Answer },
    /// A client has thought, or waited, long enough.
    ClientWakes { client: u64, operation: u64, attempt: u64 },
    /// A node's process starts.
    Start { node: u64 },
    /// A fault of the plan, by its place there, begins or ends.
    Switch { place: usize, begins: bool },
    /// The disk of a node is copied, for a fault by its place in the plan.
    Copy { place: usize },
    /// The power of a node goes, for a fault by its place in the plan, if it has not gone yet.
    Cut { place: usize },
    /// A liar, a fault by its place in the plan, speaks.
    Forge { place: usize },
    /// An operator, a fault by its place in the plan, asks for a change of the members.
    Operate { place: usize },
    /// Whoever looks after partitions has another wish.
    Steward,
    /// Somebody produces or consumes.
    Records,
    /// A node is replaced by one of another version.
    Version { node: u64 },
    /// It is time to see whether the run is over.
    Check,
}

/// One try of one client to have one command carried out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Attempt {
    pub(super) client: u64,
    pub(super) operation: u64,
    pub(super) number: u64,
}

impl Attempt {
    /// Tells it from all others of its client.
    pub(super) fn tells(self) -> u64 {
        self.operation << 16 | self.number
    }
}

/// What a client hears.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// What a node says.
    Reply(Reply),
    /// Nobody listens there: the command was not heard.
    Unheard,
    /// The connection broke after the command was sent.
    Broken,
}

/// The queue. Events lie still; only their times and places move.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Reverse<(u64, u64, usize)>>,
    events: Vec<Option<Event>>,
    free: Vec<usize>,
    made: u64,
}

impl Queue {
    /// Adds an event that happens at `at`.
    pub(super) fn push(&mut self, at: u64, event: Event) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[place] = Some(event);
        self.made += 1;
        self.heap.push(Reverse((at, self.made, place)));
    }

    /// When the next event happens.
    pub(super) fn next_at(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    /// Takes the next event, and its time.
    pub(super) fn pop(&mut self) -> Option<(u64, Event)> {
        let Reverse((at, _, place)) = self.heap.pop()?;
        self.free.push(place);
        let event = self.events[place].take().expect("each place in the heap holds an event");
        Some((at, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_the_order_of_time_and_then_of_their_making() {
        let mut queue = Queue::default();
        for (at, node) in [(5, 1), (3, 2), (5, 3), (3, 4)] {
            queue.push(at, Event::Start { node });
        }
        let order: Vec<(u64, u64)> = core::iter::from_fn(|| queue.pop())
            .map(|(at, event)| {
                let Event::Start { node } = event else { panic!("{event:?}") };
                (at, node)
            })
            .collect();
        assert_eq!(order, [(3, 2), (3, 4), (5, 1), (5, 3)]);
    }
}
