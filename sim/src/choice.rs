//! Every random decision of a simulated world: [`Choices::choose`], from a stream of its own.
//!
//! A stream is keyed by what is decided and for whom: the delay on one path, what one fault of the plan
//! does to one path. Nothing shares a stream, so a plan with one fault less leaves every draw of the
//! other faults as it was. That is what makes shrinking work, and questions of the kind "what if this
//! had not happened".

use std::collections::BTreeMap;

use rivven_cluster::rng::{Seed, Stream};

/// What is decided.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Draw {
    /// How long a message takes on a path.
    Delay,
    /// What a fault does; the key begins with the number of the fault.
    Fault,
    /// How long a disk takes.
    Disk,
    /// How long a snapshot takes.
    Snapshot,
    /// What of an unfinished write survives.
    PowerLoss,
    /// What a steward wants next, and when.
    Steward,
    /// What producers and consumers want next, and when.
    Records,
    /// How long a host, a link or a client waits before its next try.
    Pause,
}

impl Draw {
    fn name(self) -> &'static str {
        match self {
            Draw::Delay => "delay",
            Draw::Fault => "fault",
            Draw::Disk => "disk",
            Draw::Snapshot => "snapshot",
            Draw::PowerLoss => "power loss",
            Draw::Steward => "steward",
            Draw::Records => "records",
            Draw::Pause => "pause",
        }
    }
}

/// All streams of a run.
#[derive(Clone, Debug)]
pub struct Choices {
    seed: Seed,
    streams: BTreeMap<(Draw, u64), Stream>,
}

impl Choices {
    /// Opens the choices of a run.
    pub fn new(seed: Seed) -> Choices {
        Choices { seed, streams: BTreeMap::new() }
    }

    /// Draws from `0..bound`.
    ///
    /// # Panics
    ///
    /// If `bound` is zero.
    pub fn choose(&mut self, draw: Draw, key: u64, bound: u64) -> u64 {
        self.stream(draw, key).below(bound)
    }

    /// The stream of one kind of decision for one key.
    pub fn stream(&mut self, draw: Draw, key: u64) -> &mut Stream {
        let seed = self.seed;
        self.streams.entry((draw, key)).or_insert_with(|| seed.stream(draw.name(), key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_depends_on_its_own_stream_alone() {
        let mut busy = Choices::new(Seed::new(1));
        let mut quiet = busy.clone();
        busy.choose(Draw::Fault, 3, 10);
        busy.choose(Draw::Delay, 1, 10);
        let of_two =
            |choices: &mut Choices| (0..9).map(|_| choices.choose(Draw::Delay, 2, 1000)).sum::<u64>();
        assert_eq!(of_two(&mut busy), of_two(&mut quiet));
    }
}
