//! The YAML file of a node.

use std::path::Path;

use rivven_cluster::config::Settings;

/// Reads any text as a node's file. Nothing panics, what is wrong is named, and it stands on a line that there is. Returns
/// 1 if a node could be started with it.
pub fn config(bytes: &[u8]) -> usize {
    let text = String::from_utf8_lossy(bytes);
    let runnable = Settings::parse(&text, Path::new("/etc")).and_then(|settings| settings.runnable());
    match runnable {
        Ok(_) => 1,
        Err(error) => {
            // A carriage return alone ends a line, too (YAML 1.2 §5.4).
            let lines = text.split(['\n', '\r']).count();
            let lines = u64::try_from(lines).expect("as many as there are bytes");
            assert!(
                error.line.is_none_or(|line| (1..=lines + 1).contains(&line)),
                "{error} of {lines} lines"
            );
            assert!(!error.problem.is_empty(), "an error says what is wrong");
            0
        }
    }
}
