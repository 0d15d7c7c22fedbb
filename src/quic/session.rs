//! A client's session: commands that are sent again when their answer is lost, and executed once.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::client::{Client, ClientError, Committed, check_length, committed};
use crate::id::LogIndex;
use crate::node::Request;
use crate::session::{ANSWERS_MAX, Proposal, Ticket};

/// A session of a [`Client`], opened by [`Client::open_session`]. Clones share it.
#[derive(Clone)]
pub struct ClientSession {
    client: Client,
    id: LogIndex,
    numbers: Arc<Mutex<Numbers>>,
    /// Wakes those who wait for a number.
    freed: Arc<Notify>,
}

/// Which numbers are given out.
struct Numbers {
    next: u64,
    under_way: BTreeSet<u64>,
}

impl Numbers {
    /// Below this number the client waits for no answer.
    fn oldest(&self) -> u64 {
        self.under_way.first().copied().unwrap_or(self.next)
    }
}

impl ClientSession {
    pub(super) fn new(client: Client, id: LogIndex) -> ClientSession {
        let numbers = Arc::new(Mutex::new(Numbers { next: 1, under_way: BTreeSet::new() }));
        ClientSession { client, id, numbers, freed: Arc::default() }
    }

    /// The session's id.
    #[must_use]
    pub fn id(&self) -> LogIndex {
        self.id
    }

    /// Has a command committed and executed exactly once, and sends it again, until the deadline, whenever
    /// its answer is lost. Waits while the oldest
    /// command under way is as many numbers behind as a session remembers answers.
    ///
    /// # Errors
    ///
    /// [`ClientError::SessionExpired`] if the session has ended; [`ClientError::Unknown`] if the deadline
    /// came first; else as [`Client::propose`].
    pub async fn propose(&self, command: Bytes) -> Result<Committed, ClientError> {
        check_length(&command)?;
        let number = self.begin().await;
        let request = || {
            let oldest = lock(&self.numbers).oldest();
            let ticket = Ticket { session: self.id, number: number.number, oldest };
            Request::Propose(Proposal::Once { ticket, command: command.clone() })
        };
        committed(self.client.carry_out(request, true).await?)
    }
}

impl ClientSession {
    /// Takes the next number, once the oldest one under way is not too far behind.
    async fn begin(&self) -> UnderWay<'_> {
        loop {
            let freed = self.freed.notified();
            if let Some(number) = self.try_begin() {
                return UnderWay { session: self, number };
            }
            freed.await;
        }
    }

    fn try_begin(&self) -> Option<u64> {
        let span = u64::try_from(ANSWERS_MAX).unwrap_or(u64::MAX);
        let mut numbers = lock(&self.numbers);
        let number = numbers.next;
        if number - numbers.oldest() >= span {
            return None;
        }
        numbers.next += 1;
        numbers.under_way.insert(number);
        Some(number)
    }
}

/// A number under way; it is given up when its caller stops waiting, whatever the outcome.
struct UnderWay<'a> {
    session: &'a ClientSession,
    number: u64,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        lock(&self.session.numbers).under_way.remove(&self.number);
        self.session.freed.notify_waiters();
    }
}

fn lock(numbers: &Mutex<Numbers>) -> MutexGuard<'_, Numbers> {
    numbers.lock().unwrap_or_else(PoisonError::into_inner)
}
