//! The steward of the pure world: asks any node, of what that node knows.

use rivven_cluster::id::RequestId;
use rivven_cluster::node::{Caller, Input, Request};
use rivven_cluster::session::Proposal;

use super::queue::Event;
use super::{MILLISECOND, World};
use crate::app::Application;
use crate::choice::Draw;
use crate::steward::{rest, wish};

/// Numbers from here on name the steward's requests; nobody waits for the answers.
const REQUESTS: u64 = 1 << 61;

impl<A: Application> World<A> {
    /// Wants something of a node, if that runs, and comes back later.
    pub(super) fn look_after_partitions(&mut self) {
        if self.now >= self.scenario.shape.quorum_until * MILLISECOND {
            return;
        }
        let choices = self.choices.stream(Draw::Steward, 0);
        let node = choices.below(self.scenario.shape.nodes) + 1;
        let host = &self.hosts[usize::try_from(node - 1).unwrap_or_default()];
        let process = host.process.as_ref().filter(|_| host.waiting.is_none());
        let wanted = process.and_then(|process| wish(process.node().metadata(), choices));
        let rests = u64::try_from(rest(choices).as_nanos()).unwrap_or(u64::MAX);
        if let Some(command) = wanted {
            let request = Request::Propose(Proposal::Metadata(Box::new(command)));
            let id = RequestId::new(REQUESTS + self.events);
            self.deliver(node, Input::Request { id, from: Caller::Operator, request });
        }
        self.queue.push(self.now + rests, Event::Steward);
    }
}
