//! `PartitionManager`: topics and partitions, for whoever embeds them.
//!
//! It has the metadata itself: it fetches it once, then follows the commands in the log and executes them as every node
//! does. So where a partition is led is known here, without asking anybody. What it knows may be a moment old; the
//! leader epoch in a [`Route`] tells whoever is asked whether it is.
//!
//! ```text
//!   cluster ──metadata, then commands──► own copy ──► route, describe, deltas
//!   create, drain, plan ──► planned on the own copy ──► command that names what it has seen ──► cluster
//! ```
//!
//! It also plans: which nodes a new topic is placed on, and what would move. The command carries the choice, and the
//! cluster checks it.

use core::time::Duration;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

use super::client::{Client, ClientError};
use super::metadata::Followed;
use crate::id::{LeaderEpoch, LogIndex, NodeId, PartitionId, PeerName, TopicId};
use crate::partition::controller::{Explanation, schedule};
use crate::partition::hash::partition_of;
use crate::partition::metadata::{
    ActivePlan, Command, Delta, Metadata, NodeState, Outcome, PLAN_PART, PlanId, PlanPart, Recovery, Refusal,
    TopicSpec,
};
use crate::partition::planner::steps::{self, Schedule};
use crate::partition::planner::{Change, Plan, PlanError, PlanNode};
use crate::partition::planning::{self, AssignError};
use crate::partition::retention::Retention;
use crate::partition::{HashRing, RingError, RingNode};

/// News that wait for a listener that is slow.
const NEWS_KEPT: usize = 1024;
/// A cluster that cannot be reached is asked again after so long.
const PAUSE: Duration = Duration::from_millis(200);
/// So often it is planned anew when nodes have come or gone meanwhile.
const ATTEMPTS: u32 = 5;

/// What a [`PartitionManager`] does unless it is told otherwise.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PartitionSettings {
    /// Points of a node of weight 1 on the [ring](PartitionManager::ring).
    pub virtual_nodes: u32,
    /// Replicas of each partition of a new topic.
    pub replication_factor: u16,
    /// How many of them must be in sync for a write to be acknowledged; `None` is a majority.
    pub min_in_sync: Option<u16>,
}

impl Default for PartitionSettings {
    fn default() -> PartitionSettings {
        PartitionSettings { virtual_nodes: 128, replication_factor: 3, min_in_sync: None }
    }
}

/// A topic to be created.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NewTopic {
    /// Its name: 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-'.
    pub name: String,
    /// How many partitions it has, from 1.
    pub partitions: u32,
    /// How many replicas each has; `None` is what the manager's settings say.
    pub replicas: Option<u16>,
    /// How many of them must be in sync; `None` is what the settings say.
    pub min_in_sync: Option<u16>,
    /// What is done when nobody is eligible to lead.
    pub recovery: Recovery,
    /// How much of each log is kept; all of it unless something else is said.
    pub retention: Retention,
}

/// What is to be different about a topic; `None` stays as it is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TopicChanges {
    /// How many replicas must be in sync for a write to be acknowledged.
    pub min_in_sync: Option<u16>,
    /// What is done when nobody is eligible to lead.
    pub recovery: Option<Recovery>,
    /// How much of each log is kept.
    pub retention: Option<Retention>,
}

impl NewTopic {
    /// A topic as the manager's settings say.
    #[must_use]
    pub fn new(name: impl Into<String>, partitions: u32) -> NewTopic {
        let (recovery, retention) = Default::default();
        NewTopic { name: name.into(), partitions, replicas: None, min_in_sync: None, recovery, retention }
    }
}

impl TopicChanges {
    fn are_made(&self, spec: &TopicSpec) -> bool {
        self.min_in_sync.is_none_or(|min_in_sync| min_in_sync == spec.min_in_sync)
            && self.recovery.is_none_or(|recovery| recovery == spec.recovery)
            && self.retention.is_none_or(|retention| retention == spec.retention)
    }
}

/// By what a partition is found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RouteBy<'a> {
    /// By its number.
    Partition(u32),
    /// By the key of a record.
    Key(&'a [u8]),
}

/// Where a partition is led.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Route {
    /// Which partition.
    pub partition: PartitionId,
    /// Who leads it.
    pub leader: NodeId,
    /// Where that is reached.
    pub address: PeerName,
    /// Since when: whoever is asked refuses what names another one.
    pub epoch: LeaderEpoch,
}

