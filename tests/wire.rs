//! Frames: what was written reads back, and everything else is a typed error.
#![expect(clippy::disallowed_methods, reason = "it reads the corpus")]

mod support;

use bytes::{Bytes, BytesMut};
use rivven_cluster::formation;
use rivven_cluster::id::{LogIndex, Term};
use rivven_cluster::node::{Message, Rejection, Reply, Request};
use rivven_cluster::raft::{Body, Message as RaftMessage};
use rivven_cluster::session::Proposal;
use rivven_cluster::wire::{Decoded, FRAME_BYTES_MAX, Frame, HEADER_BYTES, VERSION, WireError, decode};
use support::{at, entry, node};

fn append() -> Frame {
    let entries = vec![entry(2, 2), entry(3, 2)];
    let body = Body::Append { previous: at(1, 1), commit: LogIndex::new(1), entries };
    Frame::Message(Message::Raft(RaftMessage { to: node(2), term: Term::new(2), body }))
}

fn greeting() -> formation::Message {
    let (names, address) = (None, "node1:9093".parse().expect("a sound name"));
    formation::Message::Greeting { standing: formation::Standing::Fresh, names, address }
}

fn frames() -> Vec<Frame> {
    vec![
        append(),
        Frame::Message(Message::Formation(greeting())),
        Frame::Request { id: 7, request: Request::Propose(Proposal::Command(Bytes::from("command"))) },
        Frame::Reply { id: 7, reply: Reply::Done { at: at(9, 3), answer: Bytes::from("answer") } },
        Frame::Reply { id: 8, reply: Reply::Rejected(Rejection::Busy) },
    ]
}

fn encoded(frame: &Frame) -> Vec<u8> {
    frame.encode().expect("short").to_vec()
}

fn decode_one(bytes: &[u8]) -> Result<Decoded, WireError> {
    decode(&mut BytesMut::from(bytes))
}

#[test]
fn what_was_written_reads_back_one_frame_after_the_other() {
    let mut stream = BytesMut::new();
    for frame in frames() {
        stream.extend_from_slice(&encoded(&frame));
    }
    for frame in frames() {
        assert_eq!(decode(&mut stream), Ok(Decoded::Frame(frame)));
    }
    assert_eq!(decode(&mut stream), Ok(Decoded::Incomplete { missing: HEADER_BYTES }));
}

#[test]
fn the_bytes_of_a_frame_are_fixed() {
    let frame = Frame::Request { id: 1, request: Request::Status };
    assert_eq!(encoded(&frame), [1, 2, 0, 0, 2, 0, 0, 0, 254, 200, 108, 109, 1, 3]);
}

#[test]
fn every_part_of_a_frame_is_incomplete_and_left_alone() {
    let whole = encoded(&append());
    for length in 0..whole.len() {
        let mut part = BytesMut::from(&whole[..length]);
        let missing = if length < HEADER_BYTES { HEADER_BYTES } else { whole.len() } - length;
        assert_eq!(decode(&mut part), Ok(Decoded::Incomplete { missing }));
        assert_eq!(part.len(), length);
    }
}

#[test]
fn another_version_is_refused() {
    let mut bytes = encoded(&append());
    bytes[0] = VERSION + 1;
    assert_eq!(decode_one(&bytes), Err(WireError::Version { found: VERSION + 1 }));
}

#[test]
fn an_unknown_kind_is_passed_over_by_its_length() {
    let mut bytes = encoded(&append());
    bytes[1] = 200;
    bytes.extend_from_slice(&encoded(&append()));
    let mut stream = BytesMut::from(&bytes[..]);
    assert_eq!(decode(&mut stream), Ok(Decoded::Skipped { kind: 200 }));
    assert_eq!(decode(&mut stream), Ok(Decoded::Frame(append())));
}

#[test]
fn a_length_beyond_the_limit_is_refused_before_anything_is_read() {
    let mut bytes = encoded(&append());
    bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    let length = usize::try_from(u32::MAX).unwrap();
    assert_eq!(decode_one(&bytes), Err(WireError::TooLong { length }));
}

#[test]
fn reserved_bits_are_refused() {
    let mut bytes = encoded(&append());
    bytes[2] = 1;
    assert_eq!(decode_one(&bytes), Err(WireError::Reserved { found: 1 }));
}

#[test]
fn a_flipped_bit_in_the_body_is_found() {
    let whole = encoded(&append());
    for byte in HEADER_BYTES..whole.len() {
        let mut bytes = whole.clone();
        bytes[byte] ^= 1;
        assert!(matches!(decode_one(&bytes), Err(WireError::Checksum { kind: 1, .. })));
    }
}

#[test]
fn a_body_of_another_kind_is_refused() {
    let mut bytes = encoded(&append());
    bytes[1] = 3;
    assert!(matches!(decode_one(&bytes), Err(WireError::Body { kind: 3, .. })), "{:?}", decode_one(&bytes));
}

#[test]
fn a_value_that_is_too_long_for_a_frame_is_not_encoded() {
    let answer = Bytes::from(vec![0; FRAME_BYTES_MAX + 1]);
    let frame = Frame::Reply { id: 1, reply: Reply::Done { at: at(1, 1), answer } };
    assert!(matches!(frame.encode(), Err(WireError::TooLong { .. })));
}

#[test]
fn a_node_id_of_zero_and_a_wrong_voter_set_cannot_be_decoded() {
    use rivven_cluster::wire::codec;
    assert!(codec::decode::<rivven_cluster::id::NodeId>(&codec::encode(&0_u64)).is_err());
    for wrong in [vec![], vec![2_u64, 1], vec![1, 1]] {
        assert!(codec::decode::<formation::VoterSet>(&codec::encode(&wrong)).is_err(), "{wrong:?}");
    }
}

/// The corpus in git, replayed on stable Rust. After a change of the frames, run it once with `UPDATE=1`.
#[test]
fn the_fuzz_corpus_holds() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/wire");
    if std::env::var_os("UPDATE").is_some() {
        let names = ["append", "greeting", "propose", "done", "busy"];
        for (name, frame) in names.into_iter().zip(frames()) {
            std::fs::write(format!("{folder}/{name}"), encoded(&frame)).expect("a file of the corpus");
        }
        let all: Vec<u8> = frames().iter().flat_map(encoded).collect();
        std::fs::write(format!("{folder}/all-frames"), all).expect("a file of the corpus");
    }
    let (mut files, mut frames) = (0, 0);
    for file in std::fs::read_dir(folder).expect("the corpus lies in git") {
        let bytes = std::fs::read(file.expect("a file").path()).expect("a readable file");
        frames += rivven_fuzz::wire(&bytes);
        files += 1;
    }
    assert!(files >= 8 && frames >= 6, "{files} files with {frames} frames");
}

/// What libFuzzer would begin with: the corpus with every byte changed and every length cut.
#[test]
fn bytes_near_a_frame_never_panic() {
    for frame in frames() {
        let whole = encoded(&frame);
        for place in 0..whole.len() {
            for change in [0x00, 0x01, 0x7f, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[place] = change;
                rivven_fuzz::wire(&bytes);
                // And with a checksum that fits, so that the body is read.
                let checksum = xxhash(&bytes[HEADER_BYTES..]);
                bytes[8..12].copy_from_slice(&checksum);
                rivven_fuzz::wire(&bytes);
            }
        }
    }
}

fn xxhash(body: &[u8]) -> [u8; 4] {
    let hash = xxhash_rust::xxh3::xxh3_64(body).to_le_bytes();
    [hash[0], hash[1], hash[2], hash[3]]
}
