//! Producers and consumers of the pure world: programs on the nodes themselves, which die with their processes.

use rivven_cluster::id::{PartitionId, RequestId};
use rivven_cluster::node::{Caller, Input, Reply, Request};
use rivven_cluster::time::Instant;

use super::queue::Event;
use super::{MILLISECOND, World};
use crate::app::Application;
use crate::choice::Draw;
use crate::records::{Asker, Question};

/// Numbers from here on name their requests.
pub(super) const REQUESTS: u64 = 1 << 60;

/// A question that is not answered yet.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    asker: Asker,
    partition: PartitionId,
    node: u64,
    process: u64,
}

impl<A: Application> World<A> {
    /// Somebody produces or consumes, as far as it knows of partitions, and others do later.
    pub(super) fn move_records(&mut self) {
        let lost: Vec<RequestId> =
            self.asked_records.iter().filter(|(_, asked)| !self.runs(asked)).map(|(id, _)| *id).collect();
        for id in lost {
            if let Some(asked) = self.asked_records.remove(&id) {
                self.records.is_lost(asked.asker);
            }
        }
        if self.now < self.scenario.shape.work_until * MILLISECOND {
            self.ask_for_records();
            let choices = self.choices.stream(Draw::Records, 0);
            let rests = choices.between(1, 30) * MILLISECOND;
            self.queue.push(self.now + rests, Event::Records);
        } else if !self.records.is_idle() {
            self.queue.push(self.now + 100 * MILLISECOND, Event::Records);
        }
    }

    fn runs(&self, asked: &Asked) -> bool {
        let host = &self.hosts[usize::try_from(asked.node - 1).unwrap_or_default()];
        host.runs(asked.process)
    }

    fn ask_for_records(&mut self) {
        let choices = self.choices.stream(Draw::Records, 0);
        let node = choices.below(self.scenario.shape.nodes) + 1;
        let host = &self.hosts[usize::try_from(node - 1).unwrap_or_default()];
        let Some(process) = &host.process else { return };
        let now = Instant::from_nanos(self.now);
        let question = self.records.next(now, process.node().metadata(), choices);
        let Some(Question { asker, node, partition, epoch, ask }) = question else { return };
        let node = node.value();
        let host = self.hosts.get(usize::try_from(node - 1).unwrap_or_default());
        let process = host.filter(|host| host.waiting.is_none()).and_then(|host| host.process.as_ref());
        let Some(process) = process.map(|process| process.number) else {
            return self.records.is_lost(asker);
        };
        let id = RequestId::new(REQUESTS + self.events);
        self.asked_records.insert(id, Asked { asker, partition, node, process });
        let request = Request::Ask { partition, epoch, ask };
        self.deliver(node, Input::Request { id, from: Caller::Client, request });
    }

    /// A producer or a consumer is answered.
    pub(super) fn records_answered(&mut self, node: u64, id: RequestId, reply: &Reply) {
        let Some(Asked { asker, partition, .. }) = self.asked_records.remove(&id) else { return };
        let told = if let Reply::Told(answer) = reply {
            self.records.told(asker, partition, answer)
        } else {
            self.records.is_lost(asker);
            None
        };
        if let (Some(told), true) = (told, self.is_watched) {
            self.checkers.told(node, told);
        }
    }
}
