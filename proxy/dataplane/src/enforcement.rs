//! What is enforced now: one table with its facts and discovery, replaced whole; and how old it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arc_swap::ArcSwapOption;
use engine::{Facts, Moment, Table};
use tokio::sync::watch;

use crate::clock;
use crate::discovery::Discovery;

/// One state of policy for this pod.
#[derive(Debug)]
pub struct Enforced {
    /// What decides.
    pub table: Arc<Table>,
    /// What differs from pod to pod.
    pub facts: Arc<Facts>,
    /// Where this pod's services are.
    pub discovery: Arc<Discovery>,
    /// The workload, `deployment/emojivoto/voting`.
    pub workload: String,
    /// The table's version, `sha256:…`.
    pub table_version: String,
    /// SHA-256 of the facts' bytes, `sha256:…`.
    pub facts_version: String,
    vouched_millis: AtomicI64,
}

impl Enforced {
    /// As vouched for at `vouched_millis`.
    pub fn new(parts: Parts, vouched_millis: i64) -> Self {
        Self {
            table: parts.table,
            facts: parts.facts,
            discovery: parts.discovery,
            workload: parts.workload,
            table_version: parts.table_version,
            facts_version: parts.facts_version,
            vouched_millis: AtomicI64::new(vouched_millis),
        }
    }

    /// policyd says again that nothing newer is known.
    pub fn vouch(&self, at_millis: i64) {
        self.vouched_millis.fetch_max(at_millis, Ordering::Relaxed);
    }

    /// When policyd last vouched for it.
    pub fn vouched_millis(&self) -> i64 {
        self.vouched_millis.load(Ordering::Relaxed)
    }

    /// The time of a decision, with the table's age then.
    pub fn moment(&self) -> Moment {
        let now = clock::now();
        let age = now.0.saturating_sub(self.vouched_millis());
        Moment { now, table_age_millis: u64::try_from(age).unwrap_or(0) }
    }
}

/// What an assignment is read into.
#[derive(Debug)]
pub struct Parts {
    /// See [`Enforced`].
    pub table: Arc<Table>,
    /// See [`Enforced`].
    pub facts: Arc<Facts>,
    /// See [`Enforced`].
    pub discovery: Arc<Discovery>,
    /// See [`Enforced`].
    pub workload: String,
    /// See [`Enforced`].
    pub table_version: String,
    /// See [`Enforced`].
    pub facts_version: String,
}

/// The state in force. Empty until the first verified table: everything is denied until then (INV-1).
#[derive(Debug)]
pub struct Enforcement {
    current: ArcSwapOption<Enforced>,
    changed: watch::Sender<u64>,
}

impl Default for Enforcement {
    fn default() -> Self {
        Self { current: ArcSwapOption::empty(), changed: watch::Sender::new(0) }
    }
}

impl Enforcement {
    /// As of now.
    pub fn current(&self) -> Option<Arc<Enforced>> {
        self.current.load_full()
    }

    /// Enforces this from now on.
    pub fn replace(&self, enforced: Arc<Enforced>) {
        self.current.store(Some(enforced));
        self.changed.send_modify(|generation| *generation = generation.wrapping_add(1));
    }

    /// Changes with every replacement.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
