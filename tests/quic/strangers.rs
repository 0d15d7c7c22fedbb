//! Strangers at the door: each is turned away or bounded, and counted, while the cluster goes on.
//!
//! Each test runs on one thread, whose counters are its own.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a test over real sockets and files"
)]

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use rivven_cluster::node::{Caller, Request};
use rivven_cluster::quic::{
    Authority, Client, ConnectionLimits, Credentials, Identity, RenewalError, Running,
};
use rivven_cluster::raft::Role;
use rivven_cluster::session::Proposal;
use rivven_cluster::wire::Frame;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::harness::{Nodes, PATIENCE, authority, issue, status, until};
use crate::stranger::Stranger;
use crate::support::node;

/// One node that leads itself, who may connect to it, and what it counts.
struct Cluster {
    nodes: Nodes,
    authority: Authority,
    running: Running,
    client: Client,
    counts: PrometheusHandle,
    _recorder: metrics::LocalRecorderGuard<'static>,
}

impl Cluster {
    async fn start(limits: ConnectionLimits) -> Cluster {
        let recorder = Box::leak(Box::new(PrometheusBuilder::new().build_recorder()));
        let (counts, guard) = (recorder.handle(), metrics::set_default_local_recorder(recorder));
        let (mut nodes, authority) = (Nodes::new(1), authority());
        (nodes.limits, nodes.gossip) = (limits, true);
        let running = nodes.launch(1, issue(&authority, "test", Caller::Node(node(1)))).expect("a node");
        until(&running, "a leader", |status| {
            status.raft.as_ref().is_some_and(|raft| raft.role == Role::Leader)
        })
        .await;
        let client = nodes.client(&issue(&authority, "test", Caller::Client));
        let cluster = Cluster { nodes, authority, running, client, counts, _recorder: guard };
        cluster.goes_on().await;
        cluster
    }

    fn address(&self) -> SocketAddr {
        self.nodes.address(1)
    }

    fn stranger(&self, caller: Caller) -> Stranger {
        Stranger::of(&self.authority, "test", caller)
    }

    /// The count of this name, with its label `reason` if there is one.
    fn count(&self, name: &str, reason: &str) -> u64 {
        let label = if reason.is_empty() { String::new() } else { format!("{{reason=\"{reason}\"}}") };
        let text = self.counts.render();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}{label} ")));
        line.map_or(0, |count| count.parse().expect("a count"))
    }

    fn turned_away(&self, reason: &str) -> u64 {
        self.count("rivven_turned_away_total", reason)
    }

    /// Waits until something is counted.
    async fn counts(&self, name: &str, reason: &str) {
        let wait = async {
            while self.count(name, reason) == 0 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("nothing is counted: {name} {reason}"));
    }

    /// Waits until somebody was turned away for this reason.
    async fn turns_away(&self, reason: &str) {
        self.counts("rivven_turned_away_total", reason).await;
    }

    /// So many strangers begin handshakes, whose answers never arrive, until there is no place for more.
    async fn is_crowded_by(&self, strangers: usize) {
        let deaf = proxy(self.address(), 0).await;
        for _ in 0..strangers {
            let stranger = self.stranger(Caller::Client);
            tokio::spawn(async move { stranger.knock(deaf).await });
        }
        self.turns_away("crowd").await;
    }

    async fn goes_on(&self) {
        timeout(PATIENCE, self.client.put("k", "v")).await.expect("in time").expect("it goes on");
    }
}

#[tokio::test]
async fn who_cannot_prove_that_it_belongs_here_is_turned_away_and_counted_by_reason() {
    let cluster = Cluster::start(ConnectionLimits::default()).await;
    let (address, ours) = (cluster.address(), &cluster.authority);
    // It trusts our authority, and shows a certificate of another one.
    let folder = tempfile::tempdir().expect("a folder");
    let identity = issue(ours, "test", Caller::Client).identity().clone();
    let (certificate, key) = authority().issue_files(&identity, folder.path(), "other").expect("issued");
    let strangers = [
        ("no_certificate", Stranger::without_certificate(ours)),
        ("expired", expired(ours)),
        ("other_authority", Stranger::with(ours, &certificate, &key)),
        ("other_name", Stranger::of(ours, "other", Caller::Client)),
        ("other_protocol", cluster.stranger(Caller::Client).speaking(b"rivven-cluster/2")),
    ];
    for (reason, stranger) in strangers {
        let closed = timeout(PATIENCE, stranger.knock(address)).await.expect("it is told");
        cluster.turns_away(reason).await;
        assert_eq!(cluster.turned_away(reason), 1, "{reason}: {closed}");
    }
    cluster.goes_on().await;
}

