//! What a member counts. Rare branches are here so that a simulation can demand that each was taken.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[cfg(doc)]
use super::message::Kind;
use super::message::{KINDS, Malformed};

/// Counters since the start.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Stats {
    /// Datagrams sent.
    pub sent: u64,
    /// Bytes of them.
    pub sent_bytes: u64,
    /// Datagrams that were heeded, by their [`Kind`] in the order in which it is declared.
    pub received: [u64; KINDS.len()],
    /// Datagrams that could not be read.
    pub malformed: BTreeMap<Malformed, u64>,
    /// Datagrams of another cluster.
    pub foreign: u64,
    /// Datagrams whose sender is not who it says it is.
    pub forged: u64,
    /// Datagrams and questions beyond what one peer may send.
    pub flooding: u64,
    /// Datagrams for somebody else.
    pub misdirected: u64,
    /// Claims of epochs that their owner cannot have minted, or could never outbid.
    pub implausible: u64,
    /// Goodbyes that somebody else passed on, or made up: the member gets the time to object.
    pub hearsay_goodbyes: u64,
    /// Two processes under one id.
    pub id_conflicts: u64,
    /// Words of ours against words about us.
    pub refutations: u64,
    /// Old words about us.
    pub stale_accusations: u64,
    /// Probes begun.
    pub probes: u64,
    /// Members that did not have to be probed, since they were just heard.
    pub probes_spared: u64,
    /// Probes that no answer came to.
    pub probes_failed: u64,
    /// Probes that only others' answers, or a stream's, saved.
    pub probes_saved: u64,
    /// Probes that were voided, since we were stopped ourselves.
    pub probes_voided: u64,
    /// Suspicions that were begun.
    pub suspicions: u64,
    /// Accusers beyond the first.
    pub confirmations: u64,
    /// Members that were declared dead here.
    pub declared_dead: u64,
    /// Suspicions that began in a storm, and were held until its end.
    pub damped: u64,
    /// Tries to reach the dead.
    pub heal_pings: u64,
    /// Comparisons of tables that were begun.
    pub syncs: u64,
    /// Members that the dead list of another told to object.
    pub accusations_passed_on: u64,
    /// Dead members that were forgotten.
    pub forgotten: u64,
    /// Newcomers that were turned away, since the table is full.
    pub table_full: u64,
    /// Requests to probe for somebody that were turned away.
    pub relays_refused: u64,
}
