//! What may be asked of the metadata, and how it is answered.

use serde::{Deserialize, Serialize};

use super::{PlanId, Recovery, TopicSpec};
use crate::id::{
    BootId, LeaderEpoch, LogIndex, NodeEpoch, NodeId, PartitionEpoch, PartitionId, PeerName, Token, TopicId,
};
use crate::partition::planner::Change;
use crate::partition::retention::Retention;

/// A change of the metadata. Each names what it saw, and changes nothing if that is not so any more.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Command {
    /// A node begins a session; it is fenced at first.
    RegisterNode(Registration),
    /// A node is away: it leaves all in-sync sets, and others lead.
    FenceNode {
        /// Which one.
        node: NodeId,
        /// In which session.
        epoch: NodeEpoch,
        /// Which record was seen.
        seen: LogIndex,
        /// Why.
        reason: FenceReason,
    },
    /// A node is there again: it may lead, and be in sync.
    UnfenceNode {
        /// Which one.
        node: NodeId,
        /// In which session.
        epoch: NodeEpoch,
        /// Which record was seen.
        seen: LogIndex,
        /// What it has applied: at least its own registration, so that it knows its epochs.
        applied: LogIndex,
    },
    /// A node will stop: others lead, and it leaves the in-sync sets.
    BeginShutdown {
        /// Which one.
        node: NodeId,
        /// In which session.
        epoch: NodeEpoch,
        /// Which record was seen.
        seen: LogIndex,
    },
    /// All that a node holds is to go elsewhere, or not any more.
    SetDraining {
        /// Which one.
        node: NodeId,
        /// Which record was seen.
        seen: LogIndex,
        /// Whether it is.
        is_draining: bool,
    },
    /// How much a node is to hold, and where it stands.
    SetShare {
        /// Which one.
        node: NodeId,
        /// Which record was seen.
        seen: LogIndex,
        /// Relative to the others; from 1.
        weight: u32,
        /// Its failure domain.
        rack: Option<String>,
    },
    /// A node is forgotten. It is fenced, and has no replica.
    DeregisterNode {
        /// Which one.
        node: NodeId,
        /// In which session.
        epoch: NodeEpoch,
    },
    /// A topic begins.
    CreateTopic {
        /// What it is to be.
        spec: TopicSpec,
        /// The replicas of each partition, who is preferred to lead first.
        assignments: Vec<Vec<NodeId>>,
    },
    /// A topic ends.
    DeleteTopic {
        /// Which one. Not its name, since a new topic may have that already.
        topic: TopicId,
    },
    /// A topic gets more partitions.
    AddPartitions {
        /// Which one.
        topic: TopicId,
        /// How many it has.
        from: u32,
        /// The replicas of each new one.
        assignments: Vec<Vec<NodeId>>,
    },
    /// A topic is configured differently.
    ConfigureTopic {
        /// Which one.
        topic: TopicId,
        /// Of which configuration.
        version: u32,
        /// How many must be in sync, if that changes.
        min_in_sync: Option<u16>,
        /// What is done without eligible replicas, if that changes.
        recovery: Option<Recovery>,
        /// How much of each log is kept, if that changes.
        retention: Option<Retention>,
    },
    /// A leader says who is in sync.
    AlterPartition(Alteration),
    /// Several leaders do, each for itself: one that is refused does not touch the others.
    AlterPartitions(Vec<Alteration>),
    /// Another replica leads.
    ElectLeader {
        /// Of which partition.
        partition: PartitionId,
        /// Which record was seen.
        epoch: PartitionEpoch,
        /// Who.
        election: Election,
    },
    /// A partition moves to other replicas.
    StartReassignment {
        /// Which one.
        partition: PartitionId,
        /// Which record was seen.
        epoch: PartitionEpoch,
        /// Its replicas when it is done, who is preferred to lead first.
        target: Vec<NodeId>,
    },
    /// It stays where it was.
    CancelReassignment {
        /// Which one.
        partition: PartitionId,
        /// Which record was seen.
        epoch: PartitionEpoch,
    },
    /// A plan, or a part of one.
    SubmitPlan {
        /// Which part.
        part: PlanPart,
        /// What changes, by ascending partition, also from part to part.
        changes: Vec<Change>,
        /// Whether it is complete with this.
        is_last: bool,
    },
    /// A plan ends before it is done; what is under way is taken back.
    CancelPlan {
        /// Which one.
        plan: PlanId,
    },
    /// Nothing is left of a plan.
    FinishPlan {
        /// Which one.
        plan: PlanId,
    },
    /// All nodes understand more.
    SetFeatureLevel {
        /// What it is.
        from: u16,
        /// What it will be; not less.
        to: u16,
    },
}

