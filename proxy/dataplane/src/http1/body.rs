//! Bodies of messages: how one is read, and how it is written anew.

use engine::gate::Flaw;
use engine::request::{CanonicalRequest, Framing, Version};

use super::chunked::{self, Step};

/// Reads one body.
#[derive(Debug)]
pub(crate) enum Decoder {
    /// So many more bytes.
    Length(u64),
    /// In chunks.
    Chunked(chunked::Decoder),
    /// Until the connection ends.
    UntilClose,
}

impl Decoder {
    /// No body.
    pub(crate) const EMPTY: Self = Self::Length(0);

    /// Of a request.
    pub(crate) fn of_request(request: &CanonicalRequest) -> Self {
        match request.framing() {
            Framing::None => Self::EMPTY,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => {
                Self::Chunked(chunked::Decoder::new(request.is_grpc_content_type()))
            }
        }
    }

    /// Reads on in `input`, see [`chunked::Decoder::next`].
    pub(crate) fn next<'a>(&mut self, input: &'a [u8]) -> Result<Step<'a>, Flaw> {
        match self {
            Self::Length(0) => Ok(Step::End),
            Self::Chunked(decoder) => decoder.next(input),
            _ if input.is_empty() => Ok(Step::More),
            Self::UntilClose => Ok(Step::Data(input)),
            Self::Length(left) => {
                let most = usize::try_from(*left).unwrap_or(usize::MAX);
                let data = input.get(..most).unwrap_or(input);
                *left -= data.len() as u64;
                Ok(Step::Data(data))
            }
        }
    }

    /// Whether the end of the connection is the end of the body.
    pub(crate) fn ends_with_connection(&self) -> bool {
        matches!(self, Self::UntilClose)
    }

    /// The trailer lines that go on.
    pub(crate) fn trailers(&self) -> &[u8] {
        match self {
            Self::Chunked(decoder) => decoder.trailers(),
            _ => b"",
        }
    }
}

/// Writes one body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoder {
    /// As it is: its length stands in the head, or the end of the connection ends it.
    Plain,
    /// In chunks.
    Chunked,
}

impl Encoder {
    /// Of a request that goes on.
    pub(crate) fn of_request(request: &CanonicalRequest) -> Self {
        if request.framing() == Framing::Chunked { Self::Chunked } else { Self::Plain }
    }

    /// Of an answer whose length isn't known, to a client of `version`.
    pub(crate) fn of_unknown_length(version: Version) -> Self {
        if version == Version::Http10 { Self::Plain } else { Self::Chunked }
    }

    pub(crate) fn data(self, data: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Plain => out.extend_from_slice(data),
            Self::Chunked => chunked::encode(data, out),
        }
    }

    pub(crate) fn end(self, trailers: &[u8], out: &mut Vec<u8>) {
        if self == Self::Chunked {
            chunked::encode_end(trailers, out);
        }
    }
}
