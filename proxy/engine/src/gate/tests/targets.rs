//! Targets of HTTP/1 heads, row by row.

use super::super::{GateRule, PathMode};
use super::*;

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
    assert_eq!(accepted(with_line("GET /a/ HTTP/1.1")).folded_path(), "/a");
    assert_eq!(accepted(with_line("GET / HTTP/1.1")).folded_path(), "/");
}
