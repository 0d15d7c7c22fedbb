//! `recover`: when a majority is lost for good.

use std::io::{BufRead, Write};
use std::path::PathBuf;

use rivven_cluster::driver::{Owner, SegmentStorage, Storage, SystemFolder, is_being_set_aside};
use rivven_cluster::node::Survivor;
use rivven_cluster::quic::system_entropy;

use crate::Failure;
use crate::run::load;

/// Lets a cluster go on with one node, when a majority of its voters is lost FOR GOOD. The node must be stopped. Says
/// what may be lost, and asks.
#[derive(clap::Args)]
pub struct Options {
    /// The YAML file of the node that is left.
    #[arg(long)]
    config: PathBuf,
    /// Understood: acknowledged commands may be lost, and if the others are still there, there will be two clusters.
    #[arg(long, required = true)]
    r#unsafe: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

pub fn recover(options: &Options) -> Result<(), Failure> {
    let (settings, runnable, credentials) = load(&options.config)?;
    let owner = Owner { cluster: credentials.identity().cluster.clone(), node: settings.node_id };
    let folder = SystemFolder::claim(&runnable.data_dir)?;
    if is_being_set_aside(&folder)? {
        return Err(Failure("the data folder is damaged and was being set aside: restore it".to_owned()));
    }
    let salt = system_entropy()?.stream("segment salt", 0).draw();
    let mut storage = SegmentStorage::open(folder, &owner, salt)?;
    let survivor = storage.recover()?.survive(settings.node_id)?;
    explain(&owner, &survivor);
    if !options.yes && !is_confirmed(&owner)? {
        return Err(Failure("nothing was changed".to_owned()));
    }
    storage.write(&survivor.batch)?;
    println!(
        "node {} goes on alone: start it, and add nodes with new ids and empty data folders",
        owner.node
    );
    Ok(())
}

/// Says what a survivor keeps, and what is lost.
pub fn explain(owner: &Owner, survivor: &Survivor) {
    let list = |nodes: &mut dyn Iterator<Item = String>| nodes.collect::<Vec<_>>().join(", ");
    let members = &survivor.members;
    let others = members.members().filter(|node| *node != owner.node);
    println!("node {} of cluster {}", owner.node, owner.cluster);
    println!(
        "  voters, as far as it knows   {}",
        list(&mut members.voters().iter().map(ToString::to_string))
    );
    println!("  its log ends at index        {}, in term {}", survivor.last, survivor.last_term);
    println!("  of which it knows committed  {}", survivor.commit);
    println!("It will be the only voter. Its whole log counts from then on.");
    println!(
        "LOST: whatever was acknowledged and stands behind index {} in the log of others.",
        survivor.last
    );
    println!(
        "DEAD FOR GOOD: {}. If one of them still runs and finds a majority, there",
        list(&mut others.map(|node| node.to_string()))
    );
    println!("will be two clusters: stop them and empty their data folders first.");
}

/// Asks for the name of the cluster.
pub fn is_confirmed(owner: &Owner) -> Result<bool, Failure> {
    print!("Type the name of the cluster to go on: ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == owner.cluster.as_str())
}
