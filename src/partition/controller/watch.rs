//! What a controller remembers of a node: when it was heard, and how often it flapped.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::Beat;
use crate::id::{BootId, Token};
use crate::partition::metadata::{NodeRecord, NodeState};
use crate::time::Instant;

/// Who was not heard for so long, and is not known to the metadata, is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// More doublings than any hold has.
const FLAPS_MAX: u32 = 16;

/// One process that speaks as a node.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Voice {
    /// What it said last.
    pub beat: Beat,
    /// When that was.
    pub heard: Instant,
    /// Since when it speaks without a gap.
    pub steady_since: Instant,
}

impl Voice {
    pub(super) fn process(&self) -> (Token, BootId) {
        (self.beat.registration.token, self.beat.registration.boot)
    }
}

/// What is remembered of a node.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Watch {
    /// The process that the metadata knows.
    pub voice: Option<Voice>,
    /// Another one that speaks under the same id: a later one, or one on another disk.
    pub claim: Option<Voice>,
    /// How often it was fenced lately.
    pub flaps: u32,
    /// When that was last.
    pub last_fence: Option<Instant>,
    /// Whether it leads all that it is preferred for.
    pub is_settled: bool,
    fenced_since: Option<Instant>,
    active_since: Option<Instant>,
}

impl Watch {
    /// It has spoken; after `gap` without a word it does not count as steady.
    pub(super) fn hear(&mut self, now: Instant, beat: Beat, record: Option<&NodeRecord>, gap: Duration) {
        let process = (beat.registration.token, beat.registration.boot);
        let known = record.map(|record| (record.token, record.boot));
        if known.is_some_and(|(token, boot)| token == process.0 && process.1 < boot) {
            // An older process of the same disk: it is gone, and its word was late.
            return;
        }
        let place = if known == Some(process) { &mut self.voice } else { &mut self.claim };
        let is_same = |voice: &&Voice| voice.process() == process;
        let before = place.as_ref().filter(is_same).filter(|voice| now.saturating_since(voice.heard) <= gap);
        let steady_since = before.map_or(now, |voice| voice.steady_since);
        *place = Some(Voice { beat, heard: now, steady_since });
    }

    /// The metadata says this of it.
    pub(super) fn note_state(&mut self, now: Instant, record: &NodeRecord) {
        let known = (record.token, record.boot);
        if self.voice.as_ref().is_some_and(|voice| voice.process() != known) {
            self.voice = None;
        }
        if let Some(claim) = self.claim.take_if(|claim| claim.process() == known) {
            self.voice = Some(claim);
        }
        match record.state {
            NodeState::Fenced => {
                self.fenced_since.get_or_insert(now);
                self.active_since = None;
                self.is_settled = false;
            }
            NodeState::Active => {
                self.active_since.get_or_insert(now);
                self.fenced_since = None;
            }
            NodeState::ShuttingDown => (self.active_since, self.fenced_since) = (None, None),
        }
    }

    /// It was fenced.
    pub(super) fn note_fence(&mut self, now: Instant, calm: Duration) {
        self.flaps = self.flaps_now(now, calm).saturating_add(1).min(FLAPS_MAX);
        self.last_fence = Some(now);
        if let Some(voice) = &mut self.voice {
            voice.steady_since = now;
        }
    }

    /// How often it was fenced, half of it forgotten for each `calm` since.
    pub(super) fn flaps_now(&self, now: Instant, calm: Duration) -> u32 {
        let quiet = self.last_fence.map_or(Duration::ZERO, |last| now.saturating_since(last));
        let halvings = quiet.as_nanos().checked_div(calm.as_nanos()).unwrap_or(0);
        self.flaps.checked_shr(u32::try_from(halvings).unwrap_or(u32::MAX)).unwrap_or(0)
    }

    /// When the process that the metadata knows was heard last.
    pub(super) fn heard(&self) -> Option<Instant> {
        self.voice.as_ref().map(|voice| voice.heard)
    }

    /// How long it has been fenced, as far as this controller has seen.
    pub(super) fn fenced_for(&self, now: Instant) -> Option<Duration> {
        self.fenced_since.map(|since| now.saturating_since(since))
    }

    /// How long it has been active, as far as this controller has seen.
    pub(super) fn active_for(&self, now: Instant) -> Option<Duration> {
        self.active_since.map(|since| now.saturating_since(since))
    }

    pub(super) fn was_heard_lately(&self, now: Instant) -> bool {
        let heard = [&self.voice, &self.claim].into_iter().flatten().map(|voice| voice.heard).max();
        heard.is_some_and(|heard| now.saturating_since(heard) < FORGOTTEN_AFTER)
    }
}
