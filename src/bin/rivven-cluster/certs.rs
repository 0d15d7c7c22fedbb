//! `certs`: everything that a cluster needs to prove itself, in one folder.

use std::path::{Path, PathBuf};

use rivven_cluster::id::{ClusterName, NodeId};
use rivven_cluster::node::Caller;
use rivven_cluster::quic::{Authority, Identity};

use crate::Failure;

/// Certificates are PEM files: `ca.pem`, `node-1.pem`, `node-1.key`, and so on. An authority that is
/// already in the folder is used again, so that nodes can be added later; keep `ca.key` secret.
#[derive(clap::Args)]
pub struct Options {
    /// The name of the cluster: 1 to 63 of a-z, 0-9 and '-'.
    #[arg(long)]
    cluster: ClusterName,
    /// The folder for the files; made if it does not exist.
    #[arg(long)]
    out: PathBuf,
    /// The ids of the nodes, separated by commas.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 3])]
    nodes: Vec<u64>,
}

pub fn make(options: &Options) -> Result<(), Failure> {
    let folder = &options.out;
    std::fs::create_dir_all(folder)
        .map_err(|error| Failure(format!("cannot make {}: {error}", folder.display())))?;
    let authority = if Authority::exists(folder) {
        println!("using the authority in {}", folder.display());
        Authority::read(folder)?
    } else {
        let authority = Authority::generate(options.cluster.as_str())?;
        authority.write(folder)?;
        println!("made {} and ca.key; keep ca.key secret", folder.join("ca.pem").display());
        authority
    };
    for node in &options.nodes {
        let id = NodeId::new(*node).ok_or_else(|| Failure("0 is no node id: ids count from 1".to_owned()))?;
        issue(&authority, &options.cluster, Caller::Node(id), folder, &format!("node-{node}"))?;
    }
    issue(&authority, &options.cluster, Caller::Client, folder, "client")?;
    issue(&authority, &options.cluster, Caller::Operator, folder, "operator")
}

fn issue(
    authority: &Authority,
    cluster: &ClusterName,
    caller: Caller,
    folder: &Path,
    name: &str,
) -> Result<(), Failure> {
    let identity = Identity { caller, cluster: cluster.clone() };
    let (certificate, key) = authority.issue_files(&identity, folder, name)?;
    println!("made {} and {}, for {identity}", certificate.display(), key.display());
    Ok(())
}
