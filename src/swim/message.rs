//! Datagrams, packed to the byte.
//!
//! A quiet cluster sends little but headers, and a busy one wants as many updates in a datagram as fit, so
//! these are not serde's bytes. All numbers are little-endian.
//!
//! ```text
//!  0 magic "Rv"   2 major   3 minor   4 cluster:4   8 kind   9 flags   10 source:8   18 source epoch:8
//! 26 source boot:4   30 destination:8 (0: whoever is there)   38 sequence:4   42 membership hash:8
//! 50 length of the body:1, body       then updates until the end, each:  kind:1, length:1, payload
//! ```
//!
//! Both the body and each update say how long they are, so an unknown kind is skipped, and a later minor
//! version may append to a known one. An unknown major version is refused as a whole, with an answer that
//! says which ones are spoken. Everything is read before anything is believed: a datagram that is cut short
//! in its last update changes nothing.

use core::net::SocketAddr;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::epoch::Epoch;
use super::member::{Compact, Record};
use crate::id::{ClusterName, NodeId};

/// The version that this code speaks: the major one must be the same on both sides.
pub const VERSION: (u8, u8) = (1, 0);

/// The most bytes of one member's metadata.
pub const METADATA_MAX: usize = 64 * 1024;
/// Metadata of up to so many bytes travels with the word of life; longer, others fetch it.
pub const METADATA_INLINE_MAX: usize = 64;
/// The most updates that are taken from one datagram.
pub(super) const UPDATES_MAX: usize = 128;

const MAGIC: [u8; 2] = *b"Rv";
const HEADER: usize = 50;
/// Where the kind stands.
const KIND_AT: usize = 8;

/// The bytes that tell clusters apart in a datagram. The certificate is what keeps them apart.
pub(super) fn tag_of(cluster: &ClusterName) -> [u8; 4] {
    let hash = xxh3_64(cluster.as_str().as_bytes()).to_le_bytes();
    [hash[0], hash[1], hash[2], hash[3]]
}

/// The hash by which metadata is known.
pub(crate) fn hash_of(metadata: &[u8]) -> u32 {
    let hash = xxh3_64(metadata).to_le_bytes();
    u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]])
}

/// What a datagram wants.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Kind {
    /// Are you there?
    Ping,
    /// I am here.
    Ack,
    /// Probe somebody for me.
    PingReq,
    /// Whom you asked about answered me.
    ForwardedAck,
    /// Whom you asked about did not answer me yet; I am here, though.
    Nack,
    /// News.
    Gossip,
    /// I hold you dead: tell me that I am wrong.
    HealPing,
    /// You are wrong.
    HealAck,
    /// You meant somebody else.
    WrongNode,
    /// I do not speak your version.
    VersionMismatch,
}

/// All kinds, by their number in a datagram.
pub(super) const KINDS: [Kind; 10] = [
    Kind::Ping,
    Kind::Ack,
    Kind::PingReq,
    Kind::ForwardedAck,
    Kind::Nack,
    Kind::Gossip,
    Kind::HealPing,
    Kind::HealAck,
    Kind::WrongNode,
    Kind::VersionMismatch,
];

impl Kind {
    /// Tells what a datagram of this version is for, as far as that can be told from its head alone.
    #[must_use]
    pub fn of_datagram(bytes: &[u8]) -> Option<Kind> {
        KINDS.get(usize::from(*bytes.get(KIND_AT)?)).copied()
    }

    /// Its number in a datagram.
    pub(super) fn number(self) -> usize {
        KINDS.iter().position(|kind| *kind == self).expect("each kind is listed")
    }
}

/// What every datagram begins with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Header {
    pub(super) cluster: [u8; 4],
    pub(super) kind: Kind,
    /// The sender has had no news for a while.
    pub(super) is_settled: bool,
    /// The sender has more news than it can pass on.
    pub(super) is_overwhelmed: bool,
    pub(super) source: NodeId,
    pub(super) source_epoch: Epoch,
    pub(super) source_boot: u32,
    pub(super) destination: Option<NodeId>,
    pub(super) sequence: u32,
    pub(super) membership_hash: u64,
}

