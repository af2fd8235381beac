//! Denials as JSON lines on stdout: one line each, written by a thread of its own, so that a slow reader of the log never
//! holds up a request. What is lost is counted.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use engine::gate::Refusal;
use engine::request::{CanonicalRequest, Version};
use serde::Serialize;

use crate::limits;
use crate::metrics::Metrics;

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

/// A request, without anything that policies don't read (design §10).
#[derive(Debug, Serialize)]
pub struct RequestRecord {
    version: &'static str,
    method: String,
    host: String,
    path: String,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
}

impl RequestRecord {
    /// Of the headers only those in `read`, lower case and sorted; of the query only the values of `keys`, decoded.
    pub fn new(request: &CanonicalRequest, read: &[String], keys: &[String]) -> Self {
        let is_read = |name: &str| read.binary_search_by(|known| known.as_str().cmp(name)).is_ok();
        Self {
            version: match request.version() {
                Version::Http10 => "1.0",
                Version::Http11 => "1.1",
                Version::Http2 => "2",
            },
            method: cut(request.method()),
            host: cut(request.host()),
            path: cut(request.path()),
            query: keys
                .iter()
                .flat_map(|key| request.query_values(key).map(move |value| (key, value)))
                .map(|(key, value)| (key.clone(), cut(&String::from_utf8_lossy(&value))))
                .collect(),
            headers: request
                .fields()
                .filter(|(name, _)| is_read(name))
                .map(|(name, value)| (name.to_owned(), cut(&String::from_utf8_lossy(value))))
                .collect(),
        }
    }
}

/// Which rule of the gate, and where.
#[derive(Debug, Serialize)]
pub struct GateRecord {
    rule: &'static str,
    offset: usize,
    field: Option<String>,
}

impl From<&Refusal> for GateRecord {
    fn from(refusal: &Refusal) -> Self {
        Self { rule: refusal.rule.as_str(), offset: refusal.offset, field: refusal.field.clone() }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(limits::RECORDED_BYTES).collect()
}

enum Message {
    Line(String),
    End,
}

/// Where denials are written to.
#[derive(Debug, Clone)]
pub struct DenialLog {
    lines: SyncSender<Message>,
    metrics: Arc<Metrics>,
}

impl DenialLog {
    /// Starts the writing thread; it ends after [`DenialLog::end`].
    pub fn start(metrics: Arc<Metrics>) -> io::Result<(Self, JoinHandle<()>)> {
        let (lines, waiting) = sync_channel(limits::DENIAL_LINES);
        let counted = Arc::clone(&metrics);
        let writer = std::thread::Builder::new()
            .name("denials".to_owned())
            .spawn(move || write_all(&waiting, &counted))?;
        Ok((Self { lines, metrics }, writer))
    }

    /// Writes a record, without waiting.
    pub fn write(&self, record: &DenialRecord) {
        let sent = serde_json::to_string(record)
            .map_err(|_| ())
            .and_then(|line| self.lines.try_send(Message::Line(line)).map_err(|_| ()));
        if sent.is_err() {
            self.metrics.lost_lines.add(1);
        }
    }

    /// Lets the thread end once everything before is written.
    pub fn end(&self) {
        // Waits for a place: this is the last message, at the end of the process.
        let _ = self.lines.send(Message::End);
    }
}

fn write_all(waiting: &Receiver<Message>, metrics: &Metrics) {
    let mut out = io::BufWriter::new(io::stdout());
    while let Ok(message) = waiting.recv() {
        let mut next = Some(message);
        while let Some(message) = next {
            let Message::Line(line) = message else {
                let _ = out.flush();
                return;
            };
            if writeln!(out, "{line}").is_err() {
                metrics.lost_lines.add(1);
            }
            next = waiting.try_recv().ok();
        }
        if out.flush().is_err() {
            metrics.lost_lines.add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use engine::gate::{self, GateProfile};

    use super::RequestRecord;

    #[test]
    fn only_what_policies_read_is_recorded() {
        let head =
            b"GET /a?k=a+b&secret=1&k=c%26d HTTP/1.1\r\nhost: h\r\nx-env: p\r\ncookie: s\r\n\r\n";
        let request = gate::http1(head, &GateProfile::default()).unwrap();
        let record = RequestRecord::new(&request, &["x-env".into()], &["k".into()]);
        let json = serde_json::to_value(&record).unwrap();
        assert_eq!(json["query"], serde_json::json!([["k", "a b"], ["k", "c&d"]]));
        assert_eq!(json["headers"], serde_json::json!([["x-env", "p"]]));
        assert_eq!(json["path"], "/a");
    }
}
