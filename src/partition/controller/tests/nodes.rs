//! Fenced, unfenced, relieved: who, when and how often.

use super::*;

#[test]
fn a_node_that_comes_is_registered_and_unfenced_at_once() {
    let world = World::new(3, 0);
    assert_eq!(world.count(|command| matches!(command, Command::RegisterNode(_))), 3);
    assert_eq!(world.count(|command| matches!(command, Command::UnfenceNode { .. })), 3);
    assert_eq!(world.verdict(1), Verdict::Well);
    assert_eq!(world.verdict(9), Verdict::Unknown);
}

#[test]
fn who_is_held_dead_and_silent_is_fenced_after_the_delay_and_others_lead() {
    let mut world = World::new(4, 12);
    let before = world.leads(4);
    assert!(before > 0);
    world.die(4);
    let died = world.now;
    world.pass(SECOND * 2);
    assert!(matches!(world.verdict(4), Verdict::Silent(_)));
    world.pass(SECOND * 3);
    let fences = world.fences(4);
    assert_eq!(fences.len(), 1);
    assert_eq!(fences[0].1, FenceReason::Dead);
    assert!(fences[0].0.saturating_since(died) <= SECOND * 4);
    assert_eq!(world.leads(4), 0);
    assert_eq!(world.verdict(4), Verdict::Away);
}

#[test]
fn a_suspect_is_never_fenced_and_neither_is_who_speaks() {
    let mut world = World::new(3, 3);
    world.process(2).hint = Some((1, Life::Suspect));
    world.process(3).hint = Some((1, Life::Dead));
    world.pass(SECOND * 60);
    assert_eq!(world.active(), BTreeSet::from([1, 2, 3]));
}

#[test]
fn who_is_silent_for_long_is_fenced_though_the_members_hold_it_alive() {
    let mut world = World::new(4, 3);
    world.process(4).speaks = false;
    world.pass(SECOND * 8);
    assert_eq!(world.active().len(), 4);
    world.pass(SECOND * 4);
    assert_eq!(world.fences(4).iter().map(|(_, reason)| *reason).collect::<Vec<_>>(), [FenceReason::Silent]);
}

/// Scenario 23.
#[test]
fn a_node_that_flaps_moves_leaders_a_few_times() {
    let mut world = World::new(4, 12);
    // Ten minutes: silent and held dead for five seconds, there for five.
    for _ in 0..60 {
        world.die(4);
        world.pass(SECOND * 5);
        world.process(4).speaks = true;
        world.process(4).hint = Some((1, Life::Alive));
        world.pass(SECOND * 5);
    }
    let fences = world.fences(4).len();
    assert!((1..=3).contains(&fences), "it was fenced {fences} times in ten minutes");
    // Once it stays, it is taken back, and what it was is forgotten little by little.
    world.pass(Duration::from_secs(6 * 60));
    assert!(world.active().contains(&4));
    let explained =
        |world: &World| world.controller.explain(world.now, id(4), &world.metadata, &world.sight()).flaps;
    let flaps = explained(&world);
    world.pass(Duration::from_secs(20 * 60));
    assert!(explained(&world) < flaps, "{flaps}");
}

/// Scenario 23, with a node that gossip slanders.
#[test]
fn a_node_that_speaks_is_not_fenced_whatever_the_members_hold() {
    let mut world = World::new(4, 12);
    for second in 0..600 {
        let life = if second % 10 < 5 { Life::Dead } else { Life::Alive };
        world.process(4).hint = Some((1, life));
        world.pass(SECOND);
    }
    assert_eq!(world.fences(4), []);
}

