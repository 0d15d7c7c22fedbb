//! The replicas of a node: what they are told, and what becomes of what they want.
//!
//! ```text
//!   metadata ─► observe ─┐              ┌─ Change ─► gate ─► the next write batch ─ Written ─► replicas
//!   Message::Records ────┼─► replicas ──┼─ Send ───► peers
//!   Request::Ask ────────┘              ├─ Propose ► controller, here or at the leader
//!                                       └─ Read, Reply ─► driver
//! ```

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::answers::Question;
use super::gate::Departure;
use super::io::{Halt, Output, Peer, Rejection, Reply};
use super::message::Message;
use super::{Config, Node, Partitioning};
use crate::id::{LeaderEpoch, NodeEpoch, PartitionId, ReadId, RequestId};
use crate::partition::log::Logs;
use crate::partition::metadata::{Alteration, Command, Delta, Outcome};
use crate::partition::replica::io::Batch;
use crate::partition::replicas::io::{Answer, Ask, AskError, Output as Wanted};
use crate::partition::replicas::{Marks, Replicas};
use crate::session::Ordered;
use crate::state_machine::StateMachine;
use crate::time::{Instant, WallSeconds};

/// A node's replicas, and what they have not been told yet.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Records {
    /// None if the node takes no part in partitioning.
    pub(super) replicas: Option<Replicas>,
    /// Partitions whose record, or the record of a node that holds them, has changed.
    changed: BTreeSet<PartitionId>,
    /// Whether all of the metadata was replaced.
    is_replaced: bool,
}

impl Records {
    /// With what is on the disk.
    pub(super) fn start(config: &Config, logs: &Logs<()>) -> Records {
        let start =
            |partitioning: &Partitioning| Replicas::start(config.id, partitioning.replicas, logs.stored());
        Records { replicas: config.partitioning.as_ref().map(start), ..Records::default() }
    }

