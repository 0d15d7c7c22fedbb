//! The flight recorder: a [`Ring`] inside a node's driver, and what has it written down.
//!
//! Encoding and writing happen on a thread of their own, unless the node has stopped. A flight takes all that is in the
//! ring with it, so the next one begins where it ended.

use core::time::Duration;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::{Handle, Observer};
use crate::flight::{Key, Payloads, Reason, Ring, Tape};
use crate::node::{Caller, Event, Input, Node, Output, Request};
use crate::state_machine::StateMachine;
use crate::time::Instant;

/// So many flights are kept in a folder; of more, the oldest are removed.
const FILES_MAX: usize = 8;
/// An alarm has a flight written at most this often.
const ALARM_INTERVAL: Duration = Duration::from_secs(600);
/// What the names of flights end with.
const ENDING: &str = ".flight";

/// How a node is recorded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Where flights are written; made when the first one is.
    pub folder: PathBuf,
    /// How many bytes of steps the ring may hold. Its two images share their bytes with the node, while that has them
    /// still.
    pub bytes: usize,
    /// What of payloads is written.
    pub payloads: Payloads,
}

impl Settings {
    /// A ring of 32 MiB, with hashed payloads.
    #[must_use]
    pub fn in_folder(folder: PathBuf) -> Settings {
        Settings { folder, bytes: 32 * 1024 * 1024, payloads: Payloads::default() }
    }
}

/// A flight that was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Written {
    /// Where it is.
    pub path: PathBuf,
    /// How many steps are in it.
    pub steps: usize,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Why no flight was written. The node goes on, and so does the recording.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RecorderError {
    /// Make room, or let the node write there.
    #[error("the recording cannot be written to {path}: {error}")]
    System {
        /// Where.
        path: PathBuf,
        /// What the system said.
        error: String,
    },
    /// It has no more to say.
    #[error("the node has stopped, or has just begun")]
    Nothing,
}

/// Who waits for a flight.
type Waiting = oneshot::Sender<Result<Written, RecorderError>>;

/// What asks the recorder of a node, from anywhere in the process, for a flight.
#[derive(Clone)]
pub struct Trigger {
    wanted: Arc<Wanted>,
    node: Handle,
}

#[derive(Default)]
struct Wanted {
    /// Looked at after each drain; the list only if there is something in it.
    is_wanted: AtomicBool,
    by: Mutex<Vec<Waiting>>,
    /// One flight at a time is written beside the node.
    is_writing: AtomicBool,
    /// There is no recorder any more.
    is_over: AtomicBool,
}