/// Scenario 24: without a majority nothing is committed; and with one, not all are fenced at once.
#[test]
fn when_half_of_the_nodes_seem_gone_they_are_fenced_one_at_a_time() {
    let mut world = World::new(10, 20);
    let before = world.log.len();
    (6..=10).for_each(|node| world.die(node));
    // The controller is on the smaller side: what it proposes is never executed.
    let mut alone = World { log: Vec::new(), ..world };
    let mut asked = BTreeSet::new();
    for _ in 0..40 {
        alone.now = alone.now + TICK;
        (1..=5).for_each(|node| {
            let beat = alone.beat(node, 0, 1);
            alone.controller.hear(alone.now, beat, &alone.metadata);
        });
        alone.review().into_iter().for_each(|command| asked.extend(subject(&command)));
    }
    assert_eq!(asked.len(), 1, "what it asks for may be carried out later, all of it: {asked:?}");
    assert!(alone.is_braking);
    // With a majority they are fenced, one after the other.
    let mut world = World { controller: Controller::start(Settings::default(), alone.now), ..alone };
    world.pass(SECOND * 12);
    assert_eq!(world.active(), (1..=5).collect());
    let mut at: Vec<Instant> = (6..=10).map(|node| world.fences(node)[0].0).collect();
    at.sort();
    assert!(at.windows(2).all(|pair| pair[1].saturating_since(pair[0]) >= SECOND), "{at:?}");
    assert!(before > 0);
}

/// Scenario 25.
#[test]
fn a_late_rumour_about_the_process_before_says_nothing() {
    let mut world = World::new(3, 3);
    world.die(3);
    world.pass(SECOND * 5);
    world.restart(3);
    world.pass(SECOND * 8);
    assert!(world.active().contains(&3));
    let fences = world.fences(3).len();
    world.process(3).hint = Some((1, Life::Dead));
    world.process(3).speaks = false;
    world.pass(SECOND * 5);
    assert_eq!(world.fences(3).len(), fences, "only its own silence counts, and that is short");
}

/// Scenario 26.
#[test]
fn a_new_leader_fences_whom_the_old_one_did_not_come_to_fence() {
    let mut world = World::new(3, 3);
    world.die(3);
    world.pass(SECOND * 2);
    assert_eq!(world.fences(3), []);
    world.controller = Controller::start(Settings::default(), world.now);
    let began = world.now;
    world.pass(SECOND * 4);
    let fenced = world.fences(3)[0].0.saturating_since(began);
    assert!(fenced >= SECOND * 3 && fenced <= SECOND * 3 + TICK * 2, "{fenced:?}");
}

#[test]
fn whoever_begins_to_lead_grants_everybody_the_full_time() {
    let mut world = World::new(3, 3);
    for node in 1..=3 {
        world.die(node);
    }
    world.now = world.now + SECOND * 3600;
    world.controller = Controller::start(Settings::default(), world.now);
    world.pass(SECOND * 2);
    assert_eq!(world.active().len(), 3, "the silence before may have been its own");
}

#[test]
fn a_node_that_was_started_again_begins_a_new_session_and_leads_again() {
    let mut world = World::new(4, 12);
    let before = world.leads(4);
    world.restart(4);
    world.pass(SECOND * 2);
    assert_eq!(world.fences(4)[0].1, FenceReason::Restarted);
    assert!(!world.active().contains(&4), "it speaks for a while first");
    assert!(matches!(world.verdict(4), Verdict::Held(_)));
    world.pass(SECOND * 3);
    assert!(world.active().contains(&4));
    assert_eq!(world.metadata.node(id(4)).unwrap().boot, BootId::new(2));
    world.pass(SECOND * 10);
    assert_eq!(world.leads(4), before);
}

#[test]
fn the_word_of_an_older_process_changes_nothing() {
    let mut world = World::new(3, 3);
    world.restart(3);
    world.pass(SECOND * 6);
    let (before, log) = (world.metadata.clone(), world.log.len());
    let beat = world.beat(3, 0, 1);
    world.controller.hear(world.now, beat, &world.metadata);
    world.pass(SECOND);
    assert_eq!((world.metadata, world.log.len()), (before, log));
}

