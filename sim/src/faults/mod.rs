//! What goes wrong: faults as data, with a time and a target, and the count of what they did.
//!
//! A fault counts only when it had an effect: a message was dropped by it, a block was lost by it. A
//! kind of fault that never had one tests nothing, and a sweep says so.

mod draw;
mod effects;
mod kind;
mod weather;

use std::fmt;

use crate::device::Cut;
use serde::{Deserialize, Serialize};

pub use self::draw::{budget, damaged_nodes, lost_nodes, plan, voters_taken};
pub use self::effects::Effects;
pub use self::kind::FaultKind;
pub use self::weather::{Damage, Fate, Host, Weather};

/// One fault. Nodes are numbered from 1; a share is of a thousand; times are in milliseconds.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// A share of all messages vanishes.
    Loss {
        /// Of a thousand.
        permille: u64,
    },
    /// A share of all messages arrives twice.
    Duplication {
        /// Of a thousand.
        permille: u64,
    },
    /// A share of all messages is overtaken by later ones.
    Reordering {
        /// Of a thousand.
        permille: u64,
        /// By how much they are late, in milliseconds.
        most: u64,
    },
    /// Every message is late.
    Delay {
        /// By up to so many milliseconds.
        most: u64,
    },
    /// What goes from one node to another waits until the fault ends.
    Clog {
        /// The sender.
        from: u64,
        /// The receiver.
        to: u64,
    },
    /// A share of all messages arrives with changed bytes.
    Corruption {
        /// Of a thousand.
        permille: u64,
    },
    /// A share of all messages arrives cut short.
    Truncation {
        /// Of a thousand.
        permille: u64,
    },
    /// Large messages from and to one node vanish.
    MtuBlackHole {
        /// The longest that gets through, in bytes.
        bytes: u64,
        /// The node.
        node: u64,
    },
    /// These nodes and the others do not reach each other.
    Partition {
        /// The nodes.
        island: Vec<u64>,
    },
    /// Nothing from the one reaches the other.
    OneWay {
        /// The node that is not heard.
        from: u64,
        /// The node that does not hear it.
        to: u64,
    },
    /// Two halves reach each other through one node only.
    Bridge {
        /// The node between the halves.
        bridge: u64,
        /// One half; the other nodes are the other.
        left: Vec<u64>,
    },
    /// Each node reaches only the node before it and the one after it.
    Ring,
    /// One node reaches nobody, not even clients.
    Isolation {
        /// The node.
        node: u64,
    },
    /// The path between two nodes breaks and heals, again and again.
    Flapping {
        /// One of the two.
        first: u64,
        /// The other.
        second: u64,
        /// How long it stays broken, and then whole, in milliseconds.
        period: u64,
    },
    /// A share of all messages between nodes reaches a third node as well.
    Misdelivery {
        /// Of a thousand.
        permille: u64,
    },
    /// One node says, besides what it has to, what no correct node says.
    Forgery {
        /// The liar.
        node: u64,
    },
    /// A node loses power, and what its disk had not synced.
    PowerLoss {
        /// The node.
        node: u64,
    },
    /// A node loses power; of each unfinished write any subset of blocks is there.
    TornWrites {
        /// The node.
        node: u64,
    },
    /// A node loses power; later unsynced writes are there, earlier ones are not.
    ReorderedWrites {
        /// The node.
        node: u64,
    },
    /// A node's process is killed; what it has written stays.
    Restart {
        /// The node.
        node: u64,
    },
    /// A node's process is killed, and its disk emptied.
    DiskWiped {
        /// The node.
        node: u64,
    },
    /// A node's process is killed, and its disk replaced by what it was some time before.
    OldDisk {
        /// The node.
        node: u64,
        /// How old the disk's content is, in milliseconds.
        age: u64,
    },
    /// A node's process stands still.
    Pause {
        /// The node.
        node: u64,
    },
    /// A node's clock jumps ahead when the fault begins.
    ClockJump {
        /// The node.
        node: u64,
        /// By how much, in milliseconds.
        ahead: u64,
    },
    /// A node's clock is fast or slow.
    ClockDrift {
        /// The node.
        node: u64,
        /// By how much, in parts of a million.
        ppm: i64,
    },
    /// A node's disk is slow.
    SlowSync {
        /// The node.
        node: u64,
        /// The longest sync, in milliseconds.
        most: u64,
    },
    /// The next sync of a node's disk fails, and its data is gone.
    FailedSync {
        /// The node.
        node: u64,
    },
    /// A node's disk takes nothing more.
    FullDisk {
        /// The node.
        node: u64,
    },
    /// Reads of a node's disk fail.
    ReadErrors {
        /// The node.
        node: u64,
    },
    /// A write of a node's disk goes to a wrong place.
    Misdirection {
        /// The node.
        node: u64,
    },
    /// Bits of a node's disk change, and stay so.
    BitRot {
        /// The node.
        node: u64,
    },
    /// An operator removes a member, and lets a learner, if there is one, decide in its place.
    Removal {
        /// The member.
        node: u64,
    },
    /// An operator demotes a voter, and with it the one after it, if that leaves enough.
    Demotion {
        /// The voter.
        node: u64,
    },
    /// An operator wants a node to lead.
    HandOver {
        /// The node.
        node: u64,
    },
}

