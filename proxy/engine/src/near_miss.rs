//! Why not: every rule looked at with the very predicates that decided (semantics D6). Explaining only, never enforcing.

use crate::{
    connection::Connection,
    decide::{Arrival, Read, condition_holds, is_expired},
    rows::{Effect, RuleId, Scope},
    rules::applies,
    subject::{Met, identity_holds, meets, network_holds},
    time::{Moment, Timestamp},
};

/// The most near misses that are told.
pub const NEAREST: usize = 3;

/// One condition that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dimension {
    /// The peer's identity.
    Identity,
    /// The peer's network.
    Network,
    /// The route.
    Route,
    /// An item of `when`, by its place in the row.
    Condition(usize),
    /// `validUntil` has passed.
    Expired,
}

/// A rule that would have granted it, but for these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NearMiss {
    /// The rule.
    pub rule: RuleId,
    /// What failed, at least one.
    pub failed: Vec<Dimension>,
}

/// The Allow rows of the port that came nearest, the nearest first, ties in order of attribution.
pub fn near_misses(
    connection: &Connection,
    arrival: &Arrival<'_>,
    moment: Moment,
    most: usize,
) -> Vec<NearMiss> {
    let read = Read::of(connection, arrival);
    let table = connection.table();
    let mut misses: Vec<NearMiss> = connection
        .port()
        .rules()
        .filter(|id| {
            table.rules.get(*id).is_some_and(|rule| rule.effect == Effect::Allow && !rule.audit)
        })
        .map(|id| NearMiss {
            rule: id,
            failed: Dimensions::of(connection, &read, moment.now, id).failed,
        })
        .filter(|miss| !miss.failed.is_empty())
        .collect();
    misses.sort_by_key(|miss| (miss.failed.len(), miss.rule));
    misses.truncate(most);
    misses
}

/// A rule against a request, dimension by dimension.
pub(crate) struct Dimensions {
    failed: Vec<Dimension>,
    effect: Effect,
    met: Met,
    unconcerned: bool,
}

impl Dimensions {
    pub(crate) fn of(connection: &Connection, read: &Read<'_>, now: Timestamp, id: RuleId) -> Self {
        let table = connection.table();
        let Some(rule) = table.rules.get(id) else {
            return Self {
                failed: vec![Dimension::Route],
                effect: Effect::Allow,
                met: Met::Not,
                unconcerned: true,
            };
        };
        let peering = connection.peering();
        let mut failed = Vec::new();
        if identity_holds(table, id, rule, &peering) != Some(true) {
            failed.push(Dimension::Identity);
        }
        if !network_holds(table, id, rule, &peering) {
            failed.push(Dimension::Network);
        }
        let beside_peer = failed.len();
        if !scope_holds(connection, read, rule.scope) {
            failed.push(Dimension::Route);
        }
        if !connection.port().conditions_satisfied(id) {
            let conditions = table.rules.conditions(rule).iter().enumerate();
            failed.extend(
                conditions
                    .filter(|(_, index)| !condition_holds(connection, id, **index, read.request))
                    .map(|(place, _)| Dimension::Condition(place)),
            );
        }
        if is_expired(table.rules.valid_until(rule), now) {
            failed.push(Dimension::Expired);
        }
        let unconcerned = failed.len() > beside_peer;
        Self { failed, effect: rule.effect, met: meets(table, id, rule, &peering), unconcerned }
    }

    /// Whether the rule has its effect on the request.
    pub(crate) fn does_its_work(&self) -> bool {
        !self.unconcerned && applies(self.effect, self.met)
    }
}

fn scope_holds(connection: &Connection, read: &Read<'_>, scope: Scope) -> bool {
    match scope {
        Scope::Port => true,
        Scope::Http => read.request.is_some(),
        Scope::Selected(route) => read.selected == Some(route),
        Scope::Matched(route) => {
            read.request.is_some_and(|request| connection.table().matches.concern(route, request))
        }
    }
}
