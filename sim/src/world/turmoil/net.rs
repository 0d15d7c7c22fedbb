//! The simulated network: quinn's UDP socket, with the weather in between.
//!
//! Only the socket is simulated; quinn, TLS and everything above are what runs in production. A datagram
//! that has left lies in the mailbox of its destination until it is due, whatever becomes of its sender:
//! a vote that arrives after its voter has lost power is what persist-before-send is about.

use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use rivven_cluster::id::PeerName;
use rivven_cluster::quic::{BoxFuture, Resolver};
use tokio::time::{Instant, Sleep, sleep_until};
use xxhash_rust::xxh3::xxh3_64;

use super::clock::sim_nanos;
use super::plan::Strikes;
use crate::faults::{Fate, Host, Weather};
use crate::lock::lock;
use crate::trace::{Record, Trace};

/// The first port that is given to whoever does not ask for one.
const FIRST_PORT: u16 = 40_000;

/// What all sockets of a run share.
#[derive(Clone)]
pub(super) struct Wires {
    weather: Arc<Mutex<Weather>>,
    strikes: Arc<Mutex<Strikes>>,
    trace: Arc<Mutex<Trace>>,
    post: Arc<Mutex<Post>>,
}

/// Who is where, and what is on its way to whom.
#[derive(Default)]
struct Post {
    hosts: BTreeMap<IpAddr, Host>,
    bound: BTreeSet<SocketAddr>,
    mailboxes: BTreeMap<SocketAddr, Mailbox>,
    sent: u64,
}

/// What is on its way to one socket, by when it is due and in which order it was sent.
#[derive(Default)]
struct Mailbox {
    arriving: BTreeMap<(u64, u64), (SocketAddr, Vec<u8>)>,
    /// Whoever waits for the next.
    waker: Option<Waker>,
}

impl Wires {
    pub(super) fn new(
        weather: Arc<Mutex<Weather>>,
        strikes: Arc<Mutex<Strikes>>,
        trace: Arc<Mutex<Trace>>,
    ) -> Wires {
        Wires { weather, strikes, trace, post: Arc::default() }
    }

    /// Says where a host is.
    pub(super) fn place(&self, address: IpAddr, host: Host) {
        lock(&self.post).hosts.insert(address, host);
    }

    /// Decides what becomes of a datagram, counts it and traces it, and puts it on its way.
    fn dispatch(&self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        let mut post = lock(&self.post);
        let host = |address: SocketAddr| post.hosts.get(&address.ip()).copied().unwrap_or(Host::CLIENTS);
        let (source, destination) = (host(from), host(to));
        let (length, bytes) = (datagram.len(), xxh3_64(datagram));
        let effects = &mut lock(&self.strikes).effects;
        let now = sim_nanos();
        let fate = lock(&self.weather).fate(source, destination, length, now, effects);
        let record = Record::Datagram { from: source, to: destination, length, bytes, fate };
        lock(&self.trace).record(now, &record);
        let Fate::Delivered { delay, again, damage, .. } = fate else { return };
        let mut datagram = datagram.to_vec();
        if let Some(damage) = damage {
            damage.strike(&mut datagram);
        }
        for delay in [again, Some(delay)].into_iter().flatten() {
            post.sent += 1;
            let due = (now + delay * 1000, post.sent);
            let mailbox = post.mailboxes.entry(to).or_default();
            mailbox.arriving.insert(due, (from, datagram.clone()));
            if let Some(waker) = mailbox.waker.take() {
                waker.wake();
            }
        }
    }

    fn bind(&self, host: Host, port: u16) -> io::Result<SocketAddr> {
        let mut post = lock(&self.post);
        let placed = post.hosts.iter().find(|(_, placed)| **placed == host);
        let ip = placed.map(|(ip, _)| *ip).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let free = |port: &u16| !post.bound.contains(&SocketAddr::new(ip, *port));
        let port = if port == 0 { (FIRST_PORT..u16::MAX).find(free) } else { Some(port).filter(free) };
        let address = SocketAddr::new(ip, port.ok_or(io::ErrorKind::AddrInUse)?);
        post.bound.insert(address);
        // What was due while nobody listened is gone.
        let mailbox = post.mailboxes.entry(address).or_default();
        mailbox.arriving = mailbox.arriving.split_off(&(sim_nanos(), 0));
        Ok(address)
    }
}

/// quinn's socket on a simulated host.
pub(super) struct SimSocket {
    address: SocketAddr,
    wires: Wires,
    /// Wakes the reader when the next datagram is due.
    alarm: Mutex<Pin<Box<Sleep>>>,
}

impl SimSocket {
    /// Binds `port` (0 for any) on a host.
    pub(super) fn bind(host: Host, port: u16, wires: Wires) -> io::Result<SimSocket> {
        let address = wires.bind(host, port)?;
        let alarm = Mutex::new(Box::pin(sleep_until(Instant::now())));
        Ok(SimSocket { address, wires, alarm })
    }
}

impl AsyncUdpSocket for SimSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    /// Never fails: a network that loses a datagram does not say so.
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.wires.dispatch(self.address, transmit.destination, transmit.contents);
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut post = lock(&self.wires.post);
        let mailbox = post.mailboxes.entry(self.address).or_default();
        let now = sim_nanos();
        let Some((&(due, number), _)) = mailbox.arriving.first_key_value() else {
            mailbox.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        if due > now {
            mailbox.waker = Some(cx.waker().clone());
            let mut alarm = lock(&self.alarm);
            alarm.as_mut().reset(Instant::now() + Duration::from_nanos(due - now));
            // Should it be due at once, quinn is woken and asks again.
            if alarm.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
        let (from, datagram) = mailbox.arriving.remove(&(due, number)).expect("it is the first");
        let length = datagram.len().min(bufs[0].len());
        bufs[0][..length].copy_from_slice(&datagram[..length]);
        meta[0] = RecvMeta { addr: from, len: length, stride: length, ..RecvMeta::default() };
        Poll::Ready(Ok(1))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), self.address.port()))
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        lock(&self.wires.post).bound.remove(&self.address);
    }
}

impl fmt::Debug for SimSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimSocket").field("address", &self.address).finish_non_exhaustive()
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
