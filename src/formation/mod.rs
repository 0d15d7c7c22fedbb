//! How strangers become a cluster, once.
//!
//! # The problem
//!
//! Each node's file lists its peers by address. Before anybody votes, all nodes must agree who the
//! voters are: two majorities of *different* voter sets need not share a node. And a node whose disk
//! was wiped must not vote again under its old id, for it has forgotten whom it voted for.
//!
//! # Failed ideas
//!
//! *Trust the file.* Two files that differ in one line elect two leaders. *Start when all are
//! reachable.* A wiped node sees them all reachable, too, and starts afresh.
//!
//! # The idea
//!
//! A node's id comes from its certificate, so a node knows the whole voter set when every listed
//! address has been identified. Then three standings, each durable before anybody hears of it:
//!
//! ```text
//!   Fresh ──all peers heard, none formed──► Pledged(voters) ──all pledged the same──► Formed(voters)
//!                                               └─────────one peer Formed the same──────┘
//! ```
//!
//! A node forms only when all voters have pledged the same set, so whoever is *formed* knows that
//! every voter once had a durable pledge. A *fresh* node that meets a formed cluster which counts it
//! among its voters has therefore lost its disk, and is refused. So that it cannot miss that, a node
//! pledges only after *every* listed peer has told it, in this process, that it is not formed. If the
//! node voted before it lost its disk, then for or with a formed peer, and that peer will say so. A
//! pledge is never taken back.
//!
//! # Reading
//!
//! The rules are in `Formation::assess`, one `match`. What it does not do: a node that is *not* among
//! the voters of the cluster it meets is told so; joining an existing cluster is another protocol.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::id::{NodeId, PeerName};
use crate::machine::Machine;
use crate::rng::{Seed, Stream};
use crate::time::Instant;

/// The shortest time between two greetings to a peer.
const GREETING_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// The longest time between two greetings to a peer.
const GREETING_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// The founding members of a cluster: not empty, ascending, without duplicates.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "Vec<NodeId>", into = "Vec<NodeId>")]
pub struct VoterSet(Vec<NodeId>);

impl VoterSet {
    /// Makes a voter set; `None` if there are no voters.
    #[must_use]
    pub fn new(voters: BTreeSet<NodeId>) -> Option<VoterSet> {
        if voters.is_empty() { None } else { Some(VoterSet(voters.into_iter().collect())) }
    }

    /// Tells whether `node` is one of the voters.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.0.binary_search(&node).is_ok()
    }

    /// Lists the voters, ascending.
    #[must_use]
    pub fn voters(&self) -> &[NodeId] {
        &self.0
    }
}

impl TryFrom<Vec<NodeId>> for VoterSet {
    type Error = &'static str;

    fn try_from(voters: Vec<NodeId>) -> Result<VoterSet, &'static str> {
        let ascending = voters.windows(2).all(|pair| pair[0] < pair[1]);
        if voters.is_empty() || !ascending {
            return Err("a voter set is ascending and not empty");
        }
        Ok(VoterSet(voters))
    }
}

impl From<VoterSet> for Vec<NodeId> {
    fn from(set: VoterSet) -> Vec<NodeId> {
        set.0
    }
}

impl core::fmt::Display for VoterSet {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let voters: Vec<String> = self.0.iter().map(NodeId::to_string).collect();
        write!(f, "{{{}}}", voters.join(", "))
    }
}

/// How far a node has come. Durable before it is told to anybody.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Standing {
    /// It belongs to no cluster, and never promised to.
    #[default]
    Fresh,
    /// It will belong to this cluster or to none.
    Pledged(VoterSet),
    /// It belongs to this cluster.
    Formed(VoterSet),
}

/// What nodes say to each other before they are a cluster, and to latecomers after.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Message {
    /// "This is how far I am. And you?"
    Greeting(Standing),
    /// "This is how far I am."
    Answer(Standing),
}

/// Whom a message is for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Addressee {
    /// Whoever answers at this address.
    Address(PeerName),
    /// A node that spoke to us.
    Node(NodeId),
}

