//! A list of rules of one scope, and what it comes to for one peer.

use hashbrown::HashMap;

use crate::{
    identity::covering,
    ports::{Port, View},
    rows::{Effect, RouteId, RuleId, Scope},
    stored::Stored,
    subject::{Met, Peering, meets},
    table::Table,
};

type Forms = HashMap<Box<str>, RuleId, foldhash::fast::RandomState>;

/// From how many plain grants on a list is looked up by identity. Below it is as quick to ask each, and a list for each of
/// ten thousand routes costs nothing beside its rules.
const INDEXED_GRANTS: usize = 16;

/// Rules of one scope.
///
/// A grant to plain identities that asks for nothing else is found by the identity where there are many, so that a list of
/// ten thousand grants costs a peer four lookups; the others are few or bounded (semantics V8).
#[derive(Debug, Default)]
pub(crate) struct RuleList {
    grants: Option<Forms>,
    others: Box<[RuleId]>,
}

impl RuleList {
    pub(crate) fn new(table: &Table, mut rules: Vec<RuleId>) -> Self {
        let grants = take_grants(table, &mut rules);
        Self { grants, others: rules.into_boxed_slice() }
    }

    pub(crate) fn rules(&self) -> Rules<'_> {
        Rules { grants: self.grants.as_ref(), others: &self.others }
    }
}

/// Lists of rules by the route that they concern.
#[derive(Debug, Default)]
pub(crate) struct RulesByRoute {
    /// Rising.
    routes: Box<[RouteId]>,
    /// Where the list of each ends in `others`.
    ends: Box<[u32]>,
    others: Box<[RuleId]>,
    grants: HashMap<RouteId, Forms, foldhash::fast::RandomState>,
}

impl RulesByRoute {
    pub(crate) fn new(table: &Table, mut rules: Vec<(RouteId, RuleId)>) -> Self {
        rules.sort_unstable();
        let (mut routes, mut ends, mut others) = (Vec::new(), Vec::new(), Vec::new());
        let mut indexed = HashMap::default();
        for chunk in rules.chunk_by(|(one, _), (other, _)| one == other) {
            let Some((route, _)) = chunk.first() else { continue };
            let mut list = chunk.iter().map(|(_, rule)| *rule).collect();
            if let Some(grants) = take_grants(table, &mut list) {
                indexed.insert(*route, grants);
            }
            others.append(&mut list);
            routes.push(*route);
            // There are no more than there are rules, of which none has an index beyond 31 bits.
            ends.push(u32::try_from(others.len()).unwrap_or(u32::MAX));
        }
        let (routes, ends, others) = (routes.into(), ends.into(), others.into());
        Self { routes, ends, others, grants: indexed }
    }

    pub(crate) fn of(&self, route: RouteId) -> Option<Rules<'_>> {
        let place = self.routes.binary_search(&route).ok()?;
        let start = place.checked_sub(1).and_then(|before| self.ends.get(before)).copied();
        let end = self.ends.get(place).copied()?;
        let others = self.others.get(start.unwrap_or(0) as usize..end as usize)?;
        let grants = if self.grants.is_empty() { None } else { self.grants.get(&route) };
        Some(Rules { grants, others })
    }
}

/// Takes the plain grants out of a list where they are many.
fn take_grants(table: &Table, rules: &mut Vec<RuleId>) -> Option<Forms> {
    let many = rules.iter().filter(|id| plain_forms(table, **id).is_some()).nth(INDEXED_GRANTS - 1);
    many?;
    let mut grants = Forms::default();
    rules.retain(|id| {
        let Some(forms) = plain_forms(table, *id) else { return true };
        for form in forms {
            let first = grants.entry(form.into()).or_insert(*id);
            *first = (*first).min(*id);
        }
        false
    });
    Some(grants)
}

/// The identities that a rule grants to, where it asks for nothing else.
fn plain_forms(table: &Table, id: RuleId) -> Option<impl Iterator<Item = &str>> {
    let rule = table.rules.get(id)?;
    let plain = rule.effect == Effect::Allow
        && !rule.audit
        && rule.networks().is_none()
        && !rule.has_conditions()
        && !rule.ends();
    let set = rule.identities().filter(|_| plain)?;
    table.identities(id, set).filter(|set| !set.is_empty())?.plain_forms()
}

