//! What was done, counted.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

/// One client's count; added up at the end.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    statuses: BTreeMap<u16, u64>,
    nanos: Vec<u32>,
    failed: u64,
    pub(crate) reconnected: u64,
    pub(crate) resumed: u64,
}

impl Tally {
    /// An answer.
    pub(crate) fn answered(&mut self, status: u16, took: Duration) {
        *self.statuses.entry(status).or_default() += 1;
        self.nanos.push(u32::try_from(took.as_nanos()).unwrap_or(u32::MAX));
    }

    /// No answer.
    pub(crate) fn failed(&mut self) {
        self.failed += 1;
    }

    /// How many had none.
    pub(crate) fn failures(&self) -> u64 {
        self.failed
    }

    /// Adds another's.
    pub(crate) fn add(&mut self, other: Self) {
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.nanos.extend(other.nanos);
        self.failed += other.failed;
        self.reconnected += other.reconnected;
        self.resumed += other.resumed;
    }

    /// As one line.
    pub(crate) fn report(mut self, took: Duration) -> Value {
        self.nanos.sort_unstable();
        json!({
            "done": self.nanos.len(),
            "statuses": self.statuses,
            "failed": self.failed,
            "reconnected": self.reconnected,
            "resumed": self.resumed,
            "seconds": took.as_secs_f64(),
            "p50_us": self.micros(500),
            "p99_us": self.micros(990),
            "p999_us": self.micros(999),
        })
    }

    fn micros(&self, per_mille: usize) -> f64 {
        let place = (self.nanos.len() * per_mille / 1000).min(self.nanos.len().saturating_sub(1));
        f64::from(self.nanos.get(place).copied().unwrap_or(0)) / 1e3
    }
}
