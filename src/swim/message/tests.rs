//! Whether datagrams survive the way, and nothing else gets in.

use proptest::prelude::*;

use super::*;

fn node(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

fn header(kind: Kind) -> Header {
    Header {
        cluster: [1, 2, 3, 4],
        kind,
        is_settled: true,
        is_overwhelmed: false,
        source: node(7),
        source_epoch: Epoch::new(200_000_000 << 32 | 3),
        source_boot: 99,
        destination: Some(node(8)),
        sequence: 0xdead_beef,
        membership_hash: u64::MAX - 1,
    }
}

fn record(id: u64, address: &str, metadata_version: u32) -> Record {
    let epoch = Epoch::new(200_000_100 << 32 | 1);
    let metadata_hash = if metadata_version > 0 { 5 } else { 0 };
    Record {
        id: node(id),
        epoch,
        address: address.parse().unwrap(),
        boot: 3,
        zone: 2,
        metadata_version,
        metadata_hash,
    }
}

fn written(kind: Kind, body: Body, updates: &[Update<'_>]) -> Vec<u8> {
    let mut writer = Writer::begin(Vec::new(), 1160, &header(kind), body);
    for update in updates {
        assert!(writer.push(update));
    }
    writer.finish()
}

#[test]
fn what_was_written_is_read() {
    let target = node(9);
    let bodies = [
        (Kind::Ping, Body::Empty),
        (Kind::Nack, Body::About { target }),
        (Kind::PingReq, Body::PingReq { target, nack_after_ms: 400 }),
        (Kind::VersionMismatch, Body::Versions { min: 1, max: 1 }),
    ];
    let epoch = Epoch::new(199_999_000 << 32 | u64::from(u32::MAX));
    let updates = [
        Update::Alive { record: record(1, "10.0.0.1:7946", 0), metadata: None },
        Update::Alive { record: record(2, "[2001:db8::5]:1", 4), metadata: Some(&[1; METADATA_INLINE_MAX]) },
        Update::Alive { record: record(2, "[2001:db8::5]:1", 4), metadata: None },
        Update::Suspect { id: node(3), epoch, by: node(4) },
        Update::Dead { id: node(5), epoch: Epoch::new(u64::MAX) },
        Update::Left { id: node(u64::MAX), epoch: Epoch::new(0) },
    ];
    for (kind, body) in bodies {
        let bytes = written(kind, body, &updates);
        let datagram = Datagram::read(&bytes).unwrap();
        assert_eq!((datagram.header, datagram.body), (header(kind), body));
        assert_eq!(datagram.updates().collect::<Vec<_>>(), updates);
    }
}

#[test]
fn news_is_short() {
    let empty = written(Kind::Ping, Body::Empty, &[]).len();
    let length = |update| written(Kind::Ping, Body::Empty, &[update]).len() - empty;
    let epoch = Epoch::new(200_000_100 << 32 | 1);
    assert_eq!(empty, 51);
    assert_eq!(length(Update::Alive { record: record(1, "10.0.0.1:7", 0), metadata: None }), 25);
    assert_eq!(length(Update::Suspect { id: node(1), epoch, by: node(2) }), 21);
    assert_eq!(length(Update::Dead { id: node(1), epoch }), 13);
}

#[test]
fn a_datagram_cut_anywhere_changes_nothing() {
    let epoch = Epoch::new(200_000_100 << 32 | 1);
    let update = Update::Suspect { id: node(1), epoch, by: node(2) };
    let bytes = written(Kind::Nack, Body::About { target: node(1) }, &[update, update]);
    let one = written(Kind::Nack, Body::About { target: node(1) }, &[update]).len();
    let none = written(Kind::Nack, Body::About { target: node(1) }, &[]).len();
    for length in 0..bytes.len() {
        let is_whole = length == one || length == none;
        assert_eq!(Datagram::read(&bytes[..length]).is_ok(), is_whole, "cut to {length} bytes");
    }
}

#[test]
fn another_version_is_refused_and_an_unknown_update_is_skipped() {
    let mut bytes = written(Kind::Ping, Body::Empty, &[]);
    bytes.extend_from_slice(&[77, 3, 1, 2, 3]);
    let datagram = Datagram::read(&bytes).unwrap();
    assert_eq!(datagram.updates().count(), 0);
    bytes[2] = VERSION.0 + 1;
    assert_eq!(Datagram::read(&bytes).unwrap_err(), Malformed::Version);
    bytes[0] = 0;
    assert_eq!(Datagram::read(&bytes).unwrap_err(), Malformed::Magic);
}

#[test]
fn a_datagram_never_grows_beyond_its_budget() {
    let mut writer = Writer::begin(Vec::new(), 200, &header(Kind::Gossip), Body::Empty);
    let update = Update::Alive { record: record(1, "10.0.0.1:7", 0), metadata: None };
    while writer.push(&update) {}
    assert!((176..=200).contains(&writer.finish().len()));
}

#[test]
fn no_more_updates_are_packed_than_are_taken() {
    let mut writer = Writer::begin(Vec::new(), 60_000, &header(Kind::Gossip), Body::Empty);
    let update = Update::Dead { id: node(1), epoch: Epoch::new(1) };
    while writer.push(&update) {}
    assert_eq!(Datagram::read(&writer.finish()).unwrap().updates().count(), UPDATES_MAX);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut ours = written(Kind::Gossip, Body::Empty, &[]);
        ours.extend_from_slice(&bytes);
        for bytes in [bytes, ours] {
            if let Ok(datagram) = Datagram::read(&bytes) {
                let _ = datagram.updates().count();
            }
        }
    }
}
