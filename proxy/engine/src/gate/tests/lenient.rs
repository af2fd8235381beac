//! Semantics T5: what still refuses where nothing is enforced, and what goes on unread.

use super::super::{GateProfile, GateRule, http1};
use super::{with_fields, with_line, written};

fn profile() -> GateProfile {
    GateProfile { lenient: true, ..GateProfile::default() }
}

#[track_caller]
fn would_refuse(rule: GateRule, head: &[u8]) -> String {
    let request = http1(head, &profile())
        .unwrap_or_else(|refusal| panic!("{}: {refusal}", head.escape_ascii()));
    assert_eq!(request.unread().map(|refusal| refusal.rule), Some(rule), "{}", head.escape_ascii());
    written(&request)
}

#[test]
fn t5_other_rules_are_recorded_and_the_request_goes_on_unchanged() {
    for (rule, target) in [
        (GateRule::G3, "foo"),
        (GateRule::G3, "/a b"),
        (GateRule::G3, "/\u{e4}#x"),
        (GateRule::G3, "*"),
        (GateRule::G3, "ftp://a/"),
        (GateRule::G4, "/%zz"),
        (GateRule::G4, "/?%00"),
        (GateRule::G5, "/a//../b?c"),
        (GateRule::G5, "/a%2fb"),
        (GateRule::G5, "http://a/%2e/%41"),
    ] {
        let line = format!("GET {target} HTTP/1.1\r\n");
        let text = would_refuse(rule, &with_line(line.trim_end()));
        assert!(text.starts_with(&line), "{text}");
    }
    for method in ["get", "TRACE", "G(T"] {
        let text = would_refuse(GateRule::G17, &with_line(&format!("{method} /%41 HTTP/1.1")));
        assert!(text.starts_with(&format!("{method} /%41 ")), "{text}");
    }
    for line in ["a b: c", "content_length: 5", "expect: x", "x_policyd_a: b"] {
        let rule = if line.starts_with("expect") { GateRule::G19 } else { GateRule::G11 };
        assert!(would_refuse(rule, &with_fields(line)).contains(line), "{line}");
    }
    let many = vec!["a: b"; 150].join("\r\n");
    would_refuse(GateRule::Limits, &with_fields(&many));
    would_refuse(GateRule::Limits, &with_fields(&format!("a: {}", "b".repeat(30 * 1024))));
}

#[test]
fn t5_a_target_that_is_no_text_goes_on_byte_for_byte() {
    let head = b"GET /\xe4?\xff HTTP/1.1\r\nHost: a\r\n\r\n";
    let request = http1(head, &profile()).unwrap();
    let mut out = Vec::new();
    request.write_http1_head(&mut out);
    assert!(out.starts_with(b"GET /\xe4?\xff HTTP/1.1\r\n"));
    assert_eq!(request.path(), "/\u{fffd}");
}

#[test]
fn t5_rules_that_guard_the_framing_bind() {
    let refused = |rule, head: &[u8]| {
        assert_eq!(
            http1(head, &profile()).map_err(|refusal| refusal.rule),
            Err(rule),
            "{}",
            head.escape_ascii()
        );
    };
    for (rule, lines) in [
        (GateRule::G1, "Host: b"),
        (GateRule::G8, "Content-Length: 1\r\nTransfer-Encoding: chunked"),
        (GateRule::G8, "Content-Length : 1"),
        (GateRule::G8, "Transfer-Encoding\t: chunked"),
        (GateRule::G1, "Host : a"),
        (GateRule::G9, "a: b\nc: d"),
        (GateRule::G11, " folded"),
        (GateRule::G11, "nothing"),
        (GateRule::G11, "a\0: b"),
        (GateRule::G12, "a: \0"),
        (GateRule::G14, "Connection: host"),
        (GateRule::G14, "Connection : host"),
    ] {
        refused(rule, &with_fields(lines));
    }
    refused(GateRule::G1, &with_line("GET http://b/ HTTP/1.1"));
    refused(GateRule::G3, &with_line("GET /\u{1} HTTP/1.1"));
    refused(GateRule::G3, &with_line("CONNECT a:1 HTTP/1.1"));
    refused(GateRule::G18, &with_line("GET / HTTP/1.2"));
    refused(GateRule::Limits, &with_fields(&format!("a: {}", "b".repeat(64 * 1024))));
}

#[test]
fn t5_upgrades_go_on_but_never_h2c() {
    let upgrade = |protocol: &str| {
        with_fields(&format!("Connection: upgrade\r\nUpgrade: {protocol}\r\nSec-WebSocket-Key: a"))
    };
    for protocol in ["websocket", "SPDY/3.1"] {
        let text = would_refuse(GateRule::G14, &upgrade(protocol));
        assert!(
            text.contains(&format!("upgrade: {protocol}\r\nconnection: upgrade\r\n")),
            "{text}"
        );
    }
    let request = http1(&upgrade("h2c"), &profile()).unwrap();
    assert!(request.unread().is_none() && request.upgrade().is_none());
}

#[test]
fn t7_what_applications_trust_is_removed_but_the_client_certificate_header() {
    let request = http1(
        &with_fields("X-Policyd-A: b\r\nL5d-Client-Id: c\r\nX-Forwarded-Client-Cert: d"),
        &profile(),
    );
    assert_eq!(
        request.unwrap().fields().collect::<Vec<_>>(),
        [("x-forwarded-client-cert", &b"d"[..])]
    );
}
