//! Names and numbers that must never be confused with each other.
//!
//! Each is a newtype with a private field: a term is not an index, and a wrong argument order does
//! not compile. Those that come from outside are checked when they are made, so that a value of the
//! type is a valid one.

use core::fmt;
use core::num::NonZeroU64;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// A node of the cluster. Never zero, and never used again once removed.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct NodeId(NonZeroU64);

impl NodeId {
    /// Makes a node id; `None` for zero, which stands for "nobody" in Raft.
    #[must_use]
    pub const fn new(id: u64) -> Option<NodeId> {
        match NonZeroU64::new(id) {
            Some(id) => Some(NodeId(id)),
            None => None,
        }
    }

    /// The id as a number.
    #[must_use]
    pub const fn value(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
        pub struct $name(u64);

        impl $name {
            /// Wraps the number.
            #[must_use]
            pub const fn new(value: u64) -> $name {
                $name(value)
            }

            /// The number itself.
            #[must_use]
            pub const fn value(self) -> u64 {
                self.0
            }

            /// The number after this one.
            ///
            /// # Panics
            ///
            /// If the numbers have run out, which takes 584 years at one a nanosecond.
            #[must_use]
            pub const fn next(self) -> $name {
                match self.0.checked_add(1) {
                    Some(next) => $name(next),
                    None => panic!("a counter ran out of numbers"),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A Raft term (Raft §5.1): a logical clock in which each value has at most one leader.
    Term
}
number! {
    /// A place in the Raft log. The first entry that a cluster writes is at 2: 1 is its birth.
    LogIndex
}
number! {
    /// The number of a write batch. Batches become durable in this order.
    WriteId
}
number! {
    /// The number of a client's request, unique in one process of a node.
    RequestId
}
number! {
    /// How often a node was started on its data folder. Durable before the first send of a process.
    BootId
}

number! {
    /// Who produces records: drawn by a producer when it starts, so that what it sends again is known again.
    ProducerId
}
number! {
    /// The number of a read from the disk, unique in one process of a node.
    ReadId
}
number! {
    /// A topic: the index of the entry that created it, so that a topic of the same name that comes later is another.
    TopicId
}

number! {
    /// A node's session: the index of the entry that registered it.
    NodeEpoch
}
number! {
    /// Since when a partition has its leader: grows with each change of it.
    LeaderEpoch
}
number! {
    /// Which record of a partition: grows with each change.
    PartitionEpoch
}

number! {
    /// The place of a record in the log of a partition, from 0. The *end* of a log is the place of the record that comes
    /// next.
    Offset
}

impl Offset {
    /// The place so many records later; the last place there is, if they are too many.
    #[must_use]
    pub const fn plus(self, records: u64) -> Offset {
        Offset(self.0.saturating_add(records))
    }
}

number! {
    /// Tells one disk of a node from another: drawn at random before the node joins a cluster, and kept on
    /// the disk. Founders have none, 0, since their pledge is their proof.
    Token
}

/// One part of a topic.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct PartitionId {
    /// Of which topic.
    pub topic: TopicId,
    /// Which of its parts, from 0.
    pub number: u32,
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.number)
    }
}

/// The name of a cluster: a DNS label, since certificates carry it.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterName(String);

impl ClusterName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClusterName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<ClusterName, NameError> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let bytes = text.as_bytes();
        let edges = [bytes.first(), bytes.last()];
        if text.is_empty() || text.len() > 63 || !bytes.iter().copied().all(allowed) {
            return Err(NameError::Cluster(text.to_owned()));
        }
        if edges.contains(&Some(&b'-')) {
            return Err(NameError::Cluster(text.to_owned()));
        }
        Ok(ClusterName(text.to_owned()))
    }
}

/// The address of a peer as an operator writes it: `host:port`, resolved each time it is dialled.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct PeerName(String);

impl PeerName {
    /// The name as text, `host:port`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host, without the port (and without the brackets of an IPv6 address).
    #[must_use]
    pub fn host(&self) -> &str {
        let host = self.0.rsplit_once(':').map_or(self.0.as_str(), |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or_default()
    }
}

impl FromStr for PeerName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<PeerName, NameError> {
        let wrong = || NameError::Peer(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port: u16 = port.parse().map_err(|_| wrong())?;
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let host_fits = host.len() <= 255 && !host.is_empty() && !host.contains(char::is_whitespace);
        if port == 0 || !host_fits || (host.contains(':') && !bracketed) {
            return Err(wrong());
        }
        Ok(PeerName(text.to_owned()))
    }
}

/// A text that is not the name it should be. Nothing was changed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Choose another cluster name.
    #[error("{0:?} is no cluster name: use 1 to 63 of a-z, 0-9 and '-', with no '-' at either end")]
    Cluster(String),
    /// Write the peer as `host:port`.
    #[error("{0:?} is no peer address: write it as host:port, with a port from 1 to 65535")]
    Peer(String),
}

macro_rules! text {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<$name, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

text!(ClusterName);
text!(PeerName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_no_node() {
        assert_eq!(NodeId::new(0), None);
        assert_eq!(NodeId::new(3).map(NodeId::value), Some(3));
    }

    #[test]
    fn a_cluster_name_is_a_dns_label() {
        assert!("demo-1".parse::<ClusterName>().is_ok());
        for wrong in ["", "Demo", "a.b", "-a", "a-", "a b", &"x".repeat(64)] {
            assert_eq!(wrong.parse::<ClusterName>(), Err(NameError::Cluster(wrong.to_owned())));
        }
    }

    #[test]
    fn a_peer_name_is_a_host_and_a_port() {
        let peer: PeerName = "node2:9093".parse().unwrap();
        assert_eq!((peer.host(), peer.port()), ("node2", 9093));
        let peer: PeerName = "[::1]:9093".parse().unwrap();
        assert_eq!((peer.host(), peer.port()), ("::1", 9093));
        for wrong in ["node2", ":9093", "node2:", "node2:0", "node2:99999", "a b:1", "::1:9093"] {
            assert_eq!(wrong.parse::<PeerName>(), Err(NameError::Peer(wrong.to_owned())));
        }
    }
}
