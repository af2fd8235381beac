//! The matches of all routes, as a table keeps them: a few words each, their texts side by side.

use hashbrown::HashMap;

use crate::{
    condition::Rigour,
    pattern::Pattern,
    request::CanonicalRequest,
    route::{MatchView, NamedMatch, PathTest, PathText, PathView, Route, RouteKind},
    rows::RouteId,
    strings::{Strings, index},
    table::TableError,
};

/// Position of a match: by route, then in the order written.
pub(crate) type MatchId = u32;

/// Nothing is asked.
const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PathKind {
    Exact,
    Prefix,
    Regex,
    LastSegment,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Stored {
    pub(crate) route: RouteId,
    pub(crate) kind: PathKind,
    /// Of a GRPCRoute.
    pub(crate) grpc: bool,
    /// Asks for nothing but the path.
    pub(crate) plain: bool,
    /// Of the path; for a regular expression its place among the patterns.
    normal: u32,
    /// The same as `normal` where folding changes nothing.
    folded: u32,
    method: u32,
    named: u32,
}

#[derive(Debug)]
struct Named {
    headers: Box<[NamedMatch]>,
    query: Box<[NamedMatch]>,
}

/// Every match of every route.
#[derive(Debug, Default)]
pub(crate) struct Matches {
    all: Vec<Stored>,
    /// Where the matches of each route end.
    ends: Vec<u32>,
    texts: Strings,
    methods: Strings,
    patterns: Vec<Pattern>,
    named: Vec<Named>,
}

impl Matches {
    pub(crate) fn get(&self, id: MatchId) -> Option<&Stored> {
        self.all.get(id as usize)
    }

    /// How many routes there are.
    pub(crate) fn routes(&self) -> usize {
        self.ends.len()
    }

    /// Those of a route.
    pub(crate) fn of_route(&self, route: RouteId) -> std::ops::Range<MatchId> {
        let route = route as usize;
        let start = route.checked_sub(1).and_then(|before| self.ends.get(before)).copied();
        start.unwrap_or(0)..self.ends.get(route).copied().unwrap_or(0)
    }

    /// The path as an index has it.
    pub(crate) fn text(&self, id: MatchId, folded: bool) -> &str {
        self.get(id)
            .map_or("", |stored| self.texts.get(if folded { stored.folded } else { stored.normal }))
    }

    /// How long a regular expression is.
    pub(crate) fn pattern_length(&self, id: MatchId) -> usize {
        self.get(id).and_then(|stored| self.pattern(stored)).map_or(0, Pattern::length)
    }

    fn pattern(&self, stored: &Stored) -> Option<&Pattern> {
        self.patterns.get(stored.normal as usize)
    }

    pub(crate) fn view(&self, id: MatchId) -> Option<MatchView<'_>> {
        let stored = self.get(id)?;
        let texts = || (self.texts.get(stored.normal), self.texts.get(stored.folded));
        let path = match stored.kind {
            PathKind::Exact => PathView::Exact(texts().0, texts().1),
            PathKind::Prefix => PathView::Prefix(texts().0, texts().1),
            PathKind::LastSegment => PathView::LastSegment(texts().0, texts().1),
            PathKind::Regex => PathView::Regex(self.pattern(stored)?),
        };
        let named = self.named.get(stored.named as usize);
        Some(MatchView {
            path,
            method: (stored.method != NONE).then(|| self.methods.get(stored.method)),
            headers: named.map_or(&[], |named| &named.headers),
            query: named.map_or(&[], |named| &named.query),
        })
    }

    /// Most matches ask for the path alone, which an index has found: then nothing is looked up.
    pub(crate) fn holds_beside_path(
        &self,
        id: MatchId,
        request: &CanonicalRequest,
        rigour: Rigour,
    ) -> bool {
        self.get(id).is_some_and(|stored| stored.plain)
            || self.view(id).is_some_and(|matched| matched.holds_beside_path(request, rigour))
    }

    /// See [`Route::concerns`].
    pub(crate) fn concern(&self, route: RouteId, request: &CanonicalRequest) -> bool {
        self.of_route(route)
            .any(|id| self.view(id).is_some_and(|matched| matched.holds(request, Rigour::AnyValue)))
    }
}

/// Makes [`Matches`]; keeps the hosts of the routes, which nobody asks for once the ports are linked.
#[derive(Debug, Default)]
pub(crate) struct MatchesBuilder {
    pub(crate) matches: Matches,
    pub(crate) hosts: Vec<Box<[Box<str>]>>,
    methods: HashMap<Box<str>, u32, foldhash::fast::RandomState>,
}

impl MatchesBuilder {
    pub(crate) fn add(&mut self, route: Route) -> Result<(), TableError> {
        let id = index(self.matches.ends.len())?;
        let grpc = route.kind == RouteKind::Grpc;
        for entry in route.rules.into_iter().flatten() {
            let plain = entry.asks_for_path_only();
            let (kind, normal, folded) = self.path(entry.path)?;
            let method = entry.method.map_or(Ok(NONE), |method| self.method(&method))?;
            let named = if entry.headers.is_empty() && entry.query.is_empty() {
                NONE
            } else {
                self.matches.named.push(Named { headers: entry.headers, query: entry.query });
                index(self.matches.named.len() - 1)?
            };
            let stored = Stored { route: id, kind, grpc, plain, normal, folded, method, named };
            self.matches.all.push(stored);
        }
        self.matches.ends.push(index(self.matches.all.len())?);
        self.hosts.push(route.hosts);
        Ok(())
    }

    pub(crate) fn shrink(&mut self) {
        let Matches { all, ends, texts, methods, patterns, named } = &mut self.matches;
        all.shrink_to_fit();
        ends.shrink_to_fit();
        texts.shrink();
        methods.shrink();
        patterns.shrink_to_fit();
        named.shrink_to_fit();
    }

    fn path(&mut self, test: PathTest) -> Result<(PathKind, u32, u32), TableError> {
        let (kind, text) = match test {
            PathTest::Exact(text) => (PathKind::Exact, text),
            PathTest::Prefix(text) => (PathKind::Prefix, text),
            PathTest::LastSegment(text) => (PathKind::LastSegment, text),
            PathTest::Regex(pattern) => {
                self.matches.patterns.push(pattern);
                let place = index(self.matches.patterns.len() - 1)?;
                return Ok((PathKind::Regex, place, place));
            }
        };
        let PathText { normal, folded } = text;
        let place = self.matches.texts.push(&normal)?;
        let folded = if normal == folded { place } else { self.matches.texts.push(&folded)? };
        Ok((kind, place, folded))
    }

    fn method(&mut self, method: &str) -> Result<u32, TableError> {
        if let Some(known) = self.methods.get(method) {
            return Ok(*known);
        }
        let new = self.matches.methods.push(method)?;
        self.methods.insert(method.into(), new);
        Ok(new)
    }
}
