//! What the machine does: processor time of processes, and the disk alone.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::report::Disk;
use crate::Failure;

/// How many write at once: as many as there are nodes.
const WRITERS: u32 = 3;
/// The bytes of one write.
const BLOCK_BYTES: usize = 4096;
/// How much of each file is written over.
const SPAN_BYTES: u64 = 16 * 1024 * 1024;
/// The kernel counts processor time in hundredths of a second, on all Linux systems.
const TICKS_PER_SECOND: f64 = 100.0;

/// The processor time of some processes so far, in seconds, threads included.
pub fn cpu_of(processes: &[u32]) -> Result<f64, Failure> {
    processes.iter().map(|process| cpu(&format!("/proc/{process}/stat"))).sum()
}

/// The processor time of this process so far, in seconds.
pub fn own_cpu() -> Result<f64, Failure> {
    cpu("/proc/self/stat")
}

fn cpu(path: &str) -> Result<f64, Failure> {
    let stat = fs::read_to_string(path).map_err(|error| Failure(format!("{path}: {error}")))?;
    // The name of the program, in parentheses, may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let field =
        |number: usize| fields.split_whitespace().nth(number).and_then(|field| field.parse::<f64>().ok());
    let (user, system) = (field(11), field(12));
    let ticks = user.zip(system).map(|(user, system)| user + system);
    Ok(ticks.ok_or_else(|| Failure(format!("{path} cannot be read")))? / TICKS_PER_SECOND)
}

/// Measures the disk under `folder`.
pub fn measure_disk(folder: &Path, duration: Duration) -> Result<Disk, Failure> {
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            let path = folder.join(format!("probe-{number}"));
            thread::spawn(move || write_over(&path, duration))
        })
        .collect();
    let mut all = new_histogram()?;
    for writer in writers {
        let latencies = writer.join().map_err(|_| Failure("a writer panicked".to_owned()))??;
        all.add(latencies)?;
    }
    Ok(Disk { p50_us: all.value_at_quantile(0.5), p99_us: all.value_at_quantile(0.99) })
}

fn write_over(path: &Path, duration: Duration) -> Result<Histogram<u64>, Failure> {
    let file = fs::File::options().write(true).create(true).truncate(true).open(path)?;
    let block = [0x5a; BLOCK_BYTES];
    let step = u64::try_from(BLOCK_BYTES)?;
    for offset in (0..SPAN_BYTES).step_by(BLOCK_BYTES) {
        file.write_all_at(&block, offset)?;
    }
    file.sync_all()?;
    let (mut latencies, mut offset) = (new_histogram()?, 0);
    let ends = Instant::now() + duration;
    while Instant::now() < ends {
        let began = Instant::now();
        write_and_sync(&file, offset, &block)?;
        latencies.record(u64::try_from(began.elapsed().as_micros())?)?;
        offset = (offset + step) % SPAN_BYTES;
    }
    fs::remove_file(path)?;
    Ok(latencies)
}

fn write_and_sync(file: &fs::File, offset: u64, block: &[u8]) -> io::Result<()> {
    file.write_all_at(block, offset)?;
    file.sync_data()
}

/// Microseconds up to a minute, to three digits.
pub fn new_histogram() -> Result<Histogram<u64>, Failure> {
    Ok(Histogram::new_with_bounds(1, 60_000_000, 3)?)
}
