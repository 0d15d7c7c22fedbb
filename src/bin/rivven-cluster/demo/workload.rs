//! Many clients at once, and a ledger of what each was told.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use indicatif::ProgressBar;
use rivven_cluster::kv::Command;
use rivven_cluster::quic::{Client, ClientError};
use tokio::task::JoinSet;

use crate::Failure;

/// What became of each command, by its bytes, which no other command has.
#[derive(Default)]
pub struct Ledger {
    /// Acknowledged, with the index that the client was told.
    pub acknowledged: Vec<(Bytes, u64)>,
    /// Certainly never appended.
    pub failed: BTreeSet<Bytes>,
    /// Nobody can tell. None of these was sent again.
    pub unknown: BTreeSet<Bytes>,
}

/// The clients at work.
pub struct Workload {
    workers: JoinSet<()>,
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    commands: u64,
    next: AtomicU64,
    ledger: Mutex<Ledger>,
    bar: ProgressBar,
}

impl Workload {
    pub fn start(commands: u64, clients: u64, client: Client, bar: ProgressBar) -> Workload {
        let shared =
            Arc::new(Shared { client, commands, next: AtomicU64::new(0), ledger: Mutex::default(), bar });
        let mut workers = JoinSet::new();
        for _ in 0..clients {
            workers.spawn(work(Arc::clone(&shared)));
        }
        Workload { workers, shared }
    }

    /// Waits until so many commands have an outcome.
    pub async fn reaches(&self, commands: u64) {
        while self.shared.bar.position() < commands {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until every command has an outcome.
    pub async fn finish(mut self) -> Result<Ledger, Failure> {
        while let Some(ended) = self.workers.join_next().await {
            ended?;
        }
        let mut ledger = self.shared.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut ledger))
    }
}

/// Sends one command after the other. One of unknown fate is never sent again.
async fn work(shared: Arc<Shared>) {
    loop {
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        if number >= shared.commands {
            return;
        }
        let (key, value) = (format!("demo/{}", number % 1000), format!("value {number}"));
        let command = Command::Put { key: Bytes::from(key), value: Bytes::from(value) }.encode();
        let outcome = shared.client.propose(command.clone()).await;
        let mut ledger = shared.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(committed) => {
                ledger.acknowledged.push((command, committed.at.index.value()));
            }
            Err(ClientError::Unknown(_)) => {
                ledger.unknown.insert(command);
            }
            Err(_) => {
                ledger.failed.insert(command);
            }
        }
        shared.bar.inc(1);
    }
}
