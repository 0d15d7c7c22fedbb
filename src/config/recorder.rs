//! What a file says of the flight recorder.

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{ConfigError, wrong};
use crate::flight::Payloads;

/// A ring smaller than this holds hardly a second of a busy node.
const BYTES_LEAST: u64 = 1024 * 1024;

/// How the node is recorded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RecorderSettings {
    /// About how many bytes the ring holds.
    pub bytes: usize,
    /// What of payloads is written.
    pub payloads: Payloads,
}

/// The section of the file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Given {
    enabled: Option<bool>,
    memory_bytes: Option<Spanned<u64>>,
    payloads: Option<Payloads>,
}

/// `None` if the node is not to be recorded.
pub(super) fn read(given: &Given) -> Result<Option<RecorderSettings>, ConfigError> {
    let bytes = match &given.memory_bytes {
        None => 32 * 1024 * 1024,
        Some(line) if line.value < BYTES_LEAST => {
            let problem = format!("less than {BYTES_LEAST} is not worth it: use more, or `enabled: false`");
            return Err(wrong("cluster.recorder.memory_bytes", line, &problem));
        }
        Some(line) => line.value,
    };
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    let settings = RecorderSettings { bytes, payloads: given.payloads.unwrap_or_default() };
    Ok(given.enabled.unwrap_or(true).then_some(settings))
}
