//! Forwards what raft-rs logs to `tracing`, without formatting anything that nobody reads.

use slog::{Drain, Level, Logger, Never, OwnedKVList, Record};

/// Makes the logger that raft-rs is given.
pub(super) fn bridge() -> Logger {
    Logger::root(Bridge, slog::o!())
}

struct Bridge;

impl Drain for Bridge {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, _values: &OwnedKVList) -> Result<(), Never> {
        match record.level() {
            Level::Critical | Level::Error | Level::Warning => {
                tracing::debug!(target: "rivven_cluster::raft", "{}", record.msg());
            }
            Level::Info | Level::Debug | Level::Trace => {
                tracing::trace!(target: "rivven_cluster::raft", "{}", record.msg());
            }
        }
        Ok(())
    }

    fn is_enabled(&self, _level: Level) -> bool {
        tracing::enabled!(target: "rivven_cluster::raft", tracing::Level::DEBUG)
    }
}
