//! The fields of a head, one by one, whatever the version: what is forwarded, what belongs to the hop, what frames.

use super::judge::{Fault, Judge};
use super::kind::{Kind, hides_framing, is_look_alike, is_reserved};
use super::refusal::{Flaw, GateRule, Refusal};
use super::syntax::{is_token, list, trim_blanks};
use super::target::read_target;
use super::{GateProfile, limits};
use crate::request::{CanonicalRequest, Draft, Framing, Hop, Version};

/// What `connection` says.
#[derive(Default)]
struct Options<'h> {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    /// Other names, which are removed with it.
    named: Vec<&'h [u8]>,
}

/// A field of which there may be one, and where it was.
type Found<'h> = Option<(usize, &'h [u8])>;

/// Reads the fields of one head into a draft.
pub(super) struct Reader<'h, 'p> {
    pub(super) judge: Judge<'p>,
    pub(super) draft: Draft,
    pub(super) version: Version,
    pub(super) host: Found<'h>,
    pub(super) method: &'h [u8],
    https: bool,
    content_length: Option<(usize, u64)>,
    transfer_encoding: Option<usize>,
    expect: Option<usize>,
    upgrade: Found<'h>,
    options: Options<'h>,
    count: usize,
}

impl<'h, 'p> Reader<'h, 'p> {
    pub(super) fn new(version: Version, profile: &'p GateProfile, reuse: CanonicalRequest) -> Self {
        Self {
            judge: Judge::new(profile),
            draft: Draft::reusing(reuse),
            version,
            host: None,
            method: b"",
            https: false,
            content_length: None,
            transfer_encoding: None,
            expect: None,
            upgrade: None,
            options: Options::default(),
            count: 0,
        }
    }

    /// The size of the whole head.
    pub(super) fn size(&mut self, bytes: usize) -> Result<(), Fault> {
        let fault = |limit| Fault::line(Flaw { rule: GateRule::Limits, offset: limit });
        if bytes > limits::LENIENT_HEAD_BYTES {
            return Err(fault(limits::LENIENT_HEAD_BYTES));
        }
        if bytes > limits::HEAD_BYTES {
            self.judge.weigh(fault(limits::HEAD_BYTES))?;
        }
        Ok(())
    }

    /// The next field: `name` in any case, `value` without control characters and blanks around it.
    pub(super) fn field(
        &mut self,
        offset: usize,
        name: &'h [u8],
        value: &'h [u8],
    ) -> Result<(), Fault> {
        let fault = |rule| Fault::new(rule, offset, name);
        self.count += 1;
        if self.count > limits::FIELDS || name.len() + value.len() > limits::FIELD_BYTES {
            self.judge.weigh(fault(GateRule::Limits))?;
        }
        if !is_token(name) {
            self.judge.weigh(fault(GateRule::G11))?;
            hides_framing(name).map_or(Ok(()), |rule| Err(fault(rule)))?;
        }
        let text = std::str::from_utf8(name).map_err(|_| fault(GateRule::G11))?;
        if is_look_alike(name, self.judge.profile) {
            self.judge.weigh(fault(GateRule::G11))?;
        }
        match Kind::of(name) {
            Kind::Forwarded => self.draft.field(text, value),
            Kind::Host => once(&mut self.host, (offset, value), || fault(GateRule::G1))?,
            Kind::Upgrade => once(&mut self.upgrade, (offset, value), || fault(GateRule::G14))?,
            Kind::ContentLength => self.content_length(offset, value)?,
            Kind::TransferEncoding => self.transfer_encoding(offset, value)?,
            Kind::Connection => self.connection(offset, value)?,
            Kind::Expect => self.expect(offset, value)?,
            Kind::Te if list(value).any(|coding| coding.eq_ignore_ascii_case(b"trailers")) => {
                self.draft.accepts_trailers();
            }
            Kind::ClientCertificate if self.judge.profile.lenient => self.draft.field(text, value),
            Kind::Te | Kind::Removed | Kind::ClientCertificate => {}
        }
        Ok(())
    }

