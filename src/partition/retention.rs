//! How much of a log is kept.
//!
//! ```text
//!   log      │ 60 s ago │ 40 s ago │ 20 s ago │ now │     kept: 30 seconds
//!   chunks   └─ dropped ┴─ dropped ┴─ kept ───┴ kept┘
//! ```
//!
//! A leader drops from the front what is older than its topic wants, or beyond the bytes that it wants, as far as it is
//! committed. Its followers hear from it where the log begins.
//!
//! Of each batch one would have to know when it was written and how long it is, for ever. So batches are put together in
//! [`Chunks`], whose share of the log, in bytes and in time, is small; a chunk is dropped as a whole. A log is kept that
//! much longer than it has to be, never shorter.
//!
//! What was dropped, nobody can recognise when it is sent again: a new process, and a follower that began anew, know only the
//! producers of what they have. So nothing is dropped before every producer has given up sending it.

use core::time::Duration;
use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::id::Offset;
use crate::time::{Instant, WallSeconds};

/// A batch that makes a chunk longer than this part of the whole log begins a new one.
const SHARE: u32 = 512;

/// How much of each log of a topic is kept. What is more than either wants is dropped.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Retention {
    /// As many of the last records as have so many bytes at least. `None`: all.
    pub bytes: Option<u64>,
    /// What was written in so many seconds at least, by the clocks of leaders: one that is ahead drops too much. `None`:
    /// all.
    pub seconds: Option<u32>,
}

/// A log in parts, the first one first.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Chunks {
    all: VecDeque<Chunk>,
    bytes: u64,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Chunk {
    first: Offset,
    /// The place after its last record.
    end: Offset,
    bytes: u64,
    /// When its first batch was written, and when the one with the latest time.
    began: WallSeconds,
    latest: WallSeconds,
    /// Since when this process knows all of it.
    known: Option<Instant>,
}

impl Chunks {
    /// A batch of so many bytes comes at the end of the log.
    pub fn push(&mut self, first: Offset, end: Offset, length: u32, time: WallSeconds) {
        let length = u64::from(length);
        self.bytes += length;
        let (most, began) = (self.bytes / u64::from(SHARE), self.all.front().map(|first| first.began));
        let span = time.0.saturating_sub(began.map_or(time.0, |began| began.0)) / SHARE;
        let joins =
            |last: &&mut Chunk| last.bytes + length <= most && time.0.saturating_sub(last.began.0) <= span;
        match self.all.back_mut().filter(joins) {
            Some(last) => {
                (last.end, last.bytes, last.known) = (end, last.bytes + length, None);
                last.latest = last.latest.max(time);
            }
            None => {
                let (began, latest) = (time, time);
                self.all.push_back(Chunk { first, end, bytes: length, began, latest, known: None });
            }
        }
    }

    /// This process knows all that is there, since now if it did not before: so it was written by now, whatever the clock
    /// of its leader said.
    pub fn are_known(&mut self, now: Instant, wall: Option<WallSeconds>) {
        for chunk in self.all.iter_mut().rev().take_while(|chunk| chunk.known.is_none()) {
            chunk.known = Some(now);
            chunk.latest = wall.map_or(chunk.latest, |wall| chunk.latest.min(wall));
        }
    }

    /// The clock was ahead: all that is known was written by then.
    pub fn were_written_by(&mut self, wall: WallSeconds) {
        self.all.iter_mut().for_each(|chunk| chunk.latest = chunk.latest.min(wall));
    }

    /// When the last of it was written.
    #[must_use]
    pub fn latest(&self) -> WallSeconds {
        self.all.back().map(|chunk| chunk.latest).unwrap_or_default()
    }

    /// The log ends at `end` now.
    pub fn truncate(&mut self, end: Offset) {
        while let Some(last) = self.all.pop_back_if(|chunk| chunk.first >= end) {
            self.bytes -= last.bytes;
        }
        if let Some(last) = self.all.back_mut().filter(|last| last.end > end) {
            // How much of it is left nobody knows: what is not counted is kept longer, not shorter.
            self.bytes -= core::mem::take(&mut last.bytes);
            last.end = end;
        }
    }

