//! Where a refusal points: the bytes that whoever reads it has to look at.

use super::super::{
    Flaw, GateRule, Line, Lines, PathMode, http2, normal_host, normal_path, split_field,
};
use super::*;

#[track_caller]
fn points(head: impl AsRef<[u8]>, rule: GateRule, offset: usize, field: Option<&str>) {
    let refusal = strict(head.as_ref()).unwrap_err();
    assert_eq!((refusal.rule, refusal.offset, refusal.field.as_deref()), (rule, offset, field));
}

#[test]
fn h1_07_a_request_line_that_is_none() {
    points(with_line("GET"), GateRule::G18, 0, Some("version"));
    points(with_line("GET /"), GateRule::G18, 4, Some("version"));
    points(with_line("GET HTTP/1.1"), GateRule::G18, 4, Some("version"));
    points(with_line("GET HTTP/1.0"), GateRule::G18, 4, Some("version"));
    points(with_line("GET /a HTTP/2"), GateRule::G18, 7, Some("version"));
    points(with_line("G\u{1}T /a HTTP/1.1"), GateRule::G17, 1, Some("method"));
    points(with_line("GET /a\u{1} HTTP/1.1"), GateRule::G3, 6, Some("target"));
    points(with_line("GET /a HTTP/1\u{1}"), GateRule::G18, 13, Some("version"));
}

#[test]
fn h1_08_a_target() {
    points(with_line("GET /a#b HTTP/1.1"), GateRule::G3, 6, Some("target"));
    points(with_line("GET /a%zz HTTP/1.1"), GateRule::G4, 6, Some("target"));
    points(with_line("GET /a?b=%zz HTTP/1.1"), GateRule::G4, 9, Some("target"));
    points(with_line("GET /a?b# HTTP/1.1"), GateRule::G3, 8, Some("target"));
    points(with_line("GET /a/../b HTTP/1.1"), GateRule::G5, 7, Some("target"));
    points(with_line("GET /ab/c//d HTTP/1.1"), GateRule::G5, 10, Some("target"));
    points(with_line("GET http://b/ HTTP/1.1"), GateRule::G1, 4, Some("target"));
    // A scheme begins with a letter; what doesn't is a path, and a bad one.
    points(with_line("GET 1http://b/ HTTP/1.1"), GateRule::G3, 4, Some("target"));
    points(with_line("GET a+b://b/ HTTP/1.1"), GateRule::G3, 4, Some("target"));
}

#[test]
fn h1_05_lines_and_fields() {
    let start = with_fields("").len() - 4;
    points("GET / HTTP/1.1\r\nHost: a\r\nA: b\nC: d\r\n\r\n", GateRule::G9, start + 4, None);
    points(with_fields("A: b\rc"), GateRule::G9, start + 4, None);
    points("GET / HTTP/1.1\r\nHost: a\r\n", GateRule::G9, start, None);
    points(with_fields("nothing"), GateRule::G11, start, None);
    points(with_fields("A\u{1}: b"), GateRule::G11, start + 1, None);
    points(with_fields("A: \u{1}"), GateRule::G12, start + 3, None);
    points(with_fields("A: b\r\nX(: b"), GateRule::G11, start + 6, Some("x("));
    points(with_fields("Content-Length: x"), GateRule::G8, start, Some("content-length"));
    points(with_fields("Host: b"), GateRule::G1, start, Some("host"));
    points("GET / HTTP/1.1\r\nA: b\r\n\r\n", GateRule::G1, 24, Some("host"));
    let both = "Transfer-Encoding: chunked\r\nContent-Length: 5";
    points(with_fields(both), GateRule::G8, start + 28, Some("transfer-encoding"));
}

#[test]
fn h1_05_the_empty_line_is_the_last_and_never_the_first() {
    let read = |head: &'static str| {
        Lines::new(head.as_bytes()).map(|line| line.map(|line| line.bytes)).collect::<Vec<_>>()
    };
    let flaw = |offset| Err(Flaw { rule: GateRule::G9, offset });
    assert_eq!(read("a\r\nb\r\n\r\n"), [Ok(&b"a"[..]), Ok(&b"b"[..])]);
    assert_eq!(read("\r\n"), [flaw(0)]);
    assert_eq!(read("a\r\n\r\nb"), [Ok(&b"a"[..]), flaw(3)]);
    assert_eq!(read("a\r\nbc\n"), [Ok(&b"a"[..]), flaw(5)]);
    assert_eq!(read("a\r\nb"), [Ok(&b"a"[..]), flaw(4)]);
    let line = Line { offset: 7, bytes: b"a: b\x01" };
    assert_eq!(split_field(line), Err(Flaw { rule: GateRule::G12, offset: 11 }));
}

#[test]
fn g1_hosts() {
    let at = |host: &'static str| normal_host(host).map_err(|flaw| (flaw.rule, flaw.offset));
    assert_eq!(at("a b"), Err((GateRule::G1, 1)));
    assert_eq!(at("ab:0"), Err((GateRule::G1, 2)));
    assert_eq!(at("ab:80"), Err((GateRule::G1, 2)));
    assert_eq!(at("[::]").as_deref(), Ok("[::]"));
    assert_eq!(at("[fe80::]").as_deref(), Ok("[fe80::]"));
    assert_eq!(at("[::1]:x"), Err((GateRule::G1, 5)));
}

#[test]
fn v5_a_policys_path() {
    let at = |path: &'static str| normal_path(path).map_err(|flaw| (flaw.rule, flaw.offset));
    assert_eq!(at("/a?b"), Err((GateRule::G3, 2)));
    assert_eq!(at("/a/%2f"), Err((GateRule::G5, 3)));
    assert_eq!(in_mode(PathMode::Merge, "/a//b").as_deref(), Ok("/a/b"));
}

#[test]
fn h2_in_a_field_list_it_is_the_index() {
    let fields: [(&[u8], &[u8]); 5] = [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":authority", b"a"),
        (b":path", b"/"),
        (b"te", b"gzip"),
    ];
    let refusal = http2(&fields, &GateProfile::default()).unwrap_err();
    assert_eq!((refusal.offset, refusal.field.as_deref()), (4, Some("te")));
    assert_eq!(refusal.to_string(), "invalid_request:G14 at field 4 (te)");
    let refusal = strict(&with_line("GET")).unwrap_err();
    assert_eq!(refusal.to_string(), "invalid_request:G18 at byte 0 (version)");
    assert_eq!(normal_host("a b").unwrap_err().to_string(), "G1 at byte 1");
}