    /// G8: one field, digits, no leading zero, at most 2^63 - 1.
    fn content_length(&mut self, offset: usize, value: &'h [u8]) -> Result<(), Fault> {
        let fault = || Fault::new(GateRule::G8, offset, b"content-length");
        let digits = std::str::from_utf8(value).map_err(|_| fault())?;
        let canonical = digits.bytes().all(|byte| byte.is_ascii_digit())
            && (digits == "0" || !digits.starts_with('0'));
        let length = digits.parse::<u64>().ok().filter(|length| i64::try_from(*length).is_ok());
        let (true, Some(length)) = (canonical, length) else { return Err(fault()) };
        once(&mut self.content_length, (offset, length), fault)?;
        self.draft.field("content-length", value);
        Ok(())
    }

    /// G8: one field whose value is `chunked`, and not in HTTP/1.0.
    fn transfer_encoding(&mut self, offset: usize, value: &[u8]) -> Result<(), Fault> {
        let fault = || Fault::new(GateRule::G8, offset, b"transfer-encoding");
        if self.version != Version::Http11 || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(fault());
        }
        once(&mut self.transfer_encoding, offset, fault)
    }

    /// G14: what it names is removed, so it must not name what matters.
    fn connection(&mut self, offset: usize, value: &'h [u8]) -> Result<(), Fault> {
        for option in list(value) {
            let name = option.to_ascii_lowercase();
            match name.as_slice() {
                b"close" => self.options.close = true,
                b"keep-alive" => self.options.keep_alive = true,
                b"upgrade" => self.options.upgrade = true,
                name if !is_token(name) || self.must_stay(name) => {
                    return Err(Fault::new(GateRule::G14, offset, b"connection"));
                }
                _ => self.options.named.push(option),
            }
        }
        Ok(())
    }

    fn must_stay(&self, name: &[u8]) -> bool {
        const MATTER: [&[u8]; 4] =
            [b"host", b"content-length", b"transfer-encoding", b"authorization"];
        MATTER.contains(&name)
            || is_reserved(name)
            || std::str::from_utf8(name).is_ok_and(|name| self.judge.profile.reads(name))
    }

    /// G19. The proxy itself answers `100-continue`; HTTP/1.0 doesn't know it.
    fn expect(&mut self, offset: usize, value: &[u8]) -> Result<(), Fault> {
        let known = value.eq_ignore_ascii_case(b"100-continue");
        if known && self.expect.replace(offset).is_none() {
            return Ok(());
        }
        self.judge.weigh(Fault::new(GateRule::G19, offset, b"expect"))?;
        if known {
            // Unchanged means both of them; the first was held back.
            self.draft.field("expect", value);
        }
        self.draft.field("expect", value);
        Ok(())
    }

    /// G17. A method that isn't text is refused under any profile, because it can't be forwarded as it came.
    pub(super) fn method(&mut self, offset: usize, method: &'h [u8]) -> Result<(), Fault> {
        let fault = |rule| Fault::new(rule, offset, b"method");
        let upper = !method.iter().any(u8::is_ascii_lowercase);
        let refused = matches!(method, b"TRACE" | b"TRACK");
        if !is_token(method) || !upper || method.len() > limits::METHOD_BYTES || refused {
            self.judge.weigh(fault(GateRule::G17))?;
        }
        if method.eq_ignore_ascii_case(b"CONNECT") {
            // The answer to it has a framing of its own, so it isn't forwarded under a lenient profile either.
            return Err(fault(GateRule::G3));
        }
        let text = std::str::from_utf8(method).map_err(|_| fault(GateRule::G17))?;
        self.draft.method(text);
        self.method = method;
        Ok(())
    }

    pub(super) fn https(&mut self) {
        self.https = true;
    }

    /// The target in origin form or `*`, which lies at `offset`; `raw` is what is forwarded if anything is unread.
    pub(super) fn target(&mut self, offset: usize, origin: &[u8], raw: &[u8]) -> Result<(), Fault> {
        if origin == b"*" && self.method == b"OPTIONS" && !self.judge.is_unread() {
            self.draft.target("*", None);
            return Ok(());
        }
        match read_target(origin, self.judge.profile.path_mode) {
            Ok(target) if !self.judge.is_unread() => self.draft.target(&target.path, target.query),
            Ok(_) => self.draft.raw_target(raw),
            Err(flaw) => {
                self.judge.weigh(Fault::within(flaw, offset, "target"))?;
                self.draft.raw_target(raw);
            }
        }
        Ok(())
    }

    /// G8 between the fields: never both ways of framing.
    pub(super) fn framing(&mut self) -> Result<Framing, Fault> {
        let framing = match (self.content_length, self.transfer_encoding) {
            (Some((length, _)), Some(encoding)) => {
                return Err(Fault::new(GateRule::G8, length.max(encoding), b"transfer-encoding"));
            }
            (Some((_, length)), None) => Framing::Length(length),
            (None, Some(_)) => Framing::Chunked,
            (None, None) => Framing::None,
        };
        self.draft.framing(framing);
        Ok(framing)
    }

    /// An upgrade goes through where the profile enables it; under a lenient one it is recorded and goes through.
    /// Other protocols than `websocket` are removed, and `h2c` always: nothing could read what follows.
    pub(super) fn upgrade(&mut self, framing: Framing) -> Result<(), Fault> {
        let Some((offset, value)) = self.upgrade.filter(|_| self.options.upgrade) else {
            return Ok(());
        };
        let fault = || Fault::new(GateRule::G14, offset, b"upgrade");
        let bodiless = matches!(framing, Framing::None | Framing::Length(0));
        let names = |name: &[u8]| list(value).any(|protocol| protocol.eq_ignore_ascii_case(name));
        if self.version != Version::Http11 || names(b"h2c") {
            return Ok(());
        }
        if value.eq_ignore_ascii_case(b"websocket") {
            let handshake = self.method == b"GET" && self.draft.count("sec-websocket-key") == 1;
            if !bodiless || !handshake {
                return Err(fault());
            }
            if !self.judge.profile.websocket {
                self.judge.weigh(fault())?;
            }
            self.draft.upgrade("websocket");
        } else if let Ok(text) = std::str::from_utf8(value)
            && self.judge.profile.lenient
            && bodiless
            && !value.is_empty()
        {
            self.judge.weigh(fault())?;
            self.draft.upgrade(text);
        }
        Ok(())
    }

    /// Removes what `connection` names and makes the request.
    pub(super) fn finish(mut self) -> CanonicalRequest {
        if !self.options.named.is_empty() {
            self.draft.remove(&self.options.named);
        }
        let keep_alive = match self.version {
            Version::Http10 => self.options.keep_alive && !self.options.close,
            Version::Http11 => !self.options.close,
            Version::Http2 => true,
        };
        let hop = Hop {
            version: self.version,
            https: self.https,
            keep_alive,
            expects_continue: self.expect.is_some() && self.version != Version::Http10,
        };
        let judge = self.judge;
        self.draft.finish(hop, |grpc| judge.into_unread(grpc, hop.version))
    }
}

/// Keeps the first, refuses a second. The fault is made when there is one: it allocates.
fn once<T>(slot: &mut Option<T>, found: T, fault: impl FnOnce() -> Fault) -> Result<(), Fault> {
    match slot.replace(found) {
        None => Ok(()),
        Some(_) => Err(fault()),
    }
}

/// Whether to answer as gRPC, judged on fields that needn't be well formed: exactly one content type, and it is one.
pub(super) fn looks_like_grpc<'h>(fields: impl Iterator<Item = (&'h [u8], &'h [u8])>) -> bool {
    let mut types = fields.filter(|(name, _)| name.eq_ignore_ascii_case(b"content-type"));
    let first = types.next().is_some_and(|(_, value)| crate::request::is_grpc(trim_blanks(value)));
    first && types.next().is_none()
}

pub(super) fn refuse<T>(
    result: Result<T, Fault>,
    version: Version,
    grpc: impl FnOnce() -> bool,
) -> Result<T, Refusal> {
    result.map_err(|fault| fault.refusal(grpc(), version))
}