/// One list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules<'t> {
    grants: Option<&'t Forms>,
    others: &'t [RuleId],
}

impl Rules<'_> {
    /// What the list comes to for a peer, before any request.
    pub(crate) fn standing(
        &self,
        table: &Table,
        port: &Port,
        peering: &Peering<'_>,
        view: View,
    ) -> Standing {
        let mut standing = Standing::default();
        match (self.grants, peering.identity()) {
            (Some(grants), Some(identity)) => {
                let granted = covering(identity).filter_map(|form| grants.get(form)).min();
                if let Some(rule) = granted {
                    standing.settled.note(Effect::Allow, *rule);
                }
            }
            (grants, None) => {
                standing.settled.identity_would_help = grants.is_some_and(|it| !it.is_empty());
            }
            (None, Some(_)) => {}
        }
        for id in self.others {
            let Some(rule) = table.rules.get(*id) else { continue };
            if view == View::WouldBe || !rule.audit {
                let satisfied = port.conditions_satisfied(*id);
                standing.add(table, peering, (*id, rule), satisfied);
            }
        }
        standing
    }
}

/// The first of some rules in order of attribution, if there is one. One word, so that the first of two costs a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct First(RuleId);

impl First {
    /// No table has as many rules (`TableError::TooLarge`).
    const NONE: Self = Self(RuleId::MAX);

    pub(crate) fn or(self, other: Self) -> Self {
        Self(self.0.min(other.0))
    }

    pub(crate) fn rule(self) -> Option<RuleId> {
        (self != Self::NONE).then_some(self.0)
    }
}

impl Default for First {
    fn default() -> Self {
        Self::NONE
    }
}

/// Of each effect the first rule that has it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Firsts {
    pub(crate) refuse: First,
    pub(crate) deny: First,
    pub(crate) require: First,
    pub(crate) allow: First,
    /// Some Allow fails for nothing but the identity (D3).
    pub(crate) identity_would_help: bool,
}

impl Firsts {
    pub(crate) fn note(&mut self, effect: Effect, id: RuleId) {
        let slot = match effect {
            Effect::Refuse => &mut self.refuse,
            Effect::Deny => &mut self.deny,
            Effect::Require => &mut self.require,
            Effect::Allow => &mut self.allow,
        };
        *slot = slot.or(First(id));
    }

    /// Takes in what a route that concerns a request comes to: it grants nothing (A5).
    pub(crate) fn merge(&mut self, other: &Self) {
        self.refuse = self.refuse.or(other.refuse);
        self.deny = self.deny.or(other.deny);
        self.require = self.require.or(other.require);
    }
}

/// What a list of rules comes to for one peer: the rules that have their effect whatever is asked, and those that depend on
/// the request or the time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing {
    pub(crate) settled: Firsts,
    pub(crate) pending: Vec<Pending>,
}

/// A rule that meets the peer and waits for the request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pending {
    pub(crate) id: RuleId,
    /// An Allow that would fail for nothing but the identity.
    pub(crate) lacks_identity: bool,
}

impl Standing {
    /// `satisfied`: its conditions count as satisfied on this port.
    fn add(
        &mut self,
        table: &Table,
        peering: &Peering<'_>,
        (id, rule): (RuleId, &Stored),
        satisfied: bool,
    ) {
        let met = meets(table, id, rule, peering);
        let lacks_identity = rule.effect == Effect::Allow && met == Met::LacksIdentity;
        if !applies(rule.effect, met) && !lacks_identity {
            return;
        }
        let depends =
            rule.scope == Scope::Http || rule.ends() || (rule.has_conditions() && !satisfied);
        match (depends, lacks_identity) {
            (true, _) => self.pending.push(Pending { id, lacks_identity }),
            (false, true) => self.settled.identity_would_help = true,
            (false, false) => self.settled.note(rule.effect, id),
        }
    }
}

/// Whether a rule does its work on a peer that meets its authentications so.
pub(crate) fn applies(effect: Effect, met: Met) -> bool {
    match effect {
        Effect::Allow => met == Met::Whole,
        Effect::Deny => matches!(met, Met::Whole | Met::Anonymous),
        Effect::Require => met != Met::Whole,
        Effect::Refuse => true,
    }
}
