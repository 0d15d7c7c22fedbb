//! The steward of the turmoil world: the production client, with an operator's certificate.

use rivven_cluster::quic::Client;
use rivven_cluster::rng::Stream;

use super::clock::sim_nanos;
use crate::steward::{rest, wish};

/// Has ever new wishes until so many milliseconds have passed. What becomes of them the checkers see.
pub(super) async fn look_after_partitions(client: Client, mut choices: Stream, until: u64) {
    while sim_nanos() / 1_000_000 < until {
        if let Ok((_, metadata)) = client.metadata().await
            && let Some(command) = wish(&metadata, &mut choices)
        {
            // It may be refused, or lost: that is part of it.
            let _ = client.order(command).await;
        }
        tokio::time::sleep(rest(&mut choices)).await;
    }
}
