//! `mutants`: is the simulator any good? Known bugs, put in one at a time; each must be noticed.
//!
//! The tree is copied, one mutant is applied, the copy is built, and its own `hunt` looks for a seed that
//! fails. What only somebody who lies could bring about, or hardly anything, is judged by a test instead.
//! Production code carries no hooks for this: a mutant is a piece of text and what takes its
//! place.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use indicatif::ProgressBar;
use rivven_sim::faults::FaultKind;
use serde::Deserialize;

use super::hunt::Catch;

/// What of the tree is copied.
const COPIED: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "clippy.toml",
    "src",
    "examples",
    "tests",
    "sim/Cargo.toml",
    "sim/src",
    "sim/examples",
    "fuzz",
];

/// How many seeds the unmutated code must survive before any mutant is hunted.
const CONTROL_SEEDS: u64 = 100;
/// The most seeds that a mutant is hunted again for each kind of fault that is switched off.
const ABLATION_SEEDS: u64 = 100;
/// How many seeds of the replicas count as one: they are short, and what breaks there can be rare.
const REPLICAS_SEEDS: u64 = 200;
/// How long one hunt may take: a mutant that hangs is no longer waited for.
const HUNT_MAX: Duration = Duration::from_secs(15 * 60);

/// The arguments of `mutants`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The list of mutants; the project's own if not given.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Only the mutant of this id; may be repeated.
    #[arg(long, value_name = "ID")]
    only: Vec<String>,
    /// The most seeds for each.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The most runs to shrink what was found; 0 shrinks nothing, and takes a fifth of the time.
    #[arg(long, default_value_t = 300)]
    runs: u64,
    /// The tree that is copied; the one that this program was built from if not given.
    #[arg(long, value_name = "FOLDER")]
    tree: Option<PathBuf>,
    /// Hunt each mutant again with each kind of fault switched off that its shrunk plan has, and show
    /// who escapes.
    #[arg(long)]
    ablate: bool,
    /// Do not build and hunt the tree without a mutant first: something else has shown just now that it is sound.
    #[arg(long)]
    without_control: bool,
    /// Write each shrunk scenario into this folder.
    #[arg(long, value_name = "FOLDER")]
    plans: Option<PathBuf>,
}

/// The list.
#[derive(Deserialize)]
struct List {
    mutant: Vec<Mutant>,
}

/// Where a mutant shows itself.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "kebab-case")]
enum Stage {
    Pure,
    Turmoil,
    /// Members alone, tormented.
    Swim,
    /// The replicas of one partition, tormented. A seed takes half a millisecond.
    Replicas,
    /// Three members, all orders of events.
    SmallMembers,
    /// Three replicas, all orders of events.
    SmallReplicas,
    /// One test.
    Test,
}

impl Stage {
    fn control_seeds(self) -> u64 {
        match self {
            Stage::Turmoil => 10,
            Stage::Pure
            | Stage::Swim
            | Stage::Replicas
            | Stage::SmallMembers
            | Stage::SmallReplicas
            | Stage::Test => CONTROL_SEEDS,
        }
    }
}

/// One bug.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutant {
    id: String,
    /// Which rule it breaks.
    rule: String,
    file: PathBuf,
    /// Must be there exactly once.
    find: String,
    replace: String,
    /// Where it shows itself.
    world: Stage,
    /// Checkers that are not asked, so that those behind them show what they catch.
    #[serde(default)]
    ignore: Vec<String>,
    /// The test that fails, if it is one: one of the library, or `PROGRAM/TEST`, one of the programs in `tests/`.
    #[serde(default)]
    test: String,
    /// Must die within seconds, or the simulator is broken.
    #[serde(default)]
    canary: bool,
}

/// What became of one mutant.
struct Verdict {
    catch: Catch,
    /// With each kind of fault switched off: whether it was still caught.
    ablated: BTreeMap<FaultKind, bool>,
}

