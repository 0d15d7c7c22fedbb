//! What happened how often: a fault that never comes about tests nothing.

/// Counters, by name.
#[derive(Clone, Copy, Debug, Default)]
pub struct Marks {
    counts: [u64; NAMES.len()],
}

/// Something worth counting.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mark {
    Committed,
    Acknowledged,
    Ambiguous,
    Refused,
    LeaderChanged,
    Cut,
    Restarted,
    Admitted,
    PutOut,
    Voided,
    StaleAnswer,
    Crashed,
    DiskLost,
    Reassigned,
    Cancelled,
    ElectedEligible,
    Leaderless,
    ViewsSkipped,
    Trimmed,
}

const NAMES: [&str; 19] = [
    "records committed",
    "records acknowledged",
    "producers that were told that nobody knows",
    "producers that were refused",
    "leader epochs",
    "logs cut off",
    "logs begun anew",
    "replicas proposed to be in sync",
    "replicas put out of sync",
    "proposals made void",
    "answers that came too late",
    "crashes",
    "disks lost",
    "reassignments",
    "reassignments taken back",
    "elections of who was only eligible",
    "times without a leader",
    "views left out",
    "logs trimmed",
];

impl Marks {
    pub(super) fn add(&mut self, mark: Mark, count: u64) {
        self.counts[place(mark)] += count;
    }

    /// Adds what happened in another run.
    pub fn absorb(&mut self, other: &Marks) {
        self.counts.iter_mut().zip(other.counts).for_each(|(own, more)| *own += more);
    }

    /// Each by its name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        NAMES.into_iter().zip(self.counts)
    }
}

fn place(mark: Mark) -> usize {
    match mark {
        Mark::Committed => 0,
        Mark::Acknowledged => 1,
        Mark::Ambiguous => 2,
        Mark::Refused => 3,
        Mark::LeaderChanged => 4,
        Mark::Cut => 5,
        Mark::Restarted => 6,
        Mark::Admitted => 7,
        Mark::PutOut => 8,
        Mark::Voided => 9,
        Mark::StaleAnswer => 10,
        Mark::Crashed => 11,
        Mark::DiskLost => 12,
        Mark::Reassigned => 13,
        Mark::Cancelled => 14,
        Mark::ElectedEligible => 15,
        Mark::Leaderless => 16,
        Mark::ViewsSkipped => 17,
        Mark::Trimmed => 18,
    }
}
