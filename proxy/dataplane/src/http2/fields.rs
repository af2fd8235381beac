//! Field lists: what the gate reads of a request, what is made of a canonical one, and what passes of an answer.

use bytes::Bytes;
use engine::gate::{GateRule, is_reserved};
use engine::request::{CanonicalRequest, is_grpc};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use smallvec::SmallVec;

use super::limits;
use crate::http1;

/// What belongs to a hop, or would name it.
const OF_THE_HOP: [&str; 8] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// The id of a decision of ours.
pub(super) const DECISION: &str = "x-policyd-decision";
/// Between two proxies, the version that a request had before HTTP/2 carried it.
const VERSION_CARRIED: HeaderName = HeaderName::from_static("x-policyd-version");
/// What of a gRPC answer stands in its trailers, or in its head where that is all there is.
const GRPC_END: [&str; 3] = ["grpc-status", "grpc-message", "grpc-status-details-bin"];

/// Names and values, in their order.
pub(super) type Fields<'a> = SmallVec<[(&'a [u8], &'a [u8]); USUAL_FIELDS]>;

/// The fields that most requests have at most: their lists take no memory of their own.
const USUAL_FIELDS: usize = 24;

/// What passes of trailers, and of the fields that are ours to set.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Passing {
    /// The message is one of gRPC, whose trailers are freer.
    pub(super) grpc: bool,
    /// It comes from a proxy of ours: the id of its decision stays.
    pub(super) decision: bool,
}

impl Passing {
    fn holds_back(self, name: &HeaderName) -> bool {
        is_reserved(name.as_str().as_bytes()) && !self.is_decision(name)
    }

    fn is_decision(self, name: &HeaderName) -> bool {
        self.decision && name.as_str() == DECISION
    }
}

/// The fields of a request as they came, pseudo-header fields first.
pub(super) fn of_request(parts: &http::request::Parts) -> Fields<'_> {
    let mut list = Fields::with_capacity(parts.headers.len() + 4);
    list.push((b":method", parts.method.as_str().as_bytes()));
    if let Some(scheme) = parts.uri.scheme() {
        list.push((b":scheme", scheme.as_str().as_bytes()));
    }
    if let Some(authority) = parts.uri.authority() {
        list.push((b":authority", authority.as_str().as_bytes()));
    }
    if let Some(path) = parts.uri.path_and_query() {
        list.push((b":path", path.as_str().as_bytes()));
    }
    let fields = parts.headers.iter();
    list.extend(fields.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())));
    list
}

/// The head that goes to an application, made of the canonical request and nothing else. None where HTTP/2 can't say
/// exactly that, which is so only for what nothing was decided on (semantics T5).
pub(super) fn to_application(request: &CanonicalRequest) -> Option<Request<()>> {
    head(request, Scheme::HTTP)
}

/// The same for an endpoint: what else was said of the hop goes on.
pub(super) fn to_endpoint(request: &CanonicalRequest) -> Option<Request<()>> {
    head(request, if request.scheme() == "https" { Scheme::HTTPS } else { Scheme::HTTP })
}

/// The same of a request of HTTP/1.1, which says so to a proxy of ours.
pub(crate) fn carried(request: &CanonicalRequest) -> Option<Request<()>> {
    let mut head = to_endpoint(request)?;
    head.headers_mut().insert(VERSION_CARRIED, HeaderValue::from_static("1.1"));
    Some(head)
}

fn head(request: &CanonicalRequest, scheme: Scheme) -> Option<Request<()>> {
    let target = request.target_bytes();
    let path = PathAndQuery::from_maybe_shared(Bytes::copy_from_slice(target)).ok()?;
    // FAIL-CLOSED: a fragment would be cut off in silence.
    if path.as_str().as_bytes() != target {
        return None;
    }
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(scheme);
    parts.authority = Some(Authority::try_from(request.authority()).ok()?);
    parts.path_and_query = Some(path);
    let mut head = Request::new(());
    *head.method_mut() = Method::from_bytes(request.method().as_bytes()).ok()?;
    *head.uri_mut() = Uri::from_parts(parts).ok()?;
    *head.version_mut() = Version::HTTP_2;
    let headers = head.headers_mut();
    for (name, value) in request.fields() {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_bytes(value).ok()?);
    }
    if request.accepts_trailers() {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    Some(head)
}

/// Whether an answer's content type is one of gRPC, whose trailers are freer.
pub(super) fn speaks_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| is_grpc(value.as_bytes()))
}

/// How an answer says that the request went, in terms of HTTP: 503 for a call of gRPC that fails at once by fault of its
/// server (ours: unknown, deadline, exhausted, internal, unavailable, data loss).
pub(super) fn outcome_of(head: &Response<()>, ended: bool) -> u16 {
    const FAILURES: [&[u8]; 6] = [b"2", b"4", b"8", b"13", b"14", b"15"];
    let status = head.headers().get(GRPC_END[0]).filter(|_| ended && speaks_grpc(head.headers()));
    if status.is_some_and(|status| FAILURES.contains(&status.as_bytes())) {
        return StatusCode::SERVICE_UNAVAILABLE.as_u16();
    }
    head.status().as_u16()
}

