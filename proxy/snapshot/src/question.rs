//! A question as JSON: who asks what of which port, and when. Explaining and testing build a connection and an arrival
//! from it with the gate and the engine that enforce.

use std::{net::IpAddr, sync::Arc};

use engine::{
    Arrival, Connection, Facts, Moment, Peer, Reading, Table, Timestamp,
    detect::{FirstLine, Line},
    gate::{self, Refusal},
    identity::SpiffeId,
    request::CanonicalRequest,
};
use serde::Deserialize;

use crate::{QuestionError, read};

const HOUR_MILLIS: i64 = 3_600_000;

/// What somebody wants to know.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Question {
    port: u16,
    at: i64,
    #[serde(default)]
    table_age_millis: u64,
    #[serde(default)]
    facts: FactsField,
    from: From,
    request: Request,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct FactsField {
    uid: String,
    addresses: Vec<IpAddr>,
    probe_addresses: Vec<IpAddr>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct From {
    ip: IpAddr,
    identity: Option<String>,
    #[serde(rename = "podUID")]
    pod_uid: Option<String>,
    #[serde(rename = "certificateSHA256")]
    certificate_sha256: Option<String>,
    not_before: Option<i64>,
    not_after: Option<i64>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
enum Request {
    Http(Http),
    /// Base64 of an HTTP/1.1 head.
    Raw(String),
    Grpc(Grpc),
    Tcp(Tcp),
    Tls(#[allow(dead_code, reason = "read so that other keys are refused")] Tls),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Http {
    version: String,
    method: String,
    #[serde(default)]
    scheme: Option<String>,
    host: Option<String>,
    path: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Grpc {
    service: String,
    method: String,
    host: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tcp {
    #[serde(default)]
    silent: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
    /// Says what was seen; nothing is decided by it (security rule TLS-15).
    #[serde(default)]
    #[allow(dead_code, reason = "read so that other keys are refused")]
    sni: Option<String>,
}

/// A question put to a table: the connection, and what the gate made of the request.
#[derive(Debug)]
pub struct Asked {
    /// The connection.
    pub connection: Connection,
    /// When.
    pub moment: Moment,
    arrived: Arrived,
}

#[derive(Debug)]
enum Arrived {
    Http(CanonicalRequest),
    Refused(Refusal),
    Bytes,
    Silence,
    ForeignTls,
}

impl Question {
    /// Reads one.
    pub fn parse(json: &[u8]) -> Result<Self, QuestionError> {
        serde_json::from_slice(json).map_err(|error| QuestionError::Malformed(error.to_string()))
    }

    /// Puts it to a table.
    pub fn put(&self, table: &Arc<Table>) -> Result<Asked, QuestionError> {
        let facts = Facts {
            uid: self.facts.uid.as_str().into(),
            addresses: self.facts.addresses.clone(),
            probe_addresses: self.facts.probe_addresses.clone(),
        };
        let peer = self.from.peer(self.at)?;
        let connection =
            Connection::open(Arc::clone(table), Arc::new(facts), self.port, self.from.ip, peer);
        let arrived = self.request.arrive(&connection)?;
        let moment = Moment { now: Timestamp(self.at), table_age_millis: self.table_age_millis };
        Ok(Asked { connection, moment, arrived })
    }
}

impl Asked {
    /// What arrived.
    pub fn arrival(&self) -> Arrival<'_> {
        match &self.arrived {
            Arrived::Http(request) => Arrival::Http(request),
            Arrived::Refused(refusal) => Arrival::Refused(refusal),
            Arrived::Bytes => Arrival::Bytes,
            Arrived::Silence => Arrival::Silence,
            Arrived::ForeignTls => Arrival::ForeignTls,
        }
    }
}

impl From {
    fn peer(&self, at: i64) -> Result<Option<Peer>, QuestionError> {
        let Some(identity) = &self.identity else { return Ok(None) };
        let invalid = |field, value: &str, expected| QuestionError::Invalid {
            field,
            value: value.into(),
            expected,
        };
        let certificate_sha256 = match &self.certificate_sha256 {
            Some(text) => read::sha256("certificateSHA256", text)
                .map_err(|_| invalid("from.certificateSHA256", text, "64 lower-case hex digits"))?,
            None => [0; 32],
        };
        Ok(Some(Peer {
            identity: SpiffeId::parse(identity)
                .map_err(|_| invalid("from.identity", identity, "a SPIFFE ID"))?,
            pod_uid: self.pod_uid.as_deref().map(Into::into),
            certificate_sha256,
            not_before: Timestamp(self.not_before.unwrap_or(at - HOUR_MILLIS)),
            not_after: Timestamp(self.not_after.unwrap_or(at + HOUR_MILLIS)),
        }))
    }
}

impl Request {
    fn arrive(&self, connection: &Connection) -> Result<Arrived, QuestionError> {
        let port = connection.port();
        // Where nothing is read, a request is bytes, unless it may be a declared probe (T6).
        let opaque = port.reading() == Reading::Opaque;
        let gated = match self {
            Self::Tcp(Tcp { silent: false }) => return Ok(Arrived::Bytes),
            Self::Tcp(Tcp { silent: true }) => return Ok(Arrived::Silence),
            Self::Tls(_) => return Ok(Arrived::ForeignTls),
            _ if opaque && port.probes().is_empty() => return Ok(Arrived::Bytes),
            Self::Http(http) if http.version == "2" => http2(&http.fields(), port.profile()),
            Self::Grpc(grpc) => http2(&grpc.fields(), port.profile()),
            Self::Http(http) => gate::http1(&http.head()?, port.profile()),
            Self::Raw(text) => match decode_base64(text)? {
                head if is_http(&head) => gate::http1(&head, port.profile()),
                _ => return Ok(Arrived::Bytes),
            },
        };
        Ok(match gated {
            Ok(request) => Arrived::Http(request),
            Err(_) if opaque => Arrived::Bytes,
            Err(refusal) => Arrived::Refused(refusal),
        })
    }
}

/// What the detection would make of these bytes (T1). A line that never ends is no request either.
fn is_http(head: &[u8]) -> bool {
    let mut line = FirstLine::default();
    line.feed(head) == Line::Http
}

fn http2(
    fields: &[(String, String)],
    profile: &gate::GateProfile,
) -> Result<CanonicalRequest, Refusal> {
    let fields: Vec<(&[u8], &[u8])> =
        fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    gate::http2(&fields, profile)
}

fn field(name: &str, value: &str) -> (String, String) {
    (name.into(), value.into())
}

impl Http {
    /// The bytes of an HTTP/1 head.
    fn head(&self) -> Result<Vec<u8>, QuestionError> {
        if self.version != "1.1" && self.version != "1.0" {
            return Err(QuestionError::Invalid {
                field: "request.http.version",
                value: self.version.clone(),
                expected: "1.0, 1.1 or 2",
            });
        }
        let mut head = format!("{} {} HTTP/{}\r\n", self.method, self.path, self.version);
        let host = self.host.iter().map(|host| ("host", host.as_str()));
        let headers = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in host.chain(headers) {
            head.extend([name, ": ", value, "\r\n"]);
        }
        head.push_str("\r\n");
        Ok(head.into_bytes())
    }

    fn fields(&self) -> Vec<(String, String)> {
        let scheme = self.scheme.as_deref().unwrap_or("http");
        let mut fields = vec![field(":method", &self.method), field(":scheme", scheme)];
        fields.extend(self.host.iter().map(|host| field(":authority", host)));
        fields.push(field(":path", &self.path));
        fields.extend(self.headers.iter().cloned());
        fields
    }
}

impl Grpc {
    fn fields(&self) -> Vec<(String, String)> {
        let mut fields = vec![
            field(":method", "POST"),
            field(":scheme", "http"),
            field(":authority", &self.host),
            field(":path", &format!("/{}/{}", self.service, self.method)),
            field("content-type", "application/grpc"),
            field("te", "trailers"),
        ];
        fields.extend(self.headers.iter().cloned());
        fields
    }
}

/// Standard base64 with padding, as JSON carries bytes.
fn decode_base64(text: &str) -> Result<Vec<u8>, QuestionError> {
    use base64::{Engine, prelude::BASE64_STANDARD};
    BASE64_STANDARD.decode(text).map_err(|_| QuestionError::Invalid {
        field: "request.raw",
        value: text.chars().take(80).collect(),
        expected: "base64",
    })
}
