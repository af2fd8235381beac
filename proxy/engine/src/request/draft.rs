//! A request while the gate is still reading it.

use super::{CanonicalRequest, Field, Framing, Span, Version, is_grpc};
use crate::gate::{Refusal, fold_path};

/// What becomes a [`CanonicalRequest`]. For the gate alone.
#[derive(Default)]
pub(crate) struct Draft(CanonicalRequest);

/// What belongs to the hop on which a request arrived, and isn't forwarded.
#[derive(Clone, Copy, Default)]
pub(crate) struct Hop {
    pub(crate) version: Version,
    pub(crate) https: bool,
    pub(crate) keep_alive: bool,
    pub(crate) expects_continue: bool,
}

impl Draft {
    /// An empty draft that uses the arenas of a request which is no longer needed.
    pub(crate) fn reusing(old: CanonicalRequest) -> Self {
        let CanonicalRequest { mut text, mut values, mut fields, .. } = old;
        text.clear();
        values.clear();
        fields.clear();
        Self(CanonicalRequest { text, values, fields, ..CanonicalRequest::default() })
    }

    /// Appends to the text arena. Positions saturate: a head is far smaller than 4 GiB.
    fn text(&mut self, text: &str) -> Span {
        let start = position(self.0.text.len());
        self.0.text.push_str(text);
        Span { start, end: position(self.0.text.len()) }
    }

    fn value(&mut self, value: &[u8]) -> Span {
        let start = position(self.0.values.len());
        self.0.values.extend_from_slice(value);
        Span { start, end: position(self.0.values.len()) }
    }

    pub(crate) fn method(&mut self, method: &str) {
        self.0.method = self.text(method);
    }

    /// `authority` as it is forwarded; its first `host` bytes are the host.
    pub(crate) fn authority(&mut self, authority: &str, host: usize) {
        self.0.authority = self.text(authority);
        let Span { start, end } = self.0.authority;
        self.0.host = Span { start, end: end.min(start.saturating_add(position(host))) };
    }

    /// The target in normal form.
    pub(crate) fn target(&mut self, path: &str, query: Option<&str>) {
        self.0.path = self.text(path);
        self.0.query = query.map(|query| {
            self.text("?");
            self.text(query)
        });
        self.0.target = Span { start: self.0.path.start, end: position(self.0.text.len()) };
        self.0.folded = self.0.path;
        if needs_folding(path) {
            self.0.folded = self.text(&fold_path(path));
        }
    }

    /// The target as it came, to be forwarded unread.
    pub(crate) fn raw_target(&mut self, raw: &[u8]) {
        let text = String::from_utf8_lossy(raw);
        let (path, query) = match text.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (text.as_ref(), None),
        };
        self.target(path, query);
        self.0.raw_target = Some(self.value(raw));
    }

    /// One more field to forward. `name` is written in lower case; it is ASCII, or forwarded unread.
    pub(crate) fn field(&mut self, name: &str, value: &[u8]) {
        let name = self.text(name);
        if let Some(text) = self.0.text.get_mut(name.range()) {
            text.make_ascii_lowercase();
        }
        let value = self.value(value);
        self.0.fields.push(Field { name, value });
    }

    /// Drops the fields whose name (lower case) is one of `names` (any case).
    pub(crate) fn remove(&mut self, names: &[&[u8]]) {
        let text = &self.0.text;
        self.0.fields.retain(|field| {
            let name = text.get(field.name.range()).unwrap_or_default().as_bytes();
            !names.iter().any(|removed| removed.eq_ignore_ascii_case(name))
        });
    }

    /// How many fields of that name (lower case) there are.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.0.header_values(name).count()
    }

    pub(crate) fn framing(&mut self, framing: Framing) {
        self.0.framing = framing;
    }

    pub(crate) fn upgrade(&mut self, protocol: &str) {
        self.0.upgrade = Some(self.text(protocol));
    }

    pub(crate) fn accepts_trailers(&mut self) {
        self.0.te_trailers = true;
    }

    /// Makes one field of several `cookie` fields (semantics V2), in the place of the first. Empty ones say nothing, and
    /// a blank that they left at the end would be lost with the next reading.
    fn join_cookies(&mut self) {
        if self.count("cookie") < 2 {
            return;
        }
        let crumbs = self.0.header_values("cookie").filter(|crumb| !crumb.is_empty());
        let joined: Vec<u8> = crumbs.collect::<Vec<_>>().join(&b"; "[..]);
        let value = self.value(&joined);
        let text = &self.0.text;
        let mut first = true;
        self.0.fields.retain_mut(|field| {
            if text.get(field.name.range()) != Some("cookie") {
                return true;
            }
            field.value = value;
            std::mem::take(&mut first)
        });
    }

    /// The request, with what would have refused it (semantics T5), given whether it is one of gRPC.
    pub(crate) fn finish(
        mut self,
        hop: Hop,
        unread: impl FnOnce(bool) -> Option<Refusal>,
    ) -> CanonicalRequest {
        self.join_cookies();
        let grpc = {
            let mut types = self.0.header_values("content-type").peekable();
            types.peek().is_some() && types.all(is_grpc)
        };
        CanonicalRequest {
            version: hop.version,
            https: hop.https,
            keep_alive: hop.keep_alive,
            expects_continue: hop.expects_continue,
            grpc,
            unread: unread(grpc).map(Box::new),
            ..self.0
        }
    }
}

fn position(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Whether the folded path differs from the path.
fn needs_folding(path: &str) -> bool {
    path.bytes().any(|byte| byte == b';' || byte.is_ascii_uppercase())
        || (path.len() > 1 && path.ends_with('/'))
}
