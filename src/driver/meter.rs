//! Tells what a node counts.
//!
#![doc = include_str!("metrics.md")]
//!
//! The names go to the [`metrics`] facade: whoever embeds a node installs the exporter of their choice, and pays
//! nothing without one. Cores count in plain numbers, and know nothing of this file; [`Meter`] reads those numbers
//! inside the driver, once a second.

use core::time::Duration;
use std::collections::BTreeMap;

use metrics::{counter, gauge};

use super::Observer;
use crate::node::{LinkState, Node, Status};
use crate::partition::replicas::Replicas;
use crate::raft::Role;
use crate::state_machine::StateMachine;
use crate::swim::{self, State, Swim};
use crate::time::Instant;

/// How often what was counted is told.
const INTERVAL: Duration = Duration::from_secs(1);

/// What a member can be.
const STATES: [State; 4] = [State::Alive, State::Suspect, State::Dead, State::Left];

/// The table above.
const TABLE: &str = include_str!("metrics.md");

/// Tells the exporter that is installed what each name means. Call it once, after installing it.
pub fn describe() {
    for (name, kind, meaning) in rows() {
        match kind {
            "counter" => metrics::describe_counter!(name, meaning),
            _ => metrics::describe_gauge!(name, meaning),
        }
    }
}

/// Name, kind and meaning of everything that is counted.
fn rows() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    TABLE.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.strip_suffix(" |")?.splitn(3, " | ");
        Some((cells.next()?.strip_suffix('`')?, cells.next()?, cells.next()?))
    })
}

/// Tells the exporter once a second what a node has counted. Give it to [`Driver::new`](super::Driver::new).
#[derive(Clone, Copy, Debug, Default)]
pub struct Meter {
    next: Option<Instant>,
}

impl<S: StateMachine> Observer<S> for Meter {
    fn settled(&mut self, now: Instant, node: &Node<S>) {
        if self.next.is_none_or(|next| next <= now) {
            self.next = Some(now + INTERVAL);
            tell(node);
        }
    }
}

fn tell<S: StateMachine>(node: &Node<S>) {
    let status = node.status();
    tell_raft(&status);
    tell_counts(&status);
    if let Some(swim) = node.gossip() {
        tell_gossip(swim);
    }
    gauge!("rivven_sessions").set(float(node.sessions()));
    gauge!("rivven_topics").set(float(node.metadata().topics().count()));
    gauge!("rivven_partitions").set(float(node.metadata().partitions()));
    if let Some(replicas) = node.replicas() {
        tell_replicas(replicas);
    }
}

fn tell_raft(status: &Status) {
    let (up, down): (Vec<_>, Vec<_>) =
        status.peers.iter().partition(|peer| matches!(peer.state, LinkState::Up { .. }));
    gauge!("rivven_links", "state" => "up").set(float(up.len()));
    gauge!("rivven_links", "state" => "down").set(float(down.len()));
    let Some(raft) = &status.raft else { return };
    gauge!("rivven_term").set(large(raft.term.value()));
    gauge!("rivven_is_leader").set(f64::from(u8::from(raft.role == Role::Leader)));
    gauge!("rivven_has_leader").set(f64::from(u8::from(raft.leader.is_some())));
    gauge!("rivven_log_last_index").set(large(raft.indexes.last.value()));
    gauge!("rivven_log_durable_index").set(large(raft.indexes.persisted.value()));
    gauge!("rivven_commit_index").set(large(raft.indexes.commit.value()));
    gauge!("rivven_applied_index").set(large(raft.indexes.applied.value()));
    gauge!("rivven_voters").set(float(raft.voters.len()));
    gauge!("rivven_learners").set(float(raft.learners.len()));
}

fn tell_counts(status: &Status) {
    let stats = &status.stats;
    counter!("rivven_elections_won_total").absolute(stats.elections_won);
    counter!("rivven_commands_appended_total").absolute(stats.appended);
    counter!("rivven_commands_applied_total").absolute(stats.applied);
    counter!("rivven_commands_repeated_total").absolute(stats.repeated);
    counter!("rivven_commands_forwarded_total").absolute(stats.forwarded);
    counter!("rivven_commands_unknown_total").absolute(stats.unknown);
    counter!("rivven_requests_rejected_total").absolute(stats.rejected);
    counter!("rivven_reads_total").absolute(stats.reads);
    counter!("rivven_read_rounds_total").absolute(stats.read_rounds);
    counter!("rivven_writes_total").absolute(stats.writes);
    counter!("rivven_messages_sent_total").absolute(stats.sent);
    counter!("rivven_messages_held_total").absolute(stats.held);
    counter!("rivven_messages_dropped_total").absolute(stats.unreachable);
    counter!("rivven_messages_stalled_total").absolute(stats.stalled);
    for (refusal, count) in &stats.refused {
        counter!("rivven_messages_refused_total", "reason" => format!("{refusal:?}")).absolute(*count);
    }
    counter!("rivven_snapshots_built_total").absolute(stats.snapshots_built);
    counter!("rivven_snapshots_sent_total").absolute(stats.snapshots_sent);
    counter!("rivven_snapshots_installed_total").absolute(stats.snapshots_installed);
}

fn tell_gossip(swim: &Swim) {
    let mut by_state = BTreeMap::from(STATES.map(|state| (state, 0_usize)));
    for member in swim.members() {
        *by_state.entry(member.state).or_default() += 1;
    }
    for (state, count) in by_state {
        gauge!("rivven_members", "state" => state.to_string()).set(float(count));
    }
    gauge!("rivven_member_health").set(f64::from(swim.health()));
    gauge!("rivven_gossip_backlog").set(float(swim.backlog()));
    let swim::Stats { sent, sent_bytes, received, foreign, forged, flooding, misdirected, .. } = swim.stats();
    counter!("rivven_gossip_datagrams_sent_total").absolute(*sent);
    counter!("rivven_gossip_bytes_sent_total").absolute(*sent_bytes);
    counter!("rivven_gossip_datagrams_received_total").absolute(received.iter().sum());
    let malformed = swim.stats().malformed.values().sum();
    let refused = [
        ("malformed", malformed),
        ("foreign", *foreign),
        ("forged", *forged),
        ("flooding", *flooding),
        ("misdirected", *misdirected),
    ];
    for (reason, count) in refused {
        counter!("rivven_gossip_datagrams_refused_total", "reason" => reason).absolute(count);
    }
    let swim::Stats { probes, probes_failed, suspicions, declared_dead, refutations, .. } = swim.stats();
    counter!("rivven_probes_total").absolute(*probes);
    counter!("rivven_probes_failed_total").absolute(*probes_failed);
    counter!("rivven_suspicions_total").absolute(*suspicions);
    counter!("rivven_members_declared_dead_total").absolute(*declared_dead);
    counter!("rivven_refutations_total").absolute(*refutations);
}

fn tell_replicas(replicas: &Replicas) {
    let led = replicas.iter().filter(|(_, replica)| replica.leads().is_some());
    let led: Vec<_> = led.map(|(_, replica)| &replica.view().partition).collect();
    let under_replicated =
        led.iter().filter(|partition| partition.in_sync.len() < partition.replicas.len()).count();
    gauge!("rivven_replicas").set(float(replicas.iter().count()));
    gauge!("rivven_replicas_leading").set(float(led.len()));
    gauge!("rivven_partitions_under_replicated").set(float(under_replicated));
}

/// Gauges are floats; a count is exact up to 2^32, which no count of things reaches.
fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Gauges are floats: a term or an index is exact up to 2^53.
#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "nothing else turns a u64 into a float"
)]
fn large(value: u64) -> f64 {
    value as f64
}
