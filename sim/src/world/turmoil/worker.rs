//! A client of the turmoil world: the production client, doing what the application draws.

use core::time::Duration;
use std::sync::{Arc, Mutex};

use rivven_cluster::quic::{Client, ClientError};
use rivven_cluster::rng::Seed;

use super::clock::sim_nanos;
use crate::app::{Application, Ticket};
use crate::history::{History, Outcome};
use crate::lock::lock;
use crate::shape::Shape;
use crate::trace::{Record, Trace};

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
        while sim_nanos() / 1_000_000 < self.shape.work_until {
            ticket.operation += 1;
            let command = self.app.command(&mut memory, ticket, &mut choices);
            lock(&self.history).call(ticket, command.clone(), sim_nanos());
            let outcome = match self.client.propose(ticket.wrap(&command)).await {
                Ok(committed) => {
                    self.app.told(&mut memory, &command, &committed.answer);
                    Outcome::Done { index: committed.at.index, answer: committed.answer }
                }
                Err(ClientError::Unknown(_)) => Outcome::Unknown,
                Err(error) => Outcome::Failed { reason: error.to_string() },
            };
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