/// What passes of an answer's head; none where it breaks the rules (G20). `ended`: nothing follows it; `decision`: it comes
/// from a proxy of ours.
pub(super) fn of_answer(head: Response<()>, ended: bool, decision: bool) -> Option<Response<()>> {
    let (mut parts, ()) = head.into_parts();
    if parts.headers.len() > limits::ANSWER_FIELDS {
        return None;
    }
    strip(&mut parts.headers, Passing { decision, grpc: false });
    if speaks_grpc(&parts.headers) {
        // GR-06: one end, where ends belong.
        for name in GRPC_END {
            if ended {
                keep_one(&mut parts.headers, name);
            } else {
                parts.headers.remove(name);
            }
        }
    }
    parts.version = Version::HTTP_2;
    Some(Response::from_parts(parts, ()))
}

fn strip(headers: &mut HeaderMap, passing: Passing) {
    for name in OF_THE_HOP {
        headers.remove(name);
    }
    let held: Vec<HeaderName> =
        headers.keys().filter(|name| passing.holds_back(name)).cloned().collect();
    for name in held {
        headers.remove(name);
    }
}

fn keep_one(headers: &mut HeaderMap, name: &'static str) {
    if headers.get_all(name).iter().nth(1).is_some()
        && let Some(first) = headers.get(name).cloned()
    {
        headers.insert(name, first);
    }
}

/// The trailers that pass (G16).
///
/// # Errors
/// More of them than a head may have fields, or longer.
pub(super) fn trailers(mut all: HeaderMap, passing: Passing) -> Result<HeaderMap, GateRule> {
    use engine::gate::limits::{FIELDS, HEAD_BYTES};
    let bytes: usize = all.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if all.len() > FIELDS || bytes > HEAD_BYTES {
        return Err(GateRule::Limits);
    }
    let passes = |name: &HeaderName| {
        passing.is_decision(name) || http1::trailer_passes(name.as_str().as_bytes(), passing.grpc)
    };
    let held: Vec<HeaderName> = all.keys().filter(|name| !passes(name)).cloned().collect();
    for name in held {
        all.remove(name);
    }
    if passing.grpc {
        for name in GRPC_END {
            keep_one(&mut all, name);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use engine::gate::{GateProfile, http1 as read};

    use super::*;

    fn request(head: &str, lenient: bool) -> CanonicalRequest {
        let profile = GateProfile { lenient, ..GateProfile::default() };
        read(head.as_bytes(), &profile).unwrap()
    }

    #[test]
    fn what_was_decided_on_is_what_goes_on() {
        let request = request(
            "POST /a%7eb?c=%2f HTTP/1.1\r\nhost: A.b:8080\r\nx: 1\r\nx: 2\r\nx-policyd-a: 1\r\nte: trailers\r\n\
             connection: te\r\ncontent-length: 0\r\n\r\n",
            false,
        );
        let head = to_application(&request).unwrap();
        assert_eq!(head.uri().to_string(), "http://a.b:8080/a~b?c=%2f");
        let again = head.into_parts().0;
        let list = of_request(&again);
        let reread = engine::gate::http2(&list, &GateProfile::default()).unwrap();
        assert_eq!(reread, request);
    }

    #[test]
    fn t5_what_http2_would_change_does_not_go_on() {
        assert!(to_application(&request("GET /a#b HTTP/1.1\r\nhost: a\r\n\r\n", true)).is_none());
    }

    #[test]
    fn a_call_that_fails_at_once_is_no_fast_answer() {
        let head = |status: &'static str| {
            let head = Response::builder().header(CONTENT_TYPE, "application/grpc");
            head.header("grpc-status", status).body(()).unwrap()
        };
        assert_eq!((outcome_of(&head("14"), true), outcome_of(&head("14"), false)), (503, 200));
        assert_eq!(outcome_of(&head("5"), true), 200);
        assert_eq!(outcome_of(&Response::builder().status(404).body(()).unwrap(), true), 404);
    }

    #[test]
    fn gr_06_an_answer_has_one_end() {
        let mut head = Response::new(());
        head.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        head.headers_mut().append("grpc-status", HeaderValue::from_static("0"));
        head.headers_mut().append("grpc-status", HeaderValue::from_static("7"));
        head.headers_mut().append("x-policyd-decision", HeaderValue::from_static("forged"));
        let going_on = of_answer(head.clone(), false, false).unwrap();
        assert!(!going_on.headers().contains_key("grpc-status"));
        let whole = of_answer(head.clone(), true, false).unwrap();
        assert_eq!(whole.headers().get_all("grpc-status").iter().count(), 1);
        assert!(!whole.headers().contains_key("x-policyd-decision"));
        let ours = of_answer(head.clone(), true, true).unwrap();
        assert!(ours.headers().contains_key("x-policyd-decision"));
        let all = head.into_parts().0.headers;
        let end = trailers(all.clone(), Passing { grpc: true, decision: false }).unwrap();
        assert_eq!(end.get_all("grpc-status").iter().count(), 1);
        assert!(!end.contains_key("x-policyd-decision"));
        let end = trailers(all, Passing { grpc: true, decision: true }).unwrap();
        assert!(end.contains_key("x-policyd-decision"));
    }
}
