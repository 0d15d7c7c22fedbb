//! The simulated network: quinn's UDP socket over turmoil's, with the faults in between.
//!
//! Only the socket is simulated; quinn, TLS and everything above are what runs in production. Each
//! datagram's fate is drawn from streams keyed by the kind of fault and the path, one draw a datagram
//! whether a fault is on or not, so that one fault more or less leaves all other draws as they were.

use core::pin::Pin;
use core::task::{Context, Poll, ready};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use rivven_cluster::id::PeerName;
use rivven_cluster::quic::{BoxFuture, Resolver};
use rivven_cluster::rng::{Seed, Stream};
use turmoil::net::UdpSocket;
use xxhash_rust::xxh3::xxh3_64;

use crate::faults::{Effects, Fault, FaultKind};
use crate::trace::{Fate, HostId, Record, Trace};

/// The host on which the clients run.
pub const CLIENTS: HostId = 0;

/// Without faults a datagram takes from 1 to this many milliseconds.
const CALM_DELAY_MAX: u64 = 4;

/// The state of all paths.
pub struct Net {
    seed: Seed,
    hosts: BTreeMap<IpAddr, HostId>,
    paths: BTreeMap<(HostId, HostId), Path>,
    loss_permille: u64,
    delay_most: u64,
    island: BTreeSet<HostId>,
    one_way: Option<(HostId, HostId)>,
}

struct Path {
    loss: Stream,
    delay: Stream,
}

impl Net {
    /// Makes a calm network.
    pub fn new(seed: Seed) -> Net {
        Net {
            seed,
            hosts: BTreeMap::new(),
            paths: BTreeMap::new(),
            loss_permille: 0,
            delay_most: 0,
            island: BTreeSet::new(),
            one_way: None,
        }
    }

    /// Says where a host is.
    pub fn place(&mut self, address: IpAddr, host: HostId) {
        self.hosts.insert(address, host);
    }

    /// Begins a fault, or ends it.
    pub fn set(&mut self, fault: &Fault, begins: bool) {
        let amount = |value: u64| if begins { value } else { 0 };
        match fault {
            Fault::Loss { permille } => self.loss_permille = amount(*permille),
            Fault::Delay { most } => self.delay_most = amount(*most),
            Fault::Partition { island } if begins => self.island = island.iter().copied().collect(),
            Fault::Partition { .. } => self.island.clear(),
            Fault::OneWay { from, to } => self.one_way = begins.then_some((*from, *to)),
            Fault::PowerLoss { .. } => {}
        }
    }

    fn fate(&mut self, from: HostId, to: HostId) -> Fate {
        let seed = self.seed;
        let path = self.paths.entry((from, to)).or_insert_with(|| {
            let path = from * 1000 + to;
            Path { loss: seed.stream("net loss", path), delay: seed.stream("net delay", path) }
        });
        let is_lost = path.loss.below(1000) < self.loss_permille;
        let calm_delay = path.delay.between(1, CALM_DELAY_MAX + 1);
        let extra_delay = path.delay.below(1000) * self.delay_most / 1000;
        let between_nodes = from != CLIENTS && to != CLIENTS;
        if between_nodes && self.island.contains(&from) != self.island.contains(&to) {
            return Fate::Dropped(FaultKind::Partition);
        }
        if self.one_way == Some((from, to)) {
            return Fate::Dropped(FaultKind::OneWay);
        }
        if is_lost {
            return Fate::Dropped(FaultKind::Loss);
        }
        Fate::Delivered { delay: calm_delay + extra_delay }
    }
}

/// What all sockets of a run share.
#[derive(Clone)]
pub struct Wires {
    net: Arc<Mutex<Net>>,
    effects: Arc<Mutex<Effects>>,
    trace: Arc<Mutex<Trace>>,
}

impl Wires {
    /// Brings the parts together.
    pub fn new(net: Arc<Mutex<Net>>, effects: Arc<Mutex<Effects>>, trace: Arc<Mutex<Trace>>) -> Wires {
        Wires { net, effects, trace }
    }

    /// Decides what becomes of a datagram, counts it and traces it.
    fn dispatch(&self, from: HostId, to: IpAddr, datagram: &[u8]) -> Fate {
        let mut net = lock(&self.net);
        let to = net.hosts.get(&to).copied().unwrap_or(CLIENTS);
        let fate = net.fate(from, to);
        match fate {
            Fate::Dropped(kind) => lock(&self.effects).count(kind),
            Fate::Delivered { delay } if delay > CALM_DELAY_MAX => {
                lock(&self.effects).count(FaultKind::Delay)
            }
            Fate::Delivered { .. } => {}
        }
        let (length, bytes) = (datagram.len(), xxh3_64(datagram));
        lock(&self.trace).record(sim_nanos(), &Record::Datagram { from, to, length, bytes, fate });
        fate
    }
}

/// The simulated time since the start of the run, in nanoseconds.
pub fn sim_nanos() -> u64 {
    let elapsed = turmoil::sim_elapsed().unwrap_or_default();
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}

/// Locks what only one thread ever touches.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// quinn's socket on a simulated host.
pub struct SimSocket {
    host: HostId,
    socket: Arc<UdpSocket>,
    wires: Wires,
    /// The wait for the next datagram. It holds turmoil's receive lock, so it ends before a receive.
    readable: Mutex<Option<Readable>>,
}

type Readable = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

impl SimSocket {
    /// Binds `port` (0 for any) on the host that runs now.
    ///
    /// # Errors
    ///
    /// If the port is taken.
    pub async fn bind(host: HostId, port: u16, wires: Wires) -> io::Result<SimSocket> {
        let socket = UdpSocket::bind((IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)).await?;
        Ok(SimSocket { host, socket: Arc::new(socket), wires, readable: Mutex::new(None) })
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
        if let Fate::Delivered { delay } = fate {
            let (socket, datagram) = (Arc::clone(&self.socket), transmit.contents.to_vec());
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(delay - 1)).await;
                let _ = socket.try_send_to(&datagram, to);
            });
        }
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
pub struct SimResolver;

impl Resolver for SimResolver {
    fn resolve(&self, name: &PeerName) -> BoxFuture<io::Result<Vec<SocketAddr>>> {
        let address = SocketAddr::new(turmoil::lookup(name.host()), name.port());
        Box::pin(async move { Ok(vec![address]) })
    }
}