    /// By it the age of records is known.
    pub(super) fn note_wall_clock(&mut self, now: Instant, wall: WallSeconds) {
        if let Some(replicas) = &mut self.replicas {
            replicas.note_wall_clock(now, wall);
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Some(replicas) = &mut self.replicas {
            replicas.handle_timeout(now);
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.replicas.as_ref().and_then(Replicas::deadline)
    }
}

impl<S: StateMachine> Node<S> {
    /// The replicas of this node, if it takes part in partitioning.
    #[must_use]
    pub fn replicas(&self) -> Option<&Replicas> {
        self.records.replicas.as_ref()
    }

    /// All of the metadata is another.
    pub(super) fn metadata_was_replaced(&mut self) {
        self.records.is_replaced = true;
    }

    /// A command to the metadata was executed: replicas are told before the node sleeps.
    pub(super) fn note_to_replicas(&mut self, ordered: &Ordered) {
        if self.records.replicas.is_none() {
            return;
        }
        for delta in &ordered.deltas {
            self.note_changed(delta);
        }
        if let (Command::AlterPartitions(all), Ok(Outcome::Each(answers))) =
            (&ordered.command, &ordered.answer)
        {
            let own = self.config.id;
            let refused = all.iter().zip(answers).filter(|(alteration, _)| alteration.leader == own);
            let (now, replicas) = (self.now, &mut self.records.replicas);
            for (alteration, answer) in refused {
                if let (Some(replicas), Err(refusal)) = (replicas.as_mut(), answer) {
                    replicas.refused(now, alteration, refusal);
                }
            }
        }
    }

    fn note_changed(&mut self, delta: &Delta) {
        let (own, metadata) = (self.config.id, self.ledger.metadata());
        let changed = &mut self.records.changed;
        let is_ours = |id: &PartitionId| {
            metadata.partition(*id).is_some_and(|partition| partition.replicas.contains(&own))
        };
        match delta {
            Delta::Partition(id) => _ = changed.insert(*id),
            Delta::Node(node) if *node == own => self.records.is_replaced = true,
            Delta::Node(node) | Delta::NodeGone(node) => {
                changed.extend(metadata.partitions_of(*node).filter(is_ours));
            }
            Delta::Topic(topic) | Delta::TopicGone(topic) => {
                let hosted = self.records.replicas.iter().flat_map(Replicas::iter).map(|(id, _)| id);
                changed.extend(hosted.chain(metadata.partitions_of(own)).filter(|id| id.topic == *topic));
            }
            Delta::MayHaveLost(_) | Delta::Plan | Delta::FeatureLevel => {}
        }
    }

    /// Metadata -> replicas, and whatever they want -> gate, peers, controller. Tells whether the log has news.
    pub(super) fn route_records(&mut self) -> bool {
        self.tell_replicas();
        let Some(replicas) = &mut self.records.replicas else { return false };
        replicas.settle(self.now);
        let mut has_news = false;
        while let Some(wanted) = self.records.replicas.as_mut().and_then(Replicas::poll) {
            match wanted {
                Wanted::Change(change) => self.gate.change_log(change),
                Wanted::Send { to, message } => {
                    let message = Message::Records(message);
                    self.depart(Departure { to: Peer::Node(to), message }, None);
                }
                Wanted::Propose(alterations) => has_news |= self.propose_alterations(alterations),
                Wanted::Reply { request, answer } => self.answer_ask(request, answer),
                Wanted::Read { id, read } => self.outputs.push_back(Output::Read { id, read }),
            }
        }
        has_news
    }

    fn tell_replicas(&mut self) {
        let session = self.own_session();
        let Records { replicas: Some(replicas), changed, is_replaced } = &mut self.records else { return };
        let metadata = self.ledger.metadata();
        if let Some(session) = session.filter(|session| replicas.session() != Some(*session)) {
            changed.extend(replicas.begin(session, metadata));
        } else if *is_replaced {
            changed.extend(replicas.all(metadata));
        }
        *is_replaced = false;
        let changed = core::mem::take(changed);
        if !changed.is_empty() {
            replicas.observe(self.now, metadata, &changed);
        }
    }

    /// The session of this process, if the metadata knows of it.
    fn own_session(&self) -> Option<NodeEpoch> {
        let record = self.ledger.metadata().node(self.config.id)?;
        ((record.token, record.boot) == (self.listing().token, self.boot)).then_some(record.epoch)
    }

    /// Replicas -> controller: who is in sync. What does not arrive is said again.
    fn propose_alterations(&mut self, alterations: Vec<Alteration>) -> bool {
        let own = self.config.id;
        match self.standing().and_then(|standing| standing.leader) {
            Some(leader) if leader == own => self.take_alterations(own, alterations),
            Some(leader) => self.tell(leader, Message::Alterations(alterations)),
            None => return false,
        }
        true
    }

    /// Somebody wants something of a partition.
    pub(super) fn handle_ask(
        &mut self,
        id: RequestId,
        (partition, epoch): (PartitionId, Option<LeaderEpoch>),
        ask: Ask,
    ) {
        let now = self.now;
        match &mut self.records.replicas {
            Some(replicas) if replicas.replica(partition).is_some() => {
                replicas.handle_ask(now, id, (partition, epoch), ask);
            }
            Some(_) if self.raft.is_some() => {
                let answer = Err(self.who_leads(partition));
                self.answer_ask(id, answer);
            }
            Some(_) => self.refuse_request(id, Rejection::NotFormed),
            None => self.refuse_request(id, Rejection::NoPartitions),
        }
    }

    fn who_leads(&self, id: PartitionId) -> AskError {
        match self.ledger.metadata().partition(id) {
            None => AskError::PartitionUnknown(id),
            Some(record) => {
                AskError::NotLeader { leader: record.leader, address: None, epoch: record.leader_epoch }
            }
        }
    }

    /// Replicas -> callers.
    fn answer_ask(&mut self, id: RequestId, mut answer: Result<Answer, AskError>) {
        if let Err(AskError::NotLeader { leader: Some(leader), address, .. }) = &mut answer {
            let known = self.ledger.metadata().node(*leader).map(|record| record.address.clone());
            *address = known.or_else(|| self.address_of(*leader));
        }
        let reply = Reply::Told(answer);
        if reply.bulk() > 0 {
            return self.answer_soon(id, Question::Answered(Box::new(reply)));
        }
        self.outputs.push_back(Output::Reply { id, reply });
    }

    /// Gate -> replicas: what was in a batch is durable.
    /// Records make segments, which are needed as long as an entry of Raft in one of them is: they count for the snapshot.
    pub(super) fn records_written(&mut self, marks: Marks) {
        let Some(replicas) = &mut self.records.replicas else { return };
        let bytes = u64::try_from(marks.bytes()).unwrap_or(u64::MAX);
        replicas.written(marks);
        if bytes > 0 {
            self.applied_bytes = self.applied_bytes.saturating_add(bytes);
            self.consider_snapshot();
        }
    }

    /// Disk -> replicas.
    pub(super) fn records_read(&mut self, id: ReadId, batches: Vec<Batch>) {
        if let Some(replicas) = &mut self.records.replicas {
            replicas.handle_read(id, batches);
        }
    }

    pub(super) fn records_unreadable(&mut self, reason: String) {
        self.halt(Halt::ReadFailed { reason });
    }

    /// The node stops: whoever waits is told.
    pub(super) fn abandon_records(&mut self) {
        let Some(mut replicas) = self.records.replicas.take() else { return };
        replicas.abandon();
        while let Some(wanted) = replicas.poll() {
            if let Wanted::Reply { request, answer } = wanted {
                self.answer_ask(request, answer);
            }
        }
    }
}
