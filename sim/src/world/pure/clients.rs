//! What the clients of the pure world do when they wake, and when they are answered.

use rivven_cluster::node::{Caller, Input, Rejection, Reply, Request};
use rivven_cluster::wire::codec;

use super::client::UnderWay;
use super::process::node_at;
use super::queue::{Answer, Attempt, Event};
use super::{MILLISECOND, World, client_key};
use crate::app::{Application, Call};
use crate::history::Outcome;
use crate::reachable;
use crate::trace::Record;

impl<A: Application> World<A> {
    /// A client has thought long enough, or waited long enough.
    pub(super) fn client_wakes(&mut self, number: u64, operation: u64, attempt: u64) {
        let now = self.now;
        let place = usize::try_from(number - 1).unwrap_or_default();
        let client = &mut self.clients[place];
        if client.operation != operation {
            return;
        }
        match &client.under_way {
            None => self.next_command(place),
            Some(under_way) if now >= under_way.gives_up => {
                let is_query = matches!(under_way.call, Call::Query(_));
                let outcome = if (under_way.is_sent || under_way.may_have_happened) && !is_query {
                    Outcome::Unknown
                } else {
                    Outcome::Failed { reason: "nobody would take it".to_owned() }
                };
                client.turn(self.scenario.shape.nodes);
                self.conclude(place, outcome);
            }
            Some(under_way) if under_way.attempt == attempt && !under_way.is_sent => self.try_to_send(place),
            Some(under_way) if under_way.attempt == attempt && matches!(under_way.call, Call::Query(_)) => {
                // Nobody answers there; a query may be asked elsewhere.
                client.is_content = false;
                client.turn(self.scenario.shape.nodes);
                self.try_to_send(place);
            }
            Some(_) => {}
        }
    }

    fn next_command(&mut self, place: usize) {
        if self.now >= self.scenario.shape.work_until * MILLISECOND {
            return;
        }
        let gives_up = self.now + self.scenario.shape.patience * MILLISECOND;
        let client = &mut self.clients[place];
        client.operation += 1;
        let is_calm = self.now >= self.scenario.shape.faults_until * MILLISECOND;
        let idle = core::time::Duration::from_nanos(self.now - client.session_used);
        if is_calm && idle > client.session_lifetime() / 2 {
            // Whoever wants to be served for certain does not lean on a session that may have ended.
            client.session = None;
        }
        let ticket = client.ticket();
        let call = self.app.call(&mut client.memory, ticket, &mut client.choices);
        self.history.call(ticket, call.clone(), self.now);
        client.under_way =
            Some(UnderWay { call, attempt: 0, is_sent: false, may_have_happened: false, gives_up });
        let (number, operation) = (client.number, client.operation);
        self.queue.push(gives_up, Event::ClientWakes { client: number, operation, attempt: 0 });
        self.try_to_send(place);
    }

    fn try_to_send(&mut self, place: usize) {
        let client = &mut self.clients[place];
        let (node, number, operation) = (client.target, client.number, client.operation);
        let Some(under_way) = &mut client.under_way else { return };
        under_way.attempt += 1;
        under_way.is_sent = true;
        let attempt = Attempt { client: number, operation, number: under_way.attempt };
        if under_way.may_have_happened {
            reachable!(self.marks, SentAgain);
        }
        let is_query = matches!(under_way.call, Call::Query(_));
        let Some(request) = client.request() else { return };
        let length = codec::encode(&request).len();
        let now = self.now;
        // Any node answers a query; whoever was not answered asks where it turned to.
        let nodes = self.scenario.shape.nodes;
        let node = match (is_query, client.is_content) {
            (true, true) if client.is_reader() => number % nodes + 1,
            (true, true) => client.choices.below(nodes) + 1,
            (_, _) => node,
        };
        self.trace.draw(|picture| picture.client_sends(now, number, node, attempt.tells(), &request));
        if is_query {
            let again = self.now + self.scenario.shape.patience * MILLISECOND / 6;
            let wakes = Event::ClientWakes { client: number, operation, attempt: attempt.number };
            self.queue.push(again, wakes);
        }
        if let Some(arrival) = self.cross(0, node, u64::try_from(length).unwrap_or(u64::MAX)) {
            self.queue.push(arrival, Event::Request { node, attempt, request });
        }
    }

    pub(super) fn request_arrives(&mut self, node: u64, attempt: Attempt, request: Request) {
        if let Some(waiting) = &mut self.host(node).waiting {
            return waiting.push(Event::Request { node, attempt, request });
        }
        let Some(process) = &mut self.host(node).process else {
            if let Some(arrival) = self.cross(node, 0, 0) {
                self.queue.push(arrival, Event::Answer { attempt, answer: Answer::Unheard });
            }
            return;
        };
        let id = process.admit(attempt);
        self.trace.draw(|picture| picture.client_reaches(attempt.client, node, attempt.tells()));
        self.deliver(node, Input::Request { id, from: Caller::Client, request });
    }