/// Scenario 22.
#[test]
fn a_clone_is_not_taken_in_while_the_original_is_there() {
    let mut world = World::new(3, 3);
    let epoch = world.metadata.node(id(3)).unwrap().epoch;
    for _ in 0..20 {
        let beat = world.beat(3, 7, 1);
        world.controller.hear(world.now, beat, &world.metadata);
        world.pass(SECOND);
    }
    assert_eq!(world.verdict(3), Verdict::Doubled);
    assert_eq!(world.metadata.node(id(3)).unwrap().epoch, epoch);
    // Fenced or not: two that both speak do not take turns.
    let record = world.metadata.node(id(3)).unwrap().clone();
    let (node, seen) = (id(3), record.changed);
    world.execute(Command::FenceNode { node, epoch, seen, reason: FenceReason::Operator }).unwrap();
    for _ in 0..5 {
        let beat = world.beat(3, 7, 1);
        world.controller.hear(world.now, beat, &world.metadata);
        world.pass(SECOND);
    }
    assert_eq!(world.metadata.node(id(3)).unwrap().epoch, epoch);
    // When the original is gone, the other disk begins a session of its own.
    world.die(3);
    world.process(3).token = 7;
    world.pass(SECOND * 5);
    world.restart(3);
    world.pass(SECOND * 6);
    assert_eq!(world.metadata.node(id(3)).unwrap().token, Token::new(7));
    assert!(world.active().contains(&3));
}

#[test]
fn who_does_not_understand_what_the_cluster_needs_is_not_registered_and_not_proposed_for_ever() {
    let mut world = World::new(3, 0);
    world.arrive(4);
    world.process(4).speaks = false;
    let mut beat = world.beat(4, 0, 1);
    beat.registration.features = 0;
    for _ in 0..10 {
        world.controller.hear(world.now, beat.clone(), &world.metadata);
        world.pass(SECOND);
    }
    assert_eq!((world.verdict(4), world.metadata.node(id(4))), (Verdict::Outdated, None));
    assert_eq!(world.count(|command| matches!(command, Command::RegisterNode(_))), 3);
}

/// Scenario 21, as far as metadata goes.
#[test]
fn a_node_that_says_goodbye_is_relieved_before_it_goes() {
    let mut world = World::new(4, 12);
    world.process(4).is_leaving = true;
    world.pass(SECOND * 2);
    assert_eq!(world.metadata.node(id(4)).unwrap().state, NodeState::ShuttingDown);
    assert_eq!((world.leads(4), world.verdict(4)), (0, Verdict::Stopping));
    world.process(4).speaks = false;
    world.process(4).hint = Some((1, Life::Left));
    world.pass(SECOND);
    assert_eq!(world.fences(4)[0].1, FenceReason::Left);
    world.process(4).is_leaving = false;
    world.restart(4);
    world.pass(SECOND * 6);
    assert!(world.active().contains(&4));
}

#[test]
fn who_was_put_out_and_holds_nothing_is_forgotten() {
    let mut world = World::new(4, 0);
    world.process(4).is_member = false;
    world.process(4).speaks = false;
    world.pass(SECOND * 12);
    assert_eq!(world.metadata.node(id(4)), None);
    // Its last words do not bring it back.
    let beat = world.beat(4, 0, 1);
    world.controller.hear(world.now, beat, &world.metadata);
    world.pass(SECOND * 2);
    assert_eq!(world.metadata.node(id(4)), None);
}

#[test]
fn what_is_not_answered_is_asked_for_again_but_not_at_once() {
    let mut world = World::new(3, 3);
    world.die(3);
    let mut asked = Vec::new();
    for _ in 0..40 {
        world.now = world.now + TICK;
        for node in 1..=2 {
            let beat = world.beat(node, 0, 1);
            world.controller.hear(world.now, beat, &world.metadata);
        }
        asked.extend(world.review().into_iter().map(|command| (world.now, command)));
    }
    assert!((2..=5).contains(&asked.len()), "{asked:?}");
    assert!(asked.windows(2).all(|pair| pair[1].0.saturating_since(pair[0].0) >= SECOND * 2), "{asked:?}");
    // Each of them does what the first one did, and nothing more (scenario 27).
    let answers: Vec<_> = asked.into_iter().map(|(_, command)| world.execute(command)).collect();
    assert_eq!(answers[0], Ok(Outcome::Changed));
    assert!(answers[1..].iter().all(|answer| *answer == Ok(Outcome::Same)), "{answers:?}");
}

/// Scenario 39.
#[test]
fn the_loss_of_a_node_is_one_command_however_much_it_holds() {
    let mut world = World::new(4, 2000);
    assert!(world.holds(4) >= 1000);
    world.copies = false;
    world.die(4);
    let before = world.log.len();
    world.pass(SECOND * 5);
    assert_eq!(world.log.len() - before, 1);
}
