//! The Raft machine alone, fed by hand.

mod guards;
mod membership;
mod paper;
mod reads;
#[path = "../support/mod.rs"]
mod support;
