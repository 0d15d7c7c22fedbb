//! Producers and consumers of three nodes in one process: whoever leads and whoever stops, each record is there once.

use std::sync::Arc;
use std::time::Duration;

use rivven_cluster::id::{LeaderEpoch, Offset};
use rivven_cluster::node::{Partitioning, Reply, Request};
use rivven_cluster::partition::controller::Settings;
use rivven_cluster::partition::metadata::Metadata;
use rivven_cluster::partition::records::{Record, RecordsError};
use rivven_cluster::partition::replica::io::Acks;
use rivven_cluster::partition::replicas::io::{Ask, AskError, Produce};
use rivven_cluster::quic::{
    ConsumeFailure, Consumer, NewTopic, PartitionError, PartitionManager, PartitionSettings, ProduceFailure,
    Producer, ProducerSettings, RaftConfig, RaftNode, RouteBy, StartAt,
};
use tokio::task::JoinSet;

const PATIENCE: Duration = Duration::from_secs(60);

async fn start(node_id: u64, base_port: u16) -> RaftNode {
    let settings = Settings {
        beat_interval: Duration::from_millis(300),
        silence_max: Duration::from_secs(2),
        fence_delay: Duration::from_secs(2),
        ..Settings::default()
    };
    let config = RaftConfig {
        node_id,
        peers: (1..=3).filter(|peer| *peer != node_id).collect(),
        base_port,
        partitioning: Some(Partitioning { settings, ..Partitioning::default() }),
        ..RaftConfig::default()
    };
    RaftNode::new(config).await.expect("it starts")
}

async fn cluster(base_port: u16) -> (Vec<RaftNode>, Arc<PartitionManager>) {
    let mut nodes = Vec::new();
    for node in 1..=3 {
        nodes.push(start(node, base_port).await);
    }
    let client = nodes[0].client().clone();
    let partitions = PartitionManager::open(client, PartitionSettings::default()).await.expect("it opens");
    partitions.has_nodes(3).await;
    (nodes, Arc::new(partitions))
}

fn record(value: String) -> Record {
    Record { key: None, value: value.into() }
}

