//! Closing an endpoint: peers are told, and the port is free again soon, whatever becomes of the peers.
//!
//! A connection that was closed lingers for three of its probe timeouts (RFC 9000 §10.2), so that it can say so
//! again to whoever has not heard; where the round trip was long, that is half a minute. Whoever starts a node
//! again in the same process cannot wait for that: after a moment the endpoint is moved to a socket that leads
//! nowhere, and lingers there.

use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Weak};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Endpoint, UdpPoller};
use tokio::time::{sleep, timeout};

/// How long an endpoint may take to tell its peers.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(500);
/// How long it may take then to let go of its socket.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(3);

/// Waits until the peers of an endpoint that was closed have been told, and `socket` is free.
pub(super) async fn release(endpoint: Endpoint, socket: Weak<dyn AsyncUdpSocket>) {
    if timeout(GOODBYE_TIMEOUT, endpoint.wait_idle()).await.is_err() {
        // The socket before the last one is kept until something arrives at the last one: so two of them.
        for _ in 0..2 {
            let _ = endpoint.rebind_abstract(Arc::new(Nowhere));
        }
    }
    drop(endpoint);
    // quinn's own tasks drop the socket, some time after the last handle to the endpoint.
    let released = async {
        while socket.strong_count() > 0 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    if timeout(RELEASE_TIMEOUT, released).await.is_err() {
        tracing::warn!("a socket is still in use {RELEASE_TIMEOUT:?} after its endpoint was closed");
    }
}

/// A socket that loses what is sent, and on which nothing arrives.
struct Nowhere;

impl AsyncUdpSocket for Nowhere {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Nowhere)
    }

    fn try_send(&self, _transmit: &Transmit<'_>) -> io::Result<()> {
        Ok(())
    }

    fn poll_recv(
        &self,
        _cx: &mut Context<'_>,
        _bufs: &mut [IoSliceMut<'_>],
        _meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0))
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

impl UdpPoller for Nowhere {
    fn poll_writable(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for Nowhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nowhere")
    }
}

#[cfg(test)]
mod tests {
    use super::super::endpoint::{self, Use};
    use super::super::{Authority, Identity, Seams};
    use super::*;
    use crate::node::Caller;

    #[tokio::test]
    async fn the_port_is_free_again_although_a_peer_never_answers() {
        let caller = Caller::Node(crate::id::NodeId::new(1).unwrap());
        let identity = Identity { caller, cluster: "demo".parse().unwrap() };
        let credentials = Authority::generate("demo").unwrap().issue(identity).unwrap();
        let seams = Seams::system("127.0.0.1:0".parse().unwrap()).unwrap();
        let (address, socket) = (seams.socket.local_addr().unwrap(), Arc::downgrade(&seams.socket));
        let (endpoint, _) = endpoint::open(&seams, &credentials, &Use::Node).unwrap();
        drop(seams);
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let connecting = endpoint.connect(silent.local_addr().unwrap(), "node").unwrap();
        endpoint.close(0_u32.into(), b"");
        assert!(connecting.await.is_err());
        release(endpoint, socket).await;
        std::net::UdpSocket::bind(address).expect("nobody holds it");
    }
}
