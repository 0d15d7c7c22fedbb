//! What the file says, and how what is wrong with it is said.

use super::*;

const PUBLISHED: &str = r#"cluster:
  node_id: 1
  bind_address: "0.0.0.0:9093"
  raft:
    peers: ["node2:9093", "node3:9093"]
    election_timeout_min_ms: 150
    election_timeout_max_ms: 300
  gossip:
    bind_port: 7946
    known_peers: ["node2:7946"]
    protocol_period_ms: 1000
  partitioning:
    virtual_nodes: 128
    replication_factor: 3
"#;

fn parse(text: &str) -> Result<Settings, ConfigError> {
    Settings::parse(text, Path::new("/etc/rivven"))
}

/// Parses the published file with one line replaced, which must be wrong.
fn error_of(line: &str, replacement: &str) -> ConfigError {
    assert!(PUBLISHED.contains(line), "the published file has no {line:?}");
    parse(&PUBLISHED.replace(line, replacement)).unwrap_err()
}

fn assert_says(error: &ConfigError, key: &str, line: u64, parts: &[&str]) {
    assert_eq!((error.key.as_str(), error.line), (key, Some(line)), "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "{error} does not say {part:?}");
    }
}

#[test]
fn the_published_file_parses_as_it_stands() {
    let settings = parse(PUBLISHED).unwrap();
    assert_eq!(settings.node_id.value(), 1);
    assert_eq!(settings.bind_address.port(), 9093);
    assert_eq!(settings.peers.iter().map(PeerName::as_str).collect::<Vec<_>>(), ["node2:9093", "node3:9093"]);
    assert_eq!(settings.timing, Timing::default());
    let gossip = settings.gossip.unwrap();
    assert_eq!((gossip.bind_port, gossip.timing), (7946, swim::Timing::LAN));
    assert_eq!(gossip.known_peers.iter().map(PeerName::as_str).collect::<Vec<_>>(), ["node2:7946"]);
}

#[test]
fn gossip_begins_with_the_peers_of_raft_if_it_names_none_and_is_off_without_its_section() {
    let short = PUBLISHED.replace("    known_peers: [\"node2:7946\"]\n", "");
    let gossip = parse(&short).unwrap().gossip.unwrap();
    let names: Vec<&str> = gossip.known_peers.iter().map(PeerName::as_str).collect();
    assert_eq!(names, ["node2:7946", "node3:7946"]);
    let without: Vec<&str> = PUBLISHED.lines().take(7).collect();
    assert_eq!(parse(&without.join("\n")).unwrap().gossip, None);
}

#[test]
fn a_file_that_cannot_be_run_says_what_is_missing() {
    let error = parse(PUBLISHED).unwrap().runnable().unwrap_err();
    assert_eq!(error.key, "cluster.advertise_address");
    let advertised = PUBLISHED.replace("  raft:", "  advertise_address: \"node1:9093\"\n  raft:");
    assert_eq!(parse(&advertised).unwrap().runnable().unwrap_err().key, "cluster.data_dir");
    let stored = advertised.replace("  raft:", "  data_dir: data\n  raft:");
    assert_eq!(parse(&stored).unwrap().runnable().unwrap_err().key, "cluster.tls");
    let whole = stored.replace("  raft:", "  tls: {ca: ca.pem, cert: n.pem, key: /k/n.key}\n  raft:");
    let runnable = parse(&whole).unwrap().runnable().unwrap();
    assert_eq!(runnable.data_dir, Path::new("/etc/rivven/data"));
    assert_eq!(runnable.tls.ca, Path::new("/etc/rivven/ca.pem"));
    assert_eq!(runnable.tls.key, Path::new("/k/n.key"));
}

#[test]
fn a_wrong_key_is_named_with_its_line_and_the_right_ones() {
    let error = error_of("    election_timeout_min_ms: 150", "    electon_timeout_min_ms: 150");
    assert_says(&error, "cluster.raft.electon_timeout_min_ms", 6, &["election_timeout_min_ms"]);
}

#[test]
fn a_wrong_value_is_named_with_its_line() {
    let error = error_of("    virtual_nodes: 128", "    virtual_nodes: many");
    assert_says(&error, "cluster.partitioning.virtual_nodes", 13, &["many", "whole number"]);
    let error = error_of("  node_id: 1", "  node_id: 0");
    assert_says(&error, "cluster.node_id", 2, &["count from 1"]);
    let error = error_of("\"0.0.0.0:9093\"", "\"here\"");
    assert_says(&error, "cluster.bind_address", 3, &["IP:port"]);
    let error = error_of("\"node3:9093\"", "\"node3\"");
    assert_says(&error, "cluster.raft.peers[1]", 5, &["host:port"]);
    let error = error_of("    protocol_period_ms: 1000", "    protocol_period_ms: 0");
    assert_says(&error, "cluster.gossip.protocol_period_ms", 11, &["must be longer"]);
    let error = error_of("    bind_port: 7946", "    bind_port: 9093");
    assert_says(&error, "cluster.gossip.bind_port", 9, &["another one"]);
}

#[test]
fn an_impossible_combination_is_named_with_its_line() {
    let error = error_of("    election_timeout_min_ms: 150", "    election_timeout_min_ms: 400");
    assert_says(&error, "cluster.raft.election_timeout_min_ms", 6, &["400ms..300ms"]);
    let error = error_of(
        "    election_timeout_max_ms: 300",
        "    election_timeout_max_ms: 300\n    heartbeat_interval_ms: 90",
    );
    assert_says(&error, "cluster.raft.election_timeout_min_ms", 6, &["two heartbeats"]);
    let error = error_of("\"node3:9093\"", "\"node2:9093\"");
    assert_says(&error, "cluster.raft.peers[1]", 5, &["twice"]);
}

