//! The recorder: an observer inside a node's driver, with a ring in two halves.
//!
//! Everything that is kept shares its bytes with the node, so that recording costs a few small copies for each step.
//! Encoding and writing happen on a thread of their own, unless the node has stopped. A flight takes all that is in the
//! ring with it, so the next one begins where it ended.
//!
//! With hashed payloads a flight begins after the last snapshot that arrived from a leader, since parts of a snapshot
//! cannot be hashed so that they still fit together.

use core::time::Duration;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;

use super::weight::of_step;
use super::{Flight, Payloads, Reason, Step};
use crate::driver::{Handle, Observer};
use crate::id::NodeId;
use crate::node::{Caller, Event, Image, Input, Message, Node, Output, Request, Transfer};
use crate::rng::Stream;
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
    /// About how many bytes the ring may hold in memory. What goes into a log or a snapshot at once may come on top.
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
    #[error("the node has stopped")]
    Stopped,
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
}

impl Trigger {
    /// Has a flight written, up to now.
    ///
    /// # Errors
    ///
    /// [`RecorderError`] if it cannot be written, or the node has stopped.
    pub async fn write(&self) -> Result<Written, RecorderError> {
        let (sender, receiver) = oneshot::channel();
        self.wanted.by.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        self.wanted.is_wanted.store(true, Ordering::Release);
        // A node that sleeps would notice only when something happens to it.
        let _ = self.node.request(Caller::Operator, Request::Status).await;
        receiver.await.unwrap_or(Err(RecorderError::Stopped))
    }
}

/// An image, and what happened since.
struct Half {
    image: Image,
    steps: Vec<Step>,
    bytes: usize,
}

impl Half {
    fn new(image: Image) -> Half {
        Half { image, steps: Vec::new(), bytes: 0 }
    }

    fn push(&mut self, step: Step) {
        self.bytes += of_step(&step);
        self.steps.push(step);
    }
}

/// Keeps what a node is told and what it says, in a ring.
pub struct Recorder {
    settings: Settings,
    wanted: Arc<Wanted>,
    /// What payloads are hashed with, a draw for each flight.
    keys: Stream,
    older: Option<Half>,
    /// `None` until the node has nothing to say for the first time.
    newer: Option<Half>,
    /// A part of a snapshot was the last input.
    takes_snapshot: bool,
    /// A snapshot has arrived: nothing before its arrival can be replayed with hashed payloads.
    begins_anew: bool,
    alarm: Option<String>,
    alarmed_at: Option<Instant>,
}

impl Recorder {
    /// Makes a recorder, and what asks it for flights. `keys` should be of a seed that nobody can guess.
    #[must_use]
    pub fn new(settings: Settings, node: Handle, keys: Stream) -> (Recorder, Trigger) {
        let wanted = Arc::<Wanted>::default();
        let trigger = Trigger { wanted: Arc::clone(&wanted), node };
        let recorder = Recorder {
            settings,
            wanted,
            keys,
            older: None,
            newer: None,
            takes_snapshot: false,
            begins_anew: false,
            alarm: None,
            alarmed_at: None,
        };
        (recorder, trigger)
    }

    fn push(&mut self, step: impl FnOnce() -> Step) {
        if let Some(newer) = &mut self.newer {
            newer.push(step());
        }
    }

    fn note_alarm(&mut self, now: Instant, what: String) {
        let is_due = self.alarmed_at.is_none_or(|last| now.saturating_since(last) >= ALARM_INTERVAL);
        if is_due {
            (self.alarm, self.alarmed_at) = (Some(what), Some(now));
        }
    }

    fn is_wanted(&self) -> bool {
        self.alarm.is_some() || self.wanted.is_wanted.load(Ordering::Acquire)
    }

    /// Who wants a flight now, and why; nobody mostly.
    fn take_wanted(&mut self) -> Option<(Reason, Vec<Waiting>)> {
        if let Some(what) = self.alarm.take() {
            return Some((Reason::Alarm(what), Vec::new()));
        }
        if !self.wanted.is_wanted.swap(false, Ordering::Acquire) {
            return None;
        }
        let by = core::mem::take(&mut *self.wanted.by.lock().unwrap_or_else(PoisonError::into_inner));
        Some((Reason::Asked, by))
    }

    /// Writes all that there is on a thread of its own.
    fn write_beside(&mut self, reason: Reason, by: Vec<Waiting>) {
        let (settings, key) = (self.settings.clone(), self.keys.draw());
        let halves = (self.older.take(), self.newer.take());
        let write = move || {
            let written = write(&settings, key, reason, halves);
            for waiting in by {
                let _ = waiting.send(written.clone());
            }
        };
        // If there is no thread to be had, those who wait are told that nothing came of it.
        let _ = std::thread::Builder::new().name("flight".to_owned()).spawn(write);
    }

