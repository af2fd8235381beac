//! The authority and its normal form (G1, G2).

use std::borrow::Cow;
use std::net::Ipv6Addr;

use super::limits;
use super::refusal::{Flaw, GateRule};
use super::syntax::is_host;

/// An authority in normal form: lower case, without the trailing dot, an IPv6 literal as RFC 5952 writes it.
#[derive(Debug)]
pub(super) struct Authority<'a> {
    /// `host[:port]`.
    pub(super) text: Cow<'a, str>,
    /// How many bytes of it are the host.
    pub(super) host: usize,
}

impl Authority<'_> {
    fn host(&self) -> &str {
        self.text.get(..self.host).unwrap_or_default()
    }

    fn port(&self) -> Option<&str> {
        self.text.get(self.host + 1..)
    }

    /// Whether both name the same server, where a port that isn't given is `default_port`.
    pub(super) fn names_same(&self, other: &Self, default_port: &str) -> bool {
        self.host() == other.host()
            && self.port().unwrap_or(default_port) == other.port().unwrap_or(default_port)
    }
}

fn g1(offset: usize) -> Flaw {
    Flaw { rule: GateRule::G1, offset }
}

/// Reads `uri-host[:port]`. Refused where it isn't one authority (empty, userinfo, a path, a comma, a blank, a port
/// that is no port) and where it has no normal form (percent encoding, other characters, empty labels, IDN that isn't
/// encoded, a literal that isn't IPv6).
pub(super) fn read_authority(raw: &[u8]) -> Result<Authority<'_>, Flaw> {
    if raw.len() > limits::AUTHORITY_BYTES {
        return Err(g1(limits::AUTHORITY_BYTES));
    }
    let text = std::str::from_utf8(raw).map_err(|error| g1(error.valid_up_to()))?;
    let (host, port) = split_port(text)?;
    let normal = if host.starts_with('[') { literal(host)? } else { name(host)? };
    let length = normal.len();
    if matches!(normal, Cow::Borrowed(_)) && length == host.len() {
        return Ok(Authority { text: Cow::Borrowed(text), host: length });
    }
    let suffix = port.map(|port| format!(":{port}")).unwrap_or_default();
    Ok(Authority { text: Cow::Owned(format!("{normal}{suffix}")), host: length })
}

/// The host and the port: one to five digits without a leading zero, 1 to 65535.
fn split_port(text: &str) -> Result<(&str, Option<&str>), Flaw> {
    let after_literal = text.rfind(']').map_or(0, |bracket| bracket + 1);
    let Some(colon) = text.get(after_literal..).and_then(|rest| rest.find(':')) else {
        return Ok((text, None));
    };
    let (host, port) = text.split_at(after_literal + colon);
    let port = port.get(1..).unwrap_or_default();
    let well_formed = port.bytes().all(|byte| byte.is_ascii_digit()) && !port.starts_with('0');
    if !well_formed || port.parse::<u16>().is_err() {
        return Err(g1(host.len()));
    }
    Ok((host, Some(port)))
}

fn literal(host: &str) -> Result<Cow<'_, str>, Flaw> {
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).ok_or(g1(0))?;
    let address: Ipv6Addr = address.parse().map_err(|_| g1(0))?;
    let normal = format!("[{address}]");
    Ok(if normal == host { Cow::Borrowed(host) } else { Cow::Owned(normal) })
}

fn name(host: &str) -> Result<Cow<'_, str>, Flaw> {
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() {
        return Err(g1(0));
    }
    if let Some(at) = host.bytes().position(|byte| !is_host(byte)) {
        return Err(g1(at));
    }
    if host.starts_with('.') || host.ends_with('.') || host.contains("..") {
        return Err(g1(0));
    }
    Ok(if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    })
}

/// The normal form of a policy's host (no port). The same string, borrowed, where it is in that form already.
///
/// # Errors
/// G1 where it isn't a host, or has a port.
pub fn normal_host(host: &str) -> Result<Cow<'_, str>, Flaw> {
    let authority = read_authority(host.as_bytes())?;
    if authority.port().is_some() {
        return Err(g1(authority.host));
    }
    Ok(authority.text)
}
