//! The rule table of one workload: rows, linked and indexed. Immutable.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::{
    condition::{Condition, Subject},
    gate::GateProfile,
    identity::IdentitySet,
    network::NetworkSet,
    ports::Port,
    route::Route,
    rows::{
        ClusterRows, Effect, Level, Pools, PortRow, Revocation, RouteId, Rule, RuleId, Scope,
        WorkloadRows,
    },
};

/// Rows that don't make a table. The whole table is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// An index points nowhere.
    #[error("{what} {index} of {place} is not there, {count} are")]
    Dangling {
        /// What was pointed at.
        what: &'static str,
        /// The index.
        index: u32,
        /// Who pointed.
        place: String,
        /// How many there are.
        count: usize,
    },
    /// A rule whose level, effect and scope don't go together.
    #[error("rule {0}: {1}")]
    Contradiction(String, &'static str),
    /// Rules are not in the order of attribution.
    #[error("rule {0} stands behind one of a less specific level")]
    Order(String),
    /// More rows than an index can name.
    #[error("too many rows")]
    TooLarge,
}

/// Everything one workload enforces.
#[derive(Debug)]
pub struct Table {
    pub(crate) rules: Vec<Rule>,
    pub(crate) routes: Vec<Route>,
    /// The workload's pools; its rules are the first `workload_rules`.
    pools: Pools,
    cluster_pools: Pools,
    workload_rules: usize,
    ports: HashMap<u16, Arc<Port>, foldhash::fast::RandomState>,
    other: Arc<Port>,
    pub(crate) revoked: Vec<Revocation>,
    pub(crate) cluster_networks: NetworkSet,
    pub(crate) probe_networks: NetworkSet,
    max_table_age_millis: Option<u64>,
    trust_domain: Box<str>,
}

impl Table {
    /// Links the rows of both parts.
    pub fn new(cluster: ClusterRows, workload: WorkloadRows) -> Result<Self, TableError> {
        check_rules(&cluster.rules, &cluster.pools, 0, &[Level::Cluster])?;
        let levels = [Level::Route, Level::Server, Level::Namespace];
        check_rules(&workload.rules, &workload.pools, workload.routes.len(), &levels)?;
        let workload_rules = workload.rules.len();
        let mut rules = workload.rules;
        rules.extend(cluster.rules);
        u32::try_from(rules.len().max(workload.routes.len())).map_err(|_| TableError::TooLarge)?;
        let mut table = Self {
            rules,
            routes: workload.routes,
            pools: workload.pools,
            cluster_pools: cluster.pools,
            workload_rules,
            ports: HashMap::default(),
            other: Arc::default(),
            revoked: cluster.revoked,
            cluster_networks: cluster.cluster_networks,
            probe_networks: cluster.probe_networks,
            max_table_age_millis: cluster.max_table_age_millis,
            trust_domain: cluster.trust_domain,
        };
        table.other = Arc::new(table.link(workload.other)?);
        for row in workload.ports {
            let number = row.number;
            let port = table.link(row)?;
            table.ports.insert(number, Arc::new(port));
        }
        Ok(table)
    }

    /// What holds on a port: its own row, or the row of every other port.
    pub fn port(&self, number: u16) -> &Arc<Port> {
        self.ports.get(&number).unwrap_or(&self.other)
    }