/// What the metadata has become.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum News {
    /// This is different, by the command at this index.
    Changed(LogIndex, Delta),
    /// Anything may be different: the copy was fetched anew.
    FetchedAnew(LogIndex),
}

/// What a [`PartitionManager`] could not do.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PartitionError {
    /// The cluster could not be reached, or does not allow it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The cluster has refused it, and changed nothing.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// There are not enough nodes.
    #[error(transparent)]
    Assign(#[from] AssignError),
    /// There is no plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Create it first.
    #[error("no topic is called {0:?}")]
    TopicUnknown(String),
    /// What is known of the old one does not hold for it.
    #[error("topic {0:?} was deleted, and another one has its name now")]
    TopicReplaced(String),
    /// Count from 0 to one less than there are.
    #[error("topic {topic:?} has no partition {number}: it has {partitions}, counted from 0")]
    PartitionUnknown {
        /// The topic.
        topic: String,
        /// The number.
        number: u32,
        /// How many there are.
        partitions: u32,
    },
    /// Wait until a replica that is eligible comes back.
    #[error("partition {0} has no leader: none of its replicas that have everything is there")]
    Leaderless(PartitionId),
    /// Its id is wrong, or it has never come.
    #[error("node {0} is not known")]
    NodeUnknown(NodeId),
    /// There is nothing to cancel.
    #[error("no plan is being executed")]
    NoPlan,
}

/// The copy of the metadata, and up to where it goes.
struct Copy {
    at: LogIndex,
    metadata: Metadata,
}

/// Topics and partitions of a cluster, for whoever embeds them.
///
/// ```
/// use rivven_cluster::node::Partitioning;
/// use rivven_cluster::quic::{NewTopic, PartitionManager, PartitionSettings, RaftConfig, RaftNode, RouteBy};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let partitioning = Some(Partitioning::default());
/// let node = RaftNode::new(RaftConfig { node_id: 7, partitioning, ..Default::default() }).await?;
///
/// let settings = PartitionSettings { replication_factor: 1, ..Default::default() };
/// let partitions = PartitionManager::open(node.client().clone(), settings).await?;
/// partitions.has_nodes(1).await;
/// partitions.create_topic(NewTopic::new("orders", 8)).await?;
/// let route = partitions.route("orders", RouteBy::Key(b"customer 17"))?;
/// assert_eq!(route.leader.value(), 7);
/// # node.shutdown().await?;
/// # Ok(())
/// # })
/// # }
/// ```
pub struct PartitionManager {
    client: Client,
    settings: PartitionSettings,
    copy: Arc<RwLock<Copy>>,
    /// Up to where the copy goes.
    at: watch::Receiver<LogIndex>,
    news: broadcast::Sender<News>,
    follower: JoinHandle<()>,
}

impl Drop for PartitionManager {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl PartitionManager {
    /// Fetches the metadata, and begins to follow it.
    ///
    /// # Errors
    ///
    /// As [`Client::metadata`].
    pub async fn open(client: Client, settings: PartitionSettings) -> Result<PartitionManager, ClientError> {
        let (at, metadata) = client.metadata().await?;
        let copy = Arc::new(RwLock::new(Copy { at, metadata }));
        let (sender, receiver) = watch::channel(at);
        let news = broadcast::channel(NEWS_KEPT).0;
        let follower =
            Follower { client: client.clone(), copy: copy.clone(), at: sender, news: news.clone() };
        let follower = tokio::spawn(follower.run());
        Ok(PartitionManager { client, settings, copy, at: receiver, news, follower })
    }

    /// Looks at the metadata, as far as it is known here.
    pub fn look<T>(&self, at: impl FnOnce(&Metadata) -> T) -> T {
        at(&self.copy.read().unwrap_or_else(PoisonError::into_inner).metadata)
    }