/// One whose certificate was good for a day, long ago.
fn expired(authority: &Authority) -> Stranger {
    let folder = tempfile::tempdir().expect("a folder");
    authority.write(folder.path()).expect("written");
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect("it was written");
    let authority_key = rcgen::KeyPair::from_pem(&read("ca.key")).expect("a key");
    let issuer = rcgen::Issuer::from_ca_cert_pem(&read("ca.pem"), authority_key).expect("an authority");
    let mut params = rcgen::CertificateParams::new(vec!["client.test.rivven".to_owned()]).expect("sound");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    (params.not_before, params.not_after) =
        (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2020, 1, 2));
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let (certificate, key_file) = (folder.path().join("old.pem"), folder.path().join("old.key"));
    std::fs::write(&certificate, params.signed_by(&key, &issuer).expect("signed").pem()).expect("written");
    std::fs::write(&key_file, key.serialize_pem()).expect("written");
    Stranger::with(authority, &certificate, &key_file)
}

#[tokio::test]
async fn who_has_the_certificate_of_this_node_or_says_what_only_nodes_say_is_turned_away() {
    let cluster = Cluster::start(ConnectionLimits::default()).await;
    for (reason, caller) in [("own_identity", Caller::Node(node(1))), ("nonsense", Caller::Client)] {
        let connection = cluster.stranger(caller).connect(cluster.address()).await.expect("a handshake");
        let mut stream = connection.open_uni().await.expect("a stream");
        stream.write_all(b"?").await.expect("written");
        timeout(PATIENCE, connection.closed()).await.expect("it is hung up on");
        assert_eq!(cluster.turned_away(reason), 1, "{reason}");
    }
    cluster.goes_on().await;
}

#[tokio::test]
async fn who_opens_ten_thousand_streams_has_four_at_a_time() {
    let cluster = Cluster::start(ConnectionLimits::default()).await;
    let connection = cluster.stranger(Caller::Client).connect(cluster.address()).await.expect("a handshake");
    let mut open = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(300), connection.open_bi()).await {
        let (mut send, receive) = stream.expect("the connection stays");
        // Only what is written is there for the other side.
        send.write_all(&[1]).await.expect("written");
        open.push((send, receive));
        assert!(open.len() <= 4, "no more are open at a time");
    }
    assert_eq!(open.len(), 4);
    let mut waiting = JoinSet::new();
    for _ in 0..10_000 {
        let connection = connection.clone();
        waiting.spawn(async move { connection.open_bi().await.map(drop) });
    }
    let opened = timeout(Duration::from_millis(300), waiting.join_next()).await;
    assert!(opened.is_err(), "the others wait: {opened:?}");
    cluster.goes_on().await;
    drop(open);
    let opened = timeout(PATIENCE, waiting.join_next()).await.expect("there is room again");
    assert!(matches!(opened, Some(Ok(Ok(())))), "{opened:?}");
    cluster.goes_on().await;
}

#[tokio::test]
async fn who_writes_a_frame_byte_by_byte_is_hung_up_on() {
    let limits = ConnectionLimits { frame_timeout: Duration::from_millis(300), ..Default::default() };
    let cluster = Cluster::start(limits).await;
    for caller in [Caller::Client, Caller::Node(node(9))] {
        let before = cluster.turned_away("stalled");
        let connection = cluster.stranger(caller).connect(cluster.address()).await.expect("a handshake");
        let mut stream = match caller {
            Caller::Node(_) => connection.open_uni().await.expect("a stream"),
            Caller::Client | Caller::Operator => connection.open_bi().await.expect("a stream").0,
        };
        let frame = Frame::Request { id: 1, request: Request::Status }.encode().expect("short");
        let closed = timeout(PATIENCE, async {
            for byte in frame.iter().cycle() {
                if stream.write_all(&[*byte]).await.is_err() {
                    break;
                }
                sleep(Duration::from_millis(50)).await;
            }
            connection.closed().await
        });
        let closed = closed.await.expect("it is hung up on");
        assert!(closed.to_string().contains("did not end within 300ms"), "{closed}");
        assert_eq!(cluster.turned_away("stalled"), before + 1);
    }
    cluster.goes_on().await;
}

