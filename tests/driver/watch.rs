//! Who waits for leadership: the token that is shown to what is outside of the cluster.

use crate::support::{formed, start_node};
use rivven_cluster::driver::{Observer, Watched, Watcher, watched};
use rivven_cluster::id::{Term, WriteId};
use rivven_cluster::kv::KeyValue;
use rivven_cluster::machine::Machine;
use rivven_cluster::node::{Input, Node, Output};
use rivven_cluster::raft::Role;
use rivven_cluster::time::Instant;

/// A lone voter, and a disk that is slow as long as the test likes.
struct Alone {
    node: Node<KeyValue>,
    now: Instant,
    watcher: Watcher,
    watched: Watched,
    writing: Option<WriteId>,
}

impl Alone {
    fn start() -> Alone {
        let now = Instant::ORIGIN;
        let node = start_node(1, 1, 7, formed(1), now);
        let (watcher, watched) = watched();
        let mut alone = Alone { node, now, watcher, watched, writing: None };
        alone.settle();
        alone
    }

    fn settle(&mut self) {
        while let Some(output) = self.node.poll() {
            self.watcher_sees(&output);
            if let Output::Write(batch) = output {
                self.writing = Some(batch.id);
            }
        }
        self.watcher.settled(self.now, &self.node);
    }

    fn watcher_sees(&mut self, output: &Output) {
        Observer::<KeyValue>::output(&mut self.watcher, self.now, output);
    }

    fn finish_write(&mut self) -> bool {
        let Some(id) = self.writing.take() else { return false };
        self.node.handle(self.now, Input::Written(id));
        self.settle();
        true
    }

    fn role(&self) -> Role {
        self.node.standing().unwrap().role
    }

    fn token(&self) -> Option<Term> {
        self.watched.leadership.borrow().fencing_token()
    }
}

/// The goal: no token that a crash could give to two leaders. The method: a lone voter elects itself while its disk is
/// busy, then the disk catches up.
#[test]
fn a_lone_voter_shows_a_token_only_when_its_term_is_durable() {
    let mut alone = Alone::start();
    while alone.finish_write() {}
    while alone.role() != Role::Leader {
        alone.now = alone.node.deadline().unwrap().max(alone.now);
        alone.node.handle_timeout(alone.now);
        alone.settle();
    }
    assert!(alone.writing.is_some(), "its term is still on its way to the disk");
    assert_eq!(alone.token(), None);
    while alone.finish_write() {}
    let term = alone.node.standing().unwrap().term;
    assert_eq!(alone.token(), Some(term));
    assert_eq!(alone.watched.members.borrow().as_ref().unwrap().voters().len(), 1);
    drop(alone.watcher);
    assert_eq!(alone.watched.leadership.borrow().fencing_token(), None, "who has stopped does not lead");
}
