//! The simulated network: quinn's UDP socket over turmoil's, with the weather in between.
//!
//! Only the socket is simulated; quinn, TLS and everything above are what runs in production.

use core::pin::Pin;
use core::task::{Context, Poll, ready};
use core::time::Duration;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use rivven_cluster::id::PeerName;
use rivven_cluster::quic::{BoxFuture, Resolver};
use turmoil::net::UdpSocket;
use xxhash_rust::xxh3::xxh3_64;

use super::clock::sim_nanos;
use super::plan::Strikes;
use crate::faults::{Fate, Host, Weather};
use crate::lock::lock;
use crate::trace::{Record, Trace};

/// What all sockets of a run share.
#[derive(Clone)]
pub(super) struct Wires {
    weather: Arc<Mutex<Weather>>,
    hosts: Arc<Mutex<BTreeMap<IpAddr, Host>>>,
    strikes: Arc<Mutex<Strikes>>,
    trace: Arc<Mutex<Trace>>,
}

impl Wires {
    pub(super) fn new(
        weather: Arc<Mutex<Weather>>,
        strikes: Arc<Mutex<Strikes>>,
        trace: Arc<Mutex<Trace>>,
    ) -> Wires {
        Wires { weather, hosts: Arc::default(), strikes, trace }
    }

    /// Says where a host is.
    pub(super) fn place(&self, address: IpAddr, host: Host) {
        lock(&self.hosts).insert(address, host);
    }

    /// Decides what becomes of a datagram, counts it and traces it.
    fn dispatch(&self, from: Host, to: IpAddr, datagram: &[u8]) -> Fate {
        let to = lock(&self.hosts).get(&to).copied().unwrap_or(Host::CLIENTS);
        let (length, bytes) = (datagram.len(), xxh3_64(datagram));
        let effects = &mut lock(&self.strikes).effects;
        let fate = lock(&self.weather).fate(from, to, length, sim_nanos(), effects);
        lock(&self.trace).record(sim_nanos(), &Record::Datagram { from, to, length, bytes, fate });
        fate
    }
}

/// quinn's socket on a simulated host.
pub(super) struct SimSocket {
    host: Host,
    socket: Arc<UdpSocket>,
    wires: Wires,
    /// The wait for the next datagram. It holds turmoil's receive lock, so it ends before a receive.
    readable: Mutex<Option<Readable>>,
}

type Readable = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

impl SimSocket {
    /// Binds `port` (0 for any) on the host that runs now.
    pub(super) async fn bind(host: Host, port: u16, wires: Wires) -> io::Result<SimSocket> {
        let socket = UdpSocket::bind((IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)).await?;
        Ok(SimSocket { host, socket: Arc::new(socket), wires, readable: Mutex::new(None) })
    }

    /// Puts a datagram on its way so that it arrives after `delay` microseconds, of which turmoil adds
    /// the last millisecond.
    fn send_later(&self, datagram: Vec<u8>, to: SocketAddr, delay: u64) {
        let socket = Arc::clone(&self.socket);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_micros(delay.saturating_sub(1000))).await;
            let _ = socket.try_send_to(&datagram, to);
        });
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut slot = lock(&self.readable);
        let readable = slot.get_or_insert_with(|| {
            let socket = Arc::clone(&self.socket);
            Box::pin(async move { socket.readable().await })
        });
        let result = ready!(readable.as_mut().poll(cx));
        *slot = None;
        Poll::Ready(result)
    }
}

impl AsyncUdpSocket for SimSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    /// Never fails: a network that loses a datagram does not say so.
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let to = transmit.destination;
        let fate = self.wires.dispatch(self.host, to.ip(), transmit.contents);
        let Fate::Delivered { delay, again, damage, .. } = fate else { return Ok(()) };
        let mut datagram = transmit.contents.to_vec();
        if let Some(damage) = damage {
            damage.strike(&mut datagram);
        }
        if let Some(again) = again {
            self.send_later(datagram.clone(), to, again);
        }
        self.send_later(datagram, to, delay);
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            if lock(&self.readable).is_some() {
                ready!(self.poll_readable(cx))?;
            }
            match self.socket.try_recv_from(&mut bufs[0]) {
                Ok((length, from)) => {
                    meta[0] = RecvMeta { addr: from, len: length, stride: length, ..RecvMeta::default() };
                    return Poll::Ready(Ok(1));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.poll_readable(cx))?,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

impl fmt::Debug for SimSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimSocket").field("host", &self.host).finish_non_exhaustive()
    }
}

/// A simulated socket never blocks.
#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Looks up simulated hosts by name.
pub(super) struct SimResolver;

impl Resolver for SimResolver {
    fn resolve(&self, name: &PeerName) -> BoxFuture<io::Result<Vec<SocketAddr>>> {
        let address = SocketAddr::new(turmoil::lookup(name.host()), name.port());
        Box::pin(async move { Ok(vec![address]) })
    }
}
