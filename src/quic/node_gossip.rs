//! A node's part in gossip, over QUIC: an endpoint of its own beside that of the node's links.
//!
//! What other members say goes into the node's inbox by one task. While the node is busy a few thousand pieces
//! wait; then datagrams are dropped, as they would be on any network.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use quinn::AsyncUdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::endpoint::{self, EndpointError, Renewable, Seams, Use};
use super::gossip::{Gossip, Incoming, Owed};
use super::{Credentials, closing};
use crate::driver::Handle;
use crate::id::{ClusterName, NodeId};
use crate::node::Input;
use crate::swim::Output;

/// The most pieces that wait for the node's inbox; beyond it datagrams are dropped, and questions wait.
const INPUTS_MAX: usize = 4096;

/// The endpoint, and the task that feeds the node.
pub(super) struct NodeGossip {
    gossip: Gossip,
    owed: Arc<Mutex<Owed>>,
    task: JoinHandle<()>,
    socket: Weak<dyn AsyncUdpSocket>,
}

impl NodeGossip {
    /// Opens the endpoint; and what it takes to renew its credentials.
    pub(super) fn start(
        seams: &Seams,
        credentials: &Credentials,
        cluster: ClusterName,
        own: NodeId,
        node: Handle,
    ) -> Result<(NodeGossip, Renewable), EndpointError> {
        let (endpoint, renewable) = endpoint::open(seams, credentials, &Use::Gossip(Arc::default()))?;
        let (incoming, received) = mpsc::channel(INPUTS_MAX);
        let gossip = Gossip::start(endpoint, Arc::clone(&seams.resolver), cluster, own, incoming);
        let owed = Arc::new(Mutex::new(Owed::default()));
        let task = tokio::spawn(feed(node, received, Arc::clone(&owed)));
        Ok((NodeGossip { gossip, owed, task, socket: Arc::downgrade(&seams.socket) }, renewable))
    }

    /// Does what the node asks for.
    pub(super) fn act(&self, output: Output) {
        self.gossip.act(output, &mut lock(&self.owed));
    }

    /// Tells the others that the process ends.
    pub(super) fn say_goodbye(&self) {
        self.gossip.close();
    }

    /// Waits until the others have been told, and the port is free again.
    pub(super) async fn close(self) {
        self.say_goodbye();
        let (endpoint, socket) = (self.gossip.endpoint(), self.socket.clone());
        drop(self);
        closing::release(endpoint, socket).await;
    }
}

impl Drop for NodeGossip {
    fn drop(&mut self) {
        self.say_goodbye();
        self.task.abort();
    }
}

async fn feed(node: Handle, mut received: mpsc::Receiver<Incoming>, owed: Arc<Mutex<Owed>>) {
    while let Some(incoming) = received.recv().await {
        let input = lock(&owed).input(incoming);
        node.input(Input::Gossip(input)).await;
    }
}

fn lock(owed: &Mutex<Owed>) -> std::sync::MutexGuard<'_, Owed> {
    owed.lock().unwrap_or_else(PoisonError::into_inner)
}