    /// The node has stopped: writes what there is.
    fn write_last(&mut self, reason: Reason) {
        let halves = (self.older.take(), self.newer.take());
        let _ = write(&self.settings, self.keys.draw(), reason, halves);
    }
}

impl<S: StateMachine> Observer<S> for Recorder {
    fn input(&mut self, now: Instant, input: &Input) {
        self.takes_snapshot =
            matches!(input, Input::Message { message: Message::Transfer(Transfer::Part { .. }), .. });
        self.push(|| Step::Input(now, input.clone()));
    }

    fn timeout(&mut self, now: Instant) {
        self.push(|| Step::Timeout(now));
    }

    fn output(&mut self, now: Instant, output: &Output) {
        match output {
            Output::SaveSnapshot(_) if self.takes_snapshot => {
                self.begins_anew = self.settings.payloads == Payloads::Hashed;
            }
            Output::Event(Event::Alarm { from, refusal }) => {
                self.note_alarm(now, format!("node {from} broke a promise: {refusal:?}"));
            }
            Output::Write(_)
            | Output::Read { .. }
            | Output::BuildSnapshot
            | Output::SaveSnapshot(_)
            | Output::Send { .. }
            | Output::Dial(_)
            | Output::HangUp(_)
            | Output::Reply { .. }
            | Output::Gossip(_)
            | Output::Event(_) => {}
        }
        self.push(|| Step::Output(output.clone()));
    }

    fn settled(&mut self, _now: Instant, node: &Node<S>) {
        let Some(newer) = &mut self.newer else {
            node.overhear();
            self.newer = node.image().map(Half::new);
            return;
        };
        for said in node.take_said() {
            newer.push(Step::Said(said));
        }
        if newer.steps.last().is_some_and(|last| *last != Step::Settled) {
            newer.push(Step::Settled);
        }
        let is_full = newer.bytes.saturating_mul(2) >= self.settings.bytes;
        if let Some(halt) = node.halted() {
            return self.write_last(Reason::Halted(halt.to_string()));
        }
        let Some(image) = (self.begins_anew || is_full || self.is_wanted()).then(|| node.image()).flatten()
        else {
            return;
        };
        if self.begins_anew {
            (self.older, self.begins_anew) = (None, false);
        } else if let Some((reason, by)) = self.take_wanted() {
            self.write_beside(reason, by);
        } else {
            self.older = self.newer.take();
        }
        self.newer = Some(Half::new(image));
    }

    fn panicked(&mut self, _now: Instant, text: &str, node: &Node<S>) {
        for said in node.take_said() {
            self.push(|| Step::Said(said));
        }
        self.write_last(Reason::Panicked(text.to_owned()));
    }
}

/// Writes both halves as one flight.
fn write(
    settings: &Settings,
    key: u64,
    reason: Reason,
    (older, newer): (Option<Half>, Option<Half>),
) -> Result<Written, RecorderError> {
    let mut halves = [older, newer].into_iter().flatten();
    let Some(Half { image, mut steps, .. }) = halves.next() else { return Err(RecorderError::Stopped) };
    steps.extend(halves.flat_map(|half| half.steps));
    let (node, why) = (image.node(), reason.to_string());
    let flight = Flight { reason, payloads: settings.payloads, image: Box::new(image), steps };
    let bytes = flight.encode(key);
    match save(&settings.folder, node, &bytes) {
        Ok(path) => {
            let steps = flight.steps.len();
            tracing::warn!("{steps} steps were recorded in {}: {why}", path.display());
            Ok(Written { path, steps, bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX) })
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
fn save(folder: &Path, node: NodeId, bytes: &[u8]) -> io::Result<PathBuf> {
    use std::fs;
    use std::os::unix::fs::OpenOptionsExt as _;

    fs::create_dir_all(folder)?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let name = format!("node{node}-{:013}{ENDING}", since.as_millis());
    let (path, partial) = (folder.join(&name), folder.join(format!("{name}.partial")));
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&partial, &path)?;
    let mut others: Vec<PathBuf> = fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| is_flight(path))
        .collect();
    others.sort();
    let surplus = others.len().saturating_sub(FILES_MAX);
    for old in others.into_iter().take(surplus) {
        fs::remove_file(old)?;
    }
    Ok(path)
}

fn is_flight(path: &Path) -> bool {
    path.to_string_lossy().ends_with(ENDING)
}
