//! Chunked bodies: a strict decoder (G9, G10) and the encoder. Chunks are never copied, only their data is.

use std::io::Write as _;

use engine::gate::{Flaw, GateRule, Line, is_token, split_field};

use super::limits;
use super::trailers;

/// What the next bytes of a body are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// Not enough bytes to say.
    More,
    /// So many bytes that are framing.
    Framing(usize),
    /// Data.
    Data(&'a [u8]),
    /// The body has ended; nothing more belongs to it.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    Data(u64),
    DataEnd,
    Trailers,
    Ended,
}

/// Decodes one chunked body.
#[derive(Debug)]
pub(crate) struct Decoder {
    state: State,
    /// Bytes consumed so far, for the offsets of flaws.
    at: usize,
    grpc: bool,
    trailers: Vec<u8>,
    trailer_count: usize,
    trailer_bytes: usize,
}

impl Decoder {
    /// `grpc`: the message's content type is one of gRPC, whose trailers are freer.
    pub(super) fn new(grpc: bool) -> Self {
        let state = State::Size;
        Self { state, at: 0, grpc, trailers: Vec::new(), trailer_count: 0, trailer_bytes: 0 }
    }

    /// The trailer lines that go on.
    pub(super) fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    /// Reads on in `input`, all bytes that haven't been consumed. The caller consumes what a step says.
    pub(super) fn next<'a>(&mut self, input: &'a [u8]) -> Result<Step<'a>, Flaw> {
        let step = match self.state {
            State::Size => self.size(input)?,
            State::Data(left) => self.data(left, input),
            State::DataEnd => self.data_end(input)?,
            State::Trailers => self.trailer(input)?,
            State::Ended => Step::End,
        };
        self.at += match &step {
            Step::Framing(count) => *count,
            Step::Data(data) => data.len(),
            Step::More | Step::End => 0,
        };
        Ok(step)
    }

    fn flaw(&self, rule: GateRule, at: usize) -> Flaw {
        Flaw { rule, offset: self.at + at }
    }

    /// The line at the start of `input` without its CRLF, which must be within `most` bytes.
    fn line<'a>(
        &self,
        input: &'a [u8],
        most: usize,
        rule: GateRule,
    ) -> Result<Option<&'a [u8]>, Flaw> {
        let window = input.get(..most + 2).unwrap_or(input);
        let Some(end) = memchr::memchr(b'\n', window) else {
            return if input.len() > most + 1 { Err(self.flaw(rule, most)) } else { Ok(None) };
        };
        let line = window.get(..end).and_then(|line| line.strip_suffix(b"\r"));
        let line = line.ok_or(self.flaw(GateRule::G9, end))?;
        match memchr::memchr(b'\r', line) {
            Some(bare) => Err(self.flaw(GateRule::G9, bare)),
            None => Ok(Some(line)),
        }
    }

    /// A chunk line: hexadecimal digits, then perhaps an extension, which is dropped.
    fn size<'a>(&mut self, input: &'a [u8]) -> Result<Step<'a>, Flaw> {
        if let Some(first) = input.first()
            && !first.is_ascii_hexdigit()
        {
            return Err(self.flaw(GateRule::G10, 0));
        }
        let Some(line) = self.line(input, limits::CHUNK_LINE_BYTES, GateRule::G10)? else {
            return Ok(Step::More);
        };
        let count = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (digits, extension) = line.split_at(count);
        let plain = extension.iter().all(u8::is_ascii_graphic);
        if digits.len() > limits::CHUNK_SIZE_DIGITS
            || !plain
            || !matches!(extension.first(), None | Some(b';'))
        {
            return Err(self.flaw(GateRule::G10, count));
        }
        let size = std::str::from_utf8(digits)
            .ok()
            .and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let size =
            size.filter(|size| i64::try_from(*size).is_ok()).ok_or(self.flaw(GateRule::G10, 0))?;
        self.state = if size == 0 { State::Trailers } else { State::Data(size) };
        Ok(Step::Framing(line.len() + 2))
    }

    fn data<'a>(&mut self, left: u64, input: &'a [u8]) -> Step<'a> {
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let data = input.get(..most).unwrap_or(input);
        if data.is_empty() {
            return Step::More;
        }
        let left = left.saturating_sub(data.len() as u64);
        self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
        Step::Data(data)
    }

    fn data_end<'a>(&mut self, input: &'a [u8]) -> Result<Step<'a>, Flaw> {
        match input {
            [] | [b'\r'] => Ok(Step::More),
            [b'\r', b'\n', ..] => {
                self.state = State::Size;
                Ok(Step::Framing(2))
            }
            [b'\n', ..] => Err(self.flaw(GateRule::G9, 0)),
            _ => Err(self.flaw(GateRule::G10, 0)),
        }
    }

    fn trailer<'a>(&mut self, input: &'a [u8]) -> Result<Step<'a>, Flaw> {
        let left = limits::TRAILER_BYTES.saturating_sub(self.trailer_bytes);
        let Some(line) = self.line(input, left, GateRule::Limits)? else { return Ok(Step::More) };
        self.trailer_bytes += line.len() + 2;
        if line.is_empty() {
            self.state = State::Ended;
            return Ok(Step::Framing(2));
        }
        self.trailer_count += 1;
        if self.trailer_count > limits::TRAILERS {
            return Err(self.flaw(GateRule::Limits, 0));
        }
        let (name, value) = split_field(Line { offset: self.at, bytes: line })?;
        if !is_token(name) {
            return Err(self.flaw(GateRule::G11, 0));
        }
        if trailers::passes(name, self.grpc) {
            for part in [name, b": ", value, b"\r\n"] {
                self.trailers.extend_from_slice(part);
            }
        }
        Ok(Step::Framing(line.len() + 2))
    }
}

/// Appends `data` as one chunk.
pub(super) fn encode(data: &[u8], out: &mut Vec<u8>) {
    if data.is_empty() {
        return;
    }
    // Writing to a Vec can't fail.
    let _ = write!(out, "{:x}\r\n", data.len());
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Appends the end of a body: the last chunk, trailer lines, the empty line.
pub(super) fn encode_end(trailers: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    out.extend_from_slice(trailers);
    out.extend_from_slice(b"\r\n");
}
