//! (Ours, features): no node is sent what its version does not read, and the level is not raised over its head.
//!
//! A node that was of a later version and went back is left out: that it halts is how it is to end, and what it was sent
//! until then was meant for what it was.

use std::collections::BTreeMap;

use rivven_cluster::node::Message;
use rivven_cluster::partition::metadata::FEATURE_LEVEL_FIRST;

use super::{Rule, Verdict, broken};

/// Remembers of which versions the nodes are.
#[derive(Clone, Default)]
pub struct Features {
    /// What each node understands, and the most that it ever did.
    nodes: BTreeMap<u64, (u16, u16)>,
}

/// The level from which on a message may be sent.
pub fn level_of(message: &Message) -> u16 {
    match message {
        Message::Forwards { .. } => 2,
        Message::Formation(_)
        | Message::Raft(_)
        | Message::Forward { .. }
        | Message::Forwarded { .. }
        | Message::Transfer(_)
        | Message::ReadIndex(_)
        | Message::ReadIndexAt { .. }
        | Message::Announce { .. }
        | Message::Notice { .. }
        | Message::Meet { .. }
        | Message::Dismissed { .. }
        | Message::Beat(_)
        | Message::Alterations(_)
        | Message::Records(_) => FEATURE_LEVEL_FIRST,
    }
}

impl Features {
    /// A process of `node` starts that understands so much.
    pub fn started(&mut self, node: u64, understood: u16) {
        let most = self.nodes.get(&node).map_or(0, |(_, most)| *most);
        self.nodes.insert(node, (understood, most.max(understood)));
    }

    /// `node` is sent a message.
    pub fn hears(&self, node: u64, message: &Message) -> Verdict {
        let (Some((understood, most)), needed) = (self.nodes.get(&node), level_of(message)) else {
            return Ok(());
        };
        if needed <= *understood || most > understood {
            return Ok(());
        }
        let what =
            format!("node {node} understands level {understood} and is sent what came with level {needed}");
        broken(Rule::Features, what)
    }

    /// `node` says that the cluster has gone further than it understands.
    pub fn outdated(&self, node: u64) -> Verdict {
        match self.nodes.get(&node) {
            Some((understood, most)) if most > understood => Ok(()),
            _ => broken(Rule::Features, format!("the level was raised over the head of node {node}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use rivven_cluster::id::Term;

    use super::*;

    #[test]
    fn who_is_sent_what_it_never_understood_is_a_violation_and_who_went_back_is_none() {
        let (news, later) = (Message::Forwards { term: Term::new(1), wanted: Vec::new() }, 2);
        let mut checker = Features::default();
        checker.started(1, FEATURE_LEVEL_FIRST);
        assert!(checker.hears(1, &news).is_err());
        assert!(checker.outdated(1).is_err());
        checker.started(1, later);
        assert_eq!(checker.hears(1, &news), Ok(()));
        assert!(checker.outdated(1).is_err(), "it understands everything");
        checker.started(1, FEATURE_LEVEL_FIRST);
        assert_eq!((checker.hears(1, &news), checker.outdated(1)), (Ok(()), Ok(())));
    }
}
