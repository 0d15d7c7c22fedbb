//! When a majority is lost for good: an operator lets the cluster go on with one node.
//!
//! No protocol can do that safely. What was acknowledged is on a majority, and the node that is left may be one that
//! was not part of it. Nor can the node know that the others are gone: if they are not, there are two clusters.
//! So it is never done by itself, and says before what it may lose.
//!
//! The node keeps its whole log, also what it does not know to be committed: somebody may have been told that it is.
//! It becomes the only voter, in a later term. All other members that its log tells of are dead to it for good;
//! what they were comes back under new ids, with empty disks.

use super::io::{Durable, WriteBatch};
use super::{NodeId, StartError};
use crate::id::{LogIndex, Term, WriteId};
use crate::raft::{Content, Entry, HardState, Membership};

/// What becomes of a cluster of which one node is left.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Survivor {
    /// What the node has to write.
    pub batch: WriteBatch,
    /// The members until now, as far as the node knows.
    pub members: Membership,
    /// The end of the node's log. What was acknowledged behind it is lost.
    pub last: LogIndex,
    /// The term of that end. Of several nodes the one with the latest term has most, and among those of one term the
    /// one with the highest index (Raft §5.4.1).
    pub last_term: Term,
    /// What the node knows to be committed.
    pub commit: LogIndex,
}

impl Durable {
    /// Lets this node go on alone. Nothing is changed until [`Survivor::batch`] is written.
    ///
    /// # Errors
    ///
    /// [`StartError`] if this is not the sound disk of a member.
    pub fn survive(&self, node: NodeId) -> Result<Survivor, StartError> {
        if self.standing.cluster().is_none() {
            return Err(StartError::NoMember);
        }
        self.check(node)?;
        let mut snapshot = self.snapshot.clone().ok_or(StartError::SnapshotMissing)?;
        let mut members = snapshot.membership.clone();
        let mut ever = members.of_survivor(node);
        let mut entries = Vec::with_capacity(self.entries.len());
        for Entry { at, content } in self.entries.iter().cloned() {
            let content = match content {
                Content::Change(change) => {
                    members = members.after(&change, at.term).unwrap_or(members);
                    ever = ever.with_removed(&members.of_survivor(node));
                    // Nobody is left whom it concerns.
                    Content::Command(bytes::Bytes::new())
                }
                command @ Content::Command(_) => command,
            };
            entries.push(Entry { at, content });
        }
        snapshot.membership = ever;
        let end = entries.last().map_or(snapshot.at, |entry| entry.at);
        let hard_state = HardState { term: self.hard_state.term.next(), vote: None, ..self.hard_state };
        let batch = WriteBatch {
            id: WriteId::new(1),
            snapshot: Some(snapshot),
            entries,
            hard_state: Some(hard_state),
            ..WriteBatch::default()
        };
        Ok(Survivor { batch, members, last: end.index, last_term: end.term, commit: self.hard_state.commit })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::formed;
    use super::*;
    use crate::raft::{Change, Position, Step};

    #[test]
    fn the_survivor_is_alone_keeps_its_log_and_knows_the_others_as_dead() {
        let id = |node| NodeId::new(node).unwrap();
        let at = |index| Position { index: LogIndex::new(index), term: Term::new(2) };
        let add = Content::Change(Change::one(Step::AddLearner(id(7))));
        let entries = vec![
            Entry::of_command(at(2), "a"),
            Entry { at: at(3), content: add },
            Entry::of_command(at(4), "b"),
        ];
        let hard_state = HardState { term: Term::new(5), vote: Some(id(2)), commit: LogIndex::new(3) };
        let durable = Durable { entries, hard_state, ..formed() };
        let Survivor { batch, members, last, last_term, commit } = durable.survive(id(1)).unwrap();
        assert!(members.learners().contains(&id(7)));
        assert_eq!((last, last_term, commit), (LogIndex::new(4), Term::new(2), LogIndex::new(3)));
        let membership = &batch.snapshot.as_ref().unwrap().membership;
        assert_eq!(membership.voters().iter().copied().collect::<Vec<_>>(), [id(1)]);
        assert_eq!(membership.removed().iter().copied().collect::<Vec<_>>(), [id(2), id(7)]);
        let kept: Vec<_> = batch.entries.iter().map(Entry::command).collect();
        assert_eq!(kept, [Some(&"a".into()), None, Some(&"b".into())]);
        let hard_state = batch.hard_state.unwrap();
        assert_eq!((hard_state.term, hard_state.vote), (Term::new(6), None));
    }

    #[test]
    fn the_survivor_is_not_dead_to_itself_although_its_removal_was_under_way() {
        let id = |node| NodeId::new(node).unwrap();
        let at = Position { index: LogIndex::new(2), term: Term::new(2) };
        let remove = Content::Change(Change::one(Step::Remove(id(1))));
        let hard_state = HardState { term: Term::new(2), vote: None, commit: LogIndex::new(1) };
        let durable = Durable { entries: vec![Entry { at, content: remove }], hard_state, ..formed() };
        let membership = durable.survive(id(1)).unwrap().batch.snapshot.unwrap().membership;
        assert!(membership.is_sound() && membership.voters().contains(&id(1)), "{membership:?}");
    }

    #[test]
    fn who_belongs_to_no_cluster_does_not_survive_it() {
        let id = NodeId::new(1).unwrap();
        assert_eq!(Durable::default().survive(id), Err(StartError::NoMember));
    }
}
