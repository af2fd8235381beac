//! A list of rules of one scope, and what it comes to for one peer.

use hashbrown::HashMap;

use crate::{
    identity::covering,
    ports::View,
    rows::{Effect, Rule, RuleId, Scope},
    subject::{Met, Peering, meets},
    table::Table,
};

type Forms = HashMap<Box<str>, RuleId, foldhash::fast::RandomState>;

/// Rules of one scope in order of attribution.
///
/// A grant to plain identities that asks for nothing else is found by the identity, so that a list of ten thousand
/// grants costs a peer four lookups; the others are few or bounded (semantics V8).
#[derive(Debug, Clone, Default)]
pub(crate) struct RuleList {
    grants: Forms,
    others: Vec<Listed>,
}

#[derive(Debug, Clone, Copy)]
struct Listed {
    id: RuleId,
    /// Its conditions count as satisfied on this port.
    satisfied: bool,
}

impl RuleList {
    pub(crate) fn push(&mut self, table: &Table, id: RuleId, satisfied: bool) {
        let Some(rule) = table.rule(id) else { return };
        let plain = rule.effect == Effect::Allow
            && !rule.audit
            && rule.networks.is_none()
            && rule.conditions.is_empty()
            && rule.valid_until.is_none();
        let forms = rule
            .identities
            .filter(|_| plain)
            .and_then(|index| table.identities(id, index))
            .filter(|set| !set.is_empty())
            .and_then(|set| set.plain_forms());
        match forms {
            Some(forms) => {
                for form in forms {
                    let first = self.grants.entry(form.into()).or_insert(id);
                    *first = (*first).min(id);
                }
            }
            None => self.others.push(Listed { id, satisfied }),
        }
    }

    /// What the list comes to for a peer, before any request.
    pub(crate) fn standing(&self, table: &Table, peering: &Peering<'_>, view: View) -> Standing {
        let mut standing = Standing::default();
        match peering.identity() {
            Some(identity) => {
                let granted = covering(identity).filter_map(|form| self.grants.get(form)).min();
                if let Some(rule) = granted {
                    standing.settled.note(Effect::Allow, *rule);
                }
            }
            None => standing.settled.identity_would_help = !self.grants.is_empty(),
        }
        for listed in &self.others {
            let Some(rule) = table.rule(listed.id) else { continue };
            if view == View::WouldBe || !rule.audit {
                standing.add(table, peering, *listed, rule);
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
    fn add(&mut self, table: &Table, peering: &Peering<'_>, listed: Listed, rule: &Rule) {
        let met = meets(table, listed.id, rule, peering);
        let lacks_identity = rule.effect == Effect::Allow && met == Met::LacksIdentity;
        if !applies(rule.effect, met) && !lacks_identity {
            return;
        }
        let depends = rule.scope == Scope::Http
            || rule.valid_until.is_some()
            || !(rule.conditions.is_empty() || listed.satisfied);
        match (depends, lacks_identity) {
            (true, _) => self.pending.push(Pending { id: listed.id, lacks_identity }),
            (false, true) => self.settled.identity_would_help = true,
            (false, false) => self.settled.note(rule.effect, listed.id),
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
