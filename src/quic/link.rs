//! A link: the connection to one listed address, dialled again whenever it breaks.
//!
//! Each node sends over the connections that it dialled and receives over those that it accepted, so
//! two nodes have two connections and never argue about which one to keep.
//!
//! Each link has a queue per lane. A message for a link that is down, or whose queue is full, is
//! dropped and counted, newest first: Raft repeats what matters, and stale messages help nobody. The
//! caller is told, so that Raft stops to stream into a void.
//!
//! Between two attempts a link waits 50 ms to 1 s, doubling, with jitter: a node that comes back is
//! not greeted by everybody in the same instant.

use core::time::Duration;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use quinn::{Connection, Endpoint, SendStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::Routes;
use super::connection::{HangUp, explain, identify};
use super::endpoint::Resolver;
use super::identity::server_name;
use crate::driver::{Dropped, Handle};
use crate::id::{ClusterName, NodeId, PeerName};
use crate::node::{Caller, Input, Lane, LinkState};
use crate::rng::Stream;

/// The shortest wait before a dropped link is dialled again.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// The longest wait before a dropped link is dialled again.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// How long resolving may take, and then connecting, over all addresses of a name together.
pub(super) const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// How many lanes there are.
const LANES: usize = 4;
/// The most messages that wait in one lane; beyond it the newest is dropped.
const LANE_MESSAGES_MAX: usize = 1024;
/// The most bytes that wait in all lanes of a link; beyond it the newest message is dropped.
const LINK_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The sending end of a link.
#[derive(Clone)]
pub(super) struct Link {
    up: Arc<AtomicBool>,
    queued_bytes: Arc<AtomicUsize>,
    lanes: [mpsc::Sender<Bytes>; LANES],
}

impl Link {
    /// Tells whether the link is connected.
    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Puts an encoded frame into its lane.
    pub(super) fn send(&self, lane: Lane, frame: Bytes) -> Result<(), Dropped> {
        let length = frame.len();
        // Records leave room for everything else.
        let limit = if lane == Lane::Records { LINK_BYTES_MAX / 2 } else { LINK_BYTES_MAX };
        let is_full = self.queued_bytes.load(Ordering::Relaxed) + length > limit;
        if is_full || !self.is_up() {
            return Err(Dropped);
        }
        self.lanes[position(lane)].try_send(frame).map_err(|_| Dropped)?;
        self.queued_bytes.fetch_add(length, Ordering::Relaxed);
        Ok(())
    }
}

fn position(lane: Lane) -> usize {
    match lane {
        Lane::Control => 0,
        Lane::Log => 1,
        Lane::Records => 2,
        Lane::Snapshot => 3,
    }
}

/// The task behind a link.
pub(super) struct Dialer {
    pub(super) name: PeerName,
    pub(super) endpoint: Endpoint,
    pub(super) resolver: Arc<dyn Resolver>,
    pub(super) cluster: ClusterName,
    pub(super) own_id: NodeId,
    pub(super) node: Handle,
    pub(super) routes: Routes,
    pub(super) jitter: Stream,
}

impl Dialer {
    /// Makes the link, and the future that keeps it alive; it ends only when it is dropped.
    pub(super) fn start(self) -> (Link, impl Future<Output = ()> + Send) {
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..LANES).map(|_| mpsc::channel(LANE_MESSAGES_MAX)).unzip();
        let lanes = <[mpsc::Sender<Bytes>; LANES]>::try_from(senders).expect("a queue a lane");
        let queues = <[mpsc::Receiver<Bytes>; LANES]>::try_from(receivers).expect("a queue a lane");
        let link = Link { up: Arc::default(), queued_bytes: Arc::default(), lanes };
        let task = self.run(link.clone(), queues);
        (link, task)
    }

    async fn run(mut self, link: Link, mut queues: [mpsc::Receiver<Bytes>; LANES]) {
        let mut backoff = BACKOFF_MIN;
        let mut last_reason = None;
        loop {
            let reason = match self.dial().await {
                Ok((node, connection)) => {
                    (backoff, last_reason) = (BACKOFF_MIN, None);
                    self.routes
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert(node, self.name.clone());
                    link.up.store(true, Ordering::Relaxed);
                    self.report(LinkState::Up { node }).await;
                    self.serve(&link, &mut queues, &connection).await
                }
                Err(reason) => reason,
            };
            if last_reason.as_ref() != Some(&reason) {
                last_reason = Some(reason.clone());
                self.report(LinkState::Down { reason }).await;
            }
            let nanos = u64::try_from(backoff.as_nanos()).unwrap_or(u64::MAX);
            sleep(Duration::from_nanos(nanos / 2 + self.jitter.below(nanos))).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    async fn report(&self, state: LinkState) {
        self.node.input(Input::Link { name: self.name.clone(), state }).await;
    }

    async fn dial(&self) -> Result<(NodeId, Connection), String> {
        let connection = dial(&self.endpoint, &*self.resolver, &self.name, &self.cluster).await?;
        let identity = identify(&connection, &self.cluster).and_then(|identity| match identity.caller {
            Caller::Node(node) if node == self.own_id => Err(HangUp::OwnIdentity),
            Caller::Node(node) => Ok(node),
            Caller::Client | Caller::Operator => Err(HangUp::NotANode(identity.to_string())),
        });
        match identity {
            Ok(node) => Ok((node, connection)),
            Err(hang_up) => {
                hang_up.close(&connection);
                Err(hang_up.to_string())
            }
        }
    }

    /// Moves frames until the connection breaks; tells why it did.
    async fn serve(
        &self,
        link: &Link,
        queues: &mut [mpsc::Receiver<Bytes>; LANES],
        connection: &Connection,
    ) -> String {
        let [control, log, records, snapshot] = queues;
        let reason = tokio::select! {
            biased;
            reason = connection.closed() => explain(&reason, &self.cluster),
            () = pump(connection, link, control, 3) => "the control lane broke".to_owned(),
            () = pump(connection, link, log, 2) => "the log lane broke".to_owned(),
            () = pump(connection, link, records, 1) => "the records lane broke".to_owned(),
            () = pump(connection, link, snapshot, 0) => "the snapshot lane broke".to_owned(),
        };
        link.up.store(false, Ordering::Relaxed);
        for queue in queues {
            while let Ok(frame) = queue.try_recv() {
                link.queued_bytes.fetch_sub(frame.len(), Ordering::Relaxed);
            }
        }
        HangUp::Shutdown.close(connection);
        reason
    }
}

/// Resolves a name and connects to the first of its addresses that answers. Each address gets a share
/// of the time, so that one that is silent does not hide the others.
pub(super) async fn dial(
    endpoint: &Endpoint,
    resolver: &dyn Resolver,
    name: &PeerName,
    cluster: &ClusterName,
) -> Result<Connection, String> {
    let resolved = timeout(DIAL_TIMEOUT, resolver.resolve(name)).await;
    let resolved = resolved.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
    let addresses = resolved.map_err(|error| format!("cannot resolve {name}: {error}"))?;
    let share = DIAL_TIMEOUT / u32::try_from(addresses.len()).unwrap_or(1).max(1);
    let mut reason = format!("{name} has no address");
    for address in addresses {
        let connecting = match endpoint.connect(address, &server_name(cluster)) {
            Ok(connecting) => connecting,
            Err(error) => {
                reason = format!("cannot dial {address}: {error}");
                continue;
            }
        };
        match timeout(share, connecting).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => reason = format!("{address}: {}", explain(&error, cluster)),
            Err(_) => reason = format!("{address} does not answer"),
        }
    }
    Err(reason)
}

/// Writes the frames of one lane; returns when the connection is lost.
async fn pump(connection: &Connection, link: &Link, queue: &mut mpsc::Receiver<Bytes>, priority: i32) {
    let mut stream: Option<SendStream> = None;
    while let Some(frame) = queue.recv().await {
        link.queued_bytes.fetch_sub(frame.len(), Ordering::Relaxed);
        let stream = match &mut stream {
            Some(stream) => stream,
            None => {
                let Ok(opened) = connection.open_uni().await else { return };
                let _ = opened.set_priority(priority);
                stream.insert(opened)
            }
        };
        if stream.write_chunk(frame).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(capacity: usize) -> (Link, mpsc::Receiver<Bytes>) {
        let (control, receiver) = mpsc::channel(capacity);
        let [log, records, snapshot] = core::array::from_fn(|_| mpsc::channel(1).0);
        let up = Arc::new(AtomicBool::new(true));
        (Link { up, queued_bytes: Arc::default(), lanes: [control, log, records, snapshot] }, receiver)
    }

    #[test]
    fn a_full_lane_drops_the_newest_message() {
        let (link, mut receiver) = link(2);
        let frame = |text: &'static str| Bytes::from_static(text.as_bytes());
        assert_eq!(link.send(Lane::Control, frame("1")), Ok(()));
        assert_eq!(link.send(Lane::Control, frame("2")), Ok(()));
        assert_eq!(link.send(Lane::Control, frame("3")), Err(Dropped));
        assert_eq!(receiver.try_recv(), Ok(frame("1")));
        assert_eq!(link.queued_bytes.load(Ordering::Relaxed), 2, "what was dropped does not count");
    }

    #[test]
    fn a_link_holds_no_more_bytes_than_its_limit_and_none_when_it_is_down() {
        let (link, _receiver) = link(10);
        link.queued_bytes.store(LINK_BYTES_MAX, Ordering::Relaxed);
        assert_eq!(link.send(Lane::Control, Bytes::from_static(b"x")), Err(Dropped));
        link.queued_bytes.store(0, Ordering::Relaxed);
        link.up.store(false, Ordering::Relaxed);
        assert_eq!(link.send(Lane::Control, Bytes::from_static(b"x")), Err(Dropped));
    }
}
