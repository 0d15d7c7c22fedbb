//! What the parts cost without a network and a disk: frames, records, and one proposal through three nodes.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rivven_cluster::id::{LogIndex, NodeId, Term};
use rivven_cluster::kv::Command;
use rivven_cluster::node::{Limits, Message};
use rivven_cluster::raft::{Body, Entry, Message as RaftMessage, Position};
use rivven_cluster::wire::{self, Frame};

use self::cluster::Cluster;

#[path = "../tests/support/cluster.rs"]
mod cluster;

/// The commands of one append.
const BATCH: u64 = 64;

fn id(node: u64) -> NodeId {
    NodeId::new(node).expect("not 0")
}

fn command() -> Bytes {
    Command::Put { key: Bytes::from_static(b"key-00001"), value: Bytes::from(vec![7; 256]) }.encode()
}

/// An append of some commands of 256 bytes.
fn append() -> Frame {
    let at = |index| Position { index: LogIndex::new(index), term: Term::new(3) };
    let entries = (2..BATCH + 2).map(|index| Entry::of_command(at(index), command())).collect();
    let body = Body::Append { previous: at(1), commit: LogIndex::new(1), entries };
    Frame::Message(Message::Raft(RaftMessage { to: id(1), term: Term::new(3), body }))
}

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("an append of 64 commands of 256 bytes");
    group.throughput(Throughput::Elements(BATCH));
    let frame = append();
    group.bench_function("encode", |bencher| bencher.iter(|| black_box(&frame).encode()));
    let encoded = frame.encode().expect("it is short");
    group.bench_function("decode", |bencher| {
        bencher.iter(|| wire::decode(&mut BytesMut::from(black_box(&encoded[..]))));
    });
    group.finish();
}

fn proposals(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("a command of 256 bytes through three nodes");
    for count in [1, BATCH] {
        let mut cluster = Cluster::formed(Limits::default());
        group.throughput(Throughput::Elements(count));
        group.bench_function(format!("{count} at a time"), |bencher| {
            bencher.iter(|| cluster.propose(command(), count))
        });
        assert!(cluster.answered > 1, "they were answered");
    }
    group.finish();
}

criterion_group!(benches, frames, proposals);
criterion_main!(benches);
