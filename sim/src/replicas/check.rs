//! What must hold after every step (the invariants of Kafka's replication, KIP-101, KIP-966).

use rivven_cluster::id::NodeId;

use super::marks::Mark;
use super::step::seat_of;
use super::world::World;

impl World {
    /// A leader says that everything before `end` is committed: it stays what it is, for ever.
    pub(super) fn note_committed(&mut self, host: usize, end: u64) {
        let log = &self.hosts[host].log;
        assert!(end <= log.end(), "what is committed is in the log");
        for offset in log.start..end {
            let Some(record) = log.at(offset) else { continue };
            let known = *self.committed.entry(offset).or_insert_with(|| {
                self.marks.add(Mark::Committed, 1);
                record
            });
            assert_eq!(known, record, "offset {offset} was committed with another record");
        }
    }

    /// Checks everything.
    pub(super) fn check(&mut self) {
        self.check_leaders();
        self.check_candidates();
        for host in &self.hosts {
            let Some(replica) = &host.replica else { continue };
            replica.assert_invariants();
            let log = replica.log();
            assert_eq!((log.start.value(), log.end.value()), (host.log.start, host.log.end()));
            for offset in host.log.start..replica.high_watermark().value() {
                let (has, committed) = (host.log.at(offset), self.committed.get(&offset).copied());
                assert_eq!(has, committed, "node {} says that offset {offset} is committed", host.node);
            }
        }
    }

    /// One leader an epoch.
    fn check_leaders(&mut self) {
        for host in &self.hosts {
            let Some(epoch) = host.replica.as_ref().and_then(|replica| replica.leads()) else { continue };
            let leader = *self.leaders.entry(epoch).or_insert(host.node);
            assert_eq!(leader, host.node, "two nodes lead in epoch {epoch}");
        }
    }

    /// Whoever may be elected has everything that is committed, on its disk. A node that came back on another disk is not
    /// the one that the metadata means until it has registered.
    fn check_candidates(&self) {
        let record = self.record();
        for node in record.in_sync.iter().chain(&record.eligible) {
            let host = &self.hosts[seat_of(*node)];
            let is_meant = self.metadata.node(*node).map(|known| known.token.value()) == Some(host.token);
            if is_meant {
                self.check_candidate(*node);
            }
        }
    }

    fn check_candidate(&self, node: NodeId) {
        let disk = &self.hosts[seat_of(node)].synced;
        assert!(disk.start <= self.trimmed, "node {node} lacks what nobody has dropped");
        for (offset, record) in self.committed.range(disk.start..) {
            let record_here = disk.at(*offset);
            assert!(
                record_here == Some(*record),
                "node {node} may be elected, and lacks the committed record at {offset}: {:?}",
                self.record()
            );
        }
    }

    /// Two logs that have a record of the same epoch at the same place are the same up to there.
    pub(super) fn check_logs_match(&self) {
        let later = |place: usize| self.hosts.iter().skip(place + 1);
        let pairs = self.hosts.iter().enumerate().flat_map(|(place, a)| later(place).map(move |b| (a, b)));
        for (a, b) in pairs {
            let from = a.log.start.max(b.log.start);
            let until = a.log.end().min(b.log.end());
            let agree = |offset: &u64| {
                a.log.at(*offset).map(|record| record.0) == b.log.at(*offset).map(|record| record.0)
            };
            if let Some(last) = (from..until).rev().find(agree) {
                for offset in from..=last {
                    assert_eq!(a.log.at(offset), b.log.at(offset), "the logs differ before {last}");
                }
            }
        }
    }
}
