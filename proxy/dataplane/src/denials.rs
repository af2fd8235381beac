//! Denials as JSON lines: handed to the audit trail without waiting, and from there to stdout. What is lost is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use engine::gate::Refusal;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::audit::{Message, Reason};
use crate::limits;
use crate::line::{self, Object};
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

impl DenialRecord {
    /// One line of JSON, without its end. It says what `serde` would, in a fifth of the time: a client that is denied
    /// without pause must not cost more than one that is served.
    fn line(&self) -> Bytes {
        let mut out = Vec::with_capacity(line::USUAL_BYTES);
        let mut object = Object::begin(&mut out);
        object.text("time", &self.time);
        object.text("event", self.event);
        object.value("direction", &self.direction);
        object.text_or_null("workload", self.workload.as_deref());
        object.text("namespace", &self.namespace);
        object.text("pod", &self.pod);
        object.value("port", &self.port);
        object.text_or_null("service", self.service.as_deref());
        write_decision(&self.decision, &mut object);
        self.peer.write(object.field("peer"));
        match &self.request {
            Some(request) => request.write(object.field("request")),
            None => object.text_or_null("request", None),
        }
        object.value("gate", &self.gate);
        let detail = self.detail.as_ref();
        let detail = detail.map(|text| Recorder::default().text("detail", text.as_bytes()));
        object.text_or_null("detail", detail.as_deref());
        object.end();
        out.into()
    }
}

/// The fields of a decision, in the midst of a record's.
fn write_decision(decision: &snapshot::Answer, object: &mut Object<'_>) {
    object.text_or_null("id", decision.id.as_deref());
    object.text("verdict", decision.verdict);
    object.text("reason", &decision.reason);
    object.value("status", &decision.status);
    object.value("grpcStatus", &decision.grpc_status);
    object.text_or_null("server", decision.server.as_deref());
    object.text_or_null("route", decision.route.as_deref());
    object.text_or_null("authorization", decision.authorization.as_deref());
    object.text_or_null("origin", decision.origin.as_deref());
    object.text_or_null("table", decision.table.as_deref());
    object.text_or_null("facts", decision.facts.as_deref());
    object.value("audit", &decision.audit);
}

impl PeerRecord {
    fn write(&self, out: &mut Vec<u8>) {
        let mut object = Object::begin(out);
        object.text("ip", &self.ip);
        object.text_or_null("identity", self.identity.as_deref());
        object.text_or_null("podUID", self.pod_uid.as_deref());
        object.text_or_null("certificateSHA256", self.certificate_sha256.as_deref());
        object.end();
    }
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
        if let Err(reason) = self.hand_over(record.line(), record.workload.clone()) {
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
    pub(crate) fn start(
        metrics: Arc<Metrics>,
    ) -> std::io::Result<(Self, std::thread::JoinHandle<()>)> {
        crate::audit::start(crate::audit::Beginning::default(), metrics)
            .map(|(log, _, thread)| (log, thread))
    }
}

#[cfg(test)]
mod tests {
    use engine::gate::{self, GateProfile};
    use engine::{Decision, Form, Reason};

    use super::*;

    fn record(request: Option<RequestRecord>, gate: Option<GateRecord>) -> DenialRecord {
        let mut decision =
            snapshot::Answer::without_table(&Decision::refusal(Reason::NoRoute, Form::Grpc));
        decision.origin = Some("a \"b\"\n.yaml:1:1".to_owned());
        decision.audit = Some(snapshot::WouldBeAnswer {
            verdict: "deny",
            reason: "explicit_deny".to_owned(),
            authorizations: vec!["a".to_owned()],
        });
        let peer = PeerRecord { ip: "::1".to_owned(), ..PeerRecord::default() };
        DenialRecord {
            time: "2026".to_owned(),
            event: "denial",
            direction: Direction::Inbound,
            workload: None,
            namespace: "books".to_owned(),
            pod: "authors-0".to_owned(),
            port: 80,
            service: Some("books/é".to_owned()),
            decision,
            peer,
            request,
            gate,
            detail: Some("\u{202e}".to_owned()),
        }
    }

    #[test]
    fn au_05_a_line_says_what_its_record_does() {
        let profile = GateProfile::default();
        let head = b"GET /a%22?k=v HTTP/1.1\r\nhost: h\r\nx-env: \"p\"\r\n\r\n";
        let request = gate::http1(head, &profile).unwrap();
        let request = RequestRecord::new(&request, &["x-env".to_owned()], &["k".to_owned()]);
        let refusal = gate::http1(b"GET /../ HTTP/1.1\r\nhost: h\r\n\r\n", &profile).unwrap_err();
        for record in [record(None, None), record(Some(request), Some((&refusal).into()))] {
            let expected = line::json(&record);
            assert_eq!(record.line(), expected, "{}", expected.escape_ascii());
        }
    }
}
