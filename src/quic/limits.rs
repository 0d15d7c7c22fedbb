//! How much a node takes upon itself for those who connect to it.

use core::time::Duration;

/// Bounds on connections, and on what waits for one. Whoever goes beyond is turned away or waits; the others do not
/// notice.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ConnectionLimits {
    /// The most connections at one time, from 1. Beyond it, new ones are refused.
    pub connections_max: usize,
    /// The most connections of clients, from 1; the rest is kept for nodes, operators and handshakes. Clients at the
    /// same address never get more of them than they leave free: half, if there are no others.
    pub client_connections_max: usize,
    /// The most handshakes that are under way, from 1. Beyond it, whoever comes waits, and has to show that its address
    /// is its own first (RFC 9000 §8.1.2), which costs it a round trip.
    pub handshakes_max: usize,
    /// The most requests of one stream that are under way, from 1. Beyond it, no more are read.
    pub requests_per_stream_max: usize,
    /// The most requests under way, from 1. Callers of the same kind at the same address never have more of them than
    /// they leave free. Beyond it, one is rejected as busy. Half of it should find room within the node's own limits,
    /// or one address can keep all others out.
    pub requests_max: usize,
    /// The most bytes that the requests and answers of all callers take that are under way, from 33 MiB: room for two
    /// of the longest answers. Callers of the same kind at the same address never get more of it than they leave free.
    /// Beyond it, a long request waits, a short one is rejected as busy, and an answer that finds no room is
    /// dropped: its caller is told that the outcome is unknown. Beside it, each connection may have 1 MiB under way in
    /// each direction.
    pub callers_bytes_max: usize,
    /// How long a frame may take from its first byte to its last, and an answer until it is taken. Then the
    /// connection is closed.
    pub frame_timeout: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> ConnectionLimits {
        ConnectionLimits {
            connections_max: 1024,
            client_connections_max: 768,
            handshakes_max: 64,
            requests_per_stream_max: 1024,
            requests_max: 8192,
            callers_bytes_max: 256 * 1024 * 1024,
            frame_timeout: Duration::from_secs(30),
        }
    }
}
