//! What is to be done about a node, and why.
//!
//! One function says both, so that what is done and what is explained cannot differ.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::watch::{Voice, Watch};
use super::{Controller, Life, Sight, is_presumption};
use crate::id::NodeId;
use crate::partition::metadata::{Command, FenceReason, Metadata, NodeRecord, NodeState};
use crate::time::Instant;

/// What is to be done about a node.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
#[non_exhaustive]
pub enum Verdict {
    /// Nothing: it is active and speaks.
    #[error("all is well")]
    Well,
    /// Nothing: nobody of that name was heard.
    #[error("not known, and not heard of")]
    Unknown,
    /// It is silent, and will be fenced if it stays so.
    #[error("silent: it will be fenced in {} ms if it stays so", .0.as_millis())]
    Silent(Duration),
    /// It is fenced, and away.
    #[error("away: it has to speak, and the members to hold it alive")]
    Away,
    /// It is fenced, by an operator or since its disk failed, until it is started again.
    #[error("fenced until it is started again")]
    Barred,
    /// It is fenced, and speaks, but does not know its session yet.
    #[error("behind: it has not applied its own registration yet")]
    Behind,
    /// It is fenced, and will be unfenced if it goes on speaking.
    #[error("back: it will be unfenced in {} ms if it goes on speaking", .0.as_millis())]
    Held(Duration),
    /// It is about to stop, and has still to let others lead.
    #[error("about to stop")]
    Stopping,
    /// Another disk speaks under its id, while the one that is known still does.
    #[error("two disks have its id: stop one of them")]
    Doubled,
    /// It is not registered: it does not understand all that the cluster's nodes have to.
    #[error("too old: it does not understand all that the cluster needs")]
    Outdated,
    /// It is to begin a session.
    #[error("to be registered")]
    Register,
    /// It is to be fenced.
    #[error("to be fenced: {0}")]
    Fence(FenceReason),
    /// It is to be unfenced.
    #[error("to be unfenced")]
    Unfence,
    /// Others are to lead, since it will stop.
    #[error("to be relieved, since it will stop")]
    Relieve,
    /// It is to be forgotten: it is no member any more, and holds nothing.
    #[error("to be forgotten: it is no member any more, and holds nothing")]
    Forget,
}

impl Verdict {
    /// Whether it would be fenced because it seems gone.
    pub(super) fn is_presumption(&self) -> bool {
        matches!(self, Verdict::Fence(reason) if is_presumption(*reason))
    }
}

impl Controller {
    /// What is to be done about a node.
    pub(super) fn verdict(&self, now: Instant, node: NodeId, metadata: &Metadata, sight: Sight) -> Verdict {
        let unwatched = Watch::default();
        let watch = self.watches.get(&node).unwrap_or(&unwatched);
        let is_fresh = |voice: &&Voice| now.saturating_since(voice.heard) < self.settings.fence_delay;
        // The members know which disk it has; a late word from another one is nobody's.
        let is_its_disk = |claim: &&Voice| sight.token.is_none_or(|token| token == claim.process().0);
        let claim = watch.claim.as_ref().filter(is_fresh).filter(is_its_disk);
        let claim = claim.filter(|claim| !claim.beat.is_leaving);
        let Some(record) = metadata.node(node) else {
            // Who is no member any more is not taken in again because it has not noticed.
            return claim
                .filter(|_| sight.is_member)
                .map_or(Verdict::Unknown, |claim| register(claim, metadata));
        };
        if let Some(claim) = claim {
            // Its disk is locked by one process at a time: the one before is gone.
            let is_successor = claim.process().0 == record.token;
            let is_doubled = !is_successor && watch.voice.as_ref().is_some_and(|voice| is_fresh(&voice));
            match record.state {
                NodeState::Fenced | NodeState::Active if is_doubled => return Verdict::Doubled,
                NodeState::Fenced if sight.is_member => return register(claim, metadata),
                NodeState::Active | NodeState::ShuttingDown if is_successor => {
                    return Verdict::Fence(FenceReason::Restarted);
                }
                NodeState::Fenced | NodeState::Active | NodeState::ShuttingDown => {}
            }
        }
        let life = sight.hint.filter(|hint| u64::from(hint.boot) == low_half(record)).map(|hint| hint.life);
        match record.state {
            NodeState::Fenced => self.verdict_on_fenced(now, node, (record, watch), (metadata, sight), life),
            NodeState::Active | NodeState::ShuttingDown => self.verdict_on_present(now, record, watch, life),
        }
    }

