//! What finds no room, counted exactly, and the records that the trail makes of itself.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::line;

/// Why a record was lost. A closed list: it is also a label of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The queue between requests and the spool had no room.
    QueueFull,
    /// Memory and disk had no room: policyd was away, or slow, for too long.
    SpoolFull,
    /// Memory had no room, and the disk can't be written.
    Disk,
    /// What lay on disk can't be read any more.
    Damaged,
    /// The store refused it twice.
    Refused,
    /// It was bigger than a record may be.
    TooBig,
}

/// All reasons, in the order in which counts are kept; it only grows at its end.
pub(super) const REASONS: [(Reason, &str); 6] = [
    (Reason::QueueFull, "queue_full"),
    (Reason::SpoolFull, "spool_full"),
    (Reason::Disk, "disk"),
    (Reason::Damaged, "damaged"),
    (Reason::Refused, "refused"),
    (Reason::TooBig, "too_big"),
];

/// How many were lost, by reason.
pub(super) type Counts = [u64; REASONS.len()];

pub(super) fn place(reason: Reason) -> usize {
    REASONS.iter().position(|(known, _)| *known == reason).unwrap_or_default()
}

/// Whose trail it is.
#[derive(Debug, Clone, Default)]
pub struct Writer {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The workload of the last record; none before the first table.
    pub workload: Option<String>,
}

#[derive(Serialize)]
struct Event<'a> {
    time: String,
    event: &'static str,
    workload: Option<&'a str>,
    namespace: &'a str,
    pod: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<&'a str>,
    reason: &'a str,
}

impl Writer {
    /// `count` records were lost.
    pub(super) fn lost(&self, count: u64, reason: &str) -> Bytes {
        line::json(&Event { count: Some(count), ..self.event("lost", reason) })
    }

    /// This chain follows another.
    pub(super) fn chain(&self, after: &str, reason: &str) -> Bytes {
        line::json(&Event { after: Some(after), ..self.event("chain", reason) })
    }

    fn event<'a>(&'a self, event: &'static str, reason: &'a str) -> Event<'a> {
        Event {
            time: clock::rfc3339(clock::now_millis()),
            event,
            workload: self.workload.as_deref(),
            namespace: &self.namespace,
            pod: &self.pod,
            count: None,
            after: None,
            reason,
        }
    }
}

/// What a record of loss tells, if it is one.
pub(super) fn told(json: &[u8]) -> Option<(Reason, u64)> {
    #[derive(Deserialize)]
    struct Told {
        event: String,
        count: Option<u64>,
        reason: Option<String>,
    }
    let Told { event, count, reason } = serde_json::from_slice(json).ok()?;
    let (reason, _) = REASONS.iter().find(|(_, word)| reason.as_deref() == Some(word))?;
    count.filter(|_| event == "lost").map(|count| (*reason, count))
}
