//! What each version of the format brought, and how rows are written for a reader that is older than they are (P-16).
//!
//! FAIL-CLOSED: what a reader can't express is never left out. A rule becomes a `refuse` row on what it concerned; where
//! something else can't be expressed, the whole part refuses everything.

use crate::generated as wire;

/// The newest version that this reader understands, and that this writer writes.
pub const READER_VERSION: u32 = 1;

/// Who will read what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reader {
    /// What it announced.
    pub version: u32,
    /// What came with which version.
    pub history: History,
}

impl Default for Reader {
    fn default() -> Self {
        Self { version: READER_VERSION, history: History::Real }
    }
}

/// What came with which version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// All there is came with version 1.
    Real,
    /// For tests of skew, until there is a second version: as if version 2 had brought all that asks for the query.
    Trial,
}

impl History {
    fn of_condition(self, condition: &wire::Condition) -> u32 {
        let query = condition.subject == wire::ConditionSubject::Query as i32;
        if self == Self::Trial && query { 2 } else { 1 }
    }

    fn of_match(self, one: &wire::Match) -> u32 {
        if self == Self::Trial && !one.query.is_empty() { 2 } else { 1 }
    }

    fn of_route(self, route: &wire::Route) -> u32 {
        let matches = route.rules.iter().flat_map(|rule| &rule.matches);
        matches.map(|one| self.of_match(one)).max().unwrap_or(1)
    }
}

/// Writes a workload's rows for a reader, and says in them which version they need.
pub(crate) fn narrow_workload(part: &mut wire::WorkloadPart, reader: Reader) {
    let newer = |route: &&wire::Route| reader.history.of_route(route) > reader.version;
    if let Some(route) = part.routes.iter().find(newer) {
        *part = refusing(part, route);
    }
    let pools = part.pools.get_or_insert_default();
    narrow_rules(&mut part.rules, pools, reader);
    let routes = part.routes.iter().map(|route| reader.history.of_route(route));
    part.reader_version = needed(part.reader_version, routes, pools, reader.history);
}

/// The same for the cluster's rows.
pub(crate) fn narrow_cluster(part: &mut wire::ClusterPart, reader: Reader) {
    let pools = part.pools.get_or_insert_default();
    narrow_rules(&mut part.rules, pools, reader);
    part.reader_version = needed(part.reader_version, std::iter::empty(), pools, reader.history);
}

fn needed(
    given: u32,
    others: impl Iterator<Item = u32>,
    pools: &wire::Pools,
    history: History,
) -> u32 {
    let conditions = pools.conditions.iter().map(|condition| history.of_condition(condition));
    conditions.chain(others).fold(given, u32::max)
}

/// Rules with a condition that the reader doesn't know become `refuse` rows, and such conditions go.
fn narrow_rules(rules: &mut [wire::Rule], pools: &mut wire::Pools, reader: Reader) {
    let mut places = Vec::with_capacity(pools.conditions.len());
    let mut next = 0;
    pools.conditions.retain(|condition| {
        let known = reader.history.of_condition(condition) <= reader.version;
        places.push(known.then_some(next));
        next += u32::from(known);
        known
    });
    if places.iter().all(Option::is_some) {
        return;
    }
    for rule in rules {
        // An index that isn't there stays wrong, and is refused by whoever looks at the whole.
        let place = |index: u32| places.get(index as usize).copied().unwrap_or(Some(u32::MAX));
        let moved: Option<Vec<u32>> = rule.conditions.iter().map(|index| place(*index)).collect();
        match moved {
            Some(conditions) => rule.conditions = conditions,
            None => *rule = refuse(rule),
        }
    }
}

/// The row in place of one that can't be expressed: everything in its scope is refused, whoever asks.
fn refuse(rule: &wire::Rule) -> wire::Rule {
    wire::Rule {
        effect: wire::Effect::Refuse as i32,
        level: rule.level,
        authorization: rule.authorization.clone(),
        origin: rule.origin.clone(),
        audit: rule.audit,
        scope: rule.scope,
        route: rule.route,
        identity: wire::Who::Anyone as i32,
        network: wire::Who::Anyone as i32,
        ..wire::Rule::default()
    }
}

/// A part that refuses everything, because of a route that can't be expressed.
fn refusing(part: &wire::WorkloadPart, because: &wire::Route) -> wire::WorkloadPart {
    let rule = wire::Rule {
        effect: wire::Effect::Refuse as i32,
        level: wire::Level::Namespace as i32,
        authorization: because.name.clone(),
        origin: because.origin.clone(),
        scope: wire::Scope::Port as i32,
        identity: wire::Who::Anyone as i32,
        network: wire::Who::Anyone as i32,
        ..wire::Rule::default()
    };
    let other = wire::Port {
        protocol: wire::Protocol::Unknown as i32,
        access: wire::Access::Deny as i32,
        path_mode: wire::PathMode::Strict as i32,
        cluster_conditions: wire::ClusterConditions::Evaluate as i32,
        rules: vec![0],
        ..wire::Port::default()
    };
    wire::WorkloadPart {
        reader_version: part.reader_version,
        workload_shape: part.workload_shape.clone(),
        rules: vec![rule],
        other: Some(other),
        ..wire::WorkloadPart::default()
    }
}
