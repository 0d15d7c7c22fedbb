//! The two worlds are one: what a process of the turmoil world says, with QUIC, TLS and redb around it, a
//! bare node says when it is told the same.

use rivven_cluster::kv::KeyValue;
use rivven_cluster::node::Output;
use rivven_sim::app::Recorded;
use rivven_sim::lock::lock;
use rivven_sim::recording::{Recording, Recordings, Step};
use rivven_sim::scenario::{Scenario, WorldKind};
use rivven_sim::world::{Options, run};

fn record(seed: u64) -> Vec<Recording> {
    let recordings = Recordings::default();
    let scenario = Scenario::draw(seed, WorldKind::Turmoil);
    let options = Options { recordings: Some(recordings.clone()), ..Options::default() };
    assert_eq!(run(&scenario, options).violation, None);
    lock(&recordings).clone()
}

#[test]
fn a_turmoil_run_replayed_input_by_input_gives_the_same_outputs() {
    let (mut processes, mut outputs) = (0, 0);
    for seed in [2, 3, 5] {
        for recording in record(seed) {
            processes += 1;
            outputs += recording.steps.iter().filter(|step| matches!(step, Step::Output(_))).count();
            if let Err(difference) = recording.replay(Recorded::new(KeyValue::default(), false)) {
                panic!("seed {seed}, node {}: {difference:?}", recording.config.id);
            }
        }
    }
    assert!(processes > 20, "{processes} processes");
    assert!(outputs > 10_000, "{outputs} outputs");
}

/// The test above would prove nothing if it could not fail.
#[test]
fn a_recording_with_one_input_less_does_not_replay() {
    let recordings = record(3);
    let longest = recordings.iter().max_by_key(|recording| recording.steps.len()).expect("a process");
    let mut shorter = longest.clone();
    let written = |step: &Step| matches!(step, Step::Input(_, rivven_cluster::node::Input::Written(_)));
    // Behind the last one nothing may have happened.
    let middle = &shorter.steps[..shorter.steps.len() / 2];
    let place = middle.iter().rposition(written).expect("a finished write");
    shorter.steps.remove(place);
    assert!(shorter.replay(Recorded::new(KeyValue::default(), false)).is_err());
    let sends = longest.steps.iter().any(|step| matches!(step, Step::Output(Output::Send { .. })));
    assert!(sends, "it spoke to its peers");
}
