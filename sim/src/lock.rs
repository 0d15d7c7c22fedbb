//! Locking what only one thread ever touches: a simulated world lives on one thread.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks; a panic elsewhere is reported where it happened, not here.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
