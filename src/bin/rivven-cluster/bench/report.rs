//! What `bench` prints: a table for people, or JSON.

use std::fmt;

use serde::Serialize;

/// Everything that was measured in one run.
#[derive(Debug, Serialize)]
pub struct Report {
    pub rows: Vec<Row>,
    pub disk: Disk,
}

/// One operation with so many callers.
#[derive(Debug, Serialize)]
pub struct Row {
    pub system: &'static str,
    /// What was done; of records, to how many partitions.
    pub op: String,
    pub clients: u64,
    pub ops_s: f64,
    pub p50_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
    /// On the three nodes together.
    pub cpu_s_per_op: f64,
    pub client_cpu_s_per_op: f64,
    /// On the three nodes together.
    pub fdatasync_per_op: f64,
    /// What the rows before and after it are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<Against>,
}

/// What a row is measured against, in the rows before and after it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Against {
    /// The same without the attack.
    Attack {
        by: String,
        /// How often the attackers did something.
        acts: u64,
        /// Of the rate before and after, from 0.
        share: f64,
    },
    /// The same without a recorder.
    Unrecorded {
        /// Of the rate before and after, from 0.
        share: f64,
    },
}

/// The disk alone: 4 KiB written over what was written before, then fdatasync, by three writers at once.
#[derive(Debug, Serialize)]
pub struct Disk {
    pub p50_us: u64,
    pub p99_us: u64,
}

/// Counts are far below 2^52.
pub fn in_float(count: u64) -> f64 {
    let high = u32::try_from(count >> 32).unwrap_or(u32::MAX);
    let low = u32::try_from(count & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    f64::from(high) * 4_294_967_296.0 + f64::from(low)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Disk { p50_us, p99_us } = self.disk;
        writeln!(f, "disk: pwrite + fdatasync of 4 KiB, three writers: p50 {p50_us} us, p99 {p99_us} us")?;
        writeln!(
            f,
            "{:<12}{:>8}{:>10}{:>10}{:>10}{:>10}{:>16}{:>16}{:>16}",
            "op",
            "clients",
            "ops/s",
            "p50 us",
            "p99 us",
            "p99.9 us",
            "nodes us/op",
            "client us/op",
            "syncs/op"
        )?;
        for row in &self.rows {
            let in_micros = |seconds: f64| seconds * 1e6;
            writeln!(
                f,
                "{:<12}{:>8}{:>10.0}{:>10}{:>10}{:>10}{:>16.1}{:>16.1}{:>16.3}",
                row.op,
                row.clients,
                row.ops_s,
                row.p50_us,
                row.p99_us,
                row.p999_us,
                in_micros(row.cpu_s_per_op),
                in_micros(row.client_cpu_s_per_op),
                row.fdatasync_per_op,
            )?;
            match &row.against {
                None => {}
                Some(Against::Attack { by, acts, share }) => writeln!(
                    f,
                    "  under attack ({by}, {acts} acts): {:.0} % of the undisturbed rate",
                    share * 100.0
                )?,
                Some(Against::Unrecorded { share }) => {
                    writeln!(f, "  recorded: {:.1} % of the rate without a recorder", share * 100.0)?;
                }
            }
        }
        Ok(())
    }
}
