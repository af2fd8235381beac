//! HTTP/1 heads, row by row; a test begins with the id of its row.

use super::super::GateRule;
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
