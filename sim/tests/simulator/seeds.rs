//! Scenarios that once failed, each with a line on what it found. They are played as they were shrunk.
//!
//! `rivven-sim shrink` prints such a test.

use rivven_sim::scenario::Scenario;
use rivven_sim::world::{Options, run};

fn passes(text: &str) {
    let scenario = Scenario::parse(text).expect("a scenario");
    assert_eq!(run(&scenario, Options::default()).violation, None);
}

/// A crash while redb made its file left one that it never opened again: "magic number mismatch".
#[test]
fn pure_seed_52_keeps_invariant() {
    passes(
        r#"{"format":1,"seed":52,"world":"pure","shape":{"nodes":3,"clients":1,"election_min":106,"election_max":208,"heartbeat":28,"proposals_max":2,"append_bytes_max":1,"appends_in_flight_max":4,"think":[50,450],"patience":2424,"shared_keys":3,"value_bytes_max":64,"message_micros":[1000,1500],"write_micros":[1000,1100],"slow_write_in":6,"slow_write":100,"store":"redb","faults_until":42349,"quorum_until":57355,"work_until":69937,"ends":84937},"faults":[{"id":10,"begins":6243,"ends":6278,"fault":{"disk-wiped":{"node":2}}},{"id":43,"begins":22254,"ends":24455,"fault":{"failed-sync":{"node":2}}},{"id":48,"begins":23532,"ends":23548,"fault":{"disk-wiped":{"node":2}}}]}"#,
    );
}
