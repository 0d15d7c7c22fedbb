//! Whole clusters from one seed, with faults, and checks that they kept their promises.
pub mod checkers;
pub mod disk;
pub mod entropy;
pub mod faults;
pub mod net;
pub mod sweep;
pub mod trace;
pub mod workload;
pub mod world;
