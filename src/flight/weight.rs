//! About how many bytes a step holds in memory, so that a ring of them has a bound.

use super::Step;
use crate::node::{Input, Message, Output, Reply, Request, Said, Transfer, WriteBatch};
use crate::partition::log::What;
use crate::partition::replica::io::Batch;
use crate::partition::replicas::io::{self as replicas, Ask};
use crate::raft::{self, Entry};
use crate::session::Proposal;
use crate::swim;

/// What an element of a list takes beside its payload.
const ELEMENT: usize = 96;

pub(super) fn of_step(step: &Step) -> usize {
    let more = match step {
        Step::Input(_, input) => of_input(input),
        Step::Output(output) => of_output(output),
        Step::Said(Said::Answer(bytes) | Said::State(bytes)) => bytes.len(),
        Step::Said(Said::Restored(_)) | Step::Timeout(_) | Step::Settled => 0,
    };
    size_of::<Step>() + more
}

#[expect(clippy::wildcard_enum_match_arm, reason = "what is not named is small")]
fn of_input(input: &Input) -> usize {
    match input {
        Input::Message { message, .. } => of_message(message),
        Input::Request { request, .. } => of_request(request),
        Input::Read { batches, .. } => of_batches(batches),
        Input::SnapshotBuilt(state) => state.len(),
        Input::Gossip(swim::Input::Datagram { bytes, .. }) => bytes.len(),
        Input::Gossip(_) => ELEMENT,
        _ => 0,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "what is not named is small")]
fn of_output(output: &Output) -> usize {
    match output {
        Output::Write(batch) => of_write(batch),
        Output::SaveSnapshot(snapshot) => snapshot.state.len(),
        Output::Send { message, .. } => of_message(message),
        Output::Reply { reply, .. } => of_reply(reply),
        Output::Gossip(swim::Output::Datagram { bytes, .. }) => bytes.len(),
        Output::Gossip(_) | Output::Event(_) => ELEMENT,
        _ => 0,
    }
}

fn of_write(batch: &WriteBatch) -> usize {
    let change = |what: &What| match what {
        What::Append(batch) => of_batch(batch),
        What::Truncate(_) | What::Trim(_) | What::Restart(_) | What::Committed(_) | What::Remove => ELEMENT,
    };
    of_entries(&batch.entries) + batch.logs.iter().map(|log| change(&log.what)).sum::<usize>()
}

#[expect(clippy::wildcard_enum_match_arm, reason = "what is not named is small")]
fn of_message(message: &Message) -> usize {
    match message {
        Message::Raft(message) => match &message.body {
            raft::Body::Append { entries, .. } => of_entries(entries),
            _ => 0,
        },
        Message::Forward { proposal, .. } => of_proposal(proposal),
        Message::Forwards { wanted, .. } => {
            wanted.iter().map(|(_, proposal)| ELEMENT + of_proposal(proposal)).sum()
        }
        Message::Forwarded { reply, .. } => of_reply(reply),
        Message::Transfer(Transfer::Part { bytes, .. }) => bytes.len(),
        Message::Records(replicas::Message::Fetched(deliveries)) => {
            deliveries.iter().map(|delivery| ELEMENT + of_batches(&delivery.records)).sum()
        }
        Message::Records(replicas::Message::Fetch(fetches)) => fetches.len() * ELEMENT,
        Message::Alterations(alterations) => alterations.len() * ELEMENT,
        _ => ELEMENT,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "what is not named is small")]
fn of_request(request: &Request) -> usize {
    match request {
        Request::Propose(proposal) => of_proposal(proposal),
        Request::Query { query } | Request::QueryStale { query } => query.len(),
        Request::Ask { ask: Ask::Produce(produce), .. } => produce.records.len(),
        _ => 0,
    }
}

fn of_reply(reply: &Reply) -> usize {
    ELEMENT + reply.bulk()
}

fn of_proposal(proposal: &Proposal) -> usize {
    proposal.command().map_or(ELEMENT, bytes::Bytes::len)
}

fn of_entries(entries: &[Entry]) -> usize {
    entries.iter().map(|entry| ELEMENT + entry.length()).sum()
}

fn of_batches(batches: &[Batch]) -> usize {
    batches.iter().map(of_batch).sum()
}

fn of_batch(batch: &Batch) -> usize {
    ELEMENT + batch.records.len()
}
