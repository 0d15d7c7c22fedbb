//! `merge`: the sum of what the shards of a sweep have saved.

use std::path::PathBuf;

use rivven_sim::shards::{Shard, merge};

/// The arguments of `merge`.
#[derive(clap::Args)]
pub struct Arguments {
    /// What `sweep --shard I/N --save FILE` has written, one for each shard.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// Adds them up, and judges the whole as one sweep.
pub fn run(arguments: &Arguments) -> Result<bool, String> {
    let read = |path: &PathBuf| {
        let place = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {place}: {error}"))?;
        Shard::parse(&text).map_err(|error| format!("{place}: {error}"))
    };
    let shards = arguments.files.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let count = shards.len();
    let (order, summary, took) = merge(shards).map_err(|error| error.to_string())?;
    println!("{count} shards; the times are theirs, added up");
    for (seed, violation) in &summary.violations {
        println!("seed {seed}: VIOLATION {violation}");
    }
    super::sweep::print(&summary, order.world, took);
    Ok(summary.is_clean(order.world))
}