    /// What changes from now on. A listener that falls behind is told how much it has missed
    /// (`RecvError::Lagged`); it then [looks](PartitionManager::look) anew.
    #[must_use]
    pub fn news(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    /// Waits until so many nodes are active.
    pub async fn has_nodes(&self, count: usize) {
        let mut at = self.at.clone();
        let is_active = |metadata: &Metadata| {
            metadata.nodes().filter(|(_, record)| record.state == NodeState::Active).count() >= count
        };
        while !self.look(is_active) && at.changed().await.is_ok() {}
    }

    /// Creates a topic, over all nodes that are there. One that exists already, and is the same, is as good.
    ///
    /// # Errors
    ///
    /// [`PartitionError`]; if it is not [`ClientError::Unknown`], nothing was changed.
    pub async fn create_topic(&self, topic: NewTopic) -> Result<TopicId, PartitionError> {
        let replicas = topic.replicas.unwrap_or(self.settings.replication_factor);
        let min_in_sync = topic.min_in_sync.or(self.settings.min_in_sync).unwrap_or(replicas / 2 + 1);
        let NewTopic { name, partitions, recovery, retention, .. } = topic;
        let min_in_sync = min_in_sync.min(replicas);
        let spec = TopicSpec { name, replicas, min_in_sync, recovery, retention };
        let plan = |metadata: &Metadata| {
            let assignments = planning::assign(metadata, &spec.name, (0, partitions), replicas)?;
            Ok(Command::CreateTopic { spec: spec.clone(), assignments })
        };
        match self.order_planned(plan).await? {
            Outcome::Created(id) => Ok(id),
            other @ (Outcome::Changed
            | Outcome::Same
            | Outcome::Registered(_)
            | Outcome::Planned(_)
            | Outcome::Each(_)) => Err(ClientError::Answer(format!("{other:?}")).into()),
        }
    }

    /// Gives a topic more partitions. Keys move: which partition a key belongs to depends on how many there are.
    ///
    /// # Errors
    ///
    /// As [`PartitionManager::create_topic`]; [`Refusal::PartitionCountStale`] if somebody else was faster.
    pub async fn add_partitions(&self, name: &str, count: u32) -> Result<(), PartitionError> {
        let unknown = || PartitionError::TopicUnknown(name.to_owned());
        let length =
            |metadata: &Metadata| metadata.topic_named(name).map(|(_, topic)| topic.partitions.len());
        let from = self.look(length).ok_or_else(unknown)?;
        let from = u32::try_from(from).unwrap_or(u32::MAX);
        let plan = |metadata: &Metadata| {
            let (topic, record) = metadata.topic_named(name).ok_or_else(unknown)?;
            let assignments = planning::assign(metadata, name, (from, count), record.spec.replicas)?;
            Ok(Command::AddPartitions { topic, from, assignments })
        };
        match self.order_planned(plan).await {
            // It was sent again since its answer was lost, and had been executed.
            Err(PartitionError::Refused(Refusal::PartitionCountStale { current }))
                if current == from.saturating_add(count) =>
            {
                Ok(())
            }
            done => done.map(|_| ()),
        }
    }

    /// Configures a topic differently.
    ///
    /// # Errors
    ///
    /// [`PartitionError::TopicUnknown`] if there is none of that name; [`Refusal::TopicVersionStale`] if somebody else was
    /// faster; else as [`PartitionManager::create_topic`].
    pub async fn configure_topic(&self, name: &str, changes: TopicChanges) -> Result<(), PartitionError> {
        let found = self.look(|metadata| metadata.topic_named(name).map(|(id, topic)| (id, topic.version)));
        let (topic, version) = found.ok_or_else(|| PartitionError::TopicUnknown(name.to_owned()))?;
        let TopicChanges { min_in_sync, recovery, retention } = changes;
        let command = Command::ConfigureTopic { topic, version, min_in_sync, recovery, retention };
        match self.order(command).await {
            // It was sent again since its answer was lost, and had been executed.
            Err(PartitionError::Refused(Refusal::TopicVersionStale { .. }))
                if self
                    .look(|metadata| metadata.topic(topic).is_some_and(|it| changes.are_made(&it.spec))) =>
            {
                Ok(())
            }
            done => done.map(|_| ()),
        }
    }

    /// Deletes a topic.
    ///
    /// # Errors
    ///
    /// [`PartitionError::TopicUnknown`] if there is none of that name; else as [`PartitionManager::create_topic`].
    pub async fn delete_topic(&self, name: &str) -> Result<(), PartitionError> {
        let found = self.look(|metadata| metadata.topic_named(name).map(|(topic, _)| topic));
        let topic = found.ok_or_else(|| PartitionError::TopicUnknown(name.to_owned()))?;
        match self.order(Command::DeleteTopic { topic }).await {
            // It is gone, by this command's first copy or by somebody else's.
            Err(PartitionError::Refused(Refusal::TopicUnknown(_))) => Ok(()),
            done => done.map(|_| ()),
        }
    }

    /// The client that it asks with.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// How many partitions a topic has, as far as is known here.
    ///
    /// # Errors
    ///
    /// [`PartitionError::TopicUnknown`] if there is none of that name.
    pub fn partitions(&self, topic: &str) -> Result<u32, PartitionError> {
        let count = self.look(|metadata| {
            let (_, record) = metadata.topic_named(topic)?;
            u32::try_from(record.partitions.len()).ok()
        });
        count.ok_or_else(|| PartitionError::TopicUnknown(topic.to_owned()))
    }

    /// Which partition that is, as far as is known here, whether it is led or not.
    ///
    /// # Errors
    ///
    /// [`PartitionError`] if there is no such topic or partition.
    pub fn number(&self, topic: &str, by: RouteBy<'_>) -> Result<u32, PartitionError> {
        let partitions = self.partitions(topic)?;
        match by {
            RouteBy::Key(key) => Ok(partition_of(key, partitions)),
            RouteBy::Partition(number) if number < partitions => Ok(number),
            RouteBy::Partition(number) => {
                Err(PartitionError::PartitionUnknown { topic: topic.to_owned(), number, partitions })
            }
        }
    }

    /// Where a partition is led, as far as is known here.
    ///
    /// # Errors
    ///
    /// [`PartitionError`] if there is no such topic or partition, or nobody leads it.
    pub fn route(&self, topic: &str, by: RouteBy<'_>) -> Result<Route, PartitionError> {
        let number = self.number(topic, by)?;
        // It may be deleted between one look and the next.
        let unknown = || PartitionError::TopicUnknown(topic.to_owned());
        self.look(|metadata| {
            let (id, record) = metadata.topic_named(topic).ok_or_else(unknown)?;
            let partition = PartitionId { topic: id, number };
            let found = usize::try_from(number).ok().and_then(|number| record.partitions.get(number));
            let found = found.ok_or_else(unknown)?;
            let leader = found.leader.ok_or(PartitionError::Leaderless(partition))?;
            let node = metadata.node(leader).ok_or(PartitionError::NodeUnknown(leader))?;
            Ok(Route { partition, leader, address: node.address.clone(), epoch: found.leader_epoch })
        })
    }

    /// The active nodes on a ring, for what nobody stores: who would own a key.
    ///
    /// # Errors
    ///
    /// [`RingError`] if the ring would be too large.
    pub fn ring(&self) -> Result<HashRing, RingError> {
        let mut ring = HashRing::new(self.settings.virtual_nodes);
        let nodes: Vec<RingNode> = self.look(|metadata| {
            let active = metadata.nodes().filter(|(_, record)| record.state == NodeState::Active);
            let node = |(id, record): (NodeId, &crate::partition::metadata::NodeRecord)| RingNode {
                weight: record.weight,
                rack: record.rack.clone(),
                ..RingNode::new(&id.to_string())
            };
            active.map(node).collect()
        });
        ring.add_nodes(nodes)?;
        Ok(ring)
    }

    /// What would move if all replicas were where they should be; `more` are nodes that are not there yet.
    ///
    /// # Errors
    ///
    /// [`PlanError`] if `more` names a node that is there.
    pub fn plan(&self, more: Vec<PlanNode>) -> Result<Plan, PlanError> {
        self.look(|metadata| {
            let mut nodes = planning::nodes(metadata, |_| false);
            nodes.extend(more);
            planning::rebalance(metadata, &nodes)
        })
    }

    /// Plans, and has the plan executed. `None` if nothing is to be moved. Needs an operator's certificate.
    ///
    /// # Errors
    ///
    /// [`PartitionError`]; a plan that was submitted by halves is cancelled by the controller.
    pub async fn start_plan(&self) -> Result<Option<PlanId>, PartitionError> {
        let changes: Vec<Change> = self.plan(Vec::new())?.changes;
        let mut begun = None;
        for (number, part) in changes.chunks(PLAN_PART).enumerate() {
            let from = u32::try_from(number * PLAN_PART).unwrap_or(u32::MAX);
            let is_last = number * PLAN_PART + part.len() == changes.len();
            let last = self.look(|metadata| metadata.last_plan());
            let which = begun.map_or(PlanPart::First { last }, |plan| PlanPart::Further { plan, from });
            let command = Command::SubmitPlan { part: which, changes: part.to_vec(), is_last };
            let Outcome::Planned(plan) = self.order(command).await? else { continue };
            begun = Some(plan);
        }
        Ok(begun)
    }

    /// Ends the plan that is being executed; what is under way is taken back. Needs an operator's certificate.
    ///
    /// # Errors
    ///
    /// [`PartitionError::NoPlan`] if there is none; else as [`PartitionManager::create_topic`].
    pub async fn cancel_plan(&self) -> Result<PlanId, PartitionError> {
        let plan = self.look(|metadata| metadata.plan().map(|plan| plan.id)).ok_or(PartitionError::NoPlan)?;
        self.order(Command::CancelPlan { plan }).await?;
        Ok(plan)
    }

    /// The plan that is being executed, and how far it is.
    #[must_use]
    pub fn progress(&self) -> Option<(ActivePlan, Schedule)> {
        self.look(|metadata| {
            let plan = metadata.plan()?;
            Some((plan.clone(), schedule(plan, metadata, steps::Limits::default(), |_| false)))
        })
    }

    /// Has all that a node holds go elsewhere, or not any more. Needs an operator's certificate.
    ///
    /// # Errors
    ///
    /// [`PartitionError::NodeUnknown`] if it has never come; else as [`PartitionManager::create_topic`].
    pub async fn set_draining(&self, node: NodeId, is_draining: bool) -> Result<(), PartitionError> {
        for _ in 0..ATTEMPTS {
            let seen = self.look(|metadata| metadata.node(node).map(|record| record.changed));
            let seen = seen.ok_or(PartitionError::NodeUnknown(node))?;
            match self.order(Command::SetDraining { node, seen, is_draining }).await {
                Err(PartitionError::Refused(Refusal::NodeRecordStale { .. })) => {}
                done => return done.map(|_| ()),
            }
        }
        let current = self.look(|metadata| metadata.node(node).map(|record| record.changed));
        Err(Refusal::NodeRecordStale { node, current: current.unwrap_or_default() }.into())
    }

    /// What the controller makes of a node, and why.
    ///
    /// # Errors
    ///
    /// As [`Client::explain`].
    pub async fn explain(&self, node: NodeId) -> Result<Explanation, ClientError> {
        self.client.explain(node).await
    }

    /// Has a command executed, and waits until it is in the copy here.
    async fn order(&self, command: Command) -> Result<Outcome, PartitionError> {
        let deadline = Instant::now() + self.client.patience();
        let ordered = self.client.order(command).await?;
        // What was refused was refused for what is in the log before it: it has to be known here, too.
        let mut at = self.at.clone();
        let seen = at.wait_for(|at| *at >= ordered.at.index);
        // If it does not come, the copy is only late: what was asked for is done.
        let _ = timeout_at(deadline, seen).await;
        Ok(ordered.answer?)
    }

    /// Has a command executed that is planned on the copy here, and planned anew if nodes have come or gone.
    async fn order_planned(
        &self,
        plan: impl Fn(&Metadata) -> Result<Command, PartitionError>,
    ) -> Result<Outcome, PartitionError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let command = self.look(&plan)?;
            match self.order(command).await {
                Err(PartitionError::Refused(Refusal::NodeIsNotActive(_) | Refusal::NodeUnknown(_)))
                    if attempt < ATTEMPTS => {}
                done => return done,
            }
        }
    }
}

