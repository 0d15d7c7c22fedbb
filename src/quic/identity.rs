//! Who a certificate says its holder is.
//!
//! The name of a node, of a client or of an operator sits in the certificate's subject alternative
//! names, so that whoever trusts the cluster's authority can trust it:
//!
//! | holder | DNS names | usable as |
//! |---|---|---|
//! | node 3 of cluster `demo` | `node-3.demo.rivven`, `demo.rivven` | server and client |
//! | an application | `client.demo.rivven` | client |
//! | a human with more rights | `operator.demo.rivven` | client |
//!
//! Whoever dials asks TLS for the name `demo.rivven`, so that a node of another cluster under the same
//! authority is refused inside the handshake. Whoever accepts reads the names once the chain is
//! verified, and refuses another cluster with a reason.

use core::fmt;

use rustls::pki_types::CertificateDer;

use crate::id::{ClusterName, NodeId};
use crate::node::Caller;

/// The end of every name.
const SUFFIX: &str = "rivven";

/// Who somebody is, and in which cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// Node, client or operator.
    pub caller: Caller,
    /// The cluster that the certificate is for.
    pub cluster: ClusterName,
}

/// A certificate that names nobody. The connection is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The peer showed no certificate at all.
    #[error("the peer showed no certificate")]
    Missing,
    /// The bytes are no certificate.
    #[error("the certificate cannot be read: {0}")]
    Unreadable(String),
    /// Issue one with `rivven-cluster certs`.
    #[error("the certificate names no node, client or operator; its names are {0:?}")]
    Nameless(Vec<String>),
}

impl Identity {
    /// Reads the identity out of a certificate whose chain has been verified.
    ///
    /// # Errors
    ///
    /// [`IdentityError`] if it names none.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Identity, IdentityError> {
        let parsed = webpki::EndEntityCert::try_from(certificate)
            .map_err(|error| IdentityError::Unreadable(error.to_string()))?;
        let names: Vec<&str> = parsed.valid_dns_names().collect();
        let found = names.iter().find_map(|name| parse(name));
        found.ok_or_else(|| IdentityError::Nameless(names.iter().map(|name| (*name).to_owned()).collect()))
    }

    /// The names that the certificate of this identity carries.
    #[must_use]
    pub(super) fn names(&self) -> Vec<String> {
        let own = |holder: &str| format!("{holder}.{}.{SUFFIX}", self.cluster);
        match self.caller {
            Caller::Node(node) => vec![node_name(node, &self.cluster), server_name(&self.cluster)],
            Caller::Client => vec![own("client")],
            Caller::Operator => vec![own("operator")],
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.caller {
            Caller::Node(node) => write!(f, "node {node} of cluster {:?}", self.cluster.as_str()),
            Caller::Client => write!(f, "a client of cluster {:?}", self.cluster.as_str()),
            Caller::Operator => write!(f, "an operator of cluster {:?}", self.cluster.as_str()),
        }
    }
}

/// The name under which every node of a cluster can be dialled.
#[must_use]
pub(super) fn server_name(cluster: &ClusterName) -> String {
    format!("{cluster}.{SUFFIX}")
}

/// The name that only the certificate of this node carries.
#[must_use]
pub(super) fn node_name(node: NodeId, cluster: &ClusterName) -> String {
    format!("node-{node}.{cluster}.{SUFFIX}")
}

fn parse(name: &str) -> Option<Identity> {
    let (holder, rest) = name.split_once('.')?;
    let cluster = rest.strip_suffix(SUFFIX)?.strip_suffix('.')?.parse().ok()?;
    let caller = match holder {
        "client" => Caller::Client,
        "operator" => Caller::Operator,
        node => Caller::Node(NodeId::new(node.strip_prefix("node-")?.parse().ok()?)?),
    };
    Some(Identity { caller, cluster })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(caller: Caller) -> Identity {
        Identity { caller, cluster: "demo".parse().unwrap() }
    }

    #[test]
    fn names_read_back_as_the_identity_they_were_made_of() {
        for caller in [Caller::Node(NodeId::new(3).unwrap()), Caller::Client, Caller::Operator] {
            let names = identity(caller).names();
            assert_eq!(parse(&names[0]), Some(identity(caller)));
        }
    }

    #[test]
    fn names_that_are_nearly_right_are_nobody() {
        for name in
            ["demo.rivven", "node-0.demo.rivven", "node-x.demo.rivven", "client.demo", "client.a.b.rivven"]
        {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
