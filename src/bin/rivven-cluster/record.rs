//! `record`: what a running node was told last, as a file.

use rivven_cluster::quic::Recorded;

use crate::Failure;
use crate::access::Access;
use crate::run::load;

/// Has the node of a configuration file write down what it was told last: a flight, for `rivven-sim replay --flight` and
/// `rivven-sim report --flight`. It is written by the node, into the folder `flights` in its data folder.
#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    access: Access,
}

pub async fn record(options: &Options) -> Result<(), Failure> {
    let (_, runnable, _) = load(&options.access.config)?;
    let client = options.access.client()?;
    let Recorded { path, steps, bytes } = client.record(&runnable.advertise_address).await?;
    client.close();
    println!("{steps} steps, {bytes} bytes, at {}: {path}", runnable.advertise_address);
    Ok(())
}
