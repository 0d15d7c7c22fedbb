//! A client of the turmoil world: the production client, doing what the application draws.

use core::time::Duration;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rivven_cluster::quic::{Answered, Client, ClientError, ClientSession, Committed};
use rivven_cluster::rng::Seed;

use super::clock::sim_nanos;
use crate::app::{Application, Call, Ticket};
use crate::history::{History, Outcome};
use crate::lock::lock;
use crate::shape::Shape;
use crate::trace::{Record, Trace};

/// Longer than any run: that sessions end is for the pure world.
const SESSION_LIFETIME: Duration = Duration::from_secs(3600);

/// One client.
pub(super) struct Worker<A> {
    pub(super) number: u64,
    pub(super) app: A,
    pub(super) client: Client,
    pub(super) history: Arc<Mutex<History>>,
    pub(super) trace: Arc<Mutex<Trace>>,
    pub(super) shape: Shape,
}

impl<A: Application> Worker<A> {
    /// Works until its time is up.
    pub(super) async fn run(self, seed: Seed) {
        let mut choices = seed.stream("workload", self.number);
        let mut memory = A::Memory::default();
        let mut ticket = Ticket { client: self.number, operation: 0 };
        let mut session = None;
        while sim_nanos() / 1_000_000 < self.shape.work_until {
            ticket.operation += 1;
            let call = self.app.call(&mut memory, ticket, &mut choices);
            lock(&self.history).call(ticket, call.clone(), sim_nanos());
            let outcome = carry_out(&self.client, ticket, &call, &mut session).await;
            if let Outcome::Done { answer, .. } = &outcome {
                self.app.told(&mut memory, &call, answer);
            }
            self.conclude(ticket, outcome);
            let (least, most) = self.shape.think;
            tokio::time::sleep(Duration::from_millis(choices.between(least, most))).await;
        }
    }

    fn conclude(&self, ticket: Ticket, outcome: Outcome) {
        let told = match &outcome {
            Outcome::Done { .. } => "done",
            Outcome::Failed { .. } => "failed",
            Outcome::Unknown => "unknown",
        };
        let record = Record::Outcome { client: ticket.client, operation: ticket.operation, outcome: told };
        lock(&self.trace).record(sim_nanos(), &record);
        lock(&self.history).end(ticket, sim_nanos(), outcome);
    }
}

/// Queries go anywhere; the commands of every other client go in a session.
async fn carry_out(
    client: &Client,
    ticket: Ticket,
    call: &Call,
    session: &mut Option<ClientSession>,
) -> Outcome {
    let command = match call {
        Call::Query(query) => {
            return match client.query(query.clone()).await {
                Ok(Answered { applied, answer }) => Outcome::Done { index: applied, answer },
                Err(error) => Outcome::Failed { reason: error.to_string() },
            };
        }
        Call::Command(command) => ticket.wrap(command),
    };
    let committed = if ticket.client.is_multiple_of(2) {
        propose_once(client, command, session).await
    } else {
        client.propose(command).await
    };
    match committed {
        Ok(Committed { at, answer }) => Outcome::Done { index: at.index, answer },
        Err(ClientError::Unknown(_) | ClientError::SessionExpired) => Outcome::Unknown,
        Err(error) => Outcome::Failed { reason: error.to_string() },
    }
}

async fn propose_once(
    client: &Client,
    command: Bytes,
    session: &mut Option<ClientSession>,
) -> Result<Committed, ClientError> {
    let open = match session.take() {
        Some(open) => open,
        // A session that was opened without our knowledge has executed nothing.
        None => match client.open_session(SESSION_LIFETIME).await {
            Err(ClientError::Unknown(reason)) => return Err(ClientError::Unavailable(reason)),
            opened => opened?,
        },
    };
    let committed = open.propose(command).await;
    if committed != Err(ClientError::SessionExpired) {
        *session = Some(open);
    }
    committed
}