    /// The log begins at `start` now.
    pub fn trim(&mut self, start: Offset) {
        while let Some(first) = self.all.pop_front_if(|chunk| chunk.end <= start) {
            self.bytes -= first.bytes;
        }
    }

    /// The log begins anew.
    pub fn clear(&mut self) {
        *self = Chunks::default();
    }

    /// Where the log is to begin, if that is not where it does.
    #[must_use]
    pub fn begin(&self, keep: &Keep) -> Option<Offset> {
        // What is not committed may be cut off, and does not take the place of what is.
        let is_open = |chunk: &&Chunk| chunk.end > keep.committed;
        let open: u64 = self.all.iter().rev().take_while(is_open).map(|chunk| chunk.bytes).sum();
        let (mut left, mut start) = (self.bytes - open, None);
        for chunk in self.all.iter().take_while(|chunk| keep.may_drop(chunk)) {
            left -= chunk.bytes;
            if !keep.is_too_much(left) && !keep.is_too_old(chunk) {
                break;
            }
            start = Some(chunk.end);
        }
        start
    }
}

/// What a log is dropped by.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Keep {
    /// What its topic wants.
    pub retention: Retention,
    /// What the wall clock says, if that is known.
    pub wall: Option<WallSeconds>,
    /// What time it is.
    pub now: Instant,
    /// So long after this process has heard of a batch nobody sends it again.
    pub retries_within: Duration,
    /// What is before that is committed.
    pub committed: Offset,
}

impl Keep {
    fn may_drop(&self, chunk: &Chunk) -> bool {
        let is_given_up = chunk.known.is_some_and(|known| known + self.retries_within <= self.now);
        is_given_up && chunk.end <= self.committed
    }

    fn is_too_much(&self, left: u64) -> bool {
        self.retention.bytes.is_some_and(|kept| left >= kept)
    }

