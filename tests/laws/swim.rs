//! SWIM as a subject of the laws: what peers can say to it, most of it nonsense.

use std::net::SocketAddr;

use rivven_cluster::swim::{self, Swim};

use super::*;

impl Subject for Swim {
    fn start(seed: u64) -> Swim {
        let cluster = "demo".parse().unwrap();
        let mut config = swim::Config::new(node_id(1), cluster, "10.0.0.1:7946".parse().unwrap(), 1);
        config.seeds = vec!["seed:7946".parse().unwrap()];
        let wall = swim::WallSeconds(200_000_000);
        let start = swim::Start { wall, remembered: None, seed: Seed::new(seed) };
        Swim::start(config, start, Instant::ORIGIN).unwrap()
    }

    fn any_input() -> BoxedStrategy<swim::Input> {
        let via: SocketAddr = "10.0.0.2:7946".parse().unwrap();
        let datagram = (any_id(), 0..10_u8, prop::collection::vec(any::<u8>(), 0..120)).prop_map(
            move |(from, kind, rest)| {
                // The head of a datagram of ours; what follows is any bytes.
                let mut bytes = vec![b'R', b'v', 1, 0];
                bytes.extend_from_slice(&xxhash_rust::xxh3::xxh3_64(b"demo").to_le_bytes()[..4]);
                bytes.extend_from_slice(&[kind, 0]);
                bytes.extend_from_slice(&from.value().to_le_bytes());
                bytes.extend_from_slice(&rest);
                swim::Input::Datagram { from, via, bytes }
            },
        );
        let call = || (0..4_u64).prop_map(swim::CallId);
        let known = || prop::collection::vec((any_id(), any_epoch(), any_state()), 0..5);
        let knowns = move || {
            known().prop_map(|all| {
                let known = |(id, epoch, state)| swim::Known { id, epoch, state, word: 0 };
                all.into_iter().map(known).collect::<Vec<_>>()
            })
        };
        let accused = || prop::collection::vec((any_id(), any_epoch()), 0..4);
        let question = prop_oneof![
            any_card().prop_map(swim::Question::Join),
            Just(swim::Question::Ping),
            Just(swim::Question::Metadata),
            prop::collection::vec(any::<u64>(), 250..257).prop_map(swim::Question::Digest),
            (prop::collection::vec(any_id(), 0..4), prop::collection::vec(any_card(), 0..4), accused())
                .prop_map(|(wanted, cards, accused)| swim::Question::Exchange { wanted, cards, accused }),
        ];
        let answer = prop_oneof![
            (prop::collection::vec(any_card(), 0..4), any::<Option<u32>>()).prop_map(|(cards, boot)| {
                let known = boot.map(|boot| (swim::Epoch::new(u64::from(boot) << 40), boot));
                swim::Answer::Welcome { cards, known }
            }),
            Just(swim::Answer::Pong),
            (prop::collection::vec(any::<u8>(), 0..9), knowns())
                .prop_map(|(buckets, known)| swim::Answer::Differences { buckets, known }),
            (prop::collection::vec(any_card(), 0..4), accused())
                .prop_map(|(cards, accused)| swim::Answer::Exchanged { cards, accused }),
            (0..3_u32, prop::collection::vec(any::<u8>(), 0..80))
                .prop_map(|(version, bytes)| swim::Answer::Metadata { version, bytes }),
        ];
        prop_oneof![
            6 => datagram,
            3 => (call(), any_id(), question)
                .prop_map(|(call, from, question)| swim::Input::Asked { call, from, question }),
            3 => (call(), any_id(), answer).prop_map(|(call, from, answer)| swim::Input::Answered { call, from, answer }),
            1 => call().prop_map(|call| swim::Input::Unanswered { call }),
            1 => Just(swim::Input::Resolved { name: "seed:7946".parse().unwrap(), addresses: vec![via] }),
            1 => any::<u32>().prop_map(|wall| swim::Input::WallClock(swim::WallSeconds(wall))),
            1 => prop::collection::vec(any::<u8>(), 0..100).prop_map(swim::Input::Describe),
            1 => Just(swim::Input::Leave),
        ]
        .boxed()
    }

    fn answer(_output: &swim::Output) -> Option<swim::Input> {
        None
    }

    fn is_slow(_answer: &swim::Input) -> bool {
        false
    }

    fn assert_invariants(&self) {
        Swim::assert_invariants(self);
    }
}

fn any_epoch() -> BoxedStrategy<swim::Epoch> {
    let near = (199_999_000..200_001_000_u64, 0..4_u64).prop_map(|(seconds, count)| seconds << 32 | count);
    prop_oneof![3 => near, 1 => any::<u64>()].prop_map(swim::Epoch::new).boxed()
}

fn any_state() -> BoxedStrategy<swim::State> {
    use swim::State::{Alive, Dead, Left, Suspect};
    prop::sample::select(vec![Alive, Suspect, Dead, Left]).boxed()
}

fn any_card() -> BoxedStrategy<swim::Card> {
    (any_id(), any_epoch(), 0..3_u32, 0..3_u32, 0..3_u16, prop::collection::vec(any::<u8>(), 0..9))
        .prop_map(|(id, epoch, boot, metadata_version, zone, metadata)| {
            let address = "10.0.0.3:7946".parse().unwrap();
            let metadata_hash = u32::from(zone);
            let record = swim::Record { id, epoch, address, boot, zone, metadata_version, metadata_hash };
            swim::Card { record, metadata }
        })
        .boxed()
}