#[tokio::test]
async fn who_asks_and_never_reads_holds_few_bytes_and_is_hung_up_on() {
    let limits = ConnectionLimits {
        frame_timeout: Duration::from_millis(500),
        callers_bytes_max: 33 * 1024 * 1024,
        ..Default::default()
    };
    let cluster = Cluster::start(limits).await;
    cluster.client.put("large", vec![7; 1_000_000]).await.expect("stored");
    let connection = cluster.stranger(Caller::Client).connect(cluster.address()).await.expect("a handshake");
    let (mut send, receive) = connection.open_bi().await.expect("a stream");
    for id in 0..500 {
        let request = Request::Query { query: "large".into() };
        let frame = Frame::Request { id, request }.encode().expect("short");
        if send.write_all(&frame).await.is_err() {
            break;
        }
    }
    let closed = timeout(PATIENCE, connection.closed()).await.expect("it is hung up on");
    assert!(closed.to_string().contains("was not read within 500ms"), "{closed}");
    assert_eq!(cluster.turned_away("unread"), 1);
    drop(receive);
    cluster.goes_on().await;
}

#[tokio::test]
async fn those_who_take_all_the_memory_they_get_leave_some_for_others() {
    let limits = ConnectionLimits { callers_bytes_max: 33 * 1024 * 1024, ..Default::default() };
    let cluster = Cluster::start(limits).await;
    cluster.client.put("large", vec![7; 1_000_000]).await.expect("stored");
    let greedy = cluster.stranger(Caller::Client);
    let mut held = JoinSet::new();
    for _ in 0..8 {
        // Each asks for long answers and does not read them, and begins long requests and does not end them.
        let connection = greedy.connect(cluster.address()).await.expect("a handshake");
        let (mut send, receive) = connection.open_bi().await.expect("a stream");
        for id in 0..20 {
            let asked = Frame::Request { id, request: Request::QueryStale { query: "large".into() } };
            send.write_all(&asked.encode().expect("short")).await.expect("sent");
        }
        held.spawn(async move {
            let _unread = (send, receive);
            core::future::pending::<()>().await;
        });
        for _ in 0..3 {
            let (mut send, receive) = connection.open_bi().await.expect("a stream");
            held.spawn(async move {
                let _ = send.write_all(&begun_frame(900_000)).await;
                let _unread = receive;
                core::future::pending::<()>().await;
            });
        }
    }
    // There is no room for all that.
    cluster.counts("rivven_answers_dropped_total", "").await;
    // At another address, somebody is answered, with what is long as well.
    let modest = cluster.stranger(Caller::Client);
    let other = Ipv4Addr::new(127, 0, 0, 2);
    let connection = modest.connect_from(other, cluster.address()).await.expect("a handshake");
    let told = asks(&connection, Request::QueryStale { query: "large".into() }).await;
    assert!(told.len() > 1_000_000, "{} bytes are no answer", told.len());
    drop(held);
    cluster.goes_on().await;
}

/// Asks over a stream of its own, and returns what comes back: nobody is answered that is not let in.
async fn asks(connection: &quinn::Connection, request: Request) -> Vec<u8> {
    let (mut send, mut receive) = connection.open_bi().await.expect("a stream");
    let asked = Frame::Request { id: 1, request };
    send.write_all(&asked.encode().expect("short")).await.expect("sent");
    send.finish().expect("open");
    timeout(PATIENCE, receive.read_to_end(2_000_000)).await.expect("in time").expect("answered")
}

/// What is there of a frame that is begun and not ended.
fn begun_frame(length: usize) -> Vec<u8> {
    let request = Request::QueryStale { query: vec![7; length].into() };
    let mut frame = Frame::Request { id: 9, request }.encode().expect("not too long").to_vec();
    frame.pop();
    frame
}

