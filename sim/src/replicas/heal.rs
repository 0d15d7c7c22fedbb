//! Peace: all faults end, and everybody must come to have everything.

use core::time::Duration;

use rivven_cluster::id::{NodeEpoch, NodeId};
use rivven_cluster::partition::metadata::{FenceReason, NodeState};
use rivven_cluster::partition::replica::io::Acks;

use super::host::Host;
use super::marks::Mark;
use super::step::seat_of;
use super::world::{FACTOR, Packet, World};

/// So many rounds of everybody doing everything.
const ROUNDS: u64 = 80;
/// In this one, a producer sends a record that must be acknowledged.
const PRODUCED_IN: u64 = 30;

impl World {
    /// Lets everybody do what it can, and judges what came of it.
    pub(super) fn heal(&mut self) {
        self.check_logs_match();
        self.lose_somebody();
        let loses_late = self.draws.chance(1, 3);
        self.wire.clear();
        self.is_calm = true;
        let mut last = None;
        for round in 0..ROUNDS {
            self.bring_back_all();
            if round == PRODUCED_IN
                && let Some(leader) = self.record().leader
            {
                self.produce(seat_of(leader), Acks::All, 1, Duration::from_secs(3600));
                last = Some(self.values);
            }
            for host in 0..self.hosts.len() {
                self.sync(host);
                self.sync(host);
                self.fetch(host);
            }
            while !self.wire.is_empty() {
                let packet = self.wire.remove(0);
                if loses_late && round < PRODUCED_IN {
                    self.lose_whom(&packet);
                }
                self.deliver(packet);
            }
            self.pass_time(Duration::from_millis(100));
            self.check();
        }
        self.check_logs_match();
        self.judge(last);
        self.count();
    }

    /// In one world of three somebody who is not needed never comes back.
    fn lose_somebody(&mut self) {
        let hosts = u64::try_from(self.hosts.len()).expect("a few");
        let host = usize::try_from(self.draws.below(hosts)).expect("a few");
        if self.draws.chance(1, 3) {
            self.lose(host);
        }
    }

    /// In one world of three it is the last who would have been in sync again, while it is on its way to be.
    fn lose_whom(&mut self, packet: &Packet) {
        let Packet::Alter(alteration) = packet else { return };
        let record = self.record();
        let is_last = record.in_sync.len() + 1 == record.replicas.len();
        let is_back = |(node, _): &&(NodeId, NodeEpoch)| !record.in_sync.contains(node);
        if let (true, Some((node, _))) = (is_last, alteration.in_sync.iter().find(is_back)) {
            self.lose(seat_of(*node));
        }
    }

    fn lose(&mut self, host: usize) {
        let (node, record) = (self.hosts[host].node, self.record());
        let is_needed = record.in_sync.contains(&node) || record.eligible.contains(&node);
        let min_in_sync = self.history.last().map_or(0, |view| view.min_in_sync);
        let are_enough = min_in_sync < usize::from(FACTOR);
        if self.absent.is_none() && !is_needed && are_enough {
            self.crash(host);
            self.fence(host, FenceReason::Dead);
            self.absent = Some(host);
        }
    }

    fn bring_back_all(&mut self) {
        for host in (0..self.hosts.len()).filter(|host| self.absent != Some(*host)).collect::<Vec<_>>() {
            if !self.hosts[host].is_up {
                self.come_back(host);
            }
            self.register(host);
            let state = self.metadata.node(self.hosts[host].node).map(|record| record.state);
            if state == Some(NodeState::ShuttingDown) {
                self.fence(host, FenceReason::Operator);
            }
            self.unfence(host);
        }
        for host in 0..self.hosts.len() {
            self.observe(host, self.history.len() - 1);
        }
    }

    fn judge(&self, last: Option<u64>) {
        let record = self.record();
        let Some(leader) = record.leader else {
            let nobody_may = record.in_sync.is_empty() && record.eligible.is_empty();
            assert!(nobody_may, "nobody leads, and somebody may: {record:?}");
            assert!(self.gave_up_copies, "nobody is left: {record:?}");
            return;
        };
        let absent = self.absent.map(|host| self.hosts[host].node);
        let mut replicas = record.replicas.clone();
        replicas.retain(|node| Some(*node) != absent);
        replicas.sort_unstable();
        assert_eq!(record.in_sync, replicas, "all are in sync in the end");
        let waits = |target: &[NodeId]| target.iter().any(|node| Some(*node) == absent);
        let is_done = record.reassignment.as_deref().is_none_or(|moves| waits(&moves.target));
        assert!(is_done, "a reassignment ends");
        let first = &self.hosts[seat_of(leader)];
        for node in &replicas {
            let host = &self.hosts[seat_of(*node)];
            let replica = host.replica.as_ref().expect("it has a replica");
            assert_eq!(replica.high_watermark(), replica.log().end, "all is committed in the end, at {node}");
            assert_eq!(host.log.end(), first.log.end(), "all have as much in the end");
        }
        for (offset, value) in self.acknowledged.range(first.log.start..) {
            let has = first.log.at(*offset).map(|record| record.1);
            assert_eq!(has, Some(*value), "what was acknowledged at {offset} is there in the end");
        }
        let is_last = |value: u64| self.acknowledged.values().any(|known| *known == value);
        assert!(last.is_none_or(is_last), "what is produced in peace is acknowledged");
        assert!(self.asked.is_empty(), "every producer is answered in the end");
    }

    fn count(&mut self) {
        for stats in self.hosts.iter().map(Host::stats).collect::<Vec<_>>() {
            self.marks.add(Mark::Cut, stats.cut);
            self.marks.add(Mark::Restarted, stats.restarted);
            self.marks.add(Mark::Admitted, stats.admitted);
            self.marks.add(Mark::PutOut, stats.put_out);
            self.marks.add(Mark::Voided, stats.voided);
            self.marks.add(Mark::StaleAnswer, stats.answers_stale);
        }
    }
}
