//! A node as a service: what it tells, what it does when the host fails it, how it ends. Real processes, files, signals.
#![cfg(all(feature = "cli", unix))]
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test of the command line starts processes, binds ports and writes files"
)]

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(40);
/// How often a process is asked again that does not tell by itself.
const POLL: Duration = Duration::from_millis(20);

/// One node, which is its own cluster.
struct Service {
    folder: tempfile::TempDir,
    metrics: u16,
    process: Option<Child>,
    heard: Heard,
}

/// What comes out of a process, and whoever waits for it.
#[derive(Clone, Default)]
struct Heard(Arc<(Mutex<Said>, Condvar)>);

/// What has come out of the two pipes so far.
#[derive(Default)]
struct Said {
    printed: Vec<u8>,
    logged: Vec<u8>,
    /// How many of the pipes have ended.
    ended: usize,
}

impl Heard {
    /// Listens to a pipe, and keeps what it says where `keep` says.
    fn listen(&self, mut pipe: impl std::io::Read + Send + 'static, keep: fn(&mut Said) -> &mut Vec<u8>) {
        let heard = self.clone();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = pipe.read(&mut piece) {
                heard.note(|said| keep(said).extend_from_slice(&piece[..length]));
            }
            heard.note(|said| said.ended += 1);
        });
    }

    fn note(&self, change: impl FnOnce(&mut Said)) {
        change(&mut self.0.0.lock().expect("nobody panics with it"));
        self.0.1.notify_all();
    }

    /// Waits until it has said so, or both pipes have ended. Returns whether it has, and its log.
    fn until(&self, has_said: impl Fn(&Said) -> bool) -> (bool, String) {
        let (said, news) = &*self.0;
        let said = said.lock().expect("nobody panics with it");
        let goes_on = |said: &mut Said| !has_said(said) && said.ended < 2;
        let (said, waited) = news.wait_timeout_while(said, PATIENCE, goes_on).expect("nobody panics with it");
        let log = text(&said.logged);
        assert!(!waited.timed_out(), "it goes on and on: {log}");
        (has_said(&said), log)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn rivven(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rivven-cluster")).args(arguments).output().expect("the program runs")
}

/// Asks again and again, until it is so.
fn until<T>(ask: impl Fn() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(answer) => assert!(began.elapsed() < PATIENCE, "{answer}"),
        }
        std::thread::sleep(POLL);
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn certs(folder: &std::path::Path) {
    let made =
        rivven(&["certs", "--cluster", "prod", "--out", &folder.display().to_string(), "--nodes", "1"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
}

impl Service {
    fn new(more: &str) -> Service {
        let folder = tempfile::tempdir().expect("a folder");
        certs(folder.path());
        let free =
            || UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
        let (port, metrics) = (free(), free());
        let text = format!(
            "cluster:\n  node_id: 1\n  bind_address: \"127.0.0.1:{port}\"\n  data_dir: data\n  \
             metrics_address: \"127.0.0.1:{metrics}\"\n  tls: {{ca: ca.pem, cert: node-1.pem, key: node-1.key}}\n{more}"
        );
        std::fs::write(folder.path().join("1.yaml"), text).expect("a writable folder");
        Service { folder, metrics, process: None, heard: Heard::default() }
    }

    fn config(&self) -> String {
        self.folder.path().join("1.yaml").display().to_string()
    }

    /// Starts it under a shell's limits, such as `ulimit -n 20`.
    fn start(&mut self, limits: &str) {
        let run = format!("{limits}\nexec \"$0\" run --config \"$1\"");
        let process = Command::new("sh")
            .args(["-c", &run, env!("CARGO_BIN_EXE_rivven-cluster"), &self.config()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut process = process.expect("there is a shell");
        self.heard = Heard::default();
        self.heard.listen(process.stdout.take().expect("a pipe"), |said| &mut said.printed);
        self.heard.listen(process.stderr.take().expect("a pipe"), |said| &mut said.logged);
        self.process = Some(process);
    }

    /// Waits until its log says that.
    fn until_it_says(&self, what: &str) {
        let (has_said, log) = self.heard.until(|said| text(&said.logged).contains(what));
        assert!(has_said, "{what:?} is not in {log:?}");
    }

    /// Waits until it ends: how, and what it has said. Or until it has printed `instead`: then it is `None`.
    fn ended_or(&mut self, instead: &str) -> Option<(Option<i32>, String)> {
        let (has_said, log) =
            self.heard.until(|said| !instead.is_empty() && text(&said.printed).contains(instead));
        if has_said {
            return None;
        }
        let status = self.process.take().expect("it was started").wait().expect("it is ours");
        Some((status.code(), log))
    }

    /// Waits until it ends: how, and what it has said.
    fn ended(&mut self) -> (Option<i32>, String) {
        self.ended_or("").expect("there is nothing else to wait for")
    }

    fn terminate(&mut self) -> (Option<i32>, String) {
        let id = self.process.as_ref().expect("it was started").id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().expect("it exists").success());
        self.ended()
    }

    /// Waits until it says that it leads.
    fn until_it_leads(&self) {
        until(|| {
            let told = rivven(&["status", "--json", "--config", &self.config()]);
            let json: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap_or_default();
            if json["raft"]["role"] == "Leader" {
                Ok(())
            } else {
                Err(format!("{json} {}", text(&told.stderr)))
            }
        });
    }

    fn scrape(&self) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.metrics)).expect("it listens");
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("it is asked");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    }
}

#[test]
fn what_is_counted_can_be_scraped_with_what_it_means() {
    let mut service = Service::new("");
    service.start("");
    service.until_it_leads();
    let answer = until(|| {
        let answer = service.scrape();
        if answer.contains("\nrivven_is_leader 1\n") { Ok(answer) } else { Err(answer) }
    });
    assert!(answer.contains("# HELP rivven_term the Raft term\n"), "{answer}");
    let (code, _) = service.terminate();
    assert_eq!(code, Some(0), "it ends in order");
}

#[test]
fn the_log_says_as_much_as_it_is_asked_for_and_of_which_node_and_term() {
    for (asked, is_said) in [("RUST_LOG=rivven_cluster=debug", true), ("RUST_LOG=error", false)] {
        let mut service = Service::new("");
        service.start(&format!("export {asked}"));
        service.until_it_leads();
        let (code, said) = service.terminate();
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(said.contains("node{id=1}:raft{term="), is_said, "{asked}: {said}");
        assert_eq!(said.is_empty(), !is_said, "{asked}: {said}");
        assert!(!said.contains('\u{1b}'), "a file is no terminal: {said}");
        assert!(!said.contains("PRIVATE KEY"), "{said}");
    }
}

/// What the node was told last is a file: when an operator asks, or a signal.
#[test]
fn what_it_was_told_last_is_written_down_when_somebody_asks() {
    let mut service = Service::new("  recorder: {payloads: whole}\n");
    service.start("");
    service.until_it_leads();
    let told = rivven(&["record", "--config", &service.config()]);
    assert!(told.status.success(), "{}", text(&told.stderr));
    let flights = service.folder.path().join("data/flights");
    let written = || std::fs::read_dir(&flights).map_or(0, Iterator::count);
    assert!(text(&told.stdout).contains(&flights.display().to_string()), "{}", text(&told.stdout));
    assert_eq!(written(), 1);
    let id = service.process.as_ref().expect("it was started").id().to_string();
    assert!(Command::new("kill").args(["-USR1", &id]).status().expect("it exists").success());
    until(|| if written() == 2 { Ok(()) } else { Err(format!("{} flights", written())) });
    let (code, said) = service.terminate();
    assert_eq!(code, Some(0), "{said}");
    let mut service = Service::new("  recorder: {enabled: false}\n");
    service.start("");
    service.until_it_leads();
    let told = rivven(&["record", "--config", &service.config()]);
    assert_eq!(told.status.code(), Some(1));
    assert!(text(&told.stderr).contains("the node has no recorder"), "{}", text(&told.stderr));
    let (code, said) = service.terminate();
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn certificates_are_renewed_when_their_files_change() {
    let mut service = Service::new("");
    service.start("");
    service.until_it_leads();
    // Another authority: whoever has a certificate of the one before is a stranger then.
    let new = tempfile::tempdir().expect("a folder");
    certs(new.path());
    for name in ["ca.pem", "node-1.pem", "node-1.key"] {
        std::fs::copy(new.path().join(name), service.folder.path().join(name)).expect("a writable folder");
    }
    service.until_it_leads();
    // Files that make no sense change nothing.
    std::fs::write(service.folder.path().join("ca.pem"), "-----BEGIN NONSENSE").expect("a writable folder");
    service.until_it_says("the certificates before stay in use");
    std::fs::copy(new.path().join("ca.pem"), service.folder.path().join("ca.pem"))
        .expect("a writable folder");
    service.until_it_leads();
    let (code, said) = service.terminate();
    assert_eq!(code, Some(0), "it ends in order: {said}");
}

#[test]
fn a_folder_that_cannot_be_written_is_named_before_anything_starts() {
    let mut service = Service::new("");
    std::fs::write(service.folder.path().join("data"), "a file is in the way").expect("a writable folder");
    service.start("");
    let (code, said) = service.ended();
    assert_eq!(code, Some(1));
    assert!(said.contains("data"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

/// A disk that takes no more: no file may grow beyond a limit, and writing beyond it fails.
#[test]
fn a_node_whose_disk_is_full_stops_with_a_reason_and_loses_nothing() {
    let mut service = Service::new("  raft: {snapshot_entries: 50}\n");
    service.start("");
    service.until_it_leads();
    let (code, _) = service.terminate();
    assert_eq!(code, Some(0));
    let stored = |service: &Service| {
        let told = rivven(&["status", "--json", "--config", &service.config()]);
        let json: serde_json::Value = serde_json::from_slice(&told.stdout).expect("it tells");
        json["raft"]["indexes"]["commit"].as_u64().expect("it has formed")
    };
    // The second time, what it prints goes to that disk, too.
    for limits in ["trap '' XFSZ\nulimit -f 0", "trap '' XFSZ\nulimit -f 0\nexec > \"$1.out\""] {
        service.start(limits);
        let (code, said) = service.ended();
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("File too large"), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
    // There is room again.
    service.start("");
    service.until_it_leads();
    assert!(stored(&service) > 0);
}

#[test]
fn with_however_few_files_it_may_open_it_runs_or_says_why_not() {
    let mut service = Service::new("");
    let mut ran = false;
    for most in (3..40).step_by(2) {
        service.start(&format!("ulimit -n {most}"));
        match service.ended_or("node 1 leads") {
            Some((code, said)) => {
                assert!(!said.contains("panicked"), "{most}: {said}");
                assert_ne!(code, Some(0), "{most}: {said}");
                // Below a handful the system cannot even load the program.
                assert!(most < 8 || said.contains("open files"), "{most}: {said}");
                assert!(!ran, "it ran with fewer than {most}: {said}");
            }
            None => {
                ran = true;
                let (code, said) = service.terminate();
                assert!(!said.contains("panicked"), "{most}: {said}");
                assert_eq!(code, Some(0), "{most}: {said}");
            }
        }
    }
    assert!(ran, "it runs with 40");
    service.start("");
    service.until_it_leads();
}
