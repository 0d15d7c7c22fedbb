//! Nodes of two versions: who does not start, and who is replaced.

use super::World;
use super::queue::Event;
use crate::app::Application;
use crate::device::Cut;
use crate::reachable;

impl<A: Application> World<A> {
    /// A node does not start; it is started again when it is of the later version.
    pub(super) fn outdated(&mut self, node: u64) {
        reachable!(self.marks, Outdated);
        self.checkers.outdated(node);
    }

    /// A node is replaced by one of the other version, on the same disk.
    pub(super) fn change_version(&mut self, node: u64) {
        let host = self.host(node);
        if host.is_off || host.is_out {
            return;
        }
        self.end_process(node, Cut::Killed);
        let delay = self.pause(node, 100, 500);
        self.queue.push(self.now + delay, Event::Start { node });
    }
}