    fn is_too_old(&self, chunk: &Chunk) -> bool {
        let until = self.retention.seconds.and_then(|kept| chunk.latest.0.checked_add(kept));
        until.zip(self.wall).is_some_and(|(until, wall)| until < wall.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOR_EVER: Retention = Retention { bytes: None, seconds: None };
    const NOW: Instant = Instant::from_nanos(1000);

    /// Batches of 100 bytes and ten records, a second apart.
    fn chunks(batches: u32) -> Chunks {
        let mut chunks = Chunks::default();
        for batch in 0..batches {
            let first = Offset::new(u64::from(batch) * 10);
            chunks.push(first, first.plus(10), 100, WallSeconds(1000 + batch));
        }
        chunks.are_known(Instant::ORIGIN, None);
        chunks
    }

    fn keep(retention: Retention, wall: u32) -> Keep {
        let wall = Some(WallSeconds(wall));
        let committed = Offset::new(u64::MAX);
        Keep { retention, wall, now: NOW, retries_within: Duration::from_nanos(1000), committed }
    }

    fn begin(chunks: &Chunks, retention: Retention, wall: u32) -> Option<u64> {
        chunks.begin(&keep(retention, wall)).map(Offset::value)
    }

    #[test]
    fn at_least_as_many_bytes_are_kept_as_are_wanted() {
        let chunks = chunks(10);
        let kept = |bytes| begin(&chunks, Retention { bytes: Some(bytes), seconds: None }, 5000);
        assert_eq!(kept(1000), None);
        assert_eq!(kept(901), None);
        assert_eq!(kept(900), Some(10));
        assert_eq!(kept(250), Some(70));
        assert_eq!(kept(0), Some(100));
        assert_eq!(begin(&chunks, FOR_EVER, 5000), None);
    }

    #[test]
    fn what_was_written_in_the_seconds_that_are_wanted_is_kept() {
        let chunks = chunks(10);
        let kept = |wall| begin(&chunks, Retention { bytes: None, seconds: Some(60) }, wall);
        assert_eq!(kept(1060), None);
        assert_eq!(kept(1061), Some(10));
        assert_eq!(kept(1065), Some(50));
        assert_eq!(kept(9999), Some(100));
        assert_eq!(kept(0), None, "a clock that is behind drops nothing");
        let second = keep(Retention { bytes: None, seconds: Some(1) }, 0);
        assert_eq!(chunks.begin(&Keep { wall: None, ..second }), None);
    }

    #[test]
    fn nothing_is_dropped_that_may_be_sent_again() {
        let mut chunks = chunks(10);
        let nothing = keep(Retention { bytes: Some(0), seconds: None }, 5000);
        chunks.push(Offset::new(100), Offset::new(110), 100, WallSeconds(1010));
        let later = Keep { now: Instant::from_nanos(1500), ..nothing };
        assert_eq!(chunks.begin(&later), Some(Offset::new(100)), "nobody has said since when it is known");
        chunks.are_known(Instant::from_nanos(500), None);
        assert_eq!(chunks.begin(&nothing), Some(Offset::new(100)));
        assert_eq!(chunks.begin(&later), Some(Offset::new(110)));
    }

    #[test]
    fn what_is_not_committed_takes_nobodys_place() {
        let chunks = chunks(10);
        let keep = keep(Retention { bytes: Some(300), seconds: None }, 5000);
        let committed = |committed| chunks.begin(&Keep { committed: Offset::new(committed), ..keep });
        assert_eq!(committed(100), Some(Offset::new(70)));
        assert_eq!(committed(50), Some(Offset::new(20)), "300 bytes of what is committed are kept");
        assert_eq!(committed(30), None);
    }

    #[test]
    fn a_clock_that_was_ahead_keeps_nothing_for_ever() {
        let week = keep(Retention { bytes: None, seconds: Some(7 * 86_400) }, 2000 + 8 * 86_400);
        let mut chunks = Chunks::default();
        chunks.push(Offset::new(0), Offset::new(1), 10, WallSeconds(u32::MAX));
        chunks.are_known(Instant::ORIGIN, Some(WallSeconds(2000)));
        assert_eq!(chunks.begin(&week), Some(Offset::new(1)), "it was there by then");
        let mut own = Chunks::default();
        own.push(Offset::new(0), Offset::new(1), 10, WallSeconds(u32::MAX));
        own.are_known(Instant::ORIGIN, Some(WallSeconds(u32::MAX)));
        assert_eq!(own.begin(&week), None);
        own.were_written_by(WallSeconds(2000));
        assert_eq!(own.begin(&week), Some(Offset::new(1)));
    }

    #[test]
    fn what_is_cut_off_and_trimmed_is_not_counted() {
        let mut chunks = chunks(10);
        chunks.truncate(Offset::new(75));
        assert_eq!(
            (chunks.all.len(), chunks.bytes),
            (8, 700),
            "of a part of a batch nobody knows how long it is"
        );
        chunks.truncate(Offset::new(70));
        assert_eq!((chunks.all.len(), chunks.bytes), (7, 700), "the part is gone");
        chunks.trim(Offset::new(35));
        assert_eq!((chunks.all.len(), chunks.bytes), (4, 400), "the first one is a part of a batch");
        chunks.truncate(Offset::new(35));
        assert_eq!(chunks.bytes, 0);
        chunks.clear();
        assert_eq!(chunks, Chunks::default());
    }

    #[test]
    fn chunks_are_few_however_long_the_log_is() {
        let mut chunks = chunks(1_000_000);
        assert!(chunks.all.len() < 10_000, "{} chunks", chunks.all.len());
        let kept = Retention { bytes: Some(10_000_000), seconds: None };
        let start = begin(&chunks, kept, 0).expect("most is dropped");
        // Of a log of 100,000,000 bytes a share is 195,312.
        assert!((8_980_000..=9_000_000).contains(&start), "{start}");
        chunks.trim(Offset::new(start));
        assert!((10_000_000..10_200_000).contains(&chunks.bytes), "{} bytes", chunks.bytes);
    }

    #[test]
    fn a_trickle_after_a_flood_is_dropped_in_time() {
        let mut chunks = chunks(1000);
        for day in 1..=700_u32 {
            let first = Offset::new(u64::from(10_000 + day - 1));
            chunks.push(first, first.plus(1), 1, WallSeconds(1000 + day * 86_400));
        }
        chunks.are_known(Instant::ORIGIN, None);
        let week = Retention { bytes: None, seconds: Some(7 * 86_400) };
        let start = begin(&chunks, week, 1000 + 700 * 86_400).expect("most is old");
        assert!((10_690..=10_693).contains(&start), "{start}");
    }
}
