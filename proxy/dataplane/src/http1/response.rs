//! The head of an answer: validated like a request's (G20, G8, G9), stripped of what belongs to the hop, written anew.

use std::io::Write as _;

use engine::gate::{Flaw, GateRule, Lines, is_reserved, is_token, split_field, trim_blanks};
use engine::request::{CanonicalRequest, Version, is_grpc};
use http::StatusCode;
use smallvec::SmallVec;

use super::body::{Decoder, Encoder};
use super::{chunked, limits};

/// The fields that most answers have at most: their heads take no memory of their own.
const USUAL_FIELDS: usize = 16;

/// The head of an answer.
#[derive(Debug)]
pub(crate) struct AnswerHead<'a> {
    pub(crate) status: u16,
    /// Three digits, and perhaps a blank and a phrase.
    status_text: &'a [u8],
    /// The phrase where `status_text` is empty, as over HTTP/2.
    phrase: &'static str,
    fields: SmallVec<[(&'a [u8], &'a [u8]); USUAL_FIELDS]>,
    length: Option<(u64, &'a [u8])>,
    chunked: bool,
    grpc: bool,
    keeps_decision: bool,
    /// It is a refusal of a proxy of ours.
    pub(crate) refuses: bool,
    hop: Hop<'a>,
}

/// What an answer says of its hop.
#[derive(Debug, Default)]
struct Hop<'a> {
    http_1_0: bool,
    close: bool,
    upgrades: bool,
    upgrade: Option<&'a [u8]>,
    named: Vec<&'a [u8]>,
}

/// How an answer goes on.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) decoder: Decoder,
    pub(crate) encoder: Encoder,
}

impl Body {
    /// Whether only the end of the connection tells the client where the body ends.
    pub(crate) fn needs_close(&self) -> bool {
        self.encoder == Encoder::Plain && !matches!(self.decoder, Decoder::Length(_))
    }
}

fn bad(offset: usize) -> Flaw {
    Flaw { rule: GateRule::G20, offset }
}

impl<'a> AnswerHead<'a> {
    /// Reads the exact bytes of a head, status line to empty line. `keeps_decision`: it is a proxy of ours that answers,
    /// so the id of its decision stays where other reserved fields go.
    ///
    /// # Errors
    /// The rule it breaks.
    pub(crate) fn parse(head: &'a [u8], keeps_decision: bool) -> Result<Self, Flaw> {
        let mut lines = Lines::new(head);
        let line = lines.next().unwrap_or(Err(bad(0)))?.bytes;
        let (http_1_0, status, status_text) = status_line(line).ok_or(bad(0))?;
        let mut answer = Self::new(status, status_text, keeps_decision);
        answer.hop.http_1_0 = http_1_0;
        for (count, line) in lines.enumerate() {
            let line = line?;
            let (name, value) = split_field(line)?;
            if count >= limits::ANSWER_FIELDS || !is_token(name) {
                return Err(bad(line.offset));
            }
            answer.field(name, value).ok_or(bad(line.offset))?;
        }
        if answer.chunked && (answer.length.is_some() || http_1_0) {
            return Err(Flaw { rule: GateRule::G8, offset: 0 });
        }
        let Self { fields, hop: Hop { named, .. }, .. } = &mut answer;
        if !named.is_empty() {
            fields.retain(|(name, _)| !named.iter().any(|other| other.eq_ignore_ascii_case(name)));
        }
        Ok(answer)
    }

    /// The head of an answer that came over HTTP/2. Its body goes on in chunks, where it doesn't say how long it is.
    ///
    /// # Errors
    /// The rule it breaks.
    pub(crate) fn of_fields(
        status: StatusCode,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        keeps_decision: bool,
    ) -> Result<Self, Flaw> {
        let mut answer = Self::new(status.as_u16(), b"", keeps_decision);
        answer.phrase = status.canonical_reason().unwrap_or_default();
        for (count, (name, value)) in fields.enumerate() {
            if count >= limits::ANSWER_FIELDS {
                return Err(bad(count));
            }
            answer.field(name, value).ok_or(bad(count))?;
        }
        answer.chunked = answer.length.is_none();
        answer.hop = Hop::default();
        Ok(answer)
    }

    fn new(status: u16, status_text: &'a [u8], keeps_decision: bool) -> Self {
        Self {
            status,
            status_text,
            phrase: "",
            fields: SmallVec::new(),
            length: None,
            chunked: false,
            grpc: false,
            keeps_decision,
            refuses: false,
            hop: Hop::default(),
        }
    }

    /// One field; none where its framing can't be read.
    fn field(&mut self, name: &'a [u8], value: &'a [u8]) -> Option<()> {
        const REMOVED: [&[u8]; 5] =
            [b"keep-alive", b"proxy-connection", b"te", b"trailer", b"http2-settings"];
        let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
        match name.len() {
            14 if is(b"content-length") => {
                let length = content_length(value)?;
                return self.length.replace((length, value)).is_none().then_some(());
            }
            17 if is(b"transfer-encoding") => {
                let first = !std::mem::replace(&mut self.chunked, true);
                return (first && value.eq_ignore_ascii_case(b"chunked")).then_some(());
            }
            10 if is(b"connection") => self.connection(value),
            7 if is(b"upgrade") => return self.hop.upgrade.replace(value).is_none().then_some(()),
            18 if self.keeps_decision && is(b"x-policyd-decision") => {
                self.refuses = true;
                self.fields.push((name, value));
            }
            _ if is_reserved(name) || REMOVED.iter().any(|other| is(other)) => {}
            12 if is(b"content-type") => {
                self.grpc = is_grpc(value);
                self.fields.push((name, value));
            }
            _ => self.fields.push((name, value)),
        }
        Some(())
    }

