//! Routes: what their matches mean (semantics R1–R3, V2, V5).

use crate::{
    condition::{Rigour, path_has_prefix, with_elements},
    gate,
    pattern::Pattern,
    request::CanonicalRequest,
};

/// Which of the two resources it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    /// `HTTPRoute`.
    Http,
    /// `GRPCRoute`: selected by POST with a gRPC content type only (R2).
    Grpc,
}

/// A route attached to some port.
#[derive(Debug, Clone)]
pub struct Route {
    /// `kind.group/namespace/name`.
    pub name: Box<str>,
    /// Where it was written.
    pub origin: Box<str>,
    /// HTTP or gRPC.
    pub kind: RouteKind,
    /// Hosts in normal form; none: any.
    pub hosts: Box<[Box<str>]>,
    /// The matches of each rule, in the order written.
    pub rules: Box<[Box<[Match]>]>,
}

impl Route {
    /// Whether any match matches as a Deny or Require on this route counts it: whatever the host, and for a GRPCRoute
    /// whatever the method and content type (A5).
    pub fn concerns(&self, request: &CanonicalRequest) -> bool {
        self.rules.iter().flatten().any(|rule| rule.holds(request, Rigour::AnyValue))
    }
}

/// How the path is compared.
#[derive(Debug, Clone)]
pub enum PathTest {
    /// The whole path.
    Exact(PathText),
    /// Whole segments at the front.
    Prefix(PathText),
    /// The whole path.
    Regex(Pattern),
    /// `/<any>/<value>`: a method of any service.
    LastSegment(PathText),
}

/// A path of a policy with its folded form (V5).
#[derive(Debug, Clone)]
pub struct PathText {
    /// In normal form.
    pub normal: Box<str>,
    /// Folded.
    pub folded: Box<str>,
}

impl PathText {
    /// From the normal form; for a single segment too.
    pub fn new(normal: &str) -> Self {
        Self { normal: normal.into(), folded: gate::fold_path(normal).into() }
    }
}

impl PathTest {
    /// Whether the path satisfies it.
    pub fn holds(&self, request: &CanonicalRequest, rigour: Rigour) -> bool {
        self.view().holds(request, rigour)
    }

    fn view(&self) -> PathView<'_> {
        match self {
            Self::Exact(text) => PathView::Exact(&text.normal, &text.folded),
            Self::Prefix(text) => PathView::Prefix(&text.normal, &text.folded),
            Self::Regex(pattern) => PathView::Regex(pattern),
            Self::LastSegment(text) => PathView::LastSegment(&text.normal, &text.folded),
        }
    }
}

/// A [`PathTest`], wherever its texts are: normal, then folded. The one place where paths are compared with one.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PathView<'t> {
    Exact(&'t str, &'t str),
    Prefix(&'t str, &'t str),
    Regex(&'t Pattern),
    LastSegment(&'t str, &'t str),
}

impl PathView<'_> {
    pub(crate) fn holds(&self, request: &CanonicalRequest, rigour: Rigour) -> bool {
        let path = request.path();
        let folded_path = match rigour {
            Rigour::EveryValue => None,
            Rigour::AnyValue => Some(request.folded_path()),
        };
        match *self {
            Self::Exact(normal, folded) => {
                path == normal || folded_path.is_some_and(|path| path == folded)
            }
            Self::Prefix(normal, folded) => {
                path_has_prefix(path, normal)
                    || folded_path.is_some_and(|path| path_has_prefix(path, folded))
            }
            Self::Regex(pattern) => {
                pattern.matches(path.as_bytes())
                    || folded_path.is_some_and(|path| pattern.matches(path.as_bytes()))
            }
            Self::LastSegment(normal, folded) => {
                method_of(path) == Some(normal)
                    || folded_path.is_some_and(|path| method_of(path) == Some(folded))
            }
        }
    }
}

/// The method of `/service/method`.
pub(crate) fn method_of(path: &str) -> Option<&str> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    (!service.is_empty() && !method.is_empty() && !method.contains('/')).then_some(method)
}

/// What a named value of a match asks.
#[derive(Debug, Clone)]
pub enum ValueTest {
    /// These bytes.
    Exact(Box<str>),
    /// The whole value.
    Regex(Pattern),
}

impl ValueTest {
    fn holds(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(text) => text.as_bytes() == value,
            Self::Regex(pattern) => pattern.matches(value),
        }
    }
}

/// A header or query parameter that must be there.
#[derive(Debug, Clone)]
pub struct NamedMatch {
    /// Header name in lower case, or query key.
    pub name: Box<str>,
    /// What is asked of its values.
    pub test: ValueTest,
}

/// One match: all of it must hold.
#[derive(Debug, Clone)]
pub struct Match {
    /// The path.
    pub path: PathTest,
    /// Exactly this method.
    pub method: Option<Box<str>>,
    /// Headers.
    pub headers: Box<[NamedMatch]>,
    /// Query parameters.
    pub query: Box<[NamedMatch]>,
}

impl Match {
    /// Whether the request matches. Kind and host of the route are looked at by whoever selects.
    pub fn holds(&self, request: &CanonicalRequest, rigour: Rigour) -> bool {
        let view = MatchView {
            path: self.path.view(),
            method: self.method.as_deref(),
            headers: &self.headers,
            query: &self.query,
        };
        view.holds(request, rigour)
    }

    /// Whether nothing beside the path is asked.
    pub(crate) fn asks_for_path_only(&self) -> bool {
        self.method.is_none() && self.headers.is_empty() && self.query.is_empty()
    }
}

/// A [`Match`], wherever it is kept. The one place where requests are compared with one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MatchView<'t> {
    pub(crate) path: PathView<'t>,
    pub(crate) method: Option<&'t str>,
    pub(crate) headers: &'t [NamedMatch],
    pub(crate) query: &'t [NamedMatch],
}

impl MatchView<'_> {
    pub(crate) fn holds(&self, request: &CanonicalRequest, rigour: Rigour) -> bool {
        self.path.holds(request, rigour) && self.holds_beside_path(request, rigour)
    }

    /// The same without the path, for an index that has found the path already.
    pub(crate) fn holds_beside_path(&self, request: &CanonicalRequest, rigour: Rigour) -> bool {
        self.method.is_none_or(|method| method == request.method())
            && self.headers.iter().all(|header| match rigour {
                Rigour::EveryValue => {
                    satisfied(header, rigour, request.header_values(&header.name))
                }
                Rigour::AnyValue => satisfied(
                    header,
                    rigour,
                    request.header_values(&header.name).flat_map(with_elements),
                ),
            })
            && self
                .query
                .iter()
                .all(|item| satisfied(item, rigour, request.query_values(&item.name)))
    }
}

fn satisfied<V: AsRef<[u8]>>(
    item: &NamedMatch,
    rigour: Rigour,
    values: impl Iterator<Item = V>,
) -> bool {
    let mut values = values.peekable();
    if values.peek().is_none() {
        return false;
    }
    match rigour {
        Rigour::EveryValue => values.all(|value| item.test.holds(value.as_ref())),
        Rigour::AnyValue => values.any(|value| item.test.holds(value.as_ref())),
    }
}

/// Whether a request can select a GRPCRoute at all (R2).
pub(crate) fn is_grpc_request(request: &CanonicalRequest) -> bool {
    request.method() == "POST" && request.is_grpc_content_type()
}
