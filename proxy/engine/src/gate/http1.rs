//! The head of an HTTP/1 request.

use super::GateProfile;
use super::authority::{Authority, read_authority};
use super::fields::{Reader, looks_like_grpc, refuse};
use super::judge::Fault;
use super::lines::{Line, Lines, split_field};
use super::refusal::{Flaw, GateRule, Refusal};
use super::syntax::find_control;
use crate::request::{CanonicalRequest, Version};

/// Reads `head`, the exact bytes from the request line to the empty line inclusive.
///
/// # Errors
/// The rule that refuses it.
pub fn http1(head: &[u8], profile: &GateProfile) -> Result<CanonicalRequest, Refusal> {
    http1_into(CanonicalRequest::default(), head, profile)
}

/// The same, in the memory of a request that is no longer needed.
///
/// # Errors
/// The rule that refuses it.
pub fn http1_into(
    reuse: CanonicalRequest,
    head: &[u8],
    profile: &GateProfile,
) -> Result<CanonicalRequest, Refusal> {
    refuse(read(reuse, head, profile), apparent_version(head), || {
        looks_like_grpc(apparent_fields(head))
    })
}

/// The request line: method, target and version, each with its place.
struct RequestLine<'h> {
    method: &'h [u8],
    target: (usize, &'h [u8]),
    version: Version,
}

impl<'h> RequestLine<'h> {
    /// The method ends at the first space, the version begins after the last; what lies between is the target, and
    /// whether that has spaces is a question for G3.
    fn split(line: Line<'h>) -> Result<Self, Fault> {
        let part = |rule, at, name: &str| Fault::new(rule, line.offset + at, name.as_bytes());
        let first =
            memchr::memchr(b' ', line.bytes).ok_or_else(|| part(GateRule::G18, 0, "version"))?;
        let last = memchr::memrchr(b' ', line.bytes).unwrap_or(first);
        if let Some(at) = find_control(line.bytes) {
            return Err(match at {
                at if at < first => part(GateRule::G17, at, "method"),
                at if at < last => part(GateRule::G3, at, "target"),
                at => part(GateRule::G18, at, "version"),
            });
        }
        let get = |from: usize, to: usize| line.bytes.get(from..to).unwrap_or_default();
        let version = match get(last + 1, line.bytes.len()) {
            b"HTTP/1.1" if first < last => Version::Http11,
            b"HTTP/1.0" if first < last => Version::Http10,
            _ => return Err(part(GateRule::G18, last + 1, "version")),
        };
        let target = (line.offset + first + 1, get(first + 1, last));
        Ok(Self { method: get(0, first), target, version })
    }
}

fn read(
    reuse: CanonicalRequest,
    head: &[u8],
    profile: &GateProfile,
) -> Result<CanonicalRequest, Fault> {
    let mut lines = Lines::new(head);
    let nothing = Flaw { rule: GateRule::G9, offset: 0 };
    let first = lines.next().unwrap_or(Err(nothing)).map_err(Fault::line)?;
    let request_line = RequestLine::split(first)?;
    let mut reader = Reader::new(request_line.version, profile, reuse);
    reader.size(head.len())?;
    for line in lines {
        let line = line.map_err(Fault::line)?;
        let (name, value) = split_field(line).map_err(Fault::line)?;
        reader.field(line.offset, name, value)?;
    }
    reader.method(0, request_line.method)?;
    let origin = authority(&mut reader, request_line.target, head.len())?;
    let framing = reader.framing()?;
    reader.upgrade(framing)?;
    reader.target(request_line.target.0, &origin, request_line.target.1)?;
    Ok(reader.finish())
}

/// G1: the one authority, and the target in origin form. A target in absolute form must name the same authority.
fn authority<'h>(
    reader: &mut Reader<'h, '_>,
    (offset, target): (usize, &'h [u8]),
    end: usize,
) -> Result<std::borrow::Cow<'h, [u8]>, Fault> {
    let (at, host) = reader.host.ok_or_else(|| Fault::new(GateRule::G1, end, b"host"))?;
    let host = read_authority(host).map_err(|flaw| Fault::new(flaw.rule, at, b"host"))?;
    reader.draft.authority(&host.text, host.host);
    let Some(absolute) = Absolute::split(target) else { return Ok(target.into()) };
    let same = read_authority(absolute.authority).is_ok_and(|named| absolute.agrees(&named, &host));
    if !same {
        return Err(Fault::new(GateRule::G1, offset, b"target"));
    }
    if absolute.scheme.eq_ignore_ascii_case(b"https") {
        reader.https();
    } else if !absolute.scheme.eq_ignore_ascii_case(b"http") {
        reader.judge.weigh(Fault::new(GateRule::G3, offset, b"target"))?;
    }
    Ok(absolute.origin(reader.method))
}

/// A target in absolute form.
struct Absolute<'h> {
    scheme: &'h [u8],
    authority: &'h [u8],
    rest: &'h [u8],
}

impl<'h> Absolute<'h> {
    fn split(target: &'h [u8]) -> Option<Self> {
        let colon = memchr::memmem::find(target, b"://")?;
        let (scheme, rest) = target.split_at(colon);
        if !scheme.first()?.is_ascii_alphabetic() || !scheme.iter().all(u8::is_ascii_alphanumeric) {
            return None;
        }
        let rest = rest.get(3..)?;
        let end = rest.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        Some(Self { scheme, authority, rest })
    }

    fn agrees(&self, named: &Authority<'_>, host: &Authority<'_>) -> bool {
        let https = self.scheme.eq_ignore_ascii_case(b"https");
        named.names_same(host, if https { "443" } else { "80" })
    }

    /// The same target in origin form (RFC 9112 §3.2.1, §3.2.4).
    fn origin(&self, method: &[u8]) -> std::borrow::Cow<'h, [u8]> {
        match self.rest.first() {
            None if method == b"OPTIONS" => b"*".into(),
            Some(b'/') => self.rest.into(),
            _ => [b"/", self.rest].concat().into(),
        }
    }
}

/// The version of a head that needn't be well formed.
fn apparent_version(head: &[u8]) -> Version {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if line.trim_ascii_end().ends_with(b"HTTP/1.0") { Version::Http10 } else { Version::Http11 }
}

/// The fields of a head that needn't be well formed.
fn apparent_fields(head: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    head.split(|byte| *byte == b'\n').skip(1).filter_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        let (name, value) = line.split_at(colon);
        Some((name.trim_ascii(), value.get(1..)?.trim_ascii()))
    })
}
