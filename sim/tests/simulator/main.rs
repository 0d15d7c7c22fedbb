//! What the simulator finds, and what it promises about itself. One program, as its tests share two cores and little else;
//! those in which real time passes, or that start the program, are apart.

mod conformance;
mod determinism;
mod exhaustive;
mod gate;
mod replicas;
mod seeds;
mod storage;
mod swim;
mod worlds;

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