/// Keeps the copy up to date.
struct Follower {
    client: Client,
    copy: Arc<RwLock<Copy>>,
    at: watch::Sender<LogIndex>,
    news: broadcast::Sender<News>,
}

impl Follower {
    async fn run(self) {
        loop {
            let after = *self.at.borrow();
            match self.client.follow(after).await {
                Ok(Some(followed)) => self.execute(followed),
                Ok(None) => match self.client.metadata().await {
                    Ok((at, metadata)) => self.replace(at, metadata),
                    Err(_) => sleep(PAUSE).await,
                },
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    fn execute(&self, Followed { applied, commands }: Followed) {
        let mut copy = self.copy.write().unwrap_or_else(PoisonError::into_inner);
        for (index, command) in commands {
            // A node that is behind says again what is known here.
            if index > copy.at {
                let (_, deltas) = copy.metadata.apply(index, &command);
                copy.at = index;
                for delta in deltas {
                    // Nobody may be listening.
                    let _ = self.news.send(News::Changed(index, delta));
                }
            }
        }
        copy.at = copy.at.max(applied);
        self.at.send_if_modified(|at| core::mem::replace(at, copy.at) != copy.at);
    }

    fn replace(&self, at: LogIndex, metadata: Metadata) {
        let mut copy = self.copy.write().unwrap_or_else(PoisonError::into_inner);
        if at > copy.at {
            *copy = Copy { at, metadata };
            let _ = self.news.send(News::FetchedAnew(at));
            self.at.send_replace(at);
        }
    }
}