#[tokio::test]
async fn clients_beyond_the_limit_are_turned_away_and_nodes_are_not() {
    // From one address never more than are left free for others.
    let limits = ConnectionLimits { client_connections_max: 6, ..Default::default() };
    let cluster = Cluster::start(limits).await;
    let client = cluster.stranger(Caller::Client);
    let mut connected = Vec::new();
    for _ in 0..2 {
        // The client of the cluster itself is the first of three, of six.
        let connection = client.connect(cluster.address()).await.expect("a handshake");
        assert!(!asks(&connection, Request::Status).await.is_empty(), "there is room");
        connected.push(connection);
    }
    let closed = timeout(PATIENCE, client.knock(cluster.address())).await.expect("there is no room");
    assert!(closed.to_string().contains("serves 6 clients at most"), "{closed}");
    assert_eq!(cluster.turned_away("full"), 1);
    let elsewhere =
        client.connect_from(Ipv4Addr::new(127, 0, 0, 2), cluster.address()).await.expect("let in");
    assert!(!asks(&elsewhere, Request::Status).await.is_empty(), "others have room");
    let connection =
        cluster.stranger(Caller::Node(node(9))).connect(cluster.address()).await.expect("let in");
    assert!(!asks(&connection, Request::Status).await.is_empty(), "nodes have room");
    drop(connected);
    cluster.goes_on().await;
}

#[tokio::test]
async fn who_never_ends_its_handshakes_keeps_nobody_out() {
    let limits = ConnectionLimits { handshakes_max: 2, ..Default::default() };
    let cluster = Cluster::start(limits).await;
    cluster.is_crowded_by(10).await;
    let honest = cluster.stranger(Caller::Client);
    let connection = timeout(PATIENCE, honest.connect(cluster.address())).await.expect("in time");
    let connection = connection.expect("it showed that its address is its own");
    assert!(!asks(&connection, Request::Status).await.is_empty(), "it was let in");
    cluster.goes_on().await;
}

#[tokio::test]
async fn operators_have_places_of_their_own_when_clients_have_taken_all_of_theirs() {
    let limits = ConnectionLimits { client_connections_max: 6, ..Default::default() };
    let cluster = Cluster::start(limits).await;
    let client = cluster.stranger(Caller::Client);
    let mut connected = Vec::new();
    for _ in 0..2 {
        // The client of the cluster itself is the first of three, of six.
        let connection = client.connect(cluster.address()).await.expect("a handshake");
        assert!(!asks(&connection, Request::Status).await.is_empty(), "there is room");
        connected.push(connection);
    }
    timeout(PATIENCE, client.knock(cluster.address())).await.expect("there is no room");
    let operator = cluster.stranger(Caller::Operator);
    let connection = operator.connect(cluster.address()).await.expect("let in");
    assert!(!asks(&connection, Request::Status).await.is_empty(), "an operator has room");
    drop(connected);
    cluster.goes_on().await;
}

/// The goal: whoever can be blamed for a handshake that never ends is. The method: all places are taken, so that strangers
/// are asked to prove their addresses; they do, and then hear nothing any more.
#[tokio::test]
async fn who_proves_its_address_and_then_stalls_is_not_heard_for_a_while() {
    let limits = ConnectionLimits { handshakes_max: 3, ..Default::default() };
    let cluster = Cluster::start(limits).await;
    cluster.is_crowded_by(6).await;
    for _ in 0..4 {
        // The one packet that gets through asks for the proof.
        let (stranger, half_deaf) = (cluster.stranger(Caller::Client), proxy(cluster.address(), 1).await);
        tokio::spawn(async move { stranger.knock(half_deaf).await });
    }
    let refused = async {
        while cluster.turned_away("again") == 0 {
            let _ = timeout(
                Duration::from_millis(200),
                cluster.stranger(Caller::Client).connect(cluster.address()),
            )
            .await;
        }
    };
    let is_refused = timeout(PATIENCE, refused).await.is_ok();
    let counts = ["again", "crowd", "handshake"].map(|reason| cluster.turned_away(reason));
    assert!(is_refused, "what stalled is held against its address: {counts:?}");
    assert!(cluster.turned_away("handshake") >= 2);
    cluster.goes_on().await;
}

