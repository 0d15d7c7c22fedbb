//! The operator of the turmoil world: the production client with an operator's certificate.

use core::time::Duration;
use std::sync::{Arc, Mutex};

use rivven_cluster::id::NodeId;
use rivven_cluster::node::{Members, Part};
use rivven_cluster::quic::{Client, ClientError};
use rivven_cluster::raft::Step;

use super::clock::sim_nanos;
use super::plan::Strikes;
use crate::faults::{Fault, Window};
use crate::lock::lock;

/// How often the operator asks.
const INTERVAL: Duration = Duration::from_millis(150);

/// Asks for what the window says, until it has come about or the window ends.
pub(super) async fn operate(client: Client, window: Window, strikes: Arc<Mutex<Strikes>>) {
    let now = sim_nanos() / 1_000_000;
    tokio::time::sleep(Duration::from_millis(window.begins.saturating_sub(now))).await;
    while sim_nanos() / 1_000_000 < window.ends {
        if let Ok(true) = ask(&client, &window.fault).await {
            if let Some(node) = window.fault.struck() {
                lock(&strikes).strike(node, window.fault.kind());
            }
            return;
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Tells whether something was asked for and has come about.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "most faults are no operations, and the rest is not possible now"
)]
async fn ask(client: &Client, fault: &Fault) -> Result<bool, ClientError> {
    let members = client.members().await?;
    let part =
        |node: NodeId| members.members.iter().find(|member| member.node == node).map(|found| found.part);
    let Some(node) = fault.struck().and_then(NodeId::new) else { return Ok(false) };
    let steps = match fault {
        Fault::HandOver { .. } => {
            if part(node) != Some(Part::Voter) || members.leader == Some(node) {
                return Ok(false);
            }
            return client.hand_over(Some(node)).await.map(|_| true);
        }
        Fault::Removal { .. } if part(node).is_some() => removal(&members, node),
        Fault::Demotion { .. } if part(node) == Some(Part::Voter) => demotion(&members, node),
        _ => return Ok(false),
    };
    if steps.is_empty() {
        return Ok(false);
    }
    client.change_members(steps).await.map(|_| true)
}

fn of(members: &Members, part: Part) -> impl Iterator<Item = NodeId> {
    members.members.iter().filter(move |member| member.part == part).map(|member| member.node)
}

fn removal(members: &Members, node: NodeId) -> Vec<Step> {
    let learner = of(members, Part::Learner).find(|learner| *learner != node);
    [Step::Remove(node)].into_iter().chain(learner.map(Step::Promote)).collect()
}

fn demotion(members: &Members, node: NodeId) -> Vec<Step> {
    let voters = of(members, Part::Voter).count();
    let another = of(members, Part::Voter).find(|voter| *voter > node).filter(|_| voters >= 5);
    if voters < 3 {
        return Vec::new();
    }
    [Step::Demote(node)].into_iter().chain(another.map(Step::Demote)).collect()
}
