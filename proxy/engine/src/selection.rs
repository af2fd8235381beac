//! Finding routes without walking them: which route a request selects (R3), and which routes concern it (A5).

use std::hash::BuildHasher;

use hashbrown::{HashMap, HashTable};

use crate::{
    condition::{Rigour, host_matches},
    matches::{MatchId, Matches, PathKind},
    request::CanonicalRequest,
    route::{is_grpc_request, method_of},
    rows::RouteId,
    strings::HIGH,
};

type Hasher = foldhash::fast::RandomState;
type Map<K, V> = HashMap<K, V, Hasher>;

/// Rank among matches whose host and path rank the same: method, headers, query parameters (more first), then age, rule
/// and match (earlier first), which is the order of the matches.
type Rank = (u8, std::cmp::Reverse<usize>, std::cmp::Reverse<usize>, MatchId);

fn rank(matches: &Matches, id: MatchId) -> Rank {
    let grpc = matches.get(id).is_some_and(|stored| stored.grpc);
    let (method, headers, query) = matches.view(id).map_or((false, 0, 0), |matched| {
        (matched.method.is_some(), matched.headers.len(), matched.query.len())
    });
    (u8::from(!(method || grpc)), std::cmp::Reverse(headers), std::cmp::Reverse(query), id)
}

/// Matches by their text, which is looked up where it is kept. A slot is one match, or the place of a list of several.
#[derive(Debug, Clone, Default)]
struct ByText {
    slots: HashTable<u32>,
    lists: Box<[Box<[MatchId]>]>,
    hasher: Hasher,
    folded: bool,
}

impl ByText {
    /// Each list in order of rank.
    fn new(matches: &Matches, mut which: Vec<MatchId>, folded: bool) -> Self {
        let text = |id: MatchId| matches.text(id, folded);
        which.sort_by_cached_key(|id| (text(*id), rank(matches, *id)));
        let groups = || which.chunk_by(|one, other| text(*one) == text(*other));
        let mut lists = Vec::new();
        let hasher = Hasher::default();
        let mut slots = HashTable::with_capacity(groups().count());
        for group in groups() {
            let Some(first) = group.first().copied() else { continue };
            let slot = if group.len() == 1 {
                first
            } else {
                lists.push(Box::from(group));
                // No more than there are matches, of which none has an index beyond 31 bits.
                HIGH | u32::try_from(lists.len() - 1).unwrap_or(u32::MAX)
            };
            let rehash = |slot: &u32| hasher.hash_one(text(first_of(&lists, *slot)));
            slots.insert_unique(hasher.hash_one(text(first)), slot, rehash);
        }
        Self { slots, lists: lists.into(), hasher, folded }
    }

    fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Those with this text.
    fn get(&self, matches: &Matches, text: &str) -> &[MatchId] {
        let is = |slot: &u32| matches.text(first_of(&self.lists, *slot), self.folded) == text;
        self.slots
            .find(self.hasher.hash_one(text), is)
            .map_or(&[][..], |slot| list_of(&self.lists, slot))
    }
}

fn list_of<'l>(lists: &'l [Box<[MatchId]>], slot: &'l u32) -> &'l [MatchId] {
    if slot & HIGH == 0 {
        return std::slice::from_ref(slot);
    }
    lists.get((slot & !HIGH) as usize).map_or(&[], |list| list)
}

fn first_of(lists: &[Box<[MatchId]>], slot: u32) -> MatchId {
    list_of(lists, &slot).first().copied().unwrap_or(MatchId::MAX)
}

/// Matches by their path.
#[derive(Debug, Clone, Default)]
struct PathIndex {
    exact: ByText,
    prefix: Prefixes,
    /// Longest pattern first.
    regex: Box<[MatchId]>,
    last_segment: ByText,
}

impl PathIndex {
    /// By the folded path, or by the normal one.
    fn new(matches: &Matches, which: &[MatchId], folded: bool) -> Self {
        let of = |kind: PathKind| -> Vec<MatchId> {
            let is = |id: &MatchId| matches.get(*id).is_some_and(|stored| stored.kind == kind);
            which.iter().copied().filter(is).collect()
        };
        let mut regex = of(PathKind::Regex);
        regex.sort_by_cached_key(|id| regex_rank(matches, *id));
        Self {
            exact: ByText::new(matches, of(PathKind::Exact), folded),
            prefix: Prefixes::new(matches, of(PathKind::Prefix), folded),
            regex: regex.into_boxed_slice(),
            last_segment: ByText::new(matches, of(PathKind::LastSegment), folded),
        }
    }

    /// The first match, by R3, that `accepts`.
    fn first(
        &self,
        matches: &Matches,
        request: &CanonicalRequest,
        accepts: impl Fn(MatchId) -> bool,
    ) -> Option<MatchId> {
        let path = request.path();
        let pick = |list: &[MatchId]| list.iter().copied().find(|id| accepts(*id));
        if !self.exact.is_empty()
            && let Some(id) = pick(self.exact.get(matches, path))
        {
            return Some(id);
        }
        let holds = |id: &MatchId| path_holds(matches, *id, request, Rigour::EveryValue);
        let regex = self.regex.iter().copied().find(|id| holds(id) && accepts(*id));
        let method = if self.last_segment.is_empty() { None } else { method_of(path) };
        let last = method.and_then(|method| {
            pick(self.last_segment.get(matches, method)).map(|id| (method.len(), id))
        });
        match (regex, last) {
            (Some(regex), Some((length, last))) => {
                let other = (std::cmp::Reverse(length), rank(matches, last));
                return Some(if regex_rank(matches, regex) <= other { regex } else { last });
            }
            (Some(id), None) | (None, Some((_, id))) => return Some(id),
            (None, None) => {}
        }
        self.prefix.of(matches, path).find_map(pick)
    }