/// What a node says when it begins a session.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Registration {
    /// Which one.
    pub node: NodeId,
    /// Which disk it has: another one has nothing of what the one before had.
    pub token: Token,
    /// Which process on that disk.
    pub boot: BootId,
    /// Where nodes and clients reach it.
    pub address: PeerName,
    /// The session that the cluster knows, if it knows one.
    pub known: Option<NodeEpoch>,
    /// The session that it ended in order, if it did.
    pub ended: Option<NodeEpoch>,
    /// Whether what it will say to have is always on its disk, so that an unclean stop of this session loses nothing.
    pub is_durable: bool,
    /// Its share, from 1.
    pub weight: u32,
    /// Its failure domain.
    pub rack: Option<String>,
    /// The highest level of features that it understands.
    pub features: u16,
}

/// Who is in sync, as a leader says.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Alteration {
    /// Of which partition.
    pub partition: PartitionId,
    /// Who says so.
    pub leader: NodeId,
    /// In which session.
    pub node_epoch: NodeEpoch,
    /// Leading since when.
    pub leader_epoch: LeaderEpoch,
    /// Which record was seen.
    pub epoch: PartitionEpoch,
    /// Who, each in the session that the leader knows.
    pub in_sync: Vec<(NodeId, NodeEpoch)>,
    /// Whether the leader has recovered from having been elected without being eligible.
    pub is_recovered: bool,
    /// Whether the record gets a new epoch even if nothing else changes, which makes all earlier proposals void.
    pub voids_earlier: bool,
}

/// Who shall lead.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Election {
    /// The first replica, if it is in sync.
    Preferred,
    /// This one, if it is in sync.
    Designated(NodeId),
    /// This one, which is not eligible, though nobody who is can lead: what others have beyond it is lost. An operator
    /// says so.
    Unclean(NodeId),
}

/// Which part of a plan this is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum PlanPart {
    /// The first.
    First {
        /// The plan before, if there ever was one.
        last: Option<PlanId>,
    },
    /// Another one.
    Further {
        /// Of which plan.
        plan: PlanId,
        /// How many changes it has so far.
        from: u32,
    },
}

/// Why a node was fenced.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
#[non_exhaustive]
pub enum FenceReason {
    /// It has registered, and was not seen since.
    #[error("not heard of since it registered")]
    New,
    /// The members hold it dead, and it was not heard of directly.
    #[error("held dead by the members, and not heard of")]
    Dead,
    /// It said goodbye.
    #[error("it left")]
    Left,
    /// It is another process now.
    #[error("it was started again")]
    Restarted,
    /// Its disk failed.
    #[error("its disk failed")]
    Disk,
    /// An operator wanted it.
    #[error("an operator wanted it")]
    Operator,
    /// It was not heard of, whatever the members hold of it.
    #[error("not heard of for long")]
    Silent,
}

/// What a command led to.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Outcome {
    /// It changed what it should.
    Changed,
    /// It was so already.
    Same,
    /// The node's session, new or not.
    Registered(NodeEpoch),
    /// The topic, new or not.
    Created(TopicId),
    /// The plan.
    Planned(PlanId),
    /// What became of each part.
    Each(Vec<Result<Outcome, Refusal>>),
}

