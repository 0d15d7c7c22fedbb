//! How a command finds the cluster of a configuration file, and by what right it asks.

use std::path::PathBuf;
use std::time::Duration;

use rivven_cluster::id::NodeId;
use rivven_cluster::quic::{Client, ClientConfig, Credentials, PartitionManager, PartitionSettings, Seams};

use crate::Failure;
use crate::run::load;

/// How long the cluster may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How the cluster is found, and by what right.
#[derive(clap::Args)]
pub struct Access {
    /// The YAML file of any node: it names the cluster's addresses and authority.
    #[arg(long)]
    pub config: PathBuf,
    /// An operator's certificate and key, without their endings: `certs/operator` for `certs/operator.pem` and
    /// `certs/operator.key`. By default the node's own, which may list, and
    /// create, extend, configure and delete topics.
    #[arg(long)]
    pub operator: Option<PathBuf>,
}

impl Access {
    /// Opens a client that finds the leader by itself.
    pub fn client(&self) -> Result<Client, Failure> {
        let (settings, runnable, own) = load(&self.config)?;
        let credentials = match &self.operator {
            Some(path) => {
                let with = |ending: &str| path.with_added_extension(ending);
                Credentials::read(&runnable.tls.ca, &with("pem"), &with("key"))?
            }
            None => own,
        };
        let addresses = [runnable.advertise_address].into_iter().chain(settings.peers).collect();
        let seams = Seams::system("0.0.0.0:0".parse()?)?;
        let config = ClientConfig { addresses, timeout: TIMEOUT };
        Ok(Client::open(&seams, &credentials, config)?)
    }

    /// Opens a client, and fetches the metadata.
    pub async fn partitions(&self) -> Result<(Client, PartitionManager), Failure> {
        let (settings, ..) = load(&self.config)?;
        let given = settings.partitioning.ok_or_else(|| {
            Failure(format!(
                "{}: cluster.partitioning: missing: without that section this node holds no partitions",
                self.config.display()
            ))
        })?;
        let settings = PartitionSettings {
            virtual_nodes: given.virtual_nodes,
            replication_factor: given.replication_factor,
            min_in_sync: given.min_in_sync,
        };
        let client = self.client()?;
        let partitions = PartitionManager::open(client.clone(), settings).await?;
        Ok((client, partitions))
    }
}

/// Checks the id of a node.
pub fn id(node: u64) -> Result<NodeId, Failure> {
    NodeId::new(node).ok_or_else(|| Failure("0 is no node id: ids count from 1".to_owned()))
}

/// Lists nodes in one word.
pub fn ids(nodes: &[NodeId]) -> String {
    let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
    nodes.join(",")
}
