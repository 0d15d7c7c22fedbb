//! The kinds of faults, by name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Fault;

macro_rules! kinds {
    ($($kind:ident $name:literal,)*) => {
        /// The kinds of faults; each is described at the [`Fault`] of its name.
        #[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
        #[serde(rename_all = "kebab-case")]
        #[expect(missing_docs, reason = "each is described at the fault of its name")]
        pub enum FaultKind { $($kind,)* }

        impl FaultKind {
            /// All of them.
            pub const ALL: &[FaultKind] = &[$(FaultKind::$kind,)*];

            /// Its name, as it stands in a plan file.
            pub fn name(self) -> &'static str {
                match self { $(FaultKind::$kind => $name,)* }
            }
        }

        impl Fault {
            /// Tells its kind.
            pub fn kind(&self) -> FaultKind {
                match self { $(Fault::$kind { .. } => FaultKind::$kind,)* }
            }
        }
    };
}

kinds! {
    Loss "loss",
    Duplication "duplication",
    Reordering "reordering",
    Delay "delay",
    Clog "clog",
    Corruption "corruption",
    Truncation "truncation",
    MtuBlackHole "mtu-black-hole",
    Partition "partition",
    OneWay "one-way",
    Bridge "bridge",
    Ring "ring",
    Isolation "isolation",
    Flapping "flapping",
    Misdelivery "misdelivery",
    Forgery "forgery",
    PowerLoss "power-loss",
    TornWrites "torn-writes",
    ReorderedWrites "reordered-writes",
    Restart "restart",
    DiskWiped "disk-wiped",
    OldDisk "old-disk",
    Pause "pause",
    ClockJump "clock-jump",
    ClockDrift "clock-drift",
    SlowSync "slow-sync",
    FailedSync "failed-sync",
    FullDisk "full-disk",
    ReadErrors "read-errors",
    Misdirection "misdirection",
    BitRot "bit-rot",
    Removal "removal",
    Demotion "demotion",
    HandOver "hand-over",
}

impl FaultKind {
    /// Whether it strikes blocks, which only a store of files has.
    pub fn needs_blocks(self) -> bool {
        use FaultKind::{BitRot, Misdirection, ReadErrors, ReorderedWrites, TornWrites};
        matches!(self, TornWrites | ReorderedWrites | ReadErrors | Misdirection | BitRot)
    }

    /// Whether it strikes whole messages, which TLS makes impossible between real sockets.
    pub fn needs_messages(self) -> bool {
        matches!(self, FaultKind::Misdelivery | FaultKind::Forgery)
    }

    /// Whether an operator does it: nothing breaks, but the members change.
    pub fn is_operation(self) -> bool {
        matches!(self, FaultKind::Removal | FaultKind::Demotion | FaultKind::HandOver)
    }

    /// Whether there is one voter less after it, for good or for a while.
    pub fn takes_a_voter(self) -> bool {
        matches!(self, FaultKind::Removal | FaultKind::Demotion)
    }

    /// Whether a node may be unable to serve after it, even when it has ended.
    pub fn damages(self) -> bool {
        use FaultKind::{BitRot, DiskWiped, Misdirection, OldDisk};
        matches!(self, DiskWiped | OldDisk | Misdirection | BitRot)
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for FaultKind {
    type Err = String;

    fn from_str(name: &str) -> Result<FaultKind, String> {
        FaultKind::ALL.iter().copied().find(|kind| kind.name() == name).ok_or_else(|| {
            let names: Vec<&str> = FaultKind::ALL.iter().map(|kind| kind.name()).collect();
            format!("no kind of fault is called {name:?}; there are {}", names.join(", "))
        })
    }
}
