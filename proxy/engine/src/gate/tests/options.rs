//! Fields that mean something to the gate, row by row.

use super::super::{GateProfile, GateRule};
use super::*;

#[test]
fn h1_12_expectations() {
    let request = accepted(with_fields("Content-Length: 1\r\nExpect: 100-Continue"));
    assert!(request.expects_continue() && !written(&request).contains("expect"));
    for value in [
        "y 100-continue",
        "200-ok",
        "",
        "100-continue, 100-continue",
        "100-continue\r\nExpect: 100-continue",
    ] {
        refused(GateRule::G19, with_fields(&format!("Expect: {value}")));
    }
    let old =
        accepted("POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n");
    assert!(!old.expects_continue());
}

#[test]
fn h1_13_headers_that_policies_read() {
    let profile = GateProfile {
        policy_headers: vec!["x-env".to_owned(), "x_old".to_owned()],
        ..GateProfile::default()
    };
    let rule = |lines: &str| {
        super::super::http1(&with_fields(lines), &profile).map_err(|refusal| refusal.rule)
    };
    for name in ["x_env", "X_Env", "x-old"] {
        assert_eq!(rule(&format!("{name}: a")), Err(GateRule::G11), "{name}");
    }
    let twice = rule("X-Env: a\r\nx-env: b\r\nX_OLD: c").unwrap();
    assert_eq!(twice.header_values("x-env").collect::<Vec<_>>(), [b"a", b"b"]);
    assert_eq!(twice.header_values("x_old").collect::<Vec<_>>(), [b"c"]);
    accepted(with_fields("x_env: a"));
}

#[test]
fn h1_13_reserved_headers_are_removed_before_anybody_sees_them() {
    let lines = "X-Policyd-Identity: a\r\nL5d-Client-Id: b\r\nX-Forwarded-Client-Cert: c\r\nX-Policyd-: d\r\nA: e";
    let request = accepted(with_fields(lines));
    assert_eq!(request.fields().collect::<Vec<_>>(), [("a", &b"e"[..])]);
    for name in ["x_policyd_identity", "l5d_client_id", "X_Forwarded-Client_Cert"] {
        refused(GateRule::G11, with_fields(&format!("{name}: a")));
    }
}

#[test]
fn h1_14_connection_options() {
    let profile =
        GateProfile { policy_headers: vec!["x-env".to_owned()], ..GateProfile::default() };
    for option in [
        "host",
        "Content-Length, x-mesh-identity",
        "transfer-encoding",
        "close, Authorization",
        "x-policyd-a",
        "l5d-client-id",
        "x-forwarded-client-cert",
        "X-Env",
        "a b",
        "\"a\"",
        "a;b",
        "x\u{e4}",
    ] {
        let refusal = super::super::http1(&with_fields(&format!("Connection: {option}")), &profile)
            .unwrap_err();
        assert_eq!(
            (refusal.rule, refusal.field.as_deref()),
            (GateRule::G14, Some("connection")),
            "{option}"
        );
    }
    let lines = "A: b\r\nConnection: a , keep-alive,\r\nconnection: C\r\nC: d\r\nKeep-Alive: 1\r\nProxy-Connection: x\r\nTE: gzip\r\nTrailer: y\r\nD: e";
    let request = accepted(with_fields(lines));
    assert_eq!(request.fields().collect::<Vec<_>>(), [("d", &b"e"[..])]);
    assert!(!accepted(with_fields("Connection: close")).keep_alive());
    assert!(
        written(&accepted(with_fields("TE: gzip, Trailers")))
            .contains("te: trailers\r\nconnection: te\r\n")
    );
}

#[test]
fn h1_17_upgrades() {
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let websocket = |more: &str| {
        with_fields(&format!("Connection: Upgrade\r\nUpgrade: WebSocket\r\n{key}{more}"))
    };
    refused(GateRule::G14, websocket(""));
    let profile = GateProfile { websocket: true, ..GateProfile::default() };
    let request = super::super::http1(&websocket(""), &profile).unwrap();
    assert_eq!(request.upgrade(), Some("websocket"));
    assert!(written(&request).contains("upgrade: websocket\r\nconnection: upgrade\r\n"));
    for more in [
        &format!("\r\n{key}"),
        "\r\nContent-Length: 1",
        "\r\nUpgrade: x",
        "\r\nTransfer-Encoding: chunked",
    ] {
        assert_eq!(
            super::super::http1(&websocket(more), &profile).unwrap_err().rule,
            GateRule::G14,
            "{more}"
        );
    }
    for lines in [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
        "Connection: Upgrade\r\nUpgrade: h2c, websocket",
        "Connection: Upgrade\r\nUpgrade: TLS/1.0",
        "Upgrade: websocket",
    ] {
        let request = super::super::http1(&with_fields(lines), &profile).unwrap();
        assert_eq!((request.upgrade(), request.fields().count()), (None, 0), "{lines}");
        assert!(!written(&request).contains("pgrade"));
    }
}

#[test]
fn v2_cookie_lines_are_one_value() {
    let request = accepted(with_fields("Cookie: a=1\r\nB: c\r\nCOOKIE: d=2"));
    assert_eq!(request.header_values("cookie").collect::<Vec<_>>(), [b"a=1; d=2"]);
    assert!(written(&request).contains("cookie: a=1; d=2\r\nb: c\r\n"));
    let three = accepted(with_fields("Cookie: a=1\r\nCookie:\r\nCookie: d=2"));
    assert_eq!(three.header_values("cookie").collect::<Vec<_>>(), [b"a=1; d=2"]);
    let one = accepted(with_fields("Cookie: a=1; d=2"));
    assert_eq!(one, three);
}

#[test]
fn r2_content_types_of_grpc() {
    for value in
        ["application/grpc", "Application/GRPC", "application/grpc+proto", "application/grpc;a=b"]
    {
        assert!(
            accepted(with_fields(&format!("Content-Type: {value}"))).is_grpc_content_type(),
            "{value}"
        );
    }
    for value in [
        "application/grpc-web",
        "application/grpcx",
        "text/plain",
        "application/grpc\r\nContent-Type: a/b",
    ] {
        assert!(
            !accepted(with_fields(&format!("Content-Type: {value}"))).is_grpc_content_type(),
            "{value}"
        );
    }
    assert!(!accepted(with_fields("A: b")).is_grpc_content_type());
}

#[test]
fn h1_15_trailers_are_accepted_only_where_te_says_so() {
    assert!(accepted(with_fields("TE: gzip, Trailers")).accepts_trailers());
    assert!(!accepted(with_fields("TE: gzip")).accepts_trailers());
    assert!(!accepted(with_fields("A: b")).accepts_trailers());
}

#[test]
fn requests_are_equal_where_the_same_is_decided_on_and_forwarded() {
    let one = accepted(with_fields("A: b"));
    assert_eq!(one, accepted(with_fields("a:  b\r\nConnection: close")));
    for other in
        ["A: c", "B: b", "A: b\r\nA: b", "A: b\r\nTE: trailers", "A: b\r\nContent-Length: 0"]
    {
        assert_ne!(one, accepted(with_fields(other)), "{other}");
    }
    assert_ne!(one, accepted("GET /? HTTP/1.1\r\nHost: a\r\nA: b\r\n\r\n"));
    assert_ne!(one, accepted("GET / HTTP/1.1\r\nHost: a:80\r\nA: b\r\n\r\n"));
    assert_ne!(one, accepted("HEAD / HTTP/1.1\r\nHost: a\r\nA: b\r\n\r\n"));
}
