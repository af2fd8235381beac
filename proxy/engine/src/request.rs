//! The canonical request: the one reading of a request, which is decided on and of which the forwarded bytes are made.
//!
//! Text lies in two arenas (`text` for what is ASCII by rule, `values` for field values) and everything else points
//! into them, so that a request costs no allocation once its arenas have grown. Only the gate makes one, through
//! [`Draft`]; there is no way to change one afterwards.

use std::borrow::Cow;

use crate::gate::Refusal;

mod draft;
mod query;
mod write;

pub(crate) use draft::{Draft, Hop};

/// The version in which a request arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
    /// HTTP/2.
    Http2,
}

/// How a request's body is delimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Framing {
    /// There is no body.
    #[default]
    None,
    /// So many bytes, as `content-length` says.
    Length(u64),
    /// In chunks.
    Chunked,
}

/// A range of an arena. A head is at most 64 KiB, so 32 bits are plenty.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

#[derive(Clone, Copy, Debug)]
struct Field {
    name: Span,
    value: Span,
}

/// A request that the gate accepted.
///
/// Equality is of what is authorised and forwarded. What belongs to one hop only (version, scheme, persistence,
/// expectation) is left out: it isn't forwarded.
#[derive(Clone, Debug, Default)]
pub struct CanonicalRequest {
    text: String,
    values: Vec<u8>,
    fields: Vec<Field>,
    method: Span,
    authority: Span,
    host: Span,
    target: Span,
    path: Span,
    folded: Span,
    query: Option<Span>,
    raw_target: Option<Span>,
    upgrade: Option<Span>,
    framing: Framing,
    version: Version,
    https: bool,
    te_trailers: bool,
    keep_alive: bool,
    expects_continue: bool,
    grpc: bool,
    unread: Option<Box<Refusal>>,
}

impl CanonicalRequest {
    fn text(&self, span: Span) -> &str {
        self.text.get(span.range()).unwrap_or_default()
    }

    fn value(&self, span: Span) -> &[u8] {
        self.values.get(span.range()).unwrap_or_default()
    }

    /// Bytes of memory that it holds on to, for who keeps requests to use their memory again.
    #[must_use]
    pub fn memory(&self) -> usize {
        let fields = self.fields.capacity() * size_of::<Field>();
        self.text.capacity() + self.values.capacity() + fields
    }

    /// The version in which the request arrived.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The method, upper case.
    #[must_use]
    pub fn method(&self) -> &str {
        self.text(self.method)
    }

    /// `http` or `https`, as the client said; `http` where it didn't.
    #[must_use]
    pub fn scheme(&self) -> &str {
        if self.https { "https" } else { "http" }
    }

    /// The authority's host in normal form (G2): lower case, without port and trailing dot.
    #[must_use]
    pub fn host(&self) -> &str {
        self.text(self.host)
    }

    /// The authority as it is forwarded: the host in normal form and the port as given.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.text(self.authority)
    }

    /// The path in normal form (G6), `*` for a request to the server itself, as it came in mode `opaque`.
    #[must_use]
    pub fn path(&self) -> &str {
        self.text(self.path)
    }

    /// The folded path (semantics V5), see [`crate::gate::fold_path`].
    #[must_use]
    pub fn folded_path(&self) -> &str {
        self.text(self.folded)
    }

    /// The query as it is forwarded, without `?`; `Some("")` where there is only a `?`.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.query.map(|span| self.text(span))
    }

    /// The values of the query key `key`, decoded once (semantics V4).
    pub fn query_values(&self, key: &str) -> impl Iterator<Item = Cow<'_, [u8]>> {
        query::pairs(self.query().unwrap_or_default())
            .filter(move |(name, _)| name.as_ref() == key.as_bytes())
            .map(|(_, value)| value)
    }

    /// The values of the header `name` (lower case), one for each field line, blanks around them removed. The lines
    /// of `cookie` are one value, joined with `; `.
    pub fn header_values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.fields().filter(move |(field, _)| *field == name).map(|(_, value)| value)
    }

    /// The fields that are forwarded, names in lower case, in their order. `host`, `transfer-encoding` and the fields
    /// of one hop aren't among them; the writer makes them from the other parts of the request.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter().map(|field| (self.text(field.name), self.value(field.value)))
    }

    /// How the body is delimited.
    #[must_use]
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether bytes of a body follow the head.
    #[must_use]
    pub fn has_body(&self) -> bool {
        !matches!(self.framing, Framing::None | Framing::Length(0))
    }

    /// Whether the client waits for `100 Continue` before it sends the body.
    #[must_use]
    pub fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// Whether the client's connection may carry another request.
    #[must_use]
    pub fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// The protocol to which the client asks to change and may: `websocket`; anything under [`Self::unread`].
    #[must_use]
    pub fn upgrade(&self) -> Option<&str> {
        self.upgrade.map(|span| self.text(span))
    }

    /// Whether the client accepts trailers (`te: trailers`).
    #[must_use]
    pub fn accepts_trailers(&self) -> bool {
        self.te_trailers
    }

    /// Whether every content type is one of gRPC (semantics R2), and there is one.
    #[must_use]
    pub fn is_grpc_content_type(&self) -> bool {
        self.grpc
    }

    /// Under a lenient profile, what would have refused the request. It is forwarded unchanged and matches no route
    /// and no condition (semantics T5).
    #[must_use]
    pub fn unread(&self) -> Option<&Refusal> {
        self.unread.as_deref()
    }

    /// The target that is forwarded, `path[?query]`; under [`Self::unread`] what the client sent, with replacement
    /// characters where that isn't UTF-8.
    #[must_use]
    pub fn target(&self) -> &str {
        self.text(self.target)
    }

    /// The bytes of the target that is forwarded.
    #[must_use]
    pub fn target_bytes(&self) -> &[u8] {
        self.raw_target.map_or_else(|| self.target().as_bytes(), |span| self.value(span))
    }

    fn forwarded(&self) -> impl PartialEq + '_ {
        let request = (self.method(), self.authority(), self.host(), self.target_bytes());
        let paths = (self.path(), self.folded_path(), self.query());
        let body = (self.framing, self.upgrade(), self.te_trailers, self.grpc);
        (request, paths, body, self.unread.as_ref().map(|refusal| refusal.rule))
    }
}

impl PartialEq for CanonicalRequest {
    fn eq(&self, other: &Self) -> bool {
        self.forwarded() == other.forwarded() && self.fields().eq(other.fields())
    }
}

impl Eq for CanonicalRequest {}

/// Whether a content type is one of gRPC: `application/grpc` in any case, alone or followed by `+` or `;`.
#[must_use]
pub fn is_grpc(content_type: &[u8]) -> bool {
    const NAME: &[u8] = b"application/grpc";
    content_type.split_at_checked(NAME.len()).is_some_and(|(name, rest)| {
        name.eq_ignore_ascii_case(NAME) && matches!(rest.first(), None | Some(b'+' | b';'))
    })
}