/// Passes on what is sent to it, and the first so many packets of what comes back to whoever spoke last.
async fn proxy(to: SocketAddr, packets_back: usize) -> SocketAddr {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("bound");
    tokio::spawn(async move {
        let (mut buffer, mut speaker, mut left) = (vec![0; 2048], None, packets_back);
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            if from != to {
                speaker = Some(from);
                let _ = socket.send_to(&buffer[..length], to).await;
            } else if let (Some(speaker), true) = (speaker, left > 0) {
                left -= 1;
                let _ = socket.send_to(&buffer[..length], speaker).await;
            }
        }
    });
    address
}

#[tokio::test]
async fn whose_handshakes_keep_failing_is_refused_without_one_and_heard_again_later() {
    let cluster = Cluster::start(ConnectionLimits::default()).await;
    let nobody = Stranger::without_certificate(&cluster.authority);
    let refused = async {
        while cluster.turned_away("again") == 0 {
            nobody.knock(cluster.address()).await;
        }
    };
    timeout(PATIENCE, refused).await.expect("it is not heard for ever");
    assert!(cluster.turned_away("no_certificate") >= 20, "each of the first is told why");
    cluster.goes_on().await;
    // Somebody with a certificate, at the same address, is heard as soon as it is quiet there.
    let connection = async {
        loop {
            if let Ok(connection) = cluster.stranger(Caller::Client).connect(cluster.address()).await {
                return connection;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    let connection = timeout(PATIENCE, connection).await.expect("it is heard");
    assert!(connection.close_reason().is_none());
}

#[tokio::test]
async fn a_flood_of_datagrams_is_bounded_and_counted() {
    let cluster = Cluster::start(ConnectionLimits::default()).await;
    let address = cluster.nodes.gossip_address(1);
    let garbage = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let member = cluster.stranger(Caller::Node(node(9))).speaking(b"rivven-swim/1");
    let connection = member.connect(address).await.expect("a handshake");
    for _ in 0..5_000 {
        garbage.send_to(&[0xc3; 1200], address).expect("sent");
        connection.send_datagram_wait(vec![0xa5; 1000].into()).await.expect("the connection stays");
    }
    cluster.goes_on().await;
    let sent = connection.stats().frame_tx.datagram;
    let gossip = "rivven_gossip_datagrams_refused_total";
    let wait = async {
        loop {
            let refused: u64 =
                ["malformed", "foreign", "flooding"].map(|why| cluster.count(gossip, why)).iter().sum();
            let dropped = cluster.count("rivven_gossip_datagrams_dropped_total", "");
            if refused + dropped > sent / 2 {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("{sent} were sent, and hardly any counted: {}", cluster.counts.render()));
    let status = status(&cluster.running).await;
    assert_eq!(status.gossip.expect("it gossips").total, 1, "nobody has joined by that");
}

#[tokio::test]
async fn what_is_counted_is_in_the_table_and_what_is_in_the_table_of_a_node_is_counted() {
    let cluster = Cluster::start(ConnectionLimits::default()).await;
    let table = include_str!("../../src/driver/metrics.md");
    let in_table: BTreeSet<&str> =
        table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    sleep(Duration::from_millis(1500)).await;
    let text = cluster.counts.render();
    let counted: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert_eq!(counted.difference(&in_table).collect::<Vec<_>>(), Vec::<&&str>::new(), "not in the table");
    // What has not happened has no value yet, and there are no partitions.
    let rare = ["turned_away", "dropped", "renewed", "refused", "replica"];
    let silent: Vec<_> = in_table.difference(&counted).collect();
    let silent: Vec<_> = silent.iter().filter(|name| !rare.iter().any(|rare| name.contains(rare))).collect();
    assert!(silent.is_empty(), "never counted: {silent:?}");
}

#[tokio::test]
async fn new_certificates_take_the_place_of_old_ones_without_a_restart() {
    let cluster = Cluster::start(ConnectionLimits::default()).await;
    let of_old = cluster.stranger(Caller::Client);
    let before = of_old.connect(cluster.address()).await.expect("a handshake");
    let new = authority();
    let wrong = cluster.running.renewal.renew(&issue(&new, "test", Caller::Node(node(2)))).unwrap_err();
    assert!(matches!(wrong, RenewalError::OtherIdentity { .. }), "{wrong}");
    cluster.goes_on().await;

    cluster.running.renewal.renew(&issue(&new, "test", Caller::Node(node(1)))).expect("they are sound");
    timeout(PATIENCE, of_old.knock(cluster.address())).await.expect("it is refused");
    let client = cluster.nodes.client(&issue(&new, "test", Caller::Client));
    assert_eq!(client.get("k").await.expect("let in"), Some("v".into()));
    assert_eq!(before.close_reason(), None, "who was there stays");
    assert_eq!(cluster.count("rivven_certificates_renewed_total", ""), 1);
}

#[tokio::test]
async fn credentials_that_nobody_would_believe_do_not_take_the_place_of_others() {
    let cluster = Cluster::start(ConnectionLimits::default()).await;
    let (new, folder) = (authority(), tempfile::tempdir().expect("a folder"));
    cluster.authority.write(folder.path()).expect("written");
    let identity = Identity { caller: Caller::Node(node(1)), cluster: "test".parse().expect("a sound name") };
    let (certificate, key) = new.issue_files(&identity, folder.path(), "node").expect("issued");
    // The new certificate is there, and the new authority's is not yet.
    let half = Credentials::read(&folder.path().join("ca.pem"), &certificate, &key).expect("each is sound");
    let refused = cluster.running.renewal.renew(&half).unwrap_err();
    assert!(matches!(refused, RenewalError::Endpoint(_)), "{refused}");
    assert_eq!(cluster.count("rivven_certificates_renewed_total", ""), 0);
    let client = cluster.nodes.client(&issue(&cluster.authority, "test", Caller::Client));
    assert_eq!(client.get("k").await.expect("those of before are in use"), Some("v".into()));
}

#[test]
fn what_is_wrong_with_a_key_is_said_without_the_key() {
    let (authority, folder) = (authority(), tempfile::tempdir().expect("a folder"));
    authority.write(folder.path()).expect("written");
    let identity = Identity { caller: Caller::Client, cluster: "test".parse().expect("a sound name") };
    let (certificate, key) = authority.issue_files(&identity, folder.path(), "client").expect("issued");
    let sound = std::fs::read_to_string(&key).expect("a key");
    let secret = sound.lines().nth(1).expect("a line of the key");
    let in_numbers = format!("{:?}", secret.as_bytes());
    let half = &sound[..sound.len() / 2];
    for broken in [sound.replace('\n', ""), half.to_owned(), half.replace('\n', ""), secret.to_owned()] {
        std::fs::write(&key, broken).expect("written");
        let error = Credentials::read(&folder.path().join("ca.pem"), &certificate, &key).unwrap_err();
        let said = format!("{error} {error:?}");
        assert!(said.contains("client.key"), "{said}");
        assert!(!said.contains(&secret[..8]) && !said.contains(&in_numbers[1..20]), "{said}");
    }
}

#[tokio::test]
async fn who_sends_longer_requests_than_any_may_be_is_hung_up_on() {
    let cluster = Cluster::start(ConnectionLimits::default()).await;
    let connection = cluster.stranger(Caller::Client).connect(cluster.address()).await.expect("a handshake");
    let (mut send, _receive) = connection.open_bi().await.expect("a stream");
    let command = Proposal::Command(vec![7; 8 * 1024 * 1024].into());
    let frame =
        Frame::Request { id: 1, request: Request::Propose(command) }.encode().expect("it fits a frame");
    let _ = send.write_all(&frame).await;
    let closed = timeout(PATIENCE, connection.closed()).await.expect("it is hung up on");
    assert!(closed.to_string().contains("a frame has more than"), "{closed}");
    assert_eq!(cluster.turned_away("nonsense"), 1);
    cluster.goes_on().await;
}

#[tokio::test]
async fn what_the_other_side_says_of_a_handshake_is_not_held_against_its_address() {
    let cluster = Cluster::start(ConnectionLimits::default()).await;
    // It does not believe the node, and says so before it has proved that its address is its own.
    let elsewhere = Stranger::of(&authority(), "test", Caller::Client);
    for _ in 0..40 {
        timeout(PATIENCE, elsewhere.knock(cluster.address())).await.expect("it gives up");
    }
    cluster.turns_away("other_authority").await;
    assert_eq!(cluster.turned_away("again"), 0);
}
