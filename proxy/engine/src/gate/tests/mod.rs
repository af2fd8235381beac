//! The gate's table of odd heads (security A.3), and its two contracts as properties.

mod bounds;
mod http1;
mod http2;
mod lenient;
mod options;
mod places;
mod properties;
mod targets;
mod text;

use super::{CanonicalRequest, GateProfile, GateRule, PathMode, Refusal};

/// A head with `line` and one good `host`.
pub(super) fn with_line(line: &str) -> Vec<u8> {
    format!("{line}\r\nHost: a\r\n\r\n").into_bytes()
}

/// A good GET with `lines` after its `host`.
pub(super) fn with_fields(lines: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n").into_bytes()
}

pub(super) fn strict(head: &[u8]) -> Result<CanonicalRequest, Refusal> {
    super::http1(head, &GateProfile::default())
}

pub(super) fn in_mode(path_mode: PathMode, target: &str) -> Result<String, GateRule> {
    let profile = GateProfile { path_mode, ..GateProfile::default() };
    super::http1(&with_line(&format!("GET {target} HTTP/1.1")), &profile)
        .map(|request| request.target().to_owned())
        .map_err(|refusal| refusal.rule)
}

#[track_caller]
pub(super) fn refused(rule: GateRule, head: impl AsRef<[u8]>) {
    let head = head.as_ref();
    match strict(head) {
        Err(refusal) => assert_eq!(refusal.rule, rule, "{}: {refusal}", head.escape_ascii()),
        Ok(request) => panic!("accepted {}: {request:?}", head.escape_ascii()),
    }
}

#[track_caller]
pub(super) fn accepted(head: impl AsRef<[u8]>) -> CanonicalRequest {
    let head = head.as_ref();
    match strict(head) {
        Ok(request) => request,
        Err(refusal) => panic!("refused {}: {refusal}", head.escape_ascii()),
    }
}

pub(super) fn written(request: &CanonicalRequest) -> String {
    let mut out = Vec::new();
    request.write_http1_head(&mut out);
    String::from_utf8_lossy(&out).into_owned()
}
