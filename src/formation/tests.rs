//! The rules of formation, one test each, on a single machine fed by hand.

use super::*;

fn node(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

fn peer(id: u64) -> PeerName {
    format!("node{id}:9093").parse().unwrap()
}

fn set(ids: &[u64]) -> VoterSet {
    VoterSet::new(ids.iter().copied().map(node).collect()).unwrap()
}

fn start(standing: Standing) -> Formation {
    Formation::start(
        node(1),
        peer(1),
        BTreeSet::from([peer(2), peer(3)]),
        standing,
        Seed::new(1),
        Instant::ORIGIN,
    )
}

fn handle(machine: &mut Formation, input: Input) -> Vec<Output> {
    machine.handle(Instant::ORIGIN, input);
    machine.assert_invariants();
    core::iter::from_fn(|| machine.poll()).collect()
}

fn identify(machine: &mut Formation, at: u64, id: u64) -> Vec<Output> {
    handle(machine, Input::Identified { name: peer(at), node: node(id) })
}

/// A fresh peer names the voters 1, 2 and 3.
fn hear(machine: &mut Formation, from: u64, standing: Standing) -> Vec<Output> {
    let names = (standing == Standing::Fresh).then(|| set(&[1, 2, 3]));
    handle(machine, Input::Message { from: node(from), message: Message::Answer { standing, names } })
}

#[test]
fn a_node_pledges_when_every_listed_peer_has_said_that_it_is_not_formed() {
    let mut machine = start(Standing::Fresh);
    assert_eq!(identify(&mut machine, 2, 2), []);
    assert_eq!(identify(&mut machine, 3, 3), []);
    assert_eq!(hear(&mut machine, 2, Standing::Fresh), []);
    let pledge = Output::Record(Standing::Pledged(set(&[1, 2, 3])));
    assert_eq!(hear(&mut machine, 3, Standing::Pledged(set(&[1, 2, 3]))), [pledge]);
}

#[test]
fn a_wiped_node_never_pledges_although_it_has_identified_everybody() {
    let mut machine = start(Standing::Fresh);
    identify(&mut machine, 2, 2);
    identify(&mut machine, 3, 3);
    hear(&mut machine, 2, Standing::Pledged(set(&[1, 2, 3])));
    let theirs = set(&[1, 2, 3]);
    let refused = hear(&mut machine, 3, Standing::Formed(theirs.clone()));
    assert_eq!(refused, [Output::Refused(Refusal::DiskWiped { peer: node(3), theirs })]);
}

#[test]
fn a_node_does_not_pledge_against_a_peer_that_is_pledged_to_others() {
    let mut machine = start(Standing::Fresh);
    identify(&mut machine, 2, 2);
    identify(&mut machine, 3, 3);
    hear(&mut machine, 2, Standing::Fresh);
    let (theirs, ours) = (set(&[3, 4]), set(&[1, 2, 3]));
    let refused = hear(&mut machine, 3, Standing::Pledged(theirs.clone()));
    assert_eq!(refused, [Output::Refused(Refusal::OtherVoters { peer: node(3), theirs, ours })]);
}

#[test]
fn a_pledge_is_told_only_when_it_is_durable() {
    let mut machine = start(Standing::Fresh);
    identify(&mut machine, 2, 2);
    identify(&mut machine, 3, 3);
    hear(&mut machine, 2, Standing::Fresh);
    hear(&mut machine, 3, Standing::Fresh);
    let names = Some(set(&[1, 2, 3]));
    let message = Message::Greeting { standing: Standing::Fresh, names: names.clone(), address: peer(2) };
    let greeting = Input::Message { from: node(2), message };
    let answer = |standing| {
        let message = Message::Answer { standing, names: names.clone() };
        Output::Send { to: Addressee::Node(node(2)), message }
    };
    assert_eq!(handle(&mut machine, greeting.clone()), [answer(Standing::Fresh)]);
    assert_eq!(handle(&mut machine, Input::Recorded), []);
    assert_eq!(handle(&mut machine, greeting), [answer(Standing::Pledged(set(&[1, 2, 3])))]);
}

#[test]
fn a_cluster_forms_when_all_have_pledged_the_same() {
    let voters = set(&[1, 2, 3]);
    let mut machine = start(Standing::Pledged(voters.clone()));
    identify(&mut machine, 2, 2);
    identify(&mut machine, 3, 3);
    assert_eq!(hear(&mut machine, 2, Standing::Pledged(voters.clone())), []);
    assert_eq!(hear(&mut machine, 3, Standing::Fresh), []);
    let formed = Output::Record(Standing::Formed(voters.clone()));
    assert_eq!(hear(&mut machine, 3, Standing::Pledged(voters)), [formed]);
}

#[test]
fn a_pledged_node_follows_a_peer_that_has_formed() {
    let voters = set(&[1, 2, 3]);
    let mut machine = start(Standing::Pledged(voters.clone()));
    identify(&mut machine, 2, 2);
    let formed = Standing::Formed(voters);
    assert_eq!(hear(&mut machine, 2, formed.clone()), [Output::Record(formed)]);
}

#[test]
fn other_voters_are_refused_with_both_sets() {
    let mut machine = start(Standing::Pledged(set(&[1, 2, 3])));
    identify(&mut machine, 2, 2);
    let theirs = set(&[1, 2, 4]);
    let refused = hear(&mut machine, 2, Standing::Pledged(theirs.clone()));
    let refusal = Refusal::OtherVoters { peer: node(2), theirs, ours: set(&[1, 2, 3]) };
    assert_eq!(refused, [Output::Refused(refusal.clone())]);
    let text = refusal.to_string();
    assert!(text.contains("{1, 2, 4}") && text.contains("{1, 2, 3}"), "{text}");
}

#[test]
fn a_fresh_node_that_a_formed_cluster_counts_as_voter_was_wiped() {
    let mut machine = start(Standing::Fresh);
    identify(&mut machine, 2, 2);
    let theirs = set(&[1, 2, 3]);
    let refused = hear(&mut machine, 2, Standing::Formed(theirs.clone()));
    assert_eq!(refused, [Output::Refused(Refusal::DiskWiped { peer: node(2), theirs })]);
    assert_eq!(identify(&mut machine, 3, 3), [], "and it never pledges again");
}

#[test]
fn a_node_does_not_pledge_before_every_peer_names_the_same_voters() {
    let mut machine = start(Standing::Fresh);
    identify(&mut machine, 2, 2);
    identify(&mut machine, 3, 3);
    hear(&mut machine, 2, Standing::Fresh);
    let say = |names| Input::Message {
        from: node(3),
        message: Message::Answer { standing: Standing::Fresh, names },
    };
    assert_eq!(handle(&mut machine, say(None)), [], "it does not know its peers yet");
    let (theirs, ours) = (set(&[3, 4]), set(&[1, 2, 3]));
    let refusal = Refusal::OtherVoters { peer: node(3), theirs: theirs.clone(), ours };
    assert_eq!(handle(&mut machine, say(Some(theirs))), [Output::Refused(refusal)]);
    let pledge = Output::Record(Standing::Pledged(set(&[1, 2, 3])));
    assert_eq!(hear(&mut machine, 3, Standing::Fresh), [pledge]);
}

/// The one record among the outputs, and the token in it.
fn joining(outputs: &[Output]) -> (Standing, Token) {
    let [Output::Record(standing @ Standing::Joining { token, .. })] = outputs else { panic!("{outputs:?}") };
    (standing.clone(), *token)
}

#[test]
fn a_fresh_node_that_meets_a_cluster_joins_it_under_a_token_of_its_own() {
    let mut machine = start(Standing::Fresh);
    identify(&mut machine, 2, 2);
    let cluster = set(&[2, 3, 4]);
    let (standing, token) = joining(&hear(&mut machine, 2, Standing::Formed(cluster.clone())));
    assert_eq!(standing, Standing::Joining { cluster: cluster.clone(), token, repairs: false });
    assert_ne!(token, Token::default(), "that one is the founders'");
    assert_eq!(handle(&mut machine, Input::Recorded), []);
    assert_eq!(machine.deadline(), None, "joining is another protocol");
    let joined = Output::Record(Standing::Joined { cluster, token });
    assert_eq!(handle(&mut machine, Input::TakenIn), [joined]);
    handle(&mut machine, Input::Recorded);
    assert_eq!(handle(&mut machine, Input::PutOut), [Output::Record(Standing::Removed)]);
}

#[test]
fn a_damaged_node_founds_nothing_and_may_only_be_taken_in_again() {
    let mut machine = start(Standing::Damaged);
    assert_eq!(machine.poll(), Some(Output::Refused(Refusal::Damaged)));
    identify(&mut machine, 2, 2);
    identify(&mut machine, 3, 3);
    hear(&mut machine, 2, Standing::Fresh);
    assert_eq!(hear(&mut machine, 3, Standing::Damaged), []);
    let cluster = set(&[1, 2, 3]);
    let (standing, token) = joining(&hear(&mut machine, 2, Standing::Formed(cluster.clone())));
    assert_eq!(standing, Standing::Joining { cluster, token, repairs: true });
}

#[test]
fn a_peer_with_a_past_is_no_founder() {
    for past in [Standing::Damaged, Standing::Removed] {
        let mut machine = start(Standing::Fresh);
        identify(&mut machine, 2, 2);
        identify(&mut machine, 3, 3);
        hear(&mut machine, 2, Standing::Fresh);
        assert_eq!(hear(&mut machine, 3, past), []);
    }
}

#[test]
fn why_a_cluster_takes_nobody_in_is_said_once() {
    let standing = Standing::Joining { cluster: set(&[2, 3]), token: Token::new(7), repairs: false };
    let mut machine = start(standing);
    let refusal = Refusal::WasRemoved { peer: node(2) };
    let refused = Input::Refused(refusal.clone());
    assert_eq!(handle(&mut machine, refused.clone()), [Output::Refused(refusal.clone())]);
    assert_eq!(handle(&mut machine, refused), []);
    assert_eq!(machine.refusal(), Some(&refusal));
}

#[test]
fn a_changed_list_of_peers_after_the_pledge_is_refused() {
    let mut machine = start(Standing::Pledged(set(&[1, 2, 3])));
    identify(&mut machine, 2, 2);
    let (pledged, found) = (set(&[1, 2, 3]), set(&[1, 2, 4]));
    let refusal = Refusal::PledgedToOthers { pledged, found };
    assert_eq!(identify(&mut machine, 3, 4), [Output::Refused(refusal)]);
}

#[test]
fn a_peer_listed_twice_and_ourselves_among_the_peers_are_refused() {
    let mut machine = start(Standing::Fresh);
    identify(&mut machine, 2, 2);
    let twice = Refusal::SamePeerTwice { first: peer(2), second: peer(3), node: node(2) };
    assert_eq!(identify(&mut machine, 3, 2), [Output::Refused(twice)]);
    let own = Refusal::PeerIsSelf { name: peer(3), node: node(1) };
    assert_eq!(identify(&mut machine, 3, 1), [Output::Refused(own)]);
}

#[test]
fn strangers_have_no_say() {
    let voters = set(&[1, 2, 3]);
    let mut machine = start(Standing::Pledged(voters.clone()));
    assert_eq!(hear(&mut machine, 9, Standing::Formed(voters)), []);
}

#[test]
fn a_node_without_peers_forms_alone() {
    let mut machine =
        Formation::start(node(1), peer(1), BTreeSet::new(), Standing::Fresh, Seed::new(1), Instant::ORIGIN);
    assert_eq!(machine.poll(), Some(Output::Record(Standing::Pledged(set(&[1])))));
    assert_eq!(handle(&mut machine, Input::Recorded), [Output::Record(Standing::Formed(set(&[1])))]);
    assert_eq!(handle(&mut machine, Input::Recorded), []);
    assert_eq!(machine.deadline(), None);
}

#[test]
fn greetings_repeat_with_jitter_until_the_cluster_is_formed() {
    let mut machine = start(Standing::Fresh);
    let mut times = Vec::new();
    for _ in 0..6 {
        let due = machine.deadline().unwrap();
        machine.handle_timeout(due);
        assert_eq!(core::iter::from_fn(|| machine.poll()).count(), 2, "one to each listed peer");
        times.push(due);
    }
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]));
    assert!(times[5].saturating_since(times[4]) <= GREETING_INTERVAL_MAX * 3 / 2);
}