/// Why a command changed nothing.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Register it first.
    #[error("node {0} is not known")]
    NodeUnknown(NodeId),
    /// Look at its record again.
    #[error("node {node} is in session {current:?} now")]
    NodeEpochStale {
        /// Which node.
        node: NodeId,
        /// Its session, if it has one.
        current: Option<NodeEpoch>,
    },
    /// Look at its record again.
    #[error("node {node} was changed at {current}")]
    NodeRecordStale {
        /// Which node.
        node: NodeId,
        /// Where.
        current: LogIndex,
    },
    /// Two processes claim one id, or the cluster has not noticed yet that the other one is gone. Wait until it has.
    #[error(
        "node {node} is here already, as process {boot}; start no second one, or wait until it is fenced"
    )]
    NodeIsHere {
        /// Which node.
        node: NodeId,
        /// Its process.
        boot: BootId,
    },
    /// Fence it first.
    #[error("node {0} is not fenced")]
    NodeIsNotFenced(NodeId),
    /// Wait until it can lead again, or choose another.
    #[error("node {0} is not active")]
    NodeIsNotActive(NodeId),
    /// It has not applied its own registration yet.
    #[error("node {node} has applied {applied} and registered at {registered}")]
    NodeIsBehind {
        /// Which node.
        node: NodeId,
        /// What it has applied.
        applied: LogIndex,
        /// Its session.
        registered: NodeEpoch,
    },
    /// Move them away first.
    #[error("node {node} has {replicas} replicas")]
    NodeHasReplicas {
        /// Which node.
        node: NodeId,
        /// How many.
        replicas: u64,
    },
    /// Give it at least 1.
    #[error("a weight of 0 is no share: drain the node instead")]
    Weightless,
    /// Use another version of the node.
    #[error("node {node} understands features up to {features}, and {level} is needed")]
    NodeLacksFeatures {
        /// Which node.
        node: NodeId,
        /// What it understands.
        features: u16,
        /// What is needed.
        level: u16,
    },
    /// Register them first: a level never falls, and nobody could say whether they understand it.
    #[error("no node is known")]
    NoNodes,
    /// Look at the level again; it never falls.
    #[error("the feature level is {current}")]
    FeatureLevel {
        /// What it is.
        current: u16,
    },
    /// Use 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-'.
    #[error(
        "{0:?} is no topic name: use 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-', and not '.' or '..' alone"
    )]
    TopicName(String),
    /// Choose another name.
    #[error("topic {0} has that name, and is different")]
    TopicExists(TopicId),
    /// It may have been deleted.
    #[error("topic {0} is not known")]
    TopicUnknown(TopicId),
    /// Look at its configuration again.
    #[error("the configuration has version {current}")]
    TopicVersionStale {
        /// Which it is.
        current: u32,
    },
    /// Create fewer.
    #[error("there would be {0} partitions, and {max} are the most", max = super::PARTITIONS_MAX)]
    TooManyPartitions(u64),
    /// Create at least one.
    #[error("a topic has at least one partition")]
    NoPartitions,
    /// Between 1 and the number of replicas.
    #[error("{min_in_sync} of {replicas} replicas cannot be in sync: it must be from 1 to {replicas}")]
    MinInSync {
        /// How many should be.
        min_in_sync: u16,
        /// How many there are.
        replicas: u16,
    },
    /// Count again.
    #[error("the topic has {current} partitions")]
    PartitionCountStale {
        /// How many it has.
        current: u32,
    },
    /// Each partition has as many different replicas as the topic says.
    #[error("assignment {number} has not {replicas} different replicas")]
    Assignment {
        /// Which one, from 0.
        number: u32,
        /// How many it should have.
        replicas: u16,
    },
    /// It may have been deleted.
    #[error("partition {0} is not known")]
    PartitionUnknown(PartitionId),
    /// Look at its record again.
    #[error("the partition has epoch {current}")]
    PartitionEpochStale {
        /// Which it has.
        current: PartitionEpoch,
    },
    /// Another one leads.
    #[error("node {leader:?} leads, with epoch {epoch}")]
    LeaderStale {
        /// Who, if anybody.
        leader: Option<NodeId>,
        /// Since when.
        epoch: LeaderEpoch,
    },
    /// Who is in sync has a replica, is active, in the session that was named, and the leader is among them; a leader
    /// that recovers is alone.
    #[error("node {0} cannot be in sync")]
    NotInSync(NodeId),
    /// Choose one that is in sync and active.
    #[error("node {0} is not eligible to lead")]
    NotEligible(NodeId),
    /// Somebody who is eligible can lead.
    #[error("node {0} leads or can, and nothing needs to be lost")]
    IsEligible(NodeId),
    /// Name different nodes, at least as many as must be in sync.
    #[error("the target has fewer than {0} different nodes")]
    Target(u16),
    /// Start one.
    #[error("the partition is not being reassigned")]
    NotReassigning,
    /// Wait until one of them is in sync.
    #[error("none of the replicas that the partition had before is in sync")]
    NoneInSync,
    /// Wait for it, or cancel it.
    #[error("plan {0} is being executed")]
    PlanIsActive(PlanId),
    /// Look at the last plan again.
    #[error("the last plan is {0:?}")]
    PlanStale(Option<PlanId>),
    /// Count what the plan has.
    #[error("the plan has {0} changes so far")]
    PlanPartStale(u32),
    /// Name each partition once, in order, each with different replicas.
    #[error("the change of partition {0} is out of order, or its replicas are not different ones")]
    PlanChange(PartitionId),
    /// It may be finished.
    #[error("plan {0} is not being executed")]
    PlanUnknown(PlanId),
    /// Plan less at a time.
    #[error("the plan would have more than {max} changes", max = super::PARTITIONS_MAX)]
    PlanTooLarge,
}