/// What some kinds say beside the header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Body {
    /// Nothing.
    Empty,
    /// Whom to probe, and after how many milliseconds to say that it did not answer. Where it is, the helper
    /// knows itself: the asker may be wrong about that, or lie.
    PingReq { target: NodeId, nack_after_ms: u16 },
    /// About whom it is.
    About { target: NodeId },
    /// The major versions that are spoken.
    Versions { min: u8, max: u8 },
}

/// One piece of news.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Update<'a> {
    Alive { record: Record, metadata: Option<&'a [u8]> },
    Suspect { id: NodeId, epoch: Epoch, by: NodeId },
    Dead { id: NodeId, epoch: Epoch },
    Left { id: NodeId, epoch: Epoch },
}

/// Why a datagram was dropped, whole.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// It ends before it should.
    #[error("it is cut short")]
    Truncated,
    /// It is longer than any datagram of ours.
    #[error("it is too long")]
    TooLong,
    /// It is not ours.
    #[error("it does not begin as ours do")]
    Magic,
    /// It is of a major version that is not spoken here.
    #[error("it is of an unknown version")]
    Version,
    /// Its kind is unknown, or its body is not one of its kind.
    #[error("its kind is unknown")]
    Kind,
    /// An update is not one.
    #[error("an update cannot be read")]
    Update,
}

/// A datagram that was read whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Datagram<'a> {
    pub(super) header: Header,
    pub(super) body: Body,
    updates: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// Reads a datagram, every update included.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Datagram<'a>, Malformed> {
        let mut reader = Reader(bytes);
        let (header, is_current) = reader.header()?;
        if !is_current && header.kind != Kind::VersionMismatch {
            return Err(Malformed::Version);
        }
        let length = reader.byte()?;
        let body = Reader(reader.take(usize::from(length))?).body(header.kind)?;
        let datagram = Datagram { header, body, updates: reader.0 };
        let mut updates = datagram.updates();
        while let Some(update) = updates.next_or_error() {
            update?;
        }
        Ok(datagram)
    }

    /// The updates of kinds that are known, at most [`UPDATES_MAX`].
    pub(super) fn updates(&self) -> Updates<'a> {
        let generation = self.header.source_epoch.generation();
        Updates { reader: Reader(self.updates), generation, left: UPDATES_MAX }
    }
}

/// Goes through the updates of a datagram.
pub(super) struct Updates<'a> {
    reader: Reader<'a>,
    generation: u32,
    left: usize,
}

impl<'a> Updates<'a> {
    fn next_or_error(&mut self) -> Option<Result<Option<Update<'a>>, Malformed>> {
        if self.reader.0.is_empty() || self.left == 0 {
            return None;
        }
        self.left -= 1;
        let mut read = || {
            let kind = self.reader.byte()?;
            let length = self.reader.byte()?;
            let payload = Reader(self.reader.take(usize::from(length))?);
            payload.update(kind, self.generation)
        };
        Some(read())
    }
}

impl<'a> Iterator for Updates<'a> {
    type Item = Update<'a>;

    fn next(&mut self) -> Option<Update<'a>> {
        loop {
            if let Some(update) = self.next_or_error()?.ok()? {
                return Some(update);
            }
        }
    }
}

