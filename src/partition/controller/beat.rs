//! What nodes say of themselves, and what others say of them.

use serde::{Deserialize, Serialize};

use crate::id::{LogIndex, Token};
use crate::partition::metadata::command::Registration;

/// What a node tells the leader, once every [`beat_interval`](super::Settings::beat_interval).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Beat {
    /// Who it is: with this it begins a session, if it has none.
    pub registration: Registration,
    /// How far it has applied the log, and so the metadata.
    pub applied: LogIndex,
    /// Whether it is about to stop.
    pub is_leaving: bool,
}

/// What is known of a node beside its own words.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Sight {
    /// Whether it is a member of the Raft group.
    pub is_member: bool,
    /// Which disk it has, as far as the members know.
    pub token: Option<Token>,
    /// What the members hold of it, if they have ever heard of it.
    pub hint: Option<Hint>,
}

/// What gossip says of a node.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Hint {
    /// Of which process: the lower half of its boot number.
    pub boot: u32,
    /// What it is held to be.
    pub life: Life,
}

/// What the members hold a node to be.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Life {
    /// It answers.
    Alive,
    /// It does not answer, and has time to object.
    Suspect,
    /// It did not object.
    Dead,
    /// It said goodbye.
    Left,
}