    /// The ports that have a row of their own, in no order.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        self.ports.keys().copied()
    }

    /// A rule by its position.
    pub fn rule(&self, id: RuleId) -> Option<&Rule> {
        self.rules.get(id as usize)
    }

    /// A route by its position.
    pub fn route(&self, id: RouteId) -> Option<&Route> {
        self.routes.get(id as usize)
    }

    /// How many rules there are.
    pub fn rule_count(&self) -> usize {
        self.rules.len()
    }

    /// The age beyond which the table no longer decides.
    pub fn max_table_age_millis(&self) -> Option<u64> {
        self.max_table_age_millis
    }

    /// Our own trust domain.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The networks that the port's default calls the cluster's (W5).
    pub fn cluster_networks(&self) -> &NetworkSet {
        &self.cluster_networks
    }

    pub(crate) fn identities(&self, id: RuleId, index: u32) -> Option<&IdentitySet> {
        self.pools_of(id).identities.get(index as usize)
    }

    pub(crate) fn networks(&self, id: RuleId, index: u32) -> Option<&NetworkSet> {
        self.pools_of(id).networks.get(index as usize)
    }

    pub(crate) fn condition(&self, id: RuleId, index: u32) -> Option<&Condition> {
        self.pools_of(id).conditions.get(index as usize)
    }

    fn pools_of(&self, id: RuleId) -> &Pools {
        if (id as usize) < self.workload_rules { &self.pools } else { &self.cluster_pools }
    }

    fn link(&self, row: PortRow) -> Result<Port, TableError> {
        let place = || format!("port {}", row.number);
        let check = |what, ids: &[u32], count: usize| match ids
            .iter()
            .find(|id| **id as usize >= count)
        {
            Some(index) => Err(TableError::Dangling { what, index: *index, place: place(), count }),
            None => Ok(()),
        };
        check("rule", &row.rules, self.workload_rules)?;
        check("route", &row.routes, self.routes.len())?;
        let cluster = self.workload_rules..self.rules.len();
        let cluster = cluster.filter_map(|id| RuleId::try_from(id).ok());
        let mut profile = GateProfile {
            path_mode: row.path_mode,
            websocket: row.websocket,
            ..GateProfile::default()
        };
        let concern = row.rules.iter().copied().chain(cluster.clone());
        let (headers, keys) = self.names_read(concern, &row.routes);
        profile.policy_headers = headers;
        Ok(Port::new(self, row, cluster.collect(), profile).reading_keys(keys))
    }

    /// What the rules and routes read, sorted: headers, whose names the gate guards (G11, G14), and query keys.
    fn names_read(
        &self,
        rules: impl Iterator<Item = RuleId>,
        routes: &[RouteId],
    ) -> (Vec<String>, Vec<String>) {
        let (mut headers, mut keys) = (Vec::new(), Vec::new());
        let conditions = rules
            .filter_map(|id| self.rule(id).map(|rule| (id, rule)))
            .flat_map(|(id, rule)| rule.conditions.iter().map(move |index| (id, *index)))
            .filter_map(|(id, index)| self.condition(id, index));
        for condition in conditions {
            match condition.subject() {
                Subject::Header(name) => headers.push(name.to_string()),
                Subject::Query(key) => keys.push(key.to_string()),
                Subject::Method | Subject::Host | Subject::Path => {}
            }
        }
        let attached = routes.iter().filter_map(|id| self.route(*id));
        for entry in attached.flat_map(|route| route.rules.iter().flatten()) {
            headers.extend(entry.headers.iter().map(|header| header.name.to_string()));
            keys.extend(entry.query.iter().map(|item| item.name.to_string()));
        }
        for names in [&mut headers, &mut keys] {
            names.sort_unstable();
            names.dedup();
        }
        (headers, keys)
    }
}

fn check_rules(
    rules: &[Rule],
    pools: &Pools,
    routes: usize,
    levels: &[Level],
) -> Result<(), TableError> {
    let mut before = None;
    for rule in rules {
        let name = || rule.authorization.to_string();
        if !levels.contains(&rule.level) {
            return Err(TableError::Contradiction(name(), "its level belongs to the other part"));
        }
        if before > Some(rule.level) {
            return Err(TableError::Order(name()));
        }
        before = Some(rule.level);
        check_shape(rule).map_err(|problem| TableError::Contradiction(name(), problem))?;
        let check = |what, index: Option<u32>, count: usize| match index {
            Some(index) if index as usize >= count => {
                Err(TableError::Dangling { what, index, place: name(), count })
            }
            _ => Ok(()),
        };
        check("identity set", rule.identities, pools.identities.len())?;
        check("network set", rule.networks, pools.networks.len())?;
        for condition in &rule.conditions {
            check("condition", Some(*condition), pools.conditions.len())?;
        }
        if let Scope::Selected(route) | Scope::Matched(route) = rule.scope {
            check("route", Some(route), routes)?;
        }
    }
    Ok(())
}

/// What the comments of `snapshot.proto` promise about a rule.
fn check_shape(rule: &Rule) -> Result<(), &'static str> {
    let on_route = rule.level == Level::Route;
    match (rule.scope, rule.effect) {
        // But for an unreadable policy on a route of `opaque` and `TLS` ports only (semantics T3).
        (Scope::Port, effect) if on_route && effect != Effect::Refuse => {
            Err("a rule of a route concerns that route")
        }
        (Scope::Selected(_), Effect::Deny | Effect::Require) => {
            Err("a Deny or Require of a route concerns every request that the route matches")
        }
        (Scope::Matched(_), Effect::Allow) => {
            Err("an Allow of a route concerns requests that selected it")
        }
        (Scope::Selected(_) | Scope::Matched(_), _) if !on_route => {
            Err("only a rule of a route concerns a route")
        }
        (Scope::Http, effect) if effect != Effect::Refuse => {
            Err("only an unreadable route concerns every HTTP request")
        }
        _ if rule.effect == Effect::Refuse
            && (rule.identities.is_some()
                || rule.networks.is_some()
                || !rule.conditions.is_empty()) =>
        {
            Err("a refuse row asks nobody for anything")
        }
        _ if rule.effect != Effect::Allow && rule.valid_until.is_some() => {
            Err("only an Allow ends")
        }
        _ if rule.anonymous_too && (rule.effect != Effect::Deny || rule.identities.is_none()) => {
            Err("only a Deny with identities meets anonymous peers too")
        }
        _ => Ok(()),
    }
}