impl Wanted {
    fn list(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.by.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trigger {
    /// Has a flight written, up to now.
    ///
    /// # Errors
    ///
    /// [`RecorderError`] if it cannot be written, or the node has stopped.
    pub async fn write(&self) -> Result<Written, RecorderError> {
        let (sender, receiver) = oneshot::channel();
        self.wanted.list().push(sender);
        self.wanted.is_wanted.store(true, Ordering::Release);
        if self.wanted.is_over.load(Ordering::Acquire) {
            self.wanted.list().clear();
        }
        // A node that sleeps would notice only when something happens to it.
        let _ = self.node.request(Caller::Operator, Request::Status).await;
        receiver.await.unwrap_or(Err(RecorderError::Nothing))
    }
}

/// Keeps what a node is told and what it says, and writes it down when somebody asks, or something is wrong.
pub struct Recorder {
    ring: Ring,
    settings: Settings,
    wanted: Arc<Wanted>,
    alarm: Option<String>,
    alarmed_at: Option<Instant>,
}

impl Recorder {
    /// Makes a recorder, and what asks it for flights. Payloads are hashed with `key`, which nobody should be able to
    /// guess; it is in no flight with hashed payloads.
    #[must_use]
    pub fn new(settings: Settings, node: Handle, key: Key) -> (Recorder, Trigger) {
        let wanted = Arc::<Wanted>::default();
        let trigger = Trigger { wanted: Arc::clone(&wanted), node };
        let ring = Ring::new(settings.bytes, settings.payloads, key);
        (Recorder { ring, settings, wanted, alarm: None, alarmed_at: None }, trigger)
    }

    fn note_alarm(&mut self, now: Instant, what: String) {
        if self.alarmed_at.is_none_or(|last| now.saturating_since(last) >= ALARM_INTERVAL) {
            (self.alarm, self.alarmed_at) = (Some(what), Some(now));
        }
    }

    /// Who wants a flight now, and why; nobody mostly.
    fn take_wanted(&mut self) -> Option<(Reason, Vec<Waiting>)> {
        if self.wanted.is_writing.load(Ordering::Acquire) {
            return None;
        }
        if let Some(what) = self.alarm.take() {
            return Some((Reason::Alarm(what), Vec::new()));
        }
        if !self.wanted.is_wanted.swap(false, Ordering::Acquire) {
            return None;
        }
        let by = core::mem::take(&mut *self.wanted.list());
        Some((Reason::Asked, by))
    }

    /// Writes all that there is on a thread of its own.
    fn write_beside<S: StateMachine>(&mut self, reason: Reason, by: Vec<Waiting>, node: &Node<S>) {
        let (settings, wanted) = (self.settings.clone(), Arc::clone(&self.wanted));
        wanted.is_writing.store(true, Ordering::Release);
        let tape = self.ring.take(reason);
        self.ring.settled(node);
        let write = move || {
            let written = tape.map_or(Err(RecorderError::Nothing), |tape| write(&settings, tape));
            wanted.is_writing.store(false, Ordering::Release);
            for waiting in by {
                let _ = waiting.send(written.clone());
            }
        };
        if std::thread::Builder::new().name("flight".to_owned()).spawn(write).is_err() {
            // Those who wait are told that nothing came of it.
            self.wanted.is_writing.store(false, Ordering::Release);
        }
    }

    /// The node has stopped, and may be in any state: writes what there is.
    fn write_last(&mut self, reason: Reason) {
        if let Some(tape) = self.ring.take(reason) {
            let _ = write(&self.settings, tape);
        }
    }
}

/// Whoever waits is told that nothing comes any more.
impl Drop for Recorder {
    fn drop(&mut self) {
        self.wanted.is_over.store(true, Ordering::Release);
        self.wanted.list().clear();
    }
}

impl<S: StateMachine> Observer<S> for Recorder {
    fn input(&mut self, now: Instant, input: &Input) {
        self.ring.input(now, input);
    }

    fn timeout(&mut self, now: Instant) {
        self.ring.timeout(now);
    }

    fn output(&mut self, now: Instant, output: &Output) {
        if let Output::Event(Event::Alarm { from, refusal }) = output {
            self.note_alarm(now, format!("node {from} broke a promise: {refusal:?}"));
        }
        self.ring.output(output);
    }

    fn settled(&mut self, _now: Instant, node: &Node<S>) {
        self.ring.settled(node);
        if let Some(halt) = node.halted() {
            self.write_last(Reason::Halted(halt.to_string()));
        } else if let Some((reason, by)) = self.take_wanted() {
            self.write_beside(reason, by, node);
        }
    }

    fn panicked(&mut self, _now: Instant, text: &str, node: &Node<S>) {
        self.ring.said(node);
        let is_told = !node.is_in_state_machine() || self.settings.payloads == Payloads::Whole;
        let text = if is_told { text } else { "in its state machine, whose words are left out" };
        self.write_last(Reason::Panicked(text.to_owned()));
    }
}

/// Writes what was in a ring as a flight.
fn write(settings: &Settings, tape: Tape) -> Result<Written, RecorderError> {
    let why = tape.reason().to_string();
    match save(&settings.folder, tape) {
        Ok(written) => {
            tracing::warn!("{} steps were recorded in {}: {why}", written.steps, written.path.display());
            Ok(written)
        }
        Err(error) => {
            let error = RecorderError::System { path: settings.folder.clone(), error: error.to_string() };
            tracing::error!("{error}");
            Err(error)
        }
    }
}

/// Saves a flight under a name of its own, readable for nobody else, and removes those of long ago.
#[expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a recording is a file, named by the clock"
)]
fn save(folder: &Path, tape: Tape) -> io::Result<Written> {
    use std::fs;
    use std::os::unix::fs::OpenOptionsExt as _;
    use std::time::{SystemTime, UNIX_EPOCH};

    fs::create_dir_all(folder)?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let name = format!("node{}-{:013}{ENDING}", tape.node(), since.as_millis());
    let (path, partial) = (folder.join(&name), folder.join(format!("{name}.partial")));
    let write = || {
        let open = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial);
        let mut file = open?;
        let mut chunks = tape.into_chunks();
        for chunk in &mut chunks {
            file.write_all(&chunk)?;
        }
        file.sync_all()?;
        fs::rename(&partial, &path)?;
        Ok((chunks.steps(), file.metadata()?.len()))
    };
    let (steps, bytes) = write().inspect_err(|_: &io::Error| {
        // What is there of it helps nobody, and takes room that may be missing.
        let _ = fs::remove_file(&partial);
    })?;
    let files = fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut flights: Vec<PathBuf> = files.filter(|path| is_flight(path)).collect();
    flights.sort();
    let surplus = flights.len().saturating_sub(FILES_MAX);
    flights.into_iter().take(surplus).try_for_each(fs::remove_file)?;
    Ok(Written { path, steps, bytes })
}

fn is_flight(path: &Path) -> bool {
    path.to_string_lossy().ends_with(ENDING)
}
