//! A replicated key-value store of one's own, with linearizable reads, in one process for show.
//!
//! ```text
//! cargo run --release --example store
//! ```
//!
//! What is the example's: a state, its commands and its queries. What is the library's: everything else,
//! over QUIC with mutual TLS, each node with a log on disk. In a real system each node is a process, and
//! `RaftConfig` names addresses, a data folder and certificates.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use rivven_cluster::id::LogIndex;
use rivven_cluster::quic::{Client, ClientSession, RaftConfig, RaftNode};
use rivven_cluster::state_machine::{Frozen, RestoreError, StateMachine};
use rivven_cluster::wire::codec;
use serde::{Deserialize, Serialize};

/// The replicated state: equal logs give equal maps.
#[derive(Default)]
struct Store {
    map: BTreeMap<String, String>,
}

/// What changes it. Each command goes through the log, once.
#[derive(Deserialize, Serialize)]
enum Command {
    Set { key: String, value: String },
    Append { key: String, more: String },
    Delete { key: String },
}

/// What is asked of it, on any node, without a place in the log.
#[derive(Deserialize, Serialize)]
enum Query {
    Get { key: String },
    Count,
}

impl StateMachine for Store {
    /// The answer is the value that the key had before. What is no command changes nothing.
    fn apply(&mut self, _index: LogIndex, command: &[u8]) -> Bytes {
        let before = match codec::decode(command) {
            Ok(Command::Set { key, value }) => self.map.insert(key, value),
            Ok(Command::Append { key, more }) => {
                let before = self.map.get(&key).cloned();
                self.map.entry(key).or_default().push_str(&more);
                before
            }
            Ok(Command::Delete { key }) => self.map.remove(&key),
            Err(_) => None,
        };
        Bytes::from(codec::encode(&before))
    }

    fn query(&self, query: &[u8]) -> Bytes {
        let answer = match codec::decode(query) {
            Ok(Query::Get { key }) => self.map.get(&key).cloned(),
            Ok(Query::Count) => Some(self.map.len().to_string()),
            Err(_) => None,
        };
        Bytes::from(codec::encode(&answer))
    }

    fn snapshot(&self) -> Bytes {
        Bytes::from(codec::encode(&self.map))
    }

    /// A copy is made at once, and written down on another thread.
    fn freeze(&self) -> Frozen {
        let map = self.map.clone();
        Frozen::new(move || Bytes::from(codec::encode(&map)))
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        self.map = codec::decode_state(snapshot).map_err(|error| RestoreError(error.to_string()))?;
        Ok(())
    }
}

async fn change(session: &ClientSession, command: Command) -> Result<Option<String>, Box<dyn Error>> {
    let committed = session.propose(Bytes::from(codec::encode(&command))).await?;
    Ok(codec::decode(&committed.answer)?)
}

async fn ask(client: &Client, query: Query) -> Result<Option<String>, Box<dyn Error>> {
    let answered = client.query(Bytes::from(codec::encode(&query))).await?;
    Ok(codec::decode(&answered.answer)?)
}

fn config(node_id: u64) -> RaftConfig {
    let peers = (1..=3).filter(|peer| *peer != node_id).collect();
    RaftConfig { node_id, peers, base_port: 24_100, ..RaftConfig::default() }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut nodes = Vec::new();
    for id in 1..=3 {
        nodes.push(RaftNode::with_state_machine(config(id), Store::default()).await?);
    }

    // In a session a command is executed once, however often it has to be sent.
    let session = nodes[0].client().open_session(Duration::from_secs(60)).await?;
    for (key, value) in [("tea", "green"), ("coffee", "black"), ("water", "still")] {
        change(&session, Command::Set { key: key.into(), value: value.into() }).await?;
    }
    change(&session, Command::Append { key: "tea".into(), more: ", hot".into() }).await?;
    let was = change(&session, Command::Delete { key: "water".into() }).await?;
    println!("water was {was:?}");

    // A read on any node sees everything that was acknowledged before.
    for (number, node) in (1..).zip(&nodes) {
        let tea = ask(node.client(), Query::Get { key: "tea".into() }).await?;
        let count = ask(node.client(), Query::Count).await?;
        println!("node {number}: tea is {tea:?}, {} keys", count.unwrap_or_default());
        assert_eq!(tea.as_deref(), Some("green, hot"));
    }

    for node in nodes {
        node.shutdown().await?;
    }
    Ok(())
}
