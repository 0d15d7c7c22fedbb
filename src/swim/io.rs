//! What a member is told, and what it asks for.

use core::fmt;
use core::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::epoch::Epoch;
use super::member::{Record, State};
use crate::id::{NodeId, PeerName};
use crate::time::WallSeconds;

/// Whom to send to: an address, and who is expected there, if known.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Target {
    /// Who is expected.
    pub id: Option<NodeId>,
    /// Where.
    pub address: SocketAddr,
}

/// Numbers the questions that this member asks.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct CallId(pub u64);

/// What happened to a member.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Input {
    /// A datagram came. Its buffer is used again for one of ours.
    Datagram {
        /// Who sent it, by its certificate.
        from: NodeId,
        /// The address that it came from, which an answer can go to.
        via: SocketAddr,
        /// What it says.
        bytes: Vec<u8>,
    },
    /// A question came on a stream.
    Asked {
        /// Goes back with the answer.
        call: CallId,
        /// Who asks, by its certificate.
        from: NodeId,
        /// What it asks.
        question: Question,
    },
    /// The answer to a question of ours came.
    Answered {
        /// Which question.
        call: CallId,
        /// Who answered, by its certificate.
        from: NodeId,
        /// The answer.
        answer: Answer,
    },
    /// A question of ours gets no answer.
    Unanswered {
        /// Which question.
        call: CallId,
    },
    /// The addresses of a seed.
    Resolved {
        /// Of which one.
        name: PeerName,
        /// Its addresses; none if it cannot be resolved now.
        addresses: Vec<SocketAddr>,
    },
    /// Somebody gossips at this address, as it says itself by another way. Unless it is held live, it is asked
    /// to let us in: two parts of a cluster that share no seed find each other like this.
    Met {
        /// Who, by its certificate.
        id: NodeId,
        /// Where.
        address: SocketAddr,
    },
    /// What the wall clock says; coarsely, every few seconds. Epochs of others are judged by it.
    WallClock(WallSeconds),
    /// Others are to know this of us from now on.
    Describe(Vec<u8>),
    /// Say goodbye, then stop.
    Leave,
}

/// What a member asks for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Output {
    /// Send a datagram; drop it rather than queue it.
    Datagram {
        /// To whom.
        to: Target,
        /// What it says.
        bytes: Vec<u8>,
    },
    /// Ask on a stream.
    Ask {
        /// Comes back with the answer, or with the news that there is none.
        call: CallId,
        /// Whom.
        to: Target,
        /// What.
        question: Question,
    },
    /// Answer what was [asked](Input::Asked).
    Answer {
        /// Which question.
        call: CallId,
        /// The answer.
        answer: Answer,
    },
    /// Find out the addresses of a seed.
    Resolve(PeerName),
    /// Tell the application.
    Event(Event),
}

/// A member's word of itself, with its metadata if that is short.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Card {
    /// The word.
    pub record: Record,
    /// Its metadata, or empty: it has none, or it must be fetched.
    pub metadata: Vec<u8>,
}

/// What is known of a member, without where it is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Known {
    /// Of whom.
    pub id: NodeId,
    /// As of which epoch.
    pub epoch: Epoch,
    /// What it is held to be.
    pub state: State,
    /// A hash of its word: one epoch has one word, unless somebody lies or two speak.
    pub word: u32,
}

/// What is asked on a stream.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Question {
    /// Let me in; this is me.
    Join(Card),
    /// Are you there? Asked when a datagram was not answered: some paths lose just those.
    Ping,
    /// Where do our tables differ? With the parts of the asker's membership hash.
    Digest(Vec<u64>),
    /// Give me these, take those, and tell these that I hold them dead.
    Exchange {
        /// Whose word is wanted.
        wanted: Vec<NodeId>,
        /// Words that the other side lacks.
        cards: Vec<Card>,
        /// Members of the other side that are held dead here.
        accused: Vec<(NodeId, Epoch)>,
    },
    /// What is your metadata?
    Metadata,
}

/// What is answered.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Answer {
    /// You are in.
    Welcome {
        /// Who answers, and some of the others.
        cards: Vec<Card>,
        /// What was known of the joiner: it has to begin above this.
        known: Option<(Epoch, u32)>,
    },
    /// Not now: you ask too much.
    Refused,
    /// I am there.
    Pong,
    /// This is what I know, in these buckets.
    Differences {
        /// The buckets.
        buckets: Vec<u8>,
        /// All that is known in them.
        known: Vec<Known>,
    },
    /// What was wanted, and who of the asker's side is held dead here.
    Exchanged {
        /// The words that were wanted.
        cards: Vec<Card>,
        /// Members of the asker's side that are held dead here.
        accused: Vec<(NodeId, Epoch)>,
    },
    /// My metadata.
    Metadata {
        /// Its version.
        version: u32,
        /// Itself.
        bytes: Vec<u8>,
    },
}

/// What the application hears. It can always read the members anew instead.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub enum Event {
    /// A member that was not known before.
    Joined(NodeId),
    /// It changed what it says of itself.
    Updated(NodeId),
    /// It did not answer somebody.
    Suspected(NodeId),
    /// It answered the suspicion.
    Cleared(NodeId),
    /// Its time to answer ran out.
    Dead(NodeId),
    /// It said goodbye. Of ourselves: we have left.
    Left(NodeId),
    /// It was dead or had left, and is back.
    Rejoined(NodeId),
    /// It is somewhere else.
    AddressChanged(NodeId),
    /// Two processes have this id.
    IdConflict(NodeId),
    /// It answers others but not us: the path between us works one way, or not at all.
    LinkDegraded(NodeId),
    /// So much of a zone stopped to answer at once that the network is the likelier cause.
    ZoneUnreachable(u16),
    /// Nobody answers any more.
    Isolated,
    /// Somebody answers again.
    Reconnected,
    /// How slow we are ourselves, from 0 (healthy) (Lifeguard §4.1: LHM).
    HealthChanged(u32),
    /// Those we hear agree with us on who is a member; the membership hash.
    Converged(u64),
    /// There is more news than can be passed on; tables are compared instead. How many pieces.
    BacklogHigh(usize),
    /// It speaks another version.
    VersionMismatch(NodeId),
    /// Another process with our id is to stay; this one says nothing any more.
    Fenced,
}

/// Where a member is in its life.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Lifecycle {
    /// It knows nobody and has nobody to ask.
    Idle,
    /// It asks its seeds to be let in.
    Joining,
    /// It is a member.
    Active,
    /// All others are dead, it seems; it goes on trying.
    Isolated,
    /// It is saying goodbye.
    Leaving,
    /// It has said goodbye.
    Gone,
    /// It gave way to another process with its id.
    Fenced,
}

impl fmt::Display for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lifecycle::Idle => "idle",
            Lifecycle::Joining => "joining",
            Lifecycle::Active => "active",
            Lifecycle::Isolated => "isolated",
            Lifecycle::Leaving => "leaving",
            Lifecycle::Gone => "gone",
            Lifecycle::Fenced => "fenced",
        })
    }
}

/// A member as another sees it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Member {
    /// Its own word.
    pub record: Record,
    /// What it is held to be.
    pub state: State,
    /// Since when, in seconds of the driver's time.
    pub since: u32,
}