    fn connection(&mut self, value: &'a [u8]) {
        for option in value.split(|byte| *byte == b',').map(trim_blanks) {
            match option {
                b"" => {}
                close if close.eq_ignore_ascii_case(b"close") => self.hop.close = true,
                upgrade if upgrade.eq_ignore_ascii_case(b"upgrade") => self.hop.upgrades = true,
                other => self.hop.named.push(other),
            }
        }
    }

    /// Whether it is of gRPC.
    pub(crate) fn is_grpc(&self) -> bool {
        self.grpc
    }

    /// The protocol to which the answer changes, if it says so properly.
    pub(crate) fn upgrade(&self) -> Option<&'a [u8]> {
        self.hop.upgrade.filter(|_| self.hop.upgrades)
    }

    /// The one value of a field; none where there are several.
    pub(crate) fn only(&self, name: &str) -> Option<&'a [u8]> {
        let mut values =
            self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()));
        let (_, value) = values.next()?;
        values.next().is_none().then_some(value)
    }

    /// What goes on of its fields; `content-length` apart from them.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let length = self.length.filter(|_| self.status != 204);
        let length = length.map(|(_, digits)| (&b"content-length"[..], digits));
        self.fields.iter().copied().chain(length)
    }

    /// Whether the application's connection may carry another request after this answer.
    pub(crate) fn keeps_alive(&self) -> bool {
        !self.hop.close && !self.hop.http_1_0
    }

    fn is_bodiless(&self, request: &CanonicalRequest) -> bool {
        self.status < 200 || matches!(self.status, 204 | 304) || request.method() == "HEAD"
    }

    /// How the body is read and written for the client of `request`.
    pub(crate) fn body(&self, request: &CanonicalRequest) -> Body {
        let unknown = Encoder::of_unknown_length(request.version());
        let (decoder, encoder) = match self.length {
            _ if self.is_bodiless(request) => (Decoder::EMPTY, Encoder::Plain),
            _ if self.chunked => (Decoder::Chunked(chunked::Decoder::new(self.grpc)), unknown),
            Some((length, _)) => (Decoder::Length(length), Encoder::Plain),
            None => (Decoder::UntilClose, unknown),
        };
        Body { decoder, encoder }
    }

    /// Appends a final answer's head. `close`: it is the last on the client's connection.
    pub(crate) fn write(
        &self,
        request: &CanonicalRequest,
        body: &Body,
        close: bool,
        out: &mut Vec<u8>,
    ) {
        self.write_fields(out);
        if let Some((_, digits)) = self.length.filter(|_| self.status != 204) {
            write_field(out, b"content-length", digits);
        }
        if body.encoder == Encoder::Chunked {
            write_field(out, b"transfer-encoding", b"chunked");
        }
        match (close, request.version()) {
            (true, _) => write_field(out, b"connection", b"close"),
            (false, Version::Http10) => write_field(out, b"connection", b"keep-alive"),
            (false, _) => {}
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Appends an interim answer's head; that of `101` names the protocol.
    pub(crate) fn write_interim(&self, out: &mut Vec<u8>) {
        self.write_fields(out);
        if let Some(protocol) = self.upgrade().filter(|_| self.status == 101) {
            write_field(out, b"upgrade", protocol);
            write_field(out, b"connection", b"upgrade");
        }
        out.extend_from_slice(b"\r\n");
    }

    fn write_fields(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"HTTP/1.1 ");
        match self.status_text.len() {
            // Writing to a Vec can't fail.
            0 => drop(write!(out, "{} {}", self.status, self.phrase)),
            STATUS_DIGITS => {
                out.extend_from_slice(self.status_text);
                out.push(b' ');
            }
            _ => out.extend_from_slice(self.status_text),
        }
        out.extend_from_slice(b"\r\n");
        for (name, value) in &self.fields {
            write_field(out, name, value);
        }
    }
}

fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

const STATUS_DIGITS: usize = 3;

/// `HTTP/1.x`, three digits, and perhaps a phrase without control characters; the last two as they came, too.
fn status_line(line: &[u8]) -> Option<(bool, u16, &[u8])> {
    let (http_1_0, rest) = match line.split_at_checked(9)? {
        (b"HTTP/1.1 ", rest) => (false, rest),
        (b"HTTP/1.0 ", rest) => (true, rest),
        _ => return None,
    };
    let (digits, phrase) = rest.split_at_checked(STATUS_DIGITS)?;
    let phrase = if phrase.is_empty() { phrase } else { phrase.strip_prefix(b" ")? };
    let all_digits = digits.iter().all(u8::is_ascii_digit);
    let status = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let valid = all_digits && status >= 100 && !engine::gate::has_control(phrase);
    valid.then_some((http_1_0, status, rest))
}

/// G8: digits without a leading zero, at most 2^63 - 1.
fn content_length(value: &[u8]) -> Option<u64> {
    let canonical =
        value.iter().all(u8::is_ascii_digit) && (value == b"0" || !value.starts_with(b"0"));
    let length = std::str::from_utf8(value).ok()?.parse::<u64>().ok()?;
    (canonical && i64::try_from(length).is_ok()).then_some(length)
}
