//! The worlds in which a seed is played.

mod host;
mod run;

pub use self::run::{Options, Report, run};
