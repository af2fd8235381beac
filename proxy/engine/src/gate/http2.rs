//! The field list of an HTTP/2 request, pseudo-header fields included.

use super::GateProfile;
use super::authority::read_authority;
use super::fields::{Reader, looks_like_grpc, refuse};
use super::judge::Fault;
use super::refusal::{GateRule, Refusal};
use super::syntax::{has_control, trim_blanks};
use crate::request::{CanonicalRequest, Version};

/// Reads a field list as HPACK gave it: the pseudo-header fields first. Offsets in a refusal are indices.
///
/// The list doesn't say whether a body follows: without `content-length` the framing is `None`.
///
/// # Errors
/// The rule that refuses it.
pub fn http2(
    fields: &[(&[u8], &[u8])],
    profile: &GateProfile,
) -> Result<CanonicalRequest, Refusal> {
    http2_carrying(fields, profile, Version::Http2)
}

/// The same of a request that HTTP/2 only carries between two proxies: `version` is the one that its client spoke. It is
/// read like any other field list, and counts as of that version from then on.
///
/// # Errors
/// The rule that refuses it.
pub fn http2_carrying(
    fields: &[(&[u8], &[u8])],
    profile: &GateProfile,
    version: Version,
) -> Result<CanonicalRequest, Refusal> {
    http2_into(CanonicalRequest::default(), fields, profile, version)
}

/// The same, in the memory of a request that is no longer needed.
///
/// # Errors
/// The rule that refuses it.
pub fn http2_into(
    reuse: CanonicalRequest,
    fields: &[(&[u8], &[u8])],
    profile: &GateProfile,
    version: Version,
) -> Result<CanonicalRequest, Refusal> {
    refuse(read(reuse, fields, profile, version), Version::Http2, || {
        looks_like_grpc(fields.iter().copied())
    })
}

#[derive(Default)]
struct Pseudo<'h> {
    method: Option<(usize, &'h [u8])>,
    scheme: Option<(usize, &'h [u8])>,
    authority: Option<(usize, &'h [u8])>,
    path: Option<(usize, &'h [u8])>,
}

impl<'h> Pseudo<'h> {
    /// Takes one pseudo-header field; an unknown one (`:protocol` too) or a second one is refused.
    fn take(&mut self, index: usize, name: &'h [u8], value: &'h [u8]) -> Result<(), Fault> {
        let (slot, rule) = match name {
            b":method" => (&mut self.method, GateRule::G17),
            b":scheme" => (&mut self.scheme, GateRule::G3),
            b":authority" => (&mut self.authority, GateRule::G1),
            b":path" => (&mut self.path, GateRule::G3),
            _ => return Err(Fault::new(GateRule::G11, index, name)),
        };
        match slot.replace((index, value)) {
            None => Ok(()),
            Some(_) => Err(Fault::new(rule, index, name)),
        }
    }
}

fn read(
    reuse: CanonicalRequest,
    fields: &[(&[u8], &[u8])],
    profile: &GateProfile,
    version: Version,
) -> Result<CanonicalRequest, Fault> {
    let mut reader = Reader::new(version, profile, reuse);
    reader.size(fields.iter().map(|(name, value)| name.len() + value.len()).sum())?;
    let mut pseudo = Pseudo::default();
    let mut regular = false;
    for (index, (name, value)) in fields.iter().copied().enumerate() {
        let fault = |rule| Fault::new(rule, index, name);
        if has_control(name) {
            return Err(fault(GateRule::G11));
        }
        if has_control(value) {
            return Err(fault(GateRule::G12));
        }
        let trimmed = trim_blanks(value);
        if trimmed.len() != value.len() {
            reader.judge.weigh(fault(GateRule::G12))?;
        }
        match (name.starts_with(b":"), regular) {
            (true, false) => pseudo.take(index, name, value)?,
            (true, true) => return Err(fault(GateRule::G11)),
            (false, _) => {
                regular = true;
                check_regular(&mut reader, index, (name, trimmed))?;
                reader.field(index, name, trimmed)?;
            }
        }
    }
    finish(reader, &pseudo)
}

/// G11 and G14: names in lower case, and nothing that belongs to a connection of HTTP/1.
fn check_regular(
    reader: &mut Reader<'_, '_>,
    index: usize,
    (name, value): (&[u8], &[u8]),
) -> Result<(), Fault> {
    const CONNECTION: [&[u8]; 5] =
        [b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"];
    if name.iter().any(u8::is_ascii_uppercase) {
        reader.judge.weigh(Fault::new(GateRule::G11, index, name))?;
    }
    let forbidden = CONNECTION.iter().any(|other| name.eq_ignore_ascii_case(other));
    let other_te = name.eq_ignore_ascii_case(b"te") && value != b"trailers";
    if forbidden || other_te {
        return Err(Fault::new(GateRule::G14, index, name));
    }
    Ok(())
}

fn finish<'h>(mut reader: Reader<'h, '_>, pseudo: &Pseudo<'h>) -> Result<CanonicalRequest, Fault> {
    let missing = |rule, name: &str| Fault::new(rule, 0, name.as_bytes());
    let (index, method) = pseudo.method.ok_or_else(|| missing(GateRule::G17, ":method"))?;
    reader.method(index, method)?;
    let (index, authority) = pseudo.authority.ok_or_else(|| missing(GateRule::G1, ":authority"))?;
    let authority =
        read_authority(authority).map_err(|flaw| Fault::new(flaw.rule, index, b":authority"))?;
    if let Some((at, host)) = reader.host
        && read_authority(host).map_or(true, |host| host.text != authority.text)
    {
        return Err(Fault::new(GateRule::G1, at, b"host"));
    }
    reader.draft.authority(&authority.text, authority.host);
    let (index, scheme) = pseudo.scheme.ok_or_else(|| missing(GateRule::G3, ":scheme"))?;
    match scheme {
        b"https" => reader.https(),
        b"http" => {}
        _ => reader.judge.weigh(Fault::new(GateRule::G3, index, b":scheme"))?,
    }
    let (index, path) = pseudo.path.ok_or_else(|| missing(GateRule::G3, ":path"))?;
    reader.framing()?;
    reader.target(index, path, path)?;
    Ok(reader.finish())
}
