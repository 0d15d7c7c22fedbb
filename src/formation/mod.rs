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
//! address has been identified. Nodes tell each other which set that gives, and each step is durable before
//! anybody hears of it:
//!
//! ```text
//!   Fresh ──all peers name the same voters──► Pledged(voters) ──all pledged the same──► Formed(voters)
//!     │                                           └─────────one peer Formed the same──────┘
//!     └──a peer belongs to a cluster without us──► Joining ──taken in, and a snapshot saved──► Joined
//!   Damaged ──a peer belongs to a cluster─────────────┘
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
//! The rules are in `Formation::assess`, one `match`. What it does not do: how a cluster takes in a node that is
//! `Joining` is told in `node/join.rs`; this machine only keeps its standing.

mod refusal;
mod standing;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::id::{NodeId, PeerName, Token};
use crate::machine::Machine;
use crate::rng::{Seed, Stream};
use crate::time::Instant;

pub use self::refusal::Refusal;
pub use self::standing::{Standing, VoterSet};

/// The shortest time between two greetings to a peer.
const GREETING_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// The longest time between two greetings to a peer.
const GREETING_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// What nodes say to each other before they are a cluster, and to latecomers after.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Message {
    /// "This is how far I am, and where you reach me. And you?"
    Greeting {
        /// How far.
        standing: Standing,
        /// The voters that its list of peers gives, once it knows all of them.
        names: Option<VoterSet>,
        /// Where to answer.
        address: PeerName,
    },
    /// "This is how far I am."
    Answer {
        /// How far.
        standing: Standing,
        /// The voters that its list of peers gives, once it knows all of them.
        names: Option<VoterSet>,
    },
}

/// Whom a message is for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Addressee {
    /// Whoever answers at this address.
    Address(PeerName),
    /// A node that spoke to us.
    Node(NodeId),
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
    /// The cluster that this node was `Joining` has taken it in.
    TakenIn,
    /// Its cluster has put this node out.
    PutOut,
    /// The cluster that this node was `Joining` says why it does not take it in.
    Refused(Refusal),
}

/// What the machine asks for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
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
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Formation {
    id: NodeId,
    address: PeerName,
    peers: BTreeSet<PeerName>,
    /// Durable.
    standing: Standing,
    /// On its way to the disk.
    recording: Option<Standing>,
    identified: BTreeMap<PeerName, NodeId>,
    /// What the identified peers said last: how far they are, and which voters they name.
    heard: BTreeMap<NodeId, (Standing, Option<VoterSet>)>,
    refusal: Option<Refusal>,
    now: Instant,
    greet_at: Instant,
    greeting_interval: Duration,
    jitter: Stream,
    tokens: Stream,
    outputs: VecDeque<Output>,
}

impl Formation {
    /// Starts from the durable `standing`; `address` is where others reach this node, and `peers` are the
    /// addresses of all other founding members, or of some members of a cluster that exists.
    #[must_use]
    pub fn start(
        id: NodeId,
        address: PeerName,
        peers: BTreeSet<PeerName>,
        standing: Standing,
        seed: Seed,
        now: Instant,
    ) -> Formation {
        let mut formation = Formation {
            id,
            address,
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
            tokens: seed.stream("formation token", 0),
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
            let stays = self.standing.cluster().is_none() || *recording == Standing::Removed;
            assert!(stays, "a cluster is left only for good");
        }
    }

    /// Moves on if the rules allow it, or says what stands in the way.
    fn advance(&mut self) {
        if self.recording.is_some() {
            return;
        }
        match self.assess() {
            Ok(Some(next)) => self.record(next),
            // What a cluster says to whom it does not take in stands until it says something else.
            Ok(None) if matches!(self.standing, Standing::Joining { .. }) => {}
            Ok(None) => self.refusal = None,
            Err(refusal) => self.refuse(refusal),
        }
    }

    fn record(&mut self, next: Standing) {
        self.recording = Some(next.clone());
        self.outputs.push_back(Output::Record(next));
        self.refusal = None;
    }

    fn refuse(&mut self, refusal: Refusal) {
        if self.refusal.as_ref() != Some(&refusal) {
            self.refusal = Some(refusal.clone());
            self.outputs.push_back(Output::Refused(refusal));
        }
    }

