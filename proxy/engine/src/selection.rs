//! Finding routes without walking them: which route a request selects (R3), and which routes concern it (A5).

use hashbrown::HashMap;

use crate::{
    condition::{Rigour, host_matches},
    request::CanonicalRequest,
    route::{Match, PathTest, Route, RouteKind, is_grpc_request, method_of},
    rows::RouteId,
};

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// One match of one rule of one route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    route: RouteId,
    rule: u32,
    matched: u32,
    /// Of a GRPCRoute.
    grpc: bool,
    /// Asks for nothing but the path.
    plain: bool,
}

impl Entry {
    /// Most matches ask for the path alone, which the index has found: then nothing is looked up.
    fn holds_beside_path(
        self,
        routes: &[Route],
        request: &CanonicalRequest,
        rigour: Rigour,
    ) -> bool {
        self.plain
            || find(routes, self).is_some_and(|matched| matched.holds_beside_path(request, rigour))
    }
}

/// Rank among matches whose host and path rank the same: method, headers, query parameters (more first), then age, rule
/// and match (earlier first).
type Rank = (u8, std::cmp::Reverse<usize>, std::cmp::Reverse<usize>, Entry0);
type Entry0 = (RouteId, u32, u32);

/// Matches by their path.
#[derive(Debug, Clone, Default)]
struct PathIndex {
    exact: Map<Box<str>, Vec<Entry>>,
    prefix: Prefixes,
    /// Longest pattern first.
    regex: Vec<(usize, Entry)>,
    last_segment: Map<Box<str>, Vec<Entry>>,
}

impl PathIndex {
    fn insert(&mut self, test: &PathTest, entry: Entry, folded: bool) {
        let key = |text: &crate::route::PathText| {
            if folded { text.folded.clone() } else { text.normal.clone() }
        };
        match test {
            PathTest::Exact(text) => self.exact.entry(key(text)).or_default().push(entry),
            PathTest::Prefix(text) => self.prefix.insert(key(text), entry),
            PathTest::Regex(pattern) => self.regex.push((pattern.length(), entry)),
            PathTest::LastSegment(text) => {
                self.last_segment.entry(key(text)).or_default().push(entry);
            }
        }
    }

    fn sort(&mut self, routes: &[Route]) {
        let by_rank = |a: &Entry, b: &Entry| rank(routes, *a).cmp(&rank(routes, *b));
        self.exact.values_mut().for_each(|entries| entries.sort_by(by_rank));
        self.prefix.entries.values_mut().for_each(|entries| entries.sort_by(by_rank));
        self.last_segment.values_mut().for_each(|entries| entries.sort_by(by_rank));
        self.regex.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| by_rank(&a.1, &b.1)));
    }

    /// The first entry, by R3, that `accepts`.
    fn first(
        &self,
        routes: &[Route],
        request: &CanonicalRequest,
        accepts: impl Fn(Entry) -> bool,
    ) -> Option<RouteId> {
        let path = request.path();
        let pick = |entries: Option<&Vec<Entry>>| {
            entries.and_then(|entries| entries.iter().copied().find(|entry| accepts(*entry)))
        };
        if let Some(entry) = pick(self.exact.get(path)) {
            return Some(entry.route);
        }
        let regex = self.regex.iter().find(|(_, entry)| {
            find(routes, *entry)
                .is_some_and(|matched| matched.path.holds(request, Rigour::EveryValue))
                && accepts(*entry)
        });
        let regex = regex.copied();
        let method = if self.last_segment.is_empty() { None } else { method_of(path) };
        let last = method.and_then(|method| {
            pick(self.last_segment.get(method)).map(|entry| (method.len(), entry))
        });
        match (regex, last) {
            (Some((length, entry)), Some((other, last))) => {
                let key = |length: usize, entry| (std::cmp::Reverse(length), rank(routes, entry));
                let first = key(length, entry) <= key(other, last);
                return Some(if first { entry.route } else { last.route });
            }
            (Some((_, entry)), None) | (None, Some((_, entry))) => return Some(entry.route),
            (None, None) => {}
        }
        self.prefix.of(path).find_map(|entries| pick(Some(entries))).map(|entry| entry.route)
    }

    /// Every entry whose path matches the folded path.
    fn each(&self, request: &CanonicalRequest, routes: &[Route], mut visit: impl FnMut(Entry)) {
        let path = request.folded_path();
        let mut all = |entries: Option<&Vec<Entry>>| {
            entries.into_iter().flatten().copied().for_each(&mut visit);
        };
        all(self.exact.get(path));
        self.prefix.of(path).for_each(|entries| all(Some(entries)));
        if let Some(method) = method_of(path) {
            all(self.last_segment.get(method));
        }
        for (_, entry) in &self.regex {
            if find(routes, *entry)
                .is_some_and(|matched| matched.path.holds(request, Rigour::AnyValue))
            {
                visit(*entry);
            }
        }
    }
}

/// Matches by the prefix that they ask for.
#[derive(Debug, Clone, Default)]
struct Prefixes {
    entries: Map<Box<str>, Vec<Entry>>,
    /// The lengths that occur, a bit each; from 63 on they share one. Other lengths aren't even hashed.
    lengths: u64,
}

impl Prefixes {
    fn insert(&mut self, prefix: Box<str>, entry: Entry) {
        self.lengths |= length_bit(&prefix);
        self.entries.entry(prefix).or_default().push(entry);
    }