/// Why a node cannot become part of a cluster as things are. It keeps trying: an operator can repair
/// the other side while this one runs, but this side needs a restart with what is right.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Two of the listed addresses lead to the same node; list each peer once.
    #[error("the peers {first} and {second} are the same node, {node}: list each peer once")]
    SamePeerTwice {
        /// One address.
        first: PeerName,
        /// The other.
        second: PeerName,
        /// The node that answers at both.
        node: NodeId,
    },
    /// One of the listed addresses is our own; list the other nodes only.
    #[error("the peer {name} is this node itself, {node}: list the other nodes only")]
    PeerIsSelf {
        /// The address.
        name: PeerName,
        /// This node.
        node: NodeId,
    },
    /// A peer's file lists other nodes than ours.
    #[error(
        "node {peer} would form a cluster of the voters {theirs}, this node one of {ours}: make the lists of peers the same on all nodes"
    )]
    OtherVoters {
        /// Who disagrees.
        peer: NodeId,
        /// What it pledged or formed.
        theirs: VoterSet,
        /// What this node's file says.
        ours: VoterSet,
    },
    /// The list of peers changed after the pledge; put it back, or empty the data folder.
    #[error(
        "this node pledged itself to the voters {pledged}, but its peers are now {found}: restore the list of peers, or start with an empty data folder"
    )]
    PledgedToOthers {
        /// The durable pledge.
        pledged: VoterSet,
        /// What the list of peers gives now.
        found: VoterSet,
    },
    /// This node's disk was emptied. Under its old id it could break promises that it has forgotten.
    #[error(
        "node {peer} belongs to a formed cluster of {theirs} which counts this node as a voter, but this node's data folder is empty: restore the folder, or give the node a new id"
    )]
    DiskWiped {
        /// Who says so.
        peer: NodeId,
        /// The cluster.
        theirs: VoterSet,
    },
    /// The cluster exists without this node.
    #[error("node {peer} belongs to a formed cluster of {theirs}, of which this node is no voter")]
    NotAVoter {
        /// Who says so.
        peer: NodeId,
        /// The cluster.
        theirs: VoterSet,
    },
}

/// What the machine is told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Input {
    /// The node at a listed address has shown its certificate.
    Identified {
        /// The address.
        name: PeerName,
        /// Who answers there.
        node: NodeId,
    },
    /// A node spoke.
    Message {
        /// The authenticated sender.
        from: NodeId,
        /// What it said.
        message: Message,
    },
    /// The last [`Output::Record`] is durable.
    Recorded,
}

/// What the machine asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Output {
    /// Make this standing durable, then say [`Input::Recorded`]. No second one comes before that.
    Record(Standing),
    /// Send this.
    Send {
        /// To whom.
        to: Addressee,
        /// What.
        message: Message,
    },
    /// Something stands in the way. Said once for each different reason in a row.
    Refused(Refusal),
}

/// The machine that forms a cluster.
#[derive(Debug)]
pub struct Formation {
    id: NodeId,
    peers: BTreeSet<PeerName>,
    /// Durable.
    standing: Standing,
    /// On its way to the disk.
    recording: Option<Standing>,
    identified: BTreeMap<PeerName, NodeId>,
    /// What the identified peers said last.
    heard: BTreeMap<NodeId, Standing>,
    refusal: Option<Refusal>,
    now: Instant,
    greet_at: Instant,
    greeting_interval: Duration,
    jitter: Stream,
    outputs: VecDeque<Output>,
}

impl Formation {
    /// Starts from the durable `standing`; `peers` are the addresses of all other founding members.
    #[must_use]
    pub fn start(
        id: NodeId,
        peers: BTreeSet<PeerName>,
        standing: Standing,
        seed: Seed,
        now: Instant,
    ) -> Formation {
        let mut formation = Formation {
            id,
            peers,
            standing,
            recording: None,
            identified: BTreeMap::new(),
            heard: BTreeMap::new(),
            refusal: None,
            now,
            greet_at: now,
            greeting_interval: GREETING_INTERVAL_MIN,
            jitter: seed.stream("formation greeting", 0),
            outputs: VecDeque::new(),
        };
        formation.advance();
        formation
    }