impl Fault {
    /// The one node whose process, clock or disk is struck; `None` for what strikes the network.
    pub fn struck(&self) -> Option<u64> {
        match self {
            Fault::PowerLoss { node }
            | Fault::TornWrites { node }
            | Fault::ReorderedWrites { node }
            | Fault::Restart { node }
            | Fault::DiskWiped { node }
            | Fault::OldDisk { node, .. }
            | Fault::Pause { node }
            | Fault::ClockJump { node, .. }
            | Fault::ClockDrift { node, .. }
            | Fault::SlowSync { node, .. }
            | Fault::FailedSync { node }
            | Fault::FullDisk { node }
            | Fault::ReadErrors { node }
            | Fault::Misdirection { node }
            | Fault::BitRot { node }
            | Fault::Removal { node }
            | Fault::Demotion { node }
            | Fault::HandOver { node } => Some(*node),
            Fault::Loss { .. }
            | Fault::Duplication { .. }
            | Fault::Reordering { .. }
            | Fault::Delay { .. }
            | Fault::Clog { .. }
            | Fault::Corruption { .. }
            | Fault::Truncation { .. }
            | Fault::MtuBlackHole { .. }
            | Fault::Partition { .. }
            | Fault::OneWay { .. }
            | Fault::Bridge { .. }
            | Fault::Ring
            | Fault::Isolation { .. }
            | Fault::Flapping { .. }
            | Fault::Misdelivery { .. }
            | Fault::Forgery { .. } => None,
        }
    }

    /// Whether all its numbers are in their ranges; which nodes there are is not looked at.
    #[must_use]
    #[expect(clippy::wildcard_enum_match_arm, reason = "the others have no numbers but those of nodes")]
    pub fn has_sound_sizes(&self) -> bool {
        const HOUR: u64 = 3_600_000;
        match self {
            Fault::Loss { permille }
            | Fault::Duplication { permille }
            | Fault::Corruption { permille }
            | Fault::Truncation { permille }
            | Fault::Misdelivery { permille } => *permille <= 1000,
            Fault::Reordering { permille, most } => *permille <= 1000 && *most <= HOUR,
            Fault::Delay { most } => *most <= HOUR,
            Fault::Flapping { period, .. } => (1..=HOUR).contains(period),
            Fault::OldDisk { age, .. } => (1..=HOUR).contains(age),
            Fault::ClockJump { ahead, .. } => *ahead <= HOUR,
            Fault::ClockDrift { ppm, .. } => (-900_000..=900_000).contains(ppm),
            Fault::SlowSync { most, .. } => (1..=HOUR).contains(most),
            _ => true,
        }
    }

    /// What a loss of power leaves of the writes under way.
    #[must_use]
    pub fn power_cut(&self) -> Cut {
        let kind = self.kind();
        if kind == FaultKind::TornWrites {
            Cut::Torn
        } else if kind == FaultKind::ReorderedWrites {
            Cut::Reordered
        } else {
            Cut::Lost
        }
    }

