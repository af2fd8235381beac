//! Field lists: what the gate reads of a request, what is made of a canonical one, and what passes of an answer.

use bytes::Bytes;
use engine::gate::{GateRule, is_reserved};
use engine::request::{CanonicalRequest, is_grpc};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, Uri, Version};
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
/// What of a gRPC answer stands in its trailers, or in its head where that is all there is.
const GRPC_END: [&str; 3] = ["grpc-status", "grpc-message", "grpc-status-details-bin"];

/// Names and values, in their order.
pub(super) type Fields<'a> = SmallVec<[(&'a [u8], &'a [u8]); USUAL_FIELDS]>;

/// The fields that most requests have at most: their lists take no memory of their own.
const USUAL_FIELDS: usize = 24;

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
    let target = request.target_bytes();
    let path = PathAndQuery::from_maybe_shared(Bytes::copy_from_slice(target)).ok()?;
    // FAIL-CLOSED: a fragment would be cut off in silence.
    if path.as_str().as_bytes() != target {
        return None;
    }
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
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

/// What passes of an answer's head; none where it breaks the rules (G20). `ended`: nothing follows it.
pub(super) fn of_answer(head: Response<()>, ended: bool) -> Option<Response<()>> {
    let (mut parts, ()) = head.into_parts();
    if parts.headers.len() > limits::ANSWER_FIELDS {
        return None;
    }
    strip(&mut parts.headers);
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

fn strip(headers: &mut HeaderMap) {
    for name in OF_THE_HOP {
        headers.remove(name);
    }
    let reserved: Vec<HeaderName> =
        headers.keys().filter(|name| is_reserved(name.as_str().as_bytes())).cloned().collect();
    for name in reserved {
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
pub(super) fn trailers(mut all: HeaderMap, grpc: bool) -> Result<HeaderMap, GateRule> {
    use engine::gate::limits::{FIELDS, HEAD_BYTES};
    let bytes: usize = all.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if all.len() > FIELDS || bytes > HEAD_BYTES {
        return Err(GateRule::Limits);
    }
    let held: Vec<HeaderName> = all
        .keys()
        .filter(|name| !http1::trailer_passes(name.as_str().as_bytes(), grpc))
        .cloned()
        .collect();
    for name in held {
        all.remove(name);
    }
    if grpc {
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
    fn gr_06_an_answer_has_one_end() {
        let mut head = Response::new(());
        head.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        head.headers_mut().append("grpc-status", HeaderValue::from_static("0"));
        head.headers_mut().append("grpc-status", HeaderValue::from_static("7"));
        head.headers_mut().append("x-policyd-decision", HeaderValue::from_static("forged"));
        let going_on = of_answer(head.clone(), false).unwrap();
        assert!(!going_on.headers().contains_key("grpc-status"));
        let whole = of_answer(head.clone(), true).unwrap();
        assert_eq!(whole.headers().get_all("grpc-status").iter().count(), 1);
        assert!(!whole.headers().contains_key("x-policyd-decision"));
        let end = trailers(head.into_parts().0.headers, true).unwrap();
        assert_eq!(end.get_all("grpc-status").iter().count(), 1);
    }
}
