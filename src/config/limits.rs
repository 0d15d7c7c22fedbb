//! What a file says of limits.

use core::time::Duration;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{ConfigError, positive, wrong};
use crate::node::Limits;
use crate::quic::ConnectionLimits;
use crate::wire::FRAME_BYTES_MAX;

/// The section of the file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Given {
    connections_max: Option<Spanned<u64>>,
    client_connections_max: Option<Spanned<u64>>,
    handshakes_max: Option<Spanned<u64>>,
    requests_per_stream_max: Option<Spanned<u64>>,
    requests_max: Option<Spanned<u64>>,
    callers_bytes_max: Option<Spanned<u64>>,
    frame_timeout_ms: Option<Spanned<u64>>,
    command_bytes_max: Option<Spanned<u64>>,
    proposals_max: Option<Spanned<u64>>,
    reads_max: Option<Spanned<u64>>,
    reads_bytes_max: Option<Spanned<u64>>,
}

/// Those of connections.
pub(super) fn of_connections(given: &Given) -> Result<ConnectionLimits, ConfigError> {
    let default = ConnectionLimits::default();
    let millis = u64::try_from(default.frame_timeout.as_millis()).unwrap_or(u64::MAX);
    let connections_max = number("connections_max", &given.connections_max, default.connections_max)?;
    let most = (connections_max / 4 * 3).max(1);
    let client_connections_max = number(
        "client_connections_max",
        &given.client_connections_max,
        default.client_connections_max.min(most),
    )?;
    if let (Some(line), true) = (&given.client_connections_max, client_connections_max >= connections_max) {
        let problem = format!("no place is left for nodes: use less than connections_max, {connections_max}");
        return Err(wrong("cluster.limits.client_connections_max", line, &problem));
    }
    let limits = ConnectionLimits {
        connections_max,
        client_connections_max,
        handshakes_max: number("handshakes_max", &given.handshakes_max, default.handshakes_max)?,
        requests_per_stream_max: number(
            "requests_per_stream_max",
            &given.requests_per_stream_max,
            default.requests_per_stream_max,
        )?,
        requests_max: number("requests_max", &given.requests_max, default.requests_max)?,
        callers_bytes_max: number("callers_bytes_max", &given.callers_bytes_max, default.callers_bytes_max)?,
        frame_timeout: Duration::from_millis(number("frame_timeout_ms", &given.frame_timeout_ms, millis)?),
    };
    match &given.callers_bytes_max {
        Some(line) if limits.callers_bytes_max < CALLERS_BYTES_LEAST => {
            let problem =
                format!("two of the longest answers need {CALLERS_BYTES_LEAST} bytes: use that or more");
            Err(wrong("cluster.limits.callers_bytes_max", line, &problem))
        }
        Some(_) | None => Ok(limits),
    }
}

/// Those of requests; the others are as in `limits`.
pub(super) fn of_requests(given: &Given, limits: Limits) -> Result<Limits, ConfigError> {
    let command_bytes_max = number("command_bytes_max", &given.command_bytes_max, limits.command_bytes_max)?;
    if let (Some(line), true) = (&given.command_bytes_max, command_bytes_max > COMMAND_BYTES_MAX) {
        let problem = format!("no command of more than {COMMAND_BYTES_MAX} bytes fits into a message");
        return Err(wrong("cluster.limits.command_bytes_max", line, &problem));
    }
    Ok(Limits {
        command_bytes_max,
        proposals_max: number("proposals_max", &given.proposals_max, limits.proposals_max)?,
        reads_max: number("reads_max", &given.reads_max, limits.reads_max)?,
        reads_bytes_max: number("reads_bytes_max", &given.reads_bytes_max, limits.reads_bytes_max)?,
        ..limits
    })
}

/// One answer may be as long as a frame; whoever has one leaves room for another.
const CALLERS_BYTES_LEAST: usize = 2 * FRAME_BYTES_MAX + 1024 * 1024;
/// A command travels in a frame, beside others and what describes them.
const COMMAND_BYTES_MAX: usize = FRAME_BYTES_MAX / 4;

/// A number from 1 that fits.
fn number<T: TryFrom<u64>>(key: &str, given: &Option<Spanned<u64>>, default: T) -> Result<T, ConfigError> {
    let key = format!("cluster.limits.{key}");
    positive(&key, given.as_ref())?;
    let Some(given) = given else { return Ok(default) };
    T::try_from(given.value).map_err(|_| wrong(&key, given, "this is too much: use a smaller number"))
}
