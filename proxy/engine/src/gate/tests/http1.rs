//! HTTP/1 heads, row by row; a test begins with the id of its row.

use super::super::{GateProfile, GateRule, PathMode};
use super::*;
use crate::request::{Framing, Version};

#[test]
fn an_ordinary_request_is_read_and_written() {
    let head = b"POST /a/b?x=1 HTTP/1.1\r\nHost: Books.Example.:8080\r\nContent-Length: 3\r\nX-Env: \t a b \r\n\r\n";
    let request = accepted(head);
    assert_eq!(
        (request.version(), request.method(), request.scheme()),
        (Version::Http11, "POST", "http")
    );
    assert_eq!((request.host(), request.authority()), ("books.example", "books.example:8080"));
    assert_eq!(
        (request.path(), request.query(), request.target()),
        ("/a/b", Some("x=1"), "/a/b?x=1")
    );
    assert_eq!(request.header_values("x-env").collect::<Vec<_>>(), [b"a b"]);
    assert_eq!((request.framing(), request.has_body()), (Framing::Length(3), true));
    assert!(request.keep_alive() && !request.expects_continue() && request.unread().is_none());
    let expected = "POST /a/b?x=1 HTTP/1.1\r\nhost: books.example:8080\r\ncontent-length: 3\r\nx-env: a b\r\n\r\n";
    assert_eq!(written(&request), expected);
}

#[test]
fn h1_01_content_length_and_transfer_encoding() {
    refused(GateRule::G8, with_fields("Content-Length: 5\r\nTransfer-Encoding: chunked"));
    refused(GateRule::G8, with_fields("Transfer-Encoding: chunked\r\nContent-Length: 5"));
    assert_eq!(accepted(with_fields("Transfer-Encoding: Chunked")).framing(), Framing::Chunked);
}

