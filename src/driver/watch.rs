//! Waiting for a change of who leads, who belongs, and what the metadata says.
//!
//! An embedder seldom wants every event; it wants to know how things are, and to be woken when they are
//! otherwise. So each of the three is a value that can be looked at, and waited for. Whoever is slow sees the latest
//! value and not each one between.
//!
//! # Fencing
//!
//! "This node leads" may be over before it is read: a process can stand still for a minute between looking and
//! acting. Inside the cluster that does no harm, since others see a later term. A resource outside of it,
//! such as a volume or an object store, has to be told: [`Leadership::fencing_token`] is a number that grows with
//! every leader, and the resource refuses whoever brings a lower one than it has seen. A term is such a number,
//! since it has at most one leader (Raft §5.2), but only once it is durable: a lone voter leads at once,
//! and if it crashes then, it may lead in the same term again. So there is a token when an entry of the term is
//! committed, and not before.

use tokio::sync::watch;

use super::Observer;
use crate::id::{LogIndex, NodeId, Term};
use crate::node::{Event, Node, Output};
use crate::raft::{Membership, Role, Standing};
use crate::state_machine::StateMachine;
use crate::time::Instant;

/// Who leads, as one node sees it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Leadership {
    /// The node's term; 0 before there is a cluster.
    pub term: Term,
    /// Who leads in it, if the node knows.
    pub leader: Option<NodeId>,
    token: Option<Term>,
}

impl Leadership {
    /// The term, if it is this node that leads and no other can have led in it; for resources outside of the
    /// cluster, which refuse a token that is lower than one that they have seen. See the [module](self).
    #[must_use]
    pub fn fencing_token(&self) -> Option<Term> {
        self.token
    }
}

/// How things are with a node's cluster, as that node sees it. Clones see the same.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Who leads.
    pub leadership: watch::Receiver<Leadership>,
    /// Who belongs to the cluster; `None` before the node does. A change of which the first half is applied is a
    /// value of its own.
    pub members: watch::Receiver<Option<Membership>>,
    /// Where the last command stands that changed topics, partitions or nodes, as far as the node has applied the
    /// log. What they are is asked for, by [`Request::Metadata`](crate::node::Request::Metadata): a copy of
    /// many partitions for each change would cost more than the change.
    pub metadata: watch::Receiver<LogIndex>,
}

/// The end of it that is inside the driver.
#[derive(Debug)]
pub struct Watcher {
    leadership: watch::Sender<Leadership>,
    members: watch::Sender<Option<Membership>>,
    metadata: watch::Sender<LogIndex>,
}

/// Makes both ends; the first is an [`Observer`], for [`Driver::new`](super::Driver::new).
#[must_use]
pub fn watched() -> (Watcher, Watched) {
    let (leadership, leadership_receiver) = watch::channel(Leadership::default());
    let (members, members_receiver) = watch::channel(None);
    let (metadata, metadata_receiver) = watch::channel(LogIndex::default());
    let watched =
        Watched { leadership: leadership_receiver, members: members_receiver, metadata: metadata_receiver };
    (Watcher { leadership, members, metadata }, watched)
}

impl Leadership {
    fn of<S: StateMachine>(node: &Node<S>) -> Leadership {
        let Some(Standing { role, term, leader }) = node.standing() else { return Leadership::default() };
        let leads = role == Role::Leader && node.halted().is_none() && node.has_committed_in_its_term();
        Leadership { term, leader, token: leads.then_some(term) }
    }
}

impl<S: StateMachine> Observer<S> for Watcher {
    fn settled(&mut self, _now: Instant, node: &Node<S>) {
        let leadership = Leadership::of(node);
        self.leadership.send_if_modified(|before| core::mem::replace(before, leadership) != leadership);
        self.members.send_if_modified(|before| {
            let is_new = before.as_ref() != node.membership();
            if is_new {
                *before = node.membership().cloned();
            }
            is_new
        });
    }

    fn output(&mut self, _now: Instant, output: &Output) {
        if let Output::Event(Event::Metadata { at, .. }) = output {
            self.metadata.send_replace(*at);
        }
    }
}

/// The node has stopped: it leads no more, whatever it last saw.
impl Drop for Watcher {
    fn drop(&mut self) {
        self.leadership.send_modify(|leadership| leadership.token = None);
    }
}
