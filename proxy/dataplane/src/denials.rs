//! Denials as JSON lines: handed to the audit trail without waiting, and from there to stdout, which has a thread of its
//! own, so that a slow reader of the log holds up neither requests nor the trail. What is lost is counted.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use bytes::Bytes;
use engine::gate::Refusal;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::audit::{Message, Reason};
use crate::limits;
use crate::line;
use crate::metrics::Metrics;
pub use crate::recorded::RequestRecord;
use crate::recorded::{Cut, Recorder};

/// Which side of the pod it happened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Somebody called this pod.
    Inbound,
    /// This pod called somebody.
    Outbound,
}

/// One line: a decision (format reference) and what it was about.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DenialRecord {
    /// RFC 3339, UTC, milliseconds.
    pub time: String,
    /// `denial`; `would_deny` where it went on and an Audit policy or an `audit` default would have refused it.
    pub event: &'static str,
    /// Which side.
    pub direction: Direction,
    /// `deployment/emojivoto/voting`; null before the first table.
    pub workload: Option<String>,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The port of the pod, or of the endpoint.
    pub port: u16,
    /// Outbound: `namespace/name:port`.
    pub service: Option<String>,
    /// The decision itself, its fields side by side with these.
    #[serde(flatten)]
    pub decision: snapshot::Answer,
    /// The other end.
    pub peer: PeerRecord,
    /// The request as decided on; null for bytes and for what the gate refused.
    pub request: Option<RequestRecord>,
    /// What the gate found.
    pub gate: Option<GateRecord>,
    /// What no other field says.
    #[serde(serialize_with = "cut_detail")]
    pub detail: Option<String>,
}

/// The other end of a connection.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerRecord {
    /// Its address.
    pub ip: String,
    /// Its SPIFFE ID, if it proved one.
    pub identity: Option<String>,
    /// From its certificate.
    #[serde(rename = "podUID")]
    pub pod_uid: Option<String>,
    /// Of its certificate.
    #[serde(rename = "certificateSHA256")]
    pub certificate_sha256: Option<String>,
}

#[expect(clippy::ref_option, reason = "serde calls it")]
fn cut_detail<S: serde::Serializer>(detail: &Option<String>, to: S) -> Result<S::Ok, S::Error> {
    detail.as_ref().map(|text| Recorder::default().text("detail", text.as_bytes())).serialize(to)
}

/// Which rule of the gate, and where.
#[derive(Debug, Serialize)]
pub struct GateRecord {
    rule: &'static str,
    offset: usize,
    field: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cut: Vec<Cut>,
}

impl From<&Refusal> for GateRecord {
    fn from(refusal: &Refusal) -> Self {
        let mut whole = Recorder::default();
        let field = refusal.field.as_ref().map(|field| whole.text("field", field.as_bytes()));
        let (rule, offset) = (refusal.rule.as_str(), refusal.offset);
        Self { rule, offset, field, cut: whole.cut }
    }
}

/// Where denials are handed to.
#[derive(Debug, Clone)]
pub struct DenialLog {
    records: mpsc::Sender<Message>,
    queued: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

impl DenialLog {
    /// Into this queue; `queued` counts its bytes.
    pub(crate) fn new(
        records: mpsc::Sender<Message>,
        queued: Arc<AtomicUsize>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { records, queued, metrics }
    }

    /// Writes a record, without waiting.
    pub fn write(&self, record: &DenialRecord) {
        if let Err(reason) = self.hand_over(line::json(record), record.workload.clone()) {
            self.metrics.lost_lines.add(1);
            self.metrics.audit.missed(reason);
        }
    }

    fn hand_over(&self, record: Bytes, workload: Option<String>) -> Result<(), Reason> {
        let length = record.len();
        if record.is_empty() || length > limits::RECORD_BYTES {
            return Err(Reason::TooBig);
        }
        let before = self.queued.fetch_add(length, Ordering::Relaxed);
        let fits = before + length <= limits::DENIAL_QUEUE_BYTES;
        if fits && self.records.try_send(Message::Record(record, workload)).is_ok() {
            return Ok(());
        }
        self.queued.fetch_sub(length, Ordering::Relaxed);
        Err(Reason::QueueFull)
    }

    /// Lets the threads end once everything before is written. Not from within a runtime: it waits for a place.
    pub fn end(&self) {
        // This is the last message, at the end of the process.
        let _ = self.records.blocking_send(Message::End);
    }

    /// With a spool in memory only.
    #[cfg(test)]
    pub(crate) fn start(metrics: Arc<Metrics>) -> io::Result<(Self, JoinHandle<()>)> {
        crate::audit::start(crate::audit::Beginning::default(), metrics)
            .map(|(log, _, thread)| (log, thread))
    }
}

/// Lines on their way to stdout.
#[derive(Debug)]
pub(crate) struct Lines {
    /// None is the end.
    waiting: SyncSender<Option<Bytes>>,
    metrics: Arc<Metrics>,
}

impl Lines {
    /// Starts the thread that writes to `out`; it ends after [`Lines::end`].
    pub(crate) fn start(
        out: impl Write + Send + 'static,
        metrics: Arc<Metrics>,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let (waiting, lines) = sync_channel(limits::DENIAL_LINES);
        let counted = Arc::clone(&metrics);
        let writer = std::thread::Builder::new()
            .name("denials".to_owned())
            .spawn(move || write_all(out, &lines, &counted))?;
        Ok((Self { waiting, metrics }, writer))
    }

    /// Without waiting.
    pub(crate) fn write(&self, line: Bytes) {
        if self.waiting.try_send(Some(line)).is_err() {
            self.metrics.lost_lines.add(1);
        }
    }

    pub(crate) fn end(&self) {
        let _ = self.waiting.send(None);
    }
}

fn write_all(out: impl Write, waiting: &Receiver<Option<Bytes>>, metrics: &Metrics) {
    let mut out = io::BufWriter::new(out);
    while let Ok(message) = waiting.recv() {
        let mut next = Some(message);
        while let Some(message) = next {
            let Some(line) = message else {
                let _ = out.flush();
                return;
            };
            if out.write_all(&line).and_then(|()| out.write_all(b"\n")).is_err() {
                metrics.lost_lines.add(1);
            }
            next = waiting.try_recv().ok();
        }
        if out.flush().is_err() {
            metrics.lost_lines.add(1);
        }
    }
}