/// Takes numbers from the front of bytes.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    fn node(&mut self) -> Result<NodeId, Malformed> {
        NodeId::new(u64::from_le_bytes(self.array()?)).ok_or(Malformed::Update)
    }

    /// Seven bits a byte, the lowest first; at most 32 bits.
    fn varint(&mut self) -> Result<u32, Malformed> {
        let mut value = 0_u64;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return u32::try_from(value).map_err(|_| Malformed::Update);
            }
        }
        Err(Malformed::Update)
    }

    /// The generation as a difference to the sender's, which is small, then the incarnation.
    fn epoch(&mut self, base: u32) -> Result<Epoch, Malformed> {
        let generation = base.wrapping_add(unzigzag(self.varint()?));
        let incarnation = self.varint()?;
        Ok(Epoch::new(u64::from(generation) << 32 | u64::from(incarnation)))
    }

    fn address(&mut self, is_v6: bool) -> Result<SocketAddr, Malformed> {
        if is_v6 {
            let ip = self.array()?;
            return Ok(Compact { ip, port: u16::from_le_bytes(self.array()?) }.socket());
        }
        let ip: [u8; 4] = self.array()?;
        Ok(SocketAddr::from((ip, u16::from_le_bytes(self.array()?))))
    }

    /// The header, and whether its major version is ours.
    fn header(&mut self) -> Result<(Header, bool), Malformed> {
        if self.array()? != MAGIC {
            return Err(Malformed::Magic);
        }
        let [major, _minor] = self.array()?;
        let cluster = self.array()?;
        let kind = KINDS.get(usize::from(self.byte()?)).copied();
        let flags = self.byte()?;
        let source = self.node()?;
        let header = Header {
            cluster,
            kind: if major == VERSION.0 {
                kind.ok_or(Malformed::Kind)?
            } else {
                kind.unwrap_or(Kind::Gossip)
            },
            is_settled: flags & 1 != 0,
            is_overwhelmed: flags & 2 != 0,
            source,
            source_epoch: Epoch::new(u64::from_le_bytes(self.array()?)),
            source_boot: u32::from_le_bytes(self.array()?),
            destination: NodeId::new(u64::from_le_bytes(self.array()?)),
            sequence: u32::from_le_bytes(self.array()?),
            membership_hash: u64::from_le_bytes(self.array()?),
        };
        Ok((header, major == VERSION.0))
    }

    fn body(mut self, kind: Kind) -> Result<Body, Malformed> {
        Ok(match kind {
            Kind::Ping | Kind::Ack | Kind::Gossip | Kind::HealPing | Kind::HealAck | Kind::WrongNode => {
                Body::Empty
            }
            Kind::PingReq => {
                Body::PingReq { target: self.node()?, nack_after_ms: u16::from_le_bytes(self.array()?) }
            }
            Kind::ForwardedAck | Kind::Nack => Body::About { target: self.node()? },
            Kind::VersionMismatch => Body::Versions { min: self.byte()?, max: self.byte()? },
        })
    }

    fn update(mut self, kind: u8, base: u32) -> Result<Option<Update<'a>>, Malformed> {
        if kind > KIND_LEFT {
            return Ok(None);
        }
        let id = self.node()?;
        let epoch = self.epoch(base)?;
        Ok(Some(match kind {
            KIND_ALIVE_V4 | KIND_ALIVE_V6 => {
                let address = self.address(kind == KIND_ALIVE_V6)?;
                let boot = u32::from_le_bytes(self.array()?);
                let zone = u16::try_from(self.varint()?).map_err(|_| Malformed::Update)?;
                let metadata_version = self.varint()?;
                let has_metadata = metadata_version > 0;
                let metadata_hash = if has_metadata { u32::from_le_bytes(self.array()?) } else { 0 };
                let metadata = Some(self.0).filter(|bytes| has_metadata && !bytes.is_empty());
                let record = Record { id, epoch, address, boot, zone, metadata_version, metadata_hash };
                Update::Alive { record, metadata }
            }
            KIND_SUSPECT => Update::Suspect { id, epoch, by: self.node()? },
            KIND_DEAD => Update::Dead { id, epoch },
            _ => Update::Left { id, epoch },
        }))
    }
}

const KIND_ALIVE_V4: u8 = 0;
const KIND_ALIVE_V6: u8 = 1;
const KIND_SUSPECT: u8 = 2;
const KIND_DEAD: u8 = 3;
const KIND_LEFT: u8 = 4;

fn zigzag(difference: u32) -> u32 {
    (difference << 1) ^ if difference >> 31 == 1 { u32::MAX } else { 0 }
}

fn unzigzag(value: u32) -> u32 {
    (value >> 1) ^ if value & 1 == 1 { u32::MAX } else { 0 }
}

/// Writes one datagram into a buffer, front to back.
pub(super) struct Writer {
    bytes: Vec<u8>,
    budget: usize,
    generation: u32,
    updates: usize,
}