/// All records of a partition up to this place.
async fn read(partitions: &Arc<PartitionManager>, partition: u32, end: Offset) -> Vec<String> {
    let mut consumer = Consumer::new(partitions.clone(), "orders", partition, StartAt::Earliest);
    let mut values = Vec::new();
    while values.len() < usize::try_from(end.value()).expect("a short log") {
        let next = tokio::time::timeout(PATIENCE, consumer.next()).await.expect("in time");
        for consumed in next.expect("it is there") {
            assert_eq!(consumed.offset.value(), u64::try_from(values.len()).expect("a short log"));
            values.push(String::from_utf8(consumed.record.value.to_vec()).expect("text"));
        }
    }
    values
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_is_there_once_and_in_order_though_the_leader_stops() {
    let (mut nodes, partitions) = cluster(19_700).await;
    partitions.create_topic(NewTopic::new("orders", 2)).await.expect("it is created");
    let producer = Arc::new(Producer::new(partitions.clone(), "orders", ProducerSettings::default()));
    let mut sends = JoinSet::new();
    for partition in 0..2 {
        let producer = producer.clone();
        sends.spawn(async move {
            let mut last = None;
            for number in 0..1500 {
                let written = producer.send_to(partition, record(format!("{number}"))).await;
                last = written.expect("it is written").offset;
                if number % 100 == 0 {
                    tokio::time::sleep(Duration::from_millis(30)).await;
                }
            }
            (partition, last.expect("it has a place"))
        });
    }
    // The leader of a partition stops while they produce; it is not the node that is asked for the metadata.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let leader =
        (0..2).map(|number| partitions.route("orders", RouteBy::Partition(number)).expect("led").leader);
    let leader = leader.max().expect("two");
    let place = usize::try_from(leader.value() - 1).expect("one of three");
    if place > 0 {
        nodes.remove(place).shutdown().await.expect("it stops");
    }
    while let Some(done) = sends.join_next().await {
        let (partition, last) = done.expect("no panic");
        let values = read(&partitions, partition, last.plus(1)).await;
        let expected: Vec<String> = (0..1500).map(|number| format!("{number}")).collect();
        assert_eq!(values, expected, "partition {partition}");
    }
    for node in nodes {
        node.shutdown().await.expect("it stops");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_cannot_be_done_is_said_and_nothing_is_written() {
    let (nodes, partitions) = cluster(19_720).await;
    let topic = NewTopic { min_in_sync: Some(2), ..NewTopic::new("orders", 1) };
    partitions.create_topic(topic).await.expect("it is created");
    let settings = ProducerSettings { timeout: Duration::from_secs(5), ..ProducerSettings::default() };
    let producer = Producer::new(partitions.clone(), "orders", settings);

    // Each acknowledgement gives what it says.
    let all = producer.send(record("all".to_owned())).await.expect("it is written");
    assert_eq!((all.partition.number, all.offset), (0, Some(Offset::new(0))));
    for (acks, place) in [(Acks::Leader, Some(Offset::new(1))), (Acks::None, None)] {
        let other = Producer::new(partitions.clone(), "orders", ProducerSettings { acks, ..settings });
        let written = other.send(record(format!("{acks:?}"))).await.expect("it is written");
        assert_eq!(written.offset, place);
    }
    assert_eq!(read(&partitions, 0, Offset::new(3)).await, ["all", "Leader", "None"]);

    // An unknown topic, an unknown partition, a record that is too large.
    let nowhere = Producer::new(partitions.clone(), "payments", settings);
    let failed = nowhere.send(record("lost".to_owned())).await;
    let unknown = PartitionError::TopicUnknown("payments".to_owned());
    assert_eq!(failed, Err(ProduceFailure::Partition(unknown)));
    let failed = producer.send_to(7, record("lost".to_owned())).await;
    assert!(
        matches!(
            failed,
            Err(ProduceFailure::Partition(PartitionError::PartitionUnknown { partitions: 1, .. }))
        ),
        "{failed:?}"
    );
    let failed = producer.send(record("x".repeat(2 * 1024 * 1024))).await;
    assert!(matches!(failed, Err(ProduceFailure::Refused(AskError::TooLarge { .. }))), "{failed:?}");

    // A place where nothing is, and one from which a consumer goes on.
    let mut consumer = Consumer::new(partitions.clone(), "orders", 0, StartAt::Offset(Offset::new(99)));
    let failed = consumer.next().await;
    let (start, end) = (Offset::new(0), Offset::new(3));
    assert_eq!(failed, Err(ConsumeFailure::Refused(AskError::OutOfRange { start, end })));
    consumer.seek(StartAt::Latest);
    assert_eq!(consumer.next().await, Ok(Vec::new()));
    producer.send(record("news".to_owned())).await.expect("it is written");
    let news = consumer.next().await.expect("it is there");
    assert_eq!(news.iter().map(|consumed| consumed.offset.value()).collect::<Vec<_>>(), [3]);
    let offsets = consumer.offsets().await.expect("it is led");
    assert_eq!(
        (offsets.high_watermark, offsets.end, offsets.followers.len()),
        (Offset::new(4), Offset::new(4), 2)
    );

    for node in nodes {
        node.shutdown().await.expect("it stops");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_say_what_is_wrong_with_what_they_are_asked_and_that_too_few_are_in_sync() {
    let (nodes, partitions) = cluster(19_740).await;
    let topic = NewTopic { min_in_sync: Some(2), ..NewTopic::new("orders", 1) };
    partitions.create_topic(topic).await.expect("it is created");
    let settings = ProducerSettings { timeout: Duration::from_secs(5), ..ProducerSettings::default() };
    let producer = Producer::new(partitions.clone(), "orders", settings);
    producer.send(record("one".to_owned())).await.expect("it is written");

    // Bytes that are no records.
    let route = partitions.route("orders", RouteBy::Partition(0)).expect("it is led");
    let produce = Produce {
        acks: Acks::All,
        timeout: Duration::from_secs(1),
        count: 1,
        stamp: None,
        records: "no records at all".into(),
    };
    let (partition, current) = (route.partition, route.epoch);
    let ask = |epoch, ask| Request::Ask { partition, epoch: Some(epoch), ask };
    let request = ask(current, Ask::Produce(produce));
    let reply = nodes[0].client().request(&route.address, request).await.expect("it is answered");
    let malformed = AskError::Malformed(RecordsError::Checksum);
    assert_eq!(reply, Reply::Told(Err(malformed)));

    // Callers that know less than the leader, and more.
    let earlier = LeaderEpoch::new(current.value() - 1);
    for (epoch, error) in
        [(earlier, AskError::EpochFenced { current }), (current.next(), AskError::EpochUnknown { current })]
    {
        let request = ask(epoch, Ask::Offsets);
        let reply = nodes[0].client().request(&route.address, request).await.expect("it is answered");
        assert_eq!(reply, Reply::Told(Err(error)));
    }

    // One replica is gone: two are enough here, and there they are too few.
    let strict = NewTopic { min_in_sync: Some(3), ..NewTopic::new("strict", 1) };
    partitions.create_topic(strict).await.expect("it is created");
    let leads = |number: u64| {
        let led = ["orders", "strict"].map(|topic| partitions.route(topic, RouteBy::Partition(0)));
        led.iter().flatten().any(|route| route.leader.value() == number)
    };
    let goes = [3, 2].into_iter().find(|number| !leads(*number)).unwrap_or(3);
    let mut left = Vec::new();
    for (node, number) in nodes.into_iter().zip(1..) {
        if number == goes {
            node.shutdown().await.expect("it stops");
        } else {
            left.push(node);
        }
    }
    let written = producer.send(record("two are enough".to_owned())).await.expect("it is written");
    assert_eq!(written.offset, Some(Offset::new(1)));
    let is_lacking = |metadata: &Metadata| {
        let topic = metadata.topic_named("strict").map(|(_, topic)| topic);
        topic.is_some_and(|topic| topic.partitions[0].in_sync.len() == 2)
    };
    let mut news = partitions.news();
    while !partitions.look(is_lacking) {
        // A listener that has missed some looks as well.
        let _ = news.recv().await;
    }
    let settings = ProducerSettings { timeout: Duration::from_secs(2), ..settings };
    let strict = Producer::new(partitions.clone(), "strict", settings);
    let failed = strict.send(record("three are not there".to_owned())).await;
    let reason = AskError::NotEnoughReplicas { in_sync: 2, min_in_sync: 3 }.to_string();
    assert!(
        matches!(&failed, Err(ProduceFailure::TooLate(why)) if why.contains(&reason)),
        "it is tried until there is no time left: {failed:?}"
    );
    let mut nothing = Consumer::new(partitions.clone(), "strict", 0, StartAt::Earliest);
    assert_eq!(nothing.offsets().await.expect("it is led").end, Offset::new(0));
    for node in left {
        node.shutdown().await.expect("it stops");
    }
}
