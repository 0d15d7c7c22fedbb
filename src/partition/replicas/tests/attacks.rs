//! What a reader's attack has found.

use super::*;

#[test]
fn a_read_that_comes_late_does_not_end_the_next_one() {
    // Nothing stays in memory, and what is read comes only when the test says so.
    let mut world = World::new(1, Settings { tail_bytes: 0, ..Settings::default() });
    world.run();
    world.crash(3);
    world.produce(1, 0, &["a"]);
    world.run();
    let leader = world.hosts.get_mut(&id(1)).unwrap();
    let session = |world: &World, node| world.metadata.node(id(node)).unwrap().epoch;
    leader.replicas.settle(world.now);
    while leader.replicas.poll().is_some() {}
    let partition = world.partition(0);
    let leader_epoch = world.metadata.partition(partition).unwrap().leader_epoch;
    let (at, knows) = Default::default();
    let fetch = |session| replica::io::Fetch { session, leader_epoch, at, last_epoch: None, knows };
    let mut reads = Vec::new();
    for boot in [0, 1] {
        // The same follower asks twice, as another process the second time.
        let session = NodeEpoch::new(session(&world, 3).value() + boot);
        let leader = world.hosts.get_mut(&id(1)).unwrap();
        leader.replicas.handle_message(world.now, id(3), Message::Fetch(vec![(partition, fetch(session))]));
        leader.replicas.settle(world.now);
        while let Some(output) = leader.replicas.poll() {
            if let Output::Read { id, read } = output {
                reads.push((id, read));
            }
        }
    }
    assert_eq!(reads.len(), 2);
    let leader = world.hosts.get_mut(&id(1)).unwrap();
    let mut answers = 0;
    for (read, what) in reads {
        let batches = leader.disk.read(&what);
        leader.replicas.handle_read(read, batches);
        leader.replicas.settle(world.now);
        while let Some(output) = leader.replicas.poll() {
            assert!(!matches!(output, Output::Read { .. }), "nothing is read again");
            answers += u32::from(matches!(output, Output::Send { message: Message::Fetched(_), .. }));
        }
    }
    assert_eq!(answers, 1);
}

#[test]
fn a_consumer_for_which_the_disk_reads_is_not_told_that_there_is_no_news() {
    let mut world = World::new(1, Settings { tail_bytes: 0, ..Settings::default() });
    world.run();
    world.produce(1, 0, &["a"]);
    world.run();
    let (from, wait) = (Offset::new(0), Duration::from_millis(1));
    let consumer = world.ask(1, 0, Ask::Consume(Consume { from, bytes: 1000, wait, from_anybody: false }));
    let leader = world.hosts.get_mut(&id(1)).unwrap();
    leader.replicas.settle(world.now);
    let Some(Output::Read { id: read, read: what }) = leader.replicas.poll() else {
        panic!("it is on the disk")
    };
    leader.replicas.handle_timeout(world.now + Duration::from_secs(1));
    assert_eq!(leader.replicas.poll(), None);
    let batches = leader.disk.read(&what);
    leader.replicas.handle_read(read, batches);
    world.run();
    assert!(matches!(&world.replies[&consumer], Ok(Answer::Consumed { batches, .. }) if batches.len() == 1));
}

#[test]
fn a_follower_whose_disk_does_not_keep_up_asks_for_no_more_until_it_has_written() {
    let mut world = World::new(1, Settings { unwritten_bytes_max: 40, ..Settings::default() });
    world.run();
    let partition = world.partition(0);
    let follower = world.hosts.get_mut(&id(2)).unwrap();
    follower.replicas.open_bytes = 100;
    follower.replicas.hosted.get_mut(&partition).unwrap().asked = None;
    follower.replicas.touched.insert(partition);
    follower.replicas.settle(world.now);
    assert_eq!(follower.replicas.poll(), None, "nothing is asked");
    let (_, marks) = follower.replicas.close_batch();
    follower.replicas.written(marks);
    follower.replicas.settle(world.now);
    let asked = follower.replicas.poll();
    assert!(matches!(asked, Some(Output::Send { message: Message::Fetch(_), .. })), "{asked:?}");
}

#[test]
fn a_process_that_is_registered_anew_begins_with_nothing() {
    let mut world = World::new(1, Settings::default());
    world.run();
    world.produce(1, 0, &["a"]);
    world.run();
    let (metadata, partition) = (world.metadata.clone(), world.partition(0));
    let host = world.hosts.get_mut(&id(3)).unwrap();
    let all = host.replicas.begin(NodeEpoch::new(99), &metadata);
    host.replicas.observe(world.now, &metadata, &all);
    assert_eq!(host.replicas.replica(partition).map(|replica| replica.log().end), Some(Offset::new(0)));
    assert!(world.drain(id(3)));
    assert!(world.step());
    assert_eq!(world.hosts[&id(3)].disk.get(partition), None);
}

#[test]
fn what_is_said_of_a_deleted_topic_counts_for_nothing_in_the_one_that_has_its_name() {
    let mut world = World::new(1, Settings::default());
    world.produce(1, 0, &["old"]);
    world.run();
    world.produce(1, 0, &["never committed"]);
    for node in NODES.map(id) {
        world.drain(node);
    }
    let late: Vec<_> = world.messages.drain(..).collect();
    assert!(!late.is_empty(), "something is on its way");
    let (old, spec) = (world.topic, world.metadata.topic(world.topic).unwrap().spec.clone());
    world.order(Command::DeleteTopic { topic: old });
    let assignments = vec![NODES.map(id).to_vec()];
    let Outcome::Created(new) = world.order(Command::CreateTopic { spec, assignments }) else { panic!() };
    world.topic = new;
    world.messages.extend(late);
    world.run();
    let request = world.produce(1, 0, &["new"]);
    world.run();
    assert_eq!(world.replies[&request], first(0), "it begins with nothing");
    assert_eq!(world.values(1, 0, 0), ["new"]);
    world.topic = old;
    let request = world.produce(1, 0, &["late"]);
    world.run();
    let refused = Err(AskError::PartitionUnknown(world.partition(0)));
    assert_eq!(world.replies[&request], refused);
    assert!(world.hosts.values().all(|host| host.disk.get(world.partition(0)).is_none()), "its log is gone");
}

#[test]
fn a_follower_hears_what_is_committed_although_an_answer_was_lost() {
    let mut world = World::new(1, Settings::default());
    world.produce(1, 0, &["a"]);
    world.run();
    let committed = |world: &World| {
        NODES
            .map(|node| world.hosts[&id(node)].replicas.replica(world.partition(0)).unwrap().high_watermark())
    };
    assert_eq!(committed(&world), [1, 0, 0].map(Offset::new), "it is told when it asks again");
    world.now = world.now + Duration::from_millis(500);
    for node in NODES.map(id) {
        world.hosts.get_mut(&node).unwrap().replicas.handle_timeout(world.now);
        world.drain(node);
    }
    for (from, to, message) in core::mem::take(&mut world.messages) {
        world.hosts.get_mut(&to).unwrap().replicas.handle_message(world.now, from, message);
    }
    world.drain(id(1));
    assert_eq!(world.messages.len(), 2, "both are told");
    world.messages.clear();
    world.sleep(2000);
    assert_eq!(committed(&world), [1, 1, 1].map(Offset::new));
}
