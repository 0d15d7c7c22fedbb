//! What a file says of partitions.

use core::time::Duration;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{ConfigError, line_of, positive, wrong};
use crate::node::Partitioning;
use crate::partition::controller::{Settings, SettingsError};
use crate::partition::metadata::FEATURE_LEVEL;
use crate::partition::planner::steps::Limits;
use crate::partition::{replica, replicas};

/// What a file says of partitions.
#[derive(Clone, Debug, PartialEq)]
pub struct PartitioningSettings {
    /// The node's part.
    pub node: Partitioning,
    /// Points of a node on the ring.
    pub virtual_nodes: u32,
    /// Replicas of each partition of a new topic.
    pub replication_factor: u16,
    /// How many of them must be in sync; `None` is a majority.
    pub min_in_sync: Option<u16>,
}

/// The section of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Given {
    virtual_nodes: Option<Spanned<u64>>,
    replication_factor: Option<Spanned<u64>>,
    min_in_sync: Option<Spanned<u64>>,
    weight: Option<Spanned<u64>>,
    fence_delay_ms: Option<Spanned<u64>>,
    silence_max_ms: Option<Spanned<u64>>,
    unfence_hold_ms: Option<Spanned<u64>>,
    replace_after_s: Option<Spanned<u64>>,
    replica_lag_max_ms: Option<Spanned<u64>>,
    fetch_wait_max_ms: Option<Spanned<u64>>,
    moves_per_node: Option<Spanned<u64>>,
    moves_total: Option<Spanned<u64>>,
}

/// Points of a node on the ring, unless the file says otherwise.
const VIRTUAL_NODES: u32 = 128;
/// Replicas of a partition, unless the file says otherwise.
const REPLICATION_FACTOR: u16 = 3;

pub(super) fn read(given: &Given, rack: Option<&str>) -> Result<PartitioningSettings, ConfigError> {
    let replication_factor = number("replication_factor", given.replication_factor.as_ref())?;
    let replication_factor = replication_factor.unwrap_or(REPLICATION_FACTOR);
    let min_in_sync = number("min_in_sync", given.min_in_sync.as_ref())?;
    if let (Some(min), Some(line)) = (min_in_sync, &given.min_in_sync)
        && min > replication_factor
    {
        let problem =
            format!("more than the {replication_factor} replicas that there are can never be in sync");
        return Err(wrong("cluster.partitioning.min_in_sync", line, &problem));
    }
    Ok(PartitioningSettings {
        node: Partitioning {
            weight: number("weight", given.weight.as_ref())?.unwrap_or(1),
            rack: rack.map(str::to_owned),
            settings: settings(given)?,
            replicas: replicas(given)?,
            features: FEATURE_LEVEL,
        },
        virtual_nodes: number("virtual_nodes", given.virtual_nodes.as_ref())?.unwrap_or(VIRTUAL_NODES),
        replication_factor,
        min_in_sync,
    })
}

fn replicas(given: &Given) -> Result<replicas::Settings, ConfigError> {
    let default = replicas::Settings::default();
    let millis = |key: &str, given: &Option<Spanned<u64>>, default: Duration| {
        let given: Option<u64> = number(key, given.as_ref())?;
        Ok(given.map_or(default, Duration::from_millis))
    };
    let lag_max = millis("replica_lag_max_ms", &given.replica_lag_max_ms, default.replica.lag_max)?;
    let wait_max = millis("fetch_wait_max_ms", &given.fetch_wait_max_ms, default.wait_max)?;
    let replica = replica::Settings { lag_max, ..default.replica };
    Ok(replicas::Settings { replica, wait_max, ..default })
}

fn settings(given: &Given) -> Result<Settings, ConfigError> {
    let default = Settings::default();
    let millis = |given: &Option<Spanned<u64>>, default: Duration| {
        given.as_ref().map_or(default, |given| Duration::from_millis(given.value))
    };
    let replace_after = given.replace_after_s.as_ref();
    let limits = Limits {
        per_node: number("moves_per_node", given.moves_per_node.as_ref())?.unwrap_or(default.limits.per_node),
        total: number("moves_total", given.moves_total.as_ref())?.unwrap_or(default.limits.total),
    };
    let settings = Settings {
        fence_delay: millis(&given.fence_delay_ms, default.fence_delay),
        silence_max: millis(&given.silence_max_ms, default.silence_max),
        unfence_hold: millis(&given.unfence_hold_ms, default.unfence_hold),
        replace_after: replace_after.map_or(default.replace_after, |given| Duration::from_secs(given.value)),
        limits,
        ..default
    };
    settings.validate().map_err(|error: SettingsError| {
        let (key, line) = match error {
            SettingsError::TooStrict { .. } => ("silence_max_ms", given.silence_max_ms.as_ref()),
            SettingsError::NoInterval
            | SettingsError::TooHasty { .. }
            | SettingsError::Weightless
            | SettingsError::NoMoves => ("fence_delay_ms", given.fence_delay_ms.as_ref()),
        };
        // The key at fault may stand at its default; then the line is that of the one that does not.
        let line = line.or(given.fence_delay_ms.as_ref()).or(given.silence_max_ms.as_ref());
        let line = line.and_then(|line| line_of(line.referenced));
        ConfigError { key: format!("cluster.partitioning.{key}"), line, problem: error.to_string() }
    })?;
    Ok(settings)
}

/// A number from 1 that fits.
fn number<T: TryFrom<u64>>(key: &str, given: Option<&Spanned<u64>>) -> Result<Option<T>, ConfigError> {
    let key = format!("cluster.partitioning.{key}");
    positive(&key, given)?;
    let fits = |given: &Spanned<u64>| {
        T::try_from(given.value).map_err(|_| wrong(&key, given, "this is too much: use a smaller number"))
    };
    given.map(fits).transpose()
}