    /// All nodes that it names.
    pub fn nodes(&self) -> Vec<u64> {
        match self {
            Fault::Clog { from, to } | Fault::OneWay { from, to } => vec![*from, *to],
            Fault::Partition { island } => island.clone(),
            Fault::Bridge { bridge, left } => left.iter().copied().chain([*bridge]).collect(),
            Fault::Flapping { first, second, .. } => vec![*first, *second],
            Fault::MtuBlackHole { node, .. } | Fault::Isolation { node } | Fault::Forgery { node } => {
                vec![*node]
            }
            Fault::Loss { .. }
            | Fault::Duplication { .. }
            | Fault::Reordering { .. }
            | Fault::Delay { .. }
            | Fault::Corruption { .. }
            | Fault::Truncation { .. }
            | Fault::Ring
            | Fault::Misdelivery { .. } => Vec::new(),
            Fault::PowerLoss { .. }
            | Fault::TornWrites { .. }
            | Fault::ReorderedWrites { .. }
            | Fault::Restart { .. }
            | Fault::DiskWiped { .. }
            | Fault::OldDisk { .. }
            | Fault::Pause { .. }
            | Fault::ClockJump { .. }
            | Fault::ClockDrift { .. }
            | Fault::SlowSync { .. }
            | Fault::FailedSync { .. }
            | Fault::FullDisk { .. }
            | Fault::ReadErrors { .. }
            | Fault::Misdirection { .. }
            | Fault::BitRot { .. }
            | Fault::Removal { .. }
            | Fault::Demotion { .. }
            | Fault::HandOver { .. } => self.struck().into_iter().collect(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Loss { permille } => write!(f, "{permille} of 1000 messages are lost"),
            Fault::Duplication { permille } => write!(f, "{permille} of 1000 messages arrive twice"),
            Fault::Reordering { permille, most } => {
                write!(f, "{permille} of 1000 messages are overtaken, by up to {most} ms")
            }
            Fault::Delay { most } => write!(f, "messages are up to {most} ms late"),
            Fault::Clog { from, to } => write!(f, "what node {from} sends to node {to} waits"),
            Fault::Corruption { permille } => write!(f, "{permille} of 1000 messages are corrupted"),
            Fault::Truncation { permille } => write!(f, "{permille} of 1000 messages are cut short"),
            Fault::MtuBlackHole { bytes, node } => {
                write!(f, "node {node} neither sends nor hears messages above {bytes} bytes")
            }
            Fault::Partition { island } => write!(f, "nodes {island:?} are cut off"),
            Fault::OneWay { from, to } => write!(f, "node {to} does not hear node {from}"),
            Fault::Bridge { bridge, left } => {
                write!(f, "nodes {left:?} reach the rest only through node {bridge}")
            }
            Fault::Ring => f.write_str("each node reaches only its two neighbours"),
            Fault::Isolation { node } => write!(f, "node {node} reaches nobody"),
            Fault::Flapping { first, second, period } => {
                write!(f, "nodes {first} and {second} lose and find each other every {period} ms")
            }
            Fault::Misdelivery { permille } => {
                write!(f, "{permille} of 1000 messages reach a wrong node, too")
            }
            Fault::Forgery { node } => write!(f, "node {node} lies"),
            Fault::PowerLoss { node } => write!(f, "node {node} loses power"),
            Fault::TornWrites { node } => write!(f, "node {node} loses power, its last writes are torn"),
            Fault::ReorderedWrites { node } => {
                write!(f, "node {node} loses power, its last writes are reordered")
            }
            Fault::Restart { node } => write!(f, "node {node} is killed"),
            Fault::DiskWiped { node } => write!(f, "node {node} is killed and its disk emptied"),
            Fault::OldDisk { node, age } => write!(f, "node {node} gets its disk of {age} ms ago"),
            Fault::Pause { node } => write!(f, "node {node} stands still"),
            Fault::ClockJump { node, ahead } => write!(f, "the clock of node {node} jumps {ahead} ms ahead"),
            Fault::ClockDrift { node, ppm } => write!(f, "the clock of node {node} drifts by {ppm} ppm"),
            Fault::SlowSync { node, most } => write!(f, "syncs of node {node} take up to {most} ms"),
            Fault::FailedSync { node } => write!(f, "a sync of node {node} fails"),
            Fault::FullDisk { node } => write!(f, "the disk of node {node} is full"),
            Fault::ReadErrors { node } => write!(f, "the disk of node {node} cannot be read"),
            Fault::Misdirection { node } => write!(f, "a write of node {node} goes to a wrong place"),
            Fault::BitRot { node } => write!(f, "bits rot on the disk of node {node}"),
            Fault::Removal { node } => write!(f, "an operator removes node {node}"),
            Fault::Demotion { node } => write!(f, "an operator demotes node {node}"),
            Fault::HandOver { node } => write!(f, "an operator wants node {node} to lead"),
        }
    }
}

/// A fault and the time for which it lasts, in milliseconds from the start of the run.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Window {
    /// Its number in the plan. Its random draws depend on it, so it stays when others are removed.
    pub id: u64,
    /// When it begins.
    pub begins: u64,
    /// When it ends.
    pub ends: u64,
    /// What goes wrong.
    pub fault: Fault,
}
