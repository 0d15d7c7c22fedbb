//! What callers ask for: who may, what is taken on, and what is refused at once.

use bytes::Bytes;

use super::Node;
use super::answers::Question;
use super::io::{Caller, Output, Rejection, Reply, Request};
use crate::id::{NodeId, PeerName, RequestId};
use crate::partition::metadata::{Command, FenceReason};
use crate::raft::Role;
use crate::session::Proposal;
use crate::state_machine::StateMachine;

impl<S: StateMachine> Node<S> {
    pub(super) fn handle_request(&mut self, id: RequestId, from: Caller, request: Request) {
        let reply = match request {
            Request::Propose(proposal) if !may_propose(from, &proposal) => self.reject(Rejection::Forbidden),
            Request::Propose(proposal) => return self.handle_proposal(id, proposal),
            Request::Query { query } => return self.handle_query(id, Question::State(query)),
            Request::Metadata => return self.handle_query(id, Question::Metadata),
            Request::FollowMetadata { after } => return self.answer_follower(id, after),
            Request::Explain { node } => return self.explain(id, node),
            Request::Ask { partition, epoch, ask } => return self.handle_ask(id, (partition, epoch), ask),
            Request::QueryStale { query } => return self.ask(id, Question::State(query)),
            Request::Members => match self.members() {
                Some(members) => Reply::Members(Box::new(members)),
                None => self.reject(Rejection::NotFormed),
            },
            Request::AddMember { .. } | Request::HandOver { .. } if from != Caller::Operator => {
                self.reject(Rejection::Forbidden)
            }
            Request::AddMember { node, address, votes } => return self.add_member(id, node, address, votes),
            Request::ChangeMembers(steps) => return self.change_members(id, from, steps),
            Request::HandOver { to } => return self.request_hand_over(id, to),
            Request::Status => return self.ask(id, Question::Status),
            Request::Entries { .. } | Request::Record if from == Caller::Client => {
                self.reject(Rejection::Forbidden)
            }
            Request::Record => self.reject(Rejection::NotRecorded("the node has no recorder".to_owned())),
            Request::Entries { from, limit } => return self.ask(id, Question::Entries { from, limit }),
        };
        self.outputs.push_back(Output::Reply { id, reply });
    }

    fn handle_proposal(&mut self, id: RequestId, proposal: Proposal) {
        let rejection = match self.admit(&proposal) {
            Ok(()) => return self.queued.push((id, proposal)),
            Err(rejection) => rejection,
        };
        let is_repeatable = !matches!(proposal, Proposal::Command(_));
        if let (Rejection::NotLeader { leader: Some(leader), .. }, true) = (&rejection, is_repeatable)
            && self.forwards.waiting() < self.config.limits.proposals_max
        {
            return self.forward(id, *leader, proposal);
        }
        self.refuse_request(id, rejection);
    }

    /// Tells whether this node leads and may append a proposal now.
    pub(super) fn admit(&self, proposal: &Proposal) -> Result<(), Rejection> {
        let limits = self.config.limits;
        let Some(standing) = self.standing() else { return Err(Rejection::NotFormed) };
        if proposal.command().is_some_and(Bytes::is_empty) {
            return Err(Rejection::Empty);
        }
        let length = proposal.length();
        if length > limits.command_bytes_max {
            let in_bytes = |length| u64::try_from(length).unwrap_or(u64::MAX);
            return Err(Rejection::TooLarge {
                length: in_bytes(length),
                limit: in_bytes(limits.command_bytes_max),
            });
        }
        if standing.role != Role::Leader {
            return Err(self.not_leader());
        }
        if self.proposals_under_way() >= limits.proposals_max {
            return Err(Rejection::Busy);
        }
        self.may_raise(proposal)
    }

    pub(super) fn proposals_under_way(&self) -> usize {
        self.queued.len() + self.appended.len()
    }

    fn handle_query(&mut self, id: RequestId, query: Question) {
        match self.admit_question(&query) {
            Ok(()) => self.queue_read(id, query),
            Err(rejection) => self.refuse_request(id, rejection),
        }
    }

    pub(super) fn refuse_request(&mut self, id: RequestId, rejection: Rejection) {
        let reply = self.reject(rejection);
        self.outputs.push_back(Output::Reply { id, reply });
    }

    pub(super) fn reject(&mut self, rejection: Rejection) -> Reply {
        self.stats.rejected += 1;
        Reply::Rejected(rejection)
    }

    pub(super) fn unknown(&mut self) -> Reply {
        self.stats.unknown += 1;
        Reply::Unknown
    }

    pub(super) fn not_leader(&self) -> Rejection {
        let leader = self.standing().and_then(|standing| standing.leader);
        let address = leader.and_then(|leader| self.address_of(leader));
        Rejection::NotLeader { leader, address }
    }

    pub(super) fn address_of(&self, wanted: NodeId) -> Option<PeerName> {
        if wanted == self.config.id {
            return Some(self.config.address.clone());
        }
        let listed = self.ledger.directory().find(wanted).map(|listing| listing.address.clone());
        listed.or_else(|| self.links.address_of(wanted).cloned())
    }
}

/// What a caller may propose. Of the metadata, an application may change topics, and an operator what is about nodes and
/// plans; what nodes say of themselves, and what a controller decides, comes from nobody else.
pub(super) fn may_propose(from: Caller, proposal: &Proposal) -> bool {
    let Proposal::Metadata(command) = proposal else { return true };
    match **command {
        Command::CreateTopic { .. } | Command::DeleteTopic { .. } | Command::AddPartitions { .. } => true,
        Command::ConfigureTopic { recovery, .. } => recovery.is_none() || from == Caller::Operator,
        Command::FenceNode { reason, .. } => from == Caller::Operator && reason == FenceReason::Operator,
        Command::SetDraining { .. }
        | Command::SetShare { .. }
        | Command::DeregisterNode { .. }
        | Command::ElectLeader { .. }
        | Command::StartReassignment { .. }
        | Command::CancelReassignment { .. }
        | Command::SubmitPlan { .. }
        | Command::CancelPlan { .. }
        | Command::SetFeatureLevel { .. } => from == Caller::Operator,
        Command::RegisterNode(_)
        | Command::UnfenceNode { .. }
        | Command::BeginShutdown { .. }
        | Command::AlterPartition(_)
        | Command::AlterPartitions(_)
        | Command::FinishPlan { .. } => false,
    }
}
