//! HTTP/2 field lists.

use super::super::{GateProfile, GateRule, http2};
use super::{CanonicalRequest, written};
use crate::request::{Framing, Version};

type Fields<'a> = Vec<(&'a str, &'a str)>;

fn read(fields: &[(&str, &str)]) -> Result<CanonicalRequest, GateRule> {
    let fields: Vec<_> =
        fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    http2(&fields, &GateProfile::default()).map_err(|refusal| refusal.rule)
}

fn good<'a>(more: &[(&'a str, &'a str)]) -> Fields<'a> {
    let mut fields =
        vec![(":method", "GET"), (":scheme", "https"), (":path", "/a"), (":authority", "A.b")];
    fields.extend_from_slice(more);
    fields
}

/// A good list with one of its pseudo-header fields replaced, or left out.
fn with<'a>(name: &str, value: Option<&'a str>) -> Fields<'a> {
    let mut fields = good(&[]);
    fields.retain_mut(|field| {
        if field.0 == name {
            field.1 = value.unwrap_or_default();
        }
        field.0 != name || value.is_some()
    });
    fields
}

#[test]
fn an_ordinary_request_is_read() {
    let request =
        read(&good(&[("te", "trailers"), ("content-length", "4"), ("host", "a.B.")])).unwrap();
    assert_eq!(
        (request.version(), request.scheme(), request.host()),
        (Version::Http2, "https", "a.b")
    );
    assert_eq!((request.framing(), request.accepts_trailers()), (Framing::Length(4), true));
}

#[test]
fn h2_09_one_authority() {
    for more in
        [&[("host", "evil")][..], &[("host", "a.b"), ("host", "a.b")], &[("host", "a.b:80")]]
    {
        assert_eq!(read(&good(more)), Err(GateRule::G1), "{more:?}");
    }
    for value in [None, Some(""), Some("u@a"), Some("a,b"), Some("a/b")] {
        assert_eq!(read(&with(":authority", value)), Err(GateRule::G1), "{value:?}");
    }
    let mut host_only = with(":authority", None);
    host_only.push(("host", "a.b"));
    assert_eq!(read(&host_only), Err(GateRule::G1));
}

#[test]
fn h2_10_the_path() {
    for value in
        [None, Some(""), Some("a"), Some("*"), Some("http://a.b/"), Some("/a#b"), Some("/a b")]
    {
        assert_eq!(read(&with(":path", value)), Err(GateRule::G3), "{value:?}");
    }
    assert_eq!(read(&with(":path", Some("/a\r\nb"))), Err(GateRule::G12));
    assert_eq!(read(&with(":path", Some("//a"))), Err(GateRule::G5));
    let mut twice = vec![(":path", "/a")];
    twice.extend(good(&[]));
    assert_eq!(read(&twice), Err(GateRule::G3));
}

#[test]
fn h2_11_fields_that_belong_to_another_version() {
    for name in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"] {
        assert_eq!(read(&good(&[(name, "a")])), Err(GateRule::G14), "{name}");
    }
    assert_eq!(read(&good(&[("te", "gzip")])), Err(GateRule::G14));
    for name in ["A", "a b", "", ":x", "a\r"] {
        assert_eq!(read(&good(&[(name, "a")])), Err(GateRule::G11), "{name}");
    }
    for value in [" a", "a\t", "\0", "a\nb", "\r"] {
        assert_eq!(read(&good(&[("a", value)])), Err(GateRule::G12), "{value:?}");
    }
    assert_eq!(read(&good(&[("content-length", "1"), ("content-length", "1")])), Err(GateRule::G8));
}

#[test]
fn h2_13_scheme_and_method() {
    for value in [None, Some("ftp"), Some("HTTP"), Some("")] {
        assert_eq!(read(&with(":scheme", value)), Err(GateRule::G3), "{value:?}");
    }
    for value in [None, Some("get"), Some(""), Some("G T")] {
        assert_eq!(read(&with(":method", value)), Err(GateRule::G17), "{value:?}");
    }
}

#[test]
fn h2_14_no_connect_and_no_other_pseudo_header_fields() {
    assert_eq!(read(&with(":method", Some("CONNECT"))), Err(GateRule::G3));
    let mut fields = vec![(":protocol", "websocket")];
    fields.extend(good(&[]));
    assert_eq!(read(&fields), Err(GateRule::G11));
    assert_eq!(read(&good(&[("a", "b"), (":path", "/")])), Err(GateRule::G11));
}

#[test]
fn h2_15_as_http_1_it_is_the_same_request() {
    let request =
        read(&good(&[("cookie", "a"), ("te", "trailers"), ("b", "c"), ("cookie", "d")])).unwrap();
    let text = written(&request);
    let expected = "GET /a HTTP/1.1\r\nhost: a.b\r\ncookie: a; d\r\nb: c\r\nte: trailers\r\nconnection: te\r\n\r\n";
    assert_eq!(text, expected);
    assert_eq!(super::accepted(text), request);
}

#[test]
fn h2_06_sizes() {
    let value = "b".repeat(8 * 1024 - 1);
    assert!(read(&good(&[("a", &value)])).is_ok());
    assert_eq!(read(&good(&[("a", &value), ("a", &value)])), Err(GateRule::Limits));
    assert_eq!(read(&good(&[("a", "b"); 101])), Err(GateRule::Limits));
}