    pub(super) fn answer_arrives(&mut self, attempt: Attempt, answer: Answer) {
        let nodes = self.scenario.shape.nodes;
        let place = usize::try_from(attempt.client - 1).unwrap_or_default();
        let client = &mut self.clients[place];
        if !client.is_at(attempt) {
            return;
        }
        self.trace.draw(|picture| picture.client_hears(self.now, attempt.client, attempt.tells(), &answer));
        match answer {
            Answer::Reply(Reply::Done { at, answer }) => {
                if attempt.number > 1 {
                    reachable!(self.marks, Retried);
                }
                client.session_used = self.now;
                self.conclude(place, Outcome::Done { index: at.index, answer });
            }
            Answer::Reply(Reply::Answer { applied, answer }) => {
                self.conclude(place, Outcome::Done { index: applied, answer });
            }
            Answer::Reply(Reply::Opened { session }) => {
                client.session = Some(session);
                client.session_used = self.now;
                self.try_to_send(place);
            }
            Answer::Reply(Reply::Unknown) | Answer::Broken if client.may_repeat() => {
                client.turn(nodes);
                if let Some(under_way) = &mut client.under_way {
                    under_way.may_have_happened = true;
                }
                self.try_again(place, 1, 50);
            }
            Answer::Reply(Reply::Expired) if !client.may_have_happened() => {
                // This attempt was the only one, and was not executed.
                client.session = None;
                self.try_to_send(place);
            }
            Answer::Reply(Reply::Unknown | Reply::Expired) | Answer::Broken => {
                client.session = None;
                client.turn(nodes);
                self.conclude(place, Outcome::Unknown);
            }
            Answer::Reply(Reply::Rejected(Rejection::NotLeader { address: Some(address), .. })) => {
                client.target = node_at(&address);
                self.try_again(place, 1, 20);
            }
            Answer::Reply(Reply::Rejected(
                Rejection::NotLeader { address: None, .. }
                | Rejection::NotFormed
                | Rejection::Halted
                | Rejection::Unconfirmed,
            ))
            | Answer::Unheard => {
                client.turn(nodes);
                self.try_again(place, 10, 100);
            }
            Answer::Reply(Reply::Rejected(rejection)) => {
                let reason = rejection.to_string();
                let outcome =
                    if client.may_have_happened() { Outcome::Unknown } else { Outcome::Failed { reason } };
                self.conclude(place, outcome);
            }
            Answer::Reply(other) => unreachable!("a proposal is not answered with {other:?}"),
        }
    }

    /// Nobody has taken the command, for certain; it may be sent again.
    fn try_again(&mut self, place: usize, least: u64, most: u64) {
        let client = &mut self.clients[place];
        let (number, operation) = (client.number, client.operation);
        let Some(under_way) = &mut client.under_way else { return };
        under_way.is_sent = false;
        client.is_content = false;
        let attempt = under_way.attempt;
        let delay = self.pause(client_key(number), least, most);
        self.queue.push(self.now + delay, Event::ClientWakes { client: number, operation, attempt });
    }

    /// The client knows what became of its command, or that nobody does, and thinks about the next.
    fn conclude(&mut self, place: usize, outcome: Outcome) {
        let client = &mut self.clients[place];
        let ticket = client.ticket();
        client.under_way = None;
        let told = match &outcome {
            Outcome::Done { answer, .. } => {
                if let Some(operation) = self.history.find(ticket) {
                    self.app.told(&mut client.memory, &operation.call, answer);
                }
                "done"
            }
            Outcome::Failed { .. } => "failed",
            Outcome::Unknown => "unknown",
        };
        let record = Record::Outcome { client: ticket.client, operation: ticket.operation, outcome: told };
        self.trace.record(self.now, &record);
        let is_done = matches!(outcome, Outcome::Done { .. });
        self.clients[place].is_content = is_done;
        self.history.end(ticket, self.now, outcome);
        let phase =
            self.scenario.shape.faults_until * MILLISECOND..self.scenario.shape.quorum_until * MILLISECOND;
        if is_done && phase.contains(&self.now) && !self.weather.active().is_empty() {
            reachable!(self.marks, ServedByQuorum);
        }
        let (least, most) = self.scenario.shape.think;
        let (least, most) =
            if self.clients[place].is_reader() { (least / 4, most / 4 + 1) } else { (least, most) };
        let think = self.clients[place].choices.between(least * MILLISECOND, most * MILLISECOND);
        let (client, operation) = (ticket.client, ticket.operation);
        self.queue.push(self.now + think, Event::ClientWakes { client, operation, attempt: 0 });
    }
}
