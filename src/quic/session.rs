//! A client's session: commands that are sent again when their answer is lost, and executed once.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Semaphore;

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
    /// One permit for each command that may be under way.
    places: Arc<Semaphore>,
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
        ClientSession { client, id, numbers, places: Arc::new(Semaphore::new(ANSWERS_MAX)) }
    }

    /// The session's id.
    #[must_use]
    pub fn id(&self) -> LogIndex {
        self.id
    }

    /// Has a command committed and executed exactly once, and sends it again, until the deadline, whenever
    /// its answer is lost. Waits while as many commands are under way as a session remembers answers.
    ///
    /// # Errors
    ///
    /// [`ClientError::SessionExpired`] if the session has ended; [`ClientError::Unknown`] if the deadline
    /// came first; else as [`Client::propose`].
    pub async fn propose(&self, command: Bytes) -> Result<Committed, ClientError> {
        check_length(&command)?;
        let _place = self.places.acquire().await;
        let number = UnderWay::begin(&self.numbers);
        let request = || {
            let oldest = lock(&self.numbers).oldest();
            let ticket = Ticket { session: self.id, number: number.number, oldest };
            Request::Propose(Proposal::Once { ticket, command: command.clone() })
        };
        committed(self.client.carry_out(request, true).await?)
    }
}

/// A number under way; it is given up when its caller stops waiting, whatever the outcome.
struct UnderWay<'a> {
    numbers: &'a Mutex<Numbers>,
    number: u64,
}

impl UnderWay<'_> {
    fn begin(numbers: &Mutex<Numbers>) -> UnderWay<'_> {
        let mut locked = lock(numbers);
        let number = locked.next;
        locked.next += 1;
        locked.under_way.insert(number);
        UnderWay { numbers, number }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        lock(self.numbers).under_way.remove(&self.number);
    }
}

fn lock(numbers: &Mutex<Numbers>) -> MutexGuard<'_, Numbers> {
    numbers.lock().unwrap_or_else(PoisonError::into_inner)
}
