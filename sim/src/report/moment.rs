//! What a node looked like after it had settled.

use core::fmt::Write;

use rivven_cluster::node::Node;
use rivven_cluster::raft;

/// So many partitions are told apart; of the others only their number is told.
const PARTITIONS_MAX: usize = 12;

/// What a node is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// It does not run, or belongs to no cluster yet.
    Down,
    /// It follows.
    Follower,
    /// It asks whether it would win.
    PreCandidate,
    /// It asks for votes.
    Candidate,
    /// It leads.
    Leader,
}

/// A node's state. Numbers are -1 where they mean nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Moment {
    /// What it is.
    pub role: Role,
    /// Its term.
    pub term: i64,
    /// Who leads, as far as it knows; 0: nobody.
    pub leader: i64,
    /// Its commit index.
    pub commit: i64,
    /// Up to where it has executed the log.
    pub applied: i64,
    /// The leader epoch of the first of its partitions.
    pub epoch: i64,
    /// The high watermark of that partition.
    pub high_watermark: i64,
    /// More, in words.
    pub text: String,
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Moment {
    /// Of a node that does not run.
    #[must_use]
    pub fn down() -> Moment {
        let text = "does not run".to_owned();
        let nothing = -1;
        Moment {
            role: Role::Down,
            term: nothing,
            leader: 0,
            commit: nothing,
            applied: nothing,
            epoch: nothing,
            high_watermark: nothing,
            text,
        }
    }

    /// Of a node as it is now.
    #[must_use]
    pub fn of<S>(node: &Node<S>) -> Moment
    where
        S: rivven_cluster::state_machine::StateMachine,
    {
        let mut moment = Moment { text: String::new(), ..Moment::down() };
        match node.standing() {
            None => moment.text.push_str("belongs to no cluster yet"),
            Some(standing) => moment.stands(standing),
        }
        if let Some(indexes) = node.indexes() {
            moment.commit = number(indexes.commit.value());
            moment.applied = number(indexes.applied.value());
            let _ = write!(moment.text, "log to {}, durable to {}", indexes.last, indexes.persisted);
        }
        if let Some(members) = node.membership() {
            let voters: Vec<String> = members.voters().iter().map(ToString::to_string).collect();
            let _ = write!(moment.text, "; voters {}", voters.join(" "));
        }
        if let Some(swim) = node.gossip() {
            let _ = write!(moment.text, "; {} suspects", swim.suspicions());
        }
        if let Some(halt) = node.halted() {
            let _ = write!(moment.text, "; halted: {halt}");
        }
        moment.replicates(node);
        moment
    }

    fn stands(&mut self, standing: raft::Standing) {
        self.role = match standing.role {
            raft::Role::Follower => Role::Follower,
            raft::Role::PreCandidate => Role::PreCandidate,
            raft::Role::Candidate => Role::Candidate,
            raft::Role::Leader => Role::Leader,
        };
        self.term = number(standing.term.value());
        self.leader = standing.leader.map_or(0, |leader| number(leader.value()));
    }

    fn replicates<S>(&mut self, node: &Node<S>)
    where
        S: rivven_cluster::state_machine::StateMachine,
    {
        let Some(replicas) = node.replicas() else { return };
        let mut more = 0;
        for (place, (partition, replica)) in replicas.iter().enumerate() {
            let record = &replica.view().partition;
            let (high_watermark, log) = (replica.high_watermark(), replica.log());
            if place == 0 {
                self.epoch = number(record.leader_epoch.value());
                self.high_watermark = number(high_watermark.value());
            }
            if place >= PARTITIONS_MAX {
                more += 1;
                continue;
            }
            let leads = if replica.leads().is_some() { "leads " } else { "" };
            let in_sync: Vec<String> = record.in_sync.iter().map(ToString::to_string).collect();
            let _ = write!(
                self.text,
                "\n{partition}: {leads}epoch {}, high watermark {high_watermark}, log {} to {}, in sync {}",
                record.leader_epoch,
                log.start,
                log.end,
                in_sync.join(" ")
            );
        }
        if more > 0 {
            let _ = write!(self.text, "\nand {more} more partitions");
        }
    }
}
