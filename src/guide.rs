//! The guide: from the one concept to a cluster in production, in about an hour.
//!
//! | chapter | afterwards you know |
//! |---|---|
//! | [`idea`] | what a machine is, what that buys, and how to read this code |
//! | [`driving`] | what a loop around a node owes it; how to bring your own |
//! | [`gate`] | what waits for the disk, and why |
//! | [`consensus`] | what is ours around Raft |
//! | [`membership`] | what SWIM says here, and what its word is worth |
//! | [`partitions`] | what is promised of records, and when |
//! | [`simulating`] | how to find a bug, and how to see it |
//! | [`operating`] | how to run it, and what to do when it says something |
//! | [`limits`] | what is not claimed |
//!
//! Two programs that people copy follow here; both run when the documentation is tested. The first is the bare node in
//! a loop of one's own (`examples/own_loop.rs`), the second a replicated store with a state machine of its own
//! (`examples/store.rs`). A third, one's own state machine in the simulator, is `sim/examples/bank.rs`.
#![cfg_attr(feature = "quic", doc = "```")]
#![cfg_attr(not(feature = "quic"), doc = "```text")]
#![doc = include_str!("../examples/own_loop.rs")]
#![doc = "```"]
#![doc = ""]
#![cfg_attr(feature = "quic", doc = "```")]
#![cfg_attr(not(feature = "quic"), doc = "```text")]
#![doc = include_str!("../examples/store.rs")]
#![doc = "```"]

pub mod idea {
    #![doc = include_str!("guide/idea.md")]
}
pub mod driving {
    #![doc = include_str!("guide/driving.md")]
}
pub mod gate {
    #![doc = include_str!("guide/gate.md")]
}
pub mod consensus {
    #![doc = include_str!("guide/consensus.md")]
}
pub mod membership {
    #![doc = include_str!("guide/membership.md")]
}
pub mod partitions {
    #![doc = include_str!("guide/partitions.md")]
}
pub mod simulating {
    #![doc = include_str!("guide/simulating.md")]
}
pub mod operating {
    #![doc = include_str!("guide/operating.md")]
}
pub mod limits {
    #![doc = include_str!("guide/limits.md")]
}