/// Runs the mutants.
pub fn run(arguments: &Arguments) -> Result<bool, String> {
    let root = arguments.tree.clone().unwrap_or_else(project);
    let file = arguments.file.clone().unwrap_or_else(|| root.join("sim/mutants.toml"));
    let mutants = load(&file, &arguments.only)?;
    for mutant in &mutants {
        mutate(&root, mutant)?;
    }
    let workshop = Workshop::open(&root)?;
    if !arguments.without_control {
        workshop.control(&mutants)?;
    }
    println!(
        "{:<34} {:<22} {:>6} {:>8} {:>7} {:>8}",
        "mutant", "caught by", "seeds", "seconds", "faults", "shrink s"
    );
    let mut results: Vec<(&Mutant, Verdict)> = Vec::new();
    let mut unjudged = 0_usize;
    for mutant in &mutants {
        let verdict = match workshop.judge(mutant, arguments) {
            Ok(verdict) => verdict,
            Err(error) => {
                // The list takes long: the others are judged all the same.
                println!("UNJUDGED {error}");
                unjudged += 1;
                continue;
            }
        };
        print_row(mutant, &verdict.catch);
        for (kind, is_caught) in &verdict.ablated {
            let word = if *is_caught { "still dies" } else { "escapes" };
            println!("    {word} without {kind}");
        }
        results.push((mutant, verdict));
    }
    if arguments.ablate {
        print_ablation(&results);
    }
    Ok(print_score(&results) && unjudged == 0)
}

/// Where this program was built.
fn project() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    root.unwrap_or(Path::new(".")).to_owned()
}

fn load(file: &Path, only: &[String]) -> Result<Vec<Mutant>, String> {
    let place = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read {place}: {error}"))?;
    let list: List = toml::from_str(&text).map_err(|error| format!("{place}: {error}"))?;
    if let Some(unknown) = only.iter().find(|id| list.mutant.iter().all(|mutant| mutant.id != **id)) {
        return Err(format!("{place} has no mutant called {unknown}"));
    }
    Ok(list.mutant.into_iter().filter(|mutant| only.is_empty() || only.contains(&mutant.id)).collect())
}

/// The text of the file with the mutant in it. One that does not apply is an error: the code has moved
/// on, and the list has not.
fn mutate(root: &Path, mutant: &Mutant) -> Result<String, String> {
    let path = root.join(&mutant.file);
    let text = std::fs::read_to_string(&path)
        .map_err(|error| format!("mutant {}: cannot read {}: {error}", mutant.id, path.display()))?;
    match text.matches(&mutant.find).count() {
        1 => Ok(text.replacen(&mutant.find, &mutant.replace, 1)),
        count => Err(format!(
            "mutant {} no longer applies: its text is {count} times in {}, not once",
            mutant.id,
            mutant.file.display()
        )),
    }
}

/// The copy of the tree in which mutants are built.
struct Workshop {
    root: PathBuf,
    tree: PathBuf,
    target: PathBuf,
}

impl Workshop {
    fn open(root: &Path) -> Result<Workshop, String> {
        let folder = root.join("target/mutants");
        let workshop =
            Workshop { root: root.to_owned(), tree: folder.join("tree"), target: folder.join("build") };
        workshop.copy_tree()?;
        Ok(workshop)
    }

    /// Copies what has changed; cargo builds only what looks new.
    fn copy_tree(&self) -> Result<(), String> {
        for name in COPIED {
            copy(&self.root.join(name), &self.tree.join(name))?;
        }
        for manifest in ["Cargo.toml", "sim/Cargo.toml"] {
            let manifest = self.tree.join(manifest);
            let text = std::fs::read_to_string(&manifest).map_err(|error| error.to_string())?;
            // Benches are not copied.
            let text = text.split("[[bench]]").next().unwrap_or_default().to_owned();
            write_if_new(&manifest, text.as_bytes())?;
        }
        Ok(())
    }

    /// The unmutated copy must pass what the mutants are hunted with, or their deaths prove nothing.
    fn control(&self, mutants: &[Mutant]) -> Result<(), String> {
        let hunts: BTreeSet<(Stage, &[String], &str)> =
            mutants.iter().map(|mutant| (mutant.world, &mutant.ignore[..], mutant.test.as_str())).collect();
        for (world, ignore, test) in hunts {
            let sound = Mutant {
                id: "(none)".to_owned(),
                rule: String::new(),
                file: PathBuf::new(),
                find: String::new(),
                replace: String::new(),
                world,
                ignore: ignore.to_vec(),
                test: test.to_owned(),
                canary: false,
            };
            self.build(&sound)?;
            let catch = self.hunt(&sound, world.control_seeds(), 0, None)?;
            if let (Some(seed), Some(rule)) = (catch.seed, catch.rule) {
                return Err(format!("without any mutant seed {seed} breaks {rule}: repair that first"));
            }
        }
        Ok(())
    }

    fn judge(&self, mutant: &Mutant, arguments: &Arguments) -> Result<Verdict, String> {
        let bar = ProgressBar::new_spinner().with_message(format!("{}: building", mutant.id));
        bar.enable_steady_tick(Duration::from_millis(200));
        let path = self.tree.join(&mutant.file);
        write_if_new(&path, mutate(&self.root, mutant)?.as_bytes())?;
        let built = self.build(mutant);
        bar.set_message(format!("{}: hunting", mutant.id));
        let verdict = built.and_then(|()| self.hunt_all(mutant, arguments));
        copy(&self.root.join(&mutant.file), &path)?;
        bar.finish_and_clear();
        verdict
    }