    /// Those under each prefix of the path, longest first.
    fn of<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a Vec<Entry>> {
        let path = if self.entries.is_empty() { "" } else { path };
        prefixes(path)
            .filter(|prefix| self.lengths & length_bit(prefix) != 0)
            .filter_map(|prefix| self.entries.get(prefix))
    }
}

fn length_bit(text: &str) -> u64 {
    1 << text.len().min(63)
}

/// `/a/b/c`, `/a/b`, `/a`, `/`: what a path's whole-segment prefixes look like without a trailing `/`.
fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    let whole = path.strip_suffix('/').unwrap_or(path);
    std::iter::successors(Some(whole), |front| shortened(front))
        .take_while(|front| !front.is_empty())
        .chain(std::iter::once("/"))
}

/// Without its last segment.
fn shortened(path: &str) -> Option<&str> {
    memchr::memrchr(b'/', path.as_bytes()).and_then(|end| path.get(..end))
}

fn find(routes: &[Route], entry: Entry) -> Option<&Match> {
    routes
        .get(entry.route as usize)
        .and_then(|route| route.rules.get(entry.rule as usize))
        .and_then(|rule| rule.get(entry.matched as usize))
}

fn rank(routes: &[Route], entry: Entry) -> Rank {
    let (method, headers, query) = find(routes, entry).map_or((false, 0, 0), |matched| {
        (matched.method.is_some(), matched.headers.len(), matched.query.len())
    });
    (
        u8::from(!(method || entry.grpc)),
        std::cmp::Reverse(headers),
        std::cmp::Reverse(query),
        (entry.route, entry.rule, entry.matched),
    )
}

/// The routes of one port, by host and path.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selector {
    exact_hosts: Map<Box<str>, PathIndex>,
    /// Longest first.
    wildcard_hosts: Vec<(Box<str>, PathIndex)>,
    any_host: PathIndex,
}

impl Selector {
    pub(crate) fn new(routes: &[Route], attached: &[RouteId]) -> Self {
        let mut selector = Self::default();
        let mut wildcards: Map<Box<str>, PathIndex> = Map::default();
        for (entry, route, matched) in entries(routes, attached) {
            if route.hosts.is_empty() {
                selector.any_host.insert(&matched.path, entry, false);
            }
            for host in &route.hosts {
                let hosts =
                    if host.starts_with('*') { &mut wildcards } else { &mut selector.exact_hosts };
                hosts.entry(host.clone()).or_default().insert(&matched.path, entry, false);
            }
        }
        selector.wildcard_hosts = wildcards.into_iter().collect();
        selector
            .wildcard_hosts
            .sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.0.cmp(&b.0)));
        selector.any_host.sort(routes);
        selector.exact_hosts.values_mut().for_each(|index| index.sort(routes));
        selector.wildcard_hosts.iter_mut().for_each(|(_, index)| index.sort(routes));
        selector
    }

    /// The route that the request selects (R3).
    pub(crate) fn select(&self, routes: &[Route], request: &CanonicalRequest) -> Option<RouteId> {
        let grpc = is_grpc_request(request);
        let accepts = |entry: Entry| {
            (grpc || !entry.grpc) && entry.holds_beside_path(routes, request, Rigour::EveryValue)
        };
        let host = request.host();
        if !self.exact_hosts.is_empty()
            && let Some(route) =
                self.exact_hosts.get(host).and_then(|index| index.first(routes, request, accepts))
        {
            return Some(route);
        }
        self.wildcard_hosts
            .iter()
            .filter(|(pattern, _)| host_matches(pattern, host))
            .find_map(|(_, index)| index.first(routes, request, accepts))
            .or_else(|| self.any_host.first(routes, request, accepts))
    }
}

/// The routes of one port that carry a Deny, Require or Refuse, by folded path.
#[derive(Debug, Clone, Default)]
pub(crate) struct Guard {
    index: PathIndex,
    empty: bool,
}

impl Guard {
    pub(crate) fn new(routes: &[Route], guarded: &[RouteId]) -> Self {
        let mut guard = Self { index: PathIndex::default(), empty: guarded.is_empty() };
        for (entry, _, matched) in entries(routes, guarded) {
            guard.index.insert(&matched.path, entry, true);
        }
        guard
    }

    /// The routes of which some match matches (A5), rising and unique, put into `found`.
    pub(crate) fn concerned(
        &self,
        routes: &[Route],
        request: &CanonicalRequest,
        found: &mut Vec<RouteId>,
    ) {
        found.clear();
        if self.empty {
            return;
        }
        self.index.each(request, routes, |entry| {
            if entry.holds_beside_path(routes, request, Rigour::AnyValue) {
                found.push(entry.route);
            }
        });
        found.sort_unstable();
        found.dedup();
    }
}

fn entries<'r>(
    routes: &'r [Route],
    which: &'r [RouteId],
) -> impl Iterator<Item = (Entry, &'r Route, &'r Match)> {
    let index = |position: usize| u32::try_from(position).unwrap_or(u32::MAX);
    which.iter().filter_map(|id| routes.get(*id as usize).map(|route| (*id, route))).flat_map(
        move |(id, route)| {
            route.rules.iter().enumerate().flat_map(move |(rule, matches)| {
                matches.iter().enumerate().map(move |(matched, content)| {
                    let entry = Entry {
                        route: id,
                        rule: index(rule),
                        matched: index(matched),
                        grpc: route.kind == RouteKind::Grpc,
                        plain: content.asks_for_path_only(),
                    };
                    (entry, route, content)
                })
            })
        },
    )
}
