//! What operators ask of a cluster: who belongs to it, and what is to change.
//!
//! Each request finds the leader by itself. It may be sent again although an attempt before was carried out, so what
//! has happened already counts as done.

use core::time::Duration;

use tokio::time::{Instant, sleep};

use super::client::{Client, ClientError};
use crate::id::{NodeId, PeerName};
use crate::node::{MemberStatus, Members, Part, Rejection, Reply, Request};
use crate::raft::{ChangeError, Step};

/// How often it is looked whether something has come about.
const INTERVAL: Duration = Duration::from_millis(50);

#[expect(clippy::wildcard_enum_match_arm, reason = "a reply of any other kind is equally wrong")]
impl Client {
    /// Lists the members, as the leader sees them.
    ///
    /// # Errors
    ///
    /// [`ClientError::Unavailable`] if no leader answers in time.
    pub async fn members(&self) -> Result<Members, ClientError> {
        let deadline = Instant::now() + self.patience();
        loop {
            // Any node answers, and says who leads; only the leader knows how far the others are.
            let members = match self.carry_out(|| Request::Members, true).await? {
                Reply::Members(members) => *members,
                other => return Err(unexpected(&other)),
            };
            let is_complete = members.members.iter().any(|member| member.matched.is_some());
            if is_complete || Instant::now() >= deadline {
                return Ok(members);
            }
            let leader = members.members.iter().find(|member| Some(member.node) == members.leader);
            self.prefer(leader.and_then(|leader| leader.address.clone()));
            sleep(INTERVAL).await;
        }
    }

    /// Adds a node as a learner. It gets the log as soon as it runs; if it `votes` it decides when it has caught up.
    /// Needs an operator's certificate.
    ///
    /// # Errors
    ///
    /// [`ClientError::Rejected`] if the change makes no sense; else as [`Client::propose`].
    pub async fn add_member(
        &self,
        node: NodeId,
        address: PeerName,
        votes: bool,
    ) -> Result<Members, ClientError> {
        let request = || Request::AddMember { node, address: address.clone(), votes };
        self.change(request, &|members| find(members, node).is_some()).await
    }

    /// Promotes, demotes and removes members, all at once: several voters change through a joint membership, and
    /// this returns when that is left. Needs an operator's certificate, unless a node removes itself.
    ///
    /// # Errors
    ///
    /// As [`Client::add_member`].
    pub async fn change_members(&self, steps: Vec<Step>) -> Result<Members, ClientError> {
        let is_done =
            |members: &Members| !members.is_joint && steps.iter().all(|step| has_come_about(members, *step));
        self.change(|| Request::ChangeMembers(steps.clone()), &is_done).await
    }

    /// Lets another voter lead: this one, or the one that has most of the log. Needs an operator's certificate.
    ///
    /// # Errors
    ///
    /// [`ClientError::Rejected`] if there is no such voter, or it did not take over in time.
    pub async fn hand_over(&self, to: Option<NodeId>) -> Result<Option<NodeId>, ClientError> {
        if to.is_some() && self.members().await?.leader == to {
            return Ok(to);
        }
        match self.carry_out(|| Request::HandOver { to }, false).await? {
            Reply::HandedOver { leader } => Ok(leader),
            other => Err(unexpected(&other)),
        }
    }

    async fn change(
        &self,
        request: impl Fn() -> Request,
        is_done: &(dyn Fn(&Members) -> bool + Sync),
    ) -> Result<Members, ClientError> {
        let deadline = Instant::now() + self.patience();
        loop {
            let before = self.members().await?;
            if is_done(&before) {
                return Ok(before);
            }
            let refused = match self.carry_out(&request, true).await {
                Ok(Reply::Done { .. }) => None,
                Ok(other) => return Err(unexpected(&other)),
                Err(ClientError::Rejected(rejection)) => Some(rejection),
                Err(error) => return Err(error),
            };
            let passes = matches!(
                refused,
                None | Some(Rejection::Change(ChangeError::UnderWay) | Rejection::NotCaughtUp(_))
            );
            let now = self.members().await?;
            match refused {
                _ if is_done(&now) => return Ok(now),
                Some(rejection) if !passes || Instant::now() >= deadline => return Err(rejection.into()),
                _ => sleep(INTERVAL).await,
            }
        }
    }
}

fn find(members: &Members, node: NodeId) -> Option<&MemberStatus> {
    members.members.iter().find(|member| member.node == node)
}

fn has_come_about(members: &Members, step: Step) -> bool {
    let part = find(members, step.node()).map(|member| member.part);
    match step {
        Step::AddLearner(_) => part.is_some(),
        Step::Promote(_) => part == Some(Part::Voter),
        Step::Demote(_) => part == Some(Part::Learner),
        Step::Remove(node) => members.removed.contains(&node) && part.is_none(),
        Step::Suspend(node) => members.suspended.contains(&node),
    }
}

fn unexpected(reply: &Reply) -> ClientError {
    ClientError::Answer(format!("{reply:?}"))
}