#[test]
fn h1_02_any_other_transfer_encoding() {
    for value in [
        ",chunked",
        "chunked,",
        "chunked, identity",
        "gzip, chunked",
        "xchunked",
        "identity",
        "gzip",
        "",
        "chunked;a=b",
        "\"chunked\"",
        "chunked\u{a0}",
        "chunked\r\nTransfer-Encoding: chunked",
        "cow\r\nTransfer-Encoding: chunked",
        "chunked chunked",
    ] {
        refused(GateRule::G8, with_fields(&format!("Transfer-Encoding: {value}")));
    }
    for value in ["\u{b}chunked", "chunked\u{c}", "chunked\0", "\u{7f}chunked"] {
        refused(GateRule::G12, with_fields(&format!("Transfer-Encoding: {value}")));
    }
    refused(GateRule::G11, with_fields("Transfer_Encoding: chunked"));
    refused(GateRule::G11, with_fields("Content-Length: 5\r\nTransfer_Encoding: chunked"));
    refused(GateRule::G8, with_fields("Transfer-Encoding:\r\n chunked"));
    refused(GateRule::G11, with_fields("Transfer-Encoding : chunked"));
    refused(GateRule::G8, "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
}

#[test]
fn h1_03_content_length() {
    for value in [
        "5\r\nContent-Length: 6",
        "5\r\nContent-Length: 5",
        "5, 5",
        "5,6",
        "+5",
        "-0",
        "-1",
        "0x5",
        "1_0",
        "005",
        "00",
        "",
        "5 5",
        "18446744073709551617",
        "9223372036854775808",
        "5.0",
        "\u{664}",
        "5;",
    ] {
        refused(GateRule::G8, with_fields(&format!("Content-Length: {value}")));
    }
    refused(GateRule::G11, with_fields("Content_Length: 5"));
    refused(GateRule::G11, with_fields("Content-Length : 5"));
    let most = accepted(with_fields("Content-Length: 9223372036854775807"));
    assert_eq!(most.framing(), Framing::Length(i64::MAX.unsigned_abs()));
    assert!(!accepted(with_fields("Content-Length: 0")).has_body());
}

#[test]
fn h1_05_bare_lf_anywhere_in_the_head() {
    let head = "GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n\r\n";
    for (at, _) in head.match_indices('\r') {
        let mut bare = head.to_owned();
        bare.remove(at);
        refused(GateRule::G9, &bare);
        refused(GateRule::G9, format!("{}\r{}", &head[..at], &head[at + 2..]));
    }
    refused(GateRule::G9, "GET / HTTP/1.1\nHost: a\n\n");
    refused(GateRule::G9, "GET / HTTP/1.1\n\r\nHost: a\r\n\r\n");
    refused(GateRule::G9, with_fields("A: b\rc"));
    refused(GateRule::G9, with_fields("A: b\r\r"));
    refused(GateRule::G9, "GET /\r HTTP/1.1\r\nHost: a\r\n\r\n");
}

#[test]
fn h1_06_lines_that_are_no_fields() {
    for line in
        [" folded: a", "A: b\r\n c", "A: b\r\n\tc", "A : b", "A\t: b", ": b", "nothing", "A B: c"]
    {
        refused(GateRule::G11, with_fields(line));
    }
    for line in
        ["A\0: b", "A\u{b}: c", "A\u{7f}: b", "\u{e4}: b", "A(: b", "A\"b: c", "A@: b", "[a]: b"]
    {
        refused(GateRule::G11, with_fields(line));
    }
    for line in ["A: b\0", "A: \u{1}b", "A: b\u{1b}[0m", "A: \u{7f}"] {
        refused(GateRule::G12, with_fields(line));
    }
    accepted(with_fields("A: b\tc\r\nB:\r\nC: \u{e4}\u{a0}\r\n!#$%&'*+-.^_`|~: x"));
}

#[test]
fn h1_07_one_authority() {
    let host = |lines: &str| format!("GET / HTTP/1.1\r\n{lines}A: b\r\n\r\n");
    refused(GateRule::G1, host(""));
    for value in [
        "",
        " ",
        "a\r\nHost: a",
        "a\r\nHost: b",
        "a, b",
        "a,",
        "u@a",
        "a/b",
        "a?b",
        "a#b",
        "a b",
        "a\\b",
        "a:",
        "a:x",
        "a:70000",
        "a:0",
        "a:080",
        "a:80:80",
        ":80",
        ".",
        "..",
        ".a",
        "a..b",
        "a..",
        "a%41",
        "\u{e4}",
        "[::1",
        "[a]",
        "[::1]x",
        "::1",
        "a_b!",
        "*",
        "[fe80::1%25eth0]",
        "a;b",
    ] {
        refused(GateRule::G1, host(&format!("Host: {value}\r\n")));
    }
    refused(GateRule::G1, "GET / HTTP/1.0\r\nA: b\r\n\r\n");
    refused(GateRule::G1, host(&format!("Host: {}\r\n", "a".repeat(300))));
    for (value, authority, name) in [
        ("A.b", "a.b", "a.b"),
        ("a.b.:8080", "a.b:8080", "a.b"),
        ("[2001:DB8:0::1]:80", "[2001:db8::1]:80", "[2001:db8::1]"),
        ("127.0.0.1:1", "127.0.0.1:1", "127.0.0.1"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("under_score-1", "under_score-1", "under_score-1"),
    ] {
        let request = accepted(host(&format!("Host: {value}\r\n")));
        assert_eq!((request.authority(), request.host()), (authority, name));
    }
}

#[test]
fn h1_08_targets_in_another_form() {
    let authority = [
        "http://b/",
        "http://b",
        "http://a:81/",
        "https://a:80/",
        "http://u@a/",
        "http:///",
        "ftp://b/",
    ];
    for target in authority {
        refused(GateRule::G1, with_line(&format!("GET {target} HTTP/1.1")));
    }
    for target in [
        "foo",
        "*",
        "a:80",
        "/a#b",
        "#",
        "/a b",
        "/a\"b",
        "/a\\b",
        "/\u{e4}",
        "/a<",
        "/a>",
        "/a{",
        "/a|",
        "/a^",
        "/a`",
        "/[a]",
        "?a",
        "",
        "ftp://a/",
        "/?a#b",
        "/?a\"",
        "/?\\",
        "//a b",
        "http:/a",
        "http://a/\u{e4}",
    ] {
        refused(GateRule::G3, with_line(&format!("GET {target} HTTP/1.1")));
    }
    for control in ["/a\tb", "/\0", "/\u{7f}", "/\u{b}"] {
        refused(GateRule::G3, with_line(&format!("GET {control} HTTP/1.1")));
    }
    let mut overlong = b"GET /\xc0\xaf HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
    refused(GateRule::G3, &overlong);
    overlong[6] = 0xff;
    refused(GateRule::G3, &overlong);
    for line in
        ["CONNECT x:80 HTTP/1.1", "CONNECT / HTTP/1.1", "CONNECT a HTTP/1.1", "OPTIONS x HTTP/1.1"]
    {
        refused(GateRule::G3, with_line(line));
    }
}

#[test]
fn h1_08_absolute_form_becomes_origin_form() {
    for (line, target) in [
        ("GET http://a/b?c HTTP/1.1", "/b?c"),
        ("GET HTTP://A.:80/ HTTP/1.1", "/"),
        ("GET https://a:443/ HTTP/1.1", "/"),
        ("GET http://a HTTP/1.1", "/"),
        ("GET http://a?b HTTP/1.1", "/?b"),
        ("OPTIONS http://a HTTP/1.1", "*"),
        ("OPTIONS * HTTP/1.1", "*"),
        ("OPTIONS / HTTP/1.1", "/"),
    ] {
        assert_eq!(accepted(with_line(line)).target(), target, "{line}");
    }
    assert_eq!(accepted(with_line("GET https://a/ HTTP/1.1")).scheme(), "https");
    let query = "/?a=[]{}|^`&b=%20+";
    assert_eq!(accepted(with_line(&format!("GET {query} HTTP/1.1"))).target(), query);
}

#[test]
fn h1_09_paths_that_servers_read_differently() {
    for path in [
        "/public/../admin",
        "/%2e%2e/a",
        "/a/%2E%2e",
        "/%2F..%2F",
        "/a%2fb",
        "//admin",
        "/a//b",
        "/a//",
        "//",
        "/..;x/a",
        "/.;x",
        "/%2e%2e;x/a",
        "/a%5cb",
        "/a%5Cb",
        "/%252e",
        "/a%252Fb",
        "/%25%32%65",
        "/%%325",
        "/./",
        "/a/.",
        "/a/..",
        "/..",
        "/.",
        "/;x/admin",
        "/..%3Bx/a",
        "/%2e",
    ] {
        let rule = if path.contains("%%") { GateRule::G4 } else { GateRule::G5 };
        assert_eq!(in_mode(PathMode::Strict, path), Err(rule), "{path}");
    }
    for path in
        ["/%00", "/%zz", "/%", "/%1", "/%0d%0a", "/%7f", "/a?%", "/a?%zz", "/?b%0A", "/%+1", "/%1F"]
    {
        for mode in [PathMode::Strict, PathMode::Merge, PathMode::Opaque] {
            assert_eq!(in_mode(mode, path), Err(GateRule::G4), "{path}");
        }
    }
    for path in [
        "/",
        "/a",
        "/a/",
        "/...",
        "/.a",
        "/a..b/c.",
        "/a;x=1/b",
        "/;x",
        "/a/;x",
        "/%25",
        "/%25zz",
        "/a%3Bb",
        "/a?//..%2F%25%32%65",
    ] {
        assert_eq!(in_mode(PathMode::Strict, path).as_deref(), Ok(path));
    }
}

#[test]
fn h1_09_merge_decides_on_and_forwards_the_merged_path() {
    for (path, merged) in [
        ("/public/../admin", "/admin"),
        ("//admin", "/admin"),
        ("/a//b", "/a/b"),
        ("/a/./b", "/a/b"),
        ("/a/..", "/"),
        ("/a/.", "/a/"),
        ("/..", "/"),
        ("/../../a", "/a"),
        ("/a//../b", "/b"),
        ("//", "/"),
        ("/%2e%2e/a", "/a"),
        ("/a/b/..", "/a/"),
        ("/a//", "/a/"),
        ("/a/../?x//y", "/?x//y"),
        ("/.", "/"),
    ] {
        assert_eq!(in_mode(PathMode::Merge, path).as_deref(), Ok(merged), "{path}");
    }
    for path in ["/a%2Fb", "/a%5Cb", "/%252e", "/..;x/a", "/.;/a", "/;x/a"] {
        assert_eq!(in_mode(PathMode::Merge, path), Err(GateRule::G5), "{path}");
    }
}

#[test]
fn h1_09_opaque_leaves_the_path_alone() {
    for path in ["/a%2Fb/../c", "//x", "/%41", "/..;x", "/%252e", "/%5c"] {
        assert_eq!(in_mode(PathMode::Opaque, path).as_deref(), Ok(path));
    }
    for path in ["/a b", "/a#", "foo", "/\\"] {
        assert_eq!(in_mode(PathMode::Opaque, path), Err(GateRule::G3));
    }
}

#[test]
fn h1_10_unreserved_triplets_are_decoded_and_nothing_else_changes() {
    for (path, normal) in [
        ("/%41dmin", "/Admin"),
        ("/%7e%2D", "/~-"),
        ("/%c3%a4", "/%C3%A4"),
        ("/a%20b", "/a%20b"),
        ("/%3a", "/%3A"),
    ] {
        assert_eq!(in_mode(PathMode::Strict, path).as_deref(), Ok(normal));
    }
    let request = accepted(with_line("GET /Admin;a=B/X/?Q=1 HTTP/1.1"));
    assert_eq!((request.path(), request.folded_path()), ("/Admin;a=B/X/", "/admin/x"));
    assert_eq!(accepted(with_line("GET /a HTTP/1.1")).folded_path(), "/a");
}

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
fn h1_15_sizes() {
    let value = |length: usize| with_fields(&format!("a: {}", "b".repeat(length)));
    accepted(value(8 * 1024 - 1));
    refused(GateRule::Limits, value(8 * 1024));
    refused(GateRule::Limits, value(100 * 1024));
    let lines = |count: usize| with_fields(&vec!["a: b"; count].join("\r\n"));
    accepted(lines(99));
    refused(GateRule::Limits, lines(100));
    let target = |length: usize| with_line(&format!("GET /{} HTTP/1.1", "a".repeat(length - 1)));
    accepted(target(8 * 1024));
    refused(GateRule::Limits, target(8 * 1024 + 1));
    let big = format!("a: {0}\r\nb: {0}", "c".repeat(8 * 1024 - 1));
    refused(GateRule::Limits, with_fields(&big));
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
fn h1_18_methods() {
    let long = "A".repeat(33);
    for method in ["TRACE", "TRACK", "get", "Get", &long, "", "G(T", "G\u{e4}T", "G\"T"] {
        refused(GateRule::G17, with_line(&format!("{method} / HTTP/1.1")));
    }
    refused(GateRule::G17, "TRACE / HTTP/1.1\r\nHost: a\r\nCookie: b\r\n\r\n");
    refused(GateRule::G17, "G\tT / HTTP/1.1\r\nHost: a\r\n\r\n");
    for method in ["PROPFIND", "M-SEARCH", "BREW", "X", &"A".repeat(32)] {
        assert_eq!(accepted(with_line(&format!("{method} / HTTP/1.1"))).method(), method);
    }
}

#[test]
fn h1_19_versions_and_what_surrounds_a_head() {
    for line in [
        "GET /",
        "GET",
        "GET / HTTP/0.9",
        "GET / HTTP/1.2",
        "GET / HTTP/2.0",
        "GET / HTTP/1.1\0",
        "GET / http/1.1",
        "GET / HTTP/1.1 ",
        "GET / HTTP/01.1",
        "PRI * HTTP/2.0",
        "GET / HTTP/1",
        "GET / HTTP/1.1\u{b}",
        "GET HTTP/1.1",
    ] {
        refused(GateRule::G18, with_line(line));
    }
    let head = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for odd in [
        format!("\r\n{head}"),
        format!("\r\n\r\n\r\n{head}"),
        format!("{head}{head}"),
        format!("{head}x"),
        format!("{head}\r\n"),
        head[..head.len() - 2].to_owned(),
        head[..head.len() - 1].to_owned(),
        String::new(),
        "\r\n".to_owned(),
        "\r\n\r\n".to_owned(),
        format!(" {head}")[..5].to_owned(),
        "\n".to_owned(),
    ] {
        refused(GateRule::G9, odd);
    }
    assert_eq!(accepted("GET / HTTP/1.0\r\nHost: a\r\n\r\n").version(), Version::Http10);
}

#[test]
fn h1_18_a_request_of_http_1_0_stays_one() {
    let request = accepted("GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n");
    assert!(request.keep_alive());
    assert_eq!(written(&request), "GET / HTTP/1.0\r\nhost: a\r\nconnection: close\r\n\r\n");
    assert!(!accepted("GET / HTTP/1.0\r\nHost: a\r\n\r\n").keep_alive());
}

#[test]
fn v2_cookie_lines_are_one_value() {
    let request = accepted(with_fields("Cookie: a=1\r\nB: c\r\nCOOKIE: d=2"));
    assert_eq!(request.header_values("cookie").collect::<Vec<_>>(), [b"a=1; d=2"]);
    assert!(written(&request).contains("cookie: a=1; d=2\r\nb: c\r\n"));
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
fn d5_a_refusal_says_whether_to_answer_as_grpc() {
    let refusal = |lines: &str| strict(&with_fields(lines)).unwrap_err();
    assert!(refusal("A : b\r\nContent-Type: application/grpc").grpc);
    assert!(!refusal("A : b\r\nContent-Type: application/grpc\r\nContent-Type: a/b").grpc);
    assert!(!refusal("A : b").grpc);
    let old = strict(b"GET // HTTP/1.0\r\nHost: a\r\n\r\n").unwrap_err();
    assert_eq!(
        (old.version, old.rule, old.offset, old.field.as_deref()),
        (Version::Http10, GateRule::G5, 5, Some("target"))
    );
    assert_eq!(refusal("A\u{1b}b: c").to_string(), "invalid_request:G11 at byte 26");
    assert_eq!(
        refusal("B: c\r\nX@\u{e4}: c").to_string(),
        r"invalid_request:G11 at byte 31 (x@\xc3\xa4)"
    );
}
