//! SWIM §4.2, and ours: no word about a member is taken back; in the end all who are there see each other.
//!
//! Nothing is asked of who suspects whom in between: that is an opinion, and nothing is decided by it.

use std::collections::{BTreeMap, BTreeSet};

use rivven_cluster::id::NodeId;
use rivven_cluster::swim::{State, Swim};

use super::{Rule, Verdict, broken};

/// What each node holds of each.
#[derive(Clone, Default)]
pub struct Gossip {
    held: BTreeMap<(u64, NodeId), (u64, State)>,
    /// Nodes whose boot number is durable.
    booted: BTreeSet<u64>,
    /// Nodes that have gossiped since they last settled.
    busy: BTreeSet<u64>,
}

impl Gossip {
    /// A process of `node` started: it knows nobody.
    pub fn started(&mut self, node: u64) {
        self.held.retain(|(by, _), _| *by != node);
        self.booted.remove(&node);
        self.busy.remove(&node);
    }

    /// A batch of `node` is durable; the first one holds its boot number.
    pub fn written(&mut self, node: u64) {
        self.booted.insert(node);
    }

    /// `node` has heard or said something.
    pub fn stirs(&mut self, node: u64) {
        self.busy.insert(node);
    }

    /// `node` speaks to a member.
    pub fn says(&mut self, node: u64) -> Verdict {
        self.stirs(node);
        if self.booted.contains(&node) {
            return Ok(());
        }
        broken(Rule::Gossip, format!("node {node} gossips before its boot number is durable"))
    }

    /// `node` has settled.
    pub fn settled(&mut self, node: u64, swim: &Swim) -> Verdict {
        if !self.busy.remove(&node) {
            return Ok(());
        }
        for member in swim.members() {
            let id = member.record.id;
            let now = (member.record.epoch.value(), member.state);
            let Some(before) = self.held.insert((node, id), now) else { continue };
            let returns = !before.1.is_live() && now.1.is_live();
            if now < before || (returns && now.0 == before.0) {
                let what = format!("node {node} held node {id} as {before:?}, then as {now:?}");
                return broken(Rule::Gossip, what);
            }
        }
        Ok(())
    }

    /// One of these that does not hold another one live.
    pub fn blind(&self, nodes: &BTreeSet<u64>) -> Option<(u64, u64)> {
        let holds = |by: u64, of: u64| {
            let held = NodeId::new(of).and_then(|of| self.held.get(&(by, of)));
            held.is_some_and(|(_, state)| state.is_live())
        };
        let mut pairs =
            nodes.iter().flat_map(|by| nodes.iter().filter(move |of| *of != by).map(|of| (*by, *of)));
        pairs.find(|(by, of)| !holds(*by, *of))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rivven_cluster::rng::Seed;
    use rivven_cluster::swim::{Config, Start, WallSeconds};
    use rivven_cluster::time::Instant;

    fn member(wall: u32) -> Swim {
        let (id, cluster) = (NodeId::new(1).unwrap(), "demo".parse().unwrap());
        let config = Config::new(id, cluster, "10.0.0.1:7946".parse().unwrap(), 1);
        let start = Start { wall: WallSeconds(wall), remembered: None, seed: Seed::new(1) };
        Swim::start(config, start, Instant::ORIGIN).unwrap()
    }

    #[test]
    fn gossip_before_the_first_write_and_words_taken_back_are_violations() {
        let mut gossip = Gossip::default();
        assert!(gossip.says(1).is_err());
        gossip.written(1);
        assert_eq!(gossip.says(1), Ok(()));
        assert_eq!(gossip.settled(1, &member(7)), Ok(()));
        gossip.stirs(1);
        assert!(gossip.settled(1, &member(6)).is_err(), "its epoch went back");
        gossip.started(1);
        assert!(gossip.says(1).is_err(), "a new process has a new boot number");
    }

    #[test]
    fn who_does_not_see_another_is_named() {
        let mut gossip = Gossip::default();
        gossip.held.insert((1, NodeId::new(2).unwrap()), (1, State::Alive));
        gossip.held.insert((2, NodeId::new(1).unwrap()), (1, State::Dead));
        assert_eq!(gossip.blind(&BTreeSet::from([1])), None);
        assert_eq!(gossip.blind(&BTreeSet::from([1, 2])), Some((2, 1)));
    }
}
