//! One port of a table, ready to decide: its rules sorted by what they concern, its routes by host and path.

use crate::{
    gate::GateProfile,
    rows::{Access, ClusterConditions, Effect, PortRow, Probe, Protocol, RouteId, RuleId, Scope},
    rules::{RuleList, RulesByRoute},
    selection::{Guard, Selector},
    table::Table,
};

/// Which rows count: those enforced, or all of them and an `audit` default as `deny` (semantics A6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    Enforced,
    WouldBe,
}

/// What a port does with the bytes that arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Nothing is read: they are forwarded as they are.
    Opaque,
    /// HTTP is looked for, and must pass the gate.
    Http,
}

/// A port.
#[derive(Debug, Default)]
pub struct Port {
    row: PortRow,
    profile: GateProfile,
    query_keys: Vec<String>,
    /// Rules of the scopes port and HTTP, the cluster's included.
    pub(crate) at_port: RuleList,
    /// Allows of a route, and the route's own unreadability.
    pub(crate) by_selected: RulesByRoute,
    /// Denies, Requires and unreadable policies of a route (A5).
    pub(crate) by_matched: RulesByRoute,
    pub(crate) selector: Selector,
    pub(crate) guard: Guard,
    cluster: Vec<RuleId>,
    http_only: [bool; 2],
    differs: bool,
}

impl Port {
    /// With the hosts of the table's routes.
    pub(crate) fn new(
        (table, hosts): (&Table, &[Box<[Box<str>]>]),
        mut row: PortRow,
        cluster: Vec<RuleId>,
        profile: GateProfile,
    ) -> Self {
        let mut port = Self { profile, cluster, ..Self::default() };
        let opaque = matches!(row.protocol, Protocol::Opaque | Protocol::Tls);
        port.cluster.retain(|id| {
            row.cluster_conditions != ClusterConditions::PassOver
                || table.rules.get(*id).is_none_or(|rule| !rule.has_conditions())
        });
        let (mut at_port, mut by_selected, mut by_matched) = (Vec::new(), Vec::new(), Vec::new());
        for id in row.rules.iter().chain(&port.cluster).copied() {
            let Some(rule) = table.rules.get(id) else { continue };
            let satisfied = row.cluster_conditions == ClusterConditions::Satisfied
                && port.cluster.binary_search(&id).is_ok();
            match rule.scope {
                Scope::Port | Scope::Http => at_port.push(id),
                Scope::Selected(route) => by_selected.push((route, id)),
                Scope::Matched(route) => by_matched.push((route, id)),
            }
            let reads = rule.effect != Effect::Allow
                && (rule.scope != Scope::Port || (rule.has_conditions() && !satisfied));
            let http_only = reads && !opaque;
            port.http_only[0] |= http_only && !rule.audit;
            port.http_only[1] |= http_only;
            port.differs |= rule.audit;
        }
        let mut guarded: Vec<RouteId> = by_matched.iter().map(|(route, _)| *route).collect();
        guarded.sort_unstable();
        guarded.dedup();
        port.at_port = RuleList::new(table, at_port);
        port.by_selected = RulesByRoute::new(table, by_selected);
        port.by_matched = RulesByRoute::new(table, by_matched);
        port.profile.lenient = row.access == Access::Audit && !port.http_only[0] && !opaque;
        port.differs |= row.access == Access::Audit;
        port.http_only.iter_mut().for_each(|flag| *flag |= !row.routes.is_empty() && !opaque);
        port.selector = Selector::new(&table.matches, hosts, &row.routes);
        port.guard = Guard::new(&table.matches, &guarded);
        row.rules.shrink_to_fit();
        row.routes.shrink_to_fit();
        row.probes.shrink_to_fit();
        port.cluster.shrink_to_fit();
        port.row = row;
        port
    }

    /// The profile for the gate: part of the table, so that gate, route and decision come from one snapshot (T4).
    pub fn profile(&self) -> &GateProfile {
        &self.profile
    }

    pub(crate) fn reading_keys(self, query_keys: Vec<String>) -> Self {
        Self { query_keys, ..self }
    }

    /// The query keys that policies read, sorted: what a record of a denial holds of a query.
    pub fn query_keys(&self) -> &[String] {
        &self.query_keys
    }

    /// Whether anything is read here at all (T3).
    pub fn reading(&self) -> Reading {
        match self.row.protocol {
            Protocol::Opaque | Protocol::Tls => Reading::Opaque,
            _ => Reading::Http,
        }
    }

    /// What it speaks.
    pub fn protocol(&self) -> Protocol {
        self.row.protocol
    }

    /// The Server that owns it.
    pub fn server(&self) -> Option<&str> {
        self.row.server.as_deref()
    }

    /// Where the Server was written.
    pub fn server_origin(&self) -> &str {
        &self.row.server_origin
    }

    /// Its default.
    pub fn access(&self) -> Access {
        self.row.access
    }

    /// The probes that are declared for it.
    pub fn probes(&self) -> &[Probe] {
        &self.row.probes
    }

    /// The routes attached.
    pub fn routes(&self) -> &[RouteId] {
        &self.row.routes
    }

    /// Every rule that concerns it, in order of attribution.
    pub fn rules(&self) -> impl Iterator<Item = RuleId> {
        self.row.rules.iter().chain(&self.cluster).copied()
    }

    /// Whether a rule's conditions count as satisfied here (T3).
    pub(crate) fn conditions_satisfied(&self, id: RuleId) -> bool {
        self.row.cluster_conditions == ClusterConditions::Satisfied
            && self.cluster.binary_search(&id).is_ok()
    }

    /// Whether everything that isn't gate-accepted HTTP is refused (T3).
    pub(crate) fn http_only(&self, view: View) -> bool {
        match view {
            View::Enforced => self.http_only[0] && !self.profile.lenient,
            View::WouldBe => self.http_only[1],
        }
    }

    /// Whether the would-be verdict can differ from the real one.
    pub(crate) fn differs(&self) -> bool {
        self.differs
    }
}