    fn verdict_on_fenced(
        &self,
        now: Instant,
        node: NodeId,
        (record, watch): (&NodeRecord, &Watch),
        (metadata, sight): (&Metadata, Sight),
        life: Option<Life>,
    ) -> Verdict {
        if !sight.is_member {
            let is_empty = metadata.partitions_of(node).next().is_none();
            return if is_empty { Verdict::Forget } else { Verdict::Away };
        }
        let is_fresh = |voice: &&Voice| now.saturating_since(voice.heard) < self.settings.fence_delay;
        let Some(voice) = watch.voice.as_ref().filter(is_fresh) else { return Verdict::Away };
        if matches!(record.reason, FenceReason::Operator | FenceReason::Disk) {
            return Verdict::Barred;
        }
        if voice.beat.is_leaving || matches!(life, Some(Life::Dead | Life::Left)) {
            return Verdict::Away;
        }
        if voice.beat.applied.value() < record.epoch.value() {
            return Verdict::Behind;
        }
        // What it has not said since does not count.
        let steady = voice.heard.saturating_since(voice.steady_since);
        match self.hold(now, record, watch).checked_sub(steady).filter(|left| !left.is_zero()) {
            Some(left) => Verdict::Held(left),
            None => Verdict::Unfence,
        }
    }

    fn verdict_on_present(
        &self,
        now: Instant,
        record: &NodeRecord,
        watch: &Watch,
        life: Option<Life>,
    ) -> Verdict {
        let (delay, longest) = (self.settings.fence_delay, self.settings.silence_max);
        let silence = self.silence(now, watch);
        let says_goodbye = watch.voice.as_ref().is_some_and(|voice| voice.beat.is_leaving);
        let is_stopping = record.state == NodeState::ShuttingDown;
        if says_goodbye || life == Some(Life::Left) || is_stopping {
            let is_gone = life == Some(Life::Left) || silence >= delay;
            return match (is_stopping, is_gone) {
                (false, _) => Verdict::Relieve,
                (true, true) => Verdict::Fence(FenceReason::Left),
                (true, false) => Verdict::Stopping,
            };
        }
        if life == Some(Life::Dead) && silence >= delay {
            return Verdict::Fence(FenceReason::Dead);
        }
        if silence >= longest {
            return Verdict::Fence(FenceReason::Silent);
        }
        let until = if life == Some(Life::Dead) { delay } else { longest };
        if silence < self.settings.beat_interval * 2 {
            Verdict::Well
        } else {
            Verdict::Silent(until - silence)
        }
    }

    /// How long it was silent, within this leadership.
    pub(super) fn silence(&self, now: Instant, watch: &Watch) -> Duration {
        now.saturating_since(watch.heard().map_or(self.since, |heard| heard.max(self.since)))
    }

    /// How long a fenced node has to speak before it is unfenced.
    pub(super) fn hold(&self, now: Instant, record: &NodeRecord, watch: &Watch) -> Duration {
        let settings = &self.settings;
        let flaps = watch.flaps_now(now, settings.calm);
        if flaps == 0 && record.reason == FenceReason::New {
            return Duration::ZERO;
        }
        let doubled = settings.unfence_hold.saturating_mul(1 << flaps.saturating_sub(1));
        doubled.min(settings.unfence_hold_max)
    }

    /// The command that carries out a verdict.
    pub(super) fn command_for(&self, id: NodeId, verdict: &Verdict, metadata: &Metadata) -> Option<Command> {
        let watch = self.watches.get(&id)?;
        if *verdict == Verdict::Register {
            let mut registration = watch.claim.as_ref()?.beat.registration.clone();
            registration.known = metadata.node(id).map(|record| record.epoch);
            return Some(Command::RegisterNode(registration));
        }
        let record = metadata.node(id)?;
        let (node, epoch, seen) = (id, record.epoch, record.changed);
        match verdict {
            Verdict::Fence(reason) => Some(Command::FenceNode { node, epoch, seen, reason: *reason }),
            Verdict::Unfence => {
                let applied = watch.voice.as_ref()?.beat.applied;
                Some(Command::UnfenceNode { node, epoch, seen, applied })
            }
            Verdict::Relieve => Some(Command::BeginShutdown { node, epoch, seen }),
            Verdict::Forget => Some(Command::DeregisterNode { node, epoch }),
            Verdict::Well
            | Verdict::Unknown
            | Verdict::Silent(_)
            | Verdict::Away
            | Verdict::Barred
            | Verdict::Behind
            | Verdict::Held(_)
            | Verdict::Stopping
            | Verdict::Doubled
            | Verdict::Outdated
            | Verdict::Register => None,
        }
    }
}

/// Who would be refused is not proposed.
fn register(claim: &Voice, metadata: &Metadata) -> Verdict {
    let is_fit = claim.beat.registration.features >= metadata.feature_level();
    if is_fit { Verdict::Register } else { Verdict::Outdated }
}

fn low_half(record: &NodeRecord) -> u64 {
    record.boot.value() & u64::from(u32::MAX)
}