    /// Tells the durable standing.
    #[must_use]
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Tells what stands in the way, if anything does.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        self.refusal.as_ref()
    }

    /// Checks what must hold after every step.
    ///
    /// # Panics
    ///
    /// If an invariant is broken: that is a bug of this crate.
    pub fn assert_invariants(&self) {
        assert!(self.identified.keys().all(|name| self.peers.contains(name)), "only listed peers count");
        if let Some(recording) = &self.recording {
            assert_ne!(recording, &Standing::Fresh, "a pledge is never taken back");
            assert!(!matches!(self.standing, Standing::Formed(_)), "a formed cluster stays as it is");
        }
    }

    /// Moves on if the rules allow it, or says what stands in the way.
    fn advance(&mut self) {
        if self.recording.is_some() {
            return;
        }
        match self.assess() {
            Ok(Some(next)) => {
                self.recording = Some(next.clone());
                self.outputs.push_back(Output::Record(next));
                self.refusal = None;
            }
            Ok(None) => self.refusal = None,
            Err(refusal) => {
                if self.refusal.as_ref() != Some(&refusal) {
                    self.refusal = Some(refusal.clone());
                    self.outputs.push_back(Output::Refused(refusal));
                }
            }
        }
    }

    /// The rules: what the next standing is, if there is one yet.
    fn assess(&self) -> Result<Option<Standing>, Refusal> {
        let founders = self.founders()?;
        match (&self.standing, founders) {
            (Standing::Formed(_), _) => Ok(None),
            (Standing::Fresh, founders) => {
                self.refuse_if_wiped()?;
                let Some(founders) = founders else { return Ok(None) };
                let agreed = self.is_unopposed(&founders)?;
                Ok(agreed.then_some(Standing::Pledged(founders)))
            }
            (Standing::Pledged(pledged), Some(found)) if *pledged != found => {
                Err(Refusal::PledgedToOthers { pledged: pledged.clone(), found })
            }
            (Standing::Pledged(pledged), _) => {
                Ok(self.is_agreed(pledged)?.then(|| Standing::Formed(pledged.clone())))
            }
        }
    }

    /// The voters that the list of peers gives, once all of them have been identified.
    fn founders(&self) -> Result<Option<VoterSet>, Refusal> {
        let mut names: BTreeMap<NodeId, &PeerName> = BTreeMap::new();
        for (name, node) in &self.identified {
            if *node == self.id {
                return Err(Refusal::PeerIsSelf { name: name.clone(), node: *node });
            }
            if let Some(first) = names.insert(*node, name) {
                return Err(Refusal::SamePeerTwice {
                    first: first.clone(),
                    second: name.clone(),
                    node: *node,
                });
            }
        }
        if self.identified.len() < self.peers.len() {
            return Ok(None);
        }
        Ok(VoterSet::new(names.into_keys().chain([self.id]).collect()))
    }

    /// A formed cluster knows that each of its voters once had a durable pledge; we have none.
    fn refuse_if_wiped(&self) -> Result<(), Refusal> {
        for (peer, standing) in &self.heard {
            let Standing::Formed(theirs) = standing else { continue };
            let (peer, theirs) = (*peer, theirs.clone());
            return Err(if theirs.contains(self.id) {
                Refusal::DiskWiped { peer, theirs }
            } else {
                Refusal::NotAVoter { peer, theirs }
            });
        }
        Ok(())
    }

    /// Tells whether all other founders have been heard, and none has pledged itself to others.
    fn is_unopposed(&self, ours: &VoterSet) -> Result<bool, Refusal> {
        for (peer, standing) in &self.heard {
            match standing {
                Standing::Pledged(theirs) | Standing::Formed(theirs) if theirs != ours => {
                    let (theirs, ours) = (theirs.clone(), ours.clone());
                    return Err(Refusal::OtherVoters { peer: *peer, theirs, ours });
                }
                Standing::Fresh | Standing::Pledged(_) | Standing::Formed(_) => {}
            }
        }
        Ok(ours.voters().iter().all(|voter| *voter == self.id || self.heard.contains_key(voter)))
    }

    /// Tells whether all founders are known to have pledged the same set as we.
    fn is_agreed(&self, ours: &VoterSet) -> Result<bool, Refusal> {
        let mut pledged = BTreeSet::from([self.id]);
        for (peer, standing) in &self.heard {
            match standing {
                Standing::Formed(theirs) if theirs == ours => return Ok(true),
                Standing::Pledged(theirs) if theirs == ours => {
                    pledged.insert(*peer);
                }
                Standing::Formed(theirs) | Standing::Pledged(theirs) => {
                    let (theirs, ours) = (theirs.clone(), ours.clone());
                    return Err(Refusal::OtherVoters { peer: *peer, theirs, ours });
                }
                Standing::Fresh => {}
            }
        }
        Ok(ours.voters().iter().all(|voter| pledged.contains(voter)))
    }

    fn handle_message(&mut self, from: NodeId, message: Message) {
        let standing = match message {
            Message::Greeting(standing) => {
                let answer = Message::Answer(self.standing.clone());
                self.outputs.push_back(Output::Send { to: Addressee::Node(from), message: answer });
                standing
            }
            Message::Answer(standing) => standing,
        };
        // Only those whom the list names have a say, so `heard` is bounded by that list.
        if self.identified.values().any(|node| *node == from) {
            self.heard.insert(from, standing);
        }
    }

    fn greet(&mut self) {
        for name in &self.peers {
            let message = Message::Greeting(self.standing.clone());
            self.outputs.push_back(Output::Send { to: Addressee::Address(name.clone()), message });
        }
        let interval = u64::try_from(self.greeting_interval.as_nanos()).unwrap_or(u64::MAX);
        let jittered = interval / 2 + self.jitter.below(interval);
        self.greet_at = self.now + Duration::from_nanos(jittered);
        self.greeting_interval = (self.greeting_interval * 2).min(GREETING_INTERVAL_MAX);
    }

    fn note_time(&mut self, now: Instant) {
        assert!(now >= self.now, "time went back from {} to {now}", self.now);
        self.now = now;
    }
}

impl Machine for Formation {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Instant, input: Input) {
        self.note_time(now);
        match input {
            Input::Identified { name, node } => {
                if self.peers.contains(&name) {
                    self.identified.insert(name, node);
                    self.greeting_interval = GREETING_INTERVAL_MIN;
                    self.greet_at = self.greet_at.min(now);
                }
            }
            Input::Message { from, message } => self.handle_message(from, message),
            Input::Recorded => {
                if let Some(recorded) = self.recording.take() {
                    self.standing = recorded;
                    self.greeting_interval = GREETING_INTERVAL_MIN;
                    self.greet_at = self.greet_at.min(now);
                }
            }
        }
        self.advance();
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.note_time(now);
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.greet();
        }
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<Instant> {
        let is_done = matches!(self.standing, Standing::Formed(_)) || self.peers.is_empty();
        if is_done { None } else { Some(self.greet_at) }
    }
}

#[cfg(test)]
mod tests;