    /// Every match whose path matches the folded path.
    fn each(&self, matches: &Matches, request: &CanonicalRequest, mut visit: impl FnMut(MatchId)) {
        let path = request.folded_path();
        let mut all = |list: &[MatchId]| list.iter().copied().for_each(&mut visit);
        all(self.exact.get(matches, path));
        self.prefix.of(matches, path).for_each(&mut all);
        if let Some(method) = method_of(path) {
            all(self.last_segment.get(matches, method));
        }
        for id in &self.regex {
            if path_holds(matches, *id, request, Rigour::AnyValue) {
                visit(*id);
            }
        }
    }
}

fn regex_rank(matches: &Matches, id: MatchId) -> (std::cmp::Reverse<usize>, Rank) {
    (std::cmp::Reverse(matches.pattern_length(id)), rank(matches, id))
}

fn path_holds(matches: &Matches, id: MatchId, request: &CanonicalRequest, rigour: Rigour) -> bool {
    matches.view(id).is_some_and(|matched| matched.path.holds(request, rigour))
}

/// Matches by the prefix that they ask for.
#[derive(Debug, Clone, Default)]
struct Prefixes {
    matches: ByText,
    /// The lengths that occur, a bit each; from 63 on they share one. Other lengths aren't even hashed.
    lengths: u64,
}

impl Prefixes {
    fn new(matches: &Matches, which: Vec<MatchId>, folded: bool) -> Self {
        let lengths = which.iter().map(|id| length_bit(matches.text(*id, folded)));
        let lengths = lengths.fold(0, |all, bit| all | bit);
        Self { matches: ByText::new(matches, which, folded), lengths }
    }

    /// Those under each prefix of the path, longest first.
    fn of<'a>(
        &'a self,
        matches: &'a Matches,
        path: &'a str,
    ) -> impl Iterator<Item = &'a [MatchId]> {
        let path = if self.matches.is_empty() { "" } else { path };
        prefixes(path)
            .filter(|prefix| self.lengths & length_bit(prefix) != 0)
            .map(|prefix| self.matches.get(matches, prefix))
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

/// The routes of one port, by host and path.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selector {
    exact_hosts: Map<Box<str>, PathIndex>,
    /// Longest first.
    wildcard_hosts: Vec<(Box<str>, PathIndex)>,
    any_host: PathIndex,
}

impl Selector {
    /// `hosts`: of each route.
    pub(crate) fn new(matches: &Matches, hosts: &[Box<[Box<str>]>], attached: &[RouteId]) -> Self {
        let mut any_host = Vec::new();
        let mut by_host: Map<&str, Vec<MatchId>> = Map::default();
        for route in attached {
            let own = hosts.get(*route as usize).map_or(&[][..], |own| own);
            if own.is_empty() {
                any_host.extend(matches.of_route(*route));
            }
            for host in own {
                by_host.entry(host).or_default().extend(matches.of_route(*route));
            }
        }
        let mut selector =
            Self { any_host: PathIndex::new(matches, &any_host, false), ..Self::default() };
        for (host, which) in by_host {
            let index = PathIndex::new(matches, &which, false);
            if host.starts_with('*') {
                selector.wildcard_hosts.push((host.into(), index));
            } else {
                selector.exact_hosts.insert(host.into(), index);
            }
        }
        selector
            .wildcard_hosts
            .sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.0.cmp(&b.0)));
        selector
    }

    /// The route that the request selects (R3).
    pub(crate) fn select(&self, matches: &Matches, request: &CanonicalRequest) -> Option<RouteId> {
        let grpc = is_grpc_request(request);
        let accepts = |id: MatchId| {
            matches.get(id).is_some_and(|stored| {
                (grpc || !stored.grpc)
                    && (stored.plain || matches.holds_beside_path(id, request, Rigour::EveryValue))
            })
        };
        let host = request.host();
        let exact = if self.exact_hosts.is_empty() { None } else { self.exact_hosts.get(host) };
        exact
            .and_then(|index| index.first(matches, request, accepts))
            .or_else(|| {
                self.wildcard_hosts
                    .iter()
                    .filter(|(pattern, _)| host_matches(pattern, host))
                    .find_map(|(_, index)| index.first(matches, request, accepts))
            })
            .or_else(|| self.any_host.first(matches, request, accepts))
            .and_then(|id| matches.get(id))
            .map(|stored| stored.route)
    }
}

/// The routes of one port that carry a Deny, Require or Refuse, by folded path.
#[derive(Debug, Clone, Default)]
pub(crate) struct Guard {
    index: PathIndex,
    empty: bool,
}

impl Guard {
    pub(crate) fn new(matches: &Matches, guarded: &[RouteId]) -> Self {
        let which: Vec<_> = guarded.iter().flat_map(|route| matches.of_route(*route)).collect();
        Self { index: PathIndex::new(matches, &which, true), empty: guarded.is_empty() }
    }

    /// The routes of which some match matches (A5), rising and unique, put into `found`.
    pub(crate) fn concerned(
        &self,
        matches: &Matches,
        request: &CanonicalRequest,
        found: &mut Vec<RouteId>,
    ) {
        found.clear();
        if self.empty {
            return;
        }
        self.index.each(matches, request, |id| {
            if matches.holds_beside_path(id, request, Rigour::AnyValue)
                && let Some(stored) = matches.get(id)
            {
                found.push(stored.route);
            }
        });
        found.sort_unstable();
        found.dedup();
    }
}
