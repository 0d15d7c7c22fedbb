//! What a client asks of the metadata: all of it, what comes after, and changes.

use super::client::{Client, ClientError};
use crate::id::{LogIndex, NodeId};
use crate::node::{Rejection, Reply, Request};
use crate::partition::controller::Explanation;
use crate::partition::metadata::{Command, Metadata, Outcome, Refusal};
use crate::raft::Position;
use crate::session::Proposal;
use crate::wire::codec;

/// What became of a command to the metadata.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ordered {
    /// Where it stands in the log.
    pub at: Position,
    /// What it led to.
    pub answer: Result<Outcome, Refusal>,
}

/// Commands to the metadata.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Followed {
    /// There are no others up to this index.
    pub applied: LogIndex,
    /// Each, and where it stands; those that were refused are left out.
    pub commands: Vec<(LogIndex, Command)>,
}

#[expect(clippy::wildcard_enum_match_arm, reason = "a reply of any other kind is equally wrong")]
impl Client {
    /// Fetches the metadata, with everything that was acknowledged before, and up to which index that is.
    ///
    /// # Errors
    ///
    /// As [`Client::query`].
    pub async fn metadata(&self) -> Result<(LogIndex, Metadata), ClientError> {
        match self.carry_out(|| Request::Metadata, true).await {
            Ok(Reply::Metadata { applied, state }) => {
                let metadata = codec::decode_state(&state);
                Ok((applied, metadata.map_err(|error| ClientError::Answer(error.to_string()))?))
            }
            Ok(other) => Err(unexpected(&other)),
            Err(ClientError::Unknown(reason)) => Err(ClientError::Unavailable(reason)),
            Err(error) => Err(error),
        }
    }

    /// Has a command to the metadata committed and executed. It is sent again when its answer is lost: it names what it
    /// has seen, so a copy changes nothing, but the answer may be the one to a copy: that a topic is gone, or a count another
    /// one, may be what this command has done. Clients may change topics; for the rest it takes an operator's certificate.
    ///
    /// # Errors
    ///
    /// As [`Client::propose`]; that the command was refused is an [answer](Ordered::answer).
    pub async fn order(&self, command: Command) -> Result<Ordered, ClientError> {
        let proposal = Proposal::Metadata(Box::new(command));
        match self.carry_out(|| Request::Propose(proposal.clone()), true).await? {
            Reply::Ordered { at, answer } => Ok(Ordered { at, answer: *answer }),
            other => Err(unexpected(&other)),
        }
    }

    /// The commands to the metadata after `after`, each with its index, and up to where these are all; waits a few seconds
    /// for one. `None` if so old ones are not kept any more: then [fetch](Client::metadata) it anew.
    ///
    /// # Errors
    ///
    /// As [`Client::query`].
    pub async fn follow(&self, after: LogIndex) -> Result<Option<Followed>, ClientError> {
        match self.carry_out(|| Request::FollowMetadata { after }, true).await {
            Ok(Reply::Followed { applied, commands }) => Ok(Some(Followed { applied, commands })),
            Ok(other) => Err(unexpected(&other)),
            Err(ClientError::Rejected(Rejection::Forgotten)) => Ok(None),
            Err(ClientError::Unknown(reason)) => Err(ClientError::Unavailable(reason)),
            Err(error) => Err(error),
        }
    }

    /// Asks the leader what its controller makes of a node, and why.
    ///
    /// # Errors
    ///
    /// As [`Client::query`]; [`Rejection::NoPartitions`] if the leader takes no part in partitioning.
    pub async fn explain(&self, node: NodeId) -> Result<Explanation, ClientError> {
        match self.carry_out(|| Request::Explain { node }, true).await? {
            Reply::Explained(explanation) => Ok(*explanation),
            other => Err(unexpected(&other)),
        }
    }
}

fn unexpected(reply: &Reply) -> ClientError {
    ClientError::Answer(format!("{reply:?}"))
}
