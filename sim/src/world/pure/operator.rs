//! The operator of the pure world: asks whoever leads for changes of the membership, until they have come about.

use rivven_cluster::id::RequestId;
use rivven_cluster::node::{Caller, Input, Request};
use rivven_cluster::raft::{Membership, Role, Step};

use super::process::node_id;
use super::queue::Event;
use super::{MILLISECOND, World};
use crate::app::Application;
use crate::faults::Fault;

/// How often the operator asks.
const INTERVAL: u64 = 150 * MILLISECOND;
/// Numbers from here on name the operator's requests; nobody waits for the answers.
const REQUESTS: u64 = 1 << 60;

impl<A: Application> World<A> {
    /// Asks once, and again a little later, while the window lasts and nothing has come about.
    pub(super) fn operate(&mut self, place: usize) {
        let window = self.scenario.faults[place].clone();
        if self.now >= window.ends * MILLISECOND {
            return;
        }
        let leaders: Vec<u64> =
            (1..=self.scenario.shape.nodes).filter(|node| self.is_led_by(*node)).collect();
        for leader in leaders {
            let Some(membership) = self.members_of(leader) else { continue };
            match wish(&window.fault, leader, &membership) {
                Some(request) => {
                    self.asked.insert(place);
                    let id = RequestId::new(REQUESTS + window.id);
                    self.deliver(leader, Input::Request { id, from: Caller::Operator, request });
                }
                None if self.asked.contains(&place) => {
                    self.effects.count(window.id, window.fault.kind());
                    return;
                }
                None => {}
            }
        }
        self.queue.push(self.now + INTERVAL, Event::Operate { place });
    }

    fn is_led_by(&self, node: u64) -> bool {
        let host = &self.hosts[usize::try_from(node - 1).unwrap_or_default()];
        let standing = host.process.as_ref().and_then(|process| process.node().standing());
        host.waiting.is_none() && standing.is_some_and(|standing| standing.role == Role::Leader)
    }

    fn members_of(&self, node: u64) -> Option<Membership> {
        let host = &self.hosts[usize::try_from(node - 1).unwrap_or_default()];
        host.process.as_ref()?.node().membership().cloned()
    }
}

/// What is still to be asked for; `None` if it has come about, or makes no sense.
fn wish(fault: &Fault, leader: u64, membership: &Membership) -> Option<Request> {
    if let Fault::HandOver { node } = fault {
        let wanted = *node != leader && membership.voters().contains(&node_id(*node));
        return wanted.then(|| Request::HandOver { to: Some(node_id(*node)) });
    }
    if let Fault::Removal { node } = fault {
        let mut steps = vec![Step::Remove(node_id(*node))];
        let learner = membership.learners().iter().find(|learner| **learner != node_id(*node));
        steps.extend(learner.map(|learner| Step::Promote(*learner)));
        return membership.contains(node_id(*node)).then_some(Request::ChangeMembers(steps));
    }
    let Fault::Demotion { node } = fault else { return None };
    if !membership.voters().contains(&node_id(*node)) || membership.voters().len() < 3 {
        return None;
    }
    let mut steps = vec![Step::Demote(node_id(*node))];
    let another = membership.voters().iter().find(|voter| **voter > node_id(*node));
    if membership.voters().len() >= 5 {
        steps.extend(another.map(|voter| Step::Demote(*voter)));
    }
    Some(Request::ChangeMembers(steps))
}