    /// The rules: what the next standing is, if there is one yet.
    fn assess(&mut self) -> Result<Option<Standing>, Refusal> {
        if self.standing.cluster().is_some()
            || matches!(self.standing, Standing::Joining { .. } | Standing::Removed)
        {
            return Ok(None);
        }
        let founders = self.founders()?;
        match (&self.standing, founders) {
            (Standing::Damaged, _) => {
                let cluster = self.cluster_of_peers().map(|(_, cluster)| cluster);
                let cluster = cluster.ok_or(Refusal::Damaged)?;
                Ok(Some(Standing::Joining { cluster, token: self.draw_token(), repairs: true }))
            }
            (Standing::Fresh, founders) => {
                if let Some((peer, cluster)) = self.cluster_of_peers() {
                    // It knows that each of its founders once had a durable pledge; we have none.
                    if cluster.contains(self.id) {
                        return Err(Refusal::DiskWiped { peer, theirs: cluster });
                    }
                    return Ok(Some(Standing::Joining { cluster, token: self.draw_token(), repairs: false }));
                }
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
            (
                Standing::Formed(_) | Standing::Joined { .. } | Standing::Joining { .. } | Standing::Removed,
                _,
            ) => Ok(None),
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

    /// A listed peer that belongs to a cluster, and that cluster.
    fn cluster_of_peers(&self) -> Option<(NodeId, VoterSet)> {
        let mut peers = self.heard.iter();
        peers.find_map(|(peer, (standing, _))| Some((*peer, standing.cluster()?.clone())))
    }

    /// Never 0, which is the founders'.
    fn draw_token(&mut self) -> Token {
        Token::new(self.tokens.draw() | 1)
    }

    /// Tells whether all other founders name the same voters, or have pledged themselves to them.
    fn is_unopposed(&self, ours: &VoterSet) -> Result<bool, Refusal> {
        let mut agreed = BTreeSet::from([self.id]);
        for (peer, (standing, names)) in &self.heard {
            let theirs = match standing {
                Standing::Pledged(theirs) => Some(theirs),
                Standing::Fresh => names.as_ref(),
                // It has a past, and founds nothing.
                Standing::Formed(_)
                | Standing::Joining { .. }
                | Standing::Joined { .. }
                | Standing::Damaged
                | Standing::Removed => None,
            };
            match theirs {
                Some(theirs) if theirs == ours => {
                    agreed.insert(*peer);
                }
                Some(theirs) => {
                    let (theirs, ours) = (theirs.clone(), ours.clone());
                    return Err(Refusal::OtherVoters { peer: *peer, theirs, ours });
                }
                None => {}
            }
        }
        Ok(ours.voters().iter().all(|voter| agreed.contains(voter)))
    }

    /// Tells whether all founders are known to have pledged the same set as we.
    fn is_agreed(&self, ours: &VoterSet) -> Result<bool, Refusal> {
        let mut pledged = BTreeSet::from([self.id]);
        for (peer, (standing, _)) in &self.heard {
            match standing {
                Standing::Formed(theirs) | Standing::Joined { cluster: theirs, .. } if theirs == ours => {
                    return Ok(true);
                }
                Standing::Pledged(theirs) if theirs == ours => {
                    pledged.insert(*peer);
                }
                Standing::Formed(theirs)
                | Standing::Joined { cluster: theirs, .. }
                | Standing::Pledged(theirs) => {
                    let (theirs, ours) = (theirs.clone(), ours.clone());
                    return Err(Refusal::OtherVoters { peer: *peer, theirs, ours });
                }
                Standing::Fresh | Standing::Joining { .. } | Standing::Damaged | Standing::Removed => {}
            }
        }
        Ok(ours.voters().iter().all(|voter| pledged.contains(voter)))
    }

    fn handle_message(&mut self, from: NodeId, message: Message) {
        let said = match message {
            Message::Greeting { standing, names, .. } => {
                let answer = Message::Answer { standing: self.standing.clone(), names: self.names() };
                self.outputs.push_back(Output::Send { to: Addressee::Node(from), message: answer });
                (standing, names)
            }
            Message::Answer { standing, names } => (standing, names),
        };
        // Only those whom the list names have a say, so `heard` is bounded by that list.
        if self.identified.values().any(|node| *node == from) {
            self.heard.insert(from, said);
        }
    }

    fn names(&self) -> Option<VoterSet> {
        self.founders().ok().flatten()
    }

    fn greet(&mut self) {
        for name in &self.peers {
            let (standing, names, address) = (self.standing.clone(), self.names(), self.address.clone());
            let message = Message::Greeting { standing, names, address };
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
            Input::TakenIn => {
                if let (None, Standing::Joining { cluster, token, .. }) = (&self.recording, &self.standing) {
                    let (cluster, token) = (cluster.clone(), *token);
                    self.record(Standing::Joined { cluster, token });
                }
            }
            Input::PutOut => {
                if self.recording.is_none() && self.standing.cluster().is_some() {
                    self.record(Standing::Removed);
                }
            }
            Input::Refused(refusal) => {
                if matches!(self.standing, Standing::Joining { .. }) {
                    self.refuse(refusal);
                }
            }
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
        let is_done = self.standing.cluster().is_some()
            || matches!(self.standing, Standing::Joining { .. } | Standing::Removed)
            || self.peers.is_empty();
        if is_done { None } else { Some(self.greet_at) }
    }
}

#[cfg(test)]
mod tests;