#[test]
fn partitioning_says_how_patient_the_controller_is() {
    let without = PUBLISHED.split("  partitioning:").next().unwrap();
    assert_eq!(parse(without).unwrap().partitioning, None);
    let plain = parse(PUBLISHED).unwrap().partitioning.unwrap();
    assert_eq!((plain.virtual_nodes, plain.replication_factor, plain.min_in_sync), (128, 3, None));
    assert_eq!(plain.node, crate::node::Partitioning::default());
    let more = "    replication_factor: 5\n    min_in_sync: 4\n    weight: 7\n    fence_delay_ms: 4000\n    \
                silence_max_ms: 20000\n    unfence_hold_ms: 100\n    replace_after_s: 0\n    moves_per_node: 3\n    \
                moves_total: 9";
    let text = PUBLISHED.replace("    replication_factor: 3", more).replace("  raft:", "  rack: r1\n  raft:");
    let given = parse(&text).unwrap().partitioning.unwrap();
    let (settings, default) = (given.node.settings, crate::partition::controller::Settings::default());
    assert_eq!((given.min_in_sync, given.node.weight, given.node.rack.as_deref()), (Some(4), 7, Some("r1")));
    assert_eq!(settings.fence_delay, Duration::from_secs(4));
    assert_eq!(settings.silence_max, Duration::from_secs(20));
    assert_eq!(settings.unfence_hold, Duration::from_millis(100));
    assert_eq!((settings.replace_after, settings.beat_interval), (Duration::ZERO, default.beat_interval));
    assert_eq!((settings.limits.per_node, settings.limits.total), (3, 9));

    let error = error_of("    replication_factor: 3", "    replication_factor: 3\n    min_in_sync: 4");
    assert_says(&error, "cluster.partitioning.min_in_sync", 15, &["never be in sync"]);
    let error = error_of("    replication_factor: 3", "    fence_delay_ms: 1500");
    assert_says(&error, "cluster.partitioning.fence_delay_ms", 14, &["one lost beat"]);
    let error = error_of("    replication_factor: 3", "    replication_factor: 70000");
    assert_says(&error, "cluster.partitioning.replication_factor", 14, &["too much"]);
    let error = error_of("    replication_factor: 3", "    weight: 0");
    assert_says(&error, "cluster.partitioning.weight", 14, &["1 or more"]);
}

#[test]
fn limits_are_what_the_file_says_and_those_that_make_no_sense_are_named() {
    let plain = parse(PUBLISHED).unwrap();
    let defaults = (ConnectionLimits::default(), Limits::default());
    assert_eq!((plain.connections, plain.limits, plain.metrics_address), (defaults.0, defaults.1, None));
    let with = |lines: &str| PUBLISHED.replace("  raft:", &format!("  limits:\n{lines}  raft:"));
    let all = "    connections_max: 9\n    client_connections_max: 8\n    handshakes_max: 7\n    \
               requests_per_stream_max: 6\n    requests_max: 5\n    callers_bytes_max: 40000000\n    frame_timeout_ms: 5000\n    \
               command_bytes_max: 4096\n    proposals_max: 3\n    reads_max: 2\n    \
               reads_bytes_max: 1\n";
    let given = parse(&with(all)).unwrap();
    let connections = ConnectionLimits {
        connections_max: 9,
        client_connections_max: 8,
        handshakes_max: 7,
        requests_per_stream_max: 6,
        requests_max: 5,
        callers_bytes_max: 40_000_000,
        frame_timeout: Duration::from_secs(5),
    };
    assert_eq!(given.connections, connections);
    let limits = Limits {
        command_bytes_max: 4096,
        proposals_max: 3,
        reads_max: 2,
        reads_bytes_max: 1,
        ..Limits::default()
    };
    assert_eq!(given.limits, limits);
    let fewer = parse(&with("    connections_max: 100\n")).unwrap().connections;
    assert_eq!((fewer.connections_max, fewer.client_connections_max), (100, 75), "nodes keep their share");
    for (line, key, part) in [
        ("    client_connections_max: 1024\n", "client_connections_max", "left for nodes"),
        ("    connections_max: 0\n", "connections_max", "1 or more"),
        ("    callers_bytes_max: 1000\n", "callers_bytes_max", "34603008 bytes"),
        ("    command_bytes_max: 5000000\n", "command_bytes_max", "4194304 bytes"),
        ("    handshakes_max: -1\n", "handshakes_max", "-1"),
    ] {
        assert_says(&parse(&with(line)).unwrap_err(), &format!("cluster.limits.{key}"), 5, &[part]);
    }
    let measured = PUBLISHED.replace("  raft:", "  metrics_address: \"127.0.0.1:9100\"\n  raft:");
    assert_eq!(parse(&measured).unwrap().metrics_address.map(|address| address.port()), Some(9100));
    let error = error_of("  raft:", "  metrics_address: here\n  raft:");
    assert_says(&error, "cluster.metrics_address", 4, &["IP:port"]);
}

#[test]
fn a_missing_key_and_broken_yaml_are_named() {
    let error = error_of("  node_id: 1\n", "");
    assert!(error.to_string().contains("node_id"), "{error}");
    let error = parse("cluster: [").unwrap_err();
    assert!(error.line.is_some(), "{error}");
}

#[test]
fn a_key_that_stands_twice_is_an_error() {
    let error = error_of("  node_id: 1", "  node_id: 1\n  node_id: 2");
    assert!(error.to_string().contains("node_id"), "{error}");
}
