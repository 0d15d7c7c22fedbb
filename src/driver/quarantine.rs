//! A damaged store is set aside, and the node that it was begins again as one that has forgotten everything.
//!
//! # The problem
//!
//! A disk may lose or change what it was told to keep. A node that went on with what is left could vote twice in a
//! term, or count a copy that is gone. One that went on with an *empty* store could even found a new cluster with
//! others to whom the same has happened.
//!
//! # The idea
//!
//! Nothing is deleted: the files get other names, so that an operator can look at them. What begins in their place
//! knows that it is not fresh but [`Standing::Damaged`]: it founds nothing, votes nowhere and acknowledges
//! nothing until its cluster has taken it in again (see `node/join.rs`).
//!
//! ```text
//!   quarantine.begun   written first: from here on the files are set aside, whatever happens
//!   damaged.<n>.<name> what was there
//!   quarantined        in place of quarantine.begun when all are: a fresh store beside it is a damaged one
//! ```
//!
//! The order matters: with half of the files gone, the other half could read as what the store was once.

use std::io;

use super::folder::{Bytes as _, Folder};
use super::segments::SegmentStorage;
use super::storage::{Storage as _, StorageError};
use crate::formation::Standing;
use crate::node::Durable;

/// The files are being set aside.
const BEGUN: &str = "quarantine.begun";
/// They have been.
const DONE: &str = "quarantined";

/// Opens the log in `folder`, as `open` does, and reads it; a damaged one is set aside first, and what was wrong
/// is logged.
///
/// # Errors
///
/// [`StorageError`] if the folder is another node's, of another format, or cannot be used.
pub fn open_or_set_aside<F: Folder>(
    folder: &F,
    open: impl Fn(F) -> Result<SegmentStorage<F>, StorageError>,
) -> Result<(SegmentStorage<F>, Durable), StorageError> {
    let names = || folder.list().map_err(|error| failed(folder, &error));
    if names()?.iter().any(|name| name == BEGUN) {
        set_aside(folder)?;
    }
    let mut storage = match open(folder.share()) {
        Err(error @ StorageError::Damaged { .. }) => {
            tracing::error!(
                "{error}; its files are set aside, and the node asks its cluster to take it in again"
            );
            set_aside(folder)?;
            open(folder.share())?
        }
        opened => opened?,
    };
    let mut durable = storage.recover()?;
    if durable.standing == Standing::Fresh && names()?.iter().any(|name| name == DONE) {
        durable = Durable { standing: Standing::Damaged, ..Durable::default() };
    }
    Ok((storage, durable))
}

/// Tells whether a store was being set aside when the process ended: half of its files may be gone.
///
/// # Errors
///
/// [`StorageError::Failed`] with what the system says.
pub fn is_being_set_aside<F: Folder>(folder: &F) -> Result<bool, StorageError> {
    let names = folder.list().map_err(|error| failed(folder, &error))?;
    Ok(names.iter().any(|name| name == BEGUN))
}

/// Sets the files of a store aside; goes on with it if it was begun before.
///
/// # Errors
///
/// [`StorageError::Failed`] with what the system says; it is gone on with when the folder is opened next.
pub fn set_aside<F: Folder>(folder: &F) -> Result<(), StorageError> {
    rename_all(folder).map_err(|error| failed(folder, &error))
}

fn rename_all<F: Folder>(folder: &F) -> io::Result<()> {
    folder.create(BEGUN)?.sync()?;
    folder.sync()?;
    let names = folder.list()?;
    let number =
        names.iter().filter_map(|name| name.strip_prefix("damaged.")?.split('.').next()?.parse().ok());
    let number = number.max().unwrap_or(0_u64) + 1;
    let is_of_store =
        |name: &&String| ["log-", "spare-", "snapshot", "new"].iter().any(|prefix| name.starts_with(prefix));
    for name in names.iter().filter(is_of_store) {
        folder.rename(name, &format!("damaged.{number}.{name}"))?;
    }
    folder.sync()?;
    folder.rename(BEGUN, DONE)?;
    folder.sync()
}

fn failed<F: Folder>(folder: &F, error: &io::Error) -> StorageError {
    StorageError::Failed { place: folder.place(), reason: error.to_string() }
}