    /// As tests are built, so that dependencies which were built for them can be used. A mutant is built more often than it is
    /// run for long: optimised for release, the list takes four times as long.
    fn cargo(&self, command: &str) -> Command {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(&self.tree).args([command, "--quiet", "--target-dir"]).arg(&self.target);
        if std::env::var_os("CARGO_INCREMENTAL").is_none() {
            // Most of it was built for the mutant before.
            cargo.env("CARGO_INCREMENTAL", "1");
        }
        cargo
    }

    fn build(&self, mutant: &Mutant) -> Result<(), String> {
        let mut cargo = if mutant.world == Stage::Test {
            let mut cargo = self.cargo("test");
            cargo.args(["--lib", "--no-run"]);
            cargo
        } else {
            let mut cargo = self.cargo("build");
            cargo.args(["--workspace", "--bin", "rivven-sim"]);
            cargo
        };
        let output = cargo.output().map_err(|error| format!("cannot start cargo: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        Err(format!("mutant {} does not compile:\n{text}", mutant.id))
    }

    fn hunt_all(&self, mutant: &Mutant, arguments: &Arguments) -> Result<Verdict, String> {
        let catch = self.hunt(mutant, arguments.seeds, arguments.runs, None)?;
        if let (Some(folder), Some(scenario)) = (&arguments.plans, &catch.scenario) {
            std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
            super::save(&folder.join(format!("{}.json", mutant.id)), &scenario.to_text())?;
        }
        let mut ablated = BTreeMap::new();
        if let Some(shrunk) = catch.scenario.as_ref().filter(|_| arguments.ablate) {
            // What is not in the shrunk plan is not needed: the plan itself is the proof.
            let kinds: BTreeSet<FaultKind> = shrunk.faults.iter().map(|window| window.fault.kind()).collect();
            for kind in kinds {
                let without = self.hunt(mutant, arguments.seeds.min(ABLATION_SEEDS), 0, Some(kind))?;
                ablated.insert(kind, without.seed.is_some());
            }
        }
        Ok(Verdict { catch, ablated })
    }

    /// Lets the mutated program look for a seed on which it fails.
    fn hunt(
        &self,
        mutant: &Mutant,
        seeds: u64,
        runs: u64,
        without: Option<FaultKind>,
    ) -> Result<Catch, String> {
        if mutant.world == Stage::Test {
            return self.test(mutant);
        }
        let mut hunt = Command::new(self.target.join("debug/rivven-sim"));
        let seeds = if mutant.world == Stage::Replicas { seeds * REPLICAS_SEEDS } else { seeds };
        let seeds = seeds.to_string();
        match mutant.world {
            Stage::Pure => hunt.args(["hunt", "--seeds", &seeds, "--world", "pure"]),
            Stage::Turmoil => hunt.args(["hunt", "--seeds", &seeds, "--world", "turmoil"]),
            Stage::Swim => hunt.args(["swim", "--hunt", &seeds]),
            Stage::Replicas => hunt.args(["replicas", "--hunt", "--seeds", &seeds]),
            Stage::SmallMembers => hunt.args(["explore", "--hunt", "--world", "members"]),
            Stage::SmallReplicas => hunt.args(["explore", "--hunt", "--world", "replicas"]),
            Stage::Test => unreachable!("a test is not hunted"),
        };
        for rule in &mutant.ignore {
            hunt.args(["--ignore", rule]);
        }
        if matches!(mutant.world, Stage::Pure | Stage::Turmoil) {
            hunt.args(["--runs", &runs.to_string()]);
        }
        if let Some(kind) = without {
            hunt.args(["--without", kind.name()]);
        }
        let output =
            run_within(&mut hunt, HUNT_MAX).map_err(|error| format!("mutant {}: {error}", mutant.id))?;
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&text).map_err(|error| {
            let said = String::from_utf8_lossy(&output.stderr);
            format!("mutant {}: the hunt ended with {}: {error}\n{said}", mutant.id, output.status)
        })
    }

    /// Runs the test that must fail.
    fn test(&self, mutant: &Mutant) -> Result<Catch, String> {
        let began = Instant::now();
        let (program, test) = mutant.test.split_once('/').unwrap_or(("", &mutant.test));
        let mut cargo = self.cargo("test");
        if program.is_empty() {
            cargo.arg("--lib")
        } else {
            cargo.args(["--test", program])
        };
        cargo.args(["--", "--exact", test]);
        let output =
            run_within(&mut cargo, HUNT_MAX).map_err(|error| format!("mutant {}: {error}", mutant.id))?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !text.contains("running 1 test") {
            return Err(format!("mutant {}: there is no test {:?}", mutant.id, mutant.test));
        }
        let is_caught = !output.status.success();
        Ok(Catch {
            seeds: 1,
            seed: is_caught.then_some(1),
            rule: is_caught.then(|| "its test".to_owned()),
            seconds: began.elapsed().as_secs_f64(),
            ..Catch::default()
        })
    }
}

/// Runs a command, and ends it when it takes too long.
fn run_within(command: &mut Command, limit: Duration) -> Result<Output, String> {
    let spawned = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| format!("cannot start the hunt: {error}"))?;
    let started = Instant::now();
    loop {
        // What a hunt says fits into a pipe, so it never waits for us to read.
        match child.try_wait() {
            Ok(Some(_)) => return child.wait_with_output().map_err(|error| error.to_string()),
            Ok(None) if started.elapsed() > limit => {
                let _ = child.kill();
                return Err(format!("the hunt took longer than {limit:?} and was ended"));
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(10)),
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Copies a file or a folder, and touches only what differs.
fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let in_words = |error: std::io::Error| format!("cannot copy {}: {error}", from.display());
    if from.is_dir() {
        for entry in std::fs::read_dir(from).map_err(in_words)? {
            let name = entry.map_err(in_words)?.file_name();
            if name != "target" && name != "corpus" {
                copy(&from.join(&name), &to.join(&name))?;
            }
        }
        return Ok(());
    }
    if from.ends_with("sim/Cargo.toml") && to.exists() {
        // Written by hand below; copied anew only when the original has other dependencies.
        std::fs::remove_file(to).map_err(in_words)?;
    }
    write_if_new(to, &std::fs::read(from).map_err(in_words)?)
}

fn write_if_new(path: &Path, bytes: &[u8]) -> Result<(), String> {
    if std::fs::read(path).is_ok_and(|found| found == bytes) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(path, bytes));
    written.map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn print_row(mutant: &Mutant, catch: &Catch) {
    let name = if mutant.canary { format!("{} (canary)", mutant.id) } else { mutant.id.clone() };
    let caught = catch.rule.as_deref().unwrap_or("SURVIVES");
    let faults = catch.faults.map_or_else(|| "-".to_owned(), |faults| faults.to_string());
    println!(
        "{name:<34} {caught:<22} {:>6} {:>8.1} {faults:>7} {:>8.1}",
        catch.seed.unwrap_or(catch.seeds),
        catch.seconds,
        catch.shrink_seconds
    );
}

/// For each kind of fault: which mutants escape without it.
fn print_ablation(results: &[(&Mutant, Verdict)]) {
    let ids = |kind: &FaultKind, is_caught: bool| {
        let those = results.iter().filter(|(_, verdict)| verdict.ablated.get(kind) == Some(&is_caught));
        let names: Vec<&str> = those.map(|(mutant, _)| mutant.id.as_str()).collect();
        if names.is_empty() { "-".to_owned() } else { names.join(", ") }
    };
    println!("\nwithout these faults, these mutants escape; these die of something else");
    for kind in FaultKind::ALL {
        println!("{:<16} {}; {}", kind.name(), ids(kind, false), ids(kind, true));
    }
}

fn print_score(results: &[(&Mutant, Verdict)]) -> bool {
    let killed = results.iter().filter(|(_, verdict)| verdict.catch.seed.is_some()).count();
    let mut sizes: Vec<usize> = results.iter().filter_map(|(_, verdict)| verdict.catch.faults).collect();
    sizes.sort_unstable();
    println!("\nscore: {killed} of {} mutants killed", results.len());
    if let Some(median) = sizes.get(sizes.len() / 2) {
        println!("the median shrunk plan has {median} faults");
    }
    let is_slow = |(mutant, verdict): &&(&Mutant, Verdict)| {
        mutant.canary && verdict.catch.seed.is_none_or(|seed| seed > 10)
    };
    let slow: Vec<&str> = results.iter().filter(is_slow).map(|(mutant, _)| mutant.id.as_str()).collect();
    for id in &slow {
        println!("CANARY {id} lives longer than 10 seeds");
    }
    for (mutant, verdict) in results {
        if verdict.catch.seed.is_none() {
            println!("SURVIVES {}: {}", mutant.id, mutant.rule);
        }
    }
    killed == results.len() && slow.is_empty()
}
