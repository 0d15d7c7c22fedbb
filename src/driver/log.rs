//! What a node says in the log: what an operator should look at as a warning or an error, the rest at level debug.
//!
//! Each line is in a span with the node's term, inside that with its id, if whoever started the node began one.

use crate::id::NodeId;
use crate::node::{Event, Node};
use crate::partition::metadata::{Delta, Metadata};
use crate::state_machine::StateMachine;
use crate::swim;

/// Logs an event of `node`.
pub(super) fn event<S: StateMachine>(event: &Event, node: &Node<S>) {
    let term = node.standing().map(|standing| standing.term.value());
    let _inside = tracing::error_span!("raft", term).entered();
    match event {
        Event::Alarm { from, refusal } => {
            tracing::error!(%from, ?refusal, "a peer broke a promise; its message was dropped");
        }
        Event::FormationRefused(refusal) => tracing::warn!("{refusal}"),
        Event::ManySeemGone => {
            tracing::warn!("many nodes seem gone at once: they are fenced one at a time");
        }
        Event::SnapshotUnreadable { reason } => {
            tracing::error!(
                "the leader's snapshot cannot be read: {reason}; do all nodes run the same program?"
            );
        }
        Event::Halted { reason } => tracing::error!("the node has halted: {reason}"),
        Event::Gossip(swim::Event::IdConflict(_) | swim::Event::Fenced) => {
            tracing::error!(?event, "another process has the id of this node, and its certificate");
        }
        Event::Metadata { deltas, .. } => {
            deltas.iter().for_each(|delta| self::delta(*delta, node.metadata()))
        }
        Event::Formed { .. }
        | Event::Standing(_)
        | Event::Membership(_)
        | Event::TakenIn
        | Event::Gossip(_) => {
            tracing::debug!(?event);
        }
    }
}

fn delta(delta: Delta, metadata: &Metadata) {
    let (Delta::Partition(id) | Delta::MayHaveLost(id)) = delta else {
        tracing::debug!(?delta);
        return;
    };
    let (topic, partition) = (metadata.topic(id.topic).map(|topic| topic.spec.name.as_str()), id.number);
    if matches!(delta, Delta::MayHaveLost(_)) {
        tracing::warn!(topic, partition, "a leader was chosen that may lack what was acknowledged");
    } else if let Some(record) = metadata.partition(id) {
        let (leader, epoch) = (record.leader.map(NodeId::value), record.leader_epoch.value());
        tracing::debug!(topic, partition, leader, epoch, in_sync = ?record.in_sync, "a partition has changed");
    }
}
