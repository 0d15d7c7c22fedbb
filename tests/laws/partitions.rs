//! What nodes, clients and operators can say about partitions, most of it nonsense.

use rivven_cluster::id::{LeaderEpoch, NodeEpoch, PartitionEpoch, PartitionId, TopicId};
use rivven_cluster::partition::controller::Beat;
use rivven_cluster::partition::metadata::command::Registration;
use rivven_cluster::partition::metadata::{
    Alteration, Command, Election, FenceReason, PlanPart, Recovery, TopicSpec,
};
use rivven_cluster::partition::planner::Change;
use rivven_cluster::partition::retention::Retention;

use super::*;

fn any_partition() -> BoxedStrategy<PartitionId> {
    (any_index(), 0..3_u32)
        .prop_map(|(topic, number)| PartitionId { topic: TopicId::new(topic.value()), number })
        .boxed()
}

fn any_nodes() -> BoxedStrategy<Vec<NodeId>> {
    prop::collection::vec(any_id(), 0..4).boxed()
}

fn any_registration() -> BoxedStrategy<Registration> {
    (any_id(), 0..3_u64, 0..4_u64, prop::option::of(any_index()), 0..3_u32, any_name())
        .prop_map(|(node, token, boot, known, weight, address)| Registration {
            node,
            token: Token::new(token),
            boot: BootId::new(boot),
            address,
            known: known.map(|known| NodeEpoch::new(known.value())),
            ended: None,
            is_durable: boot == 1,
            weight,
            rack: None,
            features: 1,
        })
        .boxed()
}

fn any_alteration() -> BoxedStrategy<Alteration> {
    (any_partition(), any_id(), any_index(), any::<u64>(), any_nodes())
        .prop_map(|(partition, leader, session, epoch, nodes)| Alteration {
            partition,
            leader,
            node_epoch: NodeEpoch::new(session.value()),
            leader_epoch: LeaderEpoch::new(epoch),
            epoch: PartitionEpoch::new(epoch),
            in_sync: nodes.into_iter().map(|node| (node, NodeEpoch::new(session.value()))).collect(),
            is_recovered: false,
            voids_earlier: false,
        })
        .boxed()
}

/// A command of any caller; those that only a controller gives among them.
pub fn any_command() -> BoxedStrategy<Command> {
    let spec = ("[a-c]{0,2}", 0..4_u16, 0..4_u16).prop_map(|(name, replicas, min_in_sync)| TopicSpec {
        name,
        replicas,
        min_in_sync,
        recovery: Recovery::Unclean,
        retention: Retention::default(),
    });
    let change = (any_partition(), any_nodes(), any_nodes()).prop_map(|(partition, from, to)| Change {
        partition,
        from,
        to,
    });
    prop_oneof![
        any_registration().prop_map(Command::RegisterNode),
        (any_id(), any_index(), any_index()).prop_map(|(node, epoch, seen)| Command::FenceNode {
            node,
            epoch: NodeEpoch::new(epoch.value()),
            seen,
            reason: FenceReason::Operator,
        }),
        (spec, prop::collection::vec(any_nodes(), 0..3))
            .prop_map(|(spec, assignments)| Command::CreateTopic { spec, assignments }),
        any_index().prop_map(|topic| Command::DeleteTopic { topic: TopicId::new(topic.value()) }),
        (any_id(), any_index(), any::<bool>()).prop_map(|(node, seen, is_draining)| Command::SetDraining {
            node,
            seen,
            is_draining
        }),
        any_alteration().prop_map(Command::AlterPartition),
        (any_partition(), any::<u64>(), any_id()).prop_map(|(partition, epoch, node)| Command::ElectLeader {
            partition,
            epoch: PartitionEpoch::new(epoch),
            election: Election::Unclean(node),
        }),
        (any_partition(), any::<u64>(), any_nodes()).prop_map(|(partition, epoch, target)| {
            Command::StartReassignment { partition, epoch: PartitionEpoch::new(epoch), target }
        }),
        (prop::option::of(any_index()), prop::collection::vec(change, 0..3), any::<bool>()).prop_map(
            |(last, changes, is_last)| Command::SubmitPlan {
                part: PlanPart::First { last },
                changes,
                is_last
            }
        ),
        any_index().prop_map(|plan| Command::CancelPlan { plan }),
    ]
    .boxed()
}

/// What a node says to the leader.
pub fn any_message() -> BoxedStrategy<node::Message> {
    prop_oneof![
        (any_registration(), any_index(), any::<bool>()).prop_map(|(registration, applied, is_leaving)| {
            node::Message::Beat(Box::new(Beat { registration, applied, is_leaving }))
        }),
        prop::collection::vec(any_alteration(), 0..3).prop_map(node::Message::Alterations),
    ]
    .boxed()
}

/// What a caller wants to know.
pub fn any_question() -> BoxedStrategy<Request> {
    prop_oneof![
        Just(Request::Metadata),
        any_index().prop_map(|after| Request::FollowMetadata { after }),
        any_id().prop_map(|node| Request::Explain { node }),
    ]
    .boxed()
}
