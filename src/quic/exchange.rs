//! One request stream to one node: numbered requests, answered in any order.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use quinn::{Connection, SendStream};
use tokio::sync::{mpsc, oneshot};

use super::connection::FrameReader;
use crate::node::{Reply, Request};
use crate::wire::{FRAME_BYTES_MAX, Frame};

/// The most requests of one stream that wait to be written; beyond it callers wait.
const FRAMES_QUEUED_MAX: usize = 256;
/// How long an answer may take from its first byte to its last.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How one attempt failed.
pub(super) enum Attempt {
    /// The request never left, or certainly changed nothing.
    NotSent(String),
    /// It left, and no answer came.
    Lost(String),
}

/// One request stream to one node. A task of its own writes to it, so that a caller who gives up in
/// the middle of a frame does not leave half of it in the stream.
#[derive(Clone)]
pub(super) struct Exchange {
    connection: Connection,
    frames: mpsc::Sender<Bytes>,
    waiting: Arc<Mutex<Waiting>>,
}

/// Who waits for which answer.
#[derive(Default)]
struct Waiting {
    /// The stream is lost: no answer will come.
    is_lost: bool,
    last_id: u64,
    answers: BTreeMap<u64, oneshot::Sender<Reply>>,
}

impl Exchange {
    pub(super) async fn open(connection: Connection) -> Result<Exchange, String> {
        let (stream, replies) = connection.open_bi().await.map_err(|error| error.to_string())?;
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let (frames, queue) = mpsc::channel(FRAMES_QUEUED_MAX);
        tokio::spawn(write_frames(stream, queue));
        tokio::spawn(deliver(
            FrameReader::new(replies, ANSWER_TIMEOUT, FRAME_BYTES_MAX),
            Arc::clone(&waiting),
        ));
        Ok(Exchange { connection, frames, waiting })
    }

    pub(super) fn is_open(&self) -> bool {
        self.connection.close_reason().is_none() && !lock(&self.waiting).is_lost
    }

    pub(super) async fn ask(&self, request: Request) -> Result<Reply, Attempt> {
        let (answer, answered) = oneshot::channel();
        let place = {
            let mut waiting = lock(&self.waiting);
            if waiting.is_lost {
                return Err(Attempt::NotSent("the connection was lost".to_owned()));
            }
            waiting.last_id += 1;
            let id = waiting.last_id;
            waiting.answers.insert(id, answer);
            Place { waiting: &self.waiting, id }
        };
        let frame = Frame::Request { id: place.id, request }.encode();
        let frame = frame.map_err(|error| Attempt::NotSent(error.to_string()))?;
        let sent = self.frames.send(frame).await;
        sent.map_err(|_| Attempt::NotSent("the connection was lost".to_owned()))?;
        answered.await.map_err(|_| Attempt::Lost("the connection was lost".to_owned()))
    }
}

/// A place among those who wait; given up when the caller stops waiting.
struct Place<'a> {
    waiting: &'a Mutex<Waiting>,
    id: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        lock(self.waiting).answers.remove(&self.id);
    }
}

async fn write_frames(mut stream: SendStream, mut queue: mpsc::Receiver<Bytes>) {
    while let Some(frame) = queue.recv().await {
        if stream.write_chunk(frame).await.is_err() {
            return;
        }
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hands each reply to whoever waits for it; when the stream ends, nobody waits any longer.
async fn deliver(mut replies: FrameReader, waiting: Arc<Mutex<Waiting>>) {
    while let Ok(Some(Frame::Reply { id, reply })) = replies.next().await {
        let answer = lock(&waiting).answers.remove(&id);
        if let Some(answer) = answer {
            let _ = answer.send(reply);
        }
    }
    let mut waiting = lock(&waiting);
    waiting.is_lost = true;
    waiting.answers.clear();
}