impl Writer {
    /// Begins a datagram of at most `budget` bytes in `bytes`, whose content is dropped.
    pub(super) fn begin(mut bytes: Vec<u8>, budget: usize, header: &Header, body: Body) -> Writer {
        bytes.clear();
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[VERSION.0, VERSION.1]);
        bytes.extend_from_slice(&header.cluster);
        bytes.push(u8::try_from(header.kind.number()).expect("there are few kinds"));
        bytes.push(u8::from(header.is_settled) | u8::from(header.is_overwhelmed) << 1);
        bytes.extend_from_slice(&header.source.value().to_le_bytes());
        bytes.extend_from_slice(&header.source_epoch.value().to_le_bytes());
        bytes.extend_from_slice(&header.source_boot.to_le_bytes());
        bytes.extend_from_slice(&header.destination.map_or(0, NodeId::value).to_le_bytes());
        bytes.extend_from_slice(&header.sequence.to_le_bytes());
        bytes.extend_from_slice(&header.membership_hash.to_le_bytes());
        bytes.push(0);
        let mut writer = Writer { bytes, budget, generation: header.source_epoch.generation(), updates: 0 };
        writer.body(body);
        let length = writer.bytes.len() - HEADER - 1;
        writer.bytes[HEADER] = u8::try_from(length).expect("a body is short");
        writer
    }

    fn body(&mut self, body: Body) {
        match body {
            Body::Empty => {}
            Body::PingReq { target, nack_after_ms } => {
                self.node(target);
                self.bytes.extend_from_slice(&nack_after_ms.to_le_bytes());
            }
            Body::About { target } => self.node(target),
            Body::Versions { min, max } => self.bytes.extend_from_slice(&[min, max]),
        }
    }

    /// Appends an update if it fits, and tells whether it did.
    pub(super) fn push(&mut self, update: &Update<'_>) -> bool {
        if self.updates == UPDATES_MAX {
            return false;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        let kind = self.update(update);
        let length = self.bytes.len() - start - 2;
        let Ok(length) = u8::try_from(length) else { return self.undo(start) };
        if self.bytes.len() > self.budget {
            return self.undo(start);
        }
        (self.bytes[start], self.bytes[start + 1]) = (kind, length);
        self.updates += 1;
        true
    }

    /// The finished datagram.
    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn undo(&mut self, start: usize) -> bool {
        self.bytes.truncate(start);
        false
    }

    fn update(&mut self, update: &Update<'_>) -> u8 {
        match *update {
            Update::Alive { record, metadata } => {
                self.subject(record.id, record.epoch);
                self.address(record.address);
                self.bytes.extend_from_slice(&record.boot.to_le_bytes());
                self.varint(u32::from(record.zone));
                self.varint(record.metadata_version);
                if record.metadata_version > 0 {
                    self.bytes.extend_from_slice(&record.metadata_hash.to_le_bytes());
                    self.bytes.extend_from_slice(metadata.unwrap_or_default());
                }
                if record.address.is_ipv6() { KIND_ALIVE_V6 } else { KIND_ALIVE_V4 }
            }
            Update::Suspect { id, epoch, by } => {
                self.subject(id, epoch);
                self.node(by);
                KIND_SUSPECT
            }
            Update::Dead { id, epoch } => {
                self.subject(id, epoch);
                KIND_DEAD
            }
            Update::Left { id, epoch } => {
                self.subject(id, epoch);
                KIND_LEFT
            }
        }
    }

    fn subject(&mut self, id: NodeId, epoch: Epoch) {
        self.node(id);
        self.varint(zigzag(epoch.generation().wrapping_sub(self.generation)));
        self.varint(epoch.incarnation());
    }

    fn node(&mut self, id: NodeId) {
        self.bytes.extend_from_slice(&id.value().to_le_bytes());
    }

    fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            let [low, ..] = value.to_le_bytes();
            self.bytes.push(low | 0x80);
            value >>= 7;
        }
        let [low, ..] = value.to_le_bytes();
        self.bytes.push(low);
    }

    fn address(&mut self, address: SocketAddr) {
        let compact = Compact::of(address);
        let ip = if address.is_ipv6() { &compact.ip[..] } else { &compact.ip[12..] };
        self.bytes.extend_from_slice(ip);
        self.bytes.extend_from_slice(&compact.port.to_le_bytes());
    }
}

#[cfg(test)]
mod tests;
